package redisstore

import (
	"log/slog"
	"time"
)

// shortOutage is the longest outage that is logged together with others.
const shortOutage = time.Second

// outages decides which messages about the server are logged.
//
//   - The first attempt to connect that fails, and an outage longer than
//     shortOutage, are logged as they happen; then as a reminder says; and
//     their end is logged.
//   - Shorter outages are counted, and logged together: ten seconds after the
//     first of them, and again after a minute, ten minutes, and every hour,
//     while there are more. See [Store.logShortOutages].
//
// The owner's lock guards it. The zero value is that of a store that was never
// connected.
type outages struct {
	open     bool     // the server was found and is lost
	warned   bool     // the outage has been logged
	cause    error    // of the outage
	reminder reminder // of the current problem

	short      int   // outages that have not been logged
	shortCause error // of the last one
	logging    bool  // a goroutine waits to log them
}

// A note is a message to log. The zero value is none.
type note struct {
	level slog.Level
	text  string
	attrs []slog.Attr
}

// lost notes that an outage begins.
func (o *outages) lost(cause error) {
	o.open, o.warned, o.cause, o.reminder = true, false, cause, reminder{}
}

// failed notes that an attempt to connect has failed; the first one, or the
// outage, began at since.
func (o *outages) failed(now, since time.Time, err error) note {
	if o.open && !o.warned && now.Sub(since) <= shortOutage || !o.reminder.due(now) {
		return note{}
	}
	if o.open && !o.warned {
		return o.warn(now, since)
	}
	return note{slog.LevelWarn, "persistence store unreachable", []slog.Attr{slog.Any("error", err), slog.Duration("for", now.Sub(since))}}
}

// warn returns the note of an outage that is not short.
func (o *outages) warn(now, since time.Time) note {
	o.warned = true
	return note{slog.LevelWarn, "persistence store lost", []slog.Attr{slog.Any("error", o.cause), slog.Duration("for", now.Sub(since))}}
}

// found notes that the server has been found; the first attempt, or the outage,
// began at since. If begins is true the owner must run logShortOutages.
func (o *outages) found(now, since time.Time) (notes []note, begins bool) {
	if o.open && !o.warned {
		if now.Sub(since) <= shortOutage {
			o.short++
			o.shortCause = o.cause
			begins = !o.logging
			o.open, o.logging = false, true
			return nil, begins
		}
		notes = append(notes, o.warn(now, since))
	}
	o.open = false
	return append(notes, note{slog.LevelInfo, "persistence store found", []slog.Attr{slog.Duration("after", now.Sub(since))}}), false
}

// takeShort returns the note of short outages. If there are none, the waiting
// goroutine ends.
func (o *outages) takeShort(within time.Duration) note {
	n := o.short
	if n == 0 {
		o.logging = false
		return note{}
	}
	o.short = 0
	return note{slog.LevelWarn, "persistence store lost for moments", []slog.Attr{
		slog.Int("times", n), slog.Duration("within", within), slog.Any("error", o.shortCause),
	}}
}

// logNote logs a note.
func (s *Store) logNote(n note) {
	if n.text != "" {
		s.log(n.level, n.text, n.attrs...)
	}
}

// logShortOutages logs short outages until there have been none for a while, or
// the store is closed.
func (s *Store) logShortOutages() {
	windows := []time.Duration{10 * time.Second, time.Minute, 10 * time.Minute, time.Hour}
	for {
		within := windows[0]
		if len(windows) > 1 {
			windows = windows[1:]
		}
		open := s.sleep(within)
		s.mu.Lock()
		n := s.outages.takeShort(within)
		s.mu.Unlock()
		s.logNote(n)
		if n.text == "" || !open {
			return
		}
	}
}
