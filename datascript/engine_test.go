package datascript

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet/internal/lua51"
)

func TestCustomPersistenceListing(t *testing.T) {
	tables := newTables()
	e := newEngine(t, Env{Tables: tables})
	s := mustCompile(t, Chunk{Source: listing})

	first := newExchange()
	if err := e.Run(t.Context(), s, HTTPReq, first); err != nil {
		t.Fatal(err)
	}
	if first.selected != "" {
		t.Errorf("first request selected %q", first.selected)
	}
	first.respond(200, "10.1.1.1:80")
	if err := e.Run(t.Context(), s, HTTPResp, first); err != nil {
		t.Fatal(err)
	}
	second := newExchange()
	if err := e.Run(t.Context(), s, HTTPReq, second); err != nil {
		t.Fatal(err)
	}
	if second.selected != "my_pool" || second.selAddr != "10.1.1.1:80" || second.selKey != "192.0.2.74711" || second.selEntry != "10.1.1.1" {
		t.Errorf("second request selected %q %q by key %q, entry %q", second.selected, second.selAddr, second.selKey, second.selEntry)
	}
	second.respond(200, "10.1.1.1:80")
	if err := e.Run(t.Context(), s, HTTPResp, second); err != nil {
		t.Fatal(err)
	}
	want := []string{
		`lookup "" "192.0.2.74711" 5m0s`,
		`insert "" "192.0.2.74711" "10.1.1.1" 5m0s`,
		`lookup "" "192.0.2.74711" 5m0s`,
		`lookup "" "192.0.2.74711" 0s`, // by select, which must not prolong it again
	}
	if diff := cmp.Diff(want, tables.calls); diff != "" {
		t.Errorf("calls of the table (-want +got):\n%s", diff)
	}
}

func TestGlobals(t *testing.T) {
	e := newEngine(t, Env{})
	a := mustCompile(t,
		Chunk{Event: HTTPReq, Source: `n = (n or 0) + 1 function get() return n end avi.vs.reqvar.shared = "a"`},
		Chunk{Event: HTTPResp, Source: `avi.vs.log(n, get(), avi.vs.reqvar.shared, other)`})
	b := mustCompile(t,
		Chunk{Event: HTTPReq, Source: `other = "b" avi.vs.log(n, avi.vs.reqvar.shared) avi.vs.reqvar.shared = nil`})
	for range 3 { // states are used again, and must not remember
		x := newExchange()
		for _, s := range []*Script{a, b} {
			if err := e.Run(t.Context(), s, HTTPReq, x); err != nil {
				t.Fatal(err)
			}
		}
		x.respond(200, "10.1.1.1:80")
		if err := e.Run(t.Context(), a, HTTPResp, x); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"nila", "11nilnil"}, x.logged()); diff != "" {
			t.Errorf("log (-want +got):\n%s", diff)
		}
		x.vars.Reset()
	}
}

// 64 clients with interleaved transactions never see each other's globals.
func TestGlobalsConcurrently(t *testing.T) {
	e := newEngine(t, Env{})
	s := mustCompile(t,
		Chunk{Event: HTTPReq, Source: `
			id = avi.http.get_header("X-Id")
			if seen then error("seen " .. seen) end
			seen = id
			closure = function() return seen, id end
			avi.vs.reqvar.id = id`},
		Chunk{Event: HTTPResp, Source: `
			local a, b = closure()
			avi.vs.log(id, " ", a, " ", b, " ", avi.vs.reqvar.id)`})
	var wg sync.WaitGroup
	for g := range 64 {
		wg.Go(func() {
			for i := range 50 {
				id := fmt.Sprintf("%d-%d", g, i)
				x := newExchange()
				x.original.Header.Set("X-Id", id)
				if err := e.Run(t.Context(), s, HTTPReq, x); err != nil {
					t.Error(err)
					return
				}
				x.respond(200, "10.1.1.1:80")
				if err := e.Run(t.Context(), s, HTTPResp, x); err != nil {
					t.Error(err)
					return
				}
				if want := strings.Join([]string{id, id, id, id}, " "); x.logged()[0] != want {
					t.Errorf("saw %q, want %q", x.logged()[0], want)
				}
				x.vars.Reset()
			}
		})
	}
	wg.Wait()
}

