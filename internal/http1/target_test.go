package http1

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/limpetlb/limpet/internal/testrace"
	"github.com/limpetlb/limpet/internal/testwait"
)

// sentTargets are the targets that a Transport, and an http.Transport with the
// request of Prepare, would send.
func sentTargets(t testing.TB, r *http.Request) (own, standard string) {
	t.Helper()
	b, err := appendTarget(nil, r.URL, false)
	if err != nil {
		t.Fatalf("%q: %v", r.RequestURI, err)
	}
	prepared, err := Prepare(r)
	if err != nil {
		t.Fatalf("%q: %v", r.RequestURI, err)
	}
	return string(b), prepared.URL.RequestURI()
}

// wantTarget is target with the bytes encoded that do not belong there, by the
// grammar of RFC 3986, byte by byte.
func wantTarget(target string) string {
	path, _, _ := strings.Cut(target, "?")
	var b strings.Builder
	for i, c := range []byte(target) {
		const inPath = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;=:@/%[]"
		switch {
		case i < len(path) && strings.IndexByte(inPath, c) < 0, i > len(path) && (c == ' ' || c == '#'):
			fmt.Fprintf(&b, "%%%02X", c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// TestTargets sends on what net/http's servers take for a target, of all
// combinations of three pieces, in the path and in the query: one byte that
// ought to be encoded made the whole path be decoded, so that "/a%2Fb|c" became
// "/a/b%7Cc" for the server, a path that no rule had seen.
func TestTargets(t *testing.T) {
	pieces := []string{
		"", "a", "/", "//", "%2F", "%2f", "%3B", ";", "%7C", "|", "^", "%5e", `"`, "`", `\`, "%5C", "{", "}", "<", ">", "[", "]", "é", "%C3%A9",
		"\xff", "\x80", "%FF", "+", "%20", " ", "#", "%23", "%25", "%2525", "!", "*", "'", "(", ":", "@", "=", "&", "~", "%7e", "%41", "..", "%2e", "%00", ",", "$",
	}
	checked, encoded := 0, 0
	check := func(target string) {
		u, err := url.ParseRequestURI(target) // as HTTP/2 does with :path
		if err != nil {
			t.Fatalf("%q: %v", target, err)
		}
		r := &http.Request{Method: "GET", URL: u, RequestURI: target, Header: http.Header{}}
		if !strings.Contains(target, " ") {
			if r, err = http.ReadRequest(bufio.NewReader(strings.NewReader("GET " + target + " HTTP/1.1\r\nHost: a\r\n\r\n"))); err != nil {
				t.Fatalf("%q: %v", target, err)
			}
		}
		r.URL.Scheme, r.URL.Host = "http", "a"
		before := *r.URL
		own, standard := sentTargets(t, r)
		want := wantTarget(target)
		if own != want || standard != want {
			t.Fatalf("%q is sent as %q, by the standard transport as %q; want %q", target, own, standard, want)
		}
		path, _, _ := strings.Cut(own, "?")
		if decoded, err := url.PathUnescape(path); decoded != r.URL.Path || err != nil {
			t.Fatalf("%q is sent as %q, which the server takes for %q", target, own, decoded)
		}
		if *r.URL != before {
			t.Fatalf("%q: the request is changed", target)
		}
		checked++
		if want != target {
			encoded++
		}
	}
	few := 1
	if testing.Short() || testrace.Enabled {
		few = 11
	}
	for i, a := range pieces {
		for j, b := range pieces {
			if (i+j)%few > 0 {
				continue
			}
			for _, c := range pieces {
				check("/" + a + b + c)
			}
			for _, c := range []string{"", "?", "x", "/", "%"} {
				check("/%2f|?" + a + b + c)
			}
			check("/" + a + "?" + b)
		}
	}
	if checked < 100_000/few || encoded < 10_000/few {
		t.Errorf("only %d targets, %d with bytes to be encoded", checked, encoded)
	}
}

// FuzzTarget sends on any target that net/http's servers take.
func FuzzTarget(f *testing.F) {
	f.Add("/a%2Fb|c?d#e")  // a byte to be encoded beside one that must stay encoded
	f.Add("/?")            // an empty query
	f.Add("//host/path")   // a path, not a host
	f.Add("http://host?q") // no path
	f.Fuzz(func(t *testing.T, target string) {
		u, err := url.ParseRequestURI(target)
		if err != nil || u.Opaque != "" {
			return
		}
		origin := target
		if u.Scheme != "" {
			if _, origin, _ = strings.Cut(target, ":"); !strings.HasPrefix(origin, "//") || u.OmitHost {
				return // no host, and perhaps no path
			}
			origin = origin[2:]
			if i := strings.IndexAny(origin, "/?"); i < 0 {
				origin = "/"
			} else if origin = origin[i:]; origin[0] == '?' {
				origin = "/" + origin
			}
		}
		u.Scheme, u.Host = "http", "a"
		own, standard := sentTargets(t, &http.Request{Method: "GET", URL: u, RequestURI: target, Header: http.Header{}})
		if want := wantTarget(origin); own != want || standard != want {
			t.Errorf("%q is sent as %q, by the standard transport as %q; want %q", target, own, standard, want)
		}
	})
}

// TestEditedTargets has what policies, scripts and programs make of a URL.
func TestEditedTargets(t *testing.T) {
	for _, test := range []struct {
		name string
		url  url.URL
		want string // empty: an error
	}{
		{"no path", url.URL{}, "/"},
		{"no path and a query", url.URL{RawQuery: "a"}, "/?a"},
		{"decoded path", url.URL{Path: "/a b/é%|?#"}, "/a%20b/%C3%A9%25%7C%3F%23"},
		{"control characters in a path", url.URL{Path: "/a\r\nb\x00"}, "/a%0D%0Ab%00"},
		{"path changed, its raw form forgotten", url.URL{Path: "/new path", RawPath: "/a%2Fb"}, "/new%20path"},
		{"path as it was, in another raw form", url.URL{Path: "/a/b|", RawPath: "/a%2fb|"}, "/a%2fb%7C"},
		{"malformed raw form", url.URL{Path: "/a%2", RawPath: "/a%2"}, "/a%252"},
		{"raw form that is too short", url.URL{Path: "/ab", RawPath: "/a"}, "/ab"},
		{"raw form that is too long", url.URL{Path: "/a", RawPath: "/ab"}, "/a"},
		{"query changed, path with a byte to be encoded", url.URL{Path: "/a/b|", RawPath: "/a%2fb|", RawQuery: "x=é y"}, "/a%2fb%7C?x=é%20y"},
		{"empty query", url.URL{Path: "/", ForceQuery: true}, "/?"},
		{"asterisk", url.URL{Path: "*"}, "*"},
		{"opaque path", url.URL{Opaque: "/a%2Fb|", RawQuery: "c"}, "/a%2Fb|?c"},
		{"opaque with a host", url.URL{Opaque: "//host/a"}, "http://host/a"},
		{"line break in the query", url.URL{Path: "/", RawQuery: "a\r\nb"}, ""},
		{"path without a slash", url.URL{Path: "a"}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.url.Scheme, test.url.Host = "http", "a"
			r := &http.Request{Method: "GET", URL: &test.url, Header: http.Header{}}
			if test.want == "" {
				if _, err := Prepare(r); !errors.Is(err, ErrRequest) {
					t.Errorf("error %v", err)
				}
				return
			}
			if own, standard := sentTargets(t, r); own != test.want || standard != test.want {
				t.Errorf("sent as %q, by the standard transport as %q; want %q", own, standard, test.want)
			}
		})
	}
}

// TestTargetsOnTheWire goes through servers of HTTP/1.1 that write down what
// they get, with and without the standard library's transport.
func TestTargetsOnTheWire(t *testing.T) {
	targets := make(chan string, 1)
	s := serve(t, func(c net.Conn, r *bufio.Reader) {
		for {
			lines, err := readHead(r)
			if err != nil {
				return
			}
			targets <- lines[0]
			c.Write([]byte(ok))
		}
	})
	for name, set := range map[string]func(*http.Transport){
		"own":      func(*http.Transport) {},
		"standard": func(base *http.Transport) { base.MaxConnsPerHost = 10 },
	} {
		t.Run(name, func(t *testing.T) {
			base := settings()
			set(base)
			rt := start(t, true, base)
			for _, test := range []struct{ method, target, want string }{
				{"GET", "/a%2Fb|c%2Bd", "/a%2Fb%7Cc%2Bd"},
				{"GET", "/a%2fb^c%3Bd?e|f", "/a%2fb%5Ec%3Bd?e|f"},
				{"GET", "/é", "/%C3%A9"},
				{"GET", "//host/a", "//host/a"},
				{"OPTIONS", "*", "*"},
				{"GET", "http://site.example/a%2Fb{", "/a%2Fb%7B"},
				{"GET", "http://site.example", "/"},
				{"GET", "/a?b#c", "/a?b%23c"},
			} {
				u, err := url.ParseRequestURI(test.target)
				if err != nil {
					t.Fatal(err)
				}
				r := newRequest(t, test.method, s.url, nil)
				u.Scheme, u.Host = "http", r.URL.Host
				r.URL = u
				wantOK(t, rt, r)
				if got, want := testwait.Receive(t, targets, "the request"), test.method+" "+test.want+" HTTP/1.1"; got != want {
					t.Errorf("%s is sent as %q, want %q", test.target, got, want)
				}
			}
		})
	}
}
