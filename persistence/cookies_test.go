package persistence

import (
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestParseSetCookie has lines that browsers take and http.ParseSetCookie does
// not, and the reverse.
func TestParseSetCookie(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tt := range []struct {
		name, line string
		want       setCookie
		ok         bool
	}{
		{"plain", "S=a; Path=/", setCookie{"S", "a", false}, true},
		{"JSON", `S={"a":1}; Path=/`, setCookie{"S", `{"a":1}`, false}, true},
		{"quotes inside", `S=a"b"c`, setCookie{"S", `a"b"c`, false}, true},
		{"quotes around", `S="a b"`, setCookie{"S", `a b`, false}, true},
		{"one quote", `S="`, setCookie{"S", `"`, false}, true},
		{"comma and backslash", `S=a,b\c`, setCookie{"S", `a,b\c`, false}, true},
		{"not ASCII", "S=ü\xff", setCookie{"S", "ü\xff", false}, true},
		{"blanks around", "\t S \t=\t a b \t; Path=/", setCookie{"S", "a b", false}, true},
		{"= in the value", "S=a=b==", setCookie{"S", "a=b==", false}, true},
		{"name that is no token", "a[b]{}=c", setCookie{"a[b]{}", "c", false}, true},
		{"empty value", "S=; Path=/", setCookie{"S", "", false}, true},
		{"tab inside", "S=a\tb", setCookie{"S", "a\tb", false}, true},
		{"no name", "=a", setCookie{}, false},
		{"no =", "S", setCookie{}, false},
		{"control character", "S=a\x01b", setCookie{}, false},
		{"control character in an attribute", "S=a; Path=/\x7f", setCookie{}, false},
		{"longest", "S=" + strings.Repeat("x", 4095), setCookie{"S", strings.Repeat("x", 4095), false}, true},
		{"too long", "S=" + strings.Repeat("x", 4096), setCookie{}, false},
		{"Max-Age 0", "S=a; max-age=0", setCookie{"S", "a", true}, true},
		{"Max-Age negative", "S=a;Max-Age = -99999999999999999999", setCookie{"S", "a", true}, true},
		{"Max-Age", "S=a;Max-Age=99999999999999999999", setCookie{"S", "a", false}, true},
		{"Max-Age twice", "S=a;Max-Age=0;Max-Age=1", setCookie{"S", "a", false}, true},
		{"Max-Age is no number", "S=a;Max-Age=1.5;Max-Age=;Max-Age=+0;Max-Age=\"0\"", setCookie{"S", "a", false}, true},
		{"Expires", "S=a; Expires=Thu, 01 Jan 1970 00:00:00 GMT", setCookie{"S", "a", true}, true},
		{"Expires now", "S=a; Expires=Fri, 02-Jan-26 03:04:05 GMT", setCookie{"S", "a", true}, true},
		{"Expires later", "S=a; Expires=Fri, 02-Jan-2026 03:04:06", setCookie{"S", "a", false}, true},
		{"Expires as asctime", "S=a; expires=Thu Jan  1 00:00:00 1970", setCookie{"S", "a", true}, true},
		{"Expires is no date", "S=a; Expires=0", setCookie{"S", "a", false}, true},
		{"Expires twice", "S=a; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Expires=Thu, 01 Jan 2032 00:00:00 GMT", setCookie{"S", "a", false}, true},
		{"Max-Age wins", "S=a; Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT", setCookie{"S", "a", false}, true},
		{"Max-Age wins from behind", "S=a; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=60", setCookie{"S", "a", false}, true},
		{"long attribute", "S=a; Expires=Thu, 01 Jan 1970 00:00:00 GMT" + strings.Repeat(" x", 1000), setCookie{"S", "a", false}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, ok := parseSetCookie(tt.line, now); got != tt.want || ok != tt.ok {
				t.Errorf("got %+v, %t; want %+v, %t", got, ok, tt.want, tt.ok)
			}
		})
	}
}

