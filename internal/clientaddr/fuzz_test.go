package clientaddr

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

// FuzzForwardedFor resolves any header, of both kinds. The lines of the header
// are the lines of the input.
func FuzzForwardedFor(f *testing.F) {
	for _, seed := range []string{
		"198.51.100.7",                            // the shortest list
		"6.6.6.6, 198.51.100.7, 10.0.0.2",         // a client, a proxy, and a lie
		"6.6.6.6\n198.51.100.7, 10.0.0.2",         // the same on two lines
		"[2001:db8::9%eth0]:80, ::ffff:10.0.0.2",  // brackets, zone, port and mapped form
		`"198.51.100.7:80", 10.0.0.2:_p`,          // quotation marks and an obfuscated port
		"unknown, _hidden",                        // hops that hide their clients
		",, ,",                                    // empty elements
		"for=6.6.6.6, for=198.51.100.7;proto=x",   // Forwarded
		`for="[2001:db8::9]:80";host="a\",b"`,     // a comma and a mark that do not count
		`for="6.6.6.6, for=10.0.0.2`,              // a quotation that is not closed
		`\\", for="\1\0.0.0.2";;for`,              // backslashes everywhere
		strings.Repeat("10.0.0.2,", MaxHops+1),    // more hops than are followed
		strings.Repeat(`"\`, MaxBytes),            // more bytes than are read
		"for=" + strings.Repeat("\t", 2*MaxBytes), // an element longer than that
	} {
		f.Add(seed)
	}
	peer := netip.MustParseAddrPort("10.0.0.1:5000")
	f.Fuzz(func(t *testing.T, text string) {
		for _, header := range headers {
			r := newResolver(t, Config{Trusted: trusted, Header: header})
			resolve := func(text string) Result {
				return r.Resolve(peer, http.Header{header.String(): strings.Split(text, "\n")})
			}
			got := resolve(text)

			if !got.Addr.IsValid() || got.Addr != Normalize(got.Addr) {
				t.Fatalf("%s %q: address %v is not normalised", header, text, got.Addr)
			}
			if got.Reason == HopUntrusted == r.Trusts(got.Addr) {
				t.Fatalf("%s %q: %s, though its being trusted is %t", header, text, got.text(), r.Trusts(got.Addr))
			}
			switch got.Reason {
			case HopUntrusted, AllTrusted, HopHidden, HopMalformed, TooLong:
			default:
				t.Fatalf("%s %q: reason %v", header, text, got.Reason)
			}
			if got.Source == SourcePeer && (got.Addr != peer.Addr() || got.Port != peer.Port()) {
				t.Fatalf("%s %q: %s is not the peer", header, text, got.text())
			}
			r.Encrypted(got, http.Header{header.String(): strings.Split(text, "\n"), "X-Forwarded-Proto": strings.Split(text, "\n")})
			for _, index := range []int{-MaxIndex, -2, 1, MaxIndex} {
				byIndex := newResolver(t, Config{Trusted: trusted, Header: header, Index: index})
				h := http.Header{header.String(): strings.Split(text, "\n")}
				got := byIndex.Resolve(peer, h)
				byIndex.Encrypted(got, h)
				taken := got.Reason == AtIndex || got.Reason == PastEnd
				if !got.Addr.IsValid() || taken != (got.Source != SourcePeer) || got.Addr != Normalize(got.Addr) {
					t.Fatalf("%s %q at %d: %s", header, text, index, got.text())
				}
			}
			// Whoever comes before an untrusted hop has no say.
			if got.Reason == HopUntrusted {
				for _, lie := range []string{"6.6.6.6,", "6.6.6.6\n", `for="6.6.6.6,`, `\,`} {
					if with := resolve(lie + text); with != got {
						t.Fatalf("%s %q: %s; behind %q it is %s", header, text, got.text(), lie, with.text())
					}
				}
			}
		}
	})
}
