package limpet

import (
	"context"
	"crypto/tls"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/limpetlb/limpet/internal/accept"
)

// A serverObserver counts and logs the failures in a server of net/http before
// a handler is called, and the lines that the server logs.
//
// The server does not report the requests that it refuses. But if a connection
// is closed after a request has begun, and before a handler is called for it,
// the server has refused that request. For a later request that is in the
// server's buffer as a whole, the server does not report the beginning.
type serverObserver struct {
	vs     *VirtualService
	server *http.Server
	next   http.Handler
	plain  plainLog // for lines without a Logger

	// failed has the reasons why handshakes have failed, by the address of the
	// client: net/http logs the reason, and closes the connection then.
	failed  sync.Map     // string → string
	waiting atomic.Int32 // entries of failed
}

// maxFailed bounds failed: if a program has set ConnState itself, nothing takes
// entries out.
const maxFailed = 1024

// ServeHTTP notes that a handler is called.
func (o *serverObserver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	c := o.vs.gate.At(local)
	if c == nil {
		o.next.ServeHTTP(w, r)
		return
	}
	c.Pending.Store(false)
	if r.ProtoMajor == 1 {
		c.Serve()
		defer c.Wait(o.clientTimeout())
	} else {
		c.Leave() // streams have deadlines of their own
	}
	o.next.ServeHTTP(w, r)
}

// clientTimeout returns how long a client may keep the server waiting while no
// handler runs: as long as the longest of the server's own timeouts, so that
// these apply first. It returns 0, which is no limit, if the program has set
// another handler, which may be running unseen.
func (o *serverObserver) clientTimeout() time.Duration {
	if o.server.Handler != http.Handler(o) {
		return 0
	}
	return max(o.vs.bodyTimeout(), o.server.IdleTimeout, o.server.ReadHeaderTimeout, o.server.ReadTimeout)
}

// connState implements http.Server.ConnState.
func (o *serverObserver) connState(nc net.Conn, state http.ConnState) {
	c := o.vs.gate.Beneath(nc)
	if c == nil {
		return
	}
	switch state {
	case http.StateActive:
		c.Pending.Store(true)
		c.Wait(o.clientTimeout())
		o.shaken(nc, c)
		return
	case http.StateIdle:
		if o.server.IdleTimeout <= 0 && o.server.ReadTimeout <= 0 {
			c.Serve() // it may be idle for ever
		}
		return
	case http.StateHijacked:
		c.Leave()
		return
	case http.StateNew:
		return
	}
	o.shaken(nc, c)
	if t, ok := nc.(*tls.Conn); ok && t.ConnectionState().NegotiatedProtocol == "h2" {
		return // its streams are requests
	}
	if !c.Pending.Load() || o.server.Handler != http.Handler(o) {
		return
	}
	o.vs.counters.badRequests.Add(1)
	c.Counts().WithoutRequest.Add(1)
	o.log(slog.LevelWarn, "bad request", 1, slog.String("client", addrText(c.Client())))
}

// shaken counts how the TLS handshake of a connection has ended, once.
func (o *serverObserver) shaken(nc net.Conn, c *accept.Conn) {
	t, ok := nc.(*tls.Conn)
	if !ok || c.Handshaken.Swap(true) {
		return
	}
	if state := t.ConnectionState(); state.HandshakeComplete {
		c.Counts().Handshakes.Add(tlsVersion(state.Version))
		return
	}
	reason, ok := o.failed.LoadAndDelete(nc.RemoteAddr().String())
	if !ok {
		reason = handshakeOther
	} else {
		o.waiting.Add(-1)
	}
	c.Counts().HandshakeErrors.Add(reason.(string))
}

// noteFailure notes why the handshake of a client has failed.
func (o *serverObserver) noteFailure(client, reason string) {
	if o.waiting.Add(1) > maxFailed {
		o.waiting.Add(-1)
		return
	}
	if _, had := o.failed.Swap(client, handshakeReason(reason)); had {
		o.waiting.Add(-1)
	}
}

// tlsVersion returns a version of TLS as counts have it.
func tlsVersion(version uint16) string {
	return strings.TrimPrefix(tls.VersionName(version), "TLS ")
}

// handshakeOther is the reason of a failed handshake that handshakeReason does
// not know.
const handshakeOther = "other"

