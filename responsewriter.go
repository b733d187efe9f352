package limpet

import (
	"bufio"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/accept"
)

// A responseWriter shows a response to the response stages once, just before
// its header goes to the client. Everything else passes through: informational
// responses, trailers, flushes, and by Unwrap the requests of
// http.ResponseController to the server's own writer.
//
// A handler may call it when the transaction is over. So its exported methods
// enter the transaction as users.
type responseWriter struct {
	http.ResponseWriter
	tx      *transaction
	initial http.Header // the header before limpet changes it

	users    users          // of the transaction
	status   int32          // of the response, once it has begun
	expected bool           // a server or a handler was asked to answer
	passing  bool           // the response is a server's
	replaced bool           // an answer of our own has gone out; the handler's is dropped
	hijacked bool           // by the handler, or to close the connection
	abort    bool           // the connection or stream has to be torn down
	last     bool           // the connection serves no other request
	holding  bool           // header and body wait for the scripts of HTTP_RESP_DATA
	upgrade  *http.Response // the server's answer, if it switches protocols
	bytes    int64          // of the body

	// While holding.
	held []byte
	head http.Header // as it was when it was complete
}

// hijackableWriter is for servers that can give away the connection, which
// HTTP/2 cannot.
type hijackableWriter struct{ *responseWriter }

// errReplaced is the error for a handler that goes on writing a response after
// another one was sent in its place.
var errReplaced = errors.New("limpet: the response was replaced or the connection closed")

// leave ends a use of the transaction.
func (w *responseWriter) leave() {
	if w.users.leave() {
		w.tx.release()
	}
}

func (w *responseWriter) begun() bool { return w.status != 0 || w.replaced || w.hijacked }

// begin runs the response stages. It reports whether to send the handler's
// header now.
func (w *responseWriter) begin(status int) bool {
	w.status = int32(status)
	record := &w.tx.record
	record.FirstByte, record.ServerStatus = time.Since(record.Start), status
	for _, stage := range responseStages {
		if stage(w.tx); w.tx.ended() {
			w.deliver()
			return false
		}
	}
	w.holding = w.upgrade == nil && w.tx.responseRule.Buffers(w.tx.r.Method, status, w.tx.s.handles[datascript.HTTPRespData])
	if w.holding {
		w.head = maps.Clone(w.Header())
	}
	return !w.holding
}

// writeHeader sends the header. It keeps net/http from guessing the content
// type that a server has left out.
func (w *responseWriter) writeHeader(status int) {
	if h := w.ResponseWriter.Header(); w.passing {
		if _, ok := h["Content-Type"]; !ok {
			h["Content-Type"] = nil
		}
	}
	w.farewell(status)
	w.ResponseWriter.WriteHeader(status)
}

// farewell lets net/http close the connection after the response if the virtual
// service is being drained, or the listener of the connection has ended. In
// HTTP/2, net/http sends GOAWAY instead, and open streams go on.
func (w *responseWriter) farewell(status int) {
	leaving := w.tx.vs.draining.Load() || w.tx.conn != nil && w.tx.conn.Leaving()
	if leaving && status != http.StatusSwitchingProtocols {
		w.ResponseWriter.Header()["Connection"] = []string{"close"}
	}
}

// release shows the buffered part of the body to the scripts, and sends it.
func (w *responseWriter) release() error {
	// A handler may have set fields for the trailer since then.
	h := w.Header()
	later := maps.Clone(h)
	clear(h)
	maps.Copy(h, w.head)
	if w.tx.responseRule.Applies(len(w.held)) {
		w.tx.runScripts(datascript.HTTPRespData)
	}
	w.holding = false
	if w.tx.ended() {
		w.deliver()
		return errReplaced
	}
	w.writeHeader(int(w.status))
	maps.Copy(h, later)
	if len(w.held) == 0 {
		return nil
	}
	n, err := w.ResponseWriter.Write(w.held)
	w.bytes += int64(n)
	w.held = nil
	return err
}

