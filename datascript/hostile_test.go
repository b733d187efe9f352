package datascript

import (
	"context"
	"errors"
	"flag"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	lua "github.com/yuin/gopher-lua"

	"github.com/limpetlb/limpet/internal/testrace"
)

var (
	update     = flag.Bool("update", false, "rewrite testdata/reachable.txt")
	full       = flag.Bool("full", false, "run TestSealNonces and TestAmplification at full length")
	allHostile = flag.Bool("hostile", false, "run every hostile script in a process of its own")
)

// hostileScripts are the scripts of testdata/hostile by name. The first line
// of each says what it tries.
func hostileScripts(t testing.TB) map[string]string {
	t.Helper()
	files, err := filepath.Glob("testdata/hostile/*.lua")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 80 {
		t.Fatalf("only %d scripts in testdata/hostile", len(files))
	}
	scripts := map[string]string{}
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(source), "-- ") {
			t.Errorf("%s: the first line does not say what the script tries", file)
		}
		scripts[strings.TrimSuffix(filepath.Base(file), ".lua")] = string(source)
	}
	return scripts
}

// sortedNames returns the names of scripts, with -short a quarter of them and
// those that pollute.
func sortedNames(scripts map[string]string) []string {
	names := make([]string, 0, len(scripts))
	for name := range scripts {
		names = append(names, name)
	}
	slices.Sort(names)
	if testing.Short() {
		i := 0
		names = slices.DeleteFunc(names, func(name string) bool {
			i++
			return i%4 > 0 && !strings.HasPrefix(name, "pollute-")
		})
	}
	return names
}

// probe describes all that a script can see of its surroundings.
const probe = `
local function show(name, value)
  local kinds = {}
  for k, v in pairs(value) do kinds[#kinds + 1] = tostring(k) .. ":" .. type(v) end
  table.sort(kinds)
  avi.vs.log(name, " ", table.concat(kinds, " "))
end
avi.vs.log(leaked, x, y, client, server, big, f, g, it, nx, evil, n, _G, getfenv, avi_HTTP_GET)
show("string", string) show("table", table) show("math", math) show("os", os)
show("avi", avi) show("avi.vs", avi.vs) show("avi.http", avi.http) show("avi.pool", avi.pool)
show("reqvar", avi.vs.reqvar)
avi.vs.log(getmetatable(""), getmetatable(avi), getmetatable(avi.vs), getmetatable(string), getmetatable(avi.vs.reqvar))
avi.vs.log(getmetatable(1), getmetatable(true), getmetatable(print), getmetatable(nil), getmetatable({}), getmetatable(avi.HTTP_REQUEST))
avi.vs.log(("aBc"):upper(), ("aBc"):lower(), ("abc"):sub(2, 2), ("a,b"):split(",")[2], #"abc", "1" + 1, ("x").evil)
avi.vs.log(avi.HTTP_GET, math.pi, math.floor(1.5), _VERSION, os.time{year = 2000, month = 1, day = 1, hour = 0})
avi.vs.log(pcall(error, "x"), select("#", unpack({1, 2, 3})), (pcall(rawset, avi.vs, "log", 1)))
avi.vs.log(avi.http.get_path(), avi.http.get_header("X-Evil"))
`

// probed runs the probe and returns what it found.
func probed(t testing.TB, e *Engine) string {
	t.Helper()
	x, err := runRequest(t, e, probe)
	if err != nil {
		t.Errorf("probe: %v", err)
	}
	return strings.Join(x.logs, "\n")
}

// revealing is what no script and no client may see: texts of the Go runtime
// and of the VM's code, and addresses.
var revealing = regexp.MustCompile(`runtime error|goroutine|interface conversion|lua\.L|panic|nil pointer|0x[0-9a-f]{8,}|\.go:|gopher`)

