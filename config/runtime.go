package config

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/accept"
	"github.com/limpetlb/limpet/internal/bounds"
	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/persistence"
	"github.com/limpetlb/limpet/persistence/redisstore"
)

// Options say what a program adds to a file. The zero value adds nothing.
type Options struct {
	// Logger gets what services, pools and tables report, unless the file has
	// `logs`. It gets records, unless the file has `logs` or `accessLog`. Nil
	// discards both.
	Logger *slog.Logger
	// Edit sets what a file cannot set in the configuration of a service, such
	// as OnComplete and an Authenticator of its own. If it sets Logger, records
	// and other lines of the virtual service go there, and what the pools
	// report that no other service can have; tables, and pools at the top of a
	// file with services, report to the log of the process. If it sets
	// Reputations or Geo, rules of the listeners of the service have them, too.
	// [File.Build] and [Runtime.Update] call Edit once or twice for each
	// service. It must not block, and should not change Pools and PoolGroups.
	// Nil changes nothing.
	Edit func(service string, c *limpet.Config)
	// Issuer gets the certificates of listeners with `acme`, for one Runtime.
	// Without one, `acme` in a file is a fault.
	Issuer Issuer
	// Traces exports the traces of a file with `tracing`, for one Runtime. It
	// is the Tracer of each service before Edit is called. Without it,
	// `tracing` in a file is a fault.
	Traces TraceExporter
	// Inherited returns the sockets that the process has inherited under a
	// name, for addresses such as "fd:web". The Runtime closes them. Each must
	// have the method File of [net.TCPListener]. Nil means that there are none.
	Inherited func(name string) ([]net.Listener, error)
	// HandedOver returns the sockets that another process has handed over for
	// an address of a listener, as [Handover.Sockets] names it. If it returns
	// none, the Runtime opens the address itself. The Runtime closes the
	// sockets. A Runtime with this function replaces the other process: it gets
	// tables from [Runtime.TakeOver] and not from their files, which it does
	// not touch before Serve accepts. Nil means that there is no such process.
	HandedOver func(network, address string) ([]net.Listener, error)
	// [Runtime.Serve] calls BeforeAccept once servers have been checked. If it
	// returns an error, Serve returns that and does not accept. Nil is as a
	// function that returns nil at once.
	BeforeAccept func() error
	// Watch makes [Runtime.Run] watch the files of the configuration, even if
	// the configuration does not ask for it.
	Watch bool
	// Offline makes services that need no servers, for programs that explain or
	// test a configuration with a Transport of their own, set by Edit. There
	// are no health monitors, so enabled servers are up, and one server
	// represents those that a pool would discover. Tables are in memory, and
	// logs go to Logger.
	Offline bool
}

// Build makes the services and listeners of the file, and loads tables that
// have a file of their own. If such a file is damaged, Build renames it, with
// ".bad" at its end, and logs that. It starts nothing and connects to nothing:
// tables on a Redis server connect at the first request that needs them, and
// [Runtime.Shutdown] closes them. Each Runtime has its own pools, tables and
// profiles. If there is an Issuer, Build calls its Manage.
//
// If the file says where logs go, Build opens these files. [Runtime.Run] writes
// the lines; until then they wait. A program whose file has stdout or stderr as
// an output should ignore SIGPIPE.
//
// An error is a fault in what Edit has set, or a log that cannot be opened; see
// [Error].
func (f *File) Build(o Options) (*Runtime, error) {
	to := newFindings()
	rt := &Runtime{
		options: o, file: f, begun: f, logs: newLogs(o.Logger), services: map[string]*running{}, opened: map[*tables]bool{},
		relays: map[*relay]bool{}, remotes: map[*redisstore.Store]bool{},
		retired: map[*endpoint]bool{}, failed: make(chan error, 1), updated: make(chan struct{}, 1),
		accepted: make(chan struct{}),
		unsaved:  o.HandedOver != nil,
		updating: make(turn, 1),
	}
	rt.over, rt.finish = context.WithCancel(context.Background())
	b := rt.builder(f, to)
	a := b.assemble(kept{})
	change := b.openLogs(a)
	rt.work = a.background()
	if err := to.join(f.hidden); err != nil {
		change.abandon()
		return nil, err
	}
	rt.logs.apply(change, a.services)
	if err := rt.make(a, to); err != nil {
		rt.logs.stop()
		return nil, err
	}
	rt.kept = b.now
	rt.openTables(b.now.tables)
	rt.route(a)
	rt.manage(a)
	rt.trace(a)
	return rt, nil
}

