package limpet

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/accept"
	"github.com/limpetlb/limpet/internal/http1"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
)

// A VirtualService accepts requests under one configuration and sends them to
// the servers of its pools, or to a handler that it wraps. It is an
// [http.Handler]; all methods may be called concurrently.
type VirtualService struct {
	current  atomic.Pointer[snapshot]
	updating sync.Mutex // one update at a time

	// These outlive a configuration.
	tables    func() Tables
	transport func() http.RoundTripper
	gate      *accept.Gate
	counters  counters
	traffic   sync.Map // name of a pool → *poolTraffic
	health    health
	watchers  watchers
	throttles [logClasses]throttle
	panics    plainLog           // of loggers, outside requests
	metrics   datascript.Metrics // of scripts
	standard  *http1.Switch      // made of the standard library's transport that was configured last; guarded by updating
	outcomes  sync.Map           // name of a target → *outcomes
	keeper    keeper
	bodies    bodyBudget

	active   activity
	draining atomic.Bool // each response is the last of its connection
	drained  time.Time   // when that began; see Drain
	drain    sync.Once
	uncut    context.Context // ends when hijacked connections are to be closed
	cut      context.CancelFunc

	running atomic.Bool
	changed chan struct{} // wakes Run when the configuration has changed
}

// New returns a virtual service. It checks all of cfg; the error joins a
// [*FieldError] for each fault. It starts nothing: health monitors check
// servers while [VirtualService.Run] is running.
func New(cfg Config) (*VirtualService, error) {
	vs := &VirtualService{
		tables:    sync.OnceValue(func() Tables { return persistence.NewStore(persistence.Options{}) }),
		transport: sync.OnceValue(func() http.RoundTripper { return lbpool.NewHTTP1(nil) }),
		changed:   make(chan struct{}, 1),
		active:    newActivity(),
		keeper:    newKeeper(),
	}
	vs.gate = accept.New(func() *accept.Rules { return vs.current.Load().accept })
	vs.uncut, vs.cut = context.WithCancel(context.Background())
	vs.health.begun = time.Now()
	if err := vs.Update(cfg); err != nil {
		return nil, err
	}
	return vs, nil
}

// Update replaces the whole configuration. An error joins a [*FieldError] for
// each fault; then nothing changes. Requests under way keep the configuration
// they began with.
//
// The new configuration may have the same objects or new ones. A new pool takes
// over the state of the servers from the pool of the same name, see
// [lbpool.Pool.Adopt]. The new profile of a pool or a group takes over the
// bindings if it identifies clients by the same thing. A new
// [persistence.Store] in Tables takes over the entries if it has none. A new
// [BasicAuthenticator] remembers the correct passwords that the old one does. A
// profile that keeps its bindings in a store, as Sessions, needs the same store
// as before.
func (vs *VirtualService) Update(cfg Config) error {
	vs.updating.Lock()
	defer vs.updating.Unlock()
	s, err := vs.compile(cfg)
	if err != nil {
		return err
	}
	old := vs.current.Load()
	err = s.nameTargets()
	if err == nil && old != nil {
		old.override(vs, s.Overrides) // so that adopted pools have them at once
		err = s.adopt(old)
	}
	if err != nil {
		if old != nil {
			_ = old.nameTargets() // as it was before
			old.override(vs, old.Overrides)
		}
		return err
	}
	s.override(vs, s.Overrides)
	s.warn()
	vs.current.Store(s)
	if old != nil {
		old.leave(vs, s)
	}
	select {
	case vs.changed <- struct{}{}:
	default:
	}
	return nil
}

// Config returns the configuration in force: the one that New or Update got,
// with the defaults that these have filled in. The caller owns its slices and
// maps, and shares the objects in them. Update accepts it.
func (vs *VirtualService) Config() Config { return vs.current.Load().Config.clone() }

// switched returns a transport with the settings of base that can speak HTTP/2
// to servers of the pools that ask for it, the same as before if base is.
func (vs *VirtualService) switched(base *http.Transport) *http1.Switch {
	if vs.standard == nil || !vs.standard.IsOf(base) {
		vs.standard = http1.NewSwitch(base)
	}
	return vs.standard
}

