package limpet

import (
	"context"
	"crypto/tls"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"
)

// A serverObserver counts and logs what goes wrong in a server of net/http
// before a handler is called, and what the server logs.
//
// The server does not tell of requests that it refuses. But a connection that
// is closed after a request has begun, and before a handler is called for it,
// has ended with one of those. Of a later request on a connection, which the
// server has in its buffer as a whole, it does not tell the beginning.
type serverObserver struct {
	vs     *VirtualService
	server *http.Server
	next   http.Handler
	plain  plainLog // for what the service has no Logger for
}

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
		defer c.Wait(o.patience())
	} else {
		c.Leave() // streams have deadlines of their own
	}
	o.next.ServeHTTP(w, r)
}

// patience is how long a client may keep the server waiting while no handler
// runs: as long as the longest of the server's own timeouts, which come first
// where the server has set them. It has no end, which is 0, where the program
// has set another handler: that may be at work without this one.
func (o *serverObserver) patience() time.Duration {
	if o.server.Handler != http.Handler(o) {
		return 0
	}
	return max(serverBodyTimeout, o.server.IdleTimeout, o.server.ReadHeaderTimeout, o.server.ReadTimeout)
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
		c.Wait(o.patience())
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
	if t, ok := nc.(*tls.Conn); ok && t.ConnectionState().NegotiatedProtocol == "h2" {
		return // its streams are requests
	}
	if !c.Pending.Load() || o.server.Handler != http.Handler(o) {
		return
	}
	o.vs.counters.badRequests.Add(1)
	o.log(slog.LevelWarn, "bad request", 1, slog.String("client", addrText(c.Client())))
}

// log writes at most so many lines of a kind in a second.
func (o *serverObserver) log(level slog.Level, message string, rate int, attrs ...slog.Attr) {
	s := o.vs.current.Load()
	suppressed, ok := s.denials.of(message).pass(time.Now(), rate)
	if !ok {
		return
	}
	if attrs = append(attrs, slog.String("vs", s.Name)); suppressed > 0 {
		attrs = append(attrs, slog.Int64("suppressed", suppressed))
	}
	s.Logger.LogAttrs(context.Background(), level, message, attrs...) //nolint:sloglint // each caller has a constant
}

// Write implements io.Writer for the server's ErrorLog.
func (o *serverObserver) Write(p []byte) (int, error) {
	line := strings.TrimSpace(string(p))
	c := complaintOf(line)
	if c.message == handshakeFailed {
		o.vs.counters.failedHandshakes.Add(1)
	} else if !o.vs.current.Load().Logger.Enabled(context.Background(), slog.LevelError) {
		o.plain.print(c, line)
		return len(p), nil
	}
	o.log(c.level, c.message, c.rate, c.attrs...)
	return len(p), nil
}

// A complaint is a line of a server's ErrorLog.
type complaint struct {
	level   slog.Level
	message string // its kind
	rate    int    // lines of this kind in a second
	attrs   []slog.Attr
}

const handshakeFailed = "TLS handshake failed"

// complaintOf finds out the kind of a line. What clients can bring about must
// not push out of the log what is wrong with the program.
func complaintOf(line string) complaint {
	if rest, ok := strings.CutPrefix(line, "http: TLS handshake error from "); ok {
		client, reason, _ := strings.Cut(rest, ": ")
		return complaint{slog.LevelWarn, handshakeFailed, 1, []slog.Attr{slog.String("client", client), slog.String("error", reason)}}
	}
	text := []slog.Attr{slog.String("error", line)}
	if strings.HasPrefix(line, "http2: ") && !strings.HasPrefix(line, "http2: panic") || strings.HasPrefix(line, "timeout waiting for ") {
		return complaint{slog.LevelWarn, "HTTP/2 connection failed", 1, text}
	}
	return complaint{slog.LevelError, "server error", 10, text}
}

// A plainLog is a server's ErrorLog that writes to the standard logger, but not
// more than so many lines of a kind in a second.
type plainLog struct{ kinds denials }

// Write implements io.Writer.
func (l *plainLog) Write(p []byte) (int, error) {
	line := strings.TrimSpace(string(p))
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
