package acceptance_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/testrace"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/lbpool"
)

// geoFunc is a geo service that the test writes.
type geoFunc func() string

func (f geoFunc) Locate(netip.Addr, string) (string, bool) { return f(), true }

// A script whose client has gone stops, long before its budget is spent.
func TestClientLeavesScript(t *testing.T) {
	for _, p := range bothVersions {
		t.Run(string(p), func(t *testing.T) {
			started := make(chan bool, 1)
			recs := newRecords()
			_, site := serve(t, p, limpet.Config{
				Scripts:    []limpet.Script{onRequest(t, "endless", "avi.utils.get_geo_from_ip('10.0.0.1') while true do pcall(function() while true do end end) end")},
				Scripting:  limpet.Scripting{Limits: datascript.Limits{Instructions: -1, Time: -1}},
				Geo:        geoFunc(func() string { started <- true; return "DE" }),
				OnComplete: recs.add,
			})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan error, 1)
			c := site.client(t)
			r := newRequest(t, "GET", site.URL, nil).WithContext(ctx)
			go func() {
				_, _, err := try(c, r)
				done <- err
			}()
			testwait.Receive(t, started, "the script")
			cancel()
			if err := testwait.Receive(t, done, "the client"); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			// The script has done nothing wrong.
			if rec := recs.next(t); len(rec.ScriptErrors) > 0 || !slices.Equal(rec.Significant, []limpet.Significance{limpet.ClientGone}) {
				t.Errorf("script errors %v, significant %v", rec.ScriptErrors, rec.Significant)
			}
		})
	}
}

// A panic in a service of the host fails the script that asked for it, and the
// request goes on as the script's failures do. The host alone is reported.
func TestServicePanics(t *testing.T) {
	for _, open := range []bool{false, true} {
		script := onRequest(t, "asks", "avi.http.add_header('X-A', 'a') pcall(avi.utils.get_geo_from_ip, '10.0.0.1') avi.http.response(200, {}, 'on')")
		want, status := "Internal Server Error\n", 500
		if open {
			script, want, status = failOpen(script), "from the server", 202
		}
		s := newScripted(t, func(c *limpet.Config) { c.Geo = geoFunc(func() string { panic("secret of the host") }) }, script)
		for range 3 {
			res, body, rec := s.do(nil)
			if res.StatusCode != status || body != want {
				t.Errorf("fail open %v: %d %q", open, res.StatusCode, body)
			}
			var pe *datascript.PanicError
			if len(rec.ScriptErrors) != 1 || !errors.As(rec.ScriptErrors[0], &pe) || pe.Value != "secret of the host" {
				t.Fatalf("script errors %v", rec.ScriptErrors)
			}
			if strings.Contains(rec.ScriptErrors[0].Error()+rec.ScriptErrors[0].Traceback, "secret") {
				t.Errorf("the record's texts hold the panic: %v", rec.ScriptErrors[0])
			}
		}
	}
}

// Scripts are swapped as fast as can be, now and then for one that is broken,
// while 64 goroutines are served. Each request sees one version, in both of
// its events.
func TestSwapScripts(t *testing.T) {
	t.Parallel()
	const goroutines, versions = 64, 8
	requests := 400
	if testrace.Enabled {
		requests = 40
	}
	if testing.Short() {
		requests = 40
	}
	configs := make([]limpet.Config, versions)
	for v := range configs {
		source := fmt.Sprintf("-- HTTP_REQ\nversion = '%[1]d' for i = 1, %[1]d * 10 do t = {i} end avi.http.add_header('X-V', version)\n-- HTTP_RESP\navi.http.add_header('X-V', version .. '%[1]d')", v)
		switch v % 4 {
		case 1: // more work, with patterns
			source = strings.Replace(source, "for i", "s = ('a,b'):rep(50):gsub(',', '.') for i", 1)
		case 2: // an error that is caught
			source = strings.Replace(source, "for i", "pcall(error, {}) for i", 1)
		case 3: // variables of the transaction
			source = strings.Replace(source, "for i", "avi.vs.reqvar.x = version string.y = version for i", 1)
		}
		configs[v] = limpet.Config{
			Scripts:   []limpet.Script{compile(t, "swapped", source)},
			Scripting: limpet.Scripting{Limits: datascript.Limits{Time: time.Minute}}, // a busy machine must not fail scripts
		}
	}
	vs := newVirtualService(t, configs[0])
	h := vs.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		runtime.Gosched()
		w.Header().Set("X-V", r.Header.Get("X-V"))
	}))
	var done atomic.Int64
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			defer done.Add(1)
			for range requests {
				w := httptest.NewRecorder()
				h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
				if v := strings.Join(w.Header()["X-V"], ""); w.Code != 200 || len(v) != 3 || strings.Count(v, v[:1]) != 3 {
					t.Errorf("status %d, versions %q", w.Code, v)
					return
				}
			}
		})
	}
	swaps := 0
	for ; done.Load() < goroutines; swaps++ {
		if err := vs.Update(configs[swaps%versions]); err != nil {
			t.Error(err)
		}
		if _, err := datascript.Compile("swapped", datascript.Chunk{Source: "-- HTTP_REQ\nif"}); err == nil {
			t.Error("a broken script compiles")
		}
		if err := vs.Update(limpet.Config{Scripts: make([]limpet.Script, 1)}); err == nil {
			t.Error("a missing script is accepted")
		}
		runtime.Gosched()
	}
	wg.Wait()
	if st := vs.Stats(); st.Requests != uint64(goroutines*requests) || st.ScriptFailures != 0 {
		t.Errorf("stats %+v", st)
	}
	t.Logf("%d requests, %d swaps", goroutines*requests, swaps)
}

