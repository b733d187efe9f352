//go:build linux || darwin

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
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
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

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

// startGenerations starts the first one, which serves a configuration. change
// may change how it is started.
func startGenerations(t *testing.T, files map[string]string, change ...func(cmd *exec.Cmd)) *generations {
	t.Helper()
	binary, err := build()
	if err != nil {
		t.Fatal(err)
	}
	g := &generations{dir: testfiles.Write(t, files)}
	g.program = filepath.Join(g.dir, "limpet")
	g.install(t, binary)
	cmd := exec.Command(g.program, "serve", filepath.Join(g.dir, "limpet.yaml"))
	for _, f := range change {
		f(cmd)
	}
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

// upgrade lets another process take over, and waits until the one before has
// ended.
func (g *generations) upgrade() {
	g.Helper()
	g.begin()
	g.await(ended)
}

// ended is logged when a process knows that it can be upgraded.
const ended = "the process before has ended"

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

// shop are servers, and files of a configuration that has sessions of each
// kind.
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
process: {drain: {idle: 10s, timeout: 1s}, upgradeTimeout: 15m}
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

// A session is bound to a server: by a cookie if its number is even, else by a
// key for the script.
type session struct {
	id       int
	server   string
	requests int
}

// key is the field of its requests.
func (s *session) key() (name, value string) {
	if s.id%2 == 0 {
		return "Cookie", fmt.Sprintf("SID=s%d", s.id)
	}
	return "X-Key", fmt.Sprintf("k%d", s.id)
}

// A client sends the requests of sessions, one after the other, and never sends
// one twice.
type client struct {
	address     string
	http2, keep bool // keep a connection, as long as the service does
	conn        net.Conn
	r           *bufio.Reader
	h2          *http.ClientConn
	unprocessed int // requests that GOAWAY says were not begun
}

func (c *client) ask(s *session) error {
	res, err := c.roundTrip(s)
	if err != nil {
		c.close()
		return err
	}
	if !c.keep || res.Close {
		c.close()
	}
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

func (c *client) roundTrip(s *session) (res *http.Response, err error) {
	if c.http2 {
		res, err = c.overHTTP2(s)
	} else {
		res, err = c.overHTTP1(s)
	}
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return res, err
}

func (c *client) overHTTP1(s *session) (*http.Response, error) {
	if c.conn == nil {
		conn, err := net.Dial("tcp", c.address)
		if err != nil {
			return nil, err
		}
		c.conn, c.r = conn, bufio.NewReader(conn)
	}
	_ = c.conn.SetDeadline(time.Now().Add(testwait.Limit))
	last := ""
	if !c.keep {
		last = "Connection: close\r\n"
	}
	name, value := s.key()
	if _, err := fmt.Fprintf(c.conn, "GET / HTTP/1.1\r\nHost: x\r\n%s: %s\r\n%s\r\n", name, value, last); err != nil {
		return nil, err
	}
	return http.ReadResponse(c.r, nil)
}

func (c *client) overHTTP2(s *session) (*http.Response, error) {
	for {
		if c.h2 == nil || c.h2.Reserve() != nil { // which it refuses after GOAWAY
			c.close()
			tr := &http.Transport{Protocols: new(http.Protocols)}
			tr.Protocols.SetUnencryptedHTTP2(true)
			conn, err := tr.NewClientConn(context.Background(), "http", c.address)
			if err != nil {
				return nil, err
			}
			if c.h2 = conn; conn.Reserve() != nil {
				return nil, errors.New("a new connection cannot be used")
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), testwait.Limit)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://x/", nil)
		if err != nil {
			return nil, err
		}
		r.Header.Set(s.key())
		res, err := c.h2.RoundTrip(r)
		if err == nil {
			text, err := io.ReadAll(res.Body) // ctx ends with this function
			res.Body.Close()
			res.Body = io.NopCloser(bytes.NewReader(text))
			return res, err
		}
		if !strings.Contains(err.Error(), "graceful shutdown GOAWAY") {
			return nil, err
		}
		c.unprocessed++
		c.close()
	}
}

func (c *client) close() {
	if c.conn != nil {
		c.conn.Close()
	}
	if c.h2 != nil {
		c.h2.Close()
	}
	c.conn, c.h2 = nil, nil
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
		upgrades, sessions, requests = 1, 32, 1_000
	}
	files, address, h2c := shop(t)
	g := startGenerations(t, files)

	var clients [16]client
	var all [len(clients)][]*session
	for i := range clients {
		c := &clients[i]
		c.address, c.keep, c.http2 = address, i%2 == 0, i%4 >= 2
		if c.http2 {
			c.address = h2c
		}
		for id := range sessions / len(clients) {
			s := &session{id: 1_000_000*(i+20) + id}
			all[i] = append(all[i], s)
			if err := c.ask(s); err != nil { // begins, before any upgrade
				t.Fatalf("session %d: %v", s.id, err)
			}
		}
	}
	var count, failed atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			c := &clients[i]
			defer c.close()
			for n := 0; ctx.Err() == nil; n++ {
				s := all[i][n%len(all[i])]
				if n%5 == 0 { // one that begins now, and asks a second time at once
					s = &session{id: 1_000_000*(i+1) + n/5}
					if err := c.ask(s); err != nil && failed.Add(1) < 10 {
						t.Errorf("first request of session %d, HTTP/2 %t, kept %t: %v", s.id, c.http2, c.keep, err)
					}
				}
				if err := c.ask(s); err != nil && failed.Add(1) < 10 {
					t.Errorf("session %d, HTTP/2 %t, kept %t: %v", s.id, c.http2, c.keep, err)
				}
				count.Add(1)
			}
		})
	}
	pass := func(n int) { // requests
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for end := count.Load() + int64(n); count.Load() < end; {
			<-tick.C
		}
	}
	for n := range upgrades {
		var open []*upgraded
		for range tunnels {
			open = append(open, dialEcho(t, address))
		}
		pass(requests / upgrades / 2)
		g.begin()
		pass(min(500, requests/upgrades/2))
		for i, u := range open {
			if err := u.check(fmt.Sprintf("upgrade %d, connection %d", n, i)); err != nil {
				t.Errorf("upgraded connection %d: %v", i, err)
			}
			u.Close()
		}
		pass(requests/upgrades/2 - 500)
		g.await(ended)
	}
	stop()
	wg.Wait()
	unprocessed := 0
	for i := range clients {
		unprocessed += clients[i].unprocessed
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

// TestUpgradeFails: whatever the new process does wrong, the old one serves on
// with what it knows, and a later upgrade succeeds.
func TestUpgradeFails(t *testing.T) {
	files, address, _ := shop(t)
	g := startGenerations(t, files)
	binary, err := build()
	if err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(g.dir, "limpet.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := client{address: address}
	all := []*session{{id: 1}, {id: 2}}
	ask := func(when string) {
		t.Helper()
		for _, s := range all {
			if err := c.ask(s); err != nil {
				t.Fatalf("%s: session %d: %v", when, s.id, err)
			}
		}
	}
	ask("before")
	for _, c := range []struct {
		name, want string
		wrong      func()
	}{
		{"a bad file", "unknown field", func() { write(files["limpet.yaml"] + "strange: 1\n") }},
		{"a program that ends", "exit status 7", func() { g.script(t, "exit 7") }},
		{"a program that is killed", "killed", func() { g.script(t, "kill -9 $$") }},
		{"no program", "no such file", func() { _ = os.Remove(g.program) }},
	} {
		c.wrong()
		g.signal(syscall.SIGUSR2)
		if line := g.await("upgrade failed"); !strings.Contains(line, c.want) {
			t.Errorf("%s: %s", c.name, line)
		}
		ask(c.name)
		write(files["limpet.yaml"])
	}
	g.install(t, binary)
	g.upgrade()
	ask("after")
	g.stop()
}

// TestUpgradeDrains: upgraded connections go on in the old process, until it is
// asked to end or its time is over. Until then no other upgrade begins.
func TestUpgradeDrains(t *testing.T) {
	files, address, _ := shop(t)
	g := startGenerations(t, files)
	old := g.now
	open := dialEcho(t, address)
	g.begin()
	g.signal(syscall.SIGUSR2)
	if line := g.await("upgrade refused"); !strings.Contains(line, "still draining") {
		t.Error(line)
	}
	if err := open.check("still there"); err != nil {
		t.Error(err)
	}
	if err := syscall.Kill(old, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	g.await(ended)
	if err := open.check("not any more"); err == nil {
		t.Error("an upgraded connection is open still")
	}
	var exit *exec.ExitError
	if err := g.cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != cutOff {
		t.Errorf("the old process ended with %v", err)
	}

	if err := os.WriteFile(filepath.Join(g.dir, "limpet.yaml"), []byte(strings.Replace(files["limpet.yaml"], "upgradeTimeout: 15m", "upgradeTimeout: 1s", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	g.signal(syscall.SIGHUP)
	g.await("configuration changed")
	open = dialEcho(t, address)
	g.upgrade()
	if err := open.check("not any more"); err == nil {
		t.Error("an upgraded connection is open still")
	}
	g.stop()
}

// TestUpgradeEndsAtOnce: an old process that drains for long ends when it is
// asked once more.
func TestUpgradeEndsAtOnce(t *testing.T) {
	files, address, _ := shop(t)
	files["limpet.yaml"] = strings.Replace(files["limpet.yaml"], "timeout: 1s", "timeout: 1h", 1)
	g := startGenerations(t, files)
	old := g.now
	open := dialEcho(t, address)
	defer open.Close()
	g.begin()
	exited := make(chan error, 1)
	go func() { exited <- g.cmd.Wait() }()
	testwait.Until(t, "the old process has ended", func() bool {
		_ = syscall.Kill(old, syscall.SIGTERM)
		return len(exited) > 0
	})
	var exit *exec.ExitError
	if err := <-exited; !errors.As(err, &exit) || exit.ExitCode() != cutOff {
		t.Errorf("the old process ended with %v", err)
	}
	g.await(ended)
	g.stop()
}

// TestUpgradeOtherAddress: an address that the new configuration does not have
// is closed, and one that is new there is open.
func TestUpgradeOtherAddress(t *testing.T) {
	files, address, h2c := shop(t)
	g := startGenerations(t, files)
	next := freeAddress(t)
	if err := os.WriteFile(filepath.Join(g.dir, "limpet.yaml"), []byte(strings.Replace(files["limpet.yaml"], address, next, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	open := dialEcho(t, address)
	g.begin()
	if err := (&client{address: next}).ask(&session{}); err != nil {
		t.Error(err)
	}
	if err := (&client{address: h2c, http2: true}).ask(&session{}); err != nil {
		t.Error(err)
	}
	if c, err := net.Dial("tcp", address); err == nil {
		c.Close()
		t.Error("the old address is open still")
	}
	if err := open.check("still there"); err != nil {
		t.Error(err)
	}
	open.Close()
	g.await(ended)
	g.stop()
}

// TestUpgradeUnixSocket: the file of a socket stays until the last process
// ends.
func TestUpgradeUnixSocket(t *testing.T) {
	files, address, _ := shop(t)
	socket := filepath.Join(t.TempDir(), "web.sock")
	files["limpet.yaml"] = strings.Replace(files["limpet.yaml"], strconv.Quote(address), strconv.Quote("unix:"+socket), 1)
	g := startGenerations(t, files)
	ask := func(when string) {
		t.Helper()
		c, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		defer c.Close()
		fmt.Fprintf(c, "GET / HTTP/1.0\r\n\r\n")
		if res, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || res.StatusCode != http.StatusOK {
			t.Errorf("%s: %v", when, err)
		}
	}
	g.script(t, "exit 1")
	g.signal(syscall.SIGUSR2)
	g.await("upgrade failed")
	ask("after a failure")
	binary, err := build()
	if err != nil {
		t.Fatal(err)
	}
	g.install(t, binary)
	for range 2 {
		g.upgrade()
		ask("after an upgrade")
	}
	g.stop()
	if _, err := os.Stat(socket); !os.IsNotExist(err) {
		t.Errorf("the file: %v", err)
	}
}

// TestUpgradeWithoutUnixSocket: the file of a socket goes when the next process
// accepts without it, and stays if that fails. It stayed for good.
func TestUpgradeWithoutUnixSocket(t *testing.T) {
	files, address, _ := shop(t)
	socket := filepath.Join(t.TempDir(), "web.sock")
	config := files["limpet.yaml"]
	files["limpet.yaml"] = strings.Replace(config, strconv.Quote(address), strconv.Quote("unix:"+socket), 1)
	g := startGenerations(t, files)
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(g.dir, "limpet.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("listen: 192.0.2.1:1\n" + teapotRule) // no address of this machine
	g.signal(syscall.SIGUSR2)
	g.await("upgrade failed")
	if c, err := net.Dial("unix", socket); err != nil {
		t.Error(err)
	} else {
		c.Close()
	}
	write(config)
	g.begin()
	if _, err := os.Lstat(socket); !os.IsNotExist(err) {
		t.Errorf("the file: %v", err)
	}
	g.await(ended)
	g.stop()
}

// TestUpgradeInheritedSockets: sockets that the first process has inherited are
// there for all that follow, also if a configuration between has left them out.
func TestUpgradeInheritedSockets(t *testing.T) {
	socket, inherited := managed(t)
	other := freeAddress(t)
	config := func(addresses ...string) string {
		return fmt.Sprintf("listen: [%s]\nprocess: {drain: {idle: 10ms}}\n", strings.Join(addresses, ", ")) + teapotRule
	}
	both, one := config("fd:web", strconv.Quote(other)), config(strconv.Quote(other))
	g := startGenerations(t, map[string]string{"limpet.yaml": both}, func(cmd *exec.Cmd) {
		// The process that is told of the sockets is known by its number.
		cmd.Path, cmd.Args = "/bin/sh", append([]string{"/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`}, cmd.Args...)
		cmd.Env = append(os.Environ(), "LISTEN_FDS=1", "LISTEN_FDNAMES=web")
		cmd.ExtraFiles = []*os.File{socket}
	})
	reload := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(g.dir, "limpet.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		g.signal(syscall.SIGHUP)
		g.await("configuration changed")
	}
	ask := func() {
		t.Helper()
		for _, address := range []string{inherited, other} {
			if err := once(address); err != nil {
				t.Errorf("%s: %v", address, err)
			}
		}
	}
	ask()
	g.upgrade()
	ask()
	reload(one)
	reload(both)
	ask()
	reload(one)
	g.upgrade()
	reload(both)
	ask()
	g.stop()
}

// TestStopWhileUpgrading: a service that is stopped while the process before
// still drains ends when both have. A manager that signals both, or the main
// process alone, cuts off nothing.
func TestStopWhileUpgrading(t *testing.T) {
	for name, both := range map[string]bool{"the main process": false, "both processes": true} {
		t.Run(name, func(t *testing.T) {
			begun, release := make(chan struct{}, 1), make(chan struct{})
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				begun <- struct{}{}
				<-release
				io.WriteString(w, "whole")
			}))
			defer server.Close()
			address := freeAddress(t)
			g := startGenerations(t, map[string]string{"limpet.yaml": fmt.Sprintf(
				"listen: %q\nprocess: {drain: {idle: 10ms, timeout: 10m}, upgradeTimeout: 1h}\npools: [{name: web, servers: [{address: %s}]}]\n", address, server.Listener.Addr())})
			old := g.now
			answer := make(chan string, 1)
			go func() {
				client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
				res, err := client.Get("http://" + address)
				if err != nil {
					answer <- err.Error()
					return
				}
				defer res.Body.Close()
				body, err := io.ReadAll(res.Body)
				answer <- fmt.Sprint(string(body), " ", err)
			}()
			testwait.Receive(t, begun, "request")
			g.begin()
			g.await("msg=draining timeout=1h")
			g.signal(syscall.SIGTERM)
			g.await("msg=draining timeout=10m") // of the old one: it is asked to end as well
			if both {
				_ = syscall.Kill(old, syscall.SIGTERM)
			}
			if err := syscall.Kill(g.now, 0); err != nil {
				t.Errorf("the new process has left the old one: %v", err)
			}
			close(release)
			if got := testwait.Receive(t, answer, "answer"); got != "whole <nil>" {
				t.Error(got)
			}
			for range g.lines { // until both have ended
			}
			if err := g.cmd.Wait(); err != nil {
				t.Errorf("the old process has ended with %v", err)
			}
		})
	}
}
