package lua51

import (
	"slices"

	lua "github.com/yuin/gopher-lua"
)

// Most instructions of the VM take about the same time and make nothing. The
// others are looked at before they are executed: they are charged for what
// they will do.
type weights uint64 // a bit for each operation code

// weighed returns the weights in which some operations are looked at.
func weighed(ops ...int) (w weights) {
	for _, op := range ops {
		w |= 1 << op
	}
	return w
}

// openLists are operations that matter only if their list of values ends at
// the top of the stack.
var (
	openLists    = weighed(lua.OP_CALL, lua.OP_TAILCALL, lua.OP_VARARG, lua.OP_RETURN)
	usualWeights = openLists | weighed(lua.OP_NEWTABLE, lua.OP_CLOSURE, lua.OP_SETLIST, lua.OP_SETTABLE, lua.OP_SETTABLEKS)
	// allWeights are for scripts that have got hold of a string longer than
	// longName, or that have functions for which calls make a table.
	allWeights = usualWeights | weighed(lua.OP_EQ, lua.OP_LT, lua.OP_LE, lua.OP_GETTABLE, lua.OP_GETTABLEKS, lua.OP_SELF, closedCalls)
)

// closedCalls stands for calls whose list of arguments has a known length.
const closedCalls = 63

// needsAll reports whether a program needs allWeights from its beginning.
func needsAll(p *lua.FunctionProto) bool {
	return p.IsVarArg&lua.VarArgNeedsArg != 0 ||
		slices.ContainsFunc(p.Constants, func(c lua.LValue) bool {
			s, ok := c.(lua.LString)
			return ok && len(s) > longName
		}) ||
		slices.ContainsFunc(p.FunctionPrototypes, needsAll)
}

// longName is up to where the length of a string does not matter to the VM.
const longName = 1 << 10

// weigh charges for an instruction.
func (r *Run) weigh(f *vmFrame, inst uint32) {
	op := int(inst >> 26)
	regs := r.registry.array[f.LocalBase:]
	a := argA(inst)
	switch op {
	case lua.OP_NEWTABLE:
		r.tick -= 10
		r.Hold(tableBytes + elementBytes*argB(inst) + keyBytes*argC(inst))
	case lua.OP_CLOSURE:
		n := int(f.Fn.Proto.FunctionPrototypes[inst&0x3ffff].NumUpvalues)
		r.tick -= 5 + 2*n
		r.Hold(functionBytes + upvalueBytes*n)
	case lua.OP_SETLIST:
		n := argB(inst)
		if n == 0 {
			n = r.listed(f, a+1)
		}
		r.tick -= n
		r.Hold(elementBytes * n)
	case lua.OP_SETTABLE:
		key := f.rk(regs, argB(inst))
		if t, ok := regs[a].(*lua.LTable); ok && t.Metatable == lua.LNil {
			if k, ok := key.(lua.LNumber); ok && k >= 1 && int(k) <= len(arrayOf(t)) {
				return // nothing grows
			}
		}
		r.weighStore(regs[a], key)
	case lua.OP_SETTABLEKS:
		r.weighStore(regs[a], f.rk(regs, argB(inst)))
	case lua.OP_GETTABLE, lua.OP_GETTABLEKS, lua.OP_SELF:
		r.weighKey(f.rk(regs, argC(inst)))
	case lua.OP_EQ, lua.OP_LT, lua.OP_LE:
		x, ok := f.rk(regs, argB(inst)).(lua.LString)
		if ok && len(x) > longName {
			if y, ok := f.rk(regs, argC(inst)).(lua.LString); ok {
				n := min(len(x), len(y))
				if r.tick -= n >> 7; op != lua.OP_EQ {
					r.tick -= n >> 4 // byte by byte
				}
			}
		}
	case lua.OP_CALL, lua.OP_TAILCALL:
		n := argB(inst) - 1
		if n < 0 {
			n = r.listed(f, a+1)
		}
		r.tick -= n >> 2
		if fn, ok := regs[a].(*lua.LFunction); ok && !fn.IsG && fn.Proto.IsVarArg&lua.VarArgNeedsArg != 0 {
			r.tick -= 50
			r.Hold(tableBytes + firstKeyBytes + elementBytes*n)
		}
	case lua.OP_VARARG:
		if argB(inst) == 0 {
			r.tick -= f.varargs() >> 2
		}
	case lua.OP_RETURN:
		if argB(inst) == 0 {
			r.tick -= r.listed(f, a) >> 2
		}
	}
}

// rk returns the value in a register or, from 256 on, a constant.
func (f *vmFrame) rk(regs []lua.LValue, i int) lua.LValue {
	const constant = 1 << 8
	if i&constant != 0 {
		return f.Fn.Proto.Constants[i&^constant]
	}
	return regs[i]
}

// listed is the length of the list of values from a register on that ends at
// the top of the stack.
func (r *Run) listed(f *vmFrame, from int) int { return max(r.registry.top-f.LocalBase-from, 0) }

// weighKey charges for looking for a key.
func (r *Run) weighKey(key lua.LValue) {
	if s, ok := key.(lua.LString); ok && len(s) > longName {
		r.tick -= len(s) >> 7
	}
}

// weighStore charges for storing into a table, or into what stands behind it.
func (r *Run) weighStore(object, key lua.LValue) {
	t, ok := object.(*lua.LTable)
	for range 100 {
		if !ok {
			return
		}
		mt, hasMeta := t.Metatable.(*lua.LTable)
		if !hasMeta || t.RawGet(key) != lua.LNil {
			r.weighSet(t, key)
			return
		}
		switch next := mt.RawGetString("__newindex").(type) {
		case *lua.LNilType:
			r.weighSet(t, key)
			return
		case *lua.LTable:
			r.tick--
			t = next
		default:
			return // a function, which is called
		}
	}
}

// weighSet charges for what a table grows by when a key is set, and spreads it
// if the key is an index that is too far away.
func (r *Run) weighSet(t *lua.LTable, key lua.LValue) {
	switch key.(type) {
	case lua.LNumber:
		i, ok := isIndex(key)
		if !ok {
			break
		}
		length := len(arrayOf(t))
		spread := spreadOf(t) != nil
		switch n := i - length; {
		case n <= 0:
			return
		case n == 1 || i < maxFilled && !spread:
			r.tick -= n >> 2
			r.Hold(elementBytes * n)
			return
		case !spread:
			r.tick -= 50
			r.Hold(tableBytes + firstKeyBytes)
			r.state.spread(t, t.Metatable)
		}
		if t.RawGetH(key) == lua.LNil {
			r.tick -= 8
			r.Hold(keyBytes)
		}
		return
	case lua.LString:
		r.weighKey(key)
		if !hasWords(t) {
			r.tick -= 40
			r.Hold(firstKeyBytes)
		}
	case *lua.LNilType:
		return // an error
	}
	if t.RawGet(key) == lua.LNil {
		r.tick -= 8
		r.Hold(keyBytes)
	}
}
