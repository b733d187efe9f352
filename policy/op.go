package policy

import (
	"github.com/limpetlb/limpet/internal/enumtext"
	"github.com/limpetlb/limpet/internal/fielderr"
)

// Op is the operator of a match. There are three kinds:
//
//   - IsIn and IsNotIn compare a subject that is always present, such as an
//     address or a method, with a set of values.
//   - The text operators, from BeginsWith to DoesNotMatchRegexp, compare a text
//     with a list of values.
//   - Exists and DoesNotExist ask only whether the subject is present, and take
//     no values. They are for headers, cookies, the query and the Location.
//
// Each match documents the kinds that it takes; the constructors refuse others.
// The zero value is IsIn, so a match of a text must set its operator.
//
// Each negative operator is the complement of its positive one over the whole
// list: DoesNotContain matches only if the subject contains none of the values.
// If the subject is missing, positive operators are false and negative ones are
// true.
//
// Text operators ignore case unless the match says otherwise; letters that
// Unicode's simple folding makes equal are equal.
//
// Regular expressions have the syntax of package regexp, match anywhere in the
// subject unless anchored, and cost time linear in the subject. A pattern has
// at most 1,024 bytes and compiles to at most 500 instructions; a policy has at
// most 1,000 patterns. If a subject that a pattern is tried on is longer than 8
// KiB, the request is answered with 414 (path, query), 431 (host, header,
// cookie) or 502 (header of the response), whatever [Env].FailOpen says.
type Op uint8

// The operators.
const (
	IsIn               Op = iota // the subject is one of the values
	IsNotIn                      // the subject is none of the values
	BeginsWith                   // the subject begins with a value
	DoesNotBeginWith             // the subject begins with no value
	Contains                     // the subject contains a value
	DoesNotContain               // the subject contains no value
	EndsWith                     // the subject ends with a value
	DoesNotEndWith               // the subject ends with no value
	Equals                       // the subject equals a value
	DoesNotEqual                 // the subject equals no value
	MatchesRegexp                // a regular expression matches part of the subject
	DoesNotMatchRegexp           // no regular expression matches part of the subject
	Exists                       // the subject is present, perhaps empty
	DoesNotExist                 // the subject is missing
)

var opWords = []string{
	IsIn:               "is in",
	IsNotIn:            "is not in",
	BeginsWith:         "begins with",
	DoesNotBeginWith:   "does not begin with",
	Contains:           "contains",
	DoesNotContain:     "does not contain",
	EndsWith:           "ends with",
	DoesNotEndWith:     "does not end with",
	Equals:             "equals",
	DoesNotEqual:       "does not equal",
	MatchesRegexp:      "matches regexp",
	DoesNotMatchRegexp: "does not match regexp",
	Exists:             "exists",
	DoesNotExist:       "does not exist",
}

// String returns the operator in words, such as "does not contain"; "invalid"
// if op is not an operator.
func (op Op) String() string { return enumtext.String(op, opWords) }

// MarshalText returns the operator in words. It fails if op is not an operator.
func (op Op) MarshalText() ([]byte, error) { return enumtext.Marshal(op, opWords) }

// UnmarshalText sets op to the operator in words. Case, blanks, "-" and "_" do
// not matter: "DoesNotContain" and "does_not_contain" are the same.
func (op *Op) UnmarshalText(text []byte) error { return enumtext.Unmarshal(op, text, opWords) }

// isText reports whether op compares a text with values.
func (op Op) isText() bool { return BeginsWith <= op && op <= DoesNotMatchRegexp }

func (op Op) isPresence() bool { return op == Exists || op == DoesNotExist }

// Each negative operator is odd and follows the positive one it complements.
func (op Op) negative() bool { return op&1 == 1 }

func (op Op) positive() Op { return op &^ 1 }

// checkText reports whether op is a text operator, and a fault if not.
func (op Op) checkText(f *fielderr.List, field string) bool {
	switch {
	case op.isText():
		return true
	case op == IsIn:
		f.Addf(field+".op", nil, "a match of text needs an operator, such as %q", Equals)
	case op <= DoesNotExist:
		f.Addf(field+".op", op, "does not compare text")
	default:
		f.Constant(field+".op", op)
	}
	return false
}

// checkSet reports a fault unless op is IsIn or IsNotIn.
func (op Op) checkSet(f *fielderr.List, field string) {
	if op > IsNotIn {
		f.Addf(field+".op", op, "not one of %v, %v", IsIn, IsNotIn)
	}
}
