package datascript

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The published listing, verbatim.
const listing = `-- HTTP Request Event --
pool = "my_pool"
client = avi.vs.client_ip() .. avi.vs.client_port()
server = avi.vs.table_lookup(client)
timeout = "300"

if server then
   avi.pool.select(pool, client)
end


-- HTTP Response Event --
if not server then
   avi.vs.table_insert(client, avi.pool.server_ip(), timeout)
end
`

// The second published listing: its response part has an "if" that misses
// its condition.
const brokenListing = `-- HTTP Request Event --
pool = "my_pool"
client = avi.http.get_header("referer")
server = avi.vs.table_lookup(client)
timeout = "300"

if server then
   avi.pool.select(pool, client)
end


-- HTTP Response Event --
if
   avi.vs.table_insert(avi.vs.client_ip(), avi.pool.server_ip(), timeout)
end
`

func TestCompileErrors(t *testing.T) {
	tests := []struct {
		name   string
		chunks []Chunk
		want   CompileError
		text   string
	}{
		{"second published listing", []Chunk{{Source: brokenListing}},
			CompileError{Script: "My Script", Event: HTTPResp, Line: 15, Token: "end", Message: "'then' expected"},
			`Failed to compile the datascript "My_Script_on_http_resp.ds": luac: My_Script_on_http_resp.ds:15: 'then' expected near 'end'`},
		{"end of file", []Chunk{{Event: HTTPReq, Source: "if a then\n b()\n"}},
			CompileError{Script: "My Script", Event: HTTPReq, Line: 3, Token: "<eof>", Message: "'end' expected (to close 'if' at line 1)"}, ""},
		{"own first line", []Chunk{{Event: HTTPReq, Source: "x =", Line: 40}},
			CompileError{Script: "My Script", Event: HTTPReq, Line: 40, Token: "<eof>", Message: "unexpected symbol"}, ""},
		{"goto", []Chunk{{Event: HTTPReq, Source: "goto done\n::done::"}},
			CompileError{Script: "My Script", Event: HTTPReq, Line: 1, Token: "done", Message: "'=' expected"}, ""},
		{"no source", nil, CompileError{Script: "My Script", Message: "no source"}, ""},
		{"no heading", []Chunk{{Source: "\n-- hello\n"}},
			CompileError{Script: "My Script", Message: "no event given and no event heading (a comment line such as '-- HTTP_REQ') found"}, ""},
		{"code above the first heading", []Chunk{{Source: "local x = 1\n-- HTTP_REQ\n"}},
			CompileError{Script: "My Script", Line: 1, Token: "local", Message: "code before the first event heading (a comment line such as '-- HTTP_REQ')"}, ""},
		{"heading twice", []Chunk{{Source: "-- HTTP_REQ\n-- HTTP_RESP\n-- HTTP_REQUEST\n"}},
			CompileError{Script: "My Script", Event: HTTPReq, Line: 3, Message: "a second heading for the same event"}, ""},
		{"event twice", []Chunk{{Event: HTTPReq}, {Event: HTTPReq}},
			CompileError{Script: "My Script", Event: HTTPReq, Message: "chunks 0 and 1 are for the same event"}, ""},
		{"no event", []Chunk{{Event: HTTPReq}, {Event: 77}},
			CompileError{Script: "My Script", Message: "chunk 1: invalid event 77"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := Compile("My Script", tt.chunks...)
			var ce *CompileError
			if s != nil || !errors.As(err, &ce) {
				t.Fatalf("Compile = %v, %v, want a *CompileError", s, err)
			}
			if diff := cmp.Diff(tt.want, *ce); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
			if tt.text != "" && err.Error() != tt.text {
				t.Errorf("text:\n%s\nwant:\n%s", err, tt.text)
			}
		})
	}
}

