package tracing_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"

	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/tracing"
)

// Trace the requests of a service. A program that exports spans gives
// WithBatcher an exporter, such as that of otlptracehttp.
func Example() {
	spans := tracetest.NewInMemoryExporter()
	provider := trace.NewTracerProvider(trace.WithSyncer(spans), trace.WithSampler(trace.ParentBased(trace.TraceIDRatioBased(1))))
	defer func() { _ = provider.Shutdown(context.Background()) }()
	tracer, err := tracing.New(tracing.Config{Provider: provider})
	if err != nil {
		log.Fatal(err)
	}
	vs, err := limpet.New(limpet.Config{Name: "shop", Tracer: tracer})
	if err != nil {
		log.Fatal(err)
	}
	vs.Wrap(http.NotFoundHandler()).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
	for _, s := range spans.GetSpans() {
		fmt.Println(s.SpanKind, s.Name)
	}
	// Output: server GET
}
