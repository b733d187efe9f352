package policy

import "time"

// ruleHead is common to the compiled rules of all policies.
type ruleHead struct {
	name                              string
	disabled, dryRun, log, logHeaders bool
	counters                          *counters
}

// inherit makes the rule continue the counters of the rule with the same name
// in the previous policy.
func (r *ruleHead) inherit(previous *ruleHead) {
	if r.counters = new(counters); previous != nil {
		r.counters = previous.counters
	}
}

// passOver reports whether the rule is disabled. x, if not nil, explains it.
func (r *ruleHead) passOver(i int, x *explainer) bool {
	if x != nil {
		x.rule(i, r.name)
		if r.disabled {
			x.linef("disabled")
		}
	}
	return r.disabled
}

// skip notes that the action of a rule that matches cannot be built, and why.
func (r *ruleHead) skip(err error, x *explainer) {
	if x != nil {
		x.linef("skipped: %v", err)
		return
	}
	r.counters.skips.Add(1)
}

// decides makes the verdict name the rule, as the first or the only one.
func (v *Verdict) decides(r *ruleHead, i int) {
	v.Rule, v.Index = r.name, i
}

// asks adds the records that the rule asks for.
func (v *Verdict) asks(r *ruleHead) {
	v.Log, v.LogHeaders = v.Log || r.log, v.LogHeaders || r.logHeaders
}

// failed returns the verdict of a rule that could not be evaluated. Other rules
// have no effect then.
func (v *Verdict) failed(r *ruleHead, i int) Verdict {
	f := Verdict{Monitored: v.Monitored}
	f.decides(r, i)
	f.asks(r)
	return f
}

// applies adds a rule that changes something.
func (v *Verdict) applies(r *ruleHead, i int) {
	if v.Index < 0 {
		v.decides(r, i)
	}
	v.asks(r)
	v.Applied = append(v.Applied, r.name)
}

// monitor adds the outcome of a rule that is not enforced, and counts it. An
// explanation does not count.
func (v *Verdict) monitor(r *ruleHead, i int, e *ending, x *explainer) {
	if x != nil {
		x.linef("not enforced: would %s", e.String()) // not e, which would escape to the heap
		return
	}
	v.Monitored = append(v.Monitored, Outcome{Rule: r.name, Index: i, Action: e.action, Status: e.page.Status, Limited: e.limited, Log: r.log})
	r.counters.would(time.Now(), dropped(e.action, e.page.Status))
}

// monitorError is monitor for a rule in dry run that could not be evaluated.
func (v *Verdict) monitorError(r *ruleHead, i int, err error, x *explainer) {
	if x != nil {
		x.linef("not enforced: would fail")
		return
	}
	v.Monitored = append(v.Monitored, Outcome{Rule: r.name, Index: i, Action: ActionFail, Log: r.log, Err: &RuleError{r.name, i, err}})
	r.counters.errors.Add(1)
}
