package histogram

import (
	"iter"
	"runtime"
	"sync"
	"sync/atomic"
)

// maxStripes is the most stripes of a [Striped].
const maxStripes = 16

// stripes is how many stripes are used.
var stripes = min(max(runtime.GOMAXPROCS(0), 1), maxStripes)

// A Striped value exists once for each processor, or up to 16 times, so that
// goroutines which count do not wait for the same cache line. A T is made when
// it is first used. The zero value is ready to use. It may be used
// concurrently, and must not be copied.
type Striped[T any] struct {
	stripes [maxStripes]atomic.Pointer[apart[T]]
}

// apart keeps a value off the cache lines of others.
type apart[T any] struct {
	_     [128]byte
	value T
	_     [128]byte
}

// Own returns the value for the caller to count in. Another goroutine may have
// the same one, so T must be safe for concurrent use.
func (s *Striped[T]) Own() *T {
	p := &s.stripes[own()]
	v := p.Load()
	if v == nil {
		p.CompareAndSwap(nil, new(apart[T]))
		v = p.Load()
	}
	return &v.value
}

// All returns those values that exist, for readers that sum up.
func (s *Striped[T]) All() iter.Seq[*T] {
	return func(yield func(*T) bool) {
		for i := range s.stripes {
			if v := s.stripes[i].Load(); v != nil && !yield(&v.value) {
				return
			}
		}
	}
}

// tokens have the number of a stripe. A [sync.Pool] gives each processor its
// own.
var tokens = sync.Pool{New: func() any {
	n := int(issued.Add(1)) % stripes
	return &n
}}

var issued atomic.Uint32

// own returns the number of the processor's stripe.
func own() int {
	t := tokens.Get().(*int)
	n := *t
	tokens.Put(t)
	return n
}
