package lbpool

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/limpetlb/limpet/internal/http1"
)

var (
	// ErrConnect means that no connection to the server could be made, so
	// nothing of the request was sent. An error of a Transport's Base that
	// matches it says the same.
	ErrConnect = errors.New("cannot connect")
	// ErrRequest means that the request cannot be sent to any server: its
	// method, target, host, length, or a field of its header or trailer is not
	// valid. No server was asked, or none is at fault.
	ErrRequest = http1.ErrRequest
	// ErrTimeout means that something took too long: the connection (then
	// ErrConnect matches too), the response, or the whole request by its
	// context's deadline.
	ErrTimeout = errors.New("timed out")
)

// errNoRoute means that a request has no Route, nor the Transport a Pool.
var errNoRoute = fmt.Errorf("%w: request has no route", ErrNoServer)

// ForwardError is the error of a Transport for a request that was given to a
// server and got no response. It matches ErrConnect, ErrTimeout and ErrAborted
// where they apply, and the errors that Err matches, such as ErrRequest. A
// timeout while the request body was still being read matches ErrAborted too,
// since the client may be the slow side.
type ForwardError struct {
	Pool   string         // the pool's name
	Server netip.AddrPort // the server tried last
	Tried  int            // how many servers were tried
	Err    error          // what went wrong with the last

	connect, timeout, aborted bool
	unprocessed               bool // the server has done nothing
}

// Error names the pool, the server and the failure.
func (e *ForwardError) Error() string {
	return fmt.Sprintf("pool %q: server %s: %v", e.Pool, e.Server, e.Err)
}

// Unwrap returns Err.
func (e *ForwardError) Unwrap() error { return e.Err }

// Is reports whether e is an instance of ErrConnect, ErrTimeout or ErrAborted.
func (e *ForwardError) Is(target error) bool {
	switch target {
	case ErrConnect:
		return e.connect
	case ErrTimeout:
		return e.timeout
	case ErrAborted:
		return e.aborted
	}
	return false
}

// Timeout reports whether e matches ErrTimeout. It is a method of net.Error.
func (e *ForwardError) Timeout() bool { return e.timeout }

// A Transport is an http.RoundTripper that sends each request to a server of a
// pool. A Route in the request's context names the pool. Use it in an
// httputil.ReverseProxy. The zero value is ready to use; do not change the
// fields after the first use. It may be used concurrently.
//
// The Transport changes the destination of the request only, and the Host
// header if Config.RewriteHost is set. If a server cannot be connected to and
// nothing of the request body has been read, it tries another server. It does
// the same if an HTTP/2 server has not processed the request, having refused
// the stream or gone away, and no more than 64 KiB of the body has been read,
// or Reselect.MaxBody if that is more. Reselect adds further cases. If no
// server of the pool is available, another pool of the route's Group takes
// over, or a backup pool that the FailAction names. The lease of the server
// lasts until the response body is closed or read to its end, or, for an
// upgraded connection (status 101), until that is closed.
//
// Errors match ErrNoServer if there was no server to try, or else are of type
// *ForwardError. A request that cannot be sent to any server fails with an
// error that matches ErrRequest; no other server is tried, and the server has
// no failure.
type Transport struct {
	// Pool is used for requests without a Route. If it is nil, the error for
	// such a request matches ErrNoServer.
	Pool *Pool
	// Base sends the requests. Nil means NewHTTP1(NewBase()), made at the first
	// use. One from NewHTTP1, and an *http.Transport, send requests to servers
	// of a pool with another Protocol than ProtocolHTTP1 over HTTP/2, with
	// their settings for timeouts, TLS and dialing; any other Base has to do so
	// itself, or to pass them on, with their context, to one that does. A Base
	// that is neither from NewHTTP1 nor an *http.Transport must report a
	// connection that cannot be made by a *net.OpError with Op "dial" or by an
	// error that matches ErrConnect; otherwise the Transport tries no other
	// server. Requests are checked before Base gets them, see ErrRequest,
	// unless it has a method ChecksRequests() bool that returns true, as the
	// transports of NewHTTP1 have.
	Base http.RoundTripper

	once sync.Once
	base http.RoundTripper
}

