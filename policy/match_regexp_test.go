package policy

import (
	"regexp"
	"regexp/syntax"
	"testing"

	"pgregory.net/rapid"
)

func TestRequiredLiteral(t *testing.T) {
	for _, c := range []struct{ pattern, want string }{
		{"abc", "abc"},
		{"^/api/v1/.*\\.json$", "/api/v1/"},
		{"a.*(bcd)+e", "bcd"},
		{"(?i)a.*BCD", "bcd"},
		{"(ab){2,3}c", "ab"},
		{"(ab){0,3}c", "c"},
		{"(ab)*c", "c"},
		{"(ab)?", ""},
		{"ab|cd", ""},
		{"(abc|abd)x", "ab"},
		{"[ab]", ""},
		{"", ""},
		{"\ufffd", ""}, // matches broken UTF-8, which has other bytes
		{"a\ufffdb.c", "c"},
	} {
		parsed, err := syntax.Parse(c.pattern, syntax.Perl)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(fold(requiredLiteral(parsed))); got != c.want {
			t.Errorf("%q: %q, want %q", c.pattern, got, c.want)
		}
	}
}

// Looking for the literal first never changes an answer.
func TestPatternAgainstRegexp(t *testing.T) {
	genSource := rapid.StringMatching(`([abkK\x{212a}éÉ\x{fffd}.]|\(a\|bk\)|[ab]{1,3}|\(ka\)|\[ab\])([*+?]|\{1,2\}|\{0,1\})?([abkK./]|\(b\|kk?\)[+?]?){0,4}`)
	rapid.Check(t, func(t *rapid.T) {
		source := genSource.Draw(t, "source")
		caseSensitive := rapid.Bool().Draw(t, "caseSensitive")
		c := &compiler{}
		set := newStringSet(MatchesRegexp, caseSensitive, c.values("m", MatchesRegexp, []string{source}, nil, caseSensitive), nil)
		if c.faults.Err() != nil {
			t.Skip(c.faults.Err())
		}
		text := source
		if !caseSensitive {
			text = "(?i)" + source
		}
		re := regexp.MustCompile(text)
		for _, subject := range rapid.SliceOfN(rapid.StringMatching(`[abkK/\x{212a}éÉ]{0,8}`), 20, 20).Draw(t, "subjects") {
			for _, s := range []string{subject, subject + "\xff", "\xc3" + subject} {
				var scratch subjects
				if got, _ := set.contains(scratch.copy(s)); got != re.MatchString(s) {
					t.Fatalf("%q on %q (case-sensitive %v): %v", source, s, caseSensitive, got)
				}
			}
		}
	})
}
