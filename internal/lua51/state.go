package lua51

import (
	lua "github.com/yuin/gopher-lua"

	"github.com/limpetlb/limpet/internal/luastr"
)

// A State is a Lua VM of an engine, used by one run at a time. Scripts
// cannot reach anything in it that outlives their run: libraries are behind
// read-only tables, there is no global environment, and what a transaction
// keeps is in tables of its own. A state in which a script failed is thrown
// away all the same.
type State struct {
	L   *lua.LState // the VM
	run Run

	values map[*Symbol]lua.LValue      // made on first use
	mains  map[*Program]*lua.LFunction // instantiated programs
	recent [4]struct {                 // of mains, by number of the program
		program *Program
		main    *lua.LFunction
	}

	matchers []*luastr.Matcher // not in use
	resume   func()            // ends what Outside began

	onError  *lua.LFunction // notes where a script failed
	onCaught *lua.LFunction // for pcall and xpcall
	readOnly *lua.LFunction // refuses to change a library

	spreadIndex, spreadNewIndex *lua.LFunction // see far.go

	operators []*lua.LFunction // functions that have no level of their own; see visible
}

// maxMains is how many programs a state keeps. Those of scripts that were
// replaced are dropped with the others.
const maxMains = 256

// NewState returns a state of the engine. States are used one run at a time;
// the caller pools them. The VM's tables never shrink and keep the keys that
// were deleted, so a state should be replaced after some thousand runs, and
// after a run that left it unhealthy.
func (e *Engine) NewState() *State {
	L := lua.NewState(lua.Options{
		SkipOpenLibs:     true,
		CallStackSize:    e.limits.CallDepth + 1, // see Run.overflow
		RegistrySize:     1024,
		RegistryMaxSize:  64 << 10,
		RegistryGrowStep: 4096,
	})
	st := &State{L: L, values: map[*Symbol]lua.LValue{}, mains: map[*Program]*lua.LFunction{}}
	st.run.engine = e
	st.run.state = st
	st.run.frame, st.run.registry, st.run.spare = frameOf(L), registryOf(L), e.limits.CallDepth
	st.resume = st.run.back
	L.SetContext(&st.run)
	st.onError = L.NewFunction(noteError)
	st.onCaught = L.NewFunction(noteCaught)
	st.readOnly = L.NewFunction(func(L *lua.LState) int {
		st.run.raise(L, lua.LString(where(L, 1)+"attempt to change a read-only table"))
		return 0
	})
	st.spreadIndex, st.spreadNewIndex = L.NewFunction(spreadIndex), L.NewFunction(spreadNewIndex)
	st.operators = []*lua.LFunction{st.spreadIndex, st.spreadNewIndex}
	L.SetMetatable(lua.LString(""), st.stringMetatable())
	return st
}

// value returns what a symbol stands for in this state.
func (st *State) value(s *Symbol) lua.LValue {
	switch s.Kind {
	case Constant:
		return lua.LString(s.Text)
	case Numeric:
		return lua.LNumber(s.Num)
	case Token:
		return s.Object
	case Variable:
		return lua.LNil
	}
	v, ok := st.values[s]
	if !ok {
		if s.Kind == Module {
			v = st.protect(st.members(s), s.Name)
		} else {
			fn := st.L.NewFunction(s.native)
			if s.isOperator() {
				st.operators = append(st.operators, fn)
			}
			v = fn
		}
		st.values[s] = v
	}
	return v
}

// members makes a plain table of what a library holds.
func (st *State) members(s *Symbol) *lua.LTable {
	t := st.L.CreateTable(0, len(s.members))
	variable := false
	for _, m := range s.members {
		t.RawSetString(m.Field(), st.value(m))
		variable = variable || m.Kind == Variable
	}
	if variable {
		mt := st.L.CreateTable(0, 1)
		mt.RawSetString("__index", st.L.NewFunction(func(L *lua.LState) int {
			k, _ := L.Get(2).(lua.LString)
			for _, m := range s.members {
				if m.Kind == Variable && m.Field() == string(k) {
					L.Push(m.value(&st.run))
					return 1
				}
			}
			return 0
		}))
		t.Metatable = mt
	}
	return t
}

// protect returns an empty table through which t can be read. The name is
// what getmetatable gives; own functions that bypass metatables refuse it.
func (st *State) protect(t *lua.LTable, name string) *lua.LTable {
	mt := st.L.CreateTable(0, 4)
	mt.RawSetString("__index", t)
	mt.RawSetString("__newindex", st.readOnly)
	mt.RawSetString("__metatable", lua.LString(name))
	mt.RawSetString(behindName, &lua.LUserData{Value: protected{t}, Metatable: lua.LNil})
	p := st.L.CreateTable(0, 0)
	p.Metatable = mt
	return p
}

// behindName is the field of a metatable of ours that holds the protected
// table. A script can store into a field of that name, but not a value of that
// type.
const behindName = "(behind)"

// protected is the table that a read-only one shows.
type protected struct{ table *lua.LTable }

// behind returns the table that a protected one shows, or nil.
func behind(t *lua.LTable) *lua.LTable {
	mt, ok := t.Metatable.(*lua.LTable)
	if !ok {
		return nil
	}
	u, ok := mt.RawGetString(behindName).(*lua.LUserData)
	if !ok {
		return nil
	}
	p, _ := u.Value.(protected)
	return p.table
}

// main returns the function of a program, in this state.
func (st *State) main(p *Program) *lua.LFunction {
	recent := &st.recent[p.number%len(st.recent)]
	if recent.program == p {
		return recent.main
	}
	fn := st.mains[p]
	if fn == nil {
		fn = st.instantiate(p)
	}
	recent.program, recent.main = p, fn
	return fn
}

// instantiate makes the function of a program.
func (st *State) instantiate(p *Program) *lua.LFunction {
	if len(st.mains) >= maxMains {
		clear(st.mains)
	}
	L := st.L
	L.Push(L.NewFunctionFromProto(p.proto))
	for _, sym := range p.imports {
		L.Push(st.value(sym))
	}
	L.Call(len(p.imports), 1)
	fn := L.Get(-1).(*lua.LFunction)
	L.Pop(1)
	st.mains[p] = fn
	return fn
}
