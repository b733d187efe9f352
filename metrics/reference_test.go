package metrics

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
)

var update = flag.Bool("update", false, "rewrite the reference of all metrics")

const referenceFile = "../docs/reference/metrics.md"

// The names, types and labels of metrics are an interface: dashboards and
// alerts use them. The reference has all of them.
func TestReference(t *testing.T) {
	var b strings.Builder
	b.WriteString("<!-- Made from metrics/families.go by go generate ./metrics. -->\n# Metrics\n\n" +
		"All metrics that package `metrics` exports for Prometheus, and how [to get them](../guides/metrics.md). Each name begins with `" + prefix + "`. The values of labels come\n" +
		"from the configuration or from closed sets. Counters and histograms begin at 0 when the process starts.\n\n" +
		"| Metric | Type | Labels | What |\n|---|---|---|---|\n")
	names := map[string]bool{}
	for _, f := range all {
		if names[f.name] {
			t.Errorf("%s is there twice", f.name)
		}
		names[f.name] = true
		if (f.kind == counter) != strings.HasSuffix(f.name, "_total") {
			t.Errorf("%s: a counter, and nothing else, ends in _total", f.name)
		}
		if !strings.HasSuffix(f.help, ".") {
			t.Errorf("%s: the help does not end with a period", f.name)
		}
		labels := ""
		if len(f.labels) > 0 {
			labels = "`" + strings.Join(f.labels, "`, `") + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.name, strings.ToLower(dto.MetricType_name[int32(f.kind)]), labels, f.help)
	}
	if *update {
		if err := os.WriteFile(referenceFile, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(have) {
		t.Errorf("%s is not what the code exports; run go generate ./metrics, and name the change in CHANGELOG.md", referenceFile)
	}
}
