package limpet

import (
	"log/slog"
	"maps"
	"slices"

	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
)

// adopt lets new objects in s take over the state of the objects with the same
// names in the old configuration. After an error nothing has changed.
func (s *snapshot) adopt(old *snapshot) error {
	if err := s.pools.Adopt(old.pools); err != nil {
		return fielderr.Under("pools", err)
	}
	if now, ok := s.Tables.(*persistence.Store); ok {
		if before, ok := old.Tables.(*persistence.Store); ok {
			now.Adopt(before)
		}
	}
	if now, ok := s.Authenticator.(*BasicAuthenticator); ok {
		if before, ok := old.Authenticator.(*BasicAuthenticator); ok {
			now.users.Adopt(before.users)
		}
	}
	for name, t := range s.targets {
		if before := old.targets[name]; before != nil && before.profile != nil && !sameProfile(before.profile, t.profile) {
			if p, ok := t.profile.(profileAdopter); ok {
				p.Adopt(before.profile, name)
			}
		}
	}
	return nil
}

// A profileAdopter is a profile that can take over the bindings of another
// profile in some targets, if both identify clients by the same thing. It
// reports whether it does.
type profileAdopter interface {
	Adopt(old any, targets ...string) bool
}

// warn logs settings that are valid but hardly intended: they lose clients, or
// never take effect.
func (s *snapshot) warn() {
	cookies := map[*persistence.HTTPCookie]int{}
	for _, t := range s.targets {
		if p, ok := t.profile.(*persistence.HTTPCookie); ok {
			cookies[p]++
		}
	}
	const many = 16
	for p, n := range cookies {
		if n > many {
			s.Logger.Warn("a cookie for each of many pools; a table needs none", slog.String("vs", s.Name), slog.Int("pools", n))
		}
		for other := range cookies {
			if p != other && p.Name() == other.Name() {
				s.Logger.Warn("two persistence profiles have a cookie of one name: clients lose their servers", slog.String("vs", s.Name), slog.String("cookie", p.Name()))
			}
		}
		if p.HasRandomKey() {
			s.Logger.Warn("persistence cookies have no configured keys: clients lose their servers at the next start", slog.String("vs", s.Name))
		}
	}
	for _, script := range s.Scripts {
		for _, w := range script.Warnings() {
			s.Logger.Warn("doubtful script", slog.String("vs", s.Name), slog.String("script", script.Name()),
				slog.Int("line", w.Line), slog.String("warning", w.Message))
		}
		for _, ev := range []datascript.Event{datascript.HTTPAuth, datascript.HTTPPostAuth} {
			if s.Authenticator == nil && script.Handles(ev) {
				s.Logger.Warn("event never runs: there is no authenticator", slog.String("vs", s.Name), slog.String("script", script.Name()),
					slog.String("event", ev.String()))
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.targets)) {
		t := s.targets[name]
		if t.pool == nil {
			continue
		}
		addr, n := sharedAddress(t.pool)
		if n == 0 {
			continue
		}
		for _, script := range s.Scripts {
			if script.StoresServerIP() {
				s.Logger.Warn(sharedAddressStored, slog.String("vs", s.Name), slog.String("pool", name),
					slog.String("script", script.Name()), slog.String("address", addr), slog.Int("servers", n))
			}
		}
	}
}

// sharedAddressStored is the warning about a cookie or a choice of a script
// that has an address without a port.
const sharedAddressStored = "script stores an address that servers share: add the port, which avi.pool.get_server_info returns, or use a table"

// sharedAddress returns an address that several servers of a pool have, and how
// many.
func sharedAddress(p *lbpool.Pool) (addr string, n int) {
	servers := map[string]int{}
	for _, s := range p.Servers() {
		a := s.Addr().Addr().String()
		if servers[a]++; servers[a] > n && servers[a] > 1 {
			addr, n = a, servers[a]
		}
	}
	return addr, n
}
