package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/enumtext"
	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/internal/httpfield"
)

// A TraceExporter traces the requests of all services of a file with `tracing`,
// and exports their spans. Its methods may be called concurrently. The command
// has one; a program that needs none leaves Options.Traces nil.
type TraceExporter interface {
	limpet.Tracer
	// Use takes the place of what was there before, and is called before the
	// first request. It does not wait. Requests under way end their traces. The
	// exporter logs to log.
	Use(t Tracing, log *slog.Logger)
}

// Tracing is what a file says about traces.
type Tracing struct {
	// Endpoint is the URL to which spans are sent, by OTLP over HTTP, with its
	// path. Empty means that the file gives none.
	Endpoint string
	// Sample is the share of new traces that are kept, from 0 to 1.
	Sample float64
	// Parent says whose traces requests continue: trusted, always or never.
	Parent string
	// Query adds the query of URLs to spans.
	Query bool
	// Headers are sent with the spans, by name. They may be secret.
	Headers map[string]string
}

// defaultSample is the share of new traces that are kept.
const defaultSample = 0.01

// tracingConfig says how requests are traced.
type tracingConfig struct {
	// Endpoint is the base URL of a receiver of OTLP over HTTP, such as
	// https://otel.example.com:4318; /v1/traces is added. Without a scheme it
	// is https. The variables OTEL_EXPORTER_OTLP_ENDPOINT and
	// OTEL_EXPORTER_OTLP_TRACES_ENDPOINT apply, or https://localhost:4318,
	// unless given.
	Endpoint string
	// Insecure sends spans to an endpoint without a scheme in plain HTTP.
	Insecure bool
	// Sample is the share of new traces that are kept, from 0 to 1; 0.01 unless
	// given.
	Sample *float64 `implied:"0.01"`
	// Parent says whose traces requests continue: those of trustedProxies,
	// those of all clients, or none. trusted unless given.
	Parent traceParent
	// Query adds the query of URLs to spans. It may contain secrets.
	Query bool
	// HeadersFile is a file with a header in each line, such as
	// "Authorization: Bearer x", that are sent with the spans.
	HeadersFile string
}

// traceParent says whose traces requests continue.
type traceParent uint8

var traceParents = []string{"trusted", "always", "never"}

// MarshalText implements [encoding.TextMarshaler].
func (p traceParent) MarshalText() ([]byte, error) { return enumtext.Marshal(p, traceParents) }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (p *traceParent) UnmarshalText(text []byte) error {
	return enumtext.Unmarshal(p, text, traceParents)
}

// tracing makes what the file says about traces.
func (b *builder) tracing(a *assembly) {
	c := b.file.doc.Tracing
	if c == nil {
		return
	}
	if b.options.Traces == nil && !b.checking && !b.options.Offline {
		b.fault(errors.New("this program exports no traces: it has no Traces in its Options"), "tracing")
	}
	made, err := fromFile(b, "tracing", func() (*Tracing, error) { return b.traces(c) })
	b.fault(err, "tracing")
	if err != nil || b.options.Traces == nil || b.options.Offline {
		return
	}
	a.tracing = made
	for _, m := range a.services {
		m.cfg.Tracer = b.options.Traces
	}
}

// traces is what c says.
func (b *builder) traces(c *tracingConfig) (*Tracing, error) {
	var faults fielderr.List
	made := &Tracing{Sample: defaultSample, Parent: traceParents[c.Parent], Query: c.Query}
	if c.Sample != nil {
		if made.Sample = *c.Sample; !(made.Sample >= 0 && made.Sample <= 1) {
			faults.Addf("sample", made.Sample, "want a share from 0 to 1")
		}
	}
	var err error
	if made.Endpoint, err = c.endpoint(); err != nil {
		faults.Add("endpoint", nil, err) // which may have a password
	}
	if c.Insecure && (c.Endpoint == "" || strings.HasPrefix(c.Endpoint, "https://")) {
		faults.Addf("insecure", nil, "without effect: it is for an endpoint without a scheme")
	}
	if c.HeadersFile == "" {
		return made, faults.Err()
	}
	text, err := b.read("tracing.headersFile", c.HeadersFile, maxHeaders)
	if err == nil {
		made.Headers, err = headersOf(string(text))
	}
	if err != nil {
		faults.Add("headersFile", inFile{}, err)
	}
	return made, faults.Err()
}

// endpoint returns the URL to which spans are sent.
func (c *tracingConfig) endpoint() (string, error) {
	text := c.Endpoint
	if text == "" {
		return "", nil
	}
	if !strings.Contains(text, "://") {
		text = map[bool]string{false: "https://", true: "http://"}[c.Insecure] + text
	}
	at, err := url.Parse(text)
	if err != nil || at.Scheme != "http" && at.Scheme != "https" || at.Hostname() == "" || at.User != nil || at.RawQuery != "" || at.Fragment != "" {
		return "", errors.New("not a URL such as http://127.0.0.1:4318: want http:// or https://, a host and perhaps a path, and nothing else")
	}
	const path = "/v1/traces"
	if at.Path = strings.TrimSuffix(at.Path, "/"); !strings.HasSuffix(at.Path, path) {
		at.Path += path
	}
	return at.String(), nil
}

// maxHeaders bounds the size of a file of headers.
const maxHeaders = 64 << 10

// headersOf returns the headers in a file. Empty lines, and lines that begin
// with #, are for people.
func headersOf(text string) (map[string]string, error) {
	headers, n := map[string]string{}, 0
	for line := range strings.Lines(text) {
		n++
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		if !ok || !httpfield.IsToken(name) || !httpfield.IsValue(value) {
			return nil, fmt.Errorf("line %d is not a name, a colon and a value", n) // which may be secret
		}
		name = http.CanonicalHeaderKey(name)
		if _, twice := headers[name]; twice {
			return nil, fmt.Errorf("line %d has %s again", n, name)
		}
		headers[name] = value
	}
	return headers, nil
}

// trace tells the exporter what the file says.
func (rt *Runtime) trace(a *assembly) {
	if a.tracing != nil {
		rt.options.Traces.Use(*a.tracing, rt.Logger())
	}
}
