package policy

import (
	"errors"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/limpetlb/limpet/internal/testrace"
)

// A servedPath is the path that a server of some kind makes of the target
// that limpet sends it. Escapes that the server does not decode are left,
// but only those of "/", "\" and ";" tell: values of rules are decoded.
type servedPath struct {
	server string
	path   func(target string) string
}

// unescapeBut decodes all escapes but those of the letters.
func unescapeBut(letters, s string) string {
	return escape.ReplaceAllStringFunc(s, func(e string) string {
		if c := slowUnescape(e); !strings.Contains(letters, c) {
			return c
		}
		return e
	})
}

// squeezed is a path without empty segments.
func squeezed(s string) string {
	for strings.Contains(s, "//") {
		s = strings.ReplaceAll(s, "//", "/")
	}
	return s
}

// resolved is a path without the segments that are dots. A path that ended
// with one ends with a slash. Empty segments are segments, as in RFC 3986.
func resolved(s string, dot ...string) string {
	var out []string
	in := strings.Split(s, "/")[1:]
	for i, segment := range in {
		plain := segment
		for _, d := range dot {
			plain = strings.NewReplacer(d, ".", strings.ToUpper(d), ".").Replace(plain)
		}
		if plain != "." && plain != ".." {
			out = append(out, segment)
			continue
		}
		if plain == ".." && len(out) > 0 {
			out = out[:len(out)-1]
		}
		if i == len(in)-1 {
			out = append(out, "")
		}
	}
	return "/" + strings.Join(out, "/")
}

// withoutParameters cuts each segment at the first ";".
func withoutParameters(s string) string {
	segments := strings.Split(s, "/")
	for i, segment := range segments {
		segments[i], _, _ = strings.Cut(segment, ";")
	}
	return strings.Join(segments, "/")
}

// cleaned is path.Clean that keeps a slash at the end.
func cleaned(s string) string {
	c := path.Clean(s)
	if c != "/" && (strings.HasSuffix(s, "/") || strings.HasSuffix(s, "/.") || strings.HasSuffix(s, "/..")) {
		c += "/"
	}
	return c
}

