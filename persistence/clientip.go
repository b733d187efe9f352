package persistence

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"time"
)

// defaultClientIPTimeout is the default of [ClientIPConfig.Timeout].
const defaultClientIPTimeout = 5 * time.Minute

// A ClientIPConfig configures a [ClientIP]. The zero value is useful.
type ClientIPConfig struct {
	// Mask4 and Mask6 are how many leading bits of an IPv4 and an IPv6 address tell clients apart;
	// those that agree in them share a server. Zero means all bits, 32 and 128. Fewer help clients
	// whose address changes, /64 those with temporary IPv6 addresses.
	Mask4, Mask6 int

	// Timeout is how long a client without requests is remembered. With Sessions it may be up to a
	// tenth shorter: a request renews it only if a tenth of it is over. Zero and negative mean
	// five minutes; the longest is [DefaultMaxLifetime].
	Timeout time.Duration

	// MaxAge is how long a client keeps its server at most, whatever it does. The longest is
	// [DefaultMaxLifetime], or with Sessions that of the store. Zero and negative mean no such end.
	MaxAge time.Duration

	// MaxEntries is how many clients of each target are remembered. The default is
	// [DefaultMaxEntries]. When there are more, those that did not come back go first.
	MaxEntries int

	// MaxPerOwner is how many clients of one network, see [AddrOwner], are remembered for each
	// target. Zero and negative mean as many as there is room for: a network with many clients then
	// gives way to others only in a full table.
	MaxPerOwner int

	// Sessions, if not nil, keeps the servers instead of the profile's own memory, so that they
	// survive a restart or are shared; see [Sessions]. MaxEntries and MaxPerOwner are then ignored.
	Sessions Sessions

	// Table names the tables of Sessions. No two profiles should have the same. The default is
	// "clientip".
	Table string
}

// A ClientIP is a persistence profile that knows clients by their address and keeps the servers in
// memory, or in the Sessions of its configuration. Its methods may be called concurrently. Make one
// with [NewClientIP].
type ClientIP struct {
	mask4, mask6 int
	clients      sessions[netip.Addr]
}

