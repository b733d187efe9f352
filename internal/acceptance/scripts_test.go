package acceptance_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/policy"
)

// scripted is a virtual service with scripts in front of one server, which
// tells what it was asked.
type scripted struct {
	*testing.T
	site  *site
	recs  *records
	asked atomic.Pointer[http.Request]
}

func newScripted(t *testing.T, edit func(*limpet.Config), scripts ...limpet.Script) *scripted {
	t.Helper()
	s := &scripted{T: t, recs: newRecords()}
	cfg := limpet.Config{
		Pools: []*lbpool.Pool{poolFor(t, func(w http.ResponseWriter, r *http.Request) {
			s.asked.Store(r)
			w.Header().Set("X-Server", "secret version")
			w.Header().Set("Etag", `"1"`)
			http.SetCookie(w, &http.Cookie{Name: "server", Value: "cookie"})
			w.WriteHeader(http.StatusAccepted)
			io.WriteString(w, "from the server")
		})},
		Scripts: scripts, OnComplete: s.recs.add,
	}
	if edit != nil {
		edit(&cfg)
	}
	_, s.site = serve(t, http1, cfg)
	return s
}

// do sends a request, and returns the answer with its record.
func (s *scripted) do(edit func(*http.Request)) (*http.Response, string, limpet.Record) {
	s.Helper()
	r := newRequest(s, "GET", s.site.URL+"/path?query=1", nil)
	if edit != nil {
		edit(r)
	}
	res, body := fetch(s, s.site.client(s), r)
	rec := s.recs.next(s)
	s.recs.none(s)
	return res, body, rec
}

func TestScriptFailsOnRequest(t *testing.T) {
	const source = `avi.http.add_header("X-Added", "1")
avi.http.replace_header("X-Replaced", "1")
avi.http.remove_header("X-Removed")
avi.http.replace_header("Host", "elsewhere.example")
avi.http.set_uri("/elsewhere?x=y")
avi.pool.select("my_pool")
avi.http.response(200, {}, "all is well")
avi.http.close_conn(true)
local function fails() avi.no_such_thing() end
fails()
`
	request := func(r *http.Request) {
		r.Header.Set("X-Replaced", "0")
		r.Header.Set("X-Removed", "0")
		r.Host = "here.example"
	}
	wantError := func(t *testing.T, rec limpet.Record) {
		t.Helper()
		if len(rec.ScriptErrors) != 1 {
			t.Fatalf("script errors: %v", rec.ScriptErrors)
		}
		e := rec.ScriptErrors[0]
		// The heading is line 1.
		if e.Script != "faulty" || e.Event != datascript.HTTPReq || e.Line != 10 || e.Cause != nil {
			t.Errorf("script %q, event %v, line %d, cause %v", e.Script, e.Event, e.Line, e.Cause)
		}
		if !strings.Contains(e.Message, ":10: ") || !strings.Contains(e.Message, "attempt to call") {
			t.Errorf("message %q", e.Message)
		}
		if !strings.HasPrefix(e.Traceback, "stack traceback:") || !strings.Contains(e.Traceback, ":11: in function") {
			t.Errorf("traceback %q", e.Traceback)
		}
		if !slices.Contains(rec.Significant, limpet.ScriptFailed) {
			t.Errorf("significant: %v", rec.Significant)
		}
	}

	t.Run("closed", func(t *testing.T) {
		s := newScripted(t, nil, onRequest(t, "faulty", source), onRequest(t, "later", `avi.vs.log("ran")`))
		res, body, rec := s.do(request)
		if res.StatusCode != 500 || body != "Internal Server Error\n" || res.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
			t.Errorf("answer: %s %q %v", res.Status, body, res.Header)
		}
		wantError(t, rec)
		if s.asked.Load() != nil || rec.Tried != 0 || rec.Server.IsValid() {
			t.Error("the server was asked")
		}
		if len(rec.Log) > 0 || rec.Status != 500 || rec.Closed {
			t.Errorf("record: %+v", rec)
		}
	})
	t.Run("open", func(t *testing.T) {
		s := newScripted(t, nil, failOpen(onRequest(t, "faulty", source)), onRequest(t, "later", `avi.vs.log("ran")`))
		res, body, rec := s.do(request)
		if res.StatusCode != http.StatusAccepted || body != "from the server" {
			t.Errorf("answer: %s %q", res.Status, body)
		}
		wantError(t, rec)
		got := s.asked.Load()
		if got == nil || got.Header.Get("X-Added") != "" || got.Header.Get("X-Replaced") != "0" || got.Header.Get("X-Removed") != "0" ||
			got.Host != "here.example" || got.RequestURI != "/path?query=1" {
			t.Errorf("the server saw the work of a script that failed: %+v", got)
		}
		if len(rec.Log) != 1 || !strings.HasSuffix(rec.Log[0], " ran") {
			t.Errorf("log: %q", rec.Log)
		}
	})
}

