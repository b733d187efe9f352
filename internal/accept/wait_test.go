package accept

import (
	"math"
	"testing"
	"time"
)

// A server that lets connections be idle for ever would have lost them with the
// first sweep, if it had said so by the longest duration.
func TestWaitIsAsLongAsItSays(t *testing.T) {
	for limit, sweeps := range map[time.Duration]uint32{
		time.Nanosecond: 2, sweepInterval: 2, sweepInterval + 1: 3, time.Minute: 5,
		math.MaxInt64: uint32(math.MaxInt64/sweepInterval) + 2,
	} {
		c := &Conn{gate: New(func() *Rules { return new(Rules) })}
		c.gate.waiting.runs.Store(true) // no sweep while this looks
		c.Wait(limit)
		if got := c.until.Load(); got != sweeps || int32(1-got) >= 0 {
			t.Errorf("%v: closed by sweep %d, want %d", limit, got, sweeps)
		}
		c.Serve()
		if got := c.until.Load(); got != 0 {
			t.Errorf("%v: still closed by sweep %d", limit, got)
		}
	}
}
