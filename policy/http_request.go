package policy

import (
	"strconv"
	"time"
)

// RequestRule is one rule of an [HTTPRequest] policy.
type RequestRule struct {
	Name       string        // required, unique in the policy, at most 511 bytes of printable text
	Disabled   bool          // true: the constructor checks the rule, which then has no effect
	DryRun     bool          // true: evaluated and counted, but only reported, in Verdict.Monitored
	Match      Match         // the zero value selects every request
	Action     RequestAction // required, unless Log or LogHeaders is set
	Log        bool          // ask for a record of each request on which the rule acts
	LogHeaders bool          // the record has all headers; implies Log
}

// HTTPRequest changes, redirects, answers and routes requests. All enabled
// rules that match apply, in order, until one redirects or answers, which ends
// the request. Matches and templates use the request as received, not as
// earlier rules have changed it.
//
// Apart from its counters it is immutable. It is safe for concurrent use. A nil
// *HTTPRequest has no rules.
type HTTPRequest struct {
	env     Env
	rules   []requestRule
	scratch scratch
}

type requestRule struct {
	ruleHead
	match  compiledMatch
	action any // compiled: *modification, *compiledRedirect or Respond
}

// NewHTTPRequest compiles rules, which it copies. It reports every fault of
// every rule, including disabled ones, as joined [FieldError] values.
func NewHTTPRequest(rules []RequestRule, env Env) (*HTTPRequest, error) {
	p := &HTTPRequest{env: env, rules: make([]requestRule, len(rules))}
	previous := make(map[string]*ruleHead)
	if old := env.Previous.HTTPRequest; old != nil {
		for i := range old.rules {
			previous[old.rules[i].name] = &old.rules[i].ruleHead
		}
	}
	p.env.Previous = Previous{} // or each policy would keep all before it
	c := &compiler{env: &p.env}
	names := make(ruleNames)
	for i := range rules {
		r, compiled := &rules[i], &p.rules[i]
		field := "rules[" + strconv.Itoa(i) + "]"
		names.check(&c.faults, field+".name", r.Name)
		compiled.ruleHead = ruleHead{name: r.Name, disabled: r.Disabled, dryRun: r.DryRun, log: r.Log || r.LogHeaders, logHeaders: r.LogHeaders}
		compiled.inherit(previous[r.Name])
		compiled.match = r.Match.compile(c, field+".match", false)
		if r.Action == nil && compiled.log {
			compiled.action = &modification{match: &compiled.match} // changes nothing: the rule only logs
			continue
		}
		compiled.action = compileRequestAction(c, field+".action", r.Action, &compiled.match)
	}
	if err := c.faults.ErrIn(struct{ Rules []RequestRule }{rules}); err != nil {
		return nil, err
	}
	p.scratch.fields = c.fields
	return p, nil
}

func compileRequestAction(c *compiler, field string, action RequestAction, m *compiledMatch) any {
	switch a := action.(type) {
	case Modify:
		return a.compile(c, field, m)
	case Redirect:
		return a.compile(c, field, m)
	case Respond:
		return a.compile(&c.faults, field)
	case nil:
		c.faults.Addf(field, nil, "a rule needs an action")
	default:
		c.faults.Addf(field, nil, "%T is not an action; give the struct, not a pointer to it", a)
	}
	return nil
}

// requestDecision is the result of all rules that match.
type requestDecision struct {
	verdict Verdict
	changes []change // nil if the request ends
	pool    SwitchPool
	end     ending // its action is ActionNone if the request goes on
}

