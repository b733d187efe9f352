package persistence_test

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/limpetlb/limpet/persistence"
)

// Each entry has a lifetime of its own, and lookups may extend it.
func ExampleTable() {
	sessions := persistence.NewTable[netip.Addr, string](persistence.Options{
		MaxEntries:  100_000,
		MaxLifetime: time.Hour,
	})
	phone, desk := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	sessions.Insert(phone, "server-1", 5*time.Minute)
	sessions.Insert(desk, "server-2", 50*time.Minute)

	for _, client := range []netip.Addr{phone, desk} {
		server, left, ok := sessions.Lookup(client, 20*time.Minute)
		fmt.Println(server, left.Round(time.Minute), ok)
	}
	_, _, ok := sessions.Lookup(netip.MustParseAddr("192.0.2.3"), 20*time.Minute)
	fmt.Println(ok)
	// Output:
	// server-1 25m0s true
	// server-2 1h0m0s true
	// false
}

// Inserting under a live key keeps the value and starts a new lifetime; Put
// overwrites.
func ExampleTable_Insert() {
	table := persistence.NewTable[string, string](persistence.Options{})
	table.Insert("client", "server-1", time.Minute)
	table.Insert("client", "server-2", time.Hour)
	server, left, _ := table.Lookup("client", 0)
	fmt.Println(server, left.Round(time.Minute))

	table.Put("client", "server-2", time.Hour)
	server, _, _ = table.Lookup("client", 0)
	fmt.Println(server)
	// Output:
	// server-1 1h0m0s
	// server-2
}

// With Sliding, a client is remembered while it returns in time.
func ExampleOptions_sliding() {
	table := persistence.NewTable[string, string](persistence.Options{Sliding: true})
	table.Insert("client", "server-1", 5*time.Minute)
	for range 10 {
		_, left, _ := table.Lookup("client", 20*time.Minute)
		_ = left // twenty minutes each time
	}
	_, left, _ := table.Peek("client")
	fmt.Println(left.Round(time.Minute))
	// Output: 20m0s
}

// A table that refuses new keys keeps those that came first.
func ExampleWhenFull() {
	table := persistence.NewTable[string, string](persistence.Options{
		MaxEntries: 2,
		WhenFull:   persistence.RefuseNew,
	})
	for _, client := range []string{"a", "b", "c"} {
		fmt.Println(client, table.Insert(client, "server-1", time.Hour))
	}
	fmt.Println(table.Stats().RefusedFull, "refused")
	// Output:
	// a true
	// b true
	// c false
	// 1 refused
}

// Goroutines share a counter that keeps its lifetime.
func ExampleCompareAndSwap() {
	requests := persistence.NewTable[string, int](persistence.Options{})
	requests.Insert("client", 0, time.Minute)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				n, _, ok := requests.Lookup("client", 0)
				if !ok || persistence.CompareAndSwap(requests, "client", n, n+1) {
					return
				}
			}
		})
	}
	wg.Wait()
	n, _, _ := requests.Lookup("client", 0)
	fmt.Println(n)
	// Output: 8
}

// The methods of a store are the table functions of DataScripts.
func ExampleStore() {
	ctx := context.Background()
	store := persistence.NewStore(persistence.Options{})

	// The default table has no name.
	store.Insert(ctx, "", "192.0.2.1", "10.0.0.7", persistence.DefaultLifetime)
	server, left, ok, _ := store.Lookup(ctx, "", "192.0.2.1", persistence.DefaultLifetime)
	fmt.Println(server, left.Round(time.Second), ok)

	// Keys of other tables are separate.
	_, _, ok, _ = store.Lookup(ctx, "carts", "192.0.2.1", 0)
	fmt.Println(ok)
	store.Insert(ctx, "carts", "cart-42", "10.0.0.8", 20*time.Minute)
	ok, _ = store.Refresh(ctx, "carts", "cart-42", 10*time.Minute)
	fmt.Println(ok)

	// To overwrite, put; to overwrite what you have seen, swap.
	store.Put(ctx, "carts", "cart-42", "10.0.0.9", 20*time.Minute)
	ok, _ = store.CompareAndSwap(ctx, "carts", "cart-42", "10.0.0.8", "10.0.0.7")
	fmt.Println(ok)

	for cart, e := range store.All("carts") {
		fmt.Println(cart, e.Value, e.Remaining.Round(time.Second))
	}
	store.Remove(ctx, "carts", "cart-42")
	tables, _ := store.Tables(ctx)
	fmt.Printf("%q %d\n", tables, store.TableStats("carts").Entries)
	// Output:
	// 10.0.0.7 10m0s true
	// false
	// true
	// false
	// cart-42 10.0.0.9 20m0s
	// ["" "carts"] 0
}

