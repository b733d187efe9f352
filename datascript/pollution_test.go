package datascript

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/limpetlb/limpet/internal/testrace"
)

// Scripts that try to leave something behind and one that looks for it take
// turns, in many goroutines, on states that all share: it always finds a
// state as new.
func TestPollution(t *testing.T) {
	goroutines, turns := 64, 157 // 10,000 in all
	if testrace.Enabled {
		turns = 4
	}
	if testing.Short() {
		turns = 4
	}
	var polluters []*Script
	for _, name := range sortedNames(hostileScripts(t)) {
		if strings.HasPrefix(name, "pollute-") && name != "pollute-budget" {
			polluters = append(polluters, mustCompile(t, Chunk{Event: HTTPReq, Source: hostileScripts(t)[name]}))
		}
	}
	if len(polluters) < 10 {
		t.Fatalf("only %d scripts that pollute", len(polluters))
	}
	looker := mustCompile(t, Chunk{Event: HTTPReq, Source: probe})
	clean := probed(t, newEngine(t, Env{}))
	e := newEngine(t, Env{Tables: discardTables{}, Limits: Limits{Time: time.Minute, Concurrent: -1}})
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := range turns {
				x := newExchange()
				_ = e.Run(context.Background(), polluters[(g+i)%len(polluters)], HTTPReq, x) // may fail
				x.vars.Reset()
				x = newExchange()
				err := e.Run(context.Background(), looker, HTTPReq, x)
				if got := strings.Join(x.logs, "\n"); err != nil || got != clean {
					t.Errorf("error %v, left behind\n%s\nwant\n%s", err, got, clean)
					return
				}
				x.vars.Reset()
			}
		})
	}
	wg.Wait()
	s := e.Stats()
	t.Logf("%d turns: %+v", goroutines*turns, s)
	if s.Runs != uint64(2*goroutines*turns) || s.Created > s.Runs/4 && !testrace.Enabled {
		t.Errorf("%+v: the states were not shared", s)
	}
}

// A state is thrown away if, and only if, its script failed: by an error, a
// budget, a panic, a service or its client.
func TestDiscarded(t *testing.T) {
	tables := newTables()
	e := newEngine(t, Env{Tables: tables})
	gone, cancel := context.WithCancel(t.Context())
	defer cancel()
	want := Stats{}
	for i := range 120 {
		source, ctx, fails := "avi.vs.log(pcall(error, 'caught')) avi.vs.table_lookup('k')", t.Context(), true
		tables.err, tables.panic = nil, false
		switch i % 6 {
		case 0:
			fails = false
		case 1:
			source = "error('x')"
		case 2:
			source = "while true do end"
		case 3:
			tables.panic = true
		case 4:
			tables.err = errors.New("store is down")
		case 5:
			source, ctx = "avi.vs.table_lookup('k') while true do end", gone
			tables.gone = cancel
			if i > 5 {
				continue // it is gone before the script starts, which leaves the state as it was
			}
		}
		want.Runs++
		if fails {
			want.Failures++
			want.Discarded++
		}
		x := newExchange()
		err := e.Run(ctx, mustCompile(t, Chunk{Event: HTTPReq, Source: source}), HTTPReq, x)
		if (err != nil) != fails {
			t.Errorf("%s: error %v", source, err)
		}
		x.vars.Reset()
		tables.gone = nil
	}
	got := e.Stats()
	got.Created = 0 // the garbage collector takes states, too
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
