package luastr

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"testing"
)

// FuzzPattern compares the matcher with the reference. The reference may run
// out of steps or go deeper than the matcher allows; then there is nothing to
// compare.
func FuzzPattern(f *testing.F) {
	for _, seed := range []struct{ why, subject, pattern string }{
		{"empty matches at every position", "abc", ""},
		{"closing bracket first in a set", "a]b", "[]]"},
		{"negated, closing bracket first", "a]b", "[^]]+"},
		{"minus last in a set", "a-b", "[a-]+"},
		{"class followed by minus in a set", "a-b_c.d~", "[^%w-_.~]"},
		{"range that ends in the escape, then an escaped bracket", "a]b", "[a-%%]"},
		{"set that never ends", "abc", "[a%]"},
		{"malformed part that matching never reaches", "abc", "x["},
		{"malformed part that matching reaches", "abc", "c["},
		{"escape at the end", "abc", "a%"},
		{"balanced, nested", "f(a(b)c)(d", "%b()"},
		{"balanced with equal delimiters", "a'b'c", "%b''"},
		{"balanced without delimiters", "ab", "%b"},
		{"frontier at both ends", "THE (quick) fox", "%f[%a]%a+%f[%A]"},
		{"frontier with a zero byte in the set", "ab", "%f[^%z]a"},
		{"frontier without a set", "ab", "%fa"},
		{"back-reference", "say \"it's\"", "([\"'])(.-)%1"},
		{"back-reference that makes failures depend on captures", "aabaab", "(a*)(b-)%1$"},
		{"back-reference to a position capture", "aa", "()%1"},
		{"back-reference into an open capture", "aa", "(a%1)"},
		{"nested captures", "abc", "((a)(b(c)))"},
		{"capture left open", "abc", "(a(b)"},
		{"capture closed too often", "abc", "(a))b"},
		{"repetition after a capture is a character", "a*", "(a)*"},
		{"repetition at the beginning is a character", "*a", "*a"},
		{"dollar in the middle is a character", "a$b", "a$b$"},
		{"caret in the middle is a character", "a^b", "a^b"},
		{"exponential for a plain backtracker, merged failures here", "aaaaaaaaaaaa", "a*a*a*a*b"},
		{"lazy runs that meet failed runs", "aaaaaaaaaaaac", "a-a-a-b"},
		{"runs of several items that share a slot", "aabbaabb", "a*b*a*b*a*b*a*b*a*b*c"},
		{"optional chains stay exponential", "aaaaaaaa", "a?a?a?a?a?a?a?a?aaaaaaaab"},
		{"trim", "  x y  ", "^%s*(.-)%s*$"},
		{"more sets than places to keep them", "abcdefghij", "[a][b][c][d][e][f][g][h][i][j]"},
		{"zero bytes", "a\x00b", "%z[\x00b]"},
		{"32 captures", strings.Repeat("a", 40), strings.Repeat("()", 32)},
		{"33 captures", strings.Repeat("a", 40), strings.Repeat("()", 33)},
		{"literal prefix before a repeated byte", "abbbab", "ab*$"},
		{"byte that is not UTF-8", "\xff\xfe", "[\x80-\xff]+"},
	} {
		f.Add(seed.subject, seed.pattern)
	}
	f.Fuzz(func(t *testing.T, subject, pattern string) {
		budget := 20_000
		var m Matcher
		m.Init(subject, pattern, &budget)
		start, end, err := m.Match(0)
		checkEnd(t, subject, start, end, err, budget)

		r := reference{s: subject, p: pattern, steps: 20_000}
		wantStart, wantEnd, wantErr := r.match(0)
		if wantErr == errReferenceSteps || err == ErrSteps || err == ErrTooComplex {
			return
		}
		if start != wantStart || end != wantEnd || !sameError(err, wantErr) {
			t.Fatalf("match(%q, %q) = %d, %d, %v, want %d, %d, %v", subject, pattern, start, end, err, wantStart, wantEnd, wantErr)
		}
		if start >= 0 {
			checkCaptures(t, &m, &r, start, end)
		}

		// The other operations must agree with repeated matching.
		checkGmatch(t, subject, pattern)
		checkGsub(t, subject, pattern)
		budget = 20_000
		m.Init(subject, pattern, &budget)
		fs, fe, ferr := m.Find(0)
		if strings.ContainsAny(pattern, "^$*+?.([%-") {
			if fs != start || fe != end || !sameError(ferr, err) {
				t.Fatalf("find(%q, %q) = %d, %d, %v, match says %d, %d, %v", subject, pattern, fs, fe, ferr, start, end, err)
			}
		} else if fs != strings.Index(subject, pattern) {
			t.Fatalf("find(%q, %q) = %d, want the plain place", subject, pattern, fs)
		}
	})
}

func sameError(a, b error) bool { return a == b || a != nil && b != nil && a.Error() == b.Error() }

