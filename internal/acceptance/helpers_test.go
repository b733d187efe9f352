package acceptance_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/testleak"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/ipgroup"
	"github.com/limpetlb/limpet/lbpool"
)

// TestMain runs more tests at a time than there are processors, because those
// that are parallel mostly wait. The flag -parallel still applies.
func TestMain(m *testing.M) {
	flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0)))
	flag.Parse()
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction(testleak.RedisClient))
}

// customPersistence is the published use case: a client sticks to the server
// that its address and port were first sent to.
const customPersistence = `-- HTTP Request Event --
pool = "my_pool"
client = avi.vs.client_ip() .. avi.vs.client_port()
server = avi.vs.table_lookup(client)
timeout = "300"

if server then
   avi.pool.select(pool, client)
end


-- HTTP Response Event --
if not server then
   avi.vs.table_insert(client, avi.pool.server_ip(), timeout)
end
`

// compile compiles a listing, or fails the test.
func compile(t testing.TB, name, source string) limpet.Script {
	t.Helper()
	s, err := datascript.Compile(name, datascript.Chunk{Source: source})
	if err != nil {
		t.Fatal(err)
	}
	return limpet.Script{Script: s}
}

// onRequest and onResponse compile a script for one event.
func onRequest(t testing.TB, name, source string) limpet.Script {
	t.Helper()
	return compile(t, name, "-- HTTP_REQ\n"+source)
}

func onResponse(t testing.TB, name, source string) limpet.Script {
	t.Helper()
	return compile(t, name, "-- HTTP_RESP\n"+source)
}

// failOpen makes a script fail open.
func failOpen(s limpet.Script) limpet.Script {
	s.OnError = limpet.FailOpen
	return s
}

// A protocol is a way to speak HTTP.
type protocol string

const (
	http1    protocol = "HTTP1"
	http1TLS protocol = "HTTP1-TLS"
	http2TLS protocol = "HTTP2"
	h2c      protocol = "h2c"
)

func (p protocol) major() int {
	if p == http2TLS || p == h2c {
		return 2
	}
	return 1
}

func (p protocol) tls() bool { return p == http1TLS || p == http2TLS }

// A site is a server that speaks one protocol.
type site struct {
	protocol
	URL  string
	Addr string
	tls  *tls.Config // for clients
	http *http.Server
	stop func() // waits for requests under way
}

// startSite serves h on ln until the test ends.
func startSite(t testing.TB, p protocol, ln net.Listener, h http.Handler) *site {
	t.Helper()
	srv := &httptest.Server{Listener: ln, Config: &http.Server{Handler: h, ErrorLog: serverLog(t), DisableGeneralOptionsHandler: true}}
	s := &site{protocol: p, Addr: ln.Addr().String(), http: srv.Config}
	if p == h2c {
		srv.Config.Protocols = new(http.Protocols)
		srv.Config.Protocols.SetUnencryptedHTTP2(true)
	}
	if p.tls() {
		srv.EnableHTTP2 = p == http2TLS
		srv.StartTLS()
		s.tls = srv.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
		srv.Client().CloseIdleConnections()
		s.URL = "https://" + s.Addr
	} else {
		srv.Start()
		s.URL = "http://" + s.Addr
	}
	s.stop = srv.Close
	t.Cleanup(srv.Close)
	return s
}

// client returns a client with connections of its own.
func (s *site) client(t testing.TB) *http.Client {
	return &http.Client{Transport: s.transport(t), CheckRedirect: noRedirect, Timeout: 2 * testwait.Limit}
}

func (s *site) transport(t testing.TB) *http.Transport {
	tr := &http.Transport{
		TLSClientConfig: s.tls.Clone(), ForceAttemptHTTP2: s.protocol == http2TLS,
		DisableCompression: true, ExpectContinueTimeout: testwait.Limit,
	}
	if s.protocol == h2c {
		tr.Protocols = new(http.Protocols)
		tr.Protocols.SetUnencryptedHTTP2(true)
	}
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// dial connects to the site from a local address, or any if that is empty.
func (s *site) dial(t testing.TB, local string) net.Conn {
	t.Helper()
	d := net.Dialer{Timeout: testwait.Limit}
	if local != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(local)}
	}
	c, err := d.Dial("tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(testwait.Limit))
	return c
}

// secure speaks TLS on a connection to the site.
func (s *site) secure(t testing.TB, c net.Conn) net.Conn {
	t.Helper()
	cfg := s.tls.Clone()
	cfg.ServerName = "127.0.0.1"
	cfg.NextProtos = nil
	conn := tls.Client(c, cfg)
	if err := conn.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	return conn
}

// listen listens on addr, or on any port of loopback.
func listen(t testing.TB, addr string) net.Listener {
	t.Helper()
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// serverLog is the error log of a server under test. Complaints about the
// handler fail the test.
func serverLog(t testing.TB) *log.Logger { return log.New(complaints{t}, "", 0) }

type complaints struct{ t testing.TB }

func (c complaints) Write(p []byte) (int, error) {
	if line := string(p); strings.Contains(line, "superfluous") || strings.Contains(line, "panic serving") {
		c.t.Errorf("the server complains: %s", line)
	}
	return len(p), nil
}

// startServers starts n servers that answer with their number, each on an
// address of its own, as the servers of a pool would be: the published
// listing remembers addresses without ports.
func startServers(t testing.TB, n int) []lbpool.ServerConfig {
	t.Helper()
	return startServersWith(t, n, func(i int) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "server %d", i) })
	})
}

