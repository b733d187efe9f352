package datascript

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"runtime"
	"runtime/metrics"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/limpetlb/limpet/internal/testrace"
)

// A run looks at the clock now and then: after some instructions, or as much
// work in functions as is charged like them. What passes between two looks is
// how late it may notice that its time is over.
// Pattern matching has a budget of its own for the whole run, of some 20 ms,
// and does not look meanwhile. What is allocated between two looks is besides
// the 64 MiB that an event is reckoned with.
const (
	mostLate    = 20 * time.Millisecond
	patternLate = 50 * time.Millisecond
	mostBytes   = 8 << 20
)

// sizedValues are expressions for values of a size. Those of a kind with
// another are tried with -full only.
var sizedValues = []struct {
	name, source string
	most         int // size, as the time to make it allows
	more         bool
}{
	{"text", `local v = ("x"):rep(n)`, 1e6, false},
	{"digits", `local v = ("1"):rep(n)`, 1e6, false},
	{"hex digits", `local v = "0x" .. ("f"):rep(n - 2)`, 1e6, true},
	{"spaces", `local v = (" "):rep(n)`, 1e6, true},
	{"escapes", `local v = ("%41"):rep(n / 3)`, 1e6, false},
	{"control characters", `local v = ("\1"):rep(n)`, 1e6, false},
	{"upper case", `local v = ("aB"):rep(n / 2)`, 1e6, true},
	{"slashes", `local v = ("/"):rep(n)`, 1e6, false},
	{"query", `local v = ("a=b&"):rep(n / 4)`, 1e6, true},
	{"cookies", `local v = ("a=b; "):rep(n / 5)`, 1e6, false},
	{"commas", `local v = (","):rep(n)`, 1e6, true},
	{"base64", `local v = ("QUJD"):rep(n / 4)`, 1e6, true},
	{"address", `local v = ("1:"):rep(n / 2)`, 1e6, true},
	{"format", `local v = ("%d"):rep(n / 2)`, 1e6, false},
	{"date format", `local v = ("%c"):rep(n / 2)`, 1e6, true},
	{"groups", `local v = ("()"):rep(n / 2)`, 1e6, true},
	{"stars", `local v = ("a*"):rep(n / 2)`, 1e6, true},
	{"array", `local v = {} for i = 1, n do v[i] = i % 7 end`, 1e4, false},
	{"strings", `local v = {} for i = 1, n do v[i] = "x" end`, 1e4, true},
	{"long strings", `local v, s = {}, ("x"):rep(n) for i = 1, 8 do v[i] = s end`, 1e6, false},
	{"keys", `local v = {} for i = 1, n do v["k" .. i] = "v" end`, 1e4, false},
	{"cleared keys", `local v = {} for i = 1, n do v["k" .. i] = 1 end for i = 1, n do v["k" .. i] = nil end v.last = 1`, 1e4, false},
	{"cleared array", `local v = {} for i = 1, n do v[i] = 1 end for i = 2, n do v[i] = nil end`, 1e4, true},
	{"nested tables", `local v = {} for i = 1, n do v = {v} end`, 1e4, true},
	{"tables", `local v = {} for i = 1, n do v[i] = {a = i} end`, 1e4, false},
	{"number", `local v = n`, 1e6, true},
	{"negative number", `local v = -n`, 1e6, false},
}

// plainOperators are what the VM does itself, where nothing can be charged.
var plainOperators = map[string]string{
	"==": "function(v, w) return v == w end", "<": "function(v, w) return v < w end", "<=": "function(v, w) return v <= w end",
	"+": "function(v) return v + 1 end", "unary -": "function(v) return -v end",
	"t[v]": "function(v) return ({})[v] end", "t[v] =": "function(v) local t = {} t[v] = 1 end", "v[k]": "function(v) return v[1] end",
	"..": "function(v, w) return v .. w end", "#": "function(v) return #v end", "for": "function(v) for i = v, 1 do break end end",
	"pairs": "function(v) for _ in pairs(v) do break end end", "ipairs": "function(v) for _ in ipairs(v) do break end end",
}

