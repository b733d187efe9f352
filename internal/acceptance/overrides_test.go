package acceptance_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/lbpool"
)

// Not one request goes to a server that an operator has disabled, while 200
// updates bring new pools, in which the server comes and goes, and is
// configured to be enabled.
func TestOverrideDuringUpdates(t *testing.T) {
	t.Parallel()
	var disabled atomic.Int64
	list := startServersWith(t, 3, func(i int) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if i == 2 {
				disabled.Add(1)
			}
			io.WriteString(w, "ok")
		})
	})
	list[1].Name = "second"
	config := func(n int) limpet.Config {
		servers := []lbpool.ServerConfig{list[0], list[2]}
		if n%3 > 0 {
			servers = append(servers, list[1])
		}
		return limpet.Config{
			Pools:     []*lbpool.Pool{newPool(t, lbpool.Config{Name: "web", Servers: servers})},
			Overrides: []limpet.Override{{Pool: "web", Server: "SECOND", State: lbpool.Disabled}, {Pool: "gone", Server: "a", Ratio: 2}},
		}
	}
	vs, s := serve(t, http1, config(1))
	var wg sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	var served atomic.Int64
	for range 4 {
		c := s.client(t)
		wg.Go(func() {
			for ctx.Err() == nil {
				if status, _ := get(t, c, s.URL); status != 200 {
					t.Errorf("status %d", status)
				}
				served.Add(1)
			}
		})
	}
	own := s.client(t)
	for n := range 200 {
		before := served.Load()
		if err := vs.Update(config(n)); err != nil {
			t.Error(err)
		}
		for served.Load() == before && !t.Failed() { // requests go on between updates
			get(t, own, s.URL)
		}
	}
	stop()
	wg.Wait()
	if n := disabled.Load(); n > 0 {
		t.Errorf("%d of %d requests went to the disabled server", n, served.Load())
	}
	cfg := config(1)
	cfg.Overrides = nil
	if err := vs.Update(cfg); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		get(t, own, s.URL)
	}
	if disabled.Load() == 0 {
		t.Error("the server stays disabled without the override")
	}
}

// The faults of overrides change nothing, and neither does another fault of the
// configuration.
func TestOverrideFaults(t *testing.T) {
	t.Parallel()
	pool := poolOf(t, startServers(t, 2)...)
	server := pool.Servers()[0]
	vs := newVirtualService(t, limpet.Config{Pools: []*lbpool.Pool{pool}})
	wrong := limpet.Config{Pools: []*lbpool.Pool{pool}, Overrides: []limpet.Override{
		{Pool: pool.Name(), Server: server.Name(), State: lbpool.Disabled},
		{Server: "a", State: lbpool.Maintenance}, {Pool: "p", Server: "b", Ratio: -3},
	}}
	err := vs.Update(wrong)
	for i, path := range []string{"overrides[1].pool", "overrides[1].state", "overrides[2].ratio"} {
		var fault *limpet.FieldError
		if leaves := fielderr.Leaves(err); len(leaves) != 3 || !errors.As(leaves[i], &fault) || fault.Path != path {
			t.Fatalf("fault %d of %v: want that of %s", i, err, path)
		}
	}
	wrong.Overrides, wrong.DefaultPool = wrong.Overrides[:1], "none"
	if err := vs.Update(wrong); err == nil {
		t.Fatal("no error for a pool that does not exist")
	}
	if got := server.State(); got != lbpool.Up {
		t.Errorf("after errors the server is %s", got)
	}
}

// Services that share a pool have overrides of their own, and one that leaves
// the pool takes them away.
func TestOverridesOfSharedPool(t *testing.T) {
	t.Parallel()
	pool := poolOf(t, startServers(t, 2)...)
	server := pool.Servers()[0]
	cfg := limpet.Config{Pools: []*lbpool.Pool{pool}}
	other := newVirtualService(t, cfg)
	cfg.Overrides = []limpet.Override{{Pool: pool.Name(), Server: server.Name(), State: lbpool.Disabled, Ratio: 3}}
	vs := newVirtualService(t, cfg)
	if err := other.Update(limpet.Config{Pools: cfg.Pools}); err != nil {
		t.Fatal(err)
	}
	if got := server.State(); got != lbpool.Disabled || server.Ratio() != 3 {
		t.Errorf("after an update of the other service: %s, ratio %d", got, server.Ratio())
	}
	cfg.Pools = nil
	if err := vs.Update(cfg); err != nil {
		t.Fatal(err)
	}
	if got := server.State(); got != lbpool.Up || server.Ratio() != 1 {
		t.Errorf("after the service has left the pool: %s, ratio %d", got, server.Ratio())
	}
}
