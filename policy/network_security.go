package policy

import (
	"fmt"
	"net/netip"
	"strconv"
	"time"
)

// Conn is what a network security policy knows of a connection when it is
// accepted: two addresses.
type Conn struct {
	Client netip.AddrPort // the peer
	Local  netip.AddrPort // the address and port the peer connected to
}

// NetworkAction is what a network security rule does with a connection. The
// zero value is no action and is refused in a rule.
type NetworkAction uint8

// The actions of network security rules.
const (
	NetworkAllow     NetworkAction = iota + 1 // the connection proceeds
	NetworkDeny                               // the connection is reset
	NetworkRateLimit                          // the connection proceeds within NetworkRule.Limit; never in a verdict
	NetworkDrop                               // the connection is closed without a reset, nor read; only in a verdict
)

// String returns the action in words; "invalid" for a value that is none.
func (a NetworkAction) String() string {
	switch a {
	case NetworkAllow:
		return "allow"
	case NetworkDeny:
		return "deny"
	case NetworkRateLimit:
		return "rate limit"
	case NetworkDrop:
		return "drop"
	}
	return "invalid"
}

// NetworkMatch selects connections. Every match that is set must hold; nil
// matches are not looked at, and the zero value selects every connection.
type NetworkMatch struct {
	ClientIP   *IPMatch         // the address of the peer
	VSPort     *PortMatch       // the port the client connected to
	ClientPort *PortMatch       // the port the client connected from
	Geo        *GeoMatch        // where the peer is
	Reputation *ReputationMatch // what the peer is known for
}

// NetworkRule is one rule of a [NetworkSecurity] policy.
type NetworkRule struct {
	Name     string        // required, unique in the policy, at most 511 bytes of printable text
	Disabled bool          // true: checked at construction, otherwise without any effect
	DryRun   bool          // true: evaluated and counted, but what it would do stands only in NetworkVerdict.Monitored
	Match    NetworkMatch  // the zero value selects every connection
	Action   NetworkAction // required
	Limit    *NetworkLimit // required for NetworkRateLimit, nil for other actions
	Log      bool          // ask for a record of each connection the rule decides
	// Age is how long the rule has an effect, from the construction of the
	// first of the policies that had it: see [Env].Previous. 0 means for ever.
	Age time.Duration
}

// NetworkVerdict is the decision about one connection.
type NetworkVerdict struct {
	Rule      string           // the rule that decided or failed; empty when none matched
	Index     int              // its position in the policy, from 0; -1 when none matched
	Action    NetworkAction    // NetworkAllow, NetworkDeny or NetworkDrop
	Limited   bool             // a rate limit was exceeded, and that is why Action is what it is
	Log       bool             // the rule asks for a record
	Monitored []NetworkOutcome // what rules in dry run and limits that only report would have done, in order
	Err       error            // a *RuleError when a service failed; Action then follows Env.FailOpen
}

// NetworkOutcome is what a rule would have done, had it been enforced.
type NetworkOutcome struct {
	Rule    string        // its name
	Index   int           // its position in the policy, from 0
	Action  NetworkAction // NetworkAllow for a limit that only reports
	Limited bool          // a rate limit was exceeded
	Log     bool          // the rule asks for a record
	Err     error         // a *RuleError when the rule could not be evaluated; Action is then what it would have come to
}

// Denied reports whether the connection must be closed: with a reset, unless
// Action is NetworkDrop. A verdict that no policy gave, the zero value, is
// denied.
func (v NetworkVerdict) Denied() bool { return v.Action != NetworkAllow }

// NetworkSecurity decides at accept time which connections may proceed: the
// first enabled rule whose match holds decides, and a connection that no rule
// matches is accepted. It is immutable apart from its counters and buckets and
// safe for concurrent use. A nil *NetworkSecurity has no rules.
type NetworkSecurity struct {
	env   Env
	rules []networkRule
}

type networkRule struct {
	ruleHead
	conditions []networkCondition
	action     NetworkAction
	limit      *networkLimit // nil: none
	age        time.Duration // 0: for ever
	born       time.Time
}

