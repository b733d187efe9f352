package integration

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/testrace"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/policy"
)

// Requests that nobody in good faith would send go through three proxies,
// limpet, nginx and HAProxy, to servers of three kinds.
//
// The oracle has two parts. For itself, limpet must have one reading of a
// request: rules, scripts, the log and the server have seen the same method,
// host and path, and those that the client has sent; or the server has seen
// nothing. And compared with the others, it must not let pass what both of them
// refuse. Where it does, a table in the test says why.

var only = flag.Int("request", -1, "look at this request of the search for differences alone")

var from = flag.Int("from", 0, "begin the search for differences with this request")

var number = flag.Int("requests", 0, "search for differences with so many requests")

var full = flag.Bool("full", false, "search for differences with 100,000 requests in place of 12,000, each before servers of all kinds")

// serverKinds are the servers behind the proxies.
var serverKinds = []string{"go", "nginx", "node"}

// A seen request is what a server got.
type seen struct {
	server, id           string
	method, target, host string
	script               string // what the script saw
	partial              bool   // its body was cut off
}

// slow is how long a client may take for its requests.
const slow = 2 * time.Second

// program starts a program, and ends it with the test. It is skipped without
// the program, but fails where all must be there.
func program(t *testing.T, stdout io.Writer, name string, arguments ...string) (stop func()) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is not installed", name)
		}
		t.Skipf("%s is not installed", name)
	}
	var complaints bytes.Buffer
	cmd := exec.Command(path, arguments...)
	cmd.Stdout, cmd.Stderr = stdout, &complaints
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		timer := time.AfterFunc(5*time.Second, func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
		err := <-ended
		if t.Failed() {
			t.Logf("%s: %v: %s", name, err, complaints.String())
		}
	})
	t.Cleanup(stop)
	return stop
}

// listening waits until somebody listens.
func listening(t *testing.T, network, addr string) {
	t.Helper()
	testwait.Until(t, addr+" accepts connections", func() bool {
		c, err := net.Dial(network, addr)
		if err != nil {
			return false
		}
		c.Close()
		return true
	})
}

func freeAddr(t *testing.T, host string) string {
	t.Helper()
	ln, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A marked connection adds to answers that the server gives without its handler
// that they are the server's.
type marked struct{ net.Conn }

func (c marked) Write(b []byte) (int, error) {
	if bytes.HasPrefix(b, []byte("HTTP/1.1 ")) && !bytes.Contains(b, []byte("X-Served:")) {
		if i := bytes.Index(b, []byte("\r\n")); i >= 0 {
			if _, err := c.Conn.Write(slices.Concat(b[:i], []byte("\r\nX-Served: here"), b[i:])); err != nil {
				return 0, err
			}
			return len(b), nil
		}
	}
	return c.Conn.Write(b)
}

type markedListener struct{ net.Listener }

func (l markedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return marked{c}, nil
}

// mark is how a server marks its answers: those to the requests behind mutants
// are not of interest.
func mark(host string) string {
	if host == "end" {
		return "end"
	}
	return "here"
}

// startGo starts a server of net/http.
func startGo(t *testing.T) (addr string, taken func() []seen) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var list []seen
	srv := &http.Server{
		DisableGeneralOptionsHandler: true, ReadHeaderTimeout: 3 * slow, IdleTimeout: 3 * slow, ErrorLog: log.New(io.Discard, "", 0),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Served", mark(r.Host))
			s := seen{server: "go", id: strings.Join(r.Header["X-Id"], "|"), method: r.Method, target: r.RequestURI, host: r.Host, script: strings.Join(r.Header["X-Seen"], "|")}
			_, err := io.Copy(io.Discard, r.Body)
			s.partial = err != nil
			mu.Lock()
			defer mu.Unlock()
			list = append(list, s)
		}),
	}
	go func() { _ = srv.Serve(markedListener{ln}) }()
	t.Cleanup(func() { srv.Close() })
	return ln.Addr().String(), func() []seen {
		ctx, cancel := context.WithTimeout(context.Background(), testwait.Limit)
		defer cancel()
		_ = srv.Shutdown(ctx)
		mu.Lock()
		defer mu.Unlock()
		return list
	}
}

