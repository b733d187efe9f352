package certs

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// The keys of tickets seal the sessions that clients resume. Package tls would
// make and replace its own, which nobody can read. A store has its own, with
// the same times, so that the process that takes the place of this one gets
// them.
const (
	ticketRotation = 24 * time.Hour     // until another key seals
	ticketLifetime = 7 * 24 * time.Hour // while a key opens what it has sealed
)

// A ticketKey is a key, and when it was made.
type ticketKey struct {
	secret [32]byte
	made   time.Time
}

// tickets are the keys of a store.
type tickets struct {
	mu   sync.Mutex   // also of changes of the policy, which has the keys
	keys []ticketKey  // the newest first
	due  atomic.Int64 // when the next key is, in Unix nanoseconds; 0: at once
}

// renewLocked makes another key if it is time for one, and drops old ones. It
// reports whether it has.
func (t *tickets) renewLocked(now time.Time) bool {
	if now.UnixNano() < t.due.Load() {
		return false
	}
	key := ticketKey{made: now}
	_, _ = rand.Read(key.secret[:]) // which never fails
	t.keys = slices.Insert(t.keys, 0, key)
	t.settleLocked(now)
	return true
}

// settleLocked drops old keys, and notes when the next one is due.
func (t *tickets) settleLocked(now time.Time) {
	t.keys = slices.DeleteFunc(t.keys, func(k ticketKey) bool { return now.Sub(k.made) >= ticketLifetime })
	if len(t.keys) > 0 {
		t.due.Store(t.keys[0].made.Add(ticketRotation).UnixNano())
	}
}

// setLocked gives the keys to what handshakes use.
func (t *tickets) setLocked(s *serving) {
	if len(t.keys) == 0 {
		return
	}
	secrets := make([][32]byte, len(t.keys))
	for i, k := range t.keys {
		secrets[i] = k.secret
	}
	s.server.SetSessionTicketKeys(secrets)
	s.strict.SetSessionTicketKeys(secrets)
}

// ticketKeyBytes is how long a key is as TicketKeys returns it.
const ticketKeyBytes = 8 + len(ticketKey{}.secret)

// TicketKeys returns the keys with which clients resume sessions, for
// [Store.AddTicketKeys] of another process; nothing if there was no handshake.
// They are secret, and must be stored nowhere.
func (s *Store) TicketKeys() []byte {
	s.tickets.mu.Lock()
	defer s.tickets.mu.Unlock()
	var b []byte
	for _, k := range s.tickets.keys {
		b = append(binary.BigEndian.AppendUint64(b, uint64(k.made.UnixNano())), k.secret[:]...)
	}
	return b
}

// AddTicketKeys makes the sessions of another store ones that clients can
// resume here, given its TicketKeys. An error says that they are damaged, and
// changes nothing.
func (s *Store) AddTicketKeys(keys []byte) error {
	if len(keys)%ticketKeyBytes != 0 {
		return errors.New("damaged keys of TLS sessions")
	}
	t, now := &s.tickets, time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	for k := range slices.Chunk(keys, ticketKeyBytes) {
		key := ticketKey{made: time.Unix(0, int64(binary.BigEndian.Uint64(k)))}
		if key.made.After(now) { // by another clock
			key.made = now
		}
		copy(key.secret[:], k[8:])
		if !slices.ContainsFunc(t.keys, func(k ticketKey) bool { return bytes.Equal(k.secret[:], key.secret[:]) }) {
			t.keys = append(t.keys, key)
		}
	}
	slices.SortStableFunc(t.keys, func(a, b ticketKey) int { return b.made.Compare(a.made) })
	t.settleLocked(now)
	t.setLocked(s.serving.Load())
	return nil
}
