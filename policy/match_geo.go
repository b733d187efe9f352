package policy

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/limpetlb/limpet/internal/country"
	"github.com/limpetlb/limpet/internal/fielderr"
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

func (m *GeoMatch) compile(f *fielderr.List, field string, env *Env) *geoSet {
	m.Op.checkSet(f, field)
	if env.Geo == nil {
		f.Addf(field, nil, "the policy was given no geo data")
	} else if k, ok := env.Geo.(geoAttributes); ok && !k.Knows(m.Attribute) {
		f.Addf(field+".attribute", m.Attribute, "the geo data has no such attribute")
	}
	if len(m.Values) == 0 {
		f.Addf(field+".values", nil, "missing")
	}
	g := &geoSet{negate: m.Op == IsNotIn, attribute: m.Attribute, env: env}
	for i, v := range m.Values {
		code := strings.ToUpper(v)
		switch instead := country.Instead(code); {
		case v == "":
			f.Addf(fielderr.Index(field+".values", i), nil, "missing")
		case m.Attribute != "" || country.IsCode(code):
		case instead != "":
			f.Addf(fielderr.Index(field+".values", i), v, "not a country code of ISO 3166-1; that is %q", instead)
		default:
			f.Addf(fielderr.Index(field+".values", i), v, "not a country code of ISO 3166-1, such as \"DE\"")
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

func (m *ReputationMatch) compile(f *fielderr.List, field string, env *Env) *reputationSet {
	m.Op.checkSet(f, field)
	if len(m.Kinds) == 0 {
		f.Addf(field+".kinds", nil, "missing")
	}
	if env.Reputations == nil {
		f.Addf(field, nil, "the policy was given no reputations")
		return &reputationSet{}
	}
	for i, kind := range m.Kinds {
		// Ask now, so that an unknown kind is an error of the constructor.
		_, err := env.hasReputation(netip.IPv4Unspecified(), kind)
		if kind == "" {
			f.Addf(fielderr.Index(field+".kinds", i), nil, "missing")
		} else if err != nil {
			f.Add(fielderr.Index(field+".kinds", i), kind, err)
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
