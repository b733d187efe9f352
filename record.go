package limpet

import (
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/enumtext"
	"github.com/limpetlb/limpet/internal/http1"
	"github.com/limpetlb/limpet/persistence"
	"github.com/limpetlb/limpet/policy"
)

// A Record describes one request, or one denied connection. The receiver owns
// it. It has no header values, cookies, queries, and keys and values of tables,
// with these exceptions: RequestHeader, TraceID, the lines that a script logs,
// and the error of a script, which names the faulty argument.
type Record struct {
	VirtualService string        // the name
	Start          time.Time     // when the request, or the connection, arrived
	Duration       time.Duration // until the last byte was handed to the connection

	Client netip.AddrPort // the client, behind trusted proxies
	// ClientSource says where Client was found: "peer", "x-forwarded-for",
	// "forwarded" or "header". ClientReason says why the search ended there,
	// such as "peer-untrusted" or "hop-malformed"; docs/guides/clients.md lists
	// the reasons. Both are empty for connections.
	ClientSource, ClientReason string

	Source netip.AddrPort // the peer, or the address that the PROXY protocol gives for it
	Proxy  netip.AddrPort // the proxy that spoke the PROXY protocol; invalid if none did
	Local  netip.AddrPort // where the connection was accepted
	// Location is the label of Client: the name of the most specific of the
	// configured IP groups that contain it, else the code of its country, else
	// "Internal" for a private address; see [ipgroup.Set.Label]. Unlike there,
	// the country of a private address goes first, as it does for rules.
	Location string

	// Of the request; all are empty if Connection is set.
	Connection bool   // the record is of a connection denied, or above a limit, when it was accepted
	Method     string // as received
	Host       string // as received
	Path       string // as received, percent-encoded
	Proto      string // such as "HTTP/1.1"
	SentPath   string // the path for the server, if it is another one
	RequestID  string // the transaction's, if it was asked for
	// TraceID is the trace that the request belongs to, 32 hexadecimal digits:
	// if [Config].Tracer follows the request, that which it keeps; else that of
	// the client's header Traceparent, if it is valid (W3C Trace Context).
	TraceID string
	UserID  string // the user's name, if a script or the authenticator has given it
	// RequestHeader is the header as received, if a rule with LogHeaders asked
	// for it. The values of Authorization, Proxy-Authorization and Cookie are
	// redacted.
	RequestHeader http.Header

	FirstByte    time.Duration // from Start until the server or the handler began its response; 0 if it did not
	ServerStatus int           // the status that the server or the handler gave, before policies and scripts; 0 if none

	Status   int   // of the response; 0 if none was sent
	Bytes    int64 // of the response's body, as far as it was written through
	Hijacked bool  // the handler or the proxy took over the connection
	Closed   bool  // the connection was closed or reset by a policy or a script

	// Rules and limits that decided.
	NetworkRule string // the network security rule that matched
	// ConnectionLimit is the path of the limit that the connection exceeds,
	// such as "connections.maxPerClient".
	ConnectionLimit string

	SecurityRule string // the HTTP security rule that matched
	RequestRule  string // the HTTP request rule that replied, or the first that changed something
	ResponseRule string // the first HTTP response rule that changed something
	// Monitored are the actions that HTTP rules in dry run would have taken.
	Monitored []policy.Outcome

	// The pool and the server.
	Pool       string         // empty if no pool was chosen, or a wrapped handler has not used it
	Server     netip.AddrPort // invalid if no server was tried
	ServerName string         // the server's name, if it has one
	Tried      int            // how many servers were tried
	Outcome    Outcome        // the outcome of the client's binding to a server
	// Joined means that another request of the client bound it first, and this
	// one followed. Outcome is then OutcomeJoined, or says why the
	// server that the client was bound to before was not available.
	Joined bool
	// Bound is the server that the client was bound to, if another one has
	// taken its place; invalid if not.
	Bound netip.AddrPort
	// GivenUp says why the server that was tried before Server was given up,
	// and names it; nil if there was none.
	GivenUp error
	// BindingSource says where the client's server was found: in "memory", in a
	// "store", in its "near" cache, in the "local" tables while the store is
	// away, in a "cookie", in the configuration's "map", or by a "script". It
	// is "" if no server was found.
	BindingSource persistence.Source

	// Log are the lines of avi.vs.log, each with its position in the script.
	Log []string
	// ScriptErrors are the errors of the scripts that failed.
	ScriptErrors []*datascript.RuntimeError
	// Error is any other fault: no server, no answer, a policy that could not
	// be evaluated. Nil if there was none.
	Error error
	// Significant says why the record deserves a look; it is empty for a
	// normal request.
	Significant []Significance
	// Filtered means that a rule with Log set, or a script that logs, has asked
	// for the record.
	Filtered bool
}

// An Outcome is the outcome of a client's binding to a server. Each request
// has one.
type Outcome uint8

// The outcomes of a binding, from the least to the most specific. If a script
// makes several look-ups, the last outcome in this order applies.
const (
	OutcomeNone      Outcome = iota // nothing asked for a binding, or the bound server was tried and did not answer
	OutcomeNoKey                    // the request does not have the key that identifies clients; nothing was looked up
	OutcomeInvalid                  // the request's persistence cookie could not be opened
	OutcomeMiss                     // the client was not bound
	OutcomeExpired                  // the client was not bound any more: its binding has expired
	OutcomeJoined                   // the client was not bound; another of its requests bound it while this one was under way, and this one followed
	OutcomeHit                      // the first server tried was the one that the client is bound to, and it answered
	OutcomeAmbiguous                // the binding names an address that several servers of the pool share, without a port
	RepinDown                       // another server was taken: the bound one is down or could not be reached
	RepinDisabled                   // another server was taken: the bound one is disabled
	RepinDraining                   // another server was taken: the bound one is draining, without KeepBound
	RepinGone                       // another server was taken: the bound one is not in the pool any more
	RepinFull                       // another server was taken: the bound one is at its limit of connections or requests
	RepinMaintenance                // another server was taken: the bound one is down for maintenance
	outcomeCount                    // how many there are
)