// Compile reports all headings with a fault, and one fault of each event.
func TestCompileErrorsAtOnce(t *testing.T) {
	_, err := Compile("s", Chunk{Source: `x = 1
-- HTTP_REQ
if x
-- HTTP_RESP
y = = 2
-- HTTP_REQUEST
if not lua at all
-- TCP_CLIENT_ACCEPT
nor this
-- LB_DONE
z = 3
-- HTTP_RESP_DATA
z = )`})
	if err == nil {
		t.Fatal("no error")
	}
	want := []string{
		`Failed to compile the datascript "s.ds": luac: s.ds:1: code before the first event heading (a comment line such as '-- HTTP_REQ') near 'x'`,
		`Failed to compile the datascript "s_on_http_req.ds": luac: s_on_http_req.ds:4: 'then' expected near '<eof>'`,
		`Failed to compile the datascript "s_on_http_resp.ds": luac: s_on_http_resp.ds:5: unexpected symbol near '='`,
		`Failed to compile the datascript "s_on_http_req.ds": luac: s_on_http_req.ds:6: a second heading for the same event`,
		`Failed to compile the datascript "s.ds": luac: s.ds:8: event TCP_CLIENT_ACCEPT is known, but not supported: limpet runs HTTP events`,
		`Failed to compile the datascript "s_on_http_resp_data.ds": luac: s_on_http_resp_data.ds:13: unexpected symbol near ')'`,
	}
	if diff := cmp.Diff(want, strings.Split(err.Error(), "\n")); diff != "" {
		t.Errorf("errors (-want +got):\n%s", diff)
	}
	if _, err := Compile("s", Chunk{Source: strings.Repeat("-- HTTP_REQ\n-- HTTP_RESP\n", 1000)}); err == nil || strings.Count(err.Error(), "\n") > maxListingFaults {
		t.Errorf("%d lines", strings.Count(err.Error(), "\n"))
	}
}

func TestCompileDeepSource(t *testing.T) {
	for name, source := range map[string]string{
		"parentheses":  "x = " + strings.Repeat("(", 300) + "1" + strings.Repeat(")", 300),
		"not":          "x = " + strings.Repeat("not ", 10_000) + "1",
		"sum":          "x = 1" + strings.Repeat("+1", 30_000),
		"concat":       "x = ''" + strings.Repeat("..''", 10_000),
		"fields":       "x = a" + strings.Repeat(".b", 20_000),
		"calls":        "f" + strings.Repeat("()", 20_000),
		"elseif":       "if a then " + strings.Repeat("elseif b then ", 4_500) + "end",
		"functions":    strings.Repeat("function f() ", 300) + strings.Repeat("end ", 300),
		"too long":     strings.Repeat("a = 1 ", 20_000),
		"tables":       "x = " + strings.Repeat("{", 300) + strings.Repeat("}", 300),
		"many locals":  strings.Repeat("local a ", 300),
		"many globals": "x = 1", // what is left must still compile
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Compile("deep", Chunk{Event: HTTPReq, Source: source})
			var ce *CompileError
			if name == "many globals" {
				if err != nil {
					t.Fatal(err)
				}
			} else if !errors.As(err, &ce) || ce.Line == 0 {
				t.Errorf("error %v, want a CompileError with a line", err)
			}
		})
	}
}

