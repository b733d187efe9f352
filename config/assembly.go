package config

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/bounds"
	"github.com/limpetlb/limpet/internal/certs"
	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/internal/unixsocket"
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
	writers   []writer           // of files
	acme      []ACME             // with the names of all listeners
	logs      logPlan
	tracing   *Tracing // nil without
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
	mode      fs.FileMode    // of the files of Unix sockets; 0: the umask decides
	tls       *certs.Policy  // nil for plain HTTP
	rules     *limpet.Config // for its connections; nil if its one service judges them
}

// The bounds of a file with several services.
const (
	maxServices  = 1_000
	maxListeners = 1_000
	maxHosts     = 10_000
)

// assemble makes all objects, of what old has kept and of what is new, and
// notes all faults but those of the services as a whole.
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
		m.cfg.Logger = b.logger(m.key)
		b.tables(a, doc.service.Tables, ownKey, m.name)
		b.bind()
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
		if err := badName(c.Name, names[c.Name]); err != nil {
			b.fault(err, "services[%d].name", i)
			continue
		}
		names[c.Name] = true
		a.services = append(a.services, b.member(a, c, fielderr.Index("services", i)))
	}
	b.acme(a)
	b.doors(a)
	b.ask(a)
	b.hosts(a)
	b.needsCertificates(a)
	b.planLogs(a)
	b.tracing(a)
	b.keepApart(a)
	return a
}

// badName returns what is wrong with the name of an object that the file alone
// knows.
func badName(name string, taken bool) error {
	if name == "" || taken {
		return fmt.Errorf("%q is empty or taken", name)
	}
	return fielderr.CheckName(name, fielderr.MaxName)
}

// storeKey is the key of the tables of a store.
func storeKey(name string) string { return "store " + name }

// ownKey is that of the one service of a file without others.
const ownKey = "service"

// serviceKey is the key of the tables that a service has for itself.
func serviceKey(name string) string { return ownKey + " " + name }

// member makes one of several services of what they share.
func (b *builder) member(a *assembly, c *serviceConfig, prefix string) *member {
	s := b.file.builder(b.findings, b.options)
	s.ctx, s.checking, s.prefix, s.lost, s.shared = b.ctx, b.checking, prefix, b.lost, b
	s.log, s.logs, s.origins, s.broken = b.log, b.logs, b.origins, maps.Clone(b.broken)
	own, places := c.private()
	s.places = places
	s.objects(own, b.old.services[c.Name])
	s.cfg.Logger = b.logger(c.Name)
	s.old.tables, b.now.services[c.Name] = b.old.tables, s.now
	m := &member{builder: s, key: c.Name, name: c.Name, config: c, listeners: c.Listeners}
	refer(s, "pools", "pool", c.Pools, func(name string) bool { return b.now.pools[name] != nil })
	refer(s, "poolGroups", "pool group", c.PoolGroups, func(name string) bool { return slices.Contains(groupNames(b.config), name) })
	refer(s, "ipGroups", "IP group", c.IPGroups, func(name string) bool { _, ok := b.cfg.IPGroups.Group(name); return ok })
	refer(s, "stringGroups", "string group", c.StringGroups, b.hasStringGroup)
	refer(s, "scripts", "script", c.Scripts, func(name string) bool { return b.script(name) != nil })
	refer(s, "rateLimiters", "rate limiter", c.RateLimiters, func(name string) bool {
		return b.cfg.RateLimiters[name] != nil || b.broken[namedObject{limiterKind, name}]
	})
	refer(s, "persistenceProfiles", "persistence profile", c.PersistenceProfiles, func(name string) bool { _, ok := b.profiles[name]; return ok })
	refer(s, "keySets", "key set", c.KeySets, func(name string) bool { return b.keyNames[name] })
	s.transport(c.Transport)
	s.tables(a, c.Tables, serviceKey(c.Name), c.Name)
	if b.lost = b.lost || s.lost; b.lost {
		return m
	}
	s.bind()
	s.cfg.Scripts = nil
	for i, next := 0, 0; i < len(c.Scripts); i++ {
		if c.Scripts[i].own != nil {
			s.cfg.Scripts = append(s.cfg.Scripts, s.compiled[next])
			next++
		} else if script := b.script(c.Scripts[i].name); script != nil {
			s.cfg.Scripts = append(s.cfg.Scripts, *script)
		}
	}
	m.choosePools()
	return m
}

