package metrics

import (
	"cmp"
	"maps"
	"net/http"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/bounds"
	"github.com/limpetlb/limpet/internal/enumtext"
	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/persistence"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
)

// Detail chooses which metrics of single servers there are. They are most of
// what is exported if pools are large.
type Detail uint8

// The details.
const (
	ServersFull Detail = iota // all
	ServersUp                 // limpet_server_up, and drains
	ServersNone               // none
)

var details = []string{ServersFull: "full", ServersUp: "up", ServersNone: "none"}

// String returns the detail as the query parameter of Handler has it, such as
// "up".
func (d Detail) String() string { return enumtext.String(d, details) }

// MarshalText returns the text of String. It fails for other values.
func (d Detail) MarshalText() ([]byte, error) { return enumtext.Marshal(d, details) }

// UnmarshalText reads the text of String, without regard to case, blanks, "-"
// and "_". The error for another text lists the texts.
func (d *Detail) UnmarshalText(text []byte) error { return enumtext.Unmarshal(d, text, details) }

// Config are the settings of an [Exporter]. Only Services is required.
type Config struct {
	// Services returns the virtual services. It is asked at each scrape, as
	// there may be others after an update, and must be safe for concurrent use.
	// The names of the services must differ.
	Services func() []*limpet.VirtualService
	// Servers chooses the metrics of single servers. The zero value is
	// [ServersFull].
	Servers Detail
	// Buckets are the bounds of the classic buckets of histograms: powers of
	// two of a second, from 2^-14 s (61 µs) to 2^12 s, rounded down to
	// nanoseconds and ascending. Nil means those from 2^-10 s to 2^5 s. A
	// Prometheus that stores native histograms does not need them.
	Buckets []time.Duration
	// Process has further metrics that Handler serves, such as a registry with
	// the collectors of the Go runtime and the process. Nil means none.
	Process prometheus.Gatherer
	// ScriptNames is how many names of avi.vs.analytics are exported for each
	// service, in alphabetical order: scripts make these names. Zero means 200.
	ScriptNames int `default:"200" min:"0"`
	// LogDrops returns how many lines the program's log queue has dropped; see
	// [limpet.LogQueue]. Nil means that there is no such queue.
	LogDrops func() uint64
	// Savers returns what saves tables to files, for the metrics of snapshots.
	// It is asked at each scrape, and must be safe for concurrent use. Nil
	// means that nothing does.
	Savers func() []*persistence.Saver
	// Version is that of the program, for limpet_build_info. Empty means that
	// of its main module.
	Version string
	// Constant labels are added to every metric of limpet. Their names must not
	// be those of other labels.
	Constant prometheus.Labels
}

// An Exporter exports the metrics of virtual services. It is a
// [prometheus.Gatherer] and a [prometheus.Collector]. All methods may be called
// concurrently. Create one with [New].
type Exporter struct {
	config   Config
	constant []*dto.LabelPair
	classic  []int
	descs    map[*family]*prometheus.Desc
	build    [3]string // version, revision, version of Go

	mu     sync.Mutex
	reload struct {
		known, ok bool
		at        time.Time // of the latest success
		succeeded uint64
		failed    uint64
	}
}

// New returns an exporter. The error joins a [limpet.FieldError] for each fault
// of the configuration.
func New(c Config) (*Exporter, error) {
	e := &Exporter{config: c, descs: map[*family]*prometheus.Desc{}}
	var faults fielderr.List
	if c.Services == nil {
		faults.Addf("services", nil, "missing")
	}
	faults.Constant("servers", c.Servers)
	if c.Buckets == nil {
		for power := -10; power <= 5; power++ {
			e.classic = append(e.classic, power*octave-lowest)
		}
	} else {
		var wrong []int
		e.classic, wrong = classicIndexes(c.Buckets)
		for _, i := range wrong {
			faults.Addf(fielderr.Index("buckets", i), c.Buckets[i], "want ascending powers of two of a second, from 2^-14 to 2^12, rounded down to nanoseconds")
		}
	}
	bounds.Check("", c, &faults)
	bounds.SetDefaults(&e.config)
	for _, name := range slices.Sorted(maps.Keys(c.Constant)) {
		e.constant = append(e.constant, &dto.LabelPair{Name: new(name), Value: new(c.Constant[name])})
		if !model.LegacyValidation.IsValidLabelName(name) || strings.HasPrefix(name, "__") {
			faults.Addf(fielderr.Key("constant", name), nil, "not a name for a label")
			continue
		}
		for _, f := range all {
			if slices.Contains(f.labels, name) {
				faults.Addf(fielderr.Key("constant", name), nil, "%s%s has this label", prefix, f.name)
				break
			}
		}
	}
	if err := faults.Err(); err != nil {
		return nil, err
	}
	for _, f := range all {
		e.descs[f] = prometheus.NewDesc(prefix+f.name, f.help, f.labels, c.Constant)
	}
	e.build = buildOf(c.Version)
	return e, nil
}

