package limpet

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/histogram"
	"github.com/limpetlb/limpet/lbpool"
)

// Health describes how well a virtual service works: a score from 0 to 100 and
// its four parts.
type Health struct {
	// Score is Performance less the three penalties, at least 0.
	Score float64
	// Performance is 100 if all clients get good answers in time.
	Performance float64
	// Resources is the penalty for scarce resources, up to 25.
	Resources float64
	// Anomaly is the penalty for traffic that has changed, up to 10.
	Anomaly float64
	// Security is the penalty for clients that policies refused, up to 100.
	Security float64
}

// Color returns the band of the score: "green" from 85, "yellow" from 65,
// "orange" from 1, else "red".
func (h Health) Color() string {
	switch {
	case h.Score >= 85:
		return "green"
	case h.Score >= 65:
		return "yellow"
	case h.Score >= 1:
		return "orange"
	}
	return "red"
}

// HealthInput has the facts from which a [Health] is computed: counts of about
// the last five minutes, or since the virtual service was made, and the state
// of the pools.
type HealthInput struct {
	// Window is how much time the counts cover.
	Window time.Duration

	Requests    uint64 // that were completed, the refused ones included
	Connections uint64 // that were denied when they were accepted
	Drops       uint64 // requests and connections that policies refused, rate limits included
	Failed      uint64 // requests with status 500 or more, or cut off by a server's failure
	Slow        uint64 // other requests whose response began later than Logging.SlowResponse
	Busy        uint64 // requests for which no script could run, as too many did

	// Recent and Before compare the last minute with the four before it.
	Recent, Before Traffic

	Servers   int     // in all pools, but for the disabled ones
	ServersUp int     // of them, those that are up
	Saturated float64 // the share of a pool's servers that are at their limits, of the pool that is worst off, 0 to 1
}

// Traffic is the load during a period.
type Traffic struct {
	Requests  uint64        // that were completed
	Rate      float64       // requests a second
	FirstByte time.Duration // the mean time until a response began; 0 if there was none
}

// DefaultHealth computes a health from counts:
//
//   - Performance is 100 × (1 − (Failed + Slow/2) / Requests), and 0 if there
//     are servers but none is up.
//   - Resources is 25 × the largest of three shares: that of the servers that
//     are not up, Busy / Requests, and Saturated.
//   - Anomaly is 10 × (r − 2) / 8, between 0 and 10, where r is how many
//     times the rate or the time to the first byte of the last minute is that
//     of the four minutes before, if both have at least 100 requests.
//   - Security is 100 × Drops / (Requests + Connections), and 0 below ten
//     drops: half the arrivals refused take off half the score.
func DefaultHealth(in HealthInput) Health {
	h := Health{Performance: 100}
	if in.Requests > 0 {
		h.Performance = 100 * (1 - (float64(in.Failed)+float64(in.Slow)/2)/float64(in.Requests))
		h.Resources = float64(in.Busy) / float64(in.Requests)
	}
	if in.Servers > 0 {
		if in.ServersUp == 0 {
			h.Performance = 0
		}
		h.Resources = max(h.Resources, 1-float64(in.ServersUp)/float64(in.Servers))
	}
	h.Resources = 25 * max(h.Resources, in.Saturated)
	if in.Recent.Requests >= 100 && in.Before.Requests >= 100 {
		times := in.Recent.Rate / in.Before.Rate
		if in.Before.FirstByte > 0 {
			times = max(times, float64(in.Recent.FirstByte)/float64(in.Before.FirstByte))
		}
		h.Anomaly = 10 * min(1, max(0, (times-2)/8))
	}
	if in.Drops >= 10 {
		h.Security = 100 * float64(in.Drops) / float64(in.Requests+in.Connections)
	}
	h.Score = max(0, h.Performance-h.Resources-h.Anomaly-h.Security)
	return h
}

// Health returns the present health, as the configuration's HealthScore
// computes it.
func (vs *VirtualService) Health() Health {
	return vs.current.Load().HealthScore(vs.HealthInput())
}

// HealthInput returns what the present health is computed from.
func (vs *VirtualService) HealthInput() HealthInput {
	in := vs.health.input(time.Now())
	for _, p := range vs.current.Load().Pools {
		var enabled, up, full int
		for _, server := range p.Servers() {
			switch server.State() {
			case lbpool.Disabled, lbpool.Removed:
				continue
			case lbpool.Up, lbpool.Unchecked:
				up++
				if server.Full() {
					full++
				}
			}
			enabled++
		}
		in.Servers += enabled
		in.ServersUp += up
		if up > 0 {
			in.Saturated = max(in.Saturated, float64(full)/float64(up))
		}
	}
	return in
}

