package lbpool

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"time"
)

// DefaultRetries is how many further servers a Transport tries when Reselect does not say.
const DefaultRetries = 2

var (
	// ErrNoRoute means that a Transport was given a request without a Route and has no Pool of its own.
	ErrNoRoute = errors.New("request has no route")
	// ErrConnect means that no connection to the server could be made, so that nothing of the request was sent.
	// An error of a Transport's Base that matches it is taken to say so.
	ErrConnect = errors.New("cannot connect")
	// ErrTimeout means that something took too long: the connection (then ErrConnect matches too), the answer, or all
	// of the request by its context's deadline.
	ErrTimeout = errors.New("timed out")
)

// Reselect bounds how often a Transport turns to another server because one could not be connected to. Nothing of the
// request was sent then, so that any request may go elsewhere. No server is tried twice for a request.
type Reselect struct {
	// Retries is how many further servers are tried. 0 means DefaultRetries; negative means none.
	Retries int
}

func (r Reselect) retries() int {
	if r.Retries == 0 {
		return DefaultRetries
	}
	return max(r.Retries, 0)
}

// ForwardError is the error of a Transport whose request was given to a server and got no answer. It matches
// ErrConnect, ErrTimeout and ErrAborted where they apply, and Err's errors. A time-out while the request body was still
// being read matches ErrAborted too, since it cannot be told from a client that sends slowly.
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
// The request's Host header is kept, and so is everything else but the place it is sent to. A server that cannot be
// connected to is replaced by another, as the pool's Reselect allows, while nothing of the request body has been read.
// The lease of the server is held until the response body is closed or has been read to its end, or in the case of an
// upgraded connection (status 101), until that is closed.
//
// Errors match ErrNoRoute, or ErrNoServer when there was no server to try, or else are of type *ForwardError.
type Transport struct {
	// Pool is used for requests whose context carries no Route. Nil refuses these with ErrNoRoute.
	Pool *Pool
	// Base sends the requests. Nil means one NewBase, made at the first use. If it is not an *http.Transport it must
	// report connections that cannot be made by a *net.OpError with Op "dial" or by an error that matches
	// ErrConnect, or such requests are not sent elsewhere.
	Base http.RoundTripper

	once sync.Once
	base http.RoundTripper
}

// NewBase returns a new http.Transport suited to a reverse proxy, to be used as it is or to be changed first. Unlike
// http.DefaultTransport it keeps any number of idle connections (up to 1024 to a server, for a minute), heeds no proxy
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

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	route, ok := RouteFrom(req.Context())
	if !ok {
		route = &Route{Pool: t.Pool}
	}
	body := newGuardedBody(req.Body)
	defer body.settle()
	return t.send(req, route, body)
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
			t.base = NewBase()
		}
	})
	return t.base
}

// send tries one server after the other.
func (t *Transport) send(req *http.Request, route *Route, body *guardedBody) (*http.Response, error) {
	route.Server, route.Unmet, route.Tried = nil, ReasonNone, 0
	pool := route.Pool
	if pool == nil {
		return nil, ErrNoRoute
	}
	hint := route.Hint
	var failed *ForwardError
	for {
		lease, err := pool.Acquire(hint)
		if err != nil {
			if failed != nil {
				return nil, failed // tells more than that there is no other server
			}
			var unavailable *UnavailableError
			if errors.As(err, &unavailable) {
				route.Unmet = unavailable.Reason
			}
			return nil, err
		}
		route.Server, route.Unmet = lease.Server, lease.Unmet
		route.Tried++
		resp, fault := t.sendTo(lease, req, body)
		if fault == nil {
			return resp, nil
		}
		fault.Tried = route.Tried
		if !fault.connect || fault.aborted || req.Context().Err() != nil || body.touched() || route.Tried > pool.reselect.retries() {
			return nil, fault
		}
		failed = fault
		hint.Exclude = append(slices.Clip(hint.Exclude), lease.Server)
	}
}

// sendTo sends the request to the leased server and binds the lease to the answer.
func (t *Transport) sendTo(lease Lease, req *http.Request, body *guardedBody) (_ *http.Response, fault *ForwardError) {
	bound := false
	outcome := Outcome{Err: ErrAborted} // stands if the base panics
	defer func() {
		if !bound {
			lease.Release(outcome)
		}
	}()
	out := aim(req, lease.Server)
	body.attach(out)
	start := time.Now()
	resp, err := t.roundTripper().RoundTrip(out)
	if err != nil {
		fault = diagnose(req, body, err)
		fault.Pool, fault.Server = lease.Server.pool.name, lease.Server.addr
		outcome.Err = fault
		return nil, fault
	}
	outcome = Outcome{Status: resp.StatusCode, FirstByte: time.Since(start)}
	bound = bindLease(req.Context(), resp, lease, outcome)
	return resp, nil
}

// aim returns a shallow copy of req that goes to s.
func aim(req *http.Request, s *Server) *http.Request {
	out := *req
	target := url.URL{}
	if req.URL != nil {
		target = *req.URL
	}
	if out.Host == "" {
		out.Host = target.Host
	}
	target.Scheme, target.Host = s.pool.scheme, s.host
	out.URL = &target
	return &out
}

// diagnose finds out what kind of failure err is.
func diagnose(req *http.Request, body *guardedBody, err error) *ForwardError {
	ctxErr := req.Context().Err()
	fault := &ForwardError{
		Err:     err,
		connect: notConnected(err),
		timeout: errors.Is(ctxErr, context.DeadlineExceeded) || isTimeout(err),
	}
	// While the request body is on its way, a time-out may well be the doing of a client who sends it slowly.
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

// isTimeout reports whether err says that something took too long.
func isTimeout(err error) bool {
	var netErr net.Error
	return errors.Is(err, ErrTimeout) || errors.As(err, &netErr) && netErr.Timeout()
}
