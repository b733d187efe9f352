package limpet

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/accesslog"
	"github.com/limpetlb/limpet/internal/clientaddr"
	"github.com/limpetlb/limpet/policy"
)

// A recordLine is the line of a record in a log.
type recordLine struct {
	*Record
	tx         *transaction // nil for a connection
	fields     accesslog.Fields
	level      slog.Level
	suppressed int64
}

// log writes the line to the log of records or, if there is none, to the
// Logger.
func (l *recordLine) log(ctx context.Context, s *snapshot, log *accesslog.Log) {
	for log != nil && !(l.Connection && log.Format.Apache()) { // whose lines are of requests
		l.fields = log.Fields
		if l.write(ctx, log) == nil {
			return
		}
		// The queue was closed because another log has taken its place.
		next, _ := s.recordLog()
		if next == log {
			return
		}
		log = next
	}
	l.fields = 0
	switch {
	case !l.Connection:
		s.Logger.LogAttrs(ctx, l.level, requestMessage, l.attrs()...)
	case l.Closed:
		s.Logger.LogAttrs(ctx, l.level, deniedMessage, l.attrs()...)
	default:
		s.Logger.LogAttrs(ctx, l.level, limitMessage, l.attrs()...)
	}
}

const (
	requestMessage = "request"
	deniedMessage  = "connection denied"
	limitMessage   = "connection above limit"
)

func (l *recordLine) message() string {
	switch {
	case !l.Connection:
		return requestMessage
	case l.Closed:
		return deniedMessage
	}
	return limitMessage
}

// lineBuffers are those that are not in use.
var lineBuffers = sync.Pool{New: func() any { return new(accesslog.Object) }}

// keptLine is how many bytes a buffer keeps for further lines.
const keptLine = 16 << 10

// write writes the line in the format of a log.
func (l *recordLine) write(ctx context.Context, log *accesslog.Log) error {
	if log.Format == accesslog.Text {
		r := slog.NewRecord(time.Now(), l.level, l.message(), 0)
		r.AddAttrs(l.attrs()...)
		return log.Text().Handle(ctx, r)
	}
	o := lineBuffers.Get().(*accesslog.Object)
	o.B = o.B[:0]
	switch log.Format {
	case accesslog.Combined, accesslog.VCombined:
		o.B = l.appendCombined(o.B, log.Format == accesslog.VCombined)
	case accesslog.Avi:
		l.avi(o)
	default:
		o.Begin()
		o.Time("time", l.end())
		o.Text("level", l.level.String())
		o.Text("msg", l.message())
		l.facts((*jsonFacts)(o))
		o.End()
	}
	err := log.Queue.Put(o.B, l.level >= slog.LevelError)
	if cap(o.B) <= keptLine {
		lineBuffers.Put(o)
	}
	return err
}

// end is when the record was made.
func (l *recordLine) end() time.Time { return l.Start.Add(l.Duration) }

// A factWriter gets the facts of a record. It leaves out those that are not
// known: empty texts and lists, and addresses that are not valid.
type factWriter interface {
	text(key, value string)
	texts(key string, list []string)
	number(key string, n int64)
	truth(key string, truth bool)
	address(key string, a netip.AddrPort)
	duration(key string, d time.Duration)

	client(a netip.AddrPort)
	target(path, query string)
	significant(list []Significance)
	monitored(list []policy.Outcome)
	scriptErrors(list []*datascript.RuntimeError)
	header(h http.Header)
}

