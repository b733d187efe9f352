package acceptance_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/ipgroup"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/policy"
)

// from is a request from a peer, with headers in pairs.
func from(peer, target string, headers ...string) *http.Request {
	r := httptest.NewRequest("GET", target, nil)
	r.RemoteAddr = peer
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}

// TestClientChoice finds the client in other headers and other places, and
// tells why; rules, scripts and records agree.
func TestClientChoice(t *testing.T) {
	const xff = "X-Forwarded-For"
	for _, test := range []struct {
		name    string
		cfg     limpet.Config
		headers []string
		want    string // client, source and reason
	}{
		{"by trust", limpet.Config{}, []string{xff, "6.6.6.6, 203.0.113.9, 127.0.0.2"}, "203.0.113.9 x-forwarded-for hop-untrusted"},
		{"leftmost", limpet.Config{Clients: limpet.Clients{ClientIndex: 1}}, []string{xff, "203.0.113.9, 198.51.100.1"}, "203.0.113.9 x-forwarded-for at-index"},
		{"behind two proxies", limpet.Config{Clients: limpet.Clients{ClientIndex: -2}}, []string{xff, "6.6.6.6, 203.0.113.9, 198.51.100.1"}, "203.0.113.9 x-forwarded-for at-index"},
		{"past the end", limpet.Config{Clients: limpet.Clients{ClientIndex: 9}}, []string{xff, "203.0.113.9, 198.51.100.1"}, "198.51.100.1 x-forwarded-for past-end"},
		{"named header", limpet.Config{Clients: limpet.Clients{ClientHeader: "true-client-ip"}}, []string{xff, "6.6.6.6", "True-Client-IP", "203.0.113.9"}, "203.0.113.9 header hop-untrusted"},
		{"named header, by place", limpet.Config{Clients: limpet.Clients{ClientHeader: "True-Client-IP", ClientIndex: 2}}, []string{"True-Client-IP", "6.6.6.6, 203.0.113.9"}, "203.0.113.9 header at-index"},
		{"Forwarded, by place", limpet.Config{Clients: limpet.Clients{ClientHeader: "Forwarded", ClientIndex: -1}}, []string{"Forwarded", "for=6.6.6.6, for=203.0.113.9"}, "203.0.113.9 forwarded at-index"},
		{"no header", limpet.Config{Clients: limpet.Clients{ClientIndex: 1}}, nil, "127.0.0.1 peer no-header"},
		{"garbage", limpet.Config{Clients: limpet.Clients{ClientIndex: 1}}, []string{xff, "x"}, "127.0.0.1 peer hop-malformed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			recs := newRecords()
			cfg := test.cfg
			cfg.TrustedProxies, cfg.OnComplete = loopback, recs.add
			client, _, _ := strings.Cut(test.want, " ")
			cfg.HTTPSecurity = []policy.SecurityRule{{
				Name: "others", Action: policy.Respond{Status: 403},
				Match: policy.Match{ClientIP: &policy.IPMatch{Op: policy.IsNotIn, Addrs: []netip.Addr{netip.MustParseAddr(client)}}},
			}}
			cfg.Scripts = []limpet.Script{onRequest(t, "who", `avi.http.response(200, {}, avi.vs.client_ip())`)}
			w := httptest.NewRecorder()
			newVirtualService(t, cfg).ServeHTTP(w, from("127.0.0.1:1234", "/", test.headers...))
			if w.Code != 200 || w.Body.String() != client {
				t.Errorf("%d %q", w.Code, w.Body)
			}
			rec := recs.next(t)
			if got := fmt.Sprint(rec.Client.Addr(), " ", rec.ClientSource, " ", rec.ClientReason); got != test.want {
				t.Errorf("record: %s, want %s", got, test.want)
			}
		})
	}
}

