package persistence

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet/internal/exactaddr"
)

// TestScanAgainstTwin scans a table page by page while it changes between the
// pages. A simple map says what may be on each page, and what must have been on
// one at the end.
func TestScanAgainstTwin(t *testing.T) {
	const rounds = 60
	for _, o := range []Options{{MaxEntries: 1 << 15}, {MaxEntries: 600}, {MaxEntries: 600, WhenFull: RefuseNew}} {
		t.Run(fmt.Sprint(o.MaxEntries, o.WhenFull), func(t *testing.T) {
			for seed := range uint64(rounds) {
				synctest.Test(t, func(t *testing.T) { scanAgainstTwin(t, o, rand.New(rand.NewPCG(seed, 12))) })
			}
		})
	}
}

func scanAgainstTwin(t *testing.T, o Options, rng *rand.Rand) {
	type twin struct {
		value    string
		deadline time.Time
	}
	ctx, store, twins := t.Context(), NewStore(o), map[string]twin{}
	lost := map[string]bool{} // keys that have not lived all the time with one value
	store.OnDelete(func(_, key, value string, cause DeletionCause) {
		lost[key] = true
		if cause != Replaced {
			delete(twins, key)
		}
	})
	value := func() string {
		return "10.0.0." + strconv.Itoa(rng.IntN(3)) + ":80" + []string{"", "\x00"}[rng.IntN(2)]
	}
	put := func() {
		key, v, d := strconv.Itoa(rng.IntN(2000)), value(), time.Duration(1+rng.IntN(100))*time.Minute
		_, had := twins[key]
		if ok, _ := store.Put(ctx, "", key, v, d); ok {
			twins[key] = twin{v, time.Now().Add(d)}
			lost[key] = lost[key] || !had
		}
	}
	for range rng.IntN(700) {
		put()
	}
	change := func() {
		switch key := strconv.Itoa(rng.IntN(2000)); rng.IntN(6) {
		case 0, 1:
			put()
		case 2:
			_ = store.Remove(ctx, "", key)
		case 3:
			if e, ok := twins[key]; ok {
				if ok, _ := store.Touch(ctx, "", key, time.Hour); ok {
					twins[key] = twin{e.value, time.Now().Add(time.Hour)}
				}
			}
		case 4:
			advance(time.Duration(rng.IntN(60)) * time.Second)
		case 5:
			_, _ = store.CountByValue(ctx, "") // frees what has expired
		}
	}

	clear(lost)
	scan := ScanOptions{Limit: rng.IntN(50), Examine: rng.IntN(400)}
	if rng.IntN(2) == 0 {
		scan.Prefix = strconv.Itoa(rng.IntN(20))
	}
	if rng.IntN(2) == 0 {
		scan.Value = "10.0.0.1:80"
	}
	fits := func(key, value string) bool {
		return strings.HasPrefix(key, scan.Prefix) && (scan.Value == "" || exactaddr.Shown(value) == scan.Value)
	}
	changes, seen := rng.IntN(20), map[string]int{}
	for {
		items, next, err := store.Scan(ctx, "", scan)
		if most := scan.Limit; err != nil || most > 0 && len(items) > most || len(items) > 100 {
			t.Fatalf("%+v: %d items, %v", scan, len(items), err)
		}
		for _, item := range items {
			e, ok := twins[item.Key]
			want := Item{item.Key, exactaddr.Shown(e.value), time.Until(e.deadline)}
			if !ok || item != want || want.Remaining <= 0 || !fits(item.Key, e.value) {
				t.Fatalf("%+v: item %+v, want %+v", scan, item, want)
			}
			seen[item.Key]++
		}
		if next == "" {
			break
		}
		scan.Cursor = next
		for range changes {
			change()
		}
	}
	for key, e := range twins {
		if fits(key, e.value) && !lost[key] && time.Now().Before(e.deadline) && seen[key] == 0 {
			t.Errorf("%+v: %q was there all the time and on no page", scan, key)
		}
	}
	for key, n := range seen {
		if n > 1 && changes == 0 {
			t.Errorf("%q was on %d pages of a table that did not change", key, n)
		}
	}
}

// TestScanWhileOthersWrite scans while other goroutines store and remove, so
// that entries move between slots at any moment.
func TestScanWhileOthersWrite(t *testing.T) {
	ctx, store := t.Context(), NewStore(Options{MaxEntries: 1 << 15})
	for i := range 5000 {
		for _, kind := range []string{"stays", "goes"} {
			if ok, _ := store.Insert(ctx, "t", kind+strconv.Itoa(i), kind, time.Hour); !ok {
				t.Fatal("refused")
			}
		}
	}
	var wg sync.WaitGroup
	done := make(chan struct{})
	for g := range 2 {
		wg.Go(func() {
			for i := g; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				key := "goes" + strconv.Itoa(i%7000)
				_ = store.Remove(ctx, "t", key)
				_, _ = store.Put(ctx, "t", "goes"+strconv.Itoa((i*31)%7000), "goes", time.Hour)
			}
		})
	}
	for range 5 {
		var seen []string
		for o := (ScanOptions{Limit: 300}); ; {
			items, next, err := store.Scan(ctx, "t", o)
			if err != nil {
				t.Fatal(err)
			}
			for _, item := range items {
				if !strings.HasPrefix(item.Key, item.Value) || item.Remaining <= 0 {
					t.Errorf("item %+v", item)
				}
				if item.Value == "stays" {
					seen = append(seen, item.Key)
				}
			}
			if next == "" {
				break
			}
			o.Cursor = next
		}
		slices.Sort(seen)
		if got := len(slices.Compact(seen)); got != 5000 {
			t.Errorf("saw %d of 5000 entries that stayed", got)
		}
	}
	close(done)
	wg.Wait()
	checkInvariants(t, store.table("t"))
}

