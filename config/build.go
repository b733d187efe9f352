package config

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/internal/scriptfile"
	"github.com/limpetlb/limpet/ipgroup"
	"github.com/limpetlb/limpet/ipgroup/geoip"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/policy"
)

// kept is what stays when a configuration is read anew.
type kept struct {
	pools    map[string]*lbpool.Pool
	limiters map[rateLimiterConfig]*datascript.RateLimiter
	tables   map[string]*tables // by the keys of tables
}

// A builder makes the objects of a service of a File, or those that services
// share. Objects that come from files, and do not change, are made while the File
// is checked, and then taken from it.
type builder struct {
	*findings
	ctx      context.Context // ends the check of a File
	file     *File
	checking bool // the File
	options  Options
	config   *service
	prefix   string // of the paths of its fields
	log      *slog.Logger
	old, now kept
	cfg      limpet.Config   // what is made
	used     limpet.Config   // what edited has made of it
	pools    []lbpool.Config // but for their fail actions
	moved    []relocation    // of pools
	broken   map[string]bool // rate limiters with a fault
	lost     bool            // what refers to things that have a fault would be reported, too
}

func (f *File) builder(to *findings, o Options) *builder {
	return &builder{ctx: context.Background(), file: f, findings: to, options: o, log: o.Logger, broken: map[string]bool{}}
}

// objects makes all but the tables and the transport: pools, which are always
// new, groups, scripts, limiters and profiles.
func (b *builder) objects(config *service, old kept) {
	b.config, b.old, b.cfg = config, old, config.Config
	b.cfg.Logger = b.log
	if process := b.file.doc.Process; process.check() == nil { // else it has a fault elsewhere
		b.cfg.Connections.DrainIdle = process.Drain.Idle
	}
	b.now = kept{pools: map[string]*lbpool.Pool{}, limiters: map[rateLimiterConfig]*datascript.RateLimiter{}, tables: map[string]*tables{}}
	b.groups()
	b.newPools()
	b.scripts()
	b.rateLimiters()
	b.rateProfile(config.RateProfile)
	b.profiles()
}

// transport makes the transport of a service.
func (b *builder) transport(c *transportConfig) {
	if c != nil {
		base := lbpool.NewBase()
		base.TLSClientConfig = b.tlsClient(c.TLS, "transport.tls")
		b.cfg.Transport = lbpool.NewHTTP1(base)
	}
}

// idle reports whether the service would answer every request with 503.
func (b *builder) idle() bool {
	return len(b.cfg.Pools)+len(b.cfg.Scripts)+len(b.cfg.HTTPSecurity)+len(b.cfg.HTTPRequest) == 0
}

// edited is the configuration as the program that uses the File wants it.
func (b *builder) edited() limpet.Config {
	cfg := b.cfg
	cfg.RateLimiters, cfg.PoolPersistence = maps.Clone(cfg.RateLimiters), maps.Clone(cfg.PoolPersistence) // services share them
	if b.options.Edit != nil {
		b.options.Edit(cmp.Or(cfg.Name, defaultName), &cfg)
	}
	b.used = cfg
	return cfg
}

// profilesOf returns the persistence profiles of the configuration that edited has
// returned last, by the names of pools and groups.
func (b *builder) profilesOf() map[string]limpet.PersistenceProfile {
	all := maps.Clone(b.used.PoolPersistence)
	if all == nil {
		all = map[string]limpet.PersistenceProfile{}
	}
	add := func(target string) {
		if _, ok := all[target]; !ok && b.used.Persistence != nil {
			all[target] = b.used.Persistence
		}
	}
	for _, p := range b.used.Pools {
		add(p.Name())
	}
	for _, g := range b.used.PoolGroups {
		add(g.Name())
	}
	return all
}

// tryService makes a virtual service, which checks the configuration as a whole;
// nil if it has a fault, which is noted.
func (b *builder) tryService(log *slog.Logger) *limpet.VirtualService {
	cfg := b.edited()
	cfg.Logger = log
	vs, err := limpet.New(cfg)
	b.fault(b.persistencePaths(err), "")
	return vs
}

