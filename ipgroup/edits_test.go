package ipgroup

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestEditsAgainstTwin edits groups at random while time passes, and compares
// with a list of edits that is searched from end to end.
func TestEditsAgainstTwin(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			list := named(t, "g", "10.0.0.0/13", "10.200.0.0/16", "2001:db8::/33")
			s, err := NewSet(list)
			if err != nil {
				t.Fatal(err)
			}
			twin := map[netip.Prefix]Edit{}
			addr := func() netip.Addr {
				a := netip.AddrFrom4([4]byte{10, byte(rng.IntN(16)), byte(rng.IntN(2)), byte(rng.IntN(4))})
				if rng.IntN(3) == 0 {
					a = netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, byte(rng.IntN(4) * 64), 15: byte(rng.IntN(4))})
				}
				return a
			}
			for range 400 {
				a := addr()
				prefix, _ := a.Prefix(a.BitLen() - []int{0, 1, 2, 8, 17, a.BitLen()}[rng.IntN(6)])
				switch rng.IntN(8) {
				case 0, 1, 2:
					edit := Edit{Entry: prefixText(prefix), Remove: rng.IntN(2) == 0}
					if rng.IntN(3) > 0 {
						edit.Until = time.Now().Add(time.Duration(1+rng.IntN(50)) * time.Second)
					}
					var lists [2][]string
					k := 0
					if edit.Remove {
						k = 1
					}
					lists[k] = []string{edit.Entry}
					if err := s.Edit("g", lists[0], lists[1], edit.Until); err != nil {
						t.Fatal(err)
					}
					twin[prefix] = edit
				case 3:
					<-time.After(time.Duration(rng.IntN(10)) * time.Second)
				case 4:
					if err := s.Replace(list); err != nil {
						t.Fatal(err)
					}
				case 5:
					e, ok := twin[prefix]
					if err := s.Revert("g", prefix.String()); (err == nil) != (ok && !e.ended(time.Now())) {
						t.Fatal(prefix, err)
					}
					delete(twin, prefix)
				}
				want, best := list.Contains(a), -1
				for p, e := range twin {
					if p.Contains(a) && p.Bits() > best && !e.ended(time.Now()) {
						want, best = !e.Remove, p.Bits()
					}
				}
				in, err := s.Contains("g", a)
				g, _ := s.Group("g")
				entry, matched := g.Match(a)
				label := s.Label(a, nil)
				if in != want || err != nil || g.Contains(a) != want || matched != want || (label == "g") != want {
					t.Fatalf("%v: Contains %t, Match %q %t, Label %q, %v; want %t", a, in, entry, matched, label, err, want)
				}
				if in && !strings.Contains(entry, "-") {
					if p, err := parsePrefix(entry); err != nil || !p.Contains(a) || best >= 0 && p.Bits() != best {
						t.Fatalf("%v: Match %q, %v", a, entry, err)
					}
				}
			}
			var want []Edit
			for _, e := range twin {
				if !e.ended(time.Now()) {
					want = append(want, e)
				}
			}
			got, err := s.Edits("g")
			if err != nil || len(got) != len(want) {
				t.Fatalf("%d edits, want %d, %v", len(got), len(want), err)
			}
			for _, e := range want {
				if !slices.Contains(got, e) {
					t.Errorf("no edit %+v", e)
				}
			}
			if err := s.Revert("g"); err != nil {
				t.Fatal(err)
			}
			if g, _ := s.Group("g"); g.edits != nil {
				t.Error("a group without edits still has the overlay")
			}
		})
	}
}

func TestEditFaults(t *testing.T) {
	s, err := NewSet(named(t, "g", "10.0.0.0/8"))
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{s.Edit("x", []string{"10.0.0.1"}, nil, time.Time{}), s.Revert("x"), second(s.Edits("x"))} {
		if !errors.Is(err, ErrUnknownGroup) {
			t.Error(err)
		}
	}
	err = s.Edit("g", []string{"DE", "10.0.0.1", "10.0.0.1-10.0.0.9", ""}, []string{"AS5", "::ffff:10.0.0.1", "fe80::1%eth0"}, time.Unix(1, 0))
	for _, path := range []string{"until", "add[0]", "add[2]", "add[3]", "remove[0]", "remove[1]", "remove[2]"} {
		if err == nil || !strings.Contains(err.Error(), path+": ") {
			t.Errorf("no fault of %s in %v", path, err)
		}
	}
	if list, _ := s.Edits("g"); len(list) > 0 {
		t.Errorf("edits of a call with faults: %+v", list)
	}
	many := make([]string, maxEdits)
	for i := range many {
		many[i] = fmt.Sprintf("10.%d.%d.0/24", i/256, i%256)
	}
	if err := s.Edit("g", nil, many, time.Time{}); err != nil {
		t.Fatal(err)
	}
	if err := s.Edit("g", []string{"192.0.2.1"}, nil, time.Time{}); err == nil {
		t.Error("more edits than allowed")
	}
	wantIn(t, s, "g", "192.0.2.1", false)
	wantIn(t, s, "g", "10.0.0.1", false)
	if err := s.Revert("g", "10.0.0.0/24", "10.0.0.0/25", "x"); err == nil || !strings.Contains(err.Error(), "entries[1]") || !strings.Contains(err.Error(), "entries[2]") {
		t.Error(err)
	}
	wantIn(t, s, "g", "10.0.0.1", false)
	if err := s.Revert("g", " 10.0.0.0/24"); err != nil {
		t.Error(err)
	}
	wantIn(t, s, "g", "10.0.0.1", true)
}

func second[T any](_ T, err error) error { return err }

// TestMatchOfLists shows what says why an address is in a group.
func TestMatchOfLists(t *testing.T) {
	g := named(t, "g", "10.0.0.0/9", "10.128.0.0/9", "192.0.2.1-192.0.2.6", "192.0.2.9", "2001:db8::/32", "2001:dbf::1")
	for addr, want := range map[string]string{
		"10.200.0.1": "10.0.0.0/8", "::ffff:10.0.0.1": "10.0.0.0/8", "192.0.2.3": "192.0.2.1-192.0.2.6", "192.0.2.9": "192.0.2.9",
		"2001:db8::1": "2001:db8::/32", "2001:dbf::1": "2001:dbf::1", "192.0.2.7": "", "2001:dbf::2": "",
	} {
		if got, ok := g.Match(netip.MustParseAddr(addr)); got != want || ok != (want != "") {
			t.Errorf("%s: %q, %t; want %q", addr, got, ok, want)
		}
	}
	if got, ok := g.Match(netip.Addr{}); ok || got != "" {
		t.Errorf("the zero Addr: %q, %t", got, ok)
	}
	s, err := NewSet(g)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Edit("g", []string{"192.0.2.7"}, []string{"10.1.0.0/16"}, time.Time{}); err != nil {
		t.Fatal(err)
	}
	edited, _ := s.Group("g")
	for addr, want := range map[string]string{"10.1.2.3": "10.1.0.0/16 false", "192.0.2.7": "192.0.2.7 true", "10.2.0.1": "10.0.0.0/8 true"} {
		entry, ok := edited.Match(netip.MustParseAddr(addr))
		if diff := cmp.Diff(want, fmt.Sprint(entry, " ", ok)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", addr, diff)
		}
	}
	if _, ok := g.Match(netip.MustParseAddr("192.0.2.7")); ok {
		t.Error("an edit changed the group that it was made for")
	}
}
