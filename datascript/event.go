package datascript

import (
	"fmt"
	"strings"
)

// An Event names the moment of a transaction at which a script runs.
type Event uint8

// The events of an HTTP transaction, in the order in which they can occur.
// The zero Event is no event: in a [Chunk] it marks a listing whose headings
// name the events.
const (
	HTTPAuth     Event = iota + 1 // before the client is authenticated
	HTTPPostAuth                  // after the client has been authenticated
	HTTPReq                       // the request's headers have been read, its body has not
	HTTPReqData                   // the request's body has been buffered
	LBDone                        // a server has been chosen, nothing has been sent to it
	HTTPLBFailed                  // no server could be chosen
	HTTPResp                      // the server's headers have been read, its body has not
	RespFailed                    // the server gave no valid response
	HTTPRespData                  // the response's body has been buffered
	numEvents
)

var eventNames = [numEvents]string{
	HTTPAuth:     "HTTP_AUTH",
	HTTPPostAuth: "HTTP_POST_AUTH",
	HTTPReq:      "HTTP_REQ",
	HTTPReqData:  "HTTP_REQ_DATA",
	LBDone:       "LB_DONE",
	HTTPLBFailed: "HTTP_LB_FAILED",
	HTTPResp:     "HTTP_RESP",
	RespFailed:   "RESP_FAILED",
	HTTPRespData: "HTTP_RESP_DATA",
}

// eventAliases are further spellings in use, beside the short names and the
// configuration names VS_DATASCRIPT_EVT_….
var eventAliases = map[string]Event{
	"HTTP_REQUEST":       HTTPReq,
	"HTTP_RESPONSE":      HTTPResp,
	"HTTP_REQUEST_DATA":  HTTPReqData,
	"HTTP_RESPONSE_DATA": HTTPRespData,
	"HTTP_LB_DONE":       LBDone,
	"LB_FAILED":          HTTPLBFailed,
	"HTTP_RESP_FAILED":   RespFailed,
	"RESPONSE_FAILED":    RespFailed,
}

// String returns the short name of the event, such as "HTTP_REQ".
func (e Event) String() string {
	if e > 0 && e < numEvents {
		return eventNames[e]
	}
	return fmt.Sprintf("Event(%d)", uint8(e))
}

// ParseEvent finds an event by name: its short name ("HTTP_REQ"), its
// configuration name ("VS_DATASCRIPT_EVT_HTTP_REQ") or a spelled-out form
// ("HTTP Request"). Letter case, and the choice between blanks, hyphens and
// underscores, do not matter.
func ParseEvent(name string) (Event, error) {
	if e, ok := parseEvent(name); ok {
		return e, nil
	}
	return 0, fmt.Errorf("datascript: unknown event %q", name)
}

func parseEvent(name string) (Event, bool) {
	key := strings.Map(func(r rune) rune {
		if r == ' ' || r == '-' {
			return '_'
		}
		return r
	}, strings.ToUpper(strings.TrimSpace(name)))
	key = strings.TrimPrefix(key, "VS_DATASCRIPT_EVT_")
	for e := Event(1); e < numEvents; e++ {
		if eventNames[e] == key {
			return e, true
		}
	}
	e, ok := eventAliases[key]
	return e, ok
}

// MarshalText gives the short name.
func (e Event) MarshalText() ([]byte, error) {
	if e == 0 || e >= numEvents {
		return nil, fmt.Errorf("datascript: invalid event %d", uint8(e))
	}
	return []byte(e.String()), nil
}

// UnmarshalText accepts what [ParseEvent] accepts.
func (e *Event) UnmarshalText(text []byte) (err error) {
	*e, err = ParseEvent(string(text))
	return err
}

// eventSet is a set of events, one bit each.
type eventSet uint16

func events(list ...Event) (s eventSet) {
	for _, e := range list {
		s |= 1 << e
	}
	return s
}

func (s eventSet) has(e Event) bool { return s&(1<<e) != 0 }

// The sets in which functions of the API are legal.
const anyEvent = ^eventSet(0)

var (
	requestEvents  = events(HTTPAuth, HTTPPostAuth, HTTPReq, HTTPReqData)
	beforeResponse = requestEvents | events(LBDone)
	failureEvents  = events(HTTPLBFailed, RespFailed)
	notFailed      = anyEvent &^ failureEvents
)
