package policy

import (
	"net/netip"
	"testing"
)

// addressRows says which addresses a list holds. Every row is checked as a
// deny list and as an allow list, inline and as a group, in both kinds of
// policy. Entries are an address, a prefix or "begin-end".
var addressRows = []struct {
	entry, addr string
	in          bool
}{
	// IPv4 as it is.
	{"10.0.0.1", "10.0.0.1", true},
	{"10.0.0.1", "10.0.0.2", false},
	{"10.0.0.0/8", "10.1.2.3", true},
	{"10.0.0.0/8", "11.0.0.0", false},
	{"10.0.0.0/8", "9.255.255.255", false},
	{"10.1.2.3/8", "10.200.0.1", true}, // host bits are ignored
	{"10.0.0.1/32", "10.0.0.1", true},
	{"10.0.0.1/32", "10.0.0.0", false},
	{"0.0.0.0/0", "255.255.255.255", true},
	{"0.0.0.0/0", "0.0.0.0", true},
	{"0.0.0.0/1", "128.0.0.0", false},
	{"255.255.255.255", "255.255.255.255", true},
	// IPv4 in a mapped client address.
	{"10.0.0.1", "::ffff:10.0.0.1", true},
	{"10.0.0.1", "::ffff:0a00:0001", true},
	{"10.0.0.1", "::ffff:10.0.0.2", false},
	{"10.0.0.0/8", "::ffff:10.1.2.3", true},
	{"10.0.0.0/8", "::ffff:11.1.2.3", false},
	{"0.0.0.0/0", "::ffff:1.2.3.4", true},
	{"10.0.0.1", "::ffff:10.0.0.1%eth0", true},
	// Mapped entries.
	{"::ffff:10.0.0.1", "10.0.0.1", true},
	{"::ffff:10.0.0.1", "::ffff:10.0.0.1", true},
	{"::ffff:10.0.0.1", "10.0.0.2", false},
	{"::ffff:10.0.0.0/104", "10.1.2.3", true},
	{"::ffff:10.0.0.0/104", "::ffff:10.1.2.3", true},
	{"::ffff:10.0.0.0/104", "11.1.2.3", false},
	{"::ffff:10.9.9.9/104", "10.1.2.3", true},
	{"::ffff:0.0.0.0/96", "203.0.113.9", true},
	{"::ffff:10.0.0.1/128", "10.0.0.1", true},
	{"::ffff:10.0.0.1/128", "::10.0.0.1", false},
	// Prefixes of IPv6 that only span the mapped addresses.
	{"::/0", "10.0.0.1", false},
	{"::/0", "::ffff:10.0.0.1", false},
	{"::/0", "2001:db8::1", true},
	{"::fffe:0:0/95", "10.0.0.1", false},
	{"::ffff:0:0/95", "::fffe:1.2.3.4", true},
	{"0.0.0.0/0", "2001:db8::1", false},
	{"0.0.0.0/0", "::", false},
	// IPv6 as it is.
	{"2001:db8::1", "2001:db8::1", true},
	{"2001:db8::1", "2001:0db8:0000:0000:0000:0000:0000:0001", true},
	{"2001:db8::1", "2001:db8::2", false},
	{"2001:db8::/32", "2001:db8:ffff::1", true},
	{"2001:db8::/32", "2001:db9::", false},
	{"2001:db8::1/32", "2001:db8:1::", true},
	{"2001:db8::1/128", "2001:db8::1", true},
	{"::1", "::1", true},
	{"::1", "127.0.0.1", false},
	{"127.0.0.1", "::1", false},
	{"::", "0.0.0.0", false},
	// Zones of client addresses.
	{"fe80::/10", "fe80::1%eth0", true},
	{"fe80::/10", "fe80::1", true},
	{"fe80::1", "fe80::1%eth0", true},
	{"fe80::1", "fe80::1%25", true},
	{"fe80::1", "fe80::2%eth0", false},
	{"2001:db8::/32", "2001:db8::1%1", true},
	{"fe80::/10", "fec0::1%eth0", false},
	// Translated and embedded IPv4 is IPv6.
	{"10.0.0.0/8", "64:ff9b::10.1.2.3", false},
	{"64:ff9b::/96", "64:ff9b::10.1.2.3", true},
	{"64:ff9b::/96", "10.1.2.3", false},
	{"64:ff9b::10.0.0.1", "64:ff9b::a00:1", true},
	{"10.0.0.0/8", "64:ff9b:1::10.1.2.3", false},
	{"10.0.0.0/8", "2002:0a01:0203::1", false},
	{"2002::/16", "2002:0a01:0203::1", true},
	{"10.0.0.0/8", "::10.1.2.3", false},
	{"10.0.0.0/8", "::ffff:0:10.1.2.3", false},
	// Ranges.
	{"10.0.0.10-10.0.0.20", "10.0.0.10", true},
	{"10.0.0.10-10.0.0.20", "10.0.0.20", true},
	{"10.0.0.10-10.0.0.20", "10.0.0.9", false},
	{"10.0.0.10-10.0.0.20", "10.0.0.21", false},
	{"10.0.0.10-10.0.0.20", "::ffff:10.0.0.15", true},
	{"::ffff:10.0.0.10-10.0.0.20", "10.0.0.15", true},
	{"::ffff:10.0.0.10-::ffff:10.0.0.20", "10.0.0.21", false},
	{"10.0.0.5-10.0.0.5", "10.0.0.5", true},
	{"0.0.0.0-255.255.255.255", "8.8.8.8", true},
	{"0.0.0.0-255.255.255.255", "::808:808", false},
	{"2001:db8::10-2001:db8::20", "2001:db8::1f", true},
	{"2001:db8::10-2001:db8::20", "2001:db8::21", false},
	{"::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::ffff:10.0.0.1", false},
	{"::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db8::1%x", true},
	// No address at all.
	{"0.0.0.0/0", "", false},
	{"::/0", "", false},
}

