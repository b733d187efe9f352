package main

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/ipgroup"
	"github.com/limpetlb/limpet/ipgroup/geoip"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
	"github.com/limpetlb/limpet/policy"
)

// kept is what lives on when the configuration is read anew.
type kept struct {
	pools    map[string]*lbpool.Pool
	tables   *persistence.Store
	limiters map[rateLimiterConfig]*datascript.RateLimiter
}

// build makes a configuration for the library, of what k has kept and of what
// is new, and returns what is to be kept of it. Pools are always new.
func (c *config) build(dir string, k kept, log *slog.Logger) (*builder, error) {
	b := &builder{config: c, dir: dir, old: k, log: log, cfg: c.Config}
	b.now = kept{pools: map[string]*lbpool.Pool{}, tables: k.tables, limiters: map[rateLimiterConfig]*datascript.RateLimiter{}}
	if b.now.tables == nil {
		b.now.tables = persistence.NewStore(c.Tables)
	}
	b.cfg.Tables, b.cfg.Logger = b.now.tables, log
	b.groups()
	b.newPools()
	b.scripts()
	b.profiles()
	if c.Transport != nil {
		base := lbpool.NewBase()
		base.TLSClientConfig = b.tlsClient(c.Transport.TLS, "transport.tls")
		b.cfg.Transport = lbpool.NewHTTP1(base)
	}
	return b, errors.Join(b.faults...)
}

// A builder makes a [limpet.Config] of a config.
type builder struct {
	*config
	dir      string
	old, now kept
	log      *slog.Logger
	cfg      limpet.Config   // what is made
	pools    []lbpool.Config // but for their fail actions
	faults   []error
}

// fault notes an error, if it is one, with the path of its field.
func (b *builder) fault(err error, path string, args ...any) {
	if err != nil {
		b.faults = append(b.faults, b.from.locate(fmt.Sprintf(path, args...), err))
	}
}

// path is where a file is.
func (b *builder) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(b.dir, name)
}

// tryOut makes a virtual service, which validates the configuration as a whole.
func (b *builder) tryOut() (*limpet.VirtualService, error) {
	cfg := b.cfg
	if b.old.tables != nil {
		cfg.Logger = nil // the virtual service that goes on will say what there is to say
	}
	vs, err := limpet.New(cfg)
	if err != nil {
		return nil, b.from.locate("", err)
	}
	return vs, nil
}

// newPools makes pools and groups of them.
func (b *builder) newPools() {
	for i, pc := range b.Pools {
		b.pools = append(b.pools, b.pool(pc, fmt.Sprintf("pools[%d]", i)))
		p, err := lbpool.New(b.pools[i])
		b.fault(err, "pools[%d]", i)
		if err == nil {
			b.now.pools[pc.Name] = p
			b.cfg.Pools = append(b.cfg.Pools, p)
		}
	}
	if len(b.cfg.Pools) < len(b.Pools) {
		return // what refers to pools would be reported, too
	}
	for i, p := range b.cfg.Pools { // now that the backups are there
		b.fault(b.updatePool(p, i), "pools[%d]", i)
	}
	b.cfg.PoolGroups = b.poolGroups()
}

// pool is what pc says, but for its fail action.
func (b *builder) pool(pc poolConfig, path string) lbpool.Config {
	cfg := pc.Config
	cfg.Logger = b.log
	for i, m := range pc.HealthMonitors {
		monitor := m.HealthMonitor
		if m.Checker != nil {
			monitor.Checker = m.Checker.checker(b, fmt.Sprintf("%s.healthMonitors[%d].checker", path, i))
		}
		cfg.HealthMonitors = append(cfg.HealthMonitors, monitor)
	}
	for _, dc := range pc.Discoveries {
		discovery := dc.Discovery
		if dc.Finder != nil {
			discovery.Finder = dc.Finder.finder(b)
		}
		cfg.Discoveries = append(cfg.Discoveries, discovery)
	}
	return cfg
}

// updatePool makes p what b.Pools[i] says.
func (b *builder) updatePool(p *lbpool.Pool, i int) error {
	cfg := b.pools[i]
	if a := b.Pools[i].Algorithm; a != nil {
		cfg.Algorithm = a.algorithm()
	}
	cfg.FailAction = b.failAction(b.Pools[i].FailAction, fmt.Sprintf("pools[%d].failAction", i))
	return p.Update(cfg)
}

func (b *builder) failAction(fc failActionConfig, path string) lbpool.FailAction {
	a := fc.FailAction
	if fc.Backup != "" {
		if a.Backup = b.now.pools[fc.Backup]; a.Backup == nil {
			b.fault(fmt.Errorf("pool %q not found", fc.Backup), "%s.backup", path)
			return lbpool.FailAction{}
		}
	}
	return a
}

