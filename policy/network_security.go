package policy

import (
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
	NetworkAllow NetworkAction = iota + 1 // the connection proceeds
	NetworkDeny                           // the connection is reset
)

// String returns the action in words; "invalid" for a value that is none.
func (a NetworkAction) String() string {
	switch a {
	case NetworkAllow:
		return "allow"
	case NetworkDeny:
		return "deny"
	}
	return "invalid"
}

// NetworkMatch selects connections. Every match that is set must hold; nil
// matches are not looked at, and the zero value selects every connection.
type NetworkMatch struct {
	ClientIP   *IPMatch   // the address of the peer
	VSPort     *PortMatch // the port the client connected to
	ClientPort *PortMatch // the port the client connected from
}

// NetworkRule is one rule of a [NetworkSecurity] policy.
type NetworkRule struct {
	Name     string        // required, unique in the policy, at most 255 bytes of printable text
	Disabled bool          // true: checked at construction, otherwise without any effect
	Match    NetworkMatch  // the zero value selects every connection
	Action   NetworkAction // required
	Log      bool          // ask for a record of each connection the rule decides
}

// NetworkVerdict is the decision about one connection.
type NetworkVerdict struct {
	Rule   string        // the rule that decided or failed; empty when none matched
	Index  int           // its position in the policy, from 0; -1 when none matched
	Action NetworkAction // always NetworkAllow or NetworkDeny
	Log    bool          // the rule asks for a record
	Err    error         // a *RuleError when a service failed; Action then follows Env.FailOpen
}

// Denied reports whether the connection must be reset. A verdict that no
// policy gave, the zero value, is denied.
func (v NetworkVerdict) Denied() bool { return v.Action != NetworkAllow }

// NetworkSecurity decides at accept time which connections may proceed: the
// first enabled rule whose match holds decides, and a connection that no rule
// matches is accepted. It is immutable apart from its counters and safe for
// concurrent use. A nil *NetworkSecurity has no rules.
type NetworkSecurity struct {
	env   Env
	rules []networkRule
}

type networkRule struct {
	NetworkRule
	clientIP           *ipSet
	vsPort, clientPort *portSet
	counters           counters
}

// NewNetworkSecurity compiles rules, which it copies. It reports every fault
// of every rule, disabled ones included, as joined [FieldError] values.
func NewNetworkSecurity(rules []NetworkRule, env Env) (*NetworkSecurity, error) {
	p := &NetworkSecurity{env: env, rules: make([]networkRule, len(rules))}
	var f faults
	names := make(ruleNames)
	for i, r := range rules {
		field := "rules[" + strconv.Itoa(i) + "]"
		names.check(&f, field+".name", r.Name, i)
		if r.Action != NetworkAllow && r.Action != NetworkDeny {
			f.addf(field+".action", "%d is not an action", r.Action)
		}
		c := &p.rules[i]
		c.NetworkRule = r
		if m := r.Match.ClientIP; m != nil {
			c.clientIP = m.compile(&f, field+".match.clientIP", &p.env)
		}
		if m := r.Match.VSPort; m != nil {
			c.vsPort = m.compile(&f, field+".match.vsPort")
		}
		if m := r.Match.ClientPort; m != nil {
			c.clientPort = m.compile(&f, field+".match.clientPort")
		}
		c.Match = NetworkMatch{} // the caller's slices are not kept
	}
	if err := f.join(); err != nil {
		return nil, err
	}
	return p, nil
}

// Evaluate decides about c. It does not allocate unless a service fails.
func (p *NetworkSecurity) Evaluate(c Conn) NetworkVerdict {
	if p != nil {
		client := normalize(c.Client.Addr())
		for i := range p.rules {
			r := &p.rules[i]
			if r.Disabled {
				continue
			}
			ok, err := r.matches(c, client)
			if err != nil {
				return p.fail(i, err)
			}
			if ok {
				r.counters.hit(time.Now(), r.Action == NetworkDeny)
				return NetworkVerdict{Rule: r.Name, Index: i, Action: r.Action, Log: r.Log}
			}
		}
	}
	return NetworkVerdict{Index: -1, Action: NetworkAllow}
}

func (p *NetworkSecurity) fail(i int, err error) NetworkVerdict {
	r := &p.rules[i]
	r.counters.errors.Add(1)
	v := NetworkVerdict{
		Rule: r.Name, Index: i, Action: NetworkDeny, Log: r.Log,
		Err: &RuleError{Rule: r.Name, Index: i, Err: err},
	}
	if p.env.FailOpen {
		v.Action = NetworkAllow
	}
	return v
}

// Stats returns the counters of all rules, in the order of the rules.
func (p *NetworkSecurity) Stats() []RuleStats {
	if p == nil {
		return nil
	}
	stats := make([]RuleStats, len(p.rules))
	for i := range p.rules {
		stats[i] = p.rules[i].counters.snapshot(p.rules[i].Name)
	}
	return stats
}

// matches asks the ports first: they cannot fail and cost least.
func (r *networkRule) matches(c Conn, client netip.Addr) (bool, error) {
	if r.vsPort != nil && !r.vsPort.contains(c.Local.Port()) {
		return false, nil
	}
	if r.clientPort != nil && !r.clientPort.contains(c.Client.Port()) {
		return false, nil
	}
	if r.clientIP == nil {
		return true, nil
	}
	return r.clientIP.contains(client)
}
