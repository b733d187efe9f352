package luastr

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/limpetlb/limpet/internal/testrace"
)

func TestFormat(t *testing.T) {
	inf := math.Inf(1)
	tests := []struct {
		format string
		args   luaArgs
		want   string
	}{
		{"", nil, ""},
		{"100%%", nil, "100%"},
		{"%s=%d", luaArgs{"k", 1.0}, "k=1"},
		{"%d|%i", luaArgs{3.9, -3.9}, "3|-3"},
		{"%5d|%-5d|%05d|%+d|% d", luaArgs{1.0, 2.0, 3.0, 4.0, 5.0}, "    1|2    |00003|+4| 5"},
		{"%.3d|%8.3d|%-8.3d|%08.3d|", luaArgs{7.0, -7.0, 7.0, 7.0}, "007|    -007|007     |     007|"},
		{"[%.0d][%+.0d]", luaArgs{0.0, 0.0}, "[][+]"},
		{"%x|%X|%#x|%#X|%#x|%o|%#o|%#o", luaArgs{255.0, 255.0, 255.0, 255.0, 0.0, 8.0, 8.0, 0.0}, "ff|FF|0xff|0XFF|0|10|010|0"},
		{"%#.0o|%#.3o|%#8x|%#08x", luaArgs{0.0, 8.0, 255.0, 255.0}, "0|010|    0xff|0x0000ff"},
		{"%u|%x", luaArgs{-1.0, -1.0}, "18446744073709551615|ffffffffffffffff"},
		{"%+u|% x", luaArgs{1.0, 1.0}, "1|1"},
		{"%d|%d|%d", luaArgs{math.NaN(), inf, -inf}, "-9223372036854775808|-9223372036854775808|-9223372036854775808"},
		{"%x|%x|%x", luaArgs{math.Pow(2, 63), math.Pow(2, 64), -inf}, "8000000000000000|0|8000000000000000"},
		{"%c%c|%3c|%-3c|", luaArgs{72.0, 105.0, 65.0, 66.0}, "Hi|  A|B  |"},
		{"%c", luaArgs{-1.0}, "\xff"},
		{"%c", luaArgs{321.0}, "A"},
		{"%f|%.2f|%8.1f|%-8.1f|%08.1f|%+.0f|%#.0f", luaArgs{1.5, 1.005, 2.25, 2.25, -2.25, 2.5, 3.0}, "1.500000|1.00|     2.2|2.2     |-00002.2|+2|3."},
		{"%e|%.0e|%#.0e|%E|%.3e", luaArgs{12345.678, 5.0, 5.0, 1e-10, 0.0}, "1.234568e+04|5e+00|5.e+00|1.000000E-10|0.000e+00"},
		{"%g|%g|%g|%g|%G|%.3g|%.0g", luaArgs{1e20, 100000.0, 1000000.0, 0.0001, 1e-5, 1234.0, 25.0}, "1e+20|100000|1e+06|0.0001|1E-05|1.23e+03|2e+01"},
		{"%#g|%#.3g|%#.1g|%#g|%#.3g|%#.3g", luaArgs{1.0, 100.0, 1.0, 1e-5, 999.9, 0.0}, "1.00000|100.|1.|1.00000e-05|1.00e+03|0.00"},
		{"%g|%f|%5.1f|%05f|%-5G|%+g", luaArgs{inf, -inf, math.NaN(), inf, inf, inf}, "inf|-inf|  nan|  inf|INF  |+inf"},
		{"%G|%+g", luaArgs{math.NaN(), math.Copysign(math.NaN(), -1)}, "NAN|+nan"},
		{"%g|%d", luaArgs{math.Copysign(0, -1), math.Copysign(0, -1)}, "-0|0"},
		{"%5s|%-5s|%.2s|%5.1s|%.0s|%05s", luaArgs{"ab", "ab", "abc", "abc", "abc", "z"}, "   ab|ab   |ab|    a||    z"},
		{"%s", luaArgs{1e15}, "1e+15"},
		{"%d", luaArgs{"0x10"}, "16"},
		{"%q", luaArgs{"a\"b\\c\nd\re\x00f\xff"}, "\"a\\\"b\\\\c\\\nd\\re\\000f\xff\""},
		{"%10q", luaArgs{"a"}, "\"a\""},
		{"%s|%.3s", luaArgs{"a\x00b", "a\x00bc"}, "a\x00b|a\x00b"},
		{"%-+ #0d", luaArgs{7.0}, "+7"},
	}
	for _, tt := range tests {
		t.Run(tt.format, func(t *testing.T) {
			got, err := Format(tt.format, tt.args, 0)
			if got != tt.want || err != nil {
				t.Errorf("%q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

func TestFormatErrors(t *testing.T) {
	tests := []struct {
		format string
		args   luaArgs
		want   string
	}{
		{"%y", luaArgs{1.0}, "invalid option '%y' to 'format'"},
		{"%v", luaArgs{1.0}, "invalid option '%v' to 'format'"},
		{"%#v", luaArgs{1.0}, "invalid option '%v' to 'format'"},
		{"%p", luaArgs{1.0}, "invalid option '%p' to 'format'"},
		{"%a", luaArgs{1.0}, "invalid option '%a' to 'format'"},
		{"%ld", luaArgs{1.0}, "invalid option '%l' to 'format'"},
		{"%*d", luaArgs{1.0}, "invalid option '%*' to 'format'"},
		{"%", luaArgs{1.0}, "invalid option '%' to 'format'"},
		{"%5.", luaArgs{1.0}, "invalid option '%' to 'format'"},
		{"%5\x00d", luaArgs{1.0}, "invalid option '%' to 'format'"},
		{"%-+ #0-d", luaArgs{1.0}, "invalid format (repeated flags)"},
		{"%123d", luaArgs{1.0}, "invalid format (width or precision too long)"},
		{"%.123d", luaArgs{1.0}, "invalid format (width or precision too long)"},
		{"%d", nil, "bad argument #2 to 'format' (no value)"},
		{"%%%d%s", luaArgs{1.0}, "bad argument #3 to 'format' (no value)"},
		{"%", nil, "bad argument #2 to 'format' (no value)"},
		{"%d", luaArgs{"x"}, "bad argument #2 to 'format' (number expected, got string)"},
		{"%s", luaArgs{nil}, "bad argument #2 to 'format' (string expected, got nil)"},
		{"%q", luaArgs{nil}, "bad argument #2 to 'format' (string expected, got nil)"},
	}
	for _, tt := range tests {
		t.Run(tt.format, func(t *testing.T) {
			got, err := Format(tt.format, tt.args, 0)
			if err == nil || err.Error() != tt.want || got != "" {
				t.Errorf("%q, %v, want %s", got, err, tt.want)
			}
		})
	}
}

func TestFormatLimitsBytes(t *testing.T) {
	long := strings.Repeat("x", 100)
	tests := []struct {
		name, format string
		args         luaArgs
		max          int
		ok           bool
	}{
		{"exactly the limit", "ab%s", luaArgs{"cd"}, 4, true},
		{"string", "ab%s", luaArgs{"cd"}, 3, false},
		{"width", "%99s", luaArgs{"a"}, 98, false},
		{"precision makes it fit", "%.3s", luaArgs{long}, 3, true},
		{"quoted", "%q", luaArgs{"\x00"}, 5, false},
		{"quoted fits", "%q", luaArgs{"\x00"}, 6, true},
		{"number", "%99.99f", luaArgs{1e308}, 400, false},
		{"number fits", "%.99f", luaArgs{1e308}, 409, true},
		{"text before a directive", long + "%s", luaArgs{""}, 99, false},
		{"text after a directive", "%s" + long, luaArgs{""}, 99, false},
		{"text alone", long, nil, 99, false},
		{"percent signs", strings.Repeat("%%", 10), nil, 9, false},
		{"default", "%s", luaArgs{strings.Repeat("x", DefaultMaxBytes+1)}, 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Format(tt.format, tt.args, tt.max)
			if tt.ok != (err == nil) || !tt.ok && !errors.Is(err, ErrTooLarge) || len(got) > byteLimit(tt.max) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
}

func TestFormatAllocations(t *testing.T) {
	if testrace.Enabled {
		t.Skip("the race detector allocates")
	}
	var args FormatArgs = luaArgs{"10.1.2.3", 8080.0, 12.5}
	if n := testing.AllocsPerRun(100, func() { Format("%s:%d took %.3f ms", args, 0) }); n > 2 {
		t.Errorf("%v allocations, want at most 2: the buffer and the result", n)
	}
}
