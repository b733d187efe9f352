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
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/datascript/jwtkeys"
	"github.com/limpetlb/limpet/internal/certs"
	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/internal/scriptfile"
	"github.com/limpetlb/limpet/ipgroup"
	"github.com/limpetlb/limpet/ipgroup/geoip"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
	"github.com/limpetlb/limpet/policy"
)

// kept is what stays when a configuration is read anew.
type kept struct {
	pools    map[string]*lbpool.Pool
	limiters map[rateLimiterConfig]*datascript.RateLimiter
	tables   map[string]*tables // by the keys of tables
	keys     *jwtkeys.Verifier  // nil without key sets
	services map[string]kept    // of the private objects of services, by their names
}

// A builder makes the objects of a service of a File, or those that services
// share. Objects that come from files, and do not change, are made while the
// File is checked, and then taken from it.
type builder struct {
	*findings
	ctx      context.Context // ends the check of a File
	file     *File
	checking bool // the File
	options  Options
	config   *service
	prefix   string // of the paths of its fields
	log      *slog.Logger
	logs     *logs // of a Runtime; nil for a check
	old, now kept
	cfg      limpet.Config        // what is made
	pools    []lbpool.Config      // but for their fail actions
	moved    []relocation         // of pools
	broken   map[namedObject]bool // with a fault, and therefore not there
	origins  map[*datascript.Script]scriptOrigin
	lost     bool // what refers to things that have a fault would be reported, too

	// For a service with private objects. Its own builder has those.
	shared *builder         // that of what services share; nil if it is this one
	places map[string][]int // where the items of lists stand, if not in the order of config

	// What is made, in the order of config.
	made       []*lbpool.Pool
	madeGroups []*lbpool.Group // nil for one with a fault
	compiled   []limpet.Script
	strings    []*policy.StringGroup
	geoData    ipgroup.Options                            // what IP groups ask for countries
	profiles   map[string]limpet.PersistenceProfile       // by name, with clients in memory; nil for one with a fault
	wanted     map[string]string                          // the names of profiles, by pools and groups
	clients    persistence.Sessions                       // where profiles have their clients; nil for their own memory
	scope      string                                     // begins the names of tables in clients; empty if only this service has those
	bound      map[boundProfile]limpet.PersistenceProfile // with clients there
	keyNames   map[string]bool                            // of key sets
	fetchers   map[*lbpool.Transport]string               // to the pools of these names

	background []func(context.Context) error // what runs beside the services
}

func (f *File) builder(to *findings, o Options) *builder {
	return &builder{
		ctx: context.Background(), file: f, findings: to, options: o, log: o.Logger, broken: map[namedObject]bool{},
		origins:  map[*datascript.Script]scriptOrigin{},
		fetchers: map[*lbpool.Transport]string{},
	}
}

// objects makes all but the tables and the transport: pools, which are always
// new, groups, scripts, limiters, profiles and key sets.
func (b *builder) objects(config *service, old kept) {
	b.config, b.old, b.cfg = config, old, config.Config
	if process := b.file.doc.Process; process.check() == nil { // else it has a fault elsewhere
		b.cfg.Connections.DrainIdle = process.Drain.Idle
	}
	b.now = kept{
		pools: map[string]*lbpool.Pool{}, limiters: map[rateLimiterConfig]*datascript.RateLimiter{}, tables: map[string]*tables{},
		services: map[string]kept{},
	}
	b.geoData = b.geo()
	b.ipGroups()
	b.stringGroups()
	b.newPools()
	b.scripts()
	b.rateLimiters()
	b.rateProfile(config.RateProfile)
	b.checkProfiles()
	b.keySets()
	b.authentication(config.Authentication)
}

// logger returns the logger of the service with a key.
func (b *builder) logger(key string) *slog.Logger {
	if b.logs == nil {
		return b.log
	}
	return b.logs.service(key)
}

