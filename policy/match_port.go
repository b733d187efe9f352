package policy

import (
	"net/netip"
	"slices"

	"github.com/limpetlb/limpet/internal/fielderr"
)

// Range is a range of addresses, ports or statuses. Both ends belong to it, and
// Begin must not be above End.
type Range[T netip.Addr | uint16 | int] struct {
	Begin, End T // the first and the last value
}

// PortMatch compares a port with the union of its lists. At least one list
// must have an entry; port 0 is refused.
type PortMatch struct {
	Op     Op              // IsIn or IsNotIn
	Ports  []uint16        // single ports
	Ranges []Range[uint16] // ranges, both ends included
}

// portSet is the compiled form of a PortMatch.
type portSet struct {
	negate bool
	ranges []Range[uint16] // sorted and disjoint
}

func (s *portSet) contains(port uint16) bool {
	_, in := slices.BinarySearchFunc(s.ranges, port, func(r Range[uint16], port uint16) int {
		switch {
		case r.End < port:
			return -1
		case r.Begin > port:
			return 1
		}
		return 0
	})
	return in != s.negate
}

func (m *PortMatch) compile(f *fielderr.List, field string) *portSet {
	m.Op.checkSet(f, field)
	if len(m.Ports)+len(m.Ranges) == 0 {
		f.Addf(field, nil, "no ports or ranges")
	}
	all := make([]Range[uint16], 0, len(m.Ports)+len(m.Ranges))
	for i, p := range m.Ports {
		if p == 0 {
			f.Addf(fielderr.Index(field+".ports", i), nil, "port 0 cannot be matched")
		}
		all = append(all, Range[uint16]{p, p})
	}
	for i, r := range m.Ranges {
		switch at := fielderr.Index(field+".ranges", i); {
		case r.Begin == 0:
			f.Addf(at+".begin", nil, "port 0 cannot be matched")
		case r.Begin > r.End:
			f.Addf(at, nil, "%d-%d begins after its end", r.Begin, r.End)
		}
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b Range[uint16]) int { return int(a.Begin) - int(b.Begin) })
	s := &portSet{negate: m.Op == IsNotIn}
	for _, r := range all {
		if n := len(s.ranges); n > 0 && r.Begin <= s.ranges[n-1].End {
			s.ranges[n-1].End = max(s.ranges[n-1].End, r.End)
			continue
		}
		s.ranges = append(s.ranges, r)
	}
	return s
}
