package lua51

import (
	"container/list"
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// A Gate bounds how many scripts of an engine run at a time, and how much the
// others hold meanwhile: those that wait for the host, and the transactions
// whose scripts have left variables for later events. An event that finds no
// slot waits in line. A script that comes back from the host, and a later
// event of a transaction that holds memory, go first and need no memory:
// only by going on do they give back what they hold. A few scripts keep their
// slots while they wait for the host; see isQuiet.
type Gate struct {
	limits *Limits
	busy   error // if there is no room
	quiet  int64 // see isQuiet

	// The number of scripts that run in the lower half, and of those that
	// wait for the host in the upper one.
	scripts atomic.Int64
	held    atomic.Int64 // bytes, besides outsideBytes for each that waits for the host
	waiting atomic.Int64 // in both lines

	mu                sync.Mutex
	returning, coming list.List // of *waiter
}

// A waiter is an event in line. Its turn has come when ready is closed.
type waiter struct{ ready chan struct{} }

// outsideBytes is what a script holds at least while it waits for the host:
// the Lua state, and a stack of a goroutine.
const outsideBytes = 64 << 10

const oneOutside = 1 << 32

// newGate returns a gate with limits that do not change.
func newGate(limits *Limits, busy error) *Gate {
	return &Gate{limits: limits, busy: busy, quiet: int64(min(limits.Concurrent/8, limits.HeldBytes/outsideBytes))}
}

// Enter waits until a script may run; returning says that its transaction holds
// memory already. It returns the engine's busy error if there is no slot in
// time, or the cause of the context's end.
func (g *Gate) Enter(ctx context.Context, returning bool) error {
	for g.waiting.Load() == 0 {
		n := g.scripts.Load()
		if !g.hasSlot(n) || !returning && !g.roomy(n) {
			break
		}
		if g.scripts.CompareAndSwap(n, n+1) {
			return nil
		}
	}
	return g.wait(ctx, returning, 0)
}

// leave ends what Enter began.
func (g *Gate) leave() {
	g.scripts.Add(-1)
	g.next()
}

// isQuiet reports whether a script may keep its slot while it asks the host,
// because no more than an eighth of the slots are taken: to give it away and
// to take one again would take longer than a table in memory does. So those
// that keep theirs, however long the host takes, are never more than that.
func (g *Gate) isQuiet() bool { return g.scripts.Load()&(oneOutside-1) <= g.quiet }

// goOut gives the slot of a script that asks the host to others. The script
// holds some bytes meanwhile. It reports false, and does nothing, if there is
// no memory for that.
func (g *Gate) goOut(bytes int64) bool {
	if bytes > 0 && !g.hold(bytes) {
		return false
	}
	g.scripts.Add(oneOutside - 1)
	g.next()
	return true
}

// comeBack waits for a slot again.
func (g *Gate) comeBack(ctx context.Context, bytes int64) error {
	var err error
	if g.waiting.Load() != 0 || !g.take(oneOutside) {
		err = g.wait(ctx, true, oneOutside)
	}
	g.release(bytes)
	return err
}

// giveUp ends what goOut began for a script that does not come back.
func (g *Gate) giveUp(bytes int64) {
	g.scripts.Add(-oneOutside)
	g.release(bytes)
	g.next()
}

// hold counts bytes as held, if there is room for them.
func (g *Gate) hold(bytes int64) bool {
	if g.held.Add(bytes)+outside(g.scripts.Load()) > g.room() {
		g.release(bytes)
		return false
	}
	return true
}

// release takes back what hold has counted.
func (g *Gate) release(bytes int64) {
	if bytes > 0 {
		g.held.Add(-bytes)
		g.next()
	}
}

func (g *Gate) room() int64 { return int64(g.limits.HeldBytes) }

// The following take what g.scripts is.

func outside(scripts int64) int64        { return scripts >> 32 * outsideBytes }
func (g *Gate) roomy(scripts int64) bool { return g.held.Load()+outside(scripts) < g.room() }
func (g *Gate) hasSlot(scripts int64) bool {
	return scripts&(oneOutside-1) < int64(g.limits.Concurrent)
}

// take takes a slot if there is one, and takes back what the script counted
// as outside.
func (g *Gate) take(outside int64) bool {
	for {
		n := g.scripts.Load()
		if !g.hasSlot(n) {
			return false
		}
		if g.scripts.CompareAndSwap(n, n+1-outside) {
			return true
		}
	}
}

// next lets those in line in, as far as there is room.
func (g *Gate) next() {
	if g.waiting.Load() > 0 {
		g.mu.Lock()
		g.dispatch()
		g.mu.Unlock()
	}
}

// dispatch is next; the caller has the lock. Scripts count as outside until
// they return from wait.
func (g *Gate) dispatch() {
	for _, line := range []*list.List{&g.returning, &g.coming} {
		for line.Len() > 0 && (line == &g.returning || g.roomy(g.scripts.Load())) && g.take(0) {
			w := line.Remove(line.Front()).(*waiter)
			g.waiting.Add(-1)
			close(w.ready)
		}
	}
}

// wait waits in line.
func (g *Gate) wait(ctx context.Context, returning bool, outside int64) error {
	w := &waiter{make(chan struct{})}
	line := &g.coming
	if returning {
		line = &g.returning
	}
	g.mu.Lock()
	if !returning && line.Len() >= g.limits.Waiting {
		g.mu.Unlock()
		return g.busy
	}
	elem := line.PushBack(w)
	g.waiting.Add(1)
	g.dispatch()
	g.mu.Unlock()

	timer := time.NewTimer(g.limits.Wait)
	defer timer.Stop()
	err := error(nil)
	select {
	case <-w.ready:
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-timer.C:
		err = g.busy
	}
	if err != nil {
		g.mu.Lock()
		select {
		case <-w.ready: // at the same time
			err = nil
		default:
			line.Remove(elem)
			g.waiting.Add(-1)
		}
		g.mu.Unlock()
	}
	g.scripts.Add(-outside)
	return err
}