func TestListing(t *testing.T) {
	source := "-- a comment at the top\n\n" + // 1, 2
		"-- HTTP_REQ\n" + // 3
		"a = [[\n-- HTTP_RESP\n]] -- not a heading\n" + // 4 to 6
		"--[==[\n-- HTTP_RESP --\n]==]\n" + // 7 to 9
		"b = '-- HTTP_RESP'\n" + // 10
		"--- vs_datascript_evt_http_resp:\n" + // 11
		"error('here')\n" + // 12
		"-- HTTP LB Done --\n" // 13
	s := mustCompile(t, Chunk{Source: source, Line: 101})
	for ev := Event(1); ev < numEvents; ev++ {
		if want := ev == HTTPReq || ev == HTTPResp || ev == LBDone; s.Handles(ev) != want {
			t.Errorf("Handles(%v) = %v", ev, !want)
		}
	}
	x := newExchange()
	x.respond(200, "10.1.1.1:80")
	err := newEngine(t, Env{}).Run(t.Context(), s, HTTPResp, x)
	if want := `[string "My Script"]:112: here`; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

func TestParseEvent(t *testing.T) {
	for name, want := range map[string]Event{
		"HTTP_REQ": HTTPReq, "http_req": HTTPReq, " HTTP Request ": HTTPReq, "VS_DATASCRIPT_EVT_HTTP_REQ": HTTPReq,
		"HTTP_REQUEST_DATA": HTTPReqData, "VS_DATASCRIPT_EVT_HTTP_LB_DONE": LBDone, "HTTP LB Done": LBDone,
		"VS_DATASCRIPT_EVT_HTTP_RESP_FAILED": RespFailed, "HTTP_AUTH": HTTPAuth, "http-post-auth": HTTPPostAuth,
	} {
		got, err := ParseEvent(name)
		if got != want || err != nil {
			t.Errorf("ParseEvent(%q) = %v, %v, want %v", name, got, err, want)
		}
		text, err := got.MarshalText()
		var back Event
		if err != nil || back.UnmarshalText(text) != nil || back != want {
			t.Errorf("%v does not survive MarshalText: %q, %v", want, text, err)
		}
	}
	if _, err := ParseEvent("HTTP_NOPE"); err == nil || !strings.HasPrefix(err.Error(), `unknown event "HTTP_NOPE", not one of HTTP_AUTH, `) {
		t.Errorf("error %v", err)
	}
}

// Scripts for events of TCP, TLS and DNS were refused as "unknown event", as if
// the name were misspelt.
func TestParseEventOfOtherProtocols(t *testing.T) {
	for name, want := range map[string]string{
		"VS_DATASCRIPT_EVT_TCP_CLIENT_ACCEPT": "TCP_CLIENT_ACCEPT", "tcp client accept": "TCP_CLIENT_ACCEPT",
		"SSL_HANDSHAKE_DONE": "SSL_HANDSHAKE_DONE", "VS_DATASCRIPT_EVT_CLIENT_SSL_PRE_CONNECT": "SSL_PRE_CONNECT", "SSL_PRECONNECT": "SSL_PRE_CONNECT",
		"VS_DATASCRIPT_EVT_CLIENT_SSL_CLIENT_HELLO": "SSL_CLIENT_HELLO", "ssl_clienthello": "SSL_CLIENT_HELLO",
		"DNS_REQ": "DNS_REQ", "VS_DATASCRIPT_EVT_DNS_RESP": "DNS_RESP", "L4_REQUEST": "L4_REQUEST", "VS_DATASCRIPT_EVT_L4_RESPONSE": "L4_RESPONSE",
		"VS_DATASCRIPT_EVT_CLIENT_CLOSED": "CLIENT_CLOSED", "VS_DATASCRIPT_EVT_SERVER_CLOSED": "SERVER_CLOSED", "VS_DATASCRIPT_EVT_SERVER_CONNECTED": "SERVER_CONNECTED",
	} {
		_, err := ParseEvent(name)
		var unsupported *UnsupportedEventError
		if !errors.As(err, &unsupported) || unsupported.Event != want {
			t.Errorf("ParseEvent(%q): error %v, want that %s is not supported", name, err, want)
			continue
		}
		if text := "event " + want + " is known, but not supported: limpet runs HTTP events"; err.Error() != text {
			t.Errorf("error %q, want %q", err, text)
		}
	}
}

// A listing with the heading of such an event was refused for "code before the
// first event heading", or ran that code as part of the event above.
func TestListingOfOtherProtocols(t *testing.T) {
	for _, tt := range []struct {
		name, source string
		line         int // of the heading that is refused; 0 for none
	}{
		{"first", "-- TCP_CLIENT_ACCEPT\navi.l4.read()", 1},
		{"configuration name", "-- VS_DATASCRIPT_EVT_DNS_REQ\navi.dns.read()", 1},
		{"below another", "-- HTTP_REQ\navi.vs.log('x')\n\n--- SSL_CLIENT_HELLO ---\nx = 1", 4},
		{"in words", "-- HTTP_REQ\n-- TCP Client Accept Event --\nx = 1", 2},
		{"words of a comment", "-- HTTP_REQ\n-- server connected\n-- client closed\nx = 1", 0},
		{"in a long string", "-- HTTP_REQ\nx = [[\n-- DNS_REQ\n]]", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Compile("s", Chunk{Source: tt.source, Line: 10})
			var ce *CompileError
			var unsupported *UnsupportedEventError
			switch {
			case tt.line == 0:
				if err != nil {
					t.Error(err)
				}
			case !errors.As(err, &ce) || ce.Line != 9+tt.line || !errors.As(err, &unsupported):
				t.Errorf("error %v, want one of line %d", err, tt.line)
			}
		})
	}
}

