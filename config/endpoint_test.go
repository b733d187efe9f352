package config

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet/internal/testfiles"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/internal/websockettest"
)

// A site is a runtime that opens its sockets by itself.
type site struct {
	*testing.T
	*Runtime
	dir string
	log *logLines
}

// logLines are the lines of a log.
type logLines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logLines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// take returns the lines that contain a text, without their times, and forgets
// all.
func (l *logLines) take(text string) (lines []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		if strings.Contains(line, text) {
			_, line, _ = strings.Cut(strings.TrimSpace(line), " ")
			lines = append(lines, line)
		}
	}
	l.text.Reset()
	return lines
}

// build makes a runtime of the file limpet.yaml of these.
func build(t *testing.T, files map[string]string, o Options) *site {
	t.Helper()
	s := &site{T: t, dir: testfiles.Write(t, files), log: &logLines{}}
	f, err := Load(t.Context(), filepath.Join(s.dir, "limpet.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	o.Logger = s.log.logger()
	if s.Runtime, err = f.Build(o); err != nil {
		t.Fatal(err)
	}
	return s
}

// serve listens and serves until the test ends.
func serve(t *testing.T, files map[string]string, o Options) *site {
	t.Helper()
	s := build(t, files, o)
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Runtime.Run(ctx) })
	ready := make(chan struct{})
	wg.Go(func() {
		if err := s.Serve(func() { close(ready) }); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		end, cancel := context.WithCancel(context.Background())
		cancel()
		_ = s.Shutdown(end) // cuts off what is open still
		stop()
		wg.Wait()
	})
	testwait.Receive(t, ready, "start")
	return s
}

// update writes a file anew, and updates the runtime.
func (s *site) update(text string) (Changes, error) {
	s.Helper()
	return rewrite(s.T, s.Runtime, s.dir, text)
}

// must updates the runtime, and expects nothing to wait.
func (s *site) must(text string) {
	s.Helper()
	if changes, err := s.update(text); err != nil || changes.Restart != nil {
		s.Fatalf("%+v, %v", changes, err)
	}
}

// addrs are those of a listener.
func (s *site) addrs(name string) (all []net.Addr) {
	for _, l := range s.Listeners() {
		if l.Name == name {
			all = append(all, l.Addr())
		}
	}
	return all
}

// client connects to an address, whatever it asks for.
func client(addr net.Addr) *http.Client {
	tr := &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, addr.Network(), addr.String())
		},
	}
	return &http.Client{Transport: tr, Timeout: testwait.Limit}
}

// fetch returns status, protocol and body of an answer, and whether it was the
// last of its connection.
func fetch(c *http.Client, url string) (string, bool) {
	res, err := c.Get(url)
	if err != nil {
		return "error: " + err.Error(), false
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return "error: " + err.Error(), false
	}
	return fmt.Sprintf("%d %s %s", res.StatusCode, res.Proto, body), res.Close
}

// ask does so with a connection of its own.
func ask(addr net.Addr, url string) string {
	c := client(addr)
	defer c.CloseIdleConnections()
	got, _ := fetch(c, url)
	return got
}

const hello = "httpSecurity: [{name: a, action: {respond: {status: 200, body: hello}}}]\n"

