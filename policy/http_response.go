package policy

import (
	"net/http"
	"strconv"
	"time"
)

// ResponseRule is one rule of an [HTTPResponse] policy. It must have edits or
// rewrite the Location.
type ResponseRule struct {
	Name       string           // required, unique in the policy, at most 511 bytes of printable text
	Disabled   bool             // true: the constructor checks the rule, which then has no effect
	DryRun     bool             // true: evaluated and counted, but only reported, in Verdict.Monitored
	Match      ResponseMatch    // the zero value selects every response
	Edits      []Edit           // applied in this order
	Location   *RewriteLocation // applied after the edits; nil: the Location stays as it is
	Log        bool             // ask for a record of each request to whose response the rule applies
	LogHeaders bool             // the record has all headers; implies Log
}

// HTTPResponse changes the responses of servers. All enabled rules that match
// apply, in order. Matches use the request as received and the response before
// the first rule has changed it.
//
// Apart from its counters it is immutable. It is safe for concurrent use. A nil
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

// NewHTTPResponse compiles rules, which it copies. It reports every fault of
// every rule, including disabled ones, as joined [FieldError] values.
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
		names.check(&c.faults, field+".name", r.Name)
		if len(r.Edits) == 0 && r.Location == nil {
			c.faults.Addf(field, nil, "changes nothing")
		}
		compiled.ruleHead = ruleHead{name: r.Name, disabled: r.Disabled, dryRun: r.DryRun, log: r.Log || r.LogHeaders, logHeaders: r.LogHeaders}
		compiled.inherit(previous[r.Name])
		compiled.match = r.Match.compile(c, field+".match")
		compiled.edits = c.edits(field, r.Edits)
		if r.Location != nil {
			compiled.location = r.Location.compile(c, field+".location")
		}
	}
	if err := c.faults.ErrIn(struct{ Rules []ResponseRule }{rules}); err != nil {
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

// Evaluate applies the rules to the response of tx; without a response it does
// nothing. It tries all rules before it changes anything: if one cannot be
// evaluated because a service fails, it calls Reply with 500 or, with
// [Env].FailOpen, leaves the response unchanged. It calls Reply with 502 if a
// header of the response is too long for a regular expression, and with 400,
// 414 or 431 if the request cannot be judged, as [HTTPRequest.Evaluate] does.
//
// The verdict names the first rule that changed something; Applied has all.
// Evaluate does not allocate if no rule matches.
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

// Explain describes, rule by rule and for people, what the policy would do with
// the response of tx. The text has the values of headers and cookies that rules
// compare. It counts nothing and does not change tx.
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
