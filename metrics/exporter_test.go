package metrics_test

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/ipgroup"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/metrics"
	"github.com/limpetlb/limpet/persistence"
	"github.com/limpetlb/limpet/policy"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

var update = flag.Bool("update", false, "rewrite testdata/families.txt")

// A site is a service with everything that has metrics.
type site struct {
	vs    *limpet.VirtualService
	front *httptest.Server
}

func newSite(t testing.TB, name string, pools ...*lbpool.Pool) *site {
	t.Helper()
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status := 200
		_, _ = fmt.Sscanf(r.URL.Query().Get("status"), "%d", &status)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "hello")
	}))
	t.Cleanup(backend.Close)
	if pools == nil {
		pool, err := lbpool.New(lbpool.Config{
			Name: "web", Servers: []lbpool.ServerConfig{{Name: "web-1", Address: backend.Listener.Addr().String()}},
			Queue: lbpool.Queue{Length: 10, Timeout: time.Second},
		})
		if err != nil {
			t.Fatal(err)
		}
		pools = []*lbpool.Pool{pool}
	}
	script, err := datascript.Compile("count", datascript.Chunk{Source: `
-- HTTP_REQ
avi.vs.analytics.counter("seen")
avi.vs.analytics.gauge("level", avi.vs.analytics.SET, 4)
avi.vs.table_lookup("nobody")
avi.vs.table_insert("client", "value", 60)`})
	if err != nil {
		t.Fatal(err)
	}
	internal, err := ipgroup.Parse("internal", []string{"10.0.0.0/8", "fd00::/8"}, ipgroup.Options{})
	if err != nil {
		t.Fatal(err)
	}
	groups, err := ipgroup.NewSet(internal)
	if err != nil {
		t.Fatal(err)
	}
	profile, err := persistence.NewClientIP(persistence.ClientIPConfig{})
	if err != nil {
		t.Fatal(err)
	}
	vs, err := limpet.New(limpet.Config{
		Name: name, Pools: pools, IPGroups: groups,
		Tables:      persistence.NewStore(persistence.Options{}),
		Scripts:     []limpet.Script{{Script: script}},
		Persistence: profile,
		Policies: limpet.Policies{HTTPSecurity: []policy.SecurityRule{{
			Name:   "no admin",
			Match:  policy.Match{Path: &policy.PathMatch{Op: policy.BeginsWith, Values: []string{"/admin"}}},
			Action: policy.Respond{Status: http.StatusForbidden},
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(vs.CloseIdleConnections)
	s := &site{vs: vs}
	s.front = httptest.NewUnstartedServer(nil)
	s.front.Config = limpet.NewServer(vs)
	s.front.Listener = vs.Listener(s.front.Listener)
	s.front.Start()
	t.Cleanup(s.front.Close)
	return s
}

// get sends a request and reads its response.
func (s *site) get(t testing.TB, path string) {
	t.Helper()
	resp, err := s.front.Client().Get(s.front.URL + path)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
}

func newExporter(t testing.TB, c metrics.Config, sites ...*site) *metrics.Exporter {
	t.Helper()
	c.Services = func() (all []*limpet.VirtualService) {
		for _, s := range sites {
			all = append(all, s.vs)
		}
		return all
	}
	e, err := metrics.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// scrape asks a handler for metrics in a format and reads them.
func scrape(t testing.TB, h http.Handler, target, accept string) map[string]*dto.MetricFamily {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, target, nil)
	r.Header.Set("Accept", accept)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		t.Fatalf("%s: status %d: %s", target, w.Code, w.Body)
	}
	format := expfmt.ResponseFormat(w.Header())
	families := map[string]*dto.MetricFamily{}
	for dec := expfmt.NewDecoder(w.Body, format); ; {
		f := new(dto.MetricFamily)
		switch err := dec.Decode(f); {
		case errors.Is(err, io.EOF):
			return families
		case err != nil:
			t.Fatalf("%s: %v", format, err)
		}
		families[f.GetName()] = f
	}
}

const (
	text     = "text/plain;version=0.0.4"
	protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
)

// value returns the value of the metric with these labels, given as name and
// value in turn; further labels do not matter.
func value(t testing.TB, families map[string]*dto.MetricFamily, name string, labels ...string) float64 {
	t.Helper()
	sum, found := 0.0, false
	for _, m := range families[name].GetMetric() {
		if !has(m, labels) {
			continue
		}
		found = true
		switch {
		case m.Counter != nil:
			sum += m.Counter.GetValue()
		case m.Gauge != nil:
			sum += m.Gauge.GetValue()
		case m.Histogram != nil:
			sum += float64(m.Histogram.GetSampleCount())
		}
	}
	if !found {
		t.Errorf("there is no %s with %q", name, labels)
	}
	return sum
}

func has(m *dto.Metric, labels []string) bool {
	for i := 0; i < len(labels); i += 2 {
		if !slices.ContainsFunc(m.Label, func(p *dto.LabelPair) bool { return p.GetName() == labels[i] && p.GetValue() == labels[i+1] }) {
			return false
		}
	}
	return true
}

func TestTrafficIsExported(t *testing.T) {
	s := newSite(t, "shop")
	for range 5 {
		s.get(t, "/")
	}
	s.get(t, "/?status=404")
	s.get(t, "/?status=418")
	s.get(t, "/admin")
	s.front.Client().CloseIdleConnections()
	e := newExporter(t, metrics.Config{LogDrops: func() uint64 { return 7 }, Constant: prometheus.Labels{"zone": "a"}}, s)
	e.SetReload(time.Unix(1000, 0), nil)
	e.SetReload(time.Unix(2000, 0), errors.New("a fault"))
	for _, format := range []string{text, protobuf} {
		got := scrape(t, e.Handler(), "/metrics", format)
		for _, want := range []struct {
			value  float64
			name   string
			labels []string
		}{
			{5, "limpet_requests_total", []string{"vs", "shop", "code", "200", "zone", "a"}},
			{1, "limpet_requests_total", []string{"vs", "shop", "code", "404"}},
			{1, "limpet_requests_total", []string{"vs", "shop", "code", "4xx"}},
			{1, "limpet_requests_total", []string{"vs", "shop", "code", "403"}},
			{0, "limpet_requests_total", []string{"vs", "shop", "code", "5xx"}},
			{8, "limpet_request_duration_seconds", []string{"vs", "shop"}},
			{7, "limpet_pool_requests_total", []string{"vs", "shop", "pool", "web"}},
			{7, "limpet_pool_response_duration_seconds", []string{"vs", "shop", "pool", "web"}},
			{7, "limpet_server_requests_total", []string{"vs", "shop", "pool", "web", "server", "web-1"}},
			{1, "limpet_server_up", []string{"server", "web-1"}},
			{1, "limpet_pool_servers", []string{"pool", "web", "state", "up"}},
			{0, "limpet_pool_servers", []string{"pool", "web", "state", "down"}},
			{10, "limpet_pool_queue_limit", []string{"pool", "web"}},
			{1, "limpet_persistence_outcomes_total", []string{"target", "web", "outcome", "miss"}},
			{6, "limpet_persistence_outcomes_total", []string{"target", "web", "outcome", "hit"}},
			{6, "limpet_persistence_sources_total", []string{"target", "web"}},
			{7, "limpet_table_lookups_total", []string{"table", "", "result", "miss"}},
			{1, "limpet_table_stores_total", []string{"table", "", "kind", "insert"}},
			{0, "limpet_table_stores_total", []string{"table", "", "kind", "replace"}},
			{1, "limpet_table_entries", []string{"table", ""}},
			{1, "limpet_policy_rule_hits_total", []string{"policy", "http_security", "rule", "no admin", "dry_run", "false"}},
			{1, "limpet_policy_rule_drops_total", []string{"rule", "no admin"}},
			{1, "limpet_requests_significant_total", []string{"reason", "dropped by policy"}},
			{2, "limpet_ip_group_entries", []string{"group", "internal", "kind", "ip"}},
			{7, "limpet_script_custom_total", []string{"name", "seen"}},
			{4, "limpet_script_custom_value", []string{"name", "level"}},
			{7, "limpet_log_dropped_total", []string{"reason", "queue"}},
			{0, "limpet_config_last_reload_successful", nil},
			{1000, "limpet_config_last_reload_success_timestamp_seconds", nil},
			{1, "limpet_config_reloads_total", []string{"result", "failure"}},
			{1, "limpet_connections_accepted_total", []string{"listener", s.front.Listener.Addr().String()}},
		} {
			if v := value(t, got, want.name, want.labels...); v != want.value {
				t.Errorf("%s: %s%q is %v, want %v", format, want.name, want.labels, v, want.value)
			}
		}
	}
	if got := value(t, scrape(t, e.Handler(), "/metrics", protobuf), "limpet_request_body_bytes_total"); got != 0 {
		t.Error("bytes of bodies:", got)
	}
}

// The classic and the native form of a histogram have the same counts, which
// are those of Stats.
func TestHistogramsAgree(t *testing.T) {
	s := newSite(t, "shop")
	for range 50 {
		s.get(t, "/")
	}
	s.front.Close() // the last request is counted now
	e := newExporter(t, metrics.Config{}, s)
	h := scrape(t, e.Handler(), "/", protobuf)["limpet_request_duration_seconds"].Metric[0].Histogram
	st := s.vs.Stats().Duration
	if h.GetSampleCount() != 50 || math.Abs(h.GetSampleSum()-st.Sum.Seconds()) > 1e-9 {
		t.Fatalf("%d in %v s, want 50 in %v", h.GetSampleCount(), h.GetSampleSum(), st.Sum)
	}
	// By upper bound, from the native form.
	native := map[float64]uint64{h.GetZeroThreshold(): h.GetZeroCount()}
	index, delta, n := int32(0), 0, int64(0)
	for i, span := range h.PositiveSpan {
		if i == 0 {
			index = span.GetOffset()
		} else {
			index += span.GetOffset()
		}
		for range span.GetLength() {
			n += h.PositiveDelta[delta]
			delta++
			native[math.Exp2(float64(index)/4)] += uint64(n)
			index++
		}
	}
	for i, d := range st.Bounds {
		bound := 0.0
		for b := range native {
			if math.Abs(b-d.Seconds()) < 2e-9 {
				bound = b
			}
		}
		if native[bound] != st.Counts[i] {
			t.Errorf("%v: %d in the native form, %d in Stats", d, native[bound], st.Counts[i])
		}
	}
	for _, b := range h.Bucket {
		var sum uint64
		for bound, n := range native {
			if bound <= b.GetUpperBound() {
				sum += n
			}
		}
		if b.GetCumulativeCount() != sum {
			t.Errorf("%v s: %d in the classic form, %d in the native one", b.GetUpperBound(), b.GetCumulativeCount(), sum)
		}
	}
	if len(h.Bucket) != 16 {
		t.Error(len(h.Bucket), "classic buckets")
	}
}

// A registry that checks everything takes what Collect says, and it is the same
// as what Gather says.
func TestCollectorAgrees(t *testing.T) {
	s := newSite(t, "shop")
	s.get(t, "/")
	s.front.Close()
	e := newExporter(t, metrics.Config{Constant: prometheus.Labels{"zone": "a"}}, s)
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(e)
	collected, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	gathered, err := e.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if a, b := series(collected), series(gathered); !slices.Equal(a, b) {
		t.Errorf("Collect: %q\nGather: %q", a, b)
	}
}

// series returns the names and labels of all metrics, sorted.
func series(families []*dto.MetricFamily) (all []string) {
	for _, f := range families {
		for _, m := range f.Metric {
			all = append(all, f.GetName()+fmt.Sprint(m.Label))
		}
	}
	slices.Sort(all)
	return all
}

// What clients and servers send makes no series: after the first requests,
// there are no others than at the end.
func TestNoSeriesFromClients(t *testing.T) {
	s := newSite(t, "shop")
	e := newExporter(t, metrics.Config{}, s)
	var after []string
	for i := range 400 {
		status := 200 + i
		r, err := http.NewRequest(fmt.Sprintf("M%d", i%97), fmt.Sprintf("%s/path%d?status=%d", s.front.URL, i, status), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = fmt.Sprintf("host%d.example", i)
		r.Header.Set("User-Agent", fmt.Sprint("agent ", i))
		r.Header.Set(fmt.Sprint("X-", i), fmt.Sprint(i))
		resp, err := s.front.Client().Transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	for _, f := range must(e.Gather()) {
		for _, m := range f.Metric {
			for _, p := range m.Label {
				for _, made := range []string{"M1", "path", "host", "agent", "X-", "299", "418"} {
					if strings.Contains(p.GetValue(), made) && !strings.Contains(f.GetName(), "listener") {
						after = append(after, f.GetName()+" "+p.String())
					}
				}
			}
		}
	}
	if len(after) > 0 {
		t.Errorf("clients have made labels: %q", after)
	}
	if n := len(scrape(t, e.Handler(), "/", text)["limpet_requests_total"].Metric); n > 35 {
		t.Error(n, "codes")
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A pool that several services share is exported once, under the first one;
// what each has sent to it, under each.
func TestSharedPool(t *testing.T) {
	pool := must(lbpool.New(lbpool.Config{Name: "web", Servers: []lbpool.ServerConfig{{Address: "127.0.0.1:1"}, {Address: "127.0.0.1:2"}}}))
	b, a := newSite(t, "b", pool), newSite(t, "a", pool)
	got := scrape(t, newExporter(t, metrics.Config{}, b, a).Handler(), "/", text)
	if n := len(got["limpet_server_up"].Metric); n != 2 {
		t.Error(n, "servers, want 2")
	}
	value(t, got, "limpet_server_up", "vs", "a", "server", "127.0.0.1:1")
	value(t, got, "limpet_pool_requests_total", "vs", "a", "pool", "web")
	value(t, got, "limpet_pool_requests_total", "vs", "b", "pool", "web")
}

func TestDetail(t *testing.T) {
	s := newSite(t, "shop")
	for _, tt := range []struct {
		config   metrics.Detail
		query    string
		up, full bool
	}{
		{metrics.ServersFull, "", true, true},
		{metrics.ServersFull, "?servers=up", true, false},
		{metrics.ServersFull, "?servers=none", false, false},
		{metrics.ServersUp, "?servers=full", true, false}, // never more than the configuration
		{metrics.ServersNone, "?servers=full", false, false},
	} {
		got := scrape(t, newExporter(t, metrics.Config{Servers: tt.config}, s).Handler(), "/"+tt.query, text)
		if _, up := got["limpet_server_up"]; up != tt.up {
			t.Errorf("%v%s: server_up is %v", tt.config, tt.query, up)
		}
		if _, full := got["limpet_server_requests_total"]; full != tt.full {
			t.Errorf("%v%s: server_requests_total is %v", tt.config, tt.query, full)
		}
	}
	for _, tt := range []struct {
		method, target string
		status         int
	}{
		{"GET", "/?servers=all", http.StatusBadRequest},
		{"POST", "/", http.StatusMethodNotAllowed},
	} {
		w := httptest.NewRecorder()
		newExporter(t, metrics.Config{}, s).Handler().ServeHTTP(w, httptest.NewRequest(tt.method, tt.target, nil))
		if w.Code != tt.status {
			t.Errorf("%s %s: %d, want %d", tt.method, tt.target, w.Code, tt.status)
		}
	}
}

func TestDrainIsExported(t *testing.T) {
	s := newSite(t, "shop")
	e := newExporter(t, metrics.Config{}, s)
	pool := s.vs.Config().Pools[0]
	lease, err := pool.Acquire(lbpool.Hint{})
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Release(lbpool.Outcome{})
	lease.Server.Drain(time.Hour)
	got := scrape(t, e.Handler(), "/", text)
	if _, ok := got["limpet_server_up"]; ok {
		t.Error("a server that drains is up or not")
	}
	value(t, got, "limpet_server_drain_left", "what", "leases")
	if at := value(t, got, "limpet_server_drain_deadline_timestamp_seconds"); at < float64(time.Now().Unix()) {
		t.Error("the drain ends at", at)
	}
}

func TestConfigFaults(t *testing.T) {
	services := func() []*limpet.VirtualService { return nil }
	for _, tt := range []struct {
		name string
		c    metrics.Config
		want []string
	}{
		{"nothing", metrics.Config{}, []string{"services: missing"}},
		{"everything", metrics.Config{
			Servers: 9, ScriptNames: -1, Buckets: []time.Duration{time.Second, time.Second, 3 * time.Second, -1, 0},
			Constant: prometheus.Labels{"pool": "x"},
		}, []string{"services: missing", "servers: ", "scriptNames: -1", "buckets[1]: 1s", "buckets[2]: 3s", "buckets[3]: -1ns", "buckets[4]: 0s", `constant["pool"]`}},
		{"a name that Prometheus refuses", metrics.Config{Services: services, Constant: prometheus.Labels{"__x": "x"}}, []string{`constant["__x"]`}},
		{"buckets", metrics.Config{Services: services, Buckets: []time.Duration{61035, 976562, time.Second, 4096 * time.Second}}, nil},
	} {
		_, err := metrics.New(tt.c)
		if len(tt.want) == 0 && err != nil || len(tt.want) > 0 && err == nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		for _, leaf := range fielderr.Leaves(err) {
			if _, ok := leaf.(*limpet.FieldError); !ok {
				t.Errorf("%s: %T: %v", tt.name, leaf, leaf)
			}
		}
		for _, want := range tt.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q lacks %q", tt.name, err, want)
			}
		}
	}
}

// The names, types and labels are an interface: dashboards and alerts use them.
func TestFamilies(t *testing.T) {
	const file = "testdata/families.txt"
	var b strings.Builder
	descs := make(chan *prometheus.Desc, 200)
	newExporter(t, metrics.Config{}).Describe(descs)
	close(descs)
	for d := range descs {
		fmt.Fprintln(&b, d)
	}
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("the families differ from %s; if they should, run with -update and name the change in CHANGELOG.md", file)
	}
}

// The memory and the time of a scrape of 100 pools with 100 servers each.
func BenchmarkScrape(b *testing.B) {
	var pools []*lbpool.Pool
	for i := range 100 {
		var servers []lbpool.ServerConfig
		for j := range 100 {
			servers = append(servers, lbpool.ServerConfig{Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i), byte(j)}), 80).String()})
		}
		pools = append(pools, must(lbpool.New(lbpool.Config{Name: fmt.Sprint("pool-", i), Servers: servers})))
	}
	h := newExporter(b, metrics.Config{}, newSite(b, "shop", pools...)).Handler()
	for _, detail := range slices.Sorted(maps.Keys(map[string]bool{"up": true, "full": true, "none": true})) {
		for _, encoding := range []string{"identity", "gzip"} {
			b.Run(detail+"/"+encoding, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					r := httptest.NewRequest(http.MethodGet, "/?servers="+detail, nil)
					r.Header.Set("Accept-Encoding", encoding)
					w := httptest.NewRecorder()
					h.ServeHTTP(w, r)
					b.ReportMetric(float64(w.Body.Len()), "bytes")
				}
			})
		}
	}
}
