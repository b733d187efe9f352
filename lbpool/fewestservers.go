package lbpool

import "time"

// FewestServers returns an algorithm that uses the first server of the list
// until it is saturated, then the second as well, and so on, so that as few
// servers as possible are in use. A server is saturated if it has at least as
// many leases in use as its ratio and its time to first byte is above
// threshold. 0 or less means: above twice its best. If all are saturated, the
// server with the fewest leases in use in proportion to its ratio is chosen.
//
// Times come from Outcome.FirstByte. A server without measurements is not
// saturated, but gets no more than ten times its ratio at once before its first
// response.
func FewestServers(threshold time.Duration) Algorithm {
	return &fewestServers{threshold: int64(threshold)}
}

type fewestServers struct {
	threshold int64
	rest      leastConnections
}

// unmeasuredOpen is how many leases for each unit of ratio a server may have
// before it has answered once.
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
