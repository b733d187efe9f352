package policy

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/limpetlb/limpet/internal/httpfield"
)

// FuzzLocation: whatever the client wrote, a Location is printable ASCII that
// names the host the client asked for, over https, with its path and query.
func FuzzLocation(f *testing.F) {
	f.Add("example.com", "/a%20b?x=1", uint16(0))     // plain
	f.Add("example.com:80", "//other/x", uint16(443)) // port and a second host
	f.Add("[2001:db8::1]:80", "*", uint16(8443))      // IPv6 and no path
	f.Add("a\r\nb", "/%0d%0a", uint16(1))             // line ends
	f.Add("user@h", "/?#\xff\\", uint16(0))           // what must be escaped
	f.Fuzz(func(t *testing.T, host, target string, port uint16) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			u = &url.URL{Path: target, RawQuery: target} // no server parses this
		}
		got, ok := RedirectToHTTPS{Port: port}.location(&http.Request{Host: host, URL: u})
		if !ok {
			return
		}
		for _, c := range []byte(got) {
			if c <= ' ' || c >= 0x7f {
				t.Fatalf("%q", got)
			}
		}
		l, err := url.Parse(got)
		if err != nil {
			t.Fatal(err)
		}
		if l.Scheme != "https" || l.User != nil || l.Fragment != "" || !strings.HasPrefix(host, l.Host[:len(l.Host)-len(l.Port())-len(":")*min(1, len(l.Port()))]) {
			t.Fatalf("%q for host %q", got, host)
		}
		if err == nil && u.Path != "" && u.Path[0] == '/' && l.Path != u.Path {
			t.Fatalf("path %q became %q", u.Path, l.Path)
		}
	})
}

// FuzzCookie: every cookie that net/http finds is found, with its value; we
// also take blanks behind the equals sign, and quotes behind those, away.
func FuzzCookie(f *testing.F) {
	f.Add("a=1; b=2; a=3", "a")     // several
	f.Add(`a="1;2"`, "a")           // a semicolon in quotes still ends the cookie
	f.Add("a; =b;;a==c ", "a")      // odd pairs
	f.Add("a=\"; a=\"\"; A=1", "a") // quotes alone, and another name
	f.Add("a= 0;a= \"1\"", "a")     // blanks that net/http keeps
	f.Add("\n0", "0")               // net/http trims line ends, too
	f.Fuzz(func(t *testing.T, line, name string) {
		if !httpfield.IsToken(name) {
			return
		}
		r := &http.Request{Header: http.Header{"Cookie": {line}}}
		var got []string
		fieldName{cookie: true, name: name}.each(r, func(v string) { got = append(got, v) })
		for _, c := range r.CookiesNamed(name) {
			bare := strings.TrimSpace(c.Value)
			if len(bare) > 1 && bare[0] == '"' && bare[len(bare)-1] == '"' {
				bare = bare[1 : len(bare)-1]
			}
			if !slices.Contains(got, c.Value) && !slices.Contains(got, bare) {
				t.Fatalf("%q in %q: net/http finds %q, we find %q", name, line, c.Value, got)
			}
		}
		if strings.Count(line, ";")+1 < len(got) {
			t.Fatalf("%d cookies in %q", len(got), line)
		}
	})
}

// FuzzReading: a reading is a path whatever the quirks, never longer than
// the path and a slash, and reading it again the same way changes nothing but
// what dropping parameters has uncovered.
func FuzzReading(f *testing.F) {
	f.Add("/a//../b;c/..", uint8(15))       // all quirks
	f.Add("/../../x", uint8(resolveDots))   // above the root
	f.Add(`\..\a`, uint8(splitAtBackslash)) // no leading slash
	f.Add("/..;/a", uint8(dropParameters|resolveDots))
	f.Fuzz(func(t *testing.T, path string, set uint8) {
		c := quirks(set) & 15
		read := string(appendReading(nil, []byte(path), c))
		if read == "" || read[0] != '/' || len(read) > len(path)+1 {
			t.Fatalf("%q read as %q", path, read)
		}
		if want := slowReading(path, c); read != want {
			t.Fatalf("%q with %04b: %q, want %q", path, c, read, want)
		}
		if again := string(appendReading(nil, []byte(read), c)); again != read && c&(resolveDots|dropParameters) != resolveDots|dropParameters {
			t.Fatalf("%q, then %q, then %q", path, read, again)
		}
		for s := range strings.SplitSeq(read, "/") {
			if c&resolveDots != 0 && (s == "." || s == "..") || c&dropParameters != 0 && strings.Contains(s, ";") {
				t.Fatalf("%q with %04b: %q", path, c, read)
			}
		}
	})
}