// transport makes the transport of a service.
func (b *builder) transport(c *transportConfig) {
	if c != nil {
		base := lbpool.NewBase()
		base.TLSClientConfig = b.tlsClient(c.TLS, "transport.tls")
		b.cfg.Transport = lbpool.NewHTTP1(base)
	}
}

// edited is the configuration as the program that uses the File wants it.
func (b *builder) edited() limpet.Config {
	cfg := b.cfg
	cfg.RateLimiters, cfg.PoolPersistence = maps.Clone(cfg.RateLimiters), maps.Clone(cfg.PoolPersistence) // services share them
	if b.options.Edit != nil {
		b.options.Edit(cmp.Or(cfg.Name, defaultName), &cfg)
	}
	return cfg
}

// profilesOf returns the persistence profiles of a configuration, by the names
// of pools and groups.
func profilesOf(cfg *limpet.Config) map[string]limpet.PersistenceProfile {
	all := map[string]limpet.PersistenceProfile{}
	maps.Copy(all, cfg.PoolPersistence)
	add := func(target string) {
		if _, ok := all[target]; !ok && cfg.Persistence != nil {
			all[target] = cfg.Persistence
		}
	}
	for _, p := range cfg.Pools {
		add(p.Name())
	}
	for _, g := range cfg.PoolGroups {
		add(g.Name())
	}
	return all
}

// tryService makes a virtual service, which checks the configuration as a
// whole, and checks the names in its scripts. It is nil if it has a fault.
// Faults are noted.
func (b *builder) tryService(cfg limpet.Config) *limpet.VirtualService {
	b.checkNames(&cfg)
	vs, err := limpet.New(cfg)
	b.fault(b.persistencePaths(err), "")
	return vs
}

// persistencePaths returns err with the paths that a file has in place of those
// of PoolPersistence.
func (b *builder) persistencePaths(err error) error {
	for i, p := range b.config.Pools {
		err = fielderr.Rename(fielderr.Key("poolPersistence", p.Name), b.at("pools", i)+".persistence", err)
	}
	for i, g := range b.config.PoolGroups {
		err = fielderr.Rename(fielderr.Key("poolPersistence", g.Name), b.at("poolGroups", i)+".persistence", err)
	}
	for name := range b.cfg.PoolPersistence { // of shared pools; the choice of them stands in the service
		err = fielderr.Rename(fielderr.Key("poolPersistence", name), "pools", err)
	}
	return err
}

// fault notes an error, if it is one, about what stands at a path or, as the
// library reports it, below. Faults that an earlier stage has found are not
// reported again.
func (b *builder) fault(err error, path string, args ...any) {
	if err == nil {
		return
	}
	path = fielderr.Join(b.prefix, fmt.Sprintf(path, args...))
	for _, err := range fielderr.Leaves(err) {
		if leaf, ok := err.(*fielderr.Error); ok { //nolint:errorlint // a fault that something else wraps has a text of its own
			b.located(fielderr.Join(path, leaf.Path), leaf.Value, leaf.Err, true)
		} else {
			b.located(path, nil, err, false)
		}
	}
}

// inFile is the value of a fault that the file shows better.
type inFile struct{}

// located notes an error about what stands at a path. A fault of the library
// has a value unless it would say nothing or may be secret.
func (b *builder) located(path string, value any, err error, ofLibrary bool) {
	at, exact := b.file.nearest(path)
	if b.hides(path) || !exact && b.strange[outer(path)] {
		return
	}
	b.mar(path)
	f := &fault{path: b.file.shown(path), value: value, err: err}
	if f.place = at.place; f.source == nil {
		f.source = b.file.first
	}
	_, written := value.(inFile)
	if written {
		f.value = nil
	}
	if exact {
		f.taken = b.file.taken[path]
	}
	switch {
	case at.secret, errors.Is(err, errNotAName): // which may be a key
		f.value = nil
	case exact && at.node != nil && at.node.Kind == yaml.ScalarNode:
		if written || !ofLibrary {
			f.value = at.node.Value
		}
		if names := b.names(path); names != nil && !slices.Contains(names, at.node.Value) {
			f.typed, f.among = at.node.Value, func() []string { return names }
		}
	}
	b.add(f)
}

