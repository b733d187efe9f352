// Package policy decides, by ordered rules, which connections and requests
// may pass. There are two kinds of policy:
//
//   - [NetworkSecurity] judges a connection when it is accepted, by addresses
//     and ports alone: allow or deny.
//   - [HTTPSecurity] judges a request before anything rewrites it: allow,
//     close the connection, respond, or redirect to https.
//
// A policy is compiled from rules once, which reports all faults at once, is
// immutable afterwards and may be used by any number of goroutines.
//
// # Rules
//
// Rules are tried in order. The first one that is enabled and whose match
// holds decides; if none does, the connection or request is accepted. Within
// a match, every part that is set must hold (AND), and a part holds if any of
// its values fits (OR). A negative operator is the complement of its positive
// one over all values. An empty match always holds, so a last rule without
// one is the default:
//
//	rules := []policy.SecurityRule{
//		{
//			Name:   "office",
//			Match:  policy.Match{SourceIP: &policy.IPMatch{Groups: []string{"Office"}}},
//			Action: policy.Allow{},
//		},
//		{
//			Name:   "no admin from outside",
//			Match:  policy.Match{Path: &policy.PathMatch{Op: policy.BeginsWith, Values: []string{"/admin"}}},
//			Action: policy.Respond{Status: http.StatusForbidden},
//		},
//	}
//	p, err := policy.NewHTTPSecurity(rules, policy.Env{IPGroups: groups})
//
// # Hostile requests
//
// Matches look at a request as a server would, not as its bytes happen to be:
// addresses in one form, paths and queries percent-decoded, letters without
// their case. Where servers disagree about the meaning of a path or a query,
// the match considers both readings, and an Allow rule needs both:
// see [PathMatch]. Every comparison costs time linear in the request; how
// large a request may be is the business of http.Server.MaxHeaderBytes.
//
// A service that fails denies by default: see [Env].
package policy
