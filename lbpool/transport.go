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
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/limpetlb/limpet/internal/http1"
)

var (
	// ErrConnect means that no connection to the server could be made, so that nothing of the request was sent.
	// An error of a Transport's Base that matches it is taken to say so.
	ErrConnect = errors.New("cannot connect")
	// ErrRequest means that the request itself is such that it cannot be sent to any server: its method, target, host, a
	// field of its header or trailer, or its length. No server was asked, or none is to blame.
	ErrRequest = http1.ErrRequest
	// ErrTimeout means that something took too long: the connection (then ErrConnect matches too), the answer, or all
	// of the request by its context's deadline.
	ErrTimeout = errors.New("timed out")
)

// errNoRoute means that a request has no Route, nor the Transport a Pool.
var errNoRoute = fmt.Errorf("%w: request has no route", ErrNoServer)

// ForwardError is the error of a Transport whose request was given to a server and got no answer. It matches
// ErrConnect, ErrTimeout and ErrAborted where they apply, and Err's errors, ErrRequest among them. A time-out while the
// request body was still being read matches ErrAborted too, since it cannot be told from a client that sends slowly.
type ForwardError struct {
	Pool   string         // the pool's name
	Server netip.AddrPort // the server tried last
	Tried  int            // how many servers were tried
	Err    error          // what went wrong with the last

	connect, timeout, aborted bool
}

// Error names the pool, the server and what went wrong.
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

// Timeout reports whether e matches ErrTimeout, as net.Error has it.
func (e *ForwardError) Timeout() bool { return e.timeout }

// A Transport is an http.RoundTripper that sends each request to a server of a pool. The request's context says which
// pool, by a Route. It is meant to stand under httputil.ReverseProxy. The zero value is ready to use; the fields must
// not change once it is in use. It may be used concurrently.
//
// The request's Host header is kept unless Config.RewriteHost is set, and so is everything else but the place it is sent
// to. If a server cannot be connected to and nothing of the request body has been read, another server is tried; further
// cases can be configured, see Reselect. When no server of a pool can be had, another pool of the route's Group takes over, or a backup
// pool that the FailAction names.
// The lease of the server is held until the response body is closed or has been read to its end, or in the case of an
// upgraded connection (status 101), until that is closed.
//
// Errors match ErrNoServer when there was no server to try, or else are of type *ForwardError. A request that
// no server can be sent, whatever the Base, fails with an error that matches ErrRequest; no server is tried after that, and
// none is marked.
type Transport struct {
	// Pool is used for requests whose context carries no Route. If it is nil, the error for such a request matches ErrNoServer.
	Pool *Pool
	// Base sends the requests. Nil means NewHTTP1(NewBase()), made at the first use. If it is neither of NewHTTP1 nor
	// an *http.Transport it must report connections that cannot be made by a *net.OpError with Op "dial" or by an error
	// that matches ErrConnect, or such requests are not sent elsewhere. Requests are checked before it gets them, see
	// ErrRequest, unless it has a method ChecksRequests() bool that returns true, as the transports of NewHTTP1 have.
	Base http.RoundTripper

	once sync.Once
	base http.RoundTripper
}

// NewBase returns a new http.Transport suited to a reverse proxy. Change it if need be, and give it to NewHTTP1. Unlike
// http.DefaultTransport it keeps any number of idle connections (up to 1024 to a server, for a minute), ignores the proxy
// settings of the environment, leaves compressed bodies as they are and speaks HTTP/1.1 only. Connecting and TLS
// handshakes may take 5 seconds each, the wait for a response header 60 seconds, and such a header 1 MiB.
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

