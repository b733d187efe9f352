package acceptance_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/redistest"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
	"github.com/limpetlb/limpet/persistence/redisstore"
	"github.com/limpetlb/limpet/policy"
)

// A leak looks for canaries in whatever text it gets, however they are spelled.
type leak struct {
	mu       sync.Mutex
	canaries []string
	found    []string
	checked  int
}

func newLeak(canaries ...string) *leak {
	l := new(leak)
	for _, c := range canaries {
		bytes := strings.Trim(fmt.Sprint([]byte(c)), "[]")
		l.canaries = append(l.canaries, c, base64.StdEncoding.EncodeToString([]byte(c)), fmt.Sprintf("%x", c), bytes, strings.ReplaceAll(bytes, " ", ","))
	}
	return l
}

func (l *leak) look(where, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.checked++
	for _, c := range l.canaries {
		if strings.Contains(text, c) {
			l.found = append(l.found, where+": "+text)
		}
	}
}

// print looks at a value in all the ways of printing it.
func (l *leak) print(where string, v any) {
	for _, verb := range []string{"%v", "%+v", "%#v"} {
		l.look(where+" by "+verb, fmt.Sprintf(verb, v))
	}
	if data, err := json.Marshal(v); err == nil {
		l.look(where+" as JSON", string(data))
	}
	var logged bytes.Buffer
	slog.New(slog.NewTextHandler(&logged, nil)).Info("text", "v", v)
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("json", "v", v)
	l.look(where+" in a log", logged.String())
}

// Write makes it a sink of logs.
func (l *leak) Write(p []byte) (int, error) {
	l.look("log", string(p))
	return len(p), nil
}

func (l *leak) report(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, text := range l.found {
		t.Errorf("a secret in %.2000s", text)
	}
	t.Logf("%d texts, %d with a secret", l.checked, len(l.found))
}

// TestSecretsPrinted prints all that a program holds which knows a secret.
func TestSecretsPrinted(t *testing.T) {
	const password, key, value = "canary-password", "canary-0123456789-cookie-key-32b", "canary-table-value"
	l := newLeak(password, key, value)
	server := redistest.Start(t, "--requirepass", password)
	shared := redisstore.Config{
		Addresses: []string{server.Addr}, Username: "default", Password: password, Prefix: "secrets",
		Logger: slog.New(slog.NewJSONHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug})), WhenDown: redisstore.FailClosed,
		Timeout: testwait.Limit,
	}
	store, err := redisstore.New(shared)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	testwait.Until(t, "Redis", func() bool { return store.Ping(t.Context()) == nil })
	cookie := persistence.HTTPCookieConfig{Keys: []persistence.CookieKey{{ID: "a", Secret: []byte(key)}}}
	profile, err := persistence.NewHTTPCookie(cookie)
	if err != nil {
		t.Fatal(err)
	}
	memory := persistence.NewStore(persistence.Options{})
	for _, tables := range []limpet.Tables{store, memory} {
		if ok, err := tables.Insert(t.Context(), "", value, value, time.Minute); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	cfg := limpet.Config{Pools: []*lbpool.Pool{poolOf(t, startServers(t, 1)...)}, Tables: store, Persistence: profile}
	vs := newVirtualService(t, cfg)

	l.print("redisstore.Config", shared)
	l.print("*redisstore.Config", &shared)
	l.print("redisstore.Stats", store.Stats())
	l.print("HTTPCookieConfig", cookie)
	l.print("CookieKey", cookie.Keys[0])
	l.print("*CookieKey", &cookie.Keys[0])
	l.print("limpet.Config", cfg)
	l.print("limpet.Stats", vs.Stats())
	l.print("limpet.Health", vs.Health())
	l.print("persistence.Stats", memory.Stats())
	l.print("*HTTPCookie", profile)
	for _, secret := range []any{shared.Password, &shared.Password, cookie.Keys[0], &cookie.Keys[0], cookie.Keys} {
		l.look("secret", fmt.Sprintf("%v %s %q %x %X %d", secret, secret, secret, secret, secret, secret))
	}

	// What goes wrong tells no secret either.
	cookie.Keys = append(cookie.Keys, persistence.CookieKey{ID: "b", Secret: []byte(key + "x")}, persistence.CookieKey{ID: "?", Secret: []byte(key)})
	_, err = persistence.NewHTTPCookie(cookie)
	l.look("error of NewHTTPCookie", fmt.Sprint(err))
	bad := shared
	bad.Addresses, bad.Database = []string{"nowhere"}, -1
	_, err = redisstore.New(bad)
	l.look("error of redisstore.New", fmt.Sprintf("%v %+v", err, err))
	wrong := shared
	wrong.Password = password + "-wrong"
	if refused, err := redisstore.New(wrong); err != nil {
		l.look("error of redisstore.New", err.Error())
	} else {
		_, err = refused.Insert(t.Context(), "", value, value, time.Minute)
		l.look("error of a store with a wrong password", fmt.Sprintf("%v %+v", err, err))
		refused.Close()
	}
	server.Kill()
	_, _, _, err = store.Lookup(t.Context(), "", value+"-other", 0)
	if err == nil {
		t.Error("the store has answered without its server")
	}
	l.look("error of a store that is down", fmt.Sprintf("%v %+v %#v", err, err, err))
	l.report(t)
}

