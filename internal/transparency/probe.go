package transparency

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/limpetlb/limpet/internal/testrace"
)

// An effort is how much a case takes upon itself.
type effort struct {
	limit time.Duration // for what should happen at once; only ever used up by a target that fails
	large int64         // bytes of a body that must not be kept in memory
	many  int           // repetitions
}

// brief is enough where a failure is expected.
var brief = effort{300 * time.Millisecond, 32 << 20, 200}

// short is enough where one wants to know soon (go test -short).
var short = effort{15 * time.Second, 16 << 20, 100}

// full returns the effort of other cases: less under the race detector.
func full() effort {
	if testrace.Enabled {
		return effort{15 * time.Second, 16 << 20, 400}
	}
	return effort{15 * time.Second, 1 << 30, 10_000}
}

// A probe is a case under way. It collects what the case finds wrong. Its
// methods may be called in any goroutine, those that end the case only in the
// case's own.
type probe struct {
	ctx      context.Context
	target   Target
	protocol protocol
	t        testing.TB
	effort

	clients sync.WaitGroup

	mu       sync.Mutex
	found    []string
	cleanups []func()
	lasts    []func() // after them
}

// failures runs the case and returns what it found wrong.
func (c *testCase) failures(t testing.TB, target Target, proto protocol, e effort) []string {
	ctx, cancel := context.WithTimeout(t.Context(), 4*e.limit)
	p := &probe{ctx: ctx, target: target, protocol: proto, t: t, effort: e}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.run(p)
	}()
	<-done
	cancel()
	for _, cleanup := range slices.Backward(p.cleanups) {
		cleanup()
	}
	for _, last := range p.lasts {
		last()
	}
	p.clients.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.found)
}

func (p *probe) errorf(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.found = append(p.found, fmt.Sprintf(format, args...))
}

// fatalf ends the case.
func (p *probe) fatalf(format string, args ...any) {
	p.errorf(format, args...)
	runtime.Goexit()
}

// cleanup has f called when the case has ended, before those that were given
// earlier.
func (p *probe) cleanup(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cleanups = append(p.cleanups, f)
}

// last has f called when nothing else is left of the case.
func (p *probe) last(f func()) { p.lasts = append(p.lasts, f) }

// pipe returns a body for a request, and where to write it. Both end with the
// case.
func (p *probe) pipe() (*io.PipeReader, *io.PipeWriter) {
	body, upload := io.Pipe()
	context.AfterFunc(p.ctx, func() {
		body.CloseWithError(io.ErrClosedPipe)
		upload.CloseWithError(io.ErrClosedPipe)
	})
	return body, upload
}

// await returns what comes out of ch.
func await[T any](p *probe, ch <-chan T, what string) T {
	timer := time.NewTimer(p.limit)
	defer timer.Stop()
	select {
	case v := <-ch:
		return v
	case <-timer.C:
		p.fatalf("no %s in time", what)
		panic("not reached")
	}
}

// within reports whether ok becomes true before the limit.
func (p *probe) within(ok func() bool) bool {
	deadline := time.NewTimer(p.limit)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			return false
		case <-tick.C:
		}
	}
	return true
}

// A site is what the client of a case sees.
type site struct {
	*probe
	url    string
	addr   string
	client *http.Client
	tls    *tls.Config
}

// start puts the target in front of a handler, and serves it.
func (p *probe) start(h http.HandlerFunc) *site {
	if p.target.Middleware != nil {
		return p.serve(p.protocol, p.target.Middleware(p.t, h))
	}
	return p.front(p.serve(http1, h).url)
}

// startRaw puts the target, which is a proxy, in front of a server that does
// with its connections what it likes. The connection is closed when converse
// returns.
func (p *probe) startRaw(converse func(net.Conn)) *site {
	ln := p.listen()
	var open sync.WaitGroup
	ctx, cancel := context.WithCancel(p.ctx)
	open.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			open.Go(func() {
				defer c.Close()
				defer context.AfterFunc(ctx, func() { c.Close() })()
				converse(c)
			})
		}
	})
	p.cleanup(func() {
		cancel()
		ln.Close()
		open.Wait()
	})
	return p.front("http://" + ln.Addr().String())
}

func (p *probe) front(origin string) *site {
	u, err := url.Parse(origin)
	if err != nil {
		p.fatalf("%v", err)
	}
	return p.serve(p.protocol, p.target.Proxy(p.t, u))
}

func (p *probe) listen() net.Listener {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		p.fatalf("%v", err)
	}
	return ln
}

