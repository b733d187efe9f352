package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"reflect"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/ipgroup"
	"github.com/limpetlb/limpet/ipgroup/geoip"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
	"github.com/limpetlb/limpet/policy"
)

// A config is a configuration file: [limpet.Config] in YAML, and where to
// listen. Fields have the names of those that they fill in; docs/command.md
// lists them. Files that it names are relative to its directory.
type config struct {
	Listen string     `yaml:"listen"`
	TLS    *tlsConfig `yaml:"tls"`

	Name        string            `yaml:"name"`
	Pools       []poolConfig      `yaml:"pools"`
	DefaultPool string            `yaml:"defaultPool"`
	PoolGroups  []poolGroupConfig `yaml:"poolGroups"`

	GeoDatabase  string              `yaml:"geoDatabase"`
	IPGroups     []ipGroupConfig     `yaml:"ipGroups"`
	StringGroups []stringGroupConfig `yaml:"stringGroups"`

	NetworkSecurity []networkRuleConfig  `yaml:"networkSecurity"`
	HTTPSecurity    []securityRuleConfig `yaml:"httpSecurity"`
	HTTPRequest     []requestRuleConfig  `yaml:"httpRequest"`

	Scripts      []scriptConfig      `yaml:"scripts"`
	Limits       limitsConfig        `yaml:"limits"`
	StrictSelect bool                `yaml:"strictSelect"`
	RateLimiters []rateLimiterConfig `yaml:"rateLimiters"`

	Tables      tablesConfig       `yaml:"tables"`
	Persistence *persistenceConfig `yaml:"persistence"`

	TrustedProxies []netip.Prefix `yaml:"trustedProxies"`
	ClientHeader   string         `yaml:"clientHeader"`
}

type tlsConfig struct {
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
}

type poolConfig struct {
	Name           string          `yaml:"name"`
	Servers        []serverConfig  `yaml:"servers"`
	DefaultPort    uint16          `yaml:"defaultPort"`
	Scheme         string          `yaml:"scheme"`
	Algorithm      string          `yaml:"algorithm"`
	HealthMonitors []monitorConfig `yaml:"healthMonitors"`
	SlowStart      duration        `yaml:"slowStart"`

	BodyIdleTimeout   duration `yaml:"bodyIdleTimeout"`
	StreamIdleTimeout duration `yaml:"streamIdleTimeout"`
}

type serverConfig struct {
	Address        string `yaml:"address"`
	Name           string `yaml:"name"`
	Hostname       string `yaml:"hostname"`
	Ratio          int    `yaml:"ratio"`
	Disabled       bool   `yaml:"disabled"`
	MaxConnections int    `yaml:"maxConnections"`
	MaxRate        int    `yaml:"maxRate"`
}

type monitorConfig struct {
	Name      string       `yaml:"name"`
	HTTP      *httpMonitor `yaml:"http"`
	TCP       *tcpMonitor  `yaml:"tcp"`
	Interval  duration     `yaml:"interval"`
	Timeout   duration     `yaml:"timeout"`
	Successes int          `yaml:"successes"`
	Failures  int          `yaml:"failures"`
	Port      uint16       `yaml:"port"`
}

type httpMonitor struct {
	Method  string `yaml:"method"`
	Path    string `yaml:"path"`
	Host    string `yaml:"host"`
	Keyword string `yaml:"keyword"`
}

type tcpMonitor struct {
	Send   string `yaml:"send"`
	Expect string `yaml:"expect"`
}

type poolGroupConfig struct {
	Name       string         `yaml:"name"`
	Members    []memberConfig `yaml:"members"`
	MinServers int            `yaml:"minServers"`
}

type memberConfig struct {
	Pool     string `yaml:"pool"`
	Ratio    *int   `yaml:"ratio"`
	Priority int    `yaml:"priority"`
	Label    string `yaml:"label"`
}

type ipGroupConfig struct {
	Name    string   `yaml:"name"`
	Entries []string `yaml:"entries"`
	File    string   `yaml:"file"`
}