// Evaluate applies the rules to tx. It tries all rules before it changes
// anything: if one cannot be evaluated because a service fails, the request is
// answered with 500 or, with [Env].FailOpen, goes on unchanged. A request that
// cannot be judged is answered with 400, 414 or 431: see [PathMatch] and [Op].
//
// The verdict names the rule that ended the request, or otherwise the first one
// that changed something; Applied has all that did. If a rule ends the request,
// nothing is changed, but earlier rules that match count as hits. Evaluate does
// not allocate if no rule matches.
func (p *HTTPRequest) Evaluate(tx Transaction) Verdict {
	if p == nil || len(p.rules) == 0 {
		return Verdict{Index: -1}
	}
	s := p.scratch.get()
	s.start(tx)
	d, err := p.decide(s, nil)
	p.scratch.put(s)
	v := &d.verdict
	switch {
	case err != nil:
		p.rules[v.Index].counters.errors.Add(1)
		v.fail(tx, err, p.env.FailOpen)
	case d.end.action != ActionNone:
		v.end(tx, &d.end)
		p.rules[v.Index].counters.hit(time.Now(), v.Dropped)
	case len(d.changes) > 0:
		v.Action = ActionModify
		for i := range d.changes {
			d.changes[i].apply(tx)
		}
		if d.pool.Label != "" {
			tx.SelectLabel(d.pool.Name, d.pool.Label)
		} else if d.pool.Name != "" {
			tx.SelectPool(d.pool.Name, d.pool.Server)
		}
	}
	return *v
}

// Explain describes, rule by rule and for people, what the policy would do with
// tx. The text has the values of headers and cookies that rules compare. It
// counts nothing and does not change tx.
func (p *HTTPRequest) Explain(tx Transaction) string {
	if p == nil {
		return explainNoRule
	}
	x := new(explainer)
	s := p.scratch.get()
	s.start(tx)
	d, err := p.decide(s, x)
	p.scratch.put(s)
	if err == nil && len(d.changes) > 0 {
		x.applied(d.verdict.Applied)
	} else {
		x.decision(d.verdict, d.end, err, p.env.FailOpen)
	}
	return x.String()
}

// decide tries the rules and collects what they do, without doing it.
func (p *HTTPRequest) decide(s *subjects, x *explainer) (requestDecision, error) {
	d := requestDecision{verdict: Verdict{Index: -1}}
	v := &d.verdict
	for i := range p.rules {
		r := &p.rules[i]
		if r.passOver(i, x) {
			continue
		}
		ok, err := matches(r.match.conditions, s, x)
		switch {
		case err != nil && r.dryRun:
			v.monitorError(&r.ruleHead, i, err, x)
			continue
		case err != nil:
			return requestDecision{verdict: v.failed(&r.ruleHead, i)}, err
		case !ok:
			continue
		}
		end, ch, err := r.act(s)
		switch {
		case err != nil:
			r.skip(err, x)
		case r.dryRun:
			v.monitor(&r.ruleHead, i, &end, x)
		case end.action != ActionModify:
			v.decides(&r.ruleHead, i)
			v.asks(&r.ruleHead)
			v.Applied = nil
			return requestDecision{verdict: *v, end: end}, nil
		default:
			v.applies(&r.ruleHead, i)
			if x != nil {
				x.linef("%s", ch.String())
			} else {
				r.counters.hit(time.Now(), false)
			}
			d.changes = append(d.changes, ch)
			if d.pool.Name == "" {
				d.pool = ch.Pool
			}
		}
	}
	return d, nil
}

// act returns how the rule ends the request, or its changes. An error is why
// the rule is skipped.
func (r *requestRule) act(s *subjects) (ending, change, error) {
	switch a := r.action.(type) {
	case *modification:
		ch, err := a.change(s)
		return ending{action: ActionModify}, ch, err
	case *compiledRedirect:
		location, err := a.location(s)
		return ending{action: ActionRedirect, page: a.page, location: location}, change{}, err
	}
	return endingOf(r.action), change{}, nil
}

// Stats returns the counters of all rules, in the order of the rules.
func (p *HTTPRequest) Stats() []RuleStats {
	if p == nil {
		return nil
	}
	stats := make([]RuleStats, len(p.rules))
	for i := range p.rules {
		stats[i] = p.rules[i].counters.snapshot(p.rules[i].name)
	}
	return stats
}
