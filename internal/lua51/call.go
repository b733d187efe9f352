package lua51

import (
	"fmt"
	"math"
	"runtime/debug"
	"strings"

	lua "github.com/yuin/gopher-lua"

	"github.com/limpetlb/limpet/internal/luastr"
)

// callInstructions is what a call of a function of the API costs, beside the
// instruction that calls it.
const callInstructions = 3

// invoker returns what the VM calls for a function of the API.
func (s *Symbol) invoker() lua.LGFunction {
	return func(L *lua.LState) int {
		r := L.Context().(*Run)
		defer func() {
			if p := recover(); p != nil {
				panic(r.rescue(s, p))
			}
		}()
		r.tick -= callInstructions
		if (*r.frame).Idx >= r.spare && !s.isOperator() {
			r.overflow()
		}
		return s.call(Call{Run: r, L: L, Sym: s})
	}
}

// rescue turns a panic that is not a Lua error into one. It keeps the panic
// and its stack for the host, and nothing of either for the script.
func (r *Run) rescue(s *Symbol, p any) any {
	if _, ok := p.(*lua.ApiError); ok {
		return p
	}
	fault := &PanicError{Function: s.Name, Value: p, Stack: debug.Stack()}
	r.halt(fault)
	return &lua.ApiError{Type: lua.ApiErrorRun, Object: lua.LString(publicText(fault))}
}

// A Call is one call of a function that is written in Go. It gives access to
// the arguments, counted from 1, and takes the results. Methods that find an
// argument of the wrong type raise Lua's error, and do not return.
type Call struct {
	*Run
	L   *lua.LState // the VM, with the arguments on its stack
	Sym *Symbol     // what was called
}

// Fail raises a script error at the position of the call. As in Lua, there is
// none if it is not a script that calls, but pcall, say; functions of the host
// name the position of the script in any case.
func (c Call) Fail(format string, args ...any) {
	at := where(c.L, 1)
	if at == "" && c.Sym.host {
		at = c.Position()
	}
	c.raise(c.L, lua.LString(at+c.message(format, args)))
}

// message is fmt.Sprintf that does not spell out what will be cut off.
func (c Call) message(format string, args []any) string {
	for i, a := range args {
		if s, ok := a.(string); ok {
			args[i] = Cut(s, c.engine.limits.ErrorBytes)
		}
	}
	return fmt.Sprintf(format, args...)
}

// Position is where the script is, as it begins a line of the log.
func (c Call) Position() string {
	for level := 1; ; level++ {
		dbg, fn := frame(c.L, level)
		if dbg == nil || fn != nil && !fn.IsG {
			return where(c.L, level)
		}
	}
}

// FailWith is Fail for an error of the host, which becomes the cause of the
// [Failure].
func (c Call) FailWith(err error) {
	c.cause = err
	c.Fail("%s", err.Error())
}

// ArgError reports argument n in Lua's words: with the name by which the
// script called the function, and without counting the object of a method.
func (c Call) ArgError(n int, format string, args ...any) {
	name, text := calledAs(c.L, 0), c.message(format, args)
	if name.kind == "" {
		name.name = "?"
		if c.Sym.host {
			name.name = c.Sym.Field()
		}
	}
	if name.kind == "method" {
		if n--; n == 0 {
			c.Fail("calling '%s' on bad self (%s)", name.name, text)
		}
	}
	c.Fail("bad argument #%d to '%s' (%s)", n, name.name, text)
}

// TypeError reports that argument n is not of the type that is wanted.
func (c Call) TypeError(n int, want string) {
	got := "no value"
	if n <= c.Count() {
		got = c.Arg(n).Type().String()
	}
	c.ArgError(n, "%s expected, got %s", want, got)
}

// Parse charges for taking so many bytes apart.
func (c Call) Parse(size int) {
	if size > 1024 {
		c.Spend(size >> 4)
	}
}

// Count is the number of arguments.
func (c Call) Count() int { return c.registry.top - (*c.frame).LocalBase }

// CountSet is the number of arguments up to the last that is not nil.
func (c Call) CountSet() int {
	n := c.Count()
	for n > 0 && isNil(c.Arg(n)) {
		n--
	}
	return n
}

// Arg returns argument n, counted from 1; nil if there is none.
func (c Call) Arg(n int) lua.LValue {
	base := (*c.frame).LocalBase
	if args := c.registry.array[base:c.registry.top]; n >= 1 && n <= len(args) {
		return args[n-1]
	}
	return lua.LNil
}

// Str returns a string argument; a number is one, too. It charges for reading a
// long one.
func (c Call) Str(n int) string {
	s := c.Part(n)
	c.Read(len(s))
	return s
}

