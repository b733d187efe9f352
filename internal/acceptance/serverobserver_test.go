package acceptance_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/policy"
)

// A syncBuffer is a buffer for several goroutines.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// around is a handler around a service, which it names.
type around struct{ vs *limpet.VirtualService }

func (a around) VirtualService() *limpet.VirtualService { return a.vs }

func (a around) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.vs.ServeHTTP(w, r) }

// Failed TLS handshakes went to a logger of their own, one line for each, and
// of requests that net/http refuses nobody learned.
func TestServerComplaints(t *testing.T) {
	t.Parallel() // net/http waits before it closes what it has refused
	for _, kind := range []string{"service", "wrapped", "around", "mux", "replaced"} {
		for _, overTLS := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, TLS %v", kind, overTLS), func(t *testing.T) {
				t.Parallel()
				var lines syncBuffer
				vs := newVirtualService(t, limpet.Config{Logger: slog.New(slog.NewTextHandler(&lines, nil))})
				h := http.Handler(vs)
				switch kind {
				case "wrapped":
					h = vs.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
				case "around":
					h = around{vs}
				case "mux":
					h = http.NewServeMux()
				}
				srv := limpet.NewServer(h)
				if kind == "mux" {
					srv.ErrorLog = serverLog(t)
				}
				if kind == "replaced" {
					srv.Handler = limpet.LimitBodies(vs)
				}
				ln := listen(t, "")
				example := httptest.NewTLSServer(vs) // for its certificate
				t.Cleanup(example.Close)
				site := &site{protocol: http1, Addr: ln.Addr().String(), tls: example.Client().Transport.(*http.Transport).TLSClientConfig}
				done := make(chan error)
				go func() {
					if overTLS {
						srv.TLSConfig = &tls.Config{Certificates: example.TLS.Certificates}
						done <- srv.ServeTLS(vs.Listener(ln), "", "")
					} else {
						done <- srv.Serve(vs.Listener(ln))
					}
				}()
				exchange := func(request string) {
					c := site.dial(t, "")
					defer c.Close()
					if overTLS {
						c = site.secure(t, c)
					}
					_, _ = io.Copy(io.Discard, send(t, c, request))
				}
				for range 3 {
					exchange("GET / HTTP/1.1\nHost: a\nConnection: close\n\n")
				}
				for range 5 {
					exchange("GET /\x01 HTTP/1.1\nHost: a\n\n")
				}
				exchange("GET / HTTP/1.1\nHost: a\nX-A: " + strings.Repeat("a", 100<<10) + "\n\n")
				var bad, handshakes uint64
				if kind == "service" || kind == "wrapped" || kind == "around" {
					bad = 6
				}
				if overTLS && kind != "mux" {
					handshakes = 4
				}
				if overTLS {
					for range 4 {
						c := site.dial(t, "")
						_, _ = io.Copy(io.Discard, send(t, c, "GET / HTTP/1.1\nHost: a\n\n"))
						c.Close()
					}
				}
				testwait.Until(t, "the server's part", func() bool { return vs.Stats().BadRequests == bad && vs.Stats().FailedHandshakes == handshakes })
				srv.Close()
				<-done
				if s := vs.Stats(); s.BadRequests != bad || s.FailedHandshakes != handshakes {
					t.Errorf("%d bad requests, %d failed handshakes", s.BadRequests, s.FailedHandshakes)
				}
				text := lines.String()
				if n := strings.Count(text, `msg="bad request"`); n > int(bad) || bad > 0 && n == 0 {
					t.Errorf("%d lines of bad requests in\n%s", n, text)
				}
				if n := strings.Count(text, `msg="TLS handshake failed"`); n > int(handshakes) || handshakes > 0 && n == 0 {
					t.Errorf("%d lines of handshakes in\n%s", n, text)
				}
			})
		}
	}
}

