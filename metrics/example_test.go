package metrics_test

import (
	"bufio"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/metrics"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Serve the metrics of a service, and those of the Go runtime and the process.
func Example() {
	vs, err := limpet.New(limpet.Config{Name: "shop"})
	if err != nil {
		log.Fatal(err)
	}
	process := prometheus.NewRegistry()
	process.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	exporter, err := metrics.New(metrics.Config{
		Services: func() []*limpet.VirtualService { return []*limpet.VirtualService{vs} },
		Process:  process,
	})
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", exporter.Handler())

	server := httptest.NewServer(mux)
	defer server.Close()
	resp, err := http.Get(server.URL + "/metrics")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "limpet_requests_in_flight") {
			fmt.Println(lines.Text())
		}
	}
	// Output: limpet_requests_in_flight{vs="shop"} 0
}

// Register the exporter with the registry that a program already has.
func ExampleExporter_Collect() {
	vs, err := limpet.New(limpet.Config{Name: "shop"})
	if err != nil {
		log.Fatal(err)
	}
	exporter, err := metrics.New(metrics.Config{
		Services: func() []*limpet.VirtualService { return []*limpet.VirtualService{vs} },
	})
	if err != nil {
		log.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(exporter)
	families, err := registry.Gather()
	if err != nil {
		log.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "limpet_health_score" {
			fmt.Println(f.GetName(), f.GetMetric()[0].GetGauge().GetValue())
		}
	}
	// Output: limpet_health_score 100
}
