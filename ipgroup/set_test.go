package ipgroup

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet/internal/testrace"
)

func named(t testing.TB, name string, entries ...string) *Group {
	t.Helper()
	g, err := Parse(name, entries, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func wantIn(t *testing.T, s *Set, group, addr string, want bool) {
	t.Helper()
	got, err := s.Contains(group, netip.MustParseAddr(addr))
	if err != nil || got != want {
		t.Errorf("Contains(%q, %s) = %v, %v; want %v", group, addr, got, err, want)
	}
}

func wantUnknown(t *testing.T, s *Set, group string) {
	t.Helper()
	in, err := s.Contains(group, netip.MustParseAddr("10.0.0.1"))
	if in || !errors.Is(err, ErrUnknownGroup) || !strings.Contains(err.Error(), fmt.Sprintf("%q", group)) {
		t.Errorf("Contains(%q) = %v, %v; want ErrUnknownGroup with the name", group, in, err)
	}
}

func TestSet(t *testing.T) {
	s, err := NewSet(named(t, "b", "10.0.0.1"), named(t, "a", "2001:db8::/32"))
	if err != nil {
		t.Fatal(err)
	}
	wantIn(t, s, "b", "10.0.0.1", true)
	wantIn(t, s, "b", "::ffff:10.0.0.1", true)
	wantIn(t, s, "b", "10.0.0.2", false)
	wantIn(t, s, "a", "2001:db8::1", true)
	wantUnknown(t, s, "c")
	wantUnknown(t, s, "")
	if diff := cmp.Diff([]string{"a", "b"}, s.Names()); diff != "" {
		t.Error(diff)
	}
	if in, err := s.Contains("b", netip.Addr{}); in || err != nil {
		t.Errorf("Contains(zero Addr) = %v, %v", in, err)
	}

	replacement := named(t, "b", "10.0.0.2")
	for _, g := range []*Group{replacement, named(t, "c", "10.0.0.3")} {
		if err := s.Replace(g); err != nil {
			t.Fatal(err)
		}
	}
	wantIn(t, s, "b", "10.0.0.1", false)
	wantIn(t, s, "b", "10.0.0.2", true)
	wantIn(t, s, "c", "10.0.0.3", true)
	if g, ok := s.Group("b"); !ok || g != replacement {
		t.Errorf("Group(b) = %p, %v; want %p", g, ok, replacement)
	}
	if err := s.Replace(nil); err == nil {
		t.Error("Replace(nil) is not an error")
	}
	wantIn(t, s, "b", "10.0.0.2", true)

	if !s.Remove("b") || s.Remove("b") {
		t.Error("Remove does not tell whether the group was there")
	}
	wantUnknown(t, s, "b")
	if g, ok := s.Group("b"); ok || g != nil {
		t.Errorf("Group(b) = %v, %v after Remove", g, ok)
	}
	if diff := cmp.Diff([]string{"a", "c"}, s.Names()); diff != "" {
		t.Error(diff)
	}
}

func TestZeroSet(t *testing.T) {
	var s Set
	wantUnknown(t, &s, "a")
	if s.Remove("a") || len(s.Names()) != 0 {
		t.Error("the zero Set is not empty")
	}
	if err := s.Replace(named(t, "a", "10.0.0.1")); err != nil {
		t.Fatal(err)
	}
	wantIn(t, &s, "a", "10.0.0.1", true)
}

func TestNewSetFaults(t *testing.T) {
	a := named(t, "a", "10.0.0.1")
	s, err := NewSet(a, nil, named(t, "a", "10.0.0.2"), nil)
	const want = "groups[1]: missing\ngroups[2].name: \"a\": already the name of another group\ngroups[3]: missing"
	if s != nil || err == nil || err.Error() != want {
		t.Errorf("NewSet = %v, %v; want %q", s, err, want)
	}
}

// Each version of the group holds the two halves of its own pair and nothing of
// another version's, so a reader that sees parts of two versions finds two
// pairs that each match half. A reader takes one group and asks it twice.
func TestReadersSeeOldOrNew(t *testing.T) {
	const versions = 16
	pair := func(v int) (v4, v6 netip.Addr) {
		return addr4(10<<24 | uint32(v)), addr6(0x20010db8<<32, uint64(v))
	}
	groups := make([]*Group, versions)
	for v := range groups {
		v4, v6 := pair(v)
		groups[v] = named(t, "g", v4.String(), v6.String())
	}
	s, err := NewSet(groups[0], named(t, "constant", "10.0.0.0/8"))
	if err != nil {
		t.Fatal(err)
	}
	wanted, reloads := int64(10_000_000), 3000
	if testrace.Enabled {
		wanted, reloads = 1_000_000, 500
	}
	if testing.Short() {
		wanted, reloads = 1_000_000, 500
	}
	before := liveHeap()
	stop := make(chan struct{})
	var lookups atomic.Int64
	var readers sync.WaitGroup
	for range 64 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				g, ok := s.Group("g")
				if !ok {
					t.Error("the group is gone")
					return
				}
				found := 0
				for v := range versions {
					v4, v6 := pair(v)
					in4, in6 := g.Contains(v4), g.Contains(v6)
					if in4 != in6 {
						t.Errorf("version %d: %v and %v", v, in4, in6)
						return
					}
					if in4 {
						found++
					}
				}
				if found != 1 {
					t.Errorf("%d versions at once", found)
					return
				}
				if in, err := s.Contains("constant", netip.MustParseAddr("10.9.9.9")); !in || err != nil {
					t.Errorf("Contains(constant) = %v, %v", in, err)
					return
				}
				lookups.Add(2*versions + 1)
			}
		})
	}
	var writers sync.WaitGroup
	for w := range 2 {
		writers.Go(func() {
			for i := range reloads {
				if err := s.Replace(groups[(i*7+w)%versions]); err != nil {
					t.Error(err)
				}
				name := fmt.Sprint("other", w)
				if err := s.Replace(named(t, name, "10.0.0.1")); err != nil {
					t.Error(err)
				}
				if !s.Remove(name) {
					t.Errorf("%s was lost in a change of another group", name)
				}
			}
		})
	}
	writers.Wait()
	for lookups.Load() < wanted && !t.Failed() { // also on a machine that starved the readers
		runtime.Gosched()
	}
	close(stop)
	readers.Wait()
	after := liveHeap()
	t.Logf("%d lookups, %d bytes on the heap before and %d after", lookups.Load(), before, after)
	if after > before+before/10+1<<20 {
		t.Errorf("the heap has grown from %d to %d bytes", before, after)
	}
	if diff := cmp.Diff([]string{"constant", "g"}, s.Names()); diff != "" {
		t.Error(diff)
	}
}

// liveHeap returns the bytes that are in use on the heap.
func liveHeap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what finalizers and pools let go of
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