// A client whose HTTP/2 is malformed, again and again, could fill the log: each
// connection gave a line, without a Logger on the standard error. Lines of a
// kind are limited, and say how many they stand for.
func TestServerComplaintsAreLimited(t *testing.T) {
	var standard syncBuffer
	log.SetOutput(&standard)
	t.Cleanup(func() { log.SetOutput(os.Stderr) })
	hostile := "http2: server connection error from 192.0.2.1:1: connection error: PROTOCOL_ERROR"
	for _, test := range []struct {
		name, line string
		handler    func(*limpet.VirtualService) http.Handler
		logger     bool
		lines      int // in the first second
		message    string
	}{
		{"HTTP/2 without a logger", hostile, nil, false, 1, hostile},
		{"HTTP/2 with a logger", hostile, nil, true, 1, "HTTP/2 connection failed"},
		{"HTTP/2 before another handler", hostile, func(vs *limpet.VirtualService) http.Handler { return http.StripPrefix("/x", vs) }, true, 1, hostile},
		{"settings that never come", "timeout waiting for SETTINGS frames from 192.0.2.1:1", nil, true, 1, "HTTP/2 connection failed"},
		{"handshakes before another handler", "http: TLS handshake error from 192.0.2.1:1: EOF", func(*limpet.VirtualService) http.Handler { return http.NewServeMux() }, false, 1, "TLS handshake error"},
		{"panics without a logger", "http2: panic serving 192.0.2.1:1: oh", nil, false, 10, "panic serving"},
		{"others with a logger", "http: superfluous response.WriteHeader call", nil, true, 10, "superfluous"},
		{"others without a logger", "http: superfluous response.WriteHeader call", nil, false, 10, "superfluous"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var own syncBuffer
				var cfg limpet.Config
				if test.logger {
					cfg.Logger = slog.New(slog.NewTextHandler(&own, nil))
				}
				vs := newVirtualService(t, cfg)
				h := http.Handler(vs)
				lines := &standard
				if test.handler != nil {
					h = test.handler(vs)
				} else if test.logger {
					lines = &own
				}
				before := lines.String()
				srv := limpet.NewServer(h)
				complain := func() []string {
					for range 1000 {
						srv.ErrorLog.Print(test.line)
					}
					text := strings.TrimPrefix(lines.String(), before)
					before += text
					return strings.SplitAfter(strings.TrimSuffix(text, "\n"), "\n")
				}
				if got := complain(); len(got) != test.lines || !strings.Contains(got[0], test.message) {
					t.Errorf("%d lines of %d: %q", len(got), 1000, got)
				}
				time.Sleep(time.Second)
				if got := complain(); len(got) != test.lines || !strings.Contains(got[0], "suppressed") || !strings.Contains(got[0], strconv.Itoa(1000-test.lines)) {
					t.Errorf("a second later: %q", got)
				}
			})
		})
	}
}

// A client that agrees on HTTP/2 and then speaks HTTP/1 had the beginning of
// its request in the log, with the query.
func TestGreetingsAreNotLogged(t *testing.T) {
	var standard, own syncBuffer
	log.SetOutput(&standard)
	t.Cleanup(func() { log.SetOutput(os.Stderr) })
	for _, logger := range []*slog.Logger{nil, slog.New(slog.NewTextHandler(&own, nil))} {
		vs := newVirtualService(t, limpet.Config{Logger: logger})
		srv := limpet.NewServer(vs)
		site := startSite(t, http2TLS, vs.Listener(listen(t, "")), srv.Handler)
		site.http.ErrorLog = srv.ErrorLog
		cfg := site.tls.Clone()
		cfg.ServerName, cfg.NextProtos = "127.0.0.1", []string{"h2"}
		c := tls.Client(site.dial(t, ""), cfg)
		_, _ = io.Copy(io.Discard, send(t, c, "GET /?token=canary HTTP/1.1\nHost: a\n\n"))
		site.stop()
	}
	for name, lines := range map[string]*syncBuffer{"standard logger": &standard, "Logger": &own} {
		if text := lines.String(); strings.Contains(text, "canary") || !strings.Contains(text, "bogus greeting") {
			t.Errorf("the %s has %s", name, text)
		}
	}
}

// A panickyHandler is a handler of logs that fails at some messages.
type panickyHandler struct {
	slog.Handler
	messages []string
}

func (h panickyHandler) Handle(ctx context.Context, r slog.Record) error {
	if slices.Contains(h.messages, r.Message) {
		panic("no room for " + r.Message)
	}
	return h.Handler.Handle(ctx, r)
}

// A Logger, or an OnComplete, that panics about what no request is to blame for
// ended the process: nobody else recovers where connections are accepted and
// closed. Any client could bring that about.
func TestPanicsOutsideRequests(t *testing.T) {
	var standard, own syncBuffer
	log.SetOutput(&standard)
	t.Cleanup(func() { log.SetOutput(os.Stderr) })
	vs := newVirtualService(t, limpet.Config{
		Logger: slog.New(panickyHandler{slog.NewTextHandler(&own, nil), []string{"bad request", "server error", "connection denied"}}),
		OnComplete: func(r limpet.Record) {
			if r.Connection {
				panic("no place for it")
			}
		},
		Policies: limpet.Policies{NetworkSecurity: []policy.NetworkRule{{
			Name: "no", Action: policy.ActionReset, Match: policy.NetworkMatch{ClientIP: &policy.IPMatch{Op: policy.IsIn, Prefixes: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/31")}}},
		}}},
	})
	srv := limpet.NewServer(vs.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/panic" {
			panic("handler")
		}
	})))
	ln := listen(t, "")
	site := &site{protocol: http1, Addr: ln.Addr().String()}
	done := make(chan error)
	go func() { done <- srv.Serve(vs.Listener(ln)) }()
	for _, local := range []string{"127.0.0.2", "127.0.0.3", "127.0.0.2"} {
		d := net.Dialer{Timeout: testwait.Limit, LocalAddr: &net.TCPAddr{IP: net.ParseIP(local)}}
		if c, err := d.Dial("tcp", site.Addr); err == nil { // it may be reset already
			_, _ = io.Copy(io.Discard, c)
			c.Close()
		}
	}
	for _, request := range []string{"nonsense\n\n", "GET /panic HTTP/1.1\nHost: a\n\n", "nonsense\n\n"} {
		_, _ = io.Copy(io.Discard, send(t, site.dial(t, ""), request))
	}
	answer, err := io.ReadAll(send(t, site.dial(t, ""), "GET / HTTP/1.1\nHost: a\nConnection: close\n\n"))
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 200 OK") {
		t.Errorf("%q, %v", answer, err)
	}
	srv.Close()
	<-done
	for _, what := range []string{"no room for connection denied", "no room for bad request", "no place for it", "panic serving", "goroutine"} {
		if text := standard.String(); !strings.Contains(text, what) {
			t.Errorf("the standard logger got nothing about %q:\n%s", what, text)
		}
	}
}

