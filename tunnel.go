package limpet

import (
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/limpetlb/limpet/internal/splice"
	"github.com/limpetlb/limpet/lbpool"
)

// A script may end the processing of HTTP on the client's connection. limpet
// sends the response as usual. Then it takes the connection over and makes a
// new one to the same server, for this client alone. It passes on all bytes of
// either connection unchanged, without policies and events.

// CanTunnel reports whether the client's connection can become a tunnel to the
// server in use. It cannot in HTTP/2 and HTTP/1.0, without a server, and to a
// server that speaks TLS; nor while a body may still be on its way, because its
// rest would pass for data of the tunnel. A connection that switches protocols
// is a tunnel already.
func (tx *transaction) CanTunnel() bool {
	if tx.rw.upgrade != nil {
		return true
	}
	_, hijackable := tx.writer().(hijackableWriter)
	return hijackable && tx.r.ProtoMajor == 1 && tx.r.ProtoMinor == 1 && tx.route.Server != nil && !tx.serverTLS &&
		(tx.r.Body == nil || tx.r.Body == http.NoBody || tx.requestWhole) &&
		tx.rw.status != 0 && len(tx.w.Header()["Trailer"]) == 0
}

// Tunnel makes the client's connection a tunnel when the response has been
// sent.
func (tx *transaction) Tunnel() { tx.tunneled = tx.rw.upgrade == nil }

// tunnel passes on all bytes after the response, until both sides or the
// request's context have ended.
func (tx *transaction) tunnel() {
	control := http.NewResponseController(tx.rw.ResponseWriter)
	_ = control.Flush()
	client, buffered, err := control.Hijack()
	if err != nil {
		tx.rw.abort = true
		return
	}
	tx.hijack(client)
	defer client.Close()
	if err := tx.endBody(buffered); err != nil {
		return
	}
	lease, err := tx.route.Pool.Acquire(lbpool.Hint{Server: tx.route.Server.Addr()})
	if err != nil {
		tx.record.Error = err
		return
	}
	outcome := lbpool.Outcome{Err: lbpool.ErrAborted}
	defer func() { lease.Release(outcome) }()
	if lease.Server != tx.route.Server {
		tx.record.Error = errTunnelServer
		return
	}
	dialer := net.Dialer{Timeout: tunnelDialTimeout}
	server, err := dialer.DialContext(tx.r.Context(), "tcp", lease.Server.Addr().String())
	if err != nil {
		outcome.Err = err
		tx.record.Error = err
		return
	}
	defer server.Close()
	outcome.Err = nil

	_ = client.SetDeadline(time.Time{}) // those of the HTTP server
	splice.Join(tx.r.Context(), client, buffered.Reader, splice.LimitIdle(server, tx.route.Pool.StreamIdleTimeout()))
}

// tunnelDialTimeout bounds the time to connect to the server for a tunnel.
const tunnelDialTimeout = 5 * time.Second

// errTunnelServer is in the record if the server that has answered accepts no
// more connections.
var errTunnelServer = errors.New("the server of a tunnel is not available any more")

// endBody writes the end of a response as net/http does: the last chunk, if the
// length was not known before.
func (tx *transaction) endBody(w interface {
	io.Writer
	Flush() error
}) error {
	chunked := len(tx.rw.Header()["Content-Length"]) == 0 && tx.r.Method != http.MethodHead &&
		tx.rw.status != http.StatusNoContent && tx.rw.status != http.StatusNotModified
	if !chunked {
		return nil
	}
	if _, err := io.WriteString(w, "0\r\n\r\n"); err != nil {
		return err
	}
	return w.Flush()
}
