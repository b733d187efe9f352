package config

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/ipgroup"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
	"github.com/limpetlb/limpet/persistence/redisstore"
	"github.com/limpetlb/limpet/policy"
)

// A document is a configuration. decode.go says what the fields of all these
// structs are called and what stands beside them; docs/reference/configuration.md
// lists them. Files that it names are relative to the file that names them.
type document struct {
	// Include lists patterns of the names of further files.
	Include []string

	// Listen and TLS are the one listener of a file without Listeners.

	// Listen is the address of the only listener, as host:port. It is :8080 unless
	// given.
	Listen string
	// TLS has the certificates of the only listener. Without it, clients speak
	// plain HTTP.
	TLS *certificates
	// Listeners are where clients connect.
	Listeners []listenerConfig

	// Without Services, service is the only one; with them, it has what they
	// share: see sharedKeys.

	// Services are several virtual services in one process.
	Services []serviceConfig
	// Stores are tables that services share.
	Stores []storeConfig
	// Process is about the process that serves.
	Process processConfig
	service
}

// processConfig is about the process that serves.
type processConfig struct {
	// Drain says how the process ends.
	Drain drainConfig
}

// drainConfig says how the process ends.
type drainConfig struct {
	// Delay is how long clients are asked to leave before listeners close, for a
	// balancer in front that needs time to notice.
	Delay time.Duration `min:"0s" max:"5m"`
	// Timeout is how long requests have to end after that. 0 means 30 seconds.
	Timeout time.Duration `default:"30s" min:"0s" max:"24h"`
}

// sharedKeys are what stands at the top of a file with services.
var sharedKeys = []string{"pools", "poolGroups", "geo", "ipGroups", "stringGroups", "scripts", "rateLimiters", "persistenceProfiles"}

// A listenerConfig says where clients connect, and which connections may.
type listenerConfig struct {
	// Name is the listener's, for services and the log.
	Name string
	// Address is where it listens, as host:port.
	Address string
	// TLS has the certificates of the listener. Without it, clients speak plain HTTP.
	TLS *certificates
	connectionRules
}

// connectionRules are the fields of a [limpet.Config] about connections.
type connectionRules struct {
	// NetworkSecurity decides about each connection when it is accepted.
	NetworkSecurity []policy.NetworkRule
	// PoliciesOnError says what becomes of connections about which a rule cannot decide.
	PoliciesOnError limpet.OnError
	// ProxyProtocol says which peers begin connections with a PROXY header.
	ProxyProtocol limpet.ProxyProtocol
	// Connections bounds the connections of the listener.
	Connections limpet.ConnectionLimits
}

// A storeConfig is tables that services share.
type storeConfig struct {
	// Name is the store's, for the tables of services.
	Name string
	tableOptions
}

// A serviceConfig is one of several services. The objects that they share stand
// at the top of the file, and are known by their names.
type serviceConfig struct {
	// Listeners are the names of those at which the service is served; all unless
	// given.
	Listeners []string
	// Hosts are the names that the service is served by, such as shop.example.com or
	// *.shop.example.com. Without them it has the requests for all other names.
	Hosts []string
	limpet.Config
	// Pools are the names of pools at the top of the file.
	Pools []string
	// PoolGroups are the names of pool groups at the top of the file.
	PoolGroups []string
	// Scripts are the names of scripts at the top of the file.
	Scripts     []string
	RateProfile *rateProfileConfig
	Tables      tablesConfig
	// Persistence is the profile of pools and pool groups that name none.
	Persistence sessionProfile
	Transport   *transportConfig

	// These stand elsewhere; see programOnly.
	Geo, IPGroups, StringGroups, RateLimiters, ProxyProtocol, Connections struct{}
}

// tablesConfig are tables of a service: those of a store, or its own.
type tablesConfig struct {
	// Store is the name of one of the stores, which has the tables.
	Store string
	tableOptions
}

// A service is [limpet.Config] in YAML.
type service struct {
	limpet.Config
	Pools        []poolConfig
	PoolGroups   []poolGroupConfig
	Geo          []geoLayer
	IPGroups     []ipGroupConfig
	StringGroups []stringGroupConfig
	Scripts      []scriptConfig
	RateLimiters []rateLimiterConfig
	RateProfile  *rateProfileConfig
	Tables       tablesConfig
	// Persistence is the profile of pools and pool groups that name none.
	Persistence sessionProfile
	// PersistenceProfiles are those that pools and groups name.
	PersistenceProfiles []namedProfile
	Transport           *transportConfig
}

// fields are the fields of a struct that a file may have.
type fields struct {
	list []reflect.StructField
	by   map[string]reflect.StructField // by their names in a file
}