// The lines that net/http itself writes about such a client are of that kind.
func TestHTTP2Complaints(t *testing.T) {
	t.Parallel()
	var lines syncBuffer
	vs := newVirtualService(t, limpet.Config{Logger: slog.New(slog.NewTextHandler(&lines, nil))})
	srv := limpet.NewServer(vs)
	srv.Protocols = new(http.Protocols)
	srv.Protocols.SetUnencryptedHTTP2(true)
	ln := listen(t, "")
	site := &site{protocol: h2c, Addr: ln.Addr().String()}
	done := make(chan error)
	go func() { done <- srv.Serve(vs.Listener(ln)) }()
	var wg sync.WaitGroup
	for range 20 {
		c := site.dial(t, "")
		// A frame of DATA on stream 0.
		_, _ = io.WriteString(c, http2Preface+"\x00\x00\x00\x04\x00\x00\x00\x00\x00"+"\x00\x00\x01\x00\x00\x00\x00\x00\x00x")
		wg.Go(func() { _, _ = io.Copy(io.Discard, c) })
	}
	wg.Wait()
	srv.Close()
	<-done
	if text := lines.String(); strings.Contains(text, "server error") || !strings.Contains(text, `level=WARN msg="HTTP/2 connection failed"`) {
		t.Errorf("logged\n%s", text)
	}
}

const http2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// A service without pools that is used as a handler says what is missing, and
// one that has never checked its servers says why.
func TestReasonsForNoServer(t *testing.T) {
	recs := newRecords()
	_, site := serve(t, http1, limpet.Config{OnComplete: recs.add})
	if status, _ := get(t, site.client(t), site.URL); status != 503 {
		t.Errorf("status %d", status)
	}
	if rec := recs.next(t); rec.Error == nil || !strings.Contains(rec.Error.Error(), "has no pools") {
		t.Errorf("%v", rec.Error)
	}
}

// A pool whose servers wait for their first check says that nobody checks, and
// a server that fails is a warning.
func TestServersNeverChecked(t *testing.T) {
	t.Parallel()
	recs := newRecords()
	pool := newPool(t, lbpool.Config{
		Name: "my_pool", Servers: []lbpool.ServerConfig{{Address: "127.0.1.1:1"}},
		HealthMonitors: []lbpool.HealthMonitor{{Name: "up", Checker: &lbpool.TCPChecker{}}},
	})
	_, site := serve(t, http1, limpet.Config{Pools: []*lbpool.Pool{pool}, OnComplete: recs.add})
	_, _ = get(t, site.client(t), site.URL)
	rec := recs.next(t)
	if down := pool.Servers()[0].State() == lbpool.Down; down && (rec.Error == nil || !strings.Contains(rec.Error.Error(), "Run is not running")) {
		t.Errorf("%v", rec.Error)
	}
}

// A record of a wrapped handler names a pool if one was used.
func TestWrappedHandlerWithoutPool(t *testing.T) {
	pool := poolFor(t, func(w http.ResponseWriter, r *http.Request) {})
	recs := newRecords()
	vs := newVirtualService(t, limpet.Config{Pools: []*lbpool.Pool{pool}, OnComplete: recs.add})
	transport := &lbpool.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	site := startSite(t, http1, listen(t, ""), vs.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/forwarded" {
			out := r.Clone(r.Context())
			out.RequestURI = ""
			res, err := transport.RoundTrip(out)
			if err != nil {
				t.Error(err)
				return
			}
			res.Body.Close()
		}
	})))
	for path, want := range map[string]string{"/": "", "/forwarded": "my_pool"} {
		_, _ = get(t, site.client(t), site.URL+path)
		if rec := recs.next(t); rec.Pool != want || rec.Server.IsValid() != (want != "") {
			t.Errorf("%s: pool %q, server %v", path, rec.Pool, rec.Server)
		}
	}
}