func (b *builder) poolGroups() (groups []*lbpool.Group) {
	for i, gc := range b.PoolGroups {
		cfg := gc.GroupConfig
		cfg.FailAction = b.failAction(gc.FailAction, fmt.Sprintf("poolGroups[%d].failAction", i))
		for j, mc := range gc.Members {
			m := mc.Member
			if m.Ratio = 1; mc.Ratio != nil {
				m.Ratio = *mc.Ratio
			}
			if m.Pool = b.now.pools[mc.Pool]; m.Pool == nil {
				b.fault(fmt.Errorf("pool %q not found", mc.Pool), "poolGroups[%d].members[%d].pool", i, j)
				continue
			}
			cfg.Members = append(cfg.Members, m)
		}
		if len(cfg.Members) < len(gc.Members) {
			continue
		}
		g, err := lbpool.NewGroup(cfg)
		b.fault(err, "poolGroups[%d]", i)
		if err == nil {
			groups = append(groups, g)
		}
	}
	return groups
}

// update changes the pools that stay, in the place of which b has new ones.
// They keep what they know of their servers.
func (b *builder) update() error {
	for name, old := range b.old.pools {
		if b.now.pools[name] != nil {
			b.now.pools[name] = old
		}
	}
	for i, pc := range b.Pools {
		b.cfg.Pools[i] = b.now.pools[pc.Name]
		if err := b.updatePool(b.cfg.Pools[i], i); err != nil {
			return err
		}
	}
	b.cfg.PoolGroups = b.poolGroups()
	return errors.Join(b.faults...)
}

// geo opens the sources of geo data.
func (b *builder) geo() (o ipgroup.Options) {
	var layers []geoip.Layer
	for i, gc := range b.Geo {
		layer := geoip.Layer{Index: gc.Index, Disabled: gc.Disabled}
		var err error
		switch {
		case (gc.Database == "") == (gc.Table == ""):
			err = errors.New("want one of database and table")
		case gc.Database != "":
			layer.Source, err = geoip.Open(b.path(gc.Database), gc.Attributes...)
		default:
			layer.Source, err = geoip.OpenTable(b.path(gc.Table))
		}
		b.fault(err, "geo[%d]", i)
		if err == nil {
			layers = append(layers, layer)
		}
	}
	if len(layers) == 0 {
		return o
	}
	all, err := geoip.NewLayers(layers...)
	if err != nil {
		b.fault(err, "geo")
		return o
	}
	b.cfg.Geo = all
	if all.Knows(geoip.CountryCode) {
		o.Countries = all
	}
	if all.Knows(geoip.ASNumber) {
		o.ASNs = all
	}
	return o
}

func (b *builder) groups() {
	geo := b.geo()
	b.cfg.IPGroups = &ipgroup.Set{}
	for i, gc := range b.IPGroups {
		var g *ipgroup.Group
		var err error
		o := gc.Options
		o.Countries, o.ASNs = geo.Countries, geo.ASNs
		switch {
		case gc.File == "":
			g, err = ipgroup.Parse(gc.Name, gc.Entries, o)
		case gc.Entries == nil:
			g, err = ipgroup.ReadFile(gc.Name, b.path(gc.File), o)
		default:
			err = errors.New("want one of entries and file")
		}
		if err == nil {
			if _, there := b.cfg.IPGroups.Group(gc.Name); there {
				err = fmt.Errorf("a second IP group %q", gc.Name)
			} else {
				err = b.cfg.IPGroups.Replace(g)
			}
		}
		b.fault(err, "ipGroups[%d]", i)
	}
	var groups []*policy.StringGroup
	for i, gc := range b.StringGroups {
		cfg, err := b.stringGroup(gc)
		var g *policy.StringGroup
		if err == nil {
			g, err = policy.NewStringGroup(cfg)
		}
		b.fault(err, "stringGroups[%d]", i)
		if err == nil {
			groups = append(groups, g)
		}
	}
	var err error
	b.cfg.StringGroups, err = policy.NewStringGroups(groups...)
	b.fault(err, "stringGroups")
}

// maxStringFile limits the file of a string group, in bytes.
const maxStringFile = 64 << 20

func (b *builder) stringGroup(gc stringGroupConfig) (policy.StringGroupConfig, error) {
	cfg := gc.StringGroupConfig
	switch {
	case gc.File != "" && gc.List == nil && gc.Map == nil:
		text, err := readFile(b.path(gc.File), maxStringFile)
		if err != nil {
			return cfg, err
		}
		cfg.Entries, err = policy.ReadStringCSV(bytes.NewReader(text), cfg.Kind, gc.Strict)
		if err == nil && len(cfg.Entries) == 0 && !gc.AllowEmpty {
			err = fmt.Errorf("no entries in %s, and no allowEmpty", gc.File)
		}
		return cfg, err
	case gc.File == "" && gc.Map == nil:
		for _, s := range gc.List {
			cfg.Entries = append(cfg.Entries, policy.StringEntry{Key: s})
		}
	case gc.File == "" && gc.List == nil:
		cfg.Kind, cfg.Entries = policy.StringMap, gc.Map
	default:
		return cfg, errors.New("want one of list, map and file")
	}
	return cfg, nil
}