func checkEnd(t *testing.T, subject string, start, end int, err error, budget int) {
	t.Helper()
	var malformed PatternError
	switch {
	case budget < 0:
		t.Fatalf("budget %d below zero", budget)
	case err == ErrSteps && budget != 0:
		t.Fatalf("ErrSteps with %d steps left", budget)
	case err != nil && err != ErrSteps && err != ErrTooComplex && !errors.As(err, &malformed):
		t.Fatalf("unexpected kind of error: %v", err)
	case (err != nil || start < 0) && (start != -1 || end != -1):
		t.Fatalf("no match, but %d, %d", start, end)
	case start > end || end > len(subject):
		t.Fatalf("match %d, %d outside of the subject", start, end)
	}
}

func checkCaptures(t *testing.T, m *Matcher, r *reference, start, end int) {
	t.Helper()
	if m.NumCaptures() != len(r.captures) {
		t.Fatalf("%d captures, want %d", m.NumCaptures(), len(r.captures))
	}
	for i, c := range r.captures {
		text, position, isPosition, err := m.Capture(i)
		switch c.len {
		case capUnfinished:
			if err != errUnfinished {
				t.Fatalf("capture %d: error %v, want unfinished capture", i, err)
			}
		case capPosition:
			if !isPosition || position != c.start+1 || err != nil {
				t.Fatalf("capture %d = %d, %v, %v, want position %d", i, position, isPosition, err, c.start+1)
			}
		default:
			if isPosition || text != r.s[c.start:c.start+c.len] || err != nil {
				t.Fatalf("capture %d = %q, %v, %v, want %q", i, text, isPosition, err, r.s[c.start:c.start+c.len])
			}
		}
	}
	if len(r.captures) == 0 {
		if text, _, _, err := m.Capture(0); text != r.s[start:end] || err != nil {
			t.Fatalf("whole match %q, %v, want %q", text, err, r.s[start:end])
		}
	}
	if _, _, _, err := m.Capture(max(1, len(r.captures))); err != errCaptureIndex {
		t.Fatalf("capture beyond the last: %v", err)
	}
}

// checkGmatch walks with Next and with the reference from position to position.
func checkGmatch(t *testing.T, subject, pattern string) {
	t.Helper()
	if strings.HasPrefix(pattern, "^") {
		return // an ordinary character for gmatch, an anchor for the reference
	}
	budget := 50_000
	var m Matcher
	m.Init(subject, pattern, &budget)
	r := reference{s: subject, p: pattern, steps: 50_000}
	for at := 0; ; {
		start, end, err := m.Next()
		checkEnd(t, subject, start, end, err, budget)
		wantStart, wantEnd, wantErr := -1, -1, error(nil)
		if at <= len(subject) {
			wantStart, wantEnd, wantErr = r.match(at)
		}
		if wantErr == errReferenceSteps || err == ErrSteps || err == ErrTooComplex {
			return
		}
		if start != wantStart || end != wantEnd || !sameError(err, wantErr) {
			t.Fatalf("gmatch(%q, %q) from %d = %d, %d, %v, want %d, %d, %v", subject, pattern, at, start, end, err, wantStart, wantEnd, wantErr)
		}
		if start < 0 {
			return
		}
		if at = end; end == start {
			at++
		}
	}
}

// checkGsub replaces each match by itself, which must give the subject back.
func checkGsub(t *testing.T, subject, pattern string) {
	t.Helper()
	budget := 50_000
	var m Matcher
	m.Init(subject, pattern, &budget)
	same, n, err := m.Gsub("%0", AllMatches, 0)
	if err == nil && same != subject || n > len(subject)+1 {
		t.Fatalf("gsub(%q, %q, \"%%0\") = %q, %d, %v", subject, pattern, same, n, err)
	}
	budget = 50_000
	m.Init(subject, pattern, &budget)
	kept, k, kerr := m.GsubFunc(AllMatches, 0, func(*Matcher) (string, bool, error) { return "", true, nil })
	if kept != same || k != n || !sameError(kerr, err) {
		t.Fatalf("gsub(%q, %q, keep) = %q, %d, %v, want %q, %d, %v", subject, pattern, kept, k, kerr, same, n, err)
	}
	budget = 50_000
	m.Init(subject, pattern, &budget)
	short, _, err := m.Gsub("<%1>", AllMatches, 10)
	if err == nil && len(short) > 10 && short != subject {
		t.Fatalf("gsub(%q, %q) gives %d bytes, limit 10", subject, pattern, len(short))
	}
}

