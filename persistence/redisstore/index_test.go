package redisstore

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet/internal/redistest"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/persistence"
)

// listed returns what Range visits, and fails the test if it visits a key
// twice.
func listed(t *testing.T, s *Store, table string) map[string]string {
	t.Helper()
	got := make(map[string]string)
	if err := s.Range(t.Context(), table, func(key string, e persistence.Entry[string]) bool {
		if value, ok := got[key]; ok {
			t.Errorf("%q is listed twice, with %q and %q", key, value, e.Value)
		}
		got[key] = e.Value
		return true
	}); err != nil {
		t.Errorf("Range: %v", err)
	}
	return got
}

// Clients lost their server although their entry was the newest of all: the
// server had dropped an older one of theirs to free memory, or another program
// had deleted it, and evicting its rest from the index removed the new one too.
func TestDroppedEntries(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	ctx := t.Context()
	const most = 20
	for _, tt := range []struct {
		name    string
		options persistence.Options
		drop    string
	}{
		{"DEL, evicting", persistence.Options{MaxEntries: most}, "DEL"},
		{"UNLINK, evicting", persistence.Options{MaxEntries: most}, "UNLINK"},
		{"DEL, refusing", persistence.Options{MaxEntries: most, WhenFull: persistence.RefuseNew}, "DEL"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			prefix := strings.ReplaceAll(strings.ReplaceAll(tt.name, ",", ""), " ", "-")
			s := open(t, server, Config{Prefix: prefix, Options: tt.options})
			at := func(key string) string { return name(prefix, "", entryKind, key) }

			s.Put(ctx, "", "client", "old", time.Minute) // would expire first
			for i := range most / 2 {
				s.Put(ctx, "", "stays"+strconv.Itoa(i), "v", time.Hour)
			}
			server.Command(tt.drop, at("client"))
			s.Put(ctx, "", "client", "new", 2*time.Hour)
			want := map[string]string{"client": "new"}
			for i := range most / 2 {
				want["stays"+strconv.Itoa(i)] = "v"
			}
			if diff := cmp.Diff(want, listed(t, s, "")); diff != "" {
				t.Errorf("Range (-want +got):\n%s", diff)
			}

			// What is stale takes the place of nothing that is live.
			for i := range most/2 - 1 {
				if ok, err := s.Put(ctx, "", "more"+strconv.Itoa(i), "v", time.Hour); !ok || err != nil {
					t.Errorf("Put: %t, %v", ok, err)
				}
				want["more"+strconv.Itoa(i)] = "v"
			}
			if value, _, ok, err := s.Lookup(ctx, "", "client", 0); value != "new" || !ok || err != nil {
				t.Errorf("Lookup: %q, %t, %v", value, ok, err)
			}
			if diff := cmp.Diff(want, listed(t, s, "")); diff != "" {
				t.Errorf("Range (-want +got):\n%s", diff)
			}
			counts, err := s.CountByValue(ctx, "")
			if diff := cmp.Diff(map[string]int{"new": 1, "v": most - 1}, counts); diff != "" || err != nil {
				t.Errorf("CountByValue: %v (-want +got):\n%s", err, diff)
			}

			// A table of which all is stale is empty.
			for key := range want {
				server.Command(tt.drop, at(key))
			}
			for i := range most {
				testwait.Until(t, "room", func() bool { // each attempt looks in some places
					ok, err := s.Insert(ctx, "", "again"+strconv.Itoa(i), "w", time.Hour)
					return ok && err == nil
				})
			}
			counts, err = s.CountByValue(ctx, "")
			if counts["w"] < most-1 || err != nil { // the last of those that are stale may stay, and cost one its place
				t.Errorf("CountByValue: %v, %v", counts, err)
			}
			if diff := cmp.Diff(map[string]int{"w": len(listed(t, s, ""))}, counts); diff != "" {
				t.Errorf("Range and CountByValue (-want +got):\n%s", diff)
			}
		})
	}
}

