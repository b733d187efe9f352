package limpet

import (
	"fmt"
	"slices"
)

// Significance is a reason why a record deserves a look.
type Significance uint8

// The reasons. [Logging].Ignore takes out those that are normal for a service.
const (
	PolicyDrop      Significance = iota + 1 // a policy refused the connection or the request
	RateLimited                             // a rate limit was exceeded, and that is why
	ScriptFailed                            // a script failed
	ScriptClosed                            // a script closed the connection
	ScriptRefused                           // a script answered with status 400 or more
	ServerChange                            // the server that the client was bound to could not be had
	NoServer                                // no server could be had
	ServerFailed                            // a server was tried and gave no answer
	ServerTimeout                           // a server was tried and gave no answer in time
	ServerReselect                          // more than one server was tried
	SlowResponse                            // the response took longer to begin than Logging.SlowResponse
	ClientGone                              // the client left before it had its answer
	Status4xx                               // the response's status is 400 to 499
	Status5xx                               // the response's status is 500 or more
	BadProxyHeader                          // a proxy sent no valid PROXY header
	ServerAmbiguous                         // a binding names an address that several servers share; once a minute for each pool
	BindingInvalid                          // the client's persistence cookie could not be opened
)

// significances name the reasons, in words and by the code that Avi Vantage
// logs for the same.
var significances = [...]struct{ text, code string }{
	PolicyDrop:     {"dropped by policy", "ADF_USER_DELETE_OPERATION_HTTP_RULE_SECURITY_ACTION_CLOSE_CONN"},
	RateLimited:    {"rate limited", "ADF_RATE_LIMIT_DROP_REQ"},
	ScriptFailed:   {"script failed", "ADF_DATASCRIPT_EXECUTION_FAILED"},
	ScriptClosed:   {"closed by script", "ADF_USER_DELETE_OPERATION_DATASCRIPT_RESET_CONN"},
	ScriptRefused:  {"refused by script", "ADF_HTTP_NOT_ALLOWED_DATASCRIPT_RESPONSE_RETURNED_4XX"},
	ServerChange:   {"persistent server changed", "ADF_PERSISTENT_SERVER_CHANGE"},
	NoServer:       {"no server available", "ADF_REQUEST_NO_POOL"},
	ServerFailed:   {"server failed", "ADF_SERVER_UPSTREAM_READ_ERROR"},
	ServerTimeout:  {"server timed out", "ADF_SERVER_UPSTREAM_TIMEOUT"},
	ServerReselect: {"another server tried", "ADF_HTTP_SERVER_RESELECT_OCCURRENCE"},
	SlowResponse:   {"slow response", "ADF_RESPONSE_SLOW"},
	ClientGone:     {"client gone", "ADF_CLIENT_GONE"},
	Status4xx:      {"status 4xx", "ADF_RESPONSE_CODE_4XX"},
	Status5xx:      {"status 5xx", "ADF_RESPONSE_CODE_5XX"},
	BadProxyHeader: {"no valid PROXY header", "ADF_BAD_PROXY_HEADER"},

	ServerAmbiguous: {"server ambiguous", "SERVER_AMBIGUOUS"},
	BindingInvalid:  {"persistence cookie invalid", "ADF_PERSISTENCE_COOKIE_INVALID"},
}

func (s Significance) known() bool { return s > 0 && int(s) < len(significances) }

// String returns the reason in words.
func (s Significance) String() string {
	if s.known() {
		return significances[s].text
	}
	return fmt.Sprintf("Significance(%d)", uint8(s))
}

// MarshalText gives the reason in words.
func (s Significance) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Code returns the name that the logs of Avi Vantage have for the reason, such
// as ADF_PERSISTENT_SERVER_CHANGE, for dashboards that know it; names of the
// same make where those logs have none.
func (s Significance) Code() string {
	if s.known() {
		return significances[s].code
	}
	return s.String()
}

func (r *Record) significant(s Significance) {
	if !slices.Contains(r.Significant, s) {
		r.Significant = append(r.Significant, s)
	}
}

// dropped notes that a policy refused the connection or the request.
func (r *Record) dropped(limited bool) {
	r.significant(PolicyDrop)
	if limited {
		r.significant(RateLimited)
	}
}