// TestScanExamines looks for what is not there, in a table with less and with
// more than a call may examine.
func TestScanExamines(t *testing.T) {
	ctx, store := t.Context(), NewStore(Options{MaxEntries: 4000}) // one shard
	for i := range 1000 {
		store.Insert(ctx, "", strconv.Itoa(i), "v", time.Hour)
	}
	for _, tt := range []struct {
		examine, calls int
	}{{1, 1000}, {300, 4}, {1000, 1}, {0, 1}} {
		o, calls := ScanOptions{Prefix: "x", Examine: tt.examine}, 0
		for {
			items, next, err := store.Scan(ctx, "", o)
			if len(items) > 0 || err != nil {
				t.Fatal(items, err)
			}
			calls++
			if next == "" {
				break
			}
			o.Cursor = next
		}
		if calls != tt.calls {
			t.Errorf("%d at a time: %d calls, want %d", tt.examine, calls, tt.calls)
		}
	}
	if items, next, err := store.Scan(ctx, "missing", ScanOptions{}); len(items) > 0 || next != "" || err != nil {
		t.Error(items, next, err)
	}
}

func TestScanFaults(t *testing.T) {
	ctx, store := t.Context(), NewStore(Options{MaxEntries: 1 << 15})
	last := strconv.Itoa(len(store.main.shards))
	for _, cursor := range []string{"x", "-1", "0.0", "0.-1", "0.", ".1", "00", "+0", "0.1.1", " 0", last, last + ".1", "0.99999999999999999999", "0." + strconv.Itoa(math.MaxInt)} {
		for _, table := range []string{"", "missing"} {
			_, next, err := store.Scan(ctx, table, ScanOptions{Cursor: cursor})
			if fault := (*FieldError)(nil); !errors.As(err, &fault) || fault.Path != "cursor" || fault.Value != cursor || next != "" {
				t.Errorf("cursor %q: %v, next %q", cursor, err, next)
			}
		}
	}
	_, _, err := store.Scan(ctx, "", ScanOptions{Limit: -1, Examine: 4097})
	const want = "limit: -1: negative\nexamine: 4097: more than 4096"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestPeekOfStore peeks at entries, and compares with a store where nobody did.
func TestPeekOfStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		var stores [2]*Store
		for i := range stores {
			s := NewStore(Options{})
			stores[i] = s
			s.PutIdle(ctx, "", "idle", "v", time.Minute, time.Hour)
			s.Insert(ctx, "", "k", "10.0.0.1:80\x00", time.Minute)
			s.Insert(ctx, "t", "short", "v", time.Second)
			advance(2 * time.Second)
			if i == 0 {
				continue
			}
			for key, want := range map[string]Item{"k": {"", "10.0.0.1:80\x00", 58 * time.Second}, "idle": {"", "v", 58 * time.Second}, "none": {}} {
				value, left, ok, err := s.Peek(ctx, "", key)
				if (Item{"", value, left}) != want || ok != (want.Remaining > 0) || err != nil {
					t.Errorf("%s: %q, %v, %t, %v", key, value, left, ok, err)
				}
			}
			if value, left, ok, err := s.Peek(ctx, "t", "short"); value != "" || left != -time.Second || ok || err != nil {
				t.Error(value, left, ok, err)
			}
			for _, table := range []string{"", "missing"} {
				if _, _, ok, err := s.Peek(ctx, table, strings.Repeat("k", 5000)); ok || err != nil {
					t.Error(ok, err)
				}
			}
			if _, _, err := s.Scan(ctx, "", ScanOptions{}); err != nil {
				t.Error(err)
			}
		}
		if diff := cmp.Diff(stores[0].Stats(), stores[1].Stats()); diff != "" {
			t.Errorf("Stats (-untouched +peeked):\n%s", diff)
		}
		for _, r := range stores[1].main.liveEntriesNow() {
			if r.has(used) {
				t.Errorf("%q is marked as used", r.key)
			}
		}
	})
}

func (t *Table[K, V]) liveEntriesNow() (all []*entry[K, V]) {
	for r := range t.liveEntries(t.now) {
		all = append(all, r)
	}
	return all
}

// TestCompareAndRemove removes entries only while they have the value that was
// read, in either form.
func TestCompareAndRemove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, store := t.Context(), NewStore(Options{})
		for key, value := range map[string]string{"a": "10.0.0.1:80", "b": "10.0.0.1:80\x00", "c": "10.0.0.1:80\x00", "x": "x\x00"} {
			store.Insert(ctx, "", key, value, time.Hour)
		}
		store.Insert(ctx, "", "old", "v", time.Second)
		advance(time.Minute)
		for _, tt := range []struct {
			table, key, old string
			want            bool
		}{
			{"", "a", "10.0.0.2:80", false},
			{"", "a", "", false},
			{"", "a", "10.0.0.1:80\x00", false},
			{"", "a", "10.0.0.1:80", true},
			{"", "a", "10.0.0.1:80", false},
			{"", "b", "10.0.0.1:80", true},
			{"", "c", "10.0.0.1:80\x00", true},
			{"", "x", "x", false},
			{"", "x", "x\x00", true},
			{"", "old", "v", false},
			{"", strings.Repeat("k", 5000), "v", false},
			{"missing", "a", "10.0.0.1:80", false},
		} {
			if got, err := store.CompareAndRemove(ctx, tt.table, tt.key, tt.old); got != tt.want || err != nil {
				t.Errorf("%+v: got %t, %v", tt, got, err)
			}
		}
		if s := store.Stats(); s.Removals != 4 || s.Expirations != 1 || s.Entries != 0 {
			t.Errorf("Stats %+v", s)
		}
		checkInvariants(t, store.main)
	})
}
