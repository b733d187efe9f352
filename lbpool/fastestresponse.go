package lbpool

import "time"

// timed is an algorithm that needs Server.sampled.
type timed interface{ timed() }

// FastestResponse returns an algorithm that chooses the server with the
// shortest expected time to the first byte: the smoothed time to first byte,
// times the requests that the server would then have, in proportion to its
// ratio. So the fastest server gets the most requests but not all of them.
//
// Measurements lose half their weight every five seconds, so that a server that
// was slow once is tried again. A server without measurements gets one request
// at a time, or as many as its ratio. A server that fails quickly looks fast:
// leave passive marking on.
//
// Times come from Outcome.FirstByte. It looks at every server: about two
// nanoseconds for each.
func FastestResponse() Algorithm { return new(fastestResponse) }

type fastestResponse struct{ turns turns }

func (*fastestResponse) timed() {}

func (a *fastestResponse) Choose(up []*Server, h Hint) *Server {
	start := a.turns.next(a.turns.round(up))
	now := up[0].pool.clock()
	var best *Server
	var bestCost, bestWeight int64
	for i := range up {
		at := start + i
		if at >= len(up) {
			at -= len(up)
		}
		s := up[at]
		open, weight := s.open.Load(), s.weight.Load()
		usual := s.agedFirstByte(now)
		if usual == 0 {
			usual = int64(time.Minute) // only if there is no other, once it has a request
			if open < max(weight/fullRamp, 1) && (!s.ramping() || i == 0 && s.takesTurn()) && h.Allows(s) {
				return s
			}
		}
		cost := (usual>>10 + 1) * (open + 1) // about microseconds
		// cost/weight < bestCost/bestWeight, without the division
		if best != nil && cost*bestWeight >= bestCost*weight || !h.Allows(s) {
			continue
		}
		best, bestCost, bestWeight = s, cost, weight
	}
	return best
}