// builder returns a builder of a file for the runtime.
func (rt *Runtime) builder(f *File, to *findings) *builder {
	b := f.builder(to, rt.options)
	b.log, b.logs = rt.logs.process, rt.logs
	return b
}

// make makes the services and listeners.
func (rt *Runtime) make(a *assembly, to *findings) error {
	for _, m := range a.services {
		cfg := m.edited()
		vs := m.tryService(cfg)
		m.fault(idle(&cfg), "")
		a.passOn(m, &cfg)
		m.logPools(cfg.Logger)
		m.fault(m.updatePools(), "")
		rt.services[m.key] = &running{VirtualService: vs, name: m.name, transport: m.cfg.Transport, profiles: profilesOf(&cfg)}
	}
	if err := to.join(rt.file.hidden); err != nil {
		return err
	}
	for _, d := range a.listeners {
		l, err := rt.listen(d, a)
		if err != nil {
			return err
		}
		rt.listeners = append(rt.listeners, l)
		for i := range d.addresses {
			rt.ends = append(rt.ends, l.endpoint(d, i, l.certs.Load()))
		}
	}
	return nil
}

// A Runtime is what a [File] describes, ready to serve. All methods may be
// called concurrently.
type Runtime struct {
	options  Options
	logs     *logs
	updating turn // one update at a time; taken before mu, never after
	kept     kept
	budget   *accept.Budget // of connections; nil if there is no limit, or before Listen
	failed   chan error     // of an endpoint
	updated  chan struct{}  // there is another file
	accepted chan struct{}  // closed when Serve accepts

	over   context.Context // until Shutdown
	finish context.CancelFunc
	until  context.Context // of Shutdown; nil before

	accepting, retiring sync.WaitGroup // what Shutdown waits for

	mu        sync.Mutex
	listeners []*listening
	ends      []*endpoint // of these listeners, in the order of the file
	retired   map[*endpoint]bool
	opens     bool                // Listen has opened the endpoints
	serves    bool                // Serve was called
	accepts   bool                // and accepts at the endpoints
	services  map[string]*running // by the keys of members
	file      *File               // that is in force
	// begun is the file with which the runtime began: what it says about some
	// keys stays in force; see [Changes].
	begun      *File
	background context.Context // of Run
	running    sync.WaitGroup
	opened     map[*tables]bool // with a file or a server
	unsaved    bool             // another process has the files of tables
	// What requests may still use that began before an update.
	relays   map[*relay]bool
	remotes  map[*redisstore.Store]bool
	relaying sync.WaitGroup // the relays

	taking *persistence.Receiver // of TakeOver; nil before and afterwards
	// work is what runs beside the services, such as the watchers of files:
	// that of the file that is in force.
	work     []func(context.Context) error
	stopWork context.CancelFunc // nil while it does not run
}

// A running service follows its configuration.
type running struct {
	*limpet.VirtualService
	name      string
	transport http.RoundTripper                    // nil if it is the library's
	profiles  map[string]limpet.PersistenceProfile // by target
	stop      context.CancelFunc
}

// Service returns the service of a name, which is "limpet" if the file gives
// none. Updates change it, but it stays the same pointer as long as files have
// it.
func (rt *Runtime) Service(name string) (*limpet.VirtualService, bool) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	for _, s := range rt.services {
		if s.name == name {
			return s.VirtualService, true
		}
	}
	return nil, false
}

