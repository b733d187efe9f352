package policy

import (
	"net/http"
	"net/netip"
)

// Transaction is one request on its way through the policies. A policy calls
// it only on the goroutine that evaluates the policy and keeps nothing of it
// afterwards.
type Transaction interface {
	// Client is the address that IP matches on the client compare: the
	// peer's, or the one resolved behind trusted proxies.
	Client() netip.AddrPort
	// Source is the peer's address.
	Source() netip.AddrPort
	// Local is the address and port on which the request arrived.
	Local() netip.AddrPort
	// Original is the request as received, by the server side of net/http.
	// It is read only and never nil.
	Original() *http.Request
	// Reply answers the request instead of a server. The status is final (200
	// to 599). The callee owns header; it must not change body.
	Reply(status int, header http.Header, body []byte)
	// EditRequest is the request as it will be sent, for change. Its header
	// is its own; its URL may be shared with Original, so a policy replaces
	// the URL and does not write into it.
	EditRequest() *http.Request
	// SelectPool chooses the pool, and the server if addr is valid; port 0
	// means the server's own.
	SelectPool(pool string, addr netip.AddrPort)
	// Response is the status and the header of the server's response; the
	// header may be changed in place. ok is false before there is one.
	Response() (status int, header http.Header, ok bool)
	// SelectLabel chooses a pool group and, of its members, those with the
	// priority label. Without pool groups it does nothing.
	SelectLabel(group, label string)
	// Close ends the connection without an answer, with FIN or, with reset,
	// with RST.
	Close(reset bool)
	// RequestID is a unique name of the transaction, the same in all stages, for
	// the variable $request_id. It may be empty.
	RequestID() string
	// Encrypted reports whether the client spoke TLS, perhaps to a trusted proxy
	// in front. Without such proxies, that is whether Original().TLS is set.
	Encrypted() bool
}

// Verdict is the outcome of evaluating a policy for one request.
type Verdict struct {
	Rule    string // the rule that decided or failed, or the first that changed something; empty when none matched
	Index   int    // its position in the policy, from 0; -1 when none matched
	Action  Action // what was done
	Status  int    // the status of the reply; 0 when there was none
	Ended   bool   // the transaction was replied to or closed: it must not go on
	Dropped bool   // ended by a close, a reset, or a 4xx or 5xx status: worth a significant record
	Limited bool   // a rate limit was exceeded, and that is why Action was done
	Log     bool   // a rule that acted asks for a record
	// LogHeaders: a rule that acted asks for a record with all headers.
	LogHeaders bool
	// Applied are the rules that changed something, in order. Only request
	// and response policies have them.
	Applied []string
	// Monitored is what rules would have done, in order: those in dry run, and
	// rate limits that only report.
	Monitored []Outcome
	Err       error // a *RuleError when a rule could not be evaluated; what was done then stands in the other fields
}

// Outcome is what a rule would have done, had it been enforced.
type Outcome struct {
	Rule    string // its name
	Index   int    // its position in the policy, from 0
	Action  Action // ActionReport for a rate limit that only reports
	Status  int    // the status of the reply; 0 when there would have been none
	Limited bool   // a rate limit was exceeded
	Log     bool   // the rule asks for a record
	Err     error  // a *RuleError when the rule could not be evaluated: it would have failed
}