// choosePools gives a service its pools and groups, shared and private ones in
// the order of the file, and their profiles. The pools of a group come with it,
// and so do backups.
func (m *member) choosePools() {
	shared := m.shared
	m.cfg.Pools, m.cfg.PoolGroups, m.cfg.PoolPersistence = nil, nil, map[string]limpet.PersistenceProfile{}
	add := func(p *lbpool.Pool) {
		if !slices.Contains(m.cfg.Pools, p) {
			m.cfg.Pools = append(m.cfg.Pools, p)
		}
		m.want(p.Name())
	}
	next := 0
	for _, it := range m.config.Pools {
		if it.own != nil {
			add(m.made[next])
			next++
		} else if p := shared.now.pools[it.name]; p != nil {
			add(p)
		}
	}
	next = 0
	for i, it := range m.config.PoolGroups {
		g := shared.group(it.name)
		if it.own != nil {
			g = m.madeGroups[next]
			next++
		}
		if g == nil {
			m.mar(fmt.Sprintf("%s.poolGroups[%d]", m.prefix, i)) // names of its pools are not reported
			continue
		}
		m.cfg.PoolGroups = append(m.cfg.PoolGroups, g)
		m.want(g.Name())
		for _, member := range g.Members() {
			add(member.Pool)
		}
	}
	m.addBackups(add)
}

// addBackups adds the pools that take over from those of the service, or from
// its groups: what no service has is never checked.
func (m *member) addBackups(add func(*lbpool.Pool)) {
	backups := map[string]string{} // by pool
	for _, b := range []*builder{m.shared, m.builder} {
		for _, c := range b.config.Pools {
			backups[c.Name] = c.FailAction.Backup
		}
		for _, c := range b.config.PoolGroups {
			p := m.poolNamed(c.FailAction.Backup)
			if p != nil && slices.ContainsFunc(m.cfg.PoolGroups, func(g *lbpool.Group) bool { return g.Name() == c.Name }) {
				add(p)
			}
		}
	}
	for i := 0; i < len(m.cfg.Pools); i++ { // backups have backups
		if p := m.poolNamed(backups[m.cfg.Pools[i].Name()]); p != nil {
			add(p)
		}
	}
}

// builders are those of what services share and of each service.
func (a *assembly) builders() []*builder {
	all := []*builder{a.shared}
	for _, m := range a.services {
		if m.builder != a.shared {
			all = append(all, m.builder)
		}
	}
	return all
}

// background is what runs beside the services.
func (a *assembly) background() (all []func(context.Context) error) {
	for _, b := range a.builders() {
		all = append(all, b.background...)
	}
	return all
}

