package datascripttest

import (
	"errors"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const second = time.Second

func TestTablesLifetimes(t *testing.T) {
	ctx := t.Context()
	var tables Tables
	lookup := func(step string, extend time.Duration, wantValue string, wantLeft time.Duration) {
		t.Helper()
		value, left, ok, err := tables.Lookup(ctx, "", "k", extend)
		if value != wantValue || left != wantLeft || ok != (wantValue != "") || err != nil {
			t.Errorf("%s: Lookup = %q, %v, %v, %v; want %q, %v", step, value, left, ok, err, wantValue, wantLeft)
		}
	}
	insert := func(value string, lifetime time.Duration, want bool) {
		t.Helper()
		if ok, err := tables.Insert(ctx, "", "k", value, lifetime); ok != want || err != nil {
			t.Errorf("Insert(%q, %v) = %v, %v", value, lifetime, ok, err)
		}
	}
	lookup("before", second, "", 0)
	insert("a", 0, false)
	insert("a", -second, false)
	lookup("refused", 0, "", 0)
	insert("a", 100*second, true)
	lookup("peek", 0, "a", 100*second)
	lookup("negative extension", -second, "a", 100*second)
	tables.Advance(40 * second)
	insert("b", 50*second, true)
	lookup("renewed, value kept", 0, "a", 50*second)
	lookup("extended", 10*second, "a", 60*second)
	if ok, err := tables.Refresh(ctx, "", "k", 5*second); !ok || err != nil {
		t.Errorf("Refresh = %v, %v", ok, err)
	}
	lookup("refreshed", 0, "a", 65*second)
	tables.Advance(65*second - 1)
	lookup("last nanosecond", 0, "a", 1)
	tables.Advance(1)
	lookup("expired now", second, "", -1)
	tables.Advance(9 * second)
	lookup("expired a while ago", second, "", -9*second)
	if ok, _ := tables.Refresh(ctx, "", "k", second); ok {
		t.Error("Refresh revived an entry")
	}
	insert("c", second, true)
	lookup("a new entry", 0, "c", second)
	if err := tables.Remove(ctx, "", "k"); err != nil {
		t.Error(err)
	}
	lookup("removed", 0, "", 0)
	if err := tables.Remove(ctx, "other", "k"); err != nil {
		t.Error(err)
	}
}

func TestTablesMaxLifetime(t *testing.T) {
	for _, c := range []struct {
		name         string
		max          time.Duration
		insert, want time.Duration
		extended     time.Duration // after a look-up that extends by as much as it can
	}{
		{"zero means a week", 0, 8 * 24 * time.Hour, DefaultMaxLifetime, DefaultMaxLifetime},
		{"own bound", 10 * second, 8 * second, 8 * second, 10 * second},
		{"none", -1, 8 * second, 8 * second, math.MaxInt64},
	} {
		t.Run(c.name, func(t *testing.T) {
			tables := Tables{MaxLifetime: c.max}
			tables.Insert(t.Context(), "", "k", "v", c.insert)
			for _, l := range []struct{ extend, want time.Duration }{{0, c.want}, {math.MaxInt64, c.extended}} {
				if _, left, _, _ := tables.Lookup(t.Context(), "", "k", l.extend); left != l.want {
					t.Errorf("Lookup with %v: %v left, want %v", l.extend, left, l.want)
				}
			}
		})
	}
}

func TestTablesClock(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	tables := Tables{Now: func() time.Time { return now }}
	tables.Set(Entry{Key: "k", Value: "v", Lifetime: 10 * second})
	now = now.Add(3 * second)
	tables.Advance(4 * second)
	if diff := cmp.Diff([]Entry{{Key: "k", Value: "v", Lifetime: 3 * second}}, tables.Entries()); diff != "" {
		t.Errorf("Entries (-want +got):\n%s", diff)
	}
}

func TestTablesEntries(t *testing.T) {
	var tables Tables
	if got := tables.Entries(); len(got) != 0 {
		t.Errorf("entries of nothing: %v", got)
	}
	tables.Set(
		Entry{"t", "b", "1", second}, Entry{"t", "a", "2", 2 * second}, Entry{"", "z", "3", second},
		Entry{"t", "b", "4", 3 * second}, Entry{"", "gone", "5", second}, Entry{"", "gone", "", 0},
	)
	tables.Advance(second)
	want := []Entry{{"t", "a", "2", second}, {"t", "b", "4", 2 * second}}
	if diff := cmp.Diff(want, tables.Entries()); diff != "" {
		t.Errorf("Entries (-want +got):\n%s", diff)
	}
}

func TestTablesFull(t *testing.T) {
	tables := Tables{Full: true}
	tables.Set(Entry{"", "live", "v", second}, Entry{"", "dead", "v", 0})
	for key, want := range map[string]bool{"live": true, "dead": false, "new": false} {
		if ok, err := tables.Insert(t.Context(), "", key, "v", second); ok != want || err != nil {
			t.Errorf("Insert(%q) = %v, %v, want %v", key, ok, err, want)
		}
	}
}

func TestTablesErr(t *testing.T) {
	down := errors.New("store is down")
	tables := Tables{Err: down}
	tables.Set(Entry{"", "k", "v", second})
	_, insert := tables.Insert(t.Context(), "", "k", "v", second)
	_, _, ok, lookup := tables.Lookup(t.Context(), "", "k", 0)
	_, refresh := tables.Refresh(t.Context(), "", "k", second)
	for verb, err := range map[string]error{
		"Insert": insert, "Lookup": lookup, "Refresh": refresh, "Remove": tables.Remove(t.Context(), "", "k"),
	} {
		if !errors.Is(err, down) {
			t.Errorf("%s: error %v", verb, err)
		}
	}
	if ok || len(tables.Entries()) != 1 {
		t.Error("a call that failed had an effect")
	}
}

func TestTablesConcurrent(t *testing.T) {
	var tables Tables
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				tables.Insert(t.Context(), "", "k", "v", second)
				tables.Lookup(t.Context(), "", "k", second)
				tables.Advance(1)
				tables.Entries()
				tables.Remove(t.Context(), "", "k")
			}
		})
	}
	wg.Wait()
	if got := tables.Entries(); len(got) != 0 {
		t.Errorf("entries after the last removal: %v", got)
	}
}
