package policy

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// slowContains says what stringSet.contains says, value by value. Valid UTF-8
// only: strings.EqualFold takes all broken bytes for equal.
func slowContains(op Op, caseSensitive bool, values []string, subject string) bool {
	equal := strings.EqualFold
	if caseSensitive {
		equal = func(a, b string) bool { return a == b }
	}
	// cuts are the positions between runes, where case-folded parts can begin
	// and end.
	var cuts []int
	for i := range subject {
		cuts = append(cuts, i)
	}
	cuts = append(cuts, len(subject))
	for _, v := range values {
		if op == MatchesRegexp {
			if !caseSensitive {
				v = "(?i)" + v
			}
			if regexp.MustCompile(v).MatchString(subject) {
				return true
			}
			continue
		}
		for _, i := range cuts {
			for _, j := range cuts {
				if i > j || i > 0 && (op == BeginsWith || op == Equals) || j < len(subject) && (op == EndsWith || op == Equals) {
					continue
				}
				if equal(subject[i:j], v) {
					return true
				}
			}
		}
	}
	return false
}

// Letters with two and three spellings, of different lengths in UTF-8: k, K
// and the Kelvin sign; s, S and the long s; é and É.
const letters = "[kK\u212asS\u017féÉab/]"

func TestStringSetAgainstScan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		op := rapid.SampledFrom([]Op{BeginsWith, Contains, EndsWith, Equals, MatchesRegexp}).Draw(t, "op")
		caseSensitive := rapid.Bool().Draw(t, "caseSensitive")
		n := rapid.SampledFrom([]int{1, 3, 2 * scanLimit}).Draw(t, "n")
		values := rapid.SliceOfN(rapid.StringMatching(letters+"{1,4}"), n, n).Draw(t, "values")
		c := &compiler{}
		set := newStringSet(op, caseSensitive, c.values("m", op, values, nil, caseSensitive), nil)
		if c.faults.Err() != nil {
			t.Fatal(c.faults.Err())
		}
		subject := rapid.OneOf(
			rapid.StringMatching(letters+"{0,8}"),
			rapid.SampledFrom(values),
			rapid.Map(rapid.SampledFrom(values), strings.ToUpper),
		)
		for _, s := range rapid.SliceOfN(subject, 20, 20).Draw(t, "subjects") {
			var scratch subjects
			got, err := set.contains(scratch.copy(s))
			if err != nil {
				t.Fatal(err)
			}
			if want := slowContains(op, caseSensitive, values, s); got != want {
				t.Fatalf("%q %v %q (case-sensitive %v): %v, want %v", s, op, values, caseSensitive, got, want)
			}
		}
	})
}

// Thousands of values with shared beginnings, against a scan.
func TestLongListAgainstScan(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	word := func(least, most int) string {
		b := make([]byte, least+random.IntN(most-least+1))
		for i := range b {
			b[i] = "abc"[random.IntN(3)]
		}
		return string(b)
	}
	values := make([]string, 3000)
	for i := range values {
		values[i] = "x" + word(7, 12)
	}
	slow := map[Op]func(s, v string) bool{
		BeginsWith: strings.HasPrefix, Contains: strings.Contains, EndsWith: strings.HasSuffix,
		Equals: func(s, v string) bool { return s == v },
	}
	for op, fits := range slow {
		c := &compiler{}
		set := newStringSet(op, true, c.values("m", op, values, nil, true), nil)
		hits := 0
		for range 2000 {
			subject := "x" + word(1, 14)
			if random.IntN(2) == 0 {
				subject = values[random.IntN(len(values))]
			}
			switch random.IntN(4) {
			case 0:
				subject = word(1, 4) + subject
			case 1:
				subject += word(1, 4)
			}
			want := false
			for _, v := range values {
				want = want || fits(subject, v)
			}
			var s subjects
			if got, _ := set.contains(s.copy(subject)); got != want {
				t.Fatalf("%q %v: %v", subject, op, got)
			}
			if want {
				hits++
			}
		}
		if hits < 100 || hits > 1999 {
			t.Errorf("%v: %d of 2000 hit: the test says little", op, hits)
		}
	}
}

