package luasyntax_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/limpetlb/limpet/internal/luasyntax"
)

func FuzzCheck(f *testing.F) {
	for _, tt := range faults { // each rule and limit once, with its boundary
		f.Add(tt.source, 1, 0)
	}
	for _, s := range seeds(f) { // whole scripts, to mutate from inside
		f.Add(s, 1, 0)
	}
	f.Add("x = {f\n(g)}", -5, 3)                // lookahead across lines, an odd first line
	f.Add("local a a.a,a[a],a=a,...", 1, 20)    // assignment conflicts with few registers left
	f.Add("x=[=[\r\n]]\\]=]--[[\n\r]]", 1, 200) // brackets, line breaks and the end
	f.Fuzz(func(t *testing.T, source string, line, limit int) {
		o := luasyntax.Limits{Depth: limit, Locals: limit, Upvalues: limit}
		if limit > 250 {
			o = luasyntax.Limits{}
		}
		err := luasyntax.Check(source, line, o)
		if err == nil {
			// What a program is does not depend on what follows in a comment.
			if after := luasyntax.Check(source+"\n--", line, o); after != nil && len(source) < 65000 {
				t.Fatalf("accepted, but not with a comment: %v", after)
			}
			return
		}
		var fault *luasyntax.Error
		if !errors.As(err, &fault) {
			t.Fatalf("%T: %v", err, err)
		}
		lines := strings.Count(source, "\n") + strings.Count(source, "\r")
		if fault.Message == "" || fault.Line-line < 0 || fault.Line-line > lines {
			t.Errorf("%+v for first line %d of at most %d", fault, line, lines+1)
		}
		if strings.Contains(fault.Near, "\x00") {
			t.Errorf("zero byte in %q", fault.Near)
		}
	})
}