// A count must be right or an error, even if the server has evicted parts of
// the index: a drain ends when it counts no clients.
func TestDroppedIndex(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	server := redistest.Start(t)
	for _, tt := range []struct {
		name string
		drop []byte
	}{
		{"index", []byte{indexKind}},
		{"counts", []byte{countsKind}},
		{"both", []byte{indexKind, countsKind}},
	} {
		for _, then := range []string{"nothing", "Put", "new key", "Touch", "Claim", "Increment", "Remove", "CompareAndSwap"} {
			if len(tt.drop) == 2 && (then == "nothing" || then == "new key") {
				continue // unknown
			}
			t.Run(tt.name+" "+then, func(t *testing.T) {
				prefix := tt.name + strings.ReplaceAll(then, " ", "-")
				s := open(t, server, Config{Prefix: prefix})
				for i := range 10 {
					s.Put(ctx, "", strconv.Itoa(i), "7", time.Hour)
				}
				for _, kind := range tt.drop {
					server.Command("DEL", name(prefix, "", kind, ""))
				}
				switch then {
				case "Put":
					s.Put(ctx, "", "3", "8", time.Hour)
				case "new key":
					s.Put(ctx, "", "new", "8", time.Hour)
				case "Touch":
					s.Touch(ctx, "", "3", time.Minute)
				case "Claim":
					s.Claim(ctx, "", "3", "8", "7", time.Hour)
				case "Increment":
					s.Increment(ctx, "", "3", 1, time.Hour)
				case "Remove":
					s.Remove(ctx, "", "3")
				case "CompareAndSwap":
					s.CompareAndSwap(ctx, "", "3", "7", "8")
				}
				if counts, err := s.CountByValue(ctx, ""); !errors.Is(err, errIncomplete) || counts != nil {
					t.Errorf("CountByValue: %v, %v", counts, err)
				}
				if err := s.Range(ctx, "", func(string, persistence.Entry[string]) bool { return true }); !errors.Is(err, errIncomplete) {
					t.Errorf("Range: %v", err)
				}
				if value, _, ok, err := s.Lookup(ctx, "", "5", time.Second); value != "7" || !ok || err != nil {
					t.Errorf("Lookup: %q, %t, %v", value, ok, err)
				}
				server.Command("FLUSHALL")
				s.Put(ctx, "", "k", "v", time.Hour)
				counts, err := s.CountByValue(ctx, "")
				if diff := cmp.Diff(map[string]int{"v": 1}, counts); diff != "" || err != nil {
					t.Errorf("after FLUSHALL: %v (-want +got):\n%s", err, diff)
				}
			})
		}
	}
}

// A full index of another program's making does no harm.
func TestForeignIndex(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	server := redistest.Start(t)
	s := open(t, server, Config{Options: persistence.Options{MaxEntries: 5}})
	s.Put(ctx, "", "k", "v", time.Hour)
	for _, member := range []string{"", "x", "1", "99:v", "-1:k", "1:", "0:"} {
		server.Command("ZADD", name(DefaultPrefix, "", indexKind, ""), "9000000000000000", member)
	}
	if diff := cmp.Diff(map[string]string{"k": "v"}, listed(t, s, "")); diff != "" {
		t.Errorf("Range (-want +got):\n%s", diff)
	}
	for i := range 5 {
		if ok, err := s.Put(ctx, "", strconv.Itoa(i), "w", 2*time.Hour); !ok || err != nil {
			t.Errorf("Put: %t, %v", ok, err)
		}
	}
	if counts, err := s.CountByValue(ctx, ""); err != nil { // which finds what is not an entry
		t.Errorf("CountByValue: %v, %v", counts, err)
	}
	for i := range 5 {
		if ok, err := s.Put(ctx, "", "again"+strconv.Itoa(i), "x", 2*time.Hour); !ok || err != nil {
			t.Errorf("Put: %t, %v", ok, err)
		}
	}
	if n := len(listed(t, s, "")); n != 5 {
		t.Errorf("%d entries, want 5", n)
	}
	if st := s.Stats(); !st.Up || st.Opened > 0 {
		t.Errorf("%+v", st)
	}
}

