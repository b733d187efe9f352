package clientaddr

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestResolveIndex chooses addresses by their place.
func TestResolveIndex(t *testing.T) {
	const three = "198.51.100.1, 198.51.100.2, 198.51.100.3"
	for _, tc := range []struct {
		name  string
		cfg   Config
		peer  string
		lines []string
		want  string
	}{
		{"leftmost", Config{Index: 1}, "10.0.0.1", []string{three}, "198.51.100.1 x-forwarded-for at-index"},
		{"second from the left", Config{Index: 2}, "10.0.0.1", []string{three}, "198.51.100.2 x-forwarded-for at-index"},
		{"rightmost", Config{Index: -1}, "10.0.0.1", []string{three}, "198.51.100.3 x-forwarded-for at-index"},
		{"two proxies in front", Config{Index: -2}, "10.0.0.1", []string{three}, "198.51.100.2 x-forwarded-for at-index"},
		{"last from the left", Config{Index: 3}, "10.0.0.1", []string{three}, "198.51.100.3 x-forwarded-for at-index"},
		{"past the end from the left", Config{Index: 4}, "10.0.0.1", []string{three}, "198.51.100.3 x-forwarded-for past-end"},
		{"past the end from the right", Config{Index: -4}, "10.0.0.1", []string{three}, "198.51.100.1 x-forwarded-for past-end"},
		{"far past the end", Config{Index: 1000}, "10.0.0.1", []string{three}, "198.51.100.3 x-forwarded-for past-end"},
		{"lines from the left", Config{Index: 2}, "10.0.0.1", strings.Split(three, ", "), "198.51.100.2 x-forwarded-for at-index"},
		{"lines from the right", Config{Index: -2}, "10.0.0.1", strings.Split(three, ", "), "198.51.100.2 x-forwarded-for at-index"},
		{"a trusted address is taken as well", Config{Index: -1}, "10.0.0.1", []string{"198.51.100.1, 10.0.0.2"}, "10.0.0.2 x-forwarded-for at-index"},
		{"untrusted peer", Config{Index: 1}, "203.0.113.9", []string{three}, "203.0.113.9 peer peer-untrusted"},
		{"no header", Config{Index: 1}, "10.0.0.1", nil, "10.0.0.1 peer no-header"},
		{"empty header", Config{Index: 1}, "10.0.0.1", []string{""}, "10.0.0.1 peer hop-malformed"},
		{"empty elements count", Config{Index: 2}, "10.0.0.1", []string{",,198.51.100.1"}, "10.0.0.1 peer hop-malformed"},
		{"garbage at the place", Config{Index: -1}, "10.0.0.1", []string{"198.51.100.1, x"}, "10.0.0.1 peer hop-malformed"},
		{"garbage elsewhere", Config{Index: 2}, "10.0.0.1", []string{"x, 198.51.100.2, y"}, "198.51.100.2 x-forwarded-for at-index"},
		{"hidden", Config{Index: 1}, "10.0.0.1", []string{"unknown, 198.51.100.2"}, "10.0.0.1 peer hop-hidden"},
		{"mapped, with port", Config{Index: 1}, "::ffff:10.0.0.1", []string{"[::ffff:198.51.100.1]:80"}, "198.51.100.1:80 x-forwarded-for at-index"},
		{"100 KB after the leftmost", Config{Index: 1}, "10.0.0.1", []string{three + strings.Repeat(", 6.6.6.6", 11_000)}, "198.51.100.1 x-forwarded-for at-index"},
		{"100 KB before the rightmost", Config{Index: -1}, "10.0.0.1", []string{strings.Repeat("6.6.6.6, ", 11_000) + "198.51.100.3"}, "198.51.100.3 x-forwarded-for at-index"},
		{"100 KB of spaces from the left", Config{Index: 1}, "10.0.0.1", []string{strings.Repeat(" ", 100_000) + three}, "10.0.0.1 peer too-long"},
		{"100 KB of spaces from the right", Config{Index: -1}, "10.0.0.1", []string{three + strings.Repeat(" ", 100_000)}, "10.0.0.1 peer too-long"},
		{"the thousandth", Config{Index: 1000}, "10.0.0.1", []string{strings.Repeat("6.6.6.6,", 999) + three}, "198.51.100.1 x-forwarded-for at-index"},
		{"the thousandth from the right", Config{Index: -1000}, "10.0.0.1", []string{three + strings.Repeat(",6.6.6.6", 999)}, "198.51.100.3 x-forwarded-for at-index"},
		{"a named header", Config{Name: "true-client-ip"}, "10.0.0.1", []string{"198.51.100.1"}, "198.51.100.1 header hop-untrusted"},
		{"a named header by trust", Config{Name: "X-Real-Ip"}, "10.0.0.1", []string{three + ", 10.0.0.2"}, "198.51.100.3 header hop-untrusted"},
		{"a named header by index", Config{Name: "X-Real-Ip", Index: 2}, "10.0.0.1", []string{three}, "198.51.100.2 header at-index"},
		{"a named header from others", Config{Name: "X-Real-Ip"}, "203.0.113.9", []string{three}, "203.0.113.9 peer peer-untrusted"},
		{"Forwarded", Config{Header: Forwarded, Index: 2}, "10.0.0.1", []string{"for=198.51.100.1, for=198.51.100.2"}, "198.51.100.2 forwarded at-index"},
		{"Forwarded from the right", Config{Header: Forwarded, Index: -2}, "10.0.0.1", []string{"for=198.51.100.1", "for=198.51.100.2"}, "198.51.100.1 forwarded at-index"},
		{"Forwarded, quoted comma", Config{Header: Forwarded, Index: 2}, "10.0.0.1", []string{`for=198.51.100.1;host="a, for=6.6.6.6\", for=6.6.6.7", for=198.51.100.2`}, "198.51.100.2 forwarded at-index"},
		{"Forwarded, open quotation", Config{Header: Forwarded, Index: 1}, "10.0.0.1", []string{`for=198.51.100.1;host="a, for=198.51.100.2`}, "10.0.0.1 peer hop-malformed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.cfg.Trusted = trusted
			r := newResolver(t, tc.cfg)
			name := tc.cfg.Header.String()
			if tc.cfg.Name != "" {
				name = tc.cfg.Name
			}
			h := http.Header{}
			for _, line := range tc.lines {
				h.Add(name, line)
			}
			if got := r.Resolve(netip.AddrPortFrom(netip.MustParseAddr(tc.peer), 0), h).text(); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

func TestIndexFaults(t *testing.T) {
	_, err := New(Config{Name: "a b", Index: 1001})
	want := "clientHeader: \"a b\": not the name of a header\n" +
		"clientIndex: 1001: not between -1000 and 1000\n" +
		"clientIndex: 1001: without effect, since nobody is trusted"
	if err == nil || err.Error() != want {
		t.Errorf("got error %v, want %s", err, want)
	}
	for _, index := range []int{-1000, 1000} {
		newResolver(t, Config{Trusted: trusted, Index: index})
	}
}

// TestIndexTwin compares with a slice of the list.
func TestIndexTwin(t *testing.T) {
	for _, header := range headers {
		t.Run(header.String(), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				var addrs []netip.Addr
				var elements []string
				for range rapid.IntRange(1, 12).Draw(t, "hops") {
					addr := drawAddr(t, rapid.Bool().Draw(t, "trusted"))
					element, _ := drawHop(t, header, addr)
					addrs, elements = append(addrs, addr), append(elements, element)
				}
				index := rapid.IntRange(1, 15).Draw(t, "index")
				if rapid.Bool().Draw(t, "from the right") {
					index = -index
					slices.Reverse(addrs)
				}
				r, err := New(Config{Trusted: trusted, Header: header, Index: index})
				if err != nil {
					t.Fatal(err)
				}
				lines := drawList(t, elements)
				got := r.Resolve(netip.MustParseAddrPort("10.0.0.1:5000"), http.Header{header.String(): lines})
				want, reason := addrs[min(max(index, -index), len(addrs))-1], AtIndex
				if max(index, -index) > len(addrs) {
					reason = PastEnd
				}
				if got.Addr != want || got.Reason != reason {
					t.Fatalf("%d of %q: %s, want %v %v", index, lines, got.text(), want, reason)
				}
			})
		})
	}
}

