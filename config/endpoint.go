package config

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"net"
	"net/http"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/accept"
	"github.com/limpetlb/limpet/internal/bounds"
	"github.com/limpetlb/limpet/internal/certs"
	"github.com/limpetlb/limpet/internal/interrupt"
	"github.com/limpetlb/limpet/internal/unixsocket"
	"github.com/limpetlb/limpet/lbpool"
)

// An endpoint is one address of a listener. It has a server of its own, so that
// each address can end alone.
type endpoint struct {
	of *listening
	address
	path     string // of the address in the file
	settings serverSettings
	secure   bool        // over TLS
	mode     fs.FileMode // of the file of a Unix socket that it opens; 0: the umask decides
	modeIs   fs.FileMode // that this process has given it; 0: none
	server   *http.Server
	before   *endpoint      // whose sockets it takes over; nil if it opens its own
	yielded  bool           // another one has taken over its sockets
	sockets  []net.Listener // that the runtime has opened
	gated    []net.Listener // the same, with the rules of the listener
	turns    []uint64       // of these, when Progress looked
}

// endpoint makes one that is not open. It has the certificates of a store; nil
// for plain HTTP.
func (l *listening) endpoint(d *door, i int, store *certs.Store) *endpoint {
	e := &endpoint{of: l, address: d.addresses[i], path: d.paths[i], settings: d.settings, secure: store != nil, mode: d.mode}
	handler := l.handler
	if l.issuer != nil {
		handler = &challengeDoor{l.issuer, l.gate, handler}
	}
	e.server = limpet.NewServer(handler)
	s := e.settings
	bounds.SetDefaults(&s)
	bounds.SetDefaults(&s.Timeouts)
	e.server.ReadHeaderTimeout, e.server.IdleTimeout = s.Timeouts.Header, s.Timeouts.Idle
	e.server.MaxHeaderBytes, e.server.HTTP2.MaxConcurrentStreams = s.MaxHeaderBytes, s.MaxStreams
	if e.secure {
		e.server.TLSConfig = store.Server(l.needsCertificate)
	}
	if s.H2c {
		e.server.Protocols = new(http.Protocols)
		e.server.Protocols.SetHTTP1(true)
		e.server.Protocols.SetUnencryptedHTTP2(true)
	}
	return e
}

// is reports whether e can stay as an address of a listener.
func (e *endpoint) is(l *listening, d *door, i int) bool {
	return e.of == l && e.address == d.addresses[i] && e.settings == d.settings && e.secure == (d.tls != nil)
}

// serve serves clients from a listener that has the rules.
func (e *endpoint) serve(ln net.Listener) error {
	if e.secure {
		return e.server.ServeTLS(ln, "", "")
	}
	return e.server.Serve(ln)
}

// close closes the sockets of an endpoint that nobody serves.
func (e *endpoint) close() {
	for _, ln := range e.sockets {
		_ = ln.Close()
	}
}

// open opens the sockets of an endpoint, or takes over those of the one before:
// they are handles of the same.
func (rt *Runtime) open(e *endpoint) (err error) {
	if e.before != nil {
		for _, ln := range e.before.sockets {
			again, err := duplicate(ln)
			if err != nil {
				return err
			}
			e.sockets = append(e.sockets, again)
		}
		return nil
	}
	if rt.options.HandedOver != nil {
		if e.sockets, err = rt.options.HandedOver(e.network, e.name); err != nil || len(e.sockets) > 0 {
			return err
		}
	}
	switch {
	case e.network != fdNetwork:
		var ln net.Listener
		if ln, err = listenAt(e.address, e.mode); err == nil {
			e.sockets, e.modeIs = []net.Listener{ln}, e.mode
		}
		return err
	case rt.options.Inherited != nil:
		e.sockets, err = rt.options.Inherited(e.name)
	}
	if err == nil && len(e.sockets) == 0 {
		err = fmt.Errorf("the process has inherited no socket %q", e.name)
	}
	return err
}

// unlinkOnClose says whether the file of a Unix socket is removed when the
// socket is closed.
func (e *endpoint) unlinkOnClose(unlink bool) {
	for _, ln := range e.sockets {
		if socket, ok := ln.(*net.UnixListener); ok && e.network == unixNetwork {
			socket.SetUnlinkOnClose(unlink)
		}
	}
}

// duplicate returns another handle of a socket, which stays open when the first
// one is closed, with the connections that wait there.
func duplicate(ln net.Listener) (net.Listener, error) {
	f, err := accept.Duplicate(ln)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return net.FileListener(f)
}

