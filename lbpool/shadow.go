package lbpool

import (
	"log/slog"
	"slices"
	"sync/atomic"
	"time"
)

// Shadow returns copies of pools and of groups of them, and of their backup
// pools, for finding out what would become of a request: whatever is done with
// the copies changes nothing of the originals. The copies have the servers, the
// states, the loads and the settings of this moment, and keep them, as nothing
// checks them. Their algorithms begin where the originals are; one of another
// package is shared, and is called with copies of servers. Their events go
// nowhere.
func Shadow(pools []*Pool, groups []*Group) ([]*Pool, []*Group) {
	of := shadows{}
	copies := make([]*Pool, len(pools))
	for i, p := range pools {
		copies[i] = of.pool(p)
	}
	groupCopies := make([]*Group, len(groups))
	for i, g := range groups {
		groupCopies[i] = of.group(g)
	}
	return copies, groupCopies
}

// shadows are the copies of pools that have been made.
type shadows map[*Pool]*Pool

func (of shadows) pool(p *Pool) *Pool {
	if p == nil {
		return nil
	}
	p.refresh()
	var shadow *Pool
	var backup *Pool
	p.lockLive(func(p *Pool) {
		if shadow = of[p]; shadow == nil {
			shadow = p.shadowLocked()
			backup, of[p] = p.latest.fail.Backup, shadow
		}
	})
	if backup != nil {
		shadow.latest.fail.Backup = of.pool(backup) // nobody else has it yet
	}
	return shadow
}

func (of shadows) group(g *Group) *Group {
	members := slices.Clone(g.members)
	for i := range members {
		members[i].Pool = of.pool(members[i].Pool)
	}
	shadow := &Group{name: g.name, min: g.min, fail: g.fail, members: members, stay: g.stay, find: g.find}
	shadow.fail.Backup = of.pool(g.fail.Backup)
	out := make(map[int]*atomic.Bool)
	for _, l := range g.levels {
		priority := l.members[0].Priority
		out[priority] = new(atomic.Bool)
		out[priority].Store(l.out.Load())
	}
	shadow.addLevels(out)
	for i, l := range shadow.levels {
		l.turn.Store(g.levels[i].turn.Load())
		l.spread.Store(g.levels[i].spread.Load())
	}
	return shadow
}

func (p *Pool) shadowLocked() *Pool {
	st := *p.latest.settings
	st.logger, st.onEvent, st.bound = slog.New(slog.DiscardHandler), nil, nil
	st.queue = Queue{} // in which nobody would make room
	st.algorithm = shadowAlgorithm(st.algorithm)
	shadow := newPool()
	shadow.born = p.born
	now := time.Now()
	shadow.edit(now, causeConfigured, "", nil, func() bool {
		shadow.completeLocked(&st)
		for i, s := range p.searches {
			shadow.searches[i].found = s.found
		}
		shadow.configured = p.configured
		shadow.rebuildLocked(&st, false)
		for addr, s := range shadow.latest.byAddr {
			if other := p.latest.byAddr[addr]; other != nil {
				s.shadowLocked(other, now)
			}
		}
		return true
	})
	return shadow
}

// shadowLocked makes the server what another one is.
func (s *Server) shadowLocked(other *Server, now time.Time) {
	st := other.stateLocked(now)
	s.restoreLocked(now, &st)
	s.disabled, s.drain = other.disabled, other.drain
	s.setRatioLocked(int(other.ratio.Load()))
	s.keepsBound.Store(other.keepsBound.Load())
	for _, c := range [...]struct{ to, from *atomic.Int64 }{
		{&s.open, &other.open}, {&s.work, &other.work}, {&s.firstByte, &other.firstByte},
		{&s.sampled, &other.sampled}, {&s.bestByte, &other.bestByte},
	} {
		c.to.Store(c.from.Load())
	}
	s.unreachable.Store(other.unreachable.Load())
	s.rampTurns.Store(other.rampTurns.Load())
}

// shadowAlgorithm returns a copy of an algorithm of this package, and another
// one as it is.
func shadowAlgorithm(a Algorithm) Algorithm {
	var from, to *turns
	copied := a
	switch a := a.(type) {
	case *roundRobin:
		c := new(roundRobin)
		copied, from, to = c, &a.turns, &c.turns
	case *leastConnections:
		c := new(leastConnections)
		copied, from, to = c, &a.turns, &c.turns
	case *leastLoad:
		c := new(leastLoad)
		copied, from, to = c, &a.turns, &c.turns
	case *fastestResponse:
		c := new(fastestResponse)
		copied, from, to = c, &a.turns, &c.turns
	case *fewestServers:
		c := &fewestServers{threshold: a.threshold}
		copied, from, to = c, &a.rest.turns, &c.rest.turns
	case *randomTwo:
		return new(randomTwo)
	case *consistentHash:
		return &consistentHash{cfg: a.cfg}
	}
	if from != nil {
		to.count.Store(from.count.Load())
	}
	return copied
}
