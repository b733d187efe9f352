package persistence

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/limpetlb/limpet/internal/testrace"
)

// dump returns the live entries of all tables that have any.
func dump(s *Store) map[string]map[string]Entry[string] {
	all := map[string]map[string]Entry[string]{}
	for _, name := range s.names() {
		for k, e := range s.All(name) {
			if all[name] == nil {
				all[name] = map[string]Entry[string]{}
			}
			all[name][k] = e
		}
	}
	return all
}

func snapshotOf(tb testing.TB, s *Store) []byte {
	tb.Helper()
	var b bytes.Buffer
	n, err := s.WriteTo(&b)
	if err != nil || n != int64(b.Len()) {
		tb.Fatalf("WriteTo = %d, %v; %d bytes written", n, err, b.Len())
	}
	return b.Bytes()
}

// sealed returns a snapshot of the given items with a right header and
// checksum.
func sealed(written time.Time, liveEntries ...[]byte) []byte {
	b := append([]byte(snapshotMagic), snapshotVersion)
	b = binary.LittleEndian.AppendUint64(b, uint64(written.UnixNano()))
	for _, r := range liveEntries {
		b = append(b, r...)
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func tableItem(name string) []byte { return appendString([]byte{kindTable}, name) }

func entryItem(key, value string, left uint64) []byte {
	return binary.AppendUvarint(appendString(appendString([]byte{kindEntry}, key), value), left)
}

func idleItem(key, value string, left, idle, latest uint64) []byte {
	b := entryItem(key, value, left)
	b[0] = kindIdle
	return binary.AppendUvarint(binary.AppendUvarint(b, idle), latest)
}

func endItem(entries uint64) []byte { return binary.AppendUvarint([]byte{kindEnd}, entries) }

func TestSnapshotRoundTrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, ctx := NewStore(Options{}), t.Context()
		odd := []string{"", "\x00", "a\r\nb", "\xff\xfe", "ключ", strings.Repeat("k", defaultMaxKeyBytes)}
		for i, k := range odd {
			for _, table := range []string{"", "carts", "\x00\xff"} {
				store.Insert(ctx, table, k, odd[len(odd)-1-i], time.Duration(i+1)*time.Minute)
			}
		}
		store.PutIdle(ctx, "carts", "idle", "v", 2*time.Minute, 30*time.Minute)
		store.Insert(ctx, "emptied", "k", "v", time.Hour)
		store.Remove(ctx, "emptied", "k")
		advance(90 * time.Second)
		want := dump(store)
		snapshot := snapshotOf(t, store)

		restored := NewStore(Options{})
		for _, r := range []io.Reader{bytes.NewReader(snapshot), iotest.OneByteReader(bytes.NewReader(snapshot)), iotest.DataErrReader(bytes.NewReader(snapshot))} {
			restored = NewStore(Options{})
			if n, err := restored.ReadFrom(r); err != nil || n != int64(len(snapshot)) {
				t.Fatalf("ReadFrom = %d, %v; the snapshot has %d bytes", n, err, len(snapshot))
			}
			if diff := cmp.Diff(want, dump(restored)); diff != "" {
				t.Errorf("entries (-want +got):\n%s", diff)
			}
			checkInvariants(t, restored.table("carts"))
		}
		if s := restored.Stats(); s.Restored != s.Inserts || int(s.Restored) != s.Entries {
			t.Errorf("Stats = %+v", s)
		}
		// The rule of the idle entry goes on: 28.5 minutes are left at most.
		for range 28 {
			advance(29 * time.Second)
			restored.Refresh(ctx, "carts", "idle", 0)
			advance(31 * time.Second)
		}
		if _, left, _ := restored.table("carts").Peek("idle"); left != 30*time.Second {
			t.Errorf("%v is left of the idle entry, want 30s", left)
		}
		restored.Refresh(ctx, "carts", "idle", time.Hour)
		advance(30 * time.Second)
		if _, _, ok := restored.table("carts").Peek("idle"); ok {
			t.Error("the idle entry outlived its end")
		}
	})
}

