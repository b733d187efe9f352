package admin

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/testleak"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/ipgroup"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
	"github.com/limpetlb/limpet/policy"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction(testleak.RedisClient))
}

// The tokens of the tests.
var testTokens = map[Role]string{Read: "read-token-0123456789", Operate: "operate-token-0123456789", Reveal: "reveal-token-0123456789"}

// A bench is a virtual service with two servers, and an Admin for it that
// listens at a Unix socket and over TCP.
type bench struct {
	t      testing.TB
	vs     *limpet.VirtualService
	pool   *lbpool.Pool
	tables limpet.Tables
	groups *ipgroup.Set
	adm    *Admin
	front  string // URL of the service
	path   string // of the socket
	tcp    string // URL of the Admin
	unix   *http.Client
	client *http.Client
	hits   [2]atomic.Int64
	hook   atomic.Pointer[func(w http.ResponseWriter, r *http.Request)]
}

// setup changes what a bench is made of.
type setup struct {
	config  func(*limpet.Config)
	admin   func(*Config)
	servers func(int, *lbpool.ServerConfig)
	without bool // Run of Admin and service
}

func newBench(t testing.TB, s setup) *bench {
	t.Helper()
	b := &bench{t: t}
	cfg := lbpool.Config{Name: "web"}
	for i := range b.hits {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b.hits[i].Add(1)
			if f := b.hook.Load(); f != nil {
				(*f)(w, r)
			}
		}))
		t.Cleanup(server.Close)
		sc := lbpool.ServerConfig{Name: []string{"web-1", "web-2"}[i], Address: server.Listener.Addr().String()}
		if s.servers != nil {
			s.servers(i, &sc)
		}
		cfg.Servers = append(cfg.Servers, sc)
	}
	var err error
	if b.pool, err = lbpool.New(cfg); err != nil {
		t.Fatal(err)
	}
	c := b.config()
	if s.config != nil {
		s.config(&c)
	}
	b.tables, b.groups = c.Tables, c.IPGroups
	if b.vs, err = limpet.New(c); err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(b.vs)
	b.front = front.URL
	t.Cleanup(func() { front.Close(); b.vs.CloseIdleConnections() })
	b.adm = b.newAdmin(s.admin)
	b.serve()
	if !s.without {
		b.run()
	}
	return b
}

const stickScript = `
local key = avi.http.get_header("X-Client")
if key then
  local server = avi.vs.table_lookup(key, 0)
  if server then avi.pool.select("web", server) end
end
if avi.http.get_header("X-Fail") then error("broken") end
`

