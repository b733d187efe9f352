package policy

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"net/textproto"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/limpetlb/limpet/internal/testrace"
)

// The interpreter below decides straight from the rules, value by value and
// in whole strings, with none of the compiled structures. Generated policies
// must decide generated requests and connections as it does.

func slowIP(m *IPMatch, env Env, addr netip.Addr) bool {
	if m == nil {
		return true
	}
	plain := func(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }
	addr = plain(addr)
	in := false
	for _, a := range m.Addrs {
		in = in || plain(a) == addr
	}
	for _, p := range m.Prefixes {
		if p.Addr().Is4In6() {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		in = in || p.Contains(addr)
	}
	for _, r := range m.Ranges {
		b, e := plain(r.Begin), plain(r.End)
		in = in || addr.Is4() == b.Is4() && !addr.Less(b) && !e.Less(addr)
	}
	for _, g := range m.Groups {
		ok, _ := env.IPGroups.Contains(g, addr)
		in = in || ok
	}
	return in == (m.Op == IsIn)
}

func slowPort(m *PortMatch, port uint16) bool {
	if m == nil {
		return true
	}
	in := slices.Contains(m.Ports, port)
	for _, r := range m.Ranges {
		in = in || r.Begin <= port && port <= r.End
	}
	return in == (m.Op == IsIn)
}

// slowValues compares all subjects that are there; any of them may fit.
func slowValues(op Op, caseSensitive bool, values []string, subjects ...string) bool {
	switch op {
	case Exists:
		return len(subjects) > 0
	case DoesNotExist:
		return len(subjects) == 0
	}
	any := false
	for _, s := range subjects {
		any = any || slowContains(op.positive(), caseSensitive, values, s)
	}
	return any != op.negative()
}

var escape = regexp.MustCompile(`%[0-9A-Fa-f]{2}`)

func slowUnescape(s string) string {
	return escape.ReplaceAllStringFunc(s, func(e string) string {
		u, err := url.PathUnescape(e)
		if err != nil {
			panic(err)
		}
		return u
	})
}

// slowMatch reports whether m selects the request under each reading of path
// and query, and under any.
func slowMatch(m Match, env Env, tx *fakeTx) (every, any bool) {
	r := tx.request
	if !slowIP(m.ClientIP, env, tx.client.Addr()) || !slowIP(m.SourceIP, env, tx.source.Addr()) || !slowPort(m.VSPort, tx.local.Port()) {
		return false, false
	}
	if p := m.Protocol; p != nil && ((r.TLS != nil) == (p.Protocol == HTTPS)) != (p.Op == IsIn) {
		return false, false
	}
	if p := m.Method; p != nil && slices.Contains(p.Methods, r.Method) != (p.Op == IsIn) {
		return false, false
	}
	if p := m.Version; p != nil {
		v := strings.Replace(fmt.Sprintf("HTTP/%d.%d", r.ProtoMajor, r.ProtoMinor), "2.0", "2", 1)
		if slices.Contains(p.Versions, v) != (p.Op == IsIn) {
			return false, false
		}
	}
	if p := m.Host; p != nil {
		in := false
		for _, v := range p.Values {
			bare := r.Host
			if i := strings.LastIndex(bare, ":"); i > strings.LastIndex(bare, "]") {
				bare = bare[:i]
			}
			bare = strings.TrimSuffix(bare, ".")
			switch colon := strings.Contains(v[strings.LastIndex(v, "]")+1:], ":"); {
			case r.Host == "":
			case p.Op.positive() == MatchesRegexp && strings.Contains(v, ":"):
				in = in || slowContains(MatchesRegexp, p.CaseSensitive, []string{v}, bare) || slowContains(MatchesRegexp, p.CaseSensitive, []string{v}, r.Host)
			case colon:
				in = in || slowContains(p.Op.positive(), p.CaseSensitive, []string{v}, r.Host)
			default:
				in = in || slowContains(p.Op.positive(), p.CaseSensitive, []string{v}, bare)
			}
		}
		if in == p.Op.negative() {
			return false, false
		}
	}
	for _, h := range m.Headers {
		if !slowValues(h.Op, h.CaseSensitive, h.Values, r.Header[textproto.CanonicalMIMEHeaderKey(h.Name)]...) {
			return false, false
		}
	}
	if p := m.Cookie; p != nil {
		var values []string
		for _, c := range r.CookiesNamed(p.Name) {
			values = append(values, c.Value)
		}
		if !slowValues(p.Op, p.CaseSensitive, p.Values, values...) {
			return false, false
		}
	}
	every, any = true, true
	if p := m.Path; p != nil {
		values := slices.Clone(p.Values)
		rooted := p.Op.positive() == BeginsWith || p.Op.positive() == Equals
		for i := range values {
			if rooted {
				values[i] = "/" + strings.TrimLeft(values[i], "/")
			}
		}
		all, one := true, false
		for _, read := range slowReadings(r.URL) {
			if rooted {
				read = "/" + strings.TrimLeft(read, "/")
			}
			ok := slowValues(p.Op, p.CaseSensitive, values, read)
			all, one = all && ok, one || ok
		}
		every, any = every && all, any && one
	}
	if p := m.Query; p != nil {
		all, one := true, false
		readings := []string{slowUnescape(r.URL.RawQuery), slowUnescape(strings.ReplaceAll(r.URL.RawQuery, "+", "%20"))}
		for _, read := range readings {
			var ok bool
			if r.URL.RawQuery == "" {
				ok = slowValues(p.Op, p.CaseSensitive, p.Values)
			} else {
				ok = slowValues(p.Op, p.CaseSensitive, p.Values, read)
			}
			all, one = all && ok, one || ok
		}
		every, any = every && all, any && one
	}
	return every, any
}

func slowEvaluate(rules []SecurityRule, env Env, tx *fakeTx) int {
	for i, r := range rules {
		every, any := slowMatch(r.Match, env, tx)
		selected := any
		if r.Action == (SecurityAction)(Allow{}) {
			selected = every
		}
		if _, redirect := r.Action.(RedirectToHTTPS); redirect && (tx.request.TLS != nil || tx.request.Host == "") {
			continue
		}
		if selected && !r.Disabled && !r.DryRun {
			return i
		}
	}
	return -1
}

// Vocabulary, small so that rules and requests meet.
var (
	genAddr = rapid.Map(rapid.SampledFrom([]string{
		"10.0.0.1", "10.0.0.2", "10.0.1.1", "10.9.0.1", "192.0.2.1", "::ffff:10.0.0.1", "2001:db8::1", "2001:db8::2", "fe80::1",
	}), netip.MustParseAddr)
	genPrefix = rapid.Map(rapid.SampledFrom([]string{
		"10.0.0.0/24", "10.0.0.0/16", "10.0.0.0/8", "0.0.0.0/0", "10.0.0.1/32", "::ffff:10.0.0.0/120", "2001:db8::/64", "::/0", "fe80::/10",
	}), netip.MustParsePrefix)
	genRange = rapid.SampledFrom([]Range[netip.Addr]{
		{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.1")},
		{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.8.0.0")},
		{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::1:0")},
	})
	genMembership = rapid.SampledFrom([]Op{IsIn, IsIn, IsNotIn})
	genStringOp   = rapid.Custom(func(t *rapid.T) Op { return Op(rapid.IntRange(int(BeginsWith), int(DoesNotMatchRegexp)).Draw(t, "op")) })
	genWord       = rapid.SampledFrom([]string{"/a", "/admin", "/Admin/x", "a", "a=1", "b", "x y", "+", "k", "\u212a", "S", "\u017f", "é", ".com", "example", "1", "/a/b", `\`, ";", "//"})
	genPattern    = rapid.SampledFrom([]string{"^/a", "a$", "(?:a|b)c?", `\d+`, "^$", "k", "[^a]", ".", ":80"})

	// Requests are drawn from many seeds at once, not one by one by rapid.
	segments = []string{"a", "A", "admin", "Admin", "x", "b", ".", "..", "", "x;y", ";", `\a`, `\..\`, "k", "\u212a", "s", "\u017f", "é", "É", "%61", "%2e%2e", "%5c", "%2fa", "1"}
	queries  = []string{"", "", "a=1", "A=1", "x+y", "x%20y", "b=%2b", "a=%41&b=1", "%zz", "k=\u212a"}
	hosts    = []string{"", "example.com", "EXAMPLE.com:80", "a.example.com.", "b", "[::1]:80", "k.example:1"}
	values   = []string{"a", "A=1", "", "b k", "\u212a", "1", "x y+", "/admin/x"}
	cookies  = []string{"a=1", "a=1; b=K", `b="x"`, "c=; a=b", "", "b=a;b=1"}
)

func drawIPMatch(t *rapid.T) *IPMatch {
	m := &IPMatch{
		Op:       genMembership.Draw(t, "membership"),
		Addrs:    rapid.SliceOfN(genAddr, 0, 2).Draw(t, "addrs"),
		Prefixes: rapid.SliceOfN(genPrefix, 0, 2).Draw(t, "prefixes"),
		Ranges:   rapid.SliceOfN(genRange, 0, 1).Draw(t, "ranges"),
		Groups:   rapid.SliceOfN(rapid.SampledFrom([]string{"g", "h"}), 0, 1).Draw(t, "groups"),
	}
	if len(m.Addrs)+len(m.Prefixes)+len(m.Ranges)+len(m.Groups) == 0 {
		m.Addrs = []netip.Addr{genAddr.Draw(t, "addr")}
	}
	return m
}

func drawPortMatch(t *rapid.T) *PortMatch {
	return &PortMatch{Op: genMembership.Draw(t, "membership"), Ports: []uint16{rapid.SampledFrom([]uint16{80, 443, 1000}).Draw(t, "port")},
		Ranges: rapid.SliceOfN(rapid.SampledFrom([]Range[uint16]{{1, 79}, {80, 80}, {400, 500}, {1000, 65535}}), 0, 2).Draw(t, "ranges")}
}

func drawValues(t *rapid.T, op Op) []string {
	if op.positive() == MatchesRegexp {
		return rapid.SliceOfN(genPattern, 1, 2).Draw(t, "patterns")
	}
	n := rapid.SampledFrom([]int{1, 2, 18}).Draw(t, "n")
	return rapid.SliceOfN(genWord, n, n).Draw(t, "values")
}

func drawValueOp(t *rapid.T) (Op, []string) {
	if rapid.IntRange(0, 4).Draw(t, "presence") == 0 {
		return rapid.SampledFrom([]Op{Exists, DoesNotExist}).Draw(t, "op"), nil
	}
	op := genStringOp.Draw(t, "op")
	return op, drawValues(t, op)
}

func drawMatch(t *rapid.T) (m Match) {
	// One to three parts: with more, nothing would ever match.
	for range rapid.IntRange(0, 3).Draw(t, "parts") {
		caseSensitive := rapid.IntRange(0, 3).Draw(t, "caseSensitive") == 0
		switch rapid.IntRange(0, 11).Draw(t, "part") {
		case 0:
			m.ClientIP = drawIPMatch(t)
		case 1:
			m.SourceIP = drawIPMatch(t)
		case 2:
			m.VSPort = drawPortMatch(t)
		case 3:
			m.Protocol = &ProtocolMatch{genMembership.Draw(t, "membership"), rapid.SampledFrom([]Protocol{HTTP, HTTPS}).Draw(t, "protocol")}
		case 4:
			m.Method = &MethodMatch{genMembership.Draw(t, "membership"), rapid.SliceOfN(rapid.SampledFrom([]string{"GET", "POST"}), 1, 2).Draw(t, "methods")}
		case 5:
			m.Version = &VersionMatch{genMembership.Draw(t, "membership"), rapid.SliceOfN(rapid.SampledFrom([]string{"HTTP/1.0", "HTTP/1.1", "HTTP/2"}), 1, 2).Draw(t, "versions")}
		case 6, 7:
			op := genStringOp.Draw(t, "op")
			m.Path = &PathMatch{Op: op, Values: drawValues(t, op), CaseSensitive: caseSensitive}
		case 8:
			op, values := drawValueOp(t)
			m.Query = &QueryMatch{Op: op, Values: values, CaseSensitive: caseSensitive}
		case 9:
			op := genStringOp.Draw(t, "op")
			values := rapid.SliceOfN(rapid.SampledFrom([]string{"example", ".com", ":80", "example.com", "[::1]", "[::1]:80", "K"}), 1, 2).Draw(t, "hosts")
			if op.positive() == MatchesRegexp {
				values = drawValues(t, op)
			}
			m.Host = &TextMatch{op, values, caseSensitive}
		case 10:
			op, values := drawValueOp(t)
			m.Headers = append(m.Headers, HeaderMatch{Name: rapid.SampledFrom([]string{"x-one", "X-TWO"}).Draw(t, "name"), Op: op, Values: values, CaseSensitive: caseSensitive})
		case 11:
			op, values := drawValueOp(t)
			m.Cookie = &CookieMatch{rapid.SampledFrom([]string{"a", "b", "A"}).Draw(t, "name"), op, values, caseSensitive}
		}
	}
	return m
}

var testAddrs = addrs("10.0.0.1", "10.0.0.2", "10.0.1.1", "10.9.0.1", "192.0.2.1", "::ffff:10.0.0.1", "2001:db8::1", "2001:db8::2", "fe80::1%eth0")

func randomTx(random *rand.Rand) *fakeTx {
	pick := func(list []string) string { return list[random.IntN(len(list))] }
	addr := func() netip.AddrPort {
		return netip.AddrPortFrom(testAddrs[random.IntN(len(testAddrs))], uint16(1+random.IntN(1100)))
	}
	var path strings.Builder
	for range 1 + random.IntN(4) {
		path.WriteString("/" + pick(segments))
	}
	u, err := url.ParseRequestURI(path.String() + "?" + pick(queries))
	if err != nil {
		panic(err)
	}
	tx := &fakeTx{client: addr(), source: addr(), local: addr()}
	tx.request = &http.Request{Method: pick([]string{"GET", "POST", "PUT"}), URL: u, Host: pick(hosts), Header: http.Header{}, ProtoMajor: 1, ProtoMinor: random.IntN(2)}
	if random.IntN(4) == 0 {
		tx.request.ProtoMajor, tx.request.ProtoMinor = 2, 0
	}
	if random.IntN(2) == 0 {
		overTLS(tx)
	}
	for range random.IntN(3) {
		tx.request.Header.Add(pick([]string{"X-One", "X-Two"}), pick(values))
	}
	if random.IntN(2) == 0 {
		tx.request.Header.Add("Cookie", pick(cookies))
	}
	return tx
}

var twinEnv = Env{IPGroups: groups{"g": prefixes("10.0.1.0/24", "2001:db8::2/128"), "h": prefixes("192.0.2.0/24")}}

// requestsPerPolicy times rapid's 100 policies of each of the four kinds makes
// 10^6 decisions. The race detector has nothing to find here and gets a 25th.
func requestsPerPolicy() int {
	if testrace.Enabled {
		return 100
	}
	if testing.Short() {
		return 100
	}
	return 2500
}

func TestHTTPSecurityAgainstInterpreter(t *testing.T) {
	t.Parallel()
	rulesHit, decisions := map[int]int{}, 0
	rapid.Check(t, func(t *rapid.T) {
		var rules []SecurityRule
		for i := range rapid.IntRange(1, 6).Draw(t, "rules") {
			rules = append(rules, SecurityRule{
				Name:     fmt.Sprint("r", i),
				Disabled: rapid.IntRange(0, 9).Draw(t, "disabled") == 0,
				DryRun:   rapid.IntRange(0, 9).Draw(t, "dryRun") == 0,
				Match:    drawMatch(t),
				Action:   rapid.SampledFrom([]SecurityAction{Allow{}, Close{}, RedirectToHTTPS{}}).Draw(t, "action"),
			})
		}
		p, err := NewHTTPSecurity(rules, twinEnv)
		if err != nil {
			t.Fatal(err)
		}
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		for range requestsPerPolicy() {
			tx := randomTx(random)
			var explained string
			if random.IntN(50) == 0 {
				explained = p.Explain(tx)
			}
			v := p.Evaluate(tx)
			want := slowEvaluate(rules, twinEnv, tx)
			if explained != "" && !strings.Contains(explained, explainedAs(v)) {
				t.Fatalf("%+v, but\n%s", v, explained)
			}
			if v.Index != want || v.Err != nil {
				t.Fatalf("%s %s host %q header %v from %v: %+v, want rule %d", tx.request.Method, tx.request.URL, tx.request.Host, tx.request.Header, tx.client, v, want)
			}
			rulesHit[want]++
			decisions++
		}
	})
	for i := -1; i < 4; i++ {
		if rulesHit[i] == 0 && !t.Failed() && !testing.Short() { // with a fifth of the policies, one may decide nothing
			t.Errorf("rule %d decided %d of %d requests: the test says little", i, rulesHit[i], decisions)
		}
	}
}

// explainedAs is how an explanation ends for a verdict.
func explainedAs(v Verdict) string {
	if v.Index < 0 {
		return "no rule decides"
	}
	return fmt.Sprintf("rules[%d] %q decides: ", v.Index, v.Rule)
}

func TestNetworkSecurityAgainstInterpreter(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var rules []NetworkRule
		for i := range rapid.IntRange(1, 8).Draw(t, "rules") {
			r := NetworkRule{Name: fmt.Sprint("r", i), Action: rapid.SampledFrom([]Action{ActionAllow, ActionReset}).Draw(t, "action"), Disabled: rapid.IntRange(0, 9).Draw(t, "disabled") == 0, DryRun: rapid.IntRange(0, 9).Draw(t, "dryRun") == 0}
			if rapid.Bool().Draw(t, "clientIP") {
				r.Match.ClientIP = drawIPMatch(t)
			}
			if rapid.Bool().Draw(t, "vsPort") {
				r.Match.VSPort = drawPortMatch(t)
			}
			if rapid.Bool().Draw(t, "clientPort") {
				r.Match.ClientPort = drawPortMatch(t)
			}
			rules = append(rules, r)
		}
		p, err := NewNetworkSecurity(rules, twinEnv)
		if err != nil {
			t.Fatal(err)
		}
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		for range requestsPerPolicy() {
			tx := randomTx(random)
			c := conn{client: tx.client, local: tx.local}
			want := Verdict{Index: -1}
			for i, r := range rules {
				if !r.Disabled && slowIP(r.Match.ClientIP, twinEnv, c.client.Addr()) && slowPort(r.Match.VSPort, c.local.Port()) && slowPort(r.Match.ClientPort, c.client.Port()) {
					if r.DryRun {
						want.Monitored = append(want.Monitored, Outcome{Rule: r.Name, Index: i, Action: r.Action})
						continue
					}
					want.Rule, want.Index, want.Action = r.Name, i, r.Action
					want.Ended = r.Action == ActionReset
					want.Dropped = want.Ended
					break
				}
			}
			if got := p.Evaluate(c.client, c.local); !reflect.DeepEqual(got, want) {
				t.Fatalf("%+v: %+v, want %+v", c, got, want)
			}
		}
	})
}

// FuzzPath gives one rule one request: the compiled matcher must agree with
// the interpreter, whatever the path, the value and the pattern.
func FuzzPath(f *testing.F) {
	f.Add("/admin", "/admin", uint8(BeginsWith), false)         // plain
	f.Add("/a/%2e%2e/ADMIN", "/admin", uint8(Equals), false)    // encoded dot segments and case
	f.Add(`/x\..\admin;y//`, "admin", uint8(BeginsWith), false) // every quirk at once
	f.Add("/\u212a\u017f", "KS", uint8(EndsWith), false)        // letters that fold into ASCII
	f.Add("/a%00b", "a", uint8(Contains), true)                 // NUL is refused
	f.Add("/aaaaaaaa", "(a|aa)+$", uint8(MatchesRegexp), false) // slow for engines that backtrack
	f.Add("/x", "a)(b", uint8(DoesNotMatchRegexp), false)       // a pattern that closes a group around it
	f.Add("/%zz?a+b%41", "%", uint8(Contains), false)           // malformed escape
	f.Add("*", "*", uint8(Equals), false)                       // no path at all
	f.Add("/\xff\xfe", "\xff", uint8(DoesNotContain), true)     // not UTF-8
	f.Fuzz(func(t *testing.T, target, value string, op uint8, caseSensitive bool) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return
		}
		m := Match{Path: &PathMatch{Op: Op(op), Values: []string{value}, CaseSensitive: caseSensitive}}
		rules := []SecurityRule{{Name: "r", Match: m, Action: Close{}}}
		p, err := NewHTTPSecurity(rules, Env{})
		if err != nil {
			return
		}
		tx := newTx("GET", "/", func(t *fakeTx) { t.request.URL = u })
		v := p.Evaluate(tx)
		if v.Err != nil {
			if !strings.Contains(u.Path, "\x00") && len(u.Path) <= 64 && len(slowReadings(u)) <= maxReadings {
				t.Fatalf("%q: %v", u.Path, v.Err)
			}
			return
		}
		if !v.Ended && !cmp.Equal(v, Verdict{Index: -1}) {
			t.Fatalf("%+v", v)
		}
		// The interpreter folds valid UTF-8 only, starts at a slash, and is
		// slow.
		if !caseSensitive && bytes.ContainsRune([]byte(u.Path+value), 0xfffd) || !strings.HasPrefix(u.Path, "/") || len(u.Path) > 64 || !validBoth(u.Path, value) {
			return
		}
		if want := slowEvaluate(rules, Env{}, tx); v.Index != want {
			t.Fatalf("%q %v %q (case-sensitive %v): %d, want %d", u.Path, Op(op), value, caseSensitive, v.Index, want)
		}
	})
}

func validBoth(a, b string) bool {
	return strings.ToValidUTF8(a, "") == a && strings.ToValidUTF8(b, "") == b
}
