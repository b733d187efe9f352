package policy

import (
	"fmt"
	"unicode"
	"unicode/utf8"

	"github.com/limpetlb/limpet/internal/fielderr"
)

// Limits of names in bytes, because every log record repeats them. The name of
// a rule in a set has two of them and a slash.
const (
	maxNameLen     = 255
	maxRuleNameLen = 2*maxNameLen + 1
)

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
	switch {
	case name == "":
		f.Addf(field, nil, "missing")
		return
	case len(name) > maxRuleNameLen:
		f.Addf(field, name, "longer than %d bytes", maxRuleNameLen)
	case !printable(name):
		f.Addf(field, name, "not printable text")
	}
	if seen[name] { // where, a configuration has another path for
		f.Addf(field, name, "already the name of a rule before it")
	}
	seen[name] = true
}

func printable(s string) bool {
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return utf8.ValidString(s)
}
