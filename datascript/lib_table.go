package datascript

import (
	"math/bits"
	"slices"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// Lua's table library.
var tableEntries = []entry{
	{name: "concat", call: tableConcat},
	{name: "getn", call: func(c call) int { return c.retNumber(float64(c.readable(1).Len())) }},
	{name: "insert", call: tableInsert},
	{name: "maxn", call: tableMaxn},
	{name: "remove", call: tableRemove},
	{name: "sort", call: tableSort},
}

func tableConcat(c call) int {
	t := c.readable(1)
	sep := c.optStr(2, "")
	i := c.optInt(3, 1)
	j := c.optInt(4, t.Len())
	var b strings.Builder
	for k := i; k <= j; k++ {
		s, ok := text(t.RawGet(lua.LNumber(k)))
		if !ok {
			c.argError(1, "invalid value (%s) at index %d in table for 'concat'", t.RawGet(lua.LNumber(k)).Type(), k)
		}
		c.spend(1)
		c.allow(b.Len() + len(s) + len(sep))
		b.WriteString(s)
		if k < j {
			b.WriteString(sep)
		}
	}
	return c.retString(b.String())
}

func tableInsert(c call) int {
	t := c.writable(1)
	n := t.Len()
	switch c.count() {
	case 2:
		t.RawSetInt(n+1, c.arg(2))
	case 3:
		pos := c.integer(2)
		if pos > n {
			t.RawSet(lua.LNumber(pos), c.arg(3))
			return 0
		}
		c.spend((n - pos) >> 3)
		for k := n; k >= pos; k-- {
			t.RawSet(lua.LNumber(k+1), t.RawGet(lua.LNumber(k)))
		}
		t.RawSet(lua.LNumber(pos), c.arg(3))
	default:
		c.fail("wrong number of arguments to 'insert'")
	}
	return 0
}

func tableMaxn(c call) int {
	most := 0.0
	t := c.readable(1)
	c.spend(t.Len())
	t.ForEach(func(k, _ lua.LValue) {
		if f, ok := k.(lua.LNumber); ok {
			most = max(most, float64(f))
		}
	})
	return c.retNumber(most)
}

func tableRemove(c call) int {
	t := c.writable(1)
	n := t.Len()
	pos := c.optInt(2, n)
	if pos < 1 || pos > n {
		return 0
	}
	v := t.RawGetInt(pos)
	c.spend((n - pos) >> 3)
	for k := pos; k < n; k++ {
		t.RawSetInt(k, t.RawGetInt(k+1))
	}
	t.RawSetInt(n, lua.LNil)
	return c.ret(v)
}

func tableSort(c call) int {
	t := c.writable(1)
	order := c.arg(2)
	if order != lua.LNil && order.Type() != lua.LTFunction {
		c.typeError(2, "function")
	}
	n := t.Len()
	c.spend(n * bits.Len(uint(n)))
	values := make([]lua.LValue, n)
	for i := range values {
		values[i] = t.RawGetInt(i + 1)
	}
	slices.SortFunc(values, func(a, b lua.LValue) int {
		switch {
		case c.before(order, a, b):
			return -1
		case c.before(order, b, a):
			return 1
		}
		return 0
	})
	for i, v := range values {
		t.RawSetInt(i+1, v)
	}
	return 0
}

func (c call) before(order, a, b lua.LValue) bool {
	if order != lua.LNil {
		return lua.LVAsBool(c.callValue(order, a, b))
	}
	return c.L.LessThan(a, b)
}
