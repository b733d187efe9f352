package policy

import (
	"net/http"
	"net/netip"
)

// Transaction is a request that policies judge and change. A policy calls it
// only on the goroutine that evaluates the policy, and keeps no reference to
// it.
type Transaction interface {
	// Client is the client's address, perhaps found behind trusted proxies. IP
	// matches on the client compare it.
	Client() netip.AddrPort
	// Source is the address of the peer.
	Source() netip.AddrPort
	// Local is the address and port on which the request arrived.
	Local() netip.AddrPort
	// Encrypted reports whether the client used TLS, perhaps to a trusted
	// proxy. Without such proxies, that is whether Original().TLS is set.
	Encrypted() bool
	// RequestID is the unique name of the transaction, the same in all stages,
	// for the variable $request_id. It may be empty.
	RequestID() string
	// Original is the request as received by the server side of net/http. It is
	// read-only and never nil.
	Original() *http.Request
	// EditRequest is the request that will be sent, for changes. It has a
	// header of its own, but may share its URL with Original, so a policy
	// replaces the URL instead of changing it.
	EditRequest() *http.Request
	// SelectPool selects the pool and, if addr is valid, the server; port 0
	// means the server's own.
	SelectPool(pool string, addr netip.AddrPort)
	// SelectLabel selects a pool group and, of its members, those with the
	// priority label. Without pool groups it has no effect.
	SelectLabel(group, label string)
	// Reply answers the request in place of a server. The status is final (200
	// to 599). The callee owns header; it must not change body.
	Reply(status int, header http.Header, body []byte)
	// Close closes the connection without an answer: with RST if reset is set,
	// otherwise with FIN.
	Close(reset bool)
	// Response is the status and the header of the server's response. The
	// header may be changed in place. ok is false before there is a response.
	Response() (status int, header http.Header, ok bool)
}

// Verdict is the decision of a policy about one connection or request.
type Verdict struct {
	Rule    string // the rule that decided or failed, or the first that changed something; empty if none matched
	Index   int    // its position in the policy, from 0; -1 if none matched
	Action  Action // the action of the policy
	Status  int    // the status of the reply; 0 if there was none
	Ended   bool   // the request was answered, or the connection must be closed or is closed: no later stage may follow
	Dropped bool   // Ended by a close, a reset, or a 4xx or 5xx status
	Limited bool   // Action is that of a rate limit that was exceeded
	Log     bool   // a rule that applied asks for a record
	// LogHeaders means that a rule that applied asks for a record with all
	// headers.
	LogHeaders bool
	// Applied are the rules that changed something, in order. Only request and
	// response policies have them.
	Applied []string
	// Monitored are the outcomes of rules that were not enforced, in order: of
	// rules in dry run, and of rate limits that only report.
	Monitored []Outcome
	Err       error // a *RuleError if a rule could not be evaluated; the other fields say what was done
}

// Outcome is what a rule that was not enforced would have done.
type Outcome struct {
	Rule    string // the name of the rule
	Index   int    // its position in the policy, from 0
	Action  Action // ActionReport for a rate limit that only reports, ActionFail if the rule could not be evaluated
	Status  int    // the status of the reply; 0 if there would have been none
	Limited bool   // a rate limit was exceeded
	Log     bool   // the rule asks for a record
	Err     error  // a *RuleError if the rule could not be evaluated
}