func startServersWith(t testing.TB, n int, handler func(i int) http.Handler) []lbpool.ServerConfig {
	t.Helper()
	var servers []lbpool.ServerConfig
	for i := 1; i <= n; i++ {
		addr := startServer(t, fmt.Sprintf("127.0.1.%d:0", i), handler(i))
		servers = append(servers, lbpool.ServerConfig{Address: addr, Name: fmt.Sprintf("s%d", i)})
	}
	return servers
}

// startServer serves h on addr until the test ends, and returns where.
func startServer(t testing.TB, addr string, h http.Handler) string {
	t.Helper()
	return startSite(t, http1, listen(t, addr), h).Addr
}

// deadAddr is an address at which nothing listens.
func deadAddr(t testing.TB, addr string) string {
	t.Helper()
	ln := listen(t, addr)
	defer ln.Close()
	return ln.Addr().String()
}

func newPool(t testing.TB, cfg lbpool.Config) *lbpool.Pool {
	t.Helper()
	p, err := lbpool.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// poolOf is a pool "my_pool" of servers that take turns.
func poolOf(t testing.TB, servers ...lbpool.ServerConfig) *lbpool.Pool {
	t.Helper()
	return newPool(t, lbpool.Config{Name: "my_pool", Servers: servers, Algorithm: lbpool.RoundRobin()})
}

// poolFor is a pool of one server with this handler.
func poolFor(t testing.TB, h http.HandlerFunc) *lbpool.Pool {
	t.Helper()
	return poolOf(t, lbpool.ServerConfig{Address: startServer(t, "127.0.1.1:0", h)})
}

// newVirtualService returns a virtual service that the test cleans up after.
func newVirtualService(t testing.TB, cfg limpet.Config) *limpet.VirtualService {
	t.Helper()
	vs, err := limpet.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(vs.CloseIdleConnections)
	return vs
}

// serve starts a virtual service on loopback.
func serve(t testing.TB, p protocol, cfg limpet.Config) (*limpet.VirtualService, *site) {
	t.Helper()
	vs := newVirtualService(t, cfg)
	return vs, startSite(t, p, listen(t, ""), vs)
}

// records collects what OnComplete gets.
type records struct {
	mu    sync.Mutex
	list  []limpet.Record
	added chan struct{} // gets a token for each record
}

func newRecords() *records { return &records{added: make(chan struct{}, 100_000)} }

func (r *records) add(rec limpet.Record) {
	r.mu.Lock()
	r.list = append(r.list, rec)
	r.mu.Unlock()
	r.added <- struct{}{}
}

// next waits for one more record than were asked for before, and returns it.
func (r *records) next(t testing.TB) limpet.Record {
	t.Helper()
	return r.take(t, 1)[0]
}

// take waits for n more records, and returns them.
func (r *records) take(t testing.TB, n int) []limpet.Record {
	t.Helper()
	for range n {
		testwait.Receive(t, r.added, "a record")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	taken := r.list[:n:n]
	r.list = r.list[n:]
	return taken
}

// none checks that no record is left over.
func (r *records) none(t testing.TB) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rec := range r.list {
		t.Errorf("an unexpected record: %+v", rec)
	}
}

// get returns status and body.
func get(t testing.TB, c *http.Client, url string) (int, string) {
	t.Helper()
	res, body := fetch(t, c, newRequest(t, "GET", url, nil))
	return res.StatusCode, body
}

func newRequest(t testing.TB, method, url string, body io.Reader) *http.Request {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testwait.Limit)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// fetch sends a request and reads the response to its end.
func fetch(t testing.TB, c *http.Client, r *http.Request) (*http.Response, string) {
	t.Helper()
	res, body, err := try(c, r)
	if err != nil {
		t.Fatal(err)
	}
	return res, body
}

// try is fetch for goroutines of a test, and for requests that may fail.
func try(c *http.Client, r *http.Request) (*http.Response, string, error) {
	res, err := c.Do(r)
	if err != nil {
		return nil, "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return res, string(body), err
}

// send writes a request of HTTP/1.1 as it stands and returns a reader of the
// answer. Line breaks may be bare.
func send(t testing.TB, c net.Conn, request string) *bufio.Reader {
	t.Helper()
	if _, err := io.WriteString(c, strings.ReplaceAll(request, "\n", "\r\n")); err != nil {
		t.Fatal(err)
	}
	return bufio.NewReader(c)
}

// An ending is how a connection ends.
type ending string

const (
	fin   ending = "FIN"
	reset ending = "RST"
)

// endOf reads a connection to its end.
func endOf(t testing.TB, r io.Reader) (rest string, end ending) {
	t.Helper()
	data, err := io.ReadAll(r)
	switch {
	case err == nil:
		return string(data), fin
	case errors.Is(err, syscall.ECONNRESET):
		return string(data), reset
	}
	t.Fatalf("the connection ended with: %v", err)
	panic("not reached")
}

// newGroups is a set of one IP group.
func newGroups(t testing.TB, name string, entries ...string) *ipgroup.Set {
	t.Helper()
	g, err := ipgroup.Parse(name, entries, ipgroup.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := ipgroup.NewSet(g)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// loopback is where the clients of tests come from.
var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