// amplifiers are the lists of arguments in which a large value is tried.
func amplifiers(fitting []string) [][]string {
	lists := [][]string{{"v"}, {"v", "w"}, {"v", "1", "n"}}
	if *full || fitting == nil {
		lists = append(lists, [][]string{{"v", "v"}, {"v", `"x"`}, {`"x"`, "v"}, {"v", "1"}, {"v", "n"}, {"1", "v"}, {`"x"`, `"x"`, "v"}, {"v", "1", "v"}, {"v", `"%w+"`, `"%0"`}}...)
	}
	for i := range fitting {
		list := slices.Clone(fitting)
		list[i] = "v"
		lists = append(lists, list)
	}
	return lists
}

// An amplification is what some calls cost, and what they are charged.
type amplification struct {
	call, value string
	size        int
	charged     int
	interval    int // between looks at the clock
	took        time.Duration
	gap         time.Duration // the longest between two looks that came
	bytes       uint64        // likewise
}

// share is what a look at the clock comes after, if it does not come during
// these calls, as a multiple of them.
func (a amplification) share() float64 {
	return max(1, float64(a.interval)/float64(max(a.charged, 1)))
}

func (a amplification) late() time.Duration {
	return max(a.gap, time.Duration(float64(a.gap)*a.share()))
}

func (a amplification) memory() float64 { return float64(a.bytes) * a.share() }

func (a amplification) excessive() bool {
	most := mostLate
	switch name, _, _ := strings.Cut(a.call, "("); name {
	case "string.find", "string.match", "string.gmatch", "string.gfind", "string.gsub":
		most = patternLate
	}
	return a.late() > most || a.memory() > mostBytes
}

func (a amplification) String() string {
	return fmt.Sprintf("%s, %s of %d: %d charged, the clock read every %d: %v and %.0f bytes until it is (%v in all)",
		a.call, a.value, a.size, a.charged, a.interval, a.late(), a.memory(), a.took)
}

// measured is an exchange, services and a context, which notes what a script
// has used so far: the script asks for servers before and after what is
// measured, and the run asks the context whenever it looks at the clock.
type measured struct {
	context.Context
	*ableExchange
	fakePools
	state    *state
	begun    bool
	charged  int
	at, look time.Duration // in time of the thread
	bytes    uint64        // allocated at that time
	calls    []amplification

	longest time.Duration
	most    uint64
}

func (m *measured) Err() error {
	if m.begun {
		m.longest = max(m.longest, threadTime()-m.look)
		bytes := allocated()
		m.most = max(m.most, bytes-m.bytes)
		m.look, m.bytes = threadTime(), bytes
	}
	return nil
}

func (m *measured) Servers(pool string) (int, int, error) {
	if pool != "(mark)" {
		return m.fakePools.Servers(pool)
	}
	if m.begun {
		m.end()
		return 0, 0, nil
	}
	// The budget begins here, whatever it took to make the value.
	r := m.state.lua.LastRun()
	r.Grant(defaultInstructions)
	m.charged, m.bytes, m.begun = r.Left(), allocated(), true
	m.longest, m.most = 0, 0
	m.at = threadTime()
	m.look = m.at
	return 0, 0, nil
}

func (m *measured) end() {
	m.Err()
	m.begun = false
	r := m.state.lua.LastRun()
	m.calls = append(m.calls, amplification{
		took: threadTime() - m.at, gap: m.longest, bytes: m.most,
		charged: m.charged - r.Left(), interval: r.Interval(),
	})
	r.Grant(1 << 40)
}

