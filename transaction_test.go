package limpet_test

import (
	"context"
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
