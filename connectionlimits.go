package limpet

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/limpetlb/limpet/policy"
)

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

// The names of the limits, in records.
const (
	limitMax           = "connections.max"
	limitMaxPerClient  = "connections.maxPerClient"
	limitRatePerClient = "connections.ratePerClient"
	limitRate          = "connections.rate"
)

const defaultWriteTimeout = 60 * time.Second

func (l *ConnectionLimits) writeTimeout() time.Duration {
	if l.WriteTimeout == 0 {
		return defaultWriteTimeout
	}
	return max(l.WriteTimeout, 0)
}

// clientOf returns the address that stands for a client: the first of its
// prefix.
func (l *ConnectionLimits) clientOf(addr netip.Addr) netip.Addr {
	bits := l.IPv4Bits
	if addr.Is6() {
		bits = l.IPv6Bits
	}
	if bits == 0 {
		bits = addr.BitLen()
		if addr.Is6() {
			bits = 64
		}
	}
	p, err := addr.Prefix(bits)
	if err != nil {
		return netip.Addr{}
	}
	return p.Addr()
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

// exceeded counts a connection for its client, and returns the limit that it
// exceeds, if it does, and what is to be done.
func (l *connLimiters) exceeded(c *conn) (limit string, action policy.Action) {
	client := l.clientOf(c.ends.peer.Addr())
	if client.IsValid() {
		if n := c.countFor(client); l.MaxPerClient > 0 && n > l.MaxPerClient {
			return limitMaxPerClient, policy.ActionReset
		}
	}
	if l.perClient != nil && !l.perClient.AllowAddr(client) {
		return limitRatePerClient, l.Exceeded
	}
	if l.all != nil && !l.all.Allow("") {
		return limitRate, l.Exceeded
	}
	return "", 0
}

// openConns counts open connections, in all and by client. It holds no more
// clients than there are connections.
type openConns struct {
	mu      sync.Mutex
	all     int
	clients map[netip.Addr]int

	changed sync.Cond   // some are fewer, or a listener is closed
	crowded atomic.Bool // a listener waits until some are fewer
}

// spareFiles are the file descriptors that are for neither clients nor servers.
const spareFiles = 32

// fileBound is how many connections of clients leave as many file descriptors
// for servers, given how many there are. 0 means any number.
func fileBound(files uint64) int {
	if files == 0 {
		return 0
	}
	return int(max(files, 2+spareFiles)-spareFiles) / 2
}

// await waits until there are fewer connections than most. It reports false if
// closed does meanwhile.
func (o *openConns) await(most int, closed func() bool) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.changed.L = &o.mu
	defer o.crowded.Store(false)
	for o.all >= most {
		if closed() {
			return false
		}
		o.crowded.Store(true)
		o.changed.Wait()
	}
	return true
}

// enter counts a connection, and returns how many there are with it.
func (o *openConns) enter() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all++
	return o.all
}

// count counts a connection that has been counted by enter for its client, and
// returns how many the client has with it.
func (o *openConns) count(client netip.Addr) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.clients == nil {
		o.clients = make(map[netip.Addr]int)
	}
	o.clients[client]++
	return o.clients[client]
}

// leave takes back what enter has counted, and count if client is valid.
func (o *openConns) leave(client netip.Addr) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all--
	o.changed.Broadcast()
	if !client.IsValid() {
		return
	}
	if o.clients[client]--; o.clients[client] == 0 {
		delete(o.clients, client)
	}
}

func (o *openConns) total() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.all
}