func TestSnapshotLifetimes(t *testing.T) {
	const week = uint64(DefaultMaxLifetime)
	for _, tt := range []struct {
		name  string
		age   time.Duration // of the snapshot, by the wall clock
		entry []byte
		want  time.Duration // left, 0: not restored
	}{
		{"no time passed", 0, entryItem("k", "v", uint64(time.Minute)), time.Minute},
		{"some time passed", 20 * time.Second, entryItem("k", "v", uint64(time.Minute)), 40 * time.Second},
		{"one nanosecond is left", time.Minute - 1, entryItem("k", "v", uint64(time.Minute)), 1},
		{"expired at this moment", time.Minute, entryItem("k", "v", uint64(time.Minute)), 0},
		{"expired", time.Hour, entryItem("k", "v", uint64(time.Minute)), 0},
		{"from the future", -1000 * time.Hour, entryItem("k", "v", uint64(time.Minute)), time.Minute},
		{"nothing left", 0, entryItem("k", "v", 0), 0},
		{"more than the maximum", 0, entryItem("k", "v", week+1), DefaultMaxLifetime},
		{"more than any store grants", time.Hour, entryItem("k", "v", math.MaxUint64), DefaultMaxLifetime},
		{"centuries old", 250 * 365 * day, entryItem("k", "v", math.MaxUint64), 0},
		{"idle", 20 * time.Second, idleItem("k", "v", uint64(time.Minute), uint64(time.Minute), uint64(time.Hour)), 40 * time.Second},
		{"idle beyond its end", 0, idleItem("k", "v", week, week, uint64(time.Minute)), time.Minute},
		{"idle, past its end", time.Minute, idleItem("k", "v", week, week, uint64(time.Minute)), 0},
		{"idle for ever", 0, idleItem("k", "v", math.MaxUint64, math.MaxUint64, math.MaxUint64), DefaultMaxLifetime},
		{"idle, centuries old", 250 * 365 * day, idleItem("k", "v", math.MaxUint64, math.MaxUint64, math.MaxUint64), 0},
		{"not idle after all", 0, idleItem("k", "v", uint64(time.Minute), 0, uint64(time.Minute)), time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := NewStore(Options{MinLifetime: time.Second})
				advance(time.Hour)
				snapshot := sealed(time.Now().Add(-tt.age), tableItem(""), tt.entry, endItem(1))
				if _, err := store.ReadFrom(bytes.NewReader(snapshot)); err != nil {
					t.Fatal(err)
				}
				if _, left, ok := store.main.Peek("k"); left != tt.want || ok != (tt.want > 0) {
					t.Errorf("%v is left, %t; want %v", left, ok, tt.want)
				}
				store.Refresh(t.Context(), "", "k", longest)
				if _, left, _ := store.main.Peek("k"); left > DefaultMaxLifetime {
					t.Errorf("extended to %v", left)
				}
			})
		})
	}
}

func TestSnapshotMeetsEntries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, ctx := NewStore(Options{}), t.Context()
		for _, k := range []string{"live", "expired", "removed"} {
			old.Insert(ctx, "", k, "old", time.Hour)
		}
		snapshot := snapshotOf(t, old)
		store := NewStore(Options{})
		store.Insert(ctx, "", "live", "new", time.Minute)
		store.Insert(ctx, "", "expired", "new", time.Second)
		advance(time.Second)
		if _, err := store.ReadFrom(bytes.NewReader(snapshot)); err != nil {
			t.Fatal(err)
		}
		store.Remove(ctx, "", "removed")
		advance(time.Second)
		want := map[string]map[string]Entry[string]{"": {
			"live":    {"new", 58 * time.Second},
			"expired": {"old", time.Hour - 2*time.Second},
		}}
		if diff := cmp.Diff(want, dump(store)); diff != "" {
			t.Errorf("entries (-want +got):\n%s", diff)
		}
	})
}

