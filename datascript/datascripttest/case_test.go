package datascripttest

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// minimal is a case to which others add sections.
const minimal = "-- http_req.lua --\n-- request --\nGET / HTTP/1.1\nHost: a\n"

func TestParseCase(t *testing.T) {
	c, err := parseCase("dir/full.txtar", []byte(`What it shows.

-- 2-Second/http_req.lua --
-- 1-First One/listing.lua --
-- HTTP Request Event --
a = 1
-- HTTP_RESP --
b = 2
-- virtualservice --
# a comment
name "shop front"
local 10.0.0.9:443
strict-select
-- pools --
pool app round-robin
server 10.0.0.1:80
server 10.0.0.2:80 web2 down

server 10.0.0.3:80 down
pool "empty one"
-- tables --
k v 1m30s
"my table" "a \"b\"" "" 300s
-- ipgroups --
group office 10.1.2.3 10.0.0.0/8
group office 2001:db8::1
group none
-- request --

# client 10.9.9.9:5
# after 2s
# down app 10.0.0.1
# up app web2
POST /a?b=c HTTP/1.1
Host: www.example.com
Content-Length: 10
X-A: 1

one

two:2

# tls
GET /b HTTP/1.1
Host: b

GET /c HTTP/1.1
Host: c
-- response --
# fails
HTTP/1.1 204 No Content
Pragma: no-cache

HTTP/1.1 200
A: 1
A: 2

body
-- want/log --
`))
	if err != nil {
		t.Fatal(err)
	}

	var scripts []string
	for _, s := range c.scripts {
		scripts = append(scripts, s.name)
	}
	if diff := cmp.Diff([]string{"First One", "Second"}, scripts); diff != "" {
		t.Errorf("scripts (-want +got):\n%s", diff)
	}
	if got, want := c.scripts[0].chunks[0].section.text, "-- HTTP Request Event --\na = 1\n-- HTTP_RESP --\nb = 2\n"; got != want {
		t.Errorf("listing %q, want %q", got, want)
	}
	if line := c.scripts[0].chunks[0].section.line; line != 5 {
		t.Errorf("the listing begins at line %d, want 5", line)
	}

	vs := c.service
	if vs.Name != "shop front" || vs.Local.String() != "10.0.0.9:443" || !vs.StrictSelect {
		t.Errorf("virtual service %q, %v, %v", vs.Name, vs.Local, vs.StrictSelect)
	}
	addr := netip.MustParseAddrPort
	wantPools := Pools{
		{Name: "app", Algorithm: RoundRobin, Servers: []Server{
			{Addr: addr("10.0.0.1:80")}, {Addr: addr("10.0.0.2:80"), Name: "web2", Down: true}, {Addr: addr("10.0.0.3:80"), Down: true},
		}},
		{Name: "empty one"},
	}
	comparable := cmpopts.EquateComparable(netip.AddrPort{}, netip.Prefix{})
	if diff := cmp.Diff(wantPools, vs.Pools, comparable); diff != "" {
		t.Errorf("pools (-want +got):\n%s", diff)
	}
	wantEntries := []Entry{{"", "k", "v", 90 * time.Second}, {"my table", `a "b"`, "", 300 * time.Second}}
	if diff := cmp.Diff(wantEntries, vs.Tables.Entries()); diff != "" {
		t.Errorf("tables (-want +got):\n%s", diff)
	}
	prefix := netip.MustParsePrefix
	wantGroups := IPGroups{"office": {prefix("10.1.2.3/32"), prefix("10.0.0.0/8"), prefix("2001:db8::1/128")}, "none": nil}
	if diff := cmp.Diff(wantGroups, vs.IPGroups, comparable); diff != "" {
		t.Errorf("IP groups (-want +got):\n%s", diff)
	}

	if len(c.steps) != 3 {
		t.Fatalf("%d requests, want 3", len(c.steps))
	}
	first := c.steps[0]
	body := make([]byte, 20)
	n, _ := first.request.Body.Read(body)
	if r := first.request; string(body[:n]) != "one\n\ntwo:2" || r.Method != "POST" || r.URL.String() != "/a?b=c" || r.Header.Get("X-A") != "1" {
		t.Errorf("request %v %v %v with body %q", r.Method, r.URL, r.Header, body[:n])
	}
	if first.after != 2*time.Second || len(first.servers) != 2 || !first.servers[0].down || first.servers[1].down || first.servers[1].server != &vs.Pools[0].Servers[1] {
		t.Errorf("before the request: %+v", first)
	}
	for i, st := range c.steps {
		if st.request.RemoteAddr != "10.9.9.9:5" || (st.request.TLS != nil) != (i == 1) {
			t.Errorf("request %d: from %v, TLS %v", i+1, st.request.RemoteAddr, st.request.TLS)
		}
	}

	wantAnswers := []answer{{}, {response: &Response{Status: 204, Header: map[string][]string{"Pragma": {"no-cache"}}, Body: []byte{}}},
		{response: &Response{Status: 200, Header: map[string][]string{"A": {"1", "2"}}, Body: []byte("body")}}}
	if diff := cmp.Diff(wantAnswers, c.answers, cmp.AllowUnexported(answer{})); diff != "" {
		t.Errorf("responses (-want +got):\n%s", diff)
	}
	if c.want["want/log"] == nil || len(c.want) != 1 {
		t.Errorf("expectations %v", c.want)
	}
}