// Listeners returns the addresses of all listeners, in the order of the file:
// one Listener for each address. Programs that serve services with their own
// servers do not need them.
func (rt *Runtime) Listeners() []Listener {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	var all []Listener
	for _, e := range rt.ends {
		l := Listener{Name: e.of.name, Network: e.network, Address: e.name, of: e}
		if e.secure {
			l.TLS = e.server.TLSConfig
		}
		all = append(all, l)
	}
	return all
}

// A Listener is an address where clients are served, by [Runtime.Serve] or by
// the program:
//
//	ln, err := net.Listen(l.Network, l.Address)
//	…
//	err = l.Serve(ln)
type Listener struct {
	// Name is that of the listener in the file; "listen" if the file has no
	// `listeners`.
	Name string
	// Network is an argument of [net.Listen], or "fd" for a socket that the
	// process has inherited.
	Network string
	// Address is an argument of [net.Listen], or the name of the inherited
	// socket.
	Address string
	// TLS follows updates of the runtime: connections get the certificate that
	// is in force when they begin. Clients resume sessions with keys of the
	// runtime, which [Handover] passes on. Nil means plain HTTP.
	TLS *tls.Config

	of *endpoint
}

// Services returns the names of the services that clients reach at the
// listener, in the order of the file that is in force.
func (l Listener) Services() []string { return slices.Clone(l.of.of.routes.Load().names) }

// Addr returns the address of the socket that [Runtime.Listen] has opened, with
// the port that the system has chosen if the file has port 0; nil if it has
// opened none.
func (l Listener) Addr() net.Addr {
	if len(l.of.sockets) == 0 {
		return nil
	}
	return l.of.sockets[0].Addr()
}

// Server returns the server at the address, made by [limpet.NewServer]: the
// same one each time. Its TLSConfig is TLS. A program may change it before it
// serves. [Runtime.Shutdown] shuts it down.
func (l Listener) Server() *http.Server { return l.of.server }

// Wrap returns a listener with the rules and limits of the configuration for
// connections; see [limpet.VirtualService.Listener].
func (l Listener) Wrap(ln net.Listener) net.Listener { return l.of.of.gate.Listener(ln) }

// Serve serves clients from ln, over TLS if the listener has it, until
// [Runtime.Shutdown]; then it returns [http.ErrServerClosed]. It closes ln. It
// is for programs that open sockets themselves, and do not call
// [Runtime.Listen].
func (l Listener) Serve(ln net.Listener) error { return l.of.serve(l.Wrap(ln)) }

// Changes are the paths of what an update has changed.
type Changes struct {
	// Live has what is in force now. The state of clients and servers is kept.
	Live []string
	// Fresh has what is in force now, and has begun anew: rate limiters with
	// other limits, persistence profiles whose clients begin anew, and tables
	// on another server, in another store, or on a server and no longer in
	// memory, and the other way round. Tables in memory
	// that have a file now, or none any more, are here because persistence
	// profiles keep their clients elsewhere then.
	Fresh []string
	// Restart has what is not in force before a restart of the process.
	Restart []string
}

// Update changes the services to what another file says. After an error nothing
// has changed. Requests under way end with the configuration that they began
// with. Services, pools, rate limiters and stores keep their state if their
// names stay the same. For the clients of persistence profiles, see
// [limpet.VirtualService.Update].
//
// After [Runtime.Listen], Update changes listeners as well. It opens addresses
// before it changes anything else, so an address that cannot be opened is an
// error. A listener with other settings of its server, or with TLS turned on or
// off, takes over the socket. Addresses that the file does not have any more
// are closed once the connections in their queues are accepted. Their
// connections end with the next response, or after process.drain.idle; requests
// under way, streams and upgraded connections go on. Without Listen, the
// listeners, their addresses and settings, and whether they have TLS, stay
// those of the first file.
//
// Tables keep their entries when their options change, as far as new bounds
// allow; on another server they have what is there. If such a server does not
// answer within two seconds, that is an error. Connections to a server that the
// file has no more are closed once no request uses them.
//
// The limit of all connections stays that of the first file; Changes says what
// waits for a restart. Everything else changes, including certificates. After
// Shutdown the error is [http.ErrServerClosed].
func (rt *Runtime) Update(f *File) (Changes, error) { return rt.update(context.Background(), f) }