// names are what a file may have in a struct.
func (f *fields) names() []string { return slices.Collect(maps.Keys(f.by)) }

var fieldsByType sync.Map

// fieldsOf returns the fields of a struct that a file may have.
func fieldsOf(t reflect.Type) *fields {
	if all, ok := fieldsByType.Load(t); ok {
		return all.(*fields)
	}
	all := &fields{by: map[string]reflect.StructField{}}
	for _, f := range reflect.VisibleFields(t) {
		owner := t
		if n := len(f.Index); n > 1 {
			owner = t.FieldByIndex(f.Index[:n-1]).Type
		}
		if g, ok := t.FieldByName(f.Name); !ok || !slices.Equal(g.Index, f.Index) {
			continue // another field has precedence
		}
		if f.IsExported() && !f.Anonymous && !slices.Contains(programOnly[owner], f.Name) {
			all.list = append(all.list, f)
			all.by[fielderr.Name(f.Name)] = f
		}
	}
	fieldsByType.Store(t, all)
	return all
}

// A deprecation says what takes the place of a key, and from which version to
// which the key is still read, with a warning.
type deprecation struct{ key, since, ends string }

// deprecated are the keys that are still read, by the struct that has what takes
// their place.
var deprecated = map[reflect.Type]map[string]deprecation{}

// programOnly are the fields that a file cannot have: functions, and objects
// of types that a program can choose freely.
var programOnly = map[reflect.Type][]string{
	reflect.TypeFor[limpet.Config]():               {"Reputations", "HealthScore", "OnComplete", "Logger", "PoolPersistence"},
	reflect.TypeFor[limpet.Clients]():              {"Authenticator"},
	reflect.TypeFor[limpet.Scripting]():            {"Tokens"},
	reflect.TypeFor[lbpool.Config]():               {"Logger", "OnEvent"},
	reflect.TypeFor[lbpool.DrainPolicy]():          {"Bound"},
	reflect.TypeFor[lbpool.DNSFinder]():            {"Resolver"},
	reflect.TypeFor[limpet.IPGroupFinder]():        {"Groups"},            // those of the configuration
	reflect.TypeFor[ipgroup.Options]():             {"Countries", "ASNs"}, // from the geo data
	reflect.TypeFor[policy.StringGroupConfig]():    {"Entries"},           // list, map and file take its place
	reflect.TypeFor[persistence.Options]():         {"Owner"},
	reflect.TypeFor[redisstore.Config]():           {"Options", "Logger"}, // beside it
	reflect.TypeFor[persistence.ClientIPConfig]():  {"Sessions", "Table"},
	reflect.TypeFor[persistence.AppCookieConfig](): {"Sessions", "Table"},
	// At the top of the file, and in listeners.
	reflect.TypeFor[serviceConfig](): {"Geo", "IPGroups", "StringGroups", "RateLimiters", "ProxyProtocol", "Connections"},
}

// certificates are those of a listener: one, or several, of which clients get
// the first that fits the name they ask for.
type certificates struct {
	tlsFiles
	// Certificates are several: a client gets the first that fits the name it asks
	// for, else the first.
	Certificates []tlsFiles
}

// all returns the certificates with their paths below that of c.
func (c *certificates) all(path string) (files []tlsFiles, paths []string) {
	if len(c.Certificates) == 0 || c.tlsFiles != (tlsFiles{}) {
		files, paths = append(files, c.tlsFiles), append(paths, path)
	}
	for i, f := range c.Certificates {
		files, paths = append(files, f), append(paths, fmt.Sprintf("%s.certificates[%d]", path, i))
	}
	return files, paths
}

// tlsFiles is a certificate and its key, in PEM.
type tlsFiles struct {
	// Certificate is a file in PEM, with the certificates between it and that of the
	// authority.
	Certificate string
	// Key is a file in PEM with the private key.
	Key string
}

// tlsClient says how to speak TLS to servers.
type tlsClient struct {
	// CA is a file in PEM with the certificates of authorities; those of the system
	// unless given.
	CA string
	// ServerName takes the place of what the server is called.
	ServerName string
	// InsecureSkipVerify accepts any certificate of a server.
	InsecureSkipVerify bool
	tlsFiles           // of the client; none unless given
}

type transportConfig struct {
	// TLS says how to speak TLS to servers of pools whose scheme is https.
	TLS tlsClient
}

type poolConfig struct {
	lbpool.Config
	Servers []serverConfig
	resolving
	Algorithm      algorithm
	HealthMonitors []monitorConfig
	Discoveries    []discoveryConfig
	FailAction     failActionConfig
	// Persistence is the name of a persistence profile, or none; the service's
	// unless given.
	Persistence string
}

