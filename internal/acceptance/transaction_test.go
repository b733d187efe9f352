package acceptance_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/lbpool"
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
					_, _ = io.WriteString(w, "late")
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

// A goroutine that a handler leaves behind used to get the transaction of
// another client, if it asked at the moment when its own ended.
func TestTransactionAskedForAtTheEnd(t *testing.T) {
	var wg sync.WaitGroup
	vs := newVirtualService(t, limpet.Config{
		Pools: []*lbpool.Pool{poolOf(t, lbpool.ServerConfig{Address: "10.0.0.1"})},
		Transport: answering(func(r *http.Request) (*http.Response, error) {
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
			return ok(r)
		}),
	})
	for i := range 2000 {
		vs.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", fmt.Sprint("/", i), nil))
	}
	wg.Wait()
}
