package config

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/bounds"
	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/policy"
)

// An assembly is all objects of a File.
type assembly struct {
	shared    *builder // what services share; the one service itself if there are no others
	services  []*member
	listeners []*door
	stores    map[string]*tables // by the keys of tables
	places    map[string]bool    // where tables on servers are
}

// A member is one of the services.
type member struct {
	*builder
	key       string // empty for the one service of a file without others
	name      string
	hosts     []string // in lower case
	listeners []string
	config    *serviceConfig // nil for the one service of a file without others
}

// A door is what a file says about a listener.
type door struct {
	name      string
	path      string // of its configuration
	addresses []address
	paths     []string // of the addresses
	settings  serverSettings
	certs     []tls.Certificate
	rules     *limpet.Config // for its connections; nil if its one service judges them
}

// The bounds of a file with several services.
const (
	maxServices  = 1_000
	maxListeners = 1_000
	maxHosts     = 10_000
)

// assemble makes all objects, of what old has kept and of what is new, and notes
// all faults but those of the services as a whole.
func (b *builder) assemble(old kept) *assembly {
	doc := b.file.doc
	a := &assembly{shared: b, stores: map[string]*tables{}, places: map[string]bool{}}
	b.objects(&doc.service, old)
	b.fault(doc.Process.check(), "process")
	for i, c := range doc.Stores {
		b.store(a, i, c)
	}
	b.now.tables = a.stores
	if len(doc.Services) == 0 {
		b.transport(doc.Transport)
		m := &member{builder: b, name: cmp.Or(doc.Name, defaultName)}
		b.tables(a, doc.service.Tables, "service", m.name)
		a.services = append(a.services, m)
	}
	for path, over := range map[string]bool{"services": len(doc.Services) > maxServices, "listeners": len(doc.Listeners) > maxListeners} {
		if over {
			b.fault(errors.New("more than 1000"), "%s", path)
			return a
		}
	}
	names := map[string]bool{}
	for i := range doc.Services {
		c := &doc.Services[i]
		if c.Name == "" || names[c.Name] {
			b.fault(fmt.Errorf("%q is empty or taken", c.Name), "services[%d].name", i)
			continue
		}
		names[c.Name] = true
		a.services = append(a.services, b.member(a, c, fielderr.Index("services", i)))
	}
	b.doors(a)
	b.hosts(a)
	return a
}

// storeKey is the key of the tables of a store.
func storeKey(name string) string { return "store " + name }

// member makes one of several services of what they share.
func (b *builder) member(a *assembly, c *serviceConfig, prefix string) *member {
	s := b.file.builder(b.findings, b.options)
	s.ctx, s.checking, s.prefix, s.old, s.broken, s.lost = b.ctx, b.checking, prefix, b.old, b.broken, b.lost
	s.config, s.cfg = &service{}, c.Config
	s.cfg.Logger = b.log
	s.cfg.Connections.DrainIdle = b.cfg.Connections.DrainIdle
	s.cfg.IPGroups, s.cfg.StringGroups, s.cfg.Geo, s.cfg.RateLimiters = b.cfg.IPGroups, b.cfg.StringGroups, b.cfg.Geo, b.cfg.RateLimiters
	m := &member{builder: s, key: c.Name, name: c.Name, config: c, listeners: c.Listeners}
	for i, name := range c.Scripts {
		at := slices.IndexFunc(b.cfg.Scripts, func(s limpet.Script) bool { return s.Name() == name })
		if at < 0 {
			s.fault(fmt.Errorf("script %q not found", name), "scripts[%d]", i)
			continue
		}
		s.cfg.Scripts = append(s.cfg.Scripts, b.cfg.Scripts[at])
	}
	s.rateProfile(c.RateProfile)
	s.defaultProfile(c.Persistence)
	s.transport(c.Transport)
	s.tables(a, c.Tables, "service "+c.Name, c.Name)
	m.choosePools(b)
	return m
}

