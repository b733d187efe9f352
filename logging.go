package limpet

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/limpetlb/limpet/internal/clientaddr"
	"github.com/limpetlb/limpet/policy"
)

// Logging says which requests and connections are logged, and how often. The
// zero value logs each request. It bounds what the Logger gets; OnComplete gets every record.
type Logging struct {
	// SignificantRate, FilteredRate and OtherRate are how many records of a
	// class the Logger gets in a second: of those that are significant, of
	// other ones that a rule with Log set or a script's avi.vs.log has asked
	// for, and of the rest. Zero means no limit, -1 none at all. The next
	// line tells how many of its class were suppressed. Of denied connections
	// it gets one in a second for each rule and limit that denies them, or none
	// if SignificantRate is -1.
	SignificantRate, FilteredRate, OtherRate int
	// SlowResponse is the time after which a response that has not begun is
	// significant. Zero means never.
	SlowResponse time.Duration
	// Ignore are reasons that make no record significant.
	Ignore []Significance
	// IgnoreStatuses are statuses of responses, 400 to 599, that make no
	// record significant, such as 404 for a site that is full of dead links.
	IgnoreStatuses []policy.Range[int]
}

func (l *Logging) check(fault func(string, error)) {
	for _, rate := range [...]struct {
		field string
		n     int
	}{{"significantRate", l.SignificantRate}, {"filteredRate", l.FilteredRate}, {"otherRate", l.OtherRate}} {
		if rate.n < -1 {
			fault("logging."+rate.field+": ", fmt.Errorf("%d is negative; -1 is the least", rate.n))
		}
	}
	if l.SlowResponse < 0 {
		fault("logging.slowResponse: ", fmt.Errorf("%v is negative", l.SlowResponse))
	}
	for i, s := range l.Ignore {
		if !s.known() {
			fault(fmt.Sprintf("logging.ignore[%d]: ", i), fmt.Errorf("%v is not a value", s))
		}
	}
	for i, r := range l.IgnoreStatuses {
		if r.Begin < 400 || r.End > 599 || r.Begin > r.End {
			fault(fmt.Sprintf("logging.ignoreStatuses[%d]: ", i), fmt.Errorf("%d-%d is not a range from 400 to 599", r.Begin, r.End))
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

// A logClass is a kind of record that is throttled by itself.
type logClass uint8

const (
	classOther logClass = iota
	classFiltered
	classSignificant
	logClasses
)

func (l *Logging) class(r *Record) (c logClass, rate int) {
	switch {
	case len(r.Significant) > 0:
		return classSignificant, l.SignificantRate
	case r.Filtered:
		return classFiltered, l.FilteredRate
	}
	return classOther, l.OtherRate
}

// denials throttle denied connections: under a flood of them the log must not
// become the damage. A configuration has few rules and limits that deny.
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

// denier names what the record of a connection is about.
func (r *Record) denier() string {
	switch {
	case r.ConnectionLimit != "":
		return r.ConnectionLimit
	case slices.Contains(r.Significant, BadProxyHeader):
		return "proxyProtocol"
	}
	return "networkSecurity " + r.NetworkRule
}

// A throttle lets so many pass in each second.
type throttle struct {
	second     atomic.Int64 // that passed belongs to
	passed     atomic.Int64
	suppressed atomic.Int64 // since one has passed
}

// pass reports whether one more may pass, and how many could not before it.
func (t *throttle) pass(now time.Time, rate int) (suppressed int64, ok bool) {
	switch {
	case rate == 0:
		return 0, true
	case rate < 0:
		return 0, false
	}
	if second := now.Unix(); t.second.Swap(second) != second {
		t.passed.Store(0)
	}
	if t.passed.Add(1) > int64(rate) {
		t.suppressed.Add(1)
		return 0, false
	}
	return t.suppressed.Swap(0), true
}

// wantsRecords reports whether anybody reads records. Where nobody does, they
// need not be complete to be counted.
func (s *snapshot) wantsRecords(ctx context.Context) bool {
	return s.OnComplete != nil || s.Logger.Enabled(ctx, slog.LevelInfo) || s.Logger.Enabled(ctx, slog.LevelWarn) || s.Logger.Enabled(ctx, slog.LevelError)
}

// emit counts a record, logs it and hands it to OnComplete.
func (vs *VirtualService) emit(s *snapshot, ctx context.Context, r *Record) {
	vs.counters.add(r)
	if r.Connection {
		r.Location = s.location(r.Client.Addr())
	}
	if len(r.Significant) > 0 {
		r.Significant = slices.DeleteFunc(r.Significant, func(reason Significance) bool { return s.Logging.ignored(reason, r.Status) })
	}
	now := r.Start.Add(r.Duration)
	vs.health.add(r, now)
	level := slog.LevelInfo
	switch {
	case len(r.ScriptErrors) > 0:
		level = slog.LevelError
	case len(r.Significant) > 0, r.ConnectionLimit != "":
		level = slog.LevelWarn
	}
	if s.Logger.Enabled(ctx, level) {
		class, rate := s.Logging.class(r)
		th := &vs.throttles[class]
		if r.Connection {
			th, rate = s.denials.of(r.denier()), deniedRate(s.Logging.SignificantRate)
		}
		switch suppressed, ok := th.pass(now, rate); {
		case !ok:
		case !r.Connection:
			s.Logger.LogAttrs(ctx, level, "request", r.attrs(suppressed)...)
		case r.Closed:
			s.Logger.LogAttrs(ctx, level, "connection denied", r.attrs(suppressed)...)
		default:
			s.Logger.LogAttrs(ctx, level, "connection above limit", r.attrs(suppressed)...)
		}
	}
	if s.OnComplete != nil {
		s.OnComplete(*r)
	}
}

// attrs are the facts of a record for a logger, without those that are not
// known.
func (r *Record) attrs(suppressed int64) []slog.Attr {
	attrs := make([]slog.Attr, 0, 24)
	text := func(key, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(key, value))
		}
	}
	text("vs", r.VirtualService)
	text("request_id", r.RequestID)
	text("client", addrText(r.Client))
	if r.Source != r.Client {
		text("source", addrText(r.Source))
		text("client_source", r.ClientSource)
	}
	if r.ClientReason != clientaddr.PeerUntrusted.String() {
		text("client_reason", r.ClientReason)
	}
	text("proxy", addrText(r.Proxy))
	text("location", r.Location)
	text("user", r.UserID)
	text("method", r.Method)
	text("host", r.Host)
	text("path", r.Path)
	text("sent_path", r.SentPath)
	if r.Status != 0 {
		attrs = append(attrs, slog.Int("status", r.Status), slog.Int64("bytes", r.Bytes))
	}
	text("pool", r.Pool)
	text("server", addrText(r.Server))
	if r.ServerStatus != 0 && r.ServerStatus != r.Status {
		attrs = append(attrs, slog.Int("server_status", r.ServerStatus))
	}
	text("persistence", r.Persistence.String())
	text("binding_source", string(r.BindingSource))
	text("bound", addrText(r.Bound))
	if r.Tried > 1 {
		attrs = append(attrs, slog.Int("tried", r.Tried))
	}
	if r.GivenUp != nil {
		text("given_up", r.GivenUp.Error())
	}
	text("network_rule", r.NetworkRule)
	text("connection_limit", r.ConnectionLimit)
	text("security_rule", r.SecurityRule)
	text("request_rule", r.RequestRule)
	text("response_rule", r.ResponseRule)
	for _, m := range r.Monitored {
		attrs = append(attrs, slog.Group("monitored", slog.String("rule", m.Rule), slog.String("action", m.Action.String())))
	}
	text("significant", reasons(r.Significant))
	if len(r.Log) > 0 {
		attrs = append(attrs, slog.Any("log", r.Log))
	}
	for _, e := range r.ScriptErrors {
		attrs = append(attrs, slog.Group("script", slog.String("name", e.Script), slog.String("event", e.Event.String()),
			slog.String("error", e.Message), slog.String("traceback", e.Traceback)))
	}
	if r.Error != nil {
		text("error", r.Error.Error())
	}
	for _, name := range slices.Sorted(maps.Keys(r.RequestHeader)) {
		attrs = append(attrs, slog.Any("header."+name, r.RequestHeader[name]))
	}
	if suppressed > 0 {
		attrs = append(attrs, slog.Int64("suppressed", suppressed))
	}
	if r.FirstByte > 0 {
		attrs = append(attrs, slog.Duration("first_byte", r.FirstByte))
	}
	return append(attrs, slog.Duration("duration", r.Duration))
}

func reasons(list []Significance) string {
	words := make([]string, len(list))
	for i, s := range list {
		words[i] = s.String()
	}
	return strings.Join(words, ", ")
}

// loggedHeader is what a record shows of a request's header.
func loggedHeader(h http.Header) http.Header {
	h = h.Clone()
	for _, name := range [...]string{"Authorization", "Proxy-Authorization", "Cookie"} {
		if len(h[name]) > 0 {
			h[name] = []string{"[redacted]"}
		}
	}
	return h
}
