package acceptance_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/http2test"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/policy"
)

// serveH2C serves h over cleartext HTTP/2 alone.
func serveH2C(t *testing.T, h http.Handler) string {
	t.Helper()
	return startSite(t, h2c, listen(t, "127.0.1.1:0"), h).Addr
}

func h2cPool(t *testing.T, cfg lbpool.Config, addrs ...string) *lbpool.Pool {
	t.Helper()
	cfg.Protocol = lbpool.ProtocolH2C
	if cfg.Name == "" {
		cfg.Name = "grpc"
	}
	for _, addr := range addrs {
		cfg.Servers = append(cfg.Servers, lbpool.ServerConfig{Address: addr})
	}
	return newPool(t, cfg)
}

// Each pool of a virtual service is asked in its own protocol, whatever the
// client speaks, and through each kind of transport.
func TestPoolProtocols(t *testing.T) {
	t.Parallel()
	name := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto) })
	plain := startServer(t, "127.0.1.1:0", name)
	cleartext := serveH2C(t, name)
	secure := startSite(t, http2TLS, listen(t, "127.0.1.1:0"), name)
	trusted := secure.client(t).Transport.(*http.Transport).TLSClientConfig.Clone()
	trusted.NextProtos = nil
	for _, kind := range []string{"NewHTTP1", "standard", "wrapped"} {
		for _, p := range []protocol{http1, http2TLS, h2c} {
			t.Run(kind+"/"+string(p), func(t *testing.T) {
				base := lbpool.NewBase()
				base.TLSClientConfig = trusted.Clone()
				base.TLSClientConfig.ServerName = "example.com"
				var transport http.RoundTripper = lbpool.NewHTTP1(base)
				switch kind {
				case "standard":
					transport = base
				case "wrapped":
					transport = onlyRoundTripper{transport}
					t.Cleanup(base.CloseIdleConnections)
				}
				_, site := serve(t, p, limpet.Config{
					Transport: transport,
					Pools: []*lbpool.Pool{
						newPool(t, lbpool.Config{Name: "web", Servers: []lbpool.ServerConfig{{Address: plain}}}),
						h2cPool(t, lbpool.Config{}, cleartext),
						newPool(t, lbpool.Config{Name: "secure", Scheme: "https", Protocol: lbpool.ProtocolH2, Servers: []lbpool.ServerConfig{{Address: secure.Addr}}}),
					},
					Scripts: []limpet.Script{onRequest(t, "route", `avi.pool.select(string.sub(avi.http.get_path(), 2))`)},
				})
				for range 2 {
					for pool, want := range map[string]string{"web": "HTTP/1.1", "grpc": "HTTP/2.0", "secure": "HTTP/2.0"} {
						res, got, err := try(site.client(t), newRequest(t, "GET", site.URL+"/"+pool, nil))
						if err != nil || res.StatusCode != 200 || got != want {
							t.Errorf("%s: %v %q, %v", pool, res, got, err)
						}
					}
				}
			})
		}
	}
}

// onlyRoundTripper hides what a transport can do beside, as one that traces
// requests does.
type onlyRoundTripper struct{ http.RoundTripper }

// framedH2 is a server of HTTP/2 that answers each header of a request by a
// function.
func framedH2(t *testing.T, answer func(f *http2.Framer, stream uint32)) string {
	t.Helper()
	ln := listen(t, "127.0.1.1:0")
	http2test.Serve(t, ln, http2test.Settings, func(_ int, f *http2.Framer, stream uint32) { answer(f, stream) })
	return ln.Addr().String()
}

