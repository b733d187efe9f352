package datascript

import (
	"net/url"
	"path"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// foreignURIs lead, or may lead, away from the host. e stands for somebody
// else's.
var foreignURIs = []string{
	// Not a path.
	"", "e", "e/path", "./e", "../e", "?next=/e", "#e", "@e", ":e", ":80", ".e", ";//e",
	"http://e", "https://e/", "HTTPS://e", "https:e", "https:/e", "https:///e", `https:\\e`, "ftp://e", "javascript:alert(1)",
	"JaVaScRiPt:alert(1)", "data:text/html,x", "vbscript:x", "file:///etc/passwd", "mailto:a@e", "//user@e", "https://www.example.com@e",
	"https://www.example.com:80@e/", "https://e#@www.example.com", `https://e\@www.example.com`, "http:www.example.com",
	// A host in disguise.
	"//e", "///e", "////e", "/" + strings.Repeat("/", 100) + "e", `/\e`, `\/e`, `\\e`, `\e`, `/\/e`, `//\e`, `/\\e`, "//e?x", "//e#x", "//e:80", "//[::1]", "//0x7f000001", "//e%2f@w",
	"/%2fe", "/%2Fe", "/%5ce", "/%5Ce", "/%2f%2fe", "/%5c%5ce", "/%252fe", "/%25252fe", "/%255ce", "/%2525252525252fe",
	"/a//e", "/a/%2fe", `/a\e`, "/a/%5ce", "/;/e", "/;x=y//e", "/;a/e", "/%3b/e",
	// Dropped by those who read it.
	"/\t/e", "/\n/e", "/\r/e", "/\r\n/e", "\t//e", " //e", " /e", "/ /e", "/e ", "/\x00/e", "\x00/e", "\x01//e", "/\x7fe", "/\v/e", "/\f/e", "\ufeff//e",
	"/%09/e", "/%0a/e", "/%0d/e", "/%0d%0aSet-Cookie:x", "/%00/e", "/%7f/e", "/%2509/e", "/%c2%85/e", "/a\r\nSet-Cookie: x=y",
	// Paths that become others when they are cleaned.
	"/.", "/..", "/./e", "/../e", "/.//e", "/..//e", "/%2e/e", "/%2e%2e/e", "/.%2e/e", "/%252e%252e/e", "/a/..", "/a/../e", "/a/..;/e", "/.;x/e", "/a/%2e%2e%2fe",
	// Letters that others take for slashes and dots, and text that is none.
	"/／e", "/%ef%bc%8fe", "/%EF%BC%BCe", "/%e2%81%84e", "/%e2%88%95e", "/%e3%80%82e", "/%ef%bd%a1e", "/%ef%bc%8ee", "／／e", "/é", "/\xff", "/%c0%afe", "/%ff", "/%e2%80",
}

var localURIs = []string{
	"/", "/a", "/a/", "/a/b.html", "/a.b/c..d/...", "/.well-known/x", "/~user", "/@user", "/:80", "/e:80/x", "/a;v=1/b", "/-._~!$&'()*+,;=:@",
	"/?", "/?next=https://e/", "/?a=//e", "/a?b=%5c%0d%0a", "/a#b", "/a#//e", "/a%20b", "/100%25", "/100%", "/%zz", "/a%3fb%23c",
	"/%C3%A9t%C3%A9", "/%e6%97%a5%e6%9c%ac%e3%80%82", "/?q=%E3%80%82", "/" + strings.Repeat("a", 8000),
}

func TestLocalURI(t *testing.T) {
	if len(foreignURIs) < 60 {
		t.Errorf("only %d forms", len(foreignURIs))
	}
	for _, uri := range foreignURIs {
		if isLocalURI(uri) {
			t.Errorf("%q passes for a local one", uri)
		}
	}
	for _, uri := range localURIs {
		if !isLocalURI(uri) {
			t.Errorf("%q does not pass for a local one", uri)
		}
	}
	x, err := runRequest(t, newEngine(t, Env{}), `
		local f = avi.utils.local_uri
		avi.vs.log(f("/a?b"), " ", f("//e"), " ", f(nil), " ", f(12), " ", (pcall(f, {})), (pcall(f)))
		avi.http.redirect(f(avi.http.get_query("x")) or "/home")`)
	if diff := cmp.Diff([]string{"/a?b nil nil nil falsetrue"}, x.logged()); diff != "" || err != nil {
		t.Errorf("error %v, log (-want +got):\n%s", err, diff)
	}
	if x.reply == nil || x.reply.header.Get("Location") != "/home" {
		t.Errorf("reply %+v", x.reply)
	}
}

// What passes stays on its host, in the eyes of a parser of URIs, and of a
// browser's rules for them, however often it is decoded and cleaned.
func FuzzLocalURI(f *testing.F) {
	for _, uri := range foreignURIs {
		f.Add(uri) // the known tricks
	}
	for _, uri := range localURIs {
		f.Add(uri) // what passes, to change from there
	}
	base, err := url.Parse("https://www.example.com/dir/page?q")
	if err != nil {
		f.Fatal(err)
	}
	dropped := strings.NewReplacer("\t", "", "\n", "", "\r", "", `\`, "/")
	f.Fuzz(func(t *testing.T, uri string) {
		if !isLocalURI(uri) {
			return
		}
		path0, _, _ := strings.Cut(uri, "?")
		path0, _, _ = strings.Cut(path0, "#")
		for p, layer := path0, 0; layer < 5; layer++ {
			for _, seen := range []string{p, path.Clean(p), dropped.Replace(p)} {
				if !strings.HasPrefix(seen, "/") || strings.HasPrefix(seen, "//") {
					t.Fatalf("%q is taken for %q", uri, seen)
				}
			}
			p = percentDecode(p, false)
		}
		if u, err := base.Parse(uri); err == nil && (u.Scheme != "https" || u.Host != "www.example.com" || u.User != nil) {
			t.Fatalf("%q leads to %v", uri, u)
		}
	})
}
