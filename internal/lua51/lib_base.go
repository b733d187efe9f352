package lua51

import (
	"errors"
	"strings"

	lua "github.com/yuin/gopher-lua"

	"github.com/limpetlb/limpet/internal/luastr"
)

// Lua's base library, without what loads code, reaches environments or the
// host: dofile, getfenv, load, loadfile, loadstring, module, newproxy, require,
// setfenv and _G are missing, collectgarbage does nothing, and print is the
// host's.
var baseEntries = []Entry{
	{Name: "assert", Call: baseAssert},
	{Name: "collectgarbage", Call: func(c Call) int { return c.RetNumber(0) }},
	{Name: "error", Call: baseError},
	{Name: "getmetatable", Call: baseGetMetatable},
	{Name: "ipairs", Call: baseIpairs},
	{Name: ipairsStep, Call: baseIpairsStep},
	{Name: "next", Call: baseNext},
	{Name: "pairs", Call: basePairs},
	{Name: "pcall", Call: basePcall},
	{Name: "rawequal", Call: func(c Call) int { return c.RetBool(c.L.RawEqual(c.Any(1), c.Any(2))) }},
	{Name: "rawget", Call: baseRawget},
	{Name: "rawset", Call: baseRawset},
	{Name: "select", Call: baseSelect},
	{Name: "setmetatable", Call: baseSetMetatable},
	{Name: "tonumber", Call: baseTonumber},
	{Name: "tostring", Call: baseTostring},
	{Name: "type", Call: func(c Call) int { return c.RetString(c.Any(1).Type().String()) }},
	{Name: "unpack", Call: baseUnpack},
	{Name: "xpcall", Call: baseXpcall},
	{Name: "_VERSION", Kind: Constant, Text: "Lua 5.1"},
	{Name: concatName, Call: concat},
	{Name: lengthName, Call: length},
	{Name: boundName, Call: bound},
}

const (
	concatName = ".."      // the operator; see rewrite.go
	lengthName = "#"       // likewise
	moduloName = "%"       // likewise
	boundName  = "(bound)" // what the bounds of numeric loops go through
	ipairsStep = "(ipairs step)"
)

// concat is what a..b..c becomes: the pieces joined from the right, which
// matters where one of them has a metamethod.
func concat(c Call) int {
	n := c.Count()
	size := 0
	for i := 1; i <= n; i++ {
		s, ok := c.Arg(i).(lua.LString)
		if !ok {
			return c.concatMixed(n)
		}
		size += len(s)
	}
	c.Allow(size)
	var b strings.Builder
	b.Grow(size)
	for i := 1; i <= n; i++ {
		b.WriteString(string(c.Arg(i).(lua.LString)))
	}
	return c.RetString(b.String())
}

func (c Call) concatMixed(n int) int {
	right := c.Arg(n)
	for i := n - 1; i >= 1; i-- {
		left := c.Arg(i)
		l, okLeft := Text(left)
		r, okRight := Text(right)
		if okLeft && okRight {
			c.Allow(len(l) + len(r))
			c.Hold(stringBytes + len(l) + len(r))
			right = lua.LString(l + r)
			continue
		}
		event := c.L.GetMetaField(left, "__concat")
		if event == lua.LNil {
			event = c.L.GetMetaField(right, "__concat")
		}
		if event == lua.LNil {
			culprit, at := left, i-1
			if okLeft {
				culprit, at = right, i
			}
			c.Fail("attempt to concatenate %s", c.operand(at).describe(culprit.Type().String()))
		}
		right = c.callValue(event, left, right)
	}
	if s, ok := right.(lua.LString); ok && len(s) > longName {
		c.demand(longMode)
	}
	return c.Ret(right)
}

// operand names an operand of the operator that the function stands for.
func (c Call) operand(i int) operand {
	op, _ := failedAt(c.L, 1)
	return op.operand(i)
}

// Allow stops the script if it is about to build too large a string.
func (c Call) Allow(size int) {
	if size > c.engine.limits.StringBytes {
		c.TooLarge()
	}
	c.Read(size)
}

