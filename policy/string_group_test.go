package policy

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func mustStringGroup(t testing.TB, cfg StringGroupConfig) *StringGroup {
	t.Helper()
	g, err := NewStringGroup(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func list(name string, keys ...string) StringGroupConfig {
	cfg := StringGroupConfig{Name: name}
	for _, k := range keys {
		cfg.Entries = append(cfg.Entries, StringEntry{Key: k})
	}
	return cfg
}

func mustStringGroups(t testing.TB, configs ...StringGroupConfig) *StringGroups {
	t.Helper()
	var groups []*StringGroup
	for _, cfg := range configs {
		groups = append(groups, mustStringGroup(t, cfg))
	}
	s, err := NewStringGroups(groups...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStringGroup(t *testing.T) {
	abc := []string{"ab", "a", "abc", "ABC", "bc"}
	for _, c := range []struct {
		name          string
		keys          []string
		longest       bool
		op            Op
		subject       string
		caseSensitive bool
		want          string // empty: none
	}{
		{"shortest", abc, false, BeginsWith, "abcd", false, "a"},
		{"longest", abc, true, BeginsWith, "abcd", false, "abc"},
		{"longest, equal lengths in order", []string{"ABC", "abc"}, true, BeginsWith, "abcd", false, "ABC"},
		{"case", abc, true, BeginsWith, "ABCD", true, "ABC"},
		{"entry longer than subject", abc, false, BeginsWith, "b", false, ""},
		{"ends", abc, false, EndsWith, "xxxbc", false, "bc"},
		{"ends longest", abc, true, EndsWith, "xxxabc", false, "abc"},
		{"contains", abc, false, Contains, "xxabcxx", false, "a"},
		{"contains longest", abc, true, Contains, "xxabcxx", false, "abc"},
		{"contains none", abc, false, Contains, "xxb", false, ""},
		{"equals", abc, false, Equals, "ABC", false, "abc"},
		{"equals case", abc, false, Equals, "ABC", true, "ABC"},
		{"equals part", abc, false, Equals, "abcd", false, ""},
		{"empty subject", abc, false, Contains, "", false, ""},
		{"negative operator", abc, false, DoesNotContain, "xa", false, "a"},
		{"no operator", abc, false, 0, "a", false, ""},
		{"Kelvin sign", []string{"\u212a"}, false, Equals, "k", false, "\u212a"},
		{"overlap falls back", []string{"abcx", "bcd"}, false, Contains, "abcd", false, "bcd"},
		{"overlap of itself", []string{"aab"}, false, Contains, "aaab", false, "aab"},
		{"regexp", []string{"^/a/(.*)$", "^/a/b/(.*)$"}, true, MatchesRegexp, "/A/b/c", false, "^/a/b/(.*)$"},
		{"regexp shortest", []string{"^/a/b/(.*)$", "^/a/(.*)$"}, false, MatchesRegexp, "/a/b/c", true, "^/a/(.*)$"},
		{"regexp case", []string{"^/a"}, false, MatchesRegexp, "/A", true, ""},
		{"empty group", nil, false, Contains, "a", false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := list("g", c.keys...)
			cfg.LongestMatch = c.longest
			e, ok, err := mustStringGroup(t, cfg).Find(c.op, c.subject, c.caseSensitive)
			if e.Key != c.want || ok != (c.want != "") || err != nil {
				t.Errorf("%q, %v, %v, want %q", e.Key, ok, err, c.want)
			}
		})
	}
}

func TestStringGroupFaults(t *testing.T) {
	_, err := NewStringGroup(StringGroupConfig{Kind: 2, Entries: []StringEntry{{}, {"a", "b"}}})
	want := []string{"name: missing", "kind: 2: not one of list, map", "entries[0].key: an empty key is part of every text"}
	if diff := cmp.Diff(want, lines(err)); diff != "" {
		t.Error(diff)
	}
	_, err = NewStringGroup(StringGroupConfig{Name: "big", Entries: []StringEntry{{"a", "b"}, {strings.Repeat("x", maxStringGroupBytes), ""}}})
	want = []string{
		`entries: keys of 16777217 bytes are more than 16777216`,
		`entries[0].value: "b": an entry of a list has no value`,
	}
	if diff := cmp.Diff(want, lines(err)); diff != "" {
		t.Error(diff)
	}
	g := mustStringGroup(t, list("bad", "ok", "(["))
	if _, _, err := g.Find(MatchesRegexp, "x", false); err == nil || !strings.Contains(err.Error(), "entries[1].key") {
		t.Errorf("%v", err)
	}
	long := mustStringGroup(t, list("long", "a"))
	if _, _, err := long.Find(MatchesRegexp, strings.Repeat("b", maxRegexpSubject+1), true); !errors.Is(err, errFieldTooLong) {
		t.Errorf("%v", err)
	}
}

// slowFind looks at one entry after the other.
func slowFind(cfg StringGroupConfig, op Op, subject string, caseSensitive, rooted bool) int32 {
	best := int32(-1)
	for i, e := range cfg.Entries {
		key := e.Key
		if rooted {
			key = "/" + strings.TrimLeft(key, "/")
		}
		if !slowContains(op, caseSensitive, []string{key}, subject) {
			continue
		}
		if best >= 0 {
			old := len(cfg.Entries[best].Key)
			if len(e.Key) == old || (len(e.Key) > old) != cfg.LongestMatch {
				continue
			}
		}
		best = int32(i)
	}
	return best
}

func TestStringGroupAgainstScan(t *testing.T) {
	decisions, found := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		letters := []rune("aabAB/k\u212aé")
		text := func(n int) *rapid.Generator[string] { return rapid.StringOfN(rapid.SampledFrom(letters), 1, n, -1) }
		cfg := list("g", rapid.SliceOfN(text(5), 1, 40).Draw(t, "keys")...)
		cfg.LongestMatch = rapid.Bool().Draw(t, "longest")
		g, err := NewStringGroup(cfg)
		if err != nil {
			t.Fatal(err)
		}
		for range 100 {
			subject := text(12).Draw(t, "subject")
			for _, op := range []Op{Equals, BeginsWith, EndsWith, Contains} {
				for _, caseSensitive := range []bool{false, true} {
					rooted := op != EndsWith && subject[0] == '/'
					got, err := g.find(op, text2(subject), caseSensitive, rooted)
					if want := slowFind(cfg, op, subject, caseSensitive, rooted); got != want || err != nil {
						t.Fatalf("%v %q in %+v (case %v): %d, want %d", op, subject, cfg, caseSensitive, got, want)
					}
					decisions++
					if got >= 0 {
						found++
					}
				}
			}
		}
	})
	if !t.Failed() && (found*10 < decisions || found*10 > decisions*9) {
		t.Errorf("%d of %d found: the test says little", found, decisions)
	}
}

func text2(s string) text { return text{[]byte(s), fold(s)} }

func TestStringGroups(t *testing.T) {
	m := StringGroupConfig{Name: "map", Kind: StringMap, Entries: []StringEntry{{"a", "1"}, {"ab", "2,3"}}}
	s := mustStringGroups(t, m, list("list", "ab", "b"))
	for _, c := range []struct {
		group, operator, subject string
		exact                    bool
		want                     string
		ok                       bool
		fails                    string
	}{
		{"map", "equals", "AB", false, "2,3", true, ""},
		{"map", "equals", "AB", true, "", false, ""},
		{"map", "beginswith", "abc", false, "1", true, ""},
		{"list", "endswith", "xAB", false, "b", true, ""},
		{"list", "contains", "xyz", false, "", false, ""},
		{"none", "contains", "xyz", false, "", false, `"none": unknown string group`},
		{"list", "matches", "xyz", false, "", false, `"matches" is not an operator of string groups`},
	} {
		got, ok, err := s.Match(c.group, c.operator, c.subject, c.exact)
		if got != c.want || ok != c.ok || (err == nil) != (c.fails == "") || err != nil && err.Error() != c.fails {
			t.Errorf("%+v: %q, %v, %v", c, got, ok, err)
		}
	}
	if diff := cmp.Diff([]string{"list", "map"}, s.Names()); diff != "" {
		t.Error(diff)
	}
	if err := s.Replace(mustStringGroup(t, list("list", "new"))); err != nil {
		t.Error(err)
	}
	if _, ok, _ := s.Match("list", "equals", "new", true); !ok || !s.Remove("map") || s.Remove("map") {
		t.Error("Replace or Remove")
	}
	if _, ok := s.Group("map"); ok {
		t.Error("still there")
	}
	if g, ok := s.Group("list"); !ok || g.Name() != "list" || g.Kind() != StringList || g.Len() != 1 {
		t.Errorf("%+v", g)
	}
	if err := s.Replace(nil); err == nil {
		t.Error("a nil group")
	}
	if _, err := NewStringGroups(mustStringGroup(t, list("a")), nil, mustStringGroup(t, list("a"))); err == nil ||
		err.Error() != "groups[1]: missing\ngroups[2].name: \"a\": already the name of another group" {
		t.Errorf("%v", err)
	}
	var none *StringGroups
	if _, _, err := none.Match("a", "equals", "x", false); !errors.Is(err, errUnknownStringGroup) || none.Names() != nil {
		t.Errorf("%v", err)
	}
	var zero StringGroups
	if err := zero.Replace(mustStringGroup(t, list("a", "x"))); err != nil || len(zero.Names()) != 1 {
		t.Error("the zero value")
	}
	if StringList.String()+StringMap.String()+StringGroupKind(2).String() != "listmapinvalid" {
		t.Error("String")
	}
}

func TestStringGroupsInMatches(t *testing.T) {
	groups := mustStringGroups(t, list("paths", "secret", "/admin"), list("agents", "bot"), list("args", "debug=1"), list("patterns", `^/v\d+/`))
	env := Env{StringGroups: groups}
	rule := func(m Match) *HTTPSecurity {
		return mustHTTPSecurity(t, env, SecurityRule{Name: "r", Match: m, Action: Close{}})
	}
	path := func(op Op, values ...string) Match {
		return Match{Path: &PathMatch{Op: op, Values: values, StringGroups: []string{"paths"}}}
	}
	for _, c := range []struct {
		name string
		m    Match
		tx   *fakeTx
		want bool
	}{
		{"in the group, without its slash", path(BeginsWith), newTx("GET", "/Secret/x"), true},
		{"in the group", path(BeginsWith), newTx("GET", "/x/%2e%2e/ADMIN"), true},
		{"inline", path(BeginsWith, "/own"), newTx("GET", "/own"), true},
		{"neither", path(BeginsWith, "/own"), newTx("GET", "/x"), false},
		{"complement of both", path(DoesNotBeginWith, "/own"), newTx("GET", "/x"), true},
		{"complement", path(DoesNotBeginWith, "/own"), newTx("GET", "/admin"), false},
		{"equals", path(Equals), newTx("GET", "/secret"), true},
		{"contains", path(Contains), newTx("GET", "/my-secrets"), true},
		{"ends", path(EndsWith), newTx("GET", "/a/secret"), true},
		{"query", Match{Query: &QueryMatch{Op: Contains, StringGroups: []string{"args"}}}, newTx("GET", "/?x&DEBUG=%31"), true},
		{"header", Match{Headers: []HeaderMatch{{Name: "User-Agent", Op: Contains, StringGroups: []string{"agents"}}}}, newTx("GET", "/", header("User-Agent", "x", "GoogleBot")), true},
		{"pattern", Match{Path: &PathMatch{Op: MatchesRegexp, StringGroups: []string{"patterns"}}}, newTx("GET", "/V12/x"), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if v := rule(c.m).Evaluate(c.tx); v.Ended != c.want || v.Err != nil {
				t.Errorf("%+v", v)
			}
		})
	}

	t.Run("live", func(t *testing.T) {
		p := rule(path(Equals))
		if err := groups.Replace(mustStringGroup(t, list("paths", "/new"))); err != nil {
			t.Fatal(err)
		}
		if !p.Evaluate(newTx("GET", "/new")).Ended || p.Evaluate(newTx("GET", "/secret")).Ended {
			t.Error("the rule uses the group as it was")
		}
		groups.Remove("paths")
		if v := p.Evaluate(newTx("GET", "/new")); v.Status != 500 || !errors.Is(v.Err, errUnknownStringGroup) {
			t.Errorf("%+v", v)
		}
		bad := rule(Match{Path: &PathMatch{Op: MatchesRegexp, StringGroups: []string{"patterns"}}})
		long := newTx("GET", "/"+strings.Repeat("a", maxRegexpSubject))
		if v := bad.Evaluate(long); v.Status != 414 {
			t.Errorf("%+v", v)
		}
		if err := groups.Replace(mustStringGroup(t, list("patterns", "(["))); err != nil {
			t.Fatal(err)
		}
		if v := bad.Evaluate(newTx("GET", "/")); v.Status != 500 {
			t.Errorf("%+v", v)
		}
	})

	_, err := NewHTTPSecurity([]SecurityRule{
		{Name: "a", Action: Close{}, Match: Match{Path: &PathMatch{Op: Equals, StringGroups: []string{"missing"}}}},
		{Name: "b", Action: Close{}, Match: Match{Query: &QueryMatch{Op: MatchesRegexp, StringGroups: []string{"agents", "patterns"}}}},
		{Name: "c", Action: Close{}, Match: Match{Query: &QueryMatch{Op: Exists, StringGroups: []string{"agents"}}}},
	}, env)
	want := []string{
		`rules[0].match.path.stringGroups[0]: "missing": unknown string group`,
		`rules[1].match.query.stringGroups[1]: "patterns": entries[0].key: "([": missing closing ]: "["`,
		`rules[2].match.query.values: "exists" takes no values`,
	}
	if diff := cmp.Diff(want, lines(err)); diff != "" {
		t.Error(diff)
	}
	_, err = NewHTTPSecurity([]SecurityRule{{Name: "a", Action: Close{}, Match: path(Equals)}}, Env{})
	if err == nil || err.Error() != `rules[0].match.path.stringGroups[0]: "paths": the policy was given no string groups` {
		t.Errorf("%v", err)
	}
}