// hold keeps p back as long as there is space, and then releases everything.
func (w *responseWriter) hold(p []byte) (int, error) {
	if !w.users.enter() {
		return 0, errReplaced
	}
	defer w.leave()
	n := min(len(p), w.tx.responseRule.Bytes-len(w.held))
	held := heldBody{w.tx, w.held}
	most := w.tx.responseRule.Bytes
	if length, err := strconv.Atoi(w.Header().Get("Content-Length")); err == nil && length >= 0 {
		most = min(most, length)
	}
	if !held.grow(n, most) {
		w.holding = false
		w.tx.noMemory()
		w.deliver()
		return 0, errReplaced
	}
	w.held = append(held.bytes, p[:n]...)
	if n == len(p) {
		return n, nil
	}
	if err := w.release(); err != nil {
		return 0, err
	}
	more, err := w.Write(p[n:])
	return n + more, err
}

// overtake prepares for a response before the end of its request. Without it,
// net/http would first read the rest of the request, and wait for a reader that
// is doing so. The rest makes the connection unfit for another request.
func (w *responseWriter) overtake() {
	if w.tx.r.ProtoMajor == 1 && http.NewResponseController(w.ResponseWriter).EnableFullDuplex() == nil {
		w.closeAfter()
	}
}

// closeAfter closes the connection after the response. It does nothing in
// HTTP/2, where this would end all streams.
func (w *responseWriter) closeAfter() {
	if w.tx.r.ProtoMajor == 1 {
		w.last = true
		w.Header().Set("Connection", "close")
	}
}

// deliver sends an answer of our own, closes the connection, or both.
func (w *responseWriter) deliver() {
	w.replaced, w.status = true, 0
	tx := w.tx
	if tx.reply != nil && tx.reply.status == statusClientGone {
		w.status = statusClientGone
		w.abort = tx.r.Context().Value(http.ServerContextKey) != nil
		return
	}
	if tx.reply != nil {
		w.send(tx.reply)
	}
	if tx.closing != staysOpen {
		w.shut()
	}
}

func (w *responseWriter) send(r *reply) {
	h := w.Header()
	clear(h)
	maps.Copy(h, w.initial)
	maps.Copy(h, r.header)
	w.tx.addOutcome(h)
	if (w.last || w.tx.closing == closeFIN) && w.tx.r.ProtoMajor == 1 {
		h.Set("Connection", "close") // in HTTP/2 this would end all streams
	}
	w.farewell(r.status)
	w.status = int32(r.status)
	bodyless := r.status == http.StatusNoContent || r.status == http.StatusNotModified
	if !bodyless {
		h["Content-Length"] = []string{strconv.Itoa(len(r.body))}
	}
	w.ResponseWriter.WriteHeader(r.status)
	if !bodyless && w.tx.r.Method != http.MethodHead {
		n, _ := w.ResponseWriter.Write(r.body)
		w.bytes += int64(n)
	}
}

// closeGrace is how long the client has to close its side after our FIN.
// Closing at once with unread data would send RST.
const closeGrace = 500 * time.Millisecond

// shut closes the client's connection.
func (w *responseWriter) shut() {
	if w.tx.reply != nil {
		if w.tx.closing == closeFIN && w.tx.r.ProtoMajor == 1 {
			return // the header "Connection: close" has it done
		}
		_ = http.NewResponseController(w.ResponseWriter).Flush()
	}
	if w.tx.r.ProtoMajor != 1 {
		w.abort = w.tx.reply == nil || w.tx.closing == closeRST
		return
	}
	conn, buffered, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		w.abort = true
		return
	}
	w.hijacked = true
	defer conn.Close()
	_ = buffered.Flush()
	tcp := accept.TCPConn(conn)
	switch {
	case tcp == nil:
	case w.tx.closing == closeRST:
		resetConn(conn)
	default:
		if tcp.CloseWrite() == nil && tcp.SetReadDeadline(time.Now().Add(closeGrace)) == nil {
			_, _ = io.CopyN(io.Discard, tcp, 64<<10)
		}
	}
}

