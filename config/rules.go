package config

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/policy"
)

// Rules that no request can match are accepted, since the library cannot know
// what a value is meant for. Most of them are habits from other proxies, and
// check warns of them.

// warnOfRules warns of rules of a service that have no effect.
func (b *builder) warnOfRules() {
	b.warnOfNetworkRules(b.config.NetworkSecurity, "networkSecurity")
	var e ending
	for i, r := range b.config.HTTPSecurity {
		path := fielderr.Index("httpSecurity", i)
		b.unreached(path, &e)
		b.warnOfMatch(&r.Match, path+".match")
		if !r.Disabled && !r.DryRun && !e.known && everything(r.Match) && endsSecurity(r.Action) {
			e = ending{name: r.Name, known: true}
		}
	}
	e = ending{}
	for i, r := range b.config.HTTPRequest {
		path := fielderr.Index("httpRequest", i)
		b.unreached(path, &e)
		b.warnOfMatch(&r.Match, path+".match")
		if !r.Disabled && !r.DryRun && !e.known && everything(r.Match) && endsRequest(r.Action) {
			e = ending{name: r.Name, known: true}
		}
	}
	for i, r := range b.config.HTTPResponse {
		path := fielderr.Index("httpResponse", i) + ".match"
		b.warnOfMatch(&r.Match.Request, path+".request")
		b.warnOfBlanks(r.Match.Headers, path+".headers")
	}
}

// warnOfNetworkRules warns of rules for connections that are never reached.
func (b *builder) warnOfNetworkRules(rules []policy.NetworkRule, list string) {
	var e ending
	for i, r := range rules {
		b.unreached(fielderr.Index(list, i), &e)
		goesOn := r.Limit != nil && (r.Limit.Continue || r.Limit.Exceeded == policy.ActionReport)
		if !r.Disabled && !r.DryRun && !e.known && everything(r.Match) && r.Age == 0 && !goesOn {
			e = ending{name: r.Name, known: true}
		}
	}
}

// An ending is the rule of a policy that ends it for everybody.
type ending struct {
	name  string
	known bool
	told  bool // the next rule has its warning, which is enough
}

// unreached warns of the first rule behind one that ends the policy.
func (b *builder) unreached(path string, e *ending) {
	if e.known && !e.told {
		e.told = true
		b.warn(path, fmt.Errorf("never reached: the rule %s before it has no match, and ends the policy", quoted(e.name)))
	}
}

// everything reports whether a match selects whatever there is.
func everything(match any) bool { return reflect.ValueOf(match).IsZero() }

func endsSecurity(a policy.SecurityAction) bool {
	switch a.(type) {
	case policy.Allow, policy.Close, policy.Respond:
		return true
	}
	return false
}

// endsRequest reports whether an action ends a policy. A redirect with a
// template may be skipped.
func endsRequest(a policy.RequestAction) bool {
	switch a := a.(type) {
	case policy.Respond:
		return true
	case policy.Redirect:
		return !strings.Contains(a.Host+a.Path, "[")
	}
	return false
}

// warnOfMatch warns of values that no request has.
func (b *builder) warnOfMatch(m *policy.Match, path string) {
	if m.Host != nil {
		b.warnOfValues(m.Host.Op, m.Host.Values, path+".host", oddHost)
	}
	if m.Path != nil {
		b.warnOfValues(m.Path.Op, m.Path.Values, path+".path", oddPath)
	}
	if m.Query != nil {
		b.warnOfValues(m.Query.Op, m.Query.Values, path+".query", oddQuery)
	}
	b.warnOfBlanks(m.Headers, path+".headers")
	if m.Cookie != nil {
		b.warnOfValues(m.Cookie.Op, m.Cookie.Values, path+".cookie", oddField(m.Cookie.Op))
	}
}

// warnOfBlanks warns of values of headers that no header has.
func (b *builder) warnOfBlanks(headers []policy.HeaderMatch, path string) {
	for i, h := range headers {
		b.warnOfValues(h.Op, h.Values, fielderr.Index(path, i), oddField(h.Op))
	}
}

// warnOfValues warns of values that are no regular expressions and are odd.
func (b *builder) warnOfValues(op policy.Op, values []string, path string, odd func(value string) error) {
	if op == policy.MatchesRegexp || op == policy.DoesNotMatchRegexp {
		return
	}
	for i, value := range values {
		if err := odd(value); err != nil {
			b.warn(fielderr.Index(path+".values", i), fmt.Errorf("%s %w", quoted(value), err))
		}
	}
}

// oddHost says why no request has a host like a value; nil if one may.
func oddHost(value string) error {
	end, wild := strings.CutPrefix(value, "*.")
	switch {
	case wild && !strings.Contains(end, "*"):
		return fmt.Errorf(`is compared as it is, and no host has a "*": write %s with the operator "ends with"`, quoted("."+end))
	case strings.Contains(value, "*"):
		return errors.New(`is compared as it is, and no host has a "*": write a pattern with the operator "matches regexp"`)
	case strings.ContainsFunc(value, func(c rune) bool { return c > '~' }):
		return errors.New("is not ASCII: clients send the name in Punycode, such as xn--mnchen-3ya.example")
	}
	return nil
}

// escape is a percent-encoded byte. Paths keep some, for servers that do not
// decode them; see [policy.PathMatch].
var escape = regexp.MustCompile(`%[0-9A-Fa-f]{2}`)

var keptEscapes = []string{"%2F", "%5C", "%3B", "%2E"}

// oddPath says why no request has a path like a value.
func oddPath(value string) error {
	begin, wild := strings.CutSuffix(value, "*")
	switch {
	case strings.Contains(value, "://"):
		return errors.New("is a URL: compare the path alone")
	case strings.Contains(value, "?"):
		return errors.New("has a query, which is not part of the path: compare it in query")
	case strings.Contains(value, "#"):
		return errors.New("has a fragment, which clients do not send")
	case wild && begin != "" && !strings.Contains(begin, "*"):
		return fmt.Errorf(`is compared as it is, and "*" is no wildcard: write %s with the operator "begins with"`, quoted(begin))
	case strings.Contains(value, "*"):
		return errors.New(`is compared as it is, and "*" is no wildcard: write a pattern with the operator "matches regexp"`)
	}
	return oddEscape(value)
}

// oddQuery says why no request has a query like a value.
func oddQuery(value string) error { return oddEscape(value) }

// oddEscape says why nothing that is decoded has a value.
func oddEscape(value string) error {
	for _, found := range escape.FindAllString(value, -1) {
		if slices.Contains(keptEscapes, strings.ToUpper(found)) {
			continue
		}
		return fmt.Errorf("has %s, and is compared with what is decoded: write the character itself", found)
	}
	return nil
}

// oddField says why no header or cookie has a value. Their values have no
// blanks around them.
func oddField(op policy.Op) func(string) error {
	begin := op == policy.Equals || op == policy.DoesNotEqual || op == policy.BeginsWith || op == policy.DoesNotBeginWith
	end := op == policy.Equals || op == policy.DoesNotEqual || op == policy.EndsWith || op == policy.DoesNotEndWith
	return func(value string) error {
		if begin && value != strings.TrimLeft(value, " \t") || end && value != strings.TrimRight(value, " \t") {
			return errors.New("has blanks around it, which are removed before values are compared")
		}
		return nil
	}
}
