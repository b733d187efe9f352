package lua51

import (
	lua "github.com/yuin/gopher-lua"
)

var farRepair = repair{
	file:    "repair_far.go",
	fault:   "A store far behind the end of an array fills the array up to there, however long that takes.",
	program: "local t = {} t[20000] = 1 print(#t)",
	wrong:   "20000",
	right:   "0",
}

// The VM would fill an array up to any index that a script stores into, for
// seconds, and its limit is one for the whole process, which is the host's. So
// a store far beyond the end of an array makes the table a spread one: its
// array grows by appending alone, and elements that are farther away are with
// the other keys, where the VM does not look for them. Metamethods do. The
// metatable of a spread table is ours; scripts see the one that they have set.

// maxFilled is up to which index an array is filled.
const maxFilled = 8 << 10

// spreadName is the field that the metatable of a spread table has. A script
// can store into a field of that name, but not a value of that type.
const spreadName = "(spread)"

// spreadTable has the script's own metatable of a spread table, or nil.
type spreadTable struct{ own lua.LValue }

// isIndex reports whether the VM keeps a key in arrays.
func isIndex(key lua.LValue) (int, bool) {
	f, ok := key.(lua.LNumber)
	if !ok || f < 1 || f >= lua.LNumber(lua.MaxArrayIndex) || f != lua.LNumber(int(f)) {
		return 0, false
	}
	return int(f), true
}

// spreadOf returns the script's own metatable of a spread table.
func spreadOf(t *lua.LTable) (own lua.LValue, ok bool) {
	mt, ok := t.Metatable.(*lua.LTable)
	if !ok {
		return nil, false
	}
	u, ok := mt.RawGetString(spreadName).(*lua.LUserData)
	if !ok {
		return nil, false
	}
	s, ok := u.Value.(spreadTable)
	return s.own, ok
}

func isSpread(t *lua.LTable) bool {
	_, ok := spreadOf(t)
	return ok
}

// metatableOf returns the metatable that scripts see.
func metatableOf(t *lua.LTable) lua.LValue {
	if own, ok := spreadOf(t); ok {
		return own
	}
	return t.Metatable
}

// setMetatable sets the metatable that scripts see.
func (st *State) setMetatable(t *lua.LTable, mt lua.LValue) {
	if !isSpread(t) {
		t.Metatable = mt
		return
	}
	st.spread(t, mt)
}

// spread makes a table a spread one, with a metatable of the script's. Fields
// that are added to that one later have no effect on the table.
func (st *State) spread(t *lua.LTable, own lua.LValue) {
	mt := st.L.CreateTable(0, 4)
	if own, ok := own.(*lua.LTable); ok {
		own.ForEach(mt.RawSet)
	}
	mt.RawSetString("__index", st.spreadIndex)
	mt.RawSetString("__newindex", st.spreadNewIndex)
	mt.RawSetString(spreadName, &lua.LUserData{Value: spreadTable{own}, Metatable: lua.LNil})
	t.Metatable = mt
}

// ownField returns what the script's metatable of a spread table has.
func ownField(t *lua.LTable, name string) lua.LValue {
	if mt, ok := metatableOf(t).(*lua.LTable); ok {
		return mt.RawGetString(name)
	}
	return lua.LNil
}

// spreadIndex is the __index of spread tables.
func spreadIndex(L *lua.LState) int {
	t, key := L.CheckTable(1), L.Get(2)
	if v := rawGet(t, key); v != lua.LNil {
		L.Push(v)
		return 1
	}
	index := ownField(t, "__index")
	switch index.Type() {
	case lua.LTNil:
		L.Push(lua.LNil)
	case lua.LTFunction:
		L.Push(index)
		L.Push(t)
		L.Push(key)
		L.Call(2, 1)
	default:
		L.Push(L.GetTable(index, key))
	}
	return 1
}

// spreadNewIndex is the __newindex of spread tables.
func spreadNewIndex(L *lua.LState) int {
	r := L.Context().(*Run)
	t, key, value := L.CheckTable(1), L.Get(2), L.Get(3)
	index := ownField(t, "__newindex")
	switch {
	case index == lua.LNil || rawGet(t, key) != lua.LNil:
		if _, ok := isIndex(key); ok {
			r.put(t, key, value)
		} else {
			L.RawSet(t, key, value)
		}
	case index.Type() == lua.LTFunction:
		L.Push(index)
		L.Push(t)
		L.Push(key)
		L.Push(value)
		L.Call(3, 0)
	default:
		r.weighStore(index, key)
		L.SetTable(index, key, value)
	}
	return 0
}

// rawGet returns an element of any table.
func rawGet(t *lua.LTable, key lua.LValue) lua.LValue {
	v := t.RawGet(key)
	if v == lua.LNil {
		if _, ok := isIndex(key); ok {
			return t.RawGetH(key)
		}
	}
	return v
}

// put sets an element of any table that a script may change. Keys must not be
// nil or NaN.
func (r *Run) put(t *lua.LTable, key, value lua.LValue) {
	i, ok := isIndex(key)
	if !ok {
		r.weighSet(t, key)
		t.RawSet(key, value)
		return
	}
	length := len(arrayOf(t))
	if i > length {
		r.weighSet(t, key) // which may spread it
	}
	switch {
	case i <= length || !isSpread(t):
		t.RawSet(key, value)
	case i > length+1:
		t.RawSetH(key, value)
	default:
		t.RawSet(key, value)
		t.RawSetH(key, lua.LNil)
		// What follows is part of the array now.
		for i++; ; i++ {
			next := lua.LNumber(i)
			v := t.RawGetH(next)
			if v == lua.LNil {
				return
			}
			r.tick -= 8
			t.RawSet(next, v)
			t.RawSetH(next, lua.LNil)
		}
	}
}