// TestRedirectDoesNotLoop shows that what the client spoke to a trusted proxy
// decides whether it is redirected, and that scripts and servers are told the
// same.
func TestRedirectDoesNotLoop(t *testing.T) {
	var forwarded atomic.Value
	pool := poolFor(t, func(w http.ResponseWriter, r *http.Request) { forwarded.Store(r.Header.Get("X-Forwarded-Proto")) })
	const proto = "X-Forwarded-Proto"
	for _, test := range []struct {
		name, peer, target, header string
		headers                    []string
		status                     int
	}{
		{"plain", "203.0.113.9:1", "http://example.com/", "", nil, 302},
		{"TLS", "203.0.113.9:1", "https://example.com/", "", nil, 200},
		{"a client says it spoke TLS", "203.0.113.9:1", "http://example.com/", "", []string{proto, "https"}, 302},
		{"the proxy says so", "127.0.0.1:1", "http://example.com/", "", []string{proto, "https", "X-Forwarded-For", "203.0.113.9"}, 200},
		{"the proxy says it did not", "127.0.0.1:1", "http://example.com/", "", []string{proto, "http"}, 302},
		{"the proxy speaks TLS itself", "127.0.0.1:1", "https://example.com/", "", []string{proto, "http"}, 302},
		{"the proxy says nothing", "127.0.0.1:1", "http://example.com/", "", nil, 302},
		{"the proxy says nothing over TLS", "127.0.0.1:1", "https://example.com/", "", nil, 200},
		{"Forwarded", "127.0.0.1:1", "http://example.com/", "Forwarded", []string{"Forwarded", "for=203.0.113.9;proto=https"}, 200},
		{"Forwarded of a client", "203.0.113.9:1", "http://example.com/", "Forwarded", []string{"Forwarded", "for=203.0.113.9;proto=https"}, 302},
	} {
		t.Run(test.name, func(t *testing.T) {
			recs := newRecords()
			vs := newVirtualService(t, limpet.Config{
				Pools: []*lbpool.Pool{pool}, Clients: limpet.Clients{TrustedProxies: loopback, ClientHeader: test.header}, OnComplete: recs.add,
				Policies: limpet.Policies{HTTPSecurity: []policy.SecurityRule{{Name: "to https", Action: policy.RedirectToHTTPS{}}}},
				Scripts:  []limpet.Script{onRequest(t, "told", `avi.vs.log(avi.http.protocol(), avi.http.scheme(), tostring(avi.http.secure()))`)},
			})
			w := httptest.NewRecorder()
			vs.ServeHTTP(w, from(test.peer, test.target, test.headers...))
			if w.Code != test.status {
				t.Fatalf("status %d, want %d", w.Code, test.status)
			}
			if rec := recs.next(t); w.Code == 200 {
				if len(rec.Log) != 1 || !strings.HasSuffix(rec.Log[0], "httpshttps://on") {
					t.Errorf("the script sees %q", rec.Log)
				}
				if got := forwarded.Load(); got != "https" && test.header == "" {
					t.Errorf("the server is told %q", got)
				}
			} else if w.Header().Get("Location") != "https://example.com/" {
				t.Errorf("%v", w.Header())
			}
		})
	}
}

// panicking is a source of places that is broken.
type panicking struct{}

func (panicking) Locate(netip.Addr, string) (string, bool) { panic("no database") }

