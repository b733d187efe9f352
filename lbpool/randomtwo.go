package lbpool

import "math/rand/v2"

// RandomTwo returns an algorithm that draws two servers at random, by their
// ratios, and chooses the one with fewer leases in use in proportion to its
// ratio. It is nearly as even as LeastConnections, costs the same for any
// number of servers, and keeps several independent load balancers from choosing
// the same server.
func RandomTwo() Algorithm { return new(randomTwo) }

type randomTwo struct{ turns turns }

func (a *randomTwo) Choose(up []*Server, h Hint) *Server {
	round := a.turns.round(up)
	one, other := round.draw(), round.draw()
	for i := 0; other == one && i < 3; i++ {
		other = round.draw()
	}
	switch oneAllowed, otherAllowed := h.Allows(one), h.Allows(other); {
	case !oneAllowed && !otherAllowed:
		return a.any(up, h)
	case !oneAllowed:
		return other
	case !otherAllowed:
		return one
	}
	if other.load() < one.load() {
		return other
	}
	return one
}

// draw returns a server at random, according to ratios and slow start.
func (r *round) draw() *Server {
	var s *Server
	for range 4 {
		if n := rand.N(r.len()); r.order != nil {
			s = r.up[r.order[n]]
		} else {
			s = r.up[n]
		}
		if s.takesTurn() {
			break
		}
	}
	return s
}

// load is the leases in use, in proportion to the ratio that slow start allows.
func (s *Server) load() float64 { return float64(s.open.Load()) / float64(s.weight.Load()) }

// any returns a server at random of those that h allows: when few are left,
// drawing does not find them.
func (a *randomTwo) any(up []*Server, h Hint) *Server {
	var s *Server
	var seen int
	for _, other := range up {
		if h.Allows(other) {
			if seen++; rand.N(seen) == 0 {
				s = other
			}
		}
	}
	return s
}
