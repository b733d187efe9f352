//go:build unix

package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet/internal/testfiles"
	"github.com/limpetlb/limpet/internal/testwait"
)

// A manager is a service manager at the other end of a socket.
type manager struct {
	path string
	told chan string
}

func newManager(t *testing.T) *manager {
	t.Helper()
	m := &manager{path: filepath.Join(t.TempDir(), "notify"), told: make(chan string, 1000)}
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	go func() {
		defer close(m.told)
		for text := make([]byte, 1000); ; {
			n, err := socket.Read(text)
			if err != nil {
				return
			}
			m.told <- string(text[:n])
		}
	}()
	return m
}

// next returns what the manager is told next, apart from signs of life.
func (m *manager) next(t *testing.T) string {
	t.Helper()
	for {
		if text := testwait.Receive(t, m.told, "message"); text != "WATCHDOG=1" {
			return regexp.MustCompile(`USEC=\d+`).ReplaceAllString(text, "USEC=N")
		}
	}
}

// A service manager hears of each state, in order, and gets signs of life twice
// in the time in which it wants one.
func TestNotices(t *testing.T) {
	dir := testfiles.Write(t, map[string]string{"limpet.yaml": "listen: ['127.0.0.1:0', '127.0.0.1:0']\n" + teapotRule})
	binary, err := build()
	if err != nil {
		t.Fatal(err)
	}
	m := newManager(t)
	path := filepath.Join(dir, "limpet.yaml")
	p := startAs(t, []string{"NOTIFY_SOCKET=" + m.path, "WATCHDOG_USEC=20000"}, binary, "serve", path)
	expect := func(want ...string) {
		t.Helper()
		for _, w := range want {
			if diff := cmp.Diff(w, m.next(t)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		}
	}
	const serves, reloading = "READY=1\nSTATUS=serving at 2 addresses", "RELOADING=1\nMONOTONIC_USEC=N\nSTATUS=reloading"
	expect("STATUS=starting", serves)
	for range 3 {
		for testwait.Receive(t, m.told, "sign of life") != "WATCHDOG=1" {
		}
	}
	p.signal(syscall.SIGHUP)
	expect(reloading, serves)
	if err := os.WriteFile(path, []byte("listem: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGHUP)
	expect(reloading, serves+", with the configuration from before: that of now has faults")
	p.end()
	expect("STOPPING=1\nSTATUS=draining")
}

// A manager that does not listen is a warning.
func TestNoManager(t *testing.T) {
	dir := testfiles.Write(t, map[string]string{"limpet.yaml": teapot})
	binary, err := build()
	if err != nil {
		t.Fatal(err)
	}
	p := startAs(t, []string{"NOTIFY_SOCKET=" + filepath.Join(dir, "none")}, binary, "serve", filepath.Join(dir, "limpet.yaml"))
	if !strings.Contains(strings.Join(p.read, "\n"), "service manager not told") {
		t.Errorf("no warning:\n%s", strings.Join(p.read, "\n"))
	}
	p.end()
}

// managed returns a socket that listens, as a service manager has it, and its
// address.
func managed(t *testing.T) (socket *os.File, address string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	socket, err = ln.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	return socket, ln.Addr().String()
}

// While the socket is a manager's, the command can be stopped and started
// again, and no client is refused or left without an answer.
func TestSocketActivation(t *testing.T) {
	socket, address := managed(t)
	dir := testfiles.Write(t, map[string]string{"limpet.yaml": "listen: fd:web\nprocess: {drain: {idle: 100ms}}\n" + teapotRule})
	binary, err := build()
	if err != nil {
		t.Fatal(err)
	}
	activate := func() *process {
		t.Helper()
		// The process that is told of the sockets is known by its number.
		cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" serve "$1"`, binary, filepath.Join(dir, "limpet.yaml"))
		cmd.Env = append(os.Environ(), "LISTEN_FDS=2", "LISTEN_FDNAMES=web:other")
		cmd.ExtraFiles = []*os.File{socket, socket}
		return startCommand(t, cmd).serve()
	}
	starts := 5
	if testing.Short() {
		starts = 2
	}
	var answered atomic.Int64
	var clients sync.WaitGroup
	stop := make(chan struct{})
	finish := sync.OnceFunc(func() { close(stop) })
	defer finish()
	for range 8 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := once(address); err != nil {
					t.Error(err)
					return
				}
				answered.Add(1)
			}
		})
	}
	for range starts {
		p := activate()
		if !strings.Contains(p.serving, "address="+address+" ") {
			t.Errorf("%s, not %s", p.serving, address)
		}
		if !slices.ContainsFunc(p.read, func(line string) bool {
			return strings.Contains(line, "inherited socket not used") && strings.Contains(line, "fd:other")
		}) {
			t.Errorf("no word of the other socket:\n%s", strings.Join(p.read, "\n"))
		}
		before := answered.Load()
		testwait.Until(t, "clients are served", func() bool { return answered.Load() > before+100 || t.Failed() })
		p.end()
	}
	p := activate() // for those that wait
	finish()
	clients.Wait()
	p.end()
	t.Logf("%d answers over %d starts", answered.Load(), starts)
}

// once sends a request on a connection of its own, and expects an answer.
func once(address string) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(2 * testwait.Limit)) // to end if nobody ever answers
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); err != nil {
		return err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err == nil && !strings.HasPrefix(line, "HTTP/1.1 418 ") {
		err = fmt.Errorf("the answer %q", line)
	}
	return err
}

// A second signal ends the process at once, whatever is under way.
func TestSecondSignal(t *testing.T) {
	for name, drain := range map[string]string{"requests": "timeout: 1h", "delay": "delay: 5m"} {
		t.Run(name, func(t *testing.T) {
			begun := make(chan struct{}, 1)
			server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				begun <- struct{}{}
				<-r.Context().Done()
			}))
			defer server.Close()
			dir := testfiles.Write(t, map[string]string{"limpet.yaml": fmt.Sprintf(
				"listen: 127.0.0.1:0\nprocess: {drain: {%s}}\npools: [{name: web, servers: [{address: %s}]}]\n", drain, server.Listener.Addr())})
			p := start(t, filepath.Join(dir, "limpet.yaml"))
			gone := make(chan struct{})
			go func() {
				defer close(gone)
				client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
				if res, err := client.Get(p.url); err == nil {
					res.Body.Close()
				}
			}()
			testwait.Receive(t, begun, "request")
			p.signal(syscall.SIGTERM)
			p.await("msg=draining")
			p.signal(os.Interrupt)
			p.await("msg=stopped")
			p.await("stopped at once, as the second signal asked")
			for range p.lines {
			}
			_ = p.cmd.Wait()
			if status := p.cmd.ProcessState.ExitCode(); status != cutOff {
				t.Errorf("status %d", status)
			}
			testwait.Receive(t, gone, "end of the request")
		})
	}
}

// With --watch the file is read anew without a signal.
func TestServeWatch(t *testing.T) {
	dir := testfiles.Write(t, map[string]string{"limpet.yaml": teapot})
	binary, err := build()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "limpet.yaml")
	p := startAs(t, nil, binary, "serve", "--watch", path)
	if err := os.WriteFile(path, []byte(strings.Replace(teapot, "418", "410", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	p.await("configuration changed")
	if got := get(t, p.url); !strings.HasPrefix(got, "410 ") {
		t.Error(got)
	}
	p.end()
}