func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// sizedRequests fill a request, or a response, with something of a size.
var sizedRequests = map[string]func(x *measured, n int){
	"plain":       func(*measured, int) {},
	"long header": func(x *measured, n int) { x.fill("X-Long", strings.Repeat("a", n)) },
	"many headers": func(x *measured, n int) {
		for i := range n / 16 {
			x.fill(fmt.Sprint("X-", i), "v")
		}
	},
	"one header often": func(x *measured, n int) {
		x.fill("x", slices.Repeat([]string{"v"}, n/4)...)
	},
	"many cookies": func(x *measured, n int) {
		x.original.Header.Set("Cookie", strings.Repeat("a=b; ", n/5))
		x.header["Set-Cookie"] = slices.Repeat([]string{"a=b; path=/"}, n/16)
	},
	"different cookies": func(x *measured, n int) {
		var cookies, lines []string
		for i := range n / 10 {
			cookies, lines = append(cookies, fmt.Sprint("c", i, "=v")), append(lines, fmt.Sprint("c", i, "=v; path=/"))
		}
		x.original.Header.Set("Cookie", strings.Join(cookies, "; "))
		x.header["Set-Cookie"] = lines
	},
	"different arguments": func(x *measured, n int) {
		var arguments []string
		for i := range n / 8 {
			arguments = append(arguments, fmt.Sprint("a", i, "=v"))
		}
		x.original.URL.RawQuery = strings.Join(arguments, "&")
	},
	"long cookie": func(x *measured, n int) {
		x.original.Header.Set("Cookie", "x="+strings.Repeat("%41", n/3))
		x.header["Set-Cookie"] = []string{"x=" + strings.Repeat("%41", n/3)}
	},
	"long query":     func(x *measured, n int) { x.original.URL.RawQuery = "x=" + strings.Repeat("%41", n/3) },
	"many arguments": func(x *measured, n int) { x.original.URL.RawQuery = strings.Repeat("a=b&", n/4) },
	"long path": func(x *measured, n int) {
		x.original.URL.Path, x.original.URL.RawPath = strings.Repeat("/A", n/2), strings.Repeat("/%41", n/4)
	},
	"long host": func(x *measured, n int) { x.original.Host = strings.Repeat("a.", n/2) },
}

func (m *measured) fill(name string, values ...string) {
	m.original.Header[http.CanonicalHeaderKey(name)] = values
	m.header[http.CanonicalHeaderKey(name)] = values
}

