package acceptance_test

import (
	"context"
	"flag"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/testrace"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
)

var full = flag.Bool("full", false, "run the tests of load with 1,200,000 requests each")

// loadSize is how many requests the tests of load send: what a service with
// 2,000 requests a second has in ten minutes, or a part of that.
func loadSize() int {
	switch {
	case *full:
		return 1_200_000
	case testrace.Enabled:
		return 6_000
	case testing.Short():
		return 6_000
	}
	return 60_000
}

// naming answers with the name of the server.
func naming(r *http.Request) (*http.Response, error) {
	res, err := ok(r)
	res.Header["X-Server"] = []string{r.URL.Host}
	return res, err
}

// A changing pool is one that is changed all the time: servers come and go,
// get other addresses and ratios, and are disabled and enabled.
type changingPool struct {
	pool    *lbpool.Pool
	changes int
	removed int // changes that took a server away from its clients
	cfg     lbpool.Config

	mu   sync.Mutex
	left map[string]int64 // by address: the number of requests when the server was last taken away
}

const changingServers = 20

func newChangingPool(t *testing.T) *changingPool {
	c := &changingPool{left: map[string]int64{}}
	c.cfg = lbpool.Config{
		Name: "my_pool", Algorithm: lbpool.RoundRobin(),
		HealthMonitors: []lbpool.HealthMonitor{{
			Interval: time.Second, Checker: lbpool.CheckerFunc(func(context.Context, netip.AddrPort) error { return nil }),
		}},
	}
	for i := range changingServers {
		c.cfg.Servers = append(c.cfg.Servers, lbpool.ServerConfig{Address: fmt.Sprintf("10.0.0.%d", i+1), Name: fmt.Sprintf("s%d", i)})
	}
	c.pool = newPool(t, c.cfg)
	return c
}

// change makes one change. At most two servers are missing at a time: one that
// takes part again has to be checked before others leave, for which there is
// more time where a thousand changes take a minute. now is the number of
// requests so far.
func (c *changingPool) change(now func() int64) error {
	for c.pool.Stats().Up < changingServers-2 {
		runtime.Gosched()
	}
	cfg := c.cfg
	cfg.Servers = append([]lbpool.ServerConfig(nil), c.cfg.Servers...)
	i := c.changes / 4 % len(cfg.Servers)
	c.changes++
	s := &cfg.Servers[i]
	gone := ""
	switch c.changes % 4 {
	case 0: // another address
		gone = s.Address
		s.Address = fmt.Sprintf("10.0.%d.%d", c.changes/4%250, i+1)
	case 1: // another ratio
		s.Ratio = 1 + c.changes%20
	case 2: // not there, or disabled, until the next change
		gone = s.Address
		if s.Disabled = c.changes%8 == 2; !s.Disabled {
			cfg.Servers = append(cfg.Servers[:i:i], cfg.Servers[i+1:]...)
		}
	case 3: // and back
	}
	if c.changes%4 == 1 || c.changes%4 == 0 {
		c.cfg.Servers = cfg.Servers
	}
	if gone == "" {
		return c.pool.Update(cfg)
	}
	c.removed++
	c.leaves(gone, math.MaxInt64) // requests notice while it is being done
	defer func() { c.leaves(gone, now()) }()
	return c.pool.Update(cfg)
}

func (c *changingPool) leaves(address string, n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left[address+":80"] = n
}

// leftSince reports whether a server was taken away since there were n
// requests.
func (c *changingPool) leftSince(server string, n int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, gone := c.left[server]
	return gone && at >= n
}

