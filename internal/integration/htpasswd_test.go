package integration

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/limpetlb/limpet"
)

// TestHtpasswd checks passwords against files that htpasswd has made, and
// refuses those that it makes without -B.
func TestHtpasswd(t *testing.T) {
	path, err := exec.LookPath("htpasswd")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("htpasswd is not installed")
		}
		t.Skip("htpasswd is not installed")
	}
	file := filepath.Join(t.TempDir(), "users")
	add := func(name, password string, flags ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), path, append(flags, "-i", file, name)...)
		cmd.Stdin = strings.NewReader(password)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Run(); err != nil {
			t.Fatalf("htpasswd: %v\n%s", err, out.String())
		}
	}
	passwords := map[string]string{"ann": "secret", "bob": strings.Repeat("long", 18), "zoë": "pâss wörd: %$"}
	flags := []string{"-c", "-B"}
	for name, password := range passwords {
		add(name, password, flags...)
		flags = []string{"-B", "-C", "6"}
	}
	auth, err := limpet.NewBasicAuthenticator(limpet.BasicConfig{File: file})
	if err != nil {
		t.Fatal(err)
	}
	for name, password := range passwords {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.SetBasicAuth(name, password)
		if s, err := auth.Authenticate(r); err != nil || s.User != name {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
		r.SetBasicAuth(name, "x"+password[1:])
		if _, err := auth.Authenticate(r); err == nil {
			t.Errorf("%s: another password is accepted", name)
		}
	}
	for _, kind := range []string{"-m", "-s", "-d", "-p", "-2", "-5"} {
		add("eve", "secret", "-c", kind)
		_, err := limpet.NewBasicAuthenticator(limpet.BasicConfig{File: file})
		if err == nil || !strings.Contains(err.Error(), `line 1: user "eve": `) || !strings.Contains(err.Error(), "make a bcrypt hash, with htpasswd -B") {
			t.Errorf("htpasswd %s: %v", kind, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("htpasswd %s: the error shows the password: %v", kind, err)
		}
	}
}
