package datascripttest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet/datascript"
)

func at(ev datascript.Event, source string) datascript.Chunk {
	return datascript.Chunk{Event: ev, Source: source}
}

func scripts(list ...*datascript.Script) []*datascript.Script { return list }

// TestDoOrder notes each event of two scripts, for each way that a transaction
// can take.
func TestDoOrder(t *testing.T) {
	var chunks []datascript.Chunk
	for _, ev := range []datascript.Event{
		datascript.HTTPAuth, datascript.HTTPPostAuth, datascript.HTTPReq, datascript.LBDone,
		datascript.HTTPLBFailed, datascript.HTTPResp, datascript.RespFailed,
	} {
		chunks = append(chunks, at(ev, `avi.vs.log("`+ev.String()+`")`))
	}
	answer := func(netip.AddrPort, *http.Request) (*Response, error) { return &Response{Status: 200}, nil }
	for _, c := range []struct {
		name    string
		pools   Pools
		respond func(netip.AddrPort, *http.Request) (*Response, error)
		want    string
		status  int
	}{
		{"answered", Pools{{Name: "p", Servers: Servers("10.0.0.1:80")}}, answer, "HTTP_AUTH HTTP_POST_AUTH HTTP_REQ LB_DONE HTTP_RESP", 200},
		{"no pools", nil, answer, "HTTP_AUTH HTTP_POST_AUTH HTTP_REQ HTTP_RESP", 200},
		{"no server", Pools{{Name: "p"}}, answer, "HTTP_AUTH HTTP_POST_AUTH HTTP_REQ HTTP_LB_FAILED", 503},
		{"no response", nil, func(netip.AddrPort, *http.Request) (*Response, error) { return nil, io.ErrUnexpectedEOF },
			"HTTP_AUTH HTTP_POST_AUTH HTTP_REQ RESP_FAILED", 502},
		{"nil response", nil, func(netip.AddrPort, *http.Request) (*Response, error) { return nil, nil },
			"HTTP_AUTH HTTP_POST_AUTH HTTP_REQ RESP_FAILED", 502},
	} {
		t.Run(c.name, func(t *testing.T) {
			vs := &VirtualService{
				Scripts: scripts(Compile(t, "a", chunks...), Compile(t, "b", chunks...)), Pools: c.pools, Respond: c.respond,
			}
			got := Run(t, vs, httptest.NewRequest("GET", "/", nil))[0]
			var want []string
			for ev := range strings.FieldsSeq(c.want) {
				want = append(want, `[string "a"]:1: `+ev, `[string "b"]:1: `+ev)
			}
			if diff := cmp.Diff(want, got.Log); diff != "" {
				t.Errorf("log (-want +got):\n%s", diff)
			}
			if got.Response.Status != c.status || got.Closed != Open || got.Err != nil {
				t.Errorf("result %+v", got)
			}
		})
	}
}

// TestDoZero: a service of nothing answers 200, and still tells what was sent.
func TestDoZero(t *testing.T) {
	var vs VirtualService
	r := httptest.NewRequest("POST", "/a?b=c", strings.NewReader("body"))
	got := Run(t, &vs, r)[0]
	body, _ := io.ReadAll(got.Sent.Body)
	if got.Response.Status != 200 || got.Response.Header == nil || got.Sent.URL.String() != "/a?b=c" || string(body) != "body" {
		t.Errorf("result %+v, sent %v with %q", got, got.Sent.URL, body)
	}
	if got.Pool != "" || got.Server.IsValid() {
		t.Errorf("sent to %q %v", got.Pool, got.Server)
	}
}

