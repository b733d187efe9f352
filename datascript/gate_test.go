package datascript

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limpetlb/limpet/internal/lua51"
	"github.com/limpetlb/limpet/internal/testrace"
)

// forMemory are the default limits in a process with some MiB of memory.
func forMemory(mebibytes int64) Limits {
	memory := mebibytes << 20
	return Limits{Concurrent: int(max(memory/4/defaultAllocBytes, 2)), HeldBytes: int(memory / 4)}
}

// slowTables are tables on another machine: each call takes 1 to 10 ms.
type slowTables struct{ hitTables }

func (slowTables) wait() { <-time.After(time.Duration(1+rand.IntN(10)) * time.Millisecond) }

func (s slowTables) Lookup(ctx context.Context, table, key string, extend time.Duration) (string, time.Duration, bool, error) {
	s.wait()
	return s.hitTables.Lookup(ctx, table, key, extend)
}

func (s slowTables) Insert(context.Context, string, string, string, time.Duration) (bool, error) {
	s.wait()
	return true, nil
}

// In a process with 512 MiB, the published listing failed for 93 of 100
// requests of 8 clients when its tables were on another machine: each run
// kept its slot while it waited, and a run too many was refused at once.
func TestListingWithSlowTables(t *testing.T) {
	for _, clients := range []int{8, 32, 128} {
		t.Run(fmt.Sprint(clients), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEngine(t, Env{Tables: slowTables{}, Pools: onePool{}, Limits: forMemory(512)})
				s := mustCompile(t, Chunk{Source: listing})
				var wg sync.WaitGroup
				for range clients {
					wg.Go(func() {
						for range 20 {
							x := newExchange()
							err := e.Run(t.Context(), s, HTTPReq, x)
							x.respond(200, "10.1.1.1:80")
							if err := errors.Join(err, e.Run(t.Context(), s, HTTPResp, x)); err != nil {
								t.Error(err)
								return
							}
							x.vars.Reset()
						}
					})
				}
				wg.Wait()
				if n := e.lua.Gate().Load(); n != (lua51.Load{}) {
					t.Errorf("%+v left in the gate", n)
				}
			})
		})
	}
}

// Scripts that stay well below their number of instructions failed with "more
// than 30ms of time" when many ran at a time: 77 % of those of 128 clients that
// used a fifth of it, 84 % of those of 8 that used 60 %.
func TestCongestion(t *testing.T) {
	for _, tt := range []struct{ share, clients int }{{20, 128}, {60, 8}, {60, 128}} {
		t.Run(fmt.Sprintf("%d %% of the instructions, %d clients", tt.share, tt.clients), func(t *testing.T) {
			limits := forMemory(512)
			limits.Wait = -1 // a busy machine must not matter
			rounds := 3
			if testrace.Enabled {
				rounds = 1
			}
			if testing.Short() {
				rounds, tt.clients = 1, tt.clients/4+1
			}
			e := newEngine(t, Env{Limits: limits})
			s := mustCompile(t, Chunk{Event: HTTPReq, Source: fmt.Sprintf("local n = 0 for i = 1, %d do n = n + i end", defaultInstructions*tt.share/100/2)})
			var wg sync.WaitGroup
			var failed atomic.Int64
			for range tt.clients {
				wg.Go(func() {
					for range rounds {
						if err := e.Run(t.Context(), s, HTTPReq, newExchange()); err != nil {
							failed.Add(1)
							t.Log(err)
						}
					}
				})
			}
			wg.Wait()
			if n := failed.Load(); n > 0 {
				t.Errorf("%d of %d runs failed", n, rounds*tt.clients)
			}
		})
	}
}

// Time that a script gives away, by waiting for the host or because others run,
// is not its own.
func TestTimeOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine(t, Env{
			Tables: slowTables{}, Limits: Limits{Instructions: -1, Time: 50 * time.Millisecond},
			// As if another program ran for a second, four times.
			Trace: func(_ *Script, _ Event, line int) {
				if line == 2 {
					time.Sleep(time.Second)
				}
			},
		})
		s := mustCompile(t, Chunk{Event: HTTPReq, Source: "for i = 1, 4 do\nlocal x = i\nend\nfor i = 1, 300 do avi.vs.table_lookup('k') end"})
		if err := e.Run(t.Context(), s, HTTPReq, newExchange()); err != nil {
			t.Error(err)
		}
	})
}