// update is Update, but does not wait for others when ctx ends, and begins
// nothing then.
func (rt *Runtime) update(ctx context.Context, f *File) (Changes, error) {
	if err := rt.updating.take(ctx); err != nil {
		return Changes{}, err
	}
	defer rt.updating.pass()
	to := newFindings()
	b := rt.builder(f, to)
	if (len(f.doc.Services) == 0) != (len(rt.begun.doc.Services) == 0) {
		b.fault(errors.New("a file with services takes the place of one without, or the other way round, after a restart"), "services")
		return Changes{}, to.join(f.hidden)
	}
	if err := rt.wanted(ctx); err != nil {
		return Changes{}, err
	}
	a := b.assemble(rt.kept)
	added := map[string]*running{}
	for _, m := range a.services {
		// The service that serves will log what there is to say.
		cfg := m.edited()
		m.fault(idle(&cfg), "")
		a.passOn(m, &cfg)
		m.logPools(cfg.Logger)
		cfg.Logger = nil
		if vs := m.tryService(cfg); vs != nil {
			vs.CloseIdleConnections()
		}
	}
	b.tryRules(a)
	change := b.openLogs(a)
	if err := to.join(f.hidden); err != nil {
		change.abandon()
		return Changes{}, err
	}
	rt.mu.Lock()
	opens, listeners := rt.opens, rt.listeners
	rt.mu.Unlock()
	next := &arrangement{}
	defer func() { next.drop() }()
	if opens {
		next = rt.arrange(a, b)
		if err := to.join(f.hidden); err != nil {
			change.abandon()
			return Changes{}, err
		}
	}
	rt.prepareTables(b)
	err := cmp.Or(to.join(f.hidden), rt.wanted(ctx))
	if err != nil {
		rt.abandonTables(b.now.tables)
		change.abandon()
		return Changes{}, err
	}
	changes := rt.changes(f, b.now.tables)
	rt.logs.apply(change, a.services)
	rt.takeTables(b.now.tables)
	rt.trace(a)
	// Nothing can fail any more: the pools and the configurations as a whole
	// have been tried.
	if err := a.update(); err != nil {
		return Changes{}, err
	}
	for _, m := range a.services {
		rt.mu.Lock()
		s := rt.services[m.key]
		rt.mu.Unlock()
		cfg := m.edited()
		if s == nil {
			vs, err := limpet.New(cfg)
			if err != nil {
				return Changes{}, err
			}
			added[m.key] = &running{VirtualService: vs, name: m.name, transport: m.cfg.Transport, profiles: profilesOf(&cfg)}
			continue
		}
		if err := s.Update(cfg); err != nil {
			return Changes{}, err
		}
		if old, ok := s.transport.(interface{ CloseIdleConnections() }); ok && s.transport != m.cfg.Transport {
			old.CloseIdleConnections()
		}
		s.transport = m.cfg.Transport
		rt.mu.Lock()
		s.name, s.profiles = m.name, profilesOf(&cfg)
		rt.mu.Unlock()
	}
	rt.kept = b.now
	rt.manage(a)
	for _, b := range a.builders() {
		b.old = kept{} // tables are closed when nobody has them any more
	}
	for _, d := range a.listeners {
		for _, l := range listeners {
			if l.name != d.name {
				continue
			}
			if err := l.follow(d); err != nil {
				return Changes{}, err
			}
		}
	}
	var news notices
	defer func() { news.log(rt.Logger()) }()
	rt.mu.Lock()
	defer rt.mu.Unlock()
	if rt.over.Err() != nil {
		return Changes{}, http.ErrServerClosed
	}
	rt.replace(a, added)
	rt.endWork()
	rt.work = a.background()
	rt.startWork()
	rt.file = f
	if opens {
		rt.listeners = next.listeners
		rt.route(a)
		rt.adopt(next, &news)
		next = &arrangement{} // nothing to drop
	} else {
		rt.route(a)
	}
	select {
	case rt.updated <- struct{}{}:
	default:
	}
	return changes, nil
}

