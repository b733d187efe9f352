package limpet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/accept"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
)

// A VirtualService accepts requests under one configuration and sends them to
// the servers of its pools, or to a handler that it wraps. It is an
// [http.Handler]; all methods may be called concurrently.
type VirtualService struct {
	current  atomic.Pointer[snapshot]
	updating sync.Mutex // one update at a time

	// What outlives a configuration.
	tables    func() Tables
	transport func() http.RoundTripper
	gate      *accept.Gate
	counters  counters
	health    healthCounts
	throttles [logClasses]throttle
	metrics   datascript.Metrics // of scripts
	outcomes  sync.Map           // name of a target → *outcomes
	keeper    keeper
	bodies    bodyBudget

	active activity
	uncut  context.Context // ends when hijacked connections are to be closed
	cut    context.CancelFunc

	running atomic.Bool
	changed chan struct{} // tells Run that the configuration has changed
}

// New returns a virtual service. It checks all of cfg and reports every fault
// with the path of its field. It starts nothing: health monitors check while
// [VirtualService.Run] is running.
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

// Update replaces the configuration as a whole. If there is an error, nothing
// changes. Requests under way keep the configuration they began with.
//
// Objects may be the same ones as before, or made anew: a pool takes over what
// the pool of the same name knows of its servers, see [lbpool.Pool.Adopt]; the
// profile of a pool or a group takes over the bindings of the one before if it
// knows clients by the same thing; a [persistence.Store] without entries, as
// Tables, takes over those of the store before. A profile that keeps its
// bindings in a store, as Sessions, needs the same store as before.
func (vs *VirtualService) Update(cfg Config) error {
	vs.updating.Lock()
	defer vs.updating.Unlock()
	s, err := vs.compile(cfg)
	if err != nil {
		return err
	}
	old := vs.current.Load()
	err = s.tellTargets()
	if err == nil && old != nil {
		err = s.adopt(old)
	}
	if err != nil {
		if old != nil {
			_ = old.tellTargets() // as it was before
		}
		return fmt.Errorf("limpet: invalid configuration: %w", err)
	}
	s.warn()
	vs.current.Store(s)
	select {
	case vs.changed <- struct{}{}:
	default:
	}
	return nil
}

// ServeHTTP forwards a request to a server of the pool that it belongs to.
func (vs *VirtualService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s := vs.current.Load()
	vs.serve(s, w, r, s.proxy)
}

// Wrap returns a handler that lets next answer in place of a server. Policies,
// scripts and tables work in front of next as they do in front of servers. If
// there are pools, the request's context carries the [lbpool.Route] that was
// chosen, for a next that forwards through an [lbpool.Transport].
func (vs *VirtualService) Wrap(next http.Handler) http.Handler {
	return &wrapped{vs, next}
}

// A wrapped handler answers in place of servers.
type wrapped struct {
	vs   *VirtualService
	next http.Handler
}

// ServeHTTP lets the handler answer a request.
func (h *wrapped) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.vs.serve(h.vs.current.Load(), w, r, h.next)
}

// ErrRunning is what [VirtualService.Run] returns while another call of it
// has not.
var ErrRunning = errors.New("limpet: virtual service is running already")

// Run runs the health monitors and the discoveries of all pools, also of those
// that updates bring, until ctx ends. It returns when they have stopped: nil,
// or [ErrRunning] at once. A virtual service whose pools have neither needs Run
// for two things only. While it is running, the clients that are bound to a
// draining server are counted in the default table and in the persistence
// profiles, if these can count. And bindings are renewed as long as an exchange
// lasts, such as a WebSocket or a stream; otherwise only at its end. Virtual
// services may share a pool; when the one that runs its monitors stops, another
// takes over. Requests need Run until the last one has ended: end ctx after
// [VirtualService.Shutdown].
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
		pools := vs.current.Load().Pools
		wanted := map[*lbpool.Pool]bool{}
		for _, p := range pools {
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
				<-m.done // lest the pool comes back while it is still stopping
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

// Metrics returns the counters and gauges that scripts keep by
// avi.vs.analytics, sorted by name. They outlive configurations.
func (vs *VirtualService) Metrics() []datascript.Metric { return vs.current.Load().engine.Metrics() }

// CloseIdleConnections closes connections to servers that are not in use.
// Call it when the virtual service is not needed any more.
func (vs *VirtualService) CloseIdleConnections() {
	if t, ok := vs.current.Load().Transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}
