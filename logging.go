package limpet

import (
	"context"
	"log/slog"
	"math"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/limpetlb/limpet/internal/accesslog"
	"github.com/limpetlb/limpet/internal/bounds"
	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/policy"
)

// Logging chooses which requests and connections are logged, and how often. The
// zero value logs each request. It limits only the Logger; OnComplete gets
// every record. The Logger gets at most 4 KiB of each text in a record; the
// lines and errors of scripts have the limits of [Config].Limits.
type Logging struct {
	// SignificantRate, FilteredRate and OtherRate are how many records of a
	// class the Logger gets per second: significant records, other records that
	// a rule with Log set or a script's avi.vs.log has asked for, and the rest.
	// Zero means no limit, negative none at all. The next line of the class
	// says how many were suppressed. For denied connections, the Logger gets
	// one record per second for each rule and limit that denies them, or none
	// if SignificantRate is negative.
	SignificantRate, FilteredRate, OtherRate int `negative:"none"`
	// SlowResponse is the time after which a record is significant if the
	// response has not begun. Zero means never.
	SlowResponse time.Duration `min:"0s"`
	// Ignore are reasons that make no record significant.
	Ignore []Significance
	// IgnoreStatuses are statuses of responses, 400 to 599, that make no record
	// significant, such as 404 for a site with many dead links.
	IgnoreStatuses []policy.Range[int]
}

func (l *Logging) check(faults *fielderr.List) {
	bounds.Check("logging", *l, faults)
	for i, s := range l.Ignore {
		faults.Constant(fielderr.Index("logging.ignore", i), s)
	}
	for i, r := range l.IgnoreStatuses {
		if r.Begin < 400 || r.End > 599 || r.Begin > r.End {
			faults.Addf(fielderr.Index("logging.ignoreStatuses", i), nil, "%d-%d is not a range from 400 to 599", r.Begin, r.End)
		}
	}
}

// ignored reports whether a reason is normal for this service.
func (l *Logging) ignored(s Significance, status int) bool {
	if slices.Contains(l.Ignore, s) {
		return true
	}
	if s != Status4xx && s != Status5xx {
		return false
	}
	return slices.ContainsFunc(l.IgnoreStatuses, func(r policy.Range[int]) bool { return r.Begin <= status && status <= r.End })
}

// A logClass is a class of records with a rate of its own.
type logClass uint8

const (
	classOther logClass = iota
	classFiltered
	classSignificant
	logClasses
)

// logDropClasses are the names of the classes, and of denied connections.
var logDropClasses = [...]string{classOther: "other", classFiltered: "filtered", classSignificant: "significant", logClasses: "connection"}

func (l *Logging) class(r *Record) (c logClass, rate int) {
	switch {
	case len(r.Significant) > 0:
		return classSignificant, l.SignificantRate
	case r.Filtered:
		return classFiltered, l.FilteredRate
	}
	return classOther, l.OtherRate
}

// denials throttle denied connections, so that a flood of them does not flood
// the log. A configuration has few rules and limits that deny.
type denials struct{ throttles sync.Map } // by denier → *throttle

func (d *denials) of(denier string) *throttle {
	th, ok := d.throttles.Load(denier)
	if !ok {
		th, _ = d.throttles.LoadOrStore(denier, new(throttle))
	}
	return th.(*throttle)
}

func deniedRate(significantRate int) int {
	if significantRate < 0 {
		return significantRate
	}
	return 1
}

// denier names the rule or the limit that a connection's record is about.
func (r *Record) denier() string {
	switch {
	case r.ConnectionLimit != "":
		return r.ConnectionLimit
	case slices.Contains(r.Significant, BadProxyHeader):
		return "proxyProtocol"
	}
	return "networkSecurity " + r.NetworkRule
}

// A throttle lets a number of records pass in each second.
type throttle struct {
	state      atomic.Uint64 // the second, in the upper half, and how many have passed in it
	suppressed atomic.Int64  // since one has passed
}