func TestSnapshotIntoSmallerStore(t *testing.T) {
	big, ctx := NewStore(Options{}), t.Context()
	for i := range 1000 {
		big.Insert(ctx, "", "k"+strconv.Itoa(i), "v", time.Hour)
		big.Insert(ctx, "t"+strconv.Itoa(i%50), "k", "v", time.Hour)
	}
	long := strings.Repeat("x", 100)
	big.Insert(ctx, "", long, "v", time.Hour)
	big.Insert(ctx, "", "long", long, time.Hour)
	big.Insert(ctx, long, "k", "v", time.Hour)
	snapshot := snapshotOf(t, big)
	for _, whenFull := range []WhenFull{EvictUnused, RefuseNew} {
		small := NewStore(Options{MaxEntries: 10, MaxTables: 3, MaxKeyBytes: 10, MaxValueBytes: 10, WhenFull: whenFull})
		small.Insert(ctx, "", "mine", "v", time.Hour)
		if _, err := small.ReadFrom(bytes.NewReader(snapshot)); err != nil {
			t.Fatal(err)
		}
		s := small.Stats()
		if _, _, ok := small.main.Peek("mine"); !ok || s.Evictions != 0 || small.TableStats("").Entries != 10 || len(small.names()) != 4 {
			t.Errorf("%v: kept %t, %d tables, %+v", whenFull, ok, len(small.names()), s)
		}
		for table, entries := range dump(small) {
			for k, e := range entries {
				if len(table) > 10 || len(k) > 10 || len(e.Value) > 10 {
					t.Errorf("%q: %q: %q exceeds the bounds", table, k, e.Value)
				}
			}
		}
	}
	bytesBound := NewStore(Options{MaxTableBytes: 5 * (entryBytes + 24)})
	if _, err := bytesBound.ReadFrom(bytes.NewReader(snapshot)); err != nil {
		t.Fatal(err)
	}
	if s := bytesBound.TableStats(""); s.Bytes > 5*(entryBytes+24) || s.Entries != 5 {
		t.Errorf("Stats = %+v", s)
	}
}

// smallSnapshot is a snapshot with items of each kind.
func smallSnapshot(tb testing.TB) []byte {
	tb.Helper()
	store, ctx := NewStore(Options{}), tb.Context()
	store.Insert(ctx, "", "192.0.2.1", "10.0.0.1:80", time.Hour)
	store.Insert(ctx, "carts", "cart-42", "10.0.0.2:80", time.Hour)
	store.PutIdle(ctx, "carts", "cart-43", "10.0.0.3:80", time.Hour, 2*time.Hour)
	store.Insert(ctx, "carts", strings.Repeat("k", 300), "", time.Hour)
	return snapshotOf(tb, store)
}

// refused checks that a bad snapshot is an error, changes nothing and needs
// little memory.
func refused(tb testing.TB, store *Store, snapshot []byte) *SnapshotError {
	tb.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	n, err := store.ReadFrom(bytes.NewReader(snapshot))
	runtime.ReadMemStats(&after)
	var e *SnapshotError
	if !errors.As(err, &e) {
		tb.Fatalf("the error is %v", err)
	}
	if n > int64(len(snapshot)) || e.Offset != n || e.Detail == "" {
		tb.Errorf("read %d of %d bytes, %+v", n, len(snapshot), e)
	}
	if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 64<<20 {
		tb.Errorf("%d bytes allocated for a snapshot of %d", allocated, len(snapshot))
	}
	if s := store.Stats(); s != (Stats{Entries: 1, Bytes: s.Bytes, Inserts: 1}) || len(store.names()) != 1 {
		tb.Errorf("the store changed: %+v, tables %q", s, store.names())
	}
	return e
}

func storeOfOne(tb testing.TB) *Store {
	tb.Helper()
	store := NewStore(Options{})
	store.Insert(tb.Context(), "", "mine", "v", time.Hour)
	return store
}

func TestSnapshotCut(t *testing.T) {
	snapshot, store := smallSnapshot(t), storeOfOne(t)
	for n := range snapshot {
		if e := refused(t, store, snapshot[:n]); e.fault != snapshotTruncated {
			t.Errorf("cut to %d bytes: %v", n, e)
		}
	}
}

func TestSnapshotFlipped(t *testing.T) {
	t.Parallel()
	snapshot, store := smallSnapshot(t), storeOfOne(t)
	for i := range snapshot {
		for _, flip := range []byte{0x01, 0x80, 0xff} {
			b := bytes.Clone(snapshot)
			b[i] ^= flip
			e := refused(t, store, b)
			switch {
			case i < 8 && e.fault != snapshotForeign, i == 8 && e.fault != snapshotNewer,
				i > 8 && e.fault != snapshotCorrupt && e.fault != snapshotTruncated:
				t.Errorf("byte %d flipped by %#x: %v", i, flip, e)
			}
		}
	}
}

