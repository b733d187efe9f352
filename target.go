package limpet

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/internal/histogram"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
)

// A PersistenceProfile binds clients to servers. It must be safe for
// concurrent use.
//
// A client has one binding for each target: the pool or the pool group that a
// rule, a script or the configuration has selected. In a pool, the name of a
// server is its address and port. In a group, it is the name of its pool, with
// "/" and "%" percent-encoded, then "/", address and port.
//
// An error never fails a request: it goes to [Record].Error. The request goes
// on with the server that the method has returned, or like that of an unbound
// client.
type PersistenceProfile interface {
	// Find returns the server that the client of a request is bound to in a
	// target, "" if there is none, and renews the binding. remaining is its
	// remaining lifetime, or 0 if that is not known. If server is "" and
	// remaining is negative, the client was bound, and remaining says how long
	// ago the binding ended. The error matches [persistence.ErrNoKey] if the
	// request does not have the key that identifies clients, and
	// [persistence.ErrInvalidCookie] if a cookie of the profile could not be
	// opened. Find must not change the request.
	Find(r *http.Request, client netip.Addr, target string) (server string, remaining time.Duration, err error)
	// Bind is called when a server has answered, before the header goes to the
	// client: it may add a field for Find to the header, or remember the server
	// itself. It is not called if a rule or a script has chosen the server.
	Bind(h http.Header, r *http.Request, client netip.Addr, target, server string) error
}

// A PersistenceClaimer is a [PersistenceProfile] that identifies clients by a
// key in the request. It binds them when a server is chosen, so that parallel
// requests of a new client go to one server.
type PersistenceClaimer interface {
	PersistenceProfile
	// Claim binds the client to server if it is not bound, or is bound to
	// instead, in one step. It returns the server that the client is then
	// bound to. "" for instead means that the client was not bound.
	Claim(r *http.Request, client netip.Addr, target, server, instead string) (bound string, err error)
}

// A PersistenceKeeper is a [PersistenceProfile] whose bindings end when they
// have not been used for a time.
type PersistenceKeeper interface {
	PersistenceProfile
	// Keep renews the binding of a request that is still open. It may be called
	// while the request is being served, and shortly after.
	Keep(r *http.Request, client netip.Addr, target string) error
	// Timeout is how long a binding lasts without being renewed.
	Timeout() time.Duration
}

// A PersistenceCounter is a [PersistenceProfile] that can count its clients,
// so that draining servers can wait for them.
type PersistenceCounter interface {
	PersistenceProfile
	// Count returns how many clients are bound to any of servers in a target.
	Count(ctx context.Context, target string, servers ...string) (n int, err error)
}

// NoPersistence is for [Config].PoolPersistence: it binds no clients of a pool
// or a group.
var NoPersistence PersistenceProfile = noPersistence{}

type noPersistence struct{}

func (noPersistence) Find(*http.Request, netip.Addr, string) (string, time.Duration, error) {
	return "", 0, nil
}
func (noPersistence) Bind(http.Header, *http.Request, netip.Addr, string, string) error { return nil }

// A target is a pool or a pool group, with the profile that binds clients
// there.
type target struct {
	name  string
	pool  *lbpool.Pool  // nil if it is a group
	group *lbpool.Group // nil if it is a pool
	// members are the members of the group.
	members []lbpool.Member

	profile PersistenceProfile // nil: clients are not bound
	claimer PersistenceClaimer // profile, if it is one; likewise the next ones
	keeper  PersistenceKeeper
	counter PersistenceCounter
	kept    *keptList          // of keeper
	source  persistence.Source // where profile finds bindings; "" if each look-up says so

	outcomes *outcomes    // shared by all configurations
	traffic  *poolTraffic // the same; nil if it is a group
}

// target returns the target of that name, else the default pool.
func (s *snapshot) target(name string) *target {
	if name != "" {
		if t, ok := s.targets[name]; ok {
			return t
		}
	}
	return s.defaultTarget
}

// has reports whether a pool is the target, or a member of it.
func (t *target) has(pool *lbpool.Pool) bool {
	if t.group == nil {
		return t.pool.Is(pool)
	}
	return slices.ContainsFunc(t.members, func(m lbpool.Member) bool { return m.Pool.Is(pool) })
}

// inUse reports whether the group uses a member now.
func (t *target) inUse(member *lbpool.Pool) bool {
	return !slices.Contains(t.group.OutOfUse(), member)
}

// text names a server of the target for profiles.
func (t *target) text(pool *lbpool.Pool, s *lbpool.Server) string {
	if t.group == nil {
		return s.Addr().String()
	}
	return t.member(pool, s.Addr().String())
}