// A listener may have several addresses, of all kinds. An unspecified address
// stands for its own family only, and no host for both.
func TestListen(t *testing.T) {
	dir := t.TempDir()
	abstract := fmt.Sprintf("unix:@limpet-test-%d", os.Getpid())
	list := []string{"127.0.0.1:0", "[::1]:0", "0.0.0.0:0", "[::]:0", ":0", "unix:" + filepath.Join(dir, "s")}
	if runtime.GOOS == "linux" {
		list = append(list, abstract)
	}
	s := serve(t, map[string]string{"limpet.yaml": "name: shop\nlisten: ['" + strings.Join(list, "', '") + "']\n" + hello}, Options{})
	all := s.Listeners()
	if len(all) != len(list) {
		t.Fatalf("%d addresses", len(all))
	}
	for i, l := range all {
		if got := ask(l.Addr(), "http://x/"); got != "200 HTTP/1.1 hello" {
			t.Errorf("%s: %s", list[i], got)
		}
		if !slices.Equal(l.Services(), []string{"shop"}) || l.Name != "listen" {
			t.Errorf("%+v", l)
		}
	}
	for i, want := range map[int][2]bool{2: {true, false}, 3: {false, true}, 4: {true, true}} {
		for family, host := range []string{"127.0.0.1", "::1"} {
			addr := &net.TCPAddr{IP: net.ParseIP(host), Port: all[i].Addr().(*net.TCPAddr).Port}
			if got := ask(addr, "http://x/"); (got == "200 HTTP/1.1 hello") != want[family] {
				t.Errorf("%s from %s: %s", list[i], host, got)
			}
		}
	}
	for range 2 {
		if !s.Progress() {
			t.Error("no progress, though all wait for clients")
		}
	}
	lines := s.log.take("msg=serving")
	if len(lines) != len(list) || lines[5] != "level=INFO msg=serving address=unix:"+filepath.Join(dir, "s")+" vs=shop" {
		t.Error(lines)
	}
	if err := s.Listen(); err == nil {
		t.Error("listens twice")
	}
	if err := s.Serve(nil); err == nil || errors.Is(err, http.ErrServerClosed) {
		t.Errorf("serves twice: %v", err)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "s")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file of the socket: %v", err)
	}
	if _, err := s.Update(s.file); !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("update after the end: %v", err)
	}
	if err := s.Listen(); err == nil {
		t.Error("listens after the end")
	}
}

// An address that cannot be opened leaves none open, and says where it stands.
func TestListenFails(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	path := filepath.Join(t.TempDir(), "s")
	s := build(t, map[string]string{"limpet.yaml": fmt.Sprintf("listen: ['unix:%s', '%s', fd:web]\n", path, taken.Addr()) + hello}, Options{})
	err = s.Listen()
	if err == nil {
		t.Fatal("no error")
	}
	lines := strings.Split(strings.ReplaceAll(err.Error(), s.dir, "DIR"), "\n")
	want := []string{
		fmt.Sprintf("DIR/limpet.yaml:1:%d: listen[1]: listen tcp %s: bind: address already in use", len(path)+19, taken.Addr()),
		fmt.Sprintf(`DIR/limpet.yaml:1:%d: listen[2]: "fd:web": the process has inherited no socket "web"`, len(path)+23+len(taken.Addr().String())),
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the first address is open: %v", err)
	}
	if err := s.Serve(nil); err == nil || errors.Is(err, http.ErrServerClosed) {
		t.Errorf("serves: %v", err)
	}
	if s.Listeners()[0].Addr() != nil {
		t.Error("an address that is not open")
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// A file that a killed process has left is replaced; the socket of another
// process is not, nor is anything else.
func TestUnixSocketFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{"limpet.yaml": "listen: 'unix:" + path + "'\n" + hello}
	used := build(t, files, Options{})
	if err := used.Listen(); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("in use: %v", err)
	}
	if c, err := left.Accept(); err != nil { // from looking whether somebody listens
		t.Error(err)
	} else {
		c.Close()
	}
	left.SetUnlinkOnClose(false)
	left.Close()
	s := serve(t, files, Options{})
	if got := ask(s.addrs("listen")[0], "http://x/"); got != "200 HTTP/1.1 hello" {
		t.Error(got)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := used.Listen(); err == nil {
		t.Error("a file was replaced")
	}
	if text, err := os.ReadFile(path); string(text) != "precious" {
		t.Errorf("%q, %v", text, err)
	}
}

// Clients at Unix sockets have no address: it is in no list, so rules for
// addresses that are not in a list apply. Scripts see none.
func TestUnixClients(t *testing.T) {
	for match, want := range map[string]string{
		`prefixes: ["0.0.0.0/0", "::/0"]`:       "200 HTTP/1.1 <nil>",
		"op: is not in, prefixes: [10.0.0.0/8]": "error: ",
	} {
		path := filepath.Join(t.TempDir(), "s")
		s := serve(t, map[string]string{
			"a.lua": "-- HTTP_REQ\navi.http.response(200, {}, '<' .. tostring(avi.vs.client_ip()) .. '>')\n",
			"limpet.yaml": fmt.Sprintf(`listen: 'unix:%s'
scripts: [{file: a.lua}]
networkSecurity: [{name: a, match: {clientIP: {%s}}, action: deny}]
httpSecurity: [{name: a, match: {clientIP: {%[2]s}}, action: close}]
`, path, match),
		}, Options{})
		if got := ask(s.addrs("listen")[0], "http://x/"); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s, not %s", match, got, want)
		}
	}
}