// One request could be held for 14 s by look-ups, since only the script's own
// time was bounded.
func TestHostTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine(t, Env{Tables: slowTables{}, Limits: Limits{Instructions: -1}})
		begin := time.Now()
		_, err := runRequest(t, e, "while true do pcall(avi.vs.table_lookup, 'k') end")
		var be *BudgetError
		if !errors.As(err, &be) || be.Budget != "time of services" || err.Error() != `[string "My Script"]:1: script budget exceeded: more than 5s of time of services` {
			t.Errorf("error %v", err)
		}
		if took := time.Since(begin); took < defaultHostTime || took > defaultHostTime+60*time.Millisecond {
			t.Errorf("ended after %v", took)
		}
		if n := e.lua.Gate().Load(); n != (lua51.Load{}) {
			t.Errorf("%+v in the gate", n)
		}
	})
}

// stillTables is a table store whose look-ups wait.
type stillTables struct {
	discardTables
	entered, leave chan struct{}
}

func (g stillTables) Lookup(context.Context, string, string, time.Duration) (string, time.Duration, bool, error) {
	g.entered <- struct{}{}
	<-g.leave
	return "", 0, false, nil
}

// While scripts wait for the host, others run in their slots. Those that keep
// their slots, because there are many, are an eighth at most: or the others
// could not run for as long as the host takes.
func TestOutside(t *testing.T) {
	for _, tt := range []struct{ slots, kept int }{{1, 0}, {7, 0}, {8, 1}, {32, 4}} {
		t.Run(fmt.Sprint(tt.slots), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const clients = 50
				g := stillTables{entered: make(chan struct{}), leave: make(chan struct{})}
				e := newEngine(t, Env{Tables: g, Limits: Limits{Concurrent: tt.slots}})
				s := mustCompile(t, Chunk{Event: HTTPReq, Source: "avi.vs.table_lookup('k')"})
				var wg sync.WaitGroup
				for range clients {
					wg.Go(func() {
						if err := e.Run(t.Context(), s, HTTPReq, newExchange()); err != nil {
							t.Error(err)
						}
					})
				}
				for range clients {
					<-g.entered
				}
				if n := e.lua.Gate().Load(); n.Running > tt.kept || n != (lua51.Load{Running: n.Running, Outside: clients - n.Running}) {
					t.Errorf("%+v, want at most %d running", n, tt.kept)
				}
				close(g.leave)
				wg.Wait()
				if want := (Stats{Runs: clients, Created: e.Stats().Created}); e.Stats() != want {
					t.Errorf("%+v, want %+v", e.Stats(), want)
				}
				if n := e.lua.Gate().Load(); n != (lua51.Load{}) {
					t.Errorf("%+v left in the gate", n)
				}
			})
		})
	}
}

// A script that finds no slot waits for one, in a line that is bounded, until
// its request ends or it has waited for too long.
func TestConcurrent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		leave := make(chan struct{})
		e := newEngine(t, Env{
			Limits: Limits{Concurrent: 2, Waiting: 3},
			Trace:  func(*Script, Event, int) { <-leave },
		})
		s := mustCompile(t, Chunk{Event: HTTPReq, Source: "leaked = 1"})
		type result struct {
			err   error
			after time.Duration
			ran   bool
		}
		run := func(ctx context.Context) <-chan result {
			c := make(chan result, 1)
			begin := time.Now()
			go func() {
				x := newExchange()
				err := e.Run(ctx, s, HTTPReq, x)
				c <- result{err, time.Since(begin), len(x.vars.lua.Tables()) != 0}
			}()
			synctest.Wait()
			return c
		}
		gone := errors.New("client gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		first, second := run(t.Context()), run(t.Context())
		impatient, third := run(ctx), run(t.Context())
		cancel(gone)
		if r := <-impatient; !errors.Is(r.err, gone) || r.ran {
			t.Errorf("a client that leaves the line: %+v", r)
		}
		fourth, fifth := run(t.Context()), run(t.Context())
		var re *RuntimeError
		if r := <-run(t.Context()); !errors.Is(r.err, ErrBusy) || !errors.As(r.err, &re) || re.Script != "My Script" || re.Event != HTTPReq || r.after != 0 || r.ran {
			t.Errorf("one more than may wait: %+v, want ErrBusy at once", r)
		}
		if r := <-third; !errors.Is(r.err, ErrBusy) || r.after != defaultWait || r.ran {
			t.Errorf("one that waits for too long: %+v", r)
		}
		<-fourth
		<-fifth
		third = run(t.Context())
		close(leave)
		for _, c := range []<-chan result{first, second, third} {
			if r := <-c; r.err != nil || !r.ran {
				t.Errorf("one that has its turn: %+v", r)
			}
		}
		if want := (Stats{Runs: 3, Created: e.Stats().Created, Refused: 4}); e.Stats() != want {
			t.Errorf("%+v, want %+v", e.Stats(), want)
		}
	})
}