// TestEncrypted is about what trusted proxies say of the client's protocol.
func TestEncrypted(t *testing.T) {
	const xff, proto = "X-Forwarded-For", "X-Forwarded-Proto"
	for _, tc := range []struct {
		name string
		cfg  Config
		peer string
		h    http.Header
		want string
	}{
		{"https", Config{}, "10.0.0.1", http.Header{xff: {"198.51.100.1"}, proto: {"https"}}, "true true"},
		{"in capitals", Config{}, "10.0.0.1", http.Header{xff: {"198.51.100.1"}, proto: {" HTTPS "}}, "true true"},
		{"wss", Config{}, "10.0.0.1", http.Header{xff: {"198.51.100.1"}, proto: {"wss"}}, "true true"},
		{"http", Config{}, "10.0.0.1", http.Header{xff: {"198.51.100.1"}, proto: {"http"}}, "false true"},
		{"without X-Forwarded-For", Config{}, "10.0.0.1", http.Header{proto: {"https"}}, "true true"},
		{"untrusted peer", Config{}, "203.0.113.9", http.Header{proto: {"https"}}, "false false"},
		{"no header", Config{}, "10.0.0.1", http.Header{xff: {"198.51.100.1"}}, "false false"},
		{"empty", Config{}, "10.0.0.1", http.Header{proto: {""}}, "false false"},
		{"garbage", Config{}, "10.0.0.1", http.Header{proto: {"gopher"}}, "false false"},
		{"one value for two proxies", Config{}, "10.0.0.1", http.Header{xff: {"198.51.100.1, 10.0.0.2"}, proto: {"https"}}, "true true"},
		{"a value of each proxy", Config{}, "10.0.0.1", http.Header{xff: {"198.51.100.1, 10.0.0.2"}, proto: {"https, http"}}, "true true"},
		{"a lie before the values", Config{}, "10.0.0.1", http.Header{xff: {"6.6.6.6, 198.51.100.1, 10.0.0.2"}, proto: {"https, http, https"}}, "false true"},
		{"a lie before one value", Config{}, "10.0.0.1", http.Header{xff: {"198.51.100.1"}, proto: {"https", "http"}}, "false true"},
		{"100 KB", Config{}, "10.0.0.1", http.Header{proto: {strings.Repeat(" ", 100_000)}}, "false false"},
		{"index", Config{Index: -2}, "10.0.0.1", http.Header{xff: {"198.51.100.1, 198.51.100.2"}, proto: {"https, http"}}, "true true"},
		{"index from the left", Config{Index: 1}, "10.0.0.1", http.Header{xff: {"198.51.100.1, 198.51.100.2"}, proto: {"https, http"}}, "true true"},
		{"Forwarded", Config{Header: Forwarded}, "10.0.0.1", http.Header{"Forwarded": {"for=198.51.100.1;proto=https"}}, "true true"},
		{"Forwarded, quoted", Config{Header: Forwarded}, "10.0.0.1", http.Header{"Forwarded": {`Proto="https";for=198.51.100.1`}}, "true true"},
		{"Forwarded says what the client's proxy says", Config{Header: Forwarded}, "10.0.0.1", http.Header{"Forwarded": {"for=6.6.6.6;proto=https, for=198.51.100.1;proto=http, for=10.0.0.2;proto=https"}}, "false true"},
		{"Forwarded without proto", Config{Header: Forwarded}, "10.0.0.1", http.Header{"Forwarded": {"for=198.51.100.1"}}, "false false"},
		{"Forwarded, two protos", Config{Header: Forwarded}, "10.0.0.1", http.Header{"Forwarded": {"for=198.51.100.1;proto=https;proto=https"}}, "false false"},
		{"Forwarded, malformed", Config{Header: Forwarded}, "10.0.0.1", http.Header{"Forwarded": {"proto=https;x"}}, "false false"},
		{"Forwarded ignores the other header", Config{Header: Forwarded}, "10.0.0.1", http.Header{"Forwarded": {"for=198.51.100.1"}, proto: {"https"}}, "false false"},
		{"Forwarded, index from the left", Config{Header: Forwarded, Index: 2}, "10.0.0.1", http.Header{"Forwarded": {"for=6.6.6.6;proto=http, for=198.51.100.1;proto=https"}}, "true true"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.cfg.Trusted = trusted
			r := newResolver(t, tc.cfg)
			res := r.Resolve(netip.AddrPortFrom(netip.MustParseAddr(tc.peer), 0), tc.h)
			encrypted, told := r.Encrypted(res, tc.h)
			if got := fmt.Sprint(encrypted, told); got != tc.want {
				t.Errorf("%s: got %s, want %s", res.text(), got, tc.want)
			}
		})
	}
	if encrypted, told := new(Resolver).Encrypted(Result{Reason: NoPeer}, nil); encrypted || told {
		t.Error("without a peer somebody is believed")
	}
}
