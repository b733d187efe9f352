package datascripttest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet/datascript"
)

// passing is a case that states all it can, and passes.
const passing = `All that can be expected.
-- http_req.lua --
avi.vs.log("hello")
avi.http.add_header("X-A", "a")
avi.vs.table_insert("k", "v", 60)
if avi.http.get_path() == "/fail" then
  error("oh")
end
-- request --
GET / HTTP/1.1
Host: a

GET /fail HTTP/1.1
Host: a
-- want/request --
# 1
GET / HTTP/1.1
Host: a
X-A: a
# 2 not sent

-- want/response --
# 1
HTTP/1.1 200 OK
# 2
HTTP/1.1 500 Internal Server Error
Content-Type: text/plain; charset=utf-8

Internal Server Error
-- want/tables --
# the notation is free
k v 1m
-- want/log --
# 1
[string "x"]:1: hello
# 2
[string "x"]:1: hello
-- want/error --
# 2 HTTP_REQ
[string "x"]:5: oh
`

// TestRunCase: each kind of wrong expectation fails, and names its place.
func TestRunCase(t *testing.T) {
	for _, c := range []struct {
		name     string
		old, new string   // of passing
		want     []string // in the one error; none if the case passes
	}{
		{"as it is", "", "", nil},
		{"request", "X-A: a\n", "X-A: b\n", []string{"x.txtar:15: want/request differs", "-X-A: b", "+X-A: a"}},
		{"request sent", "# 2 not sent\n", "", []string{"want/request differs", "+# 2 not sent"}},
		{"response", "200 OK", "201 Created", []string{"x.txtar:22: want/response differs", "-HTTP/1.1 201 Created", "+HTTP/1.1 200 OK"}},
		{"table lifetime", "k v 1m", "k v 61s", []string{"x.txtar:30: want/tables differs", "-k v 61s", "+k v 60s"}},
		{"table empty", "k v 1m\n", "", []string{"want/tables differs", "+k v 60s"}},
		{"table syntax", "k v 1m\n", "k v\n", []string{"x.txtar:32: want/tables: want: [TABLE]"}},
		{"log", "hello\n# 2", "goodbye\n# 2", []string{"x.txtar:33: want/log differs", `-[string "x"]:1: goodbye`}},
		{"error", ":5: oh", ":5: ah", []string{"x.txtar:38: want/error differs", `-[string "x"]:5: ah`, `+[string "x"]:5: oh`}},
		{"error empty", "# 2 HTTP_REQ\n[string \"x\"]:5: oh\n", "", []string{"want/error differs", "+# 2 HTTP_REQ"}},
		{"error not expected", "-- want/error --\n# 2 HTTP_REQ\n[string \"x\"]:5: oh\n", "",
			[]string{`x.txtar:7: unexpected error of script "x": [string "x"]:5: oh`, "# 2 HTTP_REQ", "stack traceback"}},
		{"error in want and in a comment", `error("oh")`, `error("oh") --> oh`, nil},
		{"comment on another line", `avi.vs.log("hello")`, `avi.vs.log("hello") --> oh`, []string{`x.txtar:3: http_req.lua: this line was to fail with "oh", and did not`}},
		{"comment with another text", `error("oh")`, `error("oh") --> ah`, []string{`x.txtar:7: http_req.lua: this line was to fail with "ah", and did not`}},
		{"comment without text", `error("oh")`, `error("oh") -->`, nil},
		{"case does not parse", "Host: a\n\n", "Host a\n\n", []string{`x.txtar:11: request: "Host a" is not a header line`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := strings.Replace(passing, c.old, c.new, 1)
			if c.old != "" && text == passing {
				t.Fatalf("%q is not in the case", c.old)
			}
			var rec recorder
			if got := runCase(&rec, "x.txtar", []byte(text), Options{}); string(got) != text {
				t.Error("the case was changed")
			}
			if len(rec.fatals) != 0 || len(rec.errors) != min(len(c.want), 1) {
				t.Fatalf("errors %q, fatal errors %q", rec.errors, rec.fatals)
			}
			for _, want := range c.want {
				if !strings.Contains(rec.errors[0], want) {
					t.Errorf("the error does not say %q:\n%s", want, rec.errors[0])
				}
			}
		})
	}
}

