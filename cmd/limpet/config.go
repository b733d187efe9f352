package main

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"reflect"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/ipgroup"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
	"github.com/limpetlb/limpet/policy"
)

// A config is a configuration file: [limpet.Config] in YAML, and where to
// listen. decode.go says what the fields of all these structs are called and
// what stands beside them; docs/reference/configuration.md lists them. Files that it names are
// relative to its directory.
type config struct {
	from *decoder // for the places of faults

	Listen string
	TLS    *tlsFiles

	limpet.Config
	Pools        []poolConfig
	PoolGroups   []poolGroupConfig
	Geo          []geoLayer
	IPGroups     []ipGroupConfig
	StringGroups []stringGroupConfig
	Scripts      []scriptConfig
	RateLimiters []rateLimiterConfig
	RateProfile  *rateProfileConfig
	Tables       persistence.Options
	Persistence  sessionProfile // of pools and groups that name none
	// PersistenceProfiles are those that pools and groups name.
	PersistenceProfiles []namedProfile
	Transport           *transportConfig
}

// programOnly are the fields that a file cannot have: functions, and objects
// of types that a program can choose freely.
var programOnly = map[reflect.Type][]string{
	reflect.TypeFor[limpet.Config]():               {"Reputations", "HealthScore", "OnComplete", "Logger", "PoolPersistence"},
	reflect.TypeFor[limpet.Clients]():              {"Authenticator"},
	reflect.TypeFor[lbpool.Config]():               {"Logger", "OnEvent"},
	reflect.TypeFor[lbpool.DrainPolicy]():          {"Bound"},
	reflect.TypeFor[lbpool.DNSFinder]():            {"Resolver"},
	reflect.TypeFor[limpet.IPGroupFinder]():        {"Groups"},            // those of the configuration
	reflect.TypeFor[ipgroup.Options]():             {"Countries", "ASNs"}, // from the geo data
	reflect.TypeFor[policy.StringGroupConfig]():    {"Entries"},           // list, map and file take its place
	reflect.TypeFor[persistence.Options]():         {"Owner"},
	reflect.TypeFor[persistence.ClientIPConfig]():  {"Sessions", "Table"},
	reflect.TypeFor[persistence.AppCookieConfig](): {"Sessions", "Table"},
}

// tlsFiles is a certificate and its key, in PEM.
type tlsFiles struct{ Certificate, Key string }

// tlsClient says how to speak TLS to servers.
type tlsClient struct {
	CA                 string // a file in PEM; empty means the system's
	ServerName         string // instead of what the server is called
	InsecureSkipVerify bool
	tlsFiles           // of the client; none unless given
}

type transportConfig struct{ TLS tlsClient }

type poolConfig struct {
	lbpool.Config
	Algorithm      algorithm
	HealthMonitors []monitorConfig
	Discoveries    []discoveryConfig
	FailAction     failActionConfig
	Persistence    string // the name of a profile, or noProfile; empty means the default
}

type failActionConfig struct {
	lbpool.FailAction
	Backup string
}

type poolGroupConfig struct {
	lbpool.GroupConfig
	Members     []memberConfig
	FailAction  failActionConfig
	Persistence string // as of a pool; empty means that of the members
}

type memberConfig struct {
	lbpool.Member
	Pool  string
	Ratio *int // 1 unless given
}

// An algorithm makes an [lbpool.Algorithm], which belongs to one pool.
type algorithm interface{ algorithm() lbpool.Algorithm }

type (
	leastConnections struct{}
	roundRobin       struct{}
	randomTwo        struct{}
	leastLoad        struct{}
	fastestResponse  struct{}
	fewestServers    struct{ Threshold time.Duration }
	consistentHash   struct{ lbpool.ConsistentHashConfig }
)

func (leastConnections) algorithm() lbpool.Algorithm { return lbpool.LeastConnections() }
func (roundRobin) algorithm() lbpool.Algorithm       { return lbpool.RoundRobin() }
func (randomTwo) algorithm() lbpool.Algorithm        { return lbpool.RandomTwo() }
func (leastLoad) algorithm() lbpool.Algorithm        { return lbpool.LeastLoad() }
func (fastestResponse) algorithm() lbpool.Algorithm  { return lbpool.FastestResponse() }
func (a fewestServers) algorithm() lbpool.Algorithm  { return lbpool.FewestServers(a.Threshold) }
func (a consistentHash) algorithm() lbpool.Algorithm {
	return lbpool.ConsistentHash(a.ConsistentHashConfig)
}

type monitorConfig struct {
	lbpool.HealthMonitor
	Checker checker
}

// A checker makes an [lbpool.Checker].
type checker interface {
	checker(b *builder, path string) lbpool.Checker
}

type httpChecker struct {
	lbpool.HTTPChecker
	TLS *tlsClient
}

func (c *httpChecker) checker(b *builder, path string) lbpool.Checker {
	made := &lbpool.HTTPChecker{
		Method: c.Method, Path: c.Path, Host: c.Host, Header: http.Header{}, Accept: c.Accept, Keyword: c.Keyword,
		Maintenance: c.Maintenance, MaintenanceKeyword: c.MaintenanceKeyword,
	}
	for name, values := range c.Header {
		made.Header[http.CanonicalHeaderKey(name)] = values
	}
	if c.TLS != nil {
		made.TLS = b.tlsClient(*c.TLS, path+".tls")
	}
	return made
}

