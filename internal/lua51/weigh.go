package lua51

import (
	"slices"

	lua "github.com/yuin/gopher-lua"
)

// Most instructions of the VM take about the same time and make nothing. The
// others are looked at before they are executed: they are charged for what
// they will do. Looking takes about a tenth of the time of an instruction. So
// the compiler finds out, for each instruction, how many are executed after it,
// whichever way the function goes, before the next one that must be looked at.
// The run only counts those.
//
// The first instruction after one that may begin or end a function is always
// looked at, and so is the first one after an error that was caught.

// A mode says which instructions are looked at. Its value is the number of the
// bit where the mode's byte begins in the words of a plan.
type mode uint8

const (
	usualMode mode = 8 * iota
	// metaMode is for scripts that may have metamethods, which other
	// instructions than calls can begin.
	metaMode
	// longMode is for scripts that have got hold of a string longer than
	// longName, or that have functions for which calls make a table. They may
	// have metamethods, too.
	longMode
	endModes
)

// demand switches to a mode, unless the run is in one that looks at more.
func (r *Run) demand(m mode) {
	if m > r.mode {
		r.mode = m
		r.settle()
	}
}

// settle has the next instruction looked at, and gives back the charge for
// those that would have been executed until then.
func (r *Run) settle() {
	if r.skip > 0 {
		r.tick += r.skip
	}
	r.skip = 0
}

// The plan of a function is a word for each instruction, with a byte for each
// mode. It stands behind the code, within the capacity of the slice, where the
// VM does not see it.
const (
	lookAt   = 1 << 7     // at this instruction
	maxAhead = lookAt - 1 // instructions after it that need not be looked at
)

// plan makes the plans of a function and of those in it. Depth is how many
// functions are around it.
func plan(p *lua.FunctionProto, depth int) {
	n := len(p.Code)
	code := make([]uint32, 2*n)
	copy(code, p.Code)
	p.Code = code[:n]
	looks, ahead := make([]bool, n), make([]uint8, n)
	for m := usualMode; m < endModes; m += 8 {
		for pc, inst := range p.Code {
			looks[pc] = m.looksAt(inst) && !(depth == mainDepth && storesGlobal(inst))
			ahead[pc] = maxAhead
		}
		for changed := true; changed; {
			changed = false
			for pc := n - 1; pc >= 0; pc-- {
				if a := m.ahead(p, pc, looks, ahead); a < ahead[pc] {
					ahead[pc], changed = a, true
				}
			}
		}
		for pc, a := range ahead {
			if looks[pc] {
				a |= lookAt
			}
			code[n+pc] |= uint32(a) << m
		}
	}
	for _, inner := range p.FunctionPrototypes {
		plan(inner, depth+1)
	}
}

// mainDepth is the depth of a program's function; see [Program].
const mainDepth = 1

// storesGlobal reports whether an instruction of a program's function stores
// into its parameter: the table of globals, which has all elements that it
// needs.
func storesGlobal(inst uint32) bool { return int(inst>>26) == lua.OP_SETTABLE && argA(inst) == 0 }

// looksAt reports whether an instruction must be looked at.
func (m mode) looksAt(inst uint32) bool {
	switch int(inst >> 26) {
	case lua.OP_NEWTABLE, lua.OP_CLOSURE, lua.OP_SETLIST, lua.OP_SETTABLE, lua.OP_SETTABLEKS:
		return true
	case lua.OP_CALL, lua.OP_TAILCALL, lua.OP_VARARG, lua.OP_RETURN:
		return m == longMode || argB(inst) == 0 // the list of values ends at the top of the stack
	case lua.OP_EQ, lua.OP_LT, lua.OP_LE, lua.OP_GETTABLE, lua.OP_GETTABLEKS, lua.OP_SELF:
		return m == longMode
	}
	return false
}

// ahead returns how many instructions after one need not be looked at, if that
// is known of those that may come next.
func (m mode) ahead(p *lua.FunctionProto, pc int, looks []bool, ahead []uint8) uint8 {
	if m.mayCall(int(p.Code[pc] >> 26)) {
		return 0
	}
	n := uint8(maxAhead)
	for _, next := range successors(p, pc) {
		if next < 0 || next >= len(ahead) || looks[next] {
			return 0
		}
		n = min(n, ahead[next]+1)
	}
	return n
}

