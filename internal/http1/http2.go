package http1

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"slices"
	"sync"
	"time"

	"github.com/limpetlb/limpet/internal/httpfield"
)

type http2Key struct{}

// WithHTTP2 returns a context whose requests a [Switch] sends over HTTP/2: with
// TLS if their scheme is https, else in cleartext by prior knowledge.
func WithHTTP2(ctx context.Context) context.Context { return context.WithValue(ctx, http2Key{}, true) }

// AsksHTTP2 reports whether a context comes from [WithHTTP2].
func AsksHTTP2(ctx context.Context) bool {
	asked, _ := ctx.Value(http2Key{}).(bool)
	return asked
}

// ErrNotProcessed is matched by an error that proves that the server has done
// nothing of a request: it has refused the stream, or the connection has ended
// before the server has read the request. Another server may get it, whatever
// its method.
var ErrNotProcessed = errors.New("not processed by the server")

// A Switch sends requests over HTTP/2 if their context asks for it, see
// [WithHTTP2], and leaves all others to an http.Transport. It may be used
// concurrently.
type Switch struct {
	base  *http.Transport
	http2 http2Sender
}

// NewSwitch returns a Switch with the settings of base, which must not change
// afterwards.
func NewSwitch(base *http.Transport) *Switch {
	s := &Switch{base: base}
	s.http2.base = base
	return s
}

// RoundTrip implements http.RoundTripper.
func (s *Switch) RoundTrip(req *http.Request) (*http.Response, error) {
	if AsksHTTP2(req.Context()) {
		return s.http2.RoundTrip(req)
	}
	return s.base.RoundTrip(req)
}

// IsOf reports whether s has the settings of base.
func (s *Switch) IsOf(base *http.Transport) bool { return s.base == base }

// CloseIdleConnections closes the connections of either kind that are not in
// use.
func (s *Switch) CloseIdleConnections() {
	s.base.CloseIdleConnections()
	s.http2.CloseIdleConnections()
}

// An http2Sender sends requests over HTTP/2, and over nothing else. The
// connections are net/http's. Which request uses which of them, and what is
// sent again, is decided here: net/http sends what a server has refused to the
// same server up to seven times, in the course of a minute, and again what a
// server may well have processed before it has reset the stream.
type http2Sender struct {
	base *http.Transport
	once sync.Once
	sets [2]http2Conns // for all requests but those of gRPC, and for those
}

// What a connection gets if base does not say: dead servers are noticed within
// half a minute, and a stream whose client is slow uses no more than its share
// of memory.
const (
	http2SendPing = 15 * time.Second
	http2Ping     = 15 * time.Second
	http2Write    = 30 * time.Second
	http2Window   = 512 << 10
)

func (s *http2Sender) prepare() {
	s.once.Do(func() {
		for i := range s.sets {
			s.sets[i].configure(s.base)
		}
		// A call may wait as long as it likes for the first message of its
		// response, with which the header comes.
		s.sets[1].transport.ResponseHeaderTimeout = 0
	})
}

func (s *http2Sender) CloseIdleConnections() {
	s.prepare()
	for i := range s.sets {
		s.sets[i].closeIdle()
	}
}

// RoundTrip implements http.RoundTripper.
func (s *http2Sender) RoundTrip(req *http.Request) (*http.Response, error) {
	s.prepare()
	conns := &s.sets[0]
	if httpfield.IsGRPC(req.Header) {
		conns = &s.sets[1]
	}
	out := overHTTP2(req)
	trace := httptrace.ContextClientTrace(req.Context())
	for again := false; ; again = true {
		c, err := conns.take(req.Context(), keyFor(req.URL), trace)
		if err != nil {
			closeBody(out.Body)
			return nil, err
		}
		resp, err := c.client.RoundTrip(out)
		if err == nil {
			resp.TLS = c.tls
			return resp, nil
		}
		gone := notSent(err)
		switch {
		case isUnfit(err):
			return nil, fmt.Errorf("%w: %w", ErrRequest, err)
		case !gone && !isRefused(err):
			return nil, err
		case !gone || again || !rewind(out):
			return nil, fmt.Errorf("%w: %w", ErrNotProcessed, err)
		}
	}
}

