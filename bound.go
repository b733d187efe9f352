package limpet

import (
	"context"
	"net/netip"

	"github.com/limpetlb/limpet/lbpool"
)

// boundTo returns a function that counts the persistence entries which bind
// clients to a server of the pool: those of the default table, where values
// name servers, and those of the persistence profile. It is negative if that
// cannot be known.
func (vs *VirtualService) boundTo(pool *lbpool.Pool) func(context.Context, ...string) (int, error) {
	return func(_ context.Context, servers ...string) (int, error) {
		addr := netip.MustParseAddrPort(servers[0])
		s := vs.current.Load()
		n := 0
		if len(s.Scripts) > 0 {
			t, ok := s.Tables.(interface {
				CountByValue(table string) map[string]int
			})
			if !ok {
				return -1, nil
			}
			n += countServer(t.CountByValue(""), pool, addr)
		}
		if s.Persistence != nil {
			p, ok := s.Persistence.(interface{ CountByServer() map[string]int })
			if !ok {
				return -1, nil // clients carry the binding themselves
			}
			n += countServer(p.CountByServer(), pool, addr)
		}
		return n, nil
	}
}

// countServer adds up the counts under all names that a server has. An address
// without a port stands for all servers there.
func countServer(counts map[string]int, pool *lbpool.Pool, addr netip.AddrPort) int {
	n := counts[addr.Addr().String()] + counts[addr.String()]
	if s, _, ok := pool.Lookup(addr.String(), 0); ok {
		if name := s.Name(); name != addr.String() {
			n += counts[name]
		}
		if host := s.Hostname(); host != "" && host != s.Name() {
			n += counts[host]
		}
	}
	return n
}
