package accept

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
)

// Limits bound the connections that are accepted. The zero value has no limit
// but that of Max. They apply in the order of the fields; what is above Max or
// MaxPerClient is reset.
type Limits struct {
	// Max is how many connections may be open at a time. 0 means half of the
	// file descriptors that the process may have, less a few; then those above
	// it are not reset, but wait to be accepted. -1 means any number, and so
	// does 0 where the system does not report its limit.
	Max int
	// MaxPerClient is how many of them one client may have; 0 means any number.
	MaxPerClient int
	// AllowClient counts a connection of a client, and reports whether it is
	// within the client's rate. Nil means there is no such rate.
	AllowClient func(client netip.Addr) bool
	// Allow counts a connection, and reports whether it is within the rate of
	// all. Nil means there is no such rate.
	Allow func() bool
	// Exceeded is done with connections above the rates.
	Exceeded Action

	// IPv4Bits and IPv6Bits are the lengths of the prefixes that are taken
	// for one client. 0 means 32 and 64.
	IPv4Bits, IPv6Bits int
}

// A Limit is one of the limits that a connection may exceed.
type Limit uint8

// The limits.
const (
	NoLimit          Limit = iota // none is exceeded
	OverMax                       // Limits.Max
	OverMaxPerClient              // Limits.MaxPerClient
	OverClientRate                // Limits.AllowClient
	OverRate                      // Limits.Allow
)

// limits are the names of the limits among the reasons for refusals.
var limits = [...]string{OverMax: "max", OverMaxPerClient: "max_per_client", OverClientRate: "rate_per_client", OverRate: "rate"}

// clientOf returns the address that stands for a client: the first of its
// prefix.
func (l *Limits) clientOf(addr netip.Addr) netip.Addr {
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

// exceeded counts a connection for its client, and returns the limit that it
// exceeds, if it does, and what is to be done.
func (l *Limits) exceeded(c *Conn) (Limit, Action) {
	client := l.clientOf(c.ends.peer.Addr())
	if client.IsValid() {
		if n := c.countFor(client); l.MaxPerClient > 0 && n > l.MaxPerClient {
			return OverMaxPerClient, Reset
		}
	}
	if l.AllowClient != nil && !l.AllowClient(client) {
		return OverClientRate, l.Exceeded
	}
	if l.Allow != nil && !l.Allow() {
		return OverRate, l.Exceeded
	}
	return NoLimit, Pass
}

// openConns counts open connections, in all and by client. It stores no more
// clients than there are connections.
type openConns struct {
	mu      sync.Mutex
	all     int
	clients map[netip.Addr]int

	changed sync.Cond    // some are fewer, or a listener is closed
	crowded atomic.Int32 // how many listeners wait until some are fewer
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
	if o.all >= most {
		o.crowded.Add(1)
		defer o.crowded.Add(-1)
	}
	for o.all >= most {
		if closed() {
			return false
		}
		o.changed.Wait()
	}
	return true
}

// wake lets those who wait look again.
func (o *openConns) wake() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.changed.Broadcast()
}

// awaitNone waits until there are none of a listener, or none at all if that is
// nil, or ctx ends.
func (o *openConns) awaitNone(ctx context.Context, of *listener) {
	count := &o.all
	if of != nil {
		count = &of.open
	}
	o.awaitZero(ctx, count)
}

// awaitZero waits until a count that mu guards is zero, or ctx ends.
func (o *openConns) awaitZero(ctx context.Context, count *int) {
	stop := context.AfterFunc(ctx, o.wake)
	defer stop()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.changed.L = &o.mu
	for *count > 0 && ctx.Err() == nil {
		o.changed.Wait()
	}
}

// take notes that a listener is about to accept a connection, and taken that
// the connection is counted, if there is one.
func (o *openConns) take(l *listener) {
	o.mu.Lock()
	defer o.mu.Unlock()
	l.taking++
}

func (o *openConns) taken(l *listener) {
	o.mu.Lock()
	defer o.mu.Unlock()
	l.taking--
	o.changed.Broadcast()
}

// enter counts a connection of a listener, which may be nil, and returns how
// many there are with it.
func (o *openConns) enter(of *listener) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all++
	if of != nil {
		of.open++
	}
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
func (o *openConns) leave(of *listener, client netip.Addr) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all--
	if of != nil {
		of.open--
	}
	o.changed.Broadcast()
	if !client.IsValid() {
		return
	}
	if o.clients[client]--; o.clients[client] == 0 {
		delete(o.clients, client)
	}
}

// of returns how many connections of a listener are open.
func (o *openConns) of(l *listener) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return l.open
}

func (o *openConns) total() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.all
}
