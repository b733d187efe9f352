package policy

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// thousandRules is a policy of 1,000 rules of one kind that match nothing.
func thousandRules(match func(i int) Match) []SecurityRule {
	rules := make([]SecurityRule, 1000)
	for i := range rules {
		rules[i] = SecurityRule{Name: fmt.Sprint("rule ", i), Match: match(i), Action: Close{}}
	}
	return rules
}

var benchTx = newTx("GET", "/shop/Articles/12345/view?page=2&sort=price", host("www.example.com"),
	header("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0 Safari/537.36"),
	header("Cookie", "theme=dark; session=8f14e45fceea167a5a36dedd4bea2543"))

// The budget is 1 ms for 1,000 rules, regular expressions included.
func BenchmarkThousandRules(b *testing.B) {
	env := Env{IPGroups: groups{"g": prefixes("10.0.0.0/8")}}
	kinds := []struct {
		name  string
		match func(i int) Match
	}{
		{"address", func(i int) Match {
			return Match{ClientIP: &IPMatch{Prefixes: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)}}}
		}},
		{"path", func(i int) Match {
			return Match{Path: &PathMatch{Op: BeginsWith, Values: []string{fmt.Sprintf("/admin%d", i)}}}
		}},
		{"header", func(i int) Match {
			return Match{Headers: []HeaderMatch{{Name: "User-Agent", Op: Contains, Values: []string{fmt.Sprintf("bot%d", i)}}}}
		}},
		{"regexp", func(i int) Match {
			return Match{Path: &PathMatch{Op: MatchesRegexp, Values: []string{fmt.Sprintf(`^/(api|rest)/v%d/.*\.json$`, i)}}}
		}},
		{"unanchored regexp", func(i int) Match {
			return Match{Path: &PathMatch{Op: MatchesRegexp, Values: []string{fmt.Sprintf(`v%d.*\.json`, i)}}}
		}},
		{"regexp without literal", func(i int) Match {
			return Match{Path: &PathMatch{Op: MatchesRegexp, Values: []string{fmt.Sprintf(`[xyz]%%{%d}`, i%5+1)}}}
		}},
	}
	mixed := func(i int) Match { return kinds[i%5].match(i) }
	for _, k := range append(kinds, struct {
		name  string
		match func(i int) Match
	}{"mixed", mixed}) {
		b.Run(k.name, func(b *testing.B) {
			p := mustHTTPSecurity(b, env, thousandRules(k.match)...)
			b.ReportAllocs()
			for b.Loop() {
				if v := p.Evaluate(benchTx); v.Rule != "" {
					b.Fatalf("%+v", v)
				}
			}
			perCall := b.Elapsed() / time.Duration(b.N)
			b.ReportMetric(float64(perCall)/float64(time.Millisecond), "of-1ms-budget")
		})
	}
}

func BenchmarkFewRules(b *testing.B) {
	p := mustHTTPSecurity(b, Env{IPGroups: groups{"g": prefixes("10.0.0.0/8")}},
		SecurityRule{Name: "group", Match: Match{ClientIP: &IPMatch{Groups: []string{"g"}}}, Action: Close{}},
		SecurityRule{Name: "https", Match: pathIs("/login"), Action: RedirectToHTTPS{}},
		SecurityRule{Name: "admin", Match: Match{Path: &PathMatch{Op: BeginsWith, Values: []string{"/admin"}}}, Action: Respond{Status: 403}})
	b.ReportAllocs()
	for b.Loop() {
		p.Evaluate(benchTx)
	}
}

func BenchmarkNetworkSecurity(b *testing.B) {
	rules := make([]NetworkRule, 1000)
	for i := range rules {
		rules[i] = NetworkRule{Name: fmt.Sprint(i), Action: ActionReset, Match: NetworkMatch{ClientIP: &IPMatch{
			Prefixes: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)}}}}
	}
	p := mustNetworkSecurity(b, Env{}, rules...)
	c := conn{client: netip.MustParseAddrPort("192.0.2.1:4000")}
	b.ReportAllocs()
	for b.Loop() {
		p.Evaluate(c.client, c.local)
	}
}