func TestRunCaseExpectsByComment(t *testing.T) {
	const text = `-- 1-a/http_req.lua --
local p = avi.http.get_path()
if p == "/1" then
  error("one") --> one
end
-- 1-a/http_resp.lua --


avi.http.set_path("/") --> not allowed in event HTTP_RESP
-- 2-b/http_req.lua --
-- request --
GET /1 HTTP/1.1
Host: a

GET /2 HTTP/1.1
Host: a
`
	var rec recorder
	runCase(&rec, "x.txtar", []byte(text), Options{})
	if len(rec.errors) != 0 {
		t.Errorf("errors %q", rec.errors)
	}
	// The same line of another script, or of another event, is another line.
	for _, wrong := range []string{"2-b/http_req.lua", "1-a/lb_done.lua"} {
		rec = recorder{}
		runCase(&rec, "x.txtar", []byte(strings.Replace(text, `error("one") --> one`, `error("one")`, 1)+"-- "+wrong+" --\n\n\n--> one\n"), Options{})
		if wrong == "2-b/http_req.lua" {
			if len(rec.errors) != 1 || !strings.Contains(rec.errors[0], "second section") {
				t.Errorf("errors %q", rec.errors)
			}
			continue
		}
		if len(rec.errors) != 2 {
			t.Errorf("%s: errors %q, want one for the comment and one for the failure", wrong, rec.errors)
		}
	}
}

func TestRunCaseCompileError(t *testing.T) {
	const text = "-- http_req.lua --\na = 1\nb b = 1\n-- request --\nGET / HTTP/1.1\nHost: a\n-- want/log --\nold\n"
	const message = `Failed to compile the datascript "x_on_http_req.ds": luac: x_on_http_req.ds:2: '=' expected near 'b'`
	var rec recorder
	runCase(&rec, "x.txtar", []byte(text), Options{})
	if len(rec.errors) != 2 || !strings.Contains(rec.errors[0]+rec.errors[1], `x.txtar:3: unexpected error of script "x": `+message) {
		t.Errorf("errors %q", rec.errors)
	}
	for _, expected := range []string{
		strings.Replace(text, "-- want/log --\nold\n", "-- want/error --\n"+message+"\n", 1),
		strings.Replace(strings.Replace(text, "-- want/log --\nold\n", "", 1), "b b = 1", "b b = 1 --> expected near", 1),
	} {
		rec = recorder{}
		runCase(&rec, "x.txtar", []byte(expected), Options{})
		if len(rec.errors) != 0 {
			t.Errorf("errors %q", rec.errors)
		}
	}
	rec = recorder{}
	got := string(runCase(&rec, "x.txtar", []byte(text), Options{Update: true}))
	if want := text + "-- want/error --\n" + message + "\n"; got != want || len(rec.errors) != 0 {
		t.Errorf("updated to\n%s\nwith errors %q; want\n%s", got, rec.errors, want)
	}
}

func TestRunCaseLimits(t *testing.T) {
	var rec recorder
	runCase(&rec, "x.txtar", []byte(minimal+"-- http_resp.lua --\nwhile true do end --> more than 100 instructions\n"),
		Options{Limits: datascript.Limits{Instructions: 100}})
	if len(rec.errors) != 0 {
		t.Errorf("errors %q", rec.errors)
	}
}

func TestRunCaseUpdate(t *testing.T) {
	bare, _, _ := strings.Cut(passing, "-- want/request --\n")
	for _, c := range []struct{ name, text, want string }{
		{"all that is missing", bare, strings.NewReplacer("# 2 not sent\n\n", "# 2 not sent\n", "# the notation is free\nk v 1m\n", "k v 60s\n").Replace(passing)},
		{"in place, and the rest as it is",
			"-- want/log --\nold\nold\n-- want/tables --\nold 1 1s\n-- http_req.lua --\nlocal a   =  1\n-- want/response --\n-- request --\nGET / HTTP/1.1\nHost: a",
			"-- want/log --\n-- want/tables --\n-- http_req.lua --\nlocal a   =  1\n-- want/response --\n# 1\nHTTP/1.1 200 OK\n-- request --\nGET / HTTP/1.1\nHost: a\n" +
				"-- want/request --\n# 1\nGET / HTTP/1.1\nHost: a\n"},
		{"no error where a comment expects it", minimal + "-- http_resp.lua --\nerror('oh') --> oh\n",
			minimal + "-- http_resp.lua --\nerror('oh') --> oh\n-- want/request --\n# 1\nGET / HTTP/1.1\nHost: a\n" +
				"-- want/response --\n# 1\nHTTP/1.1 500 Internal Server Error\nContent-Type: text/plain; charset=utf-8\n\nInternal Server Error\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var rec recorder
			got := string(runCase(&rec, "x.txtar", []byte(c.text), Options{Update: true}))
			if diff := cmp.Diff(c.want, got); diff != "" || len(rec.errors) != 0 {
				t.Fatalf("errors %q, case (-want +got):\n%s", rec.errors, diff)
			}
			if again := string(runCase(&rec, "x.txtar", []byte(got), Options{Update: true})); again != got {
				t.Errorf("a second update made it\n%s", again)
			}
			if runCase(&rec, "x.txtar", []byte(got), Options{}); len(rec.errors) != 0 {
				t.Errorf("an updated case fails: %q", rec.errors)
			}
		})
	}
}

