package lbpool

import "time"

// FewestServers returns an algorithm that fills the first server of the list until it is saturated, then uses the second
// as well, and so on, so that as few servers as possible have something to do. A server is saturated when it has at
// least as many leases in use as its ratio and its time to first byte is above threshold. 0 or less means: above twice
// what it is when the server is at ease. When all are saturated the one with the fewest leases in use in proportion to
// its ratio is taken.
//
// Times come from Outcome.FirstByte. What is not measured is not saturated, except that a server that has not answered
// yet gets no more than ten times its ratio at once.
func FewestServers(threshold time.Duration) Algorithm {
	return &fewestServers{threshold: int64(threshold)}
}

type fewestServers struct {
	threshold int64
	rest      leastConnections
}

// unmeasuredOpen is how many leases for each unit of ratio a server may have before it has answered once.
const unmeasuredOpen = 10

func (*fewestServers) timed() {}

func (a *fewestServers) Choose(up []*Server, h Hint) *Server {
	now := up[0].pool.clock()
	for _, s := range up {
		if !a.saturated(s, now) && h.Allows(s) {
			return s
		}
	}
	return a.rest.Choose(up, h)
}

func (a *fewestServers) saturated(s *Server, now int64) bool {
	open, fair := s.open.Load(), max(s.weight.Load()/fullRamp, 1)
	if open < fair {
		return false
	}
	usual, threshold := s.agedFirstByte(now), a.threshold
	if usual == 0 {
		return open >= unmeasuredOpen*fair
	}
	if threshold <= 0 {
		threshold = 2 * s.bestByte.Load()
	}
	return usual > threshold
}
