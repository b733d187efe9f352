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
		if IsToken(s) != want || IsTokenByte(byte(c)) != want {
			t.Errorf("%q: %v, %v; want %v", s, IsToken(s), IsTokenByte(byte(c)), want)
		}
	}
	if IsToken("") {
		t.Error("empty")
	}
}

// The grammar is that of net/http, which refuses such fields where it sends
// them.
func TestFieldEdges(t *testing.T) {
	for _, tt := range []struct {
		name         string
		s            string
		token, value bool
	}{
		{"empty", "", false, true},
		{"blank", " ", false, true},
		{"tab", "\t", false, true},
		{"blanks around", " a ", false, true},
		{"name and colon", "a:", false, true},
		{"UTF-8", "b\u00fccher", false, true},
		{"Kelvin sign", "\u212aeep-Alive", false, true},
		{"invalid UTF-8", "a\xff", false, true},
		{"next line of C1", "a\u0085", false, true},
		{"line feed at the end", "a\n", false, false},
		{"carriage return first", "\ra", false, false},
		{"folded", "a\r\n b", false, false},
		{"NUL", "a\x00b", false, false},
		{"escape", "\x1b[0m", false, false},
		{"delete", "a\x7f", false, false},
		{"all kinds", "!#$%&'*+-.^_`|~09AZaz", true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := IsToken(tt.s); got != tt.token {
				t.Errorf("IsToken(%q) = %v", tt.s, got)
			}
			if got := IsValue(tt.s); got != tt.value {
				t.Errorf("IsValue(%q) = %v", tt.s, got)
			}
		})
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

// Names and values of every request are looked at.
func TestNoAllocations(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() {
		if !IsToken("X-Forwarded-For") || !IsValue("text/html;q=0.9, b\u00fccher") || !IsAuthority("www.example.com:8080") || !IsTarget("/a?b=c") {
			t.Error("refused")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
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
