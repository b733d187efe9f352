package datascript

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWarnings(t *testing.T) {
	for _, tt := range []struct {
		name, source string
		want         []string
	}{
		{"none", "-- HTTP_REQ\nlocal h = avi.http.get_header('x') avi.vs.reqvar.anything = h or avi.HTTP_GET", nil},
		{"unknown", "-- HTTP_RESP\n\nif avi.http.get_method then\n  avi.drop()\nend\nx = avi.vs.client.ip\n-- HTTP_REQ\ny = avi.http.host", []string{
			"HTTP_REQ 8: avi.http.host: unknown, hence nil",
			"HTTP_RESP 3: avi.http.get_method: unknown, hence nil",
			"HTTP_RESP 4: avi.drop: unknown, hence nil",
			"HTTP_RESP 6: avi.vs.client: unknown, hence nil",
		}},
		{"unknown constant", "-- HTTP_REQ\navi.http.response(avi.HTTP_TEAPOT)", []string{"HTTP_REQ 2: avi.HTTP_TEAPOT: unknown, hence nil"}},
		{"not supported", "-- HTTP_REQ\npcall(avi.l4.read, 1)\nlocal f = function() avi.vs.ds_done() end", []string{
			"HTTP_REQ 2: avi.l4.read: not supported",
			"HTTP_REQ 3: avi.vs.ds_done: not supported",
		}},
		{"wrong event", "-- HTTP_REQ\nlocal s = avi.http.status()\nfunction later() return avi.http.status() end\n-- HTTP_RESP\navi.pool.select('p') later()", []string{
			"HTTP_REQ 2: avi.http.status: not allowed in event HTTP_REQ",
			"HTTP_RESP 5: avi.pool.select: not allowed in event HTTP_RESP",
		}},
		{"names of the script's own", "-- HTTP_REQ\nlocal avi = {nothing = 1}\nx = avi.nothing\nmine = {}\ny = mine.field", nil},
		{"computed", "-- HTTP_REQ\nlocal k = 'nothing'\nx = avi.http[k]", nil},
		{"in brackets", "-- HTTP_REQ\nx = avi['http']['nothing']", []string{"HTTP_REQ 2: avi.http.nothing: unknown, hence nil"}},
		{"lifetimes", `-- HTTP_RESP
timeout, good = "5m", "300"
local ip, none = avi.pool.server_ip(), -1
avi.vs.table_insert(ip, ip, "5m")
avi.vs.table_insert(ip, ip, timeout)
avi.vs.table_insert(ip, ip, "")
avi.vs.table_insert("t", ip, ip, "1h")
avi.vs.table_insert("t", ip, ip, 0)
avi.vs.table_insert(ip, ip, " -0x1 ")
avi.vs.table_insert(ip, ip, none)
avi.vs.table_lookup("t", ip, "5m")
avi.vs.table_refresh(ip, "300")
pcall(avi.vs.table_insert, "t", ip, ip, true)`, []string{
			`HTTP_RESP 4: avi.vs.table_insert: "5m" is no number of seconds, so it is the value, and the first argument is the table`,
			`HTTP_RESP 5: avi.vs.table_insert: "5m" is no number of seconds, so it is the value, and the first argument is the table`,
			`HTTP_RESP 6: avi.vs.table_insert: "" is no number of seconds, so it is the value, and the first argument is the table`,
			`HTTP_RESP 7: avi.vs.table_insert: lifetime "1h" is no number of seconds: nothing is stored`,
			`HTTP_RESP 8: avi.vs.table_insert: a lifetime of 0 seconds stores nothing`,
			`HTTP_RESP 9: avi.vs.table_insert: a lifetime of -0x1 seconds stores nothing`,
			`HTTP_RESP 10: avi.vs.table_insert: a lifetime of -1 seconds stores nothing`,
			`HTTP_RESP 11: avi.vs.table_lookup: extension "5m" is no number of seconds`,
			`HTTP_RESP 12: avi.vs.table_refresh: "300" is the key, and the first argument is the table: an extension is a number, without quotes`,
			`HTTP_RESP 13: avi.vs.table_insert: lifetime "true" is no number of seconds: nothing is stored`,
		}},
		{"selection by value", `-- HTTP_REQ
server = avi.vs.table_lookup(avi.vs.client_ip())
if server then avi.pool.select("p", server) end
-- HTTP_RESP
if avi.vs.client_ip() and not server then avi.vs.table_insert(avi.vs.client_ip(), avi.pool.server_ip(), 300) end`, []string{
			"HTTP_REQ 3: avi.pool.select: the entry still names the server when that is down: pass both results of avi.vs.table_lookup on",
		}},
		{"selection by key", listing, nil},
		{"selection by value, corrected", `-- HTTP_REQ
server = avi.vs.table_lookup("t", avi.vs.client_ip())
if server then avi.pool.select("p", server) end
-- HTTP_RESP
if not server or server ~= avi.pool.server_ip() then avi.vs.table_remove("t", avi.vs.client_ip()) end
avi.vs.table_insert("t", avi.vs.client_ip(), avi.pool.server_ip(), 300)`, nil},
		{"selection by value, and a session of the server's", `-- HTTP_REQ
server = avi.vs.table_lookup(avi.http.get_cookie("id"))
if server then avi.pool.select("p", server) end
-- HTTP_RESP
local id = avi.http.get_cookie("id", avi.HTTP_RESPONSE)
if id then avi.vs.table_insert(id, avi.pool.server_ip(), 300) end`, nil},
		{"good lifetimes", `-- HTTP_RESP
local id, timeout, twice = avi.http.status(), "300", "5"
twice = 300
circle = -circle
avi.vs.table_insert(id, "v", timeout)
avi.vs.table_insert(id, "v", "1e3")
avi.vs.table_insert(id, "v", twice)
avi.vs.table_insert(id, "v", circle)
avi.vs.table_insert(id, "v", timeout * 2)
avi.vs.table_insert(id, "v", id and twice or 60)
avi.vs.table_insert("t", id, avi.vs.client_ip() .. id)
avi.vs.table_insert("t", id, id .. ":" .. id)
avi.vs.table_insert("t", id, id and "blue" or "green")
avi.vs.table_insert("t", id, not id)
avi.vs.table_insert("t", id, later, 60)
avi.vs.table_insert("t", id, "")
avi.vs.table_insert(id, "v", "blue")
avi.vs.table_insert("t", "k", "blue")
avi.vs.table_insert("t", id, "v", nil)
avi.vs.table_insert(id, avi.vs.table_lookup("x"))
avi.vs.table_lookup("t", "0")
avi.vs.table_lookup(id, "blue")
avi.vs.table_lookup(id, 0)`, nil},
		// A value of digits, which a client may choose, was taken for the
		// lifetime.
		{"value or lifetime", `-- HTTP_RESP
local id, both, session = avi.http.status(), "5m", avi.http.get_cookie("id")
both = 300
avi.vs.table_insert("t", id, session)
avi.vs.table_insert(id, "v", both)
avi.vs.table_insert(id, "v", later)
avi.vs.table_insert("t", id, id .. 1)
avi.vs.table_insert("t", id, session or "none")
function keep(timeout) avi.vs.table_insert(id, "v", timeout) end
pcall(avi.vs.table_insert, "t", id, session)`, func() (want []string) {
			for _, line := range []int{4, 5, 6, 7, 8, 9, 10} {
				want = append(want, fmt.Sprintf("HTTP_RESP %d: avi.vs.table_insert: the third argument is the lifetime if it is a number, else the value, "+
					`and the first argument is the table: pass four arguments, the table first, which is "" by default`, line))
			}
			return want
		}()},
		{"cookies that browsers drop", `-- HTTP_RESP
local none, id = avi.http.None, "x"
avi.http.add_cookie{id = "1", samesite = "None"}
avi.http.replace_cookie{id = "1", samesite = none, secure = false}
avi.http.update_cookie("id", "samesite", avi.http.None)
avi.http.add_cookie("__Host-id", "1", "/")
avi.http.add_cookie{["__Host-id"] = id, secure = true}
avi.http.add_cookie{["__host-id"] = id, secure = true, path = "/", domain = "example.com"}
avi.http.add_cookie{["__Secure-id"] = id, path = "/"}
avi.http.add_header("Set-Cookie", "id=" .. id .. "; Path=/; SameSite=none")
avi.http.replace_header("set_cookie", "__Host-id=" .. id .. "; Secure; Path=/app")`, []string{
			"HTTP_RESP 3: avi.http.add_cookie: samesite None without secure: browsers drop the cookie",
			"HTTP_RESP 4: avi.http.replace_cookie: samesite None without secure: browsers drop the cookie",
			"HTTP_RESP 5: avi.http.update_cookie: samesite None without secure: browsers drop the cookie unless the server has set it",
			`HTTP_RESP 6: avi.http.add_cookie: cookie "__Host-id" without secure: browsers drop it`,
			`HTTP_RESP 7: avi.http.add_cookie: cookie "__Host-id" without path /: browsers drop it`,
			`HTTP_RESP 8: avi.http.add_cookie: cookie "__host-id" with a domain: browsers drop it`,
			`HTTP_RESP 9: avi.http.add_cookie: cookie "__Secure-id" without secure: browsers drop it`,
			"HTTP_RESP 10: avi.http.add_header: samesite None without secure: browsers drop the cookie",
			`HTTP_RESP 11: avi.http.replace_header: cookie "__Host-id" without path /: browsers drop it`,
		}},
		{"good cookies", `-- HTTP_RESP
local attributes, secure, id = {id = "1", samesite = "None"}, avi.http.secure() or nil, "x"
avi.http.add_cookie(attributes)
avi.http.add_cookie{id = "1", samesite = "None", secure = true}
avi.http.add_cookie{id = "1", samesite = "None", secure = secure}
avi.http.add_cookie{id = "1", samesite = "Lax"}
avi.http.add_cookie{id = "1", samesite = attributes.samesite}
avi.http.add_cookie{id = "1", samesite = "None", [attributes.secure] = true}
avi.http.add_cookie("__Host-id", "1", "/", nil, nil, nil, true, true)
avi.http.add_cookie("__Host-id", "1", avi.http.status())
avi.http.add_cookie{["__Host-id"] = id, secure = true, path = "/"}
avi.http.update_cookie("__Host-id", "samesite", "None", "secure", true)
avi.http.update_cookie("id", attributes.name, "None")
avi.http.add_header("Set-Cookie", "id=" .. id .. "; Secure; SameSite=None")
avi.http.add_header("Set-Cookie", "id=1; SameSite=None; " .. avi.http.status())
avi.http.add_header("X-Cookie", "id=1; SameSite=None")
-- HTTP_REQ
avi.http.add_cookie{samesite = "None"}
avi.http.add_header("Set-Cookie", "id=1; SameSite=None")`, nil},
		{"of Lua's libraries", "-- HTTP_REQ\nx = string.nothing", nil},
		// A key that was written out was taken for the name of a table without
		// a word.
		{"lifetimes of constant keys", `-- HTTP_RESP
avi.vs.table_insert("k", "v", "5m")
avi.vs.table_insert("k", avi.pool.server_ip(), "1 hour")
avi.vs.table_insert("t", avi.vs.client_ip(), "42s")
avi.vs.table_lookup("k", "5m")
avi.vs.table_refresh("k", "5m")`, []string{
			`HTTP_RESP 2: avi.vs.table_insert: "5m" is no number of seconds, so it is the value, and the first argument is the table`,
			`HTTP_RESP 3: avi.vs.table_insert: "1 hour" is no number of seconds, so it is the value, and the first argument is the table`,
			`HTTP_RESP 4: avi.vs.table_insert: "42s" is no number of seconds, so it is the value, and the first argument is the table`,
			`HTTP_RESP 5: avi.vs.table_lookup: "5m" is the key, and the first argument is the table: an extension is a number, without quotes`,
			`HTTP_RESP 6: avi.vs.table_refresh: "5m" is the key, and the first argument is the table: an extension is a number, without quotes`,
		}},
		// Functions of Lua's that scripts do not have failed only when they
		// were called.
		{"missing functions", `-- HTTP_REQ
load("x = 1")
require("cjson")
local t = os.execute("ls") or io.open("f")
pcall(loadstring, "x")
io.stdout:write("x")
later()
misspelt(string.fnid("a", "b"))
local function f() return undefined.field() end
-- HTTP_RESP
function later() end
function string.mine() end
string.mine(mine)
local given = given or f
given() arg()`, []string{
			"HTTP_REQ 2: load: not available in scripts",
			"HTTP_REQ 3: require: not available in scripts",
			"HTTP_REQ 4: os.execute: not available in scripts",
			"HTTP_REQ 4: io.open: not available in scripts",
			"HTTP_REQ 5: loadstring: not available in scripts",
			"HTTP_REQ 6: io.stdout: not available in scripts",
			"HTTP_REQ 8: misspelt: never defined, hence nil",
			"HTTP_REQ 9: undefined.field: never defined, hence nil",
			"HTTP_RESP 15: arg: never defined, hence nil",
		}},
		{"misspelt functions of Lua's", `-- HTTP_REQ
string.fnid("a", "b")
table.foreach({}, print) tostring(math.mod(5, 3)) string.gfind("a", "b")`, []string{"HTTP_REQ 2: string.fnid: never defined, hence nil"}},
		// The body is not there yet, whatever asks for it to be buffered.
		{"body before it is there", `-- HTTP_REQ
avi.http.set_request_body_buffer_size(8)
local body = avi.http.get_req_body()
function read() return avi.http.get_req_body() end
-- HTTP_REQ_DATA
local body = avi.http.get_req_body() or read()`, []string{
			"HTTP_REQ 3: avi.http.get_req_body: always nil in HTTP_REQ: the body is there from HTTP_REQ_DATA on",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := mustCompile(t, Chunk{Source: tt.source})
			var got []string
			for _, w := range s.Warnings() {
				got = append(got, fmt.Sprintf("%v %v", w.Event, w))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
		})
	}
}

func TestStoresServerIP(t *testing.T) {
	const looked = "-- HTTP_REQ\nserver = avi.vs.table_lookup(avi.vs.client_ip())\n-- HTTP_RESP\n"
	for _, tt := range []struct {
		name, source string
		want         bool
	}{
		{"the listing", listing, false},
		{"value", looked + "avi.vs.table_insert(avi.vs.client_ip(), avi.pool.server_ip(), 300)", false},
		{"two arguments", looked + "avi.vs.table_insert(avi.vs.client_ip(), avi.pool.server_ip())", false},
		{"named table", looked + "avi.vs.table_insert('t', avi.vs.client_ip(), avi.pool.server_ip(), 300)", false},
		{"named table, no lifetime", looked + "avi.vs.table_insert('t', 'k', avi.pool.server_ip())", false},
		{"variable", looked + "local ip = avi.pool.server_ip() local same = ip avi.vs.table_insert('k', same or 'none', 5)", false},
		{"variable of another event", "-- LB_DONE\nip = avi.pool.server_ip()\n-- HTTP_RESP\navi.vs.table_insert('k', ip, 5)", false},
		{"variable in a cookie", looked + "local ip = avi.pool.server_ip() local same = ip avi.http.add_cookie('server', same or 'none')", true},
		{"selected", "-- HTTP_REQ\navi.pool.select('p', avi.pool.server_ip())", true},
		{"selected in pcall", "-- HTTP_REQ\npcall(avi.pool.select, 'p', tostring(avi.pool.server_ip()))", true},
		{"cookie", looked + "avi.http.add_cookie('server', avi.pool.server_ip())", true},
		{"cookie in a table", looked + "avi.http.replace_cookie{server = avi.pool.server_ip(), path = '/'}", true},
		{"with the port", looked + "local ip, port = avi.pool.get_server_info() avi.vs.table_insert('k', ip .. ':' .. port, 5)", false},
		{"with a port of its own", looked + "avi.vs.table_insert('k', avi.pool.server_ip() .. ':80', 5)", false},
		{"as key", looked + "avi.vs.table_insert(avi.pool.server_ip(), 'up', 5)", false},
		{"logged", looked + "avi.vs.log(avi.pool.server_ip()) avi.http.add_header('X-Server', avi.pool.server_ip())", false},
		{"compared", looked + "if server ~= avi.pool.server_ip() then avi.vs.table_remove('k') end", false},
		{"not at all", "-- HTTP_REQ\navi.pool.select('p')", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := mustCompile(t, Chunk{Source: tt.source}).StoresServerIP(); got != tt.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

// What Lua 5.1 has and scripts do not is not what they have.
func TestMissingNames(t *testing.T) {
	for _, name := range missingNames {
		if library.Lookup(name) != nil {
			t.Errorf("%s is there", name)
		}
	}
}

// A heading with one more word was neither a heading nor a warning: a filter of
// bodies below it ran in another event, where it lets everything through.
func TestCommentsThatNameEvents(t *testing.T) {
	const code = "x = 1\n"
	for _, c := range []struct {
		comment string
		want    string // the heading that the warning proposes; empty if it is one itself
	}{
		{"-- HTTP_REQ_DATA: filter bodies", "HTTP_REQ_DATA"},
		{"-- HTTP_RESP handler", "HTTP_RESP"},
		{"-- HTTP_RESP -- the answer", "HTTP_RESP"},
		{"--[[ HTTP_RESP ]]", "HTTP_RESP"},
		{"--[[\nHTTP_RESP\n]]", "HTTP_RESP"},
		{"--[==[ HTTP_RESP\n the answer ]==]", "HTTP_RESP"},
		{"-- 2. HTTP_RESP", "HTTP_RESP"},
		{"-- On HTTP_RESP", "HTTP_RESP"},
		{"-- on_http_resp", "HTTP_RESP"},
		{"-- RESPONSE", "HTTP_RESP"},
		{"-- the response:", "HTTP_RESP"},
		{"-- Response Data", "HTTP_RESP_DATA"},
		{"-- Response handler", "HTTP_RESP"},
		{"-- HTTP_RESP_HANDLER", "HTTP_RESP"},
		{"-- Step 2: HTTP-RESPONSE", "HTTP_RESP"},
		{"-- HTTP Response - keep the server", "HTTP_RESP"},
		{"-- HTTP Response (keep the server)", "HTTP_RESP"},
		{"-- VS_DATASCRIPT_EVT_HTTP_RESP: x", "HTTP_RESP"},
		{"-- now for lb_done and its code " + strings.Repeat("x", 100), "LB_DONE"},
		{"-- On SSL_HANDSHAKE_DONE", "SSL_HANDSHAKE_DONE"},
		{"-- EVENT HTTP_RESP", ""},
		{"-- Event: HTTP Response --", ""},
		{"-- script http-resp", ""},
		{"-- HTTP_RESP_EVENT", ""},
		{"-- HTTP_RESP event", ""},
	} {
		t.Run(c.comment, func(t *testing.T) {
			s, err := Compile("s", Chunk{Source: "-- HTTP_REQ\n" + code + c.comment + "\n" + code})
			if err != nil {
				t.Fatal(err)
			}
			if c.want == "" {
				if !s.Handles(HTTPResp) || s.Warnings() != nil {
					t.Errorf("no heading: %v", s.Warnings())
				}
				return
			}
			if w := s.Warnings(); len(w) != 1 || w[0].Line != 3 && w[0].Line != 4 || w[0].Event != HTTPReq ||
				!strings.Contains(w[0].Message, "is no heading, so the code below it runs in HTTP_REQ: the heading is \"-- "+c.want+"\"") {
				t.Errorf("warnings %v", w)
			}
			// Where a file is for one event, there is no heading to propose.
			s, err = Compile("s", Chunk{Event: HTTPReq, Source: c.comment + "\n" + code})
			if err != nil {
				t.Fatal(err)
			}
			if w := s.Warnings(); !strings.HasPrefix(c.comment, "-- now") && (len(w) != 1 || !strings.HasSuffix(w[0].Message, "is only a comment here: all of the code runs in HTTP_REQ")) {
				t.Errorf("warnings %v of a file for one event", w)
			}
			// Above the first heading it is part of the error.
			if _, err := Compile("s", Chunk{Source: c.comment + "\n" + code}); err == nil || !strings.Contains(err.Error(), "is no heading: the heading is \"-- "+c.want+"\"") {
				t.Errorf("above all: %v", err)
			}
		})
	}
}

// Comments that mention events, and below which nothing runs in the wrong one,
// are as they should be.
func TestCommentsThatMentionEvents(t *testing.T) {
	for _, source := range []string{
		"-- Stores in HTTP_RESP what HTTP_REQ looks up.\n-- HTTP_REQ\nx = 1\n",
		"-- HTTP_REQ\nx = 1\n-- Now HTTP_RESP, which stores:\n\n-- HTTP_RESP\nx = 1\n",
		"-- HTTP_REQ\n-- HTTP_REQ handler\nx = 1\n",
		"-- HTTP_REQ\nx = 1 -- as in HTTP_RESP\ny = 1\n",
		"-- HTTP_REQ\nx = [[\n-- HTTP_RESP handler\nHTTP_RESP\n]]\ny = 1\n",
		"-- HTTP_REQ\n--[[ Look up\n  what HTTP_RESP has stored\n]]\ny = 1\n",
		"-- HTTP_REQ\n-- send an HTTP response at once\n-- the response says no\n-- client closed\n-- request\ny = 1\n",
		"-- HTTP_REQ\nx = 1\n-- HTTP_RESP handler\n-- nothing yet\n",
		"-- HTTP_REQ\n-- kept for HTTP_RESP\nx = 1\n-- HTTP_RESP\n-- set in HTTP_REQ\ny = x\n",
	} {
		if w := mustCompile(t, Chunk{Source: source}).Warnings(); len(w) > 0 {
			t.Errorf("%q: %v", source, w)
		}
	}
}

// A comment that looks like a heading is one that somebody meant as such, even
// if the event has another.
func TestCommentsLikeASecondHeading(t *testing.T) {
	w := mustCompile(t, Chunk{Source: "-- HTTP_REQ\nx = 1\n-- 2. HTTP_RESP: first\ny = 1\n-- HTTP_RESP\nz = 1\n"}).Warnings()
	if len(w) != 1 || w[0].Line != 3 {
		t.Error(w)
	}
	for _, comment := range []string{"-- kept for HTTP_RESP", "-- what http_resp stores"} {
		if w := mustCompile(t, Chunk{Event: HTTPReq, Source: comment + "\nx = 1\n"}).Warnings(); w != nil {
			t.Errorf("%s: %v", comment, w)
		}
	}
}

// Editors that put a byte order mark before a text made scripts fail to
// compile.
func TestByteOrderMark(t *testing.T) {
	chunks := []Chunk{{Event: HTTPReq, Source: "\ufeffx = 1\n"}, {Event: HTTPResp, Source: "\ufeff-- nothing\n"}}
	if s := mustCompile(t, chunks...); !s.Handles(HTTPReq) || !s.Handles(HTTPResp) || s.Warnings() != nil {
		t.Error("a mark in chunks")
	}
	if !strings.HasPrefix(chunks[0].Source, "\ufeff") {
		t.Error("the caller's chunks were changed")
	}
	if s := mustCompile(t, Chunk{Source: "\ufeff-- HTTP_REQ\nx = 1\n"}); !s.Handles(HTTPReq) || s.Warnings() != nil {
		t.Error("a mark in a listing")
	}
}