func TestBudgets(t *testing.T) {
	tests := []struct {
		name, source, budget string
		limits               Limits
	}{
		{"loop", "while true do end", "instructions", Limits{}},
		{"loop that catches", "while true do pcall(function() while true do end end) end", "instructions", Limits{}},
		{"loop in a handler", "xpcall(error, function() while true do end end) while true do end", "instructions", Limits{}},
		{"loop in a callback", "('x'):gsub('x', function() while true do end end)", "instructions", Limits{}},
		{"loop in a metamethod", "local t = setmetatable({}, {__index = function() while true do end end}) return t.x", "instructions", Limits{}},
		{"loop in tostring", "avi.vs.log(setmetatable({}, {__tostring = function() while true do end end}))", "instructions", Limits{}},
		{"loop in sort", "local t = {} for i = 1, 5000 do t[i] = -i end table.sort(t, function(a, b) return a < b end)", "instructions", Limits{Instructions: 50_000}},
		{"time", "while true do end", "time", Limits{Instructions: -1, Time: time.Millisecond}},
		{"rep", "return ('x'):rep(2^21)", "string bytes", Limits{}},
		{"rep of much", "return ('x'):rep(1e9)", "string bytes", Limits{}},
		{"doubling", "local s = 'x' while true do s = s .. s end", "string bytes", Limits{}},
		{"doubling caught", "local s = 'x' while true do pcall(function() s = s .. s end) end", "string bytes", Limits{}},
		{"concat", "local t = {} for i = 1, 100 do t[i] = ('x'):rep(20000) end return table.concat(t)", "string bytes", Limits{}},
		{"gsub", "return ('x'):rep(1000000):gsub('x', 'xx')", "string bytes", Limits{}},
		{"format", "local s = ('x'):rep(600000) return ('%s%s'):format(s, s)", "string bytes", Limits{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.limits.Time == 0 {
				tt.limits.Time = time.Minute // a busy machine must not matter
			}
			e := newEngine(t, Env{Limits: tt.limits})
			_, err := runRequest(t, e, tt.source)
			var be *BudgetError
			if !errors.As(err, &be) || !errors.Is(err, ErrBudget) || be.Budget != tt.budget {
				t.Fatalf("error %v, want a BudgetError of %s", err, tt.budget)
			}
			// The next request finds everything as it should be.
			x, err := runRequest(t, e, "avi.vs.log(('ok'):upper())")
			if err != nil || x.logged()[0] != "OK" {
				t.Errorf("next script: %v, %v", x.logs, err)
			}
			if st := e.Stats(); st.Discarded != 1 || st.Failures != 1 || st.Runs != 2 {
				t.Errorf("stats %+v: the state was not thrown away", st)
			}
		})
	}
}

