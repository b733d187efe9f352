// Package policy decides, by ordered rules, which connections and requests may
// pass, and changes and routes the requests that do. There are four kinds of
// policy, each with its own type of rule:
//
//   - [NetworkSecurity] judges a connection when it is accepted, by addresses
//     and ports alone: allow, reset, or limit the rate.
//   - [HTTPSecurity] judges a request before anything rewrites it: allow,
//     close the connection, respond, redirect to https, or limit the rate.
//   - [HTTPRequest] changes a request, redirects it, answers it, or selects its
//     pool.
//   - [HTTPResponse] changes the response of a server.
//
// [PolicySet] collects rules of the latter three under a name. [StringGroups]
// has lists and maps of strings that rules and scripts share. [RateLimiter]
// limits events by key in programs that need more than rules.
//
// A constructor compiles a policy from rules and reports all faults at once.
// After that the policy is immutable, and any number of goroutines may use it.
//
// # Rules
//
// A policy tries its rules in order. In the security policies, the first
// enabled rule that matches decides; if no rule matches, the connection or
// request is accepted. In the request and response policies, all rules that
// match apply, until one answers the request. They match the request as
// received, not as other rules have changed it.
//
// In a match, every part that is set must match (AND), and a part matches if
// any of its values does (OR). A negative operator is the complement of its
// positive one over all values. An empty match always matches, so a last rule
// with an empty match is the default:
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
// A rule with DryRun set is evaluated and counted, but not enforced: the
// verdict reports what it would do. The Explain methods report which rules a
// transaction meets, which of their conditions match, and what would be done.
//
// # Templates
//
// The hosts and paths of [Redirect], [RewriteURL] and [RewriteLocation] are
// text with tokens. Indexes begin at 0:
//
//	host[0], h[0]         a label of the host
//	path[0], p[0]         a segment of the path
//	host[1:], path[1:]    all from an index on
//	host[1:2], path[1:2]  from one index to another, both included
//	regex[1]              what a group of the path's regular expression captured; 0 is the whole match
//	regex_query[1]        the same for the query
//	string_group[key]     the key of the string group's entry that matches the path, or else the query
//	string_group[value]   the value of that entry
//
// For example, "www.host[1:]" and "/host[0]/path[0:]" send w1.example.com/a/b
// to www.example.com/w1/a/b. A rule is skipped if the request has fewer labels
// or segments than its templates name, or if the host is an IP address and its
// templates name labels.
//
// # Variables
//
// The values of headers and cookies that an [Edit] sets may contain variables:
//
//	$client_ip  $source_ip  $vs_ip  $vs_port  $user_name  $request_id
//	$ssl_protocol  $ssl_cipher  $ssl_server_name
//	$ssl_client_fingerprint  $ssl_client_serial  $ssl_client_issuer  $ssl_client_subject
//	$ssl_client_version  $ssl_client_sigalg  $ssl_client_notvalidbefore  $ssl_client_notvalidafter
//	$ssl_client_raw  $ssl_client_escaped
//	${header:Name}
//
// Braces may surround any name, and $$ is a dollar sign. The user name is that
// of basic authentication; its password has not been checked. The fingerprint
// is SHA-1, the serial number hexadecimal. The certificate is in PEM: raw has
// blanks for line ends, escaped is percent-encoded.
//
// # Hostile requests
//
// Matches interpret a request as servers do: addresses have one form, paths and
// queries are percent-decoded, and case is ignored. Where servers disagree
// about a path or a query, a rule matches if any interpretation matches; a rule
// with [Allow] matches only if all do. See [PathMatch].
//
// The cost of each comparison is linear in the size of the request, which
// http.Server.MaxHeaderBytes limits. Client-chosen values, such as the keys of
// rate limits, never grow memory without bound.
//
// If a service fails, the connection or request is denied by default: see
// [Env].
//
// docs/guides/rules.md is a guide for operators, with recipes.
package policy
