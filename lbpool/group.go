package lbpool

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strconv"
	"sync/atomic"

	"github.com/limpetlb/limpet/internal/bounds"
	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/internal/prioritylabel"
)

const (
	maxMembers = 1000 // pools of one group
)

// GroupConfig describes a pool group.
type GroupConfig struct {
	// Name is the group's name in errors and in a Set. Required.
	Name string
	// Members are the group's pools, 1 to 1000.
	Members []Member
	// MinServers is how many servers must be up in the pools of a priority for
	// it to be used. If no priority has that many, the highest one that has any
	// is used. 0 means 1.
	MinServers int `default:"1" min:"1"`
	// ImplicitLabels lets a label be a host with a path, such as
	// "shop.example/cart", which applies to everything below it. If no member
	// has the requested label, such as the host and path of a request, the one
	// that is its longest prefix applies: the host must be the same, ignoring
	// case and port, and the path must end at a slash or where the requested
	// one ends. "shop.example" and "shop.example/" apply to all paths of the
	// host. Two labels for the same host and path are a fault.
	ImplicitLabels bool
	// FallbackLabel is the label to use if no member has the requested one; a
	// member must have it. If it is empty, such a request is an error.
	FallbackLabel string
	// StayDown keeps a priority out of use, even when its servers come back,
	// once a request had to use a lower one because too few of its servers were
	// up. Reinstate puts it back to use. It is for servers whose data must be
	// checked first; bound clients leave them too. The lowest priority always
	// stays in use, and so does one whose servers are only full.
	StayDown bool
	// FailAction says what to do if no pool of the group can take a request. A
	// Transport performs FailBackup for a Route with this Group; the caller
	// performs the others.
	FailAction FailAction
}

// Member is a pool in a group.
type Member struct {
	// Pool is the pool. Required. A pool can be a member once.
	Pool *Pool
	// Ratio is the pool's share among those with the same priority, 0 to 1000.
	// With 0 it gets no new clients; clients bound to one of its servers still
	// go there.
	Ratio int `min:"0" max:"1000"`
	// Priority decides the order: the pool is used if no pool with a higher
	// priority can serve.
	Priority int `negative:"less than 0"`
	// Label is a name for the priority, for callers that ask for one. Empty
	// means the number.
	Label string
}

func (m *Member) label() string {
	if m.Label == "" {
		return strconv.Itoa(m.Priority)
	}
	return m.Label
}

// A Group chooses among pools: by ratio among those with the highest priority
// that can serve. Its configuration does not change, but its choice follows the
// state of its pools, and with StayDown it remembers the priorities that are
// out of use. All methods may be called concurrently.
type Group struct {
	name    string
	min     int
	fail    FailAction
	members []Member
	stay    bool
	levels  []*level            // highest priority first
	labels  map[string][]*level // by label
	find    prioritylabel.Rules // replaces other labels
}

// level is the members with one priority.
type level struct {
	members []Member
	out     *atomic.Bool // by StayDown; shared by all levels of the priority
	upTo    []uint64     // sums of the ratios, up to and including each member
	step    uint64       // coprime to the sum
	turn    atomic.Uint64
	spread  atomic.Uint64
}

// NewGroup validates cfg and returns a group. The error joins a
// [*FieldError] for each fault.
func NewGroup(cfg GroupConfig) (*Group, error) {
	var faults fielderr.List
	g := &Group{
		name: cfg.Name, min: max(cfg.MinServers, 1), fail: cfg.FailAction.withDefaults(), stay: cfg.StayDown,
		members: slices.Clone(cfg.Members),
		find:    prioritylabel.Rules{Implicit: cfg.ImplicitLabels, Fallback: cfg.FallbackLabel},
	}
	if g.name == "" {
		faults.Addf("name", nil, "missing")
	}
	bounds.Check("", cfg, &faults)
	g.fail.validate("failAction", &faults)
	if n := len(g.members); n == 0 {
		faults.Addf("members", nil, "missing")
	} else if n > maxMembers {
		faults.Addf("members", nil, "%d pools, more than %d", n, maxMembers)
	}
	labels := make([]string, len(g.members))
	for i, m := range g.members {
		labels[i] = m.label()
	}
	if err := g.find.Check(labels); err != nil {
		faults.Add("members", nil, err)
	}
	if l := cfg.FallbackLabel; l != "" && !slices.Contains(labels, l) {
		faults.Addf("fallbackLabel", l, "no member has this label")
	}
	seen := make(map[*Pool]int, len(g.members))
	for i, m := range g.members {
		path := fielderr.Index("members", i)
		if m.Pool == nil {
			faults.Addf(path+".pool", nil, "missing")
		} else if first, taken := seen[m.Pool]; taken {
			faults.Addf(path+".pool", m.Pool.Name(), "already the pool of members[%d]", first)
		} else {
			seen[m.Pool] = i
		}
		bounds.Check(path, m, &faults)
	}
	if err := faults.ErrIn(cfg); err != nil {
		return nil, err
	}
	slices.SortStableFunc(g.members, func(a, b Member) int { return cmp.Compare(b.Priority, a.Priority) })
	out := make(map[int]*atomic.Bool)
	for _, m := range g.members {
		out[m.Priority] = new(atomic.Bool)
	}
	g.addLevels(out)
	return g, nil
}

