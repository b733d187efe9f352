package tracing_test

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/internal/websockettest"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/policy"
	"github.com/limpetlb/limpet/tracing"
)

// A receiver takes spans by OTLP over HTTP.
type receiver struct {
	*httptest.Server
	mu    sync.Mutex
	spans []*otlp.Span
	raw   []byte // of all messages
}

func newReceiver(t testing.TB) *receiver {
	r := &receiver{}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	var message collector.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(body, &message)
	}
	if err != nil || req.URL.Path != "/v1/traces" {
		http.Error(w, fmt.Sprint(err), http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.raw = append(r.raw, body...)
	for _, resource := range message.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			r.spans = append(r.spans, scope.Spans...)
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// take waits for the spans of n requests, and returns them in the order in
// which they began.
func (r *receiver) take(t testing.TB, p *sdk.TracerProvider, n int) []*otlp.Span {
	t.Helper()
	var spans []*otlp.Span
	testwait.Until(t, "the spans", func() bool {
		if err := p.ForceFlush(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		ended := 0
		for _, s := range r.spans {
			if s.Kind == otlp.Span_SPAN_KIND_SERVER {
				ended++
			}
		}
		if ended < n {
			return false
		}
		spans, r.spans = r.spans, nil
		return true
	})
	slices.SortStableFunc(spans, func(a, b *otlp.Span) int { return int(a.StartTimeUnixNano) - int(b.StartTimeUnixNano) })
	return spans
}

// provider exports to an address.
func provider(t testing.TB, url string, o ...sdk.TracerProviderOption) *sdk.TracerProvider {
	t.Helper()
	exporter, err := otlptracehttp.New(t.Context(), otlptracehttp.WithEndpointURL(url+"/v1/traces"),
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{}), otlptracehttp.WithTimeout(testwait.Limit))
	if err != nil {
		t.Fatal(err)
	}
	p := sdk.NewTracerProvider(append(o, sdk.WithBatcher(exporter))...)
	t.Cleanup(func() { _ = p.Shutdown(context.Background()) })
	return p
}

// A site is a virtual service before servers, whose tracer exports to a
// receiver.
type site struct {
	*receiver
	*sdk.TracerProvider
	url    string
	client *http.Client
}

func serve(t testing.TB, traces tracing.Config, cfg limpet.Config, o ...sdk.TracerProviderOption) *site {
	t.Helper()
	s := &site{receiver: newReceiver(t)}
	s.TracerProvider = provider(t, s.URL, o...)
	traces.Provider = s.TracerProvider
	var err error
	if cfg.Tracer, err = tracing.New(traces); err != nil {
		t.Fatal(err)
	}
	vs, err := limpet.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(vs.CloseIdleConnections)
	front := httptest.NewUnstartedServer(vs)
	front.EnableHTTP2 = true
	front.StartTLS()
	t.Cleanup(front.Close)
	s.url, s.client = front.URL, front.Client()
	s.client.Transport.(*http.Transport).ForceAttemptHTTP2 = false // unless a test asks for it
	return s
}

func (s *site) get(t testing.TB, path string, header http.Header) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header = header
	res, err := s.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, res.Body)
	res.Body.Close()
	return res
}

func (s *site) takeSpans(t testing.TB, n int) []*otlp.Span { return s.take(t, s.TracerProvider, n) }