func (b *builder) scripts() {
	for i, sc := range b.Scripts {
		script, err := loadScript(b.path(sc.File), sc.Name, sc.Event)
		if err != nil {
			b.fault(err, "scripts[%d].file", i)
			continue
		}
		b.cfg.Scripts = append(b.cfg.Scripts, limpet.Script{Script: script, OnError: sc.OnError})
	}
	b.cfg.RateLimiters = map[string]*datascript.RateLimiter{}
	for i, lc := range b.RateLimiters {
		if b.cfg.RateLimiters[lc.Name] != nil {
			b.fault(fmt.Errorf("a second rate limiter %q", lc.Name), "rateLimiters[%d].name", i)
			continue
		}
		l := b.old.limiters[lc]
		if l == nil {
			var err error
			if l, err = datascript.NewRateLimiter(lc.RateLimit); err != nil {
				b.fault(err, "rateLimiters[%d]", i)
				continue
			}
		}
		b.cfg.RateLimiters[lc.Name], b.now.limiters[lc] = l, l
	}
	if pc := b.RateProfile; pc != nil {
		p := pc.RateProfile
		if p.Limiter = b.cfg.RateLimiters[pc.Limiter]; p.Limiter == nil {
			b.fault(fmt.Errorf("rate limiter %q not found", pc.Limiter), "rateProfile.limiter")
			return
		}
		b.cfg.RateProfile = &p
	}
}

// profiles makes the persistence profiles. Clients stay bound when they are
// made anew, since the virtual service lets profiles take over from those before.
func (b *builder) profiles() {
	if b.Persistence != nil {
		p, err := b.Persistence.profile()
		b.fault(err, "persistence")
		if err == nil {
			b.cfg.Persistence = p
		}
	}
	named := map[string]limpet.PersistenceProfile{noProfile: limpet.NoPersistence}
	for i, np := range b.PersistenceProfiles {
		path := fmt.Sprintf("persistenceProfiles[%d]", i)
		if _, taken := named[np.Name]; taken || np.Name == "" {
			b.fault(fmt.Errorf("%q is empty, taken, or stands for no profile", np.Name), "%s.name", path)
			continue
		}
		p, err := np.profile()
		b.fault(err, "%s", path)
		named[np.Name] = p
	}
	b.cfg.PoolPersistence = map[string]limpet.PersistenceProfile{}
	use := func(target, name, path string) {
		if name == "" {
			return
		}
		p, ok := named[name]
		if !ok {
			b.fault(fmt.Errorf("there is no persistence profile %q", name), "%s.persistence", path)
			return
		}
		b.cfg.PoolPersistence[target] = p
	}
	for i, p := range b.Pools {
		use(p.Name, p.Persistence, fmt.Sprintf("pools[%d]", i))
	}
	for i, g := range b.PoolGroups {
		use(g.Name, g.Persistence, fmt.Sprintf("poolGroups[%d]", i))
	}
}

// tlsClient is what c says.
func (b *builder) tlsClient(c tlsClient, path string) *tls.Config {
	made := &tls.Config{ServerName: c.ServerName, InsecureSkipVerify: c.InsecureSkipVerify}
	if c.CA != "" {
		text, err := readFile(b.path(c.CA), maxCertificates)
		made.RootCAs = x509.NewCertPool()
		if err == nil && !made.RootCAs.AppendCertsFromPEM(text) {
			err = fmt.Errorf("%s: no certificate in PEM", c.CA)
		}
		b.fault(err, "%s.ca", path)
	}
	if c.tlsFiles != (tlsFiles{}) {
		cert, err := c.load(b)
		b.fault(err, "%s", path)
		made.Certificates = []tls.Certificate{cert}
	}
	return made
}

// maxCertificates bounds a file of certificates.
const maxCertificates = 8 << 20

func (f tlsFiles) load(b *builder) (tls.Certificate, error) {
	return tls.LoadX509KeyPair(b.path(f.Certificate), b.path(f.Key))
}

// closeIdle closes what a transport that is not used any more keeps open.
func closeIdle(t http.RoundTripper) {
	if c, ok := t.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// listen is where to listen.
func (c *config) listen() string { return cmp.Or(c.Listen, ":8080") }