// networkCondition is one compiled match.
type networkCondition struct {
	about string
	holds func(Conn) (bool, error) // of a Conn with a normalized client address
}

// NewNetworkSecurity compiles rules, which it copies. It reports every fault
// of every rule, disabled ones included, as joined [FieldError] values.
func NewNetworkSecurity(rules []NetworkRule, env Env) (*NetworkSecurity, error) {
	p := &NetworkSecurity{env: env, rules: make([]networkRule, len(rules))}
	previous := make(map[string]*networkRule)
	if old := env.Previous.NetworkSecurity; old != nil {
		for i := range old.rules {
			previous[old.rules[i].name] = &old.rules[i]
		}
	}
	p.env.Previous = Previous{} // or each policy would keep all before it
	var f faults
	names := make(ruleNames)
	for i, r := range rules {
		field := "rules[" + strconv.Itoa(i) + "]"
		names.check(&f, field+".name", r.Name, i)
		c := &p.rules[i]
		c.ruleHead = ruleHead{name: r.Name, disabled: r.Disabled, dryRun: r.DryRun, log: r.Log}
		c.action, c.age, c.born = r.Action, r.Age, time.Now()
		switch {
		case r.Action != NetworkAllow && r.Action != NetworkDeny && r.Action != NetworkRateLimit:
			f.addf(field+".action", "%d is not an action", r.Action)
		case r.Action == NetworkRateLimit && r.Limit == nil:
			f.addf(field+".limit", "%q needs a limit", r.Action)
		case r.Action != NetworkRateLimit && r.Limit != nil:
			f.addf(field+".limit", "%q takes no limit", r.Action)
		case r.Limit != nil:
			c.limit = r.Limit.compile(&f, field+".limit")
		}
		c.conditions = r.Match.compile(&f, field+".match", &p.env)
		if r.Age < 0 {
			f.addf(field+".age", "%v is negative", r.Age)
		}
		c.takeOver(previous[r.Name])
	}
	if err := f.join(); err != nil {
		return nil, err
	}
	return p, nil
}

func (r *networkRule) takeOver(old *networkRule) {
	if old == nil {
		r.inherit(nil)
		return
	}
	r.inherit(&old.ruleHead)
	r.born = old.born
	if r.limit != nil && old.limit != nil {
		r.limit.takeOver(old.limit)
	}
}

// compile puts the ports first: they cannot fail and cost least.
func (m *NetworkMatch) compile(f *faults, field string, env *Env) []networkCondition {
	var all []networkCondition
	add := func(about string, holds func(Conn) (bool, error)) { all = append(all, networkCondition{about, holds}) }
	if m := m.VSPort; m != nil {
		ports := m.compile(f, field+".vsPort")
		add(about("VS port", m.Op, m.texts()...), func(c Conn) (bool, error) { return ports.contains(c.Local.Port()), nil })
	}
	if m := m.ClientPort; m != nil {
		ports := m.compile(f, field+".clientPort")
		add(about("client port", m.Op, m.texts()...), func(c Conn) (bool, error) { return ports.contains(c.Client.Port()), nil })
	}
	if m := m.ClientIP; m != nil {
		ips := m.compile(f, field+".clientIP", env)
		add(about("client IP", m.Op, m.texts()...), func(c Conn) (bool, error) { return ips.contains(c.Client.Addr()) })
	}
	if m := m.Geo; m != nil {
		geo := m.compile(f, field+".geo", env)
		add(about("client "+m.Attribute, m.Op, quoted(m.Values, nil)...), func(c Conn) (bool, error) { return geo.contains(c.Client.Addr()) })
	}
	if m := m.Reputation; m != nil {
		reputation := m.compile(f, field+".reputation", env)
		add(about("client reputation", m.Op, m.Kinds...), func(c Conn) (bool, error) { return reputation.contains(c.Client.Addr()) })
	}
	return all
}