// The counts for the health are kept in slices of time. All but the current
// slice are complete.
const (
	healthSlice  = 10 * time.Second
	healthWindow = 5 * time.Minute
	healthSlices = int(healthWindow / healthSlice)
	recentSlices = int(time.Minute / healthSlice)
)

// health has the counts of the latest slices.
type health struct {
	begun  time.Time
	counts histogram.Striped[healthCounts]
}

type healthCounts struct {
	turn   sync.Mutex // to begin a slice
	slices [healthSlices]healthSliceCounts
}

type healthSliceCounts struct {
	number atomic.Int64 // of slices since health.begun, from 1; 0 if never used

	requests, connections, drops, failed, slow, busy, answered atomic.Uint64
	firstByte                                                  atomic.Int64 // the sum, in nanoseconds
}

func (h *health) number(now time.Time) int64 { return int64(now.Sub(h.begun)/healthSlice) + 1 }

// slice returns the counts of a slice, given its number. It clears them if the
// slice is new.
func (h *healthCounts) slice(n int64) *healthSliceCounts {
	c := &h.slices[n%int64(healthSlices)]
	if c.number.Load() >= n {
		return c
	}
	h.turn.Lock()
	defer h.turn.Unlock()
	if c.number.Load() < n {
		for _, count := range [...]*atomic.Uint64{&c.requests, &c.connections, &c.drops, &c.failed, &c.slow, &c.busy, &c.answered} {
			count.Store(0)
		}
		c.firstByte.Store(0)
		c.number.Store(n)
	}
	return c
}

// add counts a record. Apart from drops, a record is bad in at most one way.
func (h *health) add(r *Record, now time.Time) {
	c := h.counts.Own().slice(h.number(now))
	if r.Connection {
		c.connections.Add(1)
	} else {
		c.requests.Add(1)
	}
	if r.ServerStatus != 0 {
		c.answered.Add(1)
		c.firstByte.Add(int64(r.FirstByte))
	}
	if len(r.Significant) == 0 {
		return
	}
	has := func(s Significance) bool { return slices.Contains(r.Significant, s) }
	if has(PolicyDrop) {
		c.drops.Add(1)
	}
	switch {
	case has(PolicyDrop): // by intent
	case has(Status5xx), has(ServerFailed), has(ServerTimeout), has(NoServer):
		c.failed.Add(1)
	case has(SlowResponse):
		c.slow.Add(1)
	}
	if slices.ContainsFunc(r.ScriptErrors, func(e *datascript.RuntimeError) bool { return errors.Is(e, datascript.ErrBusy) }) {
		c.busy.Add(1)
	}
}

// input sums up the slices.
func (h *health) input(now time.Time) HealthInput {
	current := h.number(now)
	// since returns how long ago the first of the latest slices began, given
	// their number.
	since := func(slices int) time.Duration {
		return now.Sub(h.begun) - time.Duration(max(0, current-int64(slices)))*healthSlice
	}
	in := HealthInput{Window: since(healthSlices)}
	var recentAnswered, beforeAnswered uint64
	var recentTime, beforeTime int64
	for counts := range h.counts.All() {
		for i := range counts.slices {
			c := &counts.slices[i]
			n := c.number.Load()
			if n == 0 || n > current || n <= current-int64(healthSlices) {
				continue
			}
			requests := c.requests.Load()
			in.Requests += requests
			in.Connections += c.connections.Load()
			in.Drops += c.drops.Load()
			in.Failed += c.failed.Load()
			in.Slow += c.slow.Load()
			in.Busy += c.busy.Load()
			if n > current-int64(recentSlices) {
				in.Recent.Requests += requests
				recentAnswered += c.answered.Load()
				recentTime += c.firstByte.Load()
			} else {
				in.Before.Requests += requests
				beforeAnswered += c.answered.Load()
				beforeTime += c.firstByte.Load()
			}
		}
	}
	recent := since(recentSlices)
	in.Recent.set(recent, recentAnswered, recentTime)
	in.Before.set(in.Window-recent, beforeAnswered, beforeTime)
	return in
}

// set computes the traffic from the counts of a period of this length.
func (t *Traffic) set(length time.Duration, answered uint64, firstByte int64) {
	if length > 0 {
		t.Rate = float64(t.Requests) / length.Seconds()
	}
	if answered > 0 {
		t.FirstByte = time.Duration(firstByte / int64(answered))
	}
}
