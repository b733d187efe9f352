package policy

import (
	"errors"
	"fmt"
	"unicode"
	"unicode/utf8"
)

// Limits of names in bytes, because every log record repeats them. The name of a
// rule in a set has two of them and a slash.
const (
	maxNameLen     = 255
	maxRuleNameLen = 2*maxNameLen + 1
)

// A FieldError is one fault of a configuration. A constructor returns all faults
// that it finds, joined with [errors.Join].
type FieldError struct {
	Field string // the path of the field, such as "rules[3].match.path.values[0]"
	Err   error  // the fault
}

// Error returns the field and the fault.
func (e *FieldError) Error() string { return e.Field + ": " + e.Err.Error() }

// Unwrap returns e.Err.
func (e *FieldError) Unwrap() error { return e.Err }

// A RuleError means that a rule could not be evaluated for a connection or a
// request: a service failed, or the request cannot be judged (see [PathMatch] and
// [Op]).
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

// faults collects the faults of one configuration.
type faults struct{ errs []error }

func (f *faults) add(field string, err error) {
	f.errs = append(f.errs, &FieldError{field, err})
}

func (f *faults) addf(field, format string, args ...any) {
	f.add(field, fmt.Errorf(format, args...))
}

func (f *faults) join() error { return errors.Join(f.errs...) }

// ruleNames checks the names of one policy's rules, in order.
type ruleNames map[string]int

func (seen ruleNames) check(f *faults, field, name string, index int) {
	switch {
	case name == "":
		f.addf(field, "a rule needs a name")
		return
	case len(name) > maxRuleNameLen:
		f.addf(field, "%d bytes are more than %d", len(name), maxRuleNameLen)
	case !printable(name):
		f.addf(field, "%q is not printable text", name)
	}
	if first, dup := seen[name]; dup {
		f.addf(field, "%q is already the name of rules[%d]", name, first)
		return
	}
	seen[name] = index
}

func printable(s string) bool {
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return utf8.ValidString(s)
}