// An idle lifetime ends an unused session early, an absolute one any session in
// the end.
func ExampleTable_PutIdle() {
	sessions := persistence.NewTable[string, string](persistence.Options{})
	sessions.PutIdle("cart-42", "server-1", 20*time.Minute, 8*time.Hour)
	_, left, _ := sessions.Lookup("cart-42", 0)
	fmt.Println(left.Round(time.Minute))

	sessions.Touch("cart-42", 24*time.Hour)
	_, left, _ = sessions.Lookup("cart-42", 0)
	fmt.Println(left.Round(time.Minute))
	// Output:
	// 20m0s
	// 8h0m0s
}

// Of two requests of a new client the second gets the server that the first has
// chosen.
func ExampleTable_LookupOrInsert() {
	sessions := persistence.NewTable[string, string](persistence.Options{})
	for _, choice := range []string{"server-1", "server-2"} {
		server, _, found := sessions.LookupOrInsert("client", choice, time.Hour)
		fmt.Println(server, found)
	}
	// Output:
	// server-1 false
	// server-1 true
}

// A counter begins with the first increment and keeps its lifetime.
func ExampleIncrement() {
	attempts := persistence.NewTable[string, int64](persistence.Options{})
	for range 3 {
		persistence.Increment(attempts, "192.0.2.1", 1, 10*time.Minute)
	}
	n, _, _ := attempts.Lookup("192.0.2.1", 0)
	fmt.Println(n)
	// Output: 3
}

// A server that is being drained can be stopped when no client sticks to it any
// more.
func ExampleCountByValue() {
	sessions := persistence.NewTable[string, string](persistence.Options{})
	sessions.Insert("a", "server-1", time.Hour)
	sessions.Insert("b", "server-2", time.Hour)
	sessions.Insert("c", "server-2", time.Hour)
	clients := persistence.CountByValue(sessions)
	fmt.Println(clients["server-1"], clients["server-2"], clients["server-3"])
	// Output: 1 2 0
}

// A callback reports why clients lose their server.
func ExampleTable_OnDelete() {
	sessions := persistence.NewTable[string, string](persistence.Options{MaxEntries: 2})
	sessions.OnDelete(func(client, server string, cause persistence.DeletionCause) {
		fmt.Println(client, server, cause)
	})
	sessions.Insert("a", "server-1", time.Hour)
	sessions.Insert("b", "server-2", time.Hour)
	sessions.Put("b", "server-3", time.Hour)
	sessions.Remove("b")
	sessions.Insert("c", "server-1", time.Hour)
	sessions.Insert("d", "server-1", time.Hour)
	// Output:
	// b server-2 replaced
	// b server-3 removed
	// a server-1 evicted
}

// A network that floods the store pushes out its own entries.
func ExampleOptions_owner() {
	ctx := context.Background()
	store := persistence.NewStore(persistence.Options{
		Owner:       persistence.AddrKeyOwner, // keys begin with the address of the client
		MaxPerOwner: 100,
	})
	store.Insert(ctx, "", "198.51.100.1", "10.0.0.1:80", time.Hour)
	for port := range 50_000 {
		store.Insert(ctx, "", fmt.Sprintf("192.0.2.1:%d", port), "10.0.0.2:80", time.Hour)
	}
	_, _, ok, _ := store.Lookup(ctx, "", "198.51.100.1", 0)
	stats := store.Stats()
	fmt.Println(ok, stats.Entries, stats.Owners, stats.OwnerEvictions)
	// Output: true 101 2 49900
}

// Keys of any type can have owners.
func ExampleNewTableByOwner() {
	sessions := persistence.NewTableByOwner[netip.Addr, string](
		persistence.Options{MaxPerOwner: 2}, persistence.AddrOwner)
	for _, client := range []string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "198.51.100.1"} {
		sessions.Insert(netip.MustParseAddr(client), "10.0.0.1:80", time.Hour)
	}
	fmt.Println(sessions.Len())
	// Output: 3
}

// A page at a time, an operator removes the clients of one server, except those
// that have been moved to another one meanwhile.
func ExampleStore_Scan() {
	ctx := context.Background()
	store := persistence.NewStore(persistence.Options{})
	for i := range 250 {
		store.Insert(ctx, "", fmt.Sprintf("client-%03d", i), fmt.Sprintf("10.0.0.%d", i%2), time.Hour)
	}

	removed, o := 0, persistence.ScanOptions{Value: "10.0.0.1"}
	for {
		items, next, err := store.Scan(ctx, "", o)
		if err != nil {
			fmt.Println(err)
			return
		}
		for _, item := range items {
			if ok, _ := store.CompareAndRemove(ctx, "", item.Key, item.Value); ok {
				removed++
			}
		}
		if next == "" {
			break
		}
		o.Cursor = next
	}
	counts, _ := store.CountByValue(ctx, "")
	fmt.Println(removed, counts)
	// Output: 125 map[10.0.0.0:125]
}