// rewind gives a request its body anew, for another connection.
func rewind(req *http.Request) bool {
	if requestBody(req) == nil {
		return true
	}
	if req.GetBody == nil {
		return false
	}
	body, err := req.GetBody()
	if err == nil {
		req.Body = body
	}
	return err == nil
}

// A streamError has the fields of the error by which net/http reports that a
// stream was reset, and can be filled from it.
type streamError struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

func (e streamError) Error() string { return "stream was reset" }

const codeRefusedStream = 0x7 // RFC 9113, section 7

// isRefused reports whether the server has refused a stream without looking at
// it (RFC 9113, section 8.7).
func isRefused(err error) bool {
	var reset streamError
	return errors.As(err, &reset) && reset.Code == codeRefusedStream
}

// notSent reports whether a connection was not there any more for a request, or
// its end was announced by a server that had not looked at the request.
// net/http has no other name for these errors than their texts.
func notSent(err error) bool {
	switch err.Error() {
	case "http2: client conn not usable", "http2: client conn could not be established",
		"http2: Transport received Server's graceful shutdown GOAWAY":
		return true
	}
	return false
}

// isUnfit reports whether the request itself is to blame: its header is larger
// than the server has said that it takes, or its body longer than its length
// says.
func isUnfit(err error) bool {
	switch err.Error() {
	case "http2: request header list larger than peer's advertised limit", "http2: request body larger than specified content length":
		return true
	}
	return false
}

// overHTTP2 returns a copy of req without the fields that HTTP/2 has no place
// for (RFC 9113, section 8.2.2).
func overHTTP2(req *http.Request) *http.Request {
	out := *forStandard(req)
	out.Close = false
	copied := false
	change := func(name string, values []string) {
		if !copied {
			out.Header, copied = out.Header.Clone(), true
		}
		if values == nil {
			delete(out.Header, name)
		} else {
			out.Header[name] = values
		}
	}
	for _, name := range []string{"Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Upgrade"} {
		if _, ok := out.Header[name]; ok {
			change(name, nil)
		}
	}
	switch te := out.Header["Te"]; {
	case te == nil, len(te) == 1 && te[0] == "trailers":
	case httpfield.HasToken(te, "trailers"):
		change("Te", []string{"trailers"})
	default:
		change("Te", nil)
	}
	return &out
}

// http2Conns are connections of HTTP/2.
type http2Conns struct {
	base      *http.Transport
	transport *http.Transport // makes them
	dial      func(ctx context.Context, network, addr string) (net.Conn, error)
	tls       *tls.Config

	mu    sync.Mutex
	hosts map[hostKey]*http2Host
}

// An http2Host is the connections to one host. It is guarded by the mu of its
// http2Conns.
type http2Host struct {
	conns   []*http2Conn
	dialing *http2Dial // nil: nobody makes a connection
}

type http2Conn struct {
	client *http.ClientConn
	rw     net.Conn
	tls    *tls.ConnectionState
	used   bool
}

func (c *http2Conn) open() bool { return c.client.Err() == nil }

// An http2Dial is the making of a connection, for all who wait for one.
type http2Dial struct {
	host    *http2Host
	done    chan struct{}
	err     error // to be read when done
	cancel  context.CancelFunc
	waiting int
}

func (s *http2Conns) configure(base *http.Transport) {
	s.base = base
	s.hosts = make(map[hostKey]*http2Host)
	if s.dial = base.DialContext; s.dial == nil {
		s.dial = new(net.Dialer).DialContext
	}
	if s.tls = base.TLSClientConfig.Clone(); s.tls == nil {
		s.tls = new(tls.Config)
	}
	s.tls.NextProtos = []string{"h2"}
	config := http.HTTP2Config{SendPingTimeout: http2SendPing, PingTimeout: http2Ping, WriteByteTimeout: http2Write, MaxReceiveBufferPerStream: http2Window}
	if base.HTTP2 != nil {
		config = *base.HTTP2
	}
	s.transport = &http.Transport{
		DialContext:            func(ctx context.Context, _, _ string) (net.Conn, error) { return opened(ctx), nil },
		DisableCompression:     base.DisableCompression,
		DisableKeepAlives:      base.DisableKeepAlives,
		IdleConnTimeout:        base.IdleConnTimeout,
		ResponseHeaderTimeout:  base.ResponseHeaderTimeout,
		ExpectContinueTimeout:  base.ExpectContinueTimeout,
		MaxResponseHeaderBytes: base.MaxResponseHeaderBytes,
		Protocols:              new(http.Protocols),
		HTTP2:                  &config,
	}
	s.transport.Protocols.SetUnencryptedHTTP2(true) // of TLS, it need not know
}

