package config

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"

	"github.com/limpetlb/limpet/internal/transparency"
)

// A listener with several services, which has a virtual service of its own in
// front of them, cannot be noticed any more than a service alone.
func TestTransparency(t *testing.T) {
	var only []string
	if testing.Short() { // internal/acceptance runs them all
		only = []string{"bodies", "end-to-end headers", "hop-by-hop request headers", "short body", "trailers"}
	}
	transparency.Run(t, transparency.Target{Only: only, Proxy: func(t testing.TB, origin *url.URL) http.Handler {
		f, err := Parse(t.Context(), "text", fmt.Appendf(nil, `services:
  - {name: named, hosts: [nobody.example.com], httpSecurity: [{name: a, action: close}]}
  - {name: proxy, pools: [origin]}
pools: [{name: origin, servers: [{address: "%s"}]}]
`, origin.Host), nil)
		if err != nil {
			t.Fatal(err)
		}
		rt, err := f.Build(Options{})
		if err != nil {
			t.Fatal(err)
		}
		vs, _ := rt.Service("proxy")
		t.Cleanup(vs.CloseIdleConnections)
		return rt.Listeners()[0].Server().Handler
	}})
}
