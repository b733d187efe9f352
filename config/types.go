package config

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/datascript/jwtkeys"
	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/ipgroup"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
	"github.com/limpetlb/limpet/persistence/redisstore"
	"github.com/limpetlb/limpet/policy"
)

// A document is a configuration. decode.go says what the fields of all these
// structs are called and what stands beside them;
// docs/reference/configuration.md lists them. Files that it names are relative
// to the file that names them.
type document struct {
	// Include lists patterns of the names of further files.
	Include []string

	// Listen and TLS are the one listener of a file without Listeners.

	// Listen has the addresses of the only listener, such as :8080 or
	// unix:/run/limpet/web.sock. It is :8080 unless given.
	Listen addresses `implied:":8080"`
	// TLS has the certificates of the only listener. Without it, clients speak
	// plain HTTP.
	TLS *tlsConfig
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
	// ACME lists authorities that issue certificates by ACME, for listeners.
	ACME []acmeConfig

	// Logs is the log of the process. Unless given, its lines are those of the
	// program's own log.
	Logs *logsConfig
	// AccessLog is the log of requests, and of connections that are denied.
	// Unless given, these are lines of the log of the process.
	AccessLog *accessLogConfig
	// Tracing traces requests with OpenTelemetry. Without it, the headers of
	// traces pass.
	Tracing *tracingConfig
	service
}

// processConfig is about the process that serves.
type processConfig struct {
	// Drain says how the process ends.
	Drain drainConfig
	// StartWait is how long a start may wait until each server has been checked
	// once, before clients are accepted; 0 does not wait.
	StartWait *time.Duration `implied:"2s"`
	// MaxConnections is how many connections of clients may be open at all
	// listeners; further clients wait. 0 means half of the file descriptors
	// that are left by listeners and monitored servers.
	MaxConnections int `min:"0" max:"10_000_000"`
	// Watch loads the configuration anew when one of its files changes.
	Watch bool
	// UpgradeTimeout is how long the process may go on with requests under way
	// after another one has taken its place. 0 means 15 minutes.
	UpgradeTimeout time.Duration `default:"15m" min:"0s" max:"24h"`
}

// startWait is the default of processConfig.StartWait, maxStartWait its bound.
const (
	startWait    = 2 * time.Second
	maxStartWait = time.Minute
)

// drainConfig says how the process ends.
type drainConfig struct {
	// Delay is how long clients are asked to leave before listeners close, for
	// a balancer in front that needs time to notice.
	Delay time.Duration `min:"0s" max:"5m"`
	// Idle is how long a connection may be idle before it is closed, so that
	// its client can ask once more. 0 means 5 seconds.
	Idle time.Duration `default:"5s" min:"1ms" max:"24h"`
	// Timeout is how long requests have to end after that. 0 means 30 seconds.
	Timeout time.Duration `default:"30s" min:"0s" max:"24h"`
}

// sharedKeys are what stands at the top of a file with services.
var sharedKeys = []string{"pools", "poolGroups", "geo", "ipGroups", "stringGroups", "scripts", "rateLimiters", "persistenceProfiles", "keySets"}

// A listenerConfig says where clients connect, and which connections may.
type listenerConfig struct {
	// Name is the listener's, for services and the log.
	Name string
	// Address has the addresses at which it listens, such as :8080 or
	// unix:/run/limpet/web.sock.
	Address addresses
	// Mode is the mode of the files of its Unix sockets in octal digits, such
	// as "0660": clients need the permission to write. Empty leaves it to the
	// umask of the process.
	Mode string
	// TLS has the certificates of the listener. Without it, clients speak plain
	// HTTP.
	TLS *tlsConfig
	serverSettings
	connectionRules
}

// serverSettings are those of the servers of a listener.
type serverSettings struct {
	// H2c accepts HTTP/2 without TLS from clients that begin with it.
	H2c bool
	// Timeouts are how long the listener waits for clients.
	Timeouts serverTimeouts
	// MaxHeaderBytes is how long the header of a request may be. 0 means 64
	// KiB.
	MaxHeaderBytes int `unit:"bytes" default:"64KiB" min:"1KiB" max:"1MiB"`
	// MaxStreams is how many requests a client of HTTP/2 may have under way on
	// a connection. 0 means 250.
	MaxStreams int `default:"250" min:"1" max:"10_000"`
}

// serverTimeouts are those of connections. Those of bodies and responses are in
// [limpet.ConnectionLimits].
type serverTimeouts struct {
	// Header is how long a client may take for the handshake of TLS and the
	// header of a request. 0 means 10 seconds.
	Header time.Duration `default:"10s" min:"10ms" max:"1h"`
	// Idle is how long a connection may be idle between requests. 0 means 60
	// seconds.
	Idle time.Duration `default:"60s" min:"10ms" max:"24h"`
}

