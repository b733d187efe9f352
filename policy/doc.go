// Package policy decides, by ordered rules, which connections and requests
// may pass, and changes and routes those that do. There are four kinds of
// policy, each with rules of its own type:
//
//   - [NetworkSecurity] judges a connection when it is accepted, by addresses
//     and ports alone: allow, deny, or limit the rate.
//   - [HTTPSecurity] judges a request before anything rewrites it: allow,
//     close the connection, respond, redirect to https, or limit the rate.
//   - [HTTPRequest] changes a request, redirects or answers it, or chooses the
//     pool it goes to.
//   - [HTTPResponse] changes the response of a server.
//
// [PolicySet] collects rules of the latter three under a name; [StringGroups]
// holds lists and maps of strings that matches and scripts share;
// [RateLimiter] counts by key for who needs more than rules.
//
// A policy is compiled from rules once, which reports all faults at once, is
// immutable afterwards and may be used by any number of goroutines.
//
// # Rules
//
// Rules are tried in order. In the security policies, the first one that is
// enabled and whose match holds decides; if none does, the connection or
// request is accepted. In the other two, all that match act, until one answers
// the request; they match the request as received, not as others have changed
// it. Within
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
// A rule with DryRun set is evaluated and counted, but what it would do is
// only told, in the verdict. The Explain methods tell which rules a
// transaction meets, which conditions of theirs hold, and what would be done.
//
// # Templates
//
// The hosts and paths of [Redirect], [RewriteURL] and [RewriteLocation] are
// text with tokens, counted from 0:
//
//	host[0], h[0]         a label of the host
//	path[0], p[0]         a segment of the path
//	host[1:], path[1:]    all from one on
//	host[1:2], path[1:2]  from one to another, which is included
//	regex[1]              what a group of the path's regular expression captured; 0 is the whole match
//	regex_query[1]        the same for the query
//	string_group[key]     the key of the entry of a string group that fits the path, or else the query
//	string_group[value]   the value of that entry
//
// So "www.host[1:]" and "/host[0]/path[0:]" send w1.example.com/a/b to
// www.example.com/w1/a/b. A rule is skipped if the request has fewer labels or
// segments than its templates name, or if its host is an IP address and they
// name labels.
//
// # Variables
//
// The values of headers and cookies that an [Edit] sets may contain
//
//	$client_ip  $source_ip  $vs_ip  $vs_port  $user_name  $request_id
//	$ssl_protocol  $ssl_cipher  $ssl_server_name
//	$ssl_client_fingerprint  $ssl_client_serial  $ssl_client_issuer  $ssl_client_subject
//	$ssl_client_version  $ssl_client_sigalg  $ssl_client_notvalidbefore  $ssl_client_notvalidafter
//	$ssl_client_raw  $ssl_client_escaped
//	${header:Name}
//
// where the braces may surround any name, and $$ is a dollar sign. The user is
// that of basic authentication, and nobody has checked the password; the
// fingerprint is SHA-1, the serial number hexadecimal; the certificate is in
// PEM, with blanks for line ends or percent-encoded.
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
// What clients invent, such as the keys of rate limits, takes bounded memory.
//
// A service that fails denies by default: see [Env].
//
// docs/policies.md is a guide for operators, with recipes.
package policy