// Sockets that the process has inherited are found by name, all of them, and
// stay open for the next one when the address goes.
func TestInheritedSockets(t *testing.T) {
	var files []*os.File
	for range 2 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		f, err := ln.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		ln.Close()
		defer f.Close()
		files = append(files, f)
	}
	inherited := func(name string) (all []net.Listener, err error) {
		if name != "web" {
			return nil, nil
		}
		for _, f := range files {
			ln, err := net.FileListener(f)
			if err != nil {
				return nil, err
			}
			all = append(all, ln)
		}
		return all, nil
	}
	const web = "listen: fd:web\n" + hello
	s := serve(t, map[string]string{"limpet.yaml": web}, Options{Inherited: inherited})
	var addrs []net.Addr
	for _, ln := range s.ends[0].sockets {
		addrs = append(addrs, ln.Addr())
	}
	if l := s.Listeners()[0]; len(addrs) != 2 || l.Network != "fd" || l.Address != "web" {
		t.Fatalf("%v, %+v", addrs, l)
	}
	check := func() {
		t.Helper()
		for _, addr := range addrs {
			if got := ask(addr, "http://x/"); got != "200 HTTP/1.1 hello" {
				t.Error(got)
			}
		}
	}
	check()
	if _, err := s.update("listen: fd:other\n" + hello); err == nil || !strings.Contains(err.Error(), `the process has inherited no socket "other"`) {
		t.Errorf("another name: %v", err)
	}
	s.must("listen: 127.0.0.1:0\n" + hello)
	waiting := make(chan string)
	go func() { waiting <- ask(addrs[0], "http://x/") }() // nobody accepts for the time being
	s.must(web)
	if got := testwait.Receive(t, waiting, "answer"); got != "200 HTTP/1.1 hello" {
		t.Error(got)
	}
	check()
}

// HTTP/2 without TLS is for listeners that ask for it, and servers have the
// limits of their listener.
func TestServerSettings(t *testing.T) {
	s := serve(t, map[string]string{"limpet.yaml": `listeners:
  - {name: h2, address: "127.0.0.1:0", h2c: true, maxHeaderBytes: 2KiB, maxStreams: 7, timeouts: {header: 2s, idle: 3s}}
  - {name: plain, address: "127.0.0.1:0"}
` + hello}, Options{})
	both := client(s.addrs("h2")[0])
	defer both.CloseIdleConnections()
	prior := both.Transport.(*http.Transport).Clone()
	prior.Protocols = new(http.Protocols)
	prior.Protocols.SetUnencryptedHTTP2(true)
	defer prior.CloseIdleConnections()
	if got, _ := fetch(&http.Client{Transport: prior}, "http://x/"); got != "200 HTTP/2.0 hello" {
		t.Error(got)
	}
	if got, _ := fetch(both, "http://x/"); got != "200 HTTP/1.1 hello" {
		t.Error(got)
	}
	long := "http://x/?" + strings.Repeat("x", 20_000)
	if got, _ := fetch(both, long); !strings.HasPrefix(got, "431 ") {
		t.Error(got)
	}
	plain := client(s.addrs("plain")[0])
	defer plain.CloseIdleConnections()
	if got, _ := fetch(plain, long); !strings.HasPrefix(got, "200 ") {
		t.Error(got)
	}
	no := plain.Transport.(*http.Transport).Clone()
	no.Protocols = prior.Protocols
	if got, _ := fetch(&http.Client{Transport: no}, "http://x/"); !strings.HasPrefix(got, "error") {
		t.Errorf("HTTP/2 where nobody asked for it: %s", got)
	}
	for _, l := range s.Listeners() {
		srv := l.Server()
		got := []any{srv.ReadHeaderTimeout, srv.IdleTimeout, srv.MaxHeaderBytes, srv.HTTP2.MaxConcurrentStreams}
		want := []any{10 * time.Second, time.Minute, 64 << 10, 250}
		if l.Name == "h2" {
			want = []any{2 * time.Second, 3 * time.Second, 2 << 10, 7}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", l.Name, diff)
		}
	}
}