func TestScriptFailsOnResponse(t *testing.T) {
	const source = `avi.http.add_header("X-Added", "1")
avi.http.remove_header("X-Server")
error("oh no")
`
	t.Run("closed", func(t *testing.T) {
		s := newScripted(t, nil, onResponse(t, "faulty", source))
		res, body, rec := s.do(nil)
		if res.StatusCode != 500 || body != "Internal Server Error\n" {
			t.Errorf("answer: %s %q", res.Status, body)
		}
		for _, name := range []string{"X-Added", "X-Server", "Etag", "Set-Cookie"} {
			if v, ok := res.Header[name]; ok {
				t.Errorf("%s: %q", name, v)
			}
		}
		if len(rec.ScriptErrors) != 1 || rec.ScriptErrors[0].Event != datascript.HTTPResp || rec.ScriptErrors[0].Line != 4 {
			t.Errorf("script errors: %v", rec.ScriptErrors)
		}
		if rec.Status != 500 || !rec.Server.IsValid() {
			t.Errorf("record: %+v", rec)
		}
	})
	t.Run("open", func(t *testing.T) {
		s := newScripted(t, nil, failOpen(onResponse(t, "faulty", source)))
		res, body, rec := s.do(nil)
		if res.StatusCode != http.StatusAccepted || body != "from the server" || res.Header.Get("X-Server") != "secret version" || res.Header.Get("X-Added") != "" {
			t.Errorf("answer: %s %q %v", res.Status, body, res.Header)
		}
		if len(rec.ScriptErrors) != 1 || rec.Status != http.StatusAccepted {
			t.Errorf("record: %+v", rec)
		}
	})
}

// A script that cannot be stopped otherwise is stopped by its budget.
func TestScriptBudget(t *testing.T) {
	s := newScripted(t, func(cfg *limpet.Config) { cfg.Limits.Instructions = 1000 },
		onRequest(t, "endless", `while true do pcall(function() while true do end end) end`))
	res, _, rec := s.do(nil)
	if res.StatusCode != 500 || len(rec.ScriptErrors) != 1 {
		t.Fatalf("%s, errors %v", res.Status, rec.ScriptErrors)
	}
	want := &datascript.BudgetError{Budget: "instructions", Limit: 1000}
	if diff := cmp.Diff(want, rec.ScriptErrors[0].Cause); diff != "" {
		t.Error(diff)
	}
}