// choosePools gives a service its pools and groups, those of shared, and their
// profiles. The pools of a group come with it.
func (m *member) choosePools(shared *builder) {
	m.cfg.Pools, m.cfg.PoolGroups, m.cfg.PoolPersistence = nil, nil, map[string]limpet.PersistenceProfile{}
	add := func(p *lbpool.Pool) {
		if !slices.Contains(m.cfg.Pools, p) {
			m.cfg.Pools = append(m.cfg.Pools, p)
		}
		if profile, ok := shared.cfg.PoolPersistence[p.Name()]; ok {
			m.cfg.PoolPersistence[p.Name()] = profile
		}
	}
	for i, name := range m.config.Pools {
		if p := shared.now.pools[name]; p != nil {
			add(p)
		} else {
			m.fault(fmt.Errorf("pool %q not found", name), "pools[%d]", i)
		}
	}
	for i, name := range m.config.PoolGroups {
		at := slices.IndexFunc(shared.cfg.PoolGroups, func(g *lbpool.Group) bool { return g.Name() == name })
		if at < 0 {
			m.fault(fmt.Errorf("pool group %q not found", name), "poolGroups[%d]", i)
			continue
		}
		g := shared.cfg.PoolGroups[at]
		m.cfg.PoolGroups = append(m.cfg.PoolGroups, g)
		if profile, ok := shared.cfg.PoolPersistence[name]; ok {
			m.cfg.PoolPersistence[name] = profile
		}
		for _, member := range g.Members() {
			add(member.Pool)
		}
	}
}

// doors makes what listeners need, and opens none.
func (b *builder) doors(a *assembly) {
	doc := b.file.doc
	if len(doc.Listeners) == 0 {
		d := &door{name: "listen", certs: b.certificates(doc.TLS, "tls")}
		b.addresses(d, doc.listen(), "listen", map[address]string{})
		if len(doc.Services) > 0 {
			d.rules = b.connections(&listenerConfig{Name: d.name})
		}
		a.listeners = append(a.listeners, d)
		return
	}
	names, taken := map[string]bool{}, map[address]string{}
	for i := range doc.Listeners {
		c := &doc.Listeners[i]
		path := fielderr.Index("listeners", i)
		if c.Name == "" || names[c.Name] {
			b.fault(fmt.Errorf("%q is empty or taken", c.Name), "%s.name", path)
			continue
		}
		names[c.Name] = true
		d := &door{name: c.Name, path: path, settings: c.serverSettings, certs: b.certificates(c.TLS, path+".tls")}
		b.addresses(d, c.Address, path+".address", taken)
		b.fault(c.serverSettings.check(c.TLS != nil), "%s", path)
		own := c.judges()
		if own || len(doc.Services) > 0 {
			d.rules = b.connections(c)
		}
		if own && len(doc.Services) == 0 && !reflect.DeepEqual(doc.Clients.Connections, limpet.ConnectionLimits{}) {
			b.fault(errors.New("the listeners have rules of their own; write it there"), "connections")
		}
		if own && len(doc.Services) == 0 && !reflect.DeepEqual(doc.Clients.ProxyProtocol, limpet.ProxyProtocol{}) {
			b.fault(errors.New("the listeners have rules of their own; write it there"), "proxyProtocol")
		}
		a.listeners = append(a.listeners, d)
	}
	for _, m := range a.services {
		for i, name := range m.listeners {
			if !names[name] {
				m.fault(fmt.Errorf("listener %q not found", name), "listeners[%d]", i)
			}
		}
	}
}

// addresses reads the addresses of a listener, which stand at a path. taken has
// those of other listeners, with the names of these.
func (b *builder) addresses(d *door, texts addresses, path string, taken map[address]string) {
	if len(texts) == 0 {
		b.fault(errors.New("want an address, such as :8080"), "%s", path)
	}
	for i, text := range texts {
		at := texts.path(path, i)
		parsed, err := parseAddress(text)
		if other, ok := taken[parsed]; ok && err == nil && parsed.isFixed() {
			err = fmt.Errorf("listener %q has this address already", other)
		}
		b.fault(err, "%s", at)
		if err == nil {
			taken[parsed] = d.name
			d.addresses, d.paths = append(d.addresses, parsed), append(d.paths, at)
		}
	}
}

// check reports what is out of bounds. The paths begin at the process.
func (c *processConfig) check() error {
	var faults fielderr.List
	bounds.Check("", *c, &faults)
	bounds.Check("drain", c.Drain, &faults)
	if w := c.StartWait; w != nil && *w < 0 {
		faults.Addf("startWait", *w, "negative")
	} else if w != nil && *w > maxStartWait {
		faults.Addf("startWait", *w, "more than %v", maxStartWait)
	}
	return faults.Err()
}

