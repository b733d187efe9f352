package limpet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/policy"
)

// A Record tells of one request, or of one connection that was denied.
// Whoever gets it owns it. Header values, cookies, queries, keys and values of
// tables are not in it, unless a script logs them or fails over one: an error
// names the argument that it is about.
type Record struct {
	VirtualService string        // the name
	Start          time.Time     // when the request, or the connection, arrived
	Duration       time.Duration // until the last byte was handed to the connection

	Client netip.AddrPort // who the request came from, behind trusted proxies
	Source netip.AddrPort // the peer
	Local  netip.AddrPort // where the connection was accepted

	// Of the request; all are empty if Connection is set.
	Connection bool   // the record is of a connection denied when it was accepted
	Method     string // as received
	Host       string // as received
	Path       string // as received, percent-encoded
	Proto      string // such as "HTTP/1.1"

	Status   int   // of the response; 0 if none was sent
	Bytes    int64 // of the response's body, as far as it was written through
	Hijacked bool  // the handler or the proxy took over the connection
	Closed   bool  // the connection was closed or reset by a policy or a script

	// What decided.
	NetworkRule  string // the network security rule that matched
	SecurityRule string // the HTTP security rule that matched
	RequestRule  string // the HTTP request rule that replied, or the first that changed something
	ResponseRule string // the first HTTP response rule that changed something
	// Monitored is what HTTP rules in dry run would have done.
	Monitored []policy.Outcome

	// Where it went.
	Pool        string         // empty if no pool was chosen
	Server      netip.AddrPort // invalid if no server was tried
	ServerName  string         // the server's name, if it has one
	Tried       int            // how many servers were tried
	Persistence Persistence    // whether the client was bound to the server

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
	// Filtered means that a rule with Log set has asked for the record.
	Filtered bool
}

// Persistence says what came of a client's binding to a server.
type Persistence uint8

// What can come of a binding. The order is by how much it says.
const (
	PersistenceNone    Persistence = iota // nobody asked
	PersistenceMiss                       // the client was not bound
	PersistenceExpired                    // the client had been bound, too long ago
	PersistenceHit                        // the client went to the server it was bound to
	RepinDown                             // another server was taken: the bound one is down or cannot be reached
	RepinDisabled                         // another server was taken: the bound one is disabled
	RepinGone                             // another server was taken: the bound one is not in the pool any more
	RepinFull                             // another server was taken: the bound one has as many connections as it may
	RepinMaintenance                      // another server was taken: the bound one is down for maintenance
)

var persistenceNames = [...]string{"", "miss", "expired", "hit", "repin:down", "repin:disabled", "repin:gone", "repin:full", "repin:maintenance"}

// String returns "", "miss", "expired", "hit", "repin:down", "repin:disabled",
// "repin:gone", "repin:full" or "repin:maintenance".
func (p Persistence) String() string {
	if int(p) < len(persistenceNames) {
		return persistenceNames[p]
	}
	return fmt.Sprintf("Persistence(%d)", uint8(p))
}

// Significance is a reason why a record deserves a look.
type Significance uint8

// The reasons.
const (
	PolicyDrop   Significance = iota + 1 // a policy refused the connection or the request
	ScriptFailed                         // a script failed
	ScriptClosed                         // a script closed the connection
	ServerChange                         // the server that the client was bound to could not be had
	NoServer                             // no server could be had
	ServerFailed                         // a server was tried and gave no answer
	ClientGone                           // the client left before it had its answer
	Status4xx                            // the response's status is 400 to 499
	Status5xx                            // the response's status is 500 or more
)

var significanceNames = [...]string{
	"", "dropped by policy", "script failed", "closed by script", "persistent server changed", "no server available",
	"server failed", "client gone", "status 4xx", "status 5xx",
}

// String returns the reason in words.
func (s Significance) String() string {
	if s > 0 && int(s) < len(significanceNames) {
		return significanceNames[s]
	}
	return fmt.Sprintf("Significance(%d)", uint8(s))
}

// MarshalText gives the reason in words.
func (s Significance) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalText gives what String does.
func (p Persistence) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

func (r *Record) significant(s Significance) {
	if !slices.Contains(r.Significant, s) {
		r.Significant = append(r.Significant, s)
	}
}

func (r *Record) scriptFailed(err error) {
	r.significant(ScriptFailed)
	var re *datascript.RuntimeError
	if errors.As(err, &re) {
		r.ScriptErrors = append(r.ScriptErrors, re)
	} else {
		r.Error = err
	}
}

