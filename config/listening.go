package config

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"reflect"
	"strings"
	"sync/atomic"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/certs"
	"github.com/limpetlb/limpet/internal/fielderr"
)

// listening is a listener of a runtime.
type listening struct {
	name, address string
	gate          *limpet.VirtualService // judges connections: the one service, or one of the listener's own
	unknown       *limpet.VirtualService // answers for hosts that no service has; nil if gate is the one service
	server        *http.Server
	tls           *tls.Config
	certs         *certs.Store // nil for plain HTTP
	routes        atomic.Pointer[routes]
}

// listen makes a listener.
func (rt *Runtime) listen(d *door, a *assembly) (*listening, error) {
	l := &listening{name: d.name, address: d.address}
	l.routes.Store(&routes{})
	if d.rules == nil {
		l.gate = rt.services[a.services[0].key].VirtualService
		l.server = limpet.NewServer(l.gate)
	} else {
		var err error
		if l.gate, err = limpet.New(*d.rules); err != nil {
			return nil, fielderr.Under(d.path, err)
		}
		if l.unknown, err = limpet.New(unknownHost(d)); err != nil {
			return nil, err
		}
		l.server = limpet.NewServer(l.gate.Wrap(l))
	}
	if d.tls != nil {
		l.certs = certs.NewStore(d.tls)
		l.tls = l.certs.Server(l.needsCertificate)
		l.server.TLSConfig = l.tls
	}
	return l, nil
}

// follow takes what can change of a listener from a new file.
func (rt *Runtime) follow(d *door) error {
	for _, l := range rt.listeners {
		if l.name != d.name {
			continue
		}
		if d.tls != nil && l.certs != nil {
			l.certs.Use(d.tls)
		}
		if l.unknown != nil && d.rules != nil {
			return l.gate.Update(*d.rules)
		}
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

// route tells the listeners which services they have.
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
func (l *listening) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	routes := l.routes.Load()
	vs := routes.find(r.Host)
	if !l.admits(routes, vs, r.TLS) {
		vs = routes.unknown
	}
	vs.ServeHTTP(w, r)
}

// find returns the service of a host: that which has it, else that which has the
// longest part of it behind "*.", else that without hosts.
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
// what needs a restart.
func (f *File) waiting(first *File) (paths []string) {
	add := func(path string, differs bool) {
		if differs {
			paths = append(paths, path)
		}
	}
	now, was := f.doc, first.doc
	if len(now.Listeners) == 0 && len(was.Listeners) == 0 {
		add("listen", now.listen() != was.listen())
		add("tls", (now.TLS == nil) != (was.TLS == nil))
	}
	named := map[string]listenerConfig{}
	for _, l := range was.Listeners {
		named[l.Name] = l
	}
	for i, l := range now.Listeners {
		path := fielderr.Index("listeners", i)
		old, ok := named[l.Name]
		if add(path, !ok); ok {
			add(path+".address", l.Address != old.Address)
			add(path+".tls", (l.TLS == nil) != (old.TLS == nil))
			add(path, len(now.Services) == 0 && l.judges() != old.judges())
		}
		delete(named, l.Name)
	}
	add("listeners", len(named) > 0 || (len(now.Listeners) == 0) != (len(was.Listeners) == 0))
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