// A request that one server has not processed goes to another, also one with a
// body that has been read and that is not idempotent; one that it may have
// processed does not. A server that does not speak HTTP/2 is like one that
// cannot be connected to.
func TestNotProcessed(t *testing.T) {
	good := serveH2C(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "good %s", body)
	}))
	reset := func(code http2.ErrCode) func(t *testing.T) string {
		return func(t *testing.T) string {
			return framedH2(t, func(f *http2.Framer, stream uint32) { _ = f.WriteRSTStream(stream, code) })
		}
	}
	for _, test := range []struct {
		name   string
		server func(t *testing.T) string
		want   string
	}{
		{"refused", reset(http2.ErrCodeRefusedStream), "200 good body"},
		{"internal error", reset(http2.ErrCodeInternal), "502"},
		{"protocol error", reset(http2.ErrCodeProtocol), "502"},
		{"going away", func(t *testing.T) string {
			return framedH2(t, func(f *http2.Framer, _ uint32) { _ = f.WriteGoAway(0, http2.ErrCodeNo, nil) })
		}, "200 good body"},
		{"HTTP/1", func(t *testing.T) string { return startServer(t, "127.0.1.1:0", http.NotFoundHandler()) }, "200 good body"},
		{"nobody", func(t *testing.T) string { return deadAddr(t, "127.0.1.1:0") }, "200 good body"},
	} {
		t.Run(test.name, func(t *testing.T) {
			pool := h2cPool(t, lbpool.Config{Algorithm: first{}}, test.server(t), good)
			_, site := serve(t, h2c, limpet.Config{Pools: []*lbpool.Pool{pool}})
			res, body, err := try(site.client(t), newRequest(t, "POST", site.URL, strings.NewReader("body")))
			if err != nil {
				t.Fatal(err)
			}
			got := fmt.Sprint(res.StatusCode)
			if res.StatusCode == 200 {
				got += " " + body
			}
			if got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
			if n := pool.Servers()[0].Stats().Failures; n != 1 {
				t.Errorf("%d failures of the server", n)
			}
		})
	}
}

// first chooses the first server that may be chosen.
type first struct{}

func (first) Choose(up []*lbpool.Server, h lbpool.Hint) *lbpool.Server {
	if i := slices.IndexFunc(up, h.Allows); i >= 0 {
		return up[i]
	}
	return nil
}

// A server may give hints before its response, and its header may be large up
// to the limit, over HTTP/2 as over HTTP/1.
func TestHTTP2Responses(t *testing.T) {
	var fields atomic.Int64
	pool := h2cPool(t, lbpool.Config{}, framedH2(t, func(f *http2.Framer, stream uint32) {
		http2test.Header(f, stream, ":status", "103", "link", "</x>")
		header := []string{":status", "200"}
		for i := range fields.Load() {
			header = append(header, fmt.Sprint("x-", i), strings.Repeat("v", 1000))
		}
		http2test.Header(f, stream, header...)
		_ = f.WriteData(stream, true, []byte("hello"))
	}))
	_, site := serve(t, h2c, limpet.Config{Pools: []*lbpool.Pool{pool}})
	for _, test := range []struct {
		name   string
		fields int64
		want   int
	}{{"small", 1, 200}, {"large", 500, 200}, {"too large", 2000, 502}} {
		t.Run(test.name, func(t *testing.T) {
			fields.Store(test.fields)
			res, body, err := try(site.client(t), newRequest(t, "GET", site.URL, nil))
			if err != nil || res.StatusCode != test.want || test.want == 200 && body != "hello" {
				t.Errorf("%v %q, %v", res, body, err)
			}
		})
	}
}

// A server tells how large a header it takes. A client that sends a larger one
// gets 400; as it was, it got 502, and two such clients could have each server
// ejected.
func TestHeaderLargerThanServerTakes(t *testing.T) {
	srv := &http.Server{
		Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), Protocols: new(http.Protocols), MaxHeaderBytes: 1 << 10,
	}
	srv.Protocols.SetUnencryptedHTTP2(true)
	ln := listen(t, "127.0.1.1:0")
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(ln) }()
	t.Cleanup(func() {
		_ = srv.Close()
		testwait.Receive(t, ended, "the server")
	})
	pool := h2cPool(t, lbpool.Config{}, ln.Addr().String())
	_, site := serve(t, http1, limpet.Config{Pools: []*lbpool.Pool{pool}})
	for _, test := range []struct{ size, status int }{{10, 200}, {20_000, 400}, {10, 200}} {
		r := newRequest(t, "POST", site.URL, strings.NewReader("body"))
		r.Header.Set("X-Large", strings.Repeat("v", test.size))
		res, _, err := try(site.client(t), r)
		if err != nil || res.StatusCode != test.status {
			t.Errorf("%d bytes: %v, %v", test.size, res, err)
		}
	}
	if s := pool.Servers()[0]; s.Stats().Failures != 0 || s.Open() != 0 {
		t.Errorf("%d failures, %d leases", s.Stats().Failures, s.Open())
	}
}