func server(t testing.TB, h http.HandlerFunc) string {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func pool(t testing.TB, c lbpool.Config) []*lbpool.Pool {
	t.Helper()
	c.Name, c.Algorithm = "web", lbpool.RoundRobin()
	p, err := lbpool.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return []*lbpool.Pool{p}
}

func poolFor(t testing.TB, h http.HandlerFunc) []*lbpool.Pool {
	return pool(t, lbpool.Config{Servers: []lbpool.ServerConfig{{Address: server(t, h)}}})
}

func compile(t testing.TB, name, source string) limpet.Script {
	t.Helper()
	s, err := datascript.Compile(name, datascript.Chunk{Source: source})
	if err != nil {
		t.Fatal(err)
	}
	return limpet.Script{Script: s, OnError: limpet.FailOpen}
}

var loopback = limpet.Clients{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}

const (
	remoteTrace  = "0af7651916cd43dd8448eb211c80319c"
	remoteSpan   = "b7ad6b7169203331"
	remoteParent = "00-" + remoteTrace + "-" + remoteSpan + "-01"
)

// attributes returns those of a span, by key.
func attributes(s *otlp.Span) map[string]string {
	all := map[string]string{}
	for _, a := range s.Attributes {
		v := a.Value
		switch {
		case v.GetStringValue() != "":
			all[a.Key] = v.GetStringValue()
		case v.GetArrayValue() != nil:
			var words []string
			for _, w := range v.GetArrayValue().Values {
				words = append(words, w.GetStringValue())
			}
			all[a.Key] = strings.Join(words, ",")
		case v.GetBoolValue():
			all[a.Key] = "true"
		default:
			all[a.Key] = fmt.Sprint(v.GetIntValue())
		}
	}
	return all
}

// tree draws spans: each with its kind, whether it has failed, and chosen
// attributes, two blanks deeper than its parent.
func tree(spans []*otlp.Span, keys ...string) (lines []string) {
	depths := map[string]int{}
	for _, s := range spans {
		depth, ok := depths[string(s.ParentSpanId)]
		if ok {
			depth++
		}
		depths[string(s.SpanId)] = depth
		line := strings.Repeat("  ", depth) + strings.TrimPrefix(s.Kind.String(), "SPAN_KIND_") + " " + s.Name
		if s.Status.GetCode() == otlp.Status_STATUS_CODE_ERROR {
			line += " failed"
		}
		all := attributes(s)
		for _, key := range keys {
			if v, ok := all[key]; ok {
				line += " " + key + "=" + v
			}
		}
		lines = append(lines, line)
	}
	return lines
}

// One request with two scripts and a second server is one trace, which
// continues that of a trusted peer. The server gets the span of its attempt.
func TestTrace(t *testing.T) {
	var mu sync.Mutex
	var parents []string
	answer := func(status int) lbpool.ServerConfig {
		return lbpool.ServerConfig{Address: server(t, func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			parents = append(parents, r.Header.Get("Traceparent"))
			if state := r.Header["Tracestate"]; len(state) != 1 || state[0] != "a=1,b=2" {
				t.Errorf("state %q", state)
			}
			if got := r.Header["Baggage"]; len(got) != 1 || got[0] != "user=anna" {
				t.Errorf("baggage %q", got)
			}
			w.WriteHeader(status)
		})}
	}
	s := serve(t, tracing.Config{}, limpet.Config{
		Name: "shop", Clients: loopback,
		Pools: pool(t, lbpool.Config{
			Servers:  []lbpool.ServerConfig{answer(503), answer(200)},
			Reselect: lbpool.Reselect{Codes: []lbpool.StatusRange{{Begin: 503, End: 503}}},
		}),
		Scripts: []limpet.Script{compile(t, "stick", "-- HTTP_REQ\nlocal x = 1\n-- HTTP_RESP\nlocal x = 1"), compile(t, "fails", "-- HTTP_REQ\nlocal x = nil + 1")},
		Policies: limpet.Policies{
			HTTPSecurity: []policy.SecurityRule{{Name: "all", Action: policy.Allow{}}},
		},
	})
	s.get(t, "/a%20b?q=secret", http.Header{
		"Traceparent": {remoteParent}, "Tracestate": {"a=1", "b=2"}, "Baggage": {"user=anna"}, "User-Agent": {"test"}, "X-Forwarded-For": {"192.0.2.7"},
	})
	spans := s.takeSpans(t, 1)
	want := []string{
		"SERVER GET limpet.vs=shop limpet.pool=web http.response.status_code=200",
		"  INTERNAL script stick HTTP_REQ limpet.script=stick limpet.event=HTTP_REQ",
		"  INTERNAL script fails HTTP_REQ failed limpet.script=fails limpet.event=HTTP_REQ error.type=script",
		"  CLIENT GET failed limpet.pool=web http.response.status_code=503 error.type=503",
		"  CLIENT GET limpet.pool=web http.response.status_code=200 http.request.resend_count=1",
		"  INTERNAL script stick HTTP_RESP limpet.script=stick limpet.event=HTTP_RESP",
	}
	keys := []string{"limpet.vs", "limpet.script", "limpet.event", "limpet.pool", "http.response.status_code", "http.request.resend_count", "error.type"}
	if diff := cmp.Diff(want, tree(spans, keys...)); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
	if got := hex.EncodeToString(spans[0].ParentSpanId); got != remoteSpan {
		t.Errorf("parent %s", got)
	}
	for i, span := range []*otlp.Span{spans[3], spans[4]} {
		if want := fmt.Sprintf("00-%s-%x-01", remoteTrace, span.SpanId); parents[i] != want {
			t.Errorf("attempt %d: parent %s, want %s", i+1, parents[i], want)
		}
	}
	got := attributes(spans[0])
	for _, key := range []string{"server.port", "network.peer.port", "limpet.server"} {
		if got[key] == "" {
			t.Errorf("no %s", key)
		}
		delete(got, key)
	}
	if diff := cmp.Diff(map[string]string{
		"http.request.method": "GET", "url.scheme": "https", "url.path": "/a%20b", "server.address": "127.0.0.1",
		"client.address": "192.0.2.7", "network.peer.address": "127.0.0.1", "network.protocol.version": "1.1",
		"user_agent.original": "test", "http.response.status_code": "200", "limpet.vs": "shop", "limpet.pool": "web",
		"limpet.rule": "all", "limpet.significant": "script failed,another server tried",
	}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if events := spans[0].Events; len(events) != 1 || events[0].Name != "HTTP security" {
		t.Errorf("events %v", events)
	}
}

// Clients that are not trusted begin traces, whether they like it or not, and
// do not decide what is sampled.
func TestParent(t *testing.T) {
	got := make(chan string, 1)
	servers := poolFor(t, func(_ http.ResponseWriter, r *http.Request) {
		got <- r.Header.Get("Traceparent") + " " + strings.Join(r.Header["Tracestate"], "|")
	})
	const never, sampled = "00-" + remoteTrace + "-" + remoteSpan + "-00", remoteParent
	for _, tt := range []struct {
		name       string
		parent     tracing.Parent
		trusted    bool
		ratio      float64 // of new traces
		header     string
		continues  bool
		isSampled  bool
		wantsLinks int
	}{
		{"trusted peer", tracing.ParentTrusted, true, 0, sampled, true, true, 0},
		{"trusted peer, not sampled", tracing.ParentTrusted, true, 1, never, true, false, 0},
		{"stranger, forged", tracing.ParentTrusted, false, 0, sampled, false, false, 0},
		{"stranger, hides", tracing.ParentTrusted, false, 1, never, false, true, 1},
		{"stranger", tracing.ParentTrusted, false, 1, sampled, false, true, 1},
		{"stranger without", tracing.ParentTrusted, false, 1, "", false, true, 0},
		{"always", tracing.ParentAlways, false, 0, sampled, true, true, 0},
		{"never", tracing.ParentNever, true, 1, sampled, false, true, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			records := make(chan limpet.Record, 1)
			cfg := limpet.Config{Pools: servers, OnComplete: func(r limpet.Record) { records <- r }}
			if tt.trusted {
				cfg.Clients = loopback
			}
			s := serve(t, tracing.Config{Parent: tt.parent}, cfg, sdk.WithSampler(sdk.ParentBased(sdk.TraceIDRatioBased(tt.ratio))))
			h := http.Header{"Tracestate": {"theirs=1"}}
			if tt.header != "" {
				h.Set("Traceparent", tt.header)
			}
			s.get(t, "/", h)
			parent, state, _ := strings.Cut(<-got, " ")
			if !validParent.MatchString(parent) {
				t.Fatalf("parent %q", parent)
			}
			if continues := parent[3:35] == remoteTrace; continues != tt.continues {
				t.Errorf("continues the trace: %t", continues)
			}
			if parent[36:52] == remoteSpan {
				t.Error("the parent of the server is the client's own")
			}
			if isSampled := strings.HasSuffix(parent, "01"); isSampled != tt.isSampled {
				t.Errorf("sampled: %t", isSampled)
			}
			if (state == "theirs=1") != tt.continues {
				t.Errorf("state %q", state)
			}
			id := (<-records).TraceID
			if want := map[bool]string{true: parent[3:35]}[tt.isSampled]; id != want {
				t.Errorf("record of trace %q, want %q", id, want)
			}
			if !tt.isSampled {
				return
			}
			span := s.takeSpans(t, 1)[0]
			if len(span.Links) != tt.wantsLinks {
				t.Fatalf("links %v", span.Links)
			}
			for _, link := range span.Links {
				if hex.EncodeToString(link.TraceId) != remoteTrace || hex.EncodeToString(link.SpanId) != remoteSpan || link.TraceState != "" {
					t.Errorf("link %v", link)
				}
			}
		})
	}
}

