// Package otlp exports traces by OTLP over HTTP. It follows the configuration:
// spans of requests under way go where the present one says.
package otlp

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/config"
	"github.com/limpetlb/limpet/tracing"
)

// An Exporter is a [config.TraceExporter]. It starts nothing before Use. The
// environment variables of the SDK apply, but not OTEL_TRACES_SAMPLER.
type Exporter struct {
	version  string
	tracer   atomic.Pointer[limpet.Tracer] // nil before Use
	sampler  atomic.Pointer[sdk.Sampler]   // of new traces
	queue    *queue
	mu       sync.Mutex
	provider *sdk.TracerProvider // nil before Use
}

// New returns an exporter for a program of this version, which may be empty.
func New(version string) *Exporter { return &Exporter{version: version, queue: &queue{}} }

// Request implements [limpet.Tracer].
func (e *Exporter) Request(ctx context.Context, r *http.Request, trusted bool) (context.Context, limpet.Trace) {
	t := e.tracer.Load()
	if t == nil {
		return ctx, nil
	}
	return (*t).Request(ctx, r, trusted)
}

// Use implements [config.TraceExporter].
func (e *Exporter) Use(t config.Tracing, log *slog.Logger) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.queue.log.Store(log)
	if err := e.use(t); err != nil { // the file was checked before
		log.Error("requests are not traced as configured", "error", err)
	}
}

// use is Use with mu locked.
func (e *Exporter) use(t config.Tracing) error {
	c := tracing.Config{Query: t.Query}
	if err := c.Parent.UnmarshalText([]byte(t.Parent)); err != nil {
		return err
	}
	var options []otlptracehttp.Option
	if t.Endpoint != "" {
		options = append(options, otlptracehttp.WithEndpointURL(t.Endpoint))
	}
	if t.Headers != nil {
		options = append(options, otlptracehttp.WithHeaders(t.Headers))
	}
	if e.provider == nil {
		otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { e.queue.complain(0, err) }))
	}
	to, err := otlptracehttp.New(context.Background(), options...)
	if err != nil {
		return err
	}
	e.queue.turn(to)
	sampler := sdk.TraceIDRatioBased(t.Sample)
	e.sampler.Store(&sampler)
	if e.provider == nil {
		e.provider = e.newProvider()
	}
	c.Provider = e.provider
	tracer, err := tracing.New(c)
	if err == nil {
		e.tracer.Store(&tracer)
	}
	return err
}

func (e *Exporter) newProvider() *sdk.TracerProvider {
	names := []attribute.KeyValue{attribute.String("service.name", "limpet")}
	if e.version != "" {
		names = append(names, attribute.String("service.version", e.version))
	}
	about, err := resource.New(context.Background(), resource.WithAttributes(names...),
		resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil { // a part of it is missing
		e.queue.complain(0, err)
	}
	e.queue.SpanProcessor = sdk.NewBatchSpanProcessor(outlet{e.queue}, sdk.WithMaxQueueSize(queueSize))
	return sdk.NewTracerProvider(sdk.WithResource(about), sdk.WithSampler(sdk.ParentBased(liveSampler{e})), sdk.WithSpanProcessor(e.queue))
}

// Dropped returns how many spans were not exported, because too many waited or
// the receiver did not take them.
func (e *Exporter) Dropped() uint64 { return e.queue.dropped.Load() }

// Close exports what waits, until ctx ends. There must be no call of Use
// afterwards.
func (e *Exporter) Close(ctx context.Context) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.provider == nil {
		return
	}
	if err := e.provider.Shutdown(ctx); err != nil {
		e.queue.complain(0, err)
	}
	e.queue.lastWords()
}

// A liveSampler is the sampler that is in force.
type liveSampler struct{ *Exporter }

// ShouldSample implements [sdk.Sampler].
func (s liveSampler) ShouldSample(p sdk.SamplingParameters) sdk.SamplingResult {
	return (*s.sampler.Load()).ShouldSample(p)
}

// Description implements [sdk.Sampler].
func (s liveSampler) Description() string { return (*s.sampler.Load()).Description() }