// A health monitor speaks the protocol of its pool: over HTTP/1.1 it found
// servers down that speak HTTP/2 alone.
func TestHTTP2HealthMonitors(t *testing.T) {
	healthy := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto) })
	cleartext := serveH2C(t, healthy)
	secure := startSite(t, http2TLS, listen(t, "127.0.1.1:0"), healthy)
	plain := startServer(t, "127.0.1.1:0", healthy)
	port := netip.MustParseAddrPort(plain).Port()
	trusted := secure.client(t).Transport.(*http.Transport).TLSClientConfig.Clone()
	trusted.NextProtos = nil
	for _, test := range []struct {
		name    string
		pool    lbpool.Config
		monitor lbpool.HealthMonitor
		want    lbpool.State
	}{
		{"h2c", lbpool.Config{Protocol: lbpool.ProtocolH2C, Servers: []lbpool.ServerConfig{{Address: cleartext}}},
			lbpool.HealthMonitor{Checker: &lbpool.HTTPChecker{Keyword: "HTTP/2.0"}}, lbpool.Up},
		{"h2c by TCP", lbpool.Config{Protocol: lbpool.ProtocolH2C, Servers: []lbpool.ServerConfig{{Address: cleartext}}},
			lbpool.HealthMonitor{Checker: &lbpool.TCPChecker{}}, lbpool.Up},
		{"h2c server of HTTP/1", lbpool.Config{Protocol: lbpool.ProtocolH2C, Servers: []lbpool.ServerConfig{{Address: plain}}},
			lbpool.HealthMonitor{Checker: &lbpool.HTTPChecker{}}, lbpool.Down},
		{"h2c, health at another port", lbpool.Config{Protocol: lbpool.ProtocolH2C, Servers: []lbpool.ServerConfig{{Address: cleartext}}},
			lbpool.HealthMonitor{Checker: &lbpool.HTTPChecker{Keyword: "HTTP/1.1"}, Port: port}, lbpool.Up},
		{"h2", lbpool.Config{Scheme: "https", Protocol: lbpool.ProtocolH2, Servers: []lbpool.ServerConfig{{Address: secure.Addr}}},
			lbpool.HealthMonitor{Checker: &lbpool.HTTPChecker{TLS: trusted, Host: "example.com", Keyword: "HTTP/2.0"}}, lbpool.Up},
		{"http1", lbpool.Config{Servers: []lbpool.ServerConfig{{Address: plain}}},
			lbpool.HealthMonitor{Checker: &lbpool.HTTPChecker{Keyword: "HTTP/1.1"}}, lbpool.Up},
	} {
		t.Run(test.name, func(t *testing.T) {
			checked := make(chan lbpool.State, 10)
			test.pool.Name, test.pool.StartDown = "checked", test.want == lbpool.Up
			test.pool.OnEvent = func(e lbpool.Event) { checked <- e.Change.State }
			test.pool.HealthMonitors = []lbpool.HealthMonitor{test.monitor}
			test.pool.HealthMonitors[0].Interval = 100 * time.Millisecond
			test.pool.HealthMonitors[0].Timeout = 90 * time.Millisecond
			pool := newPool(t, test.pool)
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- pool.Run(ctx) }()
			if got := testwait.Receive(t, checked, "a check"); got != test.want {
				t.Errorf("%v, want %v", got, test.want)
			}
			cancel()
			testwait.Receive(t, ended, "the end of Run")
		})
	}
}