// Listeners come, go, move to other addresses and turn TLS on and off while the
// runtime serves. What is under way on an old address goes on; its connections
// end with their next response.
func TestListenersFollow(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/ws":
			if err := websockettest.Accept(w, r, func(c *websockettest.Conn) { _ = c.Echo() }); err != nil {
				t.Error(err)
			}
			return
		case "/slow":
			w.(http.Flusher).Flush()
			<-release
		}
		io.WriteString(w, "server")
	}))
	defer server.Close()
	files := map[string]string{}
	certificate(t, files, "a", "a.example.com")
	unix := filepath.Join(t.TempDir(), "s")
	for name, services := range map[string]string{
		"one service":      "pools: [{name: web, servers: [{address: ADDR}]}]\n",
		"several services": "pools: [{name: web, servers: [{address: ADDR}]}]\nservices: [{name: shop, pools: [web]}, {name: blog, hosts: [blog.example.com], pools: [web]}]\n",
	} {
		t.Run(name, func(t *testing.T) {
			services = strings.Replace(services, "ADDR", server.Listener.Addr().String(), 1) + "process: {startWait: 0s, drain: {idle: 10ms}}\n"
			with := func(listeners string) string { return "listeners: [" + listeners + "]\n" + services }
			const first, tcp = `{name: a, address: "127.0.0.1:0"}`, `{name: b, address: "127.0.0.2:0"}`
			files["limpet.yaml"] = with(first)
			s := serve(t, files, Options{})
			a := s.addrs("a")[0]
			held := client(a)
			defer held.CloseIdleConnections()
			if got, last := fetch(held, "http://x/"); got != "200 HTTP/1.1 server" || last {
				t.Fatalf("%s, last %t", got, last)
			}
			socket, _, err := websockettest.Dial(t.Context(), client(a), "http://x/ws")
			if err != nil {
				t.Fatal(err)
			}
			defer socket.Close()
			echo := func() {
				t.Helper()
				if err := socket.Send(websockettest.Text("hello")); err != nil {
					t.Fatal(err)
				}
				if m, err := socket.Receive(); err != nil || string(m.Data) != "hello" {
					t.Fatalf("%+v, %v", m, err)
				}
			}
			slow, err := client(a).Get("http://x/slow")
			if err != nil {
				t.Fatal(err)
			}
			defer slow.Body.Close()
			s.log.take("")

			// Another listener, at two addresses.
			s.must(with(first + `, {name: b, address: ["127.0.0.2:0", "unix:` + unix + `"]}`))
			if s.addrs("a")[0] != a && s.addrs("a")[0].String() != a.String() {
				t.Error("the first listener has moved")
			}
			if got, last := fetch(held, "http://x/"); got != "200 HTTP/1.1 server" || last {
				t.Errorf("%s, last %t", got, last)
			}
			b := s.addrs("b")
			for _, addr := range b {
				if got := ask(addr, "http://blog.example.com/"); got != "200 HTTP/1.1 server" {
					t.Errorf("%v: %s", addr, got)
				}
			}
			if lines := s.log.take("msg=serving"); len(lines) != 2 || !strings.HasSuffix(lines[0], "listener=b") {
				t.Error(lines)
			}

			// An address that is taken refuses everything.
			taken, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer taken.Close()
			before := s.Listeners()
			_, err = s.update(with(`{name: c, address: "127.0.0.3:0"}, {name: d, address: "` + taken.Addr().String() + `"}`))
			if err == nil || !strings.Contains(err.Error(), "listeners[1].address: listen tcp "+taken.Addr().String()+": bind: address already in use") {
				t.Errorf("an address that is taken: %v", err)
			}
			if diff := cmp.Diff(names(before), names(s.Listeners())); diff != "" {
				t.Error(diff)
			}
			for _, addr := range append(b, a) {
				if got := ask(addr, "http://blog.example.com/"); got != "200 HTTP/1.1 server" {
					t.Errorf("%v: %s", addr, got)
				}
			}

			// The first listener goes, the other one turns on TLS at one of its
			// addresses, which stay open all the time.
			s.must(with(`{name: b, address: ["127.0.0.2:0", "unix:` + unix + `"], tls: {certificate: a.pem, key: a.key}}`))
			testwait.Until(t, "the held connection has its last answer", func() bool {
				got, last := fetch(held, "http://x/") // one may come before the listener retires
				if got != "200 HTTP/1.1 server" {
					t.Fatal(got)
				}
				return last
			})
			testwait.Until(t, "the old address is closed", func() bool {
				c, err := net.Dial("tcp", a.String())
				if err == nil {
					c.Close()
				}
				return err != nil
			})
			now := s.addrs("b")
			for i, addr := range now {
				if addr.String() != b[i].String() {
					t.Errorf("%v has become %v", b[i], addr)
				}
				if got := ask(addr, "https://a.example.com/"); got != "200 HTTP/1.1 server" {
					t.Errorf("%v: %s", addr, got)
				}
			}
			echo()

			// Without TLS again, and with other limits; rules of its own come
			// and go.
			for _, more := range []string{", maxStreams: 5", ", maxStreams: 5, connections: {max: 100}", ""} {
				s.must(with(`{name: b, address: ["127.0.0.2:0", "unix:` + unix + `"]` + more + `}`))
				for i, addr := range s.addrs("b") {
					if got := ask(addr, "http://x/"); got != "200 HTTP/1.1 server" || addr.String() != b[i].String() {
						t.Errorf("%v: %s", addr, got)
					}
				}
			}
			s.must(with(tcp))
			testwait.Until(t, "the file of the socket is gone", func() bool {
				_, err := os.Lstat(unix)
				return err != nil
			})
			echo()
			release <- struct{}{}
			if body, err := io.ReadAll(slow.Body); err != nil || string(body) != "server" {
				t.Errorf("%q, %v", body, err)
			}
			if err := socket.Finish(); err != nil {
				t.Error(err)
			}
			testwait.Until(t, "nothing is left of old addresses", func() bool {
				s.mu.Lock()
				defer s.mu.Unlock()
				return len(s.retired) == 0
			})
		})
	}
}