// Part is Str for functions that look at a part of the string, and charge
// for it themselves if it can be long.
func (c Call) Part(n int) string {
	if s, ok := Text(c.Arg(n)); ok {
		return s
	}
	c.TypeError(n, "string")
	return ""
}

// Read charges for going through so many bytes.
func (c Call) Read(size int) {
	if size > 1024 {
		c.Spend(size >> 8)
	}
	if size > longName {
		c.demand(longMode)
		c.watch(size)
	}
}

// OptStr is Str, or def if the argument is nil.
func (c Call) OptStr(n int, def string) string {
	if isNil(c.Arg(n)) {
		return def
	}
	return c.Str(n)
}

// Num returns a number argument; a numeral in a string is one, too.
func (c Call) Num(n int) float64 {
	if f, ok := c.Number(c.Arg(n)); ok {
		return f
	}
	c.TypeError(n, "number")
	return 0
}

// OptNum is Num, or def if the argument is nil.
func (c Call) OptNum(n int, def float64) float64 {
	if isNil(c.Arg(n)) {
		return def
	}
	return c.Num(n)
}

// Integer is num cut to an int; what no int can hold becomes the nearest.
func (c Call) Integer(n int) int { return ClampInt(c.Num(n)) }

// OptInt is Integer, or def if the argument is nil.
func (c Call) OptInt(n, def int) int {
	if isNil(c.Arg(n)) {
		return def
	}
	return c.Integer(n)
}

// cInt is num converted as Lua's own libraries convert it to an int.
func (c Call) cInt(n int) int { return toCInt(c.Num(n)) }

func toCInt(f float64) int { return int(int32(luastr.ToInt64(f))) }

func (c Call) optCInt(n, def int) int {
	if isNil(c.Arg(n)) {
		return def
	}
	return c.cInt(n)
}

// int64 is num converted as C converts it.
func (c Call) int64(n int) int64 { return luastr.ToInt64(c.Num(n)) }

func (c Call) optInt64(n int, def int64) int64 {
	if isNil(c.Arg(n)) {
		return def
	}
	return c.int64(n)
}

// Table returns a table argument.
func (c Call) Table(n int) *lua.LTable {
	t, ok := c.Arg(n).(*lua.LTable)
	if !ok {
		c.TypeError(n, "table")
	}
	return t
}

// Any insists that there is an argument, be it nil.
func (c Call) Any(n int) lua.LValue {
	if n > c.Count() {
		c.ArgError(n, "value expected")
	}
	return c.Arg(n)
}

// Ret pushes a result, and returns 1: the number of results so far.
func (c Call) Ret(v lua.LValue) int {
	c.L.Push(v)
	return 1
}

// RetString is Ret for a string. It charges for the bytes.
func (c Call) RetString(s string) int {
	if len(s) > maxWord {
		c.Hold(stringBytes + len(s))
		if len(s) > longName {
			c.demand(longMode)
			c.watch(len(s))
		}
	}
	return c.Ret(c.engine.library.stringValue(s))
}

// RetBool is Ret for a boolean.
func (c Call) RetBool(b bool) int { return c.Ret(lua.LBool(b)) }

// RetNumber is Ret for a number.
func (c Call) RetNumber(f float64) int {
	// Small integers are ready-made: making a Lua value allocates.
	if i := int(f); i >= 0 && i < len(integers) && float64(i) == f && !math.Signbit(f) {
		return c.Ret(integers[i])
	}
	return c.Ret(lua.LNumber(f))
}

var integers = func() (values [1024]lua.LValue) {
	for i := range values {
		values[i] = lua.LNumber(i)
	}
	return values
}()

// Text returns the string that Lua makes of a string or a number.
func Text(v lua.LValue) (string, bool) {
	switch v := v.(type) {
	case lua.LString:
		return string(v), true
	case lua.LNumber:
		return luastr.FormatNumber(float64(v)), true
	}
	return "", false
}

// Number is the function of that name, charged for.
func (c Call) Number(v lua.LValue) (float64, bool) {
	if s, ok := v.(lua.LString); ok {
		c.Read(4 * len(s))
	}
	return Number(v)
}

// cText is a string as functions of C read it: up to its first zero byte.
func cText(s string) string {
	s, _, _ = strings.Cut(s, "\x00")
	return s
}

// Number returns the number that Lua makes of a number or a string.
func Number(v lua.LValue) (float64, bool) {
	switch v := v.(type) {
	case lua.LNumber:
		return float64(v), true
	case lua.LString:
		return luastr.ParseNumber(cText(string(v)))
	}
	return 0, false
}

// ClampInt cuts a number to an int of 32 bits; what none can hold becomes the
// nearest, and NaN 0.
func ClampInt(f float64) int {
	const limit = 1<<31 - 1
	switch {
	case f != f:
		return 0
	case f > limit:
		return limit
	case f < -limit:
		return -limit
	}
	return int(f)
}
