package http1

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/limpetlb/limpet/internal/httpfield"
	"github.com/limpetlb/limpet/internal/splice"
)

// An exchange is one request and its response on a connection. It is the
// response's body, too.
type exchange struct {
	c        *conn
	req      *http.Request
	trace    *httptrace.ClientTrace
	upload   *upload
	unwatch  func() bool // stops the watch over the request's context; false if that has ended
	keep     bool        // the connection may serve another exchange
	odd      bool        // an informational response says that it has a body
	switches bool        // the request asks for another protocol
	resp     *http.Response

	body    io.Reader // of the response, without its effects on the connection
	chunks  chunkReader
	ended   atomic.Bool // somebody ends the exchange, or has; see end
	reading sync.Mutex  // held while body is read
	err     error       // what the body ended with; guarded by reading
}

func newExchange(c *conn, req *http.Request, body io.ReadCloser, head *head, trace *httptrace.ClientTrace) *exchange {
	x := &exchange{c: c, req: req, trace: trace, switches: head.switches}
	if body != nil {
		x.upload = &upload{c: c, req: req, body: body, length: head.length, trace: trace, done: make(chan struct{})}
	}
	return x
}

// run sends the request and returns the response as soon as its header is here.
func (x *exchange) run(head []byte) (*http.Response, error) {
	ctx := x.req.Context()
	if ctx.Done() != nil {
		x.unwatch = context.AfterFunc(ctx, x.c.abort)
	}
	resp, err := x.roundTrip(head)
	if err == nil && len(resp.TransferEncoding) > 0 && resp.Body != http.NoBody {
		here, _ := x.c.br.Peek(x.c.br.Buffered())
		if err = checkChunks(here); err == nil {
			err = checkTrailerNames(resp.Trailer) // which are announced
		}
	}
	if err != nil {
		err = x.explain(err)
		x.release(false)
		return nil, err
	}
	x.upload.answer()
	if x.upload != nil || !x.c.deadline.IsZero() && !x.here(resp) {
		x.c.unbound()
	}
	x.c.limit = unlimited
	// Some programs that decline to switch protocols leave the connection open,
	// and do not listen to it any more.
	x.resp, x.keep = resp, !x.odd && !x.switches && !resp.Close && !x.req.Close && resp.StatusCode > 199
	resp.TLS = x.c.tls
	switch {
	case resp.StatusCode == http.StatusSwitchingProtocols && httpfield.HasToken(resp.Header["Connection"], "Upgrade") && resp.Header.Get("Upgrade") != "":
		return x.upgrade(resp)
	case resp.Body == http.NoBody:
		x.release(true)
	default:
		x.body, resp.Body = resp.Body, x
		if len(resp.TransferEncoding) > 0 {
			x.chunks = chunkReader{br: x.c.br, end: x.body}
			x.body = &x.chunks
		}
	}
	return resp, nil
}

// here reports whether all of a response's body has been read from the
// connection, so that nothing more has to be waited for.
func (x *exchange) here(resp *http.Response) bool {
	return resp.Body == http.NoBody || resp.ContentLength >= 0 && resp.ContentLength <= int64(x.c.br.Buffered())
}

var errHeaderTimeout error = &timeoutError{"timeout awaiting response headers"}

func (x *exchange) roundTrip(head []byte) (*http.Response, error) {
	c := x.c
	// With a body, the time begins to run when that is sent.
	limit := c.t.base.ResponseHeaderTimeout
	switch {
	case limit > 0 && x.upload == nil:
		c.extend(time.Now(), limit)
	case !c.deadline.IsZero():
		c.unbound()
	}
	c.limit = c.t.maxHeader // and not what is left from another exchange
	n, unsent := c.rw.Write(head)
	x.traceHead(unsent)
	switch {
	case unsent != nil && n == 0 && c.reused: // what is there to be read is the answer to nobody's request
		return nil, brokenError{error: unsent, unsent: true}
	case unsent != nil:
		_ = c.rw.SetReadDeadline(time.Now().Add(lateAnswer))
	case x.upload != nil:
		x.upload.start()
	}
	_, err := c.br.Peek(1)
	if err != nil && unsent != nil {
		return nil, brokenError{error: unsent, unsent: n == 0}
	}
	switch {
	case errors.Is(err, io.EOF):
		return nil, brokenError{error: errClosed}
	case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
		return nil, brokenError{error: err}
	}
	if x.trace != nil && x.trace.GotFirstResponseByte != nil && err == nil {
		x.trace.GotFirstResponseByte()
	}
	for err == nil {
		var resp *http.Response
		if resp, err = c.readResponse(x.req); err != nil {
			break
		}
		if code := resp.StatusCode; code < 100 || code > 199 || code == http.StatusSwitchingProtocols {
			return resp, nil
		}
		x.odd = x.odd || c.head.ambiguous(resp)
		err = x.inform(resp)
	}
	return nil, err
}

// traceHead traces how the head of the request was sent.
func (x *exchange) traceHead(err error) {
	if x.trace == nil {
		return
	}
	if err == nil && x.trace.WroteHeaders != nil {
		x.trace.WroteHeaders()
	}
	if (err != nil || x.upload == nil) && x.trace.WroteRequest != nil {
		x.trace.WroteRequest(httptrace.WroteRequestInfo{Err: err})
	}
}

// inform passes on an informational response.
func (x *exchange) inform(resp *http.Response) error {
	if resp.StatusCode == http.StatusContinue {
		x.upload.proceed()
	}
	if x.trace != nil && x.trace.Got1xxResponse != nil {
		return x.trace.Got1xxResponse(resp.StatusCode, textproto.MIMEHeader(resp.Header))
	}
	return nil
}

