package persistence

import (
	"iter"
	"net/http"
	"strings"
	"time"

	"github.com/limpetlb/limpet/internal/httpfield"
)

// Cookies are read here as browsers read them (RFC 6265bis, section 5), not as
// servers should write them: a value may have quotes, blanks, braces and
// anything else that is not a control character.

// maxCookieBytes bounds the name and value of a cookie together; browsers
// refuse longer ones.
const maxCookieBytes = 4096

// maxCookiePairs is how many cookies of a request are looked at. Browsers store
// fewer for a host.
const maxCookiePairs = 4096

const cookieBlanks = " \t"

// cookiePairs returns an iterator over the names and values of the cookies of a
// request, without the quotes around a value, which some servers write and
// others do not. It ends after maxCookiePairs and allocates nothing.
func cookiePairs(r *http.Request) iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		left := maxCookiePairs
		for _, line := range r.Header["Cookie"] {
			for _, c := range httpfield.Cookies(line) {
				if left--; left < 0 {
					return
				}
				if c.HasValue && !yield(c.Name, c.Unquoted()) {
					return
				}
			}
		}
	}
}

// cookieValues returns an iterator over the values of the request's cookies of
// that name.
func cookieValues(r *http.Request, name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for n, value := range cookiePairs(r) {
			if n == name && !yield(value) {
				return
			}
		}
	}
}

// equalFold reports whether s is an ASCII text in any letter case. The letters
// beyond ASCII that also pass for s and k are longer.
func equalFold(s, ascii string) bool { return len(s) == len(ascii) && strings.EqualFold(s, ascii) }

// A setCookie is what a line Set-Cookie says.
type setCookie struct {
	name, value string
	deletes     bool // it is over when it arrives
}

// parseSetCookie reads a line Set-Cookie. It reports false if browsers ignore
// the line, or if the cookie has no name.
func parseSetCookie(line string, now time.Time) (c setCookie, ok bool) {
	if !httpfield.IsValue(line) {
		return c, false
	}
	cookie, attributes := httpfield.ParseSetCookie(line)
	if cookie.Name == "" || !cookie.HasValue || len(cookie.Name)+len(cookie.Value) > maxCookieBytes {
		return c, false
	}
	c = setCookie{name: cookie.Name, value: cookie.Unquoted()}
	maxAge := false // given, so that Expires does not apply
	for _, attribute := range httpfield.Cookies(attributes) {
		key, value := attribute.Name, attribute.Value
		if len(value) > 1024 {
			continue
		}
		switch {
		case equalFold(key, "Max-Age"):
			if deletes, ok := maxAgeDeletes(value); ok {
				c.deletes, maxAge = deletes, true
			}
		case equalFold(key, "Expires") && !maxAge:
			if t, ok := parseCookieDate(value); ok {
				c.deletes = !t.After(now)
			}
		}
	}
	return c, true
}

// maxAgeDeletes reports whether the value of Max-Age ends a cookie at once, and
// whether it is one.
func maxAgeDeletes(value string) (deletes, ok bool) {
	digits, negative := strings.CutPrefix(value, "-")
	if value == "" || strings.Trim(digits, "0123456789") != "" {
		return false, false
	}
	return negative || strings.Trim(digits, "0") == "", true
}

// parseCookieDate reads a date as browsers do (RFC 6265bis, section 5.1.1): the
// first of its words that can be a time, a day of the month, a month and a year
// are these, in any order.
func parseCookieDate(text string) (t time.Time, ok bool) {
	day, month, year, clock := -1, -1, -1, [3]int{-1}
	for word := range strings.FieldsFuncSeq(text, isDateDelimiter) {
		if clock[0] < 0 {
			if c, ok := parseClock(word); ok {
				clock = c
				continue
			}
		}
		if day < 0 {
			if n, ok := leadingNumber(word, 1, 2); ok {
				day = n
				continue
			}
		}
		if month < 0 && len(word) >= 3 {
			if i := strings.Index("janfebmaraprmayjunjulaugsepoctnovdec", strings.ToLower(word[:3])); i >= 0 && i%3 == 0 {
				month = i/3 + 1
				continue
			}
		}
		if year < 0 {
			if n, ok := leadingNumber(word, 2, 4); ok {
				year = n
			}
		}
	}
	switch {
	case 70 <= year && year <= 99:
		year += 1900
	case 0 <= year && year <= 69:
		year += 2000
	}
	if clock[0] < 0 || clock[0] > 23 || clock[1] > 59 || clock[2] > 59 || day < 1 || day > 31 || month < 0 || year < 1601 {
		return t, false
	}
	t = time.Date(year, time.Month(month), day, clock[0], clock[1], clock[2], 0, time.UTC)
	return t, t.Day() == day // else there is no such day
}

func isDateDelimiter(c rune) bool {
	return c == '\t' || ' ' <= c && c <= '/' || ';' <= c && c <= '@' || '[' <= c && c <= '`' || '{' <= c && c <= '~'
}

// parseClock reads hours, minutes and seconds, which anything that begins with
// no digit may follow.
func parseClock(word string) (clock [3]int, ok bool) {
	for i := range clock {
		if i > 0 {
			if word, ok = strings.CutPrefix(word, ":"); !ok {
				return clock, false
			}
		}
		n := 0
		for n < len(word) && isDigit(word[n]) {
			n++
		}
		if i < 2 && n < len(word) && word[n] != ':' {
			return clock, false
		}
		if clock[i], ok = leadingNumber(word[:n], 1, 2); !ok {
			return clock, false
		}
		word = word[n:]
	}
	return clock, true
}

// leadingNumber reads a number that has from least to most digits and is
// followed by anything that begins with no digit.
func leadingNumber(word string, least, most int) (n int, ok bool) {
	i := 0
	for i < len(word) && isDigit(word[i]) {
		if i == most {
			return 0, false
		}
		n = n*10 + int(word[i]-'0')
		i++
	}
	return n, i >= least
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
