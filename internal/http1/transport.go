// Package http1 sends requests over HTTP/1.1, and over HTTP/2 where that is
// asked for; over HTTP/1.1 without a goroutine between the caller and the
// connection.
//
// An http.Transport gives each connection two goroutines and hands every
// request and response over by channels, which is most of what a proxied
// request costs. Here the goroutine that calls RoundTrip writes the request and
// reads the response itself; there is a second one only while a request body is
// being written, since the response may come before its end. The response is
// parsed by the standard library.
//
// HTTP/2 is net/http's, but for the choice of connections and for what is sent
// again; see [WithHTTP2]. What is out of the ordinary is left to an
// http.Transport: HTTP/2 that its settings ask for, proxies, CONNECT, hosts
// beyond ASCII, and options that few use. See [New].
package http1

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"time"
)

// A Transport is an http.RoundTripper for HTTP/1.1. It may be used
// concurrently. Make one with [New].
type Transport struct {
	base          *http.Transport
	plain, secure bool // requests with scheme http, and https, are not left to base
	dial          func(ctx context.Context, network, addr string) (net.Conn, error)
	tls           *tls.Config
	maxHeader     int64 // bytes of a response header
	idle          idleConns
	http2         http2Sender
}

// New returns a Transport with the settings of base, which must not change
// afterwards. Requests that ask for HTTP/2, see [WithHTTP2], go over that.
// Others go through base when they are not for HTTP/1.1 over TCP or TLS: when
// base has a Proxy or a MaxConnsPerHost, when it may speak HTTP/2 to the
// server, or when it would ask for compression. The same applies to requests
// that have to be looked at in more detail. Those that are invalid go nowhere,
// see ErrRequest.
//
// Unlike an http.Transport, a Transport
//   - sends the target of a request as it came in, but for single bytes that
//     have to be encoded, and writes some field names, such as
//     Sec-WebSocket-Key, as they are registered;
//   - refuses a request with an invalid host, where an http.Transport sends
//     none;
//   - does not send the body of a request with "Expect: 100-continue" once the
//     final response is there, and closes the connection after that; and sends
//     it at once if some of it is here already, as far as the body tells by a
//     method Buffered() (n int, known bool) or Len() int;
//   - takes only answers of HTTP/1.x, as HTTP/1.1 if x is more;
//   - gives what has come of a body in chunks at once, where an http.Transport
//     waits until the chunk is whole or the reader's buffer is full;
//   - waits for a response for a moment when the server stops taking the
//     request, so that an early refusal arrives, and takes a reset for the end
//     of a response that nothing else ends, if the request has a body which the
//     server may not have read;
//   - closes the connection after a request with the field Upgrade if the
//     server does not switch protocols;
//   - leaves the field Connection in the header of a response that lists
//     "close" and more, so that a proxy can tell which fields, trailers
//     included, are not to be passed on (RFC 9110, section 7.6.1); "close"
//     alone is only told by the response's Close. It removes none of the named
//     fields itself;
//   - counts informational responses towards MaxResponseHeaderBytes;
//   - gives up with its context or a time-out even while the request body
//     cannot be read;
//   - dials for each request that finds no idle connection, and does not take
//     one that becomes idle meanwhile.
func New(base *http.Transport) *Transport {
	t := &Transport{
		base:      base,
		dial:      base.DialContext,
		tls:       base.TLSClientConfig.Clone(),
		maxHeader: base.MaxResponseHeaderBytes,
	}
	if t.dial == nil {
		t.dial = new(net.Dialer).DialContext
	}
	if t.tls == nil {
		t.tls = new(tls.Config)
	}
	t.tls.NextProtos = slices.DeleteFunc(slices.Clone(t.tls.NextProtos), func(p string) bool { return p == "h2" })
	if t.maxHeader <= 0 {
		t.maxHeader = 10 << 20
	}
	http1, http2 := protocols(base)
	t.plain = http1 && base.Proxy == nil && base.MaxConnsPerHost <= 0 && !customDial(base)
	t.secure = t.plain && !http2
	t.idle.configure(base)
	t.http2.base = base
	return t
}

// customDial reports whether base connects in a way that is only its own.
func customDial(base *http.Transport) bool {
	//lint:ignore SA1019 to leave those who still use these fields to the transport that knows them
	return base.Dial != nil || base.DialTLS != nil //nolint:staticcheck // as above
}