func names(all []Listener) (names []string) {
	for _, l := range all {
		names = append(names, l.Name+" "+l.Network+" "+l.Address)
	}
	return names
}

// A start waits until health monitors have judged all servers, but no longer
// than the file says.
func TestStartWait(t *testing.T) {
	t.Parallel()
	hello := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "server") })
	server, second := httptest.NewServer(hello), httptest.NewServer(hello)
	defer server.Close()
	defer second.Close()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts nothing, and answers nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	text := fmt.Sprintf(`listen: 127.0.0.1:0
pools: [{name: web, servers: [{address: %s}, {address: SECOND}], healthMonitors: [{checker: {http: {path: /}}, interval: 30s, timeout: 29s}]}]
`, server.Listener.Addr())
	s := serve(t, map[string]string{"limpet.yaml": strings.Replace(text, "SECOND", second.Listener.Addr().String(), 1) + "process: {startWait: 60s}\n"}, Options{})
	if stats := s.kept.pools["web"].Stats(); stats.Up != 2 || stats.Unchecked != 0 {
		t.Errorf("%+v", stats)
	}
	private := "listeners: [{name: main, address: '127.0.0.1:0'}]\nprocess: {startWait: 60s}\nservices: [{name: shop, " +
		strings.TrimSpace(strings.Replace(text[strings.Index(text, "pools"):], "SECOND", second.Listener.Addr().String(), 1)) + "}]\n"
	s = serve(t, map[string]string{"limpet.yaml": private}, Options{})
	if stats := s.kept.services["shop"].pools["web"].Stats(); stats.Up != 2 || stats.Unchecked != 0 {
		t.Errorf("of a service: %+v", stats)
	}
	if n := s.monitored(); n != 2 {
		t.Errorf("%d servers are monitored", n)
	}
	// The server that is silent is used, as if it had been checked.
	s = serve(t, map[string]string{"limpet.yaml": strings.Replace(text, "SECOND", silent.Addr().String(), 1) + "process: {startWait: 10ms}\n"}, Options{})
	if stats := s.kept.pools["web"].Stats(); stats.Up != 2 || stats.Unchecked == 0 {
		t.Errorf("%+v", stats)
	}
}