// persistencePaths returns err with the paths that a file has in place of those
// of PoolPersistence.
func (b *builder) persistencePaths(err error) error {
	if b.prefix != "" { // profiles stand at the top of the file, the choice of pools in the service
		for name := range b.cfg.PoolPersistence {
			err = fielderr.Rename(fielderr.Key("poolPersistence", name), "pools", err)
		}
		return err
	}
	for i, p := range b.config.Pools {
		err = fielderr.Rename(fielderr.Key("poolPersistence", p.Name), fielderr.Index("pools", i)+".persistence", err)
	}
	for i, g := range b.config.PoolGroups {
		err = fielderr.Rename(fielderr.Key("poolPersistence", g.Name), fielderr.Index("poolGroups", i)+".persistence", err)
	}
	return err
}

// fault notes an error, if it is one, about what stands at a path or, as the
// library tells it, below. Faults that an earlier stage has found are not reported again.
func (b *builder) fault(err error, path string, args ...any) {
	if err == nil {
		return
	}
	path = fielderr.Join(b.prefix, fmt.Sprintf(path, args...))
	for _, err := range fielderr.Leaves(err) {
		if leaf, ok := err.(*fielderr.Error); ok { //nolint:errorlint // a fault that something else wraps has a text of its own
			b.located(fielderr.Join(path, leaf.Path), leaf.Value, leaf.Err)
		} else {
			b.located(path, nil, err)
		}
	}
}

// located notes an error about what stands at a path.
func (b *builder) located(path string, value any, err error) {
	at, exact := b.file.nearest(path)
	if b.hides(path) || !exact && b.strange[outer(path)] {
		return
	}
	b.mar(path)
	f := &fault{path: b.file.shown(path), value: value, err: err}
	if f.place = at.place; f.source == nil {
		f.source = b.file.first
	}
	switch {
	case at.secret:
		f.value = nil
	case strings.Contains(path, ".redis.addresses["): // which may have a password
	case exact && at.node != nil && at.node.Kind == yaml.ScalarNode:
		if f.value == nil {
			f.value = at.node.Value
		}
		if names := b.names(path); names != nil && !slices.Contains(names, at.node.Value) {
			f.typed, f.among = at.node.Value, func() []string { return names }
		}
	}
	b.add(f)
}

// references are the paths of what names an object, and which objects they are.
var references = []struct {
	path  *regexp.Regexp
	names func(c *document) []string
}{
	{regexp.MustCompile(`(^|\.)defaultPool$`), poolNames},
	{regexp.MustCompile(`(^|\.)failAction\.backup$`), poolNames},
	{regexp.MustCompile(`(^|\.)members\[\d+\]\.pool$`), poolNames},
	{regexp.MustCompile(`(^|\.)action\.pool\.name$`), func(c *document) []string { return append(poolNames(c), groupNames(c)...) }},
	{regexp.MustCompile(`\.persistence$`), profileNames},
	{regexp.MustCompile(`^services\[\d+\]\.pools\[\d+\]$`), poolNames},
	{regexp.MustCompile(`^services\[\d+\]\.poolGroups\[\d+\]$`), groupNames},
	{regexp.MustCompile(`^services\[\d+\]\.scripts\[\d+\]$`), func(c *document) []string {
		return namesOf(c.Scripts, func(s scriptConfig) string { return cmp.Or(s.Name, scriptfile.Name(s.File)) })
	}},
	{regexp.MustCompile(`^services\[\d+\]\.listeners\[\d+\]$`), func(c *document) []string {
		return namesOf(c.Listeners, func(l listenerConfig) string { return l.Name })
	}},
	{regexp.MustCompile(`(^|\.)tables\.store$`), func(c *document) []string {
		return namesOf(c.Stores, func(s storeConfig) string { return s.Name })
	}},
	{regexp.MustCompile(`(^|\.)rateProfile\.limiter$`), func(c *document) []string {
		return namesOf(c.RateLimiters, func(l rateLimiterConfig) string { return l.Name })
	}},
	{regexp.MustCompile(`\.(groups\[\d+\]|finder\.group)$`), func(c *document) []string {
		return namesOf(c.IPGroups, func(g ipGroupConfig) string { return g.Name })
	}},
	{regexp.MustCompile(`\.stringGroups\[\d+\]$`), func(c *document) []string {
		return namesOf(c.StringGroups, func(g stringGroupConfig) string { return g.Name })
	}},
}

// names are the names of the objects that a path can name; nil if it names none.
func (b *builder) names(path string) []string {
	for _, r := range references {
		if r.path.MatchString(path) {
			return r.names(b.file.doc)
		}
	}
	return nil
}

func namesOf[T any](list []T, name func(T) string) []string {
	names := []string{}
	for _, item := range list {
		names = append(names, name(item))
	}
	return names
}

