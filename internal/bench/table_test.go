package bench

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Yiling-J/theine-go"
	"github.com/dgraph-io/ristretto/v2"
	"github.com/hashicorp/golang-lru/v2/expirable"
	"github.com/jellydator/ttlcache/v3"
	"github.com/maypok86/otter/v2"

	"github.com/limpetlb/limpet/persistence"
)

// A table is what the peers are compared as: strings to strings, each entry
// for five minutes.
type table interface {
	lookup(key string) bool
	extend(key string) bool // a look-up after which the entry has five minutes again
	insert(key, value string)
	settle() // waits for work that the table has put off
	close()
}

const lifetime = 5 * time.Minute

var tables = []struct {
	name string
	make func(entries int) table
	most int // entries of BenchmarkTable; to fill more takes longer than it tells
}{
	{"limpet", newLimpetTable, 1 << 20},
	{"expirable", newExpirable, 1 << 20},
	{"ttlcache", newTTLCache, 1 << 20},
	{"otter", newOtter, 1 << 20},
	{"ristretto", newRistretto, 1 << 20},
	{"theine", newTheine, 1 << 16}, // no budget is about it
}

type limpetTable struct {
	*persistence.Table[string, string]
}

func newLimpetTable(entries int) table {
	// Sliding, since that is what the peers do.
	return limpetTable{persistence.NewTable[string, string](persistence.Options{MaxEntries: entries, Sliding: true})}
}

func (t limpetTable) lookup(key string) bool   { _, _, ok := t.Lookup(key, 0); return ok }
func (t limpetTable) extend(key string) bool   { _, _, ok := t.Lookup(key, lifetime); return ok }
func (t limpetTable) insert(key, value string) { t.Insert(key, value, lifetime) }
func (limpetTable) settle()                    {}
func (limpetTable) close()                     {}

type expirableLRU struct{ *expirable.LRU[string, string] }

func newExpirable(entries int) table {
	return expirableLRU{expirable.NewLRU[string, string](entries, nil, lifetime)}
}

func (t expirableLRU) lookup(key string) bool { _, ok := t.Get(key); return ok }
func (t expirableLRU) extend(key string) bool {
	v, ok := t.Get(key)
	if ok {
		t.Add(key, v) // there is no other way
	}
	return ok
}
func (t expirableLRU) insert(key, value string) { t.Add(key, value) }
func (expirableLRU) settle()                    {}
func (expirableLRU) close()                     {}

type ttlCache struct {
	*ttlcache.Cache[string, string]
}

func newTTLCache(entries int) table {
	return ttlCache{ttlcache.New(ttlcache.WithTTL[string, string](lifetime), ttlcache.WithCapacity[string, string](uint64(entries)))}
}

func (t ttlCache) lookup(key string) bool {
	return t.Get(key, ttlcache.WithDisableTouchOnHit[string, string]()) != nil
}
func (t ttlCache) extend(key string) bool   { return t.Get(key) != nil }
func (t ttlCache) insert(key, value string) { t.Set(key, value, ttlcache.DefaultTTL) }
func (ttlCache) settle()                    {}
func (ttlCache) close()                     {}

// otterCache extends at each access, or never: an instance can do only one.
type otterCache struct{ plain, sliding *otter.Cache[string, string] }

func newOtter(entries int) table {
	make := func(e otter.ExpiryCalculator[string, string]) *otter.Cache[string, string] {
		return otter.Must(&otter.Options[string, string]{MaximumSize: entries, ExpiryCalculator: e})
	}
	return &otterCache{plain: make(otter.ExpiryWriting[string, string](lifetime)), sliding: make(otter.ExpiryAccessing[string, string](lifetime))}
}

func (t *otterCache) lookup(key string) bool   { _, ok := t.plain.GetIfPresent(key); return ok }
func (t *otterCache) extend(key string) bool   { _, ok := t.sliding.GetIfPresent(key); return ok }
func (t *otterCache) insert(key, value string) { t.plain.Set(key, value) }
func (t *otterCache) settle()                  { t.plain.CleanUp(); t.sliding.CleanUp() }
func (t *otterCache) close()                   { t.plain.StopAllGoroutines(); t.sliding.StopAllGoroutines() }

