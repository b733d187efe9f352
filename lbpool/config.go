package lbpool

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"strings"
	"time"

	"github.com/limpetlb/limpet/internal/bounds"
	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/internal/httpfield"
)

// A FieldError is one fault of a configuration: the Path of a field, as in
// "healthMonitors[0].interval", its Value, and Err, the fault. The constructors
// and Update join one for each fault.
type FieldError = fielderr.Error

// New validates cfg and returns a pool. It starts nothing: health monitors run
// while Run is running. The error joins a [*FieldError] for each fault.
func New(cfg Config) (*Pool, error) {
	p := newPool()
	if err := p.configure(cfg, new(fielderr.List)); err != nil {
		return nil, err
	}
	return p, nil
}

func newPool() *Pool {
	return &Pool{
		born:    time.Now(),
		running: make(chan struct{}, 1),
		slots:   make(chan struct{}, maxParallelChecks),
		changed: make(chan struct{}, 1),
	}
}

// Update changes the configuration of the pool while it is in use. The name
// cannot change.
//
// A server that stays, which is one with the same address and port, keeps its
// counters, leases and health. The effects of Enable, Disable, Drain and
// SetRatio stay too, unless cfg differs from the configuration before in that
// point. A removed server gets no new requests; its leases stay valid, and they
// are its own again if it comes back before they are released. Health monitors
// are identified by name: one that stays keeps its results, a new one starts
// with the results of the others until its own first check. If Algorithm is nil
// and the pool uses least connections, that algorithm goes on.
//
// If cfg has a fault, nothing changes, and the error is like that of [New]. An
// update never makes a request in progress fail.
func (p *Pool) Update(cfg Config) error {
	var faults fielderr.List
	if name := p.Name(); cfg.Name != name && cfg.Name != "" {
		faults.Addf("name", cfg.Name, "the name %s cannot change", fielderr.Quote(name))
	}
	return p.configure(cfg, &faults)
}

// configure changes the configuration unless there are faults, those given or
// those of cfg.
func (p *Pool) configure(cfg Config, faults *fielderr.List) error {
	st := newSettings(cfg, faults)
	if len(cfg.Servers) == 0 && len(cfg.Discoveries) == 0 {
		faults.Addf("servers", nil, "missing")
	}
	members := newMembers(cfg.Servers, st.port, faults)
	if err := faults.ErrIn(cfg); err != nil {
		return err
	}
	for {
		p = p.live()
		rebuild := func() bool {
			if p.next.Load() != nil {
				return false // it has just adopted another
			}
			p.completeLocked(st)
			p.configured = members
			p.rebuildLocked(st, false)
			return true
		}
		if p.current.Load() == nil {
			p.edit(time.Now(), causeConfigured, "", nil, rebuild) // the first states are no changes
			return nil
		}
		p.update(time.Now(), causeConfigured, "", nil, rebuild)
		p.notify()
		if p.next.Load() == nil {
			return nil
		}
	}
}

// settings is a Config without the servers, with the defaults filled in. It is
// never written once in use.
type settings struct {
	name           string
	noServer       error
	full           error
	port           uint16
	scheme         string
	protocol       Protocol
	rewriteHost    bool
	keepPort       bool
	algorithm      Algorithm // nil: the one of the settings before
	passive        Passive
	repick         Repick
	repickFailures int32 // RepickFailures
	reselect       Reselect
	slowStart      time.Duration
	drain          DrainPolicy
	bound          *counter // drain.Bound; nil: none
	queue          Queue
	bodyIdle       time.Duration // BodyIdleTimeout; 0: no bound
	streamIdle     time.Duration // StreamIdleTimeout; 0: no bound
	fail           FailAction
	minServers     int
	startDown      bool
	minPassing     int // monitors that must find a server healthy
	monitors       []HealthMonitor
	discoveries    []Discovery
	onEvent        func(Event)
	logger         *slog.Logger

	timed, weighs bool // measurements that the algorithm needs
}

