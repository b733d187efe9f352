package datascript

import (
	"crypto/tls"
	"errors"
	"math/big"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

// TestAVI shows corners of the functions of avi that the cases in
// datascripttest leave out. The script is an expression list to log; want is
// the log, or a part of the error if it begins with "error: ".
func TestAVI(t *testing.T) {
	e := newEngine(t, Env{})
	for _, tt := range []struct {
		name   string
		event  Event
		source string
		want   string
	}{
		{"status of a reply", HTTPResp, `avi.http.response(404) avi.vs.log(avi.http.status(), " ", avi.http.get_header("content-type"))`, "404 text/plain"},
		{"redirect status", HTTPReq, `avi.http.redirect("/", 200)`, "error: status \"200\" is not between 301 and 308"},
		{"no redirect", HTTPReq, `avi.http.redirect("/", 304)`, "error: 304 is not the status of a redirect"},
		{"reply header name", HTTPReq, `avi.http.response(200, {["a b"] = "1"})`, `error: "a b" is not a header name`},
		{"reply header key", HTTPReq, `avi.http.response(200, {[print] = "1"})`, "error: header name expected, got function"},
		{"reply header framing", HTTPReq, `avi.http.response(200, {transfer_encoding = "chunked"})`, "error: is set by the proxy alone"},
		{"reply header length", HTTPReq, `avi.http.response(200, {content_length = 7}) avi.vs.log("ignored")`, "ignored"},
		{"reply header value", HTTPReq, `avi.http.response(200, {a = print})`, `error: value of header "a": string expected, got function`},
		{"reply header break", HTTPReq, `avi.http.response(200, {a = "b\nc"})`, "error: has a control character"},
		{"reply header array", HTTPReq, `avi.http.response(200, {a = {"b", true, 1}}) avi.vs.log("fine")`, "fine"},
		{"header host", HTTPReq, `avi.http.add_header("host", "h") avi.vs.log(avi.http.get_header("HOST"), " ", avi.http.hostname())`, "h www.example.com"},
		{"header host kept", HTTPReq, `avi.http.remove_header("Host") avi.vs.log(avi.http.get_header("Host"))`, "www.example.com:8080"},
		{"header host of a response", HTTPResp, `avi.http.replace_header("Host", "h")`, "error: Host is not a response header"},
		{"header side", HTTPReq, `avi.http.get_header("a", "REQUEST")`, "error: avi.HTTP_REQUEST or avi.HTTP_RESPONSE expected"},
		{"header of no response", HTTPReq, `avi.vs.log(avi.http.get_header("a", avi.HTTP_RESPONSE), " ", next(avi.http.get_header(avi.HTTP_RESPONSE)))`, "nil nil"},
		{"cookies of no response", HTTPReq, `avi.vs.log(avi.http.get_cookie("sid", avi.HTTP_RESPONSE), avi.http.cookie_exists("sid", avi.HTTP_RESPONSE), select(2, avi.http.get_cookie_names(avi.HTTP_RESPONSE)))`, "nilfalse0"},
		{"cookies of the request", HTTPResp, `avi.vs.log(avi.http.get_cookie("sid", avi.HTTP_REQUEST), avi.http.get_cookie("sid"))`, "abcnil"},
		{"path escapes", HTTPReq, `avi.http.set_path("x y%41%zz?") avi.vs.log(avi.http.get_path("MODIFIED", false), " ", avi.http.get_path("ORIGINAL"))`, "/x%20y%41%25zz%3F /a b/c"},
		{"query table", HTTPReq, `avi.http.set_query({b = {1, 2}, a = true, c = "", d = false, ["e f"] = "&"}) avi.vs.log(avi.http.get_query("MODIFIED"))`, "a&b=1&b=2&c=&e%20f=%26"},
		{"query table value", HTTPReq, `avi.http.set_query({a = print})`, "error: string expected, got function"},
		{"query table name", HTTPReq, `avi.http.set_query({[print] = 1})`, "error: argument name expected, got function"},
		{"query of the client", HTTPResp, `avi.vs.log(avi.http.get_query("x"), avi.http.get_query("y"), avi.http.get_query("z"), avi.http.get_query(avi.QUERY_STRING))`, "1truenilx=1&y"},
		{"uri without a path", HTTPReq, `avi.http.set_uri("http://other.example?q") avi.vs.log(avi.http.get_uri("MODIFIED"))`, "/?q"},
		{"tokens", HTTPResp, `avi.vs.log(avi.http.get_host_tokens(2, 9), " ", avi.http.get_host_tokens(0), avi.http.get_host_tokens("MODIFIED", 3), " ", avi.http.get_path_tokens(2), avi.http.get_path_tokens(3))`, "example.com nilcom cnil"},
		{"facts", HTTPResp, `avi.vs.log(avi.http.method(), avi.http.scheme(), avi.http.protocol(), avi.http.secure())`, "GEThttp://httpnil"},
		{"port", HTTPReq, `avi.pool.select("my_pool", "10.1.1.1", 65536)`, "error: is not between 1 and 65535"},
		{"server and port", HTTPReq, `avi.pool.select("my_pool", "10.1.1.1", "81")`, "error: server [10.1.1.1:81] not found"},
		{"empty server", HTTPReq, `avi.pool.select("my_pool", "")`, "error: server [] not found"},
		{"status of no pool", HTTPReq, `avi.pool.get_server_status("other", "10.1.1.1", 80)`, `error: pool "other" not found`},
		{"server in use", HTTPResp, `avi.vs.log(avi.pool.server_ip(), " ", avi.pool.name(), " ", select(2, avi.pool.get_server_info()), " ", avi.pool.get_servers())`, "10.1.1.1 my_pool 80 12"},
		{"no server yet", HTTPReq, `avi.vs.log(avi.pool.server_ip(), avi.pool.get_server_info(), avi.pool.name())`, "nilnilnil"},
		{"lifetimes", HTTPReq, `avi.vs.log(avi.vs.table_insert("t", "k", "v"), avi.vs.table_insert("k", "v", {}), avi.vs.table_insert("k", "v", -1e300), avi.vs.table_insert("k", "v", 0/0), avi.vs.table_insert(nil, "v"), avi.vs.table_insert("k", nil))`, "truefalsefalsefalsefalsefalse"},
		{"refresh", HTTPReq, `avi.vs.log(avi.vs.table_refresh(nil), avi.vs.table_refresh("t", "none", 5), avi.vs.table_refresh("none"))`, "falsefalsefalse"},
		{"extension", HTTPReq, `avi.vs.table_lookup("t", "k", {})`, "error: number expected, got table"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x := newExchange()
			if tt.event == HTTPResp {
				x.respond(200, "10.1.1.1:80")
			}
			err := runAt(t, e, tt.event, x, tt.source)
			got := strings.Join(x.logged(), "\n")
			if part, ok := strings.CutPrefix(tt.want, "error: "); ok {
				if err == nil || !strings.Contains(err.Error(), part) {
					t.Errorf("error %v, want %q", err, part)
				}
			} else if err != nil || got != tt.want {
				t.Errorf("error %v, log\n%s, want\n%s", err, got, tt.want)
			}
		})
	}
}

