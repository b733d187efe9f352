package datascripttest

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestDiff(t *testing.T) {
	for _, c := range []struct{ name, want, got, diff string }{
		{"equal", "a\nb\n", "a\nb\n", ""},
		{"changed", "a\nb\nc\n", "a\nx\nc\n", " a\n-b\n+x\n c\n"},
		{"added", "", "a\n", "+a\n"},
		{"removed", "a\n", "", "-a\n"},
		{"moved", "a\nb\n", "b\na\n", "-a\n b\n+a\n"},
		{"far apart", "1\n2\n3\n4\n5\n6\n7\n8\n9\nx\n", "1\n2\n3\n4\n5\n6\n7\n8\n9\ny\n", " … 6 equal lines\n 7\n 8\n 9\n-x\n+y\n"},
		{"one line is not left out", "1\n2\n3\n4\nx\n", "1\n2\n3\n4\ny\n", " 1\n 2\n 3\n 4\n-x\n+y\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if d := cmp.Diff(c.diff, diff(c.want, c.got)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// TestEditScript: without the lines of one text, what is left is the other, and
// no common line is missed.
func TestEditScript(t *testing.T) {
	line := rapid.SampledFrom([]string{"a", "b", "c"})
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.SliceOfN(line, 0, 8).Draw(t, "a"), rapid.SliceOfN(line, 0, 8).Draw(t, "b")
		var left, right []string
		common := 0
		for _, l := range editScript(a, b) {
			switch l[0] {
			case ' ':
				left, right = append(left, l[1:]), append(right, l[1:])
				common++
			case '-':
				left = append(left, l[1:])
			case '+':
				right = append(right, l[1:])
			}
		}
		if !slices.Equal(left, a) || !slices.Equal(right, b) {
			t.Fatalf("left %q, right %q", left, right)
		}
		if want := longestCommon(a, b); common != want {
			t.Fatalf("%d lines in common, want %d", common, want)
		}
	})
}

func longestCommon(a, b []string) int {
	switch {
	case len(a) == 0 || len(b) == 0:
		return 0
	case a[0] == b[0]:
		return 1 + longestCommon(a[1:], b[1:])
	default:
		return max(longestCommon(a[1:], b), longestCommon(a, b[1:]))
	}
}

// TestDiffLarge: texts that are too large to compare in full are still
// distinguished.
func TestDiffLarge(t *testing.T) {
	a, b := strings.Repeat("a\n", 3000), strings.Repeat("b\n", 3000)
	d := diff("same\n"+a, "same\n"+b)
	if strings.Count(d, "-a\n") != 3000 || strings.Count(d, "+b\n") != 3000 || !strings.HasPrefix(d, " same\n") {
		t.Errorf("diff of %d bytes", len(d))
	}
}