// callValue calls a Lua value and returns its first result.
func (c Call) callValue(fn lua.LValue, args ...lua.LValue) lua.LValue {
	if !c.callable(fn) {
		c.raise(c.L, lua.LString(c.opPosition()+"attempt to call a "+fn.Type().String()+" value"))
	}
	c.L.Push(fn)
	for _, a := range args {
		c.L.Push(a)
	}
	c.L.Call(len(args), 1)
	v := c.L.Get(-1)
	c.L.Pop(1)
	return v
}

// ToString is tostring. Unlike Lua's, it does not show addresses.
func (c Call) ToString(v lua.LValue) string {
	if s, ok := Text(v); ok {
		return s
	}
	switch v.Type() {
	case lua.LTNil, lua.LTBool:
		return v.String()
	}
	if event := c.L.GetMetaField(v, "__tostring"); event != lua.LNil {
		s, ok := Text(c.callValue(event, v))
		if !ok {
			c.Fail("'tostring' must return a string to '%s'", c.Sym.Field())
		}
		return s
	}
	return v.Type().String()
}

// baseTostring is tostring, which returns the result of __tostring, of any
// type.
func baseTostring(c Call) int {
	v := c.Any(1)
	if event := c.L.GetMetaField(v, "__tostring"); event != lua.LNil {
		return c.Ret(c.callValue(event, v))
	}
	return c.RetString(c.ToString(v))
}

func baseAssert(c Call) int {
	if !lua.LVAsBool(c.Any(1)) {
		c.Fail("%s", cText(c.OptStr(2, "assertion failed!")))
	}
	return c.Count()
}

func baseError(c Call) int {
	v, level := c.Arg(1), c.optCInt(2, 1)
	if s, ok := v.(lua.LString); ok {
		s = lua.LString(Cut(string(s), c.engine.limits.ErrorBytes))
		if level > 0 {
			s = lua.LString(where(c.L, level)) + s
		}
		v = s
	} else if n, ok := v.(lua.LNumber); ok && level > 0 {
		v = lua.LString(where(c.L, level) + luastr.FormatNumber(float64(n)))
	}
	c.raise(c.L, v)
	return 0
}

func baseGetMetatable(c Call) int {
	v := c.Any(1)
	if t, ok := v.(*lua.LTable); ok && isSpread(t) {
		if shown := ownField(t, "__metatable"); shown != lua.LNil {
			return c.Ret(shown)
		}
		c.demand(metaMode)
		return c.Ret(metatableOf(t))
	}
	mt := c.L.GetMetatable(v)
	if mt.Type() == lua.LTTable {
		c.demand(metaMode) // the script can change it
	}
	return c.Ret(mt)
}

func baseSetMetatable(c Call) int {
	t, mt := c.Table(1), c.Arg(2)
	if c.Count() < 2 || mt.Type() != lua.LTNil && mt.Type() != lua.LTTable {
		c.ArgError(2, "nil or table expected")
	}
	if old, ok := metatableOf(t).(*lua.LTable); ok && old.RawGetString("__metatable") != lua.LNil {
		c.Fail("cannot change a protected metatable")
	}
	c.demand(metaMode)
	c.state.setMetatable(t, mt)
	return c.Ret(t)
}

// readable is the table that an argument shows: libraries are behind
// protected tables that are empty themselves.
func (c Call) readable(n int) *lua.LTable {
	t := c.Table(n)
	if inner := behind(t); inner != nil {
		return inner
	}
	return t
}

// writable is a table argument that the script may change.
func (c Call) writable(n int) *lua.LTable {
	t := c.Table(n)
	if behind(t) != nil {
		c.Fail("attempt to change a read-only table")
	}
	return t
}

func baseIpairs(c Call) int {
	t := c.readable(1)
	c.L.Push(c.state.value(c.engine.library.symbols[ipairsStep]))
	c.L.Push(t)
	c.L.Push(lua.LNumber(0))
	return 3
}

