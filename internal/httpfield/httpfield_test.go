package httpfield

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestIsAuthority(t *testing.T) {
	for _, s := range []string{
		"a", "A.example.COM", "a.", "a.b.", "a_b", "a-b", "a~b", "1.2.3.4", "a:80", "a:", "a:0", "a:00080", "a:65535", "1", "xn--a",
		"[::1]", "[::1]:80", "[::1]:", "[::ffff:192.0.2.1]", "a.:80",
	} {
		if !IsAuthority(s) {
			t.Errorf("%q is refused", s)
		}
	}
	for _, s := range []string{
		"", ".", "..", ".a", "a..", "a..b", "a b", " a", "a ", "a/b", "a\\b", "a?b", "a#b", "a@b", "u:p@b", `a"b`, "a'b", "a,b", "a;b", "a=b",
		"a&b", "a!b", "a$b", "a(b", "a)b", "a*b", "a+b", "%61", "admin%2eexample.com", "a%", "\x00", "a\x00", "a\tb", "a\nb", "a\x7f", "b\u00fccher",
		"\xff", "a:b", "a:b:c", "a:80:80", "a:80a", "a:+80", "a:-1", "a: 80", "a:65536", "a:000080", ":80", ":", "::1", "2001:db8::1", "[", "[]", "[::1",
		"::1]", "[::1]a", "[::1]80", "[::1]:a", "[::1]:65536", "[fe80::1%25eth0]", "[fe80::1%eth0]", "[1.2.3.4]", "[v1.a]", "[[::1]]", "a[::1]",
		"{a}", "<a>", "a|b", "a^b", "a`b",
	} {
		if IsAuthority(s) {
			t.Errorf("%q is accepted", s)
		}
	}
}

func TestIsToken(t *testing.T) {
	for c := range 256 {
		s := string([]byte{'a', byte(c)})
		want := '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
		for _, other := range "!#$%&'*+-.^_`|~" {
			want = want || c == int(other)
		}
		if IsToken(s) != want {
			t.Errorf("%q: %v", s, !want)
		}
	}
	if IsToken("") {
		t.Error("empty")
	}
}

func TestIsValueAndTarget(t *testing.T) {
	for c := range 256 {
		s := string([]byte{'a', byte(c), 'b'})
		control := c < ' ' || c == 0x7f
		if want := !control || c == '\t'; IsValue(s) != want {
			t.Errorf("value %q: %v", s, !want)
		}
		if want := !control && c != ' ' && c != '#'; IsTarget(s) != want {
			t.Errorf("target %q: %v", s, !want)
		}
	}
}

func FuzzIsAuthority(f *testing.F) {
	f.Add("a:80")
	f.Add("[::1]:80")
	f.Fuzz(func(t *testing.T, s string) {
		if !IsAuthority(s) {
			return
		}
		for i := range len(s) {
			switch c := s[i]; {
			case c <= ' ', c >= 0x7f, c == '/', c == '\\', c == '?', c == '#', c == '@', c == '%', c == ',', c == '"', c == '\'':
				t.Errorf("%q is accepted", s)
			}
		}
	})
}