func newSettings(cfg Config, faults *fielderr.List) *settings {
	bounds.Check("", cfg, faults)
	bounds.SetDefaults(&cfg)
	st := &settings{
		name:        cfg.Name,
		noServer:    fmt.Errorf("pool %q: %w", cfg.Name, ErrNoServer),
		full:        fmt.Errorf("pool %q: %w", cfg.Name, ErrFull),
		port:        cfg.DefaultPort,
		scheme:      cfg.Scheme,
		protocol:    cfg.Protocol,
		rewriteHost: cfg.RewriteHost, keepPort: cfg.KeepPort,
		algorithm:      cfg.Algorithm,
		passive:        cfg.Passive.withDefaults(),
		repick:         cfg.Repick,
		repickFailures: int32(cfg.RepickFailures),
		reselect:       cfg.Reselect,
		slowStart:      cfg.SlowStart,
		drain:          cfg.Drain,
		bound:          newCounter(cfg.Drain.Bound),
		queue:          cfg.Queue.withDefaults(),
		bodyIdle:       max(cfg.BodyIdleTimeout, 0),
		streamIdle:     max(cfg.StreamIdleTimeout, 0),
		fail:           cfg.FailAction.withDefaults(),
		minServers:     cfg.MinServersUp,
		startDown:      cfg.StartDown,
		minPassing:     cfg.MinMonitorsUp,
		onEvent:        cfg.OnEvent,
		logger:         cfg.Logger,
	}
	if cfg.Name == "" {
		faults.Addf("name", nil, "missing")
	}
	if st.scheme == "" {
		st.scheme = "http"
	}
	if st.logger == nil {
		st.logger = slog.New(slog.DiscardHandler)
	}
	if st.scheme != "http" && st.scheme != "https" {
		faults.Addf("scheme", cfg.Scheme, "neither http nor https")
	}
	st.protocol.validate(st.scheme, faults)
	if st.port == 0 {
		st.port = defaultPort(st.scheme)
	}
	if v, ok := st.algorithm.(interface{ validate() error }); ok {
		if err := v.validate(); err != nil {
			faults.AddUnder("algorithm", err)
		}
	}
	faults.Constant("repick", st.repick)
	st.passive.validate(faults)
	st.reselect.validate(faults)
	st.queue.validate(faults)
	st.fail.validate("failAction", faults)
	st.monitors = validMonitors(cfg.HealthMonitors, faults)
	st.discoveries = validDiscoveries(cfg.Discoveries, faults)
	if n := len(cfg.HealthMonitors); st.minPassing > n {
		faults.Addf("minMonitorsUp", st.minPassing, "more than %d, the number of health monitors", n)
	}
	if n := len(cfg.Servers); st.minServers > n && n > 0 && len(cfg.Discoveries) == 0 {
		faults.Addf("minServersUp", st.minServers, "more than %d, the number of servers", n)
	}
	if st.minPassing == 0 {
		st.minPassing = len(st.monitors)
	}
	return st
}

// member is the parsed configuration of a server.
type member struct {
	addr   netip.AddrPort
	config ServerConfig
}

func newMembers(configs []ServerConfig, port uint16, faults *fielderr.List) []member {
	if len(configs) > MaxServers {
		faults.Addf("servers", nil, "%d servers, more than %d", len(configs), MaxServers)
		return nil
	}
	members := make([]member, 0, len(configs))
	named := make(map[string]string, len(configs)) // the path that took the name
	known := make(map[netip.AddrPort]bool, len(configs))
	for i, c := range configs {
		path := fielderr.Index("servers", i)
		addr, err := parseServer(c.Address, port)
		if err != nil {
			faults.Add(path+".address", c.Address, err)
		}
		c.validate(path, faults)
		name := strings.ToLower(c.Name)
		if first, taken := named[name]; taken && name != "" {
			faults.Addf(path+".name", c.Name, "already the name of %s", first)
		}
		if err != nil {
			continue
		}
		if known[addr] {
			faults.Addf(path+".address", c.Address, "%s is already the address of another server", addr)
			continue
		}
		named[name], known[addr] = path, true
		members = append(members, member{addr, c})
	}
	return members
}

func (c *ServerConfig) validate(path string, faults *fielderr.List) {
	if c.Name != "" && looksLikeAddress(c.Name) {
		faults.Addf(path+".name", c.Name, "reads as an IP address")
	}
	if c.Hostname != "" && looksLikeAddress(c.Hostname) {
		faults.Addf(path+".hostname", c.Hostname, "reads as an IP address")
	} else if c.Hostname != "" && !httpfield.IsAuthority(c.Hostname) {
		faults.Addf(path+".hostname", c.Hostname, "not a host name: want letters, digits, \"-\", \"_\" and dots")
	}
	bounds.Check(path, *c, faults)
}

// layout is the settings and servers of a pool. It is never written once it is
// in use.
type layout struct {
	*settings
	servers []*Server
	byAddr  map[netip.AddrPort]*Server
	byHost  map[netip.Addr][]*Server
	byName  map[string][]*Server // lower-cased names, then host names
	rated   bool                 // some server has a MaxRate
}