type stringGroupConfig struct {
	Name         string        `yaml:"name"`
	List         []string      `yaml:"list"`
	Map          yaml.MapSlice `yaml:"map"`
	LongestMatch bool          `yaml:"longestMatch"`
}

type networkRuleConfig struct {
	Name     string         `yaml:"name"`
	Disabled bool           `yaml:"disabled"`
	DryRun   bool           `yaml:"dryRun"`
	ClientIP *ipMatchConfig `yaml:"clientIP"`
	Action   string         `yaml:"action"`
	Log      bool           `yaml:"log"`
}

type securityRuleConfig struct {
	Name     string         `yaml:"name"`
	Disabled bool           `yaml:"disabled"`
	DryRun   bool           `yaml:"dryRun"`
	Match    matchConfig    `yaml:"match"`
	Action   string         `yaml:"action"`
	Respond  *respondConfig `yaml:"respond"`
	Log      bool           `yaml:"log"`
}

type requestRuleConfig struct {
	Name     string          `yaml:"name"`
	Disabled bool            `yaml:"disabled"`
	DryRun   bool            `yaml:"dryRun"`
	Match    matchConfig     `yaml:"match"`
	Pool     string          `yaml:"pool"`
	Redirect *redirectConfig `yaml:"redirect"`
	Respond  *respondConfig  `yaml:"respond"`
	Log      bool            `yaml:"log"`
}

type matchConfig struct {
	ClientIP *ipMatchConfig `yaml:"clientIP"`
	Method   []string       `yaml:"method"`
	Path     *stringMatch   `yaml:"path"`
	Host     *stringMatch   `yaml:"host"`
}

type ipMatchConfig struct {
	Not      bool           `yaml:"not"`
	Addrs    []netip.Addr   `yaml:"addrs"`
	Prefixes []netip.Prefix `yaml:"prefixes"`
	Groups   []string       `yaml:"groups"`
}

type stringMatch struct {
	Op            string   `yaml:"op"`
	Values        []string `yaml:"values"`
	StringGroups  []string `yaml:"stringGroups"`
	CaseSensitive bool     `yaml:"caseSensitive"`
}

type respondConfig struct {
	Status      int    `yaml:"status"`
	ContentType string `yaml:"contentType"`
	Body        string `yaml:"body"`
}

type redirectConfig struct {
	Protocol string `yaml:"protocol"`
	Host     string `yaml:"host"`
	Path     string `yaml:"path"`
	Port     uint16 `yaml:"port"`
	Status   int    `yaml:"status"`
}

type scriptConfig struct {
	Name    string           `yaml:"name"`
	File    string           `yaml:"file"`
	Event   datascript.Event `yaml:"event"`
	OnError string           `yaml:"onError"`
}

type limitsConfig struct {
	Instructions int      `yaml:"instructions"`
	Time         duration `yaml:"time"`
	StringBytes  int      `yaml:"stringBytes"`
	Concurrent   int      `yaml:"concurrent"`
}

type rateLimiterConfig struct {
	Name   string   `yaml:"name"`
	Count  int      `yaml:"count"`
	Period duration `yaml:"period"`
	Burst  int      `yaml:"burst"`
	Keys   int      `yaml:"keys"`
}

type tablesConfig struct {
	MaxEntries  int      `yaml:"maxEntries"`
	MaxLifetime duration `yaml:"maxLifetime"`
	Sliding     bool     `yaml:"sliding"`
}

type persistenceConfig struct {
	ClientIP *struct {
		Timeout    duration `yaml:"timeout"`
		MaxEntries int      `yaml:"maxEntries"`
		Mask4      int      `yaml:"mask4"`
		Mask6      int      `yaml:"mask6"`
	} `yaml:"clientIP"`
	AppCookie *struct {
		Name       string   `yaml:"name"`
		Timeout    duration `yaml:"timeout"`
		MaxEntries int      `yaml:"maxEntries"`
	} `yaml:"appCookie"`
}

// A duration is written as in Go: 1m30s.
type duration time.Duration