// protocols says what base would speak, over TLS in the case of HTTP/2.
func protocols(base *http.Transport) (http1, http2 bool) {
	switch {
	case base.Protocols != nil:
		return base.Protocols.HTTP1(), base.Protocols.HTTP2()
	case base.TLSNextProto != nil:
		return true, base.TLSNextProto["h2"] != nil
	case base.ForceAttemptHTTP2:
		return true, true
	}
	return true, base.TLSClientConfig == nil && base.DialContext == nil && base.DialTLSContext == nil && !customDial(base)
}

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	head := heads.Get().(*head)
	defer heads.Put(head)
	if err := head.build(req, t.base.DisableKeepAlives); err != nil {
		closeBody(req.Body)
		return nil, err
	}
	ctx := req.Context()
	switch {
	case AsksHTTP2(ctx):
		return leave(req, &t.http2)
	case head.left || !t.handles(req):
		return leave(req, t.base)
	}
	trace := httptrace.ContextClientTrace(ctx)
	key := keyFor(req.URL)
	again := false
	for body := requestBody(req); ; again = true {
		c, err := t.conn(ctx, key, trace, again)
		if err != nil {
			closeBody(body)
			return nil, err
		}
		x := newExchange(c, req, body, head, trace)
		resp, err := x.run(head.bytes)
		if err == nil {
			return resp, nil
		}
		untouched := x.upload.drop()
		if !retries(c, req, err) {
			if untouched {
				closeBody(body)
			}
			return nil, cause(c, err)
		}
		if !untouched {
			if body, err = req.GetBody(); err != nil {
				return nil, err
			}
		}
	}
}

// leave gives a request to another transport.
func leave(req *http.Request, to http.RoundTripper) (*http.Response, error) {
	resp, err := to.RoundTrip(forStandard(req))
	if err != nil {
		return nil, err
	}
	if err := CheckResponse(resp); err != nil {
		_ = resp.Body.Close()
		return nil, err
	}
	return resp, nil
}

// handles reports whether a valid request is for t rather than base.
func (t *Transport) handles(req *http.Request) bool {
	if req.Method == http.MethodConnect {
		return false
	}
	switch req.URL.Scheme {
	case "http":
		if !t.plain {
			return false
		}
	case "https":
		if !t.secure {
			return false
		}
	default:
		return false
	}
	//lint:ignore SA1019 who still uses this is left to base
	if req.Cancel != nil { //nolint:staticcheck // as above
		return false
	}
	if !isHost(req.URL.Host) {
		return false
	}
	return t.base.DisableCompression || req.Method == http.MethodHead || req.Header.Get("Accept-Encoding") != "" ||
		req.Header.Get("Range") != ""
}

// ChecksRequests reports that RoundTrip finds out by itself whether a request
// can be sent, and sends its target as it is, so that nobody has to call
// [Prepare] before.
func (*Transport) ChecksRequests() bool { return true }

// CloseIdleConnections closes connections that are not in use, those of base
// included, and those that are as soon as they are not, unless there is another
// request before.
func (t *Transport) CloseIdleConnections() {
	t.idle.closeAll()
	t.base.CloseIdleConnections()
	t.http2.CloseIdleConnections()
}

// requestBody is the body of a request, nil if there is none.
func requestBody(req *http.Request) io.ReadCloser {
	if req.Body == http.NoBody {
		return nil
	}
	return req.Body
}

func closeBody(body io.ReadCloser) {
	if body != nil {
		_ = body.Close()
	}
}

// ErrStale is matched by the error of a connection that was idle before and
// broke without a byte of a response. Servers close idle connections when they
// like, so that is no failure of the server.
var ErrStale = errors.New("idle connection was closed")

// A staleError is an error that matches ErrStale.
type staleError struct{ error }

func (e staleError) Unwrap() error        { return e.error }
func (e staleError) Is(target error) bool { return target == ErrStale }

// A brokenError ended an exchange before the first byte of a response.
type brokenError struct {
	error
	unsent bool // nothing of the request was written
}

// cause is what went wrong on c, for the caller.
func cause(c *conn, err error) error {
	var broken brokenError
	switch {
	case !errors.As(err, &broken):
		return err
	case c.reused:
		return staleError{broken.error}
	}
	return broken.error
}