// TestSnapshotForged has snapshots with right checksums that say what cannot
// be.
func TestSnapshotForged(t *testing.T) {
	now := time.Now()
	length := func(kind byte, n uint64) []byte { return binary.AppendUvarint([]byte{kind}, n) }
	for _, tt := range []struct {
		name     string
		snapshot []byte
		want     snapshotFault
	}{
		{"empty", nil, snapshotTruncated},
		{"text", []byte("192.0.2.1 10.0.0.1\n"), snapshotForeign},
		{"zeros", make([]byte, 1000), snapshotForeign},
		{"next version", append([]byte(snapshotMagic), snapshotVersion+1), snapshotNewer},
		{"table name of 2 GiB", sealed(now, length(kindTable, math.MaxInt32)), snapshotTruncated},
		{"table name of 2^63 bytes", sealed(now, length(kindTable, 1<<63)), snapshotCorrupt},
		{"table name of more than 64 bits", sealed(now, append([]byte{kindTable}, bytes.Repeat([]byte{0xff}, 9)...), []byte{2}), snapshotCorrupt},
		{"key of 1 GiB", sealed(now, tableItem(""), length(kindEntry, 1<<30)), snapshotTruncated},
		{"value of 1 GiB", sealed(now, tableItem(""), appendString([]byte{kindEntry}, "k"), length(0, 1<<30)[1:]), snapshotTruncated},
		{"entry before any table", sealed(now, entryItem("k", "v", 1), endItem(1)), snapshotCorrupt},
		{"unknown kind", sealed(now, tableItem(""), []byte{9}), snapshotCorrupt},
		{"too few entries", sealed(now, tableItem(""), entryItem("k", "v", 1<<40), endItem(2)), snapshotCorrupt},
		{"too many entries", sealed(now, tableItem(""), entryItem("k", "v", 1<<40), endItem(0)), snapshotCorrupt},
		{"data after the end", append(sealed(now, endItem(0)), 0), snapshotCorrupt},
		{"two snapshots", append(sealed(now, endItem(0)), sealed(now, endItem(0))...), snapshotCorrupt},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if e := refused(t, storeOfOne(t), tt.snapshot); e.fault != tt.want {
				t.Errorf("got %v, want %v", e, tt.want)
			}
		})
	}
}

func TestSnapshotReadAndWriteErrors(t *testing.T) {
	snapshot, broken := smallSnapshot(t), errors.New("broken pipe")
	for n := range snapshot {
		store := storeOfOne(t)
		r := io.MultiReader(bytes.NewReader(snapshot[:n]), iotest.ErrReader(broken))
		var e *SnapshotError
		if _, err := store.ReadFrom(r); !errors.Is(err, broken) || errors.As(err, &e) {
			t.Fatalf("reader broken after %d bytes: %v", n, err)
		}
		if store.Stats().Inserts != 1 {
			t.Fatalf("reader broken after %d bytes: the store changed", n)
		}
	}
	store := NewStore(Options{})
	for i := range 10_000 { // more than one buffer
		store.Insert(t.Context(), "", strings.Repeat("k", 20)+strconv.Itoa(i), "v", time.Hour)
	}
	size := len(snapshotOf(t, store))
	for n := 0; n < size; n += size / 50 {
		if got, err := store.WriteTo(&limitedWriter{n, broken}); !errors.Is(err, broken) || got > int64(n) {
			t.Errorf("writer broken after %d bytes: %d, %v", n, got, err)
		}
	}
}

// limitedWriter fails after n bytes.
type limitedWriter struct {
	n   int
	err error
}

func (w *limitedWriter) Write(p []byte) (int, error) {
	if len(p) > w.n {
		n := w.n
		w.n = 0
		return n, w.err
	}
	w.n -= len(p)
	return len(p), nil
}

func TestSnapshotAgainstTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) {
			store := NewStore(Options{})
			for range rapid.IntRange(0, 30).Draw(t, "entries") {
				table, key := rapid.StringN(0, 2, 8).Draw(t, "table"), rapid.String().Draw(t, "key")
				store.Put(t.Context(), table, key, rapid.String().Draw(t, "value"), time.Duration(rapid.Int64Range(1, int64(time.Hour)).Draw(t, "lifetime")))
			}
			advance(time.Duration(rapid.Int64Range(1, int64(time.Hour)).Draw(t, "pause")))
			var b bytes.Buffer
			if _, err := store.WriteTo(&b); err != nil {
				t.Fatal(err)
			}
			advance(time.Duration(rapid.Int64Range(1, int64(time.Hour)).Draw(t, "down")))
			restored := NewStore(Options{})
			if _, err := restored.ReadFrom(&b); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(dump(store), dump(restored)); diff != "" {
				t.Fatalf("entries (-want +got):\n%s", diff)
			}
		})
	})
}

