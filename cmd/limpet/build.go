package main

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"

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

// prepare makes a virtual service of a configuration file, which validates it
// as a whole: serve serves what others only look at. It opens no listener. The
// error has all faults that no other fault hides.
func prepare(file string, k kept, log *slog.Logger) (*builder, *limpet.VirtualService, error) {
	c, err := readConfig(file)
	if err != nil {
		return nil, nil, err
	}
	b := c.build(filepath.Dir(file), k, log)
	vs, err := b.tryOut()
	return b, vs, err
}

// build makes a configuration for the library, of what k has kept and of what
// is new, and returns what is to be kept of it. Pools are always new. tryOut
// reports its faults.
func (c *config) build(dir string, k kept, log *slog.Logger) *builder {
	b := &builder{config: c, dir: dir, old: k, log: log, cfg: c.Config, faults: slices.Clone(c.from.faults)}
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
	b.listener()
	return b
}

// A builder makes a [limpet.Config] of a config.
type builder struct {
	*config
	dir      string
	old, now kept
	log      *slog.Logger
	cfg      limpet.Config    // what is made
	pools    []lbpool.Config  // but for their fail actions
	cert     *tls.Certificate // of the listener; nil for plain HTTP
	faults   []error
	lost     bool // what refers to things that have a fault would be reported, too
}

