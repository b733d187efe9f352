package admin

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/lbpool"
)

// watchPeriod is how often Run looks for new services and pools, counts the
// clients of draining servers, and looks after overrides.
const watchPeriod = time.Second

// A liveSet is what an Admin watches while Run is running.
type liveSet struct {
	mu       sync.Mutex
	services map[*limpet.VirtualService]*recorder
	pools    []*watchedPool
	drains   map[serverKey]*drainWatch
	last     map[serverKey]*lastDrainView
	ctx      context.Context // of the streams; nil if Run is not running
	end      context.CancelFunc

	running atomic.Bool
}

// A serverKey names a server over updates.
type serverKey struct {
	pool string
	addr netip.AddrPort
}

// A watchedPool is a pool whose events are watched.
type watchedPool struct {
	pool *lbpool.Pool
	vs   string
	stop func()
}

// A drainWatch is what was known about a drain when it was last looked at.
type drainWatch struct {
	since, deadline time.Time
	view            drainEvent
	counted         bool
}

// A stateEvent is a change of a server's state.
type stateEvent struct {
	VS      string    `json:"vs"`                // a virtual service with the pool
	Pool    string    `json:"pool"`              // the pool
	Server  string    `json:"server"`            // its name
	Address string    `json:"address"`           // with port
	From    string    `json:"from"`              // the state before
	To      string    `json:"to"`                // the state now
	Cause   string    `json:"cause"`             // why
	Monitor string    `json:"monitor,omitempty"` // that found out
	Error   string    `json:"error,omitempty"`   // what failed
	At      time.Time `json:"at"`                // when
}

// A drainEvent says how far a drain is.
type drainEvent struct {
	VS      string `json:"vs"`      // a virtual service with the pool
	Pool    string `json:"pool"`    // the pool
	Server  string `json:"server"`  // its name
	Address string `json:"address"` // with port
	Left    *int   `json:"left"`    // leases and bound clients; null if not known
	Leases  int    `json:"leases"`  // requests under way
	Bound   *int   `json:"bound"`   // clients bound to the server; null if not known
}

// A drainedEvent says that a drain has ended.
type drainedEvent struct {
	VS      string `json:"vs"`      // a virtual service with the pool
	Pool    string `json:"pool"`    // the pool
	Server  string `json:"server"`  // its name
	Address string `json:"address"` // with port
	lastDrainView
}

func newLiveSet() *liveSet {
	return &liveSet{
		services: map[*limpet.VirtualService]*recorder{},
		drains:   map[serverKey]*drainWatch{}, last: map[serverKey]*lastDrainView{},
	}
}

// Run watches services and pools, for records, events and streams, ends
// changes of operators whose time is over, and repeats those that an update of
// a service has dropped. It returns nil when ctx ends, which also ends all
// streams. If another call is running, it returns [limpet.ErrRunning] at once.
//
// An Admin answers without Run, too, but records and events stay empty, and
// callers who want a stream get 503.
func (a *Admin) Run(ctx context.Context) error {
	l := a.live
	if !l.running.CompareAndSwap(false, true) {
		return limpet.ErrRunning
	}
	defer l.running.Store(false)
	l.mu.Lock()
	l.ctx, l.end = context.WithCancel(ctx)
	l.mu.Unlock()
	defer a.unwatch()
	tick := time.NewTicker(watchPeriod)
	defer tick.Stop()
	up := map[string]bool{} // stores on other machines, by service
	for {
		a.watch()
		a.settle()
		a.pruneEdits()
		a.followDrains()
		a.followStores(up)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// ended returns a channel that is closed when streams must end; nil if there
// can be none.
func (l *liveSet) ended() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx == nil {
		return nil
	}
	return l.ctx.Done()
}

// endStreams ends the streams, since their server stops.
func (l *liveSet) endStreams() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.end != nil {
		l.end()
	}
}

// watch begins to watch services and pools that are new, and ends it for those
// that are gone.
func (a *Admin) watch() {
	l, list := a.live, a.services()
	l.mu.Lock()
	defer l.mu.Unlock()
	for vs, r := range l.services {
		if !slices.Contains(list, vs) {
			r.stop()
			delete(l.services, vs)
		}
	}
	var wanted []*watchedPool
	for _, vs := range list {
		if l.services[vs] == nil {
			l.services[vs] = record(vs)
		}
		name := vs.Config().Name
		for _, p := range vs.Pools() {
			if slices.ContainsFunc(wanted, func(w *watchedPool) bool { return w.pool.Is(p) }) {
				continue
			}
			if i := slices.IndexFunc(l.pools, func(w *watchedPool) bool { return w.pool.Is(p) }); i >= 0 {
				wanted = append(wanted, l.pools[i])
				continue
			}
			wanted = append(wanted, &watchedPool{p, name, p.Watch(func(e lbpool.Event) { a.changed(name, p.Name(), e) })})
		}
	}
	for _, w := range l.pools {
		if !slices.Contains(wanted, w) {
			w.stop()
		}
	}
	l.pools = wanted
}

