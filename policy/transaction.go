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
	// Close ends the connection without an answer, with FIN or, with reset,
	// with RST.
	Close(reset bool)
}

// Action names what a policy did with a request, for records and metrics.
type Action uint8

// What a policy can have done.
const (
	ActionNone     Action = iota // no rule matched, or a service failed open: the request goes on
	ActionAllow                  // a rule accepted the request: it goes on
	ActionClose                  // the connection was closed
	ActionReset                  // the connection was reset
	ActionRespond                // the request was answered
	ActionRedirect               // the request was answered with a redirect
	ActionFail                   // a rule could not be evaluated: the request was answered with an error
)

// String returns the action in words; "invalid" for a value that is none.
func (a Action) String() string {
	switch a {
	case ActionNone:
		return "none"
	case ActionAllow:
		return "allow"
	case ActionClose:
		return "close"
	case ActionReset:
		return "reset"
	case ActionRespond:
		return "respond"
	case ActionRedirect:
		return "redirect"
	case ActionFail:
		return "fail"
	}
	return "invalid"
}

// Verdict is the outcome of evaluating a policy for one request.
type Verdict struct {
	Rule    string // the rule that decided or failed; empty when none matched
	Index   int    // its position in the policy, from 0; -1 when none matched
	Action  Action // what was done
	Status  int    // the status of the reply; 0 when there was none
	Ended   bool   // the transaction was replied to or closed: it must not go on
	Dropped bool   // ended by a close, a reset, or a 4xx or 5xx status: worth a significant record
	Log     bool   // the rule asks for a record
	Err     error  // a *RuleError when a rule could not be evaluated; what was done then stands in the other fields
}
