package clientaddr

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// trusted are the proxies of the tests: 10/8, 172.16/12 (given as mapped), one
// address, and a network of IPv6.
var trusted = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("::ffff:172.16.0.0/108"),
	netip.MustParsePrefix("192.0.2.1/32"),
	netip.MustParsePrefix("2001:db8:f::/48"),
	netip.MustParsePrefix("fe80::/10"),
}

func newResolver(t testing.TB, cfg Config) *Resolver {
	t.Helper()
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// text writes a result in one line: address, port if there is one, source and
// reason.
func (r Result) text() string {
	addr := r.Addr.String()
	if r.Port != 0 {
		addr = netip.AddrPortFrom(r.Addr, r.Port).String()
	}
	return fmt.Sprintf("%s %v %v", addr, r.Source, r.Reason)
}

// resolveTest is a row: a peer, without a port, and the lines of the header.
type resolveTest struct {
	name  string
	peer  string
	lines []string
	want  string
}

// run resolves each row.
func run(t *testing.T, header Header, tests []resolveTest) {
	t.Helper()
	r := newResolver(t, Config{Trusted: trusted, Header: header})
	names := make(map[string]bool)
	for _, tc := range tests {
		if names[tc.name] {
			t.Errorf("two rows are named %q", tc.name)
		}
		names[tc.name] = true
		t.Run(tc.name, func(t *testing.T) {
			h := http.Header{}
			for _, line := range tc.lines {
				h.Add(header.String(), line)
			}
			var addr netip.Addr
			if tc.peer != "" {
				addr = netip.MustParseAddr(tc.peer)
			}
			if got := r.Resolve(netip.AddrPortFrom(addr, 0), h).text(); got != tc.want {
				t.Errorf("%s from %q\n got %s\nwant %s", header, tc.lines, got, tc.want)
			}
		})
	}
}

// hops returns a chain of n trusted hops.
func hops(n int, prefix string) string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("%s10.0.1.%d", prefix, i)
	}
	return strings.Join(all, ", ")
}