// complete fills in the record and hands it out. p is what the handler
// panicked with, if it did.
func (tx *Transaction) complete(p any) {
	r := &tx.record
	r.VirtualService = tx.s.Name
	r.Duration = time.Since(r.Start)
	r.Client, r.Source, r.Local = tx.client, tx.source, tx.local
	r.Method, r.Host, r.Proto, r.Path = tx.r.Method, tx.r.Host, tx.r.Proto, tx.r.URL.EscapedPath()
	r.Status, r.Bytes = tx.rw.status, tx.rw.bytes
	r.Closed = tx.closing != staysOpen
	if tx.route.Pool != nil {
		r.Pool, r.Server = tx.Server()
	}
	if s := tx.route.Server; s != nil {
		r.ServerName = s.Name()
	}
	r.Tried = tx.route.Tried
	r.Persistence = tx.persistence()
	switch {
	case r.Persistence >= RepinDown:
		r.significant(ServerChange)
	case r.Closed && !slices.Contains(r.Significant, PolicyDrop):
		r.significant(ScriptClosed)
	}
	switch {
	case isAbort(p) && !r.Closed && tx.r.Context().Err() != nil:
		r.significant(ClientGone)
	case p != nil && !r.Closed:
		r.significant(ServerFailed)
	case r.Status >= 500:
		r.significant(Status5xx)
	case r.Status >= 400 && r.Status != statusClientGone:
		r.significant(Status4xx)
	}
	tx.vs.emit(tx.s, tx, r)
}

// persistence says what came of the client's binding.
func (tx *Transaction) persistence() Persistence {
	switch {
	case tx.selected.gone:
		return RepinGone
	case !tx.route.Hint.Server.IsValid():
		return tx.looked
	}
	switch tx.route.Unmet {
	case lbpool.ReasonDown:
		return RepinDown
	case lbpool.ReasonDisabled:
		return RepinDisabled
	case lbpool.ReasonGone:
		return RepinGone
	case lbpool.ReasonFull:
		return RepinFull
	case lbpool.ReasonMaintenance:
		return RepinMaintenance
	}
	return tx.looked
}

// emit counts a record, logs it and hands it to OnComplete.
func (vs *VirtualService) emit(s *snapshot, ctx context.Context, r *Record) {
	vs.counters.add(r)
	level := slog.LevelInfo
	switch {
	case len(r.ScriptErrors) > 0:
		level = slog.LevelError
	case len(r.Significant) > 0:
		level = slog.LevelWarn
	}
	switch {
	case !s.Logger.Enabled(ctx, level):
	case !r.Connection:
		s.Logger.LogAttrs(ctx, level, "request", r.attrs()...)
	case vs.counters.logDrop(time.Now()):
		s.Logger.LogAttrs(ctx, level, "connection denied", r.attrs()...)
	}
	if s.OnComplete != nil {
		s.OnComplete(*r)
	}
}

// attrs are the facts of a record for a logger, without those that are not
// known.
func (r *Record) attrs() []slog.Attr {
	attrs := make([]slog.Attr, 0, 20)
	text := func(key, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(key, value))
		}
	}
	text("vs", r.VirtualService)
	text("client", addrText(r.Client))
	if r.Source != r.Client {
		text("source", addrText(r.Source))
	}
	text("method", r.Method)
	text("host", r.Host)
	text("path", r.Path)
	if r.Status != 0 {
		attrs = append(attrs, slog.Int("status", r.Status), slog.Int64("bytes", r.Bytes))
	}
	text("pool", r.Pool)
	text("server", addrText(r.Server))
	text("persistence", r.Persistence.String())
	text("network_rule", r.NetworkRule)
	text("security_rule", r.SecurityRule)
	text("request_rule", r.RequestRule)
	text("response_rule", r.ResponseRule)
	for _, m := range r.Monitored {
		attrs = append(attrs, slog.Group("monitored", slog.String("rule", m.Rule), slog.String("action", m.Action.String())))
	}
	text("significant", reasons(r.Significant))
	if len(r.Log) > 0 {
		attrs = append(attrs, slog.Any("log", r.Log))
	}
	for _, e := range r.ScriptErrors {
		attrs = append(attrs, slog.Group("script", slog.String("name", e.Script), slog.String("event", e.Event.String()),
			slog.String("error", e.Message), slog.String("traceback", e.Traceback)))
	}
	if r.Error != nil {
		text("error", r.Error.Error())
	}
	return append(attrs, slog.Duration("duration", r.Duration))
}

func reasons(list []Significance) string {
	words := make([]string, len(list))
	for i, s := range list {
		words[i] = s.String()
	}
	return strings.Join(words, ", ")
}