var validParent = regexp.MustCompile(`^00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]$`)

// Whatever clients send, servers get one valid parent, and spans are valid and
// of bounded size.
func TestHostile(t *testing.T) {
	got := make(chan http.Header, 1)
	s := serve(t, tracing.Config{Query: true}, limpet.Config{Clients: loopback, Pools: poolFor(t, func(_ http.ResponseWriter, r *http.Request) {
		got <- r.Header
	})})
	long := strings.Repeat("x", 64<<10)
	for name, h := range map[string]http.Header{
		"no parent":      {"Traceparent": {"rubbish"}},
		"zeros":          {"Traceparent": {"00-00000000000000000000000000000000-0000000000000000-00"}},
		"two":            {"Traceparent": {remoteParent, remoteParent}},
		"long":           {"Traceparent": {long}},
		"bytes":          {"Traceparent": {"00-\xff\xfe" + remoteParent[5:]}},
		"long state":     {"Traceparent": {remoteParent}, "Tracestate": {"a=" + long}},
		"much state":     {"Traceparent": {remoteParent}, "Tracestate": {strings.TrimSuffix(strings.Repeat("a=1,", 16<<10), ",")}},
		"states":         {"Traceparent": {remoteParent}, "Tracestate": slices.Repeat([]string{"a=1"}, 1000)},
		"faulty state":   {"Traceparent": {remoteParent}, "Tracestate": {"=,=,\xff"}},
		"not UTF-8":      {"User-Agent": {"\xff\xfe\xed\xa0\x80"}},
		"long agent":     {"User-Agent": {strings.Repeat("é", 32<<10)}},
		"control":        {"User-Agent": {"a\tb"}},
		"forwarded":      {"X-Forwarded-Proto": {"javascript"}, "X-Forwarded-For": {"nobody"}},
		"capital letter": {"Traceparent": {strings.ToUpper(remoteParent)}},
	} {
		s.get(t, "/"+strings.Repeat("%ff", 10)+long+"?q="+long, h)
		arrived := <-got
		if p := arrived["Traceparent"]; len(p) != 1 || !validParent.MatchString(p[0]) {
			t.Errorf("%s: parent %.200q", name, p)
		}
		if n := len(strings.Join(arrived["Tracestate"], "")); n > 512 {
			t.Errorf("%s: %d bytes of state", name, n)
		}
		for _, span := range s.takeSpans(t, 1) {
			for key, value := range attributes(span) {
				if len(value) > 5<<10 || !utf8.ValidString(value) {
					t.Errorf("%s: %s has %d bytes", name, key, len(value))
				}
			}
		}
	}
}