// references are the paths of what names an object, and which objects they are:
// those of a service, or those that services share.
var references = []struct {
	path  *regexp.Regexp
	names func(c *service) []string
}{
	{regexp.MustCompile(`(^|\.)defaultPool$`), poolNames},
	{regexp.MustCompile(`(^|\.)failAction\.backup$`), poolNames},
	{regexp.MustCompile(`(^|\.)members\[\d+\]\.pool$`), poolNames},
	{regexp.MustCompile(`(^|\.)action\.pool\.name$`), func(c *service) []string { return append(poolNames(c), groupNames(c)...) }},
	{regexp.MustCompile(`^(services\[\d+\]\.)?persistence$`), defaultNames},
	{regexp.MustCompile(`\.persistence$`), profileNames},
	{regexp.MustCompile(`^services\[\d+\]\.pools\[\d+\]$`), poolNames},
	{regexp.MustCompile(`^services\[\d+\]\.poolGroups\[\d+\]$`), groupNames},
	{regexp.MustCompile(`^services\[\d+\]\.persistenceProfiles\[\d+\]$`), profileNames},
	{regexp.MustCompile(`(^|\.)keySets\[\d+\]\.pool$`), poolNames},
	{regexp.MustCompile(`^services\[\d+\]\.scripts\[\d+\]$`), func(c *service) []string {
		return namesOf(c.Scripts, scriptConfig.name)
	}},
	{regexp.MustCompile(`(^|\.)rateProfile\.limiter$|^services\[\d+\]\.rateLimiters\[\d+\]$`), func(c *service) []string {
		return namesOf(c.RateLimiters, func(l rateLimiterConfig) string { return l.Name })
	}},
	{regexp.MustCompile(`\.(groups\[\d+\]|finder\.group)$|^services\[\d+\]\.ipGroups\[\d+\]$`), func(c *service) []string {
		return namesOf(c.IPGroups, func(g ipGroupConfig) string { return g.Name })
	}},
	{regexp.MustCompile(`\.stringGroups\[\d+\]$`), func(c *service) []string {
		return namesOf(c.StringGroups, func(g stringGroupConfig) string { return g.Name })
	}},
	{regexp.MustCompile(`(^|\.)authentication\.keySet$|^services\[\d+\]\.keySets\[\d+\]$`), func(c *service) []string {
		return namesOf(c.KeySets, func(s keySetConfig) string { return s.Name })
	}},
}

var (
	listenerReference = regexp.MustCompile(`^services\[\d+\]\.listeners\[\d+\]$`)
	storeReference    = regexp.MustCompile(`(^|\.)tables\.store$`)
	acmeReference     = regexp.MustCompile(`(^|\.)tls\.(certificates\[\d+\]\.)?acme$`)
)

// names are the names of the objects that a path can name; nil if it names
// none.
func (b *builder) names(path string) []string {
	doc := b.file.doc
	switch {
	case listenerReference.MatchString(path):
		return namesOf(doc.Listeners, func(l listenerConfig) string { return l.Name })
	case acmeReference.MatchString(path):
		return namesOf(doc.ACME, func(c acmeConfig) string { return c.Name })
	case storeReference.MatchString(path):
		return namesOf(doc.Stores, func(s storeConfig) string { return s.Name })
	}
	for _, r := range references {
		if !r.path.MatchString(path) {
			continue
		}
		names := r.names(&doc.service)
		if b.shared != nil {
			names = append(names, r.names(b.config)...)
		}
		return names
	}
	return nil
}

// name is what rules and services call a script.
func (c scriptConfig) name() string { return cmp.Or(c.Name, scriptfile.Name(c.File)) }

func namesOf[T any](list []T, name func(T) string) []string {
	names := []string{}
	for _, item := range list {
		names = append(names, name(item))
	}
	return names
}

func poolNames(c *service) []string {
	return namesOf(c.Pools, func(p poolConfig) string { return p.Name })
}

