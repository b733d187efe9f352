package lua51

import (
	"unsafe"

	lua "github.com/yuin/gopher-lua"
)

var handlersRepair = repair{
	file:    "repair_handlers.go",
	fault:   "A protected call that has caught an error forgets that an outer one has a handler; the next error cuts closures off from the variables that they share with functions that go on.",
	program: "local n = 0 local function add() n = n + 1 end pcall(function() pcall(error, 'inner') error('outer') end) add() pcall(error, {}) add() print(n)",
	wrong:   "0",
	right:   "2",
}

// keepHandler tells the VM that there is an error handler.
func keepHandler(L *lua.LState) { *inside[bool](unsafe.Pointer(L), hasErrorFunc) = true }