// A call of gRPC may be silent for as long as it likes, in either direction.
// The server that NewServer makes ended it after a minute without a message of
// the client, and the transport after a minute without a message of the server.
func TestSilentCalls(t *testing.T) {
	for _, test := range []struct {
		contentType string
		protocol    lbpool.Protocol // of the servers
		survives    bool
	}{
		{"application/grpc", lbpool.ProtocolH2C, true}, {"application/grpc+proto", lbpool.ProtocolH2C, true},
		{"application/grpcx", lbpool.ProtocolH2C, false}, {"application/octet-stream", lbpool.ProtocolH2C, false},
		{"application/grpc", lbpool.ProtocolHTTP1, false}, // nobody serves it: a client holds a stream
	} {
		t.Run(test.contentType+" "+test.protocol.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ln := newMemoryListener()
				pool, err := lbpool.New(lbpool.Config{Name: "calls", Protocol: test.protocol, Servers: []lbpool.ServerConfig{{Address: "192.0.2.1:80"}}})
				if err != nil {
					t.Fatal(err)
				}
				vs, err := limpet.New(limpet.Config{Pools: []*lbpool.Pool{pool}})
				if err != nil {
					t.Fatal(err)
				}
				srv := limpet.NewServer(vs.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					buf := make([]byte, 100)
					for {
						n, err := r.Body.Read(buf)
						if _, fault := w.Write(buf[:n]); fault != nil || err != nil {
							return
						}
						_ = http.NewResponseController(w).Flush()
					}
				})))
				srv.Protocols = new(http.Protocols)
				srv.Protocols.SetUnencryptedHTTP2(true)
				ended := make(chan error, 1)
				go func() { ended <- srv.Serve(ln) }()
				client := &http.Transport{Protocols: srv.Protocols, DialContext: ln.dial}
				body, send := io.Pipe()
				req, err := http.NewRequestWithContext(t.Context(), "POST", "http://a/", body)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Content-Type", test.contentType)
				sent := make(chan error, 1)
				go func() {
					_, _ = io.WriteString(send, "a")
					time.Sleep(10 * time.Minute)
					_, err := io.WriteString(send, "b")
					_ = send.Close()
					sent <- err
				}()
				res, err := client.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(res.Body)
				if whole := err == nil && string(got) == "ab"; whole != test.survives {
					t.Errorf("%q, %v", got, err)
				}
				_ = body.Close()
				<-sent
				client.CloseIdleConnections()
				_ = srv.Close()
				<-ended
			})
		})
	}
}

// A memoryListener is a net.Listener in memory.
type memoryListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newMemoryListener() *memoryListener {
	return &memoryListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (p *memoryListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return ours, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *memoryListener) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *memoryListener) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (*memoryListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80} }

// Cleartext HTTP/2 by prior knowledge is served with the rules of the listener,
// like every other protocol.
func TestListenerRulesOverH2C(t *testing.T) {
	for _, denied := range []bool{false, true} {
		t.Run(fmt.Sprint("denied ", denied), func(t *testing.T) {
			addr := serveH2C(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			cfg := limpet.Config{Pools: []*lbpool.Pool{h2cPool(t, lbpool.Config{}, addr)}}
			if denied {
				cfg.Policies.NetworkSecurity = []policy.NetworkRule{{Name: "all", Action: policy.ActionReset}}
			}
			vs := newVirtualService(t, cfg)
			srv := limpet.NewServer(vs)
			srv.Protocols = new(http.Protocols)
			srv.Protocols.SetHTTP1(true)
			srv.Protocols.SetUnencryptedHTTP2(true)
			ln := listen(t, "")
			ended := make(chan error, 1)
			go func() { ended <- srv.Serve(vs.Listener(ln)) }()
			client := &http.Transport{Protocols: new(http.Protocols)}
			client.Protocols.SetUnencryptedHTTP2(true)
			res, err := client.RoundTrip(newRequest(t, "GET", "http://"+ln.Addr().String(), nil))
			if err == nil {
				res.Body.Close()
			}
			if (err != nil) != denied {
				t.Error(err)
			}
			if got := vs.Stats().DeniedConnections; denied != (got > 0) {
				t.Errorf("%d connections denied", got)
			}
			client.CloseIdleConnections()
			_ = srv.Close()
			if err := testwait.Receive(t, ended, "the server"); !errors.Is(err, http.ErrServerClosed) {
				t.Error(err)
			}
		})
	}
}
