package limpet

import (
	"slices"

	"github.com/limpetlb/limpet/internal/enumtext"
)

// Significance is a reason why a record deserves a look.
type Significance uint8

// The reasons. List those that are normal for a service in [Logging].Ignore.
const (
	PolicyDrop        Significance = iota + 1 // a policy refused the connection or the request
	RateLimited                               // a rate limit caused the refusal
	ScriptFailed                              // a script failed
	ScriptClosed                              // a script closed the connection
	ScriptRefused                             // a script answered with status 400 or more
	ServerChange                              // the server that the client was bound to was not available
	NoServer                                  // no server was available
	ServerFailed                              // a server was tried and gave no answer
	ServerTimeout                             // a server was tried and gave no answer in time
	ServerReselect                            // more than one server was tried
	SlowResponse                              // the response took longer to begin than Logging.SlowResponse
	ClientGone                                // the client left before it got its answer
	Status4xx                                 // the response's status is 400 to 499
	Status5xx                                 // the response's status is 500 or more
	BadProxyHeader                            // a proxy sent no valid PROXY header
	ServerAmbiguous                           // a binding names an address that several servers share; once a minute for each pool
	BindingInvalid                            // the client's persistence cookie could not be opened
	significanceCount                         // one more than the last
)

var significances = []string{
	PolicyDrop:      "dropped by policy",
	RateLimited:     "rate limited",
	ScriptFailed:    "script failed",
	ScriptClosed:    "closed by script",
	ScriptRefused:   "refused by script",
	ServerChange:    "persistent server changed",
	NoServer:        "no server available",
	ServerFailed:    "server failed",
	ServerTimeout:   "server timed out",
	ServerReselect:  "another server tried",
	SlowResponse:    "slow response",
	ClientGone:      "client gone",
	Status4xx:       "status 4xx",
	Status5xx:       "status 5xx",
	BadProxyHeader:  "no valid PROXY header",
	ServerAmbiguous: "server ambiguous",
	BindingInvalid:  "persistence cookie invalid",
}

// significanceCodes are the codes that Avi Vantage logs for the same reasons.
var significanceCodes = []string{
	PolicyDrop:      "ADF_USER_DELETE_OPERATION_HTTP_RULE_SECURITY_ACTION_CLOSE_CONN",
	RateLimited:     "ADF_RATE_LIMIT_DROP_REQ",
	ScriptFailed:    "ADF_DATASCRIPT_EXECUTION_FAILED",
	ScriptClosed:    "ADF_USER_DELETE_OPERATION_DATASCRIPT_RESET_CONN",
	ScriptRefused:   "ADF_HTTP_NOT_ALLOWED_DATASCRIPT_RESPONSE_RETURNED_4XX",
	ServerChange:    "ADF_PERSISTENT_SERVER_CHANGE",
	NoServer:        "ADF_REQUEST_NO_POOL",
	ServerFailed:    "ADF_SERVER_UPSTREAM_READ_ERROR",
	ServerTimeout:   "ADF_SERVER_UPSTREAM_TIMEOUT",
	ServerReselect:  "ADF_HTTP_SERVER_RESELECT_OCCURRENCE",
	SlowResponse:    "ADF_RESPONSE_SLOW",
	ClientGone:      "ADF_CLIENT_GONE",
	Status4xx:       "ADF_RESPONSE_CODE_4XX",
	Status5xx:       "ADF_RESPONSE_CODE_5XX",
	BadProxyHeader:  "ADF_BAD_PROXY_HEADER",
	ServerAmbiguous: "SERVER_AMBIGUOUS",
	BindingInvalid:  "ADF_PERSISTENCE_COOKIE_INVALID",
}

// own reports whether Avi Vantage has no code for the reason, and Code returns
// one of ours.
func (s Significance) own() bool {
	switch s {
	case SlowResponse, ClientGone, BadProxyHeader, ServerAmbiguous, BindingInvalid:
		return true
	}
	return false
}

// String returns the reason in words; "invalid" for other values.
func (s Significance) String() string { return enumtext.String(s, significances) }

// MarshalText returns the reason in words. It fails for other values.
func (s Significance) MarshalText() ([]byte, error) { return enumtext.Marshal(s, significances) }

// UnmarshalText reads the reason in words, without regard to case, blanks, "-"
// and "_". The error for another text lists the reasons.
func (s *Significance) UnmarshalText(text []byte) error {
	return enumtext.Unmarshal(s, text, significances)
}

// Code returns the name of the reason in the logs of Avi Vantage, such as
// ADF_PERSISTENT_SERVER_CHANGE, for dashboards that use it. For reasons that
// those logs do not have, it returns a name of the same form.
func (s Significance) Code() string { return enumtext.String(s, significanceCodes) }

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
