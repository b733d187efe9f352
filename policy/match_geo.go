package policy

import (
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/limpetlb/limpet/internal/country"
)

// GeoMatch compares one attribute of the client's location, which [Env].Geo
// finds. An address without a known location is in no list.
type GeoMatch struct {
	Attribute string // a name that Env.Geo knows; empty means the country code
	Op        Op     // IsIn or IsNotIn
	// Values are at least one, none of them empty; case is ignored. Country
	// codes are those of ISO 3166-1 alpha-2, and XK.
	Values []string
}

type geoSet struct {
	negate    bool
	attribute string
	values    []string // folded, sorted
	env       *Env
}

func (m *GeoMatch) compile(f *faults, field string, env *Env) *geoSet {
	m.Op.checkSet(f, field)
	if env.Geo == nil {
		f.addf(field, "the policy was given no geo data")
	} else if k, ok := env.Geo.(geoAttributes); ok && !k.Knows(m.Attribute) {
		f.addf(field+".attribute", "the geo data has no attribute %q", m.Attribute)
	}
	if len(m.Values) == 0 {
		f.addf(field, "no values")
	}
	g := &geoSet{negate: m.Op == IsNotIn, attribute: m.Attribute, env: env}
	for i, v := range m.Values {
		code := strings.ToUpper(v)
		switch instead := country.Instead(code); {
		case v == "":
			f.addf(indexed(field, "values", i), "an empty value")
		case m.Attribute != "" || country.IsCode(code):
		case instead != "":
			f.addf(indexed(field, "values", i), "%q is not a country code of ISO 3166-1; that is %q", v, instead)
		default:
			f.addf(indexed(field, "values", i), "%q is not a country code of ISO 3166-1, such as \"DE\"", v)
		}
		g.values = append(g.values, string(fold(v)))
	}
	slices.Sort(g.values)
	return g
}

// contains reports whether addr, which must be normalized, matches.
func (g *geoSet) contains(addr netip.Addr) (bool, error) {
	if !addr.IsValid() {
		return g.negate, nil
	}
	value, ok, err := g.env.locate(addr, g.attribute)
	if err != nil || !ok {
		return g.negate, err
	}
	_, in := slices.BinarySearch(g.values, string(fold(value)))
	return in != g.negate, nil
}

// ReputationMatch compares the reputation of the client's address, which
// [Env].Reputations finds. IsIn matches if the address has a reputation of any
// of the kinds.
type ReputationMatch struct {
	Op    Op       // IsIn or IsNotIn
	Kinds []string // kinds that Env.Reputations knows; at least one, none empty
}

type reputationSet struct {
	negate bool
	kinds  []string
	env    *Env
}

func (m *ReputationMatch) compile(f *faults, field string, env *Env) *reputationSet {
	m.Op.checkSet(f, field)
	if len(m.Kinds) == 0 {
		f.addf(field, "no kinds")
	}
	if env.Reputations == nil {
		f.addf(field, "the policy was given no reputations")
		return &reputationSet{}
	}
	for i, kind := range m.Kinds {
		// Ask now, so that an unknown kind is an error of the constructor.
		_, err := env.hasReputation(netip.IPv4Unspecified(), kind)
		if kind == "" {
			err = errors.New("an empty kind")
		}
		if err != nil {
			f.add(indexed(field, "kinds", i), err)
		}
	}
	return &reputationSet{negate: m.Op == IsNotIn, kinds: slices.Clone(m.Kinds), env: env}
}

func (r *reputationSet) contains(addr netip.Addr) (bool, error) {
	if !addr.IsValid() {
		return r.negate, nil
	}
	for _, kind := range r.kinds {
		has, err := r.env.hasReputation(addr, kind)
		if err != nil {
			return false, &reputationError{kind, err}
		}
		if has {
			return !r.negate, nil
		}
	}
	return r.negate, nil
}

// reputationError names the kind of reputation that could not be found.
type reputationError struct {
	kind string
	err  error
}

func (e *reputationError) Error() string {
	return "reputation " + strconv.Quote(e.kind) + ": " + e.err.Error()
}
func (e *reputationError) Unwrap() error { return e.err }
