package datascript

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/limpetlb/limpet/internal/testrace"
)

// oddArguments are expressions for values of every type and size.
var oddArguments = []string{
	"nil", "true", "false", "0", "-1", "1", "2.5", "1e308", "-1e308", "2^31", "2^53", "0/0", "1/0", "-1/0",
	`""`, `"x"`, `"10"`, `" \0\r\n\255"`, `"%s%d"`, `"[%"`, `"a: b; c=d, e"`, `("x"):rep(70000)`, `("%"):rep(1000)`,
	"{}", "{1, 2, 3}", "{a = 1, b = {c = 2}}", "{'a', n = 1e9}", "cyclic", "hostile", "print", "function() error({}) end",
	"avi.QUERY_TABLE", "avi.HTTP_RESPONSE", "avi.vs", "string", "avi.HTTP_GET", `"my_pool"`, `"10.1.1.1"`,
}

// oddPrelude makes the values that need names.
const oddPrelude = `local cyclic = {} cyclic.a = cyclic cyclic[1] = cyclic
local hostile = setmetatable({}, {__index = error, __newindex = error, __tostring = error, __eq = error, __lt = error, __call = error, __concat = error, __len = error})
`

// argumentLists are lists of arguments for a function: each value in each
// place of a call that fits, if one is known, and of others; random ones, and
// many.
func argumentLists(rng *rand.Rand, fitting []string) [][]string {
	lists := [][]string{nil}
	for n := range max(len(fitting), 3) {
		for _, odd := range oddArguments {
			list := make([]string, max(n+1, len(fitting)))
			for i := range list {
				if list[i] = `"x"`; i < len(fitting) {
					list[i] = fitting[i]
				}
			}
			list[n] = odd
			lists = append(lists, list)
		}
	}
	for range 40 {
		list := make([]string, 1+rng.IntN(6))
		for i := range list {
			list[i] = oddArguments[rng.IntN(len(oddArguments))]
		}
		lists = append(lists, list)
	}
	return append(lists, []string{"unpack({}, 1, 250)"}, []string{`"x"`, "unpack({}, 1, 7000)"})
}

// Whatever is given to a function, the result is a value, an ordinary error
// or a budget that is spent, and neither shows anything of the host's.
func TestEveryFunctionOddArguments(t *testing.T) {
	limiter := newLimiter(t, RateLimit{Count: 1e9})
	e := newEngine(t, Env{
		PoolGroups: fakePoolGroups{}, StringGroups: fakeStringGroups{}, Geo: fakeGeo{}, Reputations: fakeGeo{}, Tokens: fakeTokens{}, Tables: discardTables{},
		RateLimiters: map[string]*RateLimiter{"x": limiter}, RateProfile: &RateProfile{Limiter: limiter},
	})
	fitting := map[string][]string{}
	for _, f := range typedArguments {
		fitting[f.name] = strings.Split(f.arguments, "|")
	}
	rng := rand.New(rand.NewPCG(33, 33))
	calls, failed := 0, 0
	for _, name := range functionNames() {
		if isOperator(name) {
			continue // which the language calls, not the script
		}
		for i, list := range argumentLists(rng, fitting[name]) {
			if slices.Contains(unsupportedNames, name) && i%8 > 0 || testrace.Enabled && i%32 > 0 {
				continue
			}
			if testing.Short() && i%32 > 0 {
				continue
			}
			for _, ev := range []Event{HTTPReq, HTTPResp, HTTPRespData, RespFailed} {
				if !symbols[name].events.has(ev) || ev != HTTPReq && i%5 > 0 && symbols[name].events.has(HTTPReq) {
					continue
				}
				calls++
				seen, err := oddCall(t, e, ev, name, list)
				if err != nil {
					failed++
				}
				if found := revealing.FindString(seen); found != "" {
					t.Errorf("%s(%s) in %v: reveals %q in %.200q", name, strings.Join(list, ", "), ev, found, seen)
				}
			}
		}
	}
	t.Logf("%d functions, %d calls, %d of which failed", len(functionNames()), calls, failed)
	if failed < calls/10 || failed > calls*9/10 {
		t.Errorf("%d of %d calls failed: the arguments are all of a kind", failed, calls)
	}
}

// oddCall calls a function, logs what it returns, and checks how it ended. It
// returns all that the script and a log could see.
func oddCall(t *testing.T, e *Engine, ev Event, name string, arguments []string) (seen string, err error) {
	t.Helper()
	x := &ableExchange{exchange: newExchange()}
	x.respond(200, "10.1.1.1:80")
	call := name + "(" + strings.Join(arguments, ", ") + ")"
	source := "avi.vs.log(" + call + ")"
	if strings.Contains(call, "cyclic") || strings.Contains(call, "hostile") {
		source = oddPrelude + source
	}
	err = runAt(t, e, ev, x, source)
	x.vars.Reset()
	seen = strings.Join(x.logs, "\n")
	var re *RuntimeError
	if err != nil {
		if !errors.As(err, &re) {
			t.Fatalf("%s in %v: error of type %T", call, ev, err)
		}
		if pe := (*PanicError)(nil); errors.As(err, &pe) {
			t.Errorf("%s in %v: %v\n%s", call, ev, pe, pe.Stack)
		}
		if len(re.Message) > defaultErrorBytes {
			t.Errorf("%s in %v: a message of %d bytes", call, ev, len(re.Message))
		}
		seen += re.Message + re.Traceback
	}
	return seen, err
}

// FuzzBindings calls any function with up to four arguments: odd values, which
// the bytes of pick choose, or text.
func FuzzBindings(f *testing.F) {
	names := functionNames()
	f.Add(uint8(0), []byte{0}, "")                                    // nothing
	f.Add(uint8(30), []byte{1, 200, 27}, "x: y\r\nz")                 // text that could end a header line
	f.Add(uint8(60), []byte{28, 28, 28, 28}, "%5c")                   // metamethods that fail
	f.Add(uint8(120), []byte{200, 7, 8, 11}, "10.0.0.1")              // an address, and numbers out of range
	f.Add(uint8(90), []byte{21, 200, 24}, "%a*(%d+)[^%s]-%b()%f[%w]") // a pattern
	limiter := newLimiter(f, RateLimit{Count: 1e9})
	e := newEngine(f, Env{
		PoolGroups: fakePoolGroups{}, StringGroups: fakeStringGroups{}, Geo: fakeGeo{}, Reputations: fakeGeo{}, Tokens: fakeTokens{}, Tables: discardTables{},
		RateLimiters: map[string]*RateLimiter{"x": limiter}, RateProfile: &RateProfile{Limiter: limiter},
	})
	f.Fuzz(func(t *testing.T, function uint8, pick []byte, text string) {
		name := names[int(function)%len(names)]
		if isOperator(name) || len(text) > 4<<10 {
			return
		}
		var arguments []string
		for _, p := range pick[:min(len(pick), 4)] {
			if int(p) < len(oddArguments) {
				arguments = append(arguments, oddArguments[p])
			} else {
				arguments = append(arguments, quoteLua(text))
			}
		}
		for _, ev := range []Event{HTTPReq, HTTPResp} {
			if symbols[name].events.has(ev) {
				oddCall(t, e, ev, name, arguments) // fails the test itself
			}
		}
	})
}
