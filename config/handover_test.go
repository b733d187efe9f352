//go:build unix

package config

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/limpetlb/limpet/internal/testcerts"
	"github.com/limpetlb/limpet/internal/testrace"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
)

// A taker is a runtime that takes over from another one, as in another process.
type taker struct {
	*site
	goes  chan error    // what BeforeAccept returns
	waits chan struct{} // closed when Serve could accept
}

// take makes a runtime of the files of another one that it takes over from.
func take(t *testing.T, s *site, h *Handover) *taker {
	t.Helper()
	next := &taker{goes: make(chan error, 1), waits: make(chan struct{})}
	sockets := h.Sockets()
	o := Options{
		HandedOver: func(network, address string) (all []net.Listener, err error) {
			for i, s := range sockets {
				if s.Network != network || s.Address != address || s.File == nil {
					continue
				}
				ln, err := net.FileListener(s.File)
				if err != nil {
					return nil, err
				}
				all, sockets[i].File = append(all, ln), nil
			}
			return all, nil
		},
		BeforeAccept: func() error {
			close(next.waits)
			return <-next.goes
		},
	}
	f, err := Load(t.Context(), filepath.Join(s.dir, "limpet.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	next.site = &site{T: t, dir: s.dir, log: &logLines{}}
	o.Logger = next.log.logger()
	if next.Runtime, err = f.Build(o); err != nil {
		t.Fatal(err)
	}
	next.receive(h)
	if err := next.Listen(); err != nil {
		t.Fatal(err)
	}
	return next
}

// receive passes on what the other runtime has to say.
func (n *taker) receive(h *Handover) {
	n.Helper()
	if err := h.Send(func(message []byte) error { return n.TakeOver(bytes.Clone(message)) }); err != nil {
		n.Fatal(err)
	}
}

// start serves in the background until the returned function is called, which
// returns the error of Serve.
func (n *taker) start() (ready chan struct{}, end func() error) {
	ctx, stop := context.WithCancel(context.Background())
	ready = make(chan struct{})
	served := make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() { _ = n.Runtime.Run(ctx) })
	wg.Go(func() { served <- n.Serve(func() { close(ready) }) })
	return ready, func() error {
		err := n.Shutdown(context.Background())
		stop()
		wg.Wait()
		return errors.Join(err, <-served)
	}
}

// origins are servers that tell their number.
func origins(t *testing.T, n int) (list string) {
	t.Helper()
	var all []string
	for i := range n {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, i) }))
		t.Cleanup(s.Close)
		all = append(all, fmt.Sprintf("{address: %s}", s.Listener.Addr()))
	}
	return strings.Join(all, ", ")
}

const sticky = `-- HTTP_REQ
key = avi.http.get_header("X-Key")
if key then
  server = avi.vs.table_lookup(key)
  if server then avi.pool.select("web", key) end
end
-- HTTP_RESP
if key and not server then avi.vs.table_insert(key, avi.pool.server_ip(), 300) end
`

func handoverFiles(t *testing.T) map[string]string {
	return map[string]string{"limpet.yaml": fmt.Sprintf(`listeners: [{name: main, address: "127.0.0.1:0"}]
services:
  - {name: shop, hosts: [shop], pools: [web], scripts: [stick], tables: {store: main}}
  - {name: other, hosts: [other], pools: [api], persistence: {appCookie: {name: SID}}}
  - {name: cookies, hosts: [cookies], pools: [cookies]}
stores: [{name: main, file: tables.snap, saveInterval: 1s}]
persistenceProfiles: [{name: sealed, httpCookie: {name: C}}]
scripts: [{name: stick, file: stick.lua}]
process: {startWait: 0s, upgradeTimeout: 1h, drain: {idle: 20ms}}
pools:
  - {name: web, algorithm: roundRobin, servers: [%[1]s]}
  - {name: api, algorithm: roundRobin, servers: [%[1]s]}
  - {name: cookies, algorithm: roundRobin, persistence: sealed, servers: [%[1]s]}
`, origins(t, 3)), "stick.lua": sticky}
}

// visitHost sends a request with header fields and returns what the answer
// says, and its cookies.
func visitHost(t *testing.T, addr net.Addr, host string, fields ...string) (body, cookie string) {
	t.Helper()
	c := client(addr)
	defer c.CloseIdleConnections()
	r, err := http.NewRequest(http.MethodGet, "http://"+host+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		r.Header.Set(fields[i], fields[i+1])
	}
	res, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	cookie, _, _ = strings.Cut(res.Header.Get("Set-Cookie"), ";")
	return fmt.Sprint(res.StatusCode, " ", string(text)), cookie
}