func baseIpairsStep(c Call) int {
	t, ok := c.Arg(1).(*lua.LTable)
	at, isNumber := c.Arg(2).(lua.LNumber)
	if !ok || !isNumber || at != lua.LNumber(int(at)) { // a script calls it, and not a loop
		i := c.cInt(2)
		t, at = c.readable(1), lua.LNumber(i)
	}
	i := at + 1
	v := t.RawGet(i)
	if v == lua.LNil {
		return 0
	}
	c.L.Push(i)
	c.L.Push(v)
	return 2
}

func baseNext(c Call) int {
	t := c.readable(1)
	if k := c.Arg(2); k != lua.LNil && rawGet(t, k) == lua.LNil && !everHad(t, k) {
		c.raise(c.L, lua.LString("invalid key to 'next'"))
	}
	k, v := t.Next(c.Arg(2))
	if k == lua.LNil {
		return c.Ret(lua.LNil)
	}
	c.L.Push(k)
	c.L.Push(v)
	return 2
}

func basePairs(c Call) int {
	t := c.readable(1)
	c.L.Push(c.state.value(c.engine.library.symbols["next"]))
	c.L.Push(t)
	c.L.Push(lua.LNil)
	return 3
}

// basePcall cannot catch what stops a script for good.
func basePcall(c Call) int {
	c.Any(1)
	return c.protected(c.Count()-1, nil)
}

func baseXpcall(c Call) int {
	c.Any(2)
	handler := c.Arg(2)
	c.L.SetTop(1)
	return c.protected(0, handler)
}

// A catcher is a pcall or xpcall that runs.
type catcher struct {
	handler  lua.LValue // of xpcall; nil for pcall
	captured captured   // before the call
	noted    bool       // the error has come here
	late     bool       // so deep that there is no level for the handler
}

// protected calls the function below the nargs arguments on the stack.
func (c Call) protected(nargs int, handler lua.LValue) int {
	if callee := c.L.Get(1); !c.callable(callee) {
		// The VM's error would have no type.
		return c.caught(c.handled(c.L, handler, lua.LString("attempt to call a "+callee.Type().String()+" value"), false))
	}
	if err := c.try(nargs, lua.MultRet, handler); err != nil {
		return c.caught(err)
	}
	c.L.Insert(lua.LTrue, 1)
	return c.L.GetTop()
}

func (c Call) caught(v lua.LValue) int {
	c.check()
	c.L.SetTop(0)
	c.L.Push(lua.LFalse)
	c.L.Push(v)
	return 2
}

// A protected call takes as long as so many instructions, and so much longer
// if it catches an error.
const (
	tryWork   = 50
	catchWork = 1000
	depthWork = 30 // for each call that the error ends, about
)

// overflowWork is what an error costs that finds the stack full: the VM then
// writes down each call, and counts from the top to find it.
func overflowWork(depth int) int { return depthWork*depth + depth*depth/20 }

// try calls the function below the arguments on the stack. It returns the
// value of the error, as the handler left it, if there was one.
func (r *Run) try(nargs, nret int, handler lua.LValue) lua.LValue {
	L := r.state.L
	r.tick -= tryWork
	outer := r.catcher
	own := &catcher{handler: handler, captured: capturedNow(L)}
	r.catcher = own
	err := L.PCall(nargs, nret, r.state.onCaught)
	r.catcher = outer
	r.settle()
	keepHandler(L)
	if err == nil {
		return nil
	}
	release(own.captured)
	v := lua.LNil
	if ae := (*lua.ApiError)(nil); errors.As(err, &ae) && ae.Object != nil {
		v = ae.Object
	}
	switch {
	case !own.noted: // the stack was full
		r.raised = false
		r.tick -= catchWork + overflowWork(r.engine.limits.CallDepth)
		v = r.handled(L, handler, lua.LString(r.reword(L, -1, errorText(v))), true)
	case own.late:
		v = r.handled(L, handler, v, false)
	}
	r.overflowed = !own.noted
	return v
}

