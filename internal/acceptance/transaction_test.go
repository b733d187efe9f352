package acceptance_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
)

// TestTransactionKept keeps what handlers should not keep: it must not lead to
// other requests, which get the same transaction.
func TestTransactionKept(t *testing.T) {
	pool := poolOf(t, lbpool.ServerConfig{Address: "10.0.0.1"})
	for _, cfg := range []limpet.Config{{}, {Pools: []*lbpool.Pool{pool}}} {
		type key struct{}
		var wg sync.WaitGroup
		over := make(chan struct{})
		var route *lbpool.Route
		h := newVirtualService(t, cfg).Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/kept" {
				if tx, ok := limpet.TransactionFrom(r.Context()); !ok || tx.Original().URL.Path != r.URL.Path {
					t.Errorf("%s has the transaction of another request", r.URL.Path)
				}
				if own, ok := lbpool.RouteFrom(r.Context()); ok && own == route {
					t.Error("two requests have the same route")
				}
				io.WriteString(w, r.URL.Path)
				return
			}
			io.WriteString(w, "kept")
			route, _ = lbpool.RouteFrom(r.Context())
			ctx := r.Context()
			wg.Go(func() {
				<-over
				for range 100 {
					if _, ok := limpet.TransactionFrom(ctx); ok {
						t.Error("a request that is over has a transaction")
					}
					if ctx.Value(key{}) != "client" || ctx.Err() == nil {
						t.Error("the context is not that of the request")
					}
					w.WriteHeader(http.StatusEarlyHints)
					_, _ = io.WriteString(w, "late")
					_ = http.NewResponseController(w).Flush()
					persistence.NoteSource(ctx, persistence.FromLocal)
				}
			})
		}))
		request := func(path string) string {
			ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "client"))
			defer cancel()
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", path, nil))
			return w.Body.String()
		}
		if got := request("/kept"); got != "kept" {
			t.Errorf("body %q", got)
		}
		close(over)
		for range 100 {
			if got := request("/next"); got != "/next" {
				t.Errorf("body %q", got)
			}
		}
		wg.Wait()
	}
}

// A transaction that a handler or a transport keeps used to become that of
// another client.
func TestKeptTransaction(t *testing.T) {
	var kept []*limpet.Transaction
	keep := func(r *http.Request) {
		tx, ok := limpet.TransactionFrom(r.Context())
		if !ok {
			t.Error("no transaction")
			return
		}
		kept = append(kept, tx)
	}
	wrapped := newVirtualService(t, limpet.Config{}).Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { keep(r) }))
	proxied := newVirtualService(t, limpet.Config{
		Pools: []*lbpool.Pool{poolOf(t, lbpool.ServerConfig{Address: "10.0.0.1"})},
		Transport: answering(func(r *http.Request) (*http.Response, error) {
			keep(r)
			return ok(r)
		}),
	})
	const requests = 50
	for _, h := range []http.Handler{wrapped, proxied} {
		kept = nil
		for i := range requests {
			r := httptest.NewRequest("GET", fmt.Sprintf("/secret/%d", i), nil)
			r.RemoteAddr = fmt.Sprintf("192.0.2.%d:1", i+1)
			h.ServeHTTP(httptest.NewRecorder(), r)
		}
		for i, tx := range kept {
			if got, client := tx.Original().URL.Path, tx.Client().Addr().String(); got != fmt.Sprintf("/secret/%d", i) || client != fmt.Sprintf("192.0.2.%d", i+1) {
				t.Errorf("the transaction of request %d shows %s of %s", i, got, client)
			}
			tx.Reply(500, nil, nil) // has no effect on anybody
			tx.Close(true)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		if w.Code != 200 {
			t.Errorf("status %d", w.Code)
		}
	}
}

// A goroutine that a handler or a transport leaves behind used to get the
// transaction of another client, if it asked at the moment when its own ended.
func TestTransactionAskedForAtTheEnd(t *testing.T) {
	var wg sync.WaitGroup
	ask := func(r *http.Request) {
		path := r.URL.Path
		wg.Go(func() {
			var last *limpet.Transaction
			for {
				tx, ok := limpet.TransactionFrom(r.Context())
				if !ok {
					break
				}
				last = tx
			}
			if last != nil && last.Original().URL.Path != path {
				t.Errorf("the transaction of %s shows %s", path, last.Original().URL.Path)
			}
		})
	}
	vs := newVirtualService(t, limpet.Config{
		Pools: []*lbpool.Pool{poolOf(t, lbpool.ServerConfig{Address: "10.0.0.1"})},
		Transport: answering(func(r *http.Request) (*http.Response, error) {
			ask(r)
			return ok(r)
		}),
	})
	wrapped := vs.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { ask(r) }))
	for i := range 1000 {
		for _, h := range []http.Handler{vs, wrapped} {
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", fmt.Sprint("/", i), nil))
		}
	}
	wg.Wait()
}

// slowClaims binds all clients to another server than the one that was chosen,
// and takes its time.
type slowClaims struct{ entered, leave chan struct{} }

func (slowClaims) Find(*http.Request, netip.Addr, string) (string, time.Duration, error) {
	return "", 0, nil
}

func (slowClaims) Bind(http.Header, *http.Request, netip.Addr, string, string) error { return nil }

func (s slowClaims) Claim(*http.Request, netip.Addr, string, string, string) (string, error) {
	s.entered <- struct{}{}
	<-s.leave
	return "10.0.0.2", nil
}

// A wrapped handler may send its request to the pool in a goroutine that it
// leaves behind. The binding that this makes belongs to its own request, and
// not to one that has begun since.
func TestClaimLeftBehind(t *testing.T) {
	profile := slowClaims{make(chan struct{}), make(chan struct{})}
	recs := newRecords()
	pool := poolOf(t, lbpool.ServerConfig{Address: "10.0.0.1"}, lbpool.ServerConfig{Address: "10.0.0.2"})
	under, over := make(chan struct{}), make(chan struct{})
	var left sync.WaitGroup
	h := newVirtualService(t, limpet.Config{
		Pools: []*lbpool.Pool{pool}, Persistence: profile, OnComplete: recs.add,
	}).Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/next" {
			under <- struct{}{}
			<-over
			return
		}
		route, _ := lbpool.RouteFrom(r.Context())
		left.Go(func() { route.Claim(pool.Servers()[0], nil) })
		<-profile.entered
	}))
	serve := func(path string) { h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", path, nil)) }
	const requests = 10
	for range requests {
		serve("/left")
	}
	var wg sync.WaitGroup
	for range requests {
		wg.Go(func() { serve("/next") })
		<-under
	}
	close(profile.leave)
	left.Wait()
	close(over)
	wg.Wait()
	for _, rec := range recs.take(t, 2*requests) {
		if rec.Outcome != limpet.OutcomeMiss {
			t.Errorf("%s: persistence %q", rec.Path, rec.Outcome)
		}
	}
}