// nginxTop is what each nginx needs.
func nginxTop(dir string) string {
	return fmt.Sprintf(`daemon off;
master_process off;
pid %[1]s/nginx.pid;
error_log %[1]s/error.log;
events { worker_connections 1000; }
http {
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	access_log off;
`, dir)
}

// startNginxServer starts an nginx that notes what it gets. A proxy in it reads
// the body before it asks.
func startNginxServer(t *testing.T) (addr string, taken func() []seen) {
	dir := t.TempDir()
	addr = freeAddr(t, "127.0.0.1")
	access, file := filepath.Join(dir, "access.log"), filepath.Join(dir, "nginx.conf")
	writeFile(t, file, nginxTop(dir)+fmt.Sprintf(`
	log_format seen escape=none "$status	$http_x_id	$http_x_seen	$request_method	$request_uri	$http_host";
	map $http_host $mark {
		default here;
		end end;
	}
	upstream inner { server unix:%[1]s/inner.sock; }
	server {
		listen unix:%[1]s/inner.sock;
		return 200 "ok";
	}
	server {
		listen %[2]s;
		access_log %[3]s seen;
		add_header X-Served $mark always;
		keepalive_timeout 60s;
		location / { proxy_pass http://inner; }
	}
}
`, dir, addr, access))
	stop := program(t, io.Discard, "nginx", "-p", dir, "-c", file, "-e", filepath.Join(dir, "error.log"))
	listening(t, "tcp", addr)
	return addr, func() (list []seen) {
		stop() // writes all that is to be logged
		text, err := os.ReadFile(access)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
			if f[0] != "200" {
				continue // nginx itself has refused it
			}
			s := seen{server: "nginx", partial: f[0] != "200"}
			if len(f) == 6 {
				s.id, s.script, s.method, s.target, s.host = f[1], f[2], f[3], f[4], f[5]
			}
			list = append(list, s)
		}
		return list
	}
}

const nodeServer = `
const http = require('http'), fs = require('fs');
const [, , socket, file] = process.argv;
const out = fs.openSync(file, 'a');
const hex = s => Buffer.from(s ?? '', 'latin1').toString('hex');
function serve(req, res) {
	const all = n => req.rawHeaders.filter((_, i, a) => i % 2 == 1 && a[i - 1].toLowerCase() == n).join('|');
	let done = false;
	const note = partial => {
		if (done) return;
		done = true;
		fs.writeSync(out, [partial, all('x-id'), all('x-seen'), req.method, req.url, all('host')].map(s => hex(String(s))).join(' ') + '\n');
	};
	req.on('data', () => {});
	req.on('end', () => { note(''); res.writeHead(200, { 'X-Served': req.headers.host == 'end' ? 'end' : 'here' }); res.end('ok'); });
	req.on('error', () => note('partial'));
	req.on('close', () => note('partial'));
}
const server = http.createServer({ keepAliveTimeout: 60000 }, serve);
server.on('checkContinue', (req, res) => { res.writeContinue(); serve(req, res); });
server.on('checkExpectation', (req, res) => { res.writeHead(417, { 'X-Served': 'here' }); res.end(); });
server.on('clientError', (err, socket) => {
	if (socket.writable) socket.end('HTTP/1.1 400 Bad Request\r\nX-Served: here\r\nContent-Length: 0\r\nConnection: close\r\n\r\n');
});
const [host, port] = socket.split(':');
server.listen(+port, host);
process.on('SIGTERM', () => { fs.closeSync(out); process.exit(0); });
`

// startNode starts a server of Node.
func startNode(t *testing.T) (addr string, taken func() []seen) {
	dir := t.TempDir()
	addr = freeAddr(t, "127.0.0.1")
	file, out := filepath.Join(dir, "server.js"), filepath.Join(dir, "seen")
	writeFile(t, file, nodeServer)
	stop := program(t, io.Discard, "node", file, addr, out)
	listening(t, "tcp", addr)
	return addr, func() (list []seen) {
		stop()
		text, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			f := strings.Split(strings.TrimSuffix(line, "\n"), " ")
			for i, s := range f {
				b, err := hex.DecodeString(s)
				if err != nil || len(f) != 6 {
					t.Fatal(line, err)
				}
				f[i] = string(b)
			}
			list = append(list, seen{server: "node", partial: f[0] != "", id: f[1], script: f[2], method: f[3], target: f[4], host: f[5]})
		}
		return list
	}
}