// NewBase returns a new http.Transport with settings for a reverse proxy.
// Change it if necessary, and give it to NewHTTP1. Unlike http.DefaultTransport
// it keeps any number of idle connections (up to 1024 per server, for a
// minute), ignores the proxy settings of the environment, leaves compressed
// bodies as they are and uses HTTP/1.1 only. Its limits are 5 seconds for a
// connection, 5 seconds for a TLS handshake, 60 seconds until a response
// header, and 1 MiB for that header.
func NewBase() *http.Transport {
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	return &http.Transport{
		DialContext:            dialer.DialContext,
		TLSHandshakeTimeout:    5 * time.Second,
		ResponseHeaderTimeout:  60 * time.Second,
		ExpectContinueTimeout:  time.Second,
		IdleConnTimeout:        time.Minute,
		MaxIdleConnsPerHost:    1024,
		MaxResponseHeaderBytes: 1 << 20,
		DisableCompression:     true,
	}
}

// NewHTTP1 returns a transport with the settings of base that sends requests
// over HTTP/1.1 and needs less processor time, because the caller's own
// goroutine writes and reads the connection. Requests to servers of a pool with
// another Protocol go over HTTP/2. It uses base for the rest: HTTP/2 if base
// may speak it, HTTP proxies, limits on connections to a host, and unusual
// requests. Errors are of the same kinds, except for ErrRequest. If an idle
// connection turns out to be dead, the transport sends the request once more
// over a new connection, provided the request is idempotent or nothing of it
// was sent. Nil means NewBase(). Do not change base afterwards.
//
// Unlike base, the transport
//   - sends the target of a request as it was received, except for single bytes
//     that must be percent-encoded, and field names such as Sec-WebSocket-Key
//     as they are registered;
//   - refuses responses that other software may read differently from the
//     standard library: with a blank before the colon of a field, continuation
//     lines, stray carriage returns, a status below 100 or a transfer coding in
//     HTTP/1.0, or of another major version than HTTP/1;
//   - returns what has come of a chunk at once, where base waits until the
//     chunk is whole or the reader's buffer is full;
//   - sends a body with "Expect: 100-continue" at once if some of it has
//     arrived, as the body reports by a method Buffered() (n int, known bool);
//   - leaves the field Connection in the header of a response that lists
//     "close" and more, for callers that must not pass on the fields and
//     trailers named there (RFC 9110, section 7.6.1). It removes none of them
//     itself.
//
// The transport may be used concurrently. It has a method CloseIdleConnections,
// which also closes those of base.
func NewHTTP1(base *http.Transport) http.RoundTripper {
	if base == nil {
		base = NewBase()
	}
	return http1.New(base)
}

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	route, ok := RouteFrom(req.Context())
	if !ok {
		route = &Route{Pool: t.Pool}
	}
	body := newGuardedBody(req.Body)
	defer body.settle()
	route.begin()
	if route.Pool == nil {
		return nil, errNoRoute
	}
	for {
		resp, err := t.send(req, route, body)
		if err == nil || route.Tried > 0 || !errors.Is(err, ErrNoServer) || !route.turn(err) {
			route.Answered = err == nil
			return resp, err
		}
		route.hintHeader(req)
	}
}

