package persistence

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/limpetlb/limpet/internal/testrace"
)

// byPrefix owns keys by what is in front of the first "/".
func byPrefix(key string) string {
	owner, _, found := strings.Cut(key, "/")
	if !found {
		return ""
	}
	return owner
}

func TestAddrKeyOwner(t *testing.T) {
	for _, tt := range []struct{ key, want string }{
		{"192.0.2.1", "192.0.2"},
		{"192.0.2.1:8080", "192.0.2"},
		{"10.0.0.112345", "10.0.0"}, // address and port without a colon
		{"10.0.0.", "10.0.0"},
		{"::ffff:192.0.2.1", "192.0.2"},
		{"2001:db8:5:6:7:8:9:a", "2001:db8:5"},
		{"[2001:db8:5::1]:443", "2001:db8:5"},
		{"2001:db8::1", "2001:db8"},
		{"2001:db8:0:1::1", "2001:db8"},
		{"2001:db8::11234", "2001:db8"}, // address and port without a colon
		{"2001:0:5::1", "2001:0:5"},
		{"2001::1", "2001"},
		{"fe80::1%eth0", "fe80"},
		{"::1", "::"},
		{"", ""}, {"192.0.2", ""}, {"cart-42", ""}, {"2001:db8", ""}, {"2001:DB8::1", ""}, {"user:1:2:3", ""}, {".1.2.3", ""}, {":1:2", ""},
		{"1..2.3", ""}, {"12345.1.1.1", ""}, {"abcdef01:1:1:1", ""}, {"[", ""}, {"::ffff:", "::"},
	} {
		if got := AddrKeyOwner(tt.key); got != tt.want {
			t.Errorf("%q is owned by %q, want %q", tt.key, got, tt.want)
		}
	}
	if got := testing.AllocsPerRun(100, func() { AddrKeyOwner("[2001:db8::1]:443") }); got != 0 {
		t.Errorf("%v allocations", got)
	}
}

// TestAddrOwners compares the owners of addresses with those of their texts.
func TestAddrOwners(t *testing.T) {
	if got := AddrOwner(netip.Addr{}); got.IsValid() {
		t.Errorf("an invalid address is owned by %v", got)
	}
	rapid.Check(t, func(t *rapid.T) {
		addr := func(label string) netip.Addr {
			if rapid.Bool().Draw(t, label+" is IPv4") {
				b := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 10, 255}), 4, 4).Draw(t, label)
				a := netip.AddrFrom4([4]byte(b))
				if rapid.Bool().Draw(t, label+" mapped") {
					return netip.AddrFrom16(a.As16())
				}
				return a
			}
			b := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 0, 0, 1, 0x20}), 16, 16).Draw(t, label)
			b[0] = 0x20 // in ::/32 texts have less information than addresses
			return netip.AddrFrom16([16]byte(b))
		}
		a, b := addr("a"), addr("b")
		same := AddrOwner(a) == AddrOwner(b)
		if got := AddrKeyOwner(a.String()) == AddrKeyOwner(netip.AddrPortFrom(b, 80).String()); got != same {
			t.Fatalf("%v and %v: same owner %t, by text %t: %q and %q", a, b, same, got, AddrKeyOwner(a.String()), AddrKeyOwner(b.String()))
		}
	})
}

// TestOwnerFlood lets one network flood a store in which 10,000 sessions of
// others live, unused.
func TestOwnerFlood(t *testing.T) {
	const sessions = 10_000
	for _, tt := range []struct {
		name              string
		max, quota, flood int
	}{
		{"room for all", 32768, 1000, 300_000},
		{"a full table", sessions, 100, 100_000},
		{"a full table of one shard", 8000, 100, 100_000},
		{"a quota larger than the table", 2 * sessions, 1 << 30, 100_000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if testrace.Enabled || testing.Short() {
				tt.flood /= 10
			}
			store, ctx := NewStore(Options{MaxEntries: tt.max, MaxPerOwner: tt.quota, Owner: AddrKeyOwner}), t.Context()
			for i := range min(sessions, tt.max) {
				store.Insert(ctx, "", fmt.Sprintf("10.%d.%d.1", i>>8, i&255), "10.0.0.1:80", time.Hour)
			}
			before := store.Stats()
			for i := range tt.flood {
				store.Insert(ctx, "", "192.0.2."+strconv.Itoa(i&255)+":"+strconv.Itoa(i>>8), "10.0.0.1:80", time.Hour)
			}
			survivors := 0
			for key := range store.All("") {
				if strings.HasPrefix(key, "10.") {
					survivors++
				}
			}
			s := store.Stats()
			if survivors < before.Entries*999/1000 {
				t.Errorf("%d of %d sessions survive", survivors, before.Entries)
			}
			if flooder := s.Entries - survivors; flooder > tt.quota {
				t.Errorf("the flood has %d entries, more than %d", flooder, tt.quota)
			}
			if s.OwnerEvictions == 0 || s.OwnerEvictions > s.Evictions || store.Owners("") > s.Entries {
				t.Errorf("Stats = %+v", s)
			}
			checkInvariants(t, store.main)
		})
	}
}

func TestOwnerQuotaRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := NewTable[string, int](Options{Owner: byPrefix, MaxPerOwner: 400, WhenFull: RefuseNew})
		for i := range 400 {
			if !table.Insert("a/"+strconv.Itoa(i), i, time.Duration(1+i%2)*time.Minute) {
				t.Fatalf("entry %d refused", i)
			}
		}
		if table.Insert("a/x", 0, time.Hour) || table.Put("a/x", 0, time.Hour) {
			t.Error("one too many")
		}
		if _, _, found := table.LookupOrInsert("a/x", 0, time.Hour); found {
			t.Error("found what was refused")
		}
		if !table.Put("a/1", -1, 2*time.Minute) || !table.Insert("b/1", 0, time.Hour) || !table.Insert("nobody's", 0, time.Hour) {
			t.Error("refused what takes nothing from the share")
		}
		if s := table.Stats(); s.RefusedOwner != 3 || s.RefusedFull != 0 || table.Owners() != 2 {
			t.Errorf("Stats = %+v", s)
		}
		advance(time.Minute)
		for i := range 200 {
			if !table.Insert("a/new"+strconv.Itoa(i), i, time.Hour) {
				t.Fatalf("entry %d refused although others of its owner have expired", i)
			}
		}
		checkInvariants(t, table)
		if table.Insert("a/x", 0, time.Hour) {
			t.Error("one too many, after others have expired")
		}
	})
}

func TestOwnerEvictsItsOldestUnused(t *testing.T) {
	table := NewTable[string, int](Options{Owner: byPrefix, MaxPerOwner: 4, MaxEntries: 64})
	var deleted []string
	table.OnDelete(func(key string, _ int, cause DeletionCause) { deleted = append(deleted, key+" "+cause.String()) })
	for _, key := range []string{"b/1", "a/1", "a/2", "a/3", "a/4", "nobody's"} {
		table.Insert(key, 0, time.Hour)
	}
	table.Lookup("a/1", 0)
	table.Lookup("a/3", 0)
	for _, key := range []string{"a/5", "a/6", "a/7", "a/8"} {
		table.Insert(key, 0, time.Hour)
	}
	// Entries that have been used since become the newest of their owner.
	if got, want := fmt.Sprint(deleted), "[a/2 evicted a/4 evicted a/1 evicted a/5 evicted]"; got != want {
		t.Errorf("deleted %v, want %v", got, want)
	}
	checkInvariants(t, table)

	single := NewTable[string, int](Options{Owner: byPrefix, MaxPerOwner: 1})
	single.Insert("a/1", 0, time.Hour)
	single.Lookup("a/1", 0)
	if !single.Insert("a/2", 0, time.Hour) || single.Len() != 1 {
		t.Errorf("%d entries of an owner that may have one", single.Len())
	}
	checkInvariants(t, single)
}

