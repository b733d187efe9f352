package policy

import (
	"strings"

	"github.com/limpetlb/limpet/internal/fielderr"
)

// PolicySet is a named collection of rules of the three HTTP policies, so that
// several teams can each maintain their own. Virtual services may share sets.
type PolicySet struct {
	Name         string         // required, unique among the sets composed, without "/"
	HTTPSecurity []SecurityRule // for [NewHTTPSecurity]
	HTTPRequest  []RequestRule  // for [NewHTTPRequest]
	HTTPResponse []ResponseRule // for [NewHTTPResponse]
}

// ComposeSets returns the rules of sets as one set without a name: all security
// rules, in the order of the sets and of the rules in each, and in the same way
// all request rules and all response rules. Each rule gets the name "set/rule",
// which verdicts and counters show. ComposeSets does not change the sets.
//
// It reports all faults of the names of sets, as joined [FieldError] values.
// The constructors of the policies report those of the rules; their indexes are
// those in the composed set.
func ComposeSets(sets ...PolicySet) (PolicySet, error) {
	var all PolicySet
	var f fielderr.List
	names := make(map[string]int)
	for i, set := range sets {
		field := fielderr.Index("sets", i) + ".name"
		first, dup := names[set.Name]
		switch {
		case fielderr.CheckName(set.Name, fielderr.MaxName) != nil || strings.Contains(set.Name, "/"):
			f.Addf(field, set.Name, "not a name of at most %d bytes of printable text without a slash", fielderr.MaxName)
		case dup:
			f.Addf(field, set.Name, "already the name of sets[%d]", first)
		default:
			names[set.Name] = i
		}
		name := func(rule string) string {
			if rule == "" {
				return "" // which the constructor refuses
			}
			return set.Name + "/" + rule
		}
		for _, r := range set.HTTPSecurity {
			r.Name = name(r.Name)
			all.HTTPSecurity = append(all.HTTPSecurity, r)
		}
		for _, r := range set.HTTPRequest {
			r.Name = name(r.Name)
			all.HTTPRequest = append(all.HTTPRequest, r)
		}
		for _, r := range set.HTTPResponse {
			r.Name = name(r.Name)
			all.HTTPResponse = append(all.HTTPResponse, r)
		}
	}
	if err := f.Err(); err != nil {
		return PolicySet{}, err
	}
	return all, nil
}
