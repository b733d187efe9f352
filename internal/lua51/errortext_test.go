package lua51

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// readErrorTexts reads testdata/errortexts.txt: scripts, each after "> ", and
// in the next line the error that Lua 5.1 gives, without the chunk's name.
func readErrorTexts(t testing.TB) (sources, texts []string) {
	t.Helper()
	data, err := os.ReadFile("testdata/errortexts.txt")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		source, ok := strings.CutPrefix(lines[i], "> ")
		if !ok {
			t.Fatalf("testdata/errortexts.txt:%d: no source", i+1)
		}
		text := lines[i+1]
		if strings.HasPrefix(text, "1:") {
			text = ChunkName("My Script") + ":" + text
		}
		sources, texts = append(sources, source), append(texts, text)
	}
	if len(sources) < 100 {
		t.Fatalf("only %d scripts in testdata/errortexts.txt", len(sources))
	}
	return sources, texts
}

// Errors have the texts of Lua 5.1. A new version of the VM that words
// errors, or their positions, in another way fails here.
func TestErrorTexts(t *testing.T) {
	sources, texts := readErrorTexts(t)
	e := newComparableEngine(t)
	for i, source := range sources {
		if got := runHere(t, e, source); got.Error != texts[i] {
			t.Errorf("%s\n got %s\nwant %s", source, got.Error, texts[i])
		}
	}
}

// pcall and xpcall give the same texts.
func TestErrorTextsCaught(t *testing.T) {
	sources, texts := readErrorTexts(t)
	e := newComparableEngine(t)
	for i, source := range sources {
		for _, frame := range []string{
			"local ok, e = pcall(function() %s end) error(e, 0)",
			"local ok, e = xpcall(function() %s end, function(e) return e end) error(e, 0)",
		} {
			want := texts[i]
			if strings.Contains(source, "error('x',") { // whose levels count the functions around it
				continue
			}
			if got := runHere(t, e, strings.Replace(frame, "%s", source, 1)); got.Error != want {
				t.Errorf("%s\n got %s\nwant %s", source, got.Error, want)
			}
		}
	}
}

// The file says what Lua 5.1 says.
func TestErrorTextsAreLuas(t *testing.T) {
	ref := startOracle(t)
	sources, texts := readErrorTexts(t)
	for i, source := range sources {
		if got := ref.run(t, source); got.Error != texts[i] {
			t.Errorf("%s\nlua5.1 %s\n  file %s", source, got.Error, texts[i])
		}
	}
}

// A caught error leaves variables as they were: those that closures captured in
// functions which the error ended, and those that they share with functions
// that go on.
func TestCaughtErrorsKeepCapturedVariables(t *testing.T) {
	ref := startOracle(t)
	e := newComparableEngine(t)
	for _, source := range []string{
		`local g pcall(function() local x = 42 g = function() x = x + 1 return x end error("e") end)
		 local a, b, c, d = 1, 2, 3, 4 print(g(), g(), a, b, c, d)`,
		`local g, h pcall(function() local x, y = 1, {} g = function() return x, y end
		   pcall(function() local z = 3 h = function() z = z + 1 return z, x end error("inner") end)
		   x = 9 print(h()) error("outer") end) print(h()) print(g())`,
		`local n = 0 local function add() n = n + 1 end
		 pcall(function() pcall(error, "inner") error("outer") end) add() pcall(error, {}) add() print(n)`,
		`local n = 0 local function add() n = n + 1 return n end
		 for i = 1, 5 do local ok, e = pcall(function() local k = i return add() + k.x end) print(ok, e, n) end`,
		`local fs = {} for i = 1, 4 do pcall(function(...) local v = select("#", ...) + i fs[i] = function() v = v + 1 return v end local t = nil .. "x" end, i, i) end
		 for i = 1, 4 do print(fs[i](), fs[i]()) end`,
		`local f xpcall(function() local x = "kept" f = function() return x end local y = x.a.b end, function(m) local z = "handler" return m .. z end) print(f())`,
	} {
		if want, got := ref.run(t, source), runHere(t, e, source); !got.equal(want) {
			t.Errorf("%s\n got %+v\nwant %+v", source, got, want)
		}
	}
}

