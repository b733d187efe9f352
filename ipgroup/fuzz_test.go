package ipgroup

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

var fuzzSeeds = []string{
	"",                                   // nothing
	"10.0.0.1",                           // address
	"10.0.0.10 – 10.0.0.20, 10.1.0.0/16", // en dash and blanks; list
	"::ffff:10.0.0.0/104",                // mapped prefix
	"::ffff:10.0.0.0/95",                 // mapped prefix that is too short
	"fe80::1%eth0",                       // zone
	"::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", // all of IPv6, up to the last address
	"0.0.0.0-255.255.255.255,0.0.0.0/0",          // all of IPv4, twice
	"2001:db8::5-2001:db8:0:2::7",                // parts of /64 networks at both ends
	"us,SE\nxk",                                  // countries
	"US, 10.0.0.1",                               // mixture
	"\ufeff# list\r\n\"10.0.0.1\",,\r\n",         // byte-order mark, comment, CRLF, quotes
	"\xff\xfe1\x00",                              // UTF-16
	"10.0.0.1\x00\n\xff",                         // NUL, bad UTF-8
	"-,–,/,%,\"\",#",                             // separators alone
}

// checkParsed tests what holds for any input.
func checkParsed(t *testing.T, g *Group, err error) {
	t.Helper()
	if (g == nil) == (err == nil) {
		t.Fatalf("group %v and error %v", g, err)
	}
	if err != nil {
		var e *EntryError
		if errors.As(err, &e) && (e.Text == "" || e.Reason == "" || e.Line < 1 || e.Column < 1 || len(e.Text) > 70) {
			t.Fatalf("%+v", e)
		}
		if !utf8.ValidString(err.Error()) {
			t.Fatalf("error is not UTF-8: %q", err.Error())
		}
		return
	}
	if codes := g.Countries(); codes != nil {
		if len(codes) != g.Len() {
			t.Fatalf("%d countries, Len() = %d", len(codes), g.Len())
		}
		return
	}
	checkGroup(rapid.TB(t), g)
	for _, s := range g.members.(*rangeSet).v4.spans {
		if !g.Contains(addr4(s.first)) || !g.Contains(addr4(s.last)) || !g.Contains(netip.AddrFrom16(addr4(s.last).As16())) {
			t.Fatalf("does not contain the ends of %v", s)
		}
	}
	for _, s := range g.members.(*rangeSet).v6.spans {
		if mapped := s.first == 0; !mapped && !g.Contains(addr6(s.first, 0)) || !g.Contains(addr6(s.last, 1<<63)) {
			t.Fatalf("does not contain the ends of %v", s)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range fuzzSeeds {
		f.Add(seed, "10.0.0.1")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		g, err := Parse("g", []string{a, b}, Options{Countries: testCountries})
		checkParsed(t, g, err)
		// The order of entries means nothing.
		reversed, err2 := Parse("g", []string{b, a}, Options{Countries: testCountries})
		if (err == nil) != (err2 == nil) || err == nil && g.Len() != reversed.Len() {
			t.Fatalf("%v and, in reverse, %v", err, err2)
		}
	})
}

func FuzzRead(f *testing.F) {
	for _, seed := range fuzzSeeds {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		o := Options{Countries: testCountries, MaxEntries: 50, MaxBytes: 1000, AllowEmpty: true}
		g, err := Read("g", strings.NewReader(text), o)
		checkParsed(t, g, err)
		if len(text) > 1000 && !errors.Is(err, ErrTooLarge) {
			t.Fatalf("%d bytes: %v", len(text), err)
		}
	})
}