// TestHandOver takes clients of each kind from one runtime to another one, with
// the same sockets.
func TestHandOver(t *testing.T) {
	s := serve(t, handoverFiles(t), Options{})
	addr := s.addrs("main")[0]
	clients := map[string][]string{}
	was := map[string]string{}
	for i := range 20 {
		clients[fmt.Sprint("script ", i)] = []string{"shop", "X-Key", fmt.Sprint("k", i)}
		clients[fmt.Sprint("session ", i)] = []string{"other", "Cookie", fmt.Sprint("SID=s", i)}
	}
	for name, c := range clients {
		was[name], _ = visitHost(t, addr, c[0], c[1:]...)
	}
	for i := range 5 {
		name := fmt.Sprint("cookie ", i)
		body, cookie := visitHost(t, addr, "cookies")
		was[name], clients[name] = body, []string{"cookies", "Cookie", cookie}
	}
	if pool := s.kept.pools["api"]; pool.Servers()[0].SetRatio(7) != nil {
		t.Fatal("no ratio")
	}

	h, err := s.HandOver(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if h.Timeout() != time.Hour {
		t.Errorf("timeout %v", h.Timeout())
	}
	next := take(t, s, h)
	ready, end := next.start()
	testwait.Receive(t, next.waits, "end of the start")
	clients["late"] = []string{"shop", "X-Key", "late"}
	was["late"], _ = visitHost(t, addr, "shop", "X-Key", "late")
	testwait.Receive(t, h.Changed(), "token")
	h.Yield()
	next.receive(h)
	next.goes <- nil
	testwait.Receive(t, ready, "start of the next")
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	next.receive(h)
	h.Close()
	if err := next.TakeOver(nil); err != nil {
		t.Error(err)
	}
	for name, c := range clients {
		if got, _ := visitHost(t, addr, c[0], c[1:]...); got != was[name] {
			t.Errorf("%s: %s, was %s", name, got, was[name])
		}
	}
	if got := next.kept.pools["api"].Servers()[0].Ratio(); got != 7 {
		t.Errorf("ratio %d", got)
	}
	if _, err := s.HandOver(t.Context()); !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("after Shutdown: %v", err)
	}
	if err := end(); !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
}