// TestChangesUnderLoad changes a pool a thousand times a minute, as a service
// with 2,000 requests a second sees it: every 120 requests. No request may
// fail, and a client moves only if its own server was taken away.
func TestChangesUnderLoad(t *testing.T) {
	t.Parallel()
	const sessions, workers, every = 100, 4, 120
	total := int64(loadSize())
	c := newChangingPool(t)
	profile, err := persistence.NewClientIP(persistence.ClientIPConfig{})
	if err != nil {
		t.Fatal(err)
	}
	vs := newVirtualService(t, limpet.Config{Pools: []*lbpool.Pool{c.pool}, Transport: answering(naming), Persistence: profile, PersistenceHeader: "X-Binding"})
	running(t, vs)
	testwait.Until(t, "the servers to be up", func() bool { return c.pool.Stats().Up == changingServers })

	var sent, failed, moved, strayed atomic.Int64
	var changing sync.Mutex
	var wg sync.WaitGroup
	start := time.Now()
	for w := range workers {
		wg.Go(func() {
			type session struct {
				server string
				asked  int64
			}
			var own [sessions / workers]session
			for {
				n := sent.Add(1)
				if n > total || failed.Load() > 10 {
					return
				}
				if n%every == 0 {
					changing.Lock()
					if err := c.change(sent.Load); err != nil {
						t.Error(err)
					}
					changing.Unlock()
				}
				i := int(n) % len(own)
				before := sent.Load()
				r := httptest.NewRequest("GET", "/", nil)
				r.RemoteAddr = fmt.Sprintf("192.0.%d.%d:5000", w, i)
				res := httptest.NewRecorder()
				vs.ServeHTTP(res, r)
				server := res.Header().Get("X-Server")
				if res.Code != http.StatusOK || server == "" {
					failed.Add(1)
					t.Errorf("request %d: status %d", n, res.Code)
				}
				if s := own[i]; s.server != "" && s.server != server {
					moved.Add(1)
					if !c.leftSince(s.server, s.asked) {
						strayed.Add(1)
						t.Errorf("request %d: moved from %s, which was there, to %s: %s", n, s.server, server, res.Header().Get("X-Binding"))
					}
				}
				own[i] = session{server, before}
			}
		})
	}
	wg.Wait()
	share := float64(moved.Load()) / float64(sessions*c.removed)
	most := 1.0/(changingServers-2) + 0.05
	t.Logf("%d requests in %s, %d changes, %d failed; %d of %d removals' sessions moved: %.4f of all at each, at most %.4f allowed",
		total, time.Since(start).Round(time.Millisecond), c.changes, failed.Load(), moved.Load(), c.removed, share, most)
	if strayed.Load() > 0 || share > most || moved.Load() == 0 || int64(c.changes) < total/every {
		t.Errorf("%d sessions left a server that was there; %.4f of all moved at each removal, at most %.4f allowed", strayed.Load(), share, most)
	}
}

// TestReloads reloads the whole configuration every 200 requests, which is
// every tenth of a second at 2,000 requests a second; every fifth one is
// refused. No request may fail, and what is replaced must be freed.
func TestReloads(t *testing.T) {
	const workers, every = 4, 200
	total := int64(loadSize())
	var freed atomic.Int64
	config := func(i int) limpet.Config {
		pool := newPool(t, lbpool.Config{
			Name: "my_pool", Servers: []lbpool.ServerConfig{{Address: "10.0.0.1"}, {Address: fmt.Sprintf("10.0.1.%d", i%250+1)}},
		})
		runtime.AddCleanup(pool, func(int) { freed.Add(1) }, 0)
		cfg := limpet.Config{
			Pools: []*lbpool.Pool{pool}, Transport: answering(naming),
			Scripts: []limpet.Script{compile(t, "Custom Persistence", customPersistence), onResponse(t, "reload", `avi.http.add_header("X-Reload", "yes")`)},
		}
		if i%5 == 4 {
			cfg.DefaultPool = "nowhere"
		}
		return cfg
	}
	vs := newVirtualService(t, config(0))
	running(t, vs)
	heap := func() uint64 {
		for range 3 { // cleanups, finalizers and pools need more than one
			runtime.GC()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	var sent, failed atomic.Int64
	var mu sync.Mutex
	reloads, refused := 0, 0
	var before uint64
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for {
				n := sent.Add(1)
				if n > total || failed.Load() > 10 {
					return
				}
				if n%every == 0 {
					mu.Lock()
					reloads++
					if err := vs.Update(config(reloads)); (err != nil) != (reloads%5 == 4) {
						t.Errorf("reload %d: %v", reloads, err)
					} else if err != nil {
						refused++
					}
					if int64(reloads) == total/every/10 {
						before = heap()
					}
					mu.Unlock()
				}
				r := httptest.NewRequest("GET", "/", nil)
				r.RemoteAddr = fmt.Sprintf("192.0.%d.%d:5000", w, n%250)
				res := httptest.NewRecorder()
				vs.ServeHTTP(res, r)
				if res.Code != http.StatusOK || res.Header().Get("X-Reload") != "yes" {
					failed.Add(1)
					t.Errorf("request %d: status %d, %v", n, res.Code, res.Header())
				}
			}
		})
	}
	wg.Wait()
	after := heap()
	t.Logf("%d requests, %d reloads of which %d were refused, %d failed; heap %d KiB after a tenth, %d KiB at the end; %d of %d pools freed",
		total, reloads, refused, failed.Load(), before>>10, after>>10, freed.Load(), reloads+1)
	if after > before+before/10+256<<10 {
		t.Errorf("the heap has grown from %d to %d bytes", before, after)
	}
	testwait.Until(t, "old pools to be freed", func() bool { runtime.GC(); return freed.Load() >= int64(reloads-5) })
}