// settle gives the file of a socket that the endpoint has taken over the mode
// of the listener. The caller has locked mu.
func (e *endpoint) settle(news *notices) {
	if !e.isFile() || e.mode == e.modeIs || e.mode == 0 {
		return
	}
	e.modeIs = e.mode
	if err := os.Chmod(e.name, e.mode); err != nil {
		address := unixNetwork + ":" + e.name
		news.add(func(log *slog.Logger) { log.Error("mode of a socket not set", "address", address, "error", err) })
	}
}

// listenAt opens a socket. The file of a Unix socket that nobody listens at any
// more, because its process was killed, is replaced. If mode is not 0, it has
// that when clients can connect.
func listenAt(a address, mode fs.FileMode) (net.Listener, error) {
	listen := func() (net.Listener, error) {
		if a.isFile() && mode != 0 {
			return unixsocket.Listen(a.name, mode)
		}
		return net.Listen(a.network, a.name)
	}
	ln, err := listen()
	if a.network != unixNetwork || !errors.Is(err, syscall.EADDRINUSE) {
		return ln, err
	}
	info, e := os.Lstat(a.name)
	if e != nil || info.Mode().Type() != fs.ModeSocket {
		return nil, err
	}
	if c, e := net.Dial(a.network, a.name); !errors.Is(e, syscall.ECONNREFUSED) {
		if e == nil {
			_ = c.Close()
		}
		return nil, err
	}
	if err := os.Remove(a.name); err != nil {
		return nil, err
	}
	return listen()
}

// gate puts the rules of the listener and the limit of all listeners before the
// sockets. Connections are counted from then on.
func (rt *Runtime) gate(e *endpoint) {
	for _, ln := range e.sockets {
		if rt.budget != nil {
			ln = rt.budget.Listener(ln)
		}
		e.gated, e.turns = append(e.gated, e.of.gate.Listener(ln)), append(e.turns, math.MaxUint64)
	}
}

// Listen opens the addresses of all listeners. Clients can connect then, and
// wait until Serve accepts them. From then on the Runtime serves by itself, and
// Update opens and closes addresses as well.
//
// If an address cannot be opened, none is, and the error joins an [*Error] for
// each. To open sockets in another way, leave Listen alone and use
// [Listener.Serve].
func (rt *Runtime) Listen() error {
	_ = rt.updating.take(context.Background()) // which returns nil
	defer rt.updating.pass()
	rt.mu.Lock()
	ends, opened := rt.ends, rt.opens || rt.over.Err() != nil
	rt.mu.Unlock()
	if opened {
		return errors.New("the runtime listens already, or was shut down")
	}
	to := newFindings()
	b := rt.begun.builder(to, rt.options)
	for _, e := range ends {
		b.fault(rt.open(e), "%s", e.path)
	}
	if err := to.join(rt.begun.hidden); err != nil {
		for _, e := range ends {
			e.close()
			e.sockets = nil
		}
		return err
	}
	rt.budget = accept.NewBudget(rt.begun.doc.Process.MaxConnections, 2*len(ends)+rt.monitored())
	rt.mu.Lock()
	defer rt.mu.Unlock()
	for _, e := range ends {
		rt.gate(e)
	}
	rt.opens = true
	return nil
}

// Serve accepts clients at the addresses that Listen has opened, until Shutdown
// is called; then it returns [http.ErrServerClosed] at once. Another error
// means that an address cannot accept any more; the others go on until
// Shutdown.
//
// Before it accepts, it waits until the health monitors have checked each
// server once, for process.startWait of the file at most; so call Run before.
// When it accepts it calls ready, unless that is nil.
func (rt *Runtime) Serve(ready func()) error {
	rt.mu.Lock()
	opens, serves := rt.opens, rt.serves
	rt.serves = opens
	rt.mu.Unlock()
	if !opens || serves {
		return errors.New("Serve is called once, after Listen")
	}
	rt.awaitChecks()
	if may := rt.options.BeforeAccept; may != nil {
		left := rt.notTaken()
		if err := may(); err != nil {
			return err
		}
		_, _ = interrupt.Wait(rt.over, func() (struct{}, error) {
			for _, t := range left {
				t.load(rt.Logger())
			}
			return struct{}{}, nil
		}) // after Shutdown, nothing is accepted below
	}
	rt.mu.Lock()
	if rt.over.Err() != nil {
		rt.mu.Unlock()
		return http.ErrServerClosed
	}
	rt.accepts = true
	close(rt.accepted)
	var news notices
	for _, e := range rt.ends {
		e.unlinkOnClose(true) // those that were handed over, too
		e.settle(&news)
		rt.accept(e, &news)
	}
	rt.resumeSaving()
	rt.mu.Unlock()
	if rt.budget != nil {
		news.add(func(log *slog.Logger) { log.Info("connections limited", "max", rt.budget.Max()) })
	}
	news.log(rt.Logger())
	if ready != nil {
		ready()
	}
	select {
	case err := <-rt.failed:
		return err
	case <-rt.over.Done():
		return http.ErrServerClosed
	}
}