// A peer is a proxy that limpet is compared with, in front of a server of a
// kind.
type peer struct{ http1, http2 string } // Unix sockets

// startNginxProxy starts an nginx in front of the servers.
func startNginxProxy(t *testing.T, servers map[string]string) map[string]peer {
	dir, file := t.TempDir(), ""
	file = filepath.Join(dir, "nginx.conf")
	peers := map[string]peer{}
	config := nginxTop(dir) + fmt.Sprintf(`
	client_header_timeout %[1]ds;
	client_body_timeout %[1]ds;
	keepalive_timeout %[1]ds;
	proxy_read_timeout 20s;
	proxy_http_version 1.1;
	proxy_set_header Connection "";
	proxy_set_header Host $http_host;
	proxy_next_upstream off;
`, int(slow.Seconds()))
	for _, kind := range serverKinds {
		p := peer{filepath.Join(dir, kind+"1"), filepath.Join(dir, kind+"2")}
		peers[kind] = p
		config += fmt.Sprintf(`
	server { listen unix:%[1]s; location / { proxy_pass http://%[3]s; } }
	server { listen unix:%[2]s http2; location / { proxy_pass http://%[3]s; } }
`, p.http1, p.http2, servers[kind])
	}
	writeFile(t, file, config+"}\n")
	program(t, io.Discard, "nginx", "-p", dir, "-c", file, "-e", filepath.Join(dir, "error.log"))
	for _, p := range peers {
		listening(t, "unix", p.http1)
		listening(t, "unix", p.http2)
	}
	return peers
}

// startHAProxy starts an HAProxy in front of the servers.
func startHAProxy(t *testing.T, servers map[string]string) map[string]peer {
	dir, file := t.TempDir(), ""
	file = filepath.Join(dir, "haproxy.cfg")
	peers := map[string]peer{}
	config := fmt.Sprintf(`global
	maxconn 1000
	nbthread 1
defaults
	mode http
	timeout connect 5s
	timeout client %[1]ds
	timeout server 20s
	timeout http-request %[1]ds
	timeout http-keep-alive %[1]ds
	retries 0
`, int(slow.Seconds()))
	for _, kind := range serverKinds {
		p := peer{filepath.Join(dir, kind+"1"), filepath.Join(dir, kind+"2")}
		peers[kind] = p
		config += fmt.Sprintf(`
frontend %[1]s1
	bind unix@%[2]s
	default_backend %[1]s
frontend %[1]s2
	bind unix@%[3]s proto h2
	default_backend %[1]s
backend %[1]s
	server s %[4]s
`, kind, p.http1, p.http2, servers[kind])
	}
	writeFile(t, file, config)
	program(t, io.Discard, "haproxy", "-db", "-f", file)
	for _, p := range peers {
		listening(t, "unix", p.http1)
		listening(t, "unix", p.http2)
	}
	return peers
}

// A ward is limpet in front of a server. Each request comes from a client
// address of its own, by which its records are found.
type ward struct {
	addr string
	pool *lbpool.Pool

	mu      sync.Mutex
	records map[netip.Addr][]limpet.Record
	stop    func()
}

