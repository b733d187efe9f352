package policy

import (
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"github.com/limpetlb/limpet/internal/bounds"
	"github.com/limpetlb/limpet/internal/fielderr"
)

// NetworkMatch selects connections. Every part that is set must match; nil
// parts are ignored, and the zero value selects every connection.
type NetworkMatch struct {
	ClientIP   *IPMatch         // the address of the peer
	VSPort     *PortMatch       // the port the client connected to
	ClientPort *PortMatch       // the port the client connected from
	Geo        *GeoMatch        // the location of the peer
	Reputation *ReputationMatch // the reputation of the peer
}

// NetworkRule is one rule of a [NetworkSecurity] policy.
type NetworkRule struct {
	Name     string        // required, unique in the policy, at most 511 bytes of printable text
	Disabled bool          // true: the constructor checks the rule, which then has no effect
	DryRun   bool          // true: evaluated and counted, but only reported, in Verdict.Monitored
	Match    NetworkMatch  // the zero value selects every connection
	Action   Action        // ActionAllow, ActionReset or ActionRateLimit; required
	Limit    *NetworkLimit // required for ActionRateLimit, nil for other actions
	Log      bool          // ask for a record of each connection the rule decides
	// Age is how long the rule has an effect, from the construction of the
	// first policy that had it: see [Env].Previous. 0 means without limit.
	Age time.Duration `min:"0s"`
}

// NetworkSecurity decides which connections may proceed when they are accepted.
// The first enabled rule that matches decides; a connection that no rule
// matches is accepted. Apart from its counters and token buckets it is
// immutable. It is safe for concurrent use. A nil *NetworkSecurity has no
// rules.
type NetworkSecurity struct {
	env   Env
	rules []networkRule
}

type networkRule struct {
	ruleHead
	conditions []networkCondition
	action     Action
	limit      *networkLimit // nil: none
	age        time.Duration // 0: without limit
	since      time.Time     // when the first policy that had the rule was constructed
}

// conn is a connection at the time it is accepted.
type conn struct {
	client netip.AddrPort // the peer
	local  netip.AddrPort // the address and port that the peer connected to
}

// networkCondition is one compiled match.
type networkCondition struct {
	about string
	holds func(conn) (bool, error) // of a conn whose client address is normalized
}