func TestFold(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", ""},
		{"abc/09~", "abc/09~"},
		{"ABCxyz@[`{", "abcxyz@[`{"},
		{"\u212a\u017f", "ks"},             // Kelvin sign and long s are ASCII letters in disguise
		{"\xff\xc3A\x80", "\xff\xc3a\x80"}, // broken UTF-8 stands for itself
		{"\ufffd", "\ufffd"},
	} {
		if got := fold(c.in); string(got) != c.want {
			t.Errorf("fold(%q) = %q, want %q", c.in, got, c.want)
		}
	}
	for r := rune(0); r <= utf8.MaxRune; r++ {
		if !utf8.ValidRune(r) {
			continue
		}
		f := foldRune(r)
		if !strings.EqualFold(string(r), string(f)) || foldRune(f) != f {
			t.Fatalf("%U folds to %U", r, f)
		}
		if isFolded([]byte(string(r))) && f != r {
			t.Fatalf("%U counts as folded", r)
		}
	}
}

func TestAppendUnescaped(t *testing.T) {
	for _, c := range []struct{ in, want, wantPlus string }{
		{"", "", ""},
		{"a=b&c", "a=b&c", "a=b&c"},
		{"%41%62%2b", "Ab+", "Ab+"},
		{"a+b", "a+b", "a b"},
		{"%2541", "%41", "%41"}, // once
		{"%", "%", "%"},
		{"%4", "%4", "%4"},
		{"%4g%g4%%41", "%4g%g4%A", "%4g%g4%A"},
		{"%00%ff%C3%A9", "\x00\xffé", "\x00\xffé"},
	} {
		if got := string(appendUnescaped(nil, c.in, false)); got != c.want {
			t.Errorf("%q: %q, want %q", c.in, got, c.want)
		}
		if got := string(appendUnescaped(nil, c.in, true)); got != c.wantPlus {
			t.Errorf("%q with plus: %q, want %q", c.in, got, c.wantPlus)
		}
	}
}

func TestOpNegative(t *testing.T) {
	for op := IsIn; op <= DoesNotExist; op++ {
		if op.negative() != strings.Contains(op.String(), "not") || op.positive().negative() {
			t.Errorf("%v: negative %v, positive %v", op, op.negative(), op.positive())
		}
	}
}

func TestRegexpLimits(t *testing.T) {
	pattern := func(p string) []SecurityRule {
		return []SecurityRule{{Name: "r", Action: Close{}, Match: Match{Path: &PathMatch{Op: MatchesRegexp, Values: []string{p}}}}}
	}
	for _, c := range []struct{ name, pattern, fault string }{
		{"longest", strings.Repeat("a", maxProgram-4), ""},
		{"too long", strings.Repeat("a", maxPattern+1), "1025 bytes are more than 1024"},
		{"repetition", "(a{100}){6}", "instructions"},
		{"nested repetition", "((a{100}){100}){100}", "invalid repeat count"},
		{"look-ahead", "(?=a)b", "invalid or unsupported Perl syntax"},
		{"back-reference", `(a)\1`, "invalid escape sequence"},
		{"closes what it did not open", "a)(b", "unexpected )"}, // would be accepted if it were wrapped in a group
		{"broken UTF-8", "\xff", "invalid UTF-8"},
	} {
		_, err := NewHTTPSecurity(pattern(c.pattern), Env{})
		switch {
		case c.fault == "":
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
		case err == nil || !strings.Contains(err.Error(), c.fault) || !strings.HasPrefix(err.Error(), "rules[0].match.path.values[0]: "):
			t.Errorf("%s: %v", c.name, err)
		}
	}

	many := make([]string, maxPatterns+2)
	for i := range many {
		many[i] = fmt.Sprint("a", i)
	}
	rules := pattern("x")
	rules[0].Match.Path.Values = many[:maxPatterns]
	if _, err := NewHTTPSecurity(rules, Env{}); err != nil {
		t.Error(err)
	}
	rules[0].Match.Path.Values = many
	if _, err := NewHTTPSecurity(rules, Env{}); err == nil || !strings.Contains(err.Error(), "rules: more than 1000 regular expressions") {
		t.Errorf("%d patterns: %v", len(many), err)
	}
}

