package lbpool

import "context"

// Route tells a Transport where a request may go, and afterwards its owner where it went. It belongs to one request,
// in whose context it travels, and must not be read while the request is being sent.
type Route struct {
	// Pool is the pool to choose from. Required.
	Pool *Pool
	// Hint is what is known about the request.
	Hint Hint

	// Server is the server that was tried last, nil if there was none. The Transport sets it, and all below.
	Server *Server
	// Unmet is why Hint.Server was not taken.
	Unmet Reason
	// Tried is how many servers were tried, 1 when the first could be reached.
	Tried int
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