// trickle gives a body byte by byte at its beginning and at its end.
type trickle struct{ r io.LimitedReader }

func (b *trickle) Read(p []byte) (int, error) {
	if b.r.N < 1000 || b.r.N%4096 > 4000 {
		p = p[:min(1, len(p))]
	}
	return b.r.Read(p)
}

// A body that a script wants to see and that is too long is answered with 413
// before the server is asked, and not held in more than twice the memory.
func TestBodyTooLarge(t *testing.T) {
	const limit = 1 << 20
	var asked atomic.Int64
	pool := poolFor(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n)
	})
	vs := newVirtualService(t, limpet.Config{
		Pools:   []*lbpool.Pool{pool},
		Scripts: []limpet.Script{compile(t, "reads", "-- HTTP_REQ\navi.http.set_request_body_buffer_size(1024)\n-- HTTP_REQ_DATA\navi.vs.log(#avi.http.get_req_body())")},
	})
	block := make([]byte, 32<<10)
	for _, tt := range []struct {
		name   string
		size   int64
		length int64 // announced
		status int
	}{
		{"as long as may be", limit, limit, 200},
		{"as long as may be, chunked", limit, -1, 200},
		{"announced", limit + 1, limit + 1, 413},
		{"chunked", limit + 1, -1, 413},
		{"far too long", 1 << 30, 1 << 30, 413},
		{"far too long, chunked", 1 << 30, -1, 413},
	} {
		t.Run(tt.name, func(t *testing.T) {
			asked.Store(0)
			body := &trickle{io.LimitedReader{R: &repeated{block: block}, N: tt.size}}
			r := httptest.NewRequest("POST", "/", body)
			r.ContentLength = tt.length
			w := httptest.NewRecorder()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			vs.ServeHTTP(w, r)
			runtime.ReadMemStats(&after)
			if w.Code != tt.status || (asked.Load() > 0) != (tt.status == 200) {
				t.Errorf("status %d, %d requests to the server", w.Code, asked.Load())
			}
			if grown := after.TotalAlloc - before.TotalAlloc; tt.status != 200 && grown > 2*limit+limit/2 && !testrace.Enabled {
				t.Errorf("%d KiB allocated for a limit of %d", grown>>10, limit>>10)
			}
			if read := tt.size - body.r.N; tt.status == 413 && read > limit+64<<10 {
				t.Errorf("%d bytes of the body were read", read)
			}
		})
	}
}

// A stream of a gigabyte passes through scripts, and no more of it is in
// memory at its end than at its beginning.
func TestStreamMemory(t *testing.T) {
	size := int64(1 << 30)
	if testrace.Enabled {
		size = 64 << 20
	}
	if testing.Short() {
		size = 64 << 20
	}
	block := make([]byte, 64<<10)
	live := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	for _, p := range bothVersions {
		t.Run(string(p), func(t *testing.T) {
			_, site := serve(t, p, limpet.Config{
				Scripts: []limpet.Script{compile(t, "witness", witness)},
				Pools: []*lbpool.Pool{poolFor(t, func(w http.ResponseWriter, r *http.Request) {
					_, _ = io.CopyN(w, &repeated{block: block}, size)
				})},
			})
			size, bound := size, int64(1<<20)
			if p == http2TLS {
				size /= 8        // whose bytes cost far more
				bound += 4 << 20 // what the client, which is in this process, lets come before it is read
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			res, err := site.client(t).Do(newRequest(t, "GET", site.URL, nil).WithContext(ctx))
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			buf := make([]byte, 256<<10)
			read := func(n int64) {
				if got, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{io.LimitReader(res.Body, n)}, buf); got != n || err != nil {
					t.Fatalf("%d bytes, %v", got, err)
				}
			}
			read(size / 16) // in which buffers come to be
			before, most := live(), int64(0)
			for range 15 {
				read(size / 16)
				most = max(most, live()-before)
			}
			t.Logf("%d MiB in %d KiB more", size>>20, most>>10)
			if most > bound && !testrace.Enabled {
				t.Errorf("the heap grew by %d KiB while %d MiB passed", most>>10, size>>20)
			}
		})
	}
}

// The first byte of a response comes as soon through a virtual service with
// scripts as without one, but for a millisecond. The least of many requests is
// compared, several times: the machine may have other work.
func TestFirstByte(t *testing.T) {
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "hello")
		_ = http.NewResponseController(w).Flush()
	})
	direct := startSite(t, http1, listen(t, ""), hello)
	_, through := serve(t, http1, limpet.Config{
		Pools: []*lbpool.Pool{poolOf(t, lbpool.ServerConfig{Address: direct.Addr})}, Scripts: []limpet.Script{compile(t, "witness", witness)},
	})
	leastOf := func(s *site) time.Duration {
		c, least := s.client(t), time.Hour
		for range 100 {
			start := time.Now()
			res, err := c.Do(newRequest(t, "GET", s.URL, nil))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(res.Body, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			least = min(least, time.Since(start))
			_, _ = io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
		return least
	}
	more := time.Hour
	for again := 0; more > time.Millisecond && again < 30; again++ {
		more = min(more, leastOf(through)-leastOf(direct))
	}
	t.Logf("%v more through the virtual service", more)
	if more > time.Millisecond && !testrace.Enabled {
		t.Errorf("the first byte is %v late", more)
	}
}