func slashes(s string) string { return strings.ReplaceAll(s, `\`, "/") }

const separators = `/\;` // whose escapes are left by a server that decodes nothing

var servers = []servedPath{
	{"decodes nothing", func(s string) string { return unescapeBut(separators, s) }},
	{"resolves dots, decodes nothing", func(s string) string { return unescapeBut(separators, resolved(s)) }},
	{"merges slashes, decodes nothing", func(s string) string { return unescapeBut(separators, squeezed(s)) }},
	{"Go, URL.Path", slowUnescape},
	{"Go, ServeMux", func(s string) string { return cleaned(slowUnescape(s)) }},
	{"Go, cleaned EscapedPath", func(s string) string { return unescapeBut(separators, cleaned(s)) }},
	{"nginx", func(s string) string { return resolved(squeezed(slowUnescape(s))) }},
	{"nginx, merge_slashes off", func(s string) string { return resolved(slowUnescape(s)) }},
	{"Apache, AllowEncodedSlashes NoDecode", func(s string) string { return resolved(squeezed(unescapeBut("/", s))) }},
	{"Apache, AllowEncodedSlashes NoDecode, MergeSlashes off", func(s string) string { return resolved(unescapeBut("/", s)) }},
	{"Apache, AllowEncodedSlashes On", func(s string) string { return slowUnescape(resolved(squeezed(unescapeBut(separators+"%", s)))) }},
	{"Apache for Windows, NoDecode", func(s string) string { return resolved(squeezed(slashes(unescapeBut("/", s)))) }},
	{"Node, URL", func(s string) string { return unescapeBut(separators, resolved(slashes(s), "%2e")) }},
	{"Node, URL, decoded", func(s string) string { return slowUnescape(resolved(slashes(s), "%2e")) }},
	{"Node, URL, then path.posix.normalize", func(s string) string { return cleaned(slowUnescape(resolved(slashes(s), "%2e"))) }},
	{"Node, URL, then path.win32.normalize", func(s string) string { return cleaned(slashes(slowUnescape(resolved(slashes(s), "%2e")))) }},
	{"Node, target, then path.posix.normalize", func(s string) string { return cleaned(slowUnescape(s)) }},
	{"Tomcat", func(s string) string { return cleaned(slowUnescape(withoutParameters(s))) }},
	{"Tomcat, ALLOW_BACKSLASH", func(s string) string { return cleaned(slashes(slowUnescape(withoutParameters(s)))) }},
	{"Tomcat, encodedSolidusHandling passthrough", func(s string) string { return cleaned(unescapeBut("/", withoutParameters(s))) }},
	{"Jetty", func(s string) string { return slowUnescape(resolved(withoutParameters(s), "%2e")) }},
	{"Jetty, compact paths", func(s string) string { return squeezed(slowUnescape(resolved(withoutParameters(s), "%2e"))) }},
	{"Jetty, decoded only in segments", func(s string) string {
		return unescapeBut("/", resolved(withoutParameters(s), "%2e"))
	}},
	{"Spring, decoded before parameters are cut", func(s string) string { return resolved(squeezed(withoutParameters(slowUnescape(s)))) }},
	{"IIS", func(s string) string { return resolved(squeezed(slashes(slowUnescape(s)))) }},
	{"IIS, then a file system", func(s string) string {
		return cleaned(slashes(slowUnescape(resolved(unescapeBut(separators+"%", s)))))
	}},
	{"WSGI, then posixpath.normpath", func(s string) string { return cleaned(slowUnescape(s)) }},
	{"Rails", func(s string) string { return slowUnescape(squeezed(s)) }},
}

// sent is the path that a server gets: bare backslashes are escaped.
func sent(r *http.Request) string {
	raw := r.URL.RawPath
	if raw == "" {
		raw = r.URL.EscapedPath()
	}
	return strings.ReplaceAll(raw, `\`, "%5C")
}

// checkServers compares the readings of a target with the servers, and
// reports whether there are readings.
func checkServers(t interface {
	Helper()
	Errorf(format string, args ...any)
}, r *http.Request) bool {
	t.Helper()
	s := &subjects{http: r}
	readings, err := s.pathReadings()
	if err != nil {
		return false
	}
	for _, server := range servers {
		p := server.path(sent(r))
		if !slices.ContainsFunc(readings, func(read pathText) bool { return string(read.plain.exact) == p }) {
			t.Errorf("%s: %s reads %q, and no rule does", sent(r), server.server, p)
		}
	}
	return true
}

// A client reached /admin past a rule that denied it, because the server had
// resolved the dots, or cut the parameters, before it decoded "%2f".
func TestEscapedSeparatorsAsLetters(t *testing.T) {
	for _, row := range []struct {
		target string
		op     Op
		value  string
		denied bool // by a rule that denies; the rule that allows must not hold if it is false
	}{
		{"/x%2fy/../admin", BeginsWith, "/admin", true},
		{"/x%2Fy/../admin", BeginsWith, "/admin", true},
		{"/x;a%2fb/../admin", BeginsWith, "/admin", true},
		{"/x%2Fy/%2e%2e/admin/users", BeginsWith, "/admin", true},
		{"/x%2fy/.%2E/admin", Equals, "/admin", true},
		{"/admin;a%2fb/users", BeginsWith, "/admin/users", true},
		{"/admin;%2f", Equals, "/admin", true},
		{"/admin;%2f..%2f..", Equals, "/admin", true},
		{"/x%5cy/../admin", BeginsWith, "/admin", true},
		{`/x\y/../admin`, BeginsWith, "/admin", true},
		{`/a/x%5cy/../..%5cadmin`, BeginsWith, "/admin", true}, // before decoding, and again afterwards
		{"/a/x%2fy/../..%2fadmin", BeginsWith, "/admin", true},
		{"/x%3by/../admin%3bz", Equals, "/admin", true},
		{"/x/%2e%2e/../admin", BeginsWith, "/x/admin", true}, // "%2e" as a letter
		{"/x%2fy/;/../../admin", BeginsWith, "/admin", true},
		{"/x%2fy//../../admin", BeginsWith, "/admin", true},
		{"/x%2f%2e%2e%2f../admin", Equals, "/admin", true},
		{"/a%2fb", Contains, "%2f", true}, // for servers that do not decode it
		{"/a%252fb", Contains, "a/b", false},
		{"/x%252fy/../admin", Equals, "/admin", true},
		{"/x%2fy/admin", BeginsWith, "/admin", false},
		{"/x%2f../y", BeginsWith, "/x/../y", true},
	} {
		r, err := received(row.target)
		if err != nil {
			t.Fatal(err)
		}
		tx := newTx("GET", "/")
		tx.request = r
		m := Match{Path: &PathMatch{Op: row.op, Values: []string{row.value}}}
		if got := holds(t, m, tx); got != row.denied {
			t.Errorf("%s %v %q: denied = %v", row.target, row.op, row.value, got)
		}
		checkServers(t, r)
	}
	for _, row := range []struct {
		target, value string
		allowed       bool
	}{
		{"/public%2fx/../admin", "/public", false},
		{"/public%2fx/../public/y", "/public", true},
		{"/public%2fx/../../admin", "/public", false},
		{"/public;a%2f../admin", "/public", false},
		{"/public;a%2fb", "/public", true},
		{"/public;a%2f../../admin", "/public", false},
		{"/public%5cx/../admin", "/public", false},
		{"/public%2fx", "/public", true},
		{"/public%2fx", "/public/", false}, // "/public%2fx" to some
		{"/public%2fx/%2e%2e/admin", "/public", false},
		{"/public/caf%C3%A9%20x", "/public/café x", true}, // what is no separator is decoded
	} {
		r, err := received(row.target)
		if err != nil {
			t.Fatal(err)
		}
		tx := newTx("GET", "/")
		tx.request = r
		m := Match{Path: &PathMatch{Op: BeginsWith, Values: []string{row.value}}}
		if got := allowed(t, m, tx); got != row.allowed {
			t.Errorf("%s %q: allowed = %v", row.target, row.value, got)
		}
		checkServers(t, r)
	}
}

// Whatever a server makes of a target, rules have read it so.
func TestReadingsAgainstServers(t *testing.T) {
	parts := []string{"/", "/", "/", "/", "a", "b", "admin", ".", "..", "/..", "/../", ";", ";x", "//", `\`, "%2f", "%2F", "%2f", "%5c", "%5C", "%3b", "%2e", "%2E%2e", "/%2e%2e", "%25", "%61", "%252f", "é"}
	judged, all := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		for range 20 {
			target := "/" + strings.Join(rapid.SliceOfN(rapid.SampledFrom(parts), 1, 10).Draw(t, "parts"), "")
			r, err := received(target)
			if err != nil {
				t.Fatal(target, err)
			}
			all++
			if checkServers(t, r) {
				judged++
			}
		}
	})
	if judged < all*9/10 {
		t.Errorf("%d of %d paths were judged", judged, all)
	}
}

// FuzzServers: no target makes a server read a path that rules do not.
func FuzzServers(f *testing.F) {
	f.Add("/x%2fy/../admin")            // dots before decoding
	f.Add("/admin;a%2fb/users")         // parameters before decoding
	f.Add("/a/x%5cy/../..%5cadmin")     // dots before and after
	f.Add("/x/%2e%2e/../%3b;//%252f/.") // everything
	f.Fuzz(func(t *testing.T, target string) {
		if len(target) > 200 || !strings.HasPrefix(target, "/") {
			return
		}
		r, err := received(target)
		if err != nil {
			return
		}
		checkServers(t, r)
	})
}

// A hostile path costs no more than one of the greatest length did: it has a
// limited number of readings, or is refused, once for all rules.
func TestReadingsAreBounded(t *testing.T) {
	all := "/a%2fb%5cc%3bd;e//%2e/.%2e/../"
	refused := 0
	for _, target := range []string{
		all, strings.Repeat(all, 2), strings.Repeat(all, 4), strings.Repeat(all, 100),
		strings.Repeat("/x%2fy;z/..", 300), strings.Repeat("%2f", maxAmbiguousPath-1), strings.Repeat(`/..%2f\%3b;`, 100),
		"/" + strings.Repeat("a", maxAmbiguousPath-100) + all, strings.Repeat("/%2e", 2000) + "/..",
	} {
		r, err := received("/" + target)
		if err != nil {
			t.Fatal(err)
		}
		s := &subjects{http: r}
		readings, err := s.pathReadings()
		if err != nil && !errors.Is(err, errURITooLong) {
			t.Fatal(err)
		}
		total := 0
		for _, read := range readings {
			total += len(read.plain.exact)
		}
		if len(readings) > maxReadings || total > maxReadingBytes || err != nil && len(readings) > 0 {
			t.Errorf("%.40s: %d readings of %d bytes, %v", target, len(readings), total, err)
		}
		if err == nil {
			continue
		}
		refused++
		arena := len(s.arena)
		if again, err := s.pathReadings(); len(again) > 0 || !errors.Is(err, errURITooLong) || len(s.arena) != arena {
			t.Errorf("%.40s: read again, as %d paths, %v", target, len(again), err)
		}
		tx := newTx("GET", "/")
		tx.request = r
		for _, m := range []*PathMatch{{Op: BeginsWith, Values: []string{"/x"}}, {Op: DoesNotContain, Values: []string{"/x"}}} {
			v := mustHTTPSecurity(t, Env{FailOpen: true}, SecurityRule{Name: "r", Match: Match{Path: m}, Action: Allow{}}).Evaluate(tx)
			if !v.Ended || tx.status != 414 {
				t.Errorf("%.40s: %+v, status %d", target, v, tx.status)
			}
		}
	}
	if refused == 0 {
		t.Error("nothing was refused: the test says little")
	}
	// A path that everybody reads alike may be of any length.
	r, err := received("/" + strings.Repeat("a%20%41!", maxAmbiguousPath))
	if err != nil {
		t.Fatal(err)
	}
	s := &subjects{http: r}
	if readings, err := s.pathReadings(); len(readings) != 1 || err != nil {
		t.Errorf("%d readings, %v", len(readings), err)
	}
	s.reset()
	if n := cap(s.readings.written) + cap(s.readings.read); n > maxArena {
		t.Errorf("%d bytes kept", n)
	}
}

// A URL that was not parsed, or whose path was changed but not its RawPath, is
// read as it is sent.
func TestReadingsOfChangedURL(t *testing.T) {
	for _, u := range []*url.URL{
		{Path: `/x\y/../admin`},
		{Path: `/x\y/../admin`, RawPath: "/other%2f"},
		{Path: "/a%2fb/../c"}, // the percent sign is one
		{Path: "/a%2fb/../c", RawPath: "/a%2fb/../c"},
		{Path: "/a/b", RawPath: "/a%2fb%zz"},
	} {
		s := &subjects{http: &http.Request{URL: u}}
		readings, err := s.pathReadings()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, read := range readings {
			got = append(got, string(read.plain.exact))
		}
		want := slowReadings(u)
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%+v: %q, want %q", u, got, want)
		}
	}
}

// A client that was limited for each path wrote it in ever new ways, and each
// had a limit of its own.
func TestRateLimitPerPathOfEscapedSeparators(t *testing.T) {
	for name, targets := range map[string][]string{
		"dots before decoding":       {"/x1%2fy/../login", "/x2%2fy/../login", "/x3%2fy/../login"},
		"parameters before decoding": {"/x;1%2fy/../login", "/x;2%2fy/../login"},
		"dots after decoding":        {"/x1/y%2f../../login", "/x2/y%2f../../login"},
		"not ambiguous":              {"/x1%2f../login", "/x2%2f..%2flogin", "/login", "//login", "/login;x", "/x%5c..%5clogin"},
		"both":                       {"/k1/x%2f..%2f../../login", "/k2/x%2f..%2f../../login"},
	} {
		p := mustHTTPSecurity(t, Env{}, limit(1, func(l *RateLimit) { l.PerPath = true }))
		for i, target := range targets {
			r, err := received(target)
			if err != nil {
				t.Fatal(err)
			}
			tx := newTx("GET", "/")
			tx.request = r
			if limited := p.Evaluate(tx).Limited; limited != (i > 0) {
				t.Errorf("%s: %s limited = %v", name, target, limited)
			}
		}
	}
	// Escaped separators alone make no path ambiguous.
	p := mustHTTPSecurity(t, Env{}, limit(1, func(l *RateLimit) { l.PerPath = true }))
	for _, target := range []string{"/a%2fb", "/a%2fc", "/a%3bb%2fd", "/b%5cc"} {
		r, err := received(target)
		if err != nil {
			t.Fatal(err)
		}
		tx := newTx("GET", "/")
		tx.request = r
		if p.Evaluate(tx).Limited {
			t.Errorf("%s is limited for another path", target)
		}
	}
}

// Paths with several readings do not allocate either.
func TestNoAllocationsForReadings(t *testing.T) {
	if testrace.Enabled {
		t.Skip("the race detector allocates")
	}
	p := mustHTTPSecurity(t, Env{}, SecurityRule{Name: "r", Match: Match{Path: &PathMatch{Op: BeginsWith, Values: []string{"/none"}}}, Action: Close{}},
		limit(1e9, func(l *RateLimit) { l.PerPath = true }))
	for _, target := range []string{"/a/%41b!", "/a%2fb/c", "/x;a%2fb//../admin", `/a/x%5Cy/../..%5Cadmin`} {
		r, err := received(target)
		if err != nil {
			t.Fatal(err)
		}
		tx := newTx("GET", "/")
		tx.request = r
		if n := testing.AllocsPerRun(200, func() { p.Evaluate(tx) }); n != 0 {
			t.Errorf("%s: %v allocations", target, n)
		}
	}
}
