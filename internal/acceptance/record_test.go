package acceptance_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/policy"
)

// logged is a log of JSON that can be read while it is written.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) logger(level slog.Level) *slog.Logger {
	return slog.New(slog.NewJSONHandler(lockedWriter{&l.mu, &l.buf}, &slog.HandlerOptions{Level: level}))
}

// text is all that was logged.
func (l *logged) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// lines are the records that were logged.
func (l *logged) lines(t *testing.T) (lines []map[string]any) {
	t.Helper()
	for text := range strings.Lines(l.text()) {
		var line map[string]any
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
	return lines
}

func keys(line map[string]any) []string { return slices.Sorted(maps.Keys(line)) }

func TestRecord(t *testing.T) {
	var log logged
	recs := newRecords()
	servers := startServersWith(t, 1, func(int) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusCreated)
			io.WriteString(w, "12345")
		})
	})
	dead := newPool(t, lbpool.Config{Name: "dead", Servers: []lbpool.ServerConfig{{Address: deadAddr(t, "127.0.1.9:0"), Name: "gone"}}})
	equals := func(path string) policy.Match {
		return policy.Match{Path: &policy.PathMatch{Op: policy.Equals, Values: []string{path}}}
	}
	cfg := limpet.Config{
		Name:  "shop",
		Pools: []*lbpool.Pool{poolOf(t, servers...), dead},
		Policies: limpet.Policies{
			HTTPSecurity: []policy.SecurityRule{
				{Name: "no admin", Match: equals("/admin"), Action: policy.Respond{Status: 403}},
				{Name: "fine", Match: equals("/fine"), Action: policy.Allow{}},
			},
			NetworkSecurity: []policy.NetworkRule{{Name: "all", Action: policy.ActionAllow}},
		},
		Scripts: []limpet.Script{onRequest(t, "steer", `local path = avi.http.get_path()
if path == "/dead" then avi.pool.select("dead") end
if path == "/faulty" then error("oh no") end
if path == "/key" then avi.vs.table_lookup("key") avi.vs.log("looked ", "up") end`)},
		Logger: log.logger(slog.LevelInfo), OnComplete: recs.add,
	}
	vs, proxied := serve(t, http1, cfg)
	wrapped := startSite(t, http2TLS, listen(t, ""), vs.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "hello")
	})))

	common := []string{"time", "level", "msg", "vs", "client", "method", "host", "path", "proto", "status", "bytes", "network_rule", "duration"}
	for _, test := range []struct {
		name  string
		site  *site
		path  string
		want  limpet.Record // what is the same each time
		level string
		more  []string // keys of the log beside those in common
		msg   string
	}{
		{
			"proxied", proxied, "/a%2Fb", limpet.Record{
				Path: "/a%2Fb", Status: 201, ServerStatus: 201, Bytes: 5, Pool: "my_pool", ServerName: "s1", Tried: 1,
			}, "INFO", []string{"pool", "server", "first_byte"}, "",
		},
		{"wrapped", wrapped, "/fine", limpet.Record{
			Path: "/fine", Status: 200, ServerStatus: 200, Bytes: 5, SecurityRule: "fine",
		}, "INFO", []string{"security_rule", "first_byte"}, ""},
		{"with a look-up", proxied, "/key", limpet.Record{
			Path: "/key", Status: 201, ServerStatus: 201, Filtered: true, Bytes: 5, Pool: "my_pool", ServerName: "s1", Tried: 1,
			Outcome: limpet.OutcomeMiss, Log: []string{`[string "steer"]:5: looked up`},
		}, "INFO", []string{"pool", "server", "persistence", "log", "first_byte"}, ""},
		{"denied", proxied, "/admin", limpet.Record{
			Path: "/admin", Status: 403, Bytes: 14, SecurityRule: "no admin",
			Significant: []limpet.Significance{limpet.PolicyDrop, limpet.Status4xx},
		}, "WARN", []string{"security_rule", "significant"}, ""},
		{"no answer", proxied, "/dead", limpet.Record{
			Path: "/dead", Status: 502, Bytes: 12, Pool: "dead", ServerName: "gone", Tried: 1,
			Significant: []limpet.Significance{limpet.ServerFailed, limpet.Status5xx},
		}, "WARN", []string{"pool", "server", "significant", "error"}, ""},
		{"failed script", proxied, "/faulty", limpet.Record{
			Path: "/faulty", Status: 500, Bytes: 22,
			Significant: []limpet.Significance{limpet.ScriptFailed, limpet.Status5xx},
		}, "ERROR", []string{"significant", "script"}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := time.Now()
			res, _ := fetch(t, test.site.client(t), newRequest(t, "GET", test.site.URL+test.path, nil))
			got := recs.next(t)
			if got.Start.Before(before) || got.Duration <= 0 || got.Duration > time.Since(before) {
				t.Errorf("start %v, duration %v", got.Start, got.Duration)
			}
			if !got.Client.IsValid() || got.Client != got.Source || got.Local.String() != test.site.Addr {
				t.Errorf("client %v, source %v, local %v", got.Client, got.Source, got.Local)
			}
			if got.Tried > 0 != got.Server.IsValid() || test.name == "proxied" && got.Server.String() != servers[0].Address {
				t.Errorf("server %v", got.Server)
			}
			if (got.Error != nil) != (test.name == "no answer") || got.Error != nil && !errors.Is(got.Error, lbpool.ErrConnect) {
				t.Errorf("error %v", got.Error)
			}
			if (len(got.ScriptErrors) == 1) != (test.name == "failed script") {
				t.Errorf("script errors %v", got.ScriptErrors)
			}
			if (got.FirstByte > 0) != (test.want.ServerStatus > 0) || got.FirstByte > got.Duration {
				t.Errorf("first byte after %v", got.FirstByte)
			}
			want := test.want
			want.FirstByte = got.FirstByte
			want.VirtualService, want.Method, want.Host, want.Proto, want.NetworkRule = "shop", "GET", test.site.Addr, res.Proto, "all"
			want.Start, want.Duration, want.Client, want.Source, want.Local = got.Start, got.Duration, got.Client, got.Source, got.Local
			want.ClientSource, want.ClientReason = "peer", "peer-untrusted"
			want.Server, want.Error, want.ScriptErrors = got.Server, got.Error, got.ScriptErrors
			if text, other := fmt.Sprintf("%+v", want), fmt.Sprintf("%+v", got); text != other {
				t.Error(cmp.Diff(text, other))
			}

			lines := log.lines(t)
			line := lines[len(lines)-1]
			wantKeys := slices.Sorted(slices.Values(append(slices.Clone(common), test.more...)))
			if diff := cmp.Diff(wantKeys, keys(line)); diff != "" {
				t.Error(diff)
			}
			if line["level"] != test.level || line["msg"] != "request" || line["vs"] != "shop" || line["client"] != got.Client.String() ||
				line["method"] != "GET" || line["path"] != test.path || line["status"] != float64(got.Status) || line["bytes"] != float64(got.Bytes) ||
				line["host"] != got.Host || line["duration"] != float64(got.Duration) {
				t.Errorf("line: %v", line)
			}
			switch test.name {
			case "with a look-up":
				if line["persistence"] != "miss" || fmt.Sprint(line["log"]) != fmt.Sprint(got.Log) {
					t.Errorf("line: %v", line)
				}
			case "denied":
				if line["significant"] != "dropped by policy, status 4xx" || line["security_rule"] != "no admin" {
					t.Errorf("line: %v", line)
				}
			case "failed script":
				e := got.ScriptErrors[0]
				want := map[string]any{"name": "steer", "event": "HTTP_REQ", "error": e.Message, "traceback": e.Traceback}
				if diff := cmp.Diff(want, line["script"]); diff != "" {
					t.Error(diff)
				}
			}
		})
	}

	t.Run("denied connection", func(t *testing.T) {
		cfg.NetworkSecurity = denying("127.0.0.66")
		if err := vs.Update(cfg); err != nil {
			t.Fatal(err)
		}
		guarded := startSite(t, http1, vs.Listener(listen(t, "")), vs)
		guarded.wantReset(t, "127.0.0.66")
		recs.next(t)
		lines := log.lines(t)
		line := lines[len(lines)-1]
		want := []string{"client", "duration", "level", "msg", "network_rule", "significant", "time", "vs"}
		if diff := cmp.Diff(want, keys(line)); diff != "" {
			t.Error(diff)
		}
		if line["msg"] != "connection denied" || line["level"] != "WARN" || line["network_rule"] != "no 127.0.0.66" {
			t.Errorf("line: %v", line)
		}
	})

	t.Run("behind a proxy", func(t *testing.T) {
		tx := newVirtualService(t, limpet.Config{Logger: log.logger(slog.LevelInfo), Clients: limpet.Clients{ClientHeader: "X-Forwarded-For", TrustedProxies: loopback}})
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = "127.0.0.1:1234"
		r.Header.Set("X-Forwarded-For", "203.0.113.9")
		tx.ServeHTTP(httptest.NewRecorder(), r)
		lines := log.lines(t)
		if line := lines[len(lines)-1]; line["client"] != "203.0.113.9:0" || line["source"] != "127.0.0.1:1234" ||
			line["client_source"] != "x-forwarded-for" || line["client_reason"] != "hop-untrusted" {
			t.Errorf("line: %v", line)
		}
	})
}