// NewHTTP1 returns a transport with the settings of base that sends requests over HTTP/1.1 for less processor time than
// base, because the caller's own goroutine writes and reads the connection. It leaves to base what that does not cover:
// HTTP/2 where base may speak it, HTTP proxies, limits on connections to a host, and requests out of the ordinary. Errors
// are of the same kinds, but for ErrRequest. A request is sent again, once and over a new connection, when an idle connection
// turns out to be dead and the request is idempotent or nothing of it was sent. Nil stands for NewBase(). Afterwards base
// must not change.
//
// Unlike base, it
//   - sends the target of a request as it came in, but for single bytes that have to be percent-encoded, and field names
//     such as Sec-WebSocket-Key as they are registered;
//   - refuses answers that others may read in another way than the standard library: with a blank before the colon of a
//     field, lines that continue others, stray carriage returns, a status below 100 or a transfer coding in HTTP/1.0;
//   - sends a body with "Expect: 100-continue" at once if some of it is here already, as far as the body tells by a method
//     Buffered() (n int, known bool);
//   - leaves the field Connection in the header of a response that lists "close" and more, for callers that must not pass
//     on the fields and trailers that are named there (RFC 9110, section 7.6.1). It removes none of them itself.
//
// The transport may be used concurrently. It has a method CloseIdleConnections, which is base's, too.
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

// CloseIdleConnections closes the idle connections of Base, if it has such a method.
func (t *Transport) CloseIdleConnections() {
	if c, ok := t.roundTripper().(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

func (t *Transport) roundTripper() http.RoundTripper {
	t.once.Do(func() {
		t.base = t.Base
		if t.base == nil {
			t.base = NewHTTP1(nil)
		}
	})
	return t.base
}

// exchange is a request on its way to the servers of a pool.
type exchange struct {
	transport *Transport
	pool      *Pool
	reselect  *Reselect
	route     *Route
	req       *http.Request
	body      *guardedBody
	start     time.Time

	// What the latest server that gave an answer has said, to be passed on unless a better one comes.
	answer *http.Response
	server *Server
	unmet  Reason
}

// send tries one server after the other.
func (t *Transport) send(req *http.Request, route *Route, body *guardedBody) (*http.Response, error) {
	pool := route.Pool.live()
	x := exchange{transport: t, pool: pool, reselect: &pool.current.Load().reselect, route: route, req: req, body: body}
	body.keep(x.reselect.MaxBody)
	return x.run()
}

func (x *exchange) run() (*http.Response, error) {
	hint := x.route.Hint
	var failed *ForwardError
	budgeted := false // this try has a place in the retry budget
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
		resp, fault := x.transport.sendTo(lease, x.req, x.body, x.reselect.TryTimeout)
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

func (x *exchange) acquire(h Hint) (Lease, error) {
	if x.route.Tried == 0 && x.route.waits(&h) {
		return x.pool.AcquireWait(x.req.Context(), h)
	}
	return x.pool.Acquire(h)
}

// claim asks the route's Claim whether lease is of the right server, and takes the one that it names if not.
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
		// What has moved the client is what stood in the way of the server that it had before.
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
	x.body.keep(x.reselect.MaxBody)
	r.hintHeader(x.req)
	h.Header = r.Hint.Header
}

// take keeps an answer in place of the one before.
func (x *exchange) take(resp *http.Response) {
	if x.answer != nil {
		x.answer.Body.Close()
	}
	x.answer, x.server, x.unmet = resp, x.route.Server, x.route.Unmet
}

// conclude ends the exchange: with the latest answer, or with an error.
func (x *exchange) conclude(failed *ForwardError, err error) (*http.Response, error) {
	switch {
	case x.answer != nil:
		x.route.Server, x.route.Unmet = x.server, x.unmet
		x.route.Unwanted = x.reselect.repeatsAnswer(x.req.Method, x.answer.StatusCode)
		return x.answer, nil
	case failed != nil:
		if errors.Is(x.route.GivenUp, failed) {
			x.route.GivenUp = nil // there was no other
		}
		return nil, failed // tells more than that there is no other server
	}
	var unavailable *unavailableError
	if errors.As(err, &unavailable) {
		x.route.Unmet = unavailable.Reason
	}
	return nil, err
}

// another reports whether another server should be tried after the latest try, and whether that has taken a place in the
// retry budget. Where nothing has been sent there is nothing to repeat, and no budget needed.
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

// sendTo sends the request to the leased server and binds the lease to the answer.
func (t *Transport) sendTo(lease Lease, req *http.Request, body *guardedBody, limit time.Duration) (_ *http.Response, fault *ForwardError) {
	bound := false
	outcome := Outcome{Err: ErrAborted} // stands if the base panics
	try := startTry(req.Context(), limit)
	defer func() {
		if !bound {
			try.end()
			lease.Release(outcome)
		}
	}()
	out := aim(req, lease.Server)
	if try != nil {
		out = out.WithContext(try.ctx)
	}
	body.attach(out)
	start := time.Now()
	resp, err := t.exchange(out)
	if err = try.settle(resp, err); err != nil {
		fault = diagnose(req, body, err)
		fault.Pool, fault.Server = lease.Server.pool.Name(), lease.Server.addr
		if !errors.Is(err, ErrRequest) && !errors.Is(err, http1.ErrStale) { // else nobody's, as it is with ErrAborted
			outcome.Err = fault
		}
		return nil, fault
	}
	outcome = Outcome{Status: resp.StatusCode, FirstByte: time.Since(start)}
	bound = bindLease(req.Context(), resp, lease, outcome, try, body.unfinished())
	return resp, nil
}

// exchange gives a request to the base. A base that is not of NewHTTP1, nor stands before one and says so by the method
// ChecksRequests, does not say of a failure whether it is that of the request, so that is found out before, and lets pass
// answers that are not well formed.
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

// try bounds the time to an answer. Nil has no bound.
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
	// When time is up, the error does not tell whether the connection stood.
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { t.connected.Store(true) }})
	t.ctx, t.cancel = context.WithCancel(ctx)
	t.timer = time.AfterFunc(limit, t.cancel)
	return t
}