// CloseIdleConnections closes the idle connections of Base, if Base has such a
// method.
func (t *Transport) CloseIdleConnections() {
	if c, ok := t.roundTripper().(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

func (t *Transport) roundTripper() http.RoundTripper {
	t.once.Do(func() {
		t.base = t.Base
		switch base := t.base.(type) {
		case nil:
			t.base = NewHTTP1(nil)
		case *http.Transport:
			t.base = http1.NewSwitch(base)
		}
	})
	return t.base
}

// exchange is one request while a Transport sends it.
type exchange struct {
	transport *Transport
	pool      *Pool
	reselect  *Reselect
	route     *Route
	req       *http.Request
	body      *guardedBody
	start     time.Time

	// The latest response, to be passed on unless a better one arrives.
	answer *http.Response
	server *Server
	unmet  Reason
}

// send tries one server after the other.
func (t *Transport) send(req *http.Request, route *Route, body *guardedBody) (*http.Response, error) {
	pool := route.Pool.live()
	x := exchange{transport: t, pool: pool, reselect: &pool.current.Load().reselect, route: route, req: req, body: body}
	x.keepBody()
	return x.run()
}

func (x *exchange) run() (*http.Response, error) {
	hint := x.route.Hint
	var failed *ForwardError
	budgeted := false // this try uses a slot of the retry budget
	for {
		lease, err := x.acquire(hint)
		if err == nil && x.route.Claim != nil {
			lease, err = x.claim(lease, hint)
		}
		if err != nil {
			if budgeted {
				x.pool.endRetry()
			}
			return x.conclude(failed, err)
		}
		x.route.add(lease)
		if x.route.Tried == 1 {
			x.start = time.Now()
		} else {
			x.pool.counters.reselects.Add(1)
		}
		resp, took, fault := x.transport.sendTo(lease, x.req, x.body, x.reselect.TryTimeout)
		x.report(lease.Server, resp, took, fault)
		if budgeted {
			x.pool.endRetry()
		}
		var again bool
		again, budgeted = x.another(resp, fault)
		if fault == nil {
			x.take(resp)
		} else {
			fault.Tried = x.route.Tried
			failed = fault
		}
		if !again {
			return x.conclude(failed, nil)
		}
		x.route.GivenUp = nil
		if fault != nil {
			x.route.GivenUp = fault
		}
		hint.Exclude = append(slices.Clip(x.route.Hint.Exclude), x.route.Servers...)
	}
}

// report informs the observer of a try.
func (x *exchange) report(s *Server, resp *http.Response, took time.Duration, fault *ForwardError) {
	switch o := x.route.Observer; {
	case o == nil:
	case fault != nil:
		o.Tried(x.pool, s, Outcome{Err: fault})
	default:
		o.Tried(x.pool, s, Outcome{Status: resp.StatusCode, FirstByte: took})
	}
}

// keepBody says how much of the body is kept.
func (x *exchange) keepBody() {
	spare := 0
	if x.pool.current.Load().protocol != ProtocolHTTP1 {
		spare = spareReplay
	}
	x.body.keep(x.reselect.MaxBody, spare)
}

func (x *exchange) acquire(h Hint) (Lease, error) {
	if x.route.Tried == 0 && x.route.waits(&h) {
		return x.pool.acquireQueued(x.req.Context(), h, x.route.Observer)
	}
	return x.pool.Acquire(h)
}

// claim asks the route's Claim whether lease is of the right server, and if
// not, takes the server that it names.
func (x *exchange) claim(lease Lease, h Hint) (Lease, error) {
	r := x.route
	if h.Server.Port() != 0 && lease.Unmet == ReasonNone {
		return lease, nil // the binding is known
	}
	for ; r.reroute.claims < maxClaims; r.reroute.claims++ {
		named := x.named(lease)
		if named == nil || named == lease.Server {
			return lease, nil
		}
		unmet, shared := lease.Unmet, lease.Shared
		lease.cancel()
		x.turnTo(named, &h)
		h.Server = netip.AddrPortFrom(named.addr.Addr(), named.addr.Port())
		next, err := x.acquire(h)
		if err != nil {
			r.reroute.failed = named
			r.reroute.claims++
			return Lease{}, err
		}
		lease = next
		met := lease.Unmet == ReasonNone
		// The client moved because of the reason against the server that it had
		// before.
		lease.Shared = shared
		if unmet != ReasonNone {
			lease.Unmet = unmet
		}
		if met {
			return lease, nil
		}
		r.reroute.failed = named
	}
	return lease, nil
}

// named returns the server that the route's Claim names.
func (x *exchange) named(lease Lease) *Server {
	returned := false
	defer func() {
		if !returned {
			lease.cancel()
		}
	}()
	s := x.route.Claim(lease.Server, x.route.reroute.failed)
	returned = true
	if s != nil {
		s = s.live()
	}
	return s
}

// turnTo makes the pool of s the one to choose from.
func (x *exchange) turnTo(s *Server, h *Hint) {
	r := x.route
	if s.pool == x.pool {
		return
	}
	r.Pool = s.pool
	if r.Group != nil {
		r.Pool = r.Group.handle(s.pool)
	}
	x.pool = s.pool
	x.reselect = &x.pool.current.Load().reselect
	x.keepBody()
	r.hintHeader(x.req)
	h.Header = r.Hint.Header
}

// take keeps a response in place of the one before.
func (x *exchange) take(resp *http.Response) {
	if x.answer != nil {
		x.answer.Body.Close()
	}
	x.answer, x.server, x.unmet = resp, x.route.Server, x.route.Unmet
}

// conclude ends the exchange with the latest response, or with an error.
func (x *exchange) conclude(failed *ForwardError, err error) (*http.Response, error) {
	switch {
	case x.answer != nil:
		x.route.Server, x.route.Unmet = x.server, x.unmet
		x.route.Unwanted = x.reselect.repeatsAnswer(x.req.Method, x.answer.StatusCode)
		return x.answer, nil
	case failed != nil:
		if errors.Is(x.route.GivenUp, failed) {
			x.route.GivenUp = nil // no other server was tried
		}
		return nil, failed // says more than that there is no other server
	}
	if unavailable, ok := errors.AsType[*unavailableError](err); ok {
		x.route.Unmet = unavailable.Reason
	}
	return nil, err
}

// another reports whether another server should be tried after the latest try,
// and whether that uses a slot of the retry budget. If nothing was sent there
// is nothing to repeat, and no slot is needed.
func (x *exchange) another(resp *http.Response, fault *ForwardError) (again, budgeted bool) {
	r := x.reselect
	unsent := fault != nil && fault.connect && x.body.replayable()
	switch {
	case fault != nil && (fault.aborted || errors.Is(fault.Err, ErrRequest)), x.req.Context().Err() != nil:
		return false, false
	case x.route.Tried > r.retries():
		return false, false
	case r.Timeout > 0 && time.Since(x.start) >= r.Timeout:
		return false, false
	case unsent:
		return true, false
	case fault != nil && fault.unprocessed && x.body.restorable():
		again = x.pool.startRetry() // the server is alive, and perhaps overloaded as others are
		return again, again
	case fault == nil && !r.repeatsAnswer(x.req.Method, resp.StatusCode):
		return false, false
	case fault != nil && !r.repeatsFault(x.req.Method):
		return false, false
	case !x.body.replayable():
		return false, false
	}
	again = x.pool.startRetry()
	return again, again
}

// sendTo sends the request to the leased server and binds the lease to the
// answer. took is the time until its header has arrived.
func (t *Transport) sendTo(lease Lease, req *http.Request, body *guardedBody, limit time.Duration) (
	_ *http.Response, took time.Duration, fault *ForwardError,
) {
	bound := false
	outcome := Outcome{Err: ErrAborted} // applies if the base panics
	try := startTry(req.Context(), limit)
	defer func() {
		if !bound {
			try.end()
			lease.Release(outcome)
		}
	}()
	out := aim(req, lease.Server)
	ctx := req.Context()
	if try != nil {
		ctx = try.ctx
	}
	if protocol := lease.Server.pool.current.Load().protocol; protocol != ProtocolHTTP1 {
		ctx = protocol.request(ctx)
	}
	if ctx != req.Context() {
		out = out.WithContext(ctx)
	}
	body.attach(out)
	start := time.Now()
	resp, err := t.exchange(out)
	if err = try.settle(resp, err); err != nil {
		fault = diagnose(req, body, err)
		fault.Pool, fault.Server = lease.Server.pool.Name(), lease.Server.addr
		if faultOfServer(fault, err, body) { // else the outcome is as with ErrAborted
			outcome.Err = fault
		}
		return nil, 0, fault
	}
	outcome = Outcome{Status: resp.StatusCode, FirstByte: time.Since(start)}
	bound = bindLease(req.Context(), resp, lease, outcome, try, body)
	return resp, outcome.FirstByte, nil
}

// faultOfServer reports whether a request that has failed with err may be held
// against the server.
func faultOfServer(fault *ForwardError, err error, body *guardedBody) bool {
	switch {
	case errors.Is(err, ErrRequest), errors.Is(err, http1.ErrStale), errors.Is(err, http1.ErrSwitched):
		return false
	case fault.connect:
		return true
	}
	return !body.slow()
}

// exchange sends a request by the base. A base that is not from NewHTTP1, and
// does not stand before one and say so by the method ChecksRequests, does not
// tell whether a failure is the fault of the request, and lets malformed
// responses pass; so both are checked here.
func (t *Transport) exchange(out *http.Request) (*http.Response, error) {
	base := t.roundTripper()
	if own, ok := base.(interface{ ChecksRequests() bool }); ok && own.ChecksRequests() {
		return base.RoundTrip(out)
	}
	prepared, err := http1.Prepare(out)
	if err != nil {
		if out.Body != nil {
			_ = out.Body.Close()
		}
		return nil, err
	}
	resp, err := base.RoundTrip(prepared)
	if err != nil {
		return nil, err
	}
	if err := http1.CheckResponse(resp); err != nil {
		if resp.Body != nil {
			_ = resp.Body.Close()
		}
		return nil, err
	}
	return resp, nil
}

// try limits the time to a response. Nil means no limit.
type try struct {
	ctx       context.Context
	cancel    context.CancelFunc
	limit     time.Duration
	timer     *time.Timer
	connected atomic.Bool
}

func startTry(ctx context.Context, limit time.Duration) *try {
	if limit <= 0 {
		return nil
	}
	t := &try{limit: limit}
	// When the time is over, the error does not say whether there was a
	// connection.
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { t.connected.Store(true) }})
	t.ctx, t.cancel = context.WithCancel(ctx)
	t.timer = time.AfterFunc(limit, t.cancel)
	return t
}

