package policy

import (
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTemplates(t *testing.T) {
	captured := [][]byte{[]byte("whole"), []byte("one/2 %"), nil}
	for _, c := range []struct {
		name, host, path       string // of the URL
		hostTemplate, template string
		want                   string // host and path; empty: skipped
	}{
		{"swap", "a.b.example.com", "/region/index.htm", "path[0].host[2:]", "/host[1]/host[0]/path[1]", "region.example.com/b/a/index.htm"},
		{"prefix to path", "w1.example.com", "/s/f/i.htm", "www.host[1:]", "/host[0]/path[0:]", "www.example.com/w1/s/f/i.htm"},
		{"again", "support.example.com", "/docs/i.htm", "www.host[1:]", "/host[0]/path[0:]", "www.example.com/support/docs/i.htm"},
		{"short forms", "a.b", "/c/d", "h[1].h[0]", "p[1]/p[0]", "b.a/d/c"},
		{"ranges include their end", "a.b.c.d", "/1/2/3/4", "host[1:2]", "path[1:2]", "b.c/2/3"},
		{"constants", "a.b", "/", "www.example.com", "index.html", "www.example.com/index.html"},
		{"kept", "a.b", "/x%2fy/z", "", "", "a.b/x%2fy/z"},
		{"escapes stay in their segment", "a.b", "/x%2Fy/z", "", "/path[1]/path[0]", "a.b/z/x%2Fy"},
		{"empty segments count", "a.b", "/x//y", "", "/path[2]/path[1]/path[0]", "a.b/y//x"},
		{"segment behind the last slash", "a.b", "/x/", "", "/y/path[1]", "a.b/y/"},
		{"dot behind the host", "a.b.", "/", "www.host[1:]", "", "www.b/"},
		{"captures are encoded", "a.b", "/", "", "/r/regex[1]", "a.b/r/one/2%20%25"},
		{"group", "a.b", "/", "", "/string_group[key]/string_group[value]", "a.b/k/v%3Fx"},
		{"host token in a path", "a.b:80", "/x", "", "/host[0:]", "a.b/a.b"},
		{"IPv6 constant", "a.b", "/x", "[2001:db8::1]", "", "[2001:db8::1]/x"},

		{"too few labels", "a.b", "/x", "host[2]", "", ""},
		{"too few labels for an open range", "a.b", "/x", "host[2:]", "", ""},
		{"too few segments", "a.b", "/x", "", "path[1]", ""},
		{"too few segments for a range", "a.b", "/x", "", "path[0:1]", ""},
		{"no segments", "a.b", "/", "", "path[0:]", ""},
		{"IPv4", "192.0.2.1", "/x", "www.host[1:]", "", ""},
		{"IPv4 in a path", "192.0.2.1", "/x", "", "/host[0]", ""},
		{"IPv4 without host tokens", "192.0.2.1", "/x", "www", "/path[0]", "www/x"},
		{"octal is not IPv4", "0300.0.2.1", "/x", "www.host[1:]", "", "www.0.2.1/x"},
		{"IPv6", "[2001:db8::1]", "/x", "host[0]", "", ""},
		{"no host", "", "/x", "www.host[0]", "", ""},
		{"no host kept", "", "/x", "", "/y", ""},
		{"a host that is none", "a b.c", "/x", "host[0]", "", ""},
		{"a host made of a path", "a.b", "/%0d%0a", "path[0]", "", ""},
		{"no capture", "a.b", "/", "", "/regex[2]", ""},
		{"no such capture", "a.b", "/", "", "/regex[3]", ""},
		{"no query capture", "a.b", "/", "", "/regex_query[0]", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			tokens := &uriTokens{host: strings.TrimSuffix(hostWithoutPort(c.host), "."), path: c.path,
				regex: captured, group: StringEntry{"k", "v?x"}, hasGroup: true}
			var host, path *uriTemplate
			comp := &compiler{}
			if c.hostTemplate != "" {
				host = comp.template("host", c.hostTemplate, true, nil)
			}
			if c.template != "" {
				// Tokens of matches are checked elsewhere.
				var err error
				if path, err = parseTemplate(c.template); err != nil {
					t.Fatal(err)
				}
			}
			if err := comp.faults.Err(); err != nil {
				t.Fatal(err)
			}
			h, p, err := tokens.address(host, path)
			if err != nil {
				h, p = "", ""
			}
			if h+p != c.want {
				t.Errorf("%q, %v, want %q", h+p, err, c.want)
			}
		})
	}
}

