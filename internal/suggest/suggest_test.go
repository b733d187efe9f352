package suggest_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/limpetlb/limpet/internal/suggest"
)

func TestNearest(t *testing.T) {
	for _, c := range []struct{ name, word, candidates, want string }{
		{"one letter of four", "pols", "pools name", "pools"},
		{"two letters of four", "nome", "name none", ""}, // both are as near
		{"too far for four letters", "nmxe", "nameless", ""},
		{"swapped", "pto", "pot", "pot"},
		{"two of ten", "hostnme", "hostname", "hostname"},
		{"two of seven", "hostnam", "hosts hostname", "hostname"},
		{"three of seven", "hostxyz", "hosting", ""},
		{"three of eleven", "persistence", "persxxxence", "persxxxence"},
		{"four of eleven", "persistence", "pexxxxtence", ""},
		{"nearer one comes first", "poolz", "pools pooled", "pools"},
		{"nearer one comes last", "poolz", "polls pools", "pools"},
		{"letters, not bytes", "äöüß", "äöüs", "äöüs"},
		{"twice the same", "pols", "pools pools", "pools"},
		{"nothing", "", "a", ""},
		{"no candidate", "a", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := suggest.Nearest(c.word, slices.Values(strings.Fields(c.candidates))); got != c.want {
				t.Errorf("Nearest(%q) = %q, want %q", c.word, got, c.want)
			}
		})
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"a", "", 1}, {"abc", "abc", 0}, {"abc", "acb", 1}, {"abcd", "badc", 2}, {"kitten", "sitting", 3}, {"abcdef", "", 5}, {"abc", "xyz", 3},
		{"aaaaaaa", "bbbbbbb", 5},
	} {
		if got := suggest.Distance(c.a, c.b, 5); got != c.want {
			t.Errorf("Distance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
		if got := suggest.Distance(c.b, c.a, 5); got != c.want {
			t.Errorf("Distance(%q, %q) = %d, want %d", c.b, c.a, got, c.want)
		}
	}
}