// TestNoSecretsAnywhere sends secrets through all parts of a request, and looks
// at what becomes of it: records, logs, the log of the HTTP server, metrics,
// counts and explanations.
func TestNoSecretsAnywhere(t *testing.T) {
	const canary = "canary"
	l := newLeak(canary)
	recs := newRecords()
	profile, err := persistence.NewAppCookie(persistence.AppCookieConfig{Name: "session"})
	if err != nil {
		t.Fatal(err)
	}
	pool := poolFor(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		http.SetCookie(w, &http.Cookie{Name: "session", Value: canary + "-set-cookie"})
		w.Header().Set("X-Secret", canary+"-response")
		raw, ok := map[string]string{
			"/malformed": "HTTP/1.1 200 OK\r\n" + canary + "-no-header\r\n\r\n",
			"/trailer":   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n" + canary + "-no-trailer\r\n\r\n",
			"/switch":    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + canary + "-other\r\n\r\n",
		}[r.URL.Path]
		if ok {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			io.WriteString(conn, raw)
			conn.Close()
			return
		}
		io.WriteString(w, canary+"-body")
	})
	vs := newVirtualService(t, limpet.Config{
		Pools: []*lbpool.Pool{pool}, Persistence: profile, OnComplete: recs.add,
		Logger: slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Policies: limpet.Policies{
			HTTPSecurity: []policy.SecurityRule{{
				Name: "long", Action: policy.Respond{Status: 403},
				Match: policy.Match{
					Path:    &policy.PathMatch{Op: policy.Equals, Values: []string{"/long"}},
					Headers: []policy.HeaderMatch{{Name: "X-Long", Op: policy.MatchesRegexp, Values: []string{"^(a|b)+$"}}},
				},
			}},
			HTTPRequest: []policy.RequestRule{{Name: "logs", LogHeaders: true, Match: policy.Match{Path: &policy.PathMatch{Op: policy.Equals, Values: []string{"/logged"}}}}},
		},
		Scripts: []limpet.Script{compile(t, "uses", `-- HTTP_REQ
local secret = avi.http.get_header("authorization")
avi.vs.table_insert(secret, secret, 60)
avi.vs.reqvar.secret = secret
local path = avi.http.get_path()
if path == "/arithmetic" then return secret + 1 end
if path == "/call" then secret() end
if path == "/index" then return secret.x.y end
if path == "/table" then error({secret}) end
avi.vs.analytics.counter("requests")
`)},
	})
	ln := vs.Listener(listen(t, ""))
	server := limpet.NewServer(vs)
	server.ErrorLog = log.New(l, "", 0)
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	url := "http://" + ln.Addr().String()
	paths := []string{"/", "/logged", "/arithmetic", "/call", "/index", "/table", "/long", "/malformed"}
	client := &http.Client{Transport: new(http.Transport)}
	for _, path := range paths {
		r := newRequest(t, "POST", url+path+"?token="+canary, strings.NewReader(canary+"-upload"))
		r.AddCookie(&http.Cookie{Name: "session", Value: canary + "-cookie"})
		r.Header.Set("Authorization", "Bearer "+canary)
		r.Header.Set("Proxy-Authorization", "Bearer "+canary)
		r.Header.Set("X-Long", canary+strings.Repeat("a", 20_000))
		if path == "/logged" {
			r.Header.Del("X-Long") // the rule asks for it
		}
		_, _, err := try(client, r)
		if err != nil {
			t.Errorf("%s: %v", path, err)
		}
		rec := recs.next(t)
		l.print(path, rec)
		for _, e := range rec.ScriptErrors {
			l.print(path, e)
			l.look(path, fmt.Sprintf("%+v %s %s", *e, e.Error(), e.Traceback))
		}
		if rec.Error != nil {
			l.look(path, fmt.Sprintf("%v %+v", rec.Error, rec.Error))
		}
		if failing := map[string]bool{"/arithmetic": true, "/call": true, "/index": true, "/table": true}; failing[path] != (len(rec.ScriptErrors) == 1) {
			t.Errorf("%s: script errors %v", path, rec.ScriptErrors)
		}
	}
	client.CloseIdleConnections()
	for _, raw := range []string{
		"POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\nConnection: close\n\n1\nx\n0\nAuthorization " + canary + "\n\n",
		"POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\nConnection: close\n\n1\nx\n0\nAuthorization: " + canary + "\x01\n\n",
		"POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\nConnection: close\n\n" + canary + "\n\n",
		"GET / HTTP/1.1\nHost: a\nConnection: Upgrade, close\nUpgrade: " + canary + "\x80\n\n",
		"GET /switch HTTP/1.1\nHost: a\nConnection: Upgrade, close\nUpgrade: " + canary + "\n\n",
		"GET /trailer HTTP/1.1\nHost: a\nConnection: close\n\n",
	} {
		_, _ = io.Copy(io.Discard, send(t, (&site{Addr: ln.Addr().String()}).dial(t, ""), raw))
		rec := recs.next(t)
		if rec.Error == nil {
			t.Errorf("%q: no error", raw)
		}
		l.print(raw[:10], rec)
		l.look(raw[:10], fmt.Sprintf("%v %+v", rec.Error, rec.Error))
		for _, s := range pool.Servers() {
			l.print("change", s.LastChange())
		}
	}
	c := (&site{Addr: ln.Addr().String()}).dial(t, "") // what net/http itself complains about
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nAuthorization "+canary+"\r\n\r\n")
	_, _ = io.Copy(io.Discard, c)
	l.print("stats", vs.Stats())
	l.print("health", vs.Health())
	l.print("metrics", vs.Metrics())
	l.print("pool", pool.Stats())
	for _, s := range pool.Servers() {
		l.print("server", s.Stats())
	}
	l.print("store", profile)
	server.Close()
	<-served
	l.report(t)
}