func TestResolveXForwardedFor(t *testing.T) {
	run(t, XForwardedFor, []resolveTest{
		// The peer.
		{"untrusted peer, no header", "203.0.113.9", nil, "203.0.113.9 peer peer-untrusted"},
		{"untrusted peer that lies", "203.0.113.9", []string{"198.51.100.7"}, "203.0.113.9 peer peer-untrusted"},
		{"untrusted peer that names a trusted proxy", "203.0.113.9", []string{"198.51.100.7, 10.0.0.2"}, "203.0.113.9 peer peer-untrusted"},
		{"untrusted mapped peer", "::ffff:203.0.113.9", []string{"198.51.100.7"}, "203.0.113.9 peer peer-untrusted"},
		{"untrusted IPv6 peer", "2001:db8::9", []string{"198.51.100.7"}, "2001:db8::9 peer peer-untrusted"},
		{"untrusted peer with a zone", "2001:db8::9%eth0", []string{"198.51.100.7"}, "2001:db8::9 peer peer-untrusted"},
		{"peer just below a trusted network", "9.255.255.255", []string{"198.51.100.7"}, "9.255.255.255 peer peer-untrusted"},
		{"peer just above a trusted network", "11.0.0.0", []string{"198.51.100.7"}, "11.0.0.0 peer peer-untrusted"},
		{"NAT64 form of a trusted peer", "64:ff9b::10.0.0.1", []string{"198.51.100.7"}, "64:ff9b::a00:1 peer peer-untrusted"},
		{"IPv4-compatible form of a trusted peer", "::10.0.0.1", []string{"198.51.100.7"}, "::a00:1 peer peer-untrusted"},
		{"trusted peer, no header", "10.0.0.1", nil, "10.0.0.1 peer no-header"},
		{"trusted mapped peer, no header", "::ffff:10.0.0.1", nil, "10.0.0.1 peer no-header"},
		{"no peer", "", []string{"198.51.100.7"}, "invalid IP peer no-peer"},

		// Who is trusted.
		{"first address of a trusted network", "10.0.0.0", []string{"198.51.100.7"}, "198.51.100.7 x-forwarded-for hop-untrusted"},
		{"last address of a trusted network", "10.255.255.255", []string{"198.51.100.7"}, "198.51.100.7 x-forwarded-for hop-untrusted"},
		{"trusted single address", "192.0.2.1", []string{"198.51.100.7"}, "198.51.100.7 x-forwarded-for hop-untrusted"},
		{"neighbour of a trusted single address", "192.0.2.2", []string{"198.51.100.7"}, "192.0.2.2 peer peer-untrusted"},
		{"trusted mapped peer", "::ffff:10.0.0.1", []string{"198.51.100.7"}, "198.51.100.7 x-forwarded-for hop-untrusted"},
		{"trusted by a mapped network", "172.31.255.255", []string{"198.51.100.7"}, "198.51.100.7 x-forwarded-for hop-untrusted"},
		{"mapped peer trusted by a mapped network", "::ffff:172.16.0.1", []string{"198.51.100.7"}, "198.51.100.7 x-forwarded-for hop-untrusted"},
		{"above a trusted mapped network", "172.32.0.0", []string{"198.51.100.7"}, "172.32.0.0 peer peer-untrusted"},
		{"trusted IPv6 peer", "2001:db8:f::1", []string{"2001:db8::9"}, "2001:db8::9 x-forwarded-for hop-untrusted"},
		{"trusted peer with a zone", "fe80::1%eth0", []string{"2001:db8::9"}, "2001:db8::9 x-forwarded-for hop-untrusted"},

		// Zero to five trusted hops, each with a spoofed entry at the left.
		{"0 hops", "10.0.0.1", []string{"6.6.6.6, 198.51.100.7"}, "198.51.100.7 x-forwarded-for hop-untrusted"},
		{"1 hop", "10.0.0.1", []string{"6.6.6.6, 198.51.100.7, 10.0.0.2"}, "198.51.100.7 x-forwarded-for hop-untrusted"},
		{"2 hops", "10.0.0.1", []string{"6.6.6.6, 198.51.100.7, 10.0.0.3, 10.0.0.2"}, "198.51.100.7 x-forwarded-for hop-untrusted"},
		{"3 hops", "10.0.0.1", []string{"6.6.6.6, 198.51.100.7, 10.0.0.4, 172.16.0.3, 10.0.0.2"}, "198.51.100.7 x-forwarded-for hop-untrusted"},
		{"4 hops", "10.0.0.1", []string{"6.6.6.6, 198.51.100.7, 192.0.2.1, 10.0.0.4, 10.0.0.3, 10.0.0.2"}, "198.51.100.7 x-forwarded-for hop-untrusted"},
		{"5 hops", "10.0.0.1", []string{"6.6.6.6, 198.51.100.7, 2001:db8:f::6, 192.0.2.1, 10.0.0.4, 10.0.0.3, 10.0.0.2"}, "198.51.100.7 x-forwarded-for hop-untrusted"},
		{"untrusted hop between trusted ones", "10.0.0.1", []string{"198.51.100.7, 10.0.0.9, 203.0.113.9, 10.0.0.2"}, "203.0.113.9 x-forwarded-for hop-untrusted"},
		{"one trusted hop", "10.0.0.1", []string{"10.0.0.2"}, "10.0.0.2 x-forwarded-for all-trusted"},
		{"all hops trusted: the leftmost", "10.0.0.1", []string{"10.0.0.4, 10.0.0.3, 10.0.0.2"}, "10.0.0.4 x-forwarded-for all-trusted"},
		{"the peer names itself", "10.0.0.1", []string{"10.0.0.1"}, "10.0.0.1 x-forwarded-for all-trusted"},

		// Several lines are one list.
		{"two lines", "10.0.0.1", []string{"6.6.6.6", "198.51.100.7"}, "198.51.100.7 x-forwarded-for hop-untrusted"},
		{"two lines, the last trusted", "10.0.0.1", []string{"6.6.6.6, 198.51.100.7", "10.0.0.2"}, "198.51.100.7 x-forwarded-for hop-untrusted"},
		{"three lines", "10.0.0.1", []string{"6.6.6.6", "198.51.100.7, 10.0.0.3", "10.0.0.2"}, "198.51.100.7 x-forwarded-for hop-untrusted"},
		{"lines, all trusted", "10.0.0.1", []string{"10.0.0.4", "10.0.0.3, 10.0.0.2"}, "10.0.0.4 x-forwarded-for all-trusted"},
		{"empty last line", "10.0.0.1", []string{"6.6.6.6", ""}, "10.0.0.1 peer hop-malformed"},
		{"empty first line", "10.0.0.1", []string{"", "198.51.100.7"}, "198.51.100.7 x-forwarded-for hop-untrusted"},
		{"empty line that is reached", "10.0.0.1", []string{"6.6.6.6", "", "10.0.0.2"}, "10.0.0.2 x-forwarded-for hop-malformed"},

		// White space.
		{"no space", "10.0.0.1", []string{"198.51.100.7,10.0.0.2"}, "198.51.100.7 x-forwarded-for hop-untrusted"},
		{"much space", "10.0.0.1", []string{"\t 198.51.100.7 \t,  10.0.0.2\t "}, "198.51.100.7 x-forwarded-for hop-untrusted"},
		{"space inside", "10.0.0.1", []string{"198.51.100.7 10.0.0.2"}, "10.0.0.1 peer hop-malformed"},
		{"other white space", "10.0.0.1", []string{"198.51.100.7\v"}, "10.0.0.1 peer hop-malformed"},
		{"no-break space", "10.0.0.1", []string{"198.51.100.7\u00a0"}, "10.0.0.1 peer hop-malformed"},

		// Empty elements end the reading.
		{"empty header", "10.0.0.1", []string{""}, "10.0.0.1 peer hop-malformed"},
		{"only spaces", "10.0.0.1", []string{"   "}, "10.0.0.1 peer hop-malformed"},
		{"only a comma", "10.0.0.1", []string{","}, "10.0.0.1 peer hop-malformed"},
		{"comma at the end", "10.0.0.1", []string{"6.6.6.6,"}, "10.0.0.1 peer hop-malformed"},
		{"comma in front", "10.0.0.1", []string{", 198.51.100.7"}, "198.51.100.7 x-forwarded-for hop-untrusted"},
		{"comma in front of a trusted hop", "10.0.0.1", []string{", 10.0.0.2"}, "10.0.0.2 x-forwarded-for hop-malformed"},
		{"two commas", "10.0.0.1", []string{"6.6.6.6,, 10.0.0.2"}, "10.0.0.2 x-forwarded-for hop-malformed"},

		// Garbage: never skipped, no matter what stands left of it.
		{"garbage", "10.0.0.1", []string{"garbage"}, "10.0.0.1 peer hop-malformed"},
		{"garbage at the right", "10.0.0.1", []string{"6.6.6.6, garbage"}, "10.0.0.1 peer hop-malformed"},
		{"garbage after a trusted hop", "10.0.0.1", []string{"6.6.6.6, garbage, 10.0.0.2"}, "10.0.0.2 x-forwarded-for hop-malformed"},
		{"garbage that is not reached", "10.0.0.1", []string{"garbage, 198.51.100.7, 10.0.0.2"}, "198.51.100.7 x-forwarded-for hop-untrusted"},
		{"host name", "10.0.0.1", []string{"6.6.6.6, client.example.com"}, "10.0.0.1 peer hop-malformed"},
		{"network", "10.0.0.1", []string{"198.51.100.0/24"}, "10.0.0.1 peer hop-malformed"},
		{"three numbers", "10.0.0.1", []string{"198.51.100"}, "10.0.0.1 peer hop-malformed"},
		{"five numbers", "10.0.0.1", []string{"198.51.100.7.8"}, "10.0.0.1 peer hop-malformed"},
		{"number over 255", "10.0.0.1", []string{"198.51.100.256"}, "10.0.0.1 peer hop-malformed"},
		{"octal number", "10.0.0.1", []string{"0306.51.100.7"}, "10.0.0.1 peer hop-malformed"},
		{"leading zero", "10.0.0.1", []string{"198.051.100.7"}, "10.0.0.1 peer hop-malformed"},
		{"hexadecimal number", "10.0.0.1", []string{"0xc6.51.100.7"}, "10.0.0.1 peer hop-malformed"},
		{"address as one number", "10.0.0.1", []string{"3325256711"}, "10.0.0.1 peer hop-malformed"},
		{"full-width digits", "10.0.0.1", []string{"１98.51.100.7"}, "10.0.0.1 peer hop-malformed"},
		{"NUL", "10.0.0.1", []string{"198.51.100.7\x00"}, "10.0.0.1 peer hop-malformed"},
		{"not UTF-8", "10.0.0.1", []string{"6.6.6.6, \xff\xfe, 10.0.0.2"}, "10.0.0.2 x-forwarded-for hop-malformed"},
		{"element of Forwarded", "10.0.0.1", []string{"for=198.51.100.7"}, "10.0.0.1 peer hop-malformed"},
		{"semicolons", "10.0.0.1", []string{"6.6.6.6; 198.51.100.7"}, "10.0.0.1 peer hop-malformed"},
		{"IPv4 with a zone", "10.0.0.1", []string{"198.51.100.7%eth0"}, "10.0.0.1 peer hop-malformed"},
		{"a URL", "10.0.0.1", []string{"http://198.51.100.7/"}, "10.0.0.1 peer hop-malformed"},

		// Hops that hide who called them.
		{"unknown", "10.0.0.1", []string{"6.6.6.6, unknown"}, "10.0.0.1 peer hop-hidden"},
		{"Unknown in capitals", "10.0.0.1", []string{"6.6.6.6, UNKNOWN, 10.0.0.2"}, "10.0.0.2 x-forwarded-for hop-hidden"},
		{"unknown that is not reached", "10.0.0.1", []string{"unknown, 198.51.100.7"}, "198.51.100.7 x-forwarded-for hop-untrusted"},
		{"unknown with a port", "10.0.0.1", []string{"6.6.6.6, unknown:80"}, "10.0.0.1 peer hop-hidden"},
		{"unknown with garbage", "10.0.0.1", []string{"6.6.6.6, unknown:port"}, "10.0.0.1 peer hop-malformed"},
		{"obfuscated", "10.0.0.1", []string{"6.6.6.6, _gateway.7-a, 10.0.0.2"}, "10.0.0.2 x-forwarded-for hop-hidden"},
		{"obfuscated, nothing but the mark", "10.0.0.1", []string{"6.6.6.6, _"}, "10.0.0.1 peer hop-malformed"},
		{"obfuscated, bad character", "10.0.0.1", []string{"6.6.6.6, _a$b"}, "10.0.0.1 peer hop-malformed"},

		// Ports.
		{"IPv4 with a port", "10.0.0.1", []string{"198.51.100.7:4711"}, "198.51.100.7:4711 x-forwarded-for hop-untrusted"},
		{"trusted hop with a port", "10.0.0.1", []string{"198.51.100.7:4711, 10.0.0.2:80"}, "198.51.100.7:4711 x-forwarded-for hop-untrusted"},
		{"greatest port", "10.0.0.1", []string{"198.51.100.7:65535"}, "198.51.100.7:65535 x-forwarded-for hop-untrusted"},
		{"port too great", "10.0.0.1", []string{"198.51.100.7:65536"}, "10.0.0.1 peer hop-malformed"},
		{"port of six digits", "10.0.0.1", []string{"198.51.100.7:000080"}, "10.0.0.1 peer hop-malformed"},
		{"port 0", "10.0.0.1", []string{"198.51.100.7:0"}, "198.51.100.7 x-forwarded-for hop-untrusted"},
		{"no digits", "10.0.0.1", []string{"198.51.100.7:"}, "10.0.0.1 peer hop-malformed"},
		{"signed port", "10.0.0.1", []string{"198.51.100.7:+80"}, "10.0.0.1 peer hop-malformed"},
		{"port with an underscore", "10.0.0.1", []string{"198.51.100.7:8_0"}, "10.0.0.1 peer hop-malformed"},
		{"obfuscated port", "10.0.0.1", []string{"198.51.100.7:_p"}, "198.51.100.7 x-forwarded-for hop-untrusted"},
		{"only a port", "10.0.0.1", []string{":80"}, "10.0.0.1 peer hop-malformed"},

		// IPv6.
		{"IPv6", "10.0.0.1", []string{"2001:db8::9"}, "2001:db8::9 x-forwarded-for hop-untrusted"},
		{"IPv6 in full", "10.0.0.1", []string{"2001:0DB8:0000:0000:0000:0000:0000:0009"}, "2001:db8::9 x-forwarded-for hop-untrusted"},
		{"IPv6 in brackets", "10.0.0.1", []string{"[2001:db8::9]"}, "2001:db8::9 x-forwarded-for hop-untrusted"},
		{"IPv6 with a port", "10.0.0.1", []string{"[2001:db8::9]:4711"}, "[2001:db8::9]:4711 x-forwarded-for hop-untrusted"},
		{"trusted IPv6 hop", "10.0.0.1", []string{"6.6.6.6, 2001:db8::9, 2001:db8:f::2"}, "2001:db8::9 x-forwarded-for hop-untrusted"},
		{"trusted IPv6 hop in brackets with a port", "10.0.0.1", []string{"2001:db8::9, [2001:db8:f::2]:80"}, "2001:db8::9 x-forwarded-for hop-untrusted"},
		{"loopback", "10.0.0.1", []string{"::1"}, "::1 x-forwarded-for hop-untrusted"},
		{"unspecified", "10.0.0.1", []string{"::"}, ":: x-forwarded-for hop-untrusted"},
		{"zone", "10.0.0.1", []string{"2001:db8::9%eth0"}, "2001:db8::9 x-forwarded-for hop-untrusted"},
		{"zone in brackets", "10.0.0.1", []string{"[2001:db8::9%25eth0]:80"}, "[2001:db8::9]:80 x-forwarded-for hop-untrusted"},
		{"trusted hop with a zone", "10.0.0.1", []string{"198.51.100.7, fe80::1%eth0"}, "198.51.100.7 x-forwarded-for hop-untrusted"},
		{"empty zone", "10.0.0.1", []string{"2001:db8::9%"}, "10.0.0.1 peer hop-malformed"},
		{"space in a zone", "10.0.0.1", []string{"2001:db8::9%eth 0"}, "10.0.0.1 peer hop-malformed"},
		{"mapped", "10.0.0.1", []string{"::ffff:198.51.100.7"}, "198.51.100.7 x-forwarded-for hop-untrusted"},
		{"mapped, hexadecimal", "10.0.0.1", []string{"::ffff:c633:6407"}, "198.51.100.7 x-forwarded-for hop-untrusted"},
		{"mapped in brackets with a port", "10.0.0.1", []string{"[::ffff:198.51.100.7]:80"}, "198.51.100.7:80 x-forwarded-for hop-untrusted"},
		{"mapped trusted hop", "10.0.0.1", []string{"6.6.6.6, 198.51.100.7, ::ffff:10.0.0.2"}, "198.51.100.7 x-forwarded-for hop-untrusted"},
		{"mapped with a zone", "10.0.0.1", []string{"::ffff:198.51.100.7%eth0"}, "198.51.100.7 x-forwarded-for hop-untrusted"},
		{"NAT64 form of a trusted hop", "10.0.0.1", []string{"198.51.100.7, 64:ff9b::10.0.0.2"}, "64:ff9b::a00:2 x-forwarded-for hop-untrusted"},
		{"bracket not closed", "10.0.0.1", []string{"[2001:db8::9"}, "10.0.0.1 peer hop-malformed"},
		{"bracket not opened", "10.0.0.1", []string{"2001:db8::9]"}, "10.0.0.1 peer hop-malformed"},
		{"text after the bracket", "10.0.0.1", []string{"[2001:db8::9]80"}, "10.0.0.1 peer hop-malformed"},
		{"two brackets", "10.0.0.1", []string{"[[2001:db8::9]]"}, "10.0.0.1 peer hop-malformed"},
		{"empty brackets", "10.0.0.1", []string{"[]"}, "10.0.0.1 peer hop-malformed"},
		{"IPv4 in brackets", "10.0.0.1", []string{"[198.51.100.7]"}, "10.0.0.1 peer hop-malformed"},
		{"nine groups", "10.0.0.1", []string{"1:2:3:4:5:6:7:8:9"}, "10.0.0.1 peer hop-malformed"},
		{"two double colons", "10.0.0.1", []string{"2001::db8::9"}, "10.0.0.1 peer hop-malformed"},
		{"IPv4 with two ports", "10.0.0.1", []string{"198.51.100.7:80:80"}, "10.0.0.1 peer hop-malformed"},

		// Quotation marks have a meaning only around a whole element.
		{"quoted", "10.0.0.1", []string{`"198.51.100.7"`}, "198.51.100.7 x-forwarded-for hop-untrusted"},
		{"quoted IPv6 with a port", "10.0.0.1", []string{`"[2001:db8::9]:80"`}, "[2001:db8::9]:80 x-forwarded-for hop-untrusted"},
		{"quotation mark left open by the client", "10.0.0.1", []string{`", 198.51.100.7`}, "198.51.100.7 x-forwarded-for hop-untrusted"},
		{"one quotation mark", "10.0.0.1", []string{`"`}, "10.0.0.1 peer hop-malformed"},
		{"empty quotation", "10.0.0.1", []string{`""`}, "10.0.0.1 peer hop-malformed"},
		{"quoted comma", "10.0.0.1", []string{`"6.6.6.6, 198.51.100.7"`}, "10.0.0.1 peer hop-malformed"},

		// Length.
		{"as many hops as are followed, all trusted", "10.0.0.1", []string{hops(MaxHops, "")}, "10.0.1.0 x-forwarded-for all-trusted"},
		{"one hop more", "10.0.0.1", []string{"198.51.100.7, " + hops(MaxHops, "")}, "10.0.1.0 x-forwarded-for too-long"},
		{"one hop more on another line", "10.0.0.1", []string{"198.51.100.7", hops(MaxHops, "")}, "10.0.1.0 x-forwarded-for too-long"},
		{"the last hop that is followed is untrusted", "10.0.0.1", []string{"6.6.6.6, 198.51.100.7, " + hops(MaxHops-1, "")}, "198.51.100.7 x-forwarded-for hop-untrusted"},
		{"100 KB of trusted hops", "10.0.0.1", []string{hops(250, "") + ", " + strings.Repeat("10.0.0.2, ", 10_000) + "10.0.0.3"}, "10.0.0.2 x-forwarded-for too-long"},
		{"100 KB of lies before the client", "10.0.0.1", []string{strings.Repeat("6.6.6.6, ", 11_000) + "198.51.100.7, 10.0.0.2"}, "198.51.100.7 x-forwarded-for hop-untrusted"},
		{"100 KB without a comma", "10.0.0.1", []string{strings.Repeat("1", 100_000)}, "10.0.0.1 peer too-long"},
		{"100 KB of commas", "10.0.0.1", []string{strings.Repeat(",", 100_000)}, "10.0.0.1 peer hop-malformed"},
		{"100 KB of spaces before the client", "10.0.0.1", []string{strings.Repeat(" ", 100_000) + ", 198.51.100.7"}, "198.51.100.7 x-forwarded-for hop-untrusted"},
		{"100 KB of spaces beside the client", "10.0.0.1", []string{"198.51.100.7, 10.0.0.2" + strings.Repeat(" ", 100_000)}, "10.0.0.1 peer too-long"},
		{"10,000 lines", "10.0.0.1", append(make([]string, 10_000), "198.51.100.7", "10.0.0.2"), "198.51.100.7 x-forwarded-for hop-untrusted"},
		{"element that just fits", "10.0.0.1", []string{strings.Repeat(" ", MaxBytes-len("198.51.100.7")) + "198.51.100.7"}, "198.51.100.7 x-forwarded-for hop-untrusted"},
		{"element that does not fit", "10.0.0.1", []string{strings.Repeat(" ", MaxBytes-len("198.51.100.7")+1) + "198.51.100.7"}, "10.0.0.1 peer too-long"},
		{"bytes of all lines count", "10.0.0.1", []string{"198.51.100.7", strings.Repeat(" ", MaxBytes-len("10.0.0.2")) + "10.0.0.2"}, "10.0.0.2 x-forwarded-for too-long"},
	})
}