// TestRunCaseUpdateRefuses: what looks like the beginning of another section
// cannot be written into a case.
func TestRunCaseUpdateRefuses(t *testing.T) {
	text := "-- http_req.lua --\navi.http.response(200, {}, '-- want/log --')\n-- request --\nGET / HTTP/1.1\nHost: a\n"
	var rec recorder
	got := string(runCase(&rec, "x.txtar", []byte(text), Options{Update: true}))
	if got != text || len(rec.errors) != 1 || !strings.Contains(rec.errors[0], "want/response cannot be written") {
		t.Errorf("errors %q, case\n%s", rec.errors, got)
	}
}

func TestRunFiles(t *testing.T) {
	t.Setenv(UpdateVariable, "")
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	read := func(name string) string {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	pattern := filepath.Join(dir, "*.txtar")
	write("x.txtar", passing)
	write("windows.txtar", strings.ReplaceAll(minimal+"-- want/log --\n", "\n", "\r\n"))
	wrong := strings.Replace(passing, "k v 1m", "k v 2m", 1)

	t.Run("passes", func(t *testing.T) {
		var rec recorder
		RunFiles(&rec, pattern, Options{})
		if len(rec.errors)+len(rec.fatals)+len(rec.logs) != 0 || read("x.txtar") != passing {
			t.Errorf("errors %q, fatal errors %q, logs %q", rec.errors, rec.fatals, rec.logs)
		}
		RunFiles(t, pattern, Options{}) // as subtests
	})
	t.Run("fails", func(t *testing.T) {
		write("x.txtar", wrong)
		var rec recorder
		RunFiles(&rec, pattern, Options{})
		if len(rec.errors) != 1 || !strings.HasPrefix(rec.errors[0], filepath.Join(dir, "x.txtar")+":30: want/tables differs") {
			t.Errorf("errors %q", rec.errors)
		}
		if read("x.txtar") != wrong {
			t.Error("the file was changed")
		}
	})
	updates := func(name string, o Options) {
		t.Run(name, func(t *testing.T) {
			write("x.txtar", wrong)
			var rec recorder
			RunFiles(&rec, filepath.Join(dir, "x.txtar"), o)
			if len(rec.errors) != 0 || len(rec.logs) != 1 || !strings.Contains(rec.logs[0], "x.txtar: updated") {
				t.Errorf("errors %q, logs %q", rec.errors, rec.logs)
			}
			if want := "-- want/tables --\nk v 60s\n"; !strings.Contains(read("x.txtar"), want) {
				t.Errorf("updated to\n%s", read("x.txtar"))
			}
		})
	}
	updates("updates by option", Options{Update: true})
	t.Setenv(UpdateVariable, "1")
	updates("updates by environment", Options{})
	t.Run("cannot write", func(t *testing.T) {
		if os.Geteuid() == 0 {
			t.Skip("root may write any file")
		}
		write("x.txtar", wrong)
		if err := os.Chmod(filepath.Join(dir, "x.txtar"), 0o400); err != nil {
			t.Fatal(err)
		}
		var rec recorder
		RunFiles(&rec, pattern, Options{})
		if len(rec.errors) != 1 {
			t.Errorf("errors %q", rec.errors)
		}
	})
	t.Setenv(UpdateVariable, "0")
	t.Run("environment says no", func(t *testing.T) {
		var rec recorder
		RunFiles(&rec, pattern, Options{})
		if len(rec.errors)+len(rec.fatals)+len(rec.logs) != 0 {
			t.Errorf("errors %q, fatal errors %q, logs %q", rec.errors, rec.fatals, rec.logs)
		}
	})
	t.Setenv(UpdateVariable, "maybe")
	t.Run("environment says nothing of use", func(t *testing.T) {
		var rec recorder
		RunFiles(&rec, pattern, Options{})
		if len(rec.fatals) != 1 || !strings.Contains(rec.fatals[0], `"maybe"`) {
			t.Errorf("fatal errors %q", rec.fatals)
		}
	})
}

func TestRunFilesWithoutFiles(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct{ pattern, want string }{
		{filepath.Join(dir, "*.txtar"), "no file matches"},
		{"[", "syntax error in pattern"},
	} {
		var rec recorder
		RunFiles(&rec, c.pattern, Options{})
		if len(rec.fatals) != 1 || !strings.Contains(rec.fatals[0], c.want) {
			t.Errorf("%s: fatal errors %q", c.pattern, rec.fatals)
		}
	}
	var rec recorder
	RunFiles(&rec, dir, Options{}) // a directory
	if len(rec.errors) != 1 {
		t.Errorf("errors %q", rec.errors)
	}
}
