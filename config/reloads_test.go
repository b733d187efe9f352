package config

import (
	"bufio"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/internal/websockettest"
)

var full = flag.Bool("full", false, "run TestReloadsUnderLoad at full length")

// A pulse wakes all that wait for the next beat.
type pulse struct {
	mu   sync.Mutex
	next chan struct{}
}

func (p *pulse) wait() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next == nil {
		p.next = make(chan struct{})
	}
	return p.next
}

func (p *pulse) beat() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next != nil {
		close(p.next)
	}
	p.next = make(chan struct{})
}

// Reloads that exchange servers, rules, certificates and a listener end neither
// WebSockets nor streams, fail no request, and leave nothing behind.
func TestReloadsUnderLoad(t *testing.T) {
	reloads, sockets, streams := 100, 40, 20
	switch {
	case *full:
		reloads, sockets, streams = 1000, 500, 200
	case testing.Short():
		reloads, sockets, streams = 20, 10, 6
	}
	var beats pulse
	origin := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/ws":
			_ = websockettest.Accept(w, r, func(c *websockettest.Conn) { _ = c.Echo() })
		case "/stream":
			for next := beats.wait(); ; next = beats.wait() {
				w.(http.Flusher).Flush()
				select {
				case <-next:
				case <-r.Context().Done():
					return
				}
				io.WriteString(w, "beat\n")
			}
		default:
			io.WriteString(w, "server")
		}
	})
	var servers []string
	for range 3 {
		s := httptest.NewServer(origin)
		defer s.Close()
		servers = append(servers, s.Listener.Addr().String())
	}
	// The first listener and the one with TLS stay; the third one has another
	// name and address each time.
	text := func(i int) string {
		list := slices.Concat(servers[i%3:], servers[:i%3])[:2+i%2]
		return fmt.Sprintf(`listeners:
  - {name: main, address: "127.0.0.1:0"}
  - {name: secure, address: "127.0.0.1:0", tls: {certificate: %[1]c.pem, key: %[1]c.key}}
  - {name: side%[2]d, address: "127.0.0.1:0"}
process: {startWait: 0s, drain: {idle: 20ms}}
pools: [{name: web, servers: [{address: %[3]s}]}]
httpSecurity: [{name: rule %[2]d, match: {path: {op: equals, values: [/%[2]d]}}, action: close}]
`, "ab"[i%2], i, strings.Join(list, "}, {address: "))
	}
	files := map[string]string{"limpet.yaml": text(0)}
	certificate(t, files, "a", "a.example.com")
	certificate(t, files, "b", "b.example.com")
	s := serve(t, maps.Clone(files), Options{})

	var ends [2]net.Addr // the one that stays, and one that goes with the first reload
	ends[0], ends[1] = s.addrs("main")[0], s.addrs("side0")[0]
	lasting := func(i int) *http.Client {
		c := client(ends[i%2])
		c.Timeout = 0 // it lasts as long as the test
		return c
	}
	var all []*websockettest.Conn
	for i := range sockets {
		c, _, err := websockettest.Dial(t.Context(), lasting(i), "http://x/ws")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		all = append(all, c)
	}
	var lines []*bufio.Reader
	for i := range streams {
		res, err := lasting(i).Get("http://x/stream")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		lines = append(lines, bufio.NewReader(res.Body))
	}
	alive := func() {
		t.Helper()
		for i, c := range all {
			want := fmt.Sprint("message ", i)
			if err := c.Send(websockettest.Text(want)); err != nil {
				t.Fatalf("WebSocket %d: %v", i, err)
			}
			if m, err := c.Receive(); err != nil || string(m.Data) != want {
				t.Fatalf("WebSocket %d: %q, %v", i, m.Data, err)
			}
		}
		beats.beat()
		for i, l := range lines {
			if line, err := l.ReadString('\n'); err != nil || line != "beat\n" {
				t.Fatalf("stream %d: %q, %v", i, line, err)
			}
		}
	}

	var answered, failed atomic.Int64
	var clients sync.WaitGroup
	var pause sync.RWMutex // of requests, while memory is measured
	stop := make(chan struct{})
	for i := range 4 {
		clients.Go(func() {
			c := &strictClient{addr: ends[0].String(), keep: i%2 == 0}
			defer c.close()
			for {
				select {
				case <-stop:
					return
				default:
				}
				pause.RLock()
				err := c.get()
				pause.RUnlock()
				if err != nil {
					t.Errorf("a request failed: %v", err)
					failed.Add(1)
					return
				}
				answered.Add(1)
			}
		})
	}
	var heap uint64
	var goroutines int
	settled := func() {
		testwait.Until(t, "only listeners with something under way are left", func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return len(s.retired) <= 1
		})
	}
	for i := range reloads {
		if err := os.WriteFile(filepath.Join(s.dir, "limpet.yaml"), []byte(text(i+1)), 0o600); err != nil {
			t.Fatal(err)
		}
		before := answered.Load()
		if !s.Reload(t.Context()) {
			t.Fatalf("refused:\n%s", strings.Join(s.log.take("ERROR"), "\n"))
		}
		s.log.take("")
		if got := ask(s.addrs(fmt.Sprint("side", i+1))[0], "http://x/"); got != "200 HTTP/1.1 server" {
			t.Fatalf("reload %d: %s", i+1, got)
		}
		if got, want := s.names("secure"), string("ba"[i%2])+".example.com"; got != want {
			t.Fatalf("reload %d: the certificate of %s, not of %s", i+1, got, want)
		}
		testwait.Until(t, "requests go on", func() bool { return answered.Load() > before || failed.Load() > 0 })
		if i%10 == 9 {
			alive()
		}
		if i == max(reloads/10, 9) || i == reloads-1 {
			settled()
			pause.Lock()
			runtime.GC()
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			now := runtime.NumGoroutine()
			pause.Unlock()
			t.Logf("after %d reloads: heap %.1f MB, %d goroutines", i+1, float64(m.HeapAlloc)/1e6, now)
			if heap == 0 {
				heap, goroutines = m.HeapAlloc, now
			} else if *full && (m.HeapAlloc > heap+heap/20 || now > goroutines+goroutines/20) || now > goroutines+goroutines/20+20 {
				t.Errorf("heap grew from %d to %d bytes, and goroutines from %d to %d", heap, m.HeapAlloc, goroutines, now)
			}
		}
	}
	alive()
	close(stop)
	clients.Wait()
	for i, c := range all {
		if err := c.Finish(); err != nil {
			t.Errorf("WebSocket %d: %v", i, err)
		}
	}
	t.Logf("%d reloads, %d WebSockets, %d streams: %d requests answered, %d failed", reloads, sockets, streams, answered.Load(), failed.Load())
}

// names are those of the certificate at a listener.
func (s *site) names(listener string) string {
	c := client(s.addrs(listener)[0])
	defer c.CloseIdleConnections()
	res, err := c.Get("https://x/")
	if err != nil {
		return err.Error()
	}
	res.Body.Close()
	return strings.Join(res.TLS.PeerCertificates[0].DNSNames, " ")
}

// A strictClient tries nothing twice: a connection that ends without having
// said so with its last response is a failure.
type strictClient struct {
	addr   string
	keep   bool // connections
	secure bool // over TLS
	conn   net.Conn
	r      *bufio.Reader
}

func (c *strictClient) get() (err error) {
	if c.conn == nil {
		if c.conn, err = net.Dial("tcp", c.addr); err != nil {
			return err
		}
		if c.secure {
			c.conn = tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true})
		}
		c.r = bufio.NewReader(c.conn)
	}
	if _, err := io.WriteString(c.conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return err
	}
	res, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(res.Body)
	if err == nil && string(body) != "server" {
		err = errors.New(res.Status)
	}
	if res.Close || !c.keep {
		c.close()
	}
	return err
}

func (c *strictClient) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}