func groupNames(c *service) []string {
	return namesOf(c.PoolGroups, func(g poolGroupConfig) string { return g.Name })
}

// defaultNames are what can be the profile of pools that name none.
func defaultNames(c *service) []string {
	return append(profileNames(c), typeNames(unions[reflect.TypeFor[sessionProfile]()])...)
}

func profileNames(c *service) []string {
	return append(namesOf(c.PersistenceProfiles, func(p namedProfile) string { return p.Name }), noProfile)
}

// fromFile makes what a file says, at a path, unless that was done when the
// File was checked.
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
	if err == nil {
		b.noteContent(path, text)
	}
	return text, err
}

// noteContent notes the content of a file that is named at a path, or of one of
// several that are.
func (b *builder) noteContent(path string, text []byte) {
	if !b.checking {
		return
	}
	path = fielderr.Join(b.prefix, path)
	before := b.file.content[path]
	sum := sha256.New()
	sum.Write(before[:])
	sum.Write(text)
	b.file.content[path] = [32]byte(sum.Sum(nil))
}

// within says of each fault in which file it is: that of a name, at a path.
func (b *builder) within(path, name string, err error) error {
	file := b.file.files.where(b.file.dir(fielderr.Join(b.prefix, path)), name)
	return fielderr.Map(err, func(err error) error { return fmt.Errorf("%s: %w", file, err) })
}

// newPools makes pools and groups of them.
func (b *builder) newPools() {
	faulty := map[int]bool{}
	for i, pc := range b.config.Pools {
		if b.lost = b.lost || b.ctx.Err() != nil; b.lost {
			return
		}
		b.shadows("pools", i, "a pool", pc.Name, b.shared != nil && b.shared.now.pools[pc.Name] != nil)
		b.shadows("pools", i, "a pool group", pc.Name, b.shared != nil && b.shared.group(pc.Name) != nil)
		cfg, moved := b.pool(pc, b.at("pools", i))
		b.pools, b.moved = append(b.pools, cfg), append(b.moved, moved)
		p, err := lbpool.New(b.pools[i])
		b.fault(b.moved[i].of(err), "%s", b.at("pools", i))
		if err != nil {
			faulty[i] = true
			p, err = standIn(b.pools[i])
		}
		if err != nil {
			b.lost = true
			return
		}
		b.now.pools[pc.Name] = p
		b.made = append(b.made, p)
	}
	for i, p := range b.made { // now that the backups are there
		if !faulty[i] {
			b.fault(b.moved[i].of(b.updatePool(p, i)), "%s", b.at("pools", i))
		}
	}
	b.cfg.Pools = b.made
	b.poolGroups()
}

// poolNamed returns the pool of a name: one of these, or a shared one.
func (b *builder) poolNamed(name string) *lbpool.Pool {
	p := b.now.pools[name]
	if p == nil && b.shared != nil {
		p = b.shared.now.pools[name]
	}
	return p
}

// noPool is the fault of a name that is not that of a pool.
func (b *builder) noPool(name string) error {
	if slices.Contains(groupNames(b.config), name) || b.shared != nil && slices.Contains(groupNames(b.shared.config), name) {
		return fmt.Errorf("%q is a pool group; want a pool", name)
	}
	return fmt.Errorf("pool %q not found", name)
}