// settle ends the limit, with a response or the failure err. It returns err, or
// another error if the time was over.
func (t *try) settle(resp *http.Response, err error) error {
	if t == nil || t.timer.Stop() {
		return err
	}
	if err == nil {
		resp.Body.Close()
	}
	if !t.connected.Load() {
		return fmt.Errorf("%w within %s: %w", ErrConnect, t.limit, ErrTimeout)
	}
	return fmt.Errorf("no answer within %s: %w", t.limit, ErrTimeout)
}

// end says that the response is no longer needed.
func (t *try) end() {
	if t != nil {
		t.timer.Stop()
		t.cancel()
	}
}

// aim returns a shallow copy of req that goes to s.
func aim(req *http.Request, s *Server) *http.Request {
	var both struct { // in one allocation
		out    http.Request
		target url.URL
	}
	out, target := &both.out, &both.target
	*out = *req
	if req.URL != nil {
		*target = *req.URL
	}
	if out.Host == "" {
		out.Host = target.Host
	}
	st := s.pool.current.Load().settings
	target.Scheme, target.Host = st.scheme, s.host
	port := s.addr.Port()
	if st.keepPort {
		if local, ok := req.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr); ok {
			port = uint16(local.Port)
			target.Host = netip.AddrPortFrom(s.addr.Addr(), port).String()
		}
	}
	if st.rewriteHost {
		if hostname := s.Hostname(); hostname != "" {
			out.Host = hostname
			if port != defaultPort(st.scheme) {
				out.Host += ":" + strconv.Itoa(int(port))
			}
		}
	}
	out.URL = target
	return out
}