// pass reports whether one more may pass, and how many were suppressed before
// it.
func (t *throttle) pass(now time.Time, rate int) (suppressed int64, ok bool) {
	switch {
	case rate == 0:
		return 0, true
	case rate < 0:
		return 0, false
	}
	second := uint32(now.Unix())
	for {
		state := t.state.Load()
		current, passed := uint32(state>>32), uint32(state)
		// A record of the previous second is late. If the clock was set back, a
		// new second begins.
		if ahead := int32(second - current); ahead > 0 || ahead < -1 {
			current, passed = second, 0
		}
		if uint64(passed) >= uint64(rate) || passed == math.MaxUint32 {
			t.suppressed.Add(1)
			return 0, false
		}
		if t.state.CompareAndSwap(state, uint64(current)<<32|uint64(passed+1)) {
			return t.suppressed.Swap(0), true
		}
	}
}

// level returns the level of a record.
func (c logClass) level(l accesslog.Levels, r *Record) slog.Level {
	switch {
	case len(r.ScriptErrors) > 0:
		return slog.LevelError
	case c == classSignificant, r.ConnectionLimit != "":
		return l.Significant
	case c == classFiltered:
		return l.Filtered
	}
	return l.Other
}

// recordLog returns where records go, and the levels that they have there; nil
// if they are lines of the Logger like others.
func (s *snapshot) recordLog() (*accesslog.Log, accesslog.Levels) {
	if s.records != nil {
		if log := s.records.Log(); log != nil {
			return log, log.Levels
		}
	}
	return nil, accesslog.DefaultLevels
}

// wantsRecords reports whether a Logger or OnComplete gets records. Otherwise
// they are only counted, and need not be complete.
func (s *snapshot) wantsRecords(ctx context.Context) bool {
	if s.OnComplete != nil {
		return true
	}
	log, levels := s.recordLog()
	for _, level := range [...]slog.Level{levels.Other, levels.Significant, levels.Filtered, slog.LevelError} {
		if accesslog.Enabled(ctx, log, s.Logger, level) {
			return true
		}
	}
	return false
}

// emit counts a record, logs it and hands it to OnComplete. tx is the request's
// transaction; nil for a connection.
func (vs *VirtualService) emit(s *snapshot, ctx context.Context, r *Record, tx *transaction) {
	if slices.Contains(r.Significant, PolicyDrop) {
		vs.counters.policyDrops.Add(1)
	}
	if r.Connection {
		r.Location = s.location(r.Client.Addr())
	}
	if len(r.Significant) > 0 {
		r.Significant = slices.DeleteFunc(r.Significant, func(reason Significance) bool { return s.Logging.ignored(reason, r.Status) })
	}
	received := int64(0)
	if tx != nil {
		received = tx.received()
	}
	vs.counters.add(r, received)
	now := r.Start.Add(r.Duration)
	vs.health.add(r, now)
	log, levels := s.recordLog()
	class, rate := s.Logging.class(r)
	if level := class.level(levels, r); accesslog.Enabled(ctx, log, s.Logger, level) {
		th := &vs.throttles[class]
		if r.Connection {
			th, rate, class = s.denials.of(r.denier()), deniedRate(s.Logging.SignificantRate), logClasses
		}
		if suppressed, ok := th.pass(now, rate); !ok {
			if rate > 0 {
				vs.counters.logDropped[class].Add(1)
			}
		} else {
			tx.describeLate()
			l := recordLine{Record: r, tx: tx, level: level, suppressed: suppressed}
			l.log(ctx, s, log)
		}
	}
	vs.watchers.emit(r, tx)
	if s.OnComplete != nil {
		s.OnComplete(*r)
	}
}

// maxLogged is how many bytes of a text are logged. Clients choose many texts.
const maxLogged = 4 << 10

// logged returns the part of a text that is logged.
func logged(text string) string {
	if len(text) <= maxLogged {
		return text
	}
	n := maxLogged
	for n > maxLogged-utf8.UTFMax && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n] + "…"
}

// loggedHeader returns a copy of a request's header for a record, without
// secrets.
func loggedHeader(h http.Header) http.Header {
	h = h.Clone()
	for _, name := range [...]string{"Authorization", "Proxy-Authorization", "Cookie"} {
		if len(h[name]) > 0 {
			h[name] = []string{"[redacted]"}
		}
	}
	return h
}