func poolNames(c *document) []string {
	return namesOf(c.Pools, func(p poolConfig) string { return p.Name })
}

func groupNames(c *document) []string {
	return namesOf(c.PoolGroups, func(g poolGroupConfig) string { return g.Name })
}

func profileNames(c *document) []string {
	return append(namesOf(c.PersistenceProfiles, func(p namedProfile) string { return p.Name }), noProfile)
}

// fromFile makes what a file says, at a path, unless that was done when the File
// was checked.
func fromFile[T any](b *builder, path string, make func() (T, error)) (T, error) {
	path = fielderr.Join(b.prefix, path)
	if made, ok := b.file.made[path]; ok {
		return made.(T), nil
	}
	made, err := make()
	if err == nil && b.checking {
		b.file.made[path] = made
	}
	return made, err
}

// read returns the content of the file that is named at a path.
func (b *builder) read(path, name string, max int64) ([]byte, error) {
	text, err := b.file.files.read(b.file.dir(fielderr.Join(b.prefix, path)), name, max)
	if b.checking && err == nil {
		b.file.content[fielderr.Join(b.prefix, path)] = sha256.Sum256(text)
	}
	return text, err
}

// within says of each fault in which file it is: that of a name, at a path.
func (b *builder) within(path, name string, err error) error {
	file := b.file.files.where(b.file.dir(fielderr.Join(b.prefix, path)), name)
	return fielderr.Map(err, func(err error) error { return fmt.Errorf("%s: %w", file, err) })
}

// certificates reads those of a listener, at a path; none for plain HTTP.
func (b *builder) certificates(c *certificates, path string) (all []tls.Certificate) {
	if c == nil {
		return nil
	}
	files, paths := c.all(path)
	for i, f := range files {
		cert, err := f.load(b, paths[i])
		b.fault(err, "%s", paths[i])
		all = append(all, cert)
	}
	return all
}

