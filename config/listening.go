package config

import (
	"cmp"
	"maps"
	"net"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/certs"
	"github.com/limpetlb/limpet/internal/fielderr"
)

// listening is a listener of a runtime, at all of its addresses.
type listening struct {
	name    string
	gate    *limpet.VirtualService // judges connections: the one service, or one of the listener's own
	unknown *limpet.VirtualService // answers for hosts that no service has; nil if gate is the one service
	handler http.Handler
	issuer  Issuer                      // nil without one
	certs   atomic.Pointer[certs.Store] // nil for plain HTTP
	routes  atomic.Pointer[routes]
}

// listen makes a listener.
func (rt *Runtime) listen(d *door, a *assembly) (*listening, error) {
	l := &listening{name: d.name, issuer: rt.options.Issuer}
	if d.tls != nil {
		l.certs.Store(certs.NewStore(d.tls))
	}
	l.routes.Store(&routes{})
	if d.rules == nil {
		l.gate = rt.services[a.services[0].key].VirtualService
		l.handler = lone{l}
		return l, nil
	}
	var err error
	if l.gate, err = limpet.New(*d.rules); err != nil {
		return nil, fielderr.Under(d.path, err)
	}
	if l.unknown, err = limpet.New(unknownHost(d)); err != nil {
		return nil, err
	}
	l.handler = l.gate.Wrap(l)
	return l, nil
}

// follow takes what can change of a listener from a new file.
func (l *listening) follow(d *door) error {
	if store := l.certs.Load(); d.tls != nil && store != nil {
		store.Use(d.tls)
	}
	if l.unknown != nil && d.rules != nil {
		return l.gate.Update(*d.rules)
	}
	return nil
}

// tryRules checks the rules of listeners.
func (b *builder) tryRules(a *assembly) {
	for _, d := range a.listeners {
		if d.rules == nil {
			continue
		}
		rules := *d.rules
		rules.Logger = nil
		vs, err := limpet.New(rules)
		b.fault(err, "%s", d.path)
		if err == nil {
			vs.CloseIdleConnections()
		}
	}
}

// routes find the service of a request by its host.
type routes struct {
	exact   map[string]*limpet.VirtualService
	below   map[string]*limpet.VirtualService // by what follows the "*"
	others  *limpet.VirtualService            // nil if there is none
	names   []string                          // of all services
	strict  map[*limpet.VirtualService]bool   // whose clients must have a certificate, of all listeners
	unknown *limpet.VirtualService
}

// route gives the listeners their services. The caller has locked mu.
func (rt *Runtime) route(a *assembly) {
	strict := map[*limpet.VirtualService]bool{}
	for _, m := range a.services {
		if m.strict() {
			strict[rt.services[m.key].VirtualService] = true
		}
	}
	// Connections of other listeners, which end, meet the services as they are.
	for _, e := range slices.AppendSeq(slices.Clone(rt.ends), maps.Keys(rt.retired)) {
		if slices.Contains(rt.listeners, e.of) {
			continue
		}
		r := *e.of.routes.Load()
		gone := r.strict
		r.strict = maps.Clone(strict)
		for vs := range gone {
			if !slices.ContainsFunc(a.services, func(m *member) bool { return rt.services[m.key].VirtualService == vs }) {
				r.strict[vs] = true
			}
		}
		e.of.routes.Store(&r)
	}
	for _, l := range rt.listeners {
		r := &routes{exact: map[string]*limpet.VirtualService{}, below: map[string]*limpet.VirtualService{}, strict: strict, unknown: l.unknown}
		for _, m := range a.services {
			if !m.servedAt(l.name) {
				continue
			}
			r.names = append(r.names, m.name)
			vs := rt.services[m.key].VirtualService
			if len(m.hosts) == 0 {
				r.others = vs
			}
			for _, host := range m.hosts {
				if below, ok := strings.CutPrefix(host, "*"); ok {
					r.below[below] = vs
				} else {
					r.exact[host] = vs
				}
			}
		}
		l.routes.Store(r)
	}
}

