package lua51

import (
	"unsafe"

	lua "github.com/yuin/gopher-lua"
)

var capturedRepair = repair{
	file:    "repair_captured.go",
	fault:   "Under an error handler, variables that closures have captured in a function which an error has ended stay in their registers, which other calls use next.",
	program: "xpcall(function() local g pcall(function() local x = 42 g = function() x = x + 1 return x end error('e') end) local a, b, c, d = 1, 2, 3, 4 print(g(), g(), a, b, c, d) end, print)",
	wrong:   "4 5 1 2 5 4",
	right:   "43 44 1 2 3 4",
}

// captured is the list of the variables that closures share with running
// functions, outermost first; it points to where the list goes on.
type captured **lua.Upvalue

// allCaptured returns the start of the list.
func allCaptured(L *lua.LState) captured {
	return captured(inside[*lua.Upvalue](unsafe.Pointer(L), openUpvalues))
}

// capturedNow returns the end of the list.
func capturedNow(L *lua.LState) captured {
	link := allCaptured(L)
	for *link != nil {
		link = after(*link)
	}
	return link
}

func after(u *lua.Upvalue) captured {
	return captured(inside[*lua.Upvalue](unsafe.Pointer(u), nextUpvalue))
}

// release gives closures what they captured since the list ended at link, and
// shortens the list to that. It must be called while the variables are still
// in their registers.
func release(link captured) {
	for u := *link; u != nil; {
		next := *after(u)
		u.Close()
		if u.Value() == nil {
			u.SetValue(lua.LNil) // too late, but scripts must not see it
		}
		*after(u) = nil
		u = next
	}
	*link = nil
}