// A table that has more entries than it may have gives up the others as new
// ones come: each of these removed one, so that it had too many for ever.
func TestFewerEntries(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	server := redistest.Start(t)
	before := open(t, server, Config{Options: persistence.Options{MaxEntries: 40}})
	for i := range 40 {
		before.Put(ctx, "", strconv.Itoa(i), "v", time.Hour)
	}
	for when, want := range map[persistence.WhenFull]bool{persistence.EvictUnused: true, persistence.RefuseNew: false} {
		s := open(t, server, Config{Options: persistence.Options{MaxEntries: 5, WhenFull: when}})
		for i := range 3 {
			if ok, err := s.Put(ctx, "", fmt.Sprint(when, i), "w", 2*time.Hour); ok != want || err != nil {
				t.Errorf("%v: Put: %t, %v", when, ok, err)
			}
		}
		if n := len(listed(t, s, "")); want && n != 5 {
			t.Errorf("%d entries, want 5", n)
		}
	}
}

// TestServerDrops stores, moves and removes entries while the server drops some
// at random: by commands, and by each of its policies when memory is short. A
// model knows which values each key may have. Afterwards all calls must agree.
func TestServerDrops(t *testing.T) {
	t.Parallel()
	const workers, keys = 4, 400
	steps := 1500
	switch {
	case *long:
		steps = 20_000
	case testing.Short():
		steps = 100
	}
	for _, policy := range some([]string{"DEL", "UNLINK", "FLUSHALL", "volatile-ttl", "volatile-lru", "volatile-lfu", "volatile-random", "allkeys-lru", "allkeys-lfu", "allkeys-random"}) {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			server := redistest.Start(t)
			s := open(t, server, Config{Options: persistence.Options{MaxEntries: keys * 3 / 4}})
			evicts := strings.Contains(policy, "-")
			if evicts {
				server.Command("CONFIG", "SET", "maxmemory-policy", policy)
			}
			value := func(n int) string { return "10.0.0." + strconv.Itoa(n) + ":80" }
			model := make([]string, keys) // what each key has unless it was dropped
			var wg sync.WaitGroup
			for worker := range workers {
				wg.Go(func() {
					rng := rand.New(rand.NewPCG(uint64(worker), 20))
					for range steps {
						i := rng.IntN(keys/workers)*workers + worker // its own
						key, v := strconv.Itoa(i), value(rng.IntN(8))
						lifetime := time.Hour + time.Duration(rng.IntN(1000))*time.Second
						var err error
						switch rng.IntN(6) {
						case 0, 1:
							var ok bool
							if ok, err = s.Put(ctx, "", key, v, lifetime); ok {
								model[i] = v
							}
						case 2:
							var actual string
							var left time.Duration
							if actual, left, err = s.Claim(ctx, "", key, v, "", lifetime); left > 0 {
								if actual != model[i] && actual != v {
									t.Errorf("Claim: %q, the model has %q", actual, model[i])
								}
								model[i] = actual
							}
						case 3:
							var got string
							var ok bool
							if got, _, ok, err = s.Lookup(ctx, "", key, time.Minute); ok && got != model[i] {
								t.Errorf("Lookup: %q, the model has %q", got, model[i])
							}
						case 4:
							if err = s.Remove(ctx, "", key); err == nil {
								model[i] = ""
							}
						case 5:
							switch policy {
							case "FLUSHALL":
								if rng.IntN(50) == 0 {
									server.Command(policy)
								}
							case "DEL", "UNLINK":
								server.Command(policy, name(DefaultPrefix, "", entryKind, strconv.Itoa(rng.IntN(keys))))
							default:
								if worker == 0 && rng.IntN(20) == 0 { // less memory than is used
									used := infoNumber(t, server, "used_memory")
									server.Command("CONFIG", "SET", "maxmemory", strconv.Itoa(used-2000))
									server.Command("CONFIG", "SET", "maxmemory", "0")
								}
							}
						}
						if err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			if evicts && infoNumber(t, server, "evicted_keys") == 0 {
				t.Error("the server has dropped nothing")
			}

			// What the server has is the truth.
			want, wantCounts := make(map[string]string), make(map[string]int)
			for i := range keys {
				got, _, ok, err := s.Lookup(ctx, "", strconv.Itoa(i), 0)
				if err != nil || ok && got != model[i] {
					t.Errorf("key %d has %q, %v, the model %q", i, got, err, model[i])
				}
				if ok {
					want[strconv.Itoa(i)] = got
					wantCounts[got]++
				}
			}
			if evicts {
				// A policy may have evicted the whole index, which shows when
				// entries are used.
				for key := range want {
					if ok, err := s.Touch(ctx, "", key, time.Hour); !ok || err != nil {
						t.Errorf("Touch: %t, %v", ok, err)
					}
				}
			}
			counts, err := s.CountByValue(ctx, "")
			if evicts && errors.Is(err, errIncomplete) {
				t.Logf("%d entries, counts: %v", len(want), err)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, listed(t, s, "")); diff != "" {
				t.Errorf("Range (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(wantCounts, counts); diff != "" {
				t.Errorf("CountByValue (-want +got):\n%s", diff)
			}
			t.Logf("%d entries", len(want))
		})
	}
}

// infoNumber returns a number from the INFO of the server.
func infoNumber(t *testing.T, server *redistest.Server, field string) int {
	t.Helper()
	for _, section := range []string{"memory", "stats"} {
		for line := range strings.Lines(server.Command("INFO", section)) {
			if text, ok := strings.CutPrefix(line, field+":"); ok {
				n, err := strconv.Atoi(strings.TrimSpace(text))
				if err != nil {
					t.Fatal(err)
				}
				return n
			}
		}
	}
	t.Fatalf("no %s", field)
	return 0
}

// A table of more entries than one call of CountByValue examines is examined by
// several.
func TestCountsOfLargeTable(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	server := redistest.Start(t)
	s := open(t, server, Config{NearEntries: -1})
	n := 2*sweepEntries + sweepEntries/2
	if testing.Short() {
		n /= 2
	}
	var wg sync.WaitGroup
	const writers = 64 // whose calls share writes to the connection
	for g := range writers {
		wg.Go(func() {
			for i := g; i < n; i += writers {
				s.Put(ctx, "", strconv.Itoa(i), "v"+strconv.Itoa(i%2), time.Hour)
			}
		})
	}
	wg.Wait()
	for batch := range 25 {
		args := []string{"UNLINK"}
		for i := range n / 50 {
			args = append(args, name(DefaultPrefix, "", entryKind, strconv.Itoa(batch*n/25+2*i)))
		}
		server.Command(args...)
	}
	before := -1
	for range 4 {
		counts, err := s.CountByValue(ctx, "")
		if err != nil {
			t.Fatal(err)
		}
		if before >= 0 && counts["v0"] > before {
			t.Errorf("%v after %d", counts, before)
		}
		before = counts["v0"]
		if counts["v1"] != n/2 {
			t.Errorf("%v", counts)
		}
	}
	if before != 0 {
		t.Errorf("still counts %d of %d that were dropped", before, n/2)
	}
}

// What a script stores for a server that shares its address is shown as that
// server's address and port.
func TestShownValues(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	server := redistest.Start(t)
	away, err := New(Config{Addresses: []string{nowhere(t)}})
	if err != nil {
		t.Fatal(err)
	}
	defer away.Close()
	for name, s := range map[string]*Store{"server": open(t, server, Config{}), "away": away} {
		t.Run(name, func(t *testing.T) {
			s.Put(ctx, "", "exact", "10.0.0.1:80\x00", time.Hour)
			s.Put(ctx, "", "plain", "10.0.0.1:80", time.Hour)
			if diff := cmp.Diff(map[string]string{"exact": "10.0.0.1:80", "plain": "10.0.0.1:80"}, listed(t, s, "")); diff != "" {
				t.Errorf("Range (-want +got):\n%s", diff)
			}
			if value, _, _, err := s.Lookup(ctx, "", "exact", 0); value != "10.0.0.1:80\x00" || err != nil {
				t.Errorf("Lookup: %q, %v", value, err)
			}
			if counts, err := s.CountByValue(ctx, ""); s != away && fmt.Sprint(counts, err) != "map[10.0.0.1:80:2] <nil>" {
				t.Errorf("CountByValue: %v, %v", counts, err)
			}
		})
	}
}