// newPools makes pools and groups of them.
func (b *builder) newPools() {
	faulty := map[int]bool{}
	for i, pc := range b.config.Pools {
		if b.lost = b.lost || b.ctx.Err() != nil; b.lost {
			return
		}
		cfg, moved := b.pool(pc, fmt.Sprintf("pools[%d]", i))
		b.pools, b.moved = append(b.pools, cfg), append(b.moved, moved)
		p, err := lbpool.New(b.pools[i])
		b.fault(b.moved[i].of(err), "pools[%d]", i)
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
			b.fault(b.moved[i].of(b.updatePool(p, i)), "pools[%d]", i)
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

// pool is what pc says, but for its fail action, and the paths of it in the file.
func (b *builder) pool(pc poolConfig, path string) (lbpool.Config, relocation) {
	cfg := pc.Config
	cfg.Logger = b.log
	if b.options.Offline {
		cfg.MinMonitorsUp = 0
		pc.HealthMonitors = nil
	}
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
	moved := b.servers(&cfg, &pc, path)
	if b.options.Offline && len(cfg.Discoveries) > 0 && len(cfg.Servers) == 0 {
		cfg.Servers = []lbpool.ServerConfig{{Address: "192.0.2.3", Name: "as discovered"}}
	}
	return cfg, moved
}

// updatePool makes p what b.config.Pools[i] says.
func (b *builder) updatePool(p *lbpool.Pool, i int) error {
	cfg := b.pools[i]
	if a := b.config.Pools[i].Algorithm; a != nil {
		cfg.Algorithm = a.algorithm()
	}
	cfg.FailAction = b.failAction(b.config.Pools[i].FailAction, fmt.Sprintf("pools[%d].failAction", i))
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
	for i, gc := range b.config.PoolGroups {
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
	for i, pc := range b.config.Pools {
		b.cfg.Pools[i] = b.now.pools[pc.Name]
		if err := b.updatePool(b.cfg.Pools[i], i); err != nil {
			return err
		}
	}
	b.cfg.PoolGroups = b.poolGroups()
	return nil
}

// geo opens the sources of geo data.
func (b *builder) geo() (o ipgroup.Options) {
	var layers []geoip.Layer
	for i, gc := range b.config.Geo {
		layer := geoip.Layer{Index: gc.Index, Disabled: gc.Disabled}
		source, err := fromFile(b, fmt.Sprintf("geo[%d]", i), func() (geoip.Source, error) { return b.geoSource(gc, i) })
		layer.Source = source
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
		b.fault(fielderr.Rename("layers", "", err), "geo")
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

// geoSource reads a source of geo data.
func (b *builder) geoSource(gc geoLayer, i int) (geoip.Source, error) {
	key, name, limit := "database", gc.Database, int64(geoip.MaxSize)
	switch {
	case (gc.Database == "") == (gc.Table == ""):
		return nil, errors.New("want one of database and table")
	case gc.Table != "":
		key, name, limit = "table", gc.Table, geoip.MaxTableSize
	}
	data, err := b.read(fmt.Sprintf("geo[%d].%s", i, key), name, limit)
	if err != nil {
		return nil, err
	}
	var source geoip.Source
	if gc.Table != "" {
		source, err = geoip.ParseTable(data)
	} else {
		source, err = geoip.OpenBytes(data, gc.Attributes...)
	}
	return source, b.within(fmt.Sprintf("geo[%d].%s", i, key), name, err)
}

func (b *builder) groups() {
	geo := b.geo()
	b.cfg.IPGroups = &ipgroup.Set{}
	for i, gc := range b.config.IPGroups {
		if b.ctx.Err() != nil {
			return
		}
		g, err := fromFile(b, fmt.Sprintf("ipGroups[%d]", i), func() (*ipgroup.Group, error) { return b.ipGroup(gc, i, geo) })
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
	for i, gc := range b.config.StringGroups {
		if b.ctx.Err() != nil {
			return
		}
		g, err := fromFile(b, fmt.Sprintf("stringGroups[%d]", i), func() (*policy.StringGroup, error) {
			cfg, err := b.stringGroup(gc, i)
			if err != nil {
				return nil, err
			}
			return policy.NewStringGroup(cfg)
		})
		b.fault(err, "stringGroups[%d]", i)
		if err != nil {
			empty := policy.StringEntry{Key: "/"} // nearly; for what refers to it
			kind := gc.Kind
			if gc.Map != nil {
				kind = policy.StringMap
			}
			if kind == policy.StringMap {
				empty.Value = "/"
			}
			g, err = policy.NewStringGroup(policy.StringGroupConfig{Name: gc.Name, Kind: kind, Entries: []policy.StringEntry{empty}})
		}
		if err != nil {
			b.lost = true
			continue
		}
		groups = append(groups, g)
	}
	var err error
	b.cfg.StringGroups, err = policy.NewStringGroups(groups...)
	b.fault(fielderr.Rename("groups", "", err), "stringGroups")
}

// maxStringFile limits the file of a string group, in bytes.
const maxStringFile = 64 << 20

// ipGroup makes an IP group.
func (b *builder) ipGroup(gc ipGroupConfig, i int, geo ipgroup.Options) (*ipgroup.Group, error) {
	o := gc.Options
	o.Countries, o.ASNs = geo.Countries, geo.ASNs
	switch {
	case gc.File == "":
		return ipgroup.Parse(gc.Name, gc.Entries, o)
	case gc.Entries != nil:
		return nil, errors.New("want one of entries and file")
	}
	limit := o.MaxBytes
	if limit <= 0 {
		limit = ipgroup.DefaultMaxBytes
	}
	text, err := b.read(fmt.Sprintf("ipGroups[%d].file", i), gc.File, limit)
	if err != nil {
		return nil, err
	}
	g, err := ipgroup.Read(gc.Name, bytes.NewReader(text), o)
	return g, b.within(fmt.Sprintf("ipGroups[%d].file", i), gc.File, err)
}

func (b *builder) stringGroup(gc stringGroupConfig, i int) (policy.StringGroupConfig, error) {
	cfg := gc.StringGroupConfig
	switch {
	case gc.File != "" && gc.List == nil && gc.Map == nil:
		text, err := b.read(fmt.Sprintf("stringGroups[%d].file", i), gc.File, maxStringFile)
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
	for i, sc := range b.config.Scripts {
		if b.ctx.Err() != nil {
			return
		}
		path := fmt.Sprintf("scripts[%d].file", i)
		script, err := fromFile(b, path, func() (*datascript.Script, error) {
			source, err := b.read(path, sc.File, scriptfile.MaxBytes)
			if err != nil {
				return nil, err
			}
			return scriptfile.Compile(sc.File, sc.Name, sc.Event, string(source))
		})
		b.fault(err, "%s", path)
		if err != nil {
			script, err = datascript.Compile(cmp.Or(sc.Name, scriptfile.Name(sc.File)), datascript.Chunk{Event: datascript.HTTPReq}) // in its place
		}
		if err != nil {
			b.lost = true
			return
		}
		b.cfg.Scripts = append(b.cfg.Scripts, limpet.Script{Script: script, OnError: sc.OnError})
	}
}

// rateLimiters makes the rate limiters.
func (b *builder) rateLimiters() {
	b.cfg.RateLimiters = map[string]*datascript.RateLimiter{}
	for i, lc := range b.config.RateLimiters {
		if b.cfg.RateLimiters[lc.Name] != nil || b.broken[lc.Name] {
			b.fault(fmt.Errorf("a second rate limiter %q", lc.Name), "rateLimiters[%d].name", i)
			continue
		}
		l := b.old.limiters[lc]
		if l == nil {
			var err error
			if l, err = datascript.NewRateLimiter(lc.RateLimit); err != nil {
				b.fault(err, "rateLimiters[%d]", i)
				b.broken[lc.Name] = true
				continue
			}
		}
		b.cfg.RateLimiters[lc.Name], b.now.limiters[lc] = l, l
	}
}

func (b *builder) rateProfile(pc *rateProfileConfig) {
	if pc == nil {
		return
	}
	p := pc.RateProfile
	l := b.cfg.RateLimiters[pc.Limiter]
	if l == nil && !b.broken[pc.Limiter] {
		b.fault(fmt.Errorf("rate limiter %q not found", pc.Limiter), "rateProfile.limiter")
	}
	if p.Limiter = l; l != nil {
		b.cfg.RateProfile = &p
	}
}

// profiles makes the persistence profiles. Clients stay bound when they are
// made anew, since the virtual service lets profiles take over from those before.
func (b *builder) profiles() {
	b.defaultProfile(b.config.Persistence)
	named := map[string]limpet.PersistenceProfile{noProfile: limpet.NoPersistence}
	for i, np := range b.config.PersistenceProfiles {
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
	for i, p := range b.config.Pools {
		use(p.Name, p.Persistence, fmt.Sprintf("pools[%d]", i))
	}
	for i, g := range b.config.PoolGroups {
		use(g.Name, g.Persistence, fmt.Sprintf("poolGroups[%d]", i))
	}
}

// defaultProfile makes the profile of pools and groups that name none.
func (b *builder) defaultProfile(c sessionProfile) {
	if c == nil {
		return
	}
	p, err := c.profile()
	b.fault(err, "persistence")
	if err == nil {
		b.cfg.Persistence = p
	}
}

// tlsClient is what c says.
func (b *builder) tlsClient(c tlsClient, path string) *tls.Config {
	made := &tls.Config{ServerName: c.ServerName, InsecureSkipVerify: c.InsecureSkipVerify}
	if c.CA != "" {
		roots, err := fromFile(b, path+".ca", func() (*x509.CertPool, error) {
			text, err := b.read(path+".ca", c.CA, maxCertificates)
			if err != nil {
				return nil, err
			}
			roots := x509.NewCertPool()
			if !roots.AppendCertsFromPEM(text) {
				return nil, fmt.Errorf("%s: no certificate in PEM", c.CA)
			}
			return roots, nil
		})
		b.fault(err, "%s.ca", path)
		made.RootCAs = roots
	}
	if c.tlsFiles != (tlsFiles{}) {
		cert, err := c.load(b, path)
		b.fault(err, "%s", path)
		made.Certificates = []tls.Certificate{cert}
	}
	return made
}

// maxCertificates bounds a file of certificates.
const maxCertificates = 8 << 20

// load reads the certificate and its key.
func (f tlsFiles) load(b *builder, path string) (tls.Certificate, error) {
	return fromFile(b, path+".certificate", func() (cert tls.Certificate, err error) {
		if f.Certificate == "" || f.Key == "" {
			return cert, errors.New("want both certificate and key")
		}
		certificate, err := b.read(path+".certificate", f.Certificate, maxCertificates)
		if err != nil {
			return cert, err
		}
		key, err := b.read(path+".key", f.Key, maxCertificates)
		if err != nil {
			return cert, err
		}
		if cert, err = tls.X509KeyPair(certificate, key); err != nil {
			err = fmt.Errorf("certificate %s and key %s: %w", f.Certificate, f.Key, err)
		}
		return cert, err
	})
}

// defaultName is the name of a service without one.
const defaultName = "limpet"
