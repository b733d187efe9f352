package persistence

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// DefaultClientIPTimeout is the default of [ClientIPConfig.Timeout]: five minutes.
const DefaultClientIPTimeout = 5 * time.Minute

// A ClientIPConfig configures a [ClientIP]. The zero value is useful.
type ClientIPConfig struct {
	// Mask4 and Mask6 are how many leading bits of an IPv4 and an IPv6 address tell clients apart;
	// those that agree in them share a server. Zero means all bits, 32 and 128. Fewer help clients
	// whose address changes, /64 those with temporary IPv6 addresses.
	Mask4, Mask6 int

	// Timeout is how long a client without requests is remembered. Zero and negative mean
	// [DefaultClientIPTimeout]; the longest is [DefaultMaxLifetime].
	Timeout time.Duration

	// MaxEntries is how many clients are remembered. The default is [DefaultMaxEntries]. When there
	// are more, those that did not come back go first. Of each network, see [AddrOwner], at most
	// [DefaultMaxPerOwner] are remembered.
	MaxEntries int

	// Sessions, if not nil, keeps the servers instead of the profile's own memory, so that they
	// survive a restart or are shared; see [Sessions]. MaxEntries is then ignored.
	Sessions Sessions

	// Table is the name of the table of Sessions. No two profiles should share one.
	Table string
}

// A ClientIP is a persistence profile that knows clients by their address and keeps the servers in
// memory, unless it is told to keep them elsewhere. Its methods may be called concurrently. Make one with [NewClientIP].
type ClientIP struct {
	mask4, mask6 int
	clients      sessions[netip.Addr]
}

// NewClientIP returns a profile without clients. The error names every mask that is out of range.
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
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	timeout := positive(c.Timeout, DefaultClientIPTimeout)
	p.clients = sessions[netip.Addr]{
		Table:   NewTableByOwner[netip.Addr, string](Options{MaxEntries: c.MaxEntries, Sliding: true}, AddrOwner),
		timeout: timeout,
		shared:  c.Sessions,
		table:   strings.Clone(c.Table),
		text:    netip.Addr.String,
	}
	return p, nil
}

// Find returns the server of the client and starts its timeout anew.
func (p *ClientIP) Find(r *http.Request, client netip.Addr) (server string, ok bool) {
	return p.clients.find(r, p.key(client))
}

// Bind remembers server for the client and starts its timeout anew. An invalid address is not
// remembered.
func (p *ClientIP) Bind(_ http.Header, r *http.Request, client netip.Addr, server string) {
	if client.IsValid() {
		p.clients.bind(r, p.key(client), server)
	}
}

// CountByServer returns how many clients are remembered in memory for each server, like
// [CountByValue].
func (p *ClientIP) CountByServer() map[string]int { return CountByValue(p.clients.Table) }

// Stats returns the counters of the profile's table in memory.
func (p *ClientIP) Stats() Stats { return p.clients.Stats() }

func (p *ClientIP) key(client netip.Addr) netip.Addr {
	client = client.Unmap().WithZone("")
	bits := p.mask6
	if client.Is4() {
		bits = p.mask4
	}
	prefix, _ := client.Prefix(bits) // fails only for an invalid address, which is no key
	return prefix.Addr()
}
