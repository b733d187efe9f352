package limpet

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/http1"
	"github.com/limpetlb/limpet/persistence"
	"github.com/limpetlb/limpet/policy"
)

// A Record tells of one request, or of one connection that was denied.
// Its receiver owns it. Header values, cookies, queries, keys and values of
// tables are not in it, unless a script logs them or fails over one: an error
// names the argument that it is about.
type Record struct {
	VirtualService string        // the name
	Start          time.Time     // when the request, or the connection, arrived
	Duration       time.Duration // until the last byte was handed to the connection

	Client netip.AddrPort // who the request came from, behind trusted proxies
	// ClientSource says where Client was found: "peer", "x-forwarded-for",
	// "forwarded" or "header". ClientReason says why the search ended there,
	// such as "peer-untrusted" or "hop-malformed"; docs/guides/clients.md lists the
	// reasons. Both are empty for connections.
	ClientSource, ClientReason string

	Source netip.AddrPort // the peer, or what the PROXY protocol tells about it
	Proxy  netip.AddrPort // the proxy that spoke the PROXY protocol; invalid if none did
	Local  netip.AddrPort // where the connection was accepted
	// Location is the label of Client: the name of the most specific of the
	// configured IP groups it is in, else the code of its country, else
	// "Internal" for a private address; see [ipgroup.Set.Label]. Unlike there,
	// the country of a private address goes first, as it does for rules.
	Location string

	// Of the request; all are empty if Connection is set.
	Connection bool   // the record is of a connection denied, or above a limit, when it was accepted
	Method     string // as received
	Host       string // as received
	Path       string // as received, percent-encoded
	Proto      string // such as "HTTP/1.1"
	SentPath   string // the path that the server was to get, if it is another one
	RequestID  string // the transaction's, if anybody has asked for it
	UserID     string // the user's name, if a script or the authenticator has given it
	// RequestHeader is the header as received, if a rule with LogHeaders asked
	// for it. It does not have the values of Authorization,
	// Proxy-Authorization and Cookie.
	RequestHeader http.Header

	FirstByte    time.Duration // from Start until the server or the handler began its response; 0 if it did not
	ServerStatus int           // the status that the server or the handler gave, before policies and scripts; 0 if none

	Status   int   // of the response; 0 if none was sent
	Bytes    int64 // of the response's body, as far as it was written through
	Hijacked bool  // the handler or the proxy took over the connection
	Closed   bool  // the connection was closed or reset by a policy or a script

	// What decided.
	NetworkRule string // the network security rule that matched
	// ConnectionLimit is the path of the limit that the connection exceeds,
	// such as "connections.maxPerClient".
	ConnectionLimit string

	SecurityRule string // the HTTP security rule that matched
	RequestRule  string // the HTTP request rule that replied, or the first that changed something
	ResponseRule string // the first HTTP response rule that changed something
	// Monitored is what HTTP rules in dry run would have done.
	Monitored []policy.Outcome

	// Where it went.
	Pool        string         // empty if no pool was chosen, or a wrapped handler has not used it
	Server      netip.AddrPort // invalid if no server was tried
	ServerName  string         // the server's name, if it has one
	Tried       int            // how many servers were tried
	Persistence Persistence    // what came of the client's binding to a server
	// Joined means that another request of the client bound it first, and this
	// one followed: Persistence is then PersistenceJoined, or why the server
	// that the client was bound to before could not be had.
	Joined bool
	// Bound is the server that the client was bound to, if another one has taken
	// its place; invalid if not.
	Bound netip.AddrPort
	// GivenUp is why the server was given up that was tried before Server; nil if
	// there was none. It names the server.
	GivenUp error
	// BindingSource says where the client's server was found, "" if it was not: in
	// "memory", in the "near" cache of a "store" that was not asked, in the store,
	// in what is "local" while that is away, in a "cookie", in the configuration's
	// "map", or by a "script".
	BindingSource persistence.Source

	// Log are the lines of avi.vs.log, with their places.
	Log []string
	// ScriptErrors are the scripts that failed.
	ScriptErrors []*datascript.RuntimeError
	// Error is what went wrong elsewhere: no server, no answer, a policy that
	// could not be evaluated. Nil if nothing did.
	Error error
	// Significant says why the record deserves a look; it is empty for a
	// normal request.
	Significant []Significance
	// Filtered means that a rule with Log set, or a script that logs, has asked
	// for the record.
	Filtered bool
}