type ristrettoCache struct {
	*ristretto.Cache[string, string]
}

func newRistretto(entries int) table {
	c, err := ristretto.NewCache(&ristretto.Config[string, string]{
		NumCounters: int64(entries) * 10, MaxCost: int64(entries), BufferItems: 64, IgnoreInternalCost: true,
	})
	if err != nil {
		panic(err)
	}
	return ristrettoCache{c}
}

func (t ristrettoCache) lookup(key string) bool { _, ok := t.Get(key); return ok }
func (t ristrettoCache) extend(key string) bool {
	v, ok := t.Get(key)
	if ok {
		t.SetWithTTL(key, v, 1, lifetime)
	}
	return ok
}
func (t ristrettoCache) insert(key, value string) { t.SetWithTTL(key, value, 1, lifetime) }
func (t ristrettoCache) settle()                  { t.Wait() }
func (t ristrettoCache) close()                   { t.Close() }

type theineCache struct {
	*theine.Cache[string, string]
}

func newTheine(entries int) table {
	c, err := theine.NewBuilder[string, string](int64(entries)).Build()
	if err != nil {
		panic(err)
	}
	return theineCache{c}
}

func (t theineCache) lookup(key string) bool { _, ok := t.Get(key); return ok }
func (t theineCache) extend(key string) bool {
	v, ok := t.Get(key)
	if ok {
		t.SetWithTTL(key, v, 1, lifetime)
	}
	return ok
}
func (t theineCache) insert(key, value string) { t.SetWithTTL(key, value, 1, lifetime) }
func (t theineCache) settle()                  { t.Wait() }
func (t theineCache) close()                   { t.Close() }

// keyOf is a key as the listing makes them, an address and a port.
func keyOf(i int) string {
	return fmt.Sprintf("10.%d.%d.%d%05d", i>>16&0xff, i>>8&0xff, i&0xff, 20000+i>>24)
}

func keysOf(n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = keyOf(i)
	}
	return keys
}

// zipf are indices below n of which few are frequent.
func zipf(n int) []int {
	z := rand.NewZipf(rand.New(rand.NewPCG(1, 2)), 1.01, 1, uint64(n-1))
	indices := make([]int, 1<<20)
	for i := range indices {
		indices[i] = int(z.Uint64())
	}
	return indices
}

// filled makes a table and fills it. Tables that admit keys by their frequency
// may keep fewer.
func filled(make func(int) table, keys []string, room int) table {
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // a table that grows is walked again and again
	t := make(room)
	for _, k := range keys {
		t.insert(k, "127.0.0.1:8080")
		if o, ok := t.(*otterCache); ok {
			o.sliding.Set(k, "127.0.0.1:8080")
		}
	}
	t.settle()
	return t
}

// once makes a value when it is first asked for. release forgets it, after
// done if it was made.
func once[T any](make func() T, done func(T)) (get func() T, release func()) {
	var value *T
	get = func() T {
		if value == nil {
			v := make()
			value = &v
		}
		return *value
	}
	release = func() {
		if value != nil {
			done(*value)
			value = nil
		}
	}
	return get, release
}

var sizes = []struct {
	name    string
	entries int
}{{"64k", 1 << 16}, {"1M", 1 << 20}}