func TestScriptReplies(t *testing.T) {
	const reply = `avi.http.response(418, {x_one = "1", ["X-Two"] = {"a", "b"}, content_type = "text/html"}, "<p>teapot")
avi.http.response(200, {}, "the first one counts")
`
	check := func(t *testing.T, res *http.Response, body string) {
		t.Helper()
		want := http.Header{
			"X-One": {"1"}, "X-Two": {"a", "b"}, "Content-Type": {"text/html"}, "Content-Length": {"9"}, "Date": res.Header["Date"],
		}
		if diff := cmp.Diff(want, res.Header); diff != "" {
			t.Error(diff)
		}
		if res.StatusCode != 418 || body != "<p>teapot" {
			t.Errorf("answer: %s %q", res.Status, body)
		}
	}
	t.Run("on request", func(t *testing.T) {
		s := newScripted(t, nil, onRequest(t, "teapot", reply), onRequest(t, "later", `avi.vs.log("ran")`),
			onResponse(t, "response", `avi.vs.log("ran")`))
		res, body, rec := s.do(nil)
		check(t, res, body)
		if s.asked.Load() != nil || len(rec.Log) > 0 {
			t.Errorf("a reply did not end the request: log %q", rec.Log)
		}
		if rec.Status != 418 || rec.Bytes != 9 || !slices.Equal(rec.Significant, []limpet.Significance{limpet.ScriptRefused, limpet.Status4xx}) {
			t.Errorf("record: %+v", rec)
		}
	})
	t.Run("on response", func(t *testing.T) {
		s := newScripted(t, nil, onResponse(t, "teapot", reply), onResponse(t, "later", `avi.vs.log("ran")`))
		res, body, rec := s.do(nil)
		check(t, res, body)
		if s.asked.Load() == nil || len(rec.Log) > 0 || rec.Status != 418 || rec.Bytes != 9 {
			t.Errorf("record: %+v", rec)
		}
	})
	t.Run("redirect", func(t *testing.T) {
		s := newScripted(t, nil, onRequest(t, "redirect", `avi.http.redirect("https://example.com/a b?x=1", 307)`))
		res, body, rec := s.do(nil)
		if res.StatusCode != 307 || res.Header.Get("Location") != "https://example.com/a%20b?x=1" || body != "" {
			t.Errorf("answer: %s %q %v", res.Status, body, res.Header)
		}
		if s.asked.Load() != nil || rec.Status != 307 || len(rec.Significant) > 0 {
			t.Errorf("record: %+v", rec)
		}
	})
	t.Run("HEAD", func(t *testing.T) {
		s := newScripted(t, nil, onRequest(t, "teapot", reply))
		res, body, rec := s.do(func(r *http.Request) { r.Method = "HEAD" })
		if res.StatusCode != 418 || res.ContentLength != 9 || body != "" || rec.Bytes != 0 {
			t.Errorf("answer: %s, length %d, %q, record %d bytes", res.Status, res.ContentLength, body, rec.Bytes)
		}
	})
	t.Run("no content", func(t *testing.T) {
		s := newScripted(t, nil, onRequest(t, "empty", `avi.http.response(204, {}, "not sent")`))
		res, body, _ := s.do(nil)
		if res.StatusCode != 204 || body != "" || res.Header["Content-Length"] != nil {
			t.Errorf("answer: %s %q %v", res.Status, body, res.Header)
		}
	})
	t.Run("on a connection that stays", func(t *testing.T) {
		s := newScripted(t, nil, onRequest(t, "teapot", reply))
		c := s.site.client(t)
		for range 3 {
			r := newRequest(t, "POST", s.site.URL, strings.NewReader("a body that nobody reads"))
			if res, _ := fetch(t, c, r); res.StatusCode != 418 {
				t.Error(res.Status)
			}
		}
		recs := s.recs.take(t, 3)
		if recs[0].Source != recs[2].Source {
			t.Error("the connection was not kept")
		}
	})
}

// A response that is replaced is not read to its end, and its server is
// informed.
func TestReplacedResponse(t *testing.T) {
	gone := make(chan error, 1)
	pool := poolFor(t, func(w http.ResponseWriter, r *http.Request) {
		for {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				gone <- err
				return
			}
		}
	})
	for _, p := range []protocol{http1, http2TLS} {
		t.Run(string(p), func(t *testing.T) {
			recs := newRecords()
			_, site := serve(t, p, limpet.Config{
				Pools: []*lbpool.Pool{pool}, OnComplete: recs.add,
				Scripts: []limpet.Script{onResponse(t, "short", `avi.http.response(200, {}, "short")`)},
			})
			c := site.client(t)
			for range 2 {
				if status, body := get(t, c, site.URL); status != 200 || body != "short" {
					t.Errorf("%d %q", status, body)
				}
				testwait.Receive(t, gone, "the server to see its client leave")
				if rec := recs.next(t); len(rec.Significant) > 0 || rec.Status != 200 || rec.Bytes != 5 {
					t.Errorf("record: %+v", rec)
				}
			}
		})
	}
}