// take returns a connection on which a stream is reserved for the caller, a new
// one if there is no other. Several who wait for a new one share it as far as
// its server lets them.
func (s *http2Conns) take(ctx context.Context, key hostKey, trace *httptrace.ClientTrace) (*http2Conn, error) {
	if trace != nil && trace.GetConn != nil {
		trace.GetConn(key.addr)
	}
	for {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		c, dial := s.reserve(key)
		if c != nil {
			if trace != nil && trace.GotConn != nil {
				trace.GotConn(httptrace.GotConnInfo{Conn: c.rw, Reused: c.used})
			}
			return c, nil
		}
		select {
		case <-dial.done:
			if dial.err != nil {
				return nil, dial.err
			}
		case <-ctx.Done():
			s.leave(dial)
			return nil, context.Cause(ctx)
		}
	}
}

// reserve returns a connection as take does, or the dial that makes one.
func (s *http2Conns) reserve(key hostKey) (*http2Conn, *http2Dial) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.hosts[key]
	if h == nil {
		h = new(http2Host)
		s.hosts[key] = h
	}
	h.conns = slices.DeleteFunc(h.conns, func(c *http2Conn) bool { return !c.open() })
	for _, c := range h.conns {
		if c.client.Reserve() == nil {
			taken := *c
			c.used = true
			return &taken, nil
		}
	}
	if h.dialing == nil {
		d := &http2Dial{host: h, done: make(chan struct{})}
		var ctx context.Context
		ctx, d.cancel = context.WithCancel(context.Background()) // it is not one request's
		h.dialing = d
		go s.connect(ctx, key, d)
	}
	h.dialing.waiting++
	return nil, h.dialing
}

// leave says that one waits for a dial no more. Nobody needs it when all have
// gone.
func (s *http2Conns) leave(d *http2Dial) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.waiting--; d.waiting == 0 && d.host.dialing == d {
		d.host.dialing = nil
		d.cancel()
	}
}