// cut ends a response that is not complete. If an HTTP/1.0 client can know the
// end of the response only by the end of the connection, the connection must be
// reset.
func (w *responseWriter) cut() {
	if w.holding {
		w.status = 0 // nothing of it was sent
		return
	}
	r := w.tx.r
	if w.status == 0 || w.replaced || w.hijacked || r.ProtoMajor != 1 || r.ProtoMinor > 0 ||
		r.Method == http.MethodHead || len(w.Header()["Content-Length"]) > 0 {
		return
	}
	conn, _, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return
	}
	w.hijacked = true
	defer conn.Close()
	resetConn(conn)
}

// resetConn resets the TCP connection beneath conn. To close a TLS connection
// could send a regular end first.
func resetConn(conn net.Conn) {
	if tcp := accept.TCPConn(conn); tcp != nil {
		_ = tcp.SetLinger(0)
		_ = tcp.Close()
	}
}

// WriteHeader implements http.ResponseWriter.
func (w *responseWriter) WriteHeader(status int) {
	switch {
	case w.replaced, w.holding:
	case status >= 100 && status < 200 && status != http.StatusSwitchingProtocols:
		if w.knowsInterim() {
			w.ResponseWriter.WriteHeader(status)
		}
	case w.begun():
		w.ResponseWriter.WriteHeader(status)
	case w.users.enter():
		defer w.leave()
		if w.begin(status) {
			w.writeHeader(status)
		}
	}
}

// knowsInterim reports whether the client understands informational responses
// (RFC 9110, section 15.2).
func (w *responseWriter) knowsInterim() bool {
	if !w.users.enter() {
		return false
	}
	defer w.leave()
	return w.tx.r.ProtoAtLeast(1, 1)
}

// ready begins the response if it has not begun. It fails if another response
// than the handler's is sent.
func (w *responseWriter) ready() error {
	if !w.begun() {
		w.WriteHeader(http.StatusOK)
	}
	if w.replaced || !w.begun() {
		return errReplaced
	}
	return nil
}

// Write implements http.ResponseWriter.
func (w *responseWriter) Write(p []byte) (int, error) {
	if err := w.ready(); err != nil {
		return 0, err
	}
	if w.holding {
		return w.hold(p)
	}
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}

// WriteString implements io.StringWriter.
func (w *responseWriter) WriteString(s string) (int, error) {
	if err := w.ready(); err != nil {
		return 0, err
	}
	if w.holding {
		return w.Write([]byte(s))
	}
	n, err := io.WriteString(w.ResponseWriter, s)
	w.bytes += int64(n)
	return n, err
}

// ReadFrom implements io.ReaderFrom, so that files still go to the client
// without a copy.
//
// The response begins with the first byte of src. Until then there may be
// another answer, and if src is the request's body, a client that expects 100
// (Continue) must get it.
func (w *responseWriter) ReadFrom(src io.Reader) (n int64, err error) {
	if !w.begun() {
		const first = 512
		n, err = io.Copy(struct{ io.Writer }{w}, io.LimitReader(src, first))
		if err != nil || n < first {
			return n, err
		}
	}
	if err := w.ready(); err != nil {
		return n, err
	}
	if w.holding {
		rest, err := io.Copy(struct{ io.Writer }{w}, src)
		return n + rest, err
	}
	rest, err := io.Copy(w.ResponseWriter, src)
	w.bytes += rest
	return n + rest, err
}

// Flush implements http.Flusher.
func (w *responseWriter) Flush() { _ = w.FlushError() }

// FlushError is what http.ResponseController calls for Flush.
func (w *responseWriter) FlushError() error {
	if err := w.ready(); err != nil || w.holding {
		return err
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Unwrap is how http.ResponseController finds the server's writer.
func (w *responseWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Hijack implements http.Hijacker.
func (w hijackableWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if w.replaced || !w.users.enter() {
		return nil, nil, http.ErrHijacked
	}
	defer w.leave()
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil {
		w.tx.hijack(conn)
	}
	return conn, rw, err
}
