package certs

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/limpetlb/limpet/internal/filewatch"
)

// settleTime is how long files may not fit together before it is reported:
// certificate and key are two files, which nobody replaces at once.
const settleTime = 10 * time.Second

// repeat is how long a warning about a date is not repeated.
const repeat = 24 * time.Hour

// soon is how long before its end a certificate is warned of, unless it is
// valid for less than three times that.
const soon = 14 * 24 * time.Hour

// Messages about dates.
const (
	expired         = "certificate has expired"
	notYetValid     = "certificate is not valid yet"
	expiresSoon     = "certificate expires soon"
	listExpired     = "revocation list has expired, and clients are refused"
	listExpiresSoon = "revocation list expires soon"
)

// A watch is what a store knows of the files of its policy.
type watch struct {
	files    *filewatch.Set
	dir      filewatch.Dir
	wait     int                  // looks until the directory is listed without need
	pairs    []Pair               // the certificates that there should be
	paths    []string             // of all files
	gone     map[Pair]bool        // those that the last look at the directory did not find
	troubles map[Pair]*trouble    // by what could not be read
	told     map[string]time.Time // when a date was reported, by message and file
}

// These stand for what is no pair.
var (
	theDirectory = Pair{Field: "directory"}
	theClients   = Pair{Field: "clientCertificates"}
)

// A trouble is a failure to read something, while what was read before is in
// force.
type trouble struct {
	since time.Time
	err   error
	told  bool
}

func newWatch(p *Policy, told map[string]time.Time) watch {
	return watch{files: filewatch.NewSet(maxListBytes), dir: filewatch.Dir{Path: p.config.Directory}, gone: map[Pair]bool{}, troubles: map[Pair]*trouble{}, told: told}
}

