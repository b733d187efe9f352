package persistence

import (
	"bytes"
	"context"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/limpetlb/limpet/internal/testrace"
)

func TestAllocations(t *testing.T) {
	if testrace.Enabled {
		t.Skip("the race detector allocates")
	}
	ctx := context.Background()
	strs := NewTable[string, string](Options{})
	strs.Insert("k", "v", time.Hour)
	strs.PutIdle("idle", "v", time.Minute, time.Hour)
	client := netip.MustParseAddr("2001:db8::1")
	addrs := NewTable[netip.Addr, netip.AddrPort](Options{})
	addrs.Insert(client, netip.AddrPort{}, time.Hour)
	store := NewStore(Options{})
	store.Insert(ctx, "", "k", "v", time.Hour)
	store.Insert(ctx, "t", "k", "v", time.Hour)
	owned := NewTable[string, string](Options{Owner: AddrKeyOwner})
	owned.Insert("10.0.0.1:80", "v", time.Hour)
	full := NewStore(Options{MaxEntries: 1000})
	fresh := make([]string, 20_000)
	for i := range fresh {
		fresh[i] = "10.0.0.1:" + strconv.Itoa(i)
	}
	for i := range 2000 {
		full.Insert(ctx, "", fresh[i], "v", time.Hour)
	}
	fullOwned := NewStore(Options{MaxEntries: 1000, Owner: strings.ToLower})
	for i := range 2000 {
		fullOwned.Insert(ctx, "", fresh[i], "v", time.Hour)
	}
	next, owner := 0, 0
	for _, tt := range []struct {
		name string
		want float64
		do   func()
	}{
		{"Table.Lookup", 0, func() { strs.Lookup("k", 0) }},
		{"Table.Lookup and extend", 0, func() { strs.Lookup("k", time.Second) }},
		{"Table.Lookup of a missing key", 0, func() { strs.Lookup("missing", time.Second) }},
		{"Table.Peek", 0, func() { strs.Peek("k") }},
		{"Table.Refresh", 0, func() { strs.Refresh("k", time.Second) }},
		{"Table.Insert of a live key", 0, func() { strs.Insert("k", "v", 2*time.Hour) }},
		{"Table.Insert of a live key, shorter", 0, func() {
			strs.Insert("k", "v", 2*time.Hour)
			strs.Insert("k", "v", time.Hour)
		}},
		{"Table.Touch", 0, func() { strs.Touch("k", time.Hour) }},
		{"Table.LookupOrInsert of a live key", 0, func() { strs.LookupOrInsert("k", "v", 2*time.Hour) }},
		{"Table.Lookup of an idle entry", 0, func() { strs.Lookup("idle", time.Second) }},
		{"Claim of a live key", 0, func() { Claim(strs, "k", "w", "", time.Hour) }},
		{"Store.Claim of a live key", 0, func() { store.Claim(ctx, "t", "k", "w", "x", time.Hour) }},
		{"Table.Lookup of a key with an owner", 0, func() { owned.Lookup("10.0.0.1:80", time.Second) }},
		{"Table.Insert of a live key with an owner", 0, func() { owned.Insert("10.0.0.1:80", "v", 2*time.Hour) }},
		{"Store.Touch", 0, func() { store.Touch(ctx, "t", "k", time.Hour) }},
		{"Store.LookupOrInsert of a live key", 0, func() { store.LookupOrInsert(ctx, "t", "k", "v", 2*time.Hour) }},
		{"Store.CompareAndSwap of another value", 0, func() { store.CompareAndSwap(ctx, "t", "k", "x", "y") }},
		{"Table.Lookup of an address", 0, func() { addrs.Lookup(client, time.Second) }},
		{"Store.Lookup in the default table", 0, func() { store.Lookup(ctx, "", "k", time.Second) }},
		{"Store.Lookup in a named table", 0, func() { store.Lookup(ctx, "t", "k", 0) }},
		{"Store.Lookup in a missing table", 0, func() { store.Lookup(ctx, "missing", "k", 0) }},
		{"Store.Refresh", 0, func() { store.Refresh(ctx, "t", "k", time.Second) }},
		{"Store.Insert of a live key", 0, func() { store.Insert(ctx, "t", "k", "v", 2*time.Hour) }},
		{"Store.Insert of a new key into a full table", 3, func() {
			full.Insert(ctx, "", fresh[2000+next], "v", time.Hour)
			next++
		}},
		{"Store.Insert of a new key with a new owner into a full table", 3, func() {
			fullOwned.Insert(ctx, "", fresh[2000+owner], "v", time.Hour)
			owner++
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := testing.AllocsPerRun(5000, tt.do); got > tt.want {
				t.Errorf("%v allocations, want %v", got, tt.want)
			}
		})
	}
}

// TestRestoreAllocations: a restored entry allocates the entry, and a string
// for key and value.
func TestRestoreAllocations(t *testing.T) {
	if testrace.Enabled {
		t.Skip("the race detector allocates")
	}
	const n = 50_000
	store := NewStore(Options{})
	for i := range n {
		store.Insert(t.Context(), "", "192.0.2.1:"+strconv.Itoa(i), "10.0.0.1:8080", time.Hour)
	}
	snapshot := snapshotOf(t, store)
	got := testing.AllocsPerRun(1, func() {
		if _, err := NewStore(Options{}).ReadFrom(bytes.NewReader(snapshot)); err != nil {
			t.Fatal(err)
		}
	})
	if got > 2.1*n {
		t.Errorf("%v allocations for %d entries", got, n)
	}
}
