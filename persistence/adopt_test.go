package persistence

import (
	"bytes"
	"net/http/httptest"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// A store that was made anew for an update used to begin empty.
func TestStoreAdopt(t *testing.T) {
	for _, test := range []struct {
		name     string
		now      Options
		together bool // what is stored in the old one later is there, too
	}{
		{"same options", Options{MaxEntries: 100, Owner: AddrKeyOwner}, true},
		{"more entries", Options{MaxEntries: 200, Owner: AddrKeyOwner}, false},
		{"no owners", Options{MaxEntries: 100}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				old := NewStore(Options{MaxEntries: 100, Owner: AddrKeyOwner})
				old.Reserve("profile/a")
				for _, table := range []string{"", "named", "profile/a"} {
					if ok, _ := old.Put(ctx, table, "192.0.2.1", "10.0.0.1", time.Minute); !ok {
						t.Fatal("refused")
					}
				}
				if ok, _ := old.PutIdle(ctx, "", "idle", "10.0.0.2", 10*time.Second, time.Minute); !ok {
					t.Fatal("refused")
				}
				s := NewStore(test.now)
				deleted := 0
				s.OnDelete(func(string, string, string, DeletionCause) { deleted++ })
				if !s.Adopt(old) || !s.Adopt(s) {
					t.Fatal("not adopted")
				}
				for _, table := range []string{"", "named", "profile/a"} {
					value, left, ok, _ := s.Lookup(ctx, table, "192.0.2.1", 0)
					if !ok || value != "10.0.0.1" || left != time.Minute {
						t.Errorf("%q: %q %v %v", table, value, left, ok)
					}
				}
				time.Sleep(11 * time.Second)
				if _, _, ok, _ := s.Lookup(ctx, "", "idle", 0); ok {
					t.Error("an idle entry lives on")
				}
				if _, err := old.Put(ctx, "", "later", "10.0.0.3", time.Minute); err != nil {
					t.Fatal(err)
				}
				if _, _, ok, _ := s.Lookup(ctx, "", "later", 0); ok != test.together {
					t.Errorf("what was stored later: %v, want %v", ok, test.together)
				}
				if err := s.Remove(ctx, "", "192.0.2.1"); err != nil || deleted == 0 {
					t.Errorf("%d deletions seen, %v", deleted, err)
				}
				used := NewStore(test.now)
				if _, err := used.Put(ctx, "", "k", "v", time.Minute); err != nil {
					t.Fatal(err)
				}
				if used.Adopt(old) {
					t.Error("a store in use has adopted another")
				}
			})
		})
	}
}

// Two handles on the same tables must agree on which there are: one used to go
// on with a table that the other had given up, for ever.
func TestAdoptedStoresGiveUpTables(t *testing.T) {
	ctx := t.Context()
	for _, first := range []string{"old", "new"} {
		old, now := NewStore(Options{MaxTables: 1}), NewStore(Options{MaxTables: 1})
		stores := map[string]*Store{"old": old, "new": now}
		put := func(s *Store, table string) {
			t.Helper()
			if ok, err := s.Insert(ctx, table, "k", "v", time.Hour); !ok || err != nil {
				t.Errorf("%s first: %s is refused: %v", first, table, err)
			}
		}
		put(old, "a")
		if err := old.Remove(ctx, "a", "k"); err != nil {
			t.Fatal(err)
		}
		if !now.Adopt(old) {
			t.Fatal("not adopted")
		}
		put(stores[first], "b") // replaces a
		for name, s := range stores {
			if _, _, ok, _ := s.Lookup(ctx, "b", "k", 0); !ok {
				t.Errorf("%s first: the %s store does not have b", first, name)
			}
		}
		if err := now.Remove(ctx, "b", "k"); err != nil {
			t.Fatal(err)
		}
		put(old, "a")
		if _, _, ok, _ := now.Lookup(ctx, "a", "k", 0); !ok {
			t.Errorf("%s first: what is stored in the old one is not in the new one", first)
		}
	}
}

// Snapshots used to leave out tables of profiles where others were at their
// bound.
func TestSnapshotOfReservedTables(t *testing.T) {
	ctx := t.Context()
	s := NewStore(Options{MaxTables: 2})
	s.Reserve("profile/p/x", "profile/p/y")
	tables := []string{"", "a", "b", "profile/p/x", "profile/p/y"}
	for _, table := range tables {
		if ok, _ := s.Insert(ctx, table, "k", "v", time.Hour); !ok {
			t.Fatalf("%q is refused", table)
		}
	}
	var snapshot bytes.Buffer
	if _, err := s.WriteTo(&snapshot); err != nil {
		t.Fatal(err)
	}
	for _, reserve := range []bool{true, false} {
		restored := NewStore(Options{MaxTables: 2})
		if reserve {
			restored.Reserve("profile/p/x", "profile/p/y")
		}
		if _, err := restored.ReadFrom(bytes.NewReader(snapshot.Bytes())); err != nil {
			t.Fatal(err)
		}
		for _, table := range tables {
			if _, _, ok, _ := restored.Lookup(ctx, table, "k", 0); !ok {
				t.Errorf("reserved %v: %q is missing", reserve, table)
			}
		}
	}
}

// The end of bindings that are taken over is that of the new configuration.
func TestAdoptMaxAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, test := range []struct{ old, now time.Duration }{{0, 10 * time.Minute}, {10 * time.Minute, 0}, {10 * time.Minute, 20 * time.Minute}} {
			profile := func(maxAge time.Duration) *ClientIP {
				p, err := NewClientIP(ClientIPConfig{MaxAge: maxAge})
				if err != nil {
					t.Fatal(err)
				}
				return p
			}
			old, now := profile(test.old), profile(test.now)
			client, r := netip.MustParseAddr("192.0.2.1"), httptest.NewRequest("GET", "/", nil)
			if _, err := old.Claim(r, client, "web", "10.0.0.1:80", ""); err != nil {
				t.Fatal(err)
			}
			if !now.Adopt(old) {
				t.Fatal("not adopted")
			}
			end := test.now
			if end == 0 {
				end = time.Hour
			}
			for age := time.Minute; age <= end+time.Minute; age += time.Minute {
				time.Sleep(time.Minute)
				server, _, err := now.Find(r, client, "web")
				if want := test.now == 0 || age < end; (server != "") != want || err != nil {
					t.Errorf("MaxAge %v after %v: bound to %q after %v, %v", test.now, test.old, server, age, err)
					break
				}
			}
		}
	})
}