// TestSnapshotWhileWriting has a key whose value and that of its neighbour are
// always equal or one apart, and writers that must not wait.
func TestSnapshotWhileWriting(t *testing.T) {
	store, ctx := NewStore(Options{}), t.Context()
	n := 50_000
	if testrace.Enabled {
		n = 10_000
	}
	if testing.Short() {
		n = 10_000
	}
	for i := range n {
		store.Insert(ctx, "", "stays"+strconv.Itoa(i), "v", time.Hour)
	}
	stop := make(chan struct{})
	var longest [4]time.Duration
	var wg sync.WaitGroup
	for g := range longest {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				began := time.Now()
				key := strconv.Itoa(g) + "-" + strconv.Itoa(i%1000)
				store.Put(ctx, "", key, key, time.Hour)
				store.Remove(ctx, "", key)
				longest[g] = max(longest[g], time.Since(began))
			}
		})
	}
	for range 5 {
		snapshot := snapshotOf(t, store)
		restored := NewStore(Options{})
		if _, err := restored.ReadFrom(bytes.NewReader(snapshot)); err != nil {
			t.Fatal(err)
		}
		stays := 0
		for k, e := range restored.All("") {
			if strings.HasPrefix(k, "stays") {
				stays++
			} else if k != e.Value {
				t.Errorf("%q is %q", k, e.Value)
			}
		}
		if stays != n {
			t.Errorf("%d of %d entries in the snapshot", stays, n)
		}
	}
	close(stop)
	wg.Wait()
	t.Logf("longest write of each goroutine: %v", longest)
}

// TestRestoreAfterStart restores many entries into a store that has some.
func TestRestoreAfterStart(t *testing.T) {
	const n = 40_000
	store, started, ctx := NewStore(Options{}), NewStore(Options{}), t.Context()
	for i := range n {
		store.Insert(ctx, "", strconv.Itoa(i), "old", time.Hour)
		if i%500 == 0 {
			started.Insert(ctx, "", strconv.Itoa(i), "new", time.Hour)
		}
	}
	if _, err := started.ReadFrom(bytes.NewReader(snapshotOf(t, store))); err != nil {
		t.Fatal(err)
	}
	checkInvariants(t, started.main)
	for i := range n {
		want := "old"
		if i%500 == 0 {
			want = "new"
		}
		if got, _, _, _ := started.Lookup(ctx, "", strconv.Itoa(i), 0); got != want {
			t.Fatalf("%d: %q, want %q", i, got, want)
		}
	}
}

// TestRestoreWhileUsed restores into a store that is empty, so that its shards
// grow at once, while others look up and store. What has once been there stays,
// and keeps the value that was stored meanwhile.
func TestRestoreWhileUsed(t *testing.T) {
	n, rounds := 40_000, 5
	if testrace.Enabled {
		n, rounds = 10_000, 2
	}
	if testing.Short() {
		n, rounds = 10_000, 2
	}
	o, ctx := Options{MaxEntries: 2 * n}, t.Context()
	store := NewStore(o)
	for i := range n {
		store.Insert(ctx, "", strconv.Itoa(i), "old", time.Hour)
	}
	snapshot := snapshotOf(t, store)
	for range rounds {
		restored := NewStore(o)
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for g := range 4 {
			wg.Go(func() {
				newer, found := map[string]bool{}, map[string]bool{}
				for i := g; ; i += 4 {
					select {
					case <-stop:
						return
					default:
					}
					key := strconv.Itoa(i * 7919 / 4 * 4 % n)
					key = key[:len(key)-1] + strconv.Itoa(g) // which no other writes
					if i%64 < 4 && found[key] {              // an empty shard is to stay so until it grows
						restored.Put(ctx, "", key, "new", time.Hour)
						newer[key] = true
						continue
					}
					value, _, ok, _ := restored.Lookup(ctx, "", key, time.Second)
					if newer[key] && value != "new" || found[key] && !ok {
						t.Errorf("%q: %q, %v, after it had been stored", key, value, ok)
						return
					}
					found[key] = ok
				}
			})
		}
		_, err := restored.ReadFrom(bytes.NewReader(snapshot))
		close(stop)
		wg.Wait()
		if err != nil || restored.Stats().Entries != n {
			t.Errorf("%d of %d entries: %v", restored.Stats().Entries, n, err)
		}
		checkInvariants(t, restored.main)
	}
}

