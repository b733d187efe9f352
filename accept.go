package limpet

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/limpetlb/limpet/internal/accept"
	"github.com/limpetlb/limpet/internal/clientaddr"
	"github.com/limpetlb/limpet/policy"
)

// Listener returns a listener for the [net/http.Server] that serves vs, or for
// [crypto/tls.NewListener]. To each connection that ln accepts it applies the
// network security rules and [Clients].Connections: one that is denied is
// closed before TLS and before a request is read, and Accept goes on to the
// next.
//
// A connection from a proxy that [Clients].ProxyProtocol names begins with a
// header, which is read by whoever first reads the connection or asks for its
// addresses, not by Accept: a silent proxy holds up nobody else. RemoteAddr
// and LocalAddr of the connection then are those in the header, and so is the
// RemoteAddr of requests. Hooks that run while connections are accepted, such
// as [net/http.Server].ConnContext, must not ask for addresses, or they wait for
// the header.
//
// It counts the connections, too, for avi.vs.get_open_conns, which fails
// without it.
func (vs *VirtualService) Listener(ln net.Listener) net.Listener { return vs.gate.Listener(ln) }

// ConnectionLimits bound the connections that [VirtualService.Listener]
// accepts. The zero value has no limits but those of Max and WriteTimeout.
//
// Connections that network security rules deny do not count. The limits apply
// in the order of the fields; what is above Max or MaxPerClient is reset.
type ConnectionLimits struct {
	// Max is how many connections may be open at a time; those above it are
	// reset. 0 means half of the file descriptors that the process may have,
	// less a few for files, so that the other half is left for connections
	// to servers; then those above it are not reset, but wait to be accepted,
	// and answers over HTTP/1 close their connections while some may wait.
	// -1 means any number, and so does 0 where the system does not
	// tell its limit.
	Max int
	// MaxPerClient is how many of them one client may have. 0 means any
	// number.
	MaxPerClient int
	// RatePerClient is how often one client may connect. Count 0 means as
	// often as it likes. As with any [policy.RateLimiter], memory is bounded
	// and clients beyond 65,536 share what they may do.
	RatePerClient policy.Rate
	// Rate is how often all clients together may connect. Count 0 means as
	// often as they like.
	Rate policy.Rate
	// Exceeded is what happens to connections above the rates:
	// policy.ActionClose, which the zero value stands for, policy.ActionReset or
	// policy.ActionReport.
	Exceeded policy.Action

	// IPv4Bits and IPv6Bits are the lengths of the prefixes that are taken
	// for one client. 0 means 32 and 64.
	IPv4Bits, IPv6Bits int

	// WriteTimeout is how long a client may take nothing of what is sent to
	// it before the connection is broken, to within an eighth. 0 means 60 s,
	// a negative value for ever. It does not apply while a deadline is set on
	// the connection.
	WriteTimeout time.Duration
}

// limitNames are the names of the limits in records.
var limitNames = [...]string{
	accept.OverMax:          "connections.max",
	accept.OverMaxPerClient: "connections.maxPerClient",
	accept.OverClientRate:   "connections.ratePerClient",
	accept.OverRate:         "connections.rate",
}

const defaultWriteTimeout = 60 * time.Second

func (l *ConnectionLimits) writeTimeout() time.Duration {
	if l.WriteTimeout == 0 {
		return defaultWriteTimeout
	}
	return max(l.WriteTimeout, 0)
}

// connLimiters are the compiled form of ConnectionLimits.
type connLimiters struct {
	ConnectionLimits
	perClient, all *policy.RateLimiter // nil: no limit
}

// compile reports faults with the paths of their fields. Limiters of old that
// are as wanted keep what they know.
func (l ConnectionLimits) compile(old *connLimiters, fault func(string, error)) *connLimiters {
	c := &connLimiters{ConnectionLimits: l}
	check := func(field string, n, most int) {
		if n < 0 || n > most {
			fault("connections."+field+": ", fmt.Errorf("%d is not between 0 and %d", n, most))
		}
	}
	if l.Max < -1 || l.Max > 1<<30 {
		fault("connections.max: ", fmt.Errorf("%d is not between -1 and %d", l.Max, 1<<30))
	}
	check("maxPerClient", l.MaxPerClient, 1<<30)
	check("ipv4Bits", l.IPv4Bits, 32)
	check("ipv6Bits", l.IPv6Bits, 128)
	switch l.Exceeded {
	case policy.ActionNone, policy.ActionClose, policy.ActionReset, policy.ActionReport:
	default:
		fault("connections.exceeded: ", fmt.Errorf("%q is not one of %v, %v, %v", l.Exceeded, policy.ActionClose, policy.ActionReset, policy.ActionReport))
	}
	limiter := func(field string, rate policy.Rate, keys int) *policy.RateLimiter {
		if rate == (policy.Rate{}) {
			return nil
		}
		limiter, err := policy.NewRateLimiter(policy.RateLimiterConfig{Rate: rate, MaxKeys: keys, IPv6Bits: 128})
		if err != nil {
			fault("connections."+field+".", err)
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
// protocol, versions 1 and 2: a header before anything else, TLS included, that
// tells the addresses of the connection which the proxy has accepted. The zero
// value expects it from nobody.
//
// From those it is expected from the header is required, and a connection
// without one is closed. From all others it is not understood: who could send
// it could choose an address. A header that names no IP addresses (LOCAL,
// UNKNOWN, UNIX) leaves the connection as it is: the proxy speaks for itself.
type ProxyProtocol struct {
	// From are the networks of the proxies. Do not put networks in that
	// clients connect from directly.
	From []netip.Prefix
	// HeaderTimeout is how long the header may take, from when the
	// connection is accepted. 0 means 5 s, the most is a minute.
	HeaderTimeout time.Duration
}

const (
	defaultHeaderTimeout = 5 * time.Second
	maxHeaderTimeout     = time.Minute
)

func (p *ProxyProtocol) headerTimeout() time.Duration {
	if p.HeaderTimeout == 0 {
		return defaultHeaderTimeout
	}
	return p.HeaderTimeout
}

// ErrProxyHeader is the reason, in [Record].Error, why a connection from a
// proxy that [ProxyProtocol] names was closed: it has sent no valid header.
var ErrProxyHeader = accept.ErrHeader

// acceptRules returns what the configuration says of connections.
func (vs *VirtualService) acceptRules(s *snapshot) *accept.Rules {
	l := s.limiters
	r := &accept.Rules{
		Limits: accept.Limits{
			Max: l.Max, MaxPerClient: l.MaxPerClient, IPv4Bits: l.IPv4Bits, IPv6Bits: l.IPv6Bits, Exceeded: limitAction(l.Exceeded),
		},
		HeaderTimeout: s.ProxyProtocol.headerTimeout(),
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
	vs.emit(s, context.Background(), &r)
}

// countConns is for avi.vs.get_open_conns: the open connections that
// [VirtualService.Listener] has accepted, or a negative number if there is no
// such listener to count them.
func (vs *VirtualService) countConns() int {
	if !vs.gate.Listening() {
		return -1
	}
	return vs.gate.Stats().Open
}
