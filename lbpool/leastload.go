package lbpool

// requestWork is the bytes of a response that weigh as much as one lease.
const requestWork = 16 << 10

// weighing is an algorithm that needs Server.work.
type weighing interface{ weighs() }

// LeastLoad returns an algorithm that chooses the server with the least
// outstanding work in proportion to its ratio: its leases in use, plus one for
// every 16 KiB still to come of the responses that a Transport is passing on. A
// response of unknown length counts as a lease only. Without a Transport it is
// LeastConnections. Equal servers take turns. It looks at every server: about
// two nanoseconds for each.
func LeastLoad() Algorithm { return new(leastLoad) }

type leastLoad struct{ turns turns }

func (*leastLoad) weighs() {}

func (a *leastLoad) Choose(up []*Server, h Hint) *Server {
	start := a.turns.next(a.turns.round(up))
	var best *Server
	var bestLoad, bestWeight int64
	for i := range up {
		at := start + i
		if at >= len(up) {
			at -= len(up)
		}
		s := up[at]
		load, weight := s.open.Load()+s.work.Load()/requestWork, s.weight.Load()
		if best != nil && load*bestWeight >= bestLoad*weight || !h.Allows(s) {
			continue
		}
		if s.ramping() && (i > 0 || !s.takesTurn()) { // as in LeastConnections
			load++
			if best != nil && load*bestWeight >= bestLoad*weight {
				continue
			}
		}
		best, bestLoad, bestWeight = s, load, weight
		if load == 0 {
			break
		}
	}
	return best
}