// ServeHTTP forwards a request to a server of the pool that rules, scripts or
// the configuration choose.
func (vs *VirtualService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s := vs.current.Load()
	vs.serve(s, w, r, s.proxy)
}

// Wrap returns middleware: a handler in which next answers in place of a
// server. Policies, scripts and tables work as they do in front of servers. If
// there are pools, the request's context has the chosen [lbpool.Route], for a
// next that forwards through an [lbpool.Transport].
func (vs *VirtualService) Wrap(next http.Handler) http.Handler {
	return &wrapped{vs, next}
}

// A wrapped handler answers in place of servers.
type wrapped struct {
	vs   *VirtualService
	next http.Handler
}

// ServeHTTP lets the wrapped handler answer a request.
func (h *wrapped) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.vs.serve(h.vs.current.Load(), w, r, h.next)
}

// ErrRunning is the error of [VirtualService.Run] if another call is running.
var ErrRunning = errors.New("limpet: virtual service is running already")

// Run runs the health monitors and the discoveries of all pools, including
// those of later updates, until ctx ends: also of the backups in the fail
// actions of pools and groups, and of their backups, as they are when Run
// begins or the virtual service is updated. When they have stopped, it returns
// nil. If another call is running, it returns [ErrRunning] at once.
//
// Run does two more things, also for pools without monitors and discoveries. It
// counts the clients that are bound to a draining server, in the tables of
// BoundTables and in the persistence profiles that can count. And it renews the
// bindings of long exchanges, such as WebSockets and streams, which are
// otherwise renewed only at their end.
//
// Virtual services may share a pool: when the one that runs its monitors stops,
// another takes over. Requests need Run until the last one has ended, so end
// ctx after [VirtualService.Shutdown].
func (vs *VirtualService) Run(ctx context.Context) error {
	if !vs.running.CompareAndSwap(false, true) {
		return ErrRunning
	}
	defer vs.running.Store(false)
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	type monitoring struct {
		stop context.CancelFunc
		done chan struct{}
	}
	wg.Go(func() {
		vs.keeper.run(ctx, func(target string, err error) {
			vs.current.Load().Logger.LogAttrs(ctx, slog.LevelWarn, "binding not renewed", slog.String("pool", target), slog.Any("error", err))
		})
	})
	monitored := map[*lbpool.Pool]monitoring{}
	for {
		wanted := map[*lbpool.Pool]bool{}
		for _, p := range vs.Pools() {
			wanted[p] = true
			if _, ok := monitored[p]; ok {
				continue
			}
			poolCtx, stop := context.WithCancel(ctx)
			done := make(chan struct{})
			monitored[p] = monitoring{stop, done}
			wg.Go(func() {
				defer close(done)
				defer vs.countBound(p)()
				_ = p.Run(poolCtx) // its only error is the context's
			})
		}
		for p, m := range monitored {
			if !wanted[p] {
				m.stop()
				<-m.done // so that the pool cannot come back while it is still stopping
				delete(monitored, p)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-vs.changed:
		}
	}
}

// Pools returns the pools that requests may go to: those of the configuration,
// and those that take over from others in their fail actions.
func (vs *VirtualService) Pools() []*lbpool.Pool { return vs.current.Load().allPools() }

func (s *snapshot) allPools() []*lbpool.Pool {
	pools := slices.Clone(s.Pools)
	add := func(fail lbpool.FailAction) {
		if p := fail.Backup; p != nil && !slices.Contains(pools, p) {
			pools = append(pools, p)
		}
	}
	for _, g := range s.PoolGroups {
		add(g.FailAction())
	}
	for i := 0; i < len(pools); i++ {
		add(pools[i].FailAction())
	}
	return pools
}

// Metrics returns the counters and gauges that scripts keep with
// avi.vs.analytics, sorted by name. They outlive configurations.
func (vs *VirtualService) Metrics() []datascript.Metric { return vs.current.Load().engine.Metrics() }

// CloseIdleConnections closes the idle connections to servers. Call it when you
// do not need the virtual service any more.
func (vs *VirtualService) CloseIdleConnections() {
	if t, ok := vs.current.Load().Transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}