// A subject that is too long for a pattern is refused, not skipped: a client
// could otherwise pad its way past a rule.
func TestSubjectTooLong(t *testing.T) {
	long := "/" + strings.Repeat("a", maxRegexpSubject)
	values := []string{"b$"}
	for _, c := range []struct {
		name   string
		match  Match
		tx     *fakeTx
		status int
	}{
		{"path", Match{Path: &PathMatch{Op: MatchesRegexp, Values: values}}, newTx("GET", long), 414},
		{"path of a complement", Match{Path: &PathMatch{Op: DoesNotMatchRegexp, Values: values}}, newTx("GET", long), 414},
		{"ambiguous path", Match{Path: &PathMatch{Op: Equals, Values: values}}, newTx("GET", long[:maxAmbiguousPath-1]+"//"), 414},
		{"query", Match{Query: &QueryMatch{Op: MatchesRegexp, Values: values}}, newTx("GET", "/?"+long), 414},
		{"host", Match{Host: &TextMatch{Op: MatchesRegexp, Values: values}}, newTx("GET", "/", host(long)), 431},
		{"header", Match{Headers: []HeaderMatch{{Name: "X", Op: MatchesRegexp, Values: values}}}, newTx("GET", "/", header("X", "a", long)), 431},
		{"cookie", Match{Cookie: &CookieMatch{Name: "x", Op: MatchesRegexp, Values: values}}, newTx("GET", "/", header("Cookie", "x="+long)), 431},
	} {
		for _, open := range []bool{false, true} {
			p := mustHTTPSecurity(t, Env{FailOpen: open}, SecurityRule{Name: "r", Match: c.match, Action: Allow{}})
			v := p.Evaluate(c.tx)
			if v.Err == nil || v.Status != c.status || c.tx.status != c.status || !v.Ended || !v.Dropped || v.Action != ActionFail {
				t.Errorf("%s, FailOpen %v: %+v, replied %d", c.name, open, v, c.tx.status)
			}
		}
	}
	// The literal operators have no such limit.
	if !holds(t, Match{Path: &PathMatch{Op: EndsWith, Values: []string{"aaa"}}}, newTx("GET", long)) {
		t.Error("long path does not end with aaa")
	}
	// And the limits are the last lengths accepted.
	if !holds(t, Match{Path: &PathMatch{Op: EndsWith, Values: []string{"a//"}}}, newTx("GET", long[:maxAmbiguousPath-2]+"//")) {
		t.Error("ambiguous path does not end with a//")
	}
	if holds(t, Match{Path: &PathMatch{Op: MatchesRegexp, Values: values}}, newTx("GET", long[:maxRegexpSubject])) {
		t.Error("matched")
	}
}

func TestReduce(t *testing.T) {
	c := &compiler{}
	for _, row := range []struct {
		op   Op
		want string
	}{
		{BeginsWith, "a ba bb ca"},
		{Contains, "a ba bb ca"},
		{EndsWith, "a bb abc"},
		{Equals, "a abc ba bb ca"},
	} {
		set := newStringSet(row.op, true, c.values("m", row.op, []string{"ca", "bb", "a", "ba", "abc", "a"}, nil, true), nil)
		if got := string(bytes.Join(set.literals, []byte(" "))); got != row.want {
			t.Errorf("%v: %q, want %q", row.op, got, row.want)
		}
	}
}