// UnmarshalYAML reads a duration; the error has the place.
func (d *duration) UnmarshalYAML(node ast.Node) error {
	token := node.GetToken()
	v, err := time.ParseDuration(token.Value)
	if err != nil {
		return fmt.Errorf("[%d:%d] %w", token.Position.Line, token.Position.Column, err)
	}
	*d = duration(v)
	return nil
}

// maxConfigFile bounds a configuration file.
const maxConfigFile = 8 << 20

// readConfig reads a configuration file. Errors name the line and the field.
func readConfig(file string) (*config, error) {
	data, err := readFile(file, maxConfigFile)
	if err != nil {
		return nil, err
	}
	c := &config{}
	if err := yaml.UnmarshalWithOptions(data, c, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return c, nil
}

// kept is what lives on when the configuration is read anew.
type kept struct {
	pools       map[string]*lbpool.Pool
	tables      *persistence.Store
	persistence keptProfile
	limiters    map[rateLimiterConfig]*datascript.RateLimiter
}

type keptProfile struct {
	config  *persistenceConfig
	profile limpet.PersistenceProfile
}

// build makes a configuration for the library, of what k has kept and of what
// is new, and returns what is to be kept of it. Pools are always new.
func (c *config) build(dir string, k kept, log *slog.Logger) (cfg limpet.Config, now kept, err error) {
	b := builder{config: c, dir: dir, old: k, log: log}
	b.now = kept{pools: map[string]*lbpool.Pool{}, tables: k.tables, limiters: map[rateLimiterConfig]*datascript.RateLimiter{}}
	if b.now.tables == nil {
		b.now.tables = persistence.NewStore(persistence.Options{
			MaxEntries: c.Tables.MaxEntries, MaxLifetime: time.Duration(c.Tables.MaxLifetime), Sliding: c.Tables.Sliding,
		})
	}
	b.cfg = limpet.Config{
		Name: c.Name, DefaultPool: c.DefaultPool, StrictSelect: c.StrictSelect, Tables: b.now.tables,
		TrustedProxies: c.TrustedProxies, ClientHeader: c.ClientHeader, Logger: log,
		Limits: datascript.Limits{
			Instructions: c.Limits.Instructions, Time: time.Duration(c.Limits.Time), StringBytes: c.Limits.StringBytes, Concurrent: c.Limits.Concurrent,
		},
	}
	b.pools()
	b.groups()
	b.rules()
	b.scripts()
	b.profile()
	return b.cfg, b.now, errors.Join(b.faults...)
}

type builder struct {
	*config
	dir      string
	old, now kept
	log      *slog.Logger
	cfg      limpet.Config
	faults   []error
}

// fault notes an error, if it is one, with the path of its field.
func (b *builder) fault(err error, path string, args ...any) {
	if err != nil {
		b.faults = append(b.faults, fmt.Errorf("%s: %w", fmt.Sprintf(path, args...), err))
	}
}

func (b *builder) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(b.dir, name)
}

func (b *builder) pools() {
	for i, pc := range b.Pools {
		p, err := lbpool.New(b.pool(i, pc))
		b.fault(err, "pools[%d]", i)
		if err == nil {
			b.cfg.Pools = append(b.cfg.Pools, p)
			b.now.pools[p.Name()] = p
		}
	}
	for i, gc := range b.PoolGroups {
		g := lbpool.GroupConfig{Name: gc.Name, MinServers: gc.MinServers}
		for j, m := range gc.Members {
			ratio := 1
			if m.Ratio != nil {
				ratio = *m.Ratio
			}
			p := b.now.pools[m.Pool]
			if p == nil {
				b.fault(fmt.Errorf("pool %q not found", m.Pool), "poolGroups[%d].members[%d].pool", i, j)
				continue
			}
			g.Members = append(g.Members, lbpool.Member{Pool: p, Ratio: ratio, Priority: m.Priority, Label: m.Label})
		}
		if len(g.Members) < len(gc.Members) {
			continue
		}
		group, err := lbpool.NewGroup(g)
		b.fault(err, "poolGroups[%d]", i)
		if err == nil {
			b.cfg.PoolGroups = append(b.cfg.PoolGroups, group)
		}
	}
}

