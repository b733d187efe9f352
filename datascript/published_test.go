package datascript

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A helper in plain Lua that decodes a token with a payload of 3,000 bytes,
// three times, ended in 500: it took more than 200,000 instructions.
func TestTokenInLua(t *testing.T) {
	source, err := os.ReadFile(filepath.Join("testdata", "published", "jwt.lua"))
	if err != nil {
		t.Fatal(err)
	}
	var roles []string
	for i := 0; len(roles) < 150; i++ {
		roles = append(roles, fmt.Sprintf("%q", fmt.Sprintf("tenant-%03d/role", i)))
	}
	payload := fmt.Sprintf(`{"sub": "alice", "exp": 1893456000, "active": true, "none": null, "roles": [%s]}`, strings.Join(roles, ","))
	payload = payload[:len(payload)-1] + `, "pad": "` + strings.Repeat("x", 3000-len(payload)-11) + `"}`
	if len(payload) != 3000 {
		t.Fatal(len(payload))
	}
	e := newEngine(t, Env{})
	x := newExchange()
	x.original.Header.Set("Authorization", "Bearer e30."+base64.RawURLEncoding.EncodeToString([]byte(payload))+".c2ln")
	var st *state
	for st == nil { // a pool may lose what it is given
		x.logs = nil
		if err := runAt(t, e, HTTPReq, x, string(source)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"alice", "tenant-000/role", "1893456000"}, x.logged()); diff != "" {
			t.Fatalf("log (-want +got):\n%s", diff)
		}
		st, _ = e.states.Get().(*state)
	}
	r := st.lua.LastRun()
	t.Logf("%d instructions, %d bytes made", e.limits.Instructions-r.Left(), r.Made())
	if used := e.limits.Instructions - r.Left(); used > e.limits.Instructions*3/4 {
		t.Errorf("%d instructions of %d leave no room for the rest of a script", used, e.limits.Instructions)
	}
}
