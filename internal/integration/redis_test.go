package integration

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"github.com/limpetlb/limpet/internal/redistest"
	"github.com/limpetlb/limpet/internal/testleak"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/persistence/redisstore"
)

// A proxy stands between a store and its server.
type proxy struct {
	*toxiproxy.Proxy
	t *testing.T
}

func newProxy(t *testing.T, upstream string) proxy {
	t.Helper()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	p := proxy{toxiproxy.NewProxy(server, "redis", "127.0.0.1:0", upstream), t}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return p
}

// poison adds a toxic.
func (p proxy) poison(kind, stream, attributes string) {
	p.t.Helper()
	text := fmt.Sprintf(`{"name": "%s %s", "type": %q, "stream": %q, "attributes": {%s}}`, kind, stream, kind, stream, attributes)
	if _, err := p.Toxics.AddToxicJson(strings.NewReader(text)); err != nil {
		p.t.Fatal(err)
	}
}

func (p proxy) heal() { p.Toxics.ResetToxics(context.Background()) }

func openFiles(t *testing.T) int {
	t.Helper()
	n, err := testleak.Descriptors()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestRedisFaults(t *testing.T) {
	for _, tt := range []struct {
		name    string
		harm    func(p proxy)
		heal    func(p proxy)
		harmful bool
	}{
		{"refused", func(p proxy) { p.Stop() }, func(p proxy) {
			if err := p.Start(); err != nil {
				p.t.Fatal(err)
			}
		}, true},
		{"black hole", func(p proxy) { p.poison("timeout", "downstream", `"timeout": 0`) }, proxy.heal, true},
		{"black hole on the way there", func(p proxy) { p.poison("timeout", "upstream", `"timeout": 0`) }, proxy.heal, true},
		{"latency of ten seconds", func(p proxy) { p.poison("latency", "downstream", `"latency": 10000`) }, proxy.heal, true},
		{"reset after 100 bytes", func(p proxy) { p.poison("limit_data", "downstream", `"bytes": 100`) }, proxy.heal, true},
		{"reset", func(p proxy) { p.poison("reset_peer", "downstream", `"timeout": 0`) }, proxy.heal, true},
		{"slices of one byte", func(p proxy) { p.poison("slicer", "downstream", `"average_size": 1, "size_variation": 0, "delay": 0`) }, proxy.heal, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := redistest.Start(t)
			p := newProxy(t, server.Addr)
			ctx := t.Context()
			timeout := redisstore.DefaultTimeout
			if !tt.harmful {
				timeout = testwait.Limit
			}
			store, err := redisstore.New(redisstore.Config{
				Addresses: []string{p.Listen}, Timeout: timeout, NearEntries: -1,
				TablesWhenDown: map[string]redisstore.WhenDown{"auth": redisstore.FailClosed},
			})
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close()
			testwait.Until(t, "connection", func() bool { return store.Ping(ctx) == nil })
			for i := range 200 { // bytes enough for the limit
				if ok, err := store.Insert(ctx, "", "before"+strconv.Itoa(i), "10.0.0.1:80", time.Hour); !ok || err != nil {
					t.Fatal(ok, err)
				}
			}
			tt.harm(p)

			var longest time.Duration
			first := time.Duration(-1)
			start := time.Now()
			const calls = 2000
			refused := 0
			for i := range calls {
				before := time.Now()
				key := "during" + strconv.Itoa(i)
				if ok, err := store.Insert(ctx, "", key, "10.0.0.2:80", time.Hour); !ok || err != nil {
					t.Fatalf("a table that fails open: %t, %v", ok, err)
				}
				if value, _, ok, err := store.Lookup(ctx, "", key, time.Minute); value != "10.0.0.2:80" || !ok || err != nil {
					// The entry may have reached the server with the last call
					// that got there.
					if i > 0 {
						t.Fatalf("call %d: %q, %t, %v", i, value, ok, err)
					}
				}
				took := time.Since(before)
				if first < 0 {
					first = took
				}
				longest = max(longest, took)
				if _, _, _, err := store.Lookup(ctx, "auth", "k", 0); errors.Is(err, redisstore.ErrUnavailable) {
					refused++
				} else if err != nil {
					t.Fatal(err)
				}
			}
			each := time.Since(start) / (3 * calls)
			t.Logf("first %v, longest %v, each %v, refused %d of %d", first, longest, each, refused, calls)
			if !tt.harmful {
				if st := store.Stats(); st.Opened > 0 || refused > 0 {
					t.Errorf("harmless: %+v", st)
				}
				return
			}
			if each > timeout/2 { // as calls that wait would take
				t.Errorf("with a timeout of %v: first %v, each %v", timeout, first, each)
			}
			if refused != calls {
				t.Errorf("a table that fails closed answered %d times", calls-refused)
			}
			tt.heal(p)
			took := testwait.Until(t, "recovery", func() bool { return store.Stats().Up })
			t.Logf("recovered after %v", took)
			testwait.Until(t, "auth", func() bool {
				_, _, _, err := store.Lookup(ctx, "auth", "k", 0)
				return err == nil
			})
			if value, _, ok, err := store.Lookup(ctx, "", "during1", 0); value != "10.0.0.2:80" || !ok || err != nil {
				t.Errorf("what was stored meanwhile: %q, %t, %v", value, ok, err)
			}
			if value, _, ok, err := store.Lookup(ctx, "", "before7", 0); value != "10.0.0.1:80" || !ok || err != nil {
				t.Errorf("what was stored before: %q, %t, %v", value, ok, err)
			}
			// All that the outages have opened is closed: what is left is a
			// connection to the proxy, or two ends of it.
			testwait.Until(t, "files closed", func() bool { return openFiles(t) < 100 })
		})
	}
}