// algorithms are those that need no configuration.
var algorithms = map[string]func() lbpool.Algorithm{
	"":                 func() lbpool.Algorithm { return nil },
	"leastConnections": lbpool.LeastConnections,
	"roundRobin":       lbpool.RoundRobin,
	"randomTwo":        lbpool.RandomTwo,
	"leastLoad":        lbpool.LeastLoad,
	"fastestResponse":  lbpool.FastestResponse,
	"consistentHash":   func() lbpool.Algorithm { return lbpool.ConsistentHash(lbpool.ConsistentHashConfig{}) },
	"consistentHashOfScript": func() lbpool.Algorithm {
		return lbpool.ConsistentHash(lbpool.ConsistentHashConfig{Key: lbpool.HashCustom})
	},
}

func (b *builder) pool(i int, pc poolConfig) lbpool.Config {
	cfg := lbpool.Config{
		Name: pc.Name, DefaultPort: pc.DefaultPort, Scheme: pc.Scheme, SlowStart: time.Duration(pc.SlowStart), Logger: b.log,
		BodyIdleTimeout: time.Duration(pc.BodyIdleTimeout), StreamIdleTimeout: time.Duration(pc.StreamIdleTimeout),
	}
	algorithm, ok := algorithms[pc.Algorithm]
	if !ok {
		b.fault(fmt.Errorf("%q is not an algorithm", pc.Algorithm), "pools[%d].algorithm", i)
		return cfg
	}
	cfg.Algorithm = algorithm()
	for _, s := range pc.Servers {
		cfg.Servers = append(cfg.Servers, lbpool.ServerConfig(s))
	}
	for j, m := range pc.HealthMonitors {
		monitor := lbpool.HealthMonitor{
			Name: m.Name, Interval: time.Duration(m.Interval), Timeout: time.Duration(m.Timeout), Successes: m.Successes, Failures: m.Failures, Port: m.Port,
		}
		switch {
		case (m.HTTP == nil) == (m.TCP == nil):
			b.fault(errors.New("want one of http and tcp"), "pools[%d].healthMonitors[%d]", i, j)
			monitor.Checker = &lbpool.TCPChecker{} // lest this be reported twice
		case m.HTTP != nil:
			monitor.Checker = &lbpool.HTTPChecker{Method: m.HTTP.Method, Path: m.HTTP.Path, Host: m.HTTP.Host, Keyword: m.HTTP.Keyword}
		default:
			monitor.Checker = &lbpool.TCPChecker{Send: m.TCP.Send, Expect: m.TCP.Expect}
		}
		cfg.HealthMonitors = append(cfg.HealthMonitors, monitor)
	}
	return cfg
}

