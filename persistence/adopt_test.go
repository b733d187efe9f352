package persistence

import (
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