// Requests of every kind have spans: over HTTP/2, streams, upgrades, and those
// whose client leaves or whose server does.
func TestRequests(t *testing.T) {
	began := make(chan struct{}, 1)
	s := serve(t, tracing.Config{}, limpet.Config{Pools: poolFor(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/events":
			w.Header().Set("Content-Type", "text/event-stream")
			for range 3 {
				_, _ = io.WriteString(w, "data: x\n\n")
				_ = http.NewResponseController(w).Flush()
			}
		case "/cut":
			w.Header().Set("Content-Length", "10")
			_, _ = io.WriteString(w, "1")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		case "/broken":
			panic(http.ErrAbortHandler)
		case "/404":
			w.WriteHeader(404)
		case "/hang":
			began <- struct{}{}
			<-r.Context().Done()
		case "/ws":
			if err := websockettest.Accept(w, r, func(c *websockettest.Conn) { _ = c.Echo() }); err != nil {
				t.Error(err)
			}
		}
	})})
	keys := []string{"network.protocol.version", "http.request.method_original", "http.response.status_code", "limpet.upgraded", "error.type"}
	check := func(want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, tree(s.takeSpans(t, 1), keys...)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	ask := func(c *http.Client, method, path string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, s.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if res, err := c.Do(r); err == nil {
			_, _ = io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
	}
	one := s.client
	two := &http.Client{Transport: &http.Transport{
		ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: one.Transport.(*http.Transport).TLSClientConfig.RootCAs},
	}}
	defer two.CloseIdleConnections()
	ask(two, "GET", "/")
	check("SERVER GET network.protocol.version=2 http.response.status_code=200", "  CLIENT GET http.response.status_code=200")
	ask(one, "BREW", "/events")
	check("SERVER HTTP network.protocol.version=1.1 http.request.method_original=BREW http.response.status_code=200",
		"  CLIENT HTTP http.request.method_original=BREW http.response.status_code=200")
	ask(one, "GET", "/cut")
	check("SERVER GET failed network.protocol.version=1.1 http.response.status_code=200 error.type=cut", "  CLIENT GET http.response.status_code=200")
	ask(one, "GET", "/broken")
	check("SERVER GET failed network.protocol.version=1.1 http.response.status_code=502 error.type=502", "  CLIENT GET failed error.type=_OTHER")
	ask(one, "GET", "/404")
	check("SERVER GET network.protocol.version=1.1 http.response.status_code=404", "  CLIENT GET failed http.response.status_code=404 error.type=404")

	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/hang", nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		<-began
		cancel()
	}()
	if res, err := one.Do(r); err == nil {
		res.Body.Close()
		t.Error("an answer")
	}
	check("SERVER GET network.protocol.version=1.1", "  CLIENT GET")

	ws, _, err := websockettest.Dial(t.Context(), one, s.url+"/ws")
	if err != nil {
		t.Fatal(err)
	}
	check("SERVER GET network.protocol.version=1.1 http.response.status_code=101 limpet.upgraded=true", "  CLIENT GET http.response.status_code=101")
	if err := ws.Send(websockettest.Text("x")); err != nil {
		t.Error(err)
	}
	if _, err := ws.Receive(); err != nil {
		t.Error(err)
	}
	if err := ws.Close(); err != nil {
		t.Error(err)
	}
}