// Evaluate decides about c. It does not allocate unless a service fails or a
// rule is in dry run.
func (p *NetworkSecurity) Evaluate(c Conn) NetworkVerdict {
	if p == nil {
		return NetworkVerdict{Index: -1, Action: NetworkAllow}
	}
	v, err := p.decide(c, nil)
	if v.Index < 0 {
		return v
	}
	r := &p.rules[v.Index]
	if err != nil {
		r.counters.errors.Add(1)
		v.Err = &RuleError{Rule: v.Rule, Index: v.Index, Err: err}
		return v
	}
	r.counters.hit(time.Now(), v.Denied())
	return v
}

// Explain tells how the policy would decide about c, rule by rule, in text for
// people. It counts nothing and takes no tokens.
func (p *NetworkSecurity) Explain(c Conn) string {
	x := new(explainer)
	if p == nil {
		p = new(NetworkSecurity)
	}
	v, err := p.decide(c, x)
	switch {
	case v.Index < 0:
		x.WriteString("no rule decides: allow\n")
	case err != nil:
		fmt.Fprintf(x, "rules[%d] %q fails: %v\n", v.Index, v.Rule, v.Action)
	default:
		fmt.Fprintf(x, "rules[%d] %q decides: %v\n", v.Index, v.Rule, v.Action)
	}
	return x.String()
}

// decide finds the rule that decides, or that failed.
func (p *NetworkSecurity) decide(c Conn, x *explainer) (NetworkVerdict, error) {
	c.Client = netip.AddrPortFrom(normalize(c.Client.Addr()), c.Client.Port())
	v := NetworkVerdict{Index: -1, Action: NetworkAllow}
	for i := range p.rules {
		r := &p.rules[i]
		if r.passOver(i, x) {
			continue
		}
		if r.expired() {
			if x != nil {
				x.linef("expired")
			}
			continue
		}
		action, limited, ok, err := r.try(c, x)
		if err != nil {
			action = NetworkDeny
			if p.env.FailOpen {
				action = NetworkAllow
			}
		}
		reported := limited && r.limit.Exceeded == LimitReport
		switch {
		case !ok && err == nil:
		case r.dryRun || reported:
			v.monitor(r, NetworkOutcome{Rule: r.name, Index: i, Action: action, Limited: limited, Log: r.log}, err, x)
		default:
			v.Rule, v.Index, v.Action, v.Limited, v.Log = r.name, i, action, limited, r.log
			return v, err
		}
	}
	return v, nil
}

// try reports whether the rule decides, and how.
func (r *networkRule) try(c Conn, x *explainer) (action NetworkAction, limited, ok bool, err error) {
	for i := range r.conditions {
		ok, err := r.conditions[i].holds(c)
		if x != nil {
			x.network(&r.conditions[i], c, ok, err)
		}
		if !ok || err != nil {
			return 0, false, false, err
		}
	}
	switch {
	case r.limit == nil:
		return r.action, false, true, nil
	case r.limit.allows(r.counters, x):
		return NetworkAllow, false, !r.limit.Continue, nil
	}
	return r.limit.action(), true, true, nil
}

func (r *networkRule) expired() bool { return r.age > 0 && time.Since(r.born) >= r.age }

// monitor notes what a rule would have done. Only an explanation does not
// count it.
func (v *NetworkVerdict) monitor(r *networkRule, o NetworkOutcome, err error, x *explainer) {
	switch {
	case x != nil:
		x.linef("not enforced: would %v", o.Action)
		return
	case err != nil:
		o.Err = &RuleError{o.Rule, o.Index, err}
		r.counters.errors.Add(1)
	default:
		r.counters.would(time.Now(), o.Action != NetworkAllow)
	}
	v.Monitored = append(v.Monitored, o)
}

// Stats returns the counters of all rules, in the order of the rules.
func (p *NetworkSecurity) Stats() []RuleStats {
	if p == nil {
		return nil
	}
	stats := make([]RuleStats, len(p.rules))
	for i := range p.rules {
		stats[i] = p.rules[i].counters.snapshot(p.rules[i].name)
		stats[i].Expired = p.rules[i].expired()
	}
	return stats
}