// NewClientIP returns a profile without clients. The error names every field that cannot be.
func NewClientIP(c ClientIPConfig) (*ClientIP, error) {
	p := &ClientIP{mask4: c.Mask4, mask6: c.Mask6}
	if p.mask4 == 0 {
		p.mask4 = 32
	}
	if p.mask6 == 0 {
		p.mask6 = 128
	}
	var faults []error
	if p.mask4 < 0 || p.mask4 > 32 {
		faults = append(faults, fmt.Errorf("persistence: Mask4: %d is not from 0 to 32", c.Mask4))
	}
	if p.mask6 < 0 || p.mask6 > 128 {
		faults = append(faults, fmt.Errorf("persistence: Mask6: %d is not from 0 to 128", c.Mask6))
	}
	p.clients.maxEntries = positive(c.MaxEntries, DefaultMaxEntries)
	p.clients.maxPerOwner = positive(c.MaxPerOwner, entriesCeiling)
	p.clients.make = func() *Table[netip.Addr, string] {
		o := Options{MaxEntries: p.clients.maxEntries, MaxPerOwner: p.clients.maxPerOwner, Sliding: true}
		return NewTableByOwner[netip.Addr, string](o, AddrOwner)
	}
	p.clients.text = netip.Addr.String
	if err := p.clients.init(positive(c.Timeout, defaultClientIPTimeout), c.MaxAge, c.Sessions, c.Table, "clientip"); err != nil {
		faults = append(faults, err)
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return p, nil
}

// Targets makes the tables of the targets that the profile is used for. It may be called again at any
// time, and with the targets of another service: it leaves the tables of others, for as long as there is
// the profile. has, which may be nil and is called concurrently, reports whether one of these targets
// has a server: an entry that an earlier version has left in Sessions does not say for which target it
// was made. A target that is not named here has a table from its first request on. The error is always
// nil.
func (p *ClientIP) Targets(_ string, all []string, has func(target, server string) bool) error {
	p.clients.setTargets(all, has)
	return nil
}

// Find returns the server that the client is bound to in the target, renews the binding, and returns
// what is then left of it. A negative remaining says how long ago the binding expired. The error is
// [ErrNoKey] for an invalid address, or that of the Sessions.
func (p *ClientIP) Find(r *http.Request, client netip.Addr, target string) (server string, remaining time.Duration, err error) {
	if !client.IsValid() {
		return "", 0, ErrNoKey
	}
	server, remaining, err = p.clients.find(r, target, p.key(client))
	p.clients.noteFound(r, server)
	return server, remaining, err
}

// Claim binds the client to server, unless it is bound to another one than instead, and returns the
// server that it is then bound to. An invalid address is not bound. The error is that of the Sessions, or
// says that server is longer than 255 bytes.
func (p *ClientIP) Claim(r *http.Request, client netip.Addr, target, server, instead string) (bound string, err error) {
	if !client.IsValid() {
		return server, nil
	}
	if err := checkServer(server); err != nil {
		return server, err
	}
	return p.clients.claim(r, target, p.key(client), server, instead)
}

// Bind starts the timeout of the client anew. If it is not bound it is bound to server; to move a
// client use [ClientIP.Claim]. An invalid address is not remembered. The error is that of the Sessions, or
// says that server is longer than 255 bytes.
func (p *ClientIP) Bind(_ http.Header, r *http.Request, client netip.Addr, target, server string) error {
	if !client.IsValid() {
		return nil
	}
	if err := checkServer(server); err != nil {
		return err
	}
	return p.clients.renew(r, target, p.key(client), server)
}

// Keep starts the timeout of the client anew, if it is bound. It is for connections that stay open.
func (p *ClientIP) Keep(r *http.Request, client netip.Addr, target string) error {
	if !client.IsValid() {
		return nil
	}
	return p.clients.keep(r, target, p.key(client))
}

// Source returns where the profile finds bindings: [FromMemory], or "" if its Sessions are a shared
// store, which reports the source of each look-up by [NoteSource].
func (p *ClientIP) Source() Source { return p.clients.source() }

// Timeout returns how long a client without requests is remembered.
func (p *ClientIP) Timeout() time.Duration { return p.clients.timeout }

// Count returns how many clients are bound in the target to one of the servers, or to any if none is
// given. The error is that of the Sessions, or one that wraps [errors.ErrUnsupported] if they cannot
// count.
func (p *ClientIP) Count(ctx context.Context, target string, servers ...string) (n int, err error) {
	return p.clients.count(ctx, target, servers)
}

// Adopt takes over the clients that old, a *ClientIP with the same masks, has in memory for targets, or for
// all targets if none is named, and reports whether it is one. A target for which p has clients already is
// left as it is. From then on both use the same tables, so that requests under way in old are not lost. The
// Timeout and MaxAge of p apply from the next request of a client. If MaxEntries, MaxPerOwner or MaxAge
// differ, those of p apply to both, and Adopt returns when the clients have been moved to a new table,
// which is in use meanwhile. Clients in Sessions are taken over for all targets if those are the same, or
// a [Store] made anew, see [Store.Adopt].
func (p *ClientIP) Adopt(old any, targets ...string) bool {
	o, ok := old.(*ClientIP)
	return ok && o != nil && o.mask4 == p.mask4 && o.mask6 == p.mask6 && p.clients.adopt(&o.clients, targets)
}

// Stats returns the sum of the counters of the profile's tables in memory.
func (p *ClientIP) Stats() Stats { return p.clients.stats() }

func (p *ClientIP) key(client netip.Addr) netip.Addr {
	client = client.Unmap().WithZone("")
	bits := p.mask6
	if client.Is4() {
		bits = p.mask4
	}
	prefix, _ := client.Prefix(bits) // fails only for an invalid address, which is no key
	return prefix.Addr()
}
