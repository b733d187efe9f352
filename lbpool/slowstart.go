package lbpool

import "time"

// Slow start lets the share of a server that has come up grow linearly. The
// share is a number that is updated in steps, lazily, as requests arrive, so
// choosing a server does not read the clock.

const (
	fullRamp  = 1024 // the share of a server that is not in slow start
	firstRamp = fullRamp / 64
	rampSteps = 64 // of a slow start
)

// SlowStart returns the share of its ratio that the server gets: 1, or less
// during slow start, but more than 0. It is for algorithms. Those of this
// package use it, except ConsistentHash.
func (s *Server) SlowStart() float64 { return float64(s.live().ramp.Load()) / fullRamp }

func (s *Server) ramping() bool { return s.ramp.Load() < fullRamp }

// takesTurn reports whether a server takes its turn. A server in slow start
// skips turns, evenly spread, so that it gets just its share.
func (s *Server) takesTurn() bool {
	ramp := uint64(s.ramp.Load())
	if ramp >= fullRamp {
		return true
	}
	n := s.rampTurns.Add(ramp)
	return n/fullRamp != (n-ramp)/fullRamp
}

// rampLocked updates the share. It returns when the next step is due; zero for
// never.
func (s *Server) rampLocked(now time.Time, over time.Duration) time.Time {
	ramp, due := int64(fullRamp), time.Time{}
	if passed := now.Sub(s.upSince); !s.upSince.IsZero() && passed < over {
		ramp = max(fullRamp*int64(passed/time.Microsecond)/max(int64(over/time.Microsecond), 1), firstRamp)
		due = now.Add(min(over/rampSteps+1, over-passed))
	} else {
		s.upSince = time.Time{}
	}
	if int32(ramp) != s.ramp.Load() {
		s.ramp.Store(int32(ramp))
		s.weight.Store(int64(s.ratio.Load()) * ramp)
	}
	return due
}
