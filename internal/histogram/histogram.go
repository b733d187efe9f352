package histogram

import (
	"math"
	"sync/atomic"
	"time"
)

// The bounds, as powers of two of a second.
const (
	Schema = 2   // of native histograms: 2^Schema buckets for each power of two
	First  = -14 // of the lowest bound
	Last   = 12  // of the highest bound
)

const (
	octave  = 1 << Schema
	nBounds = (Last-First)*octave + 1
)

// Buckets is how many counts a [Snapshot] has.
const Buckets = nBounds + 1

// bounds are the upper bounds of all buckets but the last. A bound is rounded
// down to nanoseconds, which puts no duration into another bucket.
var bounds = func() (b [nBounds]time.Duration) {
	for i := range b {
		b[i] = time.Duration(math.Exp2(First+float64(i)/octave) * float64(time.Second))
	}
	return b
}()

// Index returns the bucket of a duration: the first one whose bound is not
// less, or the last.
func Index(d time.Duration) int {
	if d <= bounds[0] {
		return 0
	}
	if d > bounds[nBounds-1] {
		return nBounds
	}
	// The exponent of d, as a multiple of the lowest bound, is its octave. The
	// first bits of the fraction find the bucket, or the one before.
	const scale = 1 << -First / float64(time.Second)
	bits := math.Float64bits(float64(d) * scale)
	i := min((int(bits>>52)-1023)*octave+int(quarters[bits>>49&7]), nBounds-1)
	switch { // for the bound itself, and for d as a multiple that was rounded
	case d > bounds[i]:
		i++
	case i > 0 && d <= bounds[i-1]:
		i--
	}
	return i
}

// quarters are the buckets of an octave in which its eighths begin, from 1: the
// first bucket whose bound is not less than the beginning of the eighth. The
// bounds are 1.19, 1.41, 1.68 and 2 times the beginning of the octave.
var quarters = [8]uint8{1, 1, 2, 2, 3, 3, 4, 4}

// A Counter counts durations. The zero value is ready to use. It may be used
// concurrently; give each processor one of its own, see [Striped].
type Counter struct {
	counts [Buckets]atomic.Uint64
	sum    atomic.Uint64 // of all durations, in nanoseconds
}

// Observe counts a duration. A negative one is counted as 0.
func (c *Counter) Observe(d time.Duration) {
	c.counts[Index(d)].Add(1)
	c.sum.Add(uint64(max(d, 0)))
}

// AddTo adds the counts to s, which is from [New].
func (c *Counter) AddTo(s *Snapshot) {
	for i := range c.counts {
		s.Counts[i] += c.counts[i].Load()
	}
	s.Sum = time.Duration((uint64(s.Sum) + c.sum.Load()) & math.MaxInt64)
}

// A Snapshot has the counts of a histogram at one time.
type Snapshot struct {
	// Bounds are the upper bounds of the buckets, rounded down to nanoseconds:
	// 2^(i/4) seconds, from 2^-14 s to 2^12 s. A duration that equals a bound
	// belongs to its bucket. All histograms share the slice, which must not be
	// changed.
	Bounds []time.Duration
	// Counts are the counts of the buckets, each without those of the others.
	// There is one more than there are bounds: the last one counts what is
	// above all of them.
	Counts []uint64
	// Sum is the sum of all durations. It begins at 0 again when it would
	// exceed 292 years.
	Sum time.Duration
	// Exemplars are traced requests, at most one for each power of two, in the
	// order of their values. There are none without a tracer.
	Exemplars []Exemplar
}

// New returns a snapshot without counts.
func New() Snapshot { return Snapshot{Bounds: bounds[:], Counts: make([]uint64, Buckets)} }

// Count returns how many durations were counted.
func (s *Snapshot) Count() (n uint64) {
	for _, c := range s.Counts {
		n += c
	}
	return n
}