func ipMatch(t *testing.T, op Op, entry string) *IPMatch {
	t.Helper()
	m := &IPMatch{Op: op}
	if a, err := netip.ParseAddr(entry); err == nil {
		m.Addrs = []netip.Addr{a}
		return m
	}
	if p, err := netip.ParsePrefix(entry); err == nil {
		m.Prefixes = []netip.Prefix{p}
		return m
	}
	for i := range entry {
		if entry[i] == '-' {
			m.Ranges = []Range[netip.Addr]{{netip.MustParseAddr(entry[:i]), netip.MustParseAddr(entry[i+1:])}}
			return m
		}
	}
	t.Fatalf("bad row %q", entry)
	return nil
}

func TestAddressNormalisation(t *testing.T) {
	if len(addressRows) < 60 {
		t.Fatalf("%d rows", len(addressRows))
	}
	for _, row := range addressRows {
		t.Run(row.entry+" "+row.addr, func(t *testing.T) {
			var peer netip.AddrPort
			if row.addr != "" {
				peer = netip.AddrPortFrom(netip.MustParseAddr(row.addr), 40000)
			}
			in, notIn := ipMatch(t, IsIn, row.entry), ipMatch(t, IsNotIn, row.entry)

			deny := mustNetworkSecurity(t, Env{}, NetworkRule{Name: "deny", Match: NetworkMatch{ClientIP: in}, Action: ActionReset})
			if got := deny.Evaluate(peer, netip.AddrPort{}).Ended; got != row.in {
				t.Errorf("network deny list: denied = %v", got)
			}
			allow := mustNetworkSecurity(t, Env{},
				NetworkRule{Name: "allow", Match: NetworkMatch{ClientIP: in}, Action: ActionAllow},
				NetworkRule{Name: "rest", Action: ActionReset})
			if got := allow.Evaluate(peer, netip.AddrPort{}).Ended; got == row.in {
				t.Errorf("network allow list: denied = %v", got)
			}
			unless := mustNetworkSecurity(t, Env{}, NetworkRule{Name: "unless", Match: NetworkMatch{ClientIP: notIn}, Action: ActionReset})
			if got := unless.Evaluate(peer, netip.AddrPort{}).Ended; got == row.in {
				t.Errorf("network deny unless listed: denied = %v", got)
			}

			tx := newTx("GET", "/")
			tx.client, tx.source = peer, peer
			if got := holds(t, Match{ClientIP: in}, tx); got != row.in {
				t.Errorf("HTTP deny list by client: %v", got)
			}
			if got := allowed(t, Match{SourceIP: in}, tx); got != row.in {
				t.Errorf("HTTP allow list by source: %v", got)
			}
			if got := holds(t, Match{SourceIP: notIn}, tx); got == row.in {
				t.Errorf("HTTP deny unless listed: %v", got)
			}
		})
	}
}

// The service is asked for the one form of an address, too.
func TestGroupsSeeNormalisedAddresses(t *testing.T) {
	env := Env{IPGroups: groups{"g": prefixes("10.0.0.0/8", "fe80::/10")}}
	p := mustNetworkSecurity(t, env, NetworkRule{Name: "g", Match: NetworkMatch{ClientIP: &IPMatch{Groups: []string{"g"}}}, Action: ActionReset})
	for addr, want := range map[string]bool{
		"10.1.2.3": true, "::ffff:10.1.2.3": true, "fe80::1%eth0": true, "11.0.0.1": false, "64:ff9b::10.1.2.3": false,
	} {
		v := p.Evaluate(netip.AddrPortFrom(netip.MustParseAddr(addr), 1), netip.AddrPort{})
		if v.Ended != want || v.Err != nil {
			t.Errorf("%s: %+v, want denied = %v", addr, v, want)
		}
	}
	if v := p.Evaluate(netip.AddrPort{}, netip.AddrPort{}); v.Ended {
		t.Errorf("no address: %+v", v)
	}
}

func TestIPMatchIsTheUnionOfItsLists(t *testing.T) {
	env := Env{IPGroups: groups{"g": prefixes("10.4.0.0/16"), "h": prefixes("10.5.0.0/16")}}
	lists := IPMatch{
		Addrs:    addrs("10.1.0.1"),
		Prefixes: prefixes("10.2.0.0/16"),
		Ranges:   []Range[netip.Addr]{{netip.MustParseAddr("10.3.0.1"), netip.MustParseAddr("10.3.0.9")}},
		Groups:   []string{"g", "h"},
	}
	negated := lists
	negated.Op = IsNotIn
	p := mustNetworkSecurity(t, env, NetworkRule{Name: "in", Match: NetworkMatch{ClientIP: &lists}, Action: ActionReset})
	n := mustNetworkSecurity(t, env, NetworkRule{Name: "not in", Match: NetworkMatch{ClientIP: &negated}, Action: ActionReset})
	for addr, in := range map[string]bool{
		"10.1.0.1": true, "10.2.3.4": true, "10.3.0.5": true, "10.4.0.1": true, "10.5.0.1": true,
		"10.1.0.2": false, "10.3.0.10": false, "10.6.0.1": false, "2001:db8::1": false,
	} {
		c := conn{client: netip.AddrPortFrom(netip.MustParseAddr(addr), 1)}
		if got := p.Evaluate(c.client, c.local).Ended; got != in {
			t.Errorf("%s is in: %v", addr, got)
		}
		if got := n.Evaluate(c.client, c.local).Ended; got == in {
			t.Errorf("%s is not in: %v", addr, got)
		}
	}
}