func TestResolveForwarded(t *testing.T) {
	run(t, Forwarded, []resolveTest{
		{"untrusted peer", "203.0.113.9", []string{"for=198.51.100.7"}, "203.0.113.9 peer peer-untrusted"},
		{"no header", "10.0.0.1", nil, "10.0.0.1 peer no-header"},
		{"one hop", "10.0.0.1", []string{"for=198.51.100.7"}, "198.51.100.7 forwarded hop-untrusted"},
		{"trusted hop", "10.0.0.1", []string{"for=6.6.6.6, for=198.51.100.7, for=10.0.0.2"}, "198.51.100.7 forwarded hop-untrusted"},
		{"lines", "10.0.0.1", []string{"for=6.6.6.6", "for=198.51.100.7, for=10.0.0.3", "for=10.0.0.2"}, "198.51.100.7 forwarded hop-untrusted"},
		{"all trusted", "10.0.0.1", []string{"for=10.0.0.3, for=10.0.0.2"}, "10.0.0.3 forwarded all-trusted"},
		{"all parameters", "10.0.0.1", []string{`for=198.51.100.7;proto=https;host="a.example.com:8080";by=10.0.0.1`}, "198.51.100.7 forwarded hop-untrusted"},
		{"for at the end", "10.0.0.1", []string{"proto=https;by=10.0.0.1;for=198.51.100.7"}, "198.51.100.7 forwarded hop-untrusted"},
		{"for in capitals", "10.0.0.1", []string{"FOR=198.51.100.7"}, "198.51.100.7 forwarded hop-untrusted"},
		{"spaces around semicolons", "10.0.0.1", []string{"proto=https ; \tfor=198.51.100.7 ; by=10.0.0.1"}, "198.51.100.7 forwarded hop-untrusted"},
		{"empty parameters", "10.0.0.1", []string{";;for=198.51.100.7;"}, "198.51.100.7 forwarded hop-untrusted"},
		{"extension", "10.0.0.1", []string{"secret=x;for=198.51.100.7"}, "198.51.100.7 forwarded hop-untrusted"},
		{"quoted", "10.0.0.1", []string{`for="198.51.100.7"`}, "198.51.100.7 forwarded hop-untrusted"},
		{"quoted with a port", "10.0.0.1", []string{`for="198.51.100.7:4711"`}, "198.51.100.7:4711 forwarded hop-untrusted"},
		{"port without quotation marks", "10.0.0.1", []string{"for=198.51.100.7:4711"}, "198.51.100.7:4711 forwarded hop-untrusted"},
		{"quoted pairs", "10.0.0.1", []string{`for="198\.51.100.\7"`}, "198.51.100.7 forwarded hop-untrusted"},
		{"IPv6", "10.0.0.1", []string{`for="[2001:db8::9]"`}, "2001:db8::9 forwarded hop-untrusted"},
		{"IPv6 with a port", "10.0.0.1", []string{`for="[2001:db8::9]:4711"`}, "[2001:db8::9]:4711 forwarded hop-untrusted"},
		{"IPv6 without quotation marks", "10.0.0.1", []string{"for=[2001:db8::9]"}, "2001:db8::9 forwarded hop-untrusted"},
		{"IPv6 without brackets: address or port?", "10.0.0.1", []string{`for="2001:db8::9:80"`}, "10.0.0.1 peer hop-malformed"},
		{"mapped", "10.0.0.1", []string{`for=198.51.100.7, for="[::ffff:10.0.0.2]"`}, "198.51.100.7 forwarded hop-untrusted"},
		{"zone", "10.0.0.1", []string{`for=198.51.100.7, for="[fe80::1%eth0]"`}, "198.51.100.7 forwarded hop-untrusted"},
		{"unknown", "10.0.0.1", []string{"for=6.6.6.6, for=unknown"}, "10.0.0.1 peer hop-hidden"},
		{"unknown after a trusted hop", "10.0.0.1", []string{"for=6.6.6.6, for=Unknown, for=10.0.0.2"}, "10.0.0.2 forwarded hop-hidden"},
		{"obfuscated", "10.0.0.1", []string{"for=6.6.6.6, for=_hidden, for=10.0.0.2"}, "10.0.0.2 forwarded hop-hidden"},
		{"obfuscated with obfuscated port", "10.0.0.1", []string{`for=6.6.6.6, for="_hidden:_port"`}, "10.0.0.1 peer hop-hidden"},
		{"no for", "10.0.0.1", []string{"for=6.6.6.6, proto=https"}, "10.0.0.1 peer hop-hidden"},
		{"no for after a trusted hop", "10.0.0.1", []string{"for=6.6.6.6, by=_x, for=10.0.0.2"}, "10.0.0.2 forwarded hop-hidden"},
		{"empty element", "10.0.0.1", []string{"for=6.6.6.6,"}, "10.0.0.1 peer hop-hidden"},
		{"two for", "10.0.0.1", []string{"for=198.51.100.7;for=6.6.6.6"}, "10.0.0.1 peer hop-malformed"},
		{"name that ends in for", "10.0.0.1", []string{"xfor=6.6.6.6"}, "10.0.0.1 peer hop-hidden"},
		{"no value", "10.0.0.1", []string{"for="}, "10.0.0.1 peer hop-malformed"},
		{"empty quotation", "10.0.0.1", []string{`for=""`}, "10.0.0.1 peer hop-malformed"},
		{"no name", "10.0.0.1", []string{"=198.51.100.7"}, "10.0.0.1 peer hop-malformed"},
		{"bare address", "10.0.0.1", []string{"198.51.100.7"}, "10.0.0.1 peer hop-malformed"},
		{"space before the equals sign", "10.0.0.1", []string{"for =198.51.100.7"}, "10.0.0.1 peer hop-malformed"},
		{"space after the equals sign", "10.0.0.1", []string{"for= 198.51.100.7"}, "10.0.0.1 peer hop-malformed"},
		{"space in a value", "10.0.0.1", []string{"for=198.51.100.7 x;proto=http"}, "10.0.0.1 peer hop-malformed"},
		{"text after a quotation", "10.0.0.1", []string{`for="198.51.100.7"x`}, "10.0.0.1 peer hop-malformed"},
		{"parameter after a quotation", "10.0.0.1", []string{`for="198.51.100.7"proto=http`}, "10.0.0.1 peer hop-malformed"},
		{"quotation mark in a value", "10.0.0.1", []string{`for=198.51.100.7;host=a"b"`}, "10.0.0.1 peer hop-malformed"},
		{"comma in a quotation", "10.0.0.1", []string{`for=198.51.100.7;host="a, for=6.6.6.6"`}, "198.51.100.7 forwarded hop-untrusted"},
		{"semicolon in a quotation", "10.0.0.1", []string{`host="a;for=6.6.6.6";for=198.51.100.7`}, "198.51.100.7 forwarded hop-untrusted"},
		{"escaped quotation mark", "10.0.0.1", []string{`for=198.51.100.7;host="a\", for=6.6.6.6"`}, "198.51.100.7 forwarded hop-untrusted"},
		{"escaped backslash at the end", "10.0.0.1", []string{`for=6.6.6.6;host="a\\", for=198.51.100.7;host="\\\\"`}, "198.51.100.7 forwarded hop-untrusted"},
		{"quotation left open by the client", "10.0.0.1", []string{`for=6.6.6.6;host=", for=198.51.100.7`}, "198.51.100.7 forwarded hop-untrusted"},
		{"quotation left open on the line before", "10.0.0.1", []string{`for="6.6.6.6`, "for=198.51.100.7"}, "198.51.100.7 forwarded hop-untrusted"},
		{"quotation left open and reached", "10.0.0.1", []string{`for="6.6.6.6, for=10.0.0.2`}, "10.0.0.2 forwarded hop-malformed"},
		{"backslash left by the client", "10.0.0.1", []string{`\, for="198.51.100.7"`}, "198.51.100.7 forwarded hop-untrusted"},
		{"quotation that ends in a backslash", "10.0.0.1", []string{`for="198.51.100.7\"`}, "10.0.0.1 peer hop-malformed"},
		{"only a quotation mark", "10.0.0.1", []string{`"`}, "10.0.0.1 peer hop-malformed"},
		{"as many hops as are followed", "10.0.0.1", []string{hops(MaxHops, "for=")}, "10.0.1.0 forwarded all-trusted"},
		{"one hop more", "10.0.0.1", []string{"for=198.51.100.7, " + hops(MaxHops, "for=")}, "10.0.1.0 forwarded too-long"},
		{"100 KB of quotation", "10.0.0.1", []string{`for="` + strings.Repeat("a", 100_000) + `"`}, "10.0.0.1 peer too-long"},
		{"100 KB of quotation marks", "10.0.0.1", []string{strings.Repeat(`"`, 100_000)}, "10.0.0.1 peer too-long"},
		{"100 KB of backslashes", "10.0.0.1", []string{strings.Repeat(`\`, 100_000) + `"`}, "10.0.0.1 peer too-long"},
		{"100 KB of lies before the client", "10.0.0.1", []string{strings.Repeat("for=6.6.6.6, ", 8_000) + "for=198.51.100.7"}, "198.51.100.7 forwarded hop-untrusted"},
		{"100 KB of parameters", "10.0.0.1", []string{strings.Repeat("a=b;", 25_000) + "for=198.51.100.7"}, "10.0.0.1 peer too-long"},
	})
}

// TestOneHeader shows that only the header that was chosen is read, and that
// the others of a request change nothing.
func TestOneHeader(t *testing.T) {
	const xff, fwd = "198.51.100.7", "203.0.113.9"
	both := http.Header{"X-Forwarded-For": {xff}, "Forwarded": {"for=" + fwd}}
	for _, tc := range []struct {
		name   string
		header Header
		h      http.Header
		want   string
	}{
		{"default, both present", 0, both, xff + " x-forwarded-for hop-untrusted"},
		{"Forwarded, both present", Forwarded, both, fwd + " forwarded hop-untrusted"},
		{"default, only Forwarded present", 0, http.Header{"Forwarded": {"for=" + fwd}}, "10.0.0.1:5000 peer no-header"},
		{"Forwarded, only X-Forwarded-For present", Forwarded, http.Header{"X-Forwarded-For": {xff}}, "10.0.0.1:5000 peer no-header"},
		{"named in Connection", 0, http.Header{"X-Forwarded-For": {xff}, "Connection": {"X-Forwarded-For"}}, xff + " x-forwarded-for hop-untrusted"},
		{"Forwarded named in Connection", Forwarded, http.Header{"Forwarded": {"for=" + fwd}, "Connection": {"close, forwarded"}}, fwd + " forwarded hop-untrusted"},
		{"headers of other products", 0, http.Header{"X-Real-Ip": {fwd}, "True-Client-Ip": {fwd}, "X-Client-Ip": {fwd}}, "10.0.0.1:5000 peer no-header"},
		{"no headers", 0, nil, "10.0.0.1:5000 peer no-header"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newResolver(t, Config{Trusted: trusted, Header: tc.header})
			if got := r.Resolve(netip.MustParseAddrPort("10.0.0.1:5000"), tc.h).text(); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

func TestZeroResolver(t *testing.T) {
	h := http.Header{"X-Forwarded-For": {"198.51.100.7"}}
	peer := netip.MustParseAddrPort("[::ffff:10.0.0.1]:5000")
	for name, r := range map[string]*Resolver{"zero": {}, "zero config": newResolver(t, Config{})} {
		if got, want := r.Resolve(peer, h).text(), "10.0.0.1:5000 peer peer-untrusted"; got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
		if r.Trusts(peer.Addr()) {
			t.Errorf("%s: trusts %v", name, peer)
		}
	}
}

func TestTrusts(t *testing.T) {
	r := newResolver(t, Config{Trusted: trusted})
	for addr, want := range map[string]bool{
		"10.1.2.3": true, "::ffff:10.1.2.3": true, "172.16.0.0": true, "fe80::1%eth0": true, "2001:db8:f:ffff::": true,
		"11.0.0.0": false, "::10.1.2.3": false, "2001:db8:10::": false,
	} {
		if got := r.Trusts(netip.MustParseAddr(addr)); got != want {
			t.Errorf("trusts %s: %t, want %t", addr, got, want)
		}
	}
	if r.Trusts(netip.Addr{}) {
		t.Error("trusts the invalid address")
	}
}

func TestNewFaults(t *testing.T) {
	_, err := New(Config{Trusted: []netip.Prefix{trusted[0], {}, trusted[1], netip.PrefixFrom(netip.MustParseAddr("10.0.0.1"), 33)}, Header: 7})
	want := "trustedProxies[1]: not a network\n" +
		"trustedProxies[3]: not a network\n" +
		"clientHeader: Header(7): not a header"
	if err == nil || err.Error() != want {
		t.Errorf("got error %v, want %s", err, want)
	}
}

// TestNewCopies shows that the resolver does not depend on its configuration
// any more.
func TestNewCopies(t *testing.T) {
	own := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("9.0.0.0/8")}
	r := newResolver(t, Config{Trusted: own})
	if own[0] != netip.MustParsePrefix("10.0.0.0/8") {
		t.Error("New changed its argument")
	}
	own[0], own[1] = netip.MustParsePrefix("0.0.0.0/0"), netip.Prefix{}
	if !r.Trusts(netip.MustParseAddr("9.1.1.1")) || r.Trusts(netip.MustParseAddr("11.1.1.1")) {
		t.Error("the resolver changed with its configuration")
	}
}

func TestParsePeer(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"198.51.100.7:4711", "198.51.100.7:4711"},
		{"[2001:db8::9]:4711", "[2001:db8::9]:4711"},
		{"[::ffff:198.51.100.7]:4711", "198.51.100.7:4711"},
		{"[fe80::1%eth0]:4711", "[fe80::1]:4711"},
		{"[fe80::1%eth0]]:4711", "[fe80::1]:4711"}, // a zone may hold anything
		{"[fe80::1%eth0:4711", ""},
		{"198.51.100.7%eth0:4711", ""},
		{"198.51.100.7", ""},
		{"localhost:80", ""},
		{"@", ""},
		{"/run/limpet.sock", ""},
		{"pipe", ""},
		{"%", ""},
		{"", ""},
	} {
		want := netip.AddrPort{}
		if tc.want != "" {
			want = netip.MustParseAddrPort(tc.want)
		}
		if got := ParsePeer(tc.in); got != want {
			t.Errorf("ParsePeer(%q) = %v, want %v", tc.in, got, want)
		}
	}
}

func TestStrings(t *testing.T) {
	for _, tc := range []struct {
		value fmt.Stringer
		want  string
	}{
		{XForwardedFor, "X-Forwarded-For"}, {Forwarded, "Forwarded"}, {Header(9), "Header(9)"},
		{SourcePeer, "peer"}, {SourceXForwardedFor, "x-forwarded-for"}, {SourceForwarded, "forwarded"}, {SourceHeader, "header"}, {Source(9), "Source(9)"},
		{PeerUntrusted, "peer-untrusted"}, {HopUntrusted, "hop-untrusted"}, {AllTrusted, "all-trusted"}, {NoHeader, "no-header"},
		{AtIndex, "at-index"}, {PastEnd, "past-end"}, {HopHidden, "hop-hidden"}, {HopMalformed, "hop-malformed"}, {TooLong, "too-long"}, {NoPeer, "no-peer"},
		{Reason(0), "Reason(0)"}, {Reason(99), "Reason(99)"},
	} {
		if got := tc.value.String(); got != tc.want {
			t.Errorf("%T: got %s, want %s", tc.value, got, tc.want)
		}
	}
}
