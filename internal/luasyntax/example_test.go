package luasyntax_test

import (
	"errors"
	"fmt"

	"github.com/limpetlb/limpet/internal/luasyntax"
)

func ExampleCheck() {
	err := luasyntax.Check("if server then\n  avi.pool.select(pool, server)\n", 1, luasyntax.Limits{})
	fmt.Println(err)

	if fault, ok := errors.AsType[*luasyntax.Error](err); ok {
		fmt.Println(fault.Line, fault.Near)
	}
	// Output:
	// 3: 'end' expected (to close 'if' at line 1) near '<eof>'
	// 3 <eof>
}