// setCookieByRFC follows RFC 6265bis, sections 5.6 and 5.7, step by step. It
// reports false too if the cookie has no name.
func setCookieByRFC(line string, now time.Time) (c setCookie, ok bool) {
	if regexp.MustCompile(`[\x00-\x08\x0a-\x1f\x7f]`).MatchString(line) { // 5.6, 1
		return c, false
	}
	pair, rest := line, "" // 2
	if i := strings.IndexByte(line, ';'); i >= 0 {
		pair, rest = line[:i], line[i:]
	}
	name, value := "", pair // 3
	if i := strings.IndexByte(pair, '='); i >= 0 {
		name, value = pair[:i], pair[i+1:]
	}
	name, value = strings.Trim(name, " \t"), strings.Trim(value, " \t") // 4
	if len(name)+len(value) > 4096 {                                    // 5
		return c, false
	}
	if name == "" {
		return c, false
	}
	var expires, maxAge *time.Time
	for rest != "" {
		rest = rest[1:]
		attribute := rest
		if i := strings.IndexByte(rest, ';'); i >= 0 {
			attribute, rest = rest[:i], rest[i:]
		} else {
			rest = ""
		}
		key, val := attribute, ""
		if i := strings.IndexByte(attribute, '='); i >= 0 {
			key, val = attribute[:i], attribute[i+1:]
		}
		key, val = asciiLower(strings.Trim(key, " \t")), strings.Trim(val, " \t")
		if len(val) > 1024 {
			continue
		}
		switch key {
		case "expires":
			if date, ok := dateByRFC(val); ok {
				expires = &date
			}
		case "max-age":
			if !regexp.MustCompile(`^(-|[0-9])[0-9]*$`).MatchString(val) {
				continue
			}
			at := now.Add(time.Hour)
			if seconds, err := strconv.ParseFloat(val, 64); err != nil && val == "-" || seconds <= 0 {
				at = time.Time{}
			}
			maxAge = &at
		}
	}
	if len(value) > 1 && strings.HasPrefix(value, `"`) && strings.HasSuffix(value, `"`) { // the profile's own step
		value = value[1 : len(value)-1]
	}
	c = setCookie{name: name, value: value}
	switch {
	case maxAge != nil:
		c.deletes = !maxAge.After(now)
	case expires != nil:
		c.deletes = !expires.After(now)
	}
	return c, true
}

var (
	dateWord  = regexp.MustCompile(`[\x00-\x08\x0a-\x1f0-9:a-zA-Z\x7f-\x{10ffff}]+`)
	dateClock = regexp.MustCompile(`(?s)^([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2})([^0-9].*)?$`)
	dateDay   = regexp.MustCompile(`(?s)^([0-9]{1,2})([^0-9].*)?$`)
	dateMonth = regexp.MustCompile(`^(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)`)
	dateYear  = regexp.MustCompile(`(?s)^([0-9]{2,4})([^0-9].*)?$`)
)

func asciiLower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, s)
}

// dateByRFC follows RFC 6265bis, section 5.1.1.
func dateByRFC(text string) (time.Time, bool) {
	var clock, day, month, year []string
	for _, word := range dateWord.FindAllString(text, -1) {
		if clock == nil {
			if clock = dateClock.FindStringSubmatch(word); clock != nil {
				continue
			}
		}
		if day == nil {
			if day = dateDay.FindStringSubmatch(word); day != nil {
				continue
			}
		}
		if month == nil {
			if month = dateMonth.FindStringSubmatch(asciiLower(word)); month != nil {
				continue
			}
		}
		if year == nil {
			year = dateYear.FindStringSubmatch(word)
		}
	}
	if clock == nil || day == nil || month == nil || year == nil {
		return time.Time{}, false
	}
	number := func(s string) int { n, _ := strconv.Atoi(s); return n }
	y, d, h, m, s := number(year[1]), number(day[1]), number(clock[1]), number(clock[2]), number(clock[3])
	if y >= 70 && y <= 99 {
		y += 1900
	} else if y >= 0 && y <= 69 {
		y += 2000
	}
	if d < 1 || d > 31 || y < 1601 || h > 23 || m > 59 || s > 59 {
		return time.Time{}, false
	}
	mon, _ := time.Parse("Jan", strings.ToUpper(month[1][:1])+month[1][1:])
	date := time.Date(y, mon.Month(), d, h, m, s, 0, time.UTC)
	return date, date.Day() == d
}

func FuzzSetCookie(f *testing.F) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, seed := range []string{
		`S={"a":1}; Path=/; Expires=Wed, 21 Oct 2015 07:28:00 GMT`, // what servers send
		"S=\"a\"; Max-Age=0;max-age=-",                             // a number without digits
		"S=a; Expires=1Jan70 00:00:00",                             // words that are several things
		"S=a; Expires=1 2 Jan 3:4:5",                               // a year of one digit is none
		"S=a; Expires=01:02:03x 31x nov1 2031z",                    // things that follow numbers
		"S=a; Expires=31 Feb 2015 1:1:1",                           // no such day
		"S=a; Expires=30 Anf Febm 99 1:1:1",                        // no month, then one
		"S=a; Expires=1 ſep 99 1:1:1",                              // a letter that folds to an s
		"\t=\t;;;=;Max-Age",                                        // nothing
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		got, ok := parseSetCookie(line, now)
		want, wantOK := setCookieByRFC(line, now)
		if got != want || ok != wantOK {
			t.Errorf("%q: got %+v, %t; the RFC says %+v, %t", line, got, ok, want, wantOK)
		}
	})
}