// NewNetworkSecurity compiles rules, which it copies. It reports every fault of
// every rule, including disabled ones, as joined [FieldError] values.
func NewNetworkSecurity(rules []NetworkRule, env Env) (*NetworkSecurity, error) {
	p := &NetworkSecurity{env: env, rules: make([]networkRule, len(rules))}
	previous := make(map[string]*networkRule)
	if old := env.Previous.NetworkSecurity; old != nil {
		for i := range old.rules {
			previous[old.rules[i].name] = &old.rules[i]
		}
	}
	p.env.Previous = Previous{} // or each policy would keep all before it
	var f fielderr.List
	names := make(ruleNames)
	for i, r := range rules {
		field := "rules[" + strconv.Itoa(i) + "]"
		names.check(&f, field+".name", r.Name)
		c := &p.rules[i]
		c.ruleHead = ruleHead{name: r.Name, disabled: r.Disabled, dryRun: r.DryRun, log: r.Log}
		c.action, c.age, c.since = r.Action, r.Age, time.Now()
		switch {
		case r.Action == ActionNone:
			f.Addf(field+".action", nil, "a rule needs an action")
		case r.Action != ActionAllow && r.Action != ActionReset && r.Action != ActionRateLimit:
			f.Addf(field+".action", r.Action, "not one of %v, %v, %v", ActionAllow, ActionReset, ActionRateLimit)
		case r.Action == ActionRateLimit && r.Limit == nil:
			f.Addf(field+".limit", nil, "%q needs a limit", r.Action)
		case r.Action != ActionRateLimit && r.Limit != nil:
			f.Addf(field+".limit", nil, "%q takes no limit", r.Action)
		case r.Limit != nil:
			c.limit = r.Limit.compile(&f, field+".limit")
		}
		c.conditions = r.Match.compile(&f, field+".match", &p.env)
		bounds.Check(field, r, &f)
		c.takeOver(previous[r.Name])
	}
	if err := f.ErrIn(struct{ Rules []NetworkRule }{rules}); err != nil {
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
	r.since = old.since
	if r.limit != nil && old.limit != nil {
		r.limit.takeOver(old.limit)
	}
}

// compile puts the ports first: they cannot fail and cost least.
func (m *NetworkMatch) compile(f *fielderr.List, field string, env *Env) []networkCondition {
	var all []networkCondition
	add := func(about string, holds func(conn) (bool, error)) { all = append(all, networkCondition{about, holds}) }
	if m := m.VSPort; m != nil {
		ports := m.compile(f, field+".vsPort")
		add(about("VS port", m.Op, m.texts()...), func(c conn) (bool, error) { return ports.contains(c.local.Port()), nil })
	}
	if m := m.ClientPort; m != nil {
		ports := m.compile(f, field+".clientPort")
		add(about("client port", m.Op, m.texts()...), func(c conn) (bool, error) { return ports.contains(c.client.Port()), nil })
	}
	if m := m.ClientIP; m != nil {
		ips := m.compile(f, field+".clientIP", env)
		add(about("client IP", m.Op, m.texts()...), func(c conn) (bool, error) { return ips.contains(c.client.Addr()) })
	}
	if m := m.Geo; m != nil {
		geo := m.compile(f, field+".geo", env)
		add(about("client "+m.Attribute, m.Op, quoted(m.Values, nil)...), func(c conn) (bool, error) { return geo.contains(c.client.Addr()) })
	}
	if m := m.Reputation; m != nil {
		reputation := m.compile(f, field+".reputation", env)
		add(about("client reputation", m.Op, m.Kinds...), func(c conn) (bool, error) { return reputation.contains(c.client.Addr()) })
	}
	return all
}

// Evaluate decides about the connection of a client, the peer, to a local
// address. If the verdict says Ended, the caller must close the connection:
// with a reset if Action is ActionReset, without if it is ActionClose. If a
// service fails, Action is ActionReset, or ActionNone with [Env].FailOpen.
//
// Evaluate does not allocate unless a service fails or a rule is in dry run.
func (p *NetworkSecurity) Evaluate(client, local netip.AddrPort) Verdict {
	if p == nil {
		return Verdict{Index: -1}
	}
	v, err := p.decide(conn{client, local}, nil)
	if v.Index < 0 {
		return v
	}
	v.Dropped = dropped(v.Action, 0)
	v.Ended = v.Dropped
	r := &p.rules[v.Index]
	if err != nil {
		r.counters.errors.Add(1)
		v.Err = &RuleError{Rule: v.Rule, Index: v.Index, Err: err}
		return v
	}
	r.counters.hit(time.Now(), v.Dropped)
	return v
}

// Explain describes, rule by rule and for people, how the policy would decide
// about the connection of a client to a local address. It counts nothing and
// takes no tokens.
func (p *NetworkSecurity) Explain(client, local netip.AddrPort) string {
	x := new(explainer)
	if p == nil {
		p = new(NetworkSecurity)
	}
	v, err := p.decide(conn{client, local}, x)
	switch {
	case v.Index < 0:
		x.WriteString("no rule decides: the connection is accepted\n")
	case err != nil && p.env.FailOpen:
		fmt.Fprintf(x, "rules[%d] %q fails open: the connection is accepted\n", v.Index, v.Rule)
	case err != nil:
		fmt.Fprintf(x, "rules[%d] %q fails: %v\n", v.Index, v.Rule, v.Action)
	default:
		fmt.Fprintf(x, "rules[%d] %q decides: %v\n", v.Index, v.Rule, v.Action)
	}
	return x.String()
}

// decide finds the rule that decides, or that failed.
func (p *NetworkSecurity) decide(c conn, x *explainer) (Verdict, error) {
	c.client = netip.AddrPortFrom(normalize(c.client.Addr()), c.client.Port())
	v := Verdict{Index: -1}
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
		switch {
		case err != nil && r.dryRun:
			v.monitorError(&r.ruleHead, i, err, x)
		case ok && (r.dryRun || action == ActionReport):
			v.monitor(&r.ruleHead, i, &ending{action: action, limited: limited}, x)
		case ok || err != nil:
			if err != nil && !p.env.FailOpen {
				action = ActionReset
			}
			v.decides(&r.ruleHead, i)
			v.asks(&r.ruleHead)
			v.Action, v.Limited = action, limited
			return v, err
		}
	}
	return v, nil
}

// try reports whether the rule decides, and how.
func (r *networkRule) try(c conn, x *explainer) (action Action, limited, ok bool, err error) {
	for i := range r.conditions {
		ok, err := r.conditions[i].holds(c)
		if x != nil {
			x.network(&r.conditions[i], c, ok, err)
		}
		if !ok || err != nil {
			return ActionNone, false, false, err
		}
	}
	switch {
	case r.limit == nil:
		return r.action, false, true, nil
	case r.limit.allows(r.counters, x):
		return ActionAllow, false, !r.limit.Continue, nil
	}
	return r.limit.Exceeded, true, true, nil
}

func (r *networkRule) expired() bool { return r.age > 0 && time.Since(r.since) >= r.age }

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
