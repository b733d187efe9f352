package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/limpetlb/limpet/internal/enumtext"
	"github.com/limpetlb/limpet/policy"
)

// Some fields accept only a few constants of their type. Errors about them list
// these, and other words for them, and nothing else.

var (
	setOperators  = opWords(policy.IsIn, policy.IsNotIn)
	textOperators = opWords(policy.BeginsWith, policy.DoesNotMatchRegexp)
	presence      = opWords(policy.Exists, policy.DoesNotExist)
	fieldOps      = slices.Concat(textOperators, presence)
)

// opWords are the words of the operators from one to another.
func opWords(from, to policy.Op) (all []string) {
	for op := from; op <= to; op++ {
		all = append(all, op.String())
	}
	return all
}

// accepted are the words that fields accept, by the struct that declares them.
var accepted = map[reflect.Type]map[string][]string{
	reflect.TypeFor[policy.NetworkRule]():     {"Action": {"allow", "reset", "deny", "rate limit"}},
	reflect.TypeFor[policy.NetworkLimit]():    {"Exceeded": {"close", "drop", "reset", "deny", "report"}},
	reflect.TypeFor[policy.IPMatch]():         {"Op": setOperators},
	reflect.TypeFor[policy.PortMatch]():       {"Op": setOperators},
	reflect.TypeFor[policy.ProtocolMatch]():   {"Op": setOperators},
	reflect.TypeFor[policy.MethodMatch]():     {"Op": setOperators},
	reflect.TypeFor[policy.VersionMatch]():    {"Op": setOperators},
	reflect.TypeFor[policy.GeoMatch]():        {"Op": setOperators},
	reflect.TypeFor[policy.ReputationMatch](): {"Op": setOperators},
	reflect.TypeFor[policy.StatusMatch]():     {"Op": setOperators},
	reflect.TypeFor[policy.PathMatch]():       {"Op": textOperators},
	reflect.TypeFor[policy.QueryMatch]():      {"Op": fieldOps},
	reflect.TypeFor[policy.HeaderMatch]():     {"Op": fieldOps},
	reflect.TypeFor[policy.CookieMatch]():     {"Op": fieldOps},
	reflect.TypeFor[policy.TextMatch]():       {"Op": textOperators},
}

// acceptedAt are the words that the field of a struct accepts at a path; nil if
// all of its type.
func acceptedAt(t reflect.Type, f reflect.StructField, path string) []string {
	owner := ownerOf(t, f)
	if owner == reflect.TypeFor[policy.TextMatch]() && strings.HasSuffix(path, ".location") {
		return fieldOps
	}
	return accepted[owner][f.Name]
}

// among reports a text that is none of the words that a field accepts.
func among(text string, words []string) error {
	if words == nil || slices.ContainsFunc(words, func(word string) bool { return enumtext.Equal(text, word) }) {
		return nil
	}
	return fmt.Errorf("%s is not one of %s", quoted(text), strings.Join(words, ", "))
}
