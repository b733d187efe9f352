package limpet

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/accept"
	"github.com/limpetlb/limpet/internal/bodyrule"
	"github.com/limpetlb/limpet/internal/http1"
	"github.com/limpetlb/limpet/lbpool"
)

// An Authenticator identifies the user of a request. It must be safe for
// concurrent use. See [NewBasicAuthenticator] and [NewBearerAuthenticator].
type Authenticator interface {
	// Authenticate returns the session of the client. An error refuses the
	// request with 401, or with 503 if it has a method Unavailable that returns
	// true. Its text goes to the record, not to the client. Authenticate must
	// not change the request.
	Authenticate(r *http.Request) (Session, error)
	// Challenge is the value of the header WWW-Authenticate in a refusal,
	// such as `Basic realm="shop"` (RFC 9110, section 11.6.1).
	Challenge() string
}

// A Session has the facts that an [Authenticator] knows about the client.
// Scripts see it from HTTP_POST_AUTH on. The zero value admits the client
// without any facts. Its slices and maps must not change afterwards.
type Session struct {
	// User is the user's name; empty if there is none.
	User string
	// Attributes are the attributes of a SAML session, each as "NAME=value",
	// for avi.http.saml_session_decrypt. Empty means that there is no session.
	Attributes string
	// Claims are the claims of verified OAuth tokens, for
	// avi.http.oauth_get_claim: for each provider a map from the name of a
	// claim to its values. A nil map means that there is no token.
	Claims []map[string][]string
}

// authenticate asks the authenticator, with the events HTTP_AUTH before and
// HTTP_POST_AUTH after. Without an authenticator there are no such events.
func authenticate(tx *transaction) {
	if tx.s.Authenticator == nil {
		return
	}
	if tx.runScripts(datascript.HTTPAuth); tx.ended() {
		return
	}
	var err error
	if tx.session, err = tx.s.Authenticator.Authenticate(tx.r); err != nil {
		tx.record.Error = fmt.Errorf("not authenticated: %w", err)
		if isUnavailable(err) {
			tx.replyText(http.StatusServiceUnavailable)
			tx.reply.header.Set("Retry-After", "1")
			return
		}
		tx.replyText(http.StatusUnauthorized)
		tx.reply.header.Set("WWW-Authenticate", tx.s.Authenticator.Challenge())
		return
	}
	if tx.user == "" { // a script's word counts more
		tx.user = tx.session.User
	}
	tx.runScripts(datascript.HTTPPostAuth)
}

// requestData reads the request's body into memory if the virtual service or a
// script wants it, and shows it to the scripts. The server gets the same bytes,
// and the rest of a body of which only the beginning was read.
func requestData(tx *transaction) {
	if !tx.bodyRule.Applies(bodyrule.HasBody(tx.r)) {
		return
	}
	held := heldBody{tx: tx}
	whole, err := held.readRequest(tx.out.Body, tx.bodyRule, tx.out.ContentLength)
	body := held.bytes
	switch {
	case errors.Is(err, errNoMemory):
		tx.noMemory()
		return
	case errors.Is(err, errTooLong):
		tx.vs.counters.refusedBodies.Add(1)
		tx.replyText(http.StatusRequestEntityTooLarge)
		return
	case err != nil:
		tx.failBody(err)
		return
	}
	tx.requestBody, tx.requestBuffered, tx.requestWhole = body, true, whole
	out := tx.EditRequest()
	delete(out.Header, "Expect") // reading has asked the client to go on
	if !whole {
		tx.vs.counters.headBodies.Add(1)
		out.GetBody = nil
		out.Body = headedBody{io.MultiReader(bytes.NewReader(body), out.Body), out.Body}
		tx.runScripts(datascript.HTTPReqData)
		return
	}
	out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	out.Body, _ = out.GetBody()
	if len(out.Trailer) == 0 {
		out.ContentLength, out.TransferEncoding = int64(len(body)), nil
	}
	if len(body) == 0 {
		out.Body = http.NoBody
	}
	tx.runScripts(datascript.HTTPReqData)
}

