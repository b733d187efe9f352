package limpet

import (
	"context"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/limpetlb/limpet/internal/clientaddr"
	"github.com/limpetlb/limpet/policy"
)

// Listener returns a listener that applies the network security rules to each
// connection that ln accepts: those that are denied are reset, before TLS and
// before a request is read, and Accept goes on to the next. Give it to the
// [net/http.Server] that serves vs, or to [crypto/tls.NewListener].
func (vs *VirtualService) Listener(ln net.Listener) net.Listener {
	return &listener{ln, vs}
}

type listener struct {
	net.Listener
	vs *VirtualService
}

// Accept waits for a connection that may proceed.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c = l.vs.judge(c); c != nil {
			return c, nil
		}
	}
}

// judge applies network security to a connection. It returns nil if the
// connection was denied.
func (vs *VirtualService) judge(c net.Conn) net.Conn {
	s := vs.current.Load()
	if len(s.NetworkSecurity) == 0 {
		return c
	}
	peer, local := tcpAddr(c.RemoteAddr()), tcpAddr(c.LocalAddr())
	v := s.network.Evaluate(policy.Conn{Client: peer, Local: local})
	if v.Denied() {
		if tcp := tcpConn(c); tcp != nil && v.Action != policy.NetworkDrop {
			_ = tcp.SetLinger(0)
		}
		_ = c.Close()
		r := Record{
			VirtualService: s.Name, Start: time.Now(), Connection: true, Closed: true,
			Client: peer, Source: peer, Local: local, NetworkRule: v.Rule, Error: v.Err,
		}
		r.dropped(v.Limited)
		vs.emit(s, context.Background(), &r)
		return nil
	}
	ends := connEnds{peer, local}
	vs.judged.add(ends)
	return &judgedConn{Conn: c, forget: sync.OnceFunc(func() { vs.judged.remove(ends) })}
}

func tcpAddr(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	addr := tcp.AddrPort()
	return netip.AddrPortFrom(clientaddr.Normalize(addr.Addr()), addr.Port())
}

// judgedConns are the connections that were judged when they were accepted,
// so that their requests need not be. A rule that comes later
// applies to later connections only.
type judgedConns struct{ ends sync.Map }

// connEnds tell one connection from all others.
type connEnds struct{ peer, local netip.AddrPort }

func (j *judgedConns) add(c connEnds)    { j.ends.Store(c, nil) }
func (j *judgedConns) remove(c connEnds) { j.ends.Delete(c) }

func (j *judgedConns) has(c connEnds) bool {
	_, ok := j.ends.Load(c)
	return ok
}

// A judgedConn is forgotten when it is closed.
type judgedConn struct {
	net.Conn
	forget func()
}

// Close closes the connection.
func (c *judgedConn) Close() error {
	c.forget()
	return c.Conn.Close()
}

// NetConn returns the connection beneath.
func (c *judgedConn) NetConn() net.Conn { return c.Conn }

// ReadFrom lets the kernel copy files.
func (c *judgedConn) ReadFrom(r io.Reader) (int64, error) { return io.Copy(c.Conn, r) }

// CloseWrite closes the sending side, for servers that ask for it.
func (c *judgedConn) CloseWrite() error {
	if tcp := tcpConn(c.Conn); tcp != nil {
		return tcp.CloseWrite()
	}
	return c.Close()
}
