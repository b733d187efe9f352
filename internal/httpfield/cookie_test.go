package httpfield

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCookies(t *testing.T) {
	type pair struct {
		Text string
		Cookie
	}
	for _, test := range []struct {
		name, line string
		want       []pair
	}{
		{"nothing", "", nil},
		{"one", "a=1", []pair{{"a=1", Cookie{"a", "1", true}}}},
		{"several", "a=1; b=2", []pair{{"a=1", Cookie{"a", "1", true}}, {" b=2", Cookie{"b", "2", true}}}},
		{"blanks", "\ta = 1 ", []pair{{"\ta = 1 ", Cookie{"a", "1", true}}}},
		{"other white space stays", "a\u00a0=1\u0085", []pair{{"a\u00a0=1\u0085", Cookie{"a\u00a0", "1\u0085", true}}}},
		{"equals signs", "a==1=", []pair{{"a==1=", Cookie{"a", "=1=", true}}}},
		{"no value", "a", []pair{{"a", Cookie{"a", "", false}}}},
		{"empty value", "a=", []pair{{"a=", Cookie{"a", "", true}}}},
		{"no name", "=1", []pair{{"=1", Cookie{"", "1", true}}}},
		{"empty texts", ";; a=1", []pair{{"", Cookie{}}, {"", Cookie{}}, {" a=1", Cookie{"a", "1", true}}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got []pair
			for text, c := range Cookies(test.line) {
				got = append(got, pair{text, c})
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	for range Cookies("a;b") { // a loop may end early
		break
	}
}

func TestParseSetCookie(t *testing.T) {
	for _, test := range []struct {
		line       string
		want       Cookie
		attributes string
	}{
		{"a=1", Cookie{"a", "1", true}, ""},
		{" a = 1 ; Path=/; Secure", Cookie{"a", "1", true}, " Path=/; Secure"},
		{"", Cookie{}, ""},
	} {
		if got, attributes := ParseSetCookie(test.line); got != test.want || attributes != test.attributes {
			t.Errorf("%q: %+v, %q", test.line, got, attributes)
		}
	}
}

func TestUnquoted(t *testing.T) {
	for value, want := range map[string]string{"": "", "a": "a", `"a"`: "a", `""`: "", `"`: `"`, `"a`: `"a`, `a"`: `a"`, `""a""`: `"a"`} {
		if got := (Cookie{Value: value}).Unquoted(); got != want {
			t.Errorf("%q: %q, want %q", value, got, want)
		}
	}
}

func TestCookiesDoNotAllocate(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() {
		for _, c := range Cookies("a=1; b=2; c") {
			if c.Name == "d" {
				t.Error("d")
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