func startWard(t *testing.T, server string) *ward {
	script, err := datascript.Compile("sees", datascript.Chunk{Source: `-- HTTP_REQ
local function digits(s) return (string.gsub(s, ".", function(c) return string.format("%02x", string.byte(c)) end)) end
avi.http.replace_header("X-Id", avi.http.get_request_id())
avi.http.replace_header("X-Seen", digits(avi.http.method() .. "\t" .. avi.http.get_path(false) .. "\t" .. (avi.http.get_header("host") or "")))`})
	if err != nil {
		t.Fatal(err)
	}
	w := &ward{records: map[netip.Addr][]limpet.Record{}}
	w.pool, err = lbpool.New(lbpool.Config{Name: "my_pool", Servers: []lbpool.ServerConfig{{Address: server}}, Passive: lbpool.Passive{Disabled: true}})
	if err != nil {
		t.Fatal(err)
	}
	vs, err := limpet.New(limpet.Config{
		Pools: []*lbpool.Pool{w.pool}, Scripts: []limpet.Script{{Script: script}}, Logger: slog.New(slog.DiscardHandler),
		Policies: limpet.Policies{HTTPSecurity: []policy.SecurityRule{
			{Name: "admin path", Match: policy.Match{Path: &policy.PathMatch{Op: policy.BeginsWith, Values: []string{"/admin"}}}, Action: policy.Respond{Status: 403}},
			{Name: "admin host", Match: policy.Match{Host: &policy.TextMatch{Op: policy.Equals, Values: []string{"admin.example.com"}}}, Action: policy.Respond{Status: 403}},
		}},
		OnComplete: func(rec limpet.Record) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.records[rec.Source.Addr()] = append(w.records[rec.Source.Addr()], rec)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.addr = ln.Addr().String()
	srv := limpet.NewServer(vs)
	srv.Protocols = new(http.Protocols)
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	srv.ErrorLog = log.New(io.Discard, "", 0)
	srv.ReadTimeout, srv.ReadHeaderTimeout, srv.IdleTimeout = slow, slow, slow
	go func() { _ = srv.Serve(ln) }()
	w.stop = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), testwait.Limit)
		defer cancel()
		if err := errors.Join(srv.Shutdown(ctx), vs.Shutdown(ctx)); err != nil {
			t.Errorf("limpet hangs: %v", err)
		}
		_ = srv.Close()
		vs.CloseIdleConnections()
	})
	t.Cleanup(w.stop)
	return w
}

// An outcome is what a client got back on a connection.
type outcome struct {
	status string // the first final one; empty if there was no answer
	served int    // answers of servers, but for those to the request behind the mutant
	hung   bool
}

// refused reports whether a proxy has sent nothing on. Its own 502 to 504 tell
// of a server that did not like what it got.
func (o outcome) refused() bool {
	return o.served == 0 && o.status != "502" && o.status != "503" && o.status != "504"
}

// dial connects to limpet from the address of client n.
func (w *ward) dial(n int) (net.Conn, error) {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(clientAddr(n), 0))}
	return d.Dial("tcp", w.addr)
}

func clientAddr(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{127, byte(n>>16) + 1, byte(n >> 8), byte(n)})
}

const behind = "GET /end HTTP/1.1\r\nHost: end\r\nConnection: close\r\n\r\n"

var heads = regexp.MustCompile(`HTTP/1\.[01] (\d{3})`)

// send sends a mutant, and a harmless request behind it, and reads all answers.
func send(c net.Conn, m *mutant) outcome {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(testwait.Limit))
	if m.raw == "" {
		return sendHTTP2(c, m)
	}
	if _, err := io.WriteString(c, m.raw+behind); err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		return outcome{hung: true}
	}
	b, err := io.ReadAll(c)
	o := outcome{hung: errors.Is(err, os.ErrDeadlineExceeded), served: strings.Count(strings.ToLower(string(b)), "\nx-served: here")}
	for _, head := range heads.FindAllSubmatch(b, -1) {
		if head[1][0] != '1' {
			o.status = string(head[1])
			break
		}
	}
	return o
}

