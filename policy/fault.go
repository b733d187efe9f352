package policy

import (
	"fmt"

	"github.com/limpetlb/limpet/internal/fielderr"
)

// maxRuleNameLen limits the name of a rule in bytes: in a set it has two names
// and a slash.
const maxRuleNameLen = 2*fielderr.MaxName + 1

// A FieldError is one fault of a configuration: the Path of a field, such as
// "rules[3].match.path.values[0]", its Value, which is nil if it may be secret,
// and Err, the fault. A constructor joins one for each fault.
type FieldError = fielderr.Error

// A RuleError means that a rule could not be evaluated for a connection or a
// request: a service failed, or the request cannot be judged (see [PathMatch]
// and [Op]).
type RuleError struct {
	Rule  string // name of the rule
	Index int    // position of the rule in its policy, from 0
	Err   error  // the cause
}

// Error names the rule and the cause.
func (e *RuleError) Error() string {
	return fmt.Sprintf("rule %q (rules[%d]): %v", e.Rule, e.Index, e.Err)
}

// Unwrap returns e.Err.
func (e *RuleError) Unwrap() error { return e.Err }

// ruleNames checks the names of one policy's rules, in order.
type ruleNames map[string]bool

func (seen ruleNames) check(f *fielderr.List, field, name string) {
	if name == "" {
		f.Addf(field, nil, "missing")
		return
	}
	if err := fielderr.CheckName(name, maxRuleNameLen); err != nil {
		f.Add(field, name, err)
	}
	if seen[name] { // where, a configuration has another path for
		f.Addf(field, name, "already the name of a rule before it")
	}
	seen[name] = true
}