// check reports what is out of bounds, or has no effect.
func (s *serverSettings) check(secure bool) error {
	var faults fielderr.List
	bounds.Check("", *s, &faults)
	bounds.Check("timeouts", s.Timeouts, &faults)
	if s.H2c && secure {
		faults.Addf("h2c", true, "for a listener without tls, which has HTTP/2 anyway")
	}
	return faults.Err()
}

// judges reports whether a listener has rules of its own.
func (c *listenerConfig) judges() bool {
	return !reflect.DeepEqual(c.connectionRules, connectionRules{})
}

// connections is a configuration that judges the connections of a listener.
func (b *builder) connections(c *listenerConfig) *limpet.Config {
	cfg := &limpet.Config{Name: c.Name, IPGroups: b.cfg.IPGroups, Geo: b.cfg.Geo, Logger: b.log}
	cfg.NetworkSecurity, cfg.PoliciesOnError, cfg.ProxyProtocol, cfg.Connections = c.NetworkSecurity, c.PoliciesOnError, c.ProxyProtocol, c.Connections
	cfg.Connections.DrainIdle = b.cfg.Connections.DrainIdle
	// The services log requests. Here are those that none of them gets.
	cfg.Logging = limpet.Logging{FilteredRate: -1, OtherRate: -1}
	for s := limpet.PolicyDrop; s <= lastSignificance; s++ {
		if s != limpet.PolicyDrop && s != limpet.RateLimited && s != limpet.BadProxyHeader {
			cfg.Logging.Ignore = append(cfg.Logging.Ignore, s)
		}
	}
	return cfg
}

const lastSignificance = limpet.BindingInvalid

// hosts checks which service gets which requests: the names are told apart at
// each listener.
func (b *builder) hosts(a *assembly) {
	total := 0
	for _, m := range a.services {
		if m.config == nil {
			continue
		}
		for i, host := range m.config.Hosts {
			host = strings.ToLower(host)
			m.fault(checkHost(host), "hosts[%d]", i)
			m.hosts = append(m.hosts, host)
		}
		total += len(m.hosts)
	}
	if total > maxHosts {
		b.fault(fmt.Errorf("%d hosts, want at most %d", total, maxHosts), "services")
		return
	}
	for _, d := range a.listeners {
		taken := map[string]string{} // the service of a host; of all others for ""
		for _, m := range a.services {
			if !m.servedAt(d.name) {
				continue
			}
			if len(m.hosts) == 0 {
				if other, ok := taken[""]; ok {
					m.fault(fmt.Errorf("service %q at listener %q has no hosts either", other, d.name), "hosts")
				}
				taken[""] = m.name
			}
			for i, host := range m.hosts {
				if other, ok := taken[host]; ok {
					m.fault(fmt.Errorf("service %q has %q at listener %q already", other, host, d.name), "hosts[%d]", i)
				}
				taken[host] = m.name
			}
		}
	}
}

// servedAt reports whether a service is served at a listener.
func (m *member) servedAt(listener string) bool {
	return len(m.listeners) == 0 || slices.Contains(m.listeners, listener)
}

// checkHost checks the name of a host, in lower case: a name, an address, or "*."
// and a name for all names below that.
func checkHost(host string) error {
	name := strings.TrimPrefix(host, "*.")
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	bad := name == "" || len(name) > 253 || strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".") || strings.Contains(name, "..")
	for _, c := range name {
		bad = bad || (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '.' && c != '_'
	}
	if bad {
		return fmt.Errorf("%q is not the name of a host, such as www.example.com or *.example.com", host)
	}
	return nil
}

// update changes the pools that stay, in the place of which the assembly has new
// ones. They keep what they know of their servers.
func (a *assembly) update() error {
	if err := a.shared.update(); err != nil {
		return err
	}
	for _, m := range a.services {
		if m.config != nil {
			m.choosePools(a.shared)
		}
	}
	return nil
}

// unknownHost is the configuration that answers requests for hosts that no
// service of a listener has.
func unknownHost(d *door) limpet.Config {
	cfg := limpet.Config{Name: d.name, Logger: d.rules.Logger}
	cfg.HTTPSecurity = []policy.SecurityRule{{Name: "no service for this host", Action: policy.Respond{Status: http.StatusMisdirectedRequest}}}
	cfg.Logging = limpet.Logging{SignificantRate: 1, FilteredRate: -1, OtherRate: -1}
	return cfg
}
