package luasyntax_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/yuin/gopher-lua/parse"
)

// refusedByVM are the sources that Check accepts, as Lua 5.1 does, and the
// parser of the virtual machine refuses.
var refusedByVM = []struct {
	reason  string
	mark    *regexp.Regexp // found in each such source
	example string
}{
	{"goto is a keyword of Lua 5.2", regexp.MustCompile(`\bgoto\b`), "goto = 1"},
	{"vertical tab and form feed are no blanks", regexp.MustCompile(`[\v\f]`), "x =\f1"},
	{"a comment may not begin like a long one", regexp.MustCompile(`--\[=`), "--[== x"},
	{"hexadecimal numbers have no exponent", regexp.MustCompile(`0[xX][0-9a-fA-F]+[pP]`), "x = 0x1p4"},
	{"a zero byte is no part of a number or symbol", regexp.MustCompile("\x00"), "x = 1\x00"},
}

func vmRefuses(source string) error {
	_, err := parse.Parse(strings.NewReader(source), "x")
	return err
}

func TestVMRefusesExceptions(t *testing.T) {
	for _, e := range refusedByVM {
		if v := verdict(e.example, referenceLimits); v != "" {
			t.Errorf("%s: %q: %s", e.reason, e.example, v)
		}
		if !e.mark.MatchString(e.example) {
			t.Errorf("%s: %q has not the mark", e.reason, e.example)
		}
		if vmRefuses(e.example) == nil {
			t.Errorf("%s: %q is parsed now; drop the exception", e.reason, e.example)
		}
	}
}

// checkVMAccepts fails the test for each source that the virtual machine does
// not parse for a reason unknown here.
func checkVMAccepts(t *testing.T, sources []string) {
	t.Helper()
next:
	for _, s := range sources {
		err := vmRefuses(s)
		if err == nil {
			continue
		}
		for _, e := range refusedByVM {
			if e.mark.MatchString(s) {
				continue next
			}
		}
		t.Errorf("accepted, but not by the virtual machine: %.2000q\n%v", s, err)
	}
}