// A comment that was meant as a heading, and is not quite one, made its code
// part of the event above without a word.
func TestNearHeadings(t *testing.T) {
	for _, tt := range []struct {
		name, source string
		event        Event // of the chunk
		want         []string
	}{
		{"letter missing", "-- HTTP_REQ\nx = 1\n-- HTTP_RESPONS\ny = 1", 0, []string{`HTTP_REQ 3: "-- HTTP_RESPONS" is not an event; did you mean HTTP_RESP?`}},
		{"letters swapped", "-- HTTP_REQ\n--- HTTP_RSEP ---", 0, []string{`HTTP_REQ 2: "--- HTTP_RSEP ---" is not an event; did you mean HTTP_RESP?`}},
		{"two letters", "-- HTTP_REQ\n-- LB_DOEN_", 0, []string{`HTTP_REQ 2: "-- LB_DOEN_" is not an event; did you mean LB_DONE?`}},
		{"with a word", "-- HTTP_REQ\n-- http respose event --", 0, []string{`HTTP_REQ 2: "-- http respose event --" is not an event; did you mean HTTP_RESP?`}},
		{"configuration name", "-- HTTP_REQ\n-- VS_DATASCRIPT_EVT_HTTP_RESP_DTA", 0, []string{`HTTP_REQ 2: "-- VS_DATASCRIPT_EVT_HTTP_RESP_DTA" is not an event; did you mean HTTP_RESP_DATA?`}},
		{"of another protocol", "-- HTTP_REQ\n-- TCP_CLIENT_ACEPT", 0, []string{`HTTP_REQ 2: "-- TCP_CLIENT_ACEPT" is not an event; did you mean TCP_CLIENT_ACCEPT?`}},
		{"above the first heading", "-- HTTP_AUHT\n-- HTTP_REQ", 0, []string{`invalid 1: "-- HTTP_AUHT" is not an event; did you mean HTTP_AUTH?`}},
		{"sentence", "-- HTTP_REQ\n-- http response handling --\n-- http\n-- the request", 0, nil},
		{"in a long comment", "-- HTTP_REQ\n--[[\n-- HTTP_RESPONS\n]]", 0, nil},
		{"another event in a chunk with one", "x = 1\n-- HTTP_RESP\ny = 1\n-- HTTP_REQ", HTTPReq, []string{`HTTP_REQ 2: "-- HTTP_RESP" is only a comment here: all of the code runs in HTTP_REQ`}},
		{"another protocol in a chunk with an event", "-- DNS_REQ\nx = 1", HTTPReq, []string{`HTTP_REQ 1: "-- DNS_REQ" is only a comment here: all of the code runs in HTTP_REQ`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, w := range mustCompile(t, Chunk{Event: tt.event, Source: tt.source}).Warnings() {
				got = append(got, fmt.Sprintf("%v %v", w.Event, w))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
		})
	}
	_, err := Compile("s", Chunk{Source: "-- HTTP_REQEST\nx = 1"})
	if err == nil || !strings.Contains(err.Error(), `line 1: "-- HTTP_REQEST" is not an event; did you mean HTTP_REQ?`) {
		t.Errorf("error %v has no word of what was meant", err)
	}
}

func FuzzListing(f *testing.F) {
	f.Add(listing)                                 // the published form
	f.Add(brokenListing)                           // a fault in the second part
	f.Add("-- HTTP_REQ\na = [==[\n-- HTTP_RESP\n") // a long bracket without an end
	f.Add("-- HTTP_REQ\na = 'x\\\n-- HTTP_RESP\n") // a string that goes on in the next line
	f.Fuzz(func(t *testing.T, source string) {
		parts, _, _ := splitListing("fuzz", source, 1)
		lines := strings.Split(source, "\n")
		for _, p := range parts {
			// Each part is where it says it is.
			for i, l := range strings.Split(strings.TrimSuffix(p.Source, "\n"), "\n") {
				if at := p.Line - 1 + i; p.Source != "" && (at >= len(lines) || lines[at] != l) {
					t.Fatalf("part %v: line %d is %q", p.Event, at+1, l)
				}
			}
		}
	})
}

func FuzzScript(f *testing.F) {
	f.Add("x = 1")                                                                             // the simplest
	f.Add("local t = setmetatable({}, {__index = function(t, k) return t[k] end}) return t.x") // endless recursion
	f.Add("pcall(error, {}) for i = 1, 10 do x = (x or '') .. i end")                          // errors and concatenation
	f.Add("local s = ('a'):rep(100) return s:gsub('.', '%0%0'):find('a-b')")                   // patterns
	f.Add("return ...")                                                                        // varargs of the main chunk
	e, err := NewEngine(Env{Limits: Limits{Instructions: 20_000}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, source string) {
		s, err := Compile("fuzz", Chunk{Event: HTTPReq, Source: source})
		if err != nil {
			if _, ok := errors.AsType[*CompileError](err); !ok {
				t.Fatalf("error %v is not a CompileError", err)
			}
			return
		}
		var re *RuntimeError
		var pe *PanicError
		switch err := e.Run(t.Context(), s, HTTPReq, newExchange()); {
		case err == nil:
		case !errors.As(err, &re):
			t.Fatalf("error %v is not a RuntimeError", err)
		case errors.As(err, &pe):
			t.Fatalf("panic in %s: %v\n%s", pe.Function, pe.Value, pe.Stack)
		}
	})
}

func TestParseHeading(t *testing.T) {
	for _, c := range []struct {
		line string
		want Event // 0 for no heading
	}{
		{"-- HTTP_REQ", HTTPReq},
		{"-- HTTP Request Event --\n", HTTPReq},
		{"\t--- http_resp datascript ---", HTTPResp},
		{"--==== VS_DATASCRIPT_EVT_HTTP_LB_DONE ====", LBDone},
		{"-- HTTP_REQUEST_DATA script:", HTTPReqData},
		{"-- HTTP_REQ sets the pool", 0},
		{"-- event", 0},
		{"-- event --", 0},
		{"--", 0},
		{"HTTP_REQ", 0},
		{"x = 1 -- HTTP_REQ", 0},
		{"--" + strings.Repeat("-", 80) + " HTTP_REQ", 0},
		{"-- DNS_REQ", 0},
		{"", 0},
	} {
		if got, ok := ParseHeading(c.line); got != c.want || ok != (c.want != 0) {
			t.Errorf("ParseHeading(%q) = %v, %v; want %v", c.line, got, ok, c.want)
		}
	}
}