// A variable captured in a request event belongs to the closure, not to the
// state that ran the event.
func TestCapturedVariablesLeaveTheirState(t *testing.T) {
	e := newHost(Limits{})
	s := e.mustCompile(t,
		`local n = 1
			pcall(function() local m = 10 get = function() n, m = n + 1, m + 1 return n, m end error("e") end)`,
		`log(table.concat({get()}, " "), " ", table.concat({get()}, " "))`)
	x := &record{}
	if err := e.exec(t.Context(), s.Programs()[0], x); err != nil {
		t.Fatal(err)
	}
	if err := e.exec(t.Context(), s.Programs()[1], x); err != nil || x.logged()[0] != "2 11 3 12" {
		t.Errorf("log %q, error %v", x.logs, err)
	}
}

func tracebackOf(t testing.TB, err error) *Failure {
	t.Helper()
	var re *Failure
	if !errors.As(err, &re) {
		t.Fatalf("error %v, want a Failure", err)
	}
	return re
}

func TestTraceback(t *testing.T) {
	tests := []struct{ name, source, want string }{
		{"names", "local t = {}\nfunction t.f() t.g() end\nfunction t:h() self.f() end\nfunction k() t:h() end\nk()",
			`[string "My Script"]:2: in function 'f'|[string "My Script"]:3: in function 'h'|[string "My Script"]:4: in function 'k'|[string "My Script"]:5: in function <[string "My Script"]:1>`},
		{"tail call", "local function f() error('x') end\nlocal function g() return f() end\ng()",
			`[C]: in function 'error'|[string "My Script"]:1: in function <[string "My Script"]:1>|(tail call): ?|[string "My Script"]:3: in function <[string "My Script"]:1>`},
		{"callback", "('a'):gsub('a', function() local x = nil + 1 end)",
			`[string "My Script"]:1: in function <[string "My Script"]:1>|[C]: in function 'string.gsub'|[string "My Script"]:1: in function <[string "My Script"]:1>`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := newHost(Limits{}).run(t, tt.source)
			want := "stack traceback:\ncoroutine 0:\n  " + strings.ReplaceAll(tt.want, "|", "\n  ")
			if got := tracebackOf(t, err).Traceback; got != want {
				t.Errorf("error %v\n got %s\nwant %s", err, got, want)
			}
		})
	}
	_, err := newHost(Limits{}).run(t, "local function f(n) if n == 0 then error('deep') end return 1 + f(n - 1) end\nf(150)")
	if re := tracebackOf(t, err); strings.Count(re.Traceback, "\n") != maxTraceback+2 || !strings.HasSuffix(re.Traceback, "\n  ...") {
		t.Errorf("traceback of deep calls: %s", re.Traceback)
	}
	_, err = newHost(Limits{}).run(t, "local function f(n) if n == 0 then error('deep') end return f(n - 1) end\nf(10000)")
	if re := tracebackOf(t, err); len(re.Traceback) > defaultErrorBytes || re.Line != 1 {
		t.Errorf("traceback of tail calls: %d bytes, line %d", len(re.Traceback), re.Line)
	}
}

// The VM's own functions for errors and positions do not know what stands for a
// line here.
func TestOnlyOwnPositions(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	others, err := filepath.Glob("../../datascript/*.go")
	if err != nil || len(others) == 0 {
		t.Fatal(others, err)
	}
	for _, name := range append(files, others...) {
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(name, "_test.go") && (strings.Contains(string(source), ".RaiseError(") || strings.Contains(string(source), "L.Where(")) {
			t.Errorf("%s: use Call.Fail and Call.Position, not LState.RaiseError and LState.Where", name)
		}
	}
}