// 200 requests whose scripts kept 10 MB each while a slow server answered took
// 1.9 GB in a process that was given 256 MiB.
func TestHeldBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := forMemory(256)
		e := newEngine(t, Env{Limits: limits})
		s := mustCompile(t,
			Chunk{Event: HTTPReq, Source: "kept = {} for i = 1, 10 do kept[i] = ('x'):rep(1000000) .. i end"},
			Chunk{Event: HTTPResp, Source: "avi.vs.log(#kept)"})
		var served, busy int
		var held []*exchange
		var mu sync.Mutex
		var wg sync.WaitGroup
		requests := 200
		if testing.Short() {
			requests = 40
		}
		for range requests {
			wg.Go(func() {
				x := newExchange()
				err := e.Run(t.Context(), s, HTTPReq, x)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					served++
					held = append(held, x)
				case errors.Is(err, ErrBusy):
					busy++
					if len(x.vars.lua.Tables()) != 0 {
						t.Error("a request that is refused holds on to its variables")
					}
				default:
					t.Error(err)
				}
				if n := e.lua.Gate().Load().Held; n > int64(limits.HeldBytes) {
					t.Errorf("%d bytes are held, of %d", n, limits.HeldBytes)
				}
			})
		}
		wg.Wait()
		if served < 4 || served > limits.HeldBytes/10_000_000 || served+busy != requests {
			t.Errorf("%d served, %d refused", served, busy)
		}
		for _, x := range held { // which may go on in any case
			x.respond(200, "10.1.1.1:80")
			if err := e.Run(t.Context(), s, HTTPResp, x); err != nil || x.logged()[0] != "10" {
				t.Errorf("log %v, error %v", x.logs, err)
			}
			x.vars.Reset()
			x.vars.Reset()
		}
		if n := e.lua.Gate().Load().Held; n != 0 {
			t.Errorf("%d bytes are held by nobody", n)
		}
	})
}

// Scripts that hold memory and wait for tables are bounded as well; what they
// have made and dropped is not counted.
func TestHeldOutside(t *testing.T) {
	for _, tt := range []struct {
		name, source string
		refused      bool
	}{
		{"held", "local t = {} for i = 1, 5 do t[i] = ('x'):rep(1000000) .. i end", true},
		{"dropped", "for i = 1, 5 do local s = ('x'):rep(1000000) .. i end", false},
		{"a closure", "local t = {} for i = 1, 5 do local s = ('x'):rep(1000000) .. i t[i] = function() return s end end", true},
		{"an iterator", "local t = {} for i = 1, 5 do t[i] = (('x'):rep(1000000) .. i):gmatch('y') end", true},
		{"pieces", "local t = {} for i = 1, 5 do t[i] = (('x'):rep(1000000) .. i):sub(1, 100) end", false},
		{"cleared keys", "local t = {} for i = 1, 5 do local s = ('x'):rep(1000000) .. i t[s] = 1 t[s] = nil end", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				limits := forMemory(256)
				e := newEngine(t, Env{Tables: slowTables{}, Limits: limits})
				s := mustCompile(t, Chunk{Event: HTTPReq, Source: tt.source + " avi.vs.table_lookup('k')"})
				var busy atomic.Int64
				var wg sync.WaitGroup
				requests := 100
				if testing.Short() {
					requests = 30 // of which half hold more than there may be
				}
				for range requests {
					wg.Go(func() {
						x := newExchange()
						if err := e.Run(t.Context(), s, HTTPReq, x); errors.Is(err, ErrBusy) {
							busy.Add(1)
						} else if err != nil {
							t.Error(err)
						}
						x.vars.Reset()
					})
				}
				wg.Wait()
				if refused := busy.Load() > 0; refused != tt.refused {
					t.Errorf("%d were refused", busy.Load())
				}
				if n := e.lua.Gate().Load(); n != (lua51.Load{}) {
					t.Errorf("%+v left in the gate", n)
				}
			})
		})
	}
}
