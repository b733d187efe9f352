package lua51

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// upvalues has a function that uses n variables of the main chunk.
func upvalues(n int) string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprint("v", i)
	}
	return "local " + strings.Join(names, ", ") + "\nlocal function f() return {" + strings.Join(names, " or 1, ") + " or 1} end"
}

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
		{"150 arguments", "local function f(...) return select('#', ...) end assert(f(" + strings.Repeat("1,", 149) + "1) == 150)", ""},
		{"250 arguments", "log(" + strings.Repeat("1,", 249) + "1)", tooManyRegisters},
		{"300 arguments", "log(" + strings.Repeat("nil,", 299) + "1)", tooManyRegisters},
		{"30000 arguments", "log(" + strings.Repeat("1,", 29_999) + "1)", tooManyRegisters},
		{"a chain of 190", "local s = 'x' return s" + strings.Repeat("..s", 189), ""},
		{"a chain of 20001", "local s = 'x' return s" + strings.Repeat("..s", 20_000), "chunk has too many syntax levels"},
		{"calls in calls", "local f = tostring return " + strings.Repeat("f(1, ", 190) + "1" + strings.Repeat(")", 190), tooManyRegisters},
		{"60 upvalues", upvalues(60) + " assert(#f() == 60)", ""},
		{"61 upvalues", upvalues(61), "function at line 2 has more than 60 upvalues"},
		{"180 levels", "return " + strings.Repeat("(", 180) + "1" + strings.Repeat(")", 180), ""},
		{"200 levels", "return " + strings.Repeat("(", 200) + "1" + strings.Repeat(")", 200), "chunk has too many syntax levels"},
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
