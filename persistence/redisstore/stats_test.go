package redisstore

import (
	"context"
	"errors"
	"os"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet/internal/redistest"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/persistence"
)

// Each call is counted once, by its verb and what became of it, and each one
// that went to the server has a duration.
func TestCallsAreCounted(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := open(t, server, Config{NearEntries: 100, MinExtension: time.Hour, TablesWhenDown: map[string]WhenDown{"closed": FailClosed}})
	ctx := t.Context()
	before, _ := s.callStats()
	if diff := cmp.Diff([]persistence.RemoteCalls{{Verb: "lookup", Result: "answered", N: 1}}, before); diff != "" { // of Ping
		t.Error(diff)
	}
	for range 2 {
		if _, err := s.Put(ctx, "", "k", "v", time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	near := 0
	for s.Stats().NearHits == 0 { // each first one asks the server
		if _, _, _, err := s.Lookup(ctx, "", "k", 0); err != nil {
			t.Fatal(err)
		}
		near++
	}
	st := s.Stats()
	if diff := cmp.Diff([]persistence.NodeStats{{Address: server.Addr, Up: true}}, st.Nodes); diff != "" {
		t.Error(diff)
	}
	want := []persistence.RemoteCalls{{Verb: "lookup", Result: "answered", N: uint64(near)}, {Verb: "lookup", Result: "near", N: 1}, {Verb: "store", Result: "answered", N: 2}}
	if diff := cmp.Diff(want, st.Calls); diff != "" {
		t.Error(diff)
	}
	if n := st.Duration.Count(); n != uint64(near)+2 || st.Duration.Sum <= 0 {
		t.Errorf("%d durations, of %v, want %d", n, st.Duration.Sum, near+2)
	}
	other := open(t, server, Config{})
	if _, err := other.Put(ctx, "", "k", "w", time.Minute); err != nil {
		t.Fatal(err)
	}
	testwait.Until(t, "a message about the change", func() bool { return s.Stats().Invalidations > 0 })

	server.Stop()
	testwait.Until(t, "loss", func() bool { _, _, _, err := s.Lookup(ctx, "", "other", 0); return err == nil && !s.Stats().Up })
	if _, _, _, err := s.Lookup(ctx, "closed", "k", 0); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a table that fails closed: %v", err)
	}
	if err := s.Remove(ctx, "", "k"); err != nil {
		t.Fatal(err)
	}
	st = s.Stats()
	for _, c := range []persistence.RemoteCalls{{Verb: "lookup", Result: "failed", N: 1}, {Verb: "remove", Result: "local", N: 1}} {
		if !slices.Contains(st.Calls, c) {
			t.Errorf("no %+v in %+v", c, st.Calls)
		}
	}
	if diff := cmp.Diff([]persistence.NodeStats{{Address: server.Addr}}, st.Nodes); diff != "" {
		t.Error(diff)
	}
	if _, err := s.Put(contextThatEnded(), "", "k", "v", time.Minute); err != nil {
		t.Errorf("in memory: %v", err)
	}
}

func contextThatEnded() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// A verb that is not in the list would not be counted.
func TestVerbsAreAll(t *testing.T) {
	if !slices.IsSorted(verbs[:]) {
		t.Error("the verbs are not sorted")
	}
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	for _, f := range files {
		if text, err := os.ReadFile(f.Name()); err == nil {
			for _, m := range regexp.MustCompile(`verb: +"([a-z]+)"`).FindAllSubmatch(text, -1) {
				used[string(m[1])] = true
			}
		}
	}
	for _, verb := range verbs {
		if !used[verb] {
			t.Errorf("no call has the verb %q", verb)
		}
		delete(used, verb)
	}
	if len(used) > 0 {
		t.Errorf("not in the list: %v", used)
	}
}