func TestParseCaseFaults(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"nothing", "", "x.txtar: no script"},
		{"no request", "-- http_req.lua --\n", "x.txtar: no section request"},
		{"unknown section", minimal + "-- wants/log --\n", "x.txtar:5: wants/log: unknown section"},
		{"unknown expectation", minimal + "-- want/logs --\n", "x.txtar:5: want/logs: unknown section"},
		{"section twice", minimal + "-- request --\n", "x.txtar:5: request: a second section of that name"},
		{"unknown event", minimal + "-- http_reg.lua --\n", `x.txtar:5: http_reg.lua: "http_reg.lua" is neither`},
		{"directory without a number", minimal + "-- a/http_req.lua --\n", "x.txtar:5: a/http_req.lua: the directory of a script"},
		{"directory 0", minimal + "-- 0-a/http_req.lua --\n", "the directory of a script"},
		{"directory without a name", minimal + "-- 1-/http_req.lua --\n", "the directory of a script"},
		{"some with directories", minimal + "-- 1-a/http_req.lua --\n", "some scripts have a directory, others do not"},
		{"number twice", "-- 1-a/http_req.lua --\n-- 1-b/http_req.lua --\n", `scripts "a" and "b" have the same number`},
		{"name twice", "-- 1-a/http_req.lua --\n-- 2-a/http_req.lua --\n", `a second script "a"`},
		{"listing and event", minimal + "-- listing.lua --\n", "a listing is the whole script"},
		{"event and listing", "-- listing.lua --\n-- http_req.lua --\n", "a listing is the whole script"},
		{"virtual service", minimal + "-- virtualservice --\n\nname\n", "x.txtar:7: virtualservice: want: name NAME"},
		{"local address", minimal + "-- virtualservice --\nlocal 10.0.0.1\n", "x.txtar:6: virtualservice: not an ip:port"},
		{"pool twice", minimal + "-- pools --\npool a\npool a\n", `x.txtar:7: pools: pool "a": the name is empty or there already`},
		{"pool algorithm", minimal + "-- pools --\npool a random\n", `x.txtar:6: pools: algorithm "random" is none of`},
		{"server first", minimal + "-- pools --\nserver 10.0.0.1:80\n", "x.txtar:6: pools: a server before the first pool"},
		{"server address", minimal + "-- pools --\npool a\nserver 10.0.0.1\n", `x.txtar:7: pools: "10.0.0.1" is not an address and a port`},
		{"server port", minimal + "-- pools --\npool a\nserver 10.0.0.1:0\n", "is not an address and a port"},
		{"server names", minimal + "-- pools --\npool a\nserver 10.0.0.1:80 a b\n", "a server has one name at most"},
		{"pool line", minimal + "-- pools --\npools a\n", "x.txtar:6: pools: want: pool NAME"},
		{"entry words", minimal + "-- tables --\nk v\n", "x.txtar:6: tables: want: [TABLE] KEY VALUE LIFETIME"},
		{"entry lifetime", minimal + "-- tables --\nk v 300\n", `x.txtar:6: tables: lifetime "300" is not`},
		{"entry dead", minimal + "-- tables --\nk v 0s\n", `lifetime "0s" is not`},
		{"entry twice", minimal + "-- tables --\nk v 1s\nk w 2s\n", `x.txtar:7: tables: a second entry for key "k"`},
		{"open quotation", minimal + "-- tables --\nk \"v 1s\n", `x.txtar:6: tables: "v 1s is not a quoted word`},
		{"quotation within", minimal + "-- tables --\nk v\"w\" 1s\n", `x.txtar:6: tables: quotation mark within the word v"w"`},
		{"no blank", minimal + "-- tables --\nk \"v\"w 1s\n", `x.txtar:6: tables: no blank after the word "v"`},
		{"group", minimal + "-- ipgroups --\ngroup\n", "x.txtar:6: ipgroups: want: group NAME"},
		{"group network", minimal + "-- ipgroups --\ngroup a 10.0.0.0/33\n", `x.txtar:6: ipgroups: "10.0.0.0/33" is neither`},
		{"empty request", "-- http_req.lua --\n-- request --\n", "x.txtar:2: request: no request"},
		{"request line", "-- http_req.lua --\n-- request --\nGET /\n", `x.txtar:3: request: "GET /" begins no message`},
		{"request target", "-- http_req.lua --\n-- request --\nGET :%zz HTTP/1.1\nHost: a\n", "x.txtar:3: request: parse"},
		{"header line", minimal + "X-A 1\n", `x.txtar:5: request: "X-A 1" is not a header line`},
		{"header name", minimal + "X A: 1\n", `x.txtar:5: request: "X A: 1" is not a header line`},
		{"no host", "-- http_req.lua --\n-- request --\nGET / HTTP/1.1\n", "x.txtar:3: request: GET / HTTP/1.1: no Host"},
		{"length", minimal + "Content-Length: 3\n\nabcd\n", "x.txtar:3: request: GET / HTTP/1.1: Content-Length is 3, but the body has 4 bytes"},
		{"chunked", minimal + "Transfer-Encoding: chunked\n", "x.txtar:3: request: GET / HTTP/1.1: Transfer-Encoding"},
		{"directive", minimal + "\n# before 3s\n", "x.txtar:6: request: want: # client"},
		{"empty directive", minimal + "\n#\n", "x.txtar:6: request: empty directive"},
		{"directive quotation", minimal + "\n# down \"a\n", "x.txtar:6: request: \"a is not a quoted word"},
		{"directive alone", minimal + "\n# tls\n", "x.txtar:6: request: no request after the directive"},
		{"client", "-- http_req.lua --\n-- request --\n# client 10.0.0.1\n", "x.txtar:3: request: not an ip:port"},
		{"after", "-- http_req.lua --\n-- request --\n# after soon\n", "x.txtar:3: request: time: invalid duration"},
		{"back in time", "-- http_req.lua --\n-- request --\n# after -1s\n", "x.txtar:3: request: after -1s: not in the future"},
		{"down, pool", "-- http_req.lua --\n-- request --\n# down a 10.0.0.1\n", `x.txtar:3: request: pool "a" not found`},
		{"down, server", "-- http_req.lua --\n-- pools --\npool a\n-- request --\n# down a 10.0.0.1\n", `x.txtar:5: request: pool "a" has no server "10.0.0.1"`},
		{"response directive", minimal + "-- response --\n# failed\n", "x.txtar:6: response: want: # fails"},
		{"failure status", minimal + "-- response --\n# fails 200\n", "x.txtar:6: response: want: # fails [STATUS]"},
		{"pool group", minimal + "-- pools --\ngroup g a\n", "x.txtar:6: pools: want: pool NAME"},
		{"string group", minimal + "-- stringgroups --\nlists a b\n", "x.txtar:6: stringgroups: want: list NAME"},
		{"map without a value", minimal + "-- stringgroups --\nmap a b\n", "x.txtar:6: stringgroups: want: list NAME"},
		{"certificate", minimal + "-- client-cert --\nnone\n", "x.txtar:5: client-cert: want: one certificate in PEM"},
		{"broken certificate", minimal + "-- client-cert --\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "x.txtar:5: client-cert: x509"},
		{"tls pairs", "-- http_req.lua --\n-- request --\n# tls version\n", "x.txtar:3: request: want: # client"},
		{"tls version", "-- http_req.lua --\n-- request --\n# tls version 1.4\n", "x.txtar:3: request: tls version 1.4: want version 1.0 to 1.3"},
		{"tls cipher", "-- http_req.lua --\n-- request --\n# tls cipher ROT13\n", "x.txtar:3: request: tls cipher ROT13"},
		{"tls client", "-- http_req.lua --\n-- request --\n# tls client-cert verified\n", "x.txtar:3: request: no section client-cert"},
		{"number", minimal + "-- virtualservice --\nopen-conns many\n", "x.txtar:6: virtualservice: strconv.Atoi"},
		{"fact", minimal + "-- virtualservice --\naddress 10.0.0.1 a b\n", "x.txtar:6: virtualservice: netip.ParsePrefix"},
		{"rate limiter", minimal + "-- virtualservice --\nrate-limiter r 0 1h\n", "x.txtar:6: virtualservice: rate limit: count: 0"},
		{"rate limiter numbers", minimal + "-- virtualservice --\nrate-limiter r 1 soon 2\n", `x.txtar:6: virtualservice: time: invalid duration "soon"`},
		{"rate profile", minimal + "-- virtualservice --\nrate-profile 1 1h RL_ACTION_WAIT\n", `x.txtar:6: virtualservice: "RL_ACTION_WAIT" is not an action`},
		{"rate profile limit", minimal + "-- virtualservice --\nrate-profile 0 1h RL_ACTION_NONE\n", "x.txtar:6: virtualservice: rate limit"},
		{"response line", minimal + "-- response --\n200 OK\n", `x.txtar:6: response: "200 OK" begins no message`},
		{"response status", minimal + "-- response --\nHTTP/1.1 100 Continue\n", `x.txtar:6: response: status "100" is not between`},
		{"response header", minimal + "-- response --\nHTTP/1.1 200 OK\n: 1\n", `x.txtar:7: response: ": 1" is not a header line`},
		{"response header name", minimal + "-- response --\nHTTP/1.1 200 OK\n\"a\": 1\n", "x.txtar:6: response: malformed MIME header"},
		{"response length", minimal + "-- response --\nHTTP/1.1 200 OK\nContent-Length: 1\n", "Content-Length is 1, but the body has 0 bytes"},
		{"responses", minimal + "-- response --\n# fails\n# fails\n", "x.txtar:5: response: 2 responses to 1 requests"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := parseCase("x.txtar", []byte(c.text))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v\nwant %s", err, c.want)
			}
		})
	}
}

