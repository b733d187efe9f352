package lua51

import lua "github.com/yuin/gopher-lua"

const noOperation = uint32(lua.OP_NOP << 26)

// storesField reports whether an instruction stores a field of the table in a
// register.
func storesField(inst uint32, table int) bool {
	op := int(inst >> 26)
	return (op == lua.OP_SETTABLE || op == lua.OP_SETTABLEKS) && argA(inst) == table
}

// mendConstructors corrects the code of table constructors. The VM stores their
// elements in blocks of 50, which it numbers, and its compiler makes three
// mistakes: if a block ends where a field with a key follows, it is stored
// again, from registers that hold other values by then; if a block ends where
// the last element follows that can have several values, these get the number
// of the block before; and numbers from 512 on, which stand in the word behind
// the instruction, are zeros.
func mendConstructors(p *lua.FunctionProto) {
	var last [256]uint32 // block that was stored, by register of the table
	for pc := 0; pc < len(p.Code); pc++ {
		inst := p.Code[pc]
		switch int(inst >> 26) {
		case lua.OP_NEWTABLE:
			last[argA(inst)] = 0
		case lua.OP_SETLIST:
			block := &last[argA(inst)]
			switch number := uint32(argC(inst)); {
			case number == 0:
				pc++
				if storesField(p.Code[pc-2], argA(inst)) && argB(inst) == 50 {
					p.Code[pc-1], p.Code[pc] = noOperation, noOperation
					continue
				}
				*block++
				p.Code[pc] = *block
			case number != *block:
				*block = number
			case argB(inst) == 0:
				*block++
				p.Code[pc] = inst&^(0x1ff<<9) | *block<<9
			default:
				p.Code[pc] = noOperation
			}
		}
	}
	for _, inner := range p.FunctionPrototypes {
		mendConstructors(inner)
	}
}