// Requests do not wait for a receiver that is gone.
func TestReceiverDead(t *testing.T) {
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(error) {})) // the SDK would print each failure
	dead := newReceiver(t)
	p := provider(t, dead.URL, sdk.WithSampler(sdk.AlwaysSample()))
	dead.Close()
	tracer, err := tracing.New(tracing.Config{Provider: p})
	if err != nil {
		t.Fatal(err)
	}
	valid := 0
	vs, err := limpet.New(limpet.Config{Tracer: tracer, Pools: poolFor(t, func(_ http.ResponseWriter, r *http.Request) {
		if validParent.MatchString(r.Header.Get("Traceparent")) {
			valid++ // one request at a time
		}
	})})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(vs.CloseIdleConnections)
	const requests = 3000 // more than wait for the receiver
	for range requests {
		w := httptest.NewRecorder()
		vs.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
		if w.Code != http.StatusOK {
			t.Fatalf("status %d", w.Code)
		}
	}
	if valid != requests {
		t.Errorf("%d of %d requests had a valid parent", valid, requests)
	}
}

// Spans have no secrets.
func TestSecrets(t *testing.T) {
	const canary = "canary"
	s := serve(t, tracing.Config{}, limpet.Config{
		Pools: poolFor(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			http.SetCookie(w, &http.Cookie{Name: "s", Value: canary + "-set"})
			if r.URL.Path == "/malformed" {
				c, _, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n"+canary+"-no-header\r\n\r\n")
				c.Close()
				return
			}
			_, _ = io.WriteString(w, canary+"-response")
		}),
		Scripts: []limpet.Script{compile(t, "uses", `-- HTTP_REQ
local secret = avi.http.get_header("authorization")
avi.vs.table_insert(secret, secret, 60)
avi.vs.table_lookup(secret)
avi.vs.reqvar.secret = secret
if avi.http.get_path() == "/fails" then return secret + 1 end
if avi.http.get_path() == "/raises" then error(secret) end
`)},
	})
	paths := []string{"/", "/fails", "/raises", "/malformed"}
	for _, path := range paths {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+path+"?token="+canary, strings.NewReader(canary+"-body"))
		if err != nil {
			t.Fatal(err)
		}
		r.AddCookie(&http.Cookie{Name: "session", Value: canary + "-cookie"})
		r.SetBasicAuth("anna", canary)
		r.Header.Set("Authorization", "Bearer "+canary)
		r.Header.Set("X-Secret", canary+"-header")
		res, err := s.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	}
	if n := len(s.takeSpans(t, len(paths))); n < 3*len(paths) {
		t.Errorf("%d spans", n)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := strings.Index(string(s.raw), canary); i >= 0 {
		t.Errorf("%q", s.raw[max(0, i-100):min(len(s.raw), i+50)])
	}
}

