package limpet

import (
	"context"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/limpetlb/limpet/internal/clientaddr"
	"github.com/limpetlb/limpet/policy"
)

// Listener returns a listener for the [net/http.Server] that serves vs, or for
// [crypto/tls.NewListener]. To each connection that ln accepts it applies the
// network security rules and [Config].Connections: one that is denied is
// closed before TLS and before a request is read, and Accept goes on to the
// next.
//
// A connection from a proxy that [Config].ProxyProtocol names begins with a
// header, which is read by whoever first reads the connection or asks for its
// addresses, not by Accept: a silent proxy holds up nobody else. RemoteAddr
// and LocalAddr of the connection then are those in the header, and so is the
// RemoteAddr of requests. Hooks that run while connections are accepted, such
// as [net/http.Server].ConnContext, must not ask for addresses, or they wait for
// the header.
//
// It counts the connections, too, for avi.vs.get_open_conns, which fails
// without it.
func (vs *VirtualService) Listener(ln net.Listener) net.Listener {
	vs.listening.Store(true)
	return &listener{Listener: ln, vs: vs}
}

type listener struct {
	net.Listener
	vs     *VirtualService
	closed atomic.Bool
}

// Close closes the listener.
func (l *listener) Close() error {
	l.closed.Store(true)
	l.vs.open.mu.Lock()
	l.vs.open.changed.Broadcast()
	l.vs.open.mu.Unlock()
	return l.Listener.Close()
}

// Accept waits for a connection that may proceed.
func (l *listener) Accept() (net.Conn, error) {
	for {
		if most := l.vs.files; most > 0 && l.vs.current.Load().Connections.Max == 0 && !l.vs.open.await(most, l.closed.Load) {
			return nil, net.ErrClosed
		}
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c = l.vs.accepted(c); c != nil {
			return c, nil
		}
	}
}

// accepted returns the connection as it is to be used, or nil if it was
// denied.
func (vs *VirtualService) accepted(raw net.Conn) net.Conn {
	s := vs.current.Load()
	c := newConn(vs, s, raw)
	open := vs.open.enter()
	if limit := s.Connections.Max; limit > 0 && open > limit {
		c.exceeds(s, limitMax, policy.ActionReset)
		return nil
	}
	if s.proxies.Trusts(c.ends.peer.Addr()) {
		return &proxiedConn{conn: c, deadline: time.Now().Add(s.ProxyProtocol.headerTimeout())}
	}
	if !c.admitted(s) {
		return nil
	}
	return c
}

// admitted judges a connection whose ends are known. If it reports false, it
// has closed the connection.
func (c *conn) admitted(s *snapshot) bool {
	if len(s.NetworkSecurity) > 0 {
		v := s.network.Evaluate(c.ends.peer, c.ends.local)
		if v.Ended {
			c.deny(v.Action == policy.ActionReset)
			c.emit(s, Record{NetworkRule: v.Rule, Error: v.Err}, v.Limited)
			return false
		}
		c.judged, c.rule, c.err = true, v.Rule, v.Err
		c.log.Store(v.Log)
	}
	if limit, action := s.limiters.exceeded(c); limit != "" && !c.exceeds(s, limit, action) {
		return false
	}
	c.register()
	return true
}

// exceeds does what is to be done with a connection above a limit, and reports
// whether the connection goes on.
func (c *conn) exceeds(s *snapshot, limit string, action policy.Action) bool {
	c.vs.counters.limitedConns.Add(1)
	if action != policy.ActionReport {
		c.deny(action == policy.ActionReset)
	}
	c.emit(s, Record{ConnectionLimit: limit}, true)
	return action == policy.ActionReport
}

// deny closes the connection, with RST or without.
func (c *conn) deny(reset bool) {
	if tcp := tcpConn(c.Conn); tcp != nil && reset {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
	c.denied = true
	c.vs.counters.deniedConns.Add(1)
}

// emit completes the record of a connection and hands it out.
func (c *conn) emit(s *snapshot, r Record, limited bool) {
	r.VirtualService, r.Start, r.Connection, r.Closed = s.Name, time.Now(), true, c.denied
	r.Client, r.Source, r.Local, r.Proxy = c.ends.peer, c.ends.peer, c.ends.local, c.proxy
	if c.denied && len(r.Significant) == 0 {
		r.dropped(limited)
	}
	c.vs.emit(s, context.Background(), &r)
}

// countConns is for avi.vs.get_open_conns: the open connections that
// [VirtualService.Listener] has accepted, or a negative number if there is no
// such listener to count them.
func (vs *VirtualService) countConns() int {
	if !vs.listening.Load() {
		return -1
	}
	return vs.open.total()
}

// tcpAddr returns the address and port of a TCP connection's end, and the zero
// value for other ends.
func tcpAddr(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	addr := tcp.AddrPort()
	return netip.AddrPortFrom(clientaddr.Normalize(addr.Addr()), addr.Port())
}