// TestPoliciesOnError has rules that cannot be evaluated: their group is gone,
// or a service panics. They fail as configured, and that is counted.
func TestPoliciesOnError(t *testing.T) {
	grouped := &policy.IPMatch{Groups: []string{"Blacklist"}}
	placed := &policy.GeoMatch{Attribute: "country", Values: []string{"XX"}}
	for _, test := range []struct {
		name string
		cfg  limpet.Config
	}{
		{"network security, missing group", limpet.Config{Policies: limpet.Policies{NetworkSecurity: []policy.NetworkRule{
			{Name: "rule", Action: policy.ActionReset, Match: policy.NetworkMatch{ClientIP: grouped}}}}}},
		{"network security, panic", limpet.Config{Policies: limpet.Policies{NetworkSecurity: []policy.NetworkRule{
			{Name: "rule", Action: policy.ActionReset, Match: policy.NetworkMatch{Geo: placed}}}}}},
		{"allow list, missing group", limpet.Config{Policies: limpet.Policies{NetworkSecurity: []policy.NetworkRule{
			{Name: "rule", Action: policy.ActionAllow, Match: policy.NetworkMatch{ClientIP: grouped}}}}}},
		{"HTTP security, missing group", limpet.Config{Policies: limpet.Policies{HTTPSecurity: []policy.SecurityRule{
			{Name: "rule", Action: policy.Close{}, Match: policy.Match{ClientIP: grouped}}}}}},
		{"HTTP security, panic", limpet.Config{Policies: limpet.Policies{HTTPSecurity: []policy.SecurityRule{
			{Name: "rule", Action: policy.Close{}, Match: policy.Match{Geo: placed}}}}}},
		{"HTTP request, missing group", limpet.Config{Policies: limpet.Policies{HTTPRequest: []policy.RequestRule{
			{Name: "rule", Action: policy.Modify{Edits: []policy.Edit{policy.AddHeader{Name: "X", Value: "y"}}}, Match: policy.Match{ClientIP: grouped}}}}}},
	} {
		for _, mode := range []limpet.OnError{limpet.FailClosed, limpet.FailOpen} {
			for _, withListener := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s/%v/listener %t", test.name, mode, withListener), func(t *testing.T) {
					recs := newRecords()
					groups := newGroups(t, "Blacklist", "192.0.2.66")
					cfg := test.cfg
					cfg.IPGroups, cfg.Geo, cfg.OnComplete, cfg.PoliciesOnError = groups, panicking{}, recs.add, mode
					vs := newVirtualService(t, cfg)
					ln := listen(t, "")
					if withListener {
						ln = vs.Listener(ln)
					}
					site := startSite(t, http1, ln, vs.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "served") })))
					groups.Remove("Blacklist")
					res, body, err := try(site.client(t), newRequest(t, "GET", site.URL, nil))
					served := err == nil && res.StatusCode == 200 && body == "served"
					refused := err != nil || res.StatusCode == 500
					if served != (mode == limpet.FailOpen) || served == refused {
						t.Errorf("%v %q %v", res, body, err)
					}
					rec := recs.next(t)
					var fault *policy.RuleError
					if !errors.As(rec.Error, &fault) || fault.Rule != "rule" {
						t.Errorf("record: %+v", rec)
					}
					if got := slices.Contains(rec.Significant, limpet.PolicyDrop); got != (mode == limpet.FailClosed) {
						t.Errorf("significant %v", rec.Significant)
					}
					if drops := vs.Stats().PolicyDrops; (drops == 1) != (mode == limpet.FailClosed) {
						t.Errorf("%d drops", drops)
					}
				})
			}
		}
	}

	// A group that is not there at all is found at construction.
	for _, groups := range []*ipgroup.Set{nil, newGroups(t, "Other", "192.0.2.1")} {
		_, err := limpet.New(limpet.Config{IPGroups: groups, Policies: limpet.Policies{HTTPSecurity: []policy.SecurityRule{
			{Name: "rule", Action: policy.Close{}, Match: policy.Match{ClientIP: grouped}}}}})
		if err == nil || !strings.Contains(err.Error(), "httpSecurity[0].match.clientIP.groups") {
			t.Errorf("%v", err)
		}
	}
}

