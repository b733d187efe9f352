package datascript

import (
	"fmt"
	"maps"
	"slices"
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

// otherEvents are the events of the reference that never run here: those of
// connections, of TLS, of other protocols. The first name of each is the one
// that errors show; the others are aliases.
var otherEvents = [][]string{
	{"TCP_CLIENT_ACCEPT"},
	{"SSL_HANDSHAKE_DONE"},
	{"SSL_PRE_CONNECT", "CLIENT_SSL_PRE_CONNECT", "SSL_PRECONNECT"},
	{"SSL_CLIENT_HELLO", "CLIENT_SSL_CLIENT_HELLO", "SSL_CLIENTHELLO"},
	{"DNS_REQ", "DNS_REQUEST"},
	{"DNS_RESP", "DNS_RESPONSE"},
	{"L4_REQUEST", "L4_REQ"},
	{"L4_RESPONSE", "L4_RESP"},
	{"CLIENT_CLOSED"},
	{"SERVER_CLOSED"},
	{"SERVER_CONNECTED"},
}

// An UnsupportedEventError reports an event that the reference has and this
// package never runs: one of connections, TLS, DNS or another protocol.
// [ParseEvent] returns it, and a [CompileError] for a heading wraps it.
type UnsupportedEventError struct {
	Event string // its short name, such as "TCP_CLIENT_ACCEPT"
}

// Error says that the event is known, and not supported.
func (e *UnsupportedEventError) Error() string {
	return "event " + e.Event + " is known, but not supported: limpet runs HTTP events"
}

// ParseEvent finds an event by name: its short name ("HTTP_REQ"), its
// configuration name ("VS_DATASCRIPT_EVT_HTTP_REQ") or a spelled-out form
// ("HTTP Request"). Letter case, and the choice between blanks, hyphens and
// underscores, do not matter. The error is an [*UnsupportedEventError] for
// the events of other protocols.
func ParseEvent(name string) (Event, error) {
	key := eventKey(name)
	if e, ok := eventOf(key); ok {
		return e, nil
	}
	if other := otherEvent(key); other != "" {
		return 0, &UnsupportedEventError{other}
	}
	return 0, fmt.Errorf("datascript: unknown event %q", name)
}

const configPrefix = "VS_DATASCRIPT_EVT_"

// eventKey is the form in which names of events are compared: in capitals,
// with underscores, without the prefix of the configuration.
func eventKey(name string) string {
	key := strings.Map(func(r rune) rune {
		if r == ' ' || r == '-' {
			return '_'
		}
		return r
	}, strings.ToUpper(strings.TrimSpace(name)))
	return strings.TrimPrefix(key, configPrefix)
}

func eventOf(key string) (Event, bool) {
	for e := Event(1); e < numEvents; e++ {
		if eventNames[e] == key {
			return e, true
		}
	}
	e, ok := eventAliases[key]
	return e, ok
}

// otherEvent returns the short name of one of otherEvents, or nothing.
func otherEvent(key string) string {
	for _, names := range otherEvents {
		if slices.Contains(names, key) {
			return names[0]
		}
	}
	return ""
}

// likelyEvent returns the short name of the event whose name a key is nearly:
// two letters at most are missing, wrong, too many or swapped. It is empty if
// there is none, or if the key is a name.
func likelyEvent(key string) string {
	best, name := 3, ""
	try := func(candidate, short string) {
		if d := editDistance(key, candidate, best); d < best {
			best, name = d, short
		}
	}
	for e := Event(1); e < numEvents; e++ {
		try(eventNames[e], eventNames[e])
	}
	for alias, e := range sortedAliases() {
		try(alias, eventNames[e])
	}
	for _, names := range otherEvents {
		for _, candidate := range names {
			try(candidate, names[0])
		}
	}
	if best == 0 {
		return ""
	}
	return name
}

// sortedAliases goes through eventAliases in an order that is always the same.
func sortedAliases() func(yield func(string, Event) bool) {
	return func(yield func(string, Event) bool) {
		for _, alias := range slices.Sorted(maps.Keys(eventAliases)) {
			if !yield(alias, eventAliases[alias]) {
				return
			}
		}
	}
}

// editDistance is the number of letters to insert, remove, replace or swap with
// their neighbour that makes b of a; limit if it is that or more.
func editDistance(a, b string, limit int) int {
	if d := len(a) - len(b); d >= limit || -d >= limit {
		return limit
	}
	var before, last []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, row = last, row, make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			replace := last[j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			row[j] = min(last[j]+1, row[j-1]+1, replace)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return min(row[len(b)], limit)
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
