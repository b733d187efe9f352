package lua51

import lua "github.com/yuin/gopher-lua"

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
	for event, operators := range metamethods {
		if len(operators) == 1 {
			mt.RawSetString(event, st.value(st.run.engine.library.symbols[operators[0]]))
		}
	}
	return mt
}
