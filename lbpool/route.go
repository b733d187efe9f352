package lbpool

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"time"
)

// Route says where a Transport may send one request, and afterwards tells the
// caller where it went. The request's context carries it, see WithRoute. Do not
// read it while the request is being sent.
type Route struct {
	// Pool is the pool to choose from. Required. The Transport changes it when
	// another pool takes over.
	Pool *Pool
	// Group is the group that chose Pool, if any. If Pool cannot take the
	// request, the Transport lets the group choose another pool; if none can,
	// the group's FailAction applies, not the pool's.
	Group *Group
	// Label is the label for which Group chose.
	Label string
	// Hint describes the request.
	Hint Hint
	// Wait lets the request wait in the pool's queue when servers are at their
	// limits. Set it for requests that do no harm if they arrive late, such as
	// GET. With a Group, a request waits only for the server that Hint names,
	// or if no other pool can take it.
	Wait bool
	// Claim, if not nil, returns the server to which the client is bound:
	// another request may have bound it a moment ago. The Transport calls it
	// before each attempt, after it has chosen a server. failed is the server
	// that chosen replaces, because it could not be reached, gave no response,
	// or was not available when Claim named it; nil if there is none.
	//
	// If Claim returns chosen or nil, chosen is used. If it returns another
	// server, the lease of chosen is cancelled and that server is taken. If
	// that one is not available, Unmet gives the reason, another server is
	// chosen, and Claim is called again, up to three times in all. Then the
	// last server chosen is used.
	//
	// Claim is not called if Hint.Server names chosen with its port, since the
	// binding is known then. It may block until the request's context is done.
	Claim func(chosen, failed *Server) *Server

	// Observer, if not nil, is informed of what the Transport does.
	Observer Observer

	// Server is the server that gave the response, or else the last one tried;
	// nil if there was none. The Transport sets it and all fields below.
	Server *Server
	// Unmet is why Hint.Server was not taken, or else why the first server that
	// Claim named and that was not available was not taken.
	Unmet Reason
	// Shared reports that Hint.Server names an address, without a port, that
	// several servers of the pool or group share.
	Shared bool
	// Tried is how many servers were tried; 1 if the first responded.
	Tried int
	// Answered reports that Server gave a response.
	Answered bool
	// Unwanted reports that the response is one for which Reselect tries other
	// servers, and that no server gave a better one.
	Unwanted bool
	// GivenUp is why the Transport tried another server, a *ForwardError; nil
	// if it tried no other, or if the one before gave a response that was not
	// wanted.
	GivenUp error
	// Servers are the servers that were tried, in order. The slice is valid
	// until the route is used again.
	Servers []*Server

	few     [defaultRetries + 1]*Server // backs Servers
	reroute reroute
}

// An Observer is informed of what a Transport does with a request, in the
// goroutine that sends it. It should return soon.
type Observer interface {
	// Queued is called when the request joins the queue of a pool.
	Queued(p *Pool)
	// Dequeued is called when it has left the queue, with the time that it has
	// waited.
	Dequeued(p *Pool, waited time.Duration)
	// Tried is called at the end of each try: when the header of the server's
	// response has arrived, or with the *ForwardError if there is none.
	Tried(p *Pool, s *Server, o Outcome)
}

// begin clears the results of an earlier use.
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

// A reroute is the state of a request that its pool cannot take.
type reroute struct {
	spent   []*Pool // pools of the group that could not take it
	waiting bool    // none of them could, so the request waits in a queue
	backups int
	gone    bool    // the wanted server belongs to a pool that was left
	claims  int     // calls of Claim for this attempt
	failed  *Server // the argument of Claim
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

// hintHeader sets Hint.Header to the header that the pool's algorithm uses.
func (r *Route) hintHeader(req *http.Request) {
	if name := r.Pool.HashHeader(); name != "" {
		r.Hint.Header = req.Header.Get(name)
	}
}

// turn finds another pool for a request that its pool could not take because of
// err. It reports whether there is one.
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
	if r.Hint.Server.IsValid() { // it belongs to the other pool
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