// A tracer whose provider makes no spans leaves headers alone, and so does one
// beneath a span of the program.
func TestNoProvider(t *testing.T) {
	got := make(chan http.Header, 1)
	servers := poolFor(t, func(_ http.ResponseWriter, r *http.Request) { got <- r.Header })
	tracer, err := tracing.New(tracing.Config{})
	if err != nil {
		t.Fatal(err)
	}
	vs, err := limpet.New(limpet.Config{Tracer: tracer, Pools: servers})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(vs.CloseIdleConnections)
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Traceparent", remoteParent)
	r.Header.Set("Tracestate", "a=1")
	vs.ServeHTTP(httptest.NewRecorder(), r)
	if h := <-got; h.Get("Traceparent") != remoteParent || h.Get("Tracestate") != "a=1" {
		t.Errorf("%v", h)
	}
}

// A span of the program is the parent, whatever the client sends.
func TestOwnParent(t *testing.T) {
	rec := newReceiver(t)
	p := provider(t, rec.URL)
	tracer, err := tracing.New(tracing.Config{Provider: p, Parent: tracing.ParentAlways})
	if err != nil {
		t.Fatal(err)
	}
	vs, err := limpet.New(limpet.Config{Tracer: tracer})
	if err != nil {
		t.Fatal(err)
	}
	ctx, own := p.Tracer("program").Start(t.Context(), "own")
	r := httptest.NewRequest(http.MethodGet, "/", nil).WithContext(ctx)
	r.Header.Set("Traceparent", remoteParent)
	vs.Wrap(http.NotFoundHandler()).ServeHTTP(httptest.NewRecorder(), r)
	own.End()
	want := []string{"INTERNAL own", "  SERVER GET"}
	if diff := cmp.Diff(want, tree(rec.take(t, p, 1))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Words of the parents there and back, and a fault for others.
func TestParentText(t *testing.T) {
	for _, p := range []tracing.Parent{tracing.ParentTrusted, tracing.ParentAlways, tracing.ParentNever} {
		text, err := p.MarshalText()
		var back tracing.Parent
		if err != nil || back.UnmarshalText(text) != nil || back != p || string(text) != p.String() {
			t.Errorf("%v: %q, %v", p, text, err)
		}
	}
	if _, err := tracing.New(tracing.Config{Parent: 3}); err == nil || !strings.HasPrefix(err.Error(), "parent: ") {
		t.Errorf("%v", err)
	}
}

// discard is an exporter that does nothing.
type discard struct{}

func (discard) ExportSpans(context.Context, []sdk.ReadOnlySpan) error { return nil }
func (discard) Shutdown(context.Context) error                        { return nil }

// BenchmarkTrace is what a tracer costs a request with one attempt, sampled and
// not.
func BenchmarkTrace(b *testing.B) {
	for name, sampler := range map[string]sdk.Sampler{"sampled": sdk.AlwaysSample(), "not sampled": sdk.NeverSample()} {
		b.Run(name, func(b *testing.B) {
			p := sdk.NewTracerProvider(sdk.WithSampler(sampler), sdk.WithBatcher(discard{}))
			defer func() { _ = p.Shutdown(context.Background()) }()
			tracer, err := tracing.New(tracing.Config{Provider: p})
			if err != nil {
				b.Fatal(err)
			}
			r := httptest.NewRequest(http.MethodGet, "/path", nil)
			record := &limpet.Record{VirtualService: "shop", Start: time.Now(), Status: 200, Pool: "web"}
			b.ReportAllocs()
			for b.Loop() {
				ctx, trace := tracer.Request(r.Context(), r, false)
				attempt := r.WithContext(ctx)
				attempt.Header = http.Header{}
				trace.Send(attempt, netip.AddrPort{}, 1)(200, nil)
				trace.Finish(record)
			}
		})
	}
}
