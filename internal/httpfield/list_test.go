package httpfield

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestElements(t *testing.T) {
	for _, test := range []struct {
		name  string
		lines []string
		want  []string
	}{
		{"no line", nil, nil},
		{"one", []string{"close"}, []string{"close"}},
		{"several lines", []string{"a, b", "c"}, []string{"a", "b", "c"}},
		{"blanks and nothing between commas", []string{" a ,,\tb\t, ", ","}, []string{"a", "b"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := slices.Collect(Elements(test.lines))
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			for _, e := range append(got, "d") {
				if want := slices.Contains(got, e); HasToken(test.lines, strings.ToUpper(e)) != want {
					t.Errorf("HasToken(%q) = %t", e, !want)
				}
			}
			for e := range Elements(test.lines) { // a loop may end early
				if e != test.want[0] {
					t.Errorf("%q first", e)
				}
				break
			}
		})
	}
}

func TestHopByHopAndFraming(t *testing.T) {
	for _, test := range []struct {
		name             string
		hopByHop, framed bool
	}{
		{"Connection", true, true},
		{"Keep-Alive", true, true},
		{"Proxy-Connection", true, true},
		{"Te", true, true},
		{"Trailer", true, true},
		{"Transfer-Encoding", true, true},
		{"Upgrade", true, true},
		{"Content-Length", false, true},
		{"Proxy-Authenticate", true, false},
		{"Proxy-Authorization", true, false},
		{"Authorization", false, false},
		{"Host", false, false},
	} {
		if h, f := IsHopByHop(test.name), IsFraming(test.name); h != test.hopByHop || f != test.framed {
			t.Errorf("%s: hop-by-hop %t, framing %t", test.name, h, f)
		}
	}
}
