package main

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet/internal/testfiles"
)

const goodCase = `A case.

-- http_req.lua --
if avi.http.get_path() == "/a" then
  avi.vs.log("a")
end
-- request --
GET / HTTP/1.1
Host: a
-- want/log --
`

func TestTest(t *testing.T) {
	dir := testfiles.Write(t, map[string]string{
		"cases/good.txtar":         goodCase,
		"cases/deeper/[bad].txtar": strings.Replace(goodCase, "GET / ", "GET /a ", 1),
		"cases/notes.md":           "not a case",
		"none/notes.md":            "not a case",
	})
	status, out, errs := invoke(t, dir, "test", "-v", "--cover", "--coverprofile", "DIR/lcov", "DIR/cases")
	const want = `DIR/cases/deeper/[bad].txtar:10: want/log differs (- what the case wants, + what came out):
-
+# 1
+[string "[bad]"]:2: a
FAIL DIR/cases/deeper/[bad].txtar
ok   DIR/cases/good.txtar
100.0%  [bad] HTTP_REQ
100.0%  of 2 lines
2 cases, 1 failed
`
	// How a diff looks is not of this package.
	var kept []string
	for line := range strings.Lines(out) {
		if strings.TrimSpace(line) != "" {
			kept = append(kept, line)
		}
	}
	if diff := cmp.Diff(want, strings.Join(kept, "")); status != failed || errs != "" || diff != "" {
		t.Errorf("status %d, errors %q, output (-want +got):\n%s", status, errs, diff)
	}
	lcov, err := os.ReadFile(filepath.Join(dir, "lcov"))
	if err != nil || !strings.Contains(string(lcov), "[bad].txtar\nDA:4,") || !strings.HasSuffix(string(lcov), "LF:2\nLH:2\nend_of_record\n") {
		t.Errorf("lcov: %q, %v", lcov, err)
	}

	if status, out, errs := invoke(t, dir, "test", "--update", "DIR/cases/deeper"); status != ok || errs != "" || !strings.Contains(out, "updated\n1 case, 0 failed\n") {
		t.Errorf("update: status %d, %q, %q", status, out, errs)
	}
	if status, out, errs := invoke(t, dir, "test", "DIR/cases", "DIR/cases/good.txtar"); status != ok || errs != "" || out != "3 cases, 0 failed\n" {
		t.Errorf("after the update: status %d, %q, %q", status, out, errs)
	}

	for _, c := range []struct{ args, want string }{
		{"DIR/none", "limpet: DIR/none: no case (a file with a name such as a.txtar)\n"},
		{"DIR/nowhere", "limpet: lstat DIR/nowhere: no such file or directory\n"},
		{"--coverprofile DIR/no/such DIR/cases", "limpet: open DIR/no/such: no such file or directory\n"},
	} {
		status, _, errs := invoke(t, dir, append([]string{"test"}, strings.Fields(c.args)...)...)
		if status != failed || errs != c.want {
			t.Errorf("limpet test %s: status %d, %q", c.args, status, errs)
		}
	}
}

// A profile replaces profiles only: neither a case nor its script, even if that
// does not compile, nor a file that nobody has named.
func TestProfileReplacesProfiles(t *testing.T) {
	files := map[string]string{
		"a.txtar": "-- script: a.lua HTTP_REQ --\n-- request --\nGET / HTTP/1.1\nHost: a\n",
		"a.lua":   "x = = 1\n",
		"notes":   "mine\n",
	}
	dir := testfiles.Write(t, files)
	for name := range files {
		status, _, errs := invoke(t, dir, "test", "--coverprofile", "DIR/./"+name, "DIR/a.txtar")
		if status != failed || !strings.Contains(errs, name+": a file that is not a profile") {
			t.Errorf("status %d, %s", status, errs)
		}
	}
	if got := testfiles.MustRead(dir + "/*"); !maps.Equal(got, files) {
		t.Errorf("%q", got)
	}
	if err := os.WriteFile(dir+"/a.lua", []byte("x = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if status, _, errs := invoke(t, dir, "test", "--coverprofile", "DIR/lcov", "DIR/a.txtar"); status != ok {
			t.Errorf("status %d, %s", status, errs)
		}
	}
}