// wanted returns why an update is of no use any more; nil if it is.
func (rt *Runtime) wanted(ctx context.Context) error {
	if rt.over.Err() != nil {
		return http.ErrServerClosed
	}
	return context.Cause(ctx) // nil before the end
}

// replace adds services, and takes away those that the assembly does not have.
// Requests under way end in them.
func (rt *Runtime) replace(a *assembly, added map[string]*running) {
	for key, s := range rt.services {
		if !slices.ContainsFunc(a.services, func(m *member) bool { return m.key == key }) {
			if s.stop != nil {
				s.stop()
			}
			delete(rt.services, key)
		}
	}
	for key, s := range added {
		rt.services[key] = s
		if rt.background != nil {
			rt.start(s)
		}
	}
}

// start runs a service in the background.
func (rt *Runtime) start(s *running) {
	ctx, stop := context.WithCancel(rt.background)
	s.stop = stop
	rt.running.Go(func() {
		defer stop()
		_ = s.Run(ctx) // nobody else runs it
	})
}

// startWork starts what runs beside the services if the runtime runs. The
// caller has locked mu.
func (rt *Runtime) startWork() {
	if rt.background == nil {
		return
	}
	ctx, stop := context.WithCancel(rt.background)
	rt.stopWork = stop
	for _, run := range rt.work {
		rt.running.Go(func() { _ = run(ctx) }) // nobody else runs it
	}
}

// endWork lets it end. The caller has locked mu.
func (rt *Runtime) endWork() {
	if rt.stopWork != nil {
		rt.stopWork()
		rt.stopWork = nil
	}
}

// Run does the work of the runtime in the background until ctx ends, and then
// returns nil: the health monitors and discoveries of all services, including
// those that updates add (see [limpet.VirtualService.Run]), files of users and
// of keys, keys from URLs, tables that have a file, the logs of the file, and
// the Issuer. If Listen was called before, the Issuer begins when Serve
// accepts.
// It returns [limpet.ErrRunning] if it is running already. Requests need it: do
// not end ctx before Shutdown has returned. If the context of Shutdown ends as
// well, Run returns at most five seconds later, even if something hangs in a
// network file system.
//
// For a file that [Load] has read, Run also watches the files of certificates,
// and uses new ones within two seconds. If the file or [Options].Watch asks for
// it, Run watches the files of the configuration, and calls [Runtime.Reload]
// when one has changed.
func (rt *Runtime) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	rt.mu.Lock()
	if rt.background != nil {
		rt.mu.Unlock()
		return limpet.ErrRunning
	}
	rt.background = ctx
	rt.logs.start()
	for _, s := range rt.services {
		rt.start(s)
	}
	for t := range rt.opened {
		rt.save(t)
	}
	rt.running.Go(func() { rt.watchCertificates(ctx) })
	if rt.options.Issuer != nil {
		wait := rt.opens || rt.options.HandedOver != nil
		rt.running.Go(func() { rt.issue(ctx, wait) })
	}
	rt.running.Go(func() { rt.watch(ctx) })
	rt.startWork()
	rt.mu.Unlock()
	<-ctx.Done()
	rt.mu.Lock()
	rt.endWork()
	rt.background = nil
	until := cmp.Or(rt.until, context.Background())
	rt.mu.Unlock()
	if !within(until, rt.running.Wait) {
		rt.Logger().Error("background work has not ended: a file system may hang")
	}
	rt.logs.stop()
	return nil
}

// Logger returns a logger that writes to the log of the process, where the file
// that is in force says, or to Options.Logger if the file has no `logs`.
func (rt *Runtime) Logger() *slog.Logger { return rt.logs.process }

// Reopen opens the files of logs again, for programs that rename them. If a
// file cannot be opened, that is an error, and lines still go to the old one.
// Without Reopen, a Runtime looks whether its files were renamed when it writes
// lines, at most once a second.
func (rt *Runtime) Reopen() error { return rt.logs.reopen() }