// settle says that the answer is here, or the failure err. It returns err, or another if time was up.
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

// end says that the answer is no longer needed.
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

// defaultPort is the port that URLs and Host headers leave out.
func defaultPort(scheme string) uint16 {
	if scheme == "https" {
		return 443
	}
	return 80
}

// diagnose finds out what kind of failure err is.
func diagnose(req *http.Request, body *guardedBody, err error) *ForwardError {
	ctxErr := req.Context().Err()
	fault := &ForwardError{
		Err:     withoutQuote(err),
		connect: notConnected(err),
		timeout: errors.Is(ctxErr, context.DeadlineExceeded) || isTimeout(err),
	}
	// While the request body is on its way, a time-out may well be the doing of a client who sends it slowly.
	stalled := fault.timeout && !fault.connect && body.unfinished()
	fault.aborted = errors.Is(ctxErr, context.Canceled) || body.failed() || stalled
	return fault
}

// withoutQuote returns an error that says no more of an answer that cannot be read than what is wrong with it: the
// standard library quotes it, and it may hold a secret.
func withoutQuote(err error) error {
	var malformed textproto.ProtocolError
	if text := err.Error(); errors.As(err, &malformed) || strings.Contains(text, "malformed HTTP") {
		if what, _, quoted := strings.Cut(text, `"`); quoted {
			return errors.New(strings.TrimRight(what, ": "))
		}
	}
	return err
}

// notConnected reports whether err proves that no connection was made.
func notConnected(err error) bool {
	var op *net.OpError
	var certificate *tls.CertificateVerificationError
	return errors.As(err, &op) && op.Op == "dial" || errors.As(err, &certificate) || errors.Is(err, ErrConnect)
}

// isTimeout reports whether err says that something took too long.
func isTimeout(err error) bool {
	var netErr net.Error
	return errors.Is(err, ErrTimeout) || errors.As(err, &netErr) && netErr.Timeout()
}