// A headedBody is a body whose beginning has been read before.
type headedBody struct {
	io.Reader // all of it
	io.Closer // of the rest
}

// A choosing transport shows scripts the chosen server before anything is sent
// to it. It is the base of lbpool's transport.
type choosing struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (t choosing) RoundTrip(req *http.Request) (*http.Response, error) {
	tx, ok := transactionOf(req.Context())
	if !ok {
		return t.RoundTripper.RoundTrip(req)
	}
	tx.serverTLS = req.URL.Scheme == "https"
	if !tx.s.handles[datascript.LBDone] {
		return t.send(tx, req)
	}
	out := *req
	if tx.settled == nil {
		out.Header = req.Header.Clone()
		tx.out = &out
		tx.runScripts(datascript.LBDone)
		if !tx.ended() {
			if status, err := tx.refusal(&out); status != 0 {
				tx.refuse(status, err)
			}
		}
		if tx.ended() {
			if req.Body != nil {
				req.Body.Close()
			}
			return nil, errAnswered
		}
		tx.settle(req, &out)
		return t.send(tx, &out)
	}
	// Another server, after a failure, causes no second event, and gets what
	// the scripts have made of the request for the first.
	tx.settled.apply(&out)
	tx.out = &out
	return t.send(tx, &out)
}

// A settledRequest has the edits of the scripts of LB_DONE, which may edit
// only the header. They apply to each server that is tried.
type settledRequest struct {
	header http.Header
	host   string // empty: the one that the pool gives to each server
}

// settle notes the difference between a request as chosen and as edited.
func (tx *transaction) settle(req, out *http.Request) {
	tx.settled = &settledRequest{header: out.Header}
	if out.Host != req.Host {
		tx.settled.host = out.Host
	}
}

func (s *settledRequest) apply(out *http.Request) {
	out.Header = s.header.Clone()
	if s.host != "" {
		out.Host = s.host
	}
}

// send sends a request as an attempt of the transaction's.
func (t choosing) send(tx *transaction, req *http.Request) (*http.Response, error) {
	if tx.trace != nil {
		return t.sendTraced(tx, req)
	}
	return t.exchange(req)
}

// exchange sends a request. Faults of the request itself, and a lack of
// resources of this process or machine, are not failures of the server.
func (t choosing) exchange(req *http.Request) (*http.Response, error) {
	res, err := t.RoundTripper.RoundTrip(req)
	if errors.Is(err, http1.ErrRequest) {
		err = fmt.Errorf("%w (%w)", err, lbpool.ErrAborted)
	}
	if err != nil && accept.IsExhausted(err) {
		t.CloseIdleConnections() // which use the missing resource
		err = &exhaustedError{err}
	}
	return res, err
}

// An exhaustedError means that this machine or process lacks a resource for a
// connection.
type exhaustedError struct{ err error }

func (e *exhaustedError) Error() string { return "out of resources: " + e.err.Error() }

// Unwrap returns ErrAborted, too: the server has nothing to do with it.
func (e *exhaustedError) Unwrap() []error { return []error{e.err, lbpool.ErrAborted} }

