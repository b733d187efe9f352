package redisstore

import (
	"log/slog"
	"time"
)

// shortOutage is how long an outage may last and be told together with others of its kind.
const shortOutage = time.Second

// outages decides what the log says of the server.
//
//   - The first attempt to connect that fails, and an outage that lasts longer than shortOutage, are told as they happen, whatever
//     happened before; then as a reminder says; and their end is told.
//   - Shorter outages are counted, and told together: ten seconds after the first of them, and again after a minute, ten minutes, and
//     every hour, as long as there have been more. See [Store.tellShort].
//
// The owner's lock guards it. The zero value is that of a store that was never connected.
type outages struct {
	open     bool     // whether the server was found and is lost
	warned   bool     // whether the outage has been told
	cause    error    // of the outage
	reminder reminder // of the current trouble

	short      int   // outages that have not been told
	shortCause error // of the last one
	logging    bool  // whether somebody waits to tell them
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

// failed notes that an attempt to connect has failed; the first one, or the outage, began at since.
func (o *outages) failed(now, since time.Time, err error) note {
	if o.open && !o.warned && now.Sub(since) <= shortOutage || !o.reminder.due(now) {
		return note{}
	}
	if o.open && !o.warned {
		return o.warn(now, since)
	}
	return note{slog.LevelWarn, "persistence store unreachable", []slog.Attr{slog.Any("error", err), slog.Duration("for", now.Sub(since))}}
}

// warn tells of an outage that is not short.
func (o *outages) warn(now, since time.Time) note {
	o.warned = true
	return note{slog.LevelWarn, "persistence store lost", []slog.Attr{slog.Any("error", o.cause), slog.Duration("for", now.Sub(since))}}
}

// found notes that the server has been found; the first attempt, or the outage, began at since. If begins is true the owner has to run tellShort.
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

// takeShort returns what there is to tell of short outages. If there is nothing, nobody waits to tell any more.
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

// tell logs a note.
func (s *Store) logNote(n note) {
	if n.text != "" {
		s.log(n.level, n.text, n.attrs...)
	}
}

// tellShort tells of short outages until there have been none for a while, or the store is closed.
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