// TestCookieDates has dates made of parts, in any order.
func TestCookieDates(t *testing.T) {
	part := rapid.SampledFrom([]string{"1", "01", "31", "32", "001", "1x", "70", "69", "99", "1601", "1600", "2031", "20310", "0", "Jan", "feb", "FEBRUARY", "anf",
		"1:2:3", "23:59:59", "24:00:00", "1:2", "1:2:3:4", "1:2:3z", "01:02:003", "1:2:", "::", "GMT", "Thu", "é", "a:1:2:3", "1:2x:3"})
	gap := rapid.SampledFrom([]string{" ", "-", ", ", "\t", "/", "~", ""})
	rapid.Check(t, func(t *rapid.T) {
		text := ""
		for range rapid.IntRange(0, 7).Draw(t, "parts") {
			text += gap.Draw(t, "gap") + part.Draw(t, "part")
		}
		got, ok := parseCookieDate(text)
		want, wantOK := dateByRFC(text)
		if ok != wantOK || ok && !got.Equal(want) {
			t.Fatalf("%q: got %v, %t; the RFC says %v, %t", text, got, ok, want, wantOK)
		}
	})
}

func FuzzCookiePairs(f *testing.F) {
	f.Add("S=a; S=\"b c\"; S={\"x\":1};S = d ;S;=S;S==e") // whatever browsers send
	f.Add(";;S=;\tS\t=\t\"\"")                            // empty ones
	f.Add("S=\n; \rS =a\r")                               // ends of lines, which net/http trims, too
	const blanks = " \t\r\n"
	f.Fuzz(func(t *testing.T, line string) {
		var want []string
		for pair := range strings.SplitSeq(line, ";") {
			i := strings.IndexByte(pair, '=')
			if i < 0 || strings.Trim(pair[:i], blanks) != "S" {
				continue
			}
			value := strings.Trim(pair[i+1:], blanks)
			if len(value) >= 2 && value[0] == '"' && value[len(value)-1] == '"' {
				value = value[1 : len(value)-1]
			}
			want = append(want, value)
		}
		var got []string
		for value := range cookieValues(&http.Request{Header: http.Header{"Cookie": {line}}}, "S") {
			got = append(got, value)
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") || len(got) != len(want) {
			t.Errorf("%q has %q, want %q", line, got, want)
		}
	})
}

func FuzzPathParameters(f *testing.F) {
	f.Add("/cart;jsessionid=a/x;JSESSIONID=b;v=1") // in several segments, in any case
	f.Add("/a%3Bjsessionid=x;jsessionid=%41%2f")   // an encoded ";" begins no parameter
	f.Add("/;JSESSIONID=;JSessionId;=jsessionid")  // nothing in it
	f.Add("/;jsessionid=a=b%zz")                   // an escape that is none
	f.Fuzz(func(t *testing.T, path string) {
		u, err := url.ParseRequestURI(path)
		if err != nil || !strings.HasPrefix(path, "/") {
			return
		}
		raw, _, _ := strings.Cut(path, "?")
		var want []string
		for segment := range strings.SplitSeq(raw, "/") {
			for _, parameter := range strings.Split(segment, ";")[1:] {
				name, value, _ := strings.Cut(parameter, "=")
				if value, err := url.PathUnescape(value); err == nil && asciiLower(name) == "jsessionid" {
					want = append(want, value)
				}
			}
		}
		var got []string
		for value := range pathParameters(u, "JSESSIONID") {
			got = append(got, value)
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") || len(got) != len(want) {
			t.Errorf("%q has %q, want %q", path, got, want)
		}
	})
}

