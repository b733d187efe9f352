package acceptance_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
)

// contenders are a plain reverse proxy, tuned as a virtual service is, and a
// virtual service with the published listing, in front of the same server.
func contenders(b *testing.B) (plain, service func()) {
	b.Helper()
	body := make([]byte, 1024)
	addr := startServer(b, "127.0.1.1:0", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write(body) }))

	base := lbpool.NewBase()
	b.Cleanup(base.CloseIdleConnections)
	target := &url.URL{Scheme: "http", Host: addr}
	proxy := startSite(b, http1, listen(b, ""), &httputil.ReverseProxy{
		Rewrite:    func(pr *httputil.ProxyRequest) { pr.SetURL(target); pr.SetXForwarded() },
		Transport:  base,
		BufferPool: &chunks{},
	})
	_, vs := serve(b, http1, limpet.Config{
		Pools:   []*lbpool.Pool{poolOf(b, lbpool.ServerConfig{Address: addr})},
		Scripts: []limpet.Script{compile(b, "Custom Persistence", customPersistence)},
	})

	requester := func(s *site) func() {
		c := s.client(b)
		r, err := http.NewRequestWithContext(b.Context(), "GET", s.URL, nil)
		if err != nil {
			b.Fatal(err)
		}
		request := func() {
			res, err := c.Do(r)
			if err != nil {
				b.Fatal(err)
			}
			n, err := io.Copy(io.Discard, res.Body)
			res.Body.Close()
			if n != int64(len(body)) || err != nil || res.StatusCode != http.StatusOK {
				b.Fatal(n, err, res.Status)
			}
		}
		request() // connections stand, and the client sticks
		return request
	}
	return requester(proxy), requester(vs)
}

// chunks is a buffer pool of one buffer, which is enough for one client.
type chunks struct{ free []byte }

func (c *chunks) Get() []byte {
	b := c.free
	if c.free = nil; b == nil {
		b = make([]byte, 32<<10)
	}
	return b
}

func (c *chunks) Put(b []byte) { c.free = b }

func BenchmarkReverseProxy(b *testing.B) {
	plain, _ := contenders(b)
	b.ReportAllocs()
	for b.Loop() {
		plain()
	}
}

func BenchmarkVirtualService(b *testing.B) {
	_, service := contenders(b)
	b.ReportAllocs()
	for b.Loop() {
		service()
	}
}

// BenchmarkWrap has no sockets: it is what a virtual service adds to a
// handler.
func BenchmarkWrap(b *testing.B) {
	body := make([]byte, 1024)
	bare := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write(body) })
	// The client of httptest's requests sticks.
	store := persistence.NewStore(persistence.Options{})
	if ok, err := store.Put(b.Context(), "", "192.0.2.11234", "10.0.0.1", time.Hour); !ok || err != nil {
		b.Fatal(ok, err)
	}
	wrapped := func(cfg limpet.Config) http.Handler { return newVirtualService(b, cfg).Wrap(bare) }
	for _, bench := range []struct {
		name    string
		handler http.Handler
	}{
		{"impl=bare", bare},
		{"impl=unconfigured", wrapped(limpet.Config{})},
		{"impl=listing", wrapped(limpet.Config{
			Pools: []*lbpool.Pool{poolOf(b, lbpool.ServerConfig{Address: "10.0.0.1"})}, Tables: store,
			Scripts: []limpet.Script{compile(b, "Custom Persistence", customPersistence)},
		})},
	} {
		b.Run(bench.name, func(b *testing.B) {
			r := httptest.NewRequest("GET", "/", nil)
			w := &discardWriter{header: http.Header{}}
			bench.handler.ServeHTTP(w, r)
			b.ReportAllocs()
			for b.Loop() {
				clear(w.header)
				bench.handler.ServeHTTP(w, r)
			}
		})
	}
}

// discardWriter is a response writer that costs nothing.
type discardWriter struct{ header http.Header }

func (w *discardWriter) Header() http.Header         { return w.header }
func (w *discardWriter) WriteHeader(int)             {}
func (w *discardWriter) Write(p []byte) (int, error) { return len(p), nil }
