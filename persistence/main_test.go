package persistence

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// advance lets d pass on the virtual clock of a synctest bubble.
func advance(d time.Duration) {
	<-time.After(d)
}

// checkInvariants fails the test if t's shards contradict themselves or their bounds.
func checkInvariants[K comparable, V any](tb interface {
	Helper()
	Fatalf(string, ...any)
}, t *Table[K, V]) {
	tb.Helper()
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		if got, want := s.order.Len(), len(s.places); got != want {
			tb.Fatalf("shard %d: %d entries in order, %d places", i, got, want)
		}
		if len(s.places) > s.maxEntries || s.bytes > s.maxBytes {
			tb.Fatalf("shard %d: %d of %d entries, %d of %d bytes", i, len(s.places), s.maxEntries, s.bytes, s.maxBytes)
		}
		bytes := 0
		for j, p := range s.places {
			bytes += s.weigh(p.record.key, p.record.value)
			if int(p.record.place) != j {
				tb.Fatalf("shard %d: the record at place %d says %d", i, j, p.record.place)
			}
			if p.due > time.Duration(p.record.deadline.Load()) {
				tb.Fatalf("shard %d: place %d is due after its deadline", i, j)
			}
			if r, ok := s.order.Peek(p.record.key); !ok || r != p.record {
				tb.Fatalf("shard %d: the index does not lead to place %d", i, j)
			}
			if t.shard(p.record.key) != s {
				tb.Fatalf("shard %d: key %v belongs elsewhere", i, p.record.key)
			}
		}
		if s.bytes != bytes {
			tb.Fatalf("shard %d: bytes = %d, sum is %d", i, s.bytes, bytes)
		}
		s.mu.Unlock()
	}
}
