package limpet

import (
	"cmp"
	"context"
	"net"
	"net/netip"
	"time"

	"github.com/limpetlb/limpet/internal/accept"
	"github.com/limpetlb/limpet/internal/bounds"
	"github.com/limpetlb/limpet/internal/clientaddr"
	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/policy"
)

// Listener returns a listener for the [net/http.Server] that serves vs, or for
// [crypto/tls.NewListener]. It applies the network security rules and
// [Clients].Connections to each connection that ln accepts. It closes a denied
// connection before TLS and before a request is read, and Accept goes on to the
// next one.
//
// A connection from a proxy that [Clients].ProxyProtocol names begins with a
// header. Accept does not read it, so a silent proxy delays nobody else; the
// first call of Read, RemoteAddr or LocalAddr does. RemoteAddr and LocalAddr of
// the connection are those in the header, and so is the RemoteAddr of requests.
// Hooks that run while connections are accepted, such as
// [net/http.Server].ConnContext, must not ask for addresses, since that waits
// for the header.
//
// The listener also counts the connections, for avi.vs.get_open_conns, which
// fails without it. Once it is closed, each response is the last of its
// connection, as after [VirtualService.Drain].
func (vs *VirtualService) Listener(ln net.Listener) net.Listener { return vs.gate.Listener(ln) }

// ConnectionLimits bound the connections that [VirtualService.Listener]
// accepts. The zero value has only the default limits of Max and WriteTimeout.
//
// Connections that network security rules deny are not counted. The limits
// apply in the order of the fields. Connections above Max or MaxPerClient are
// reset.
type ConnectionLimits struct {
	// Max is how many connections may be open at a time. Further ones are
	// reset. 0 means half of the file descriptors that the process may have,
	// less a few for files: the other half is for connections to servers. With
	// 0, further connections are not reset but wait to be accepted, and while
	// some may wait, responses over HTTP/1 close their connections. Negative
	// means no limit, and so does 0 where the system does not report its limit.
	Max int `max:"1_073_741_824" negative:"no limit"`
	// MaxPerClient is how many connections one client may have open. 0 means
	// any number.
	MaxPerClient int `min:"0" max:"1_073_741_824"`
	// RatePerClient is how often one client may connect. Count 0 means no
	// limit. Memory is bounded, as with any [policy.RateLimiter]: clients
	// beyond 65,536 share their rates.
	RatePerClient policy.Rate
	// Rate is how often all clients together may connect. Count 0 means no
	// limit.
	Rate policy.Rate
	// Exceeded is the action for connections above the rates:
	// policy.ActionClose, policy.ActionReset or policy.ActionReport. The zero
	// value means policy.ActionClose.
	Exceeded policy.Action

	// IPv4Bits is the prefix length of the IPv4 networks that are one client
	// each. 0 means 32.
	IPv4Bits int `default:"32" min:"1" max:"32"`
	// IPv6Bits is the same for IPv6. 0 means 64.
	IPv6Bits int `default:"64" min:"1" max:"128"`

	// WriteTimeout is how long a client may take nothing of the data that is
	// sent to it before the connection is closed, to within an eighth. 0 means
	// 60 s, negative no limit. It does not apply while a deadline is
	// set on the connection. With [NewServer] or [LimitBodies] it is also how
	// long the client of an HTTP/2 stream may take for each 64 KiB of a
	// response; the stream is then reset.
	WriteTimeout time.Duration `default:"60s" negative:"no limit"`
	// BodyTimeout is how long each part of the body of a request may take to
	// arrive, at a server made with [NewServer] or [LimitBodies]. 0 means 60 s.
	BodyTimeout time.Duration `default:"60s" min:"1s" max:"24h"`
	// DrainIdle is how long a connection may be idle after
	// [VirtualService.Drain] before [VirtualService.Shutdown] closes it. 0
	// means 5 s.
	DrainIdle time.Duration `default:"5s" min:"1ms" max:"24h"`
}

// limitNames are the names of the limits in records.
var limitNames = [...]string{
	accept.OverMax:          "connections.max",
	accept.OverMaxPerClient: "connections.maxPerClient",
	accept.OverClientRate:   "connections.ratePerClient",
	accept.OverRate:         "connections.rate",
}

// bodyTimeout is how long each part of a body may take. vs may be nil.
func (vs *VirtualService) bodyTimeout() time.Duration {
	if vs == nil {
		return serverBodyTimeout
	}
	return cmp.Or(vs.current.Load().Connections.BodyTimeout, serverBodyTimeout)
}

func (l ConnectionLimits) writeTimeout() time.Duration {
	bounds.SetDefaults(&l)
	return max(l.WriteTimeout, 0)
}

// connLimiters are the compiled form of ConnectionLimits.
type connLimiters struct {
	ConnectionLimits
	perClient, all *policy.RateLimiter // nil: no limit
}

