package policy

import (
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/limpetlb/limpet/internal/fielderr"
)

func TestPortSetAgainstScan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// A narrow space of ports makes ranges touch and overlap.
		port := rapid.Uint16Range(1, 40)
		ports := rapid.SliceOfN(port, 0, 5).Draw(t, "ports")
		ranges := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Range[uint16] {
			a, b := port.Draw(t, "a"), port.Draw(t, "b")
			return Range[uint16]{min(a, b), max(a, b)}
		}), 0, 5).Draw(t, "ranges")
		if len(ports)+len(ranges) == 0 {
			return
		}
		op := Op(rapid.IntRange(0, 1).Draw(t, "op"))
		var f fielderr.List
		set := (&PortMatch{Op: op, Ports: ports, Ranges: ranges}).compile(&f, "m")
		if f.Err() != nil {
			t.Fatal(f.Err())
		}
		for p := range uint16(45) {
			in := slices.Contains(ports, p) || slices.ContainsFunc(ranges, func(r Range[uint16]) bool { return r.Begin <= p && p <= r.End })
			if got := set.contains(p); got != (in == (op == IsIn)) {
				t.Fatalf("port %d %v %v %v: %v", p, op, ports, ranges, got)
			}
		}
	})
}

func TestPortsOfARule(t *testing.T) {
	p := mustNetworkSecurity(t, Env{},
		NetworkRule{Name: "vs", Match: NetworkMatch{VSPort: &PortMatch{Ports: []uint16{443}}, ClientPort: &PortMatch{Op: IsNotIn, Ranges: []Range[uint16]{{1024, 65535}}}}, Action: ActionReset})
	for _, c := range []struct {
		client, local uint16
		denied        bool
	}{{1023, 443, true}, {1024, 443, false}, {65535, 443, false}, {1, 80, false}, {0, 443, true}} {
		conn := conn{client: netip.AddrPortFrom(netip.IPv4Unspecified(), c.client), local: netip.AddrPortFrom(netip.IPv4Unspecified(), c.local)}
		if got := p.Evaluate(conn.client, conn.local).Ended; got != c.denied {
			t.Errorf("%+v: %v", c, got)
		}
	}
	tx := newTx("GET", "/")
	if !holds(t, Match{VSPort: &PortMatch{Ports: []uint16{80}}}, tx) || holds(t, Match{VSPort: &PortMatch{Ports: []uint16{81}}}, tx) {
		t.Error("the VS port of a request is the port of Local")
	}
}
