package admin

import (
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/policy"
)

// A ruleView is a rule and its counts.
type ruleView struct {
	Policy     string    `json:"policy"`            // "network_security", "http_security", "http_request" or "http_response"
	Index      int       `json:"index"`             // in the policy, from 0
	Name       string    `json:"name"`              // of the rule; may be empty
	Matches    []string  `json:"matches"`           // what it looks at, such as "path"; empty: all
	Action     string    `json:"action"`            // what it does, such as "redirect"
	Disabled   bool      `json:"disabled"`          // it has no effect
	DryRun     bool      `json:"dry_run"`           // it only counts
	Hits       uint64    `json:"hits"`              // connections or requests to which it applied
	Drops      uint64    `json:"drops"`             // hits that were refused
	Errors     uint64    `json:"errors"`            // evaluations that failed
	Skips      uint64    `json:"skips"`             // matches without effect
	Allowed    uint64    `json:"allowed"`           // of a rate limit: matches within it
	Limited    uint64    `json:"limited"`           // of a rate limit: matches above it
	WouldHits  uint64    `json:"would_hits"`        // matches in dry run
	WouldDrops uint64    `json:"would_drops"`       // those that would have been drops
	Expired    bool      `json:"expired"`           // it is older than its age
	LastHit    time.Time `json:"last_hit,omitzero"` // enforced or not; missing: none
}

func listRules(c *call) (any, error) { return listOf(c.rules()), nil }

// rules returns the rules of the service, in the order in which they apply.
func (c *call) rules() []ruleView {
	cfg, st := c.vs.Config(), c.vs.PolicyStats()
	return slices.Concat(
		viewRules("network_security", cfg.NetworkSecurity, st.NetworkSecurity),
		viewRules("http_security", cfg.HTTPSecurity, st.HTTPSecurity),
		viewRules("http_request", cfg.HTTPRequest, st.HTTPRequest),
		viewRules("http_response", cfg.HTTPResponse, st.HTTPResponse),
	)
}

// viewRules makes views of the rules of one policy. An update may come between
// the readings of rules and counts; then only what both have is shown.
func viewRules[R any](kind string, rules []R, counts []policy.RuleStats) (all []ruleView) {
	for i := range min(len(rules), len(counts)) {
		st, rule := counts[i], reflect.ValueOf(rules[i])
		v := ruleView{
			Policy: kind, Index: i, Name: st.Name, Matches: matchesOf(rule.FieldByName("Match")), Action: actionOf(rule),
			Disabled: rule.FieldByName("Disabled").Bool(), DryRun: rule.FieldByName("DryRun").Bool(),
			Hits: st.Hits, Drops: st.Drops, Errors: st.Errors, Skips: st.Skips, Allowed: st.Allowed, Limited: st.Limited,
			WouldHits: st.WouldHits, WouldDrops: st.WouldDrops, Expired: st.Expired, LastHit: utc(st.LastHit),
		}
		all = append(all, v)
	}
	return all
}

// matchesOf returns the names of the conditions of a match, but not the values,
// which may be secret, as in the header with an API key.
func matchesOf(match reflect.Value) (all []string) {
	all = []string{}
	for field, v := range match.Fields() {
		switch {
		case v.IsZero():
		case field.Name == "Request":
			all = append(all, matchesOf(v)...)
		default:
			all = append(all, snake(field.Name))
		}
	}
	return all
}

// actionOf returns what a rule does, in one or a few words.
func actionOf(rule reflect.Value) string {
	action := rule.FieldByName("Action")
	switch {
	case !action.IsValid(): // a response rule
		return "modify"
	case action.Kind() != reflect.Interface:
		return action.Interface().(policy.Action).String()
	case action.IsNil():
		return "none"
	}
	t := action.Elem().Type()
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return strings.ReplaceAll(snake(t.Name()), "_", " ")
}

// snake returns a name as JSON has it: "client_ip" for ClientIP.
func snake(name string) string {
	name = fielderr.Name(name)
	var b strings.Builder
	for i, r := range name {
		if r >= 'A' && r <= 'Z' && i > 0 && name[i-1] >= 'a' && name[i-1] <= 'z' {
			b.WriteByte('_')
		}
		b.WriteRune(r)
	}
	return strings.ToLower(b.String())
}

// A limiterView is something that limits rates.
type limiterView struct {
	Kind    string  `json:"kind"`    // "rule" or "script"
	Name    string  `json:"name"`    // of the rule, or of the limiter for scripts
	Policy  string  `json:"policy"`  // of the rule; empty for scripts
	Allowed *uint64 `json:"allowed"` // within the limit; null if it is not counted
	Limited *uint64 `json:"limited"` // above the limit; null if it is not counted
}

func listLimiters(c *call) (any, error) {
	var all []limiterView
	for _, r := range c.rules() {
		if r.Action == "rate limit" || r.Allowed+r.Limited > 0 {
			all = append(all, limiterView{"rule", r.Name, r.Policy, &r.Allowed, &r.Limited})
		}
	}
	cfg := c.vs.Config()
	for _, name := range sortedKeys(cfg.RateLimiters) {
		all = append(all, limiterView{Kind: "script", Name: name})
	}
	return listOf(all), nil
}