// TestHandOverFails: when the other runtime does not accept, the first one
// serves on, and reloads again.
func TestHandOverFails(t *testing.T) {
	files := handoverFiles(t)
	s := serve(t, files, Options{})
	addr := s.addrs("main")[0]
	want, _ := visitHost(t, addr, "shop", "X-Key", "k")
	h, err := s.HandOver(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	next := take(t, s, h)
	ready, end := next.start()
	testwait.Receive(t, next.waits, "end of the start")
	updated := make(chan error)
	go func() {
		_, err := s.update(files["limpet.yaml"])
		updated <- err
	}()
	select {
	case <-updated:
		t.Error("an update does not wait")
	default:
	}
	h.Yield()
	failure := errors.New("not accepted")
	next.goes <- failure
	if err := end(); !errors.Is(err, failure) {
		t.Errorf("Serve: %v", err)
	}
	select {
	case <-ready:
		t.Error("the next has accepted")
	default:
	}
	if err := h.Resume(); err != nil {
		t.Fatal(err)
	}
	h.Close()
	if err := testwait.Receive(t, updated, "update"); err != nil {
		t.Error(err)
	}
	for range 3 {
		if got, _ := visitHost(t, addr, "shop", "X-Key", "k"); got != want {
			t.Errorf("%s, was %s", got, want)
		}
	}
	if err := next.TakeOver([]byte("x")); err == nil {
		t.Error("no error for a damaged message")
	}
	if err := next.TakeOver([]byte{messageState, 200}); err == nil {
		t.Error("no error for damaged states")
	}
}

// TestHandOverTableFile: of two processes one has the file of tables, the one
// that accepts; and what it says of entries that are gone does not return.
func TestHandOverTableFile(t *testing.T) {
	t.Parallel()
	s := serve(t, handoverFiles(t), Options{})
	addr, path := s.addrs("main")[0], filepath.Join(s.dir, "tables.snap")
	store := s.kept.tables[storeKey("main")].Tables.(*persistence.Store)
	saved := func() (keys string) {
		t.Helper()
		read := persistence.NewStore(persistence.Options{})
		if err := read.LoadFile(path); err != nil {
			t.Fatal(err)
		}
		for key := range read.All("") {
			keys += key + " "
		}
		return keys
	}
	visitHost(t, addr, "shop", "X-Key", "gone")
	h, err := s.HandOver(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := store.SaveFile(path); err != nil {
		t.Fatal(err)
	}
	if err := store.Remove(t.Context(), "", "gone"); err != nil {
		t.Fatal(err)
	}
	visitHost(t, addr, "shop", "X-Key", "stays")
	next := take(t, s, h)
	ready, end := next.start()
	testwait.Receive(t, next.waits, "end of the start")
	h.Yield()
	if got := saved(); got != "stays " {
		t.Errorf("the first has saved %q", got)
	}
	next.receive(h)
	next.goes <- nil
	testwait.Receive(t, ready, "start of the next")
	visitHost(t, addr, "shop", "X-Key", "new")
	testwait.Until(t, "the next saves", func() bool { return strings.Contains(saved(), "new") })
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	h.Close()
	if read := persistence.NewStore(persistence.Options{}); read.LoadFile(path) == nil {
		if _, _, ok, _ := read.Lookup(t.Context(), "", "new", 0); !ok {
			t.Error("the first has saved once more")
		}
	}
	if err := end(); !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
	if got := saved(); !strings.Contains(got, "new") || strings.Contains(got, "gone") {
		t.Errorf("the next has saved %q", got)
	}
}

// TestHandOverRenamedTables: tables that have another name in the new file, and
// the same file of tables, have the entries of that.
func TestHandOverRenamedTables(t *testing.T) {
	files := handoverFiles(t)
	s := serve(t, files, Options{})
	addr, path := s.addrs("main")[0], filepath.Join(s.dir, "limpet.yaml")
	keys := []string{"a", "b", "c", "d"}
	was := map[string]string{}
	for _, key := range keys {
		was[key], _ = visitHost(t, addr, "shop", "X-Key", key)
	}
	if err := os.WriteFile(path, []byte(strings.NewReplacer("store: main", "store: kept", "stores: [{name: main", "stores: [{name: kept").Replace(files["limpet.yaml"])), 0o600); err != nil {
		t.Fatal(err)
	}
	h, err := s.HandOver(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	next := take(t, s, h)
	ready, end := next.start()
	testwait.Receive(t, next.waits, "end of the start")
	h.Yield()
	next.receive(h)
	next.goes <- nil
	testwait.Receive(t, ready, "start of the next")
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	h.Close()
	for _, key := range slices.Backward(keys) { // without entries, round robin would bring others
		if got, _ := visitHost(t, addr, "shop", "X-Key", key); got != was[key] {
			t.Errorf("%s: %s, was %s", key, got, was[key])
		}
	}
	if err := end(); !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
}

// TestResumeFails: a runtime that cannot accept again does not go on as if it
// could.
func TestResumeFails(t *testing.T) {
	s := build(t, map[string]string{"limpet.yaml": "listen: 127.0.0.1:0\n" + hello}, Options{})
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ready, served := make(chan struct{}), make(chan error, 1)
	go func() { served <- s.Serve(func() { close(ready) }) }()
	testwait.Receive(t, ready, "start")
	h, err := s.HandOver(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	h.Yield()
	for _, socket := range h.sockets {
		_ = socket.File.Close()
	}
	if h.Resume() == nil {
		t.Error("no error")
	}
	if err := testwait.Receive(t, served, "end"); err == nil || errors.Is(err, http.ErrServerClosed) {
		t.Errorf("Serve: %v", err)
	}
	h.Close()
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestHandOverTooEarly: what does not serve yet has nothing to hand over.
func TestHandOverTooEarly(t *testing.T) {
	s := build(t, map[string]string{"limpet.yaml": "listen: 127.0.0.1:0\n" + hello}, Options{})
	if h, err := s.HandOver(t.Context()); err == nil {
		h.Close()
		t.Error("no error")
	}
	if _, err := s.update("listen: 127.0.0.1:0\n" + hello); err != nil {
		t.Errorf("after that: %v", err)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestHandOverTLS: sessions of TLS go on, those that begin while the other
// process starts included.
func TestHandOverTLS(t *testing.T) {
	a, files := testcerts.NewAuthority(t, "test"), handoverFiles(t)
	putCert(t, files, "a", a.Issue(t, nil, "a.example.com"))
	files["limpet.yaml"] = strings.Replace(files["limpet.yaml"], `address: "127.0.0.1:0"`, `address: "127.0.0.1:0", tls: {certificate: a.crt, key: a.key}`, 1)
	s := serve(t, files, Options{})
	addr := s.addrs("main")[0].String()
	visit := func(c *tls.Config) (resumed bool) {
		t.Helper()
		conn, err := tls.Dial("tcp", addr, c)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: cookies\r\nConnection: close\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(conn); err != nil || !bytes.HasPrefix(text, []byte("HTTP/1.1 200 ")) {
			t.Fatalf("%s, %v", text, err)
		}
		return conn.ConnectionState().DidResume
	}
	browser := func() *tls.Config {
		return &tls.Config{ServerName: "a.example.com", RootCAs: a.Pool(), ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	}
	h, err := s.HandOver(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	next := take(t, s, h) // before any handshake
	ready, end := next.start()
	testwait.Receive(t, next.waits, "end of the start")
	client := browser()
	if visit(client) || !visit(client) {
		t.Fatal("not resumed by the same process")
	}
	h.Yield()
	next.receive(h)
	var messages int
	if err := h.Send(func([]byte) error { messages++; return nil }); err != nil || messages > 0 {
		t.Errorf("%d messages with nothing new, %v", messages, err)
	}
	next.goes <- nil
	testwait.Receive(t, ready, "start of the next")
	if !visit(client) {
		t.Error("not resumed by the next process")
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	h.Close()
	for _, damaged := range [][]byte{{messageTickets, 200}, append(appendText([]byte{messageTickets}, "main"), 1)} {
		if err := next.TakeOver(damaged); err == nil {
			t.Error("no error for damaged keys")
		}
	}
	if err := next.TakeOver(append(appendText([]byte{messageTickets}, "another"), 1)); err != nil {
		t.Errorf("keys of a listener that is not there: %v", err)
	}
	if err := end(); !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
}

// TestHandOverManyServers: the states of very many servers are no single
// message, which would be too long.
func TestHandOverManyServers(t *testing.T) {
	n := 300_000
	if testing.Short() || testrace.Enabled {
		n = 2 * lbpool.MaxServers
	}
	states := func(disable bool) *Runtime {
		rt := &Runtime{kept: kept{pools: map[string]*lbpool.Pool{}}}
		for i := range n / lbpool.MaxServers {
			c := lbpool.Config{Name: fmt.Sprint("pool", i)}
			for j := range lbpool.MaxServers {
				c.Servers = append(c.Servers, lbpool.ServerConfig{
					Address: fmt.Sprintf("10.%d.%d.%d:80", i, j>>8, j&255), Name: fmt.Sprintf("%0200d.example", j),
				})
			}
			p, err := lbpool.New(c)
			if err != nil {
				t.Fatal(err)
			}
			if disable {
				p.Servers()[lbpool.MaxServers-1].Disable()
			}
			rt.kept.pools[c.Name] = p
		}
		return rt
	}
	old, next := states(true), states(false)
	longest, all := 0, 0
	h := &Handover{rt: old}
	if err := h.Send(func(message []byte) error {
		longest, all = max(longest, len(message)), all+len(message)
		return next.TakeOver(message)
	}); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d servers: %d bytes, the longest message has %d", n, all, longest)
	if longest > 8<<20 {
		t.Errorf("a message of %d bytes", longest)
	}
	for name, p := range next.kept.pools {
		if got := p.Servers()[lbpool.MaxServers-1].State(); got != lbpool.Disabled {
			t.Errorf("the last server of %s is %v", name, got)
		}
	}
}

// TestHandOverLost: when the other process ends while this one drains, requests
// do not wait for it.
func TestHandOverLost(t *testing.T) {
	s := serve(t, handoverFiles(t), Options{})
	store := s.kept.tables[storeKey("main")].Tables.(*persistence.Store)
	h, err := s.HandOver(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	h.sender.Wait(24 * time.Hour)
	stored := make(chan struct{})
	go func() {
		defer close(stored)
		if ok, err := store.Put(t.Context(), "", "k", "v", time.Hour); !ok || err != nil {
			t.Errorf("%t, %v", ok, err)
		}
	}()
	testwait.Receive(t, h.Changed(), "token") // it waits, or is about to
	h.Lost()
	h.Lost()
	testwait.Receive(t, stored, "end of the wait")
	if err := h.Resume(); err != nil {
		t.Error(err)
	}
	h.Close()
}