// ServeHTTP lets the service of the request's host answer.
func (l *listening) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	vs, last := l.service(r)
	if last {
		w.Header().Set("Connection", "close")
	}
	vs.ServeHTTP(w, r)
}

// Handler says which service answers, as [http.ServeMux.Handler] does.
func (l *listening) Handler(r *http.Request) (h http.Handler, pattern string) {
	vs, _ := l.service(r)
	return vs, ""
}

// service returns the service that answers a request. The request is the last
// one of its connection if that lacks a certificate that it needs.
func (l *listening) service(r *http.Request) (vs *limpet.VirtualService, last bool) {
	routes := l.routes.Load()
	vs = routes.find(r.Host)
	if ok, last := l.admits(routes, vs, r.TLS); !ok {
		return routes.unknown, last
	}
	return vs, false
}

// find returns the service of a host: that which has it, else that which has
// the longest part of it behind "*.", else that without hosts.
func (r *routes) find(host string) *limpet.VirtualService {
	if strings.IndexByte(host, ':') >= 0 {
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if vs := r.exact[host]; vs != nil {
		return vs
	}
	for rest := host; len(r.below) > 0; {
		i := strings.IndexByte(rest, '.')
		if i < 0 {
			break
		}
		if vs := r.below[rest[i:]]; vs != nil && i > 0 {
			return vs
		}
		rest = rest[i+1:]
	}
	return cmp.Or(r.others, r.unknown)
}

// waiting are the paths of what a file says otherwise than the first one, and
// what needs a restart. opened says that the runtime opens listeners by itself.
func (f *File) waiting(first *File, opened bool) (paths []string) {
	if !opened {
		paths = f.doc.listenersUnlike(first.doc)
	}
	for i, l := range f.doc.Listeners {
		for _, old := range first.doc.Listeners {
			// What the umask would make of it shows when the socket is opened
			// anew.
			if opened && l.Name == old.Name && l.Mode == "" && old.Mode != "" {
				paths = append(paths, fielderr.Index("listeners", i)+".mode")
			}
		}
	}
	return append(paths, restarts(reflect.ValueOf(f.doc.Process), reflect.ValueOf(first.doc.Process), "process")...)
}

// restarts are the paths of the fields of a struct that differ and need a
// restart.
func restarts(now, was reflect.Value, path string) (paths []string) {
	for _, f := range fieldsOf(now.Type()).list {
		differs := !reflect.DeepEqual(now.FieldByIndex(f.Index).Interface(), was.FieldByIndex(f.Index).Interface())
		if differs && reloadOf(now.Type(), f).is(reloadRestart) {
			paths = append(paths, fielderr.Join(path, fielderr.Name(f.Name)))
		}
	}
	return paths
}

// listenersUnlike are the paths of what differs in the listeners, apart from
// certificates and rules.
func (doc *document) listenersUnlike(was *document) (paths []string) {
	add := func(path string, differs bool) {
		if differs {
			paths = append(paths, path)
		}
	}
	if len(doc.Listeners) == 0 && len(was.Listeners) == 0 {
		add("listen", !slices.Equal(doc.listen(), was.listen()))
		add("tls", (doc.TLS == nil) != (was.TLS == nil))
	}
	named := map[string]listenerConfig{}
	for _, l := range was.Listeners {
		named[l.Name] = l
	}
	for i, l := range doc.Listeners {
		path := fielderr.Index("listeners", i)
		old, ok := named[l.Name]
		if add(path, !ok); ok {
			add(path+".address", !slices.Equal(l.Address, old.Address))
			add(path+".tls", (l.TLS == nil) != (old.TLS == nil))
			add(path+".mode", l.Mode != old.Mode)
			add(path, l.serverSettings != old.serverSettings || len(doc.Services) == 0 && l.judges() != old.judges())
		}
		delete(named, l.Name)
	}
	add("listeners", len(named) > 0 || (len(doc.Listeners) == 0) != (len(was.Listeners) == 0))
	return paths
}