// facts writes the known facts of a record, in the order of a line.
func (l *recordLine) facts(w factWriter) {
	w.text("vs", l.VirtualService)
	w.text("request_id", l.RequestID)
	w.text("trace_id", l.TraceID)
	w.client(l.Client)
	if l.Source != l.Client {
		w.address("source", l.Source)
		w.text("client_source", l.ClientSource)
	}
	if l.ClientReason != clientaddr.PeerUntrusted.String() {
		w.text("client_reason", l.ClientReason)
	}
	w.address("proxy", l.Proxy)
	w.text("location", l.Location)
	w.text("user", l.UserID)
	w.text("method", l.Method)
	w.text("host", l.Host)
	w.target(l.Path, l.query())
	w.text("proto", l.Proto)
	w.text("sent_path", l.SentPath)
	if n, ok := l.requestBytes(); ok {
		w.number("request_bytes", n)
	}
	if l.Status != 0 {
		w.number("status", int64(l.Status))
		w.number("bytes", l.Bytes)
	}
	w.duration("duration", l.Duration)
	if l.FirstByte > 0 {
		w.duration("first_byte", l.FirstByte)
	}
	w.text("pool", l.Pool)
	w.address("server", l.Server)
	if l.ServerStatus != 0 && l.ServerStatus != l.Status {
		w.number("server_status", int64(l.ServerStatus))
	}
	w.text("persistence", l.Outcome.String())
	w.text("binding_source", string(l.BindingSource))
	w.address("bound", l.Bound)
	if l.Tried > 1 {
		w.number("tried", int64(l.Tried))
	}
	if l.GivenUp != nil {
		w.text("given_up", l.GivenUp.Error())
	}
	w.text("network_rule", l.NetworkRule)
	w.text("connection_limit", l.ConnectionLimit)
	w.text("security_rule", l.SecurityRule)
	w.text("request_rule", l.RequestRule)
	w.text("response_rule", l.ResponseRule)
	w.monitored(l.Monitored)
	w.significant(l.Significant)
	w.texts("log", l.Log)
	w.scriptErrors(l.ScriptErrors)
	if l.Error != nil {
		w.text("error", l.Error.Error())
	}
	w.text("user_agent", l.received(accesslog.UserAgent))
	w.text("referer", l.received(accesslog.Referer))
	if t := l.tls(); t != nil {
		w.text("tls_version", tls.VersionName(t.Version))
		w.text("tls_suite", tls.CipherSuiteName(t.CipherSuite))
		w.text("tls_server_name", t.ServerName)
		w.truth("tls_resumed", t.DidResume)
		w.text("tls_client", l.tx.certificateSubject())
	}
	if len(l.RequestHeader) > 0 {
		w.header(l.RequestHeader)
	}
	if l.suppressed > 0 {
		w.number("suppressed", l.suppressed)
	}
}

// received returns the header of the request that a field stands for; empty if
// the log does not have the field.
func (l *recordLine) received(f accesslog.Field) string {
	if l.tx == nil || !l.fields.Has(f) {
		return ""
	}
	if f == accesslog.Referer {
		return l.tx.r.Header.Get("Referer")
	}
	return l.tx.r.Header.Get("User-Agent")
}

// query returns the query of the request, if the log has it.
func (l *recordLine) query() string {
	if l.tx == nil || !l.fields.Has(accesslog.Query) || l.tx.r.URL == nil {
		return ""
	}
	return l.tx.r.URL.RawQuery
}

// tls returns the state of the client's connection, if the log has it.
func (l *recordLine) tls() *tls.ConnectionState {
	if l.tx == nil || !l.fields.Has(accesslog.TLS) {
		return nil
	}
	return l.tx.r.TLS
}

// requestBytes returns how much of the request's body was read, if the log has
// it.
func (l *recordLine) requestBytes() (n int64, ok bool) {
	if l.tx == nil || !l.fields.Has(accesslog.RequestBytes) {
		return 0, false
	}
	return l.tx.received(), true
}

// certificateSubject returns the subject of the client's certificate; empty if
// the client has none, or none that is good.
func (tx *transaction) certificateSubject() string {
	if t := tx.r.TLS; t == nil || len(t.PeerCertificates) == 0 || tx.VerifyCertificate() != nil {
		return ""
	}
	return tx.r.TLS.PeerCertificates[0].Subject.String()
}

// A countedBody counts what is read of a request's body.
type countedBody struct {
	io.ReadCloser
	n atomic.Int64
}

// Read implements io.Reader.
func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n.Add(int64(n))
	return n, err
}

// countBody returns r, or a copy with a body that is counted if there is one.
func countBody(r *http.Request) *http.Request {
	if r.Body == nil || r.Body == http.NoBody {
		return r
	}
	var both struct { // in one allocation
		request http.Request
		body    countedBody
	}
	both.request = *r
	both.body.ReadCloser = r.Body
	both.request.Body = &both.body
	return &both.request
}

// received returns how much of the request's body was read.
func (tx *transaction) received() int64 {
	if b, ok := tx.r.Body.(*countedBody); ok {
		return b.n.Load()
	}
	return 0
}

// slogFacts are attributes for log/slog.
type slogFacts []slog.Attr

// attrs returns the facts for log/slog.
func (l *recordLine) attrs() []slog.Attr {
	attrs := make(slogFacts, 0, 24)
	l.facts(&attrs)
	return attrs
}

func (f *slogFacts) add(a slog.Attr) { *f = append(*f, a) }

func (f *slogFacts) text(key, value string) {
	if value != "" {
		f.add(slog.String(key, logged(value)))
	}
}

