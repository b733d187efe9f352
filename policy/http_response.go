package policy

import (
	"net/http"
	"strconv"
	"time"
)

// ResponseRule is one rule of an [HTTPResponse] policy. It must edit something
// or rewrite the Location.
type ResponseRule struct {
	Name       string           // required, unique in the policy, at most 511 bytes of printable text
	Disabled   bool             // true: checked at construction, otherwise without any effect
	DryRun     bool             // true: evaluated and counted, but what it would do stands only in Verdict.Monitored
	Match      ResponseMatch    // the zero value selects every response
	Edits      []Edit           // done in this order
	Location   *RewriteLocation // done after the edits; nil: the Location stays as it is
	Log        bool             // ask for a record of each request on whose response the rule acts
	LogHeaders bool             // the record is to have all headers; implies Log
}

// HTTPResponse changes the responses of servers. All enabled rules whose match
// holds act, in order; nothing ends the evaluation. Matches see the request as
// received and the response as it was before the first rule.
//
// It is immutable apart from its counters and safe for concurrent use. A nil
// *HTTPResponse has no rules.
type HTTPResponse struct {
	env     Env
	rules   []responseRule
	scratch scratch
}

type responseRule struct {
	ruleHead
	match    compiledMatch
	edits    []compiledEdit
	location *locationRewrite // nil: it stays as it is
}

// NewHTTPResponse compiles rules, of which it keeps copies. It reports every
// fault of every rule, disabled ones included, as joined [FieldError] values.
func NewHTTPResponse(rules []ResponseRule, env Env) (*HTTPResponse, error) {
	p := &HTTPResponse{env: env, rules: make([]responseRule, len(rules))}
	previous := make(map[string]*ruleHead)
	if old := env.Previous.HTTPResponse; old != nil {
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
		names.check(&c.faults, field+".name", r.Name, i)
		if len(r.Edits) == 0 && r.Location == nil {
			c.addf(field, "changes nothing")
		}
		compiled.ruleHead = ruleHead{name: r.Name, disabled: r.Disabled, dryRun: r.DryRun, log: r.Log || r.LogHeaders, logHeaders: r.LogHeaders}
		compiled.inherit(previous[r.Name])
		compiled.match = r.Match.compile(c, field+".match")
		compiled.edits = c.edits(field, r.Edits)
		if r.Location != nil {
			compiled.location = r.Location.compile(c, field+".location")
		}
	}
	if err := c.join(); err != nil {
		return nil, err
	}
	p.scratch.fields = c.fields
	return p, nil
}

// responseChange is what a rule does to one response.
type responseChange struct {
	rule     *responseRule
	location string // empty: as it is
}

// Evaluate applies the rules to the response of tx; without one it does
// nothing. Nothing is changed before all rules have been looked at: if one
// cannot be evaluated, Reply is called with 500, or with 502 if the cause is
// the response ([errResponseTooLong]), or, with [Env].FailOpen and a cause
// that clients do not choose, the response stays as it is. Causes that they do
// choose are answered as [HTTPRequest.Evaluate] says.
//
// The verdict names the first rule that acted; Applied has all. Evaluate does
// not allocate when no rule matches.
func (p *HTTPResponse) Evaluate(tx Transaction) Verdict {
	if p == nil || len(p.rules) == 0 {
		return Verdict{Index: -1}
	}
	status, header, ok := tx.Response()
	if !ok {
		return Verdict{Index: -1}
	}
	s := p.scratch.get()
	s.start(tx)
	s.status, s.response = status, header
	v, changes, err := p.decide(s, nil)
	p.scratch.put(s)
	if err != nil {
		p.rules[v.Index].counters.errors.Add(1)
		v.fail(tx, err, p.env.FailOpen)
		return v
	}
	if len(changes) > 0 {
		v.Action = ActionModify
		for _, ch := range changes {
			ch.apply(tx, header)
		}
	}
	return v
}

// Explain tells what the policy would do with the response of tx, rule by
// rule, in text for people: values of headers and cookies that rules look at
// are in it. It has no effect on tx and counts nothing.
func (p *HTTPResponse) Explain(tx Transaction) string {
	status, header, ok := tx.Response()
	if p == nil || !ok {
		return explainNoRule
	}
	x := new(explainer)
	s := p.scratch.get()
	s.start(tx)
	s.status, s.response = status, header
	v, changes, err := p.decide(s, x)
	p.scratch.put(s)
	if err == nil && len(changes) > 0 {
		x.applied(v.Applied)
	} else {
		x.decision(v, ending{}, err, p.env.FailOpen)
	}
	return x.String()
}

// decide tries the rules and collects what they do, without doing it.
func (p *HTTPResponse) decide(s *subjects, x *explainer) (Verdict, []responseChange, error) {
	v := Verdict{Index: -1}
	var changes []responseChange
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
			return v.failed(&r.ruleHead, i), nil, err
		case !ok:
			continue
		}
		ch := responseChange{rule: r}
		if r.location != nil {
			ch.location, err = r.location.rewrite(s)
		}
		switch {
		case err != nil:
			r.skip(err, x)
		case r.dryRun:
			v.monitor(&r.ruleHead, i, &ending{action: ActionModify}, x)
		default:
			v.applies(&r.ruleHead, i)
			if x != nil {
				ch.explain(x)
			} else {
				r.counters.hit(time.Now(), false)
			}
			changes = append(changes, ch)
		}
	}
	return v, changes, nil
}

func (ch *responseChange) apply(tx Transaction, h http.Header) {
	for i := range ch.rule.edits {
		ch.rule.edits[i].editResponse(tx, h)
	}
	if ch.location != "" {
		h["Location"] = []string{ch.location}
	}
}

func (ch *responseChange) explain(x *explainer) {
	for i := range ch.rule.edits {
		x.linef("%s", ch.rule.edits[i].String())
	}
	if ch.location != "" {
		x.linef("Location %s", ch.location)
	}
}

// Stats returns the counters of all rules, in the order of the rules.
func (p *HTTPResponse) Stats() []RuleStats {
	if p == nil {
		return nil
	}
	stats := make([]RuleStats, len(p.rules))
	for i := range p.rules {
		stats[i] = p.rules[i].counters.snapshot(p.rules[i].name)
	}
	return stats
}