// misbehave runs a hostile script and returns how much of the processor's time
// it took.
func misbehave(t testing.TB, e *Engine, name, source string) time.Duration {
	t.Helper()
	x := newExchange()
	s, err := Compile("My Script", Chunk{Event: HTTPReq, Source: source})
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return 0
	}
	runtime.LockOSThread()
	start := threadTime()
	err = e.Run(context.Background(), s, HTTPReq, x)
	took := threadTime() - start
	runtime.UnlockOSThread()
	seen := strings.Join(x.logs, "\n")
	if err != nil {
		var re *RuntimeError
		if !errors.As(err, &re) {
			t.Errorf("%s: error of type %T", name, err)
			return took
		}
		if pe, ok := errors.AsType[*PanicError](err); ok {
			t.Errorf("%s: %v\n%s", name, pe, pe.Stack)
		}
		if len(re.Message) > defaultErrorBytes || len(re.Traceback) > defaultErrorBytes {
			t.Errorf("%s: message of %d bytes, traceback of %d", name, len(re.Message), len(re.Traceback))
		}
		seen += "\n" + re.Message + "\n" + re.Traceback
	}
	if found := revealing.FindString(seen); found != "" && !strings.Contains(source, found) {
		t.Errorf("%s: reveals %q in\n%s", name, found, seen)
	}
	if len(x.logs) > defaultLogLines {
		t.Errorf("%s: %d lines of log", name, len(x.logs))
	}
	x.vars.Reset()
	return took
}

// discardTables stores nothing, in no time, and forgets nothing either.
type discardTables struct{}

func (discardTables) Insert(context.Context, string, string, string, time.Duration) (bool, error) {
	return true, nil
}
func (discardTables) Lookup(context.Context, string, string, time.Duration) (string, time.Duration, bool, error) {
	return "", 0, false, nil
}
func (discardTables) Refresh(context.Context, string, string, time.Duration) (bool, error) {
	return false, nil
}
func (discardTables) Remove(context.Context, string, string) error { return nil }

// No script, however hostile, delays a request, breaks anything or leaves
// anything behind. What it costs the processor is bounded by what a plain loop
// costs that spends the same instructions: a script that caught one stack
// overflow after the other took four times as long.
func TestHostile(t *testing.T) {
	scripts := hostileScripts(t)
	clean := probed(t, newEngine(t, Env{}))
	engine := func() *Engine {
		return newEngine(t, Env{Tables: discardTables{}, Limits: Limits{Time: hostileTime()}})
	}
	plain := time.Duration(math.MaxInt64)
	for range 5 {
		plain = min(plain, misbehave(t, engine(), "loop-for-huge", scripts["loop-for-huge"]))
	}
	var slowest time.Duration
	var slowestName string
	for _, name := range sortedNames(scripts) {
		e := engine()
		took := misbehave(t, e, name, scripts[name])
		most := 3 * plain
		for again := 0; took > most && again < 20 && !testrace.Enabled; again++ {
			// Beside each other, since other programs slow down both.
			most = 3 * misbehave(t, engine(), "loop-for-huge", scripts["loop-for-huge"])
			took = misbehave(t, engine(), name, scripts[name])
		}
		if took > most && !testrace.Enabled {
			t.Errorf("%s: took %v of the processor's time, a plain loop %v", name, took, plain)
		}
		if took > slowest {
			slowest, slowestName = took, name
		}
		e.lua.Limits().Time = time.Minute // for the probe alone
		if got := probed(t, e); got != clean {
			t.Errorf("%s: left behind\n%s\nwant\n%s", name, got, clean)
		}
		if s := e.Stats(); s.Discarded != s.Failures || s.Runs != 2 {
			t.Errorf("%s: %+v: states thrown away and failures must be as many", name, s)
		}
	}
	t.Logf("%d scripts; the slowest, %s, took %v, a plain loop %v", len(scripts), slowestName, slowest, plain)
}

// hostileTime keeps the race detector, with which everything takes longer, from
// making hours of it.
func hostileTime() time.Duration {
	if testrace.Enabled {
		return defaultTime / 10
	}
	return defaultTime
}

// The same in parallel, on states that all share.
func TestHostileParallel(t *testing.T) {
	scripts := hostileScripts(t)
	names := sortedNames(scripts)
	e := newEngine(t, Env{Tables: discardTables{}, Limits: Limits{Time: 4 * time.Millisecond, Concurrent: -1}})
	clean := probed(t, newEngine(t, Env{Limits: Limits{Time: time.Minute}}))
	var wg sync.WaitGroup
	goroutines := 64
	if testing.Short() {
		goroutines = 16
	}
	for g := range goroutines {
		wg.Go(func() {
			for i := range 6 {
				name := names[(g*6+i)%len(names)]
				misbehave(t, e, name, scripts[name])
				x := newExchange()
				s := mustCompile(t, Chunk{Event: HTTPReq, Source: probe})
				if err := e.Run(context.Background(), s, HTTPReq, x); err != nil {
					if errors.Is(err, ErrBudget) {
						continue // of time, on a busy machine
					}
					t.Errorf("after %s: %v", name, err)
				} else if got := strings.Join(x.logs, "\n"); got != clean {
					t.Errorf("after %s: left behind\n%s\nwant\n%s", name, got, clean)
				}
				x.vars.Reset()
			}
		})
	}
	wg.Wait()
	if s := e.Stats(); s.Discarded != s.Failures {
		t.Errorf("%+v: states thrown away and failures must be as many", s)
	}
}

