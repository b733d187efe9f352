package datascript

import (
	"math"

	lua "github.com/yuin/gopher-lua"
)

// Most instructions of the VM take about the same time and make nothing. The
// others are looked at before they are executed: they are charged for what
// they will do.
var heavy = [64]bool{
	lua.OP_NEWTABLE: true, lua.OP_CLOSURE: true, lua.OP_SETLIST: true,
	lua.OP_SETTABLE: true, lua.OP_SETTABLEKS: true, lua.OP_GETTABLE: true,
	lua.OP_EQ: true, lua.OP_LT: true, lua.OP_LE: true,
	lua.OP_CALL: true, lua.OP_TAILCALL: true, lua.OP_VARARG: true, lua.OP_RETURN: true,
}

// heavyNames is for scripts that name fields with long strings.
var heavyNames = func() (ops [64]bool) {
	ops = heavy
	ops[lua.OP_GETTABLEKS], ops[lua.OP_SELF] = true, true
	return ops
}()

// longName is from where on the length of a key matters.
const longName = 1 << 10

// heavyFor returns which instructions of a program must be looked at.
func heavyFor(p *lua.FunctionProto) *[64]bool {
	for _, c := range p.Constants {
		if s, ok := c.(lua.LString); ok && len(s) > longName {
			return &heavyNames
		}
	}
	for _, inner := range p.FunctionPrototypes {
		if heavyFor(inner) == &heavyNames {
			return &heavyNames
		}
	}
	return &heavy
}

// weigh charges for an instruction.
func (r *run) weigh(f *vmFrame, inst uint32) {
	regs := r.registry.array[f.LocalBase:]
	constants := f.Fn.Proto.Constants
	const isConstant = 1 << 8
	rk := func(i int) lua.LValue {
		if i&isConstant != 0 {
			return constants[i&^isConstant]
		}
		return regs[i]
	}
	// listed is the length of a list of values from a register on, if it ends
	// at the top of the stack.
	listed := func(from int) int { return max(r.registry.top-f.LocalBase-from, 0) }
	a := argA(inst)
	switch int(inst >> 26) {
	case lua.OP_NEWTABLE:
		r.tick -= 2
		r.hold(tableBytes + elementBytes*argB(inst) + keyBytes*argC(inst))
	case lua.OP_CLOSURE:
		n := int(f.Fn.Proto.FunctionPrototypes[inst&0x3ffff].NumUpvalues)
		r.tick -= 2 + n/4
		r.hold(functionBytes + upvalueBytes*n)
	case lua.OP_SETLIST:
		n := argB(inst)
		if n == 0 {
			n = listed(a + 1)
		}
		r.tick -= n >> 3
		r.hold(elementBytes * n)
	case lua.OP_SETTABLE, lua.OP_SETTABLEKS:
		r.weighStore(regs[a], rk(argB(inst)))
	case lua.OP_GETTABLE, lua.OP_GETTABLEKS, lua.OP_SELF:
		r.weighKey(rk(argC(inst)))
	case lua.OP_EQ, lua.OP_LT, lua.OP_LE:
		x, ok := rk(argB(inst)).(lua.LString)
		if ok && len(x) > longName {
			if y, ok := rk(argC(inst)).(lua.LString); ok {
				r.tick -= min(len(x), len(y)) >> 8
			}
		}
	case lua.OP_CALL, lua.OP_TAILCALL:
		n := argB(inst) - 1
		if n < 0 {
			n = listed(a + 1)
		}
		r.tick -= n >> 4
		if fn, ok := regs[a].(*lua.LFunction); ok && !fn.IsG && fn.Proto.IsVarArg&lua.VarArgNeedsArg != 0 {
			r.tick -= 8
			r.hold(tableBytes + firstKeyBytes + elementBytes*n)
		}
	case lua.OP_VARARG:
		if argB(inst) == 0 {
			r.tick -= f.varargs() >> 4
		}
	case lua.OP_RETURN:
		if argB(inst) == 0 {
			r.tick -= listed(a) >> 4
		}
	}
}

// weighKey charges for looking for a key.
func (r *run) weighKey(key lua.LValue) {
	if s, ok := key.(lua.LString); ok && len(s) > longName {
		r.tick -= len(s) >> 8
	}
}

// weighStore charges for storing into a table, or into what stands behind it.
func (r *run) weighStore(object, key lua.LValue) {
	t, ok := object.(*lua.LTable)
	for range 100 {
		if !ok || t.Metatable == lua.LNil {
			break
		}
		mt, _ := t.Metatable.(*lua.LTable)
		if mt == nil {
			break
		}
		next, isTable := mt.RawGetString("__newindex").(*lua.LTable)
		if !isTable || t.RawGet(key) != lua.LNil {
			break
		}
		r.tick--
		t = next
	}
	if ok {
		r.weighSet(t, key)
	}
}

// weighSet charges for what a table grows by when a key is set.
func (r *run) weighSet(t *lua.LTable, key lua.LValue) {
	switch k := key.(type) {
	case lua.LNumber:
		array, _ := contents(t)
		if k >= 1 && k < lua.LNumber(lua.MaxArrayIndex) && k == lua.LNumber(math.Trunc(float64(k))) {
			if n := int(k) - len(array); n > 0 {
				r.tick -= n >> 5
				r.hold(elementBytes * n)
			}
			return
		}
	case lua.LString:
		r.weighKey(key)
		if !hasWords(t) {
			r.tick -= 8
			r.hold(firstKeyBytes)
		}
	case *lua.LNilType:
		return // an error
	}
	if t.RawGet(key) == lua.LNil {
		r.tick -= 2
		r.hold(keyBytes)
	}
}