// retries reports whether a request should be sent again after it failed on c.
// Only a connection that was used before may have been closed just because it
// was idle (RFC 9110, section 9.2.2); the second try is therefore over a new
// one, and there is no third. When nothing was sent any request can be
// repeated; when nothing came back, those that can be repeated without harm.
func retries(c *conn, req *http.Request, err error) bool {
	var broken brokenError
	return c.reused && errors.As(err, &broken) && (broken.unsent || idempotent(req)) &&
		(requestBody(req) == nil || req.GetBody != nil)
}

// idempotent reports whether a request does no harm when it is sent twice, by
// its method or by its sender's word.
func idempotent(req *http.Request) bool {
	switch req.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	_, standard := req.Header["Idempotency-Key"]
	_, customary := req.Header["X-Idempotency-Key"]
	return standard || customary
}

// conn returns a connection that is idle, or a new one; a new one in any case
// if fresh is set.
func (t *Transport) conn(ctx context.Context, key hostKey, trace *httptrace.ClientTrace, fresh bool) (*conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	if trace != nil && trace.GetConn != nil {
		trace.GetConn(key.addr)
	}
	for !fresh {
		c := t.idle.take(key)
		if c == nil {
			break
		}
		if !c.deadline.IsZero() { // it may have passed
			c.extend(time.Now(), t.base.ResponseHeaderTimeout)
		}
		if !c.alive() {
			c.close()
			continue
		}
		c.reused = true
		if trace != nil && trace.GotConn != nil {
			trace.GotConn(httptrace.GotConnInfo{Conn: c.rw, Reused: true, WasIdle: true, IdleTime: time.Since(c.idleSince)})
		}
		return c, nil
	}
	c, err := t.connect(ctx, key, trace)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	if trace != nil && trace.GotConn != nil {
		trace.GotConn(httptrace.GotConnInfo{Conn: c.rw})
	}
	return c, nil
}

func (t *Transport) connect(ctx context.Context, key hostKey, trace *httptrace.ClientTrace) (*conn, error) {
	if key.secure && t.base.DialTLSContext != nil {
		rw, err := t.base.DialTLSContext(ctx, "tcp", key.addr)
		if err != nil {
			return nil, err
		}
		c := newConn(t, key, rw)
		if secured, ok := rw.(*tls.Conn); ok {
			if err := secured.HandshakeContext(ctx); err != nil {
				_ = rw.Close()
				return nil, err
			}
			c.setTLS(secured)
		}
		return c, nil
	}
	rw, err := t.dial(ctx, "tcp", key.addr)
	if err != nil {
		return nil, err
	}
	c := newConn(t, key, rw)
	if key.secure {
		if err := t.shakeHands(ctx, c, trace); err != nil {
			_ = rw.Close()
			return nil, err
		}
	}
	return c, nil
}

var errHandshakeTimeout error = &timeoutError{"timeout in the TLS handshake"}

func (t *Transport) shakeHands(ctx context.Context, c *conn, trace *httptrace.ClientTrace) error {
	cfg := t.tls
	if cfg.ServerName == "" {
		cfg = cfg.Clone()
		cfg.ServerName, _, _ = net.SplitHostPort(c.key.addr)
	}
	if d := t.base.TLSHandshakeTimeout; d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, d, errHandshakeTimeout)
		defer cancel()
	}
	if trace != nil && trace.TLSHandshakeStart != nil {
		trace.TLSHandshakeStart()
	}
	secured := tls.Client(c.rw, cfg)
	err := secured.HandshakeContext(ctx)
	if err != nil && errors.Is(context.Cause(ctx), errHandshakeTimeout) {
		err = errHandshakeTimeout
	}
	if trace != nil && trace.TLSHandshakeDone != nil {
		trace.TLSHandshakeDone(secured.ConnectionState(), err)
	}
	if err == nil {
		c.setTLS(secured)
	}
	return err
}

// keyFor says where a URL points.
func keyFor(u *url.URL) hostKey {
	key := hostKey{secure: u.Scheme == "https", addr: u.Host}
	if u.Port() == "" {
		port := "80"
		if key.secure {
			port = "443"
		}
		key.addr = net.JoinHostPort(u.Hostname(), port)
	}
	return key
}

// A timeoutError is a net.Error that also matches context.DeadlineExceeded.
type timeoutError struct{ text string }

func (e *timeoutError) Error() string        { return e.text }
func (e *timeoutError) Timeout() bool        { return true }
func (e *timeoutError) Temporary() bool      { return true }
func (e *timeoutError) Is(target error) bool { return target == context.DeadlineExceeded }
