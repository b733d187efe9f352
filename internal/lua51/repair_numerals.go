package lua51

import (
	"strconv"

	"github.com/yuin/gopher-lua/ast"

	"github.com/limpetlb/limpet/internal/luastr"
)

var numeralsRepair = repair{
	file:    "repair_numerals.go",
	fault:   "A numeral that is too large for a number is not infinite but no number.",
	program: "print(1e999 > 1e308)",
	wrong:   "false",
	right:   "true",
}

// numeral has the VM read a numeral as Lua 5.1 reads it.
func (w *Walker) numeral(e *ast.NumberExpr) {
	if f, ok := luastr.ParseNumber(e.Value); ok && w.rewriting {
		e.Value = strconv.FormatFloat(f, 'g', -1, 64)
	}
}