// Progress reports whether the Runtime is alive: each address has accepted
// connections since the last call, or waits for some now. It is for a watchdog,
// which calls it every few seconds.
func (rt *Runtime) Progress() bool {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	alive := true
	for _, e := range rt.ends {
		for i, ln := range e.gated {
			turns, waits := accept.Turns(ln)
			alive = alive && (waits || turns != e.turns[i] || !rt.accepts)
			e.turns[i] = turns
		}
	}
	return alive
}

// notices are lines for the log, to be written when nothing is locked.
type notices []func(log *slog.Logger)

func (n *notices) add(write func(log *slog.Logger)) { *n = append(*n, write) }

func (n *notices) log(to *slog.Logger) {
	for _, write := range *n {
		write(to)
	}
}

// accept begins to serve at an endpoint. The caller has locked mu.
func (rt *Runtime) accept(e *endpoint, news *notices) {
	for _, ln := range e.gated {
		about := rt.about(e)
		news.add(func(log *slog.Logger) { log.Info("serving", slog.String("address", showAddr(ln.Addr())), about) })
		rt.accepting.Go(func() {
			if err := e.serve(ln); !errors.Is(err, http.ErrServerClosed) {
				select {
				case rt.failed <- fmt.Errorf("listener %s: %w", e.of.name, err):
				default: // one is enough
				}
			}
		})
	}
}

// showAddr is the address of a socket as it stands in a file.
func showAddr(addr net.Addr) string {
	if addr.Network() == unixNetwork {
		return unixNetwork + ":" + addr.String()
	}
	return addr.String()
}

// about says in the log which listener is meant: the service, if there is no
// other and it has one listener. The caller has locked mu.
func (rt *Runtime) about(e *endpoint) slog.Attr {
	if names := rt.file.Services(); len(rt.listeners) == 1 && len(names) == 1 {
		return slog.String("vs", names[0])
	}
	return slog.String("listener", e.of.name)
}

// leastIdle is how long a connection that was in a queue at the end may take to
// send its request, as in [limpet.VirtualService.Shutdown].
const leastIdle = time.Second

// retire ends an endpoint. Its connections end with their next response, or
// when they have been idle for some time; requests, streams and upgraded
// connections go on. The caller has locked mu.
func (rt *Runtime) retire(e *endpoint, news *notices) {
	if !rt.accepts {
		for _, ln := range e.gated {
			_ = ln.Close()
		}
		return
	}
	for _, ln := range e.gated {
		if e.yielded {
			break
		}
		news.add(func(log *slog.Logger) {
			log.Info("listener closed", "address", showAddr(ln.Addr()), "listener", e.of.name)
		})
	}
	drain := rt.file.doc.Process.Drain
	bounds.SetDefaults(&drain)
	rt.retired[e] = true
	rt.retiring.Go(func() {
		idle, cancel := context.WithTimeout(rt.over, max(drain.Idle, leastIdle))
		defer cancel()
		for _, ln := range e.gated {
			accept.Retire(idle, ln)
		}
		if e.server.Shutdown(rt.over) != nil {
			return // the runtime is shut down, and this endpoint with it
		}
		for _, ln := range e.gated {
			accept.Retire(rt.over, ln) // the server does not know of upgraded connections
		}
		if rt.over.Err() != nil {
			return
		}
		rt.mu.Lock()
		defer rt.mu.Unlock()
		delete(rt.retired, e)
	})
}

// An arrangement is what the listeners of an update become.
type arrangement struct {
	listeners []*listening
	stores    []*certs.Store // of these; nil for plain HTTP
	ends      []*endpoint
	modes     []fs.FileMode // of these
	fresh     []*endpoint   // of those, the ones that begin
}

