package datascript

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/limpetlb/limpet/internal/enumtext"
	"github.com/limpetlb/limpet/internal/suggest"
)

// An Event is the point of a transaction at which a script runs.
type Event uint8

// The events of an HTTP transaction, in the order in which they can occur. The
// zero Event is not an event: in a [Chunk] it means that the headings of a
// listing name the events.
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

var eventNames = []string{
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

// eventAliases are further spellings, besides the short names and the
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

// String returns the short name of the event, such as "HTTP_REQ"; "invalid" for
// other values.
func (e Event) String() string { return enumtext.String(e, eventNames) }

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

// An UnsupportedEventError reports an event that is in the reference but never
// runs here: one of connections, TLS, DNS or another protocol. [ParseEvent]
// returns it, and a [CompileError] for a heading wraps it.
type UnsupportedEventError struct {
	Event string // its short name, such as "TCP_CLIENT_ACCEPT"
}

// Error says that the event is known but not supported.
func (e *UnsupportedEventError) Error() string {
	return "event " + e.Event + " is known, but not supported: limpet runs HTTP events"
}

// ParseEvent finds an event by name: its short name ("HTTP_REQ"), its
// configuration name ("VS_DATASCRIPT_EVT_HTTP_REQ") or a spelled-out form
// ("HTTP Request"). Letter case does not matter, and blanks, hyphens and
// underscores are equal. The error is an [*UnsupportedEventError] for the
// events of other protocols.
func ParseEvent(name string) (Event, error) {
	key := eventKey(name)
	if e, ok := eventOf(key); ok {
		return e, nil
	}
	if other := otherEvent(key); other != "" {
		return 0, &UnsupportedEventError{other}
	}
	meant := ""
	if event := likelyEvent(key); event != "" {
		meant = fmt.Sprintf("; did you mean %q?", event)
	}
	return 0, fmt.Errorf("unknown event %.64q, not one of %s%s", name, strings.Join(eventNames[1:], ", "), meant)
}

const configPrefix = "VS_DATASCRIPT_EVT_"

// eventKey returns the form in which names of events are compared: in capitals,
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

// otherEvent returns the short name of one of otherEvents, or "".
func otherEvent(key string) string {
	for _, names := range otherEvents {
		if slices.Contains(names, key) {
			return names[0]
		}
	}
	return ""
}

// likelyEvent returns the short name of the event whose name is similar to a
// key: at most two letters are missing, wrong, too many or swapped. It returns
// "" if there is none, or if the key is a name.
func likelyEvent(key string) string {
	best, name := 3, ""
	try := func(candidate, short string) {
		if d := suggest.Distance(key, candidate, best); d < best {
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

// sortedAliases iterates over eventAliases in a fixed order.
func sortedAliases() func(yield func(string, Event) bool) {
	return func(yield func(string, Event) bool) {
		for _, alias := range slices.Sorted(maps.Keys(eventAliases)) {
			if !yield(alias, eventAliases[alias]) {
				return
			}
		}
	}
}

// MarshalText returns the short name. It fails for a value without a name.
func (e Event) MarshalText() ([]byte, error) { return enumtext.Marshal(e, eventNames) }

// UnmarshalText accepts the same names as [ParseEvent]. The error for another
// text lists the short names.
func (e *Event) UnmarshalText(text []byte) error {
	event, err := ParseEvent(string(text))
	if err == nil {
		*e = event
	}
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