// member names a server of a pool of the group for profiles.
func (t *target) member(pool *lbpool.Pool, server string) string {
	return memberEscaper.Replace(pool.Name()) + "/" + server
}

var memberEscaper = strings.NewReplacer("%", "%25", "/", "%2F")

// isMember reports whether a text names a server of this member.
func (t *target) isMember(pool *lbpool.Pool, text string) bool {
	name, _, ok := strings.Cut(text, "/")
	return ok && name == memberEscaper.Replace(pool.Name())
}

// names reports whether a text has the form that text gives.
func (t *target) names(text string) bool { return (t.group != nil) == strings.Contains(text, "/") }

// lookup finds the server that a text names, and in a group also the member, if
// the text names it.
func (t *target) lookup(text string) (s *lbpool.Server, member *lbpool.Pool) {
	if t.group == nil {
		s, _, _ = t.pool.Lookup(text[strings.LastIndexByte(text, '/')+1:], 0) // it may have been bound in a group
		return s, nil
	}
	name, server, ok := strings.Cut(text, "/")
	if !ok {
		s, _, _ = t.group.Lookup(text, 0)
		return s, nil
	}
	if strings.Contains(name, "%") {
		name, _ = url.PathUnescape(name)
	}
	for _, m := range t.members {
		if m.Pool.Name() == name {
			if s, _, _ = m.Pool.Lookup(server, 0); s != nil {
				return s, m.Pool
			}
		}
	}
	s, _, _ = t.group.Lookup(server, 0) // it may have moved to another member
	return s, nil
}

// compileTargets finds the profile of each pool and each group.
func (s *snapshot) compileTargets(vs *VirtualService, faults *fielderr.List) {
	s.targets = make(map[string]*target, len(s.Pools)+len(s.PoolGroups))
	for _, p := range s.Pools {
		s.targets[p.Name()] = &target{name: p.Name(), pool: p, profile: s.profileOf(p.Name())}
	}
	for _, g := range s.PoolGroups {
		profile, err := s.groupProfile(g)
		if err != nil {
			faults.Add(fielderr.Key("poolPersistence", g.Name()), nil, err)
		}
		s.targets[g.Name()] = &target{name: g.Name(), group: g, members: g.Members(), profile: profile}
	}
	for _, name := range slices.Sorted(maps.Keys(s.PoolPersistence)) {
		path := fielderr.Key("poolPersistence", name)
		if _, ok := s.targets[name]; !ok {
			faults.Addf(path, nil, "there is no such pool or group")
		}
		if s.PoolPersistence[name] == nil {
			faults.Addf(path, nil, "missing")
		}
	}
	for _, t := range s.targets {
		if sameProfile(t.profile, NoPersistence) {
			t.profile = nil
		}
		t.claimer, _ = t.profile.(PersistenceClaimer)
		t.keeper, _ = t.profile.(PersistenceKeeper)
		t.counter, _ = t.profile.(PersistenceCounter)
		if t.keeper != nil {
			t.kept = vs.keeper.list(t.name, t.keeper.Timeout())
		}
		if p, ok := t.profile.(interface{ Source() persistence.Source }); ok {
			t.source = p.Source()
		}
		if p, ok := t.profile.(cookieStripper); ok && reflect.ValueOf(p).Comparable() && !slices.Contains(s.strippers, p) {
			s.strippers = append(s.strippers, p)
		}
		t.outcomes = vs.outcomesOf(t.name)
		if t.pool != nil {
			t.traffic = vs.trafficOf(t.name)
		}
	}
	if s.defaultPool != nil { // else there is none, or the name is wrong
		s.defaultTarget = s.targets[s.defaultPool.Name()]
	}
}

// A cookieStripper is a profile that removes its own cookies from the header of
// a request to a server.
type cookieStripper interface{ StripRequest(h http.Header) }

// A targetedProfile is a profile that needs to know its targets: the default
// one, or the only one, and all. has reports whether a target has a server. An
// error changes nothing.
type targetedProfile interface {
	Targets(defaultTarget string, all []string, has func(target, server string) bool) error
}