// doors makes what listeners need, and opens none.
func (b *builder) doors(a *assembly) {
	doc := b.file.doc
	if len(doc.Listeners) == 0 {
		d := &door{name: "listen", tls: b.listenerTLS(a, "listen", doc.TLS, "tls")}
		b.addresses(d, doc.listen(), "listen", map[string][]takenAddress{})
		if len(doc.Services) > 0 {
			d.rules = b.connections(&listenerConfig{Name: d.name})
		}
		a.listeners = append(a.listeners, d)
		return
	}
	names, taken := map[string]bool{}, map[string][]takenAddress{}
	for i := range doc.Listeners {
		c := &doc.Listeners[i]
		path := fielderr.Index("listeners", i)
		if err := badName(c.Name, names[c.Name]); err != nil {
			b.fault(err, "%s.name", path)
			continue
		}
		names[c.Name] = true
		d := &door{name: c.Name, path: path, settings: c.serverSettings, tls: b.listenerTLS(a, c.Name, c.TLS, path+".tls")}
		b.addresses(d, c.Address, path+".address", taken)
		b.fault(c.serverSettings.check(c.TLS != nil), "%s", path)
		mode, err := c.mode(d.addresses)
		b.fault(err, "%s.mode", path)
		d.mode = mode
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

// A takenAddress is one of a listener that has been read.
type takenAddress struct {
	address
	text, path string // as it stands in the file, and where
}

// addresses reads the addresses of a listener, which stand at a path. taken has
// those that have been read, by slot.
func (b *builder) addresses(d *door, texts addresses, path string, taken map[string][]takenAddress) {
	if len(texts) == 0 {
		b.fault(errors.New("want an address, such as :8080"), "%s", path)
	}
	for i, text := range texts {
		at := texts.path(path, i)
		parsed, err := parseAddress(text)
		if err == nil {
			err = b.overlap(parsed, taken[parsed.slot()])
		}
		b.fault(err, "%s", at)
		if err == nil {
			taken[parsed.slot()] = append(taken[parsed.slot()], takenAddress{parsed, text, at})
			d.addresses, d.paths = append(d.addresses, parsed), append(d.paths, at)
		}
	}
}

// overlap returns an error if an address cannot be opened beside others.
func (b *builder) overlap(a address, others []takenAddress) error {
	i := slices.IndexFunc(others, func(other takenAddress) bool { return a.overlaps(other.address) })
	if i < 0 {
		return nil
	}
	at, _ := b.file.nearest(others[i].path)
	where := others[i].path
	if at.source != nil {
		where += fmt.Sprintf(" (%s:%d:%d)", at.source.name, at.line, at.column)
	}
	return fmt.Errorf("cannot be opened beside %s, which is %s", fielderr.Quote(others[i].text), where)
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

// mode is Mode as a number; 0 if there is none.
func (c *listenerConfig) mode(at []address) (fs.FileMode, error) {
	if c.Mode == "" {
		return 0, nil
	}
	mode, err := strconv.ParseUint(c.Mode, 8, 32)
	switch {
	case err != nil || len(c.Mode) < 3 || mode == 0 || mode > 0o777:
		return 0, fmt.Errorf("%q is not the mode of a socket: want octal digits up to 0777, such as \"0660\"", c.Mode)
	case !slices.ContainsFunc(at, address.isFile):
		return 0, errors.New("without effect: no address is a Unix socket with a path, such as unix:/run/limpet/web.sock")
	case !unixsocket.HasModes:
		return 0, errors.New("the sockets of this system have no mode")
	}
	return fs.FileMode(mode), nil
}

// judges reports whether a listener has rules of its own.
func (c *listenerConfig) judges() bool {
	return !reflect.DeepEqual(c.connectionRules, connectionRules{})
}

// connections is a configuration that judges the connections of a listener.
func (b *builder) connections(c *listenerConfig) *limpet.Config {
	cfg := &limpet.Config{Name: c.Name, IPGroups: b.cfg.IPGroups, Geo: b.cfg.Geo, Logger: b.log}
	if b.logs != nil {
		cfg.Logger = slog.New(b.logs.shared)
	}
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

// passOn gives the rules of the listeners of a service what a program has set
// in that, unless they have it already.
func (a *assembly) passOn(m *member, cfg *limpet.Config) {
	for _, d := range a.listeners {
		if d.rules == nil || !m.servedAt(d.name) {
			continue
		}
		if d.rules.Reputations == nil {
			d.rules.Reputations = cfg.Reputations
		}
		if d.rules.Geo == nil {
			d.rules.Geo = cfg.Geo
		}
	}
}

// hosts checks which service gets which requests: the names are distinguished
// at each listener.
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

// checkHost checks the name of a host, in lower case: a name, an address, or
// "*." and a name for all names below that.
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

// update changes the pools that stay, in the place of which the assembly has
// new ones. They keep what they know of their servers.
func (a *assembly) update() error {
	if err := a.shared.update(); err != nil {
		return err
	}
	for _, m := range a.services {
		if m.config == nil {
			continue
		}
		if err := m.builder.update(); err != nil {
			return err
		}
		m.choosePools()
	}
	return nil
}

// unknownHost is the configuration that answers requests for hosts that no
// service of a listener has.
func unknownHost(d *door) limpet.Config {
	cfg := limpet.Config{Name: d.name, Logger: d.rules.Logger}
	cfg.HTTPSecurity = []policy.SecurityRule{{Name: "no service for this host or without a client certificate", Action: policy.Respond{Status: http.StatusMisdirectedRequest}}}
	cfg.Logging = limpet.Logging{SignificantRate: 1, FilteredRate: -1, OtherRate: -1}
	return cfg
}
