package policy

import (
	"bufio"
	"errors"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// received parses a request target as net/http does when it serves.
func received(target string) (*http.Request, error) {
	return http.ReadRequest(bufio.NewReader(strings.NewReader("GET " + target + " HTTP/1.1\r\nHost: example.com\r\n\r\n")))
}

// The verdicts of three rules on one path: "deny what begins with /admin",
// "allow what begins with /public" and "deny unless it begins with /public".
// Refused means that net/http answers 400 before any policy, nul that the
// policy does.
const (
	refused = "400"
	nul     = "400 by the policy"
	neither = "pass, not public"
	public  = "pass, public"
	admin   = "denied, not public"
)

var pathRows = []struct{ target, want string }{
	// Plain.
	{"/", neither},
	{"/admin", admin},
	{"/admin/", admin},
	{"/admin/users", admin},
	{"/administrator", admin}, // a prefix of the text, not of segments
	{"/public", public},
	{"/public/x", public},
	{"/publi", neither},
	{"/x/admin", neither},
	{"/x/public", neither},
	{"/admin?x=/public", admin},
	{"/public?x=/admin", public},
	{"/?/admin", neither},
	// Case.
	{"/ADMIN", admin},
	{"/aDmIn/x", admin},
	{"/Public", public},
	{"/adm\u0131n", neither}, // dotless i is another letter
	{"/%41dmin", admin},
	{"/PUBL%C4%B0C", neither}, // dotted capital I is another letter
	// Percent-encoding, decoded once.
	{"/%61dmin", admin},
	{"/%61%64%6d%69%6e", admin},
	{"/%61%64%6D%69%6E", admin},
	{"/%70ublic", public},
	{"/%2561dmin", neither},
	{"/%252e%252e/admin", neither},
	{"%2fadmin", refused},
	{"/%2fadmin", admin},
	{"/%2Fadmin", admin},
	{"/admin%2fx", admin},
	{"/admin%2f..%2fpublic/", admin},
	{"/public%2f..%2fadmin", admin},
	{"/public%2fx", public},
	{"/%zz", refused},
	{"/admin%", refused},
	{"/admin%2", refused},
	// Slashes.
	{"//admin", admin},
	{"///admin", admin},
	{"//public", public},
	{"/x//admin", neither},
	{"/public//x", public},
	{"/public//../admin", admin},
	{"//example.org/admin", neither},
	{"http://example.com/admin", admin},
	{"http://example.com//admin", admin},
	{"http://example.com", neither},
	{"http://example.com?/admin", neither},
	// Dot segments.
	{"/./admin", admin},
	{"/././admin", admin},
	{"/x/../admin", admin},
	{"/x/y/../../admin", admin},
	{"/../admin", admin},
	{"/../../admin", admin},
	{"/%2e%2e/admin", admin},
	{"/%2e/admin", admin},
	{"/x/%2e%2e/admin", admin},
	{"/x/.%2e/admin", admin},
	{"/x/%2E./admin", admin},
	{"/public/../admin", admin},
	{"/public/%2e%2e/admin", admin},
	{"/public/x/../../admin", admin},
	{"/public/./x", public},
	{"/public/x/../y", public},
	{"/public/..", neither},
	{"/public/../public/x", public},
	{"/admin/..", admin},
	{"/admin/../public/x", admin},
	{"/admin/../../public", admin},
	{"/.../admin", neither},
	{"/..admin", neither},
	{"/.admin", neither},
	{"/x/../public", neither}, // only one reading is public
	// Backslashes.
	{`/\admin`, admin},
	{`\admin`, refused},
	{"/%5cadmin", admin},
	{"/%5Cadmin", admin},
	{`/x\..\admin`, admin},
	{"/x/..%5cadmin", admin},
	{"/public%5c..%5cadmin", admin},
	{"/public/..%5c..%5cadmin", admin},
	{`/public\x`, public},
	{`/a\b/../admin`, admin},   // "\" may be a letter to who resolves ".."
	{"/a//../../admin", admin}, // and "//" an empty segment
	{"/a/;/../../admin", admin},
	{"/admin%5c..%5cpublic", admin},
	// Parameters.
	{"/admin;x=1", admin},
	{"/admin;x=1/users", admin},
	{"/;x/admin", admin},
	{"/x/..;/admin", admin},
	{"/public/..;/admin", admin},
	{"/public/..;a=b/admin", admin},
	{"/public/%2e%2e;/admin", admin},
	{"/public;x/y", public},
	{"/%3badmin", neither},
	{"/ad;x/min", neither},
	{"/..;/..;/admin", admin},
	// NUL and other controls.
	{"/admin%00", nul},
	{"/admin%00.jpg", nul},
	{"/%00admin", nul},
	{"/public%00/../admin", nul},
	{"/x%00/../admin", nul},
	{"/%0aadmin", neither},
	{"/%0d%0aadmin", neither},
	{"/%09admin", neither},
	{"/admin%20", admin},
	{"/%20admin", neither},
	{"/adm\x01in", refused},
	// Overlong and broken UTF-8 stays bytes.
	{"/%c0%afadmin", neither},
	{"/x/%c0%ae%c0%ae/admin", neither},
	{"/%e0%80%afadmin", neither},
	{"/%ff%fe/admin", neither},
	{"/admin%ff", admin},
	{"/%ef%bc%8fadmin", neither}, // fullwidth solidus is a letter like any other
	// Letters that fold into ASCII.
	{"/publ\u0130c", neither},
	{"/adm%c4%b1n", neither},
	// No path.
	{"*", neither},
}

func TestPathTricks(t *testing.T) {
	if len(pathRows) < 80 {
		t.Fatalf("%d rows", len(pathRows))
	}
	deny := &PathMatch{Op: BeginsWith, Values: []string{"/admin"}}
	allow := &PathMatch{Op: BeginsWith, Values: []string{"public"}} // one slash is added
	unless := &PathMatch{Op: DoesNotBeginWith, Values: []string{"/public"}}
	for _, row := range pathRows {
		t.Run(row.target, func(t *testing.T) {
			r, err := received(row.target)
			if err != nil {
				if row.want != refused {
					t.Fatal(err)
				}
				return
			}
			tx := newTx("GET", "/")
			tx.request = r
			if row.want == nul {
				v := mustHTTPSecurity(t, Env{FailOpen: true}, SecurityRule{Name: "r", Match: Match{Path: deny}, Action: Allow{}}).Evaluate(tx)
				if !errors.Is(v.Err, errPathNUL) || !v.Ended || tx.status != 400 {
					t.Errorf("%+v, status %d", v, tx.status)
				}
				return
			}
			denied := holds(t, Match{Path: deny}, tx)
			isPublic := allowed(t, Match{Path: allow}, tx)
			got := map[[2]bool]string{{false, false}: neither, {false, true}: public, {true, false}: admin}[[2]bool{denied, isPublic}]
			if got != row.want {
				t.Errorf("denied = %v, public = %v, want %q", denied, isPublic, row.want)
			}
			if holds(t, Match{Path: unless}, tx) == isPublic {
				t.Errorf("the complement does not disagree with allow = %v", isPublic)
			}
			// Whatever way a server reads an accepted path, it is not /admin.
			if read := strings.ToLower(r.URL.Path); !denied {
				for _, p := range []string{read, path.Clean("/" + strings.ReplaceAll(read, `\`, "/"))} {
					if strings.HasPrefix(p, "/admin") {
						t.Errorf("%q passed", p)
					}
				}
			}
		})
	}
}

// slowReading says the same as appendReading in terms of segments.
func slowReading(p string, c quirks) string {
	if c&splitAtBackslash != 0 {
		p = strings.ReplaceAll(p, `\`, "/")
	}
	in := strings.Split(strings.TrimPrefix(p, "/"), "/")
	var out []string
	for i, s := range in {
		if c&dropParameters != 0 {
			s = strings.SplitN(s, ";", 2)[0]
		}
		directory := c&mergeSlashes != 0 && s == ""
		if c&resolveDots != 0 && s == ".." && len(out) > 0 {
			out = out[:len(out)-1]
		}
		if c&resolveDots != 0 && (s == "." || s == "..") {
			directory = true
		}
		switch {
		case !directory:
			out = append(out, s)
		case i == len(in)-1:
			out = append(out, "")
		}
	}
	return "/" + strings.Join(out, "/")
}

// slowReadings are the readings of a path: as it is, under all combinations of
// quirks before and after each set of escapes is decoded, and with the
// escapes that are never decoded.
func slowReadings(u *url.URL) []string {
	const letters = `/\;.`
	raw := u.RawPath
	if raw == "" || slowUnescape(raw) != u.Path {
		raw = (&url.URL{Path: u.Path}).EscapedPath()
	}
	raw = strings.ReplaceAll(raw, `\`, "%5C")
	decode := func(s, set string) string {
		return escape.ReplaceAllStringFunc(s, func(e string) string {
			if c := slowUnescape(e); strings.Contains(set, c) {
				return c
			}
			return e
		})
	}
	var found, kept, other string
	for c := range 256 {
		switch s := string([]byte{byte(c)}); {
		case !strings.Contains(letters, s):
			other += s
		case decode(raw, s) != raw:
			found += s
		}
	}
	kept = other + "."
	var out []string
	add := func(s string) {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	for c := range quirks(16) {
		add(slowReading(u.Path, c))
	}
	known := map[string]bool{u.Path: true}
	for set := range 1 << len(found) {
		first := other
		for i := range len(found) {
			if set>>i&1 != 0 {
				first += found[i : i+1]
			}
		}
		// What is decoded stays what it is: a percent sign begins no escape.
		for c := range quirks(16) {
			read := slowReading(decode(strings.ReplaceAll(raw, "%25", "%00"), first[1:]), c)
			add(strings.ReplaceAll(decode(read, kept[1:]), "%00", "%"))
			for _, but := range []string{"", "/"} {
				full := strings.ReplaceAll(decode(read, strings.Replace(letters, but, "", 1)+other[1:]), "%00", "%")
				for c := range quirks(16) {
					if known[full] {
						break
					}
					add(slowReading(full, c))
				}
				known[full] = true
			}
		}
	}
	return out
}

func TestReadingsAgainstSlow(t *testing.T) {
	path := rapid.StringMatching(`(/|/|[.;ab\\]){0,12}`)
	rapid.Check(t, func(t *rapid.T) {
		p := "/" + path.Draw(t, "path")
		for c := range quirks(16) {
			want := slowReading(p, c)
			if got := string(appendReading(nil, []byte(p), c)); got != want {
				t.Fatalf("%q with %04b: %q, want %q", p, c, got, want)
			}
		}
		// Leaving out the quirks that cannot matter loses no reading.
		u := &url.URL{Path: p}
		if rapid.Bool().Draw(t, "escaped") {
			escaped := strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"/", "/", "..", ".", ";", "a", `\`, "%2f", "%2F", "%5c", "%3B", "%2e", "%25", "%61", "%252f"}), 1, 9).Draw(t, "target"), "")
			if u.Path, u.RawPath = slowUnescape("/"+escaped), "/"+escaped; rapid.Bool().Draw(t, "changed") {
				u.RawPath = ""
			}
			p = u.Path
		}
		s, slow := &subjects{http: &http.Request{URL: u}}, slowReadings(u)
		readings, err := s.pathReadings()
		if errors.Is(err, errURITooLong) && len(slow) > maxReadings {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range readings {
			got = append(got, string(r.plain.exact))
		}
		if got[0] != p {
			t.Fatalf("first reading of %q: %q", p, got[0])
		}
		slices.Sort(got)
		slices.Sort(slow)
		if !slices.Equal(got, slow) {
			t.Fatalf("%q: %q, want %q", p, got, slow)
		}
	})
}

func TestPathOperators(t *testing.T) {
	for _, c := range []struct {
		op     Op
		values string // separated by blanks
		path   string
		want   bool
	}{
		{BeginsWith, "/a /b", "/b/c", true},
		{BeginsWith, "b", "/b", true},
		{BeginsWith, "//b", "/b", true},
		{BeginsWith, "/a/b /a", "/a/c", true}, // the shorter value covers the longer
		{BeginsWith, "/a/b", "/a", false},
		{BeginsWith, "/", "/x", true},
		{Equals, "/a b", "/b", true},
		{Equals, "/a", "/a/", false},
		{Equals, "/", "/", true},
		{Contains, ".php .asp", "/x.ASPX", true},
		{Contains, ".php", "/x", false},
		{EndsWith, ".js .css", "/a.css", true},
		{EndsWith, ".css", "/a.css/", false},
		{EndsWith, "min.js .js", "/a.js", true},
		{EndsWith, "/x/a.js", "/a.js", false},
		{MatchesRegexp, `\.(php|asp)$`, "/x.PHP", true},
		{MatchesRegexp, `^/a a(b|c)d`, "/x/ACD", true},
		{MatchesRegexp, `^b`, "/b", false}, // patterns are left alone
	} {
		tx := newTx("GET", "http://example.com"+c.path)
		values := strings.Fields(c.values)
		if got := holds(t, Match{Path: &PathMatch{Op: c.op, Values: values}}, tx); got != c.want {
			t.Errorf("%q %v %q: %v", c.path, c.op, values, got)
		}
		if got := holds(t, Match{Path: &PathMatch{Op: c.op + 1, Values: values}}, tx); got == c.want {
			t.Errorf("%q %v %q: %v", c.path, c.op+1, values, got)
		}
	}
}

func TestPathCaseSensitive(t *testing.T) {
	for op := BeginsWith; op <= DoesNotMatchRegexp; op++ {
		m := &PathMatch{Op: op, Values: []string{"/Abc"}, CaseSensitive: true}
		if got := holds(t, Match{Path: m}, newTx("GET", "/Abc")); got == op.negative() {
			t.Errorf("%v same case: %v", op, got)
		}
		if got := holds(t, Match{Path: m}, newTx("GET", "/abc")); got != op.negative() {
			t.Errorf("%v other case: %v", op, got)
		}
	}
}
