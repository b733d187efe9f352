package persistence

import (
	"cmp"
	"context"
	"math"
	"net/http"
	"net/netip"
	"time"

	"github.com/limpetlb/limpet/internal/bounds"
	"github.com/limpetlb/limpet/internal/fielderr"
)

// A ClientIPConfig configures a [ClientIP]. The zero value is useful.
type ClientIPConfig struct {
	// Mask4 is how many leading bits of an IPv4 address identify a client;
	// addresses that agree in them share a server. Zero means all 32. Fewer
	// bits help clients whose address changes.
	Mask4 int `default:"32" min:"1" max:"32"`
	// Mask6 is the same for IPv6 addresses. Zero means all 128; 64 suits
	// temporary addresses.
	Mask6 int `default:"128" min:"1" max:"128"`

	// Timeout is how long the profile remembers a client without requests. Zero
	// means five minutes; the longest is [DefaultMaxLifetime]. With Sessions, a
	// client may be forgotten up to a tenth earlier: a request renews its
	// binding only when a tenth of Timeout has passed.
	Timeout time.Duration `default:"5m" min:"0s" max:"168h"`

	// MaxAge is the longest time that a client keeps its server, however often
	// it returns. Zero means no limit. More than [DefaultMaxLifetime], or than
	// the MaxLifetime of the store in Sessions, means that.
	MaxAge time.Duration `min:"0s"`

	// MaxEntries is how many clients the profile remembers for each target. The
	// default is [DefaultMaxEntries], the largest 1<<30. A full table evicts
	// clients that did not return first.
	MaxEntries int `default:"1_048_576" min:"1" max:"1_073_741_824"`

	// MaxPerOwner is how many clients of one network (see [AddrOwner]) the
	// profile remembers for each target. Zero means no limit; a full table
	// then evicts clients of the largest networks first.
	MaxPerOwner int `min:"0"`

	// Sessions, if not nil, stores the bindings in place of the profile's own
	// memory, so that they survive a restart or are shared by several
	// instances; see [Sessions]. MaxEntries and MaxPerOwner are then ignored.
	Sessions Sessions

	// Table names the tables in Sessions. Two profiles must not have the same.
	// The default is "clientip".
	Table string
}

// A ClientIP is a persistence profile that identifies clients by their address.
// It stores bindings in memory, or in the Sessions of its configuration. The
// methods may be called concurrently. Create one with [NewClientIP].
type ClientIP struct {
	mask4, mask6 int
	clients      sessions[netip.Addr]
}

// NewClientIP returns a profile without clients. The error joins a
// [*FieldError] for each fault.
func NewClientIP(c ClientIPConfig) (*ClientIP, error) {
	var faults fielderr.List
	bounds.Check("", c, &faults)
	bounds.SetDefaults(&c)
	p := &ClientIP{mask4: c.Mask4, mask6: c.Mask6}
	p.clients.maxEntries = c.MaxEntries
	p.clients.maxPerOwner = cmp.Or(c.MaxPerOwner, math.MaxInt32)
	p.clients.make = func() *Table[netip.Addr, string] {
		o := Options{MaxEntries: p.clients.maxEntries, MaxPerOwner: p.clients.maxPerOwner, Sliding: true}
		return NewTableByOwner[netip.Addr, string](o, AddrOwner)
	}
	p.clients.text, p.clients.parse = netip.Addr.String, netip.ParseAddr
	p.clients.init(c.Timeout, c.MaxAge, c.Sessions, c.Table, "clientip", &faults)
	if err := faults.ErrIn(c); err != nil {
		return nil, err
	}
	return p, nil
}

// Targets creates the tables of the targets that use the profile. It may be
// called again at any time, also with the targets of another service; the
// tables of other targets stay. has reports whether a target has a server; it
// may be nil and is called concurrently. The profile needs it for entries that
// an earlier version left in Sessions, which do not name their target. A target
// that was not named gets its table with its first request. The error is always
// nil.
func (p *ClientIP) Targets(_ string, all []string, has func(target, server string) bool) error {
	p.clients.setTargets(all, has)
	return nil
}

// Find returns the server that the client is bound to in the target, renews the
// binding, and returns its remaining time. A negative remaining is the time
// since the binding expired. The error is [ErrNoKey] for an invalid address, or
// an error of the Sessions.
func (p *ClientIP) Find(r *http.Request, client netip.Addr, target string) (server string, remaining time.Duration, err error) {
	if !client.IsValid() {
		return "", 0, ErrNoKey
	}
	server, remaining, err = p.clients.find(r, target, p.key(client))
	p.clients.noteFound(r, server)
	return server, remaining, err
}

// Peek is Find without renewing the binding, and counts nothing. The error
// wraps [errors.ErrUnsupported] if the Sessions have no method Peek.
func (p *ClientIP) Peek(r *http.Request, client netip.Addr, target string) (server string, remaining time.Duration, err error) {
	if !client.IsValid() {
		return "", 0, ErrNoKey
	}
	return p.clients.peek(r, target, p.key(client))
}

// Claim binds the client to server, unless it is bound to a server other than
// instead, and returns the server that it is bound to afterwards. An invalid
// address is not bound. The error is an error of the Sessions, or says that
// server is longer than 255 bytes.
func (p *ClientIP) Claim(r *http.Request, client netip.Addr, target, server, instead string) (bound string, err error) {
	if !client.IsValid() {
		return server, nil
	}
	if err := checkServer(server); err != nil {
		return server, err
	}
	return p.clients.claim(r, target, p.key(client), server, instead)
}

// Bind renews the binding of the client, and binds it to server if it is not
// bound; to move a client, use [ClientIP.Claim]. An invalid address is ignored.
// The error is an error of the Sessions, or says that server is longer than 255
// bytes.
func (p *ClientIP) Bind(_ http.Header, r *http.Request, client netip.Addr, target, server string) error {
	if !client.IsValid() {
		return nil
	}
	if err := checkServer(server); err != nil {
		return err
	}
	return p.clients.renew(r, target, p.key(client), server)
}

// Keep renews the binding of the client, if there is one. Call it while a
// connection stays open.
func (p *ClientIP) Keep(r *http.Request, client netip.Addr, target string) error {
	if !client.IsValid() {
		return nil
	}
	return p.clients.keep(r, target, p.key(client))
}

// Source returns where the profile finds bindings: [FromMemory], or "" if its
// Sessions are a shared store, which reports the source of each look-up with
// [NoteSource].
func (p *ClientIP) Source() Source { return p.clients.source() }

// Timeout returns how long the profile remembers a client without requests.
func (p *ClientIP) Timeout() time.Duration { return p.clients.timeout }

// Count returns how many clients are bound to the given servers in the target,
// or to any server if none is given. The error is an error of the Sessions, or
// wraps [errors.ErrUnsupported] if they cannot count.
func (p *ClientIP) Count(ctx context.Context, target string, servers ...string) (n int, err error) {
	return p.clients.count(ctx, target, servers)
}

// Adopt takes over the clients of targets, or of all targets if none is named,
// that old has in memory. It reports whether old is a *ClientIP with the same
// masks. A target for which p already has clients stays as it is.
//
// Both profiles then share their tables, so that requests in progress in old
// lose nothing. The Timeout and MaxAge of p apply from the next request of a
// client. If MaxEntries, MaxPerOwner or MaxAge differ, those of p apply to
// both; Adopt then moves the clients to a new table before it returns, while
// requests go on. Clients in Sessions are taken over for all targets if the
// Sessions are the same, or if both are a [Store] and the new one can adopt the
// old; see [Store.Adopt].
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
