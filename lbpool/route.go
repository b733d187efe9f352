package lbpool

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
)

// Route tells a Transport where a request may go, and afterwards its owner where it went. It belongs to one request,
// in whose context it travels, and must not be read while the request is being sent.
type Route struct {
	// Pool is the pool to choose from. Required. The Transport changes it when another pool takes over.
	Pool *Pool
	// Group is the group that has chosen Pool, if one has. When Pool cannot take the request after all, the Transport
	// lets the group choose another, and when none can, it does what the group's FailAction says, not the pool's.
	Group *Group
	// Label is the label that was asked for when Group chose.
	Label string
	// Hint is what is known about the request.
	Hint Hint
	// Wait lets the request wait in the pool's queue when servers are at their limits. It should be set for requests
	// that are harmless if they come late, such as GET. With a Group a request waits only for the server that Hint wants,
	// or when no other pool can take it.
	Wait bool
	// Claim, if it is not nil, says which server the client is bound to: another request may have bound it a moment ago.
	// The Transport calls it before each attempt, after it has chosen a server. failed is the server whose place chosen
	// takes: it could not be reached, has not answered, or could not be had when Claim named it. It is nil if there is
	// none.
	//
	// If Claim returns chosen or nil, chosen is used. If it returns another server, the lease of chosen is given back as if
	// it had never been, and that server is taken. If that cannot be had, Unmet says why, another server is chosen, and
	// Claim is called again, three times in all. Then the last one chosen is used.
	//
	// Claim is not called if Hint.Server names chosen with its port, since the binding is known then: so it costs nothing
	// for clients that are bound. It may block, for as long as the request's context allows.
	Claim func(chosen, failed *Server) *Server

	// Server is the server that gave the answer, or else the one that was tried last; nil if there was none. The
	// Transport sets it, and all below.
	Server *Server
	// Unmet is why Hint.Server was not taken, or else why the first server that Claim named and that could not be had was
	// not.
	Unmet Reason
	// Shared reports that Hint.Server names an address, without a port, that several servers of the pool or group share.
	Shared bool
	// Tried is how many servers were tried, 1 when the first could be reached.
	Tried int
	// Answered reports that Server has given an answer.
	Answered bool
	// Unwanted reports that the answer is one for which Reselect tries other servers, and that none gave a better one.
	Unwanted bool
	// GivenUp is why another server was tried after the one before, a *ForwardError; nil if there was no other, or if the one
	// before has given an answer that was not wanted.
	GivenUp error
	// Servers are the servers that were tried, in order. They hold until the route is used again.
	Servers []*Server

	few     [defaultRetries + 1]*Server // room for Servers
	reroute reroute
}

// begin forgets what an earlier use has left.
func (r *Route) begin() {
	r.Shared = false
	r.GivenUp, r.Unwanted, r.Answered = nil, false, false
	r.Server, r.Unmet, r.Tried, r.Servers = nil, ReasonNone, 0, r.few[:0]
	r.reroute = reroute{}
}

// add notes that a server is tried.
func (r *Route) add(l Lease) {
	r.Server, r.Unmet = l.Server, l.Unmet
	r.Shared = l.Shared || r.Group != nil && r.Group.shared(&r.Hint)
	if r.Unmet == ReasonGone && r.Group != nil {
		r.Unmet = r.Group.unmet(&r.Hint) // another pool of the group may have it
	}
	if r.Unmet == ReasonNone && r.reroute.gone {
		r.Unmet = ReasonGone
	}
	r.reroute.claims, r.reroute.failed = 0, l.Server
	r.Tried++
	r.Servers = append(r.Servers, l.Server)
}

// A reroute is what a request goes through whose pool cannot take it.
type reroute struct {
	spent   []*Pool // pools of the group that could not take it
	waiting bool    // none of them could: it is in a queue
	backups int
	gone    bool    // the wanted server was left behind with its pool
	claims  int     // calls of Claim for this attempt
	failed  *Server // that was given up, for Claim
}

const (
	maxBackups = 3
	maxClaims  = 3
)

// waits reports whether the request is to wait in the queue of its pool.
func (r *Route) waits(h *Hint) bool {
	if !r.Wait || r.Group == nil || r.reroute.waiting {
		return r.Wait
	}
	return h.Server.IsValid() && r.Pool.refresh().has(h.Server)
}

// hintHeader puts into the hint the header that the pool's algorithm wants.
func (r *Route) hintHeader(req *http.Request) {
	if name := r.Pool.HashHeader(); name != "" {
		r.Hint.Header = req.Header.Get(name)
	}
}

// turn finds another pool for a request that its pool could not take because of err. It reports whether there is one.
func (r *Route) turn(err error) bool {
	fail := r.Pool.FailAction()
	if r.Group != nil {
		fail = r.Group.fail
		var refused *unavailableError
		if !errors.As(err, &refused) && !r.reroute.waiting {
			r.reroute.spent = append(r.reroute.spent, r.Pool)
			if p, err := r.Group.choose(r.Label, &r.Hint, r.reroute.spent); err == nil {
				r.Pool = p
				return true
			}
			if p := r.Group.queueing(r.Label); p != nil && r.Wait {
				r.Pool, r.reroute.waiting = p, true
				return true
			}
		}
	}
	if fail.Kind != FailBackup || r.reroute.backups == maxBackups {
		return false
	}
	r.reroute.backups++
	r.Pool, r.Group = fail.Backup, nil
	if r.Hint.Server.IsValid() { // it is of the other pool
		r.reroute.gone, r.Hint.Server = true, netip.AddrPort{}
	}
	return true
}

type routeKey struct{}

// WithRoute returns a context that carries r to a Transport.
func WithRoute(ctx context.Context, r *Route) context.Context {
	return context.WithValue(ctx, routeKey{}, r)
}

// RouteFrom returns the route that ctx carries.
func RouteFrom(ctx context.Context) (*Route, bool) {
	r, ok := ctx.Value(routeKey{}).(*Route)
	return r, ok
}