func (b *builder) groups() {
	var countries ipgroup.CountryFinder
	if b.GeoDatabase != "" {
		db, err := geoip.Open(b.path(b.GeoDatabase))
		b.fault(err, "geoDatabase")
		if err == nil {
			countries, b.cfg.Geo = db, db
		}
	}
	b.cfg.IPGroups = &ipgroup.Set{}
	for i, gc := range b.IPGroups {
		var g *ipgroup.Group
		var err error
		o := ipgroup.Options{Countries: countries}
		if gc.File != "" && gc.Entries == nil {
			g, err = ipgroup.ReadFile(gc.Name, b.path(gc.File), o)
		} else if gc.File == "" {
			g, err = ipgroup.Parse(gc.Name, gc.Entries, o)
		} else {
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
		cfg := policy.StringGroupConfig{Name: gc.Name, LongestMatch: gc.LongestMatch}
		if gc.List != nil && gc.Map != nil {
			b.fault(errors.New("want one of list and map"), "stringGroups[%d]", i)
			continue
		}
		for _, s := range gc.List {
			cfg.Entries = append(cfg.Entries, policy.StringEntry{Key: s})
		}
		for _, item := range gc.Map {
			cfg.Kind = policy.StringMap
			cfg.Entries = append(cfg.Entries, policy.StringEntry{Key: fmt.Sprint(item.Key), Value: fmt.Sprint(item.Value)})
		}
		g, err := policy.NewStringGroup(cfg)
		b.fault(err, "stringGroups[%d]", i)
		if err == nil {
			groups = append(groups, g)
		}
	}
	var err error
	b.cfg.StringGroups, err = policy.NewStringGroups(groups...)
	b.fault(err, "stringGroups")
}

func (b *builder) rules() {
	for i, rc := range b.NetworkSecurity {
		rule := policy.NetworkRule{Name: rc.Name, Disabled: rc.Disabled, DryRun: rc.DryRun, Log: rc.Log}
		rule.Match.ClientIP = rc.ClientIP.match()
		switch rc.Action {
		case "allow":
			rule.Action = policy.NetworkAllow
		case "deny":
			rule.Action = policy.NetworkDeny
		default:
			b.fault(fmt.Errorf("%q is neither allow nor deny", rc.Action), "networkSecurity[%d].action", i)
			continue
		}
		b.cfg.NetworkSecurity = append(b.cfg.NetworkSecurity, rule)
	}
	for i, rc := range b.HTTPSecurity {
		rule := policy.SecurityRule{Name: rc.Name, Disabled: rc.Disabled, DryRun: rc.DryRun, Log: rc.Log}
		rule.Match = b.match(rc.Match, fmt.Sprintf("httpSecurity[%d].match", i))
		switch {
		case rc.Respond != nil && rc.Action == "":
			rule.Action = rc.Respond.action()
		case rc.Action == "allow" && rc.Respond == nil:
			rule.Action = policy.Allow{}
		case rc.Action == "close" && rc.Respond == nil:
			rule.Action = policy.Close{}
		case rc.Action == "reset" && rc.Respond == nil:
			rule.Action = policy.Close{Reset: true}
		case rc.Action == "redirectToHTTPS" && rc.Respond == nil:
			rule.Action = policy.RedirectToHTTPS{}
		default:
			b.fault(fmt.Errorf("want action allow, close, reset or redirectToHTTPS, or respond, not %q", rc.Action), "httpSecurity[%d]", i)
			continue
		}
		b.cfg.HTTPSecurity = append(b.cfg.HTTPSecurity, rule)
	}
	for i, rc := range b.HTTPRequest {
		rule := policy.RequestRule{Name: rc.Name, Disabled: rc.Disabled, DryRun: rc.DryRun, Log: rc.Log}
		rule.Match = b.match(rc.Match, fmt.Sprintf("httpRequest[%d].match", i))
		switch {
		case rc.Pool != "" && rc.Redirect == nil && rc.Respond == nil:
			rule.Action = policy.Modify{Pool: policy.SwitchPool{Name: rc.Pool}}
		case rc.Pool == "" && rc.Redirect != nil && rc.Respond == nil:
			to := policy.Redirect{Host: rc.Redirect.Host, Path: rc.Redirect.Path, Port: rc.Redirect.Port, Status: rc.Redirect.Status}
			to.Protocol = policy.HTTPS
			if rc.Redirect.Protocol == "http" {
				to.Protocol = policy.HTTP
			} else if rc.Redirect.Protocol != "https" {
				b.fault(fmt.Errorf("%q is neither http nor https", rc.Redirect.Protocol), "httpRequest[%d].redirect.protocol", i)
				continue
			}
			rule.Action = to
		case rc.Pool == "" && rc.Redirect == nil && rc.Respond != nil:
			rule.Action = rc.Respond.action()
		default:
			b.fault(errors.New("want one of pool, redirect and respond"), "httpRequest[%d]", i)
			continue
		}
		b.cfg.HTTPRequest = append(b.cfg.HTTPRequest, rule)
	}
}

func (r *respondConfig) action() policy.Respond {
	a := policy.Respond{Status: r.Status, ContentType: r.ContentType}
	if r.Body != "" {
		a.Body = []byte(r.Body)
	}
	return a
}

func (b *builder) match(mc matchConfig, path string) policy.Match {
	m := policy.Match{ClientIP: mc.ClientIP.match()}
	if mc.Method != nil {
		m.Method = &policy.MethodMatch{Methods: mc.Method}
	}
	if s := mc.Path; s != nil {
		m.Path = &policy.PathMatch{Op: b.stringOp(s, path+".path"), Values: s.Values, StringGroups: s.StringGroups, CaseSensitive: s.CaseSensitive}
	}
	if s := mc.Host; s != nil {
		m.Host = &policy.HostMatch{Op: b.stringOp(s, path+".host"), Values: s.Values, CaseSensitive: s.CaseSensitive}
		if s.StringGroups != nil {
			b.fault(errors.New("not possible for hosts"), "%s.host.stringGroups", path)
		}
	}
	return m
}

// stringOp finds an operator by its words.
func (b *builder) stringOp(s *stringMatch, path string) policy.StringOp {
	for op := policy.BeginsWith; op <= policy.DoesNotMatchRegexp; op++ {
		if op.String() == s.Op {
			return op
		}
	}
	b.fault(fmt.Errorf("%q is not an operator, such as %q", s.Op, policy.BeginsWith), "%s.op", path)
	return policy.BeginsWith
}

func (c *ipMatchConfig) match() *policy.IPMatch {
	if c == nil {
		return nil
	}
	m := &policy.IPMatch{Addrs: c.Addrs, Prefixes: c.Prefixes, Groups: c.Groups}
	if c.Not {
		m.Op = policy.IsNotIn
	}
	return m
}

func (b *builder) scripts() {
	for i, sc := range b.Scripts {
		script := limpet.Script{}
		switch sc.OnError {
		case "", "failClosed":
		case "failOpen":
			script.OnError = limpet.FailOpen
		default:
			b.fault(fmt.Errorf("%q is neither failClosed nor failOpen", sc.OnError), "scripts[%d].onError", i)
		}
		var err error
		if script.Script, err = loadScript(b.path(sc.File), sc.Name, sc.Event); err != nil {
			b.fault(err, "scripts[%d].file", i)
			continue
		}
		b.cfg.Scripts = append(b.cfg.Scripts, script)
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
			l, err = datascript.NewRateLimiter(datascript.RateLimit{Count: lc.Count, Period: time.Duration(lc.Period), Burst: lc.Burst, Keys: lc.Keys})
			if err != nil {
				b.fault(err, "rateLimiters[%d]", i)
				continue
			}
		}
		b.cfg.RateLimiters[lc.Name], b.now.limiters[lc] = l, l
	}
}