func (f *slogFacts) texts(key string, list []string) {
	if len(list) > 0 {
		f.add(slog.Any(key, list))
	}
}

func (f *slogFacts) number(key string, n int64)           { f.add(slog.Int64(key, n)) }
func (f *slogFacts) truth(key string, truth bool)         { f.add(slog.Bool(key, truth)) }
func (f *slogFacts) address(key string, a netip.AddrPort) { f.text(key, addrText(a)) }
func (f *slogFacts) duration(key string, d time.Duration) { f.add(slog.Duration(key, d)) }
func (f *slogFacts) client(a netip.AddrPort)              { f.address("client", a) }

func (f *slogFacts) target(path, query string) {
	f.text("path", path)
	f.text("query", query)
}

func (f *slogFacts) significant(list []Significance) { f.text("significant", reasons(list)) }

func (f *slogFacts) monitored(list []policy.Outcome) {
	for _, m := range list {
		f.add(slog.Group("monitored", slog.String("rule", m.Rule), slog.String("action", m.Action.String())))
	}
}

func (f *slogFacts) scriptErrors(list []*datascript.RuntimeError) {
	for _, e := range list {
		f.add(slog.Group("script", slog.String("name", e.Script), slog.String("event", e.Event.String()),
			slog.String("error", e.Message), slog.String("traceback", e.Traceback)))
	}
}

func (f *slogFacts) header(h http.Header) {
	for _, name := range slices.Sorted(maps.Keys(h)) {
		values := slices.Clone(h[name])
		for i := range values {
			values[i] = logged(values[i])
		}
		f.add(slog.Any("header."+logged(name), values))
	}
}

func reasons(list []Significance) string {
	words := make([]string, len(list))
	for i, s := range list {
		words[i] = s.String()
	}
	return strings.Join(words, ", ")
}

// jsonFacts are members of an object.
type jsonFacts accesslog.Object

func (f *jsonFacts) object() *accesslog.Object { return (*accesslog.Object)(f) }

func (f *jsonFacts) text(key, value string)               { f.object().Text(key, logged(value)) }
func (f *jsonFacts) texts(key string, list []string)      { f.object().Texts(key, list) }
func (f *jsonFacts) number(key string, n int64)           { f.object().Number(key, n) }
func (f *jsonFacts) truth(key string, truth bool)         { f.object().Truth(key, truth) }
func (f *jsonFacts) address(key string, a netip.AddrPort) { f.object().AddrPort(key, a) }

func (f *jsonFacts) duration(key string, d time.Duration) {
	f.object().Micros(key, d)
}

func (f *jsonFacts) client(a netip.AddrPort) {
	f.object().Addr("client", a.Addr())
	if a.Port() != 0 {
		f.number("client_port", int64(a.Port()))
	}
}

func (f *jsonFacts) target(path, query string) {
	if query != "" {
		path += "?" + query
	}
	f.text("uri", path)
}

func (f *jsonFacts) significant(list []Significance) {
	o := f.object()
	for i, s := range list {
		o.Item("significant", i, s.String())
	}
	o.EndItems(len(list))
}

func (f *jsonFacts) monitored(list []policy.Outcome) {
	o := f.object()
	for i, m := range list {
		o.Item("monitored", i, m.Rule+": "+m.Action.String())
	}
	o.EndItems(len(list))
}

func (f *jsonFacts) scriptErrors(list []*datascript.RuntimeError) {
	o := f.object()
	for i, e := range list {
		o.Item("script_errors", i, e.Script+" "+e.Event.String()+": "+e.Message)
	}
	o.EndItems(len(list))
	for i, e := range list {
		o.Item("tracebacks", i, e.Traceback)
	}
	o.EndItems(len(list))
}

func (f *jsonFacts) header(h http.Header) {
	o, n := f.object(), 0
	for _, name := range slices.Sorted(maps.Keys(h)) {
		for _, value := range h[name] {
			o.Item("request_header", n, logged(name)+": "+logged(value))
			n++
		}
	}
	o.EndItems(n)
}

