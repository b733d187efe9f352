package admin

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/limpetlb/limpet/internal/tokenbucket"
)

// eventRing is how many events are kept for those who connect again.
const eventRing = 512

// The bounds of one subscriber.
const (
	queueLength     = 256
	eventsPerSecond = 500
)

// A hub hands messages to subscribers, and keeps the latest. Publishing never
// waits for a subscriber.
type hub struct {
	length, bytes int // bounds of the ring; 0 bytes: none

	mu   sync.Mutex
	ring []message // the oldest first
	size int       // bytes in the ring
	last uint64    // the latest id
	subs []*subscriber
}

// A message is one event of a stream. Those that are kept have an id.
type message struct {
	id    uint64
	event string
	data  any
	size  int
}

// A subscriber gets messages.
type subscriber struct {
	wants   func(message) bool
	queue   chan message
	rate    *tokenbucket.Bucket
	begun   time.Time
	dropped atomic.Uint64
}

func newHub(length, bytes int) *hub { return &hub{length: length, bytes: bytes} }

// subscribe adds a subscriber, which also gets the kept messages after an id;
// all of them if that id is not known here. wants runs in the goroutine that
// publishes.
func (h *hub) subscribe(after uint64, resume bool, wants func(message) bool) (s *subscriber, missed []message, stop func()) {
	size, _ := tokenbucket.NewSize(eventsPerSecond, time.Second, 0)
	s = &subscriber{wants: wants, queue: make(chan message, queueLength), rate: tokenbucket.NewBucket(size), begun: time.Now()}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.ring {
		if resume && (m.id > after || after > h.last) && wants(m) {
			missed = append(missed, m)
		}
	}
	h.subs = append(slices.Clip(h.subs), s)
	return s, missed, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.subs = slices.DeleteFunc(slices.Clone(h.subs), func(other *subscriber) bool { return other == s })
	}
}

// publish hands out a message. With keep it gets an id, and is kept.
func (h *hub) publish(event string, data any, size int, keep bool) {
	m := message{event: event, data: data, size: size}
	h.mu.Lock()
	defer h.mu.Unlock()
	if keep {
		h.last++
		m.id = h.last
		h.ring = append(h.ring, m)
		h.size += size
		for len(h.ring) > h.length || h.bytes > 0 && h.size > h.bytes {
			h.size -= h.ring[0].size
			h.ring = slices.Delete(h.ring, 0, 1)
		}
	}
	for _, s := range h.subs {
		s.offer(m)
	}
}

// kept returns the kept messages, the latest first.
func (h *hub) kept() []message {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := slices.Clone(h.ring)
	slices.Reverse(all)
	return all
}

// offer puts a message into the queue if the subscriber wants it and keeps up.
func (s *subscriber) offer(m message) {
	if !s.wants(m) {
		return
	}
	if !s.rate.Take(int64(time.Since(s.begun))) {
		s.dropped.Add(1)
		return
	}
	select {
	case s.queue <- m:
	default:
		s.dropped.Add(1)
	}
}
