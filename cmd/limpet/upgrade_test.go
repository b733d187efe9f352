//go:build linux || darwin

package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/limpetlb/limpet/internal/testfiles"
	"github.com/limpetlb/limpet/internal/testrace"
	"github.com/limpetlb/limpet/internal/testwait"
)

var full = flag.Bool("full", false, "run TestUpgradesUnderLoad at full length")

// generations are processes of the command that take the place of one another.
type generations struct {
	*process
	program string // the file that an upgrade starts
	dir     string // has limpet.yaml
	now     int    // the process that serves
}

// startGenerations starts the first one, which serves a configuration.
func startGenerations(t *testing.T, files map[string]string) *generations {
	t.Helper()
	binary, err := build()
	if err != nil {
		t.Fatal(err)
	}
	g := &generations{dir: testfiles.Write(t, files)}
	g.program = filepath.Join(g.dir, "limpet")
	g.install(t, binary)
	cmd := exec.Command(g.program, "serve", filepath.Join(g.dir, "limpet.yaml"))
	// All write to one pipe, which stays open when the first has ended.
	logs, errs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	errs.Close()
	p := &process{T: t, cmd: cmd, lines: make(chan string, 1_000_000)}
	go func() {
		defer close(p.lines)
		defer logs.Close()
		for s := bufio.NewScanner(logs); s.Scan(); {
			p.lines <- s.Text()
		}
	}()
	g.process, g.now = p, cmd.Process.Pid
	t.Cleanup(func() {
		_ = syscall.Kill(g.now, syscall.SIGKILL)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		for range p.lines { // until all have ended
		}
	})
	p.await("msg=serving")
	return g
}

// install puts another program in the place of the one before.
func (g *generations) install(t *testing.T, binary string) {
	t.Helper()
	next := g.program + ".next"
	if err := os.Link(binary, next); err != nil { // a copy would be busy while another test forks
		text, err := os.ReadFile(binary)
		if err == nil {
			err = os.WriteFile(next, text, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(next, g.program); err != nil {
		t.Fatal(err)
	}
}

// script puts a shell script in the place of the program.
func (g *generations) script(t *testing.T, text string) {
	t.Helper()
	next := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(next, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	g.install(t, next)
}

// signal sends a signal to the process that serves.
func (g *generations) signal(s syscall.Signal) {
	g.Helper()
	if err := syscall.Kill(g.now, s); err != nil {
		g.Fatal(err)
	}
}

var upgradedTo = regexp.MustCompile(`process=(\d+)`)

// upgrade lets another process take over, and waits until the one before has ended.
func (g *generations) upgrade() {
	g.Helper()
	g.begin()
	g.await("msg=stopped")
}

// begin lets another process take over.
func (g *generations) begin() {
	g.Helper()
	g.signal(syscall.SIGUSR2)
	line := g.await("msg=upgraded")
	pid, err := strconv.Atoi(upgradedTo.FindStringSubmatch(line)[1])
	if err != nil {
		g.Fatal(err)
	}
	g.now = pid
}

// freeAddress is one that nobody listens at now.
func freeAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// shop are servers, and files of a configuration that has sessions of each kind.
func shop(t *testing.T) (files map[string]string, address, h2c string) {
	t.Helper()
	var servers []string
	for i := range 3 {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Upgrade") != "" {
				echo(w)
				return
			}
			w.Header().Set("X-Server", strconv.Itoa(i))
			io.WriteString(w, "hello")
		}))
		t.Cleanup(s.Close)
		servers = append(servers, fmt.Sprintf("{address: %s}", s.Listener.Addr()))
	}
	address, h2c = freeAddress(t), freeAddress(t)
	return map[string]string{
		"limpet.yaml": fmt.Sprintf(`listeners:
  - {name: web, address: %q}
  - {name: h2c, address: %q, h2c: true}
services:
  - name: shop
    listeners: [web, h2c]
    persistence: {appCookie: {name: SID}}
    scripts: [stick]
    pools: [web]
    tables: {file: tables.snap}
    logging: {filteredRate: -1, otherRate: -1}
scripts: [{name: stick, file: stick.lua}]
pools:
  - name: web
    servers: [%s]
    algorithm: roundRobin
    healthMonitors: [{checker: tcp, interval: 1s, timeout: 500ms}]
process: {drain: {idle: 2s}, upgradeTimeout: 1m}
`, address, h2c, strings.Join(servers, ", ")),
		"stick.lua": `-- HTTP_REQ
key = avi.http.get_header("X-Key")
if key then
  server = avi.vs.table_lookup(key)
  if server then avi.pool.select("web", key) end
end
-- HTTP_RESP
if key and not server then avi.vs.table_insert(key, avi.pool.server_ip(), 300) end
`,
	}, address, h2c
}

// echo answers an upgrade with all that the client sends.
func echo(w http.ResponseWriter) {
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	_, _ = io.Copy(c, rw)
}

// upgraded is a connection with an echo behind it.
type upgraded struct {
	net.Conn
	r *bufio.Reader
}