// buildOf returns the values of the labels of limpet_build_info.
func buildOf(version string) [3]string {
	revision := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		version = cmp.Or(version, info.Main.Version)
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				revision = s.Value
			}
		}
	}
	return [3]string{cmp.Or(version, "unknown"), revision, runtime.Version()}
}

// SetReload notes that the program has loaded its configuration, or that it
// could not because of an error. Call it after each attempt, the first one
// included; without a call there are no metrics about reloads.
func (e *Exporter) SetReload(at time.Time, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := &e.reload
	r.known, r.ok = true, err == nil
	if err != nil {
		r.failed++
		return
	}
	r.at = at
	r.succeeded++
}

// Gather implements [prometheus.Gatherer]. It does not include the metrics of
// Config.Process.
func (e *Exporter) Gather() ([]*dto.MetricFamily, error) { return e.gather(e.config.Servers) }

func (e *Exporter) gather(servers Detail) ([]*dto.MetricFamily, error) {
	s := e.scrape()
	e.process(s)
	e.services(s, servers)
	return s.families(), nil
}

func (e *Exporter) scrape() *scrape {
	return &scrape{constant: e.constant, classic: e.classic, metrics: map[*family][]*dto.Metric{}}
}

// Describe implements [prometheus.Collector].
func (e *Exporter) Describe(descs chan<- *prometheus.Desc) {
	for _, f := range all {
		descs <- e.descs[f]
	}
}

// Collect implements [prometheus.Collector]. With very many series, a registry
// takes several times as long as Handler and Gather do without one.
func (e *Exporter) Collect(metrics chan<- prometheus.Metric) {
	s := e.scrape()
	e.process(s)
	e.services(s, e.config.Servers)
	for f, list := range s.metrics {
		for _, m := range list {
			metrics <- collected{e.descs[f], m}
		}
	}
}

// collected is a metric for a registry.
type collected struct {
	desc   *prometheus.Desc
	metric *dto.Metric
}

func (c collected) Desc() *prometheus.Desc { return c.desc }

func (c collected) Write(to *dto.Metric) error {
	to.Label, to.Counter, to.Gauge, to.Histogram = c.metric.Label, c.metric.Counter, c.metric.Gauge, c.metric.Histogram
	return nil
}

// Handler returns a handler for scrapes, as text, OpenMetrics or protobuf. It
// serves two at a time, within 10 seconds each; further ones get 503. The query
// parameter servers, which is full, up or none, reduces the metrics of single
// servers for one scrape to less than Config.Servers.
func (e *Exporter) Handler() http.Handler {
	var gatherers [ServersNone + 1]prometheus.Gatherer
	for servers := range Detail(len(gatherers)) {
		own := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return e.gather(max(servers, e.config.Servers)) })
		gatherers[servers] = own
		if e.config.Process != nil {
			gatherers[servers] = prometheus.Gatherers{own, e.config.Process}
		}
	}
	serving := make(chan struct{}, 2) // one limit for all details together
	var handlers [len(gatherers)]http.Handler
	for i, g := range gatherers {
		handlers[i] = promhttp.HandlerFor(g, promhttp.HandlerOpts{EnableOpenMetrics: true, Timeout: 10 * time.Second})
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "want GET", http.StatusMethodNotAllowed)
			return
		}
		detail := e.config.Servers
		if text := r.URL.Query().Get("servers"); text != "" {
			if err := detail.UnmarshalText([]byte(text)); err != nil {
				http.Error(w, "servers: "+err.Error(), http.StatusBadRequest)
				return
			}
		}
		select {
		case serving <- struct{}{}:
			defer func() { <-serving }()
		default:
			w.Header().Set("Retry-After", "1")
			http.Error(w, "two scrapes are under way", http.StatusServiceUnavailable)
			return
		}
		handlers[detail].ServeHTTP(w, r)
	})
}