// A logger that is told to be quiet is.
func TestLogLevel(t *testing.T) {
	var log logged
	vs := newVirtualService(t, limpet.Config{
		Logger:  log.logger(slog.LevelWarn),
		Scripts: []limpet.Script{onRequest(t, "s", `if avi.http.get_query("bad") then avi.http.response(400, {}, "") end`)},
	})
	h := vs.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for _, uri := range []string{"/", "/?bad", "/"} {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", uri, nil))
	}
	if lines := log.lines(t); len(lines) != 1 || lines[0]["level"] != "WARN" {
		t.Errorf("lines: %v", lines)
	}
}

// What clients and servers keep to themselves is in no record and no log,
// not even at level Debug.
func TestNoSecrets(t *testing.T) {
	const canary = "canary"
	var log logged
	recs := newRecords()
	pool := poolFor(t, func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "session", Value: canary + "-set-cookie"})
		w.Header().Set("X-Secret", canary+"-response-header")
		if r.URL.Path == "/cut" {
			w.Header().Set("Content-Length", "1000")
			io.WriteString(w, canary+"-body")
			flush(t, w)
			panic(http.ErrAbortHandler)
		}
		io.WriteString(w, canary+"-body")
	})
	dead := newPool(t, lbpool.Config{Name: "dead", Servers: []lbpool.ServerConfig{{Address: deadAddr(t, "127.0.1.9:0")}}})
	_, site := serve(t, http1, limpet.Config{
		Pools: []*lbpool.Pool{pool, dead}, Logger: log.logger(slog.LevelDebug), OnComplete: recs.add,
		Policies: limpet.Policies{HTTPSecurity: []policy.SecurityRule{{
			Name: "cookie", Action: policy.Respond{Status: 403},
			Match: policy.Match{
				Path:   &policy.PathMatch{Op: policy.Equals, Values: []string{"/denied"}},
				Cookie: &policy.CookieMatch{Name: "session", Op: policy.Exists},
			},
		}}},
		Scripts: []limpet.Script{compile(t, "sticky", `-- HTTP_REQ
key = avi.http.get_cookie("session")
avi.vs.table_insert(key, avi.http.get_header("authorization"))
local path = avi.http.get_path()
if path == "/dead" then avi.pool.select("dead") end
if path == "/faulty" then avi.no_such_thing(key) end
if path == "/closed" then avi.http.close_conn() end

-- HTTP_RESP
avi.vs.table_lookup(key)
if avi.http.get_path() == "/faulty-response" then error({key}) end
`)},
	})
	for _, path := range []string{"/", "/dead", "/cut", "/denied", "/faulty", "/faulty-response", "/closed"} {
		r := newRequest(t, "POST", site.URL+path+"?token="+canary+"-query", strings.NewReader(canary+"-upload"))
		r.AddCookie(&http.Cookie{Name: "session", Value: canary + "-cookie"})
		r.Header.Set("Authorization", "Bearer "+canary+"-authorization")
		r.Header.Set("Referer", "https://example.com/?"+canary+"-referer")
		r.SetBasicAuth("user", canary+"-password")
		_, _, err := try(site.client(t), r)
		if (err != nil) != (path == "/cut" || path == "/closed") {
			t.Errorf("%s: %v", path, err)
		}
		rec := recs.next(t)
		text := fmt.Sprintf("%+v", rec)
		for _, e := range rec.ScriptErrors {
			text += fmt.Sprintf("%+v %s", *e, e.Traceback)
		}
		if strings.Contains(text, canary) {
			t.Errorf("%s: a secret in the record: %s", path, text)
		}
	}
	if len(log.lines(t)) < 7 {
		t.Error("the log is not complete")
	}
	if strings.Contains(log.text(), canary) {
		t.Errorf("a secret in the log: %s", log.text())
	}
}

