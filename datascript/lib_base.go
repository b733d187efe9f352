package datascript

import (
	"errors"
	"math"
	"strings"

	lua "github.com/yuin/gopher-lua"

	"github.com/limpetlb/limpet/internal/luastr"
)

// Lua's base library, without what loads code, reaches environments or the
// host: dofile, getfenv, load, loadfile, loadstring, module, newproxy,
// require, setfenv and _G are missing, collectgarbage does nothing.
var baseEntries = []entry{
	{name: "assert", call: baseAssert},
	{name: "collectgarbage", call: func(c call) int { return c.retNumber(0) }},
	{name: "error", call: baseError},
	{name: "getmetatable", call: baseGetMetatable},
	{name: "ipairs", call: baseIpairs},
	{name: ipairsStep, call: baseIpairsStep},
	{name: "next", call: baseNext},
	{name: "pairs", call: basePairs},
	{name: "pcall", call: basePcall},
	{name: "print", call: basePrint},
	{name: "rawequal", call: func(c call) int { return c.retBool(c.L.RawEqual(c.any(1), c.any(2))) }},
	{name: "rawget", call: baseRawget},
	{name: "rawset", call: baseRawset},
	{name: "select", call: baseSelect},
	{name: "setmetatable", call: baseSetMetatable},
	{name: "tonumber", call: baseTonumber},
	{name: "tostring", call: baseTostring},
	{name: "type", call: func(c call) int { return c.retString(c.any(1).Type().String()) }},
	{name: "unpack", call: baseUnpack},
	{name: "xpcall", call: baseXpcall},
	{name: "_VERSION", kind: constant, text: "Lua 5.1"},
	{name: concatName, call: concat},
	{name: lengthName, call: length},
	{name: boundName, call: bound},
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
func concat(c call) int {
	n := c.count()
	size := 0
	for i := 1; i <= n; i++ {
		s, ok := c.arg(i).(lua.LString)
		if !ok {
			return c.concatMixed(n)
		}
		size += len(s)
	}
	c.allow(size)
	var b strings.Builder
	b.Grow(size)
	for i := 1; i <= n; i++ {
		b.WriteString(string(c.arg(i).(lua.LString)))
	}
	return c.retString(b.String())
}

func (c call) concatMixed(n int) int {
	right := c.arg(n)
	for i := n - 1; i >= 1; i-- {
		left := c.arg(i)
		l, okLeft := text(left)
		r, okRight := text(right)
		if okLeft && okRight {
			c.allow(len(l) + len(r))
			c.hold(stringBytes + len(l) + len(r))
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
			c.fail("attempt to concatenate %s", c.operand(at).describe(culprit.Type().String()))
		}
		right = c.callValue(event, left, right)
	}
	if s, ok := right.(lua.LString); ok && len(s) > longName {
		c.demand(longMode)
	}
	return c.ret(right)
}

// operand names an operand of the operator that the function stands for.
func (c call) operand(i int) operand {
	op, _ := failedAt(c.L, 1)
	return op.operand(i)
}

// length is what #v becomes.
func length(c call) int {
	switch v := c.arg(1).(type) {
	case lua.LString:
		return c.retNumber(float64(len(v)))
	case *lua.LTable:
		return c.retNumber(float64(c.border(v)))
	}
	c.fail("attempt to get length of %s", c.operand(0).describe(c.arg(1).Type().String()))
	return 0
}

// luaMod is %.
func luaMod(x, y float64) float64 { return x - math.Floor(x/y)*y }

// border returns the length of an array, as Lua's # gives it. The VM looks for
// it from the end.
func (c call) border(t *lua.LTable) int {
	n := t.Len()
	c.work((len(arrayOf(t)) - n) >> 3)
	return n
}

// bound reads a bound of a numeric loop: Lua takes numerals in strings, the VM
// takes numbers only.
func bound(c call) int {
	v := c.arg(1)
	if s, ok := v.(lua.LString); ok {
		if f, ok := c.number(s); ok {
			return c.retNumber(f)
		}
	}
	return c.ret(v)
}

// allow stops the script if it is about to build too large a string.
func (c call) allow(size int) {
	if size > c.engine.limits.StringBytes {
		c.tooLarge()
	}
	c.read(size)
}

// callValue calls a Lua value and returns its first result.
func (c call) callValue(fn lua.LValue, args ...lua.LValue) lua.LValue {
	if !c.callable(fn) {
		c.raise(c.L, lua.LString(c.opPlace()+"attempt to call a "+fn.Type().String()+" value"))
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

// toString is tostring. Unlike Lua's, it does not show addresses.
func (c call) toString(v lua.LValue) string {
	if s, ok := text(v); ok {
		return s
	}
	switch v.Type() {
	case lua.LTNil, lua.LTBool:
		return v.String()
	}
	if event := c.L.GetMetaField(v, "__tostring"); event != lua.LNil {
		s, ok := text(c.callValue(event, v))
		if !ok {
			c.fail("'tostring' must return a string to '%s'", c.sym.field())
		}
		return s
	}
	return v.Type().String()
}

// tostring returns what __tostring returns, whatever that is.
func baseTostring(c call) int {
	v := c.any(1)
	if event := c.L.GetMetaField(v, "__tostring"); event != lua.LNil {
		return c.ret(c.callValue(event, v))
	}
	return c.retString(c.toString(v))
}

func baseAssert(c call) int {
	if !lua.LVAsBool(c.any(1)) {
		c.fail("%s", c.optStr(2, "assertion failed!"))
	}
	return c.count()
}

func baseError(c call) int {
	v, level := c.arg(1), c.optCInt(2, 1)
	if s, ok := v.(lua.LString); ok {
		s = lua.LString(cut(string(s), c.engine.limits.ErrorBytes))
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

func baseGetMetatable(c call) int {
	v := c.any(1)
	if t, ok := v.(*lua.LTable); ok && spreadOf(t) != nil {
		if shown := ownField(t, "__metatable"); shown != lua.LNil {
			return c.ret(shown)
		}
		c.demand(metaMode)
		return c.ret(metatableOf(t))
	}
	mt := c.L.GetMetatable(v)
	if mt.Type() == lua.LTTable {
		c.demand(metaMode) // the script can change it
	}
	return c.ret(mt)
}

func baseSetMetatable(c call) int {
	t, mt := c.table(1), c.arg(2)
	if c.count() < 2 || mt.Type() != lua.LTNil && mt.Type() != lua.LTTable {
		c.argError(2, "nil or table expected")
	}
	if old, ok := metatableOf(t).(*lua.LTable); ok && old.RawGetString("__metatable") != lua.LNil {
		c.fail("cannot change a protected metatable")
	}
	c.demand(metaMode)
	c.state.setMetatable(t, mt)
	return c.ret(t)
}

// readable is the table that an argument shows: libraries are behind
// protected tables that are empty themselves.
func (c call) readable(n int) *lua.LTable {
	t := c.table(n)
	if inner := behind(t); inner != nil {
		return inner
	}
	return t
}

// writable is a table argument that the script may change.
func (c call) writable(n int) *lua.LTable {
	t := c.table(n)
	if behind(t) != nil {
		c.fail("attempt to change a read-only table")
	}
	return t
}

func baseIpairs(c call) int {
	t := c.readable(1)
	c.L.Push(c.state.value(symbols[ipairsStep]))
	c.L.Push(t)
	c.L.Push(lua.LNumber(0))
	return 3
}

func baseIpairsStep(c call) int {
	i := c.arg(2).(lua.LNumber) + 1
	v := c.arg(1).(*lua.LTable).RawGet(i)
	if v == lua.LNil {
		return 0
	}
	c.L.Push(i)
	c.L.Push(v)
	return 2
}

func baseNext(c call) int {
	t := c.readable(1)
	if k := c.arg(2); k != lua.LNil && rawGet(t, k) == lua.LNil && !everHad(t, k) {
		c.raise(c.L, lua.LString("invalid key to 'next'"))
	}
	k, v := t.Next(c.arg(2))
	if k == lua.LNil {
		return c.ret(lua.LNil)
	}
	c.L.Push(k)
	c.L.Push(v)
	return 2
}

func basePairs(c call) int {
	t := c.readable(1)
	c.L.Push(c.state.value(symbols["next"]))
	c.L.Push(t)
	c.L.Push(lua.LNil)
	return 3
}

// basePcall cannot catch what stops a script for good.
func basePcall(c call) int {
	c.any(1)
	return c.protected(c.count()-1, nil)
}

func baseXpcall(c call) int {
	c.any(2)
	handler := c.arg(2)
	c.L.SetTop(1)
	return c.protected(0, handler)
}

// A catcher is a pcall or xpcall that runs.
type catcher struct {
	handler  lua.LValue // of xpcall; nil for pcall
	captured captured   // before the call
	noted    bool       // the error has come here
}

// protected calls the function below the nargs arguments on the stack.
func (c call) protected(nargs int, handler lua.LValue) int {
	if callee := c.L.Get(1); !c.callable(callee) {
		// The VM's error would have no type.
		return c.caught(c.handled(c.L, handler, lua.LString("attempt to call a "+callee.Type().String()+" value")))
	}
	if err := c.try(nargs, lua.MultRet, handler); err != nil {
		return c.caught(err)
	}
	c.L.Insert(lua.LTrue, 1)
	return c.L.GetTop()
}

func (c call) caught(v lua.LValue) int {
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
func (r *run) try(nargs, nret int, handler lua.LValue) lua.LValue {
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
	if !own.noted { // the stack was full
		r.raised = false
		r.tick -= catchWork + overflowWork(r.engine.limits.CallDepth)
		v = lua.LString(r.reword(L, -1, errorText(v)))
	}
	return v
}

// noteCaught is the error handler of pcall and xpcall.
func noteCaught(L *lua.LState) int {
	r := L.Context().(*run)
	c := r.catcher
	c.noted = true
	r.settle()
	r.tick -= catchWork + depthWork*(*r.frame).Idx
	keepHandler(L)
	v := r.explain(L)
	release(c.captured)
	L.Push(r.handled(L, c.handler, v))
	return 1
}

// maxHandled is how many times in a row an error handler may fail.
const maxHandled = 200

// handled is what an error handler makes of an error. If it fails, it is given
// its own error, as in Lua.
func (r *run) handled(L *lua.LState, handler, v lua.LValue) lua.LValue {
	if handler == nil || r.stop != nil {
		return v
	}
	for range maxHandled {
		if handler.Type() != lua.LTFunction || r.stop != nil {
			break
		}
		L.Push(handler)
		L.Push(v)
		err := r.try(1, 1, nil)
		if err == nil {
			v := L.Get(-1)
			L.Pop(1)
			return v
		}
		v = err
	}
	return lua.LString("error in error handling")
}

// callable reports whether a value can be called.
func (c call) callable(v lua.LValue) bool {
	return v.Type() == lua.LTFunction || c.L.GetMetaField(v, "__call").Type() == lua.LTFunction
}

// print writes to the transaction's log, not to standard output.
func basePrint(c call) int { return c.logAll("\t") }

func baseRawget(c call) int { return c.ret(rawGet(c.readable(1), c.any(2))) }

func baseRawset(c call) int {
	t, k, v := c.writable(1), c.any(2), c.any(3)
	c.checkKey(k)
	c.put(t, k, v)
	return c.ret(t)
}

func (c call) checkKey(k lua.LValue) {
	if k == lua.LNil {
		c.raise(c.L, lua.LString("table index is nil"))
	}
	if f, ok := k.(lua.LNumber); ok && f != f {
		c.raise(c.L, lua.LString("table index is NaN"))
	}
}

func baseSelect(c call) int {
	n := c.count()
	if c.arg(1) == lua.LString("#") {
		return c.retNumber(float64(n - 1))
	}
	i := c.cInt(1)
	switch {
	case i < 0:
		i += n
	case i > n:
		i = n
	}
	if i < 1 {
		c.argError(1, "index out of range")
	}
	return n - i
}

func baseTonumber(c call) int {
	base := c.optCInt(2, 10)
	if base == 10 {
		if f, ok := c.number(c.any(1)); ok {
			return c.retNumber(f)
		}
		return c.ret(lua.LNil)
	}
	f, ok, err := luastr.ParseNumberBase(cText(c.str(1)), base)
	if err != nil {
		c.argError(2, "base out of range")
	}
	if !ok {
		return c.ret(lua.LNil)
	}
	return c.retNumber(f)
}

// maxUnpack is how many values fit on the VM's stack with room to spare.
const maxUnpack = 8000

func baseUnpack(c call) int {
	t := c.readable(1)
	i := c.optCInt(2, 1)
	j := c.optCInt(3, -1)
	if c.arg(3) == lua.LNil {
		j = c.border(t)
	}
	if j < i {
		return 0
	}
	if j-i >= maxUnpack {
		c.fail("too many results to unpack")
	}
	c.work(j - i)
	for k := i; k <= j; k++ {
		c.L.Push(rawGet(t, lua.LNumber(k)))
	}
	return j - i + 1
}