// BenchmarkStringSet compares the structure with a scan of the same values:
// the metric is the ratio of their times in one run.
func BenchmarkStringSet(b *testing.B) {
	scans := map[Op]func(s, v []byte) bool{Equals: bytes.Equal, BeginsWith: bytes.HasPrefix, EndsWith: bytes.HasSuffix, Contains: bytes.Contains}
	for _, op := range []Op{Equals, BeginsWith, EndsWith, Contains} {
		for _, n := range []int{1, 4, 16, 32, 1000, 10000} {
			b.Run(fmt.Sprintf("%v/%d", op, n), func(b *testing.B) {
				var values []string
				for i := range n {
					values = append(values, fmt.Sprintf("/%x/old/%d", i*7919%65536, i))
				}
				c := &compiler{}
				set := newStringSet(op, false, c.values("m", op, values, nil, false), nil)
				var s subjects
				subject := s.copy("/shop/Articles/12345/view/of/a/longer/path/with/some/more/segments/12345.html")
				b.ReportAllocs()
				for b.Loop() {
					if in, _ := set.contains(subject); in {
						b.Fatal("matched")
					}
				}
				perCall := float64(b.Elapsed()) / float64(b.N)
				rounds := max(1, 20000/n)
				start := time.Now()
				for range rounds {
					for _, v := range set.literals {
						if scans[op](subject.folded, v) {
							b.Fatal("matched")
						}
					}
				}
				b.ReportMetric(perCall/(float64(time.Since(start))/float64(rounds)), "ratio-to-scan")
			})
		}
	}
}

// BenchmarkRegexp reports the time per KiB of subject for patterns within the
// limits, from common to the worst.
func BenchmarkRegexp(b *testing.B) {
	subject := bytes.Repeat([]byte("a"), maxRegexpSubject)
	for _, pattern := range []string{"^/admin(/|$)", `\.(php|asp|jsp)$`, "union.*select", "a.*[bc]", "(a|aa)+[bc]$", "(x*a?){80}[bc]"} {
		b.Run(pattern, func(b *testing.B) {
			c := &compiler{}
			set := newStringSet(MatchesRegexp, false, c.values("m", MatchesRegexp, []string{pattern}, nil, false), nil)
			if c.faults.Err() != nil {
				b.Fatal(c.faults.Err())
			}
			b.ReportAllocs()
			for b.Loop() {
				if in, err := set.contains(text{subject, subject}); in || err != nil {
					b.Fatal(in, err)
				}
			}
			b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(maxRegexpSubject/1024)/1000, "µs/KiB")
		})
	}
}

// BenchmarkHTTPRequest is a policy as sites have it: a few rules that match
// nothing, one that chooses a pool, one that edits headers.
func BenchmarkHTTPRequest(b *testing.B) {
	p := mustHTTPRequest(b, Env{},
		RequestRule{Name: "old", Match: pathIs("/old"), Action: Redirect{Protocol: HTTPS, Path: "/new/path[1:]"}},
		RequestRule{Name: "static", Match: Match{Path: &PathMatch{Op: BeginsWith, Values: []string{"/static"}}}, Action: Modify{Pool: SwitchPool{Name: "static"}}},
		RequestRule{Name: "shop", Match: Match{Path: &PathMatch{Op: BeginsWith, Values: []string{"/shop"}}}, Action: Modify{Pool: SwitchPool{Name: "shop"}}},
		RequestRule{Name: "edit", Action: Modify{Rewrite: RewriteURL{Path: "/path[1:]"}, Edits: []Edit{ReplaceHeader{"X-Client", "$client_ip"}, RemoveHeader{"X-Debug"}}}})
	b.ReportAllocs()
	for b.Loop() {
		tx := *benchTx
		p.Evaluate(&tx)
	}
}