func TestReadStringCSV(t *testing.T) {
	for _, c := range []struct {
		name, in string
		kind     StringGroupKind
		want     []StringEntry
		fails    string
	}{
		{"map", "key,a,b,c\nk2,,x,\n k3 \n", StringMap, []StringEntry{{"key", "a,b,c"}, {"k2", "x"}, {"k3", ""}}, ""},
		{"list", "key,a\r\n\r\nk2\r\n", StringList, []StringEntry{{"key", ""}, {"k2", ""}}, ""},
		{"byte order mark and quotes", "\ufeff\"a,b\",\"x\"\"y\"", StringMap, []StringEntry{{"a,b", `x"y`}}, ""},
		{"empty", "", StringMap, nil, ""},
		{"no key", "a\n,b\n", StringMap, nil, "line 2: the key is empty"},
		{"quote", "a\nb\"c\n", StringMap, nil, `parse error on line 2, column 2: bare " in non-quoted-field`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ReadStringCSV(strings.NewReader(c.in), c.kind, false)
			if diff := cmp.Diff(c.want, got); diff != "" || (err == nil) != (c.fails == "") || err != nil && err.Error() != c.fails {
				t.Errorf("%v %s", err, diff)
			}
		})
	}
}

// FuzzReadStringCSV: what is read makes a group, unless a key is too long.
func FuzzReadStringCSV(f *testing.F) {
	f.Add([]byte("a,b,c\nd\n"), uint8(1))                // plain
	f.Add([]byte("\xef\xbb\xbf\"a\nb\",\r\n"), uint8(0)) // mark, and a line end in quotes
	f.Add([]byte(" ,x"), uint8(1))                       // a key of blanks
	f.Fuzz(func(t *testing.T, in []byte, kind uint8) {
		k := StringGroupKind(kind % 2)
		entries, err := ReadStringCSV(bytes.NewReader(in), k, false)
		if err != nil {
			return
		}
		g, err := NewStringGroup(StringGroupConfig{Name: "g", Kind: k, Entries: entries})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if got, ok, _ := g.Find(Equals, e.Key, true); !ok || got.Key != e.Key {
				t.Fatalf("%q is not found", e.Key)
			}
		}
	})
}

func BenchmarkStringGroup(b *testing.B) {
	for _, n := range []int{10, 1000, 10000} {
		var keys []string
		for i := range n {
			keys = append(keys, fmt.Sprintf("/%x/old/%d", i*7919%65536, i))
		}
		g := mustStringGroup(b, list("g", keys...))
		subject := text2("/shop/Articles/12345/view/of/a/longer/path/with/some/more/segments/12345.html")
		for _, op := range []Op{Equals, BeginsWith, EndsWith, Contains} {
			b.Run(fmt.Sprintf("%v/%d", op, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if i, _ := g.find(op, subject, false, false); i >= 0 {
						b.Fatal("found")
					}
				}
			})
		}
	}
}