// addLevels makes the levels of the members, which are sorted by priority.
func (g *Group) addLevels(out map[int]*atomic.Bool) {
	g.levels, g.labels = newLevels(g.members, out), make(map[string][]*level)
	byLabel := make(map[string][]Member)
	for _, m := range g.members {
		byLabel[m.label()] = append(byLabel[m.label()], m)
	}
	for label, members := range byLabel {
		g.labels[label] = newLevels(members, out)
	}
}

// newLevels returns the levels of members that are sorted by priority.
func newLevels(members []Member, out map[int]*atomic.Bool) []*level {
	var levels []*level
	for i, m := range members {
		if i == 0 || m.Priority != members[i-1].Priority {
			levels = append(levels, &level{out: out[m.Priority]})
		}
		l := levels[len(levels)-1]
		l.members = append(l.members, m)
		l.upTo = append(l.upTo, l.sum()+uint64(m.Ratio))
	}
	for _, l := range levels {
		l.step = stride(l.sum())
	}
	return levels
}

// stride returns a number near n divided by the golden ratio that has no factor
// in common with n: its multiples modulo n are all the numbers below n, each
// once, evenly spread at any time.
func stride(n uint64) uint64 {
	step := max(uint64(float64(n)*0.618), 1)
	for gcd(int(step), int(n)) > 1 {
		step++
	}
	return step
}

func (l *level) sum() uint64 {
	if len(l.upTo) == 0 {
		return 0
	}
	return l.upTo[len(l.upTo)-1]
}

// Name returns the group's name.
func (g *Group) Name() string { return g.name }

// Members returns the group's pools, those with the highest priority first. The
// caller owns the slice.
func (g *Group) Members() []Member { return slices.Clone(g.members) }

// FailAction returns GroupConfig.FailAction with the defaults filled in.
func (g *Group) FailAction() FailAction { return g.fail }

// Servers returns how many servers of all pools are up and how many there are.
func (g *Group) Servers() (up, total int) {
	for _, m := range g.members {
		snap := m.Pool.refresh()
		up, total = up+len(snap.up), total+len(snap.servers)
	}
	return up, total
}

// Lookup finds a server in the pools, as Pool.Lookup does, starting with those
// of the highest priority. It prefers one that is up. Servers of different
// pools with the same address and port are the same server.
func (g *Group) Lookup(server string, port uint16) (s *Server, shared, ok bool) {
	for _, m := range g.members {
		found, several, ok := m.Pool.Lookup(server, port)
		if !ok {
			continue
		}
		shared = shared || several || s != nil && s.addr != found.addr
		if s == nil || !s.usable() && found.usable() {
			s = found
		}
	}
	return s, shared, s != nil
}

// Select chooses the pool for a request; the pool then chooses the server.
//
// If h names a server, Select returns its pool as long as the pool can serve
// and is not out of use, whatever its priority and ratio: bound clients stay.
// Otherwise it uses the highest priority with pools that can serve. A pool can
// serve if it has a server that is up and not full, and no fewer servers up
// than its MinServersUp. Within the priority it chooses by ratio. The share of
// a pool that cannot serve is spread over the others equally, not by ratio.
//
// With a label, Select considers only the pools with that label, or with the
// one that GroupConfig.ImplicitLabels and FallbackLabel replace it by;
// CheckLabel returns the error if there is none. If no pool can serve, the
// error matches ErrNoServer, and ErrFull too if all servers that are up are
// full.
func (g *Group) Select(label string, h Hint) (*Pool, error) { return g.choose(label, &h, nil) }

// CheckLabel returns an error if Select would refuse the label: no pool has it,
// and no other label replaces it. An empty label is valid.
func (g *Group) CheckLabel(label string) error {
	if _, ok := g.resolve(label); !ok {
		return fmt.Errorf("pool group %q: unknown priority label: %q", g.name, label)
	}
	return nil
}

// choose is Select among the pools that are not spent.
func (g *Group) choose(label string, h *Hint, spent []*Pool) (*Pool, error) {
	if err := g.CheckLabel(label); err != nil {
		return nil, err
	}
	label, _ = g.resolve(label)
	levels := g.levels
	if label != "" {
		levels = g.labels[label]
	}
	if p := boundPool(levels, h, spent); p != nil {
		return p, nil
	}
	for _, least := range []int{g.min, 1} {
		for i, l := range levels {
			if l.out.Load() || l.up() < least {
				continue
			}
			if p := l.choose(h, spent); p != nil {
				if g.stay {
					leave(levels[:i], least)
				}
				return p, nil
			}
		}
		if g.min == 1 {
			break
		}
	}
	if g.full(label) {
		return nil, fmt.Errorf("pool group %q: %w", g.name, ErrFull)
	}
	return nil, fmt.Errorf("pool group %q: %w", g.name, ErrNoServer)
}

