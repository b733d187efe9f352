package datascript

import (
	"math"

	lua "github.com/yuin/gopher-lua"

	"github.com/limpetlb/limpet/internal/luastr"
)

// The module avi.vs.analytics: metrics of scripts. Unlike decisions, changes of
// metrics stay if the script fails.
var analyticsEntries = []entry{
	{name: "counter", call: analyticsCounter},
	{name: "gauge", call: analyticsGauge},
	{name: "get_metric", call: analyticsGetMetric},
	{name: "get_counter", call: analyticsGetCounter},

	number_("INCR", metricIncrement),
	number_("CLEAR", metricClear),
	number_("DECR", metricDecrement),
	number_("SET", metricSet),
	number_("METRICTYPE_COUNTER", counterKind),
	number_("METRICTYPE_GAUGE", gaugeKind),
}

const (
	metricIncrement = 1 + iota
	metricClear
	metricDecrement
	metricSet
)

// counter(name [, op [, value]]) adds value (1) to a counter, by op
// avi.vs.analytics.INCR, the default; or sets it to 0, by
// avi.vs.analytics.CLEAR. A counter begins with 0. It is an error if the name
// is that of a gauge, or if there are too many metrics.
func analyticsCounter(c call) int {
	value := c.metricOperand(3)
	if value < 0 {
		c.ArgError(3, "%s is negative", luastr.FormatNumber(value))
	}
	switch op := c.OptNum(2, metricIncrement); op {
	case metricIncrement:
		c.updateMetric(false, func(old float64) float64 { return old + value })
	case metricClear:
		c.updateMetric(false, func(float64) float64 { return 0 })
	default:
		c.ArgError(2, "avi.vs.analytics.INCR or avi.vs.analytics.CLEAR expected")
	}
	return 0
}

// gauge(name [, op [, value]]) is counter for metrics that go up and down: op
// may be avi.vs.analytics.INCR, DECR, SET or CLEAR.
func analyticsGauge(c call) int {
	value := c.metricOperand(3)
	var change func(float64) float64
	switch op := c.OptNum(2, metricIncrement); op {
	case metricIncrement:
		change = func(old float64) float64 { return old + value }
	case metricDecrement:
		change = func(old float64) float64 { return old - value }
	case metricSet:
		change = func(float64) float64 { return value }
	case metricClear:
		change = func(float64) float64 { return 0 }
	default:
		c.ArgError(2, "avi.vs.analytics.INCR, DECR, SET or CLEAR expected")
	}
	c.updateMetric(true, change)
	return 0
}

// get_metric(name, type) returns the value of a metric, or nil if there is
// none of that name and type: avi.vs.analytics.METRICTYPE_COUNTER or
// METRICTYPE_GAUGE.
func analyticsGetMetric(c call) int {
	name, kind := c.Str(1), c.Num(2)
	if m, ok := c.engine.env.Metrics.get(name); ok && m.Gauge == (kind == gaugeKind) {
		return c.RetNumber(m.Value)
	}
	return c.Ret(lua.LNil)
}

// get_counter(name) returns the value of a metric of any type; 0 if there is
// none of that name.
func analyticsGetCounter(c call) int {
	m, _ := c.engine.env.Metrics.get(c.Str(1))
	return c.RetNumber(m.Value)
}

func (c call) metricOperand(n int) float64 {
	value := c.OptNum(n, 1)
	if math.IsNaN(value) || math.IsInf(value, 0) {
		c.ArgError(n, "%s is not finite", luastr.FormatNumber(value))
	}
	return value
}

func (c call) updateMetric(gauge bool, change func(float64) float64) {
	name := c.Str(1)
	if name == "" || len(name) > maxMetricName {
		c.ArgError(1, "name of %d bytes; want 1 to %d", len(name), maxMetricName)
	}
	if err := c.engine.env.Metrics.update(name, gauge, change); err != nil {
		c.Fail("%s: %s", c.Sym.Name, err.Error())
	}
}