// TestSnapshotOfAMillion measures how long it takes, and how large it is.
func TestSnapshotOfAMillion(t *testing.T) {
	n := 1_000_000
	if testrace.Enabled || testing.Short() {
		n = 20_000
	}
	o := Options{MaxEntries: 2 * n, MaxTableBytes: 2 << 30}
	store := NewStore(o)
	for i := range n {
		store.Insert(t.Context(), "", "192.0.2.1:"+strconv.Itoa(i), "10.0.0.1:8080", time.Hour)
	}
	began := time.Now()
	snapshot := snapshotOf(t, store)
	saved := time.Since(began)
	restored := NewStore(o)
	began = time.Now()
	if _, err := restored.ReadFrom(bytes.NewReader(snapshot)); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	t.Logf("%d entries in %d bytes: written in %v, restored in %v", n, len(snapshot), saved, took)
	checkInvariants(t, restored.main)
	if got := restored.Stats().Entries; got != n {
		t.Errorf("%d entries restored", got)
	}
}

func TestSnapshotErrorText(t *testing.T) {
	err := &SnapshotError{Offset: 12, Detail: "checksum", fault: snapshotCorrupt}
	if got := err.Error(); got != "persistence: snapshot: corrupt at byte 12: checksum" {
		t.Error(got)
	}
}

// FuzzSnapshotLoad corrects the checksum of what it is given, so that what is
// behind it is reached.
func FuzzSnapshotLoad(f *testing.F) {
	small := smallSnapshot(f)
	now := time.Now()
	f.Add(small)                                                                                          // right
	f.Add(small[:len(small)-5])                                                                           // no end
	f.Add(sealed(now, endItem(0)))                                                                        // the smallest
	f.Add(sealed(now, tableItem("t"), tableItem("t"), endItem(0)))                                        // a table twice
	f.Add(sealed(now, tableItem(""), entryItem("k", "v", 1<<40), entryItem("k", "w", 1<<41), endItem(2))) // a key twice
	f.Add(sealed(now, tableItem(""), idleItem("k", "v", 1<<63, 1<<63, 1<<63), endItem(1)))                // durations that overflow
	f.Add(sealed(time.Unix(0, math.MinInt64), tableItem(""), entryItem("k", "v", 1<<40), endItem(1)))     // very old
	f.Add(sealed(now, binary.AppendUvarint([]byte{kindTable}, 1<<31-1)))                                  // a long name that is not there
	f.Fuzz(func(t *testing.T, snapshot []byte) {
		if n := len(snapshot) - 4; n > 17 {
			snapshot = binary.LittleEndian.AppendUint32(bytes.Clone(snapshot[:n]), crc32.Checksum(snapshot[:n], castagnoli))
		}
		store := NewStore(Options{MaxEntries: 100, MaxTables: 4, MaxLifetime: time.Hour, MaxKeyBytes: 400})
		if _, err := store.ReadFrom(bytes.NewReader(snapshot)); err != nil {
			if s := store.Stats(); s != (Stats{}) || len(store.names()) != 1 {
				t.Fatalf("%v, but the store changed: %+v", err, s)
			}
			return
		}
		restored := dump(store)
		for table, entries := range restored {
			checkInvariants(t, store.table(table))
			for k, e := range entries {
				if e.Remaining > time.Hour || len(k) > 400 {
					t.Fatalf("%q: %+v", k, e)
				}
			}
		}
		again := NewStore(Options{MaxEntries: 100, MaxTables: 4, MaxLifetime: time.Hour, MaxKeyBytes: 400})
		if _, err := again.ReadFrom(bytes.NewReader(snapshotOf(t, store))); err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		for table, entries := range dump(again) {
			for k, e := range entries {
				if restored[table][k].Value != e.Value {
					t.Fatalf("%q: %q became %q", k, restored[table][k].Value, e.Value)
				}
			}
		}
	})
}