type failActionConfig struct {
	lbpool.FailAction
	// Backup is the name of the pool for the kind backup.
	Backup string
}

type poolGroupConfig struct {
	lbpool.GroupConfig
	Members    []memberConfig
	FailAction failActionConfig
	// Persistence is the name of a persistence profile, or none; that of the members
	// unless given.
	Persistence string
}

type memberConfig struct {
	lbpool.Member
	// Pool is the name of one.
	Pool string
	// Ratio is the member's share of the requests, in proportion to the others' of its
	// priority; 1 unless given.
	Ratio *int
}

// An algorithm makes an [lbpool.Algorithm], which belongs to one pool.
type algorithm interface{ algorithm() lbpool.Algorithm }

type (
	// leastConnections is the server with the fewest requests in proportion to its
	// ratio.
	leastConnections struct{}
	// roundRobin is one server after the other, in proportion to their ratios.
	roundRobin struct{}
	// randomTwo is the less busy one of two random servers.
	randomTwo struct{}
	// leastLoad is the server with the least outstanding work in proportion to its
	// ratio.
	leastLoad struct{}
	// fastestResponse is the server with the shortest expected time to the first byte.
	fastestResponse struct{}
	// fewestServers is the first server that is not saturated.
	fewestServers struct {
		// Threshold is the time to first byte above which a server with as many requests
		// as its ratio is saturated, so that the next one is used as well. 0 means twice
		// the server's best.
		Threshold time.Duration
	}
	consistentHash struct{ lbpool.ConsistentHashConfig }
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

func (c *tcpChecker) checker(*builder, string) lbpool.Checker {
	made := c.TCPChecker
	return &made
}

type discoveryConfig struct {
	lbpool.Discovery
	Finder finder
}

// A finder makes an [lbpool.Finder].
type finder interface{ finder(*builder) lbpool.Finder }

type dns struct{ lbpool.DNSFinder }

func (f *dns) finder(*builder) lbpool.Finder {
	made := f.DNSFinder
	return &made
}

type ipGroup struct{ limpet.IPGroupFinder }

func (f *ipGroup) finder(b *builder) lbpool.Finder {
	made := f.IPGroupFinder
	made.Groups = b.cfg.IPGroups
	return &made
}

// A geoLayer is a source of geo data: one of Database and Table.
type geoLayer struct {
	// Database is a file in the format of MaxMind.
	Database string
	// Attributes are those that the database must have; the country unless given.
	Attributes []string
	// Table is a file with a network and what is known of it in each line.
	Table string
	// Index orders the layers: the one with the highest is asked first.
	Index int
	// Disabled leaves the layer out.
	Disabled bool
}

// An ipGroupConfig has one of Entries and File.
type ipGroupConfig struct {
	// Name is the group's, for rules and scripts.
	Name string
	ipgroup.Options
	// Entries are addresses, ranges, networks and codes of countries.
	Entries []string
	// File has the entries, separated by commas or line feeds.
	File string
}

// A stringGroupConfig has one of List, Map and File.
type stringGroupConfig struct {
	policy.StringGroupConfig
	// List is the texts of a list.
	List []string
	// Map is the texts of a map, with their values.
	Map pairs
	// File has comma-separated values, of the kind.
	File string
	// Strict refuses a file with lines that make no sense; otherwise they are left
	// out.
	Strict bool
	// AllowEmpty accepts a file without entries.
	AllowEmpty bool
}

type scriptConfig struct {
	// Name is the script's; that of the file without .lua unless given.
	Name string
	// File has the source, with event headings.
	File string
	// Event is that of a file without headings.
	Event datascript.Event
	// OnError says what becomes of requests whose script fails.
	OnError limpet.OnError
}

type rateLimiterConfig struct {
	// Name is the limiter's, for scripts and the rate profile.
	Name string
	datascript.RateLimit
}

type rateProfileConfig struct {
	datascript.RateProfile
	// Limiter is the name of one of the rate limiters.
	Limiter string
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
	// Name is the profile's, for pools and pool groups.
	Name string
	// ClientIP binds clients by their addresses.
	ClientIP *clientIP
	// AppCookie binds clients by a cookie of the servers.
	AppCookie *appCookie
	// HTTPCookie binds clients by a cookie that limpet sets.
	HTTPCookie *httpCookie
	// CustomHeader binds clients by a header.
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
	// ID is the key's, and stands in cookies.
	ID string
	// Secret is 32 random bytes.
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