// fault notes an error, if it is one, with the path of its field.
func (b *builder) fault(err error, path string, args ...any) {
	if err == nil {
		return
	}
	if err := b.from.locate(fmt.Sprintf(path, args...), err); err != nil {
		b.faults = append(b.faults, err)
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
// The error has the faults of build as well.
func (b *builder) tryOut() (*limpet.VirtualService, error) {
	if b.lost {
		return nil, errors.Join(b.faults...)
	}
	cfg := b.cfg
	if b.old.tables != nil || len(b.faults) > 0 {
		cfg.Logger = nil // the virtual service that goes on, if any, will say what there is to say
	}
	b.from.nextStage()
	vs, err := limpet.New(cfg)
	b.fault(err, "")
	if len(b.faults) == 0 && len(b.Pools)+len(b.Scripts)+len(b.HTTPSecurity)+len(b.HTTPRequest) == 0 {
		b.fault(fmt.Errorf("%s: no service: without pools, scripts and rules that answer every request gets status 503", b.from.file), "")
	}
	if len(b.faults) > 0 {
		return nil, errors.Join(b.faults...)
	}
	return vs, nil
}

// listener makes what the listener needs, and opens none.
func (b *builder) listener() {
	_, _, err := splitListen(b.listen())
	b.fault(err, "listen")
	if b.TLS == nil {
		return
	}
	cert, err := b.TLS.load(b)
	b.fault(err, "tls")
	b.cert = &cert
}

// splitListen returns the host and the port of an address to listen on. The
// host may be a name, which is not looked up.
func splitListen(address string) (host string, port int, err error) {
	host, name, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	if _, e := netip.ParseAddr(host); e != nil && host != "" && (strings.Trim(host, "0123456789.") == "" || strings.ContainsAny(host, ": /")) {
		return "", 0, fmt.Errorf("%q is not an address", host)
	}
	port, err = net.LookupPort("tcp", name)
	return host, port, err
}

// newPools makes pools and groups of them.
func (b *builder) newPools() {
	faulty := map[int]bool{}
	for i, pc := range b.Pools {
		b.pools = append(b.pools, b.pool(pc, fmt.Sprintf("pools[%d]", i)))
		p, err := lbpool.New(b.pools[i])
		b.fault(nameHint(err), "pools[%d]", i)
		if err != nil {
			faulty[i] = true
			p, err = standIn(b.pools[i])
		}
		if err != nil {
			b.lost = true
			return
		}
		b.now.pools[pc.Name] = p
		b.cfg.Pools = append(b.cfg.Pools, p)
	}
	for i, p := range b.cfg.Pools { // now that the backups are there
		if !faulty[i] {
			b.fault(b.updatePool(p, i), "pools[%d]", i)
		}
	}
	b.cfg.PoolGroups = b.poolGroups()
}

// standIn is a pool that takes the place of one with a fault, for what refers
// to it.
func standIn(cfg lbpool.Config) (*lbpool.Pool, error) {
	only := lbpool.Config{Name: cfg.Name, DefaultPort: cfg.DefaultPort}
	for _, s := range cfg.Servers {
		only.Servers = append(only.Servers, lbpool.ServerConfig{Address: s.Address})
	}
	if p, err := lbpool.New(only); err == nil {
		return p, nil
	}
	return lbpool.New(lbpool.Config{Name: cfg.Name, Servers: []lbpool.ServerConfig{{Address: "192.0.2.1:80"}}})
}

// nameHint says how to give a pool servers by name, if that was tried.
func nameHint(err error) error {
	if err == nil {
		return nil
	}
	all := joined(err)
	for i, e := range all {
		address := badAddress.FindStringSubmatch(e.Error())
		if address != nil && strings.Count(address[1], ":") < 2 && strings.ContainsFunc(address[1], unicode.IsLetter) {
			all[i] = fmt.Errorf("%w; to look up a name, give the pool discoveries with the finder dns", e)
		}
	}
	return errors.Join(all...)
}

// badAddress is the error of a server's address that is none.
var badAddress = regexp.MustCompile(`^servers\[\d+\]\.address: "([^"]*)" is not an IP address`)

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
		b.lost = b.lost || err != nil
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
		b.fault(err, "ipGroups[%d]", i)
		if err != nil {
			g, err = ipgroup.Parse(gc.Name, nil, ipgroup.Options{AllowEmpty: true}) // for what refers to it
		}
		if err != nil {
			b.lost = true
			continue
		}
		if _, there := b.cfg.IPGroups.Group(gc.Name); there {
			err = fmt.Errorf("a second IP group %q", gc.Name)
		} else {
			err = b.cfg.IPGroups.Replace(g)
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
		if err != nil {
			empty := policy.StringEntry{Key: "/"} // nearly; for what refers to it
			if cfg.Kind == policy.StringMap {
				empty.Value = "/"
			}
			g, err = policy.NewStringGroup(policy.StringGroupConfig{Name: gc.Name, Kind: cfg.Kind, Entries: []policy.StringEntry{empty}})
		}
		if err != nil {
			b.lost = true
			continue
		}
		groups = append(groups, g)
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
		b.fault(err, "scripts[%d].file", i)
		if err != nil {
			script, err = datascript.Compile(cmp.Or(sc.Name, scriptName(sc.File)), datascript.Chunk{Event: datascript.HTTPReq}) // in its place
		}
		if err != nil {
			b.lost = true
			return
		}
		b.cfg.Scripts = append(b.cfg.Scripts, limpet.Script{Script: script, OnError: sc.OnError})
	}
	b.cfg.RateLimiters = map[string]*datascript.RateLimiter{}
	faulty := map[string]bool{}
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
				faulty[lc.Name] = true
				continue
			}
		}
		b.cfg.RateLimiters[lc.Name], b.now.limiters[lc] = l, l
	}
	if pc := b.RateProfile; pc != nil {
		p := pc.RateProfile
		if p.Limiter = b.cfg.RateLimiters[pc.Limiter]; p.Limiter == nil {
			if faulty[pc.Limiter] {
				return
			}
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
		p, kind, err := np.profile()
		if kind != "" {
			path += "." + kind
		}
		b.fault(err, "%s", path)
		if err != nil {
			p = nil // it has no type then
		}
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
		if p != nil { // else it has a fault
			b.cfg.PoolPersistence[target] = p
		}
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

// load reads the certificate and its key.
func (f tlsFiles) load(b *builder) (cert tls.Certificate, err error) {
	if f.Certificate == "" || f.Key == "" {
		return cert, errors.New("want both certificate and key")
	}
	certificate, err := readFile(b.path(f.Certificate), maxCertificates)
	if err != nil {
		return cert, err
	}
	key, err := readFile(b.path(f.Key), maxCertificates)
	if err != nil {
		return cert, err
	}
	if cert, err = tls.X509KeyPair(certificate, key); err != nil {
		err = fmt.Errorf("certificate %s and key %s: %w", f.Certificate, f.Key, err)
	}
	return cert, err
}

// closeIdle closes what a transport that is not used any more keeps open.
func closeIdle(t http.RoundTripper) {
	if c, ok := t.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// listen is where to listen.
func (c *config) listen() string { return cmp.Or(c.Listen, ":8080") }
