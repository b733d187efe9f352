package exactaddr

import (
	"net/netip"
	"testing"
)

func TestValues(t *testing.T) {
	for _, tt := range []struct {
		name, value, server, shown string
	}{
		{"IPv4", Value(netip.MustParseAddrPort("127.0.0.1:8081")), "127.0.0.1:8081", "127.0.0.1:8081"},
		{"IPv6", Value(netip.MustParseAddrPort("[::1]:8081")), "[::1]:8081", "[::1]:8081"},
		{"IPv4 in IPv6", Value(netip.MustParseAddrPort("[::ffff:10.0.0.1]:80")), "10.0.0.1:80", "10.0.0.1:80"},
		{"no mark", "127.0.0.1:8081", "", "127.0.0.1:8081"},
		{"no port", "127.0.0.1\x00", "", "127.0.0.1\x00"},
		{"two marks", "127.0.0.1:8081\x00\x00", "", "127.0.0.1:8081\x00\x00"},
		{"a mark alone", "\x00", "", "\x00"},
		{"another text", "blue\x00", "", "blue\x00"},
		{"nothing", "", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			addr, ok := Parse(tt.value)
			if ok != (tt.server != "") || ok && addr.String() != tt.server {
				t.Errorf("Parse(%q) = %v, %v; want %q", tt.value, addr, ok, tt.server)
			}
			if got := Shown(tt.value); got != tt.shown {
				t.Errorf("Shown(%q) = %q, want %q", tt.value, got, tt.shown)
			}
		})
	}
}

// TestScripts stores texts that clients could have made up. None of them names
// a server, and scripts read each as it was.
func TestScripts(t *testing.T) {
	seen := map[string]string{}
	for _, text := range []string{
		"", "blue", "10.0.0.1", "10.0.0.1:80", "10.0.0.1:80\x00", "10.0.0.1:80\x00\x00", "10.0.0.1:80\x00\x00\x00",
		"[::1]:80\x00", "[fe80::1%\x00]:80\x00", "10.0.0.1\x00", "\x00", "\x0010.0.0.1:80\x00", "blue\x00\x00",
	} {
		value := FromScript(text)
		if addr, ok := Parse(value); ok {
			t.Errorf("%q is stored as %q, which names %v", text, value, addr)
		}
		if got := ToScript(value); got != text {
			t.Errorf("%q is stored as %q and read as %q", text, value, got)
		}
		if other, taken := seen[value]; taken {
			t.Errorf("%q and %q are both stored as %q", text, other, value)
		}
		seen[value] = text
	}
}

func TestNoAllocations(t *testing.T) {
	for _, value := range []string{"10.0.0.1", "10.0.0.1:80", "10.0.0.1:80\x00"} {
		if n := testing.AllocsPerRun(100, func() { Parse(value); Shown(value); ToScript(value) }); n != 0 {
			t.Errorf("%q: %v allocations", value, n)
		}
	}
}
