package datascripttest

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/enumtext"
)

var _ datascript.Pools = Pools(nil)

// Pools are server pools. The first one is the default pool of a
// [VirtualService]. A test may take servers up and down between transactions by
// setting Down; what is changed must not be in use at the same time. No pools
// are fine: then all names are unknown.
type Pools []Pool

// A Pool is a named group of servers.
type Pool struct {
	Name      string    // what scripts call it
	Algorithm Algorithm // the zero value is FirstUp
	Servers   []Server  // in the order in which the algorithms take them; may be empty
}

// A Server is a member of a pool.
type Server struct {
	Addr netip.AddrPort // must be valid
	Name string         // a host name or another name to find it by; may be empty
	Down bool           // it is down, or disabled
}

// Algorithm says which of the servers that are up gets a request for which no
// server was named. Neither choice depends on chance.
type Algorithm uint8

// The algorithms.
const (
	FirstUp    Algorithm = iota // the first one that is up, each time
	RoundRobin                  // one after the other
)

var algorithmNames = []string{FirstUp: "first-up", RoundRobin: "round-robin"}

// String returns "first-up" or "round-robin"; "invalid" for other values.
func (a Algorithm) String() string { return enumtext.String(a, algorithmNames) }

// MarshalText returns the name. It fails for a value without a name.
func (a Algorithm) MarshalText() ([]byte, error) { return enumtext.Marshal(a, algorithmNames) }

// UnmarshalText reads a name, without regard to case, blanks, "-" and "_". The
// error for another text lists the names.
func (a *Algorithm) UnmarshalText(text []byte) error {
	return enumtext.Unmarshal(a, text, algorithmNames)
}

// Servers makes servers that are up of addresses with ports, such as
// "10.0.0.1:80". It panics if one is not of that form.
func Servers(addrs ...string) []Server {
	servers := make([]Server, len(addrs))
	for i, a := range addrs {
		servers[i].Addr = netip.MustParseAddrPort(a)
	}
	return servers
}

// Servers counts the servers that are up, and all of them. It fails if there is
// no such pool.
func (p Pools) Servers(pool string) (up, total int, err error) {
	found, err := p.named(pool)
	for _, s := range found.Servers {
		if !s.Down {
			up++
		}
	}
	return up, len(found.Servers), err
}

// ServerUp reports whether a server is up, one of them if several match. It
// fails if there is no such pool.
func (p Pools) ServerUp(pool, server string, port uint16) (bool, error) {
	s, _, err := p.find(pool, server, port)
	return s != nil && !s.Down, err
}

// Find finds a server by address, address and port, or name, the latter without
// regard to case. If several match, shared is true, and addr is the first one
// that is up, else the first. It fails if there is no such pool.
func (p Pools) Find(pool, server string, port uint16) (addr netip.AddrPort, shared, ok bool, err error) {
	s, shared, err := p.find(pool, server, port)
	if s == nil {
		return netip.AddrPort{}, false, false, err
	}
	return s.Addr, shared, true, nil
}

func (p Pools) find(pool, server string, port uint16) (found *Server, shared bool, err error) {
	in, err := p.named(pool)
	for i := range in.Servers {
		s := &in.Servers[i]
		if !s.is(server, port) {
			continue
		}
		shared = found != nil
		if found == nil || found.Down && !s.Down {
			found = s
		}
	}
	return found, shared, err
}

// named returns the pool of a name; it is empty if there is none.
func (p Pools) named(name string) (Pool, error) {
	for _, pool := range p {
		if pool.Name == name {
			return pool, nil
		}
	}
	return Pool{}, fmt.Errorf("pool %q not found", name)
}

// is reports whether a script that writes server and port, 0 if it writes none,
// means s.
func (s *Server) is(server string, port uint16) bool {
	if port != 0 && port != s.Addr.Port() {
		return false
	}
	if s.Name != "" && strings.EqualFold(s.Name, server) {
		return true
	}
	if addr, err := netip.ParseAddr(server); err == nil {
		return addr.Unmap() == s.Addr.Addr().Unmap()
	}
	addr, err := netip.ParseAddrPort(server)
	return err == nil && addr.Port() == s.Addr.Port() && addr.Addr().Unmap() == s.Addr.Addr().Unmap()
}