func FuzzFormat(f *testing.F) {
	for _, seed := range []struct {
		why, format, s string
		n              float64
	}{
		{"all flags", "%-+ #0d", "", 7},
		{"one flag too many", "%-+ #0-d", "", 7},
		{"two-digit width and precision", "%99.99f", "", -math.MaxFloat64},
		{"three digits", "%100d", "", 1},
		{"nothing after the percent sign", "%", "x", 0},
		{"nothing after the precision", "%5.", "x", 0},
		{"precision zero of zero", "%.0d|%#.0o|%#x", "", 0},
		{"string cut", "%5.2s|%-5s|", "abc", 0},
		{"quoted", "%q", "a\x00\r\n\"\\", 0},
		{"Go's verbs", "%v %#v %T %+d", "x", 1},
		{"NaN is not padded with zeros", "%010f", "", math.NaN()},
		{"infinity with a sign", "%+G", "", math.Inf(1)},
		{"out of the range of integers", "%d %u %x", "", 1e300},
		{"zeros at the end stay", "%#g %#.3G %#.0e", "", 100000},
		{"denormal", "%.99e", "", math.SmallestNonzeroFloat64},
		{"zero byte as a verb", "%\x00", "", 0},
		{"missing argument", "%d%d%d%d%d", "", 0},
	} {
		f.Add(seed.format, seed.s, seed.n)
	}
	f.Fuzz(func(t *testing.T, format, s string, n float64) {
		const limit = 1000
		for _, args := range []luaArgs{{s, n, s, n}, {n, n, s, s}, {n}, {}} {
			got, err := Format(format, args, limit)
			if len(got) > limit || err != nil && got != "" {
				t.Fatalf("Format(%q, %q) = %d bytes, %v", format, args, len(got), err)
			}
			var bad FormatError
			var arg *ArgumentError
			if err != nil && !errors.Is(err, ErrTooLarge) && !errors.As(err, &bad) && !errors.As(err, &arg) {
				t.Fatalf("Format(%q, %q): unexpected kind of error %v", format, args, err)
			}
			if err == nil && !strings.Contains(format, "%") && got != format {
				t.Fatalf("Format(%q) = %q", format, got)
			}
		}
		// What %q writes reads back.
		quoted, err := Format("%q", luaArgs{s}, 10*len(s)+10)
		if err != nil || unquote(quoted) != s {
			t.Fatalf("%%q of %q = %s, %v", s, quoted, err)
		}
	})
}

// unquote reads a string as Lua's scanner does.
func unquote(q string) string {
	var b strings.Builder
	q = q[1 : len(q)-1]
	for i := 0; i < len(q); i++ {
		if q[i] != '\\' {
			b.WriteByte(q[i])
			continue
		}
		i++
		switch q[i] {
		case 'r':
			b.WriteByte('\r')
		case '0':
			b.WriteByte(0)
			i += 2
		default:
			b.WriteByte(q[i])
		}
	}
	return b.String()
}

func FuzzNumber(f *testing.F) {
	for _, seed := range []struct{ why, s string }{
		{"exponent without a point", "2e2"},
		{"exponent below zero", "5e-07"},
		{"leading zero is not octal", "010"},
		{"white space", "\t 1\v\n"},
		{"hexadecimal", "-0x1F"},
		{"hexadecimal beyond 64 bits", "0x123456789abcdef01"},
		{"hexadecimal fraction and exponent", "0x.8p4"},
		{"hexadecimal prefix alone", "0x"},
		{"point alone", "."},
		{"exponent alone", "1e"},
		{"overflow", "1e400"},
		{"words that strtod reads", "nan"},
		{"words that strtod reads", "-infinity"},
		{"Go's underscore", "1_000"},
		{"Go's hexadecimal underscore", "0x_1p0"},
		{"Go's octal and binary", "0b1"},
		{"zero byte", "1\x00"},
		{"digits that are not ASCII", "٣"},
	} {
		f.Add(seed.s, 16)
	}
	f.Fuzz(func(t *testing.T, s string, base int) {
		n, ok := ParseNumber(s)
		if !ok && n != 0 || n != n {
			t.Fatalf("ParseNumber(%q) = %v, %v", s, n, ok)
		}
		plain := strings.Trim(s, " \t\n\v\f\r")
		if want, err := strconv.ParseFloat(plain, 64); ok && !strings.ContainsAny(plain, "xX") {
			if n != want && !errors.Is(err, strconv.ErrRange) {
				t.Fatalf("ParseNumber(%q) = %v, want %v", s, n, want)
			}
		} else if !ok && err == nil && !strings.ContainsAny(plain, "xX_nN") {
			t.Fatalf("ParseNumber(%q) refused, strconv says %v", s, want)
		}
		if ok {
			// 14 digits read back as a number that prints the same.
			text := FormatNumber(n)
			again, ok := ParseNumber(text)
			if !math.IsInf(n, 0) && (!ok || FormatNumber(again) != text) {
				t.Fatalf("%q -> %v -> %q -> %v, %v", s, n, text, again, ok)
			}
		}
		v, ok, err := ParseNumberBase(s, base)
		if (err != nil) != (base < 2 || base > 36) || !ok && v != 0 {
			t.Fatalf("ParseNumberBase(%q, %d) = %v, %v, %v", s, base, v, ok, err)
		}
		if want, err := strconv.ParseUint(s, max(2, min(base, 36)), 64); err == nil && base >= 2 && base <= 36 && (!ok || v != float64(want)) {
			t.Fatalf("ParseNumberBase(%q, %d) = %v, %v, want %d", s, base, v, ok, want)
		}
		for _, f := range []float64{n, v, -n, n / 2} {
			if i := ToInt64(f); f > -1<<62 && f < 1<<62 && float64(i) != math.Trunc(f) {
				t.Fatalf("ToInt64(%v) = %d", f, i)
			}
		}
	})
}
