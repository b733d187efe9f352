package lua51

import (
	"strconv"

	lua "github.com/yuin/gopher-lua"
	"github.com/yuin/gopher-lua/ast"
)

var constructorsRepair = repair{
	file:    "repair_constructors.go",
	fault:   "A field with a key that stands last in a constructor gives all of its values: the others become elements.",
	program: "local function f() return 1, 2 end print(#{'a', x = f()})",
	wrong:   "2",
	right:   "1",
}

var blocksRepair = repair{
	file:    "repair_constructors.go",
	fault:   "Elements are stored in blocks of 50. After a full block, the values of a last element that has several are stored over it.",
	program: "local function f() return 1, 2 end print(#{" + fifty + "f()})",
	wrong:   "50",
	right:   "52",
}

var keyedBlocksRepair = repair{
	file:    "repair_constructors.go",
	fault:   "After a full block, a field with a key stores the block once more, from registers that hold other values by then.",
	program: "local function f() return 2 end local t = {" + fifty + "x = f(), y = 0} print(t[1])",
	wrong:   "2",
	right:   "1",
}

// fifty are the elements of a full block.
const fifty = "1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, " +
	"1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, "

// constructor sees to it that fields with keys have one value: the VM takes all
// values of the last one for elements. See also fixConstructors.
func (w *Walker) constructor(e *ast.TableExpr) {
	elements := 0
	for i, f := range e.Fields {
		if f.Key != nil {
			f.Key = w.expr(f.Key)
			f.Value = single(w.expr(f.Value))
			continue
		}
		const most = 511 * 50 // up to which numbers of blocks fit into an instruction
		if elements > 0 && elements%50 == 0 && elements >= most && i == len(e.Fields)-1 && isMulti(f.Value) && w.fault == nil {
			w.fault = &CompileError{Line: position(e.Line()).line(), Message: "not supported by this implementation: " + strconv.Itoa(elements) + " elements, and then several from one expression"}
		}
		elements++
		f.Value = w.expr(f.Value)
	}
}

const noOperation = uint32(lua.OP_NOP) << 26

// storesField reports whether an instruction stores a field of the table in a
// register.
func storesField(inst uint32, table int) bool {
	op := int(inst >> 26)
	return (op == lua.OP_SETTABLE || op == lua.OP_SETTABLEKS) && argA(inst) == table
}

// fixConstructors corrects the code of table constructors. The VM stores their
// elements in blocks of 50, which it numbers, and its compiler makes three
// mistakes: if a block ends where a field with a key follows, it is stored
// again, from registers that hold other values by then; if a block ends where
// the last element follows that can have several values, these get the number
// of the block before; and numbers from 512 on, which stand in the word behind
// the instruction, are zeros.
func fixConstructors(p *lua.FunctionProto) {
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
		fixConstructors(inner)
	}
}