func dialEcho(t *testing.T, address string) *upgraded {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	fmt.Fprintf(c, "GET /echo HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	u := &upgraded{c, bufio.NewReader(c)}
	res, err := http.ReadResponse(u.r, nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("no upgrade: %v", err)
	}
	return u
}

// check sends a line and reads it again.
func (u *upgraded) check(line string) error {
	_ = u.SetDeadline(time.Now().Add(testwait.Limit))
	if _, err := io.WriteString(u, line+"\n"); err != nil {
		return err
	}
	got, err := u.r.ReadString('\n')
	if err == nil && got != line+"\n" {
		err = fmt.Errorf("echo of %q is %q", line, got)
	}
	return err
}

// A session asks one service again and again, without ever trying twice.
type session struct {
	id          int
	address     string
	keep        bool // a connection, as long as the service does
	conn        net.Conn
	r           *bufio.Reader
	server      string
	requests    int
	h2          *http2.ClientConn
	unprocessed int // requests that GOAWAY says were not begun
}

// request sends one. Sessions with even numbers have a cookie, others a key for the
// script.
func (s *session) request() error {
	if s.conn == nil {
		c, err := net.Dial("tcp", s.address)
		if err != nil {
			return err
		}
		s.conn, s.r = c, bufio.NewReader(c)
	}
	_ = s.conn.SetDeadline(time.Now().Add(testwait.Limit))
	field := fmt.Sprintf("Cookie: SID=s%d", s.id)
	if s.id%2 == 1 {
		field = fmt.Sprintf("X-Key: k%d", s.id)
	}
	if !s.keep {
		field += "\r\nConnection: close"
	}
	if _, err := fmt.Fprintf(s.conn, "GET / HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n", field); err != nil {
		return err
	}
	res, err := http.ReadResponse(s.r, nil)
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return err
	}
	if res.Close {
		s.close()
	}
	return s.note(res)
}

// requestH2 is request over HTTP/2.
func (s *session) requestH2() error {
	for s.h2 == nil || !s.h2.CanTakeNewRequest() {
		s.close()
		c, err := net.Dial("tcp", s.address)
		if err != nil {
			return err
		}
		_ = c.SetDeadline(time.Now().Add(2 * testwait.Limit))
		s.conn = c
		if s.h2, err = (&http2.Transport{AllowHTTP: true}).NewClientConn(c); err != nil {
			return err
		}
	}
	r, err := http.NewRequest(http.MethodGet, "http://x/", nil)
	if err != nil {
		return err
	}
	if s.id%2 == 1 {
		r.Header.Set("X-Key", fmt.Sprintf("k%d", s.id))
	} else {
		r.Header.Set("Cookie", fmt.Sprintf("SID=s%d", s.id))
	}
	res, err := s.h2.RoundTrip(r)
	if err != nil {
		if strings.Contains(err.Error(), "graceful shutdown GOAWAY") {
			s.unprocessed++
			s.close()
			return s.requestH2()
		}
		return err
	}
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return err
	}
	res.Body.Close()
	if !s.keep {
		s.close()
	}
	return s.note(res)
}

func (s *session) close() {
	if s.conn != nil {
		s.conn.Close()
		s.conn, s.h2 = nil, nil
	}
}

func (s *session) note(res *http.Response) error {
	s.requests++
	server := res.Header.Get("X-Server")
	if res.StatusCode != http.StatusOK || server == "" {
		return fmt.Errorf("status %d", res.StatusCode)
	}
	if s.server != "" && server != s.server {
		return fmt.Errorf("request %d was served by %s, the one before by %s", s.requests, server, s.server)
	}
	s.server = server
	return nil
}

// TestUpgradesUnderLoad upgrades the binary while clients send requests: over
// connections that they keep, and over new ones, with HTTP/1 and HTTP/2. None
// fails, no client gets another server, and upgraded connections go on.
func TestUpgradesUnderLoad(t *testing.T) {
	upgrades, sessions, tunnels, requests := 2, 64, 10, 10_000
	switch {
	case *full:
		upgrades, sessions, tunnels, requests = 20, 10_000, 100, 1_000_000
	case testing.Short(), testrace.Enabled:
		upgrades, requests = 1, 2_000
	}
	files, address, h2c := shop(t)
	g := startGenerations(t, files)

	var all []*session
	for i := range sessions {
		s := &session{id: i, address: address, keep: i%4 < 2}
		if i%8 >= 4 {
			s.address = h2c
		}
		all = append(all, s)
	}
	ask := func(s *session) error {
		if s.address == h2c {
			return s.requestH2()
		}
		return s.request()
	}
	for _, s := range all { // begins, before any upgrade
		if err := ask(s); err != nil {
			t.Fatalf("session %d: %v", s.id, err)
		}
	}
	var count, failed atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wg sync.WaitGroup
	const workers = 16
	for w := range workers {
		wg.Go(func() {
			for round := 0; ctx.Err() == nil; round++ {
				for i := w; i < len(all) && ctx.Err() == nil; i += workers {
					s := all[i]
					if err := ask(s); err != nil {
						if failed.Add(1) < 10 {
							t.Errorf("session %d, HTTP/2 %t, kept %t: %v", s.id, s.address == h2c, s.keep, err)
						}
						s.close()
					}
					count.Add(1)
				}
			}
		})
	}
	for n := range upgrades {
		for begin := count.Load(); count.Load() < begin+int64(requests/upgrades/2); {
			runtime.Gosched()
		}
		var open []*upgraded
		for range tunnels {
			open = append(open, dialEcho(t, address))
		}
		g.begin()
		for begin := count.Load(); count.Load() < begin+int64(requests/upgrades/2); {
			runtime.Gosched()
		}
		for i, u := range open {
			if err := u.check(fmt.Sprintf("upgrade %d, connection %d", n, i)); err != nil {
				t.Errorf("upgraded connection %d: %v", i, err)
			}
			u.Close()
		}
		g.await("msg=stopped")
	}
	stop()
	wg.Wait()
	unprocessed := 0
	for _, s := range all {
		s.close()
		unprocessed += s.unprocessed
	}
	t.Logf("%d requests, %d failed, %d sent again after GOAWAY", count.Load(), failed.Load(), unprocessed)
	g.stop()
}

// stop ends the process that serves.
func (g *generations) stop() {
	g.Helper()
	g.signal(syscall.SIGTERM)
	g.await("msg=stopped")
	for range g.lines {
	}
}
