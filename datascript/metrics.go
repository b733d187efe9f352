package datascript

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
)

// Metrics are the counters and gauges that scripts keep with
// avi.vs.analytics.*. The zero value is ready for use. Its methods may be
// called concurrently. Several engines may share it, so that values, and the
// counts of [Engine.ScriptStats], outlive an engine.
type Metrics struct {
	// Max is the largest number of metrics. Beyond it, a new name is an error
	// of the script. Zero means 1,000. It must not change once scripts run.
	Max int `default:"1_000" min:"1"`

	mu      sync.Mutex
	byName  map[string]*metricValue
	scripts map[string]*scriptCounts // by name; see Engine.ScriptStats
}

const (
	defaultMaxMetrics = 1000
	maxMetricName     = 128 // bytes
)

type metricValue struct {
	gauge bool
	value float64
}

// A Metric is the value of a counter or gauge.
type Metric struct {
	Name  string  // as scripts spell it; at most 128 bytes
	Gauge bool    // goes up and down; a counter grows, unless it is cleared
	Value float64 // always finite
}

// The numbers of the kinds, as scripts see them.
const (
	counterKind = 1 // grows, unless it is cleared
	gaugeKind   = 2 // goes up and down
)

// Snapshot returns all metrics, sorted by name. The caller owns the slice.
func (m *Metrics) Snapshot() []Metric {
	m.mu.Lock()
	list := make([]Metric, 0, len(m.byName))
	for name, v := range m.byName {
		list = append(list, Metric{name, v.gauge, v.value})
	}
	m.mu.Unlock()
	slices.SortFunc(list, func(a, b Metric) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// update changes a metric, and makes it if needed.
func (m *Metrics) update(name string, gauge bool, change func(float64) float64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := m.byName[name]
	switch {
	case v == nil && len(m.byName) >= cmp.Or(m.Max, defaultMaxMetrics):
		return fmt.Errorf("more than %d metrics", cmp.Or(m.Max, defaultMaxMetrics))
	case v == nil:
		v = &metricValue{gauge: gauge}
	case v.gauge != gauge:
		kinds := map[bool]string{false: "counter", true: "gauge"}
		return fmt.Errorf("metric %q is a %s, not a %s", name, kinds[v.gauge], kinds[gauge])
	}
	now := change(v.value)
	if math.IsInf(now, 0) {
		return errors.New("metric " + name + " is out of range")
	}
	v.value = now
	if m.byName == nil {
		m.byName = map[string]*metricValue{}
	}
	m.byName[name] = v
	return nil
}

func (m *Metrics) get(name string) (Metric, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := m.byName[name]
	if v == nil {
		return Metric{}, false
	}
	return Metric{name, v.gauge, v.value}, true
}