// handshakeReason returns the reason of a failed handshake, given the error of
// crypto/tls, as counts have it.
func handshakeReason(text string) string {
	has := func(parts ...string) bool {
		return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(text, part) })
	}
	switch {
	case has("remote error: tls: "):
		return "client_alert"
	case has("HTTP request to an HTTPS server", "does not look like a TLS handshake"):
		return "not_tls"
	case has("unsupported versions", "protocol version"):
		return "version"
	case has("cipher suite"):
		return "cipher"
	case has("no certificate for ", "no certificates configured", "unrecognized name", "SNI"):
		return "sni"
	case has("client didn't provide a certificate", "client certificate", "client's certificate", "failed to verify certificate", "revocation list", "revoked"):
		return "client_cert"
	case has("timeout", "deadline exceeded"):
		return "timeout"
	case has("EOF", "reset by peer", "broken pipe", "closed"):
		return "closed"
	}
	return handshakeOther
}

// log writes at most rate lines of a kind per second. It reports false if the
// Logger has panicked.
func (o *serverObserver) log(level slog.Level, message string, rate int, attrs ...slog.Attr) (done bool) {
	defer o.vs.survive()
	s := o.vs.current.Load()
	suppressed, ok := s.denials.of(message).pass(time.Now(), rate)
	if !ok {
		return true
	}
	if attrs = append(attrs, slog.String("vs", s.Name)); suppressed > 0 {
		attrs = append(attrs, slog.Int64("suppressed", suppressed))
	}
	s.Logger.LogAttrs(context.Background(), level, message, attrs...) //nolint:sloglint // each caller has a constant
	return true
}

// survive reports to the standard logger, at most ten times a second, that the
// Logger or OnComplete panics. Code that accepts and closes connections must
// defer it, since nothing else recovers there and the process would end.
func (vs *VirtualService) survive() {
	if v := recover(); v != nil {
		vs.panics.print(complaint{message: "panic", rate: 10}, fmt.Sprintf("limpet: panic in the Logger or OnComplete: %v\n%s", v, debug.Stack()))
	}
}

// Write implements io.Writer for the server's ErrorLog.
func (o *serverObserver) Write(p []byte) (int, error) {
	line := complaintLine(p)
	c := complaintOf(line)
	if c.message == handshakeFailed {
		o.vs.counters.failedHandshakes.Add(1)
		o.noteFailure(c.client, c.reason)
	} else if !o.vs.current.Load().Logger.Enabled(context.Background(), slog.LevelError) {
		o.plain.print(c, line)
		return len(p), nil
	}
	if !o.log(c.level, c.message, c.rate, c.attrs...) {
		o.plain.print(c, line)
	}
	return len(p), nil
}

// A complaint is a line of a server's ErrorLog.
type complaint struct {
	level   slog.Level
	message string // its kind
	rate    int    // lines of this kind in a second
	attrs   []slog.Attr

	client, reason string // of a failed handshake
}

const handshakeFailed = "TLS handshake failed"

// complaintLine returns the part of a line that is logged. It leaves out the
// quotation of the first bytes of a client that agrees on HTTP/2 and speaks
// another protocol, which may have a query.
func complaintLine(p []byte) string {
	line := strings.TrimSpace(string(p))
	if what, _, quoted := strings.Cut(line, ": bogus greeting"); quoted && strings.HasPrefix(line, "http2: ") {
		return what + ": bogus greeting"
	}
	return line
}

// complaintOf finds the kind of a line. Complaints that clients can cause must
// not push those about the program out of the log.
func complaintOf(line string) complaint {
	if rest, ok := strings.CutPrefix(line, "http: TLS handshake error from "); ok {
		client, reason, _ := strings.Cut(rest, ": ")
		return complaint{
			level: slog.LevelWarn, message: handshakeFailed, rate: 1,
			attrs: []slog.Attr{slog.String("client", client), slog.String("error", logged(reason))}, client: client, reason: reason,
		}
	}
	text := []slog.Attr{slog.String("error", line)}
	if strings.HasPrefix(line, "http2: ") && !strings.HasPrefix(line, "http2: panic") || strings.HasPrefix(line, "timeout waiting for ") {
		return complaint{level: slog.LevelWarn, message: "HTTP/2 connection failed", rate: 1, attrs: text}
	}
	return complaint{level: slog.LevelError, message: "server error", rate: 10, attrs: text}
}

// A plainLog is a server's ErrorLog that writes a limited number of lines of
// each kind per second to the standard logger.
type plainLog struct{ kinds denials }

// Write implements io.Writer.
func (l *plainLog) Write(p []byte) (int, error) {
	line := complaintLine(p)
	l.print(complaintOf(line), line)
	return len(p), nil
}

func (l *plainLog) print(c complaint, line string) {
	suppressed, ok := l.kinds.of(c.message).pass(time.Now(), c.rate)
	switch {
	case !ok:
	case suppressed > 0:
		log.Printf("%s (%d lines of this kind were suppressed)", line, suppressed)
	default:
		log.Print(line)
	}
}
