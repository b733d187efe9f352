package admin

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

type peerKey struct{}

// A peer is the process at the other end of a Unix socket.
type peer struct{ text string }

func (p peer) String() string { return p.text }

// serverWrite is how long an answer may take. A profile needs maxProfile of it;
// streams have times of their own.
const serverWrite = 90 * time.Second

// NewServer returns a server for a, with time-outs and limits: 10 s and 16 KiB
// for the header of a request, 90 s for an answer that is no stream, 64
// connections. Its Serve may be called for Unix
// sockets, whose callers get [Config].SocketRole, and for TCP. Only at Unix
// sockets that this server serves is a caller known by its socket: a program
// that mounts the Admin in a server of its own says who callers are with
// [WithRole], or they need tokens.
//
// The server's error log is [Config].Logger.
func NewServer(a *Admin) *http.Server {
	var open atomic.Int64
	srv := &http.Server{
		Handler:           a,
		ReadHeaderTimeout: 10 * time.Second,
		WriteTimeout:      serverWrite,
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(a.log.Handler(), slog.LevelWarn),
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxConnections, SendPingTimeout: 30 * time.Second, WriteByteTimeout: streamWrite},

		DisableGeneralOptionsHandler: true,
	}
	srv.ConnState = func(c net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			if open.Add(1) > maxConnections {
				_ = c.Close() // the server goes on to StateClosed
			}
		case http.StateClosed, http.StateHijacked:
			open.Add(-1)
		}
	}
	srv.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if t, ok := c.(interface{ NetConn() net.Conn }); ok {
			c = t.NetConn() // below TLS
		}
		if u, ok := c.(*net.UnixConn); ok {
			return context.WithValue(ctx, peerKey{}, peer{peerOf(u)})
		}
		return ctx
	}
	srv.RegisterOnShutdown(a.live.endStreams)
	return srv
}
