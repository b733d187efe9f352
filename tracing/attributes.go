package tracing

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/lbpool"
)

// maxText is how many bytes of a text are in an attribute. Clients choose many
// texts, and spans wait in memory.
const maxText = 4 << 10

// valid returns a text as attributes may have it: cut off, and in UTF-8, or
// nothing could be exported beside it.
func valid(s string) string {
	if len(s) > maxText {
		n := maxText
		for n > maxText-utf8.UTFMax && !utf8.RuneStart(s[n]) {
			n--
		}
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// A list is attributes. Those that say nothing are left out.
type list []attribute.KeyValue

func (l *list) text(key, value string) {
	if value != "" {
		*l = append(*l, attribute.String(key, valid(value)))
	}
}

func (l *list) number(key string, n int) { *l = append(*l, attribute.Int(key, n)) }

// address adds the host and the port of what the keys are about.
func (l *list) address(key string, a netip.AddrPort) {
	if a.IsValid() {
		l.text(key+".address", a.Addr().String())
		if a.Port() != 0 {
			l.number(key+".port", int(a.Port()))
		}
	}
}

const otherMethod = "_OTHER"

// methodName returns the value of the attribute for a method.
func methodName(method string) string {
	switch method {
	case http.MethodConnect, http.MethodDelete, http.MethodGet, http.MethodHead, http.MethodOptions,
		http.MethodPatch, http.MethodPost, http.MethodPut, http.MethodTrace:
		return method
	case "": // of a request made by a program
		return http.MethodGet
	}
	return otherMethod
}

// methodOf returns the name of a span.
func methodOf(r *http.Request) string {
	if name := methodName(r.Method); name != otherMethod {
		return name
	}
	return "HTTP"
}

// method adds the method of a request.
func (l *list) method(method string) {
	name := methodName(method)
	if l.text("http.request.method", name); name == otherMethod {
		l.text("http.request.method_original", method)
	}
}

// received returns the name and the attributes of the span of a request, as far
// as they are known when it arrives: those that samplers may look at.
func (t *tracer) received(r *http.Request, trusted bool) (name string, attributes list) {
	attributes = make(list, 0, 10)
	attributes.method(r.Method)
	attributes.text("url.scheme", scheme(r, trusted))
	if r.URL != nil {
		attributes.text("url.path", r.URL.EscapedPath())
		if t.config.Query {
			attributes.text("url.query", r.URL.RawQuery)
		}
	}
	host := r.Host[strings.LastIndexByte(r.Host, '@')+1:] // a user is refused later
	if name, port, err := net.SplitHostPort(host); err == nil {
		host = name
		if n, err := strconv.ParseUint(port, 10, 16); err == nil {
			attributes.number("server.port", int(n))
		}
	}
	attributes.text("server.address", strings.Trim(host, "[]"))
	attributes.text("network.protocol.version", version(r))
	attributes.text("user_agent.original", r.UserAgent())
	return methodOf(r), attributes
}

// scheme is that by which the client has sent a request.
func scheme(r *http.Request, trusted bool) string {
	if told := r.Header.Get("X-Forwarded-Proto"); trusted && (told == "http" || told == "https") {
		return told
	}
	if r.TLS != nil {
		return "https"
	}
	return "http"
}

func version(r *http.Request) string {
	if r.ProtoMajor == 1 {
		return "1." + strconv.Itoa(r.ProtoMinor)
	}
	return strconv.Itoa(r.ProtoMajor)
}

// sent returns the attributes of an attempt.
func (t *tracer) sent(r *http.Request, route *lbpool.Route, server netip.AddrPort, attempt int) list {
	attributes := make(list, 0, 10)
	attributes.method(r.Method)
	if r.URL != nil {
		url := r.URL.Scheme + "://" + r.URL.Host + r.URL.EscapedPath()
		if t.config.Query && r.URL.RawQuery != "" {
			url += "?" + r.URL.RawQuery
		}
		attributes.text("url.full", url)
	}
	attributes.address("server", server)
	if server.IsValid() {
		attributes.text("limpet.server", server.String())
	}
	if route != nil && route.Pool != nil {
		attributes.text("limpet.pool", route.Pool.Name())
	}
	if attempt > 1 {
		attributes.number("http.request.resend_count", attempt-1)
	}
	return attributes
}

// stepAttributes are those of a step.
func stepAttributes(step, name string) (attributes list) {
	switch step {
	case "queue":
		attributes.text("limpet.pool", name)
	case "script":
		i := max(strings.LastIndexByte(name, ' '), 0)
		attributes.text("limpet.script", name[:i])
		attributes.text("limpet.event", strings.TrimPrefix(name[i:], " "))
	}
	return attributes
}

// describe adds to the span of a request what its record has.
func (q *request) describe(r *limpet.Record) {
	attributes := make(list, 0, 16)
	attributes.text("limpet.vs", r.VirtualService)
	attributes.text("limpet.pool", r.Pool)
	if r.Server.IsValid() {
		attributes.text("limpet.server", r.Server.String())
	}
	attributes.text("limpet.persistence", r.Outcome.String())
	if r.Client.IsValid() {
		attributes.text("client.address", r.Client.Addr().String())
	}
	attributes.address("network.peer", r.Source)
	if len(r.Significant) > 0 {
		words := make([]string, len(r.Significant))
		for i, s := range r.Significant {
			words[i] = s.String()
		}
		attributes = append(attributes, attribute.StringSlice("limpet.significant", words))
	}
	if r.Hijacked {
		attributes = append(attributes, attribute.Bool("limpet.upgraded", true))
	}
	gone := slices.Contains(r.Significant, limpet.ClientGone)
	if r.Status != 0 && !(gone && r.Status == statusClientGone) {
		attributes.number("http.response.status_code", r.Status)
	}
	q.policies(r, &attributes)
	q.span.SetAttributes(attributes...)
	switch {
	case gone:
	case r.Status >= 500:
		fail(q.span, statusText(r.Status))
	case slices.Contains(r.Significant, limpet.ServerTimeout):
		fail(q.span, "timeout")
	case slices.Contains(r.Significant, limpet.ServerFailed):
		fail(q.span, "cut")
	}
}

// statusClientGone is the status in records of a client that did not wait. It
// was not sent.
const statusClientGone = 499

// policies adds the rules that have matched: an event for each, and an
// attribute for the one that decided last.
func (q *request) policies(r *limpet.Record, attributes *list) {
	decided := ""
	for _, p := range [...]struct {
		event, rule string
		at          time.Time
	}{
		{"network security", r.NetworkRule, r.Start},
		{"HTTP security", r.SecurityRule, r.Start},
		{"HTTP request", r.RequestRule, r.Start},
		{"HTTP response", r.ResponseRule, r.Start.Add(r.FirstByte)},
	} {
		if p.rule != "" {
			decided = p.rule
			q.span.AddEvent(p.event, trace.WithTimestamp(p.at), trace.WithAttributes(attribute.String("limpet.rule", valid(p.rule))))
		}
	}
	attributes.text("limpet.rule", decided)
}

// errorType returns a word for an error, whose text may have secrets.
func errorType(err error) string {
	_, budget := errors.AsType[*datascript.BudgetError](err)
	var timeout net.Error
	switch {
	case errors.Is(err, datascript.ErrBusy):
		return "busy"
	case budget:
		return "limit"
	case isScript(err):
		return "script"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled), errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	case isDial(err):
		return "connect"
	}
	return otherMethod
}

func isScript(err error) bool {
	e, ok := errors.AsType[*datascript.RuntimeError](err)
	return ok && e.Cause == nil
}

// isDial reports whether there was no connection.
func isDial(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return errors.Is(err, lbpool.ErrConnect) || ok && op.Op == "dial"
}

func statusText(status int) string { return strconv.Itoa(status) }