func TestScriptEdits(t *testing.T) {
	s := newScripted(t, nil,
		onRequest(t, "first", `avi.http.add_header("X-Many", "2")
avi.http.replace_header("X-One", "new")
avi.http.remove_header("X-Gone")
avi.http.add_header("X-Script", "set")
avi.http.replace_header("Host", "inner.example")
avi.http.set_uri("/new/path?a=b;c&d=%zz")`),
		onRequest(t, "second", `avi.http.add_header("X-Many", avi.http.get_header("X-Script"))
avi.vs.log(avi.http.get_uri(), " ", avi.http.get_uri("MODIFIED", false))`),
		onResponse(t, "response", `avi.http.remove_header("X-Server")
avi.http.add_header("Set-Cookie", "script=cookie")
avi.http.replace_header("Etag", "W/2")
avi.http.add_header("X-Status", avi.http.status())`),
	)
	res, body, rec := s.do(func(r *http.Request) {
		r.Header["X-Many"] = []string{"1"}
		r.Header.Set("X-One", "old")
		r.Header.Set("X-Gone", "old")
		r.Header.Set("X-Script", "forged")
		r.Header.Set("X-Kept", "kept")
		// What a script sets must not be removed by a header of the client.
		r.Header.Set("Connection", "X-Script, x-many, X-Own, close")
		r.Header.Set("X-Own", "the client's to remove")
		r.Host = "outer.example"
	})
	got := s.asked.Load()
	if got.Host != "inner.example" || got.RequestURI != "/new/path?a=b;c&d=%25zz" {
		t.Errorf("the server was asked for %s of %s", got.RequestURI, got.Host)
	}
	want := http.Header{
		"X-Many": {"2", "set"}, "X-One": {"new"}, "X-Script": {"set"}, "X-Kept": {"kept"},
		"X-Forwarded-For": {"127.0.0.1"}, "X-Forwarded-Host": {"outer.example"}, "X-Forwarded-Proto": {"http"},
		"User-Agent": {"Go-http-client/1.1"},
	}
	if diff := cmp.Diff(want, got.Header); diff != "" {
		t.Error(diff)
	}
	if res.StatusCode != http.StatusAccepted || body != "from the server" || res.Header["X-Server"] != nil ||
		res.Header.Get("Etag") != "W/2" || res.Header.Get("X-Status") != "202" ||
		!slices.Equal(res.Header["Set-Cookie"], []string{"server=cookie", "script=cookie"}) {
		t.Errorf("answer: %s %v", res.Status, res.Header)
	}
	if len(rec.Log) != 1 || !strings.HasSuffix(rec.Log[0], "/path?query=1 /new/path?a=b;c&d=%25zz") || !strings.Contains(rec.Log[0], `:3:`) {
		t.Errorf("log: %q", rec.Log)
	}
	// The record is of the request as received.
	if rec.Host != "outer.example" || rec.Path != "/path" {
		t.Errorf("record: host %q, path %q", rec.Host, rec.Path)
	}
}

// Headers that were there before the virtual service, set by a handler
// around it, are part of every answer.
func TestHeadersFromOutside(t *testing.T) {
	for _, script := range []string{"", `-- HTTP_REQ
avi.http.response(200, {}, "")`, `-- HTTP_RESP
avi.http.response(200, {}, "")`} {
		cfg := limpet.Config{Pools: []*lbpool.Pool{poolFor(t, func(http.ResponseWriter, *http.Request) {})}}
		if script != "" {
			cfg.Scripts = []limpet.Script{compile(t, "reply", script)}
		}
		vs := newVirtualService(t, cfg)
		site := startSite(t, http1, listen(t, ""), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Strict-Transport-Security", "max-age=1")
			vs.ServeHTTP(w, r)
		}))
		res, _ := fetch(t, site.client(t), newRequest(t, "GET", site.URL, nil))
		if res.Header.Get("Strict-Transport-Security") != "max-age=1" {
			t.Errorf("script %q: header %v", script, res.Header)
		}
	}
}

// The answers of policies, and of the virtual service itself, are not shown
// to scripts.
func TestLocalRepliesAreNotShown(t *testing.T) {
	saw := onResponse(t, "curious", `avi.vs.log("saw ", avi.http.status())`)
	dead := lbpool.ServerConfig{Address: deadAddr(t, "127.0.1.9:0")}
	for _, test := range []struct {
		name   string
		edit   func(*limpet.Config)
		script string
		status int
	}{
		{name: "policy", status: 403, edit: func(cfg *limpet.Config) {
			cfg.HTTPSecurity = []policy.SecurityRule{{Name: "no", Action: policy.Respond{Status: 403}}}
		}},
		{name: "script", status: 200, script: `avi.http.response(200, {}, "")`},
		{name: "script error", status: 500, script: `error("")`},
		{name: "no server", status: 503, edit: func(cfg *limpet.Config) {
			cfg.Pools[0].Servers()[0].Disable()
		}},
		{name: "no pool", status: 503, edit: func(cfg *limpet.Config) { cfg.Pools = nil }},
		{name: "server unreachable", status: 502, edit: func(cfg *limpet.Config) {
			cfg.Pools = []*lbpool.Pool{newPool(t, lbpool.Config{Name: "dead", Servers: []lbpool.ServerConfig{dead}})}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			scripts := []limpet.Script{saw}
			if test.script != "" {
				scripts = append(scripts, onRequest(t, "acting", test.script))
			}
			s := newScripted(t, test.edit, scripts...)
			res, _, rec := s.do(nil)
			if res.StatusCode != test.status || rec.Status != test.status || len(rec.Log) > 0 {
				t.Errorf("%s, record %d, log %q", res.Status, rec.Status, rec.Log)
			}
		})
	}
}