// nameTargets gives all profiles the names of their targets.
func (s *snapshot) nameTargets() error {
	names := map[targetedProfile][]string{}
	var profiles []targetedProfile // in the order of the names
	for _, name := range slices.Sorted(maps.Keys(s.targets)) {
		if p, ok := s.targets[name].profile.(targetedProfile); ok && reflect.ValueOf(p).Comparable() {
			if names[p] == nil {
				profiles = append(profiles, p)
			}
			names[p] = append(names[p], name)
		}
	}
	has := func(target, server string) bool {
		t, ok := s.targets[target]
		if !ok {
			return false
		}
		found, _ := t.lookup(server)
		return found != nil
	}
	var faults fielderr.List
	for _, p := range profiles {
		all := names[p]
		first := all[0]
		if len(all) > 1 {
			first = s.defaultTarget.name
		}
		if err := p.Targets(first, all, has); err != nil {
			path := "persistence"
			if _, ok := s.PoolPersistence[all[0]]; ok {
				path = fielderr.Key("poolPersistence", all[0])
			}
			faults.AddUnder(path, err)
		}
	}
	return faults.Err()
}

// profileOf returns the profile that is configured for a pool or a group.
func (s *snapshot) profileOf(name string) PersistenceProfile {
	if p, ok := s.PoolPersistence[name]; ok {
		return p
	}
	return s.Persistence
}

// sameProfile reports whether two profiles are the same. Profiles of programs
// may be values that cannot be compared.
func sameProfile(a, b PersistenceProfile) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return reflect.TypeOf(a) == reflect.TypeOf(b) && reflect.ValueOf(a).Comparable() && a == b
}

// groupProfile returns the profile of a group: its own, else the one that its
// members have in common.
func (s *snapshot) groupProfile(g *lbpool.Group) (PersistenceProfile, error) {
	if p, ok := s.PoolPersistence[g.Name()]; ok {
		return p, nil
	}
	members := g.Members()
	first := s.profileOf(members[0].Pool.Name())
	for _, m := range members[1:] {
		if !sameProfile(s.profileOf(m.Pool.Name()), first) {
			return nil, fmt.Errorf("members %q and %q have different profiles", members[0].Pool.Name(), m.Pool.Name())
		}
	}
	return first, nil
}

// sources are all sources of bindings.
var sources = [...]persistence.Source{
	persistence.FromMemory, persistence.FromNear, persistence.FromStore, persistence.FromLocal, persistence.FromCookie,
	persistence.FromMap, persistence.FromScript,
}

// outcomes count the outcomes of bindings in a target, and the sources of the
// bindings.
type outcomes struct {
	counts    histogram.Striped[outcomeCounts]
	ambiguous atomic.Int64 // Unix time of the last report of an ambiguous server
}

type outcomeCounts struct {
	outcomes [outcomeCount]atomic.Uint64
	sources  [len(sources)]atomic.Uint64 // in the order of sources
}

func (o *outcomes) add(p Outcome, source persistence.Source) {
	c := o.counts.Own()
	c.outcomes[p].Add(1)
	if source == "" {
		return
	}
	for i := range sources {
		if sources[i] == source {
			c.sources[i].Add(1)
			return
		}
	}
}

// outcomesOf returns the counts of a target. They outlive configurations.
func (vs *VirtualService) outcomesOf(target string) *outcomes {
	o, ok := vs.outcomes.Load(target)
	if !ok {
		o, _ = vs.outcomes.LoadOrStore(target, new(outcomes))
	}
	return o.(*outcomes)
}

// mayReportAmbiguous reports whether the last report of an ambiguous server is
// a minute old.
func (t *target) mayReportAmbiguous(now time.Time) bool {
	last := t.outcomes.ambiguous.Load()
	return now.Unix()-last >= 60 && t.outcomes.ambiguous.CompareAndSwap(last, now.Unix())
}

// TargetStats counts the outcomes of clients' bindings in a pool or a group.
type TargetStats struct {
	// Target is the name of the pool or the group.
	Target string
	// Outcomes counts requests by [Record].Outcome. Outcomes that have not
	// occurred are left out.
	Outcomes map[Outcome]uint64
	// Sources counts requests of bound clients by the source of the binding, as
	// in [Record].BindingSource. Sources that have not occurred are left out.
	Sources map[persistence.Source]uint64
}

// targetStats returns the counts of all targets of the configuration, sorted by
// name.
func (vs *VirtualService) targetStats() []TargetStats {
	var stats []TargetStats
	for name, t := range vs.current.Load().targets {
		row := TargetStats{Target: name, Outcomes: map[Outcome]uint64{}, Sources: map[persistence.Source]uint64{}}
		for c := range t.outcomes.counts.All() {
			for p := range outcomeCount {
				if n := c.outcomes[p].Load(); n > 0 {
					row.Outcomes[p] += n
				}
			}
			for i, source := range sources {
				if n := c.sources[i].Load(); n > 0 {
					row.Sources[source] += n
				}
			}
		}
		stats = append(stats, row)
	}
	slices.SortFunc(stats, func(a, b TargetStats) int { return strings.Compare(a.Target, b.Target) })
	return stats
}
