package datascript

import (
	"reflect"
	"unsafe"

	lua "github.com/yuin/gopher-lua"
)

// This file is about fields of the VM that have no accessors. If a new version
// of the VM renames them, vmKnown is false, and its test fails.
//
// The VM forgets two things when it catches an error. It drops that an outer
// error handler is set; the next error would then cut closures off from the
// variables they share. And it leaves variables that closures have captured
// in registers which other calls use next. Both are put right here. And a table
// does not tell whether it ever had a key, which next must know.
var (
	hasErrorFunc, okErrorFunc = field[lua.LState]("hasErrorFunc", reflect.Bool)
	openUpvalues, okOpen      = field[lua.LState]("uvcache", reflect.Pointer)
	nextUpvalue, okNext       = field[lua.Upvalue]("next", reflect.Pointer)

	tableArray, okArray = field[lua.LTable]("array", reflect.Slice)
	tableKeys, okKeys   = field[lua.LTable]("k2i", reflect.Map)

	vmKnown = okErrorFunc && okOpen && okNext && okArray && okKeys
)

func field[T any](name string, kind reflect.Kind) (offset uintptr, ok bool) {
	f, ok := reflect.TypeFor[T]().FieldByName(name)
	return f.Offset, ok && f.Type.Kind() == kind
}

// keepHandler tells the VM that there is an error handler.
func keepHandler(L *lua.LState) {
	if vmKnown {
		*(*bool)(unsafe.Add(unsafe.Pointer(L), hasErrorFunc)) = true
	}
}

// captured is the list of the variables that closures share with running
// functions, outermost first; it points to where the list goes on.
type captured **lua.Upvalue

// allCaptured returns the start of the list.
func allCaptured(L *lua.LState) captured {
	if !vmKnown {
		return nil
	}
	return captured((**lua.Upvalue)(unsafe.Add(unsafe.Pointer(L), openUpvalues)))
}

// capturedNow returns the end of the list.
func capturedNow(L *lua.LState) captured {
	link := allCaptured(L)
	for link != nil && *link != nil {
		link = after(*link)
	}
	return link
}

func after(u *lua.Upvalue) captured {
	return captured((**lua.Upvalue)(unsafe.Add(unsafe.Pointer(u), nextUpvalue)))
}

// release gives closures what they captured since the list ended at link, and
// shortens the list to that. It must be called while the variables are still
// in their registers.
func release(link captured) {
	if link == nil {
		return
	}
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

// everHad reports whether a table has, or had, a key: traversals may go on
// from an element that was removed.
func everHad(t *lua.LTable, key lua.LValue) bool {
	if !vmKnown {
		return true
	}
	array := *(*[]lua.LValue)(unsafe.Add(unsafe.Pointer(t), tableArray))
	if n, ok := key.(lua.LNumber); ok && n >= 1 && n <= lua.LNumber(len(array)) && n == lua.LNumber(int(n)) {
		return true
	}
	_, ok := (*(*map[lua.LValue]int)(unsafe.Add(unsafe.Pointer(t), tableKeys)))[key]
	return ok
}
