package lbpool

import "context"

// Route tells a Transport where a request may go, and afterwards its owner where it went. It belongs to one request,
// in whose context it travels, and must not be read while the request is being sent.
type Route struct {
	// Pool is the pool to choose from. Required. The Transport changes it when a backup pool takes over.
	Pool *Pool
	// Hint is what is known about the request.
	Hint Hint
	// Wait lets the request wait in the pool's queue when servers are at their limits. It should be set for requests
	// that are harmless if they come late, such as GET.
	Wait bool

	// Server is the server that gave the answer, or else the one that was tried last; nil if there was none. The
	// Transport sets it, and all below.
	Server *Server
	// Unmet is why Hint.Server was not taken.
	Unmet Reason
	// Tried is how many servers were tried, 1 when the first could be reached.
	Tried int
	// Servers are the servers that were tried, in order. They hold until the route is used again.
	Servers []*Server

	few [DefaultRetries + 1]*Server // room for Servers
}

// begin forgets what an earlier use has left.
func (r *Route) begin() {
	r.Server, r.Unmet, r.Tried, r.Servers = nil, ReasonNone, 0, r.few[:0]
}

// add notes that a server is tried.
func (r *Route) add(l Lease) {
	r.Server, r.Unmet = l.Server, l.Unmet
	r.Tried++
	r.Servers = append(r.Servers, l.Server)
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