// profile makes a new profile only if the configuration of the old one has
// changed, since clients are bound to servers in it.
func (b *builder) profile() {
	if b.Persistence == nil {
		return
	}
	if b.old.persistence.config != nil && reflect.DeepEqual(b.old.persistence.config, b.Persistence) {
		b.now.persistence = b.old.persistence
	} else {
		b.now.persistence = keptProfile{b.Persistence, b.newProfile()}
	}
	b.cfg.Persistence = b.now.persistence.profile
}

func (b *builder) newProfile() limpet.PersistenceProfile {
	ip, cookie := b.Persistence.ClientIP, b.Persistence.AppCookie
	switch {
	case ip != nil && cookie == nil:
		p, err := persistence.NewClientIP(persistence.ClientIPConfig{
			Mask4: ip.Mask4, Mask6: ip.Mask6, Timeout: time.Duration(ip.Timeout), MaxEntries: ip.MaxEntries,
		})
		b.fault(err, "persistence.clientIP")
		return p
	case ip == nil && cookie != nil:
		p, err := persistence.NewAppCookie(persistence.AppCookieConfig{
			Name: cookie.Name, Timeout: time.Duration(cookie.Timeout), MaxEntries: cookie.MaxEntries,
		})
		b.fault(err, "persistence.appCookie")
		return p
	}
	b.fault(errors.New("want one of clientIP and appCookie"), "persistence")
	return nil
}

// listen is where to listen.
func (c *config) listen() string { return cmp.Or(c.Listen, ":8080") }