// unwatch ends all watching.
func (a *Admin) unwatch() {
	l := a.live
	l.mu.Lock()
	defer l.mu.Unlock()
	for vs, r := range l.services {
		r.stop()
		delete(l.services, vs)
	}
	for _, w := range l.pools {
		w.stop()
	}
	l.end()
	l.pools, l.ctx = nil, nil
}

// changed passes on a change of a server's state. The pool calls it, and must
// not wait.
func (a *Admin) changed(vs, pool string, e lbpool.Event) {
	v := stateEvent{
		VS: vs, Pool: pool, Server: e.Server.Name(), Address: e.Server.Addr().String(), From: e.From.String(), To: e.Change.State.String(),
		Cause: e.Change.Cause, Monitor: e.Change.Monitor, At: utc(e.Change.At),
	}
	if e.Change.Err != nil {
		v.Error = e.Change.Err.Error()
	}
	a.events.publish("state", v, 0, true)
	if !e.Drained {
		return
	}
	last := a.live.endDrain(serverKey{pool, e.Server.Addr()}, e)
	a.events.publish("drained", drainedEvent{vs, pool, v.Server, v.Address, *last}, 0, true)
}

// endDrain notes how a drain has ended.
func (l *liveSet) endDrain(key serverKey, e lbpool.Event) *lastDrainView {
	l.mu.Lock()
	defer l.mu.Unlock()
	last := &lastDrainView{At: utc(e.Change.At), Cause: "empty", Leases: e.Open}
	counted := e.Open == 0 && e.Bound == 0 // or the pool would not have ended it
	if d := l.drains[key]; d != nil {
		last.TookSeconds = e.Change.At.Sub(d.since).Seconds()
		if d.overdue(e.Change.At) {
			counted = d.counted
		}
	}
	if e.Open > 0 || e.Bound > 0 || !counted {
		last.Cause = "deadline"
		counted = counted || e.Bound > 0
	}
	last.Left, last.Bound = known(e.Open+e.Bound, counted), known(e.Bound, counted)
	delete(l.drains, key)
	l.last[key] = last
	return last
}

// lastDrain returns how the last drain of a server ended, nil if there was
// none.
func (l *liveSet) lastDrain(p *lbpool.Pool, s *lbpool.Server) *lastDrainView {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last[serverKey{p.Name(), s.Addr()}]
}

// followDrains sends an event for each draining server for which less is left,
// and notes the ones that have ended.
func (a *Admin) followDrains() {
	a.live.mu.Lock()
	pools := slices.Clone(a.live.pools)
	a.live.mu.Unlock()
	for _, w := range pools {
		for _, s := range w.pool.Servers() {
			a.followDrain(w, s)
		}
	}
	a.endDrains()
}

func (a *Admin) followDrain(w *watchedPool, s *lbpool.Server) {
	d, ok := s.DrainStatus()
	if !ok {
		return
	}
	now := drainEvent{
		w.vs, w.pool.Name(), s.Name(), s.Addr().String(), known(d.Open+d.Bound, d.Counted), d.Open, known(d.Bound, d.Counted),
	}
	if a.live.noteDrain(serverKey{w.pool.Name(), s.Addr()}, d, now) {
		a.events.publish("drain", now, 0, true)
	}
}

// noteDrain reports whether anything has changed.
func (l *liveSet) noteDrain(key serverKey, d lbpool.DrainStatus, now drainEvent) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.drains[key]
	l.drains[key] = &drainWatch{since: d.Since, deadline: d.Deadline, view: now, counted: d.Counted}
	return before == nil || before.counted != d.Counted || !same(before.view.Left, now.Left) || before.view.Leases != now.Leases
}

// overdue reports whether a drain had reached its deadline.
func (d *drainWatch) overdue(at time.Time) bool {
	return !d.deadline.IsZero() && !at.Before(d.deadline)
}

// same reports whether two numbers are the same, or both not known.
func same(a, b *int) bool { return a == b || a != nil && b != nil && *a == *b }

// endDrains makes drains of operators that have ended lasting: their servers
// stay disabled after a restart.
func (a *Admin) endDrains() {
	a.steering.Lock()
	defer a.steering.Unlock()
	before := a.kept().Overrides
	after := slices.Clone(before)
	for i := range after {
		o := &after[i]
		if o.State != lbpool.Draining {
			continue
		}
		if _, _, s, ok := a.find(o); ok && s.State() == lbpool.Disabled {
			o.State, o.KeepBound, o.Deadline = lbpool.Disabled, false, time.Time{}
		}
	}
	if !slices.Equal(before, after) {
		_ = a.saveOverrides(after) // which logs an error; the next turn tries again
	}
}
