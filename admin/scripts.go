package admin

import (
	"cmp"
	"maps"
	"slices"

	"github.com/limpetlb/limpet/datascript"
)

// A scriptsView has the counts of scripts.
type scriptsView struct {
	Scripts []scriptView `json:"scripts"` // each script for each of its events
	Metrics []metricView `json:"metrics"` // that scripts keep with avi.vs.analytics
}

// A scriptView has the counts of a script for one event.
type scriptView struct {
	Script           string      `json:"script"`            // its name
	Event            string      `json:"event"`             // such as "HTTP_REQ"
	Runs             uint64      `json:"runs"`              // how often it has run
	Failures         []countView `json:"failures"`          // by kind
	MeanInstructions float64     `json:"mean_instructions"` // of a run
	MeanSeconds      float64     `json:"mean_seconds"`      // of a run
	InstructionShare *float64    `json:"instruction_share"` // of the limit that a mean run uses; null if there is no limit of the configuration
	TimeShare        *float64    `json:"time_share"`        // likewise, of the time
}

// A metricView is a number that scripts keep.
type metricView struct {
	Name  string  `json:"name"`  // that scripts gave it
	Gauge bool    `json:"gauge"` // it may fall; else it is a counter
	Value float64 `json:"value"` // now
}

func listScripts(c *call) (any, error) {
	v := scriptsView{Scripts: []scriptView{}, Metrics: []metricView{}}
	limits := c.vs.Config().Limits
	for _, st := range c.vs.ScriptStats() {
		v.Scripts = append(v.Scripts, viewScript(st, limits))
	}
	for _, m := range c.vs.Metrics() {
		v.Metrics = append(v.Metrics, metricView{m.Name, m.Gauge, m.Value})
	}
	return v, nil
}

func viewScript(st datascript.ScriptStats, limits datascript.Limits) scriptView {
	v := scriptView{Script: st.Script, Event: st.Event.String(), Runs: st.Runs, Failures: []countView{}}
	for _, kind := range sortedKeys(st.Failures) {
		v.Failures = append(v.Failures, countView{kind, st.Failures[kind]})
	}
	if st.Runs > 0 {
		v.MeanInstructions = float64(st.Instructions) / float64(st.Runs)
		v.MeanSeconds = st.Time.Seconds() / float64(st.Runs)
	}
	v.InstructionShare = share(v.MeanInstructions, float64(limits.Instructions))
	v.TimeShare = share(v.MeanSeconds, limits.Time.Seconds())
	return v
}

// share returns a part of a limit, nil if there is no limit.
func share(n, limit float64) *float64 {
	if limit <= 0 {
		return nil
	}
	s := n / limit
	return &s
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
