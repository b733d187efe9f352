package oneline

import "testing"

func TestEscape(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"nothing", "/a b/ü?x=\t日", "/a b/ü?x=\t日"},
		{"empty", "", ""},
		{"line breaks", "a\nb\r\x00c", `a\nb\r\0c`},
		{"terminal", "\x1b[2Jx\x7f\x0b", `\x1b[2Jx\x7f\x0b`},
		{"NEL and CSI", "a\u0085b\u009b", `a\u0085b\u009b`},
		{"NEL and CSI in ISO 8859", "a\x85b\x9b\xe9", "a\\x85b\\x9b\xe9"},
		{"separators", "a\u2028b\u2029", `a\u2028b\u2029`},
		{"direction", "a\u202eb\u2066", `a\u202eb\u2066`},
		{"cut character", "a\xe2\x80", "a\xe2\\x80"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Escape(tt.in); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
	if n := testing.AllocsPerRun(100, func() { Escape("/harmless") }); n != 0 {
		t.Errorf("%v allocations for a harmless text", n)
	}
}