// appendCombined appends a line as Apache has it.
func (l *recordLine) appendCombined(b []byte, host bool) []byte {
	if host {
		name := l.Host
		if h, _, err := net.SplitHostPort(name); err == nil {
			name = h
		}
		b = append(accesslog.AppendEscaped(b, logged(name), " :"), ':')
		b = append(strconv.AppendUint(b, uint64(l.Local.Port()), 10), ' ')
	}
	if l.Client.IsValid() {
		b = l.Client.Addr().AppendTo(b)
	} else {
		b = append(b, '-')
	}
	b = accesslog.AppendEscaped(append(b, " - "...), logged(l.UserID), " ")
	b = l.Start.UTC().AppendFormat(append(b, " ["...), "02/Jan/2006:15:04:05 +0000")
	b = accesslog.AppendEscaped(append(b, `] "`...), logged(l.Method), " ")
	b = accesslog.AppendEscaped(append(b, ' '), logged(l.Path), " ")
	if q := l.query(); q != "" {
		b = accesslog.AppendEscaped(append(b, '?'), logged(q), " ")
	}
	b = append(accesslog.AppendEscaped(append(b, ' '), logged(l.Proto), " "), `" `...)
	if l.Status != 0 {
		b = strconv.AppendInt(append(strconv.AppendInt(b, int64(l.Status), 10), ' '), l.Bytes, 10)
	} else {
		b = append(b, "- -"...)
	}
	b = accesslog.AppendEscaped(append(b, ` "`...), logged(l.received(accesslog.Referer)), "")
	b = accesslog.AppendEscaped(append(b, `" "`...), logged(l.received(accesslog.UserAgent)), "")
	return append(b, "\"\n"...)
}

// avi writes the record with the keys of the logs of Avi Vantage, in whose
// unit, milliseconds, are times.
func (l *recordLine) avi(o *accesslog.Object) {
	text := func(key, value string) { o.Text(key, logged(value)) }
	number := func(key string, n int) {
		if n != 0 {
			o.Number(key, int64(n))
		}
	}
	address := func(ip, port string, a netip.AddrPort) {
		o.Addr(ip, a.Addr())
		number(port, int(a.Port()))
	}
	o.Begin()
	o.Time("report_timestamp", l.end())
	text("vs_name", l.VirtualService)
	o.Truth("adf", len(l.Significant) > 0)
	o.Truth("udf", l.Filtered)
	text("request_id", l.RequestID)
	address("client_ip", "client_src_port", l.Client)
	if l.Source != l.Client {
		o.Addr("source_ip", l.Source.Addr())
	}
	text("client_location", l.Location)
	address("vs_ip", "client_dest_port", l.Local)
	text("user_id", l.UserID)
	text("method", l.Method)
	text("host", l.Host)
	text("uri_path", l.Path)
	text("uri_query", l.query())
	text("rewritten_uri_path", l.SentPath)
	text("http_version", strings.TrimPrefix(l.Proto, "HTTP/"))
	text("user_agent", l.received(accesslog.UserAgent))
	text("referer", l.received(accesslog.Referer))
	if t := l.tls(); t != nil {
		text("ssl_version", tls.VersionName(t.Version))
		text("ssl_cipher", tls.CipherSuiteName(t.CipherSuite))
		text("sni_hostname", t.ServerName)
	}
	if n, ok := l.requestBytes(); ok {
		o.Number("request_length", n)
	}
	if l.Status != 0 {
		o.Number("response_code", int64(l.Status))
		o.Number("response_length", l.Bytes)
	}
	text("pool_name", l.Pool)
	text("server_name", l.ServerName)
	address("server_ip", "server_dest_port", l.Server)
	number("server_response_code", l.ServerStatus)
	number("servers_tried", l.Tried)
	if l.Outcome != OutcomeNone {
		o.Truth("persistence_used", l.Outcome == OutcomeHit || l.Outcome == OutcomeJoined)
	}
	if l.FirstByte > 0 {
		o.Number("server_response_time_first_byte", l.FirstByte.Milliseconds())
	}
	o.Number("total_time", l.Duration.Milliseconds())
	text("network_security_policy_rule_name", l.NetworkRule)
	text("http_security_policy_rule_name", l.SecurityRule)
	text("http_request_policy_rule_name", l.RequestRule)
	text("http_response_policy_rule_name", l.ResponseRule)
	codes := 0
	for _, s := range l.Significant {
		if !s.own() {
			o.Item("significant_log", codes, s.Code())
			codes++
		}
	}
	o.EndItems(codes)
	text("significance", reasons(l.Significant))
	text("datascript_log", strings.Join(l.Log, "\n"))
	traces := make([]string, 0, len(l.ScriptErrors))
	for _, e := range l.ScriptErrors {
		traces = append(traces, e.Message+"\n"+e.Traceback)
	}
	text("datascript_error_trace", strings.Join(traces, "\n"))
	o.End()
}