var outcomeWords = []string{
	"", "nokey", "invalid", "miss", "expired", "joined", "hit", "ambiguous",
	"repin:down", "repin:disabled", "repin:draining", "repin:gone", "repin:full", "repin:maintenance",
}

// String returns "", "nokey", "invalid", "miss", "expired", "joined", "hit",
// "ambiguous", "repin:down", "repin:disabled", "repin:draining", "repin:gone",
// "repin:full" or "repin:maintenance"; "invalid" for other values.
func (p Outcome) String() string {
	if p == OutcomeNone {
		return ""
	}
	return enumtext.String(p, outcomeWords)
}

// MarshalText returns the text of String. It fails for other values.
func (p Outcome) MarshalText() ([]byte, error) {
	if p == OutcomeNone {
		return nil, nil
	}
	return enumtext.Marshal(p, outcomeWords)
}

// UnmarshalText reads the text of String, without regard to case, blanks, "-"
// and "_". The error for another text lists the texts.
func (p *Outcome) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*p = OutcomeNone
		return nil
	}
	return enumtext.Unmarshal(p, text, outcomeWords)
}

// repin reports whether another server took the place of the bound one.
func (p Outcome) repin() bool { return p >= RepinDown }

func (r *Record) scriptFailed(err error) {
	r.significant(ScriptFailed)
	if re, ok := errors.AsType[*datascript.RuntimeError](err); ok {
		r.ScriptErrors = append(r.ScriptErrors, re)
	} else {
		r.Error = err
	}
}

// complete fills in the record and hands it out. p is the handler's panic, if
// there was one.
func (tx *transaction) complete(p any) {
	defer tx.endTrace() // also if a Logger panics
	r := &tx.record
	r.Duration = time.Since(r.Start)
	r.Status, r.Bytes = int(tx.rw.status), tx.rw.bytes
	r.Closed = tx.closing != staysOpen
	r.Tried = tx.route.Tried
	tx.concludeBinding()
	switch {
	case r.Outcome.repin():
		r.significant(ServerChange)
	case r.Closed && !slices.Contains(r.Significant, PolicyDrop) && !slices.Contains(r.Significant, NoServer):
		r.significant(ScriptClosed)
	}
	if r.Tried > 1 {
		r.significant(ServerReselect)
	}
	if slow := tx.s.Logging.SlowResponse; slow > 0 && r.FirstByte > slow {
		r.significant(SlowResponse)
	}
	switch {
	case slices.Contains(r.Significant, ClientGone):
	case isAbort(p) && !r.Closed && tx.r.Context().Err() != nil:
		r.significant(ClientGone)
	case p != nil && !r.Closed:
		r.significant(ServerFailed)
	case r.Status >= 500:
		r.significant(Status5xx)
	case r.Status >= 400:
		r.significant(Status4xx)
	}
	if !tx.denied && tx.failed() {
		tx.s.security.Failed(tx)
	}
	if !r.Hijacked {
		tx.keepExemplar(&tx.vs.counters.exemplars, r.Duration)
	}
	if tx.trace != nil || tx.s.wantsRecords(tx.shared) || len(tx.vs.watchers.now().all) > 0 {
		tx.describe()
	}
	tx.vs.emit(tx.s, tx.shared, r, tx)
}

// describe fills in the fields that only readers of records need.
func (tx *transaction) describe() {
	r := &tx.record
	r.VirtualService = tx.s.Name
	r.Client, r.Source, r.Local = tx.client, tx.source, tx.local
	r.Location = tx.s.location(tx.client.Addr())
	r.ClientSource, r.ClientReason = tx.found.Source.String(), tx.found.Reason.String()
	if tx.conn != nil {
		r.Proxy = tx.conn.Proxy()
	}
	r.Method, r.Host, r.Proto, r.Path = tx.r.Method, tx.r.Host, tx.r.Proto, loggedPath(tx.r)
	r.RequestID, r.UserID = tx.id, tx.user
	if !tx.begun {
		r.TraceID = traceOf(tx.r.Header)
	}
	if tx.out != tx.r && tx.out.URL.Path != tx.r.URL.Path {
		r.SentPath = http1.Path(tx.out.URL)
	}
	// A wrapped handler need not use the pool.
	if tx.route.Pool != nil && (tx.proxied || tx.route.Server != nil || slices.Contains(r.Significant, NoServer)) {
		r.Pool, r.Server = tx.Server()
	}
	if s := tx.route.Server; s != nil {
		r.ServerName = s.Name()
	}
}

// describeLate fills in the fields for a reader of whom complete did not know.
// tx may be nil.
func (tx *transaction) describeLate() {
	if tx != nil && tx.record.VirtualService == "" {
		tx.describe()
	}
}

// failed reports whether the request has failed, as rate limits count it. A
// reason that the service ignores is not a failure.
func (tx *transaction) failed() bool {
	return slices.ContainsFunc(tx.record.Significant, func(s Significance) bool {
		return (s == ServerFailed || s == ServerTimeout || s == Status4xx || s == Status5xx) && !tx.s.Logging.ignored(s, tx.record.Status)
	})
}