// TestAmplification searches the functions of the library, with large values
// in each place and with large requests, for calls that cost more than they
// are charged. A benign script may call them with what a client sends.
func TestAmplification(t *testing.T) {
	if testrace.Enabled {
		return // which takes time and memory of its own
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	limiter := newLimiter(t, RateLimit{Count: 1e9})
	m := &measured{}
	e := newEngine(t, Env{
		PoolGroups: fakePoolGroups{}, StringGroups: fakeStringGroups{}, Geo: fakeGeo{}, Reputations: fakeGeo{}, Tokens: fakeTokens{}, Tables: discardTables{},
		RateLimiters: map[string]*RateLimiter{"x": limiter}, RateProfile: &RateProfile{Limiter: limiter},
		Limits: Limits{Instructions: -1, Time: -1, HostTime: -1, AllocBytes: -1, HeldBytes: -1, Concurrent: -1},
	})
	e.env.Pools = m

	calls, ended := 0, 0                                                        // those that stopped the script
	events := []Event{HTTPReq, HTTPResp, HTTPReqData, HTTPRespData, RespFailed} // the first in which a function may be called
	// measure calls a function with one list of arguments after the other.
	measure := func(name, function, value, source string, n int, lists [][]string, request string) (all []amplification) {
		ev := HTTPReq
		if s := symbols[name]; s != nil {
			for _, ev = range events {
				if s.events.has(ev) {
					break
				}
			}
		}
		for len(lists) > 0 {
			var calls strings.Builder
			for _, list := range lists {
				fmt.Fprintf(&calls, "try(%s)\n", strings.Join(list, ", "))
			}
			s, err := Compile("search", Chunk{Event: ev, Source: fmt.Sprintf(`
				local n, f = %d, %s
				%s
				local w = v
				if type(v) == "string" then w = v:sub(1, -2) .. v:sub(-1) end
				local function try(...)
					avi.pool.get_servers("(mark)")
					for i = 1, 3 do pcall(f, ...) end
					avi.pool.get_servers("(mark)")
				end
				%s`, n, function, source, calls.String())})
			if err != nil {
				t.Fatal(name, ": ", err)
			}
			*m = measured{Context: t.Context(), ableExchange: &ableExchange{exchange: newExchange()}, state: newState(e)}
			m.respond(200, "10.1.1.1:80")
			sizedRequests[request](m, n)
			m.EditRequest() // whose copy is the host's
			if err := e.lua.Gate().Enter(m, true); err != nil {
				t.Fatal(err)
			}
			err, _ = m.state.exec(m, s, ev, m)
			m.state.lua.Leave()
			switch {
			case m.begun:
				m.end()
				ended++
			case len(m.calls) < len(lists):
				t.Fatalf("%s: %s of %d: ended after %d calls: %v", name, value, n, len(m.calls), err)
			}
			for i := range m.calls {
				a := &m.calls[i]
				a.call, a.value, a.size = name+"("+strings.Join(lists[i], ", ")+")", cmp.Or(value, request), n
			}
			all = append(all, m.calls...)
			lists = lists[len(m.calls):]
		}
		return all
	}
	var found []amplification
	// try measures, again where the machine may have had other work.
	try := func(name, function, value, source string, n int, lists [][]string, request string) {
		all := measure(name, function, value, source, n, lists, request)
		calls += len(all)
		for i, a := range all {
			for attempt := 0; attempt < 5 && a.excessive(); attempt++ {
				a = measure(name, function, value, source, n, lists[i:i+1], request)[0]
			}
			if a.excessive() {
				found = append(found, a)
			}
		}
	}
	sizes := []int{1e6}
	if *full {
		sizes = []int{1e2, 1e3, 1e4, 1e5, 1e6}
	}
	fitting := map[string][]string{
		"string.rep": {`"x"`, "3"}, "string.gsub": {`"x"`, `"x"`, `"y"`, "9"}, "string.find": {`"x"`, `"x"`, "1", "true"}, "string.match": {`"x"`, `"x"`},
		"string.format": {`"%s%q%5.1f"`, `"x"`, `"x"`, "1"}, "table.concat": {"{1, 2}", `","`, "1", "2"}, "table.insert": {"{}", "1", "1"}, "table.remove": {"{}", "1"},
		"table.sort": {"{2, 1}", "function() end"}, "select": {"1", "2"}, "unpack": {"{}", "1", "3"}, "tonumber": {`"1"`, "16"}, "os.date": {`"x"`, "1"}, "os.time": {"{year = 2000, month = 1, day = 1}"},
		"next": {"{}", "nil"}, "string.gmatch": {`"x"`, `"x"`},
	}
	for _, f := range typedArguments {
		fitting[f.name] = strings.Split(f.arguments, "|")
	}
	began := time.Now()
	functions := map[string]string{}
	for _, name := range functionNames() {
		if !isOperator(name) && !slices.Contains(unsupportedNames, name) {
			functions[name] = name
		}
	}
	maps.Copy(functions, plainOperators)
	names := make([]string, 0, len(functions))
	for name := range functions {
		names = append(names, name)
	}
	slices.Sort(names)
	for i, name := range names {
		if testing.Short() && i%64 > 0 {
			continue
		}
		lists := amplifiers(fitting[name])
		for _, n := range sizes {
			for _, v := range sizedValues {
				if *full && n <= v.most || !*full && !v.more {
					try(name, functions[name], v.name, v.source, min(n, v.most), lists, "plain")
				}
			}
		}
		if strings.HasPrefix(name, "avi.http") {
			lists := [][]string{nil, {`"x"`}, {`"x"`, `"y"`}, {"avi.HTTP_REQUEST"}, {"1", "3"}, {"true"}}
			if f := fitting[name]; f != nil {
				lists = append(lists, f)
			}
			for _, n := range sizes {
				for request := range sizedRequests {
					try(name, functions[name], "", "local v", n, lists, request)
					slices.Reverse(events[:2])
					try(name, functions[name], "", "local v", n, lists, request)
					slices.Reverse(events[:2])
				}
			}
		}
	}
	slices.SortFunc(found, func(a, b amplification) int {
		return cmp.Or(cmp.Compare(a.call, b.call), cmp.Compare(b.took, a.took))
	})
	t.Logf("%d calls in %v, %d of which ended the script", calls, time.Since(began), ended)
	for _, a := range found {
		t.Error(a)
	}
}

// A function is charged for what it does, not for what it has built before: a
// benign script joins the lines of a body.
func TestConcatIsChargedOnce(t *testing.T) {
	if _, err := runRequest(t, newEngine(t, Env{}), `
		local t = {}
		for i = 1, 10000 do t[i] = "0123456789" end
		assert(#table.concat(t, "\r\n") == 119998)`); err != nil {
		t.Error(err)
	}
}