// Persistence is the outcome of a client's binding to a server. Each request
// has one.
type Persistence uint8

// The outcomes of a binding, in the order of how much they say: of several
// look-ups of a script, the last one in this order applies.
const (
	PersistenceNone      Persistence = iota // nobody asked for a binding, or the bound server was tried and did not answer
	PersistenceNoKey                        // the request has nothing by which the profile knows clients; nothing was looked up
	PersistenceInvalid                      // the request's persistence cookie could not be opened
	PersistenceMiss                         // the client was not bound
	PersistenceExpired                      // the client was not bound any more: its binding has expired
	PersistenceJoined                       // the client was not bound; another of its requests bound it while this one was under way, and this one followed
	PersistenceHit                          // the first server tried was the one that the client is bound to, and it answered
	PersistenceAmbiguous                    // the binding names an address that several servers of the pool share, without a port
	RepinDown                               // another server was taken: the bound one is down or could not be reached
	RepinDisabled                           // another server was taken: the bound one is disabled
	RepinDraining                           // another server was taken: the bound one is draining, without KeepBound
	RepinGone                               // another server was taken: the bound one is not in the pool any more
	RepinFull                               // another server was taken: the bound one is at its limit of connections or requests
	RepinMaintenance                        // another server was taken: the bound one is down for maintenance
	persistences                            // how many there are
)

var persistenceNames = [persistences]string{
	"", "nokey", "invalid", "miss", "expired", "joined", "hit", "ambiguous",
	"repin:down", "repin:disabled", "repin:draining", "repin:gone", "repin:full", "repin:maintenance",
}

// String returns "", "nokey", "invalid", "miss", "expired", "joined", "hit",
// "ambiguous", "repin:down", "repin:disabled", "repin:draining", "repin:gone",
// "repin:full" or "repin:maintenance".
func (p Persistence) String() string {
	if p < persistences {
		return persistenceNames[p]
	}
	return fmt.Sprintf("Persistence(%d)", uint8(p))
}

// MarshalText returns the same text as String.
func (p Persistence) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// repin reports whether another server took the place of the bound one.
func (p Persistence) repin() bool { return p >= RepinDown }

func (r *Record) scriptFailed(err error) {
	r.significant(ScriptFailed)
	if re, ok := errors.AsType[*datascript.RuntimeError](err); ok {
		r.ScriptErrors = append(r.ScriptErrors, re)
	} else {
		r.Error = err
	}
}

// complete fills in the record and hands it out. p is what the handler
// panicked with, if it did.
func (tx *transaction) complete(p any) {
	r := &tx.record
	r.Duration = time.Since(r.Start)
	r.Status, r.Bytes = tx.rw.status, tx.rw.bytes
	r.Closed = tx.closing != staysOpen
	r.Tried = tx.route.Tried
	tx.concludeBinding()
	switch {
	case r.Persistence.repin():
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
	if tx.s.wantsRecords(tx.shared) {
		tx.describe()
	}
	tx.vs.emit(tx.s, tx.shared, r)
}

// describe fills in what only those need who read records.
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

// failed reports whether the request has failed, as rate limits count it: what
// is normal for the service is no failure.
func (tx *transaction) failed() bool {
	return slices.ContainsFunc(tx.record.Significant, func(s Significance) bool {
		return (s == ServerFailed || s == ServerTimeout || s == Status4xx || s == Status5xx) && !tx.s.Logging.ignored(s, tx.record.Status)
	})
}
