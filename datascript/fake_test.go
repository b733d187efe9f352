package datascript

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// exchange is a Transaction that notes what scripts decide.
type exchange struct {
	original, out *http.Request
	status        int
	header        http.Header
	pool          string
	server        netip.AddrPort
	vars          Vars

	logs              []string
	reply             *reply
	closed            string
	selected, selAddr string
	selKey, selEntry  string
}

func newExchange() *exchange {
	r := httptest.NewRequest("GET", "http://www.example.com:8080/a%20b/c?x=1&y", nil)
	r.Header.Set("Cookie", "sid=abc; theme=dark")
	r.Header.Set("Referer", "http://ref.example/")
	return &exchange{original: r, out: r, pool: "my_pool"}
}

// respond gives the exchange a response.
func (x *exchange) respond(status int, server string) {
	x.status, x.header = status, http.Header{"Content-Type": {"text/html"}}
	x.server = netip.MustParseAddrPort(server)
}

func (x *exchange) Client() netip.AddrPort  { return netip.MustParseAddrPort("192.0.2.7:4711") }
func (x *exchange) Local() netip.AddrPort   { return netip.MustParseAddrPort("203.0.113.1:443") }
func (x *exchange) Original() *http.Request { return x.original }
func (x *exchange) Request() *http.Request  { return x.out }
func (x *exchange) Vars() *Vars             { return &x.vars }
func (x *exchange) Log(line string)         { x.logs = append(x.logs, line) }
func (x *exchange) Close(reset bool)        { x.closed = fmt.Sprintf("reset=%v", reset) }
func (x *exchange) Reply(status int, header http.Header, body []byte) {
	x.reply = &reply{status, header, body}
}

func (x *exchange) EditRequest() *http.Request {
	if x.out == x.original {
		out := *x.original
		out.Header = out.Header.Clone()
		x.out = &out
	}
	return x.out
}

func (x *exchange) Response() (int, http.Header, bool) { return x.status, x.header, x.status != 0 }

func (x *exchange) Server() (string, netip.AddrPort) { return x.pool, x.server }

func (x *exchange) SelectPool(pool string, addr netip.AddrPort) {
	x.selected, x.selKey, x.selEntry = pool, "", ""
	x.selAddr = ""
	if addr.IsValid() {
		x.selAddr = addr.String()
	}
}

func (x *exchange) SelectEntry(pool string, addr netip.AddrPort, entry Entry) {
	x.SelectPool(pool, addr)
	x.selKey, x.selEntry = entry.Key, entry.Value
}

// fakeTables is one call of Tables after the other, without lifetimes.
type fakeTables struct {
	mu    sync.Mutex
	m     map[string]string
	calls []string
	err   error
	panic bool
	gone  func() // called by each call, if not nil
}

func (f *fakeTables) note(format string, args ...any) {
	f.calls = append(f.calls, fmt.Sprintf(format, args...))
	if f.gone != nil {
		f.gone()
	}
	if f.panic {
		panic("secret of the host")
	}
}

func (f *fakeTables) Insert(_ context.Context, table, key, value string, d time.Duration) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.note("insert %q %q %q %v", table, key, value, d)
	if _, ok := f.m[table+"/"+key]; !ok {
		f.m[table+"/"+key] = value
	}
	return true, f.err
}

func (f *fakeTables) Lookup(_ context.Context, table, key string, d time.Duration) (string, time.Duration, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.note("lookup %q %q %v", table, key, d)
	v, ok := f.m[table+"/"+key]
	return v, 90 * time.Second, ok, f.err
}

func (f *fakeTables) Refresh(_ context.Context, table, key string, d time.Duration) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.note("refresh %q %q %v", table, key, d)
	_, ok := f.m[table+"/"+key]
	return ok, f.err
}

func (f *fakeTables) Remove(_ context.Context, table, key string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.note("remove %q %q", table, key)
	delete(f.m, table+"/"+key)
	return f.err
}

// fakePools has one pool, my_pool, of two servers, the second of them down.
type fakePools struct{}

var fakeServers = []string{"10.1.1.1:80", "10.1.1.2:8080"}

func (fakePools) known(pool string) error {
	if pool != "my_pool" {
		return fmt.Errorf("pool %q not found", pool)
	}
	return nil
}

func (f fakePools) Servers(pool string) (int, int, error) { return 1, 2, f.known(pool) }

func (f fakePools) ServerUp(pool, server string, port uint16) (bool, error) {
	addr, _, ok, err := f.Find(pool, server, port)
	return ok && addr.String() == fakeServers[0], err
}

func (f fakePools) Find(pool, server string, port uint16) (addr netip.AddrPort, shared, ok bool, err error) {
	for _, s := range fakeServers {
		addr := netip.MustParseAddrPort(s)
		if (server == s || server == addr.Addr().String()) && (port == 0 || port == addr.Port()) {
			return addr, false, true, f.known(pool)
		}
	}
	return netip.AddrPort{}, false, false, f.known(pool)
}

type fakeGroups struct{}

func (fakeGroups) Contains(group string, addr netip.Addr) (bool, error) {
	if group != "Blacklist" {
		return false, fmt.Errorf("unknown ip group %q", group)
	}
	return netip.MustParsePrefix("192.0.2.0/24").Contains(addr), nil
}

// fakeTokens has one set, "k", of which "good" is a token.
type fakeTokens struct{}

func (fakeTokens) VerifyToken(c TokenCheck) (claims, reason string, signatures int, err error) {
	switch {
	case c.KeySet != "k":
		return "", "", 0, fmt.Errorf("key set %q not found", c.KeySet)
	case c.Token == "good":
		return fmt.Sprintf(`{"sub":"ann","asked":%q}`, fmt.Sprintf("%v %s %s %v", c.Algorithms, c.Issuer, c.Audience, c.Leeway)), "", 1, nil
	case strings.HasPrefix(c.Token, "{"):
		return c.Token, "", 0, nil
	}
	return "", "signature", 1, nil
}

func newTables() *fakeTables { return &fakeTables{m: map[string]string{}} }

func newEngine(t testing.TB, env Env) *Engine {
	t.Helper()
	if env.Name == "" {
		env.Name = "vs-1"
	}
	if env.Limits.Time == 0 {
		env.Limits.Time = 10 * time.Second // a busy machine must not fail scripts
	}
	if env.Tables == nil {
		env.Tables = newTables()
	}
	env.Pools, env.IPGroups = fakePools{}, fakeGroups{}
	e, err := NewEngine(env)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func mustCompile(t testing.TB, chunks ...Chunk) *Script {
	t.Helper()
	s, err := Compile("My Script", chunks...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// runRequest runs source for HTTP_REQ in a new exchange.
func runRequest(t testing.TB, e *Engine, source string) (*exchange, error) {
	t.Helper()
	x := newExchange()
	s := mustCompile(t, Chunk{Event: HTTPReq, Source: source})
	return x, e.Run(t.Context(), s, HTTPReq, x)
}

// logged returns the lines of avi.vs.log without the position in front.
func (x *exchange) logged() []string {
	var out []string
	for _, l := range x.logs {
		_, text, _ := strings.Cut(l, ": ")
		out = append(out, text)
	}
	return out
}