// compile reports faults with the paths of their fields. Limiters of old whose
// settings have not changed keep their state.
func (l ConnectionLimits) compile(old *connLimiters, faults *fielderr.List) *connLimiters {
	c := &connLimiters{ConnectionLimits: l}
	bounds.Check("connections", l, faults)
	switch l.Exceeded {
	case policy.ActionNone, policy.ActionClose, policy.ActionReset, policy.ActionReport:
	default:
		faults.Addf("connections.exceeded", l.Exceeded, "not one of %v, %v, %v", policy.ActionClose, policy.ActionReset, policy.ActionReport)
	}
	limiter := func(field string, rate policy.Rate, keys int) *policy.RateLimiter {
		if rate == (policy.Rate{}) {
			return nil
		}
		limiter, err := policy.NewRateLimiter(policy.RateLimiterConfig{Rate: rate, MaxKeys: keys, IPv6Bits: 128})
		if err != nil {
			faults.AddUnder("connections."+field, err)
		}
		return limiter
	}
	c.perClient = limiter("ratePerClient", l.RatePerClient, 0)
	c.all = limiter("rate", l.Rate, 1)
	if old != nil && old.RatePerClient == l.RatePerClient && old.IPv4Bits == l.IPv4Bits && old.IPv6Bits == l.IPv6Bits {
		c.perClient = old.perClient
	}
	if old != nil && old.Rate == l.Rate {
		c.all = old.all
	}
	return c
}

// ProxyProtocol says from whom [VirtualService.Listener] expects the PROXY
// protocol, versions 1 and 2: a header before all other data, TLS included,
// with the addresses of the connection that the proxy has accepted. The zero
// value expects it from nobody.
//
// The networks in From must send the header: a connection without one is
// closed. From all other peers it is not understood, since a client that could
// send it could choose its address. A header without IP addresses (LOCAL,
// UNKNOWN, UNIX) leaves the connection's addresses as they are: the proxy
// speaks for itself.
type ProxyProtocol struct {
	// From are the networks of the proxies. Leave out networks from which
	// clients connect directly.
	From []netip.Prefix
	// HeaderTimeout is how long the header may take after the connection is
	// accepted, at most a minute. 0 means 5 s.
	HeaderTimeout time.Duration `default:"5s" min:"0s" max:"1m"`
}

// ErrProxyHeader means, in [Record].Error, that a connection was closed because
// a proxy that [ProxyProtocol] names sent no valid header.
var ErrProxyHeader = accept.ErrHeader

// acceptRules returns the rules that the configuration has for connections.
func (vs *VirtualService) acceptRules(s *snapshot) *accept.Rules {
	l := s.limiters
	r := &accept.Rules{
		Limits: accept.Limits{
			Max: l.Max, MaxPerClient: l.MaxPerClient, IPv4Bits: l.IPv4Bits, IPv6Bits: l.IPv6Bits, Exceeded: limitAction(l.Exceeded),
		},
		HeaderTimeout: s.ProxyProtocol.HeaderTimeout,
		WriteTimeout:  s.Connections.writeTimeout(),
		Report:        func(e accept.Event) { vs.reportConnection(s, e) },
	}
	if l.perClient != nil {
		r.AllowClient = l.perClient.AllowAddr
	}
	if l.all != nil {
		r.Allow = func() bool { return l.all.Allow("") }
	}
	if proxies, err := clientaddr.New(clientaddr.Config{Trusted: s.ProxyProtocol.From}); err == nil && len(s.ProxyProtocol.From) > 0 {
		r.FromProxy = proxies.Trusts
	}
	if len(s.NetworkSecurity) > 0 {
		r.Judge = s.judgeConnection
	}
	return r
}

func limitAction(a policy.Action) accept.Action {
	switch a {
	case policy.ActionReset:
		return accept.Reset
	case policy.ActionReport:
		return accept.Pass
	}
	return accept.Drop
}

// judgeConnection asks the network security rules.
func (s *snapshot) judgeConnection(client, local netip.AddrPort) accept.Verdict {
	v := s.network.Evaluate(client, local)
	judged := accept.Verdict{Rule: v.Rule, Err: v.Err, Log: v.Log, Limited: v.Limited}
	switch v.Action {
	case policy.ActionClose:
		judged.Action = accept.Drop
	case policy.ActionReset:
		judged.Action = accept.Reset
	}
	return judged
}

// reportConnection makes a record of a connection and hands it out.
func (vs *VirtualService) reportConnection(s *snapshot, e accept.Event) {
	defer vs.survive()
	r := Record{
		VirtualService: s.Name, Start: time.Now(), Connection: true, Closed: e.Closed,
		Client: e.Client, Source: e.Client, Local: e.Local, Proxy: e.Proxy,
	}
	switch {
	case e.Err != nil:
		r.Error = e.Err
		r.significant(BadProxyHeader)
	case e.Limit != accept.NoLimit:
		r.ConnectionLimit = limitNames[e.Limit]
		if e.Closed {
			r.dropped(true)
		}
	default:
		r.NetworkRule, r.Error = e.Verdict.Rule, e.Verdict.Err
		r.dropped(e.Verdict.Limited)
	}
	vs.emit(s, context.Background(), &r, nil)
}

// OpenConns returns how many connections are open at the listeners of the
// service that has accepted the request's connection. ok is false if there was
// never such a listener.
func (tx *transaction) OpenConns() (n int, ok bool) {
	if tx.conn != nil {
		return tx.conn.Open(), true
	}
	return tx.vs.gate.Stats().Open, tx.vs.gate.Listening()
}
