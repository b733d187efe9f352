package lua51

import (
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// Lua's table library.
var tableEntries = []Entry{
	{Name: "concat", Call: tableConcat},
	{Name: "foreach", Call: tableForeach},
	{Name: "foreachi", Call: tableForeachi},
	{Name: "getn", Call: func(c Call) int { return c.RetNumber(float64(c.border(c.readable(1)))) }},
	{Name: "insert", Call: tableInsert},
	{Name: "maxn", Call: tableMaxn},
	{Name: "remove", Call: tableRemove},
	{Name: "setn", Call: func(c Call) int { c.Table(1); c.Fail("'setn' is obsolete"); return 0 }},
	{Name: "sort", Call: tableSort},
}

func tableConcat(c Call) int {
	t := c.readable(1)
	sep := c.OptStr(2, "")
	i := c.optCInt(3, 1)
	j := c.optCInt(4, c.border(t))
	var b strings.Builder
	for k := i; k <= j; k++ {
		s, ok := Text(rawGet(t, lua.LNumber(k)))
		if !ok {
			c.Fail("invalid value (%s) at index %d in table for 'concat'", rawGet(t, lua.LNumber(k)).Type(), k)
		}
		c.Work(2)
		if b.Len()+len(s)+len(sep) > c.engine.limits.StringBytes {
			c.TooLarge()
		}
		c.Read(len(s) + len(sep))
		b.WriteString(s)
		if k < j {
			b.WriteString(sep)
		}
	}
	c.Read(b.Len())
	return c.RetString(b.String())
}

// foreach(t, f) calls f with each key and value until it returns something.
func tableForeach(c Call) int {
	t, f := c.readable(1), c.function(2)
	for k, v := t.Next(lua.LNil); k != lua.LNil; k, v = t.Next(k) {
		if result := c.callValue(f, k, v); result != lua.LNil {
			return c.Ret(result)
		}
	}
	return 0
}

// foreachi(t, f) does so with the elements of the array, in order.
func tableForeachi(c Call) int {
	t, f := c.readable(1), c.function(2)
	for i, n := 1, c.border(t); i <= n; i++ {
		if result := c.callValue(f, lua.LNumber(i), t.RawGetInt(i)); result != lua.LNil {
			return c.Ret(result)
		}
	}
	return 0
}

func (c Call) function(n int) *lua.LFunction {
	f, ok := c.Arg(n).(*lua.LFunction)
	if !ok {
		c.TypeError(n, "function")
	}
	return f
}

func tableInsert(c Call) int {
	t := c.writable(1)
	n := c.border(t)
	switch c.Count() {
	case 2:
		c.put(t, lua.LNumber(n+1), c.Arg(2))
	case 3:
		pos := c.cInt(2)
		if pos > n {
			c.put(t, lua.LNumber(pos), c.Arg(3))
			return 0
		}
		for k := n; k >= pos; k-- {
			if (n-k)&31 == 31 {
				c.Spend(8)
			}
			c.put(t, lua.LNumber(k+1), rawGet(t, lua.LNumber(k)))
		}
		c.put(t, lua.LNumber(pos), c.Arg(3))
	default:
		c.Fail("wrong number of arguments to 'insert'")
	}
	return 0
}

func tableMaxn(c Call) int {
	most := 0.0
	t := c.readable(1)
	t.ForEach(func(k, _ lua.LValue) {
		c.Work(2)
		if f, ok := k.(lua.LNumber); ok {
			most = max(most, float64(f))
		}
	})
	return c.RetNumber(most)
}

func tableRemove(c Call) int {
	t := c.writable(1)
	n := c.border(t)
	pos := c.optCInt(2, n)
	if pos < 1 || pos > n {
		return 0
	}
	v := t.RawGetInt(pos)
	for k := pos; k < n; k++ {
		if k&31 == 31 {
			c.Spend(4)
		}
		t.RawSetInt(k, t.RawGetInt(k+1))
	}
	t.RawSetInt(n, lua.LNil)
	return c.Ret(v)
}

func tableSort(c Call) int {
	t := c.writable(1)
	n := c.border(t)
	order := c.Arg(2)
	if order != lua.LNil && order.Type() != lua.LTFunction {
		c.TypeError(2, "function")
	}
	sorter{c, t, order}.sort(1, n)
	return 0
}

// A sorter sorts an array in place, step by step as Lua 5.1 does: scripts see
// the order of elements that are equal, and what an order function that makes
// no sense leads to.
type sorter struct {
	Call
	t     *lua.LTable
	order lua.LValue
}

func (s sorter) at(i int) lua.LValue { return s.t.RawGetInt(i) }

func (s sorter) swap(i, j int) {
	a, b := s.at(i), s.at(j)
	s.t.RawSetInt(i, b)
	s.t.RawSetInt(j, a)
}

func (s sorter) before(a, b lua.LValue) bool {
	s.Spend(1)
	if s.order == lua.LNil {
		return s.less(a, b)
	}
	s.L.Push(s.order)
	s.L.Push(a)
	s.L.Push(b)
	s.L.Call(2, 1)
	v := s.L.Get(-1)
	s.L.Pop(1)
	return lua.LVAsBool(v)
}

// sort is a quicksort around the median of three.
func (s sorter) sort(low, high int) {
	for low < high {
		if s.before(s.at(high), s.at(low)) {
			s.swap(low, high)
		}
		if high-low == 1 {
			return
		}
		middle := (low + high) / 2
		if s.before(s.at(middle), s.at(low)) {
			s.swap(middle, low)
		} else if s.before(s.at(high), s.at(middle)) {
			s.swap(middle, high)
		}
		if high-low == 2 {
			return
		}
		p := s.partition(low, high, middle)
		// The smaller half goes first, which bounds the recursion.
		if p-low < high-p {
			s.sort(low, p-1)
			low = p + 1
		} else {
			s.sort(p+1, high)
			high = p - 1
		}
	}
}

// partition moves what is before the pivot to its left and what is behind it
// to its right, and returns where it ends up.
func (s sorter) partition(low, high, middle int) int {
	pivot := s.at(middle)
	s.swap(middle, high-1)
	i, j := low, high-1
	for {
		for i++; s.before(s.at(i), pivot); i++ {
			if i > high {
				s.Fail("invalid order function for sorting")
			}
		}
		for j--; s.before(pivot, s.at(j)); j-- {
			if j < low {
				s.Fail("invalid order function for sorting")
			}
		}
		if j < i {
			break
		}
		s.swap(i, j)
	}
	s.swap(high-1, i)
	return i
}
