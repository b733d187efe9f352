package limpet

import (
	"errors"
	"testing"
	"time"

	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
)

// A drain counts the clients in all tables that are named, and in no other.
func TestBoundTables(t *testing.T) {
	pool, err := lbpool.New(lbpool.Config{Name: "web", Servers: []lbpool.ServerConfig{{Address: "10.0.0.1:80", Name: "one"}}})
	if err != nil {
		t.Fatal(err)
	}
	store := persistence.NewStore(persistence.Options{})
	for table, n := range map[string]int{"": 1, "a": 2, "b": 4} {
		for i := range n {
			if _, err := store.Insert(t.Context(), table, string(rune('a'+i)), []string{"one", "10.0.0.1:80"}[i%2], time.Hour); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		tables []string
		want   int
	}{{nil, 0}, {[]string{}, 0}, {[]string{""}, 1}, {[]string{"a", "none"}, 2}, {[]string{"b", "", "a"}, 7}} {
		vs, err := New(Config{Pools: []*lbpool.Pool{pool}, Tables: store, BoundTables: c.tables})
		if err != nil {
			t.Fatal(err)
		}
		if n, err := vs.boundTo(pool)(t.Context(), "one", "10.0.0.1:80"); err != nil || n != c.want {
			t.Errorf("in %q: %d clients, %v; want %d", c.tables, n, err, c.want)
		}
	}
	_, err = New(Config{Tables: store, BoundTables: []string{"a", "b", "a"}})
	var fault *FieldError
	if !errors.As(err, &fault) || fault.Path != "boundTables[2]" {
		t.Errorf("a table that is named twice: %v", err)
	}
}
