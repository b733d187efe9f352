package luastr

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/limpetlb/limpet/internal/testrace"
)

func TestCase(t *testing.T) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	lower, upper := Lower(string(all)), Upper(string(all))
	for i := range 256 {
		wantLower, wantUpper := byte(i), byte(i)
		if 'A' <= i && i <= 'Z' {
			wantLower += 32
		}
		if 'a' <= i && i <= 'z' {
			wantUpper -= 32
		}
		if lower[i] != wantLower || upper[i] != wantUpper {
			t.Errorf("byte %#x: lower %#x, upper %#x, want %#x, %#x", i, lower[i], upper[i], wantLower, wantUpper)
		}
	}
	if got := Lower("\xffÄB"); got != "\xffÄb" {
		t.Errorf("Lower keeps other bytes: %q", got)
	}
	if n := testing.AllocsPerRun(10, func() { Lower("already lower") }); n != 0 && !testrace.Enabled {
		t.Errorf("Lower allocates %v times for nothing", n)
	}
}

func TestRep(t *testing.T) {
	tests := []struct {
		s    string
		n    int64
		max  int
		want string
		ok   bool
	}{
		{"ab", 3, 6, "ababab", true},
		{"ab", 3, 5, "", false},
		{"ab", 0, 1, "", true},
		{"ab", -1, 1, "", true},
		{"", math.MaxInt64, 1, "", true},
		{"abc", math.MaxInt64, 0, "", false},
		{"a", 1e11, 0, "", false},
		{"a", DefaultMaxBytes, 0, strings.Repeat("a", DefaultMaxBytes), true},
		{"a", DefaultMaxBytes + 1, 0, "", false},
	}
	for _, tt := range tests {
		got, err := Rep(tt.s, tt.n, tt.max)
		if got != tt.want || tt.ok != (err == nil) || !tt.ok && !errors.Is(err, ErrTooLarge) {
			t.Errorf("Rep(%q, %d, %d) = %d bytes, %v", tt.s, tt.n, tt.max, len(got), err)
		}
	}
}

func TestReverse(t *testing.T) {
	for s, want := range map[string]string{"": "", "a": "a", "abc": "cba", "\x00\xff": "\xff\x00"} {
		if got := Reverse(s); got != want {
			t.Errorf("Reverse(%q) = %q, want %q", s, got, want)
		}
	}
}

func TestSub(t *testing.T) {
	tests := []struct {
		i, j int64
		want string
	}{
		{1, -1, "hello"}, {2, 4, "ell"}, {-3, -1, "llo"}, {-3, -2, "ll"}, {0, 2, "he"}, {1, 99, "hello"}, {-99, 2, "he"}, {4, 2, ""}, {6, 9, ""}, {1, 0, ""}, {0, 0, ""},
		{3, 3, "l"}, {-1, -1, "o"}, {math.MinInt64, math.MaxInt64, "hello"}, {math.MaxInt64, math.MinInt64, ""}, {1, math.MinInt64, ""}, {math.MaxInt64, math.MaxInt64, ""},
	}
	for _, tt := range tests {
		if got := Sub("hello", tt.i, tt.j); got != tt.want {
			t.Errorf("Sub(hello, %d, %d) = %q, want %q", tt.i, tt.j, got, tt.want)
		}
	}
	if got := Sub("", 1, -1); got != "" {
		t.Errorf("Sub of nothing = %q", got)
	}
}

func TestOffset(t *testing.T) {
	for _, tt := range []struct {
		init int64
		want int
	}{{1, 0}, {0, 0}, {3, 2}, {-1, 4}, {-99, 0}, {99, 5}, {6, 5}, {math.MinInt64, 0}, {math.MaxInt64, 5}} {
		if got := Offset(tt.init, 5); got != tt.want {
			t.Errorf("Offset(%d, 5) = %d, want %d", tt.init, got, tt.want)
		}
	}
}

func TestBytes(t *testing.T) {
	if got, err := Bytes("hello", 2, 3, 0); got != "el" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := Bytes("hello", 1, -1, 4); got != "" || err != ErrSliceTooLong {
		t.Errorf("%q, %v, want %v", got, err, ErrSliceTooLong)
	}
	if _, err := Bytes(strings.Repeat("a", DefaultMaxValues+1), 1, -1, 0); err != ErrSliceTooLong {
		t.Errorf("beyond the default: %v", err)
	}
}

func TestAppendChar(t *testing.T) {
	for _, code := range []float64{0, 65, 65.9, 255, -0.5} {
		if got, err := AppendChar([]byte("x"), code, 1); err != nil || len(got) != 2 || got[1] != byte(ToInt64(code)) {
			t.Errorf("%v: %q, %v", code, got, err)
		}
	}
	for _, code := range []float64{-1, 256, math.NaN(), math.Inf(1), 1 << 32} {
		got, err := AppendChar([]byte("x"), code, 3)
		if string(got) != "x" || err == nil || err.Error() != "bad argument #3 to 'char' (invalid value)" {
			t.Errorf("%v: %q, %v", code, got, err)
		}
	}
}

func TestFindPlain(t *testing.T) {
	for _, tt := range []struct {
		target            string
		init, start, stop int
	}{{"l", 0, 2, 3}, {"l", 3, 3, 4}, {"%", 0, 5, 6}, {"", 0, 0, 0}, {"", 99, 6, 6}, {"", -1, 0, 0}, {"x", 0, -1, -1}, {"h", 1, -1, -1}} {
		if start, end := FindPlain("hello%", tt.target, tt.init); start != tt.start || end != tt.stop {
			t.Errorf("FindPlain(hello%%, %q, %d) = %d, %d, want %d, %d", tt.target, tt.init, start, end, tt.start, tt.stop)
		}
	}
}