// defaultPort is the port that URLs and Host headers omit.
func defaultPort(scheme string) uint16 {
	if scheme == "https" {
		return 443
	}
	return 80
}

// diagnose classifies the failure err.
func diagnose(req *http.Request, body *guardedBody, err error) *ForwardError {
	ctxErr := req.Context().Err()
	fault := &ForwardError{
		Err:     http1.WithoutQuote(err),
		connect: notConnected(err),
		timeout: errors.Is(ctxErr, context.DeadlineExceeded) || isTimeout(err),

		unprocessed: errors.Is(err, http1.ErrNotProcessed),
	}
	// While the request body is being sent, a slow client may be the cause of a
	// timeout.
	stalled := fault.timeout && !fault.connect && body.unfinished()
	fault.aborted = errors.Is(ctxErr, context.Canceled) || body.failed() || stalled
	return fault
}

// notConnected reports whether err proves that no connection was made.
func notConnected(err error) bool {
	var op *net.OpError
	var certificate *tls.CertificateVerificationError
	return errors.As(err, &op) && op.Op == "dial" || errors.As(err, &certificate) || errors.Is(err, ErrConnect)
}

// isTimeout reports whether err is a timeout.
func isTimeout(err error) bool {
	var netErr net.Error
	return errors.Is(err, ErrTimeout) || errors.As(err, &netErr) && netErr.Timeout()
}
