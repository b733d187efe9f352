package policy

import (
	"strings"
	"testing"
)

// What a client sends cannot forge lines of an explanation, or control the
// terminal it is read in.
func TestExplainIsOneLine(t *testing.T) {
	p := mustHTTPSecurity(t, Env{}, SecurityRule{Name: "r", Match: pathIs("/x"), Action: Close{}})
	tx := newTx("GET", "/")
	tx.request.URL.Path = "/\x1b[2J\x0b\u0085\u2028\n"
	text := p.Explain(tx)
	for _, bad := range []string{"\x1b", "\x0b", "\u0085", "\u2028"} {
		if strings.Contains(text, bad) {
			t.Errorf("%q has %q", text, bad)
		}
	}
	if strings.Count(text, "\n") != 3 {
		t.Errorf("not three lines: %q", text)
	}
}
