package limpet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// cutGrace is how long what was cut off has to end. All that limpet does ends
// much sooner; handlers that a program has wrapped may not.
const cutGrace = time.Second

// Shutdown stops the servers that serve vs, as [http.Server.Shutdown] does, and
// also waits for what that knows nothing of: upgraded connections, tunnels, and
// handlers that have hijacked theirs. When ctx ends, it cuts off what is left:
// connections are closed, and with them the contexts of their requests end.
// At the end it closes idle connections to servers.
//
// When Shutdown returns, no request is under way any more, and the records of
// all have been handed out; excepted is a handler that goes on for more than a
// second after its connection was closed. So it is time then, and not before,
// to end the context of [VirtualService.Run], to save tables and to close
// stores.
//
// The error is nil if everything has ended by itself; else it matches that of
// ctx. A server that fails to close its listeners adds its own. Servers that
// the list leaves out go on, but vs takes upgrades no more once something was
// cut off: it should not be used any longer.
func (vs *VirtualService) Shutdown(ctx context.Context, servers ...*http.Server) error {
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
		a.tell()
	}
}

func (a *activity) tell() {
	select {
	case a.none <- struct{}{}:
	default:
	}
}

// wait returns when there are none, or when ctx ends, and how many there are.
func (a *activity) wait(ctx context.Context) int64 {
	for {
		n := a.n.Load()
		if n == 0 {
			a.tell() // others may be waiting, too
			return 0
		}
		select {
		case <-a.none: // perhaps it is an old one
		case <-ctx.Done():
			return a.n.Load()
		}
	}
}
