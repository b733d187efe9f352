package luastr

import (
	"errors"
	"math"
	"testing"
)

func TestFormatNumber(t *testing.T) {
	tests := []struct {
		f    float64
		want string
	}{
		{0, "0"}, {math.Copysign(0, -1), "-0"}, {1, "1"}, {-42, "-42"}, {0.1, "0.1"}, {1.5, "1.5"},
		{1e13, "10000000000000"}, {99999999999999, "99999999999999"}, {1e14, "1e+14"}, {1e15, "1e+15"}, {-1e14, "-1e+14"},
		{123456789012345, "1.2345678901234e+14"}, {math.MaxFloat64, "1.7976931348623e+308"}, {5e-324, "4.9406564584125e-324"},
		{0.0001, "0.0001"}, {0.00001, "1e-05"}, {1.0 / 3, "0.33333333333333"}, {99999999999999.9, "1e+14"},
		{math.Inf(1), "inf"}, {math.Inf(-1), "-inf"}, {math.NaN(), "nan"}, {math.Copysign(math.NaN(), -1), "nan"},
	}
	for _, tt := range tests {
		if got := FormatNumber(tt.f); got != tt.want {
			t.Errorf("FormatNumber(%v) = %s, want %s", tt.f, got, tt.want)
		}
		if got := string(AppendNumber([]byte("x"), tt.f)); got != "x"+tt.want {
			t.Errorf("AppendNumber(x, %v) = %s, want x%s", tt.f, got, tt.want)
		}
	}
}

func TestParseNumber(t *testing.T) {
	tests := map[string]float64{
		"0": 0, "10": 10, "010": 10, "-3": -3, "+3": 3, "2e2": 200, "5e-07": 5e-7, "5.": 5, ".5": 0.5, "1E+2": 100, " \t\n\v\f\r7 ": 7,
		"0x10": 16, "0XfF": 255, "-0x10": -16, "0x7fffffffffffffff": 1 << 63, "0xffffffffffffffff": 1 << 64, "0x10000000000000000": 1 << 64,
		"0x.8": 0.5, "0x1p4": 16, "0x1.8P-1": 0.75, "1e400": math.Inf(1), "-1e400": math.Inf(-1), "1e-400": 0, "9007199254740993": 1 << 53,
	}
	for s, want := range tests {
		if got, ok := ParseNumber(s); got != want || !ok {
			t.Errorf("ParseNumber(%q) = %v, %v, want %v", s, got, ok, want)
		}
	}
	for _, s := range []string{"", " ", "+", "-", ".", "e5", "1e", "1e+", "1 2", "1,5", "--1", "+-1", "- 1", "0x", "0xg", "0x.", "0xp1", "0x1p", "1_000", "0x_1", "0b1", "0o7",
		"1f", "1d5", "inf", "-inf", "Infinity", "nan", "nan(1)", "NaN", "1\x00", "\x001", "\u00a01", "٣", "1e5.0", "1..2", "0x1e+5", "true"} {
		if got, ok := ParseNumber(s); got != 0 || ok {
			t.Errorf("ParseNumber(%q) = %v, %v, want refusal", s, got, ok)
		}
	}
	if f, ok := ParseNumber("-0"); !ok || !math.Signbit(f) {
		t.Errorf("-0 = %v, %v", f, ok)
	}
}

func TestParseNumberBase(t *testing.T) {
	tests := []struct {
		s    string
		base int
		want float64
	}{
		{"ff", 16, 255}, {"0xFF", 16, 255}, {" zz ", 36, 1295}, {"ZZ", 36, 1295}, {"101", 2, 5}, {"777", 8, 511}, {"1e1", 10, 10}, {"0x1p4", 10, 16}, {"+11", 2, 3},
		{"-ff", 16, 1<<64 - 255}, {"ffffffffffffffff", 16, 1 << 64}, {"fffffffffffffffff", 16, 1 << 64}, {"-fffffffffffffffff", 16, 1 << 64}, {"0", 2, 0}, {"0xz", 36, 33*36 + 35},
	}
	for _, tt := range tests {
		if got, ok, err := ParseNumberBase(tt.s, tt.base); got != tt.want || !ok || err != nil {
			t.Errorf("ParseNumberBase(%q, %d) = %v, %v, %v, want %v", tt.s, tt.base, got, ok, err, tt.want)
		}
	}
	for _, tt := range []struct {
		s    string
		base int
	}{{"", 16}, {"-", 16}, {"0x", 16}, {"0xg", 16}, {"2", 2}, {"9", 8}, {"1.5", 16}, {"1 1", 2}, {"g", 16}, {"1\x00", 2}, {"é", 36}, {"1e", 10}} {
		if got, ok, err := ParseNumberBase(tt.s, tt.base); got != 0 || ok || err != nil {
			t.Errorf("ParseNumberBase(%q, %d) = %v, %v, %v, want refusal", tt.s, tt.base, got, ok, err)
		}
	}
	for _, base := range []int{-10, 0, 1, 37, math.MaxInt} {
		_, ok, err := ParseNumberBase("1", base)
		var arg *ArgumentError
		if ok || !errors.As(err, &arg) || err.Error() != "bad argument #2 to 'tonumber' (base out of range)" {
			t.Errorf("base %d: %v, %v", base, ok, err)
		}
	}
}

func TestIntegers(t *testing.T) {
	tests := []struct {
		f        float64
		signed   int64
		unsigned uint64
	}{
		{0, 0, 0}, {1.9, 1, 1}, {-1.9, -1, math.MaxUint64}, {1 << 53, 1 << 53, 1 << 53},
		{1<<63 - 1024, 1<<63 - 1024, 1<<63 - 1024}, {-1 << 63, math.MinInt64, 1 << 63},
		{1 << 63, math.MinInt64, 1 << 63}, {1<<64 - 2048, math.MinInt64, 1<<64 - 2048}, {1 << 64, math.MinInt64, 0},
		{math.NaN(), math.MinInt64, 1 << 63}, {math.Inf(1), math.MinInt64, 0}, {math.Inf(-1), math.MinInt64, 1 << 63}, {-1e300, math.MinInt64, 1 << 63},
	}
	for _, tt := range tests {
		if got := ToInt64(tt.f); got != tt.signed {
			t.Errorf("ToInt64(%v) = %d, want %d", tt.f, got, tt.signed)
		}
		if got := toUint64(tt.f); got != tt.unsigned {
			t.Errorf("toUint64(%v) = %#x, want %#x", tt.f, got, tt.unsigned)
		}
	}
}