// TestOwnersAgainstCount has random operations on keys of few owners; the lists
// are checked after each, and who has fewer entries never loses one to who has
// more.
func TestOwnersAgainstCount(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) {
			o := Options{
				MaxEntries:  rapid.IntRange(1, 12).Draw(t, "MaxEntries"),
				MaxPerOwner: rapid.IntRange(0, 6).Draw(t, "MaxPerOwner"),
				Owner:       byPrefix,
				WhenFull:    rapid.SampledFrom([]WhenFull{EvictUnused, RefuseNew}).Draw(t, "WhenFull"),
			}
			table := NewTable[string, int](o)
			key := rapid.Custom(func(t *rapid.T) string {
				return rapid.SampledFrom([]string{"a/", "b/", "c/", "d/", ""}).Draw(t, "owner") + strconv.Itoa(rapid.IntRange(0, 7).Draw(t, "key"))
			})
			count := func() map[string]int {
				n := map[string]int{}
				for k := range table.All() {
					n[byPrefix(k)]++
				}
				return n
			}
			var evictedOwners []string
			table.OnDelete(func(key string, _ int, cause DeletionCause) {
				if cause == Evicted {
					evictedOwners = append(evictedOwners, byPrefix(key))
				}
			})
			t.Repeat(map[string]func(*rapid.T){
				"": func(t *rapid.T) { checkInvariants(t, table) },
				"store": func(t *rapid.T) {
					k, before := key.Draw(t, "key"), count()
					evictedOwners = nil
					table.Put(k, 0, time.Duration(rapid.IntRange(1, 10).Draw(t, "lifetime"))*time.Second)
					by := byPrefix(k)
					for _, owner := range evictedOwners {
						if owner != by && before[owner] < before[by] {
							t.Fatalf("%q pushed out an entry of %q: %v", k, owner, before)
						}
					}
				},
				"claim": func(t *rapid.T) {
					Claim(table, key.Draw(t, "key"), rapid.IntRange(1, 2).Draw(t, "value"), rapid.IntRange(0, 2).Draw(t, "instead"), time.Minute)
				},
				"lookup": func(t *rapid.T) { table.Lookup(key.Draw(t, "key"), time.Second) },
				"remove": func(t *rapid.T) { table.Remove(key.Draw(t, "key")) },
				"wait":   func(t *rapid.T) { advance(time.Second) },
				"increment": func(t *rapid.T) {
					CompareAndSwap(table, key.Draw(t, "key"), 0, 0)
				},
			})
		})
	})
}

// TestOwnersArePlaced looks at where the entries of an owner are: all over the
// table unless the owner is bounded, and then in no more shards than the bound
// needs.
func TestShardsOfOwners(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name             string
		bound, add, want int // entries of one owner
		shards           int // in which they are at most; 0: in all
	}{
		{"no bound", 0, 60_000, 60_000, 0},
		{"a small bound", 10, 256, 10, 1},
		{"a bound that one shard takes", 4000, 5000, 4000, 1},
		{"a larger one", 16_000, 60_000, 16_000, 8},
		{"as much as the table takes", 1 << 40, 60_000, 60_000, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			table := NewTableByOwner[netip.Addr, string](Options{MaxEntries: 131_072, MaxPerOwner: tt.bound}, AddrOwner)
			for i := range tt.add {
				addr := netip.MustParseAddr("2001:db8::").As16()
				addr[6], addr[7], addr[15] = byte(i>>8), byte(i), 1
				table.Insert(netip.AddrFrom16(addr), "v", time.Hour)
			}
			for i := range 256 {
				table.Insert(netip.AddrFrom4([4]byte{10, 0, byte(i), 1}), "v", time.Hour)
			}
			if s := table.Stats(); s.Entries != tt.want+256 || s.OwnerEvictions != uint64(tt.add-tt.want) || table.Owners() != 257 {
				t.Errorf("Stats = %+v", s)
			}
			with := 0
			for i := range table.shards {
				if m := table.shards[i].ownership; len(m.shares) > 0 && slices.MaxFunc(m.shares, func(a, b share) int { return a.entries - b.entries }).entries > 9 {
					with++
				}
			}
			if want := min(tt.shards, len(table.shards)); want == 0 && with != len(table.shards) || want > 0 && with > want {
				t.Errorf("the owner is in %d of %d shards", with, len(table.shards))
			}
			checkInvariants(t, table)
			for key := range table.All() {
				table.Remove(key)
			}
			if s := table.Stats(); s.Entries != 0 || table.Owners() != 0 { // nothing of an owner is left
				t.Errorf("Stats = %+v", s)
			}
			checkInvariants(t, table)
		})
	}
}