// connect makes a connection.
func (s *http2Conns) connect(ctx context.Context, key hostKey, d *http2Dial) {
	defer d.cancel()
	c, err := s.open(ctx, key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.host.dialing == d {
		d.host.dialing = nil
	}
	if d.err = err; err == nil {
		d.host.conns = append(d.host.conns, c)
		s.hosts[key] = d.host
	}
	close(d.done)
	for key, h := range s.hosts { // of servers that are gone
		if h.dialing == nil && !slices.ContainsFunc(h.conns, (*http2Conn).open) {
			delete(s.hosts, key)
		}
	}
}

var (
	errNotHTTP2   = errors.New("server does not speak HTTP/2")
	errNoStreams  = errors.New("server of HTTP/2 takes no requests")
	errNoSettings = &timeoutError{"timeout waiting for the settings of HTTP/2"}
)

// open connects to a server and waits for its settings, which come first. So a
// server that does not speak HTTP/2 is found out before anything of a request
// is sent, and it is known how many streams the connection may have.
func (s *http2Conns) open(ctx context.Context, key hostKey) (*http2Conn, error) {
	rw, state, err := s.secured(ctx, key)
	if err != nil {
		return nil, err
	}
	first := &settingsConn{Conn: rw, ready: make(chan struct{})}
	client, err := s.transport.NewClientConn(context.WithValue(ctx, openedKey{}, net.Conn(first)), "http", key.addr)
	if err != nil {
		_ = rw.Close()
		return nil, dialError(rw, err)
	}
	timer := time.NewTimer(s.handshakeTimeout())
	defer timer.Stop()
	select {
	case <-first.ready:
	case <-timer.C:
		_ = client.Close()
		return nil, dialError(rw, errNoSettings)
	case <-ctx.Done():
		_ = client.Close()
		return nil, context.Cause(ctx)
	}
	switch {
	case !first.valid, client.Err() != nil:
		_ = client.Close()
		return nil, dialError(rw, errNotHTTP2)
	case client.Available() == 0:
		_ = client.Close()
		return nil, dialError(rw, errNoStreams)
	}
	return &http2Conn{client: client, rw: rw, tls: state}, nil
}

const defaultHandshakeTimeout = 10 * time.Second

func (s *http2Conns) handshakeTimeout() time.Duration {
	if d := s.base.TLSHandshakeTimeout; d > 0 {
		return d
	}
	return defaultHandshakeTimeout
}

// dialError says that no connection was made that is of use.
func dialError(rw net.Conn, err error) error {
	return &net.OpError{Op: "dial", Net: "tcp", Addr: rw.RemoteAddr(), Err: err}
}

// secured connects to a server, over TLS if key says so.
func (s *http2Conns) secured(ctx context.Context, key hostKey) (net.Conn, *tls.ConnectionState, error) {
	if !key.secure {
		rw, err := s.dial(ctx, "tcp", key.addr)
		return rw, nil, err
	}
	var rw net.Conn
	var err error
	if s.base.DialTLSContext != nil {
		rw, err = s.base.DialTLSContext(ctx, "tcp", key.addr)
	} else if rw, err = s.dial(ctx, "tcp", key.addr); err == nil {
		cfg := s.tls
		if cfg.ServerName == "" {
			cfg = cfg.Clone()
			cfg.ServerName, _, _ = net.SplitHostPort(key.addr)
		}
		rw = tls.Client(rw, cfg)
	}
	if err != nil {
		return nil, nil, err
	}
	secured, ok := rw.(*tls.Conn)
	if !ok {
		return rw, nil, nil
	}
	limited, cancel := context.WithTimeoutCause(ctx, s.handshakeTimeout(), errHandshakeTimeout)
	defer cancel()
	if err := secured.HandshakeContext(limited); err != nil {
		_ = rw.Close()
		if errors.Is(context.Cause(limited), errHandshakeTimeout) {
			err = errHandshakeTimeout
		}
		return nil, nil, dialError(rw, err)
	}
	state := secured.ConnectionState()
	if state.NegotiatedProtocol != "h2" {
		_ = rw.Close()
		return nil, nil, dialError(rw, errNotHTTP2)
	}
	return rw, &state, nil
}

// closeIdle closes the connections that are not in use.
func (s *http2Conns) closeIdle() {
	s.mu.Lock()
	var idle []*http2Conn
	for key, h := range s.hosts {
		h.conns = slices.DeleteFunc(h.conns, func(c *http2Conn) bool {
			if c.client.InFlight() > 0 {
				return false
			}
			idle = append(idle, c)
			return true
		})
		if len(h.conns) == 0 && h.dialing == nil {
			delete(s.hosts, key)
		}
	}
	s.mu.Unlock()
	for _, c := range idle {
		_ = c.client.Close()
	}
}

type openedKey struct{}

// opened is the connection that a context carries to the transport which is to
// speak HTTP/2 on it.
func opened(ctx context.Context) net.Conn {
	c, _ := ctx.Value(openedKey{}).(net.Conn)
	return c
}

// A settingsConn reports when the first frame of its server has been read and
// applied.
type settingsConn struct {
	net.Conn
	ready chan struct{} // closed then, or when there will be none
	once  sync.Once
	valid bool // the frame is one; to be read when ready

	head [9]byte // of the frame; only Read has these
	got  int     // bytes that were read
}

const frameSettings = 4

// Read implements io.Reader. Whoever calls it again is done with what it has
// got before.
func (c *settingsConn) Read(p []byte) (int, error) {
	if c.whole() {
		c.end(c.head[3] == frameSettings)
		return c.Conn.Read(p)
	}
	n, err := c.Conn.Read(p)
	if c.got < len(c.head) {
		copy(c.head[c.got:], p[:n])
	}
	c.got += n
	if err != nil || c.got >= len(http1Start) && bytes.HasPrefix(c.head[:], http1Start) {
		c.end(false)
	}
	return n, err
}

var http1Start = []byte("HTTP/1.") // which would be the head of a frame of 4 MiB

func (c *settingsConn) whole() bool {
	const head = 9
	return c.got >= head && c.got >= head+int(c.head[0])<<16+int(c.head[1])<<8+int(c.head[2])
}

func (c *settingsConn) end(valid bool) {
	c.once.Do(func() {
		c.valid = valid
		close(c.ready)
	})
}

// Close implements io.Closer.
func (c *settingsConn) Close() error {
	c.end(false)
	return c.Conn.Close()
}