// group returns the pool group of a name; nil if there is none.
func (b *builder) group(name string) *lbpool.Group {
	for _, g := range b.madeGroups {
		if g != nil && g.Name() == name {
			return g
		}
	}
	return nil
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

// pool is what pc says, but for its fail action, and the paths of it in the
// file.
func (b *builder) pool(pc poolConfig, path string) (lbpool.Config, relocation) {
	cfg := pc.Config
	cfg.Logger, cfg.Scheme = b.log, strings.ToLower(cfg.Scheme)
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

// logPools makes the pools that are the service's own report to a logger, once
// they are updated.
func (b *builder) logPools(to *slog.Logger) {
	if to == nil || to == b.cfg.Logger {
		return // where they report to is set already
	}
	for i := range b.pools {
		b.pools[i].Logger = to
	}
}

// updatePools gives pools that were just made what has been set since.
func (b *builder) updatePools() error {
	for i, p := range b.made {
		if err := b.updatePool(p, i); err != nil {
			return fielderr.Under(b.at("pools", i), err)
		}
	}
	return nil
}

// updatePool makes p what b.config.Pools[i] says.
func (b *builder) updatePool(p *lbpool.Pool, i int) error {
	cfg := b.pools[i]
	if a := b.config.Pools[i].Algorithm; a != nil {
		cfg.Algorithm = a.algorithm()
	}
	cfg.FailAction = b.failAction(b.config.Pools[i].FailAction, b.at("pools", i)+".failAction")
	return p.Update(cfg)
}

func (b *builder) failAction(fc failActionConfig, path string) lbpool.FailAction {
	a := fc.FailAction
	a.Redirect.Scheme = strings.ToLower(a.Redirect.Scheme)
	if fc.Backup != "" {
		if a.Backup = b.poolNamed(fc.Backup); a.Backup == nil {
			b.fault(b.noPool(fc.Backup), "%s.backup", path)
			return lbpool.FailAction{}
		}
	}
	return a
}

// poolGroups makes the pool groups.
func (b *builder) poolGroups() {
	b.madeGroups, b.cfg.PoolGroups = make([]*lbpool.Group, len(b.config.PoolGroups)), nil
	for i, gc := range b.config.PoolGroups {
		path := b.at("poolGroups", i)
		b.shadows("poolGroups", i, "a pool", gc.Name, b.shared != nil && b.shared.now.pools[gc.Name] != nil)
		b.shadows("poolGroups", i, "a pool group", gc.Name, b.shared != nil && b.shared.group(gc.Name) != nil)
		cfg := gc.GroupConfig
		cfg.FailAction = b.failAction(gc.FailAction, path+".failAction")
		for j, mc := range gc.Members {
			m := mc.Member
			if m.Ratio = 1; mc.Ratio != nil {
				m.Ratio = *mc.Ratio
			}
			if m.Pool = b.poolNamed(mc.Pool); m.Pool == nil {
				b.fault(b.noPool(mc.Pool), "%s.members[%d].pool", path, j)
				continue
			}
			cfg.Members = append(cfg.Members, m)
		}
		b.broken[namedObject{poolGroupKind, gc.Name}] = true
		if len(cfg.Members) < len(gc.Members) {
			continue
		}
		g, err := lbpool.NewGroup(cfg)
		b.fault(err, "%s", path)
		if err == nil {
			b.madeGroups[i] = g
			b.cfg.PoolGroups = append(b.cfg.PoolGroups, g)
			delete(b.broken, namedObject{poolGroupKind, gc.Name})
		}
	}
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
		b.made[i] = b.now.pools[pc.Name]
		if err := b.beginAnew(i); err != nil {
			return err
		}
		if err := b.updatePool(b.made[i], i); err != nil {
			return err
		}
	}
	b.cfg.Pools = b.made
	b.poolGroups()
	for t, pool := range b.fetchers {
		t.Pool = b.poolNamed(pool)
	}
	return nil
}

// beginAnew keeps a pool of a service that was a shared one before from taking
// over that: another service may have made a pool of its own of it as well. A
// pool that has adopted one, here one that nobody has used, adopts no other.
func (b *builder) beginAnew(i int) error {
	name := b.config.Pools[i].Name
	if b.shared == nil || b.shared.old.pools[name] == nil || b.old.pools[name] != nil {
		return nil
	}
	unused, err := lbpool.New(b.pools[i])
	if err != nil {
		return err
	}
	return b.made[i].Adopt(unused)
}

// geo opens the sources of geo data.
func (b *builder) geo() (o ipgroup.Options) {
	if len(b.config.Geo) == 0 && b.shared != nil {
		b.cfg.Geo = b.shared.cfg.Geo
		return b.shared.geoData
	}
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

// ipGroups makes the IP groups: those of a service together with the shared
// ones.
func (b *builder) ipGroups() {
	if b.shared != nil && len(b.config.IPGroups) == 0 {
		b.cfg.IPGroups = b.shared.cfg.IPGroups
		return
	}
	b.cfg.IPGroups = &ipgroup.Set{}
	if b.shared != nil {
		for _, name := range b.shared.cfg.IPGroups.Names() {
			if g, ok := b.shared.cfg.IPGroups.Group(name); ok {
				b.fault(b.cfg.IPGroups.Replace(g), "ipGroups")
			}
		}
	}
	for i, gc := range b.config.IPGroups {
		if b.ctx.Err() != nil {
			return
		}
		path := b.at("ipGroups", i)
		g, err := fromFile(b, path, func() (*ipgroup.Group, error) { return b.ipGroup(gc, path) })
		b.fault(err, "%s", path)
		if err != nil {
			g, err = ipgroup.Parse(gc.Name, nil, ipgroup.Options{AllowEmpty: true}) // for what refers to it
		}
		if err != nil {
			b.lost = true
			continue
		}
		_, there := b.cfg.IPGroups.Group(gc.Name)
		switch shared := there && b.shared != nil && slices.Contains(b.shared.cfg.IPGroups.Names(), gc.Name); {
		case shared:
			b.shadows("ipGroups", i, "an IP group", gc.Name, true)
			continue
		case there:
			err = fmt.Errorf("a second IP group %q", gc.Name)
		default:
			err = b.cfg.IPGroups.Replace(g)
		}
		b.fault(err, "%s", path)
	}
}

// stringGroups makes the string groups: those of a service together with the
// shared ones.
func (b *builder) stringGroups() {
	if b.shared != nil && len(b.config.StringGroups) == 0 {
		b.cfg.StringGroups = b.shared.cfg.StringGroups
		return
	}
	var paths []string
	for i, gc := range b.config.StringGroups {
		if b.ctx.Err() != nil {
			return
		}
		path := b.at("stringGroups", i)
		if b.shared != nil && b.shared.hasStringGroup(gc.Name) {
			b.shadows("stringGroups", i, "a string group", gc.Name, true)
			continue
		}
		g, err := fromFile(b, path, func() (*policy.StringGroup, error) {
			cfg, err := b.stringGroup(gc, path)
			if err != nil {
				return nil, err
			}
			return policy.NewStringGroup(cfg)
		})
		b.fault(err, "%s", path)
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
		b.strings, paths = append(b.strings, g), append(paths, path)
	}
	all := b.strings
	if b.shared != nil {
		all = slices.Concat(b.strings, b.shared.strings)
	}
	groups, err := policy.NewStringGroups(all...)
	for i := range b.strings {
		err = fielderr.Rename(fielderr.Index("groups", i), paths[i], err)
	}
	b.fault(fielderr.Rename("groups", "stringGroups", err), "")
	b.cfg.StringGroups = groups
}

// hasStringGroup reports whether there is a string group of a name.
func (b *builder) hasStringGroup(name string) bool {
	return slices.ContainsFunc(b.strings, func(g *policy.StringGroup) bool { return g.Name() == name })
}

// maxStringFile limits the file of a string group, in bytes.
const maxStringFile = 64 << 20

// ipGroup makes an IP group.
func (b *builder) ipGroup(gc ipGroupConfig, path string) (*ipgroup.Group, error) {
	o := gc.Options
	o.Countries, o.ASNs = b.geoData.Countries, b.geoData.ASNs
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
	text, err := b.read(path+".file", gc.File, limit)
	if err != nil {
		return nil, err
	}
	g, err := ipgroup.Read(gc.Name, bytes.NewReader(text), o)
	return g, b.within(path+".file", gc.File, err)
}

func (b *builder) stringGroup(gc stringGroupConfig, path string) (policy.StringGroupConfig, error) {
	cfg := gc.StringGroupConfig
	switch {
	case gc.File != "" && gc.List == nil && gc.Map == nil:
		text, err := b.read(path+".file", gc.File, maxStringFile)
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
		b.shadows("scripts", i, "a script", sc.name(), b.shared != nil && b.shared.script(sc.name()) != nil)
		path := b.at("scripts", i) + ".file"
		if sc.Name != "" && badName(sc.Name, false) != nil {
			b.fault(badName(sc.Name, false), "%s.name", b.at("scripts", i))
			b.lost = true
			continue
		}
		script, err := fromFile(b, path, func() (*datascript.Script, error) {
			source, err := b.read(path, sc.File, scriptfile.MaxBytes)
			if err != nil {
				return nil, err
			}
			return scriptfile.Compile(sc.File, sc.Name, sc.Event, string(source))
		})
		src := &source{name: b.file.files.where(b.file.dir(fielderr.Join(b.prefix, path)), sc.File), order: scriptOrder + i}
		b.scriptFaults(err, path, src)
		if err != nil {
			script, err = datascript.Compile(cmp.Or(sc.Name, scriptfile.Name(sc.File)), datascript.Chunk{Event: datascript.HTTPReq}) // in its place
		}
		if err != nil {
			b.lost = true
			return
		}
		b.origins[script] = scriptOrigin{src, sc.External}
		b.compiled = append(b.compiled, limpet.Script{Script: script, OnError: sc.OnError})
	}
	b.cfg.Scripts = b.compiled
}

// script returns the script of a name; nil if there is none.
func (b *builder) script(name string) *limpet.Script {
	for i := range b.compiled {
		if b.compiled[i].Name() == name {
			return &b.compiled[i]
		}
	}
	return nil
}

// rateLimiters makes the rate limiters: those of a service together with the
// shared ones.
func (b *builder) rateLimiters() {
	b.cfg.RateLimiters = map[string]*datascript.RateLimiter{}
	if b.shared != nil {
		b.cfg.RateLimiters = maps.Clone(b.shared.cfg.RateLimiters)
	}
	for i, lc := range b.config.RateLimiters {
		path, this := b.at("rateLimiters", i), namedObject{limiterKind, lc.Name}
		if b.shared != nil && (b.shared.cfg.RateLimiters[lc.Name] != nil || b.shared.broken[this]) {
			b.shadows("rateLimiters", i, "a rate limiter", lc.Name, true)
			continue
		}
		if b.cfg.RateLimiters[lc.Name] != nil || b.broken[this] {
			b.fault(fmt.Errorf("a second rate limiter %q", lc.Name), "%s.name", path)
			continue
		}
		if err := badName(lc.Name, false); err != nil {
			b.fault(err, "%s.name", path)
			b.broken[this] = true
			continue
		}
		l := b.old.limiters[lc]
		if l == nil {
			var err error
			if l, err = datascript.NewRateLimiter(lc.RateLimit); err != nil {
				b.fault(err, "%s", path)
				b.broken[this] = true
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
	if l == nil && !b.broken[namedObject{limiterKind, pc.Limiter}] {
		b.fault(fmt.Errorf("rate limiter %q not found", pc.Limiter), "rateProfile.limiter")
	}
	if p.Limiter = l; l != nil {
		b.cfg.RateProfile = &p
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
const maxCertificates = certs.MaxBytes

// load reads the certificate and its key.
func (f tlsFiles) load(b *builder, path string) (tls.Certificate, error) {
	return fromFile(b, path+".certificate", func() (cert tls.Certificate, err error) {
		if f.Certificate == "" || f.Key == "" {
			return cert, errNoPair
		}
		certificate, err := b.read(path+".certificate", f.Certificate, maxCertificates)
		if err != nil {
			return cert, err
		}
		if b.file.noKeys {
			b.file.files.touch(b.file.files.where(b.file.dir(fielderr.Join(b.prefix, path)), f.Key))
			return certs.WithoutKey(f.Certificate, certificate)
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
