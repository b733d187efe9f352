package lua51

import (
	"math"

	lua "github.com/yuin/gopher-lua"
)

var stringsRepair = repair{
	file:    "repair_strings.go",
	fault:   "Numerals in strings are read as Go reads them: with a leading zero they are octal.",
	program: "print('010' + 0)",
	wrong:   "8",
	right:   "10",
}

// stringMetatable makes strings have methods, and numerals in strings be
// read as Lua 5.1 reads them.
func (st *State) stringMetatable() *lua.LTable {
	mt := st.L.CreateTable(0, 12)
	mt.RawSetString("__index", st.members(st.run.engine.library.symbols["string"]))
	mt.RawSetString("__metatable", lua.LString("string"))
	// Lua's strings have no such metamethods; the VM asks for them because it
	// does not read numerals itself as Lua does.
	for name, op := range map[string]func(x, y float64) float64{
		"__add": func(x, y float64) float64 { return x + y },
		"__sub": func(x, y float64) float64 { return x - y },
		"__mul": func(x, y float64) float64 { return x * y },
		"__div": func(x, y float64) float64 { return x / y },
		"__mod": luaMod,
		"__pow": math.Pow,
		"__unm": func(x, _ float64) float64 { return -x },
	} {
		mt.RawSetString(name, st.L.NewFunction(func(L *lua.LState) int {
			c := Call{Run: &st.run, L: L, Sym: st.run.engine.library.symbols["string"]}
			if name == "__unm" {
				L.SetTop(1)
				L.Push(L.Get(1)) // the operand, where others have two
			}
			return c.arithmetic(name, op)
		}))
	}
	return mt
}

// arithmetic applies an operation to two operands that are not both numbers: a
// numeral in a string is one, else a metamethod has to do it.
func (c Call) arithmetic(event string, op func(x, y float64) float64) int {
	x, okX := c.Number(c.Arg(1))
	y, okY := c.Number(c.Arg(2))
	if okX && okY {
		return c.RetNumber(op(x, y))
	}
	for n := 1; n <= 2; n++ {
		if v := c.Arg(n); v.Type() != lua.LTString {
			if method := c.L.GetMetaField(v, event); method != lua.LNil {
				return c.Ret(c.callValue(method, c.Arg(1), c.Arg(2)))
			}
		}
	}
	culprit := 0
	if okX {
		culprit = 1
	}
	at, _ := failedAt(c.L, 1)
	c.raise(c.L, lua.LString(where(c.L, 1)+"attempt to perform arithmetic on "+at.operand(culprit).describe(c.Arg(culprit+1).Type().String())))
	return 0
}