// config is a configuration with something of everything.
func (b *bench) config() limpet.Config {
	b.t.Helper()
	group, err := ipgroup.Parse("office", []string{"192.0.2.0/24"}, ipgroup.Options{})
	must(b.t, err)
	groups, err := ipgroup.NewSet(group)
	must(b.t, err)
	words, err := policy.NewStringGroup(policy.StringGroupConfig{Name: "words", Entries: []policy.StringEntry{{Key: "a"}}})
	must(b.t, err)
	strings, err := policy.NewStringGroups(words)
	must(b.t, err)
	script, err := datascript.Compile("stick", datascript.Chunk{Event: datascript.HTTPReq, Source: stickScript})
	must(b.t, err)
	limiter, err := datascript.NewRateLimiter(datascript.RateLimit{Count: 1, Period: time.Second})
	must(b.t, err)
	return limpet.Config{
		Name: "shop", Pools: []*lbpool.Pool{b.pool}, Tables: persistence.NewStore(persistence.Options{}), IPGroups: groups, StringGroups: strings,
		Scripts: []limpet.Script{{Script: script}},
		Policies: limpet.Policies{HTTPSecurity: []policy.SecurityRule{{
			Name: "secret", Match: policy.Match{Path: &policy.PathMatch{Op: policy.BeginsWith, Values: []string{"/denied"}}}, Action: policy.Respond{Status: 403},
		}}},
		Scripting: limpet.Scripting{RateLimiters: map[string]*datascript.RateLimiter{"api": limiter}, Limits: datascript.Limits{Instructions: 100000}},
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (b *bench) newAdmin(edit func(*Config)) *Admin {
	b.t.Helper()
	c := Config{Services: func() []*limpet.VirtualService { return []*limpet.VirtualService{b.vs} }, Version: "1.2.3", Hosts: []string{"lb.example.net"}}
	for role, secret := range testTokens {
		c.Tokens = append(c.Tokens, Token{Name: role.String(), SHA256: sha256.Sum256([]byte(secret)), Role: role})
	}
	if edit != nil {
		edit(&c)
	}
	adm, err := New(c)
	must(b.t, err)
	return adm
}

// serve listens at a Unix socket and over TCP.
func (b *bench) serve() {
	b.t.Helper()
	b.path = filepath.Join(b.t.TempDir(), "s")
	socket, err := Listen(b.path, 0o600)
	must(b.t, err)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	must(b.t, err)
	srv := NewServer(b.adm)
	done := make(chan struct{}, 2)
	for _, ln := range []net.Listener{socket, tcp} {
		go func() {
			_ = srv.Serve(ln)
			done <- struct{}{}
		}()
	}
	b.tcp = "http://" + tcp.Addr().String()
	b.unix = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", b.path)
	}}}
	b.client = &http.Client{Transport: &http.Transport{}}
	b.t.Cleanup(func() {
		b.unix.CloseIdleConnections()
		b.client.CloseIdleConnections()
		_ = srv.Close()
		<-done
		<-done
	})
}

// run runs the service and the Admin until the test ends.
func (b *bench) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{}, 2)
	go func() { _ = b.vs.Run(ctx); done <- struct{}{} }()
	go func() { _ = b.adm.Run(ctx); done <- struct{}{} }()
	b.t.Cleanup(func() { cancel(); <-done; <-done })
	testwait.Until(b.t, "running", func() bool {
		b.adm.live.mu.Lock()
		defer b.adm.live.mu.Unlock()
		return b.adm.live.services[b.vs] != nil
	})
}

// An answer is what a caller gets.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) problem() (p problem) {
	_ = json.Unmarshal([]byte(a.body), &p)
	return p
}

// get decodes the body.
func (a answer) get(t testing.TB, into any) {
	t.Helper()
	if a.status != 200 {
		t.Fatalf("%d: %s", a.status, a.body)
	}
	reflect.ValueOf(into).Elem().SetZero() // or what is missing stays
	d := json.NewDecoder(strings.NewReader(a.body))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
}

// send sends a request; edits change it. A body makes it JSON.
func (b *bench) send(c *http.Client, url, method, path, body string, edits ...func(*http.Request)) answer {
	b.t.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	r, err := http.NewRequest(method, url+path, reader)
	must(b.t, err)
	if method != "GET" {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, edit := range edits {
		edit(r)
	}
	resp, err := c.Do(r)
	must(b.t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	must(b.t, err)
	return answer{resp.StatusCode, resp.Header, string(bytes.TrimSpace(data))}
}

// do sends a request to the Unix socket.
func (b *bench) do(method, path, body string, edits ...func(*http.Request)) answer {
	b.t.Helper()
	return b.send(b.unix, "http://admin", method, path, body, edits...)
}

// as sends a request over TCP.
func (b *bench) as(role Role, method, path, body string, edits ...func(*http.Request)) answer {
	b.t.Helper()
	return b.send(b.client, b.tcp, method, path, body, append([]func(*http.Request){header("Authorization", "Bearer "+testTokens[role])}, edits...)...)
}

func header(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

// visit sends a request through the service.
func (b *bench) visit(path string, edits ...func(*http.Request)) int {
	b.t.Helper()
	return b.send(b.client, b.front, "GET", path, "", edits...).status
}

func (b *bench) addr(i int) netip.AddrPort { return b.pool.Servers()[i].Addr() }

const shop = "/v1/services/shop"