// TestFailedRequests limits a client that gets errors, from whom they may
// come, and nobody else.
func TestFailedRequests(t *testing.T) {
	recs := newRecords()
	vs := newVirtualService(t, limpet.Config{
		OnComplete: recs.add,
		Policies: limpet.Policies{HTTPSecurity: []policy.SecurityRule{{Name: "scanners", Action: policy.RateLimit{
			Limit: policy.RateLimiterConfig{Rate: policy.Rate{Count: 3, Period: time.Hour}}, PerClient: true, CountFailures: true,
		}}}},
		Scripts: []limpet.Script{onRequest(t, "s", `if avi.http.get_path() == "/script" then avi.http.response(403, {}, "") end`)},
	})
	h := vs.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			w.WriteHeader(404)
		}
	}))
	ask := func(peer, path string, want int) {
		t.Helper()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, from(peer+":1", path))
		rec := recs.next(t)
		if w.Code != want || (rec.SecurityRule == "scanners") != (want == 429) {
			t.Errorf("%s from %s: %d, want %d; rule %q", path, peer, w.Code, want, rec.SecurityRule)
		}
	}
	for range 10 {
		ask("192.0.2.1", "/", 200)
	}
	ask("192.0.2.1", "/wp-admin", 404)
	ask("192.0.2.1", "/script", 403)
	ask("192.0.2.1", "/", 200)
	ask("192.0.2.1", "/.git", 404)
	ask("192.0.2.1", "/", 429)
	ask("192.0.2.1", "/.env", 429)
	ask("192.0.2.2", "/", 200)
	if st := vs.Stats(); st.PolicyDrops != 2 {
		t.Errorf("%+v", st)
	}
}

// TestFailedRequestsHidden limits a client whose requests fail at the server,
// though a script gives an answer that looks like a success.
func TestFailedRequestsHidden(t *testing.T) {
	for _, test := range []struct {
		name   string
		fail   http.HandlerFunc
		reason limpet.Significance
	}{
		{"the server times out", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, limpet.ServerTimeout},
		{"the server breaks off", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, limpet.ServerFailed},
	} {
		t.Run(test.name, func(t *testing.T) {
			transport := lbpool.NewBase()
			transport.ResponseHeaderTimeout = 100 * time.Millisecond
			t.Cleanup(transport.CloseIdleConnections)
			recs := newRecords()
			_, site := serve(t, http1, limpet.Config{
				Pools: []*lbpool.Pool{poolFor(t, test.fail)}, Transport: lbpool.NewHTTP1(transport), OnComplete: recs.add,
				Policies: limpet.Policies{HTTPSecurity: []policy.SecurityRule{{Name: "failing", Action: policy.RateLimit{
					Limit: policy.RateLimiterConfig{Rate: policy.Rate{Count: 2, Period: time.Hour}}, PerClient: true, CountFailures: true,
				}}}},
				Scripts: []limpet.Script{compile(t, "s", "-- RESP_FAILED\n"+`avi.http.response(200, {}, "sorry")`)},
			})
			for i, want := range []int{200, 200, 429} {
				if status, _ := get(t, site.client(t), site.URL); status != want {
					t.Errorf("request %d: %d, want %d", i, status, want)
				}
				rec := recs.next(t)
				if reasons := []limpet.Significance{test.reason}; want == 200 && !slices.Equal(rec.Significant, reasons) {
					t.Errorf("request %d: significant %v, want %v", i, rec.Significant, reasons)
				}
			}
		})
	}
}

// Each connection that a rule with Log has let in asks for one record.
func TestNetworkRuleLog(t *testing.T) {
	recs := newRecords()
	vs := newVirtualService(t, limpet.Config{
		Policies: limpet.Policies{NetworkSecurity: []policy.NetworkRule{{Name: "watched", Action: policy.ActionAllow, Log: true}}}, OnComplete: recs.add,
		Scripts: []limpet.Script{onRequest(t, "s", `avi.http.response(200, {}, tostring(avi.vs.get_open_conns()))`)},
	})
	site := startSite(t, http1, vs.Listener(listen(t, "")), vs)
	for i := range 2 {
		c := site.client(t)
		for j := range 3 {
			if _, body := get(t, c, site.URL); body != fmt.Sprint(i+1) {
				t.Errorf("%s open connections, want %d", body, i+1)
			}
			if rec := recs.next(t); rec.NetworkRule != "watched" || rec.Filtered != (j == 0) {
				t.Errorf("request %d: %+v", j, rec)
			}
		}
	}
}
