package accept

import (
	"maps"
	"sync"
	"sync/atomic"
)

// Counts are those of a listener. The server that reads its connections counts
// what it alone knows.
type Counts struct {
	accepted atomic.Uint64
	refused  Tally

	WithoutRequest  atomic.Uint64 // connections whose first request did not come to the handler
	Handshakes      Tally         // of TLS, by version
	HandshakeErrors Tally         // of TLS, by reason
}

// A Tally counts by words from a list that is closed. The zero value is empty.
// It may be used concurrently.
type Tally struct {
	mu    sync.Mutex
	words map[string]uint64
}

// Add counts a word.
func (t *Tally) Add(word string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.words == nil {
		t.words = make(map[string]uint64)
	}
	t.words[word]++
}

// All returns a copy of the counts.
func (t *Tally) All() map[string]uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.words)
}

// uncounted takes the counts of connections without a listener.
var uncounted Counts

// Counts returns the counts of the listener that has accepted the connection.
func (c *Conn) Counts() *Counts {
	if c.listener == nil {
		return &uncounted
	}
	return &c.listener.counts
}

// ListenerStats are the counts of a listener.
type ListenerStats struct {
	Address  string // at which it listens
	Open     int    // connections that are open now
	Accepted uint64 // connections, those that were refused included
	// Refused are the connections that were closed when they were accepted or
	// when their header was read, by reason: "rule", "max", "max_per_client",
	// "rate", "rate_per_client" or "proxy_header".
	Refused map[string]uint64
	Counts  *Counts // what the server has counted
}

// Listeners returns the counts of all listeners, in the order in which they
// were made. Those of one that is closed end when another is made, and its
// connections are closed.
func (g *Gate) Listeners() []ListenerStats {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := make([]ListenerStats, len(g.made))
	for i, l := range g.made {
		all[i] = ListenerStats{
			Address: l.Addr().String(), Open: g.open.of(l), Accepted: l.counts.accepted.Load(), Refused: l.counts.refused.All(), Counts: &l.counts,
		}
	}
	return all
}