// mayCall reports whether an operation may begin or end a function.
func (m mode) mayCall(op int) bool {
	switch op {
	case lua.OP_MOVE, lua.OP_MOVEN, lua.OP_LOADK, lua.OP_LOADBOOL, lua.OP_LOADNIL, lua.OP_GETUPVAL, lua.OP_SETUPVAL,
		lua.OP_NEWTABLE, lua.OP_NOT, lua.OP_JMP, lua.OP_TEST, lua.OP_TESTSET, lua.OP_FORLOOP, lua.OP_FORPREP,
		lua.OP_SETLIST, lua.OP_CLOSE, lua.OP_CLOSURE, lua.OP_VARARG, lua.OP_NOP:
		return false
	case lua.OP_CALL, lua.OP_TAILCALL, lua.OP_RETURN, lua.OP_TFORLOOP:
		return true
	}
	return m != usualMode
}

// successors returns which instructions the VM may execute after one.
func successors(p *lua.FunctionProto, pc int) [2]int {
	inst := p.Code[pc]
	next, jump := pc+1, jumpFrom(pc, inst)
	switch int(inst >> 26) {
	case lua.OP_JMP, lua.OP_FORPREP:
		return [2]int{jump, jump}
	case lua.OP_FORLOOP:
		return [2]int{next, jump}
	case lua.OP_EQ, lua.OP_LT, lua.OP_LE, lua.OP_TEST, lua.OP_TESTSET:
		return [2]int{next, next + 1}
	case lua.OP_LOADBOOL:
		if argC(inst) != 0 {
			next++
		}
	case lua.OP_MOVEN:
		next += argC(inst)
	case lua.OP_SETLIST:
		if argC(inst) == 0 {
			next++
		}
	case lua.OP_CLOSURE:
		next += int(p.FunctionPrototypes[inst&0x3ffff].NumUpvalues)
	}
	return [2]int{next, next}
}

// jumpFrom returns where an instruction that jumps leads to.
func jumpFrom(pc int, inst uint32) int { return pc + 1 + int(inst&0x3ffff) - jumpBias }

const jumpBias = 1<<17 - 1

// needsLong reports whether a program needs longMode from its beginning.
func needsLong(p *lua.FunctionProto) bool {
	return p.IsVarArg&lua.VarArgNeedsArg != 0 ||
		slices.ContainsFunc(p.Constants, func(c lua.LValue) bool {
			s, ok := c.(lua.LString)
			return ok && len(s) > longName
		}) ||
		slices.ContainsFunc(p.FunctionPrototypes, needsLong)
}

// longName is up to where the length of a string does not matter to the VM.
const longName = 1 << 10

// weigh charges for an instruction.
func (r *Run) weigh(f *vmFrame, inst uint32) {
	op, a := int(inst>>26), argA(inst)
	regs := r.registry.array[f.LocalBase:]
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
	case lua.OP_SETTABLE, lua.OP_SETTABLEKS:
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

// replaces reports whether an instruction stores into the array of a table
// where there is an element already, so that nothing grows.
func (r *Run) replaces(f *vmFrame, inst uint32) bool {
	if int(inst>>26) != lua.OP_SETTABLE {
		return false
	}
	regs, base := r.registry.array, f.LocalBase
	t, ok := regs[base+argA(inst)].(*lua.LTable)
	if !ok || !isNil(t.Metatable) {
		return false
	}
	var key lua.LValue
	if b := argB(inst); b&constantBit != 0 {
		key = f.Fn.Proto.Constants[b&^constantBit]
	} else {
		key = regs[base+b]
	}
	k, _ := key.(lua.LNumber)
	i := int(k)
	return i >= 1 && i <= len(arrayOf(t)) && lua.LNumber(i) == k
}

// isNil is a quick comparison with [lua.LNil].
func isNil(v lua.LValue) bool {
	_, ok := v.(*lua.LNilType)
	return ok
}

const constantBit = 1 << 8

// rk returns the value in a register or, from 256 on, a constant.
func (f *vmFrame) rk(regs []lua.LValue, i int) lua.LValue {
	if i&constantBit != 0 {
		return f.Fn.Proto.Constants[i&^constantBit]
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
		next := mt.RawGetString("__newindex")
		if next != lua.LNil {
			r.checkStore(key)
		}
		switch next := next.(type) {
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

// checkStore refuses keys that no table can have before a metamethod sees them,
// as Lua does.
func (r *Run) checkStore(key lua.LValue) {
	what := ""
	if key == lua.LNil {
		what = "nil"
	} else if f, ok := key.(lua.LNumber); ok && f != f {
		what = "NaN"
	}
	if what != "" {
		L, level := r.state.L, 0
		if (*r.frame).Fn.IsG {
			level = 1
		}
		r.raise(L, lua.LString(where(L, level)+"table index is "+what))
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
		spread := isSpread(t)
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
