package datascript

import (
	"reflect"
	"strings"
	"unsafe"

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
	{name: "tostring", call: func(c call) int { return c.retString(c.toString(c.any(1))) }},
	{name: "type", call: func(c call) int { return c.retString(c.any(1).Type().String()) }},
	{name: "unpack", call: baseUnpack},
	{name: "xpcall", call: baseXpcall},
	{name: "_VERSION", kind: constant, text: "Lua 5.1"},
	{name: concatName, call: concat},
}

const (
	concatName = ".." // the operator; see rewrite.go
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
			right = lua.LString(l + r)
			continue
		}
		event := c.L.GetMetaField(left, "__concat")
		if event == lua.LNil {
			event = c.L.GetMetaField(right, "__concat")
		}
		if event == lua.LNil {
			culprit := left
			if okLeft {
				culprit = right
			}
			c.fail("attempt to concatenate a %s value", culprit.Type())
		}
		right = c.callValue(event, left, right)
	}
	return c.ret(right)
}

// allow stops the script if it is about to build too large a string.
func (c call) allow(size int) {
	if size > c.engine.limits.StringBytes {
		c.tooLarge()
	}
	if size > 1024 {
		c.spend(size >> 8)
	}
}

// callValue calls a Lua value and returns its first result.
func (c call) callValue(fn lua.LValue, args ...lua.LValue) lua.LValue {
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

func baseAssert(c call) int {
	if !lua.LVAsBool(c.any(1)) {
		c.fail("%s", c.optStr(2, "assertion failed!"))
	}
	return c.count()
}

func baseError(c call) int {
	level := c.optInt(2, 1)
	if s, ok := c.arg(1).(lua.LString); ok && len(s) > c.engine.limits.ErrorBytes {
		c.L.Error(lua.LString(cut(string(s), c.engine.limits.ErrorBytes)), level)
	}
	c.L.Error(c.arg(1), level)
	return 0
}

func baseGetMetatable(c call) int { return c.ret(c.L.GetMetatable(c.any(1))) }

func baseSetMetatable(c call) int {
	t := c.table(1)
	mt := c.any(2)
	if mt.Type() != lua.LTNil && mt.Type() != lua.LTTable {
		c.typeError(2, "nil or table")
	}
	if old, ok := t.Metatable.(*lua.LTable); ok && old.RawGetString("__metatable") != lua.LNil {
		c.fail("cannot change a protected metatable")
	}
	t.Metatable = mt
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
	k, v := c.readable(1).Next(c.arg(2))
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
	return c.protected(c.count()-1, c.state.onCaught)
}

func baseXpcall(c call) int {
	handler, ok := c.arg(2).(*lua.LFunction)
	if !ok {
		c.typeError(2, "function")
	}
	c.L.SetTop(1)
	return c.protected(0, handler)
}

// protected calls the function below the nargs arguments on the stack.
func (c call) protected(nargs int, handler *lua.LFunction) int {
	L := c.L
	err := L.PCall(nargs, lua.MultRet, handler)
	// Without this, the next error would cut closures off from the
	// variables they share: PCall forgets that an outer handler is set.
	setHasErrorFunc(L)
	if err == nil {
		L.Insert(lua.LTrue, 1)
		return L.GetTop()
	}
	c.check()
	L.SetTop(0)
	L.Push(lua.LFalse)
	if ae, ok := err.(*lua.ApiError); ok && ae.Object != nil {
		L.Push(ae.Object)
	} else {
		L.Push(lua.LString("error in error handling"))
	}
	return 2
}

// hasErrorFunc is where the VM keeps whether an error handler is set. The
// field has no accessor; see the test that goes with it.
var hasErrorFunc, hasErrorFuncKnown = func() (uintptr, bool) {
	f, ok := reflect.TypeFor[lua.LState]().FieldByName("hasErrorFunc")
	return f.Offset, ok && f.Type.Kind() == reflect.Bool
}()

func setHasErrorFunc(L *lua.LState) {
	if hasErrorFuncKnown {
		*(*bool)(unsafe.Add(unsafe.Pointer(L), hasErrorFunc)) = true
	}
}

// print writes to the transaction's log, not to standard output.
func basePrint(c call) int {
	var b strings.Builder
	b.WriteString(c.L.Where(1))
	b.WriteByte(' ')
	for n := 1; n <= c.count(); n++ {
		if n > 1 {
			b.WriteByte('\t')
		}
		b.WriteString(c.toString(c.arg(n)))
	}
	c.log(b.String())
	return 0
}

func baseRawget(c call) int { return c.ret(c.readable(1).RawGet(c.any(2))) }

func baseRawset(c call) int {
	t, k, v := c.writable(1), c.any(2), c.any(3)
	c.checkKey(k)
	t.RawSet(k, v)
	return c.ret(t)
}

func (c call) checkKey(k lua.LValue) {
	if k == lua.LNil {
		c.fail("table index is nil")
	}
	if f, ok := k.(lua.LNumber); ok && f != f {
		c.fail("table index is NaN")
	}
}

func baseSelect(c call) int {
	n := c.count()
	if c.arg(1) == lua.LString("#") {
		return c.retNumber(float64(n - 1))
	}
	i := c.integer(1)
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
	if c.arg(2) == lua.LNil {
		if f, ok := number(c.any(1)); ok {
			return c.retNumber(f)
		}
		return c.ret(lua.LNil)
	}
	f, ok, err := luastr.ParseNumberBase(c.str(1), c.integer(2))
	c.must(err)
	if !ok {
		return c.ret(lua.LNil)
	}
	return c.retNumber(f)
}

// maxUnpack is how many values fit on the VM's stack with room to spare.
const maxUnpack = 8000

func baseUnpack(c call) int {
	t := c.readable(1)
	i, j := c.optInt(2, 1), 0
	if c.arg(3) == lua.LNil {
		j = t.Len()
	} else {
		j = c.integer(3)
	}
	if j < i {
		return 0
	}
	if j-i >= maxUnpack {
		c.fail("too many results to unpack")
	}
	c.spend(j - i)
	for k := i; k <= j; k++ {
		c.L.Push(t.RawGet(lua.LNumber(k)))
	}
	return j - i + 1
}
