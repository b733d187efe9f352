package policy

import (
	"errors"
	"strconv"
	"sync"
	"time"
)

// SecurityRule is one rule of an [HTTPSecurity] policy.
type SecurityRule struct {
	Name     string         // required, unique in the policy, at most 511 bytes of printable text
	Disabled bool           // true: the constructor checks the rule, which then has no effect
	DryRun   bool           // true: evaluated and counted, but only reported, in Verdict.Monitored
	Match    Match          // the zero value selects every request
	Action   SecurityAction // required
	Log      bool           // ask for a record of each request the rule decides
}

// HTTPSecurity decides about requests before anything rewrites them. The first
// enabled rule that matches decides; a request that no rule matches is
// accepted. A [RateLimit] decides only about requests above its rate.
//
// Apart from its counters and token buckets it is immutable. It is safe for
// concurrent use. A nil *HTTPSecurity has no rules.
type HTTPSecurity struct {
	env            Env
	rules          []securityRule
	countsFailures bool // whether any rule does
	scratch        scratch
}

type securityRule struct {
	ruleHead
	match  compiledMatch
	action SecurityAction
}

// scratch reuses the subjects of evaluations.
type scratch struct {
	fields []fieldName
	pool   sync.Pool // of *subjects
}

func (p *scratch) get() *subjects {
	if s, ok := p.pool.Get().(*subjects); ok {
		return s
	}
	return &subjects{fields: make([]fieldTexts, len(p.fields))}
}

func (p *scratch) put(s *subjects) {
	if s.reset() {
		p.pool.Put(s)
	}
}

// NewHTTPSecurity compiles rules, which it copies. It reports every fault of
// every rule, including disabled ones, as joined [FieldError] values.
func NewHTTPSecurity(rules []SecurityRule, env Env) (*HTTPSecurity, error) {
	p := &HTTPSecurity{env: env, rules: make([]securityRule, len(rules))}
	previous := make(map[string]*securityRule)
	if old := env.Previous.HTTPSecurity; old != nil {
		for i := range old.rules {
			previous[old.rules[i].name] = &old.rules[i]
		}
	}
	p.env.Previous = Previous{} // or each policy would keep all before it
	c := &compiler{env: &p.env}
	names := make(ruleNames)
	for i, r := range rules {
		field := "rules[" + strconv.Itoa(i) + "]"
		names.check(&c.faults, field+".name", r.Name)
		// Accepting wrongly is worse than refusing wrongly: see PathMatch.
		_, every := r.Action.(Allow)
		compiled := &p.rules[i]
		compiled.ruleHead = ruleHead{name: r.Name, disabled: r.Disabled, dryRun: r.DryRun, log: r.Log}
		compiled.match = r.Match.compile(c, field+".match", every)
		compiled.action = compileSecurityAction(c, field+".action", r.Action)
		compiled.takeOver(previous[r.Name])
		limit, ok := compiled.action.(*compiledLimit)
		p.countsFailures = p.countsFailures || ok && limit.CountFailures
	}
	if err := c.faults.ErrIn(struct{ Rules []SecurityRule }{rules}); err != nil {
		return nil, err
	}
	p.scratch.fields = c.fields
	return p, nil
}

func (r *securityRule) takeOver(old *securityRule) {
	if old == nil {
		r.inherit(nil)
		return
	}
	r.inherit(&old.ruleHead)
	limit, ok := r.action.(*compiledLimit)
	oldLimit, wasLimit := old.action.(*compiledLimit)
	if ok && wasLimit {
		limit.takeOver(oldLimit)
	}
}

// Evaluate decides about tx and enforces the decision: with at most one call of
// Reply or Close, after which the verdict says Ended. If a service fails, the
// request is answered with 500 unless [Env].FailOpen is set. A request that
// cannot be judged is answered with 400, 414 or 431: see [PathMatch] and [Op].
// Evaluate does not allocate if no rule matches.
func (p *HTTPSecurity) Evaluate(tx Transaction) Verdict {
	if p == nil || len(p.rules) == 0 {
		return Verdict{Index: -1}
	}
	s := p.scratch.get()
	s.start(tx)
	v, end, err := p.decide(s, nil)
	p.scratch.put(s)
	if v.Index < 0 {
		return v
	}
	r := &p.rules[v.Index]
	if err != nil {
		r.counters.errors.Add(1)
		v.fail(tx, err, p.env.FailOpen)
		return v
	}
	v.end(tx, &end)
	r.counters.hit(time.Now(), v.Dropped)
	return v
}

