package acceptance_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
	"github.com/limpetlb/limpet/policy"
)

// explained is a service in which a request changes all that one can.
func explained(t *testing.T) (limpet.Config, *persistence.Store, *persistence.ClientIP) {
	t.Helper()
	store := persistence.NewStore(persistence.Options{})
	if _, err := store.Insert(t.Context(), "", "known", "value", time.Hour); err != nil {
		t.Fatal(err)
	}
	limiter, err := datascript.NewRateLimiter(datascript.RateLimit{Count: 1, Period: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	profile, err := persistence.NewClientIP(persistence.ClientIPConfig{})
	if err != nil {
		t.Fatal(err)
	}
	pool := poolOf(t, startServers(t, 3)...)
	pool.Servers()[0].Disable()
	return limpet.Config{
		Name: "shop", Pools: []*lbpool.Pool{pool}, Tables: store, Persistence: profile,
		Scripts: []limpet.Script{onRequest(t, "stick", `
			avi.vs.analytics.counter("seen")
			avi.vs.table_insert("new", "own", 60)
			avi.vs.log(avi.vs.table_lookup("known", 60) .. " " .. avi.vs.table_lookup("new"))
			avi.vs.table_remove("known")
			avi.vs.log(tostring(avi.vs.table_lookup("known")))
			avi.http.add_header("X-Script", "yes")
			if avi.vs.ratelimit.exceed("limit", "key") then avi.http.response(429) end`)},
		Scripting: limpet.Scripting{RateLimiters: map[string]*datascript.RateLimiter{"limit": limiter}},
		Policies: limpet.Policies{HTTPRequest: []policy.RequestRule{{
			Name: "mark", Match: policy.Match{Path: &policy.PathMatch{Op: policy.BeginsWith, Values: []string{"/"}}},
			Action: policy.Modify{Edits: []policy.Edit{policy.AddHeader{Name: "X-Rule", Value: "yes"}}},
		}}},
	}, store, profile
}

// What is explained again and again is what then happens, and nothing has
// changed before that: no count, entry, binding, turn or limit.
func TestExplainRequestChangesNothing(t *testing.T) {
	t.Parallel()
	cfg, store, profile := explained(t)
	vs, s := serve(t, http1, cfg)
	counts := func() string {
		known, left, _, _ := store.Peek(t.Context(), "", "known")
		_, _, added, _ := store.Peek(t.Context(), "", "new")
		text := fmt.Sprint(vs.Stats(), vs.PolicyStats(), vs.ScriptStats(), vs.Metrics(), store.Stats(), known, left > time.Hour, added, profile.Stats(), cfg.Pools[0].Stats())
		for _, s := range cfg.Pools[0].Servers() {
			text += fmt.Sprint("\n", s.Name(), s.Stats(), s.LastChange())
		}
		return text
	}
	r := func() *http.Request { return httptest.NewRequest("GET", "http://shop.example/a?b", nil) }
	before := counts()
	var first *limpet.Explanation
	for range 5 {
		e, err := vs.ExplainRequest(r(), true)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = e
		}
		if diff := cmp.Diff(first.String(), e.String()); diff != "" {
			t.Fatal(diff)
		}
	}
	if diff := cmp.Diff(before, counts()); diff != "" {
		t.Errorf("an explanation has changed something:\n%s", diff)
	}
	run := first.Run
	if diff := cmp.Diff([]string{`[string "stick"]:5: value own`, `[string "stick"]:7: nil`}, run.Log); diff != "" {
		t.Errorf("log of the script:\n%s", diff)
	}
	if run.RequestRule != "mark" || run.Pool != "my_pool" || run.Request == nil || run.Request.Header.Get("X-Script") != "yes" ||
		run.Request.Header.Get("X-Rule") != "yes" || run.Request.URI != "/a?b" || run.Response == nil || run.Response.Status != 200 {
		t.Errorf("%s", first)
	}
	_, body := get(t, s.client(t), s.URL+"/a?b") // of another client
	if want := cfg.Pools[0].Servers()[1]; run.Server != want.Addr().String() || body != "server 2" {
		t.Errorf("explained %s, and then came %q", run.Server, body)
	}
	if _, err := store.Insert(t.Context(), "", "known", "value", time.Hour); err != nil { // the script has removed it
		t.Fatal(err)
	}
	if e, err := vs.ExplainRequest(r(), true); err != nil || e.Run.Response.Status != 200 {
		t.Errorf("after the limit was used: %v, %s", err, e)
	}
}

// A client that is bound is explained to go to its server.
func TestExplainRequestOfBoundClient(t *testing.T) {
	t.Parallel()
	cfg, _, profile := explained(t)
	cfg.Scripts = nil
	vs, s := serve(t, http1, cfg)
	c := s.client(t)
	_, body := get(t, c, s.URL)
	before := profile.Stats()
	r := httptest.NewRequest("GET", "http://shop.example/", nil)
	r.RemoteAddr = "127.0.0.1:9"
	for range 4 {
		e, err := vs.ExplainRequest(r, true)
		if err != nil {
			t.Fatal(err)
		}
		if got := e.Run.Persistence + " " + e.Run.Server; got != "hit "+cfg.Pools[0].Servers()[1].Addr().String() || body != "server 2" {
			t.Errorf("%s after %q", got, body)
		}
	}
	if diff := cmp.Diff(before, profile.Stats()); diff != "" {
		t.Error(diff)
	}
}

func TestExplanationAsJSON(t *testing.T) {
	t.Parallel()
	cfg, _, _ := explained(t)
	vs := newVirtualService(t, cfg)
	for _, scripts := range []bool{false, true} {
		e, err := vs.ExplainRequest(httptest.NewRequest("GET", "http://shop.example/", nil), scripts)
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		var back limpet.Explanation
		if err := json.Unmarshal(text, &back); err != nil {
			t.Fatal(err)
		}
		if (back.Run != nil) != scripts || len(back.Scripts) > 0 == scripts || !strings.Contains(string(text), `"http_request":"rules[0]`) {
			t.Errorf("%s", text)
		}
	}
}

// Tables that cannot be read without a change are left alone.
func TestExplainRequestWithoutPeek(t *testing.T) {
	t.Parallel()
	cfg, store, _ := explained(t)
	cfg.Tables = struct{ limpet.Tables }{store}
	vs := newVirtualService(t, cfg)
	r := httptest.NewRequest("GET", "http://shop.example/", nil)
	if _, err := vs.ExplainRequest(r, true); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("error %v", err)
	}
	if e, err := vs.ExplainRequest(r, false); err != nil || !strings.Contains(e.String(), "scripts, which were not run: stick") {
		t.Errorf("%v, %s", err, e)
	}
}
