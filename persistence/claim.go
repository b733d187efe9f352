package persistence

import (
	"context"
	"time"
)

// Claim stores value under key for lifetime if key is not live or its live value equals instead, and returns the value that key
// then has and what is left of it. A value that is found keeps its lifetime. The zero value of instead replaces nothing. If
// remaining is zero the value has been refused, in the cases of [Table.Insert].
func Claim[K, V comparable](t *Table[K, V], key K, value, instead V, lifetime time.Duration) (actual V, remaining time.Duration) {
	granted := t.grant(key, lifetime)
	if granted == 0 {
		return actual, 0
	}
	var none V
	replaces := func(v V) bool { return instead != none && v == instead }
	if v, left, ok := t.Peek(key); ok && !replaces(v) {
		return v, left
	}
	h := t.locate(key)
	t.lock(h.shard)
	defer t.unlock(h.shard)
	now := t.now()
	held := h.holdLocked(h.tag, key, now)
	if held.record != nil && !replaces(held.value) {
		actual, remaining = held.value, held.deadline-now
		h.releaseLocked(held)
		return actual, remaining
	}
	if t.placeLocked(h, now, held, key, value, term{deadline: now + granted}) == nil {
		return actual, 0
	}
	return value, granted
}

// Claim stores value under key in the table for lifetime if key is not live or its live value is instead, like the function
// [Claim]. The error is always nil.
func (s *Store) Claim(_ context.Context, table, key, value, instead string, lifetime time.Duration) (actual string, remaining time.Duration, err error) {
	t := s.tableFor(table, key, value, lifetime)
	if t == nil {
		return "", 0, nil
	}
	key, value = detach(key, value)
	actual, remaining = Claim(t, key, value, instead, lifetime)
	return actual, remaining, nil
}