// Watch looks at the files of stores every [filewatch.Tick], until ctx ends.
// stores returns those to look at, and their names.
func Watch(ctx context.Context, log *slog.Logger, stores func() map[string]*Store) {
	ticker := time.NewTicker(filewatch.Tick)
	defer ticker.Stop()
	for ctx.Err() == nil {
		for name, s := range stores() {
			s.Look(log.With(slog.String("listener", name)))
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

// Look reads the files that have changed, puts what they have in force, and
// logs what there is to say about files and dates. What cannot be read leaves
// in force what was read before. Call it every [filewatch.Tick].
func (s *Store) Look(log *slog.Logger) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.Policy()
	if p.config.Watch {
		if next := s.watch.look(p, log); next != p {
			s.put(next)
			p = next
		}
	}
	s.watch.dates(p, log)
}

// look returns the policy with what has changed; p if nothing has.
func (w *watch) look(p *Policy, log *slog.Logger) *Policy {
	now := time.Now()
	fresh := w.want(p, now, log)
	changed := map[string]bool{}
	for _, path := range w.files.Look(w.paths) {
		changed[path] = true
	}
	if !fresh && len(changed)+len(w.troubles) == 0 {
		return p
	}

	next := p.clone()
	before := make(map[Pair]*entry, len(p.entries))
	for _, e := range p.entries {
		before[e.Pair] = e
	}
	different := false
	next.entries = next.entries[:0]
	for _, pair := range w.pairs {
		old := before[pair]
		delete(before, pair)
		e := old
		if w.troubles[pair] != nil || slices.ContainsFunc(pair.files(), func(path string) bool { return changed[path] }) {
			e = w.reload(pair, old, now, log)
		}
		if e != nil {
			next.entries = append(next.entries, e)
		}
		different = different || e != old
	}
	for _, e := range p.entries {
		if before[e.Pair] != nil {
			different = true
			log.Info("certificate removed", slog.String("certificate", e.Certificate))
		}
	}
	if c := p.config.Clients; c != nil && (w.troubles[theClients] != nil || slices.ContainsFunc(c.files(), func(path string) bool { return changed[path] })) {
		read, err := loadClients(*c, osFiles{})
		w.note(theClients, err, now, log)
		if err == nil && read.sum != p.clients.sum {
			next.clients, different = read, true
			log.Info("authorities of clients changed", slog.Int("revocationLists", len(read.lists)))
		}
	}
	w.complain(now, log)
	if !different {
		return p
	}
	next.build()
	return next
}

// want notes which certificates there should be, those of the configuration and
// those in the directory, and reports whether it has looked there. One that is
// gone from the directory is left out by the second look that does not find it.
func (w *watch) want(p *Policy, now time.Time, log *slog.Logger) (fresh bool) {
	if p.config.Directory == "" {
		if w.paths != nil {
			return false
		}
	} else {
		changed := w.dir.Changed()
		if w.wait--; !changed && w.wait > 0 && len(w.gone) == 0 {
			return false
		}
	}
	w.pairs = slices.Clone(p.config.Certificates)
	if p.config.Directory != "" {
		w.pairs = append(w.pairs, w.listed(p, now, log)...)
	}
	w.paths = slices.Clone(p.config.Clients.files())
	for _, pair := range w.pairs {
		w.paths = append(w.paths, pair.files()...)
	}
	return true
}

// fewPairs is how many certificates a directory has that is listed each time,
// and listings how many looks the list of a larger one is good for if the
// directory does not change.
const (
	fewPairs = 500
	listings = 10
)

// listed returns the certificates in the directory.
func (w *watch) listed(p *Policy, now time.Time, log *slog.Logger) []Pair {
	listed, err := list(p.config.Directory, osFiles{})
	w.note(theDirectory, err, now, log)
	if w.wait = 0; len(listed) > fewPairs {
		w.wait = listings
	}
	there := make(map[Pair]bool, len(listed))
	for _, pair := range listed {
		there[pair] = true
	}
	gone := map[Pair]bool{}
	for _, e := range p.entries {
		switch {
		case e.Field != theDirectory.Field || there[e.Pair]:
		case err != nil:
			listed = append(listed, e.Pair)
		case !w.gone[e.Pair]:
			gone[e.Pair] = true
			listed = append(listed, e.Pair)
		}
	}
	w.gone = gone
	return listed
}

// reload reads a pair again, and returns what is in force: old, which may be
// nil, if it has not changed or cannot be read.
func (w *watch) reload(pair Pair, old *entry, now time.Time, log *slog.Logger) *entry {
	e, certificate, key, err := read(pair, osFiles{})
	if err == nil && old != nil && e.sum == old.sum {
		w.note(pair, nil, now, log)
		return old
	}
	if err == nil {
		err = e.parse(certificate, key)
	}
	if w.note(pair, err, now, log); err != nil {
		return old
	}
	message := "certificate changed"
	if old == nil {
		message = "certificate added"
	}
	log.Info(message, //nolint:sloglint // one of two constants
		slog.String("certificate", e.Certificate), slog.Any("names", some(e.cert.Leaf.DNSNames)), slog.Time("expires", e.cert.Leaf.NotAfter))
	return e
}

// some returns at most ten names.
func some(names []string) []string { return names[:min(len(names), 10)] }

// note notes that something was read, or why it was not.
func (w *watch) note(what Pair, err error, now time.Time, log *slog.Logger) {
	t := w.troubles[what]
	switch {
	case err == nil:
		if t != nil && t.told {
			log.Info("TLS files can be read again", slog.String("after", t.err.Error()))
		}
		delete(w.troubles, what)
	case t == nil || t.told && t.err.Error() != err.Error():
		w.troubles[what] = &trouble{since: now, err: err}
	default:
		t.err = err
	}
}

// complain reports what could not be read for a while, once, and forgets what
// there should not be any more.
func (w *watch) complain(now time.Time, log *slog.Logger) {
	if len(w.troubles) == 0 {
		return
	}
	left := map[Pair]*trouble{}
	for _, what := range append([]Pair{theDirectory, theClients}, w.pairs...) {
		t := w.troubles[what]
		if t == nil {
			continue
		}
		if left[what] = t; !t.told && now.Sub(t.since) >= settleTime {
			t.told = true
			log.Warn("TLS files not reloaded, those from before stay in force", slog.String("error", t.err.Error()))
		}
	}
	w.troubles = left
}

// A date is what there is to say about the time of something.
type date struct {
	level   slog.Level
	message string // empty if there is nothing to say
	when    time.Time
}

// date is what there is to say about the dates of a certificate.
func (e *entry) date(now time.Time) date {
	leaf := e.cert.Leaf
	switch {
	case now.After(leaf.NotAfter):
		return date{slog.LevelError, expired, leaf.NotAfter}
	case now.Before(leaf.NotBefore):
		return date{slog.LevelWarn, notYetValid, leaf.NotBefore}
	case leaf.NotAfter.Sub(now) < min(soon, leaf.NotAfter.Sub(leaf.NotBefore)/3):
		return date{slog.LevelWarn, expiresSoon, leaf.NotAfter}
	}
	return date{}
}

// date is what there is to say about the dates of a list.
func (l *revocations) date(now time.Time) date {
	switch {
	case now.After(l.next):
		return date{slog.LevelError, listExpired, l.next}
	case l.next.Sub(now) < min(24*time.Hour, l.next.Sub(l.from)/3):
		return date{slog.LevelWarn, listExpiresSoon, l.next}
	}
	return date{}
}

// dates reports certificates and lists at the end of their time, each once a
// day.
func (w *watch) dates(p *Policy, log *slog.Logger) {
	now := time.Now()
	told := map[string]time.Time{}
	tell := func(d date, file string) {
		if d.message == "" {
			return
		}
		key := d.message + " " + file
		last, before := w.told[key]
		if told[key] = last; before && now.Sub(last) < repeat {
			return
		}
		told[key] = now
		log.Log(context.Background(), d.level, d.message, slog.String("file", file), slog.Time("date", d.when)) //nolint:sloglint // one of the constants above
	}
	for _, e := range p.entries {
		tell(e.date(now), e.Certificate)
	}
	if p.clients != nil {
		for _, l := range p.clients.lists {
			tell(l.date(now), l.file)
		}
	}
	w.told = told
}
