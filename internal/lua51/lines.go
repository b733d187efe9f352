package lua51

import (
	"maps"
	"slices"

	lua "github.com/yuin/gopher-lua"
)

// Lines returns the numbers of the lines that hold code, in order and each
// once: those that [Config].Trace can be called with. A line with nothing but
// "end", "else" or "break" holds none.
func (p *Program) Lines() []int {
	lines := map[int]bool{}
	for _, main := range p.proto.FunctionPrototypes {
		addLines(main, lines)
	}
	return slices.Sorted(maps.Keys(lines))
}

func addLines(p *lua.FunctionProto, lines map[int]bool) {
	for pc, inst := range p.Code {
		if isCode(p, pc, inst) {
			lines[position(p.DbgSourcePositions[pc]).line()] = true
		}
	}
	for _, inner := range p.FunctionPrototypes {
		addLines(inner, lines)
	}
}

// isCode leaves out the instructions that the compiler adds at the end of
// blocks and functions, which would make code of the word "end".
func isCode(p *lua.FunctionProto, pc int, inst uint32) bool {
	switch int(inst >> 26) {
	case lua.OP_JMP, lua.OP_CLOSE, lua.OP_NOP:
		return false
	case lua.OP_RETURN:
		return pc != len(p.Code)-1
	}
	return true
}
