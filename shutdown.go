package limpet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// cutGrace is how long exchanges may take to end after they were cut off. Those
// of limpet end much sooner; wrapped handlers may not.
const cutGrace = time.Second

const (
	// drainIdle is the default of [ConnectionLimits].DrainIdle.
	drainIdle = 5 * time.Second
	// drainLeast is how long a connection that was in the queue of a listener
	// at the end may take to send its request: a server of net/http that is
	// being shut down drops requests that it has not begun to read.
	drainLeast = time.Second
)

// Drain makes each response the last of its connection: with "Connection:
// close" in HTTP/1, with GOAWAY in HTTP/2. So clients send their next request
// elsewhere, and never on a connection that is just being closed. Everything
// else goes on, including new connections, which serve one request each. Drain
// cannot be undone.
//
// [VirtualService.Shutdown] calls Drain. Call it earlier if a load balancer in
// front needs time to notice that this server ends.
func (vs *VirtualService) Drain() {
	vs.drain.Do(func() {
		vs.drained = time.Now()
		vs.draining.Store(true)
	})
}

// Shutdown stops the servers that serve vs, without losing a request:
//
//   - it calls [VirtualService.Drain];
//   - it ends the listeners of [VirtualService.Listener], once the connections
//     in their queues are accepted;
//   - connections from these listeners may be idle until
//     [ConnectionLimits].DrainIdle after Drain, and for 1 s at least, so that
//     their clients can ask once more;
//   - it stops the servers as [http.Server.Shutdown] does, which closes idle
//     connections;
//   - it waits for requests, and for what net/http knows nothing of: upgraded
//     connections, tunnels, and handlers that have hijacked theirs.
//
// When ctx ends, it cuts off what is left: connections are closed, and with
// them the contexts of their requests end. At the end it closes idle
// connections to servers.
//
// When Shutdown returns, all requests have ended and their records have been
// handed out, except those of handlers that go on for more than a second after
// their connection was closed. End the context of [VirtualService.Run], save
// tables and close stores after that, not before.
//
// The error is nil if everything has ended by itself; else it matches that of
// ctx. A server that fails to close its listeners adds its own. Name all
// servers: those that the list leaves out go on with the connections that they
// have, and vs takes upgrades no more once something was cut off. vs should not
// be used any longer.
func (vs *VirtualService) Shutdown(ctx context.Context, servers ...*http.Server) error {
	vs.Drain()
	if len(servers) > 0 && vs.gate.Listening() {
		vs.gate.Stop(ctx)
		end := vs.drained.Add(cmp.Or(vs.current.Load().Connections.DrainIdle, drainIdle))
		if least := time.Now().Add(drainLeast); end.Before(least) {
			end = least
		}
		idle, cancel := context.WithDeadline(ctx, end)
		vs.gate.AwaitNone(idle)
		cancel()
	}
	faults := make([]error, len(servers)+1)
	var wg sync.WaitGroup
	for i, srv := range servers {
		wg.Go(func() { faults[i] = srv.Shutdown(ctx) })
	}
	wg.Wait() // after that no request begins
	if n := vs.active.wait(ctx); n > 0 {
		faults[len(servers)] = fmt.Errorf("limpet: %d requests cut off: %w", n, ctx.Err())
	}
	if ctx.Err() != nil {
		for _, srv := range servers {
			_ = srv.Close()
		}
		vs.cut()
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), cutGrace)
		defer cancel()
		vs.active.wait(ending)
	}
	vs.CloseIdleConnections()
	return errors.Join(faults...)
}

// cutOff closes a hijacked connection when the virtual service is shut down,
// unless stop is called before.
func (vs *VirtualService) cutOff(c net.Conn) (stop func() bool) {
	return context.AfterFunc(vs.uncut, func() { _ = c.Close() })
}

// activity counts the transactions that are under way. Make one with
// newActivity.
type activity struct {
	n    atomic.Int64
	none chan struct{} // gets a token when there are none
}

func newActivity() activity { return activity{none: make(chan struct{}, 1)} }

func (a *activity) enter() { a.n.Add(1) }

func (a *activity) leave() {
	if a.n.Add(-1) == 0 {
		a.notify()
	}
}

func (a *activity) notify() {
	select {
	case a.none <- struct{}{}:
	default:
	}
}

// wait returns when there are no transactions or ctx ends, with their number.
func (a *activity) wait(ctx context.Context) int64 {
	for {
		n := a.n.Load()
		if n == 0 {
			a.notify() // others may be waiting, too
			return 0
		}
		select {
		case <-a.none: // perhaps it is an old one
		case <-ctx.Done():
			return a.n.Load()
		}
	}
}
