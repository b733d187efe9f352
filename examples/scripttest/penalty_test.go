package scripttest

import (
	_ "embed"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/datascript/datascripttest"
)

//go:embed penalty.lua
var penalty string

// A test in Go: two clients, and a clock that the test moves.
func TestPenalty(t *testing.T) {
	script := datascripttest.Compile(t, "Penalty", datascript.Chunk{Source: penalty})
	vs := &datascripttest.VirtualService{Scripts: []*datascript.Script{script}}
	ask := func(client string) int {
		t.Helper()
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = client + ":1234"
		return datascripttest.Run(t, vs, r)[0].Response.Status
	}

	for i, want := range []int{200, 200, 200, 429, 429} {
		if got := ask("192.0.2.1"); got != want {
			t.Errorf("request %d: status %d, want %d", i+1, got, want)
		}
	}
	if got := ask("192.0.2.2"); got != 200 {
		t.Errorf("another client: status %d, want 200", got)
	}
	vs.Tables.Advance(300 * time.Second)
	if got := ask("192.0.2.1"); got != 200 {
		t.Errorf("after the penalty: status %d, want 200", got)
	}
}

// The same in files: what goes in, and what comes out.
func TestFiles(t *testing.T) {
	datascripttest.RunFiles(t, "testdata/*.txtar", datascripttest.Options{})
}
