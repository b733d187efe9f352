package lbpool

import "time"

// The time to first byte is smoothed over the latest responses. A server that
// is avoided because it is slow has none, so old measurements lose weight.

const (
	forgetFirstByte = 5 * time.Second // the time in which an old measurement halves
	maxForget       = 30              // halvings
	sampleTime      = 10 * time.Millisecond
)

// smoothFirstByte moves the smoothed time an eighth of the way to the new one,
// or all the way if it is the first for some time. A race may lose a
// measurement, which does no harm.
func (s *Server) smoothFirstByte(d time.Duration) {
	old, now := s.firstByte.Load(), int64(0)
	smoothed := int64(d)
	aged := false
	if s.pool.current.Load().timed {
		now = s.pool.clock()
		age := now - s.sampled.Load()
		aged = age > int64(forgetFirstByte)
		if age > int64(sampleTime) || s.sampled.Load() == 0 { // rarely, since other goroutines read it often
			s.sampled.Store(now)
		}
	}
	if old != 0 && !aged {
		smoothed = old + (int64(d)-old)/8
	}
	if smoothed != old && !s.firstByte.CompareAndSwap(old, smoothed) || now == 0 {
		return
	}
	// The best so far, which rises slowly so that one lucky response does not
	// stay the best.
	if best := s.bestByte.Load(); best == 0 || smoothed < best {
		s.bestByte.Store(max(smoothed, 1))
	} else {
		s.bestByte.CompareAndSwap(best, best+best/1024+1)
	}
}

// agedFirstByte is the smoothed time, halved for each forgetFirstByte since the
// latest answer; 0 if there was none.
func (s *Server) agedFirstByte(now int64) int64 {
	d, age := s.firstByte.Load(), now-s.sampled.Load()
	if age < int64(forgetFirstByte) || d == 0 {
		return d
	}
	return max(d>>min(age/int64(forgetFirstByte), maxForget), 1)
}