func TestParseCaseJoinsFaults(t *testing.T) {
	_, err := parseCase("x.txtar", []byte(minimal+"-- pools --\nx\n-- tables --\nx\n"))
	if err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("error %v, want two lines", err)
	}
}

func TestWords(t *testing.T) {
	for _, words := range [][]string{
		{"a"}, {"a", "b"}, {"", "#", "a b", "\t", `"`, "a\"b", "\\", "é", "\xff", "\n", "\u2028", "-", "�"},
	} {
		line := joinWords(append([]string(nil), words...)...)
		got, err := splitWords(line)
		if err != nil {
			t.Errorf("%s: %v", line, err)
		}
		if diff := cmp.Diff(words, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", line, diff)
		}
	}
}

func TestLuaComments(t *testing.T) {
	source := `a = "--> no" --> one
b = '\'--> no' -- two
c = [==[
--> no ]] ]==] --> four
--[[ --> no
]] d = a[b[1]] --three
-- [[ six
e = "open
--> eight
[==`
	want := []string{"1 > one", "2  two", "4 > four", "6 three", "7  [[ six", "9 > eight"}
	var got []string
	for line, comment := range luaComments(source) {
		got = append(got, string(rune('0'+line))+" "+comment)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("comments (-want +got):\n%s", diff)
	}
	for range luaComments("-- a\n-- b") {
		break
	}
	for _, open := range []string{"[[ --> no", "--[=[ --> no", `"--> no \`} {
		for line, comment := range luaComments(open) {
			t.Errorf("%q: comment %q in line %d", open, comment, line)
		}
	}
}
