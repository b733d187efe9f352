package lua51

import lua "github.com/yuin/gopher-lua"

// Each store to a global variable is one into the table of globals, at a
// constant index. The VM's compiler loads the index into a register first,
// where the store could name the constant itself: a fifth of the instructions
// of scripts that do little else. So those loads are taken out. And a global
// that is read just after it was set, as in
//
//	server = avi.vs.table_lookup(client)
//	if server then
//
// is taken from the register that it was set from.

// foldKeys does both in a program's function.
func foldKeys(p *lua.FunctionProto) {
	code := p.Code
	folded := make([]bool, len(code))
	for pc, inst := range code {
		if !storesGlobal(inst) {
			continue
		}
		if load := loadOf(p, pc, argB(inst)); load >= 0 {
			code[pc] = inst&^0x1ff | constantBit | code[load]&0xff
			folded[load] = true
		}
	}
	forward(p, folded)

	moved := make([]int, len(code)+1) // where instructions are now
	n := 0
	for pc := range code {
		moved[pc] = n
		if !folded[pc] {
			n++
		}
	}
	moved[len(code)] = n
	for pc, inst := range code {
		if folded[pc] {
			continue
		}
		switch int(inst >> 26) {
		case lua.OP_JMP, lua.OP_FORPREP, lua.OP_FORLOOP:
			inst = inst&^0x3ffff | uint32(moved[jumpFrom(pc, inst)]-moved[pc]-1+jumpBias)
		}
		code[moved[pc]] = inst
		p.DbgSourcePositions[moved[pc]] = p.DbgSourcePositions[pc]
	}
	p.Code, p.DbgSourcePositions = code[:n], p.DbgSourcePositions[:n]
	for i := range p.DbgCalls {
		p.DbgCalls[i].Pc = moved[p.DbgCalls[i].Pc]
	}
	for _, l := range p.DbgLocals {
		l.StartPc, l.EndPc = moved[l.StartPc], moved[l.EndPc]
	}
}

// loadOf returns where the constant is loaded that a store to a global at pc
// finds in a register; -1 if that cannot be taken out. The register is the
// store's alone from there on.
func loadOf(p *lua.FunctionProto, pc, register int) int {
	for pc--; pc >= 0; pc-- {
		inst := p.Code[pc]
		if int(inst>>26) != lua.OP_LOADK || argA(inst) != register {
			continue
		}
		if inst&0x3ffff >= constantBit || pc > 0 && successors(p, pc-1)[1] == pc+1 {
			return -1
		}
		return pc
	}
	return -1
}

// forward has globals taken from registers. Folded instructions are not
// executed.
func forward(p *lua.FunctionProto, folded []bool) {
	target := make([]bool, len(p.Code)+1) // of a jump
	for pc := range p.Code {
		for _, next := range successors(p, pc) {
			if next != pc+1 && next >= 0 && next < len(target) {
				target[next] = true
			}
		}
	}
	for pc, inst := range p.Code {
		if int(inst>>26) != lua.OP_GETTABLE || argB(inst) != 0 || argC(inst)&constantBit == 0 {
			continue
		}
		if from := holderOf(p, pc, argC(inst), folded, target); from >= 0 {
			p.Code[pc] = uint32(lua.OP_MOVE)<<26 | inst&(0xff<<18) | uint32(from)
		}
	}
}

// holderOf returns the register from which a global was set that is read at pc,
// if it holds the value still and no other way leads there; else -1. Key is the
// constant that names the global.
func holderOf(p *lua.FunctionProto, pc, key int, folded, target []bool) int {
	var written [256]bool // registers, since then
	for ; pc > 0 && !target[pc]; pc-- {
		inst := p.Code[pc-1]
		switch op := int(inst >> 26); {
		case folded[pc-1]:
		case storesGlobal(inst) && argB(inst) == key:
			if value := argC(inst); value&constantBit == 0 && !written[value] {
				return value
			}
			return -1
		case storesGlobal(inst) && argB(inst)&constantBit != 0:
		case op == lua.OP_LOADK, op == lua.OP_GETUPVAL, op == lua.OP_MOVE:
			written[argA(inst)] = true
		default:
			return -1
		}
	}
	return -1
}