// noteCaught is the error handler of pcall and xpcall.
func noteCaught(L *lua.LState) int {
	r := L.Context().(*Run)
	c := r.catcher
	c.noted = true
	r.settle()
	r.tick -= catchWork + depthWork*(*r.frame).Idx
	keepHandler(L)
	v := r.explain(L)
	release(c.captured)
	if c.late = (*r.frame).Idx+1 >= r.spare; !c.late {
		v = r.handled(L, c.handler, v, false)
	}
	L.Push(v)
	return 1
}

// An error handler may fail maxHandled times in a row. In Lua, where these
// calls nest, the stack is full after handledDepth of them, which is then the
// next error that the handler is given.
const (
	handledDepth = 195
	maxHandled   = 219
)

// handled is what an error handler makes of an error. If it fails, it is given
// its own error, as in Lua, where it runs on top of what has failed: overflowed
// says that this has filled the stack, which it can do but once.
func (r *Run) handled(L *lua.LState, handler, v lua.LValue, overflowed bool) lua.LValue {
	if handler == nil || r.stop != nil {
		return v
	}
	for i := range maxHandled {
		if i == handledDepth {
			v = lua.LString("stack overflow")
		}
		if handler.Type() != lua.LTFunction || r.stop != nil {
			break
		}
		L.Push(handler)
		L.Push(v)
		r.overflowed = false
		err := r.try(1, 1, nil)
		if err == nil {
			v := L.Get(-1)
			L.Pop(1)
			return v
		}
		if overflowed && r.overflowed {
			break
		}
		overflowed = overflowed || r.overflowed
		v = err
	}
	return lua.LString("error in error handling")
}

// callable reports whether a value can be called.
func (c Call) callable(v lua.LValue) bool {
	return v.Type() == lua.LTFunction || c.L.GetMetaField(v, "__call").Type() == lua.LTFunction
}

func baseRawget(c Call) int { return c.Ret(rawGet(c.readable(1), c.Any(2))) }

func baseRawset(c Call) int {
	t, k, v := c.writable(1), c.Any(2), c.Any(3)
	c.CheckKey(k)
	c.put(t, k, v)
	return c.Ret(t)
}

// CheckKey raises an error unless a value can be the key of an element.
func (c Call) CheckKey(k lua.LValue) {
	if k == lua.LNil {
		c.raise(c.L, lua.LString("table index is nil"))
	}
	if f, ok := k.(lua.LNumber); ok && f != f {
		c.raise(c.L, lua.LString("table index is NaN"))
	}
}

func baseSelect(c Call) int {
	n := c.Count()
	if c.Arg(1) == lua.LString("#") {
		return c.RetNumber(float64(n - 1))
	}
	i := c.cInt(1)
	switch {
	case i < 0:
		i += n
	case i > n:
		i = n
	}
	if i < 1 {
		c.ArgError(1, "index out of range")
	}
	return n - i
}

func baseTonumber(c Call) int {
	base := c.optCInt(2, 10)
	if base == 10 {
		if f, ok := c.Number(c.Any(1)); ok {
			return c.RetNumber(f)
		}
		return c.Ret(lua.LNil)
	}
	f, ok, err := luastr.ParseNumberBase(cText(c.Str(1)), base)
	if err != nil {
		c.ArgError(2, "base out of range")
	}
	if !ok {
		return c.Ret(lua.LNil)
	}
	return c.RetNumber(f)
}

// maxUnpack is how many values fit on the VM's stack with room to spare.
const maxUnpack = 8000

func baseUnpack(c Call) int {
	t := c.readable(1)
	i := c.optCInt(2, 1)
	j := c.optCInt(3, -1)
	if c.Arg(3) == lua.LNil {
		j = c.border(t)
	}
	if j < i {
		return 0
	}
	if j-i >= maxUnpack {
		c.Fail("too many results to unpack")
	}
	c.Work(j - i)
	for k := i; k <= j; k++ {
		c.L.Push(rawGet(t, lua.LNumber(k)))
	}
	return j - i + 1
}
