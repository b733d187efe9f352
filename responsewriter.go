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
)

// A responseWriter lets the response stages see a response once, just before
// its header goes to the client. Everything else passes through: informational
// responses, trailers, flushes, and by Unwrap what http.ResponseController
// asks of the server's own writer.
type responseWriter struct {
	http.ResponseWriter
	tx      *Transaction
	initial http.Header // what stood in the header before us

	expected bool           // a server or a handler was asked to answer
	status   int            // of the response, once it has begun
	upgrade  *http.Response // the server's answer, if it switches protocols
	replaced bool           // an answer of our own has gone out; the handler's is dropped
	hijacked bool           // by the handler, or to close the connection
	abort    bool           // the connection or stream has to be torn down
	bytes    int64          // of the body
}

// hijackableWriter is for servers that can give away the connection, which
// HTTP/2 cannot.
type hijackableWriter struct{ *responseWriter }

// errReplaced is what a handler gets that goes on writing a response in whose
// place another one has been sent.
var errReplaced = errors.New("limpet: the response was replaced or the connection closed")

func (w *responseWriter) begun() bool { return w.status != 0 || w.replaced || w.hijacked }

// begin runs the response stages. It reports whether the handler's response
// is to be sent.
func (w *responseWriter) begin(status int) bool {
	w.status = status
	for _, stage := range responseStages {
		if stage(w.tx); w.tx.ended() {
			w.deliver()
			return false
		}
	}
	return true
}

// deliver sends an answer of our own, closes the connection, or both.
func (w *responseWriter) deliver() {
	w.replaced = true
	tx := w.tx
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
	if w.tx.closing == closeFIN {
		h.Set("Connection", "close")
	}
	w.status = r.status
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
	tcp := tcpConn(conn)
	switch {
	case tcp == nil:
	case w.tx.closing == closeRST:
		_ = tcp.SetLinger(0)
		_ = tcp.Close() // not conn, which could be TLS and say goodbye first
	default:
		if tcp.CloseWrite() == nil && tcp.SetReadDeadline(time.Now().Add(closeGrace)) == nil {
			_, _ = io.CopyN(io.Discard, tcp, 64<<10)
		}
	}
}

// tcpConn finds the TCP connection beneath others.
func tcpConn(c net.Conn) *net.TCPConn {
	for {
		switch conn := c.(type) {
		case *net.TCPConn:
			return conn
		case interface{ NetConn() net.Conn }:
			c = conn.NetConn()
		default:
			return nil
		}
	}
}

// WriteHeader implements http.ResponseWriter.
func (w *responseWriter) WriteHeader(status int) {
	switch {
	case w.replaced:
	case status >= 100 && status < 200 && status != http.StatusSwitchingProtocols, w.begun():
		w.ResponseWriter.WriteHeader(status)
	case w.begin(status):
		w.ResponseWriter.WriteHeader(status)
	}
}

// ready sees to it that the response has begun. It fails if the handler's
// response is not the one that is sent.
func (w *responseWriter) ready() error {
	if !w.begun() {
		w.WriteHeader(http.StatusOK)
	}
	if w.replaced {
		return errReplaced
	}
	return nil
}

// Write implements http.ResponseWriter.
func (w *responseWriter) Write(p []byte) (int, error) {
	if err := w.ready(); err != nil {
		return 0, err
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
	n, err := io.WriteString(w.ResponseWriter, s)
	w.bytes += int64(n)
	return n, err
}

// ReadFrom implements io.ReaderFrom, so that files still go to the client
// without a copy.
func (w *responseWriter) ReadFrom(src io.Reader) (int64, error) {
	if err := w.ready(); err != nil {
		return 0, err
	}
	n, err := io.Copy(w.ResponseWriter, src)
	w.bytes += n
	return n, err
}

// Flush implements http.Flusher.
func (w *responseWriter) Flush() { _ = w.FlushError() }

// FlushError is what http.ResponseController calls for Flush.
func (w *responseWriter) FlushError() error {
	if err := w.ready(); err != nil {
		return err
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Unwrap is how http.ResponseController finds the server's writer.
func (w *responseWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Hijack implements http.Hijacker.
func (w hijackableWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if w.replaced {
		return nil, nil, http.ErrHijacked
	}
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil {
		w.hijacked = true
		w.tx.record.Hijacked = true
	}
	return conn, rw, err
}