// completeLocked completes new settings with the state that the pool has.
func (p *Pool) completeLocked(st *settings) {
	if st.algorithm == nil {
		st.algorithm = LeastConnections()
		if p.latest != nil {
			if before, same := p.latest.algorithm.(*leastConnections); same {
				st.algorithm = before
			}
		}
	}
	_, st.timed = st.algorithm.(timed)
	_, st.weighs = st.algorithm.(weighing)
	p.discoverLocked(st.discoveries)
	checked := make(map[string]*checkTally, len(st.monitors))
	for i := range st.monitors {
		name := st.monitors[i].Name
		if checked[name] = p.checked[name]; checked[name] == nil {
			checked[name] = &checkTally{failed: make(map[string]uint64)}
		}
	}
	p.checked = checked
}

// rebuildLocked makes a new layout of the servers that the pool has and of new
// ones. With adopt the settings are those of another pool.
func (p *Pool) rebuildLocked(st *settings, adopt bool) {
	members := p.membersLocked(st.port)
	l := &layout{
		settings: st,
		servers:  make([]*Server, len(members)),
		byAddr:   make(map[netip.AddrPort]*Server, len(members)),
		byHost:   make(map[netip.Addr][]*Server, len(members)),
		byName:   make(map[string][]*Server, 2*len(members)),
	}
	before := p.latest
	if before == nil {
		before = &layout{settings: &settings{}}
	}
	for i, m := range members {
		s, stays := before.byAddr[m.addr]
		if !stays {
			if s = p.left[m.addr]; s == nil {
				s = newServer(p, m.addr)
			}
		}
		s.configureLocked(m.config, st, !stays, adopt)
		l.servers[i], l.byAddr[m.addr] = s, s
		l.byHost[m.addr.Addr()] = append(l.byHost[m.addr.Addr()], s)
		l.byName[strings.ToLower(s.Name())] = append(l.byName[strings.ToLower(s.Name())], s)
		l.rated = l.rated || m.config.MaxRate > 0
	}
	for _, s := range l.servers { // after the names, which take precedence
		if host := strings.ToLower(s.Hostname()); host != "" && host != strings.ToLower(s.Name()) {
			l.byName[host] = append(l.byName[host], s)
		}
	}
	p.latest = l
	gone := make(map[netip.AddrPort]*Server)
	for addr, s := range p.left {
		if l.byAddr[addr] == nil && s.open.Load() > 0 {
			gone[addr] = s
		}
	}
	for _, s := range before.servers {
		if l.byAddr[s.addr] == nil {
			s.leaveLocked()
			gone[s.addr] = s
			p.leaving = append(p.leaving, s)
		}
	}
	p.left = gone
}

// leaveLocked removes the server from the pool. Its leases and counters stay.
func (s *Server) leaveLocked() {
	s.removed = true
	s.override = Override{}
	s.drain = drain{}
	s.epoch++
	s.ejectedUntil, s.ejectedFor = time.Time{}, 0
	s.clearFailures()
	s.checks = nil
}

var errNoAddress = errors.New("not an IP address with or without a port")

// parseServer reads an address with or without a port.
func parseServer(text string, port uint16) (netip.AddrPort, error) {
	addr, err := parseAddr(text)
	if err != nil {
		both, err := netip.ParseAddrPort(text)
		if err != nil {
			return netip.AddrPort{}, errNoAddress
		}
		addr, port = both.Addr(), both.Port()
	}
	if port == 0 {
		return netip.AddrPort{}, errors.New("the port is 0")
	}
	addr = addr.Unmap()
	if addr.IsUnspecified() || addr.IsMulticast() {
		return netip.AddrPort{}, errors.New("not the address of one server")
	}
	return netip.AddrPortFrom(addr, port), nil
}

// parseAddr reads an address, with or without brackets.
func parseAddr(text string) (netip.Addr, error) {
	if inner, ok := strings.CutPrefix(text, "["); ok {
		if inner, ok = strings.CutSuffix(inner, "]"); ok {
			text = inner
		}
	}
	return netip.ParseAddr(text)
}

func looksLikeAddress(text string) bool {
	_, err := parseServer(text, 80)
	return err == nil
}

// isNil reports whether v is nil or an interface with a nil pointer.
func isNil(v any) bool {
	if v == nil {
		return true
	}
	r := reflect.ValueOf(v)
	return r.Kind() == reflect.Pointer && r.IsNil()
}