// arrange makes listeners and opens addresses that are new, and keeps what
// stays. If there is a fault, which is noted, nothing is open.
func (rt *Runtime) arrange(a *assembly, b *builder) *arrangement {
	rt.mu.Lock()
	listeners, ends := rt.listeners, rt.ends
	rt.mu.Unlock()
	next, used := &arrangement{}, map[*endpoint]bool{} // of ends: what stays or is taken over
	free := func(is func(e *endpoint) bool) *endpoint {
		i := slices.IndexFunc(ends, func(e *endpoint) bool { return !used[e] && is(e) })
		if i < 0 {
			return nil
		}
		used[ends[i]] = true
		return ends[i]
	}
	for _, d := range a.listeners {
		var l *listening
		if i := slices.IndexFunc(listeners, func(l *listening) bool { return l.name == d.name && (l.unknown != nil) == (d.rules != nil) }); i >= 0 {
			l = listeners[i]
		} else {
			made, err := rt.listen(d, a)
			if b.fault(err, "%s", d.path); err != nil {
				continue
			}
			l = made
		}
		store := l.certs.Load()
		if d.tls == nil {
			store = nil
		} else if store == nil {
			store = certs.NewStore(d.tls)
		}
		next.listeners, next.stores = append(next.listeners, l), append(next.stores, store)
		for i := range d.addresses {
			e := free(func(e *endpoint) bool { return e.is(l, d, i) })
			if e == nil {
				e = l.endpoint(d, i, store)
				next.fresh = append(next.fresh, e)
			}
			next.ends, next.modes = append(next.ends, e), append(next.modes, d.mode)
		}
	}
	for _, e := range next.fresh {
		e.before = free(func(old *endpoint) bool {
			return old.address == e.address && (e.isFixed() || old.of.name == e.of.name)
		})
		b.fault(rt.open(e), "%s", e.path)
	}
	return next
}

// drop closes what arrange has opened.
func (next *arrangement) drop() {
	for _, e := range next.fresh {
		e.close()
	}
}

// adopt puts an arrangement into force. The caller has locked mu.
func (rt *Runtime) adopt(next *arrangement, news *notices) {
	before := rt.ends
	rt.listeners, rt.ends = next.listeners, next.ends
	for i, l := range next.listeners {
		l.certs.Store(next.stores[i])
	}
	for _, e := range next.fresh {
		rt.gate(e)
		if old := e.before; old != nil {
			old.unlinkOnClose(false) // the file goes with the last handle of its socket
			e.unlinkOnClose(rt.accepts || rt.options.HandedOver == nil)
			for _, ln := range old.gated {
				accept.Yield(ln)
			}
			e.before, old.yielded = nil, true
			e.modeIs = old.modeIs
		}
		if rt.accepts {
			rt.accept(e, news)
		}
	}
	for i, e := range next.ends {
		if e.mode = next.modes[i]; rt.accepts || rt.options.HandedOver == nil {
			e.settle(news)
		}
	}
	for _, e := range before {
		if !slices.Contains(next.ends, e) {
			rt.retire(e, news)
		}
	}
}

// checkInterval is how often a start looks whether servers have been checked.
const checkInterval = 5 * time.Millisecond

// awaitChecks waits until the servers have been checked, for as long as the
// file says, or until Shutdown.
func (rt *Runtime) awaitChecks() {
	wait := startWait
	if w := rt.begun.doc.Process.StartWait; w != nil {
		wait = *w
	}
	limit, cancel := context.WithTimeout(rt.over, wait)
	defer cancel()
	tick := time.NewTicker(checkInterval)
	defer tick.Stop()
	for limit.Err() == nil && !rt.isChecked(limit) {
		select {
		case <-tick.C:
		case <-limit.Done():
		}
	}
}

// isChecked reports whether the health monitors and discoveries know all
// servers. It is false if ctx ends while it waits for an update.
func (rt *Runtime) isChecked(ctx context.Context) bool {
	if rt.updating.take(ctx) != nil {
		return false
	}
	defer rt.updating.pass()
	for c, p := range rt.pools {
		servers := p.Servers()
		if len(servers) == 0 && len(c.Servers)+len(c.Discoveries) > 0 {
			return false // they are being looked up
		}
		if slices.ContainsFunc(servers, func(s *lbpool.Server) bool {
			state := s.State()
			return state == lbpool.Unchecked || state == lbpool.Down && c.StartDown
		}) {
			return false
		}
	}
	return true
}

// monitored is the number of servers to which health monitors connect.
func (rt *Runtime) monitored() (n int) {
	for c, p := range rt.pools {
		if len(c.HealthMonitors) > 0 {
			n += len(p.Servers())
		}
	}
	return n
}

// pools are those of the first file that are still there, the private ones of
// services among them. The caller has the turn to update.
func (rt *Runtime) pools(yield func(c *poolConfig, p *lbpool.Pool) bool) {
	doc := rt.begun.doc
	for i := range doc.Pools {
		c := &doc.Pools[i]
		if p := rt.kept.pools[c.Name]; p != nil && !yield(c, p) {
			return
		}
	}
	for _, s := range doc.Services {
		for _, it := range s.Pools {
			if it.own == nil {
				continue
			}
			if p := rt.kept.services[s.Name].pools[it.own.Name]; p != nil && !yield(it.own, p) {
				return
			}
		}
	}
}
