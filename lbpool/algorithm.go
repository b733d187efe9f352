package lbpool

import (
	"slices"
	"sync"
	"sync/atomic"
)

// An Algorithm chooses a server. Each value belongs to one pool, and is called
// concurrently.
type Algorithm interface {
	// Choose returns one of up, or nil for none. The list is never empty. It is
	// shared by all callers and must not be changed; the same slice always has
	// the same servers, so results may be cached for it. Choose may ignore
	// whether servers are excluded or full: if it returns such a server, it is
	// called again with a list without them. Checking with h.Allows is cheaper.
	Choose(up []*Server, h Hint) *Server
}

// RoundRobin returns an algorithm that uses the servers in turn. A server with
// ratio r has r turns in each round, spread evenly; over a whole round the
// shares are exact, with any number of goroutines.
func RoundRobin() Algorithm { return new(roundRobin) }

type roundRobin struct{ turns turns }

func (a *roundRobin) Choose(up []*Server, h Hint) *Server {
	round := a.turns.round(up)
	for range round.len() {
		if s := up[a.turns.next(round)]; h.Allows(s) && s.takesTurn() {
			return s
		}
	}
	for range round.len() {
		// All are in slow start, and one has to take the request.
		if s := up[a.turns.next(round)]; h.Allows(s) {
			return s
		}
	}
	return nil
}

// LeastConnections returns an algorithm that chooses the server with the fewest
// leases in use in proportion to its ratio. Equal servers take turns as in
// RoundRobin, so ratios apply even when all are idle. It looks at every server
// unless one is idle: about a nanosecond for each.
func LeastConnections() Algorithm { return new(leastConnections) }

type leastConnections struct{ turns turns }

func (a *leastConnections) Choose(up []*Server, h Hint) *Server {
	start := a.turns.next(a.turns.round(up))
	var best *Server
	var bestOpen, bestWeight int64
	for i := range up {
		at := start + i
		if at >= len(up) {
			at -= len(up)
		}
		s := up[at]
		open, weight := s.open.Load(), s.weight.Load()
		// open/weight < bestOpen/bestWeight, without the division
		if best != nil && open*bestWeight >= bestOpen*weight || !h.Allows(s) {
			continue
		}
		if s.ramping() && (i > 0 || !s.takesTurn()) {
			open++ // else an idle server in slow start would get all requests
			if best != nil && open*bestWeight >= bestOpen*weight {
				continue
			}
		}
		best, bestOpen, bestWeight = s, open, weight
		if open == 0 {
			break
		}
	}
	return best
}

// turns gives the servers of a list turns by their ratios. One round gives a
// server with ratio r its turns at the times 1/2r, 3/2r, 5/2r, … of the round;
// turns at the same time follow the order of the list. So equal servers simply
// alternate, and a server with a high ratio never has all its turns at once.
// The order is computed once for each list; after that a turn costs one atomic
// addition.
type turns struct {
	count  atomic.Uint64
	latest atomic.Pointer[round]
}

type round struct {
	up    []*Server
	order []uint16 // indices into up; nil: one turn for each, in order
}

func (r *round) len() int {
	if r.order == nil {
		return len(r.up)
	}
	return len(r.order)
}

// round returns the round of up. Lists are compared by identity, not content,
// which is cheap, and is why the pool never changes a published list. The
// latest list is kept, so its address is not reused.
func (t *turns) round(up []*Server) *round {
	if r := t.latest.Load(); r != nil && len(r.up) == len(up) && &r.up[0] == &up[0] {
		return r
	}
	r := newRound(up)
	t.latest.Store(r)
	return r
}

// next returns the index in r.up of the server whose turn it is.
func (t *turns) next(r *round) int {
	n := t.count.Add(1) - 1
	if r.order == nil {
		return int(n % uint64(len(r.up)))
	}
	return int(r.order[n%uint64(len(r.order))])
}

func newRound(up []*Server) *round {
	r := &round{up: up}
	var byRatio [maxRatio + 1][]uint16
	total, equal := 0, false
	for i, s := range up {
		ratio := s.Ratio()
		byRatio[ratio] = append(byRatio[ratio], uint16(i))
		total += ratio
		equal = len(byRatio[ratio]) == len(up)
	}
	if equal {
		return r
	}
	r.order = make([]uint16, 0, total)
	for _, simultaneous := range moments() {
		from := len(r.order)
		for _, ratio := range simultaneous {
			r.order = append(r.order, byRatio[ratio]...)
		}
		slices.Sort(r.order[from:])
	}
	return r
}

// moments returns, in the order of time within a round, which ratios have a
// turn at each moment.
var moments = sync.OnceValue(func() [][]int {
	type moment struct{ num, den int }
	at := map[moment][]int{}
	for ratio := 1; ratio <= maxRatio; ratio++ {
		for k := range ratio {
			num, den := 2*k+1, 2*ratio
			d := gcd(num, den)
			m := moment{num / d, den / d}
			at[m] = append(at[m], ratio)
		}
	}
	times := make([]moment, 0, len(at))
	for m := range at {
		times = append(times, m)
	}
	slices.SortFunc(times, func(a, b moment) int { return a.num*b.den - b.num*a.den })
	all := make([][]int, len(times))
	for i, m := range times {
		all[i] = at[m]
	}
	return all
})

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
