package acceptance_test

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
	"github.com/limpetlb/limpet/policy"
)

// trace notes what happens, in order.
type trace struct {
	mu    sync.Mutex
	steps []string
}

func (tr *trace) add(step string) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.steps = append(tr.steps, step)
}

// take returns what has happened since the last time.
func (tr *trace) take() []string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	steps := tr.steps
	tr.steps = nil
	return steps
}

// Locate notes who asks, which each stage tells by the attribute.
func (tr *trace) Locate(_ netip.Addr, attribute string) (string, bool) {
	if attribute != "" { // it is for the record
		tr.add(attribute)
	}
	return "here", true
}

// Authenticate notes that it is asked.
func (tr *trace) Authenticate(*http.Request) (limpet.Session, error) {
	tr.add("authentication")
	return limpet.Session{User: "anna"}, nil
}

func (tr *trace) Challenge() string { return "Basic" }

func (tr *trace) Find(*http.Request, netip.Addr, string) (string, time.Duration, error) {
	tr.add("persistence")
	return "", 0, nil
}

func (tr *trace) Bind(http.Header, *http.Request, netip.Addr, string, string) error {
	tr.add("binding")
	return nil
}

// tracingTables note who asks, which scripts tell by the key.
type tracingTables struct {
	limpet.Tables
	trace *trace
}

func (tt tracingTables) Lookup(ctx context.Context, table, key string, extend time.Duration) (string, time.Duration, bool, error) {
	tt.trace.add(key)
	return tt.Tables.Lookup(ctx, table, key, extend)
}

// Each stage has its turn, those of the response after the server's answer;
// what ends a request keeps it from the rest.

func TestStageOrder(t *testing.T) {
	var tr trace
	here := func(stage string) *policy.GeoMatch {
		return &policy.GeoMatch{Attribute: stage, Values: []string{"here"}}
	}
	ends := func(stage string) policy.Match {
		return policy.Match{Headers: []policy.HeaderMatch{{Name: "X-End", Op: policy.Equals, Values: []string{stage}}}}
	}
	pool := poolFor(t, func(w http.ResponseWriter, r *http.Request) { tr.add("server") })
	recs := newRecords()
	cfg := limpet.Config{
		Pools: []*lbpool.Pool{pool}, Geo: &tr, Clients: limpet.Clients{Authenticator: &tr}, Persistence: &tr, OnComplete: recs.add,
		Policies: limpet.Policies{
			NetworkSecurity: []policy.NetworkRule{{Name: "n", Match: policy.NetworkMatch{Geo: here("network security")}, Action: policy.ActionAllow}},
			HTTPSecurity: []policy.SecurityRule{
				{Name: "always", Match: policy.Match{Geo: here("HTTP security")}, Action: policy.RateLimit{Limit: policy.RateLimiterConfig{Rate: policy.Rate{Count: 1000}}}},
				{Name: "s", Match: ends("HTTP security"), Action: policy.Respond{Status: 403}},
			},
			HTTPRequest: []policy.RequestRule{
				{Name: "always", Match: policy.Match{Geo: here("HTTP request")}, Action: policy.Modify{Edits: []policy.Edit{policy.AddHeader{Name: "X-Rule", Value: "yes"}}}},
				{Name: "r", Match: ends("HTTP request"), Action: policy.Respond{Status: 404}},
			},
			HTTPResponse: []policy.ResponseRule{{
				Name: "p", Match: policy.ResponseMatch{Request: policy.Match{Geo: here("HTTP response")}}, Edits: []policy.Edit{policy.AddHeader{Name: "X-Rule", Value: "yes"}},
			}},
		},
		Scripts: []limpet.Script{
			compile(t, "first", "-- HTTP_REQ\navi.vs.table_lookup('first script, request')\n-- HTTP_RESP\navi.vs.table_lookup('first script, response')"),
			compile(t, "second", `-- HTTP_REQ
avi.vs.table_lookup('second script, request')
if avi.http.get_header("X-End") == "script" then avi.http.response(200, {}, "") end
-- HTTP_RESP
avi.vs.table_lookup('second script, response')`),
		},
	}
	cfg.Tables = tracingTables{persistence.NewStore(persistence.Options{}), &tr}
	vs := newVirtualService(t, cfg)
	site := startSite(t, http1, vs.Listener(listen(t, "")), vs)
	client := site.client(t)

	request := []string{
		"HTTP security", "authentication", "HTTP request", "first script, request", "second script, request",
		"persistence", "server", "binding", "first script, response", "second script, response", "HTTP response",
	}
	until := func(stage string) []string { return request[:slices.Index(request, stage)+1] }
	for _, test := range []struct {
		end  string
		want []string
	}{
		{"", slices.Concat([]string{"network security"}, request)},
		{"", request}, // on the same connection, which has been judged
		{"HTTP security", until("HTTP security")},
		{"HTTP request", until("HTTP request")},
		{"script", until("second script, request")},
	} {
		r := newRequest(t, "GET", site.URL, nil)
		r.Header.Set("X-End", test.end)
		fetch(t, client, r)
		recs.next(t)
		if diff := cmp.Diff(test.want, tr.take()); diff != "" {
			t.Errorf("ends at %q (-want +got):\n%s", test.end, diff)
		}
	}
}