func TestTemplateFaults(t *testing.T) {
	regex := &compiledMatch{path: &pathCondition{set: &stringSet{op: MatchesRegexp}}}
	for _, c := range []struct {
		name, host, path string
		match            *compiledMatch
		want             []string
	}{
		{"index", "host[x]", "path[-1]", nil, []string{`host: "host[x]": host[x]: "x" is not a number from 0 to 65534`, `path: "path[-1]": path[-1]: "-1" is not a number from 0 to 65534`}},
		{"spelling", "hots[0]", "xpath[0]", nil, []string{`host: "hots[0]": hots[0] is not a token`, `path: "xpath[0]": xpath[0] is not a token`}},
		{"brackets", "host[0", "a]b", nil, []string{`host: "host[0": "host[0" has no closing bracket`, `path: "a]b": a bracket that does not belong to a token`}},
		{"ranges", "host[2:1]", "regex[1:2]", regex, []string{`host: "host[2:1]": host[2:1] begins after its end`, `path: "regex[1:2]": regex[1:2]: captures have no ranges`}},
		{"range ends", "host[1:65535]", "path[:1]", nil, []string{`host: "host[1:65535]": host[1:65535]: "65535" is not a number from 0 to 65534`, `path: "path[:1]": path[:1]: "" is not a number from 0 to 65534`}},
		{"constants", "a b.host[0]", "/a?b/path[0]", nil, []string{`host: "a b.host[0]": "a b." is not part of a host name`, `path: "/a?b/path[0]": "/a?b/" is not part of a path`}},
		{"whole constants", "..", "/%zz", nil, []string{`host: "..": the host is not valid in a URL`, `path: "/%zz": invalid URL escape "%zz"`}},
		{"match without", "regex[0].example.com", "regex_query[0]", nil, []string{
			`host: "regex[0].example.com": regex needs a match of the path with a regular expression`,
			`path: "regex_query[0]": regex_query needs a match of the query with a regular expression`}},
		{"group without", "", "string_group[value]", regex, []string{`path: "string_group[value]": string_group needs a match of the path or the query with a string group`}},
		{"group index", "", "string_group[0]", nil, []string{`path: "string_group[0]": string_group[0] is neither [key] nor [value]`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			comp := &compiler{}
			comp.template("host", c.host, true, c.match)
			comp.template("path", c.path, false, c.match)
			if diff := cmp.Diff(c.want, lines(comp.faults.Err())); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// FuzzTemplate: whatever the template and the request, a host and a path that
// are made can stand in a URL, and a URL made of them has just these.
func FuzzTemplate(f *testing.F) {
	f.Add("www.host[1:]", "/host[0]/path[0:]", "a.example.com", "/x/y") // plain
	f.Add("path[0]", "regex[1]", "a.b", "/x\r\ny")                      // a host and a path made of what the client wrote
	f.Add("[::1]", "//path[0]//", "[::1]:80", "//..//")                 // slashes
	f.Add("h[0]", "p[0:65534]", "192.0.2.1", "*")                       // an address
	f.Add("a", "%2f%", "", "\xff")                                      // escapes, broken and not
	f.Fuzz(func(t *testing.T, hostSource, pathSource, host, path string) {
		c := &compiler{}
		hostTemplate := c.template("host", hostSource, true, nil)
		pathTemplate, err := parseTemplate(pathSource)
		if err != nil {
			return
		}
		c.checkTemplate("path", pathTemplate, false)
		if c.faults.Err() != nil {
			return
		}
		u := &url.URL{Path: path}
		tokens := &uriTokens{host: hostWithoutPort(host), path: u.EscapedPath(), regex: [][]byte{[]byte(host), []byte(path)}, group: StringEntry{host, path}, hasGroup: true}
		h, p, err := tokens.address(hostTemplate, pathTemplate)
		if err != nil {
			return
		}
		location := string(appendURL(nil, HTTPS, h, 0, p, ""))
		got, err := url.Parse(location)
		if err != nil {
			t.Fatalf("%q: %v", location, err)
		}
		want, err := url.PathUnescape(p)
		if err != nil || got.Host != h || got.Path != want || got.User != nil || got.RawQuery != "" || got.Fragment != "" || got.Scheme != "https" || p[0] != '/' {
			t.Fatalf("%q: %+v, want host %q and path %q, %v", location, got, h, want, err)
		}
		for _, c := range []byte(location) {
			if c <= ' ' || c >= 0x7f {
				t.Fatalf("%q", location)
			}
		}
	})
}