// TestSeveralSessions: an application's browsers often bring more than one
// session, such as one that an old path has left over.
func TestSeveralSessions(t *testing.T) {
	for _, tt := range []struct {
		name    string
		request *http.Request
		want    string // of the sessions a2 (on server 1) and b3 (on server 2)
	}{
		{"a stale cookie first", request("/", "Cookie", "JSESSIONID=stale; JSESSIONID=a2"), "1"},
		{"two lines", request("/", "Cookie", "JSESSIONID=stale", "Cookie", "x=y; JSESSIONID=b3"), "2"},
		{"two that are bound", request("/", "Cookie", "JSESSIONID=b3; JSESSIONID=a2"), "2"},
		{"an empty one first", request("/", "Cookie", `JSESSIONID=; JSESSIONID=""; JSESSIONID=a2`), "1"},
		{"in the path", request("/cart;jsessionid=a2/items"), "1"},
		{"in the path, in any case", request("/cart;v=1;JSessionID=b3?x=y"), "2"},
		{"in the path, encoded", request("/cart;jsessionid=%612?x"), "1"},
		{"after an encoded ;", request("/cart%3Bjsessionid=a2"), ""},
		{"in the query", request("/?JSESSIONID=a2"), "1"},
		{"cookie before path before query", request("/;jsessionid=a2?JSESSIONID=a2", "Cookie", "JSESSIONID=b3"), "2"},
		{"stale cookie, bound path", request("/;jsessionid=a2", "Cookie", "JSESSIONID=stale"), "1"},
		{"stale cookie and path, bound query", request("/;jsessionid=stale2?JSESSIONID=b3", "Cookie", "JSESSIONID=stale"), "2"},
		{"behind eight others", request("/", "Cookie", strings.Repeat("JSESSIONID=x; ", 8)+"JSESSIONID=a2"), ""},
		{"behind seven others", request("/", "Cookie", strings.Repeat("JSESSIONID=x; ", 7)+"JSESSIONID=a2"), "1"},
	} {
		for _, shared := range []Sessions{nil, NewStore(Options{})} {
			p := made(NewAppCookie(AppCookieConfig{Name: "JSESSIONID", Sessions: shared}))(t)
			for session, server := range map[string]string{"a2": "1", "b3": "2"} {
				h := http.Header{"Set-Cookie": {"JSESSIONID=" + session + "; Path=/"}}
				if err := p.Bind(h, request("/"), client1, "web", server); err != nil {
					t.Fatal(err)
				}
			}
			if got, _, err := p.Find(tt.request, client1, "web"); got != tt.want || err != nil && tt.want != "" {
				t.Errorf("%s: on %q, %v", tt.name, got, err)
			}
			if tt.want == "" {
				continue
			}
			// The answer binds nothing else, and a re-pick moves what was
			// found.
			p.Bind(http.Header{}, tt.request, client1, "web", tt.want)
			if n, _ := p.Count(t.Context(), "web"); shared == nil && n != 2 {
				t.Errorf("%s: %d sessions", tt.name, n)
			}
			if got, err := p.Claim(tt.request, client1, "web", "3", ""); got != tt.want || err != nil {
				t.Errorf("%s: Claim = %q, %v", tt.name, got, err)
			}
			if got, err := p.Claim(tt.request, client1, "web", "3", tt.want); got != "3" || err != nil {
				t.Errorf("%s: Claim in its place = %q, %v", tt.name, got, err)
			}
			if got, _, _ := p.Find(tt.request, client1, "web"); got != "3" {
				t.Errorf("%s: then on %q", tt.name, got)
			}
		}
	}
	p := made(NewAppCookie(AppCookieConfig{Name: "JSESSIONID"}))(t)
	r := request("/", "Cookie", "JSESSIONID=x; JSESSIONID=y")
	if got, err := p.Claim(r, client1, "web", "1", ""); got != "1" || err != nil {
		t.Errorf("Claim = %q, %v", got, err)
	}
	finds1 := func(session, want string) {
		t.Helper()
		if got, _, _ := p.Find(request("/", "Cookie", "JSESSIONID="+session), client1, "web"); got != want {
			t.Errorf("%s is on %q, want %q", session, got, want)
		}
	}
	finds1("x", "1")
	finds1("y", "")
}

// TestLenientSessions has a session that only browsers understand go there and
// back.
func TestLenientSessions(t *testing.T) {
	for _, value := range []string{`{"a":1}`, `a b`, `"quoted"`, "ü", `a,b\c`, "=", "a=b", "%zz"} {
		p := made(NewAppCookie(AppCookieConfig{Name: "S"}))(t)
		p.Bind(http.Header{"Set-Cookie": {"S=" + value + "; Path=/"}}, request("/"), client1, "web", "1")
		if got, _, _ := p.Find(request("/", "Cookie", "a=b; S="+value+"; c=d"), client1, "web"); got != "1" {
			t.Errorf("%s is on %q", value, got)
		}
	}
}