// Iterators and functions that a request event leaves work in the response
// event, which another state runs.
func TestKeptForLaterEvents(t *testing.T) {
	e := newEngine(t, Env{})
	s := mustCompile(t,
		Chunk{Event: HTTPReq, Source: `it = ("a b c"):gmatch("%a") it() step, array, at = ipairs({1, 2, 3}) upper = string.upper getpath = avi.http.get_path`},
		Chunk{Event: HTTPResp, Source: `avi.vs.log(it(), " ", it(), " ", it(), " ", step(array, 1), " ", upper("x"), " ", getpath())`})
	for range 50 {
		x := newExchange()
		if err := e.Run(t.Context(), s, HTTPReq, x); err != nil {
			t.Fatal(err)
		}
		e.states.Get() // so that the response event has another state
		x.respond(200, "10.1.1.1:80")
		if err := e.Run(t.Context(), s, HTTPResp, x); err != nil || x.logged()[0] != "b c nil 2 X /a b/c" {
			t.Fatalf("log %q, error %v", x.logs, err)
		}
		x.vars.Reset()
	}
}

// What Go code keeps of a transaction's variables is empty after Reset.
func TestVarsAfterReset(t *testing.T) {
	e := newEngine(t, Env{})
	s := mustCompile(t, Chunk{Event: HTTPReq, Source: `a = "secret" avi.vs.reqvar.b = "secret" string.c = "secret"`})
	x := newExchange()
	if err := e.Run(t.Context(), s, HTTPReq, x); err != nil {
		t.Fatal(err)
	}
	tables := x.vars.lua.Tables()
	x.vars.Reset()
	for _, table := range tables {
		table.ForEach(func(k, v lua.LValue) { t.Errorf("global %v is still %v", k, v) })
	}
	if len(x.vars.lua.Tables()) != 0 {
		t.Errorf("variables are still there: %+v", x.vars)
	}
	after := mustCompile(t, Chunk{Event: HTTPReq, Source: `avi.vs.log(a, avi.vs.reqvar.b, string.c)`})
	if err := e.Run(t.Context(), after, HTTPReq, x); err != nil || x.logged()[0] != "nilnilnil" {
		t.Errorf("log %q, error %v", x.logs, err)
	}
}

// A leaving client is a request whose client is gone when the run has looked
// for it so often. It notes the longest time of the processor between two
// looks.
type leaving struct {
	context.Context
	looks         int // that find the client there
	last, longest time.Duration
}

func (l *leaving) Err() error {
	now := threadTime()
	if l.last > 0 {
		l.longest = max(l.longest, now-l.last)
	}
	l.last = now
	if l.looks--; l.looks < 0 {
		return context.Canceled
	}
	return nil
}

// A client that goes away ends a script soon: the run looks for it often.
func TestCancelSoon(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	e := newEngine(t, Env{Limits: Limits{Instructions: -1, Time: time.Minute}})
	for _, source := range []string{
		"while true do end",
		"local s = ('a'):rep(100000) while true do s:find('.-b') end",
		"while true do pcall(function() while true do end end) end",
		"local t = {} for i = 1, 30000 do t[i] = i end while true do table.insert(t, 1, 1) table.remove(t, 1) end",
	} {
		s := mustCompile(t, Chunk{Event: HTTPReq, Source: source})
		longest := time.Hour
		for again := 0; longest > 30*time.Millisecond && again < 20; again++ {
			ctx := &leaving{Context: t.Context(), looks: 20}
			err := e.Run(ctx, s, HTTPReq, newExchange())
			if !errors.Is(err, context.Canceled) && !errors.Is(err, ErrBudget) {
				t.Errorf("%s: %v", source, err)
			}
			if ctx.looks > -1 && errors.Is(err, context.Canceled) {
				t.Errorf("%s: ended before its client was gone", source)
			}
			longest = min(longest, ctx.longest)
			if testrace.Enabled {
				break
			}
		}
		if longest > 30*time.Millisecond && !testrace.Enabled {
			t.Errorf("%s: may end %v after its client", source, longest)
		}
	}
}
