package lua51

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// Functions may have as many local variables as the VM has registers for. 191
// were refused as too complex.
func TestManyLocals(t *testing.T) {
	locals := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "local a%d = %d\n", i, i)
		}
		return b.String()
	}
	for _, tt := range []struct {
		name, source, want string
	}{
		{"195", locals(195) + "x = a194 + a0", ""},
		{"195 in a function", "local function f()\n" + locals(195) + "return a194\nend\nassert(f() == 194)", ""},
		{"195 at a time", "local " + strings.Repeat("a, ", 194) + "b = 1\nb = a", ""},
		{"190 and a call", locals(190) + "log(a189, 1)", ""},
		{"too many", locals(199) + "log(a1, a2, a3)", tooManyRegisters},
		{"more than Lua has", locals(201), "main function has more than 200 local variables"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.want == "" {
				if _, err := newHost(Limits{}).run(t, tt.source); err != nil {
					t.Error(err)
				}
				return
			}
			_, err := newHost(Limits{}).compile(tt.source)
			var ce *CompileError
			if !errors.As(err, &ce) || ce.Message != tt.want || ce.Line == 0 {
				t.Errorf("error %v, want %s", err, tt.want)
			}
		})
	}
}