// connectionRules are the fields of a [limpet.Config] about connections.
type connectionRules struct {
	// NetworkSecurity decides about each connection when it is accepted.
	NetworkSecurity []policy.NetworkRule
	// PoliciesOnError says what becomes of connections about which a rule
	// cannot decide.
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
// at the top of the file, and are known by their names; see [item].
type serviceConfig struct {
	// Listeners are the names of those at which the service is served; all
	// unless given.
	Listeners []string
	// Hosts are the names that the service is served by, such as
	// shop.example.com or *.shop.example.com. Without them it has the requests
	// for all other names.
	Hosts []string
	// ClientCertificates says whether clients must have a certificate where a
	// listener does not ask all of them for one.
	ClientCertificates certificateNeed
	limpet.Config
	// Pools are the names of pools at the top of the file, or private ones.
	Pools []item[poolConfig]
	// PoolGroups are the names of pool groups at the top of the file, or
	// private ones.
	PoolGroups []item[poolGroupConfig]
	// Geo is in place of that at the top of the file.
	Geo []geoLayer
	// IPGroups are the names of IP groups at the top of the file, or private
	// ones.
	IPGroups []item[ipGroupConfig]
	// StringGroups are the names of string groups at the top of the file, or
	// private ones.
	StringGroups []item[stringGroupConfig]
	// Scripts are the names of scripts at the top of the file, or private ones.
	Scripts []item[scriptConfig]
	// RateLimiters are the names of rate limiters at the top of the file, or
	// private ones.
	RateLimiters []item[rateLimiterConfig]
	RateProfile  *rateProfileConfig
	Tables       tablesConfig
	// Persistence is the profile of pools and pool groups that name none.
	Persistence profileChoice
	// PersistenceProfiles are those that pools and groups of the service name.
	PersistenceProfiles []item[namedProfile]
	// KeySets are the names of key sets at the top of the file, or private
	// ones.
	KeySets []item[keySetConfig]
	// Authentication says how clients prove who they are.
	Authentication authentication
	Transport      *transportConfig
	// AccessLog is the log of the service's requests, that at the top of the
	// file unless given.
	AccessLog *accessLogConfig

	// These stand in listeners; see programOnly.
	ProxyProtocol, Connections struct{}
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
	Persistence profileChoice
	// PersistenceProfiles are those that pools and groups name.
	PersistenceProfiles []namedProfile
	// KeySets are keys that verify tokens, by the names that scripts and bearer
	// authenticators give.
	KeySets []keySetConfig
	// Authentication says how clients prove who they are.
	Authentication authentication
	Transport      *transportConfig
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
		owner := ownerOf(t, f)
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

// deprecated are the keys that are still read, by the struct that has what
// takes their place.
var deprecated = map[reflect.Type]map[string]deprecation{}

// A reload says what a reload does with the change of a key: "live" if the
// change is in force and loses nothing, "fresh" if it is in force and something
// begins anew, "restart" if it waits for a restart. After a colon it has the
// reason.
type reload string

// is reports whether a reload has this effect.
func (r reload) is(effect string) bool { return strings.HasPrefix(string(r), effect) }

const (
	reloadLive     = "live"
	reloadFresh    = "fresh"
	reloadRestart  = "restart"
	newBudget      = reloadFresh + ": the limiter begins with its burst"
	otherTables    = reloadFresh + ": the tables are those that are there"
	onlyStartWaits = reloadRestart + ": only a start waits"
	onceAtListen   = reloadRestart + ": the limit is set when the listeners open"
)

// onReload says what a reload does with the fields that are not live.
var onReload = map[reflect.Type]map[string]reload{
	reflect.TypeFor[processConfig]():        {"StartWait": onlyStartWaits, "MaxConnections": onceAtListen},
	reflect.TypeFor[datascript.RateLimit](): {"Count": newBudget, "Period": newBudget, "Burst": newBudget, "Keys": newBudget},
	reflect.TypeFor[redisstore.Config]():    {"Addresses": otherTables, "Database": otherTables, "Prefix": otherTables},
	reflect.TypeFor[tableOptions]():         {"Redis": otherTables},
	reflect.TypeFor[tablesConfig]():         {"Store": otherTables},
}

// waits reports whether some fields of a type need a restart.
func waits(t reflect.Type) bool {
	for _, r := range onReload[t] {
		if r.is(reloadRestart) {
			return true
		}
	}
	return false
}

// reloadOf is what a reload does with a field of a struct, or of one embedded
// in it.
func reloadOf(t reflect.Type, f reflect.StructField) reload {
	return cmp.Or(onReload[ownerOf(t, f)][f.Name], reloadLive)
}

// ownerOf is the struct that declares a field of t: t, or one embedded in it.
func ownerOf(t reflect.Type, f reflect.StructField) reflect.Type {
	if n := len(f.Index); n > 1 {
		return t.FieldByIndex(f.Index[:n-1]).Type
	}
	return t
}

// noZero are the fields whose zero value has a meaning in Go that a written 0
// would not have for most readers, with what to write for the other meaning.
var noZero = map[reflect.Type]map[string]string{
	reflect.TypeFor[lbpool.ServerConfig](): {"Ratio": "write disabled: true for a server that gets no requests"},
}

// firstVersion is that since which there are the keys that have no tag "since".
const firstVersion = "0.1.0"

// programOnly are the fields that a file cannot have: functions, and objects
// of types that a program can choose freely.
var programOnly = map[reflect.Type][]string{
	reflect.TypeFor[limpet.Config]():               {"Reputations", "HealthScore", "OnComplete", "Logger", "PoolPersistence", "Overrides", "Tracer"},
	reflect.TypeFor[limpet.Clients]():              {"Authenticator"},
	reflect.TypeFor[limpet.ConnectionLimits]():     {"DrainIdle"}, // process.drain.idle takes its place
	reflect.TypeFor[limpet.Scripting]():            {"Tokens"},
	reflect.TypeFor[lbpool.Config]():               {"Logger", "OnEvent"},
	reflect.TypeFor[lbpool.DrainPolicy]():          {"Bound"},
	reflect.TypeFor[lbpool.DNSFinder]():            {"Resolver"},
	reflect.TypeFor[foundServer]():                 {"Address", "Name"}, // each server has its own
	reflect.TypeFor[limpet.BasicConfig]():          {"OnReload"},
	reflect.TypeFor[limpet.BearerConfig]():         {"Tokens"},            // those of the configuration
	reflect.TypeFor[jwtkeys.KeySet]():              {"Transport"},         // to the pool
	reflect.TypeFor[limpet.IPGroupFinder]():        {"Groups"},            // those of the configuration
	reflect.TypeFor[ipgroup.Options]():             {"Countries", "ASNs"}, // from the geo data
	reflect.TypeFor[policy.StringGroupConfig]():    {"Entries"},           // list, map and file take its place
	reflect.TypeFor[persistence.Options]():         {"Owner"},
	reflect.TypeFor[redisstore.Config]():           {"Options", "Logger"}, // beside it
	reflect.TypeFor[persistence.ClientIPConfig]():  {"Sessions", "Table"},
	reflect.TypeFor[persistence.AppCookieConfig](): {"Sessions", "Table"},
	reflect.TypeFor[serviceConfig]():               {"ProxyProtocol", "Connections"}, // in listeners
}

// tlsClient says how to speak TLS to servers.
type tlsClient struct {
	// CA is a file in PEM with the certificates of authorities; those of the
	// system unless given.
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
	Algorithm      algorithm `implied:"leastConnections"`
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
	// Persistence is the name of a persistence profile, or none; that of the
	// members unless given.
	Persistence string
}

type memberConfig struct {
	lbpool.Member
	// Pool is the name of one.
	Pool string
	// Ratio is the member's share of the requests, in proportion to the others'
	// of its priority; 0 for no new clients.
	Ratio *int `implied:"1"`
}

// An algorithm makes an [lbpool.Algorithm], which belongs to one pool.
type algorithm interface{ algorithm() lbpool.Algorithm }

type (
	// leastConnections is the server with the fewest requests in proportion to
	// its ratio.
	leastConnections struct{}
	// roundRobin is one server after the other, in proportion to their ratios.
	roundRobin struct{}
	// randomTwo is the less busy one of two random servers.
	randomTwo struct{}
	// leastLoad is the server with the least outstanding work in proportion to
	// its ratio.
	leastLoad struct{}
	// fastestResponse is the server with the shortest expected time to the
	// first byte.
	fastestResponse struct{}
	// fewestServers is the first server that is not saturated.
	fewestServers struct {
		// Threshold is the time to first byte above which a server with as many
		// requests as its ratio is saturated, so that the next one is used as
		// well. 0 means twice the server's best.
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
		Method: c.Method, Path: c.Path, Host: c.Host, Header: c.Header, Accept: c.Accept, Keyword: c.Keyword,
		Maintenance: c.Maintenance, MaintenanceKeyword: c.MaintenanceKeyword,
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

type dns struct {
	lbpool.DNSFinder
	// Server has the settings of the servers. An empty hostname means the name
	// that is looked up; with srv, the target.
	Server foundServer
}

func (f *dns) finder(*builder) lbpool.Finder {
	made := f.DNSFinder
	made.Server = f.Server.ServerConfig
	made.Network = strings.ToLower(made.Network)
	return &made
}

type ipGroup struct {
	limpet.IPGroupFinder
	// Server has the settings of the servers.
	Server foundServer
}

// foundServer has what servers that a finder finds have in common.
type foundServer struct {
	lbpool.ServerConfig

	// The finder gives these; see programOnly.
	Address, Name struct{}
}

func (f *ipGroup) finder(b *builder) lbpool.Finder {
	made := f.IPGroupFinder
	made.Server = f.Server.ServerConfig
	made.Groups = b.cfg.IPGroups
	return &made
}

// A geoLayer is a source of geo data: one of Database and Table.
type geoLayer struct {
	// Database is a file in the format of MaxMind.
	Database string
	// Attributes are those that the database must have; the country unless
	// given.
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
	// Strict refuses a file with lines that make no sense; otherwise they are
	// left out.
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
	// External are names of pools, groups, rate limiters and key sets that the
	// script has and the service need not have: of objects that a program adds.
	External []string
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
