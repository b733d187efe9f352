package histogram

import (
	"sync/atomic"
	"time"
)

// An Exemplar is one duration that was counted, and where it comes from.
type Exemplar struct {
	TraceID string        // 32 hexadecimal digits
	Value   time.Duration // the duration
	At      time.Time     // when it was counted
}

// slots is how many exemplars there are: one for each octave, one below them
// and one above.
const slots = Last - First + 2

// Exemplars are the latest exemplars of a histogram, one for each octave. The
// zero value has none. They may be used concurrently.
type Exemplars struct {
	slots atomic.Pointer[[slots]atomic.Pointer[Exemplar]] // nil until there is one
}

// Keep keeps an exemplar in place of the one of its octave. It allocates, so it
// is only for traced requests.
func (e *Exemplars) Keep(x Exemplar) {
	if e.slots.Load() == nil {
		e.slots.CompareAndSwap(nil, new([slots]atomic.Pointer[Exemplar]))
	}
	e.slots.Load()[(Index(x.Value)+octave-1)/octave].Store(&x)
}

// All returns the exemplars in the order of their values.
func (e *Exemplars) All() (all []Exemplar) {
	kept := e.slots.Load()
	if kept == nil {
		return nil
	}
	for i := range kept {
		if x := kept[i].Load(); x != nil {
			all = append(all, *x)
		}
	}
	return all
}