// explain returns what really went wrong when reading or writing has failed
// with err.
func (x *exchange) explain(err error) error {
	if ctx := x.req.Context(); ctx.Err() != nil {
		return context.Cause(ctx)
	}
	sending, fault := x.upload.failure()
	late := errors.Is(err, os.ErrDeadlineExceeded)
	switch {
	case sending != nil && (fault || late):
		return sending
	case late:
		return errHeaderTimeout
	}
	if x.c.limit <= 0 {
		return x.c.tooLarge() // the parser may have found fault with what was cut off
	}
	return err
}

var errClosed = fmt.Errorf("server closed the connection without a response: %w", io.EOF)

// end makes the caller the one that ends the exchange. It reports false if
// another one does, or has. Nobody else may release the connection or do
// anything to it, since from then on it may serve another exchange at any
// moment.
func (x *exchange) end() bool { return !x.ended.Swap(true) }

// release ends the exchange. The connection becomes idle if the response was
// read to its end and nothing speaks against it, and is closed otherwise.
func (x *exchange) release(whole bool) {
	c := x.c
	keep := whole && x.keep && !c.eof && c.br.Buffered() == 0 && x.upload.complete()
	if x.unwatch != nil && !x.unwatch() {
		keep = false
	}
	keep = keep && c.t.idle.put(c)
	if !keep {
		c.close()
	}
	if x.trace != nil && x.trace.PutIdleConn != nil && !c.t.base.DisableKeepAlives {
		var err error
		if !keep {
			err = errNotIdle
		}
		x.trace.PutIdleConn(err)
	}
}

var (
	errNotIdle    = errors.New("connection cannot be used again")
	errReadClosed = errors.New("http: read on closed response body")
)

// Read reads the response's body.
func (x *exchange) Read(p []byte) (int, error) {
	x.reading.Lock()
	defer x.reading.Unlock()
	if x.err != nil {
		return 0, x.err
	}
	if x.ended.Load() {
		return 0, errReadClosed
	}
	n, err := x.body.Read(p)
	if err == nil {
		return n, nil
	}
	if x.endsByReset(err) {
		err = io.EOF
	}
	if err == io.EOF { //nolint:errorlint // as below
		if fault := checkTrailerNames(x.resp.Trailer); fault != nil {
			err = fault
		}
	}
	whole := err == io.EOF //nolint:errorlint // an error that wraps it is none of a body that is whole
	if !whole {
		err = x.explain(err)
	}
	x.err = err
	if x.end() {
		x.release(whole)
	}
	return n, err
}

// endsByReset reports whether err is a reset that ends a response as the end of
// the connection would. The system of a server that closes a connection resets
// it if there is something on it that the server has not read: the rest of a
// request's body.
func (x *exchange) endsByReset(err error) bool {
	return x.upload != nil && errors.Is(err, syscall.ECONNRESET) && x.resp.ContentLength < 0 && len(x.resp.TransferEncoding) == 0
}

// Buffered returns how many bytes of the body, in the form in which they were
// sent, are here already, or 0 if a Read would have to wait nevertheless. It
// always knows; the result says so for those who ask several kinds of bodies.
func (x *exchange) Buffered() (n int, known bool) {
	x.reading.Lock()
	defer x.reading.Unlock()
	if x.ended.Load() {
		return 0, true // the connection may serve another exchange
	}
	if x.body == &x.chunks {
		return x.chunks.here(), true
	}
	return x.c.br.Buffered(), true
}

// Close ends the exchange, unless a Read has reached the end of the body. The
// connection is used again if the rest of the body is here already.
func (x *exchange) Close() error {
	if !x.end() {
		return nil
	}
	// The connection is that of this exchange until it is released below.
	whole := x.reading.TryLock()
	if !whole {
		x.c.abort() // for a read that waits
		x.reading.Lock()
	}
	defer x.reading.Unlock()
	x.c.limit = 0 // so that nothing waits for the server
	whole = whole && x.keep && drain(x.body) && checkTrailerNames(x.resp.Trailer) == nil
	if x.err == nil {
		x.err = errReadClosed
	}
	x.release(whole)
	return nil
}

// drain reports whether a body comes to its end without anything more being
// read from the connection.
func drain(body io.Reader) bool {
	_, err := io.Copy(io.Discard, body)
	return err == nil
}

// ErrSwitched is the error of a request whose server has switched protocols, as
// it may, while the request body had not ended.
var ErrSwitched = errors.New("server switched protocols before the end of the request body")

// upgrade gives the connection to the caller.
func (x *exchange) upgrade(resp *http.Response) (*http.Response, error) {
	if !x.upload.complete() {
		x.release(false)
		return nil, ErrSwitched
	}
	if x.unwatch != nil && !x.unwatch() {
		x.c.close()
		return nil, context.Cause(x.req.Context())
	}
	if !x.c.deadline.IsZero() {
		x.c.unbound()
	}
	u := &upgraded{Conn: x.c.rw}
	if x.c.br.Buffered() > 0 {
		u.early = x.c.br
	}
	resp.Body = u
	return resp, nil
}

// upgraded is a connection that speaks another protocol now.
type upgraded struct {
	net.Conn
	early *bufio.Reader // has what came behind the response; nil once that is read
}

func (u *upgraded) Read(p []byte) (int, error) {
	if u.early == nil {
		return u.Conn.Read(p)
	}
	n, err := u.early.Read(p[:min(len(p), u.early.Buffered())])
	if u.early.Buffered() == 0 {
		u.early = nil
	}
	return n, err
}

// CloseWrite ends the sending direction, if the connection can do that.
func (u *upgraded) CloseWrite() error { return splice.CloseWrite(u.Conn) }
