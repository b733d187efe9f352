package policy

import "github.com/limpetlb/limpet/internal/enumtext"

// Action is what a policy does with a connection or a request: in the rules of
// a [NetworkSecurity] policy, and in verdicts, records and metrics.
type Action uint8

// The actions.
const (
	ActionNone      Action = iota // no rule matched, or a service failed and Env.FailOpen is set: the connection or request goes on
	ActionAllow                   // a rule accepts the connection or request: it goes on
	ActionClose                   // the connection is closed without a reset
	ActionReset                   // the connection is reset
	ActionRespond                 // the request is answered
	ActionRedirect                // the request is answered with a redirect
	ActionFail                    // a rule cannot be evaluated: the request is answered with an error
	ActionModify                  // rules change the request or the response, or choose a pool: it goes on
	ActionReport                  // a rate limit is exceeded and only reports it: the connection or request goes on
	ActionRateLimit               // only in a NetworkRule: connections are accepted within NetworkRule.Limit
)

var actionWords = []string{
	ActionNone:      "none",
	ActionAllow:     "allow",
	ActionClose:     "close",
	ActionReset:     "reset",
	ActionRespond:   "respond",
	ActionRedirect:  "redirect",
	ActionFail:      "fail",
	ActionModify:    "modify",
	ActionReport:    "report",
	ActionRateLimit: "rate limit",
}

// String returns the action in words; "invalid" if a is not an action.
func (a Action) String() string { return enumtext.String(a, actionWords) }

// MarshalText returns the action in words. It fails if a is not an action.
func (a Action) MarshalText() ([]byte, error) { return enumtext.Marshal(a, actionWords) }

// UnmarshalText sets a to the action in words. Case, blanks, "-" and "_" do not
// matter. "deny" means reset and "drop" means close.
func (a *Action) UnmarshalText(text []byte) error {
	switch {
	case enumtext.Equal(string(text), "deny"):
		*a = ActionReset
		return nil
	case enumtext.Equal(string(text), "drop"):
		*a = ActionClose
		return nil
	}
	return enumtext.Unmarshal(a, text, actionWords)
}

// dropped reports whether an action ends a connection or a request against the
// client's will. The status is that of the reply, 0 if there is none.
func dropped(a Action, status int) bool {
	return a == ActionClose || a == ActionReset || status >= 400
}
