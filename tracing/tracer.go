package tracing

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strings"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/lbpool"
)

// Config are the settings of [New]. The zero value is valid.
type Config struct {
	// Provider makes spans, and decides which requests are sampled. Nil means
	// the global one at the time of New.
	Provider trace.TracerProvider
	// Propagator reads the headers of traces from requests and sets them for
	// servers. Where it has something to set, the client's own headers of its
	// fields do not reach servers. Nil means [propagation.TraceContext], which
	// leaves the header Baggage alone.
	Propagator propagation.TextMapPropagator
	// Parent says whose traces requests continue. The zero value is
	// [ParentTrusted].
	Parent Parent
	// Query adds the query of URLs to spans. It may contain secrets.
	Query bool
}

// New returns a tracer. It starts nothing. The error joins a
// [limpet.FieldError] for each fault of the configuration.
func New(c Config) (limpet.Tracer, error) {
	var faults fielderr.List
	faults.Constant("parent", c.Parent)
	if err := faults.Err(); err != nil {
		return nil, err
	}
	if c.Provider == nil {
		c.Provider = otel.GetTracerProvider()
	}
	if c.Propagator == nil {
		c.Propagator = propagation.TraceContext{}
	}
	const scope = "github.com/limpetlb/limpet/tracing"
	t := &tracer{config: c, spans: c.Provider.Tracer(scope)}
	for _, field := range c.Propagator.Fields() {
		t.fields = append(t.fields, headerOf(field))
	}
	return t, nil
}

// tracer is a [limpet.Tracer].
type tracer struct {
	config Config
	spans  trace.Tracer
	fields []string // headers of the propagator
}

// Request implements [limpet.Tracer].
func (t *tracer) Request(ctx context.Context, r *http.Request, trusted bool) (context.Context, limpet.Trace) {
	name, attributes := t.received(r, trusted)
	options := [...]trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attributes...), nil, nil}
	start := options[:2]
	// A span of the program in front of this service is the parent whatever
	// headers say.
	if own := trace.SpanContextFromContext(ctx); !own.IsValid() || own.IsRemote() {
		from := t.config.Propagator.Extract(ctx, carrier(r.Header))
		switch remote := trace.SpanContextFromContext(from); {
		case t.config.Parent == ParentAlways || t.config.Parent == ParentTrusted && trusted:
			ctx = from
		case remote.IsValid():
			// The state is of any length, and a stranger's.
			link := trace.Link{SpanContext: remote.WithTraceState(trace.TraceState{})}
			start = append(start, trace.WithNewRoot(), trace.WithLinks(link))
		}
	}
	ctx, span := t.spans.Start(ctx, name, start...)
	return ctx, &request{tracer: t, ctx: ctx, span: span}
}

// A carrier are the headers of a request. A header that stands several times is
// one list (RFC 9110, section 5.3), so that a second parent makes none.
type carrier http.Header

// Get implements [propagation.TextMapCarrier].
func (c carrier) Get(key string) string {
	values := c[headerOf(key)]
	if len(values) == 1 {
		return values[0]
	}
	return strings.Join(values, ",")
}

// Set implements [propagation.TextMapCarrier].
func (c carrier) Set(key, value string) { c[headerOf(key)] = []string{value} }

// Keys implements [propagation.TextMapCarrier].
func (c carrier) Keys() (keys []string) { return propagation.HeaderCarrier(c).Keys() }

// headerOf returns the canonical name of a header, without an allocation for
// those of W3C.
func headerOf(field string) string {
	switch field {
	case "traceparent":
		return "Traceparent"
	case "tracestate":
		return "Tracestate"
	case "baggage":
		return "Baggage"
	}
	return http.CanonicalHeaderKey(field)
}

// request is a [limpet.Trace].
type request struct {
	tracer *tracer
	ctx    context.Context // with the span
	span   trace.Span      // of kind SERVER
}

// ID implements [limpet.Trace].
func (q *request) ID() string {
	if c := q.span.SpanContext(); c.IsSampled() {
		return c.TraceID().String()
	}
	return ""
}

// Begin implements [limpet.Trace].
func (q *request) Begin(step, name string) func(error) {
	if !q.span.IsRecording() {
		return ignore
	}
	_, span := q.tracer.spans.Start(q.ctx, step+" "+valid(name), trace.WithAttributes(stepAttributes(step, name)...))
	return func(err error) {
		if err != nil {
			fail(span, errorType(err))
		}
		span.End()
	}
}

func ignore(error) {}

// Send implements [limpet.Trace].
func (q *request) Send(r *http.Request, server netip.AddrPort, attempt int) func(int, error) {
	if !q.span.IsRecording() { // the server's parent is the span of the request
		q.inject(q.ctx, r)
		return ignoreAnswer
	}
	route, _ := lbpool.RouteFrom(r.Context())
	ctx, span := q.tracer.spans.Start(r.Context(), methodOf(r),
		trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(q.tracer.sent(r, route, server, attempt)...))
	q.inject(ctx, r)
	*r = *r.WithContext(ctx)
	return func(status int, err error) {
		q.sent(span, status, err)
		span.End()
	}
}

// inject sets the headers of the span in a context. If nobody makes spans, the
// client's headers pass.
func (q *request) inject(ctx context.Context, r *http.Request) {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return
	}
	for _, field := range q.tracer.fields {
		delete(r.Header, field)
	}
	q.tracer.config.Propagator.Inject(ctx, carrier(r.Header))
}

// sent notes how an attempt has ended.
func (q *request) sent(span trace.Span, status int, err error) {
	switch {
	case err != nil && errors.Is(q.ctx.Err(), context.Canceled): // the client has left
	case err != nil:
		fail(span, errorType(err))
	default:
		span.SetAttributes(attribute.Int("http.response.status_code", status))
		if status >= 400 {
			fail(span, statusText(status))
		}
	}
}

func ignoreAnswer(int, error) {}

// fail marks the span of something that has failed.
func fail(span trace.Span, kind string) {
	span.SetStatus(codes.Error, "")
	span.SetAttributes(attribute.String("error.type", kind))
}

// Finish implements [limpet.Trace].
func (q *request) Finish(r *limpet.Record) {
	if q.span.IsRecording() {
		q.describe(r)
	}
	q.span.End()
}