// resolve returns the label of members that applies for the requested one. An
// empty one stays empty.
func (g *Group) resolve(asked string) (label string, ok bool) {
	if _, ok := g.labels[asked]; ok || asked == "" {
		return asked, true
	}
	return g.find.Find(maps.Keys(g.labels), asked)
}

// boundPool returns the pool of the server that h names; nil if none can serve
// or is not spent.
func boundPool(levels []*level, h *Hint, spent []*Pool) (pool *Pool) {
	if !h.Server.IsValid() {
		return nil
	}
	var lead preference
	for _, l := range levels {
		for _, m := range l.members {
			snap := m.Pool.refresh()
			if l.out.Load() || len(snap.up) == 0 || snap.short || !snap.has(h.Server) || slices.Contains(spent, m.Pool) {
				continue
			}
			if h.Server.Port() != 0 {
				return m.Pool
			}
			// Servers of several pools may share the address.
			_, c, _ := snap.tied(snap.byHost[h.Server.Addr().Unmap()], h)
			if pool == nil || lead.less(c) {
				pool, lead = m.Pool, c
			}
		}
	}
	return pool
}

// handle returns the member that is p.
func (g *Group) handle(p *Pool) *Pool {
	for _, m := range g.members {
		if m.Pool.live() == p {
			return m.Pool
		}
	}
	return p
}

// shared reports whether h names an address that several servers share.
func (g *Group) shared(h *Hint) bool {
	if !h.Server.IsValid() || h.Server.Port() != 0 {
		return false
	}
	var one *Server
	for _, m := range g.members {
		s, several, ok := m.Pool.refresh().lookupAddr(h.Server)
		if several || ok && one != nil && one.addr != s.addr {
			return true
		}
		if ok {
			one = s
		}
	}
	return false
}

// leave takes those levels out of use that were passed over for a lower one
// because too few of their servers are up.
func leave(levels []*level, least int) {
	for _, l := range levels {
		if l.up() < least {
			l.out.Store(true)
		}
	}
}

// OutOfUse returns the pools of the priorities that StayDown keeps out of use,
// highest priority first.
func (g *Group) OutOfUse() []*Pool {
	var pools []*Pool
	for _, l := range g.levels {
		if l.out.Load() {
			for _, m := range l.members {
				pools = append(pools, m.Pool)
			}
		}
	}
	return pools
}

// Reinstate puts all priorities back to use that StayDown keeps out of use.
func (g *Group) Reinstate() {
	for _, l := range g.levels {
		l.out.Store(false)
	}
}

// full reports whether servers are up, given that none can take a request.
func (g *Group) full(label string) bool {
	levels := g.levels
	if label != "" {
		levels = g.labels[label]
	}
	return slices.ContainsFunc(levels, func(l *level) bool { return !l.out.Load() && l.up() > 0 })
}

// queueing returns the first pool with servers that are up and with a queue;
// nil if there is none.
func (g *Group) queueing(label string) *Pool {
	label, ok := g.resolve(label)
	if !ok {
		return nil
	}
	for _, l := range g.levels {
		for _, m := range l.members {
			snap := m.Pool.refresh()
			if (label == "" || label == m.label()) && !l.out.Load() && m.Ratio > 0 && len(snap.up) > 0 && !snap.short && snap.queue.Length > 0 {
				return m.Pool
			}
		}
	}
	return nil
}

// unmet returns why the server that h names was not taken, given that another
// pool was.
func (g *Group) unmet(h *Hint) Reason {
	for _, l := range g.levels {
		for _, m := range l.members {
			snap := m.Pool.refresh()
			switch s, _, reason := snap.find(h); {
			case s == nil:
			case reason != ReasonNone:
				return reason
			case snap.short, l.out.Load():
				return ReasonDown
			default:
				return ReasonFull
			}
		}
	}
	return ReasonGone
}

// up counts the servers that are up in pools that take new traffic.
func (l *level) up() (n int) {
	for _, m := range l.members {
		if snap := m.Pool.refresh(); m.Ratio > 0 && !snap.short {
			n += len(snap.up)
		}
	}
	return n
}

func (l *level) choose(h *Hint, spent []*Pool) *Pool {
	sum := l.sum()
	if sum == 0 {
		return nil
	}
	at := (l.turn.Add(1) * l.step) % sum
	m := l.members[sort.Search(len(l.upTo), func(i int) bool { return l.upTo[i] > at })]
	can := func(m *Member) bool { return m.serves(h) && !slices.Contains(spent, m.Pool) }
	if can(&m) {
		return m.Pool
	}
	var serving []*Pool
	for _, m := range l.members {
		if m.Ratio > 0 && can(&m) {
			serving = append(serving, m.Pool)
		}
	}
	if len(serving) == 0 {
		return nil
	}
	return serving[l.spread.Add(1)%uint64(len(serving))]
}

// serves reports whether the pool has a server for a request.
func (m *Member) serves(h *Hint) bool {
	snap := m.Pool.refresh()
	return !snap.short && slices.ContainsFunc(snap.up, func(s *Server) bool { return h.Allows(s) })
}