// What a script writes to headers is bounded in all, since the wire does not
// share strings.
func TestHeaderBudget(t *testing.T) {
	for _, tt := range []struct {
		event  Event
		source string
	}{
		{HTTPReq, `local v = ("x"):rep(1000) while true do pcall(avi.http.add_header, "X", v) end`},
		{HTTPReq, `local v = ("x"):rep(1000) while true do avi.http.replace_header("X", v) end`},
		{HTTPReq, `local v = ("x"):rep(1000) while true do avi.http.add_cookie("X", v) end`},
		{HTTPResp, `local v = ("x"):rep(1000) while true do avi.http.add_cookie("X", v) end`},
		{HTTPReq, `local v, t = ("x"):rep(1000), {} for i = 1, 2000 do t[i] = v end avi.http.response(200, {x = t})`},
	} {
		x := newExchange()
		x.respond(200, "10.1.1.1:80")
		err := runAt(t, newEngine(t, Env{Limits: Limits{Instructions: 1e6, Time: -1, StringBytes: 100_000}}), tt.event, x, tt.source)
		var be *BudgetError
		if !errors.As(err, &be) || be.Budget != "string bytes" {
			t.Errorf("%s: error %v", tt.source, err)
		}
		if x.out.Header.Get("X") != "" || x.header.Get("Set-Cookie") != "" {
			t.Errorf("%s: not taken back", tt.source)
		}
	}
	err := runAt(t, newEngine(t, Env{}), HTTPReq, newExchange(), `local t = {} for i = 1, 14 do t[i] = avi.CLIENT_CERT end avi.ssl.client_cert(unpack(t))`)
	if err == nil || !strings.Contains(err.Error(), "more than all fields") {
		t.Errorf("14 fields: error %v", err)
	}
}