// A client must not be able to forge lines of the log.
func TestLogIsNotForged(t *testing.T) {
	var log bytes.Buffer
	vs := newVirtualService(t, limpet.Config{
		Logger:  slog.New(slog.NewTextHandler(&log, nil)),
		Scripts: []limpet.Script{onRequest(t, "s", `avi.vs.log(avi.http.get_path())`)},
	})
	r := httptest.NewRequest("GET", "/%0Alevel=ERROR%20msg=forged", nil)
	vs.ServeHTTP(httptest.NewRecorder(), r)
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "forged") {
		t.Errorf("log: %q", got)
	}
}

func TestRecordNames(t *testing.T) {
	for _, test := range []struct{ got, want string }{
		{limpet.OutcomeNone.String(), ""},
		{limpet.OutcomeMiss.String(), "miss"},
		{limpet.OutcomeExpired.String(), "expired"},
		{limpet.OutcomeHit.String(), "hit"},
		{limpet.RepinDown.String(), "repin:down"},
		{limpet.RepinDisabled.String(), "repin:disabled"},
		{limpet.RepinGone.String(), "repin:gone"},
		{limpet.RepinFull.String(), "repin:full"},
		{limpet.Outcome(99).String(), "invalid"},
		{limpet.PolicyDrop.String(), "dropped by policy"},
		{limpet.Status5xx.String(), "status 5xx"},
		{limpet.Significance(0).String(), "invalid"},
		{limpet.Significance(99).String(), "invalid"},
		{limpet.FailClosed.String(), "fail closed"},
		{limpet.FailOpen.String(), "fail open"},
		{limpet.OnError(99).String(), "invalid"},
	} {
		if test.got != test.want {
			t.Errorf("%q, want %q", test.got, test.want)
		}
	}
	data, err := json.Marshal(limpet.Record{Outcome: limpet.RepinGone, Significant: []limpet.Significance{limpet.NoServer}})
	if err != nil || !bytes.Contains(data, []byte(`"Outcome":"repin:gone"`)) || !bytes.Contains(data, []byte(`"Significant":["no server available"]`)) {
		t.Errorf("%s, %v", data, err)
	}
}
