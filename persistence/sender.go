package persistence

import (
	"encoding/binary"
	"errors"
	"sync"
	"time"
)

// A Sender and a Receiver take entries to another process, while requests go on
// in the first one and later in the other. A message has records, each a kind
// (1 byte) and
//
//	table:    how many names, the names, the kind of what has it, its name there
//	entry:    key, value, remaining, idle, longest remaining    of the table named last
//	missing:  key
//
// Numbers are uvarints, durations nanoseconds, and a string is its length and
// its bytes. idle is 0 without an idleRule.
const (
	recordTable = iota + 1
	recordEntry
	recordMissing
)

const (
	// messageBytes is how long a message gets before another one is begun.
	messageBytes = 256 << 10
	// maxChangedKeys bounds the keys that a Sender remembers.
	maxChangedKeys = 65_536
)

// ErrTooManyChanges means that entries change faster than a [Sender] can send
// them: more than 65,536 were waiting.
var ErrTooManyChanges = errors.New("persistence: more than 65,536 entries have changed while they were sent")

// A Sender sends the entries of stores and profiles in memory to a [Receiver]
// in another process, and then what changes. Entries stay where they are. Add
// what has entries, then call Send again and again, and Close at the end. Add,
// Send and Close must not be called concurrently. The zero Sender is ready for
// use.
//
// An entry is read when it is sent, by one goroutine: the last record of a key
// says what it was at last, and records may be repeated. What is changed in the
// meantime is remembered by its key, for at most 65,536 keys.
type Sender struct {
	added []*sent

	mu      sync.Mutex
	changed map[changedKey]struct{}
	passed  chan struct{} // closed when these have been sent
	over    bool          // there were too many
	wait    time.Duration // of a change, until it has been sent
	// released is closed when wait ends; nil while there is none.
	released chan struct{}
	signal   chan struct{}
}

// sent is a carrier of a Sender.
type sent struct {
	carrier
	names []string
	all   bool // has been sent as a whole
}

type changedKey struct {
	of         *sent
	table, key string
}

// Add adds a [*Store], or the part of a [*ClientIP], [*AppCookie] or
// [*HTTPCookie] that belongs to a target; of an HTTPCookie this is its random
// key. Something else, such as a profile whose entries are on a server, has
// nothing to send and is ignored. name is what a Receiver knows it by. If it
// was added before, it gets another name: the Receiver takes the first that it
// knows. Add begins to note changes. A store or profile can have one Sender or
// Receiver at a time.
func (s *Sender) Add(name string, of any, target string) {
	c := carrierOf(of, target)
	if c == nil {
		return
	}
	for _, other := range s.added {
		if other.same(c) {
			other.names = append(other.names, name)
			return
		}
	}
	added := &sent{carrier: c, names: []string{name}}
	s.added = append(s.added, added)
	s.mu.Lock()
	if s.signal == nil {
		s.signal = make(chan struct{}, 1)
		s.changed, s.passed = make(map[changedKey]struct{}), make(chan struct{})
	}
	s.mu.Unlock()
	c.watch(func(table, key string, written bool) { s.note(changedKey{added, table, key}, written) })
}

// Wait makes calls that store another value, or remove one, wait until it has
// been sent, for limit at most. So a client that is told of its session finds
// it in the other process, if send waits until the Receiver has applied a
// message. 0 ends that, and the waits of calls under way. Wait may be called at
// any time.
func (s *Sender) Wait(limit time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waitLocked(limit)
}

func (s *Sender) waitLocked(limit time.Duration) {
	if s.wait = limit; limit <= 0 && s.released != nil {
		close(s.released)
		s.released = nil
	} else if limit > 0 && s.released == nil {
		s.released = make(chan struct{})
	}
}

// note remembers a change, and waits if it must.
func (s *Sender) note(k changedKey, written bool) {
	passed, released, wait := s.remember(k)
	if !written || wait <= 0 {
		return
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-passed:
	case <-released:
	case <-timer.C:
	}
}

// remember remembers a change, and returns what is closed when it has been
// sent, and when nobody is to wait for that any more.
func (s *Sender) remember(k changedKey) (passed, released <-chan struct{}, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return nil, nil, 0
	}
	if _, noted := s.changed[k]; !noted {
		if len(s.changed) == maxChangedKeys {
			s.over, s.changed = true, nil
		} else {
			s.changed[k] = struct{}{}
		}
		select {
		case s.signal <- struct{}{}:
		default: // there is one
		}
	}
	return s.passed, s.released, s.wait
}

// Changed returns a channel that gets a token when there may be changes to
// send. It is nil until something was added.
func (s *Sender) Changed() <-chan struct{} { return s.signal }

// Send calls send with messages: the first time with all entries, later with
// those that have changed since the call before. n is how many entries that
// were. Each message is a part that a Receiver can apply by itself. Their bytes
// are used again; they have keys, values and secrets in clear text. The error
// is that of send, or [ErrTooManyChanges]; the Sender is of no use then.
func (s *Sender) Send(send func(message []byte) error) (n int, err error) {
	m := &message{send: send}
	s.mu.Lock()
	changed, passed, over := s.changed, s.passed, s.over
	if !over {
		s.changed, s.passed = make(map[changedKey]struct{}), make(chan struct{})
	}
	s.mu.Unlock()
	if over {
		return 0, ErrTooManyChanges
	}
	if passed != nil { // something was added
		defer close(passed)
	}
	for _, of := range s.added {
		if of.all {
			continue
		}
		of.all = true
		for _, table := range of.tables() {
			of.keys(table, func(key string) bool {
				if e, ok := of.get(table, key); ok {
					n++
					err = m.add(changedKey{of, table, key}, e, true)
				}
				return err == nil
			})
			if err != nil {
				return n, err
			}
		}
	}
	for k := range changed {
		e, ok := k.of.get(k.table, k.key)
		if err := m.add(k, e, ok); err != nil {
			return n, err
		}
		n++
	}
	return n, m.end()
}

// Close ends noting changes.
func (s *Sender) Close() {
	for _, of := range s.added {
		of.watch(nil)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed, s.over = nil, true
	s.waitLocked(0)
}

// A message collects records until there are enough to send.
type message struct {
	send  func([]byte) error
	bytes []byte
	in    changedKey // the table that the last record is of
}

func (m *message) add(k changedKey, e carried, ok bool) error {
	if len(m.bytes) == 0 || m.in.of != k.of || m.in.table != k.table {
		m.in = k
		b := binary.AppendUvarint(append(m.bytes, recordTable), uint64(len(k.of.names)))
		for _, name := range k.of.names {
			b = appendString(b, name)
		}
		m.bytes = appendString(appendString(b, k.of.kind()), k.table)
	}
	if ok {
		b := appendString(appendString(append(m.bytes, recordEntry), k.key), e.value)
		for _, d := range [...]time.Duration{e.left, e.idle, e.latest} {
			b = binary.AppendUvarint(b, uint64(max(d, 0)))
		}
		m.bytes = b
	} else {
		m.bytes = appendString(append(m.bytes, recordMissing), k.key)
	}
	if len(m.bytes) < messageBytes {
		return nil
	}
	return m.end()
}

// end sends what is left.
func (m *message) end() error {
	if len(m.bytes) == 0 {
		return nil
	}
	err := m.send(m.bytes)
	m.bytes = m.bytes[:0]
	return err
}