func TestRuntimeError(t *testing.T) {
	x, err := runRequest(t, newEngine(t, Env{}), "local function f()\n  error('oh no')\nend\navi.vs.log('before')\nf()\n")
	var re *RuntimeError
	if !errors.As(err, &re) {
		t.Fatalf("error %v", err)
	}
	want := &RuntimeError{
		Script: "My Script", Event: HTTPReq, Line: 2,
		Message: `[string "My Script"]:2: oh no`,
		Traceback: "stack traceback:\ncoroutine 0:\n  [C]: in function 'error'\n" +
			"  [string \"My Script\"]:2: in function 'f'\n" +
			"  [string \"My Script\"]:5: in function <[string \"My Script\"]:1>",
	}
	if diff := cmp.Diff(want, re); diff != "" {
		t.Errorf("error (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{`[string "My Script"]:4: before`}, x.logs); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}

func TestErrorText(t *testing.T) {
	for source, want := range map[string]string{
		"error('100% %s %d')": `[string "My Script"]:1: 100% %s %d`,
		"error('x', 0)":       "x",
		"error({})":           "(error object is a table value)",
		"error()":             "(error object is a nil value)",
		"error(setmetatable({}, {__tostring = function() while true do end end}))": "(error object is a table value)",
		"assert(false)":                        `[string "My Script"]:1: assertion failed!`,
		"assert(nil, 'no')":                    `[string "My Script"]:1: no`,
		"avi.l4.read()":                        `[string "My Script"]:1: avi.l4.read: not supported`,
		"avi.http.status()":                    `[string "My Script"]:1: avi.http.status: not allowed in event HTTP_REQ`,
		"avi.pool.select('other')":             `[string "My Script"]:1: pool "other" not found`,
		"avi.ipgroup.contains('x', '1.2.3.4')": `[string "My Script"]:1: unknown ip group "x"`,
		"('x'):contains(nil)":                  `[string "My Script"]:1: bad argument #1 to 'contains' (string expected, got nil)`,
		"string.contains()":                    `[string "My Script"]:1: bad argument #1 to 'contains' (string expected, got no value)`,
		"avi.vs.log(1 .. {})":                  `[string "My Script"]:1: attempt to concatenate a table value`,
		"return 'a' + 1":                       `[string "My Script"]:1: attempt to perform arithmetic on a string value`,
		"avi.vs.x = 1":                         `[string "My Script"]:1: attempt to change a read-only table`,
		"rawset(avi.vs, 'x', 1)":               `[string "My Script"]:1: attempt to change a read-only table`,
		"table.insert(avi.vs, 1)":              `[string "My Script"]:1: attempt to change a read-only table`,
		"setmetatable(avi.vs, {})":             `[string "My Script"]:1: cannot change a protected metatable`,
		"setmetatable('', {})":                 `[string "My Script"]:1: bad argument #1 to 'setmetatable' (table expected, got string)`,
		"local t = {} rawset(t, nil, 1)":       `table index is nil`,
		"return unpack({}, 1, 1e8)":            `[string "My Script"]:1: too many results to unpack`,
	} {
		_, err := runRequest(t, newEngine(t, Env{}), source)
		if err == nil || err.Error() != want {
			t.Errorf("%s\n got %v\nwant %s", source, err, want)
		}
	}
	_, err := runRequest(t, newEngine(t, Env{}), "error(('x'):rep(1000000), 0)")
	if err == nil || len(err.Error()) > defaultErrorBytes {
		t.Errorf("an error of %d bytes was not cut", len(err.Error()))
	}
}

func TestRollback(t *testing.T) {
	change := `
		avi.http.add_header("X-New", "1")
		avi.http.replace_header("Referer", "elsewhere")
		avi.http.remove_header("Cookie")
		avi.http.replace_header("Host", "other")
		avi.http.set_path("/changed")
		avi.http.set_query("q=1")
		avi.pool.select("my_pool")
		avi.http.response(403)
		avi.http.close_conn()
	`
	e := newEngine(t, Env{})
	x, err := runRequest(t, e, change+"error('too late')")
	if err == nil {
		t.Fatal("no error")
	}
	untouched := newExchange()
	if diff := cmp.Diff(untouched.out.Header, x.out.Header); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
	if x.out.Host != untouched.out.Host || x.out.URL.String() != untouched.out.URL.String() {
		t.Errorf("sent to %s%s", x.out.Host, x.out.URL)
	}
	if x.reply != nil || x.closed != "" || x.selected != "" {
		t.Errorf("decided %v %q %q", x.reply, x.closed, x.selected)
	}

	x, err = runRequest(t, e, change)
	if err != nil {
		t.Fatal(err)
	}
	if got := x.out.Host + x.out.URL.RequestURI(); got != "other/changed?q=1" {
		t.Errorf("without the error, sent to %s", got)
	}
	if x.out.Header.Get("X-New") != "1" || x.out.Header.Get("Referer") != "elsewhere" || x.out.Header.Get("Cookie") != "" {
		t.Errorf("without the error, header %v", x.out.Header)
	}
	if x.reply == nil || x.reply.status != 403 || x.closed != "reset=false" || x.selected != "my_pool" {
		t.Errorf("without the error, decided %v %q %q", x.reply, x.closed, x.selected)
	}
	if diff := cmp.Diff(untouched.original.Header, x.original.Header); diff != "" {
		t.Errorf("the original's header changed (-want +got):\n%s", diff)
	}
}

func TestHostPanic(t *testing.T) {
	tables := newTables()
	tables.panic = true
	e := newEngine(t, Env{Tables: tables})
	x, err := runRequest(t, e, "avi.vs.log(pcall(avi.vs.table_lookup, 'k')) avi.vs.log('never')")
	var pe *PanicError
	if !errors.As(err, &pe) || pe.Function != "avi.vs.table_lookup" || pe.Value != "secret of the host" || !strings.Contains(string(pe.Stack), "fakeTables") {
		t.Errorf("error %v, want a PanicError with the stack", err)
	}
	if n := e.lua.Gate().Load(); n != (lua51.Load{}) {
		t.Errorf("%+v left in the gate", n)
	}
	if strings.Contains(err.Error(), "secret") || len(x.logs) != 0 {
		t.Errorf("the script, or its message, saw the panic: %v, %v", err, x.logs)
	}
	if e.Stats().Discarded != 1 {
		t.Error("the state was not thrown away")
	}
}

func TestServiceError(t *testing.T) {
	tables := newTables()
	tables.err = errors.New("store is down")
	_, err := runRequest(t, newEngine(t, Env{Tables: tables}), "avi.vs.table_lookup('k')")
	if !errors.Is(err, tables.err) || err.Error() != `[string "My Script"]:1: store is down` {
		t.Errorf("error %v", err)
	}
}

func TestCancel(t *testing.T) {
	e := newEngine(t, Env{Limits: Limits{Instructions: -1, Time: -1}})
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("client gone")
	s := mustCompile(t, Chunk{Event: HTTPReq, Source: "while true do end"})
	done := make(chan error)
	go func() { done <- e.Run(ctx, s, HTTPReq, newExchange()) }()
	cancel(gone)
	if err := <-done; !errors.Is(err, gone) {
		t.Errorf("error %v, want the cause", err)
	}
}

func TestLogLimits(t *testing.T) {
	x, err := runRequest(t, newEngine(t, Env{}), `for i = 1, 1000 do avi.vs.log("a\nb\r\0c") end`)
	if err != nil || len(x.logs) != defaultLogLines {
		t.Errorf("%d lines, error %v", len(x.logs), err)
	}
	if want := `[string "My Script"]:1: a\nb\r\0c`; x.logs[0] != want {
		t.Errorf("line %q, want %q", x.logs[0], want)
	}
	x, err = runRequest(t, newEngine(t, Env{}), `for i = 1, 10 do avi.vs.log(("x"):rep(10000)) end`)
	size := 0
	for _, l := range x.logs {
		size += len(l)
	}
	if err != nil || size != defaultLogBytes {
		t.Errorf("%d bytes, error %v, want %d", size, err, defaultLogBytes)
	}
}