func TestDoRespond(t *testing.T) {
	vs := &VirtualService{
		Scripts: scripts(Compile(t, "s", at(datascript.HTTPReq, `avi.http.set_path("/b")`))),
		Pools:   Pools{{Name: "p", Servers: Servers("10.0.0.1:80")}},
		Respond: func(server netip.AddrPort, r *http.Request) (*Response, error) {
			body, _ := io.ReadAll(r.Body)
			return &Response{Status: 201, Body: []byte(server.String() + " " + r.URL.Path + " " + string(body))}, nil
		},
	}
	in := httptest.NewRequest("POST", "/a", strings.NewReader("hello"))
	got := Run(t, vs, in)[0]
	if want := "10.0.0.1:80 /b hello"; string(got.Response.Body) != want {
		t.Errorf("body %q, want %q", got.Response.Body, want)
	}
	if body, _ := io.ReadAll(got.Sent.Body); string(body) != "hello" {
		t.Errorf("the body sent reads %q after Respond has read it", body)
	}
	if in.URL.Path != "/a" {
		t.Errorf("the caller's request has path %q", in.URL.Path)
	}
}

func TestDoBalances(t *testing.T) {
	vs := &VirtualService{
		Scripts: scripts(Compile(t, "s", at(datascript.HTTPReq, `local p = avi.http.get_query("p") if p then avi.pool.select(p) end`))),
		Pools: Pools{
			{Name: "first", Servers: Servers("10.0.0.1:80", "10.0.0.2:80")},
			{Name: "round", Algorithm: RoundRobin, Servers: Servers("10.0.1.1:80", "10.0.1.2:80", "10.0.1.3:80")},
		},
	}
	servers := func(uri string, n int) (got []string) {
		t.Helper()
		for range n {
			got = append(got, Run(t, vs, httptest.NewRequest("GET", uri, nil))[0].Server.Addr().String())
		}
		return got
	}
	check := func(what string, got []string, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	check("first up", servers("/", 2), "10.0.0.1", "10.0.0.1")
	check("round robin", servers("/?p=round", 4), "10.0.1.1", "10.0.1.2", "10.0.1.3", "10.0.1.1")
	vs.Pools[0].Servers[0].Down = true
	vs.Pools[1].Servers[1].Down = true
	check("first up, with one down", servers("/", 1), "10.0.0.2")
	check("round robin, with one down", servers("/?p=round", 3), "10.0.1.1", "10.0.1.3", "10.0.1.1")
}

// TestDoRebinds: an entry that led to a server which cannot be used gets
// another value, in the same form, unless it was changed meanwhile.
func TestDoRebinds(t *testing.T) {
	const selectByKey = `avi.pool.select("p", "key")`
	for _, c := range []struct {
		name, source, entry, want string
		pools                     Pools
	}{
		{"address", selectByKey, "10.0.0.1", "10.0.0.2", nil},
		{"address and port", selectByKey, "10.0.0.1:80", "10.0.0.2:80", nil},
		{"name", selectByKey, "web1", "10.0.0.2", nil},
		{"gone", selectByKey, "10.9.9.9", "10.0.0.2", nil},
		{"changed by the script", selectByKey + ` avi.vs.table_remove("key") avi.vs.table_insert("key", "other", 60)`, "10.0.0.1", "other", nil},
		{"no server at all", selectByKey, "10.0.0.1", "10.0.0.1", Pools{{Name: "p", Servers: []Server{{Addr: netip.MustParseAddrPort("10.0.0.1:80"), Down: true}}}}},
		{"selected by address", `avi.pool.select("p", "10.0.0.1")`, "10.0.0.1", "10.0.0.1", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			vs := &VirtualService{Scripts: scripts(Compile(t, "s", at(datascript.HTTPReq, c.source))), Pools: c.pools}
			if vs.Pools == nil {
				vs.Pools = Pools{{Name: "p", Servers: Servers("10.0.0.1:80", "10.0.0.2:80")}}
				vs.Pools[0].Servers[0].Down, vs.Pools[0].Servers[0].Name = true, "web1"
			}
			vs.Tables.Set(Entry{Key: "key", Value: c.entry, Lifetime: time.Minute})
			Run(t, vs, httptest.NewRequest("GET", "/", nil))
			if diff := cmp.Diff([]Entry{{Key: "key", Value: c.want, Lifetime: time.Minute}}, vs.Tables.Entries()); diff != "" {
				t.Errorf("entries (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDoFailsClosed(t *testing.T) {
	vs := &VirtualService{
		Scripts: scripts(
			Compile(t, "broken", at(datascript.HTTPReq, "avi.http.close_conn()\nerror('oh')")),
			Compile(t, "behind", at(datascript.HTTPReq, `avi.vs.log("never")`)),
		),
	}
	got, err := vs.Do(httptest.NewRequest("GET", "/", nil))
	if err != nil {
		t.Fatal(err)
	}
	if got.Response.Status != 500 || string(got.Response.Body) != "Internal Server Error" || got.Sent != nil || got.Closed != Open || len(got.Log) != 0 {
		t.Errorf("result %+v", got)
	}
	if e := got.Err; e == nil || e.Script != "broken" || e.Line != 2 || e.Event != datascript.HTTPReq || !strings.Contains(e.Message, "oh") {
		t.Errorf("error %#v", got.Err)
	}
}

func TestDoStoreFails(t *testing.T) {
	vs := &VirtualService{
		Scripts: scripts(Compile(t, "s", at(datascript.HTTPReq, `avi.vs.table_lookup("k")`))),
		Tables:  Tables{Err: errors.New("store is down")},
	}
	got, err := vs.Do(httptest.NewRequest("GET", "/", nil))
	if err != nil || got.Response.Status != 500 || !errors.Is(got.Err, vs.Tables.Err) {
		t.Errorf("result %+v, error %v", got, err)
	}
}

func TestDoContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	vs := &VirtualService{Scripts: scripts(Compile(t, "s", at(datascript.HTTPReq, `avi.vs.log("x")`)))}
	got, err := vs.Do(httptest.NewRequestWithContext(ctx, "GET", "/", nil))
	if err != nil || !errors.Is(got.Err, context.Canceled) {
		t.Errorf("result %+v, error %v", got, err)
	}
}

// TestDoWrong: what is wrong with the test itself is an error, and not a
// result.
func TestDoWrong(t *testing.T) {
	for _, c := range []struct {
		name string
		vs   *VirtualService
		body io.Reader
		want string
	}{
		{"nil script", &VirtualService{Scripts: scripts(nil)}, nil, "script 1 is nil"},
		{"rate limiter", &VirtualService{RateLimiters: map[string]*datascript.RateLimiter{"r": nil}}, nil, `rateLimiters["r"]: missing`},
		{"limits", &VirtualService{Limits: datascript.Limits{CallDepth: 1 << 30}}, nil, "callDepth"},
		{"body", &VirtualService{}, iotest.ErrReader(errors.New("torn")), "request body: torn"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequest("POST", "/", c.body)
			if _, err := c.vs.Do(r); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one that says %q", err, c.want)
			}
			var rec recorder
			if got := Run(&rec, c.vs, httptest.NewRequest("POST", "/", c.body)); len(got) != 0 || len(rec.fatals) != 1 {
				t.Errorf("Run: %d results, fatal errors %q", len(got), rec.fatals)
			}
		})
	}
}

func TestRunReports(t *testing.T) {
	var rec recorder
	vs := &VirtualService{Scripts: scripts(Compile(&rec, "s", at(datascript.HTTPReq, `if avi.http.get_path() == "/b" then error("oh") end`)))}
	got := Run(&rec, vs, httptest.NewRequest("GET", "/a", nil), httptest.NewRequest("GET", "/b", nil), httptest.NewRequest("GET", "/c", nil))
	if len(got) != 3 || len(rec.fatals) != 0 || len(rec.errors) != 1 {
		t.Fatalf("%d results, errors %q, fatal errors %q", len(got), rec.errors, rec.fatals)
	}
	for _, want := range []string{"request 2", `script "s"`, "HTTP_REQ", "oh", "stack traceback"} {
		if !strings.Contains(rec.errors[0], want) {
			t.Errorf("error %q does not say %q", rec.errors[0], want)
		}
	}
}

func TestCompileReports(t *testing.T) {
	var rec recorder
	if s := Compile(&rec, "s", at(datascript.HTTPReq, "if")); s != nil || len(rec.fatals) != 1 || !strings.Contains(rec.fatals[0], "s_on_http_req.ds") {
		t.Errorf("script %v, fatal errors %q", s, rec.fatals)
	}
}