// Drain asks the clients of all services to leave: each response is the last
// one of its connection. Nothing stops, and nothing is refused; see
// [limpet.VirtualService.Drain]. If a load balancer in front needs time to
// notice, call Drain that long before Shutdown.
func (rt *Runtime) Drain() {
	for _, vs := range rt.all() {
		vs.Drain()
	}
}

// DrainTimes returns two times of the file that is in force: how long a process
// should wait between Drain and Shutdown, and how long Shutdown may take.
func (rt *Runtime) DrainTimes() (delay, timeout time.Duration) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	drain := rt.file.doc.Process.Drain
	bounds.SetDefaults(&drain)
	return drain.Delay, drain.Timeout
}

// all are the virtual services that clients meet: those of listeners, and those
// of the file.
func (rt *Runtime) all() (services []*limpet.VirtualService) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	for _, l := range rt.listeners {
		if l.unknown != nil {
			services = append(services, l.gate, l.unknown)
		}
	}
	for _, s := range rt.services {
		services = append(services, s.VirtualService)
	}
	return services
}

// Shutdown stops the servers of the listeners, and waits for requests, upgraded
// connections and tunnels to end. When ctx ends, it cuts off what is left; see
// [limpet.VirtualService.Shutdown]. Then it saves tables that have a file, and
// closes the connections of tables on Redis servers. It waits for a save until
// ctx ends, and for five seconds more: what hangs in a network file system is
// left alone, and logged. It does not wait for an update. Programs with servers
// of their own first shut these down with the Shutdown of each service.
func (rt *Runtime) Shutdown(ctx context.Context) error {
	rt.Drain()
	rt.mu.Lock()
	rt.until = ctx
	rt.finish()
	ends := slices.Concat(rt.ends, slices.Collect(maps.Keys(rt.retired)))
	rt.mu.Unlock()
	servers := map[*limpet.VirtualService][]*http.Server{}
	for _, e := range ends {
		servers[e.of.gate] = append(servers[e.of.gate], e.server)
	}
	var mu sync.Mutex
	var faults []error
	stop := func(vs *limpet.VirtualService) {
		if err := vs.Shutdown(ctx, servers[vs]...); err != nil {
			mu.Lock()
			faults = append(faults, err)
			mu.Unlock()
		}
	}
	var wg sync.WaitGroup
	for vs := range servers {
		wg.Go(func() { stop(vs) })
	}
	wg.Wait() // no request begins any more
	for _, vs := range rt.all() {
		if servers[vs] == nil {
			wg.Go(func() { stop(vs) })
		}
	}
	wg.Wait()
	for _, e := range ends {
		for _, ln := range e.gated {
			_ = ln.Close() // unless it was served
		}
	}
	rt.accepting.Wait()
	rt.retiring.Wait()
	rt.closeTables(ctx)
	rt.logs.flush()
	return errors.Join(faults...)
}

// changes compares a file with those in force.
func (rt *Runtime) changes(f *File, all map[string]*tables) (c Changes) {
	seen := map[string]bool{}
	for _, field := range f.waiting(rt.begun, rt.opens) {
		c.Restart = append(c.Restart, field)
		seen[field] = true
	}
	limits := map[[2]string]rateLimiterConfig{}
	rt.file.eachLimiter(func(service, _ string, l rateLimiterConfig) { limits[[2]string{service, l.Name}] = l })
	f.eachLimiter(func(service, path string, l rateLimiterConfig) {
		if old, ok := limits[[2]string{service, l.Name}]; ok && old != l {
			c.Fresh, seen[path] = append(c.Fresh, path), true
		}
	})
	profiles := map[[2]string]sessionProfile{}
	rt.file.eachProfile(func(service, name, _ string, p sessionProfile) { profiles[[2]string{service, name}] = p })
	f.eachProfile(func(service, name, path string, p sessionProfile) {
		if old, ok := profiles[[2]string{service, name}]; ok && !keepsClients(old, p) {
			c.Fresh, seen[path] = append(c.Fresh, path), true
		}
	})
	for _, t := range all {
		if t.anew() {
			c.Fresh, seen[t.at] = append(c.Fresh, t.at), true
		}
	}
	stores := map[string]string{} // by service
	for _, s := range rt.file.doc.Services {
		stores[s.Name] = s.Tables.Store
	}
	for i, s := range f.doc.Services {
		if was, ok := stores[s.Name]; ok && was != s.Tables.Store {
			at := fielderr.Index("services", i) + ".tables"
			c.Fresh, seen[at] = append(c.Fresh, at), true
		}
	}
	slices.Sort(c.Fresh)
	for _, path := range different(rt.file, f) {
		if !seen[path] {
			c.Live = append(c.Live, path)
		}
	}
	return c
}

