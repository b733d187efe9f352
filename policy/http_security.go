package policy

import (
	"errors"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// SecurityRule is one rule of an [HTTPSecurity] policy.
type SecurityRule struct {
	Name     string         // required, unique in the policy, at most 255 bytes of printable text
	Disabled bool           // true: checked at construction, otherwise without any effect
	Match    Match          // the zero value selects every request
	Action   SecurityAction // required
	Log      bool           // ask for a record of each request the rule decides
}

// HTTPSecurity decides per request, before anything is rewritten: the first
// enabled rule whose match holds decides, and a request that no rule matches
// is accepted. It is immutable apart from its counters and safe for
// concurrent use. A nil *HTTPSecurity has no rules.
type HTTPSecurity struct {
	env    Env
	rules  []securityRule
	fields []fieldName
	pool   sync.Pool // of *subjects
}

type securityRule struct {
	name          string
	disabled, log bool
	conditions    []condition // all must hold
	action        SecurityAction
	counters      counters
}

// NewHTTPSecurity compiles rules, of which it keeps copies. It reports every
// fault of every rule, disabled ones included, as joined [FieldError] values.
func NewHTTPSecurity(rules []SecurityRule, env Env) (*HTTPSecurity, error) {
	p := &HTTPSecurity{env: env, rules: make([]securityRule, len(rules))}
	c := &compiler{env: &p.env}
	names := make(ruleNames)
	for i, r := range rules {
		field := "rules[" + strconv.Itoa(i) + "]"
		names.check(&c.faults, field+".name", r.Name, i)
		// To accept wrongly is worse than to refuse wrongly: see PathMatch.
		_, every := r.Action.(Allow)
		compiled := &p.rules[i]
		compiled.name, compiled.disabled, compiled.log = r.Name, r.Disabled, r.Log
		compiled.conditions = r.Match.compile(c, field+".match", every)
		compiled.action = compileSecurityAction(&c.faults, field+".action", r.Action)
	}
	if err := c.join(); err != nil {
		return nil, err
	}
	p.fields = c.fields
	p.pool.New = func() any { return &subjects{fields: make([]fieldTexts, len(p.fields))} }
	return p, nil
}

// Evaluate decides about tx and acts on it: at most one call of Reply or
// Close, after which the verdict says Ended. When a service fails, the request
// is answered with 500 unless [Env].FailOpen is set. When the request itself
// cannot be judged, it is answered with 400 ([ErrPathNUL]), 414
// ([ErrURITooLong]) or 431 ([ErrFieldTooLong]). Evaluate does not allocate
// when no rule matches.
func (p *HTTPSecurity) Evaluate(tx Transaction) Verdict {
	if p == nil || len(p.rules) == 0 {
		return Verdict{Index: -1}
	}
	s := p.pool.Get().(*subjects)
	s.start(tx)
	i, location, err := p.decide(s)
	if s.reset() {
		p.pool.Put(s)
	}
	if i < 0 {
		return Verdict{Index: -1}
	}
	r := &p.rules[i]
	v := Verdict{Rule: r.name, Index: i, Log: r.log}
	if err != nil {
		r.counters.errors.Add(1)
		p.fail(&v, tx, err)
		return v
	}
	v.Action, v.Status = outcome(r.action)
	v.Ended = v.Action != ActionAllow
	v.Dropped = v.Action == ActionClose || v.Action == ActionReset || v.Status >= 400
	r.counters.hit(time.Now(), v.Dropped)
	perform(r.action, tx, location)
	return v
}

// decide finds the rule that decides, or that failed; -1 when there is none.
// The location belongs to a rule that redirects.
func (p *HTTPSecurity) decide(s *subjects) (rule int, location string, err error) {
	for i := range p.rules {
		r := &p.rules[i]
		if r.disabled {
			continue
		}
		ok, err := r.matches(s)
		if err != nil {
			return i, "", err
		}
		if !ok {
			continue
		}
		if redirect, is := r.action.(RedirectToHTTPS); is {
			if location, ok = redirect.location(s.http); !ok {
				continue
			}
		}
		return i, location, nil
	}
	return -1, "", nil
}

func (r *securityRule) matches(s *subjects) (bool, error) {
	for _, holds := range r.conditions {
		if ok, err := holds(s); !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

// fail completes the verdict of a rule that could not be evaluated.
func (p *HTTPSecurity) fail(v *Verdict, tx Transaction, err error) {
	v.Err = &RuleError{Rule: v.Rule, Index: v.Index, Err: err}
	status := http.StatusInternalServerError
	switch {
	case errors.Is(err, ErrPathNUL):
		status = http.StatusBadRequest
	case errors.Is(err, ErrURITooLong):
		status = http.StatusRequestURITooLong
	case errors.Is(err, ErrFieldTooLong):
		status = http.StatusRequestHeaderFieldsTooLarge
	case p.env.FailOpen:
		return
	}
	v.Action, v.Status, v.Ended, v.Dropped = ActionFail, status, true, true
	perform(builtinPage(status), tx, "")
}

// Stats returns the counters of all rules, in the order of the rules.
func (p *HTTPSecurity) Stats() []RuleStats {
	if p == nil {
		return nil
	}
	stats := make([]RuleStats, len(p.rules))
	for i := range p.rules {
		stats[i] = p.rules[i].counters.snapshot(p.rules[i].name)
	}
	return stats
}