// TestNobodyIsAnOwner has a full table in which two hundred networks have one
// to five entries each. The flood may have keys without an owner, or of one
// network beside another that has nine tenths of the table, pushes out none of
// them, and a network that comes new keeps five of five.
func TestNobodyIsAnOwner(t *testing.T) {
	large := 131_072
	if testing.Short() {
		large = 16_384 // has several shards, too
	}
	for _, max := range []int{2000, large} {
		for _, tt := range []struct{ name, hog, flood string }{
			{"keys of nobody", "", "key-%d"},
			{"one network", "", "192.0.2.1:%d"},
			{"one network beside a large one", "198.51.100.7:%d", "192.0.2.1:%d"},
			{"a large network", "198.51.100.7:%d", "198.51.100.7:9%d"},
			{"keys of nobody beside a large network", "198.51.100.7:%d", "key-%d"},
			{"a large network beside keys of nobody", "key-%d", "198.51.100.7:%d"},
		} {
			t.Run(fmt.Sprintf("%s, %d entries", tt.name, max), func(t *testing.T) {
				flood := 100_000
				if testrace.Enabled {
					flood = 20_000
				}
				if testing.Short() {
					flood = 5 * max / 4
				}
				store, ctx := NewStore(Options{MaxEntries: max, Owner: AddrKeyOwner}), t.Context()
				insert := func(key string) { store.Insert(ctx, "", key, "10.0.0.1:80", time.Hour) }
				var small []string
				for network := range 200 {
					for host := range 1 + network%5 {
						small = append(small, fmt.Sprintf("10.1.%d.%d", network, host))
					}
				}
				for _, key := range small {
					insert(key)
				}
				if tt.hog != "" {
					for i := range max * 9 / 10 {
						insert(fmt.Sprintf(tt.hog, i))
					}
				}
				for i := store.main.Len(); i < max; i++ {
					insert(fmt.Sprintf(tt.flood, 1_000_000+i))
				}
				for i := range flood {
					if i%(flood/5) == 0 {
						key := fmt.Sprintf("10.2.0.%d", i/(flood/5))
						insert(key)
						small = append(small, key)
					}
					insert(fmt.Sprintf(tt.flood, i))
				}
				lost := 0
				for _, key := range small {
					if _, _, ok := store.main.Peek(key); !ok {
						lost++
					}
				}
				if lost > 0 {
					t.Errorf("%d of %d entries of small networks are lost", lost, len(small))
				}
				if s := store.Stats(); s.Evictions == 0 || s.Entries < max*95/100 {
					t.Errorf("Stats = %+v", s)
				}
				checkInvariants(t, store.main)
			})
		}
	}
}

// TestFullTableRefusesByShare has a table that refuses new keys, half full of
// one owner's: when others have filled the rest, what has expired is for them.
func TestFullTableRefusesByShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := NewTable[string, int](Options{Owner: byPrefix, MaxEntries: 1000, WhenFull: RefuseNew})
		for i := range 500 {
			table.Insert("hog/"+strconv.Itoa(i), i, time.Hour)
		}
		for i := range 500 {
			table.Insert(strconv.Itoa(i%50)+"/"+strconv.Itoa(i), i, time.Hour)
		}
		if table.Insert("hog/x", 0, time.Hour) || table.Insert("new/x", 0, time.Hour) {
			t.Error("stored in a full table")
		}
		if s := table.Stats(); s.RefusedOwner != 1 || s.RefusedFull != 1 || table.Owners() != 51 {
			t.Errorf("Stats = %+v", s)
		}
		checkInvariants(t, table)
	})
}

func TestSnapshotKeepsQuota(t *testing.T) {
	old, ctx := NewStore(Options{}), t.Context()
	for i := range 100 {
		old.Insert(ctx, "", "192.0.2.1:"+strconv.Itoa(i), "v", time.Hour)
	}
	store := NewStore(Options{Owner: AddrKeyOwner, MaxPerOwner: 10})
	store.Insert(ctx, "", "192.0.2.2", "mine", time.Hour)
	if _, err := store.ReadFrom(strings.NewReader(string(snapshotOf(t, old)))); err != nil {
		t.Fatal(err)
	}
	if _, _, ok := store.main.Peek("192.0.2.2"); !ok || store.Stats().Entries != 10 {
		t.Errorf("kept %t, Stats = %+v", ok, store.Stats())
	}
}