// BenchmarkTable measures tables of strings. Run it with -cpu 1,2 to see
// contention.
//
// A table is filled once for all operations that leave its keys as they are,
// and once for those that do not; one is in memory at a time, made only if one
// of its operations is to run.
func BenchmarkTable(b *testing.B) {
	for _, size := range sizes {
		keys := sync.OnceValue(func() []string { return keysOf(size.entries) })
		order := sync.OnceValue(func() []int { return zipf(size.entries) })
		for _, peer := range tables {
			if size.entries > peer.most {
				continue
			}
			get, release := once(func() table {
				return filled(peer.make, keys(), size.entries+size.entries/8) // limpet, like others, divides the room among shards
			}, table.close)
			for _, op := range []struct {
				name string
				do   func(t table, key string, n int)
			}{
				{"lookup", func(t table, key string, _ int) { t.lookup(key) }},
				{"extend", func(t table, key string, _ int) { t.extend(key) }},
				{"mixed", func(t table, key string, n int) { // nine look-ups, one insert of a key that may be there
					if n%10 == 0 {
						t.insert(key, "127.0.0.1:8080")
					} else {
						t.lookup(key)
					}
				}},
			} {
				b.Run(fmt.Sprintf("op=%s/entries=%s/impl=%s", op.name, size.name, peer.name), func(b *testing.B) {
					t, keys, order := get(), keys(), order()
					b.ReportAllocs()
					var started atomic.Int64
					b.ResetTimer()
					b.RunParallel(func(pb *testing.PB) {
						i := int(started.Add(1)) * 7919
						for n := 0; pb.Next(); n++ {
							op.do(t, keys[order[(i+n)%len(order)]], n)
						}
					})
					b.StopTimer()
					t.settle()
				})
			}
			release()

			// New keys into a full table: each takes the place of another.
			get, release = once(func() table { return filled(peer.make, keys(), size.entries) }, table.close)
			var started atomic.Int64 // through all runs, so that keys are new in each
			b.Run(fmt.Sprintf("op=insert/entries=%s/impl=%s", size.name, peer.name), func(b *testing.B) {
				t := get()
				b.ReportAllocs()
				b.ResetTimer()
				b.RunParallel(func(pb *testing.PB) {
					key := append(strconv.AppendInt([]byte("new"), started.Add(1), 10), ':')
					for n := 0; pb.Next(); n++ {
						t.insert(string(strconv.AppendInt(key, int64(n), 10)), "127.0.0.1:8080")
					}
				})
				b.StopTimer()
				t.settle()
			})
			release()
		}
	}
}

// BenchmarkTableFlood counts which part of the entries in use is lost to a
// flood of keys that are used once. Both together are more than the table has
// room for; either alone is less.
func BenchmarkTableFlood(b *testing.B) {
	const (
		room    = 1 << 16
		clients = room / 4
		flood   = room * 9 / 10
	)
	keys := keysOf(clients + flood)
	for _, peer := range tables {
		b.Run("impl="+peer.name, func(b *testing.B) {
			var lost, all int
			for b.Loop() {
				t := peer.make(room)
				for _, k := range keys[:clients] {
					t.insert(k, "127.0.0.1:8080")
				}
				t.settle()
				for _, k := range keys[:clients] {
					t.lookup(k)
				}
				for _, k := range keys[clients:] {
					t.insert(k, "127.0.0.1:8080")
				}
				t.settle()
				for _, k := range keys[:clients] {
					if !t.lookup(k) {
						lost++
					}
				}
				all += clients
				t.close()
			}
			b.ReportMetric(float64(lost)/float64(all)*100, "%lost")
			b.ReportMetric(0, "ns/op") // of no interest
		})
	}
}

// BenchmarkTableMemory measures what a million entries weigh, keys and values
// included, and how long the collector takes to walk them.
func BenchmarkTableMemory(b *testing.B) {
	const entries = 1 << 20
	for _, peer := range tables {
		b.Run("impl="+peer.name, func(b *testing.B) {
			for range b.N {
				before := heap()
				t := peer.make(entries + entries/8)
				for i := range entries {
					t.insert(keyOf(i), "127.0.0.1:8"+strconv.Itoa(100+i%900))
				}
				t.settle()
				live := 0
				for i := range entries {
					if t.lookup(keyOf(i)) {
						live++
					}
				}
				b.ReportMetric(float64(heap()-before)/float64(live), "B/entry")
				b.ReportMetric(float64(live)/entries*100, "%kept")
				began := time.Now()
				const collections = 3
				for range collections {
					runtime.GC()
				}
				b.ReportMetric(float64(time.Since(began).Microseconds())/1000/collections, "GC-ms")
				runtime.KeepAlive(t)
				t.close()
			}
			b.ReportMetric(0, "ns/op") // of no interest
		})
	}
}

func heap() int64 {
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