// serve serves h until the case ends. Then nothing of it may be running any
// more.
func (p *probe) serve(proto protocol, h http.Handler) *site {
	var running atomic.Int64
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		running.Add(1)
		defer running.Add(-1)
		h.ServeHTTP(w, r)
	}))
	srv.Config.ErrorLog = log.New(complaints{p}, "", 0)
	srv.Config.Protocols = new(http.Protocols)
	srv.Config.Protocols.SetHTTP1(proto.major() == 1)
	srv.Config.Protocols.SetHTTP2(proto == http2)
	srv.Config.Protocols.SetUnencryptedHTTP2(proto == h2c)
	s := &site{probe: p, addr: srv.Listener.Addr().String()}
	transport := &http.Transport{DisableCompression: true, ExpectContinueTimeout: p.limit, MaxIdleConnsPerHost: 64}
	if proto.tls() {
		srv.EnableHTTP2 = proto == http2
		srv.StartTLS()
		s.tls = srv.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
		transport.TLSClientConfig = s.tls.Clone()
		s.url = "https://" + s.addr
	} else {
		srv.Start()
		s.url = "http://" + s.addr
	}
	transport.Protocols = new(http.Protocols)
	*transport.Protocols = *srv.Config.Protocols
	s.client = &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	p.cleanup(func() {
		transport.CloseIdleConnections()
		srv.CloseClientConnections()
		idle := func() bool { return running.Load() == 0 }
		if p.within(idle) {
			srv.Close()
			return
		}
		p.errorf("%d handlers have not returned", running.Load())
		p.last(func() {
			if p.within(idle) {
				srv.Close()
			} else { // Close would wait for ever
				_ = srv.Listener.Close()
			}
		})
	})
	return s
}

// complaints are what a server logs. It must have nothing to say about how its
// response writer is used.
type complaints struct{ p *probe }

// Write takes one line.
func (c complaints) Write(line []byte) (int, error) {
	if s := string(line); strings.Contains(s, "superfluous") || strings.Contains(s, "panic serving") {
		c.p.errorf("the server complains: %s", s)
	}
	return len(line), nil
}

func (s *site) request(method, path string, body io.Reader) *http.Request {
	r, err := http.NewRequestWithContext(s.ctx, method, s.url+path, body)
	if err != nil {
		s.fatalf("%v", err)
	}
	return r
}

// open sends a request and returns the response with its body to read. It is
// closed when the case ends.
func (s *site) open(r *http.Request) *http.Response {
	res, err := s.client.Do(r)
	if err != nil {
		s.fatalf("%s %s: %v", r.Method, r.URL.Path, err)
	}
	s.cleanup(func() { res.Body.Close() })
	return res
}

// fetch sends a request and reads the response to its end.
func (s *site) fetch(r *http.Request) (*http.Response, string) {
	res, body, err := s.try(r)
	if err != nil {
		s.fatalf("%s %s: %v", r.Method, r.URL.Path, err)
	}
	return res, body
}

// try is fetch for goroutines of a case, and for requests that may fail.
func (s *site) try(r *http.Request) (*http.Response, string, error) {
	res, err := s.client.Do(r)
	if err != nil {
		return nil, "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return res, string(body), err
}

func (s *site) get(path string) (*http.Response, string) { return s.fetch(s.request("GET", path, nil)) }

// A conn is a connection of a client that writes its requests itself.
type conn struct {
	net.Conn
	*bufio.Reader
	site *site
}

// dial connects to the site. The connection is closed when the case ends.
func (s *site) dial() *conn {
	c, err := net.DialTimeout("tcp", s.addr, s.limit)
	if err != nil {
		s.fatalf("%v", err)
	}
	_ = c.SetDeadline(time.Now().Add(s.limit))
	if s.protocol.tls() {
		cfg := s.tls.Clone()
		cfg.ServerName, cfg.NextProtos = "example.com", nil
		c = tls.Client(c, cfg)
	}
	s.cleanup(func() { c.Close() })
	return &conn{c, bufio.NewReader(c), s}
}

// Read reads what has come, headers that were read excepted.
func (c *conn) Read(b []byte) (int, error) { return c.Reader.Read(b) }

// send writes text, whose line breaks may be bare, and whatever follows as it
// is.
func (c *conn) send(header string, data ...byte) {
	if _, err := c.Conn.Write(append([]byte(strings.ReplaceAll(header, "\n", "\r\n")), data...)); err != nil {
		c.site.fatalf("%v", err)
	}
}

// response reads the header of a response.
func (c *conn) response(r *http.Request) *http.Response {
	res, err := http.ReadResponse(c.Reader, r)
	if err != nil {
		c.site.fatalf("reading a response: %v", err)
	}
	return res
}

// next reads n bytes.
func (c *conn) next(n int) string {
	b := make([]byte, n)
	got, err := io.ReadFull(c.Reader, b)
	if err != nil {
		c.site.errorf("after %d of %d bytes: %v", got, n, err)
	}
	return string(b[:got])
}

// end reads to the end of the connection.
func (c *conn) end() string {
	rest, err := io.ReadAll(c.Reader)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		c.site.errorf("the connection stays open")
	}
	return string(rest)
}

// closeWrite ends the sending direction.
func (c *conn) closeWrite() {
	if err := c.Conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		c.site.errorf("%v", err)
	}
}

func (p *probe) flush(w http.ResponseWriter) {
	if err := http.NewResponseController(w).Flush(); err != nil {
		p.errorf("flush: %v", err)
	}
}