// TestRedisLateAnswers has answers come about when they are given up, while
// many calls share a connection, and looks for one that came to the wrong call.
func TestRedisLateAnswers(t *testing.T) {
	server := redistest.Start(t)
	p := newProxy(t, server.Addr)
	const keys = 500
	key := func(i int) string { return "key" + strconv.Itoa(i) }
	direct, err := redisstore.New(redisstore.Config{Addresses: []string{server.Addr}, Timeout: testwait.Limit})
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close()
	for i := range keys {
		if ok, err := direct.Put(t.Context(), "", key(i), "value of "+key(i), time.Hour); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	store, err := redisstore.New(redisstore.Config{
		Addresses: []string{p.Listen}, Timeout: 15 * time.Millisecond, NearEntries: -1, WhenDown: redisstore.FailClosed,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	p.poison("latency", "downstream", `"latency": 2, "jitter": 2`)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var answered, late atomic.Int64
	var wg sync.WaitGroup
	for g := range 64 {
		wg.Go(func() {
			for n := g; ctx.Err() == nil && answered.Load() < 1_000_000; n += 7 {
				k := key(n % keys)
				value, _, ok, err := store.Lookup(context.Background(), "", k, 0)
				switch {
				case err != nil:
					late.Add(1)
					select {
					case <-time.After(5 * time.Millisecond):
					case <-ctx.Done():
					}
				case !ok || value != "value of "+k:
					t.Errorf("%q has %q, %t", k, value, ok)
				default:
					answered.Add(1)
				}
			}
		})
	}
	wg.Go(func() { // now and then the answers wait until nobody does any more
		for ctx.Err() == nil {
			select {
			case <-time.After(250 * time.Millisecond):
			case <-ctx.Done():
				return
			}
			p.poison("latency", "upstream", `"latency": 40`)
			select {
			case <-time.After(30 * time.Millisecond):
			case <-ctx.Done():
			}
			_ = p.Toxics.RemoveToxic(context.Background(), "latency upstream")
		}
	})
	<-time.After(8 * time.Second)
	testwait.Until(t, "enough to say anything", func() bool { return answered.Load() >= 1000 && store.Stats().Opened > 0 })
	cancel()
	wg.Wait()
	stats := store.Stats()
	t.Logf("%d answers, %d calls without one, %d failures, connection dropped %d times", answered.Load(), late.Load(), stats.Failures, stats.Opened)
}