// Wrapped handlers are behind scripts as servers are.
func TestScriptsAroundHandler(t *testing.T) {
	recs := newRecords()
	vs := newVirtualService(t, limpet.Config{OnComplete: recs.add, Scripts: []limpet.Script{
		compile(t, "edit", `-- HTTP_REQ
avi.http.replace_header("X-User", avi.http.get_query("user"))
avi.http.set_path("/inner" .. avi.http.get_path())
if avi.http.get_query("stop") then avi.http.response(403, {}, "stopped") end

-- HTTP_RESP
if avi.http.status() == "404" then avi.http.response(200, {}, "found after all") end
avi.http.replace_header("X-Answer", "edited")
`)}})
	site := startSite(t, http1, listen(t, ""), vs.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tx, ok := limpet.TransactionFrom(r.Context())
		if !ok || tx.Original() == r || tx.Original().URL.Path == r.URL.Path || tx.Client().String() != r.RemoteAddr {
			t.Errorf("transaction: %v", ok)
		}
		if r.URL.Query().Has("missing") {
			w.Header().Set("X-Own", "1")
			http.NotFound(w, r)
			return
		}
		w.Header().Set("X-Answer", "plain")
		fmt.Fprint(w, r.Header.Get("X-User"), " ", r.URL.Path)
	})))
	for _, test := range []struct {
		uri, body, answer string
		status            int
	}{
		{"/a?user=u1", "u1 /inner/a", "edited", 200},
		{"/a?user=u1&missing", "found after all", "edited", 200},
		{"/a?user=u1&stop", "stopped", "", 403},
	} {
		res, body := fetch(t, site.client(t), newRequest(t, "GET", site.URL+test.uri, nil))
		if res.StatusCode != test.status || body != test.body || res.Header.Get("X-Answer") != test.answer || res.Header.Get("X-Own") != "" {
			t.Errorf("%s: %s %q %v", test.uri, res.Status, body, res.Header)
		}
		if rec := recs.next(t); rec.Status != test.status || rec.Bytes != int64(len(test.body)) || rec.Pool != "" {
			t.Errorf("%s: record %+v", test.uri, rec)
		}
	}
}

// The virtual service's own listener counts the connections of clients;
// without it a script that asks for them fails.
func TestOpenConnections(t *testing.T) {
	const source = `avi.http.response(200, {}, avi.vs.get_open_conns() .. " " .. avi.vs.se_count())`
	for _, rules := range []struct {
		name string
		list []policy.NetworkRule
	}{{"without rules", nil}, {"with rules", denying("127.0.0.66")}} {
		t.Run(rules.name, func(t *testing.T) {
			vs := newVirtualService(t, limpet.Config{
				Scripts: []limpet.Script{onRequest(t, "count", source)}, Policies: limpet.Policies{NetworkSecurity: rules.list}, Scripting: limpet.Scripting{Instances: 3},
			})
			site := startSite(t, http1, vs.Listener(listen(t, "")), vs)
			ask := func(c *http.Client) string {
				_, body := get(t, c, site.URL)
				return body
			}
			var clients []*http.Client
			for n := 1; n <= 3; n++ {
				clients = append(clients, site.client(t))
				if got, want := ask(clients[n-1]), fmt.Sprintf("%d 3", n); got != want {
					t.Errorf("with %d connections: %q", n, got)
				}
			}
			clients[0].CloseIdleConnections()
			clients[1].CloseIdleConnections()
			// The server notices when it reads.
			for deadline := time.Now().Add(testwait.Limit); ask(clients[2]) != "1 3"; {
				if time.Now().After(deadline) {
					t.Fatal("closed connections are still counted")
				}
			}
		})
	}
	t.Run("without a listener", func(t *testing.T) {
		s := newScripted(t, nil, onRequest(t, "count", source))
		res, _, rec := s.do(nil)
		if res.StatusCode != 500 || len(rec.ScriptErrors) != 1 ||
			!strings.HasSuffix(rec.ScriptErrors[0].Message, "avi.vs.get_open_conns: not possible in this virtual service") {
			t.Errorf("status %d, script errors %v", res.StatusCode, rec.ScriptErrors)
		}
	})
}
