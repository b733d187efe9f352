package config

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet"
)

// A tracker is a TraceExporter that traces nothing.
type tracker struct {
	mu   sync.Mutex
	used []Tracing
}

func (t *tracker) Request(ctx context.Context, _ *http.Request, _ bool) (context.Context, limpet.Trace) {
	return ctx, nil
}

func (t *tracker) Use(now Tracing, _ *slog.Logger) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.used = append(t.used, now)
}

// What a file says about traces is what the exporter gets, also from another
// file, and it is the tracer of each service.
func TestTracing(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	load := func(text string) *File {
		t.Helper()
		write("limpet.yaml", text+"services: [{name: a, hosts: [a], httpSecurity: [{name: all, action: close}]}, {name: b, httpSecurity: [{name: all, action: close}]}]\n")
		f, err := Load(t.Context(), filepath.Join(dir, "limpet.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	write("headers", "# of the receiver\n\nAuthorization: Bearer x:y\r\nx-scope:  shop \n")
	var traces tracker
	all := "tracing: {endpoint: \"otel.example.com:4318\", insecure: true, sample: 1, parent: never, query: true, headersFile: headers}\n"
	rt, err := load(all).Build(Options{Traces: &traces})
	if err != nil {
		t.Fatal(err)
	}
	traced := func() bool {
		a, _ := rt.Service("a")
		b, _ := rt.Service("b")
		if (a.Config().Tracer == nil) != (b.Config().Tracer == nil) {
			t.Error("one service is traced")
		}
		return a.Config().Tracer == limpet.Tracer(&traces)
	}
	if !traced() {
		t.Error("no tracer")
	}
	update := func(f *File) Changes {
		t.Helper()
		changes, err := rt.Update(f)
		if err != nil {
			t.Fatal(err)
		}
		return changes
	}
	write("headers", "Authorization: Bearer z\n")
	if diff := cmp.Diff(Changes{Live: []string{"tracing.headersFile"}}, update(load(all))); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if diff := cmp.Diff(Changes{Live: []string{"tracing"}}, update(load("tracing: {}\n"))); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	update(load(""))
	if traced() {
		t.Error("a tracer without tracing")
	}
	full := Tracing{Endpoint: "http://otel.example.com:4318/v1/traces", Sample: 1, Parent: "never", Query: true}
	first, second := full, full
	first.Headers = map[string]string{"Authorization": "Bearer x:y", "X-Scope": "shop"}
	second.Headers = map[string]string{"Authorization": "Bearer z"}
	if diff := cmp.Diff([]Tracing{first, second, {Sample: 0.01, Parent: "trusted"}}, traces.used); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if _, err := load(all).Build(Options{}); err == nil || !strings.Contains(err.Error(), "tracing: this program exports no traces") {
		t.Errorf("%v", err)
	}
	if _, err := load(all).Build(Options{Offline: true}); err != nil {
		t.Errorf("%v", err)
	}
}

// The address of a receiver gets a scheme and the path.
func TestTracingEndpoint(t *testing.T) {
	for text, want := range map[string]string{
		"http://127.0.0.1:4318":               "http://127.0.0.1:4318/v1/traces",
		"https://otel.example.com/otlp/":      "https://otel.example.com/otlp/v1/traces",
		"https://otel.example.com/v1/traces":  "https://otel.example.com/v1/traces",
		"collector:4318":                      "https://collector:4318/v1/traces",
		"[::1]:4318":                          "https://[::1]:4318/v1/traces",
		"":                                    "",
		"unix:///run/otel":                    "",
		"https://user:TOPSECRET@otel.example": "",
		"https://otel.example?key=TOPSECRET":  "",
		"https://":                            "",
		"a b":                                 "",
	} {
		got, err := (&tracingConfig{Endpoint: text}).endpoint()
		if got != want || (err == nil) != (want != "" || text == "") || err != nil && strings.Contains(err.Error(), "TOPSECRET") {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}

// Each fault has its place and its reason; none shows a secret.
func TestTracingFaults(t *testing.T) {
	for _, c := range []struct{ text, headers, want string }{
		{`sample: 1.5`, "", `1:19: tracing.sample: 1.5: want a share from 0 to 1`},
		{`sample: -1`, "", `tracing.sample: -1: want a share`},
		{`sample: often`, "", `tracing.sample: want a number, not "often"`},
		{`parent: some`, "", `tracing.parent: "some" is not one of trusted, always, never`},
		{`insecure: true`, "", `tracing.insecure: without effect`},
		{`insecure: true, endpoint: "https://a"`, "", `tracing.insecure: without effect`},
		{`headersFile: none`, "", `tracing.headersFile: open DIR/none: no such file`},
		{`headersFile: headers`, "a: b\nTOPSECRET\n", `line 2 is not a name, a colon and a value`},
		{`headersFile: headers`, "a: TOPSECRET\x01\n", `line 1 is not a name`},
		{`headersFile: headers`, "a: TOPSECRET\nA: b\n", `line 2 has A again`},
		{`headersFile: headers`, strings.Repeat("a", 65<<10), `tracing.headersFile`},
		{`endpoints: x`, "", `did you mean "endpoint"?`},
	} {
		_, errs := loaded(t, map[string]string{"limpet.yaml": "tracing: {" + c.text + "}\n" + teapot, "headers": c.headers}, "limpet.yaml")
		if !strings.Contains(errs, c.want) || strings.Contains(errs, "TOPSECRET") || strings.Count(errs, "\n") > 0 {
			t.Errorf("%s: %s, not %s", c.text, errs, c.want)
		}
	}
}
