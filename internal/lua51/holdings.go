package lua51

import (
	"unsafe"

	lua "github.com/yuin/gopher-lua"
)

// The sizes of the VM's values in bytes. Maps are reckoned with twice as many
// slots as they have keys; the first key of a table makes room for 32.
const (
	stringBytes   = 32 // besides the bytes themselves
	tableBytes    = 128
	elementBytes  = 40 // of the array
	keyBytes      = 240
	firstKeyBytes = 2560
	functionBytes = 128
	upvalueBytes  = 80 // and a register less
)

// A holder adds up what values keep alive.
type holder struct {
	bytes, objects int
	seen           map[unsafe.Pointer]struct{}
	todo           []lua.LValue
}

// measure returns how many bytes can be reached from the variables of the
// transaction and, while a script runs, from its stack; and how many objects
// that were to look at.
func (r *Run) measure() (bytes, objects int) {
	h := &holder{seen: map[unsafe.Pointer]struct{}{}}
	v := r.variables
	for i := range v.scripts {
		h.add(v.scripts[i].table)
	}
	if v.shared != nil {
		h.add(v.shared)
	}
	for _, value := range stackOf(r.state.L) {
		h.add(value)
	}
	for len(h.todo) > 0 {
		value := h.todo[len(h.todo)-1]
		h.todo = h.todo[:len(h.todo)-1]
		h.open(value)
	}
	return h.bytes + v.opaque, h.objects
}

// add notes a value that has not been seen yet.
func (h *holder) add(v lua.LValue) {
	var at unsafe.Pointer
	switch v := v.(type) {
	case lua.LString:
		if at = unsafe.Pointer(unsafe.StringData(string(v))); len(v) <= 1 {
			return
		}
	case *lua.LTable:
		at = unsafe.Pointer(v)
	case *lua.LFunction:
		if at = unsafe.Pointer(v); v.IsG {
			return
		}
	default:
		return
	}
	if _, ok := h.seen[at]; ok {
		return
	}
	h.seen[at] = struct{}{}
	h.objects++
	if s, ok := v.(lua.LString); ok {
		h.bytes += stringBytes + len(s)
		return
	}
	h.todo = append(h.todo, v)
}

// open adds what a table or a function holds.
func (h *holder) open(v lua.LValue) {
	switch v := v.(type) {
	case *lua.LTable:
		array, keys := contents(v)
		h.bytes += tableBytes + int(unsafe.Sizeof(array[0]))*cap(array)
		if len(keys) > 0 {
			h.bytes += firstKeyBytes + keyBytes*len(keys)
		}
		h.objects += (len(array) + len(keys)) / 4
		for _, value := range array {
			h.add(value)
		}
		for _, key := range keys {
			h.add(key)
			h.add(v.RawGetH(key))
		}
		h.add(metatableOf(v))
	case *lua.LFunction:
		h.bytes += functionBytes + upvalueBytes*len(v.Upvalues)
		for _, u := range v.Upvalues {
			if u != nil {
				h.add(u.Value())
			}
		}
	}
}