type tcpChecker struct{ lbpool.TCPChecker }

func (c *tcpChecker) checker(*builder, string) lbpool.Checker { return &c.TCPChecker }

type discoveryConfig struct {
	lbpool.Discovery
	Finder finder
}

// A finder makes an [lbpool.Finder].
type finder interface{ finder(*builder) lbpool.Finder }

type dns struct{ lbpool.DNSFinder }

func (f *dns) finder(*builder) lbpool.Finder { return &f.DNSFinder }

type ipGroup struct{ limpet.IPGroupFinder }

func (f *ipGroup) finder(b *builder) lbpool.Finder {
	made := f.IPGroupFinder
	made.Groups = b.cfg.IPGroups
	return &made
}

// A geoLayer is a source of geo data: one of Database and Table.
type geoLayer struct {
	Database   string   // a file in the format of MaxMind
	Attributes []string // that the database must have
	Table      string   // a file for geoip.OpenTable
	Index      int
	Disabled   bool
}

// An ipGroupConfig has one of Entries and File.
type ipGroupConfig struct {
	Name string
	ipgroup.Options
	Entries []string
	File    string
}

// A stringGroupConfig has one of List, Map and File.
type stringGroupConfig struct {
	policy.StringGroupConfig
	List       []string
	Map        pairs
	File       string // comma-separated values, of the Kind
	Strict     bool   // as in policy.StringGroupFile, and so is AllowEmpty
	AllowEmpty bool
}

type scriptConfig struct {
	Name    string
	File    string
	Event   datascript.Event
	OnError limpet.OnError
}

type rateLimiterConfig struct {
	Name string
	datascript.RateLimit
}

type rateProfileConfig struct {
	datascript.RateProfile
	Limiter string // one of the rate limiters
}

// A sessionProfile makes a [limpet.PersistenceProfile].
type sessionProfile interface {
	profile() (limpet.PersistenceProfile, error)
}

type (
	clientIP   struct{ persistence.ClientIPConfig }
	appCookie  struct{ persistence.AppCookieConfig }
	httpCookie struct {
		persistence.HTTPCookieConfig
		Keys []cookieKey
	}
	customHeader struct{ persistence.CustomHeaderConfig }
)

// A namedProfile is one of its kinds.
type namedProfile struct {
	Name         string
	ClientIP     *clientIP
	AppCookie    *appCookie
	HTTPCookie   *httpCookie
	CustomHeader *customHeader
}

// noProfile is the name of a pool's profile that binds nobody.
const noProfile = "none"

// profile makes the profile of the one kind that is given, and returns the
// name of that as well.
func (p namedProfile) profile() (made limpet.PersistenceProfile, kind string, err error) {
	var kinds []sessionProfile
	add := func(given bool, name string, p sessionProfile) {
		if given {
			kinds, kind = append(kinds, p), name
		}
	}
	add(p.ClientIP != nil, "clientIP", p.ClientIP)
	add(p.AppCookie != nil, "appCookie", p.AppCookie)
	add(p.HTTPCookie != nil, "httpCookie", p.HTTPCookie)
	add(p.CustomHeader != nil, "customHeader", p.CustomHeader)
	if len(kinds) != 1 {
		return nil, "", fmt.Errorf("profile %q: want one of clientIP, appCookie, httpCookie and customHeader", p.Name)
	}
	made, err = kinds[0].profile()
	return made, kind, err
}

type cookieKey struct {
	ID     string
	Secret secret
}

// A secret is written in base64.
type secret []byte

// UnmarshalText decodes base64; no error shows the text.
func (s *secret) UnmarshalText(text []byte) (err error) {
	*s, err = base64.StdEncoding.AppendDecode(nil, text)
	return err
}

func (p clientIP) profile() (limpet.PersistenceProfile, error) {
	return persistence.NewClientIP(p.ClientIPConfig)
}

func (p appCookie) profile() (limpet.PersistenceProfile, error) {
	return persistence.NewAppCookie(p.AppCookieConfig)
}

func (p httpCookie) profile() (limpet.PersistenceProfile, error) {
	cfg := p.HTTPCookieConfig
	for _, k := range p.Keys {
		cfg.Keys = append(cfg.Keys, persistence.CookieKey{ID: k.ID, Secret: k.Secret})
	}
	return persistence.NewHTTPCookie(cfg)
}

func (p customHeader) profile() (limpet.PersistenceProfile, error) {
	return persistence.NewCustomHeader(p.CustomHeaderConfig)
}

// maxConfigFile bounds a configuration file.
const maxConfigFile = 8 << 20

// readConfig reads a configuration file. Errors name the line and the field.
// Faults that leave the rest of the file to be judged are no error yet: build
// reports them with its own.
func readConfig(file string) (*config, error) {
	data, err := readFile(file, maxConfigFile)
	if err != nil {
		return nil, err
	}
	c := &config{}
	c.from, err = decode(file, data, c)
	if c.from.lost {
		return nil, err
	}
	return c, nil
}
