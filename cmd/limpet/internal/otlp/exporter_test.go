package otlp

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/config"
	"github.com/limpetlb/limpet/internal/testwait"
)

// A receiver takes spans, or hangs.
type receiver struct {
	*httptest.Server
	mu       sync.Mutex
	spans    int
	resource map[string]string
	header   http.Header
	hang     chan struct{} // until it is closed; nil: not
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{resource: map[string]string{}}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if r.hang != nil {
		<-r.hang
	}
	body, err := io.ReadAll(req.Body)
	var message collector.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(body, &message)
	}
	if err != nil || req.URL.Path != "/v1/traces" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.header = req.Header
	for _, all := range message.ResourceSpans {
		for _, a := range all.Resource.Attributes {
			r.resource[a.Key] = a.Value.GetStringValue()
		}
		for _, scope := range all.ScopeSpans {
			r.spans += len(scope.Spans)
		}
	}
}

func (r *receiver) url() string { return r.URL + "/v1/traces" }

// lines is a log.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *lines) log() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// traced traces n requests.
func traced(e *Exporter, n int) (kept int) {
	for range n {
		_, trace := e.Request(context.Background(), httptest.NewRequest(http.MethodGet, "/", nil), false)
		if trace.ID() != "" {
			kept++
		}
		trace.Finish(&limpet.Record{})
	}
	return kept
}

// Spans go where the configuration of now says, also those of traces that began
// before, and none is lost at the end.
func TestUse(t *testing.T) {
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-environment=yes")
	first, second := newReceiver(t), newReceiver(t)
	var log lines
	e := New("v1")
	if _, trace := e.Request(t.Context(), httptest.NewRequest(http.MethodGet, "/", nil), true); trace != nil {
		t.Error("a trace before Use")
	}
	e.Use(config.Tracing{Endpoint: first.url(), Sample: 1, Parent: "trusted"}, log.log())
	if kept := traced(e, 10); kept != 10 {
		t.Errorf("%d kept", kept)
	}
	_, open := e.Request(t.Context(), httptest.NewRequest(http.MethodGet, "/", nil), false)
	if err := e.provider.ForceFlush(t.Context()); err != nil {
		t.Error(err)
	}
	e.Use(config.Tracing{Endpoint: second.url(), Sample: 0, Parent: "never", Headers: map[string]string{"Authorization": "Bearer x"}}, log.log())
	if kept := traced(e, 10); kept != 0 {
		t.Errorf("%d kept", kept)
	}
	open.Finish(&limpet.Record{})
	e.Close(t.Context())
	if first.spans != 10 || second.spans != 1 {
		t.Errorf("%d and %d spans", first.spans, second.spans)
	}
	if r := first.resource; r["service.name"] != "limpet" || r["service.version"] != "v1" || r["deployment.environment.name"] != "test" || r["telemetry.sdk.name"] == "" {
		t.Errorf("resource %v", r)
	}
	if first.header.Get("X-Environment") != "yes" || second.header.Get("Authorization") != "Bearer x" {
		t.Errorf("headers %v and %v", first.header, second.header)
	}
	if e.Dropped() != 0 || log.String() != "" {
		t.Errorf("%d dropped: %s", e.Dropped(), log.String())
	}
}

// The environment names the receiver and the service if the file does not.
func TestEnvironment(t *testing.T) {
	r := newReceiver(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", r.URL)
	t.Setenv("OTEL_SERVICE_NAME", "edge")
	e := New("")
	e.Use(config.Tracing{Sample: 1, Parent: "trusted"}, slog.New(slog.DiscardHandler))
	traced(e, 3)
	e.Close(t.Context())
	if r.spans != 3 || r.resource["service.name"] != "edge" {
		t.Errorf("%d spans of %v", r.spans, r.resource)
	}
}

// A receiver that hangs makes nobody wait. Spans that find no place are
// counted, and the log says so.
func TestFull(t *testing.T) {
	r := newReceiver(t)
	r.hang = make(chan struct{})
	var log lines
	e := New("")
	e.Use(config.Tracing{Endpoint: r.url(), Sample: 1, Parent: "trusted"}, log.log())
	const more = 100
	if kept := traced(e, queueSize+more); kept != queueSize+more {
		t.Errorf("%d kept", kept)
	}
	if n := e.Dropped(); n != more {
		t.Errorf("%d dropped, want %d", n, more)
	}
	close(r.hang)
	e.Close(t.Context())
	if r.spans != queueSize {
		t.Errorf("%d spans, want %d", r.spans, queueSize)
	}
	if text := log.String(); !strings.Contains(text, `level=WARN msg="spans not exported" dropped=1`) || !strings.Contains(text, "dropped=99\n") {
		t.Error(text)
	}
}

// An end does not wait longer than it is asked to, and a receiver that refuses
// is in the log, once.
func TestRefused(t *testing.T) {
	var log lines
	e := New("")
	r := newReceiver(t)
	e.Use(config.Tracing{Endpoint: r.URL + "/elsewhere", Sample: 1, Parent: "always"}, log.log())
	traced(e, 2)
	testwait.Until(t, "the line", func() bool {
		_ = e.provider.ForceFlush(t.Context())
		return log.String() != ""
	})
	if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "dropped=2 error=") {
		t.Error(text)
	}
	if e.Dropped() != 2 {
		t.Errorf("%d dropped", e.Dropped())
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	e.Close(over)
}
