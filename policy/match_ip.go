package policy

import (
	"errors"
	"net/netip"
	"strconv"

	"github.com/gaissmai/bart"
	"go4.org/netipx"

	"github.com/limpetlb/limpet/internal/fielderr"
)

// IPMatch compares an address with the union of its lists. At least one list
// must have an entry.
//
// IPv4-mapped IPv6 addresses are treated as IPv4, in the lists and in the
// address compared: 10.0.0.0/8 and ::ffff:10.0.0.0/104 are the same prefix. An
// IPv6 prefix or range that includes the mapped addresses, such as ::/0, does
// not contain IPv4 addresses. Translated forms (NAT64, 6to4) are ordinary IPv6.
// Host bits of a prefix are ignored. Zones are refused in the lists and removed
// from the address compared. An invalid address, such as that of a client on a
// Unix socket, is in no list.
type IPMatch struct {
	Op       Op                  // IsIn or IsNotIn
	Addrs    []netip.Addr        // single addresses
	Prefixes []netip.Prefix      // networks
	Ranges   []Range[netip.Addr] // ranges, both ends included
	Groups   []string            // names of groups in [Env].IPGroups
}

// ipSet is the compiled form of an IPMatch.
type ipSet struct {
	negate bool
	inline *bart.Lite // nil: groups only
	groups []string
	env    *Env
}

// contains reports whether addr, which must be normalized, matches. It asks
// groups only if no inline value decides.
func (s *ipSet) contains(addr netip.Addr) (bool, error) {
	if !addr.IsValid() {
		return s.negate, nil
	}
	if s.inline != nil && s.inline.Contains(addr) {
		return !s.negate, nil
	}
	for _, g := range s.groups {
		ok, err := s.env.inGroup(g, addr)
		if err != nil {
			return false, &groupError{g, err}
		}
		if ok {
			return !s.negate, nil
		}
	}
	return s.negate, nil
}

// groupError names the group whose look-up failed.
type groupError struct {
	group string
	err   error
}

func (e *groupError) Error() string {
	return "IP group " + strconv.Quote(e.group) + ": " + e.err.Error()
}
func (e *groupError) Unwrap() error { return e.err }

// normalize returns the form of an address that is compared.
func normalize(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

var (
	errInvalidAddr   = errors.New("not a valid IP address")
	errInvalidPrefix = errors.New("not a valid IP prefix")
	errZone          = errors.New("an address with a zone cannot be matched")
)

func (m *IPMatch) compile(f *fielderr.List, field string, env *Env) *ipSet {
	m.Op.checkSet(f, field)
	s := &ipSet{negate: m.Op == IsNotIn, env: env}
	if len(m.Addrs)+len(m.Prefixes)+len(m.Ranges)+len(m.Groups) == 0 {
		f.Addf(field, nil, "no addrs, prefixes, ranges or groups")
	}
	if len(m.Addrs)+len(m.Prefixes)+len(m.Ranges) > 0 {
		s.inline = new(bart.Lite)
	}
	for i, a := range m.Addrs {
		a, err := checkAddr(a)
		if err != nil {
			f.Add(fielderr.Index(field+".addrs", i), addrValue(a), err)
			continue
		}
		s.inline.Insert(netip.PrefixFrom(a, a.BitLen()))
	}
	for i, p := range m.Prefixes {
		if !p.IsValid() {
			f.Add(fielderr.Index(field+".prefixes", i), nil, errInvalidPrefix)
			continue
		}
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		s.inline.Insert(p.Masked())
	}
	for i, r := range m.Ranges {
		at := fielderr.Index(field+".ranges", i)
		begin, err1 := checkAddr(r.Begin)
		if err1 != nil {
			f.Add(at+".begin", addrValue(r.Begin), err1)
		}
		end, err2 := checkAddr(r.End)
		if err2 != nil {
			f.Add(at+".end", addrValue(r.End), err2)
		}
		switch {
		case err1 != nil || err2 != nil:
		case begin.Is4() != end.Is4():
			f.Addf(at, nil, "%v-%v mixes IPv4 and IPv6", r.Begin, r.End)
		case end.Less(begin):
			f.Addf(at, nil, "%v-%v begins after its end", r.Begin, r.End)
		default:
			for _, p := range netipx.IPRangeFrom(begin, end).Prefixes() {
				s.inline.Insert(p)
			}
		}
	}
	for i, g := range m.Groups {
		at := fielderr.Index(field+".groups", i)
		if env.IPGroups == nil {
			f.Addf(at, g, "the policy was given no IP groups")
			continue
		}
		// Ask now, so that a missing group is an error of the constructor.
		if _, err := env.inGroup(g, netip.IPv4Unspecified()); err != nil {
			f.Add(at, g, err)
			continue
		}
		s.groups = append(s.groups, g)
	}
	return s
}

// addrValue is an address as the value of a fault; nil if it is invalid.
func addrValue(a netip.Addr) any {
	if !a.IsValid() {
		return nil
	}
	return a
}

func checkAddr(a netip.Addr) (netip.Addr, error) {
	switch {
	case !a.IsValid():
		return a, errInvalidAddr
	case a.Zone() != "":
		return a, errZone
	}
	return a.Unmap(), nil
}