// Pools that only take over from others are checked, too.
func TestBackupsAreChecked(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "server") }))
	defer server.Close()
	text := fmt.Sprintf(`listeners: [{name: main, address: "127.0.0.1:0"}]
process: {startWait: 60s}
services: [{name: shop, pools: [web], poolGroups: [all]}]
poolGroups: [{name: all, members: [{pool: web}], failAction: {kind: backup, backup: third}}]
pools:
  - {name: web, servers: [{address: %[1]s}], failAction: {kind: backup, backup: spare}}
  - {name: spare, servers: [{address: %[1]s}], healthMonitors: [{checker: {http: {path: /}}}], failAction: {kind: backup, backup: last}}
  - {name: last, servers: [{address: %[1]s}], healthMonitors: [{checker: {http: {path: /}}}]}
  - {name: third, servers: [{address: %[1]s}], healthMonitors: [{checker: {http: {path: /}}}]}
`, server.Listener.Addr())
	s := serve(t, map[string]string{"limpet.yaml": text}, Options{})
	for _, name := range []string{"spare", "last", "third"} {
		if stats := s.kept.pools[name].Stats(); stats.Up != 1 || stats.Unchecked != 0 {
			t.Errorf("%s: %+v", name, stats)
		}
	}
}

// A shutdown ends a start that waits.
func TestShutdownWhileStarting(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	s := build(t, map[string]string{"limpet.yaml": fmt.Sprintf("listen: 127.0.0.1:0\nprocess: {startWait: 60s}\npools: [{name: web, servers: [{address: %s}], healthMonitors: [{checker: {http: {path: /}}}]}]\n", silent.Addr())}, Options{})
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	addr := s.addrs("listen")[0]
	served := make(chan error, 1)
	go func() { served <- s.Serve(func() { t.Error("ready") }) }()
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := testwait.Receive(t, served, "end"); !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
	if c, err := net.Dial("tcp", addr.String()); err == nil {
		c.Close()
		t.Error("somebody listens still")
	}
}

// All listeners together have no more connections than the file says; further
// clients wait until one has gone.
func TestMaxConnections(t *testing.T) {
	s := serve(t, map[string]string{"limpet.yaml": `listeners: [{name: a, address: "127.0.0.1:0"}, {name: b, address: "127.0.0.1:0"}]
process: {maxConnections: 2}
` + hello}, Options{})
	if lines := s.log.take("connections limited"); len(lines) != 1 || !strings.HasSuffix(lines[0], " max=2") {
		t.Error(lines)
	}
	var held []net.Conn
	for i := range 4 {
		c, err := net.Dial("tcp", s.addrs(string("ab"[i%2]))[0].String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		held = append(held, c)
		if i < 2 {
			testwait.Until(t, "it is accepted", func() bool { return s.budget.Open() > i })
		}
	}
	// Each listener may have one more, which it was waiting for when the limit
	// was reached.
	testwait.Until(t, "the others are accepted, or wait", func() bool { return s.budget.Open() >= 2 })
	late := make(chan string, 1)
	go func() { late <- ask(s.addrs("a")[0], "http://x/") }()
	for _, c := range held {
		c.Close()
	}
	if got := testwait.Receive(t, late, "answer"); got != "200 HTTP/1.1 hello" {
		t.Error(got)
	}
	changes, err := s.update("listeners: [{name: a, address: '127.0.0.1:0'}]\nprocess: {maxConnections: 3}\n" + hello)
	if err != nil || !slices.Equal(changes.Restart, []string{"process.maxConnections"}) {
		t.Errorf("%+v, %v", changes, err)
	}
}