func sendHTTP2(c net.Conn, m *mutant) (o outcome) {
	var sent bytes.Buffer // in one piece: the connection may end on the way
	sent.WriteString(http2.ClientPreface)
	f := http2.NewFramer(&sent, c)
	f.AllowIllegalWrites = true
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	head := func(stream uint32, end bool, fields []hpack.HeaderField) {
		block.Reset()
		for _, field := range fields {
			_ = encoder.WriteField(field)
		}
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndStream: end, EndHeaders: true})
	}
	_ = f.WriteSettings()
	head(1, !m.body, m.fields)
	if m.body {
		_ = f.WriteData(1, m.trailer == nil, m.data)
	}
	if m.trailer != nil {
		head(1, true, m.trailer)
	}
	head(3, true, []hpack.HeaderField{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "http"}, {Name: ":authority", Value: "end"}, {Name: ":path", Value: "/end"}})
	if _, err := c.Write(sent.Bytes()); err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		return outcome{hung: true}
	}
	for over := 0; over < 2; {
		frame, err := f.ReadFrame()
		if err != nil {
			o.hung = errors.Is(err, os.ErrDeadlineExceeded)
			return o
		}
		ended := false
		switch frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			if status := frame.PseudoValue("status"); frame.StreamID == 1 && o.status == "" && !strings.HasPrefix(status, "1") {
				o.status = status
			}
			for _, field := range frame.RegularFields() {
				if field.Name == "x-served" && frame.StreamID == 1 {
					o.served++
				}
			}
			ended = frame.StreamEnded()
		case *http2.DataFrame:
			ended = frame.StreamEnded()
		case *http2.RSTStreamFrame:
			ended = true
		case *http2.GoAwayFrame:
			if frame.LastStreamID < 1 || frame.ErrCode != http2.ErrCodeNo {
				return o
			}
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				sent.Reset()
				_ = f.WriteSettingsAck()
				_, _ = c.Write(sent.Bytes())
			}
		case *http2.PingFrame:
			if !frame.IsAck() {
				sent.Reset()
				_ = f.WritePing(true, frame.Data)
				_, _ = c.Write(sent.Bytes())
			}
		}
		if ended {
			over++
		}
	}
	return o
}

// A trial is a mutant and what became of it.
type trial struct {
	n                     int
	server                string
	mutant                *mutant
	limpet, nginx, haprox outcome
	whole                 bool // the server behind limpet has taken the mutant for a whole request
}

func (x *trial) String() string {
	return fmt.Sprintf("request %d before %s: limpet %+v (whole %t), nginx %+v, HAProxy %+v: %q: %s", x.n, x.server, x.limpet, x.whole, x.nginx, x.haprox, x.mutant.odd, x.mutant)
}