// Failed reports a failed request, which Evaluate accepted, to the rules that
// count failures ([RateLimit].CountFailures). The caller decides which requests
// have failed, such as those with a status of 400 or more. Failed does not
// change tx, and costs nothing if there are no such rules.
func (p *HTTPSecurity) Failed(tx Transaction) {
	if p == nil || !p.countsFailures {
		return
	}
	s := p.scratch.get()
	defer p.scratch.put(s)
	s.start(tx)
	for i := range p.rules {
		r := &p.rules[i]
		limit, ok := r.action.(*compiledLimit)
		counts := ok && limit.CountFailures
		_, accepts := r.action.(Allow)
		if r.disabled || !counts && (!accepts || r.dryRun) {
			continue
		}
		ok, err := matches(r.match.conditions, s, nil)
		switch {
		case err != nil:
			return // Evaluate did not try later rules, either
		case ok && accepts:
			return
		case ok:
			if hash, err := limit.key(s); err == nil {
				limit.limiter.table.Fail(hash, limit.limiter.now())
			}
		}
	}
}

// Explain describes, rule by rule and for people, how the policy would decide
// about tx. The text has the values of headers and cookies that rules compare.
// It counts nothing, takes no tokens and does not change tx.
func (p *HTTPSecurity) Explain(tx Transaction) string {
	if p == nil {
		return explainNoRule
	}
	x := new(explainer)
	s := p.scratch.get()
	s.start(tx)
	v, end, err := p.decide(s, x)
	p.scratch.put(s)
	x.decision(v, end, err, p.env.FailOpen)
	return x.String()
}

// decide finds the rule that decides, or that failed, and how it ends the
// request. The verdict has the rule, and the outcomes of rules in dry run.
func (p *HTTPSecurity) decide(s *subjects, x *explainer) (Verdict, ending, error) {
	v := Verdict{Index: -1}
	for i := range p.rules {
		r := &p.rules[i]
		if r.passOver(i, x) {
			continue
		}
		end, ok, err := r.try(s, x)
		switch {
		case err != nil && r.dryRun:
			v.monitorError(&r.ruleHead, i, err, x)
		case err != nil:
			return v.failed(&r.ruleHead, i), ending{}, err
		case ok && (r.dryRun || end.action == ActionReport):
			v.monitor(&r.ruleHead, i, &end, x)
		case ok:
			v.decides(&r.ruleHead, i)
			v.asks(&r.ruleHead)
			return v, end, nil
		}
	}
	return v, ending{}, nil
}

// try reports whether the rule decides, and how it would end the request.
func (r *securityRule) try(s *subjects, x *explainer) (ending, bool, error) {
	ok, err := matches(r.match.conditions, s, x)
	if !ok || err != nil {
		return ending{}, false, err
	}
	switch a := r.action.(type) {
	case RedirectToHTTPS:
		location, ok := a.location(s.http)
		if ok = ok && s.protocol() == HTTP; !ok {
			r.skip(errNoHTTPS, x)
		}
		return ending{action: ActionRedirect, page: redirectPages[a.Status], location: location}, ok, nil
	case *compiledLimit:
		ok, err := a.allows(s, x != nil)
		if err != nil {
			return ending{}, false, err
		}
		if ok {
			if x == nil {
				r.counters.allowed.Add(1)
			} else {
				x.linef("within the rate limit")
			}
			return ending{}, false, nil
		}
		if x == nil {
			r.counters.limited.Add(1)
		} else {
			x.linef("above the rate limit")
		}
		return a.ending(s), true, nil
	}
	return endingOf(r.action), true, nil
}

var errNoHTTPS = errors.New("the request came over https, or its host is not valid in a URL")

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
