package config

import (
	"cmp"
	"fmt"
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
	certs   atomic.Pointer[certs.Store] // nil for plain HTTP
	routes  atomic.Pointer[routes]
}

// listen makes a listener.
func (rt *Runtime) listen(d *door, a *assembly) (*listening, error) {
	l := &listening{name: d.name}
	if d.tls != nil {
		l.certs.Store(certs.NewStore(d.tls))
	}
	l.routes.Store(&routes{})
	if d.rules == nil {
		l.gate = rt.services[a.services[0].key].VirtualService
		l.handler = l.gate
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
	strict  map[*limpet.VirtualService]bool   // whose clients must have a certificate; nil if there are none
	unknown *limpet.VirtualService
}

// route gives the listeners their services. The caller has locked mu.
func (rt *Runtime) route(a *assembly) {
	for _, l := range rt.listeners {
		r := &routes{exact: map[string]*limpet.VirtualService{}, below: map[string]*limpet.VirtualService{}, unknown: l.unknown}
		for _, m := range a.services {
			if !m.servedAt(l.name) {
				continue
			}
			r.names = append(r.names, m.name)
			vs := rt.services[m.key].VirtualService
			if m.strict() {
				if r.strict == nil {
					r.strict = map[*limpet.VirtualService]bool{}
				}
				r.strict[vs] = true
			}
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
func (l *listening) ServeHTTP(w http.ResponseWriter, r *http.Request) { l.service(r).ServeHTTP(w, r) }

// Handler says which service answers, as [http.ServeMux.Handler] does.
func (l *listening) Handler(r *http.Request) (h http.Handler, pattern string) {
	return l.service(r), ""
}

// service returns the service that answers a request.
func (l *listening) service(r *http.Request) *limpet.VirtualService {
	routes := l.routes.Load()
	vs := routes.find(r.Host)
	if !l.admits(routes, vs, r.TLS) {
		return routes.unknown
	}
	return vs
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
	add := func(path string, differs bool) {
		if differs {
			paths = append(paths, path)
		}
	}
	now, was := f.doc, first.doc
	if !opened {
		paths = now.listenersUnlike(was)
	}
	add("process.startWait", !reflect.DeepEqual(now.Process.StartWait, was.Process.StartWait))
	add("process.maxConnections", now.Process.MaxConnections != was.Process.MaxConnections)
	add("tables", !reflect.DeepEqual(now.service.Tables, was.service.Tables))
	stores := map[string]storeConfig{}
	for _, s := range was.Stores {
		stores[s.Name] = s
	}
	for i, s := range now.Stores {
		old, ok := stores[s.Name]
		add(fielderr.Index("stores", i), ok && !reflect.DeepEqual(s, old))
	}
	services := map[string]serviceConfig{}
	for _, s := range was.Services {
		services[s.Name] = s
	}
	for i, s := range now.Services {
		old, ok := services[s.Name]
		add(fmt.Sprintf("services[%d].tables", i), ok && s.Tables.Store == old.Tables.Store && !reflect.DeepEqual(s.Tables, old.Tables))
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
			add(path, l.serverSettings != old.serverSettings || len(doc.Services) == 0 && l.judges() != old.judges())
		}
		delete(named, l.Name)
	}
	add("listeners", len(named) > 0 || (len(doc.Listeners) == 0) != (len(was.Listeners) == 0))
	return paths
}