// TestRequestDifferences has limpet, nginx and HAProxy treat the same requests.
func TestRequestDifferences(t *testing.T) {
	requests, seed := 12_000, uint64(1)
	if *full {
		requests = 100_000
	}
	if *number > 0 {
		requests = *number
	}
	if testrace.Enabled {
		requests /= 4
	}
	// One server of each kind is limpet's own: what it gets has come through
	// limpet. The other is for the others.
	servers, taken, wards := map[string]string{}, map[string]func() []seen{}, map[string]*ward{}
	for kind, start := range map[string]func(*testing.T) (string, func() []seen){"go": startGo, "nginx": startNginxServer, "node": startNode} {
		servers[kind], _ = start(t)
		var own string
		own, taken[kind] = start(t)
		wards[kind] = startWard(t, own)
	}
	nginx, haproxy := startNginxProxy(t, servers), startHAProxy(t, servers)
	trials := make(chan *trial)
	go func() {
		defer close(trials)
		for n := *from; n < *from+requests; n++ {
			if *only >= 0 && n != *only {
				continue
			}
			kinds := serverKinds[n/2%3 : n/2%3+1]
			if *full {
				kinds = serverKinds
			}
			for _, kind := range kinds {
				trials <- &trial{n: n, server: kind, mutant: mutate(seed, n)}
			}
		}
	}()
	var mu sync.Mutex
	var all []*trial
	var wg sync.WaitGroup
	for range 24 {
		wg.Go(func() {
			for x := range trials {
				exchange(t, x, wards[x.server], nginx[x.server], haproxy[x.server])
				mu.Lock()
				all = append(all, x)
				if len(all)%20_000 == 0 {
					t.Logf("%d exchanges, request %d", len(all), x.n)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	slices.SortFunc(all, func(a, b *trial) int { return a.n - b.n })

	var faults []string
	got := map[string]map[string]seen{}
	for _, kind := range serverKinds {
		wards[kind].stop()
		got[kind] = map[string]seen{}
		for _, s := range taken[kind]() {
			if _, twice := got[kind][s.id]; twice {
				faults = append(faults, fmt.Sprintf("the %s server got a request twice, or one that was not judged: %+v", kind, s))
			}
			got[kind][s.id] = s
		}
		if n := wards[kind].pool.Servers()[0].Stats().Failures; n > 0 {
			faults = append(faults, fmt.Sprintf("the %s server was blamed %d times", kind, n))
		}
	}
	forwarded, refused, stricter := 0, 0, 0
	used := make([]int, len(explained))
	for _, x := range all {
		w := wards[x.server]
		records := w.records[clientAddr(x.n)]
		slices.SortStableFunc(records, func(a, b limpet.Record) int { return a.Start.Compare(b.Start) })
		x.limpet.served = 0
		for i, rec := range records {
			if rec.Tried == 0 {
				continue
			}
			if !isEnd(rec) {
				x.limpet.served++
			}
			s, ok := got[x.server][rec.RequestID]
			delete(got[x.server], rec.RequestID)
			switch {
			case ok:
				x.whole = x.whole || !isEnd(rec) && !s.partial
				for _, fault := range compare(x.mutant, i, rec, s) {
					faults = append(faults, fault+": "+x.String())
				}
			case rec.ServerStatus == 0 && rec.Status != 400 && rec.Status != 408 && rec.Status != 499 || rec.ServerStatus == 200:
				faults = append(faults, fmt.Sprintf("forwarded, and not seen by the server's handler: %s %q %q, status %d, of the server %d, %v: %v", rec.Method, rec.Path, rec.Host, rec.Status, rec.ServerStatus, rec.Error, x))
			}
		}
		for name, o := range map[string]outcome{"limpet": x.limpet, "nginx": x.nginx, "HAProxy": x.haprox} {
			// Once Node has declined to switch protocols on a connection, it
			// does not answer the next request there if that is malformed.
			if o.hung && !(name != "limpet" && x.server == "node") {
				faults = append(faults, fmt.Sprintf("%s hangs: %v", name, x))
			}
		}
		if x.limpet.served > 0 {
			forwarded++
		} else {
			refused++
			if x.nginx.served > 0 && x.haprox.served > 0 {
				stricter++
			}
		}
		if x.limpet.served > max(x.nginx.served, x.haprox.served) && (x.limpet.served > 1 || x.nginx.refused() && x.haprox.refused()) {
			i := slices.IndexFunc(explained, func(e difference) bool { return e.is(x) })
			if i < 0 {
				faults = append(faults, "both others refuse what limpet lets pass: "+x.String())
				continue
			}
			used[i]++
		}
	}
	for kind, rest := range got {
		for _, s := range rest {
			faults = append(faults, fmt.Sprintf("the %s server got a request without a record: %+v", kind, s))
		}
	}
	for i, n := range used {
		if n == 0 && !testrace.Enabled && *only < 0 && *number == 0 { // with fewer requests some kinds do not occur
			faults = append(faults, "no request is of the kind that is explained: "+explained[i].what)
		}
		t.Logf("%4d × %s", n, explained[i].what)
	}
	t.Logf("%d requests: limpet forwards %d and refuses %d, of which both others forward %d", len(all), forwarded, refused, stricter)
	for _, fault := range faults[:min(len(faults), 200)] {
		t.Error(fault)
	}
	if len(faults) > 0 {
		t.Errorf("%d faults", len(faults))
	}
	if *only < 0 && (forwarded < len(all)/5 || refused < len(all)/5) {
		t.Error("the mutants are too wild, or too tame")
	}
}

// exchange sends a mutant through all proxies.
func exchange(t *testing.T, x *trial, w *ward, nginx, haproxy peer) {
	through := func(c net.Conn, err error) outcome {
		if err != nil {
			t.Errorf("request %d: %v", x.n, err)
			return outcome{}
		}
		return send(c, x.mutant)
	}
	network := func(p peer) (net.Conn, error) {
		if x.mutant.raw != "" {
			return net.Dial("unix", p.http1)
		}
		return net.Dial("unix", p.http2)
	}
	x.limpet = through(w.dial(x.n))
	x.nginx = through(network(nginx))
	x.haprox = through(network(haproxy))
}

// isEnd reports whether a record is of the request behind a mutant.
func isEnd(rec limpet.Record) bool { return rec.Path == "/end" && rec.Host == "end" }

// compare returns in what the log, the script, the server and the client differ
// about the i-th request of a connection.
func compare(m *mutant, i int, rec limpet.Record, s seen) (faults []string) {
	differ := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	b, err := hex.DecodeString(s.script)
	words := strings.Split(string(b), "\t")
	if err != nil || len(words) != 3 {
		differ("the server got %q as seen by the script", s.script)
		return faults
	}
	path, query, _ := strings.Cut(s.target, "?")
	got := [3]string{s.method, readable(path), s.host}
	if logged := [3]string{rec.Method, readable(rec.Path), rec.Host}; logged != got {
		differ("logged %q, the server got %q", logged, got)
	}
	if path == "*" && words[1] == "/" {
		words[1] = path // scripts have a path in its place, see docs/operations/security.md
	}
	if script := [3]string{words[0], readable(words[1]), words[2]}; script != got {
		differ("the script saw %q, the server got %q", script, got)
	}
	if decoded, err := url.PathUnescape(path); err != nil || strings.HasPrefix(decoded, "/admin") {
		differ("the server got the path %q past the rule (%v)", s.target, err)
	}
	if host, _, _ := strings.Cut(strings.ToLower(s.host), ":"); strings.TrimRight(host, ".") == "admin.example.com" || strings.Contains(host, "%") {
		differ("the server got the host %q past the rule", s.host)
	}
	if i > 0 || isEnd(rec) {
		return faults
	}
	// What the client has sent.
	method, target, hosts := "", "", []string{}
	if m.raw != "" {
		line, rest, _ := strings.Cut(m.raw, "\n")
		words := strings.Split(strings.TrimSuffix(line, "\r"), " ")
		if len(words) != 3 {
			differ("the request line has %d words", len(words))
			return faults
		}
		method, target = words[0], words[1]
		for field := range strings.Lines(folded.ReplaceAllStringFunc(rest, func(s string) string { return " " + s[len(s)-1:] })) {
			if name, value, ok := strings.Cut(field, ":"); ok && strings.EqualFold(name, "Host") {
				hosts = append(hosts, strings.Trim(value, " \t\r\n"))
			}
			if strings.TrimRight(field, "\r\n") == "" {
				break
			}
		}
		if scheme, after, ok := strings.Cut(target, "://"); ok && !strings.HasPrefix(target, "/") {
			end := strings.IndexAny(after, "/?")
			if end < 0 {
				end = len(after)
			}
			hosts, target = []string{after[:end]}, after[end:]
			if !strings.EqualFold(scheme, "http") && !strings.EqualFold(scheme, "https") {
				differ("scheme %q", scheme)
			}
			if !strings.HasPrefix(target, "/") && (method != "OPTIONS" || target != "") {
				target = "/" + target
			} else if target == "" {
				target = "*"
			}
		}
	} else {
		for _, f := range m.fields {
			switch f.Name {
			case ":method":
				method += f.Value
			case ":path":
				target += f.Value
			case ":authority", "host":
				if f.Value != "" && (len(hosts) == 0 || !strings.EqualFold(hosts[0], f.Value)) {
					hosts = append(hosts, f.Value)
				}
			}
		}
	}
	if len(hosts) == 0 || len(hosts) == 1 && hosts[0] == "" && strings.Contains(m.raw, " HTTP/1.0") {
		hosts = []string{rec.Local.String()} // HTTP/1.0 may lack a host
	}
	sentPath, sentQuery, _ := strings.Cut(target, "?")
	sent := [3]string{method, readable(sentPath), strings.Join(hosts, "|")}
	if !strings.EqualFold(sent[2], got[2]) || sent[0] != got[0] || sent[1] != got[1] || readable(sentQuery) != readable(query) {
		differ("the client has sent %q with the query %q, the server got %q with %q", sent, sentQuery, got, query)
	}
	return faults
}

// readable is a text without percent-encoding: bytes that must be encoded may
// be so in more than one way.
func readable(s string) string {
	return percent.ReplaceAllStringFunc(s, func(s string) string {
		c, _ := strconv.ParseUint(s[1:], 16, 8)
		return string([]byte{byte(c)})
	})
}

var percent = regexp.MustCompile(`%[0-9A-Fa-f]{2}`)