// eachLimiter calls do for each rate limiter: those that services share, of a
// service without a name, and private ones.
func (f *File) eachLimiter(do func(service, path string, l rateLimiterConfig)) {
	for i, l := range f.doc.RateLimiters {
		do("", fielderr.Index("rateLimiters", i), l)
	}
	for i, s := range f.doc.Services {
		for j, it := range s.RateLimiters {
			if it.own != nil {
				do(s.Name, fielderr.Index(fielderr.Index("services", i)+".rateLimiters", j), *it.own)
			}
		}
	}
}

// eachProfile calls do for each persistence profile, as eachLimiter does; that
// of a service without a name has none.
func (f *File) eachProfile(do func(service, name, path string, p sessionProfile)) {
	each := func(service, prefix string, own sessionProfile, named []namedProfile, at func(i int) int) {
		if own != nil {
			do(service, "", fielderr.Join(prefix, "persistence"), own)
		}
		for i, np := range named {
			if p, _, err := np.kind(); err == nil {
				do(service, np.Name, fielderr.Join(prefix, fielderr.Index("persistenceProfiles", at(i))), p)
			}
		}
	}
	each("", "", f.doc.Persistence.own, f.doc.PersistenceProfiles, func(i int) int { return i })
	for i := range f.doc.Services {
		s := &f.doc.Services[i]
		named, places := privates(s.PersistenceProfiles)
		each(s.Name, fielderr.Index("services", i), s.Persistence.own, named, func(i int) int { return places[i] })
	}
}

// different returns the paths at which two files differ: of the items of lists
// at the top, of the keys of mappings at the top of which some wait for a
// restart, of everything else at the top, and of what names a file with
// another content.
func different(old, now *File) (paths []string) {
	seen := map[string]bool{}
	a, b := reflect.ValueOf(old.doc).Elem(), reflect.ValueOf(now.doc).Elem()
	for _, field := range fieldsOf(a.Type()).list {
		name := fielderr.Name(field.Name)
		was, is := a.FieldByIndex(field.Index), b.FieldByIndex(field.Index)
		if reflect.DeepEqual(was.Interface(), is.Interface()) {
			continue
		}
		if waits(is.Type()) { // some of it
			for _, inner := range fieldsOf(is.Type()).list {
				if !reflect.DeepEqual(was.FieldByIndex(inner.Index).Interface(), is.FieldByIndex(inner.Index).Interface()) {
					paths = append(paths, fielderr.Join(name, fielderr.Name(inner.Name)))
				}
			}
			continue
		}
		if is.Kind() != reflect.Slice {
			paths = append(paths, name)
			continue
		}
		for i := range max(was.Len(), is.Len()) {
			if i >= was.Len() || i >= is.Len() || !reflect.DeepEqual(was.Index(i).Interface(), is.Index(i).Interface()) {
				paths = append(paths, fielderr.Index(name, i))
			}
		}
	}
	for _, path := range paths {
		seen[path] = true
	}
	var read []string
	for path, sum := range now.content {
		covered := false
		for above := path; above != ""; above = outer(above) {
			covered = covered || seen[above]
		}
		if was, ok := old.content[path]; ok && was != sum && !covered {
			read = append(read, path)
		}
	}
	slices.Sort(read)
	return append(paths, read...)
}