// What is no path is "/", and what is no host is nil.
func TestOddRequests(t *testing.T) {
	e := newEngine(t, Env{})
	x := newExchange()
	x.original = httptest.NewRequest("OPTIONS", "*", nil)
	x.original.Host, x.original.TLS = "", &tls.ConnectionState{Version: 0x300, CipherSuite: 1}
	x.out = x.original
	err := runAt(t, e, HTTPReq, x, `avi.vs.log(avi.http.get_path(), avi.http.get_uri(), " ", avi.http.hostname(), " ", #avi.http.get_host_tokens(), " ", avi.ssl.cipher(true), " ", avi.ssl.protocol(), " ", avi.http.secure())`)
	if got, want := strings.Join(x.logged(), ""), "// nil 0 unknown unknown on"; err != nil || got != want {
		t.Errorf("error %v, log %q, want %q", err, got, want)
	}
}

// Without services, functions that need them are errors.
func TestNoServices(t *testing.T) {
	e, err := NewEngine(Env{})
	if err != nil {
		t.Fatal(err)
	}
	for _, source := range []string{"avi.vs.table_lookup('k')", "avi.pool.select('p')", "avi.ipgroup.contains('g', '10.0.0.1')", "avi.jwt.verify('t', 'k')"} {
		if err := runAt(t, e, HTTPReq, newExchange(), source); err == nil || !strings.Contains(err.Error(), ": the virtual service has no ") {
			t.Errorf("%s: error %v", source, err)
		}
	}
}

// The entry that a selection goes by may name a server that is gone, but not
// just anything.
func TestSelectByEntry(t *testing.T) {
	for entry, want := range map[string]string{
		"10.1.1.2": "10.1.1.2:8080", "10.9.9.9": "", "10.9.9.9:80": "", "2001:db8::1": "", "nonsense": "error", "": "error",
	} {
		tables := newTables()
		tables.m["/k"] = entry
		x := newExchange()
		err := runAt(t, newEngine(t, Env{Tables: tables}), HTTPReq, x, `avi.pool.select("my_pool", "k")`)
		if (err != nil) != (want == "error") || err == nil && (x.selAddr != want || x.selEntry != entry || x.selKey != "k") {
			t.Errorf("entry %q: error %v, selected %q by %q", entry, err, x.selAddr, x.selEntry)
		}
	}
}

func TestSerial(t *testing.T) {
	for n, want := range map[int64]string{0: "00", 10: "0A", 0xABC: "0ABC", -255: "-FF"} {
		if got := serialOf(big.NewInt(n)); got != want {
			t.Errorf("serial %d is %q, want %q", n, got, want)
		}
	}
}

// Bits of masks are counted for both families.
func TestMasks(t *testing.T) {
	for _, tt := range []struct{ addr, mask, want string }{
		{"10.1.2.3", "0.0.0.0", "0.0.0.0"},
		{"10.1.2.3", "255.255.255.255", "10.1.2.3"},
		{"10.1.2.3", " /12 ", "10.0.0.0"},
		{"2001:db8:1:2::3", "ffff:ffff:ffff::", "2001:db8:1::"},
	} {
		x, err := runRequest(t, newEngine(t, Env{}), `avi.vs.log(avi.utils.ip.netaddr("`+tt.addr+`", "`+tt.mask+`"))`)
		if err != nil || x.logged()[0] != tt.want {
			t.Errorf("%s with %s: error %v, log %v; want %s", tt.addr, tt.mask, err, x.logs, tt.want)
		}
	}
	if p := unmapPrefix(netip.MustParsePrefix("::ffff:0:0/95")); p.Bits() != 95 {
		t.Errorf("a prefix of more than IPv4 became %v", p)
	}
}