// CloseIdleConnections closes those of the transport beneath.
func (t choosing) CloseIdleConnections() {
	if c, ok := t.RoundTripper.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// ChecksRequests reports whether the transport beneath does.
func (t choosing) ChecksRequests() bool {
	c, ok := t.RoundTripper.(interface{ ChecksRequests() bool })
	return ok && c.ChecksRequests()
}

// errAnswered ends an exchange with a server because a script has answered. It
// is not a failure of the server.
var errAnswered = fmt.Errorf("answered by a script: %w", lbpool.ErrAborted)

// fail answers a request that no server has answered: none was available, or
// the one that was tried gave no answer. Scripts may answer first.
func (tx *transaction) fail(err error) {
	switch {
	case errors.Is(err, lbpool.ErrNoServer) && len(tx.s.Pools) == 0:
		err = fmt.Errorf("%w: the virtual service has no pools; to put it in front of a handler, use Wrap", err)
	case errors.Is(err, lbpool.ErrNoServer) && !tx.vs.running.Load() && neverChecked(tx.route.Pool):
		err = fmt.Errorf("%w: none has been checked, since VirtualService.Run is not running", err)
	}
	tx.record.Error = err
	if tx.rw.upgrade != nil && !tx.rw.hijacked {
		tx.rw.upgrade, tx.rw.status = nil, 0 // the upgrade has come to nothing
	}
	event := datascript.RespFailed
	switch {
	case errors.Is(err, lbpool.ErrNoServer):
		event, tx.failure = datascript.HTTPLBFailed, http.StatusServiceUnavailable
		tx.record.significant(NoServer)
	case errors.Is(err, http1.ErrRequest): // that the guard has not found
		tx.rw.closeAfter()
		tx.replyText(http.StatusBadRequest)
		return
	case errors.As(err, new(*exhaustedError)):
		tx.failure = http.StatusServiceUnavailable
	case errors.Is(err, lbpool.ErrAborted), errors.Is(tx.r.Context().Err(), context.Canceled):
		tx.clientGone()
		return
	case errors.Is(err, lbpool.ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		tx.failure = http.StatusGatewayTimeout
		tx.record.significant(ServerTimeout)
	default:
		tx.failure = http.StatusBadGateway
		tx.record.significant(ServerFailed)
	}
	if tx.runScripts(event); tx.ended() {
		return
	}
	switch {
	case event != datascript.HTTPLBFailed:
		tx.replyText(tx.failure)
	case tx.route.Group != nil:
		tx.failPool(tx.route.Group.FailAction())
	case tx.route.Pool != nil:
		tx.failPool(tx.route.Pool.FailAction())
	default:
		tx.replyText(tx.failure)
	}
}

// neverChecked reports whether no server of a pool has been checked, though
// all are waiting for it.
func neverChecked(pool *lbpool.Pool) bool {
	if pool == nil || len(pool.Servers()) == 0 {
		return false
	}
	return !slices.ContainsFunc(pool.Servers(), func(s *lbpool.Server) bool {
		return s.State() != lbpool.Unchecked && (s.State() != lbpool.Down || s.LastChange().Monitor != "")
	})
}

// failPool applies the fail action of a pool or a group when no server is
// available. A backup pool was tried before.
func (tx *transaction) failPool(a lbpool.FailAction) {
	switch {
	case a.Kind == lbpool.FailClose:
		tx.Close(true)
	case a.Kind == lbpool.FailRedirect:
		status := cmp.Or(a.Redirect.Status, http.StatusFound)
		tx.Reply(status, http.Header{"Location": {a.Redirect.Location(tx.r.URL)}}, nil)
	case len(a.Body) > 0:
		contentType := cmp.Or(a.ContentType, "text/html; charset=utf-8")
		tx.Reply(cmp.Or(a.Status, tx.failure), http.Header{"Content-Type": {contentType}}, a.Body)
	default:
		tx.replyText(cmp.Or(a.Status, tx.failure))
	}
}

// statusClientGone is the status in records if the client did not wait for its
// answer. It is common in logs, though in no standard. It is not sent.
const statusClientGone = 499

// clientGone ends a transaction whose client does not wait for its answer: the
// connection or the stream is closed without one.
func (tx *transaction) clientGone() {
	tx.record.significant(ClientGone)
	tx.reply = &reply{status: statusClientGone}
}

// failBody answers a request whose body could not be read, because of err.
func (tx *transaction) failBody(err error) {
	tx.record.Error = fmt.Errorf("reading the request body: %w", http1.WithoutQuote(err))
	status := bodyStatus(tx.r.Context(), err)
	if status == statusClientGone {
		tx.clientGone()
		return
	}
	tx.rw.closeAfter() // the rest of the body is not a request
	tx.replyText(status)
}

// bodyStatus is the status for a request whose body could not be read: 408 if
// the client has stalled, 413 if a handler in front allows no more, 400 if the
// body is malformed; or that of a client that is gone.
func bodyStatus(ctx context.Context, err error) int {
	var timeout net.Error
	switch {
	case errors.As(err, new(*http.MaxBytesError)):
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return http.StatusRequestTimeout // though net/http cancels the context, too
	case errors.Is(ctx.Err(), context.Canceled):
		return statusClientGone
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), errors.As(err, new(*net.OpError)):
		return statusClientGone
	}
	return http.StatusBadRequest
}

// The following methods are for scripts, handlers and authenticators.

// UserID returns the name that a script or the authenticator has given the
// user, else that of basic authentication, else the common name of the
// client's certificate; empty if there is none.
func (tx *transaction) UserID() string {
	if tx.user != "" {
		return tx.user
	}
	if name, _, ok := tx.r.BasicAuth(); ok {
		return name
	}
	if t := tx.r.TLS; t != nil && len(t.PeerCertificates) > 0 && tx.VerifyCertificate() == nil {
		return t.PeerCertificates[0].Subject.CommonName
	}
	return ""
}

// SetUserID sets the result of UserID; an empty name removes an earlier one.
func (tx *transaction) SetUserID(id string) { tx.user = id }

// SAMLAttributes returns the attributes of the [Session]; ok is false if there
// are none.
func (tx *transaction) SAMLAttributes() (attributes string, ok bool) {
	return tx.session.Attributes, tx.session.Attributes != ""
}

// Claim returns the values of a claim of the [Session], of the provider with
// this number, counted from 0; ok is false if there is none. The values must
// not be changed.
func (tx *transaction) Claim(provider int, name string) (values []string, ok bool) {
	if provider < 0 || provider >= len(tx.session.Claims) {
		return nil, false
	}
	values, ok = tx.session.Claims[provider][name]
	return values, ok
}

// RequestID returns the name of the transaction: 32 hexadecimal digits, which
// the first call draws at random.
func (tx *transaction) RequestID() string {
	if tx.id == "" {
		var b [16]byte
		_, _ = rand.Read(b[:]) // never fails
		tx.id = hex.EncodeToString(b[:])
	}
	return tx.id
}

// SetServerTimeout bounds the exchange with the server, from the choice of one
// to the end of its response.
func (tx *transaction) SetServerTimeout(d time.Duration) { tx.serverTimeout = d }

// BufferRequest lets limpet read the request's body into memory, up to max
// bytes, before the event HTTP_REQ_DATA. 0 means no buffering, whatever
// [Config].RequestBody says. That also decides about longer bodies.
func (tx *transaction) BufferRequest(max int) { tx.bodyRule.Ask(max) }

// BufferRequestLonger is BufferRequest, but head decides about a longer body:
// if it is set, scripts see the beginning, else the request is refused.
func (tx *transaction) BufferRequestLonger(max int, head bool) { tx.bodyRule.AskLonger(max, head) }

// RequestBody returns the request's body if it was buffered. It must not be
// changed.
func (tx *transaction) RequestBody() (body []byte, ok bool) {
	return tx.requestBody, tx.requestBuffered
}

// RequestBodyWhole reports whether RequestBody is known to be the whole body,
// and not only the part that was to be read.
func (tx *transaction) RequestBodyWhole() bool { return tx.requestWhole }

// BufferResponse buffers the beginning of the response's body, up to max
// bytes, until the event HTTP_RESP_DATA is over.
func (tx *transaction) BufferResponse(max int) { tx.responseRule.Ask(max) }

// ResponseBody returns the part of the response's body that was buffered. It
// must not be changed.
func (tx *transaction) ResponseBody() (body []byte, ok bool) { return tx.rw.held, tx.rw.holding }

// FailureStatus returns why there is no response, in the events for that: 502,
// 503 or 504.
func (tx *transaction) FailureStatus() int { return tx.failure }

// SetHashKey sets the key for algorithms that hash a string from a script.
func (tx *transaction) SetHashKey(key string) { tx.hashKey = key }
