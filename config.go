package limpet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/accept"
	"github.com/limpetlb/limpet/internal/accesslog"
	"github.com/limpetlb/limpet/internal/bodyrule"
	"github.com/limpetlb/limpet/internal/bounds"
	"github.com/limpetlb/limpet/internal/clientaddr"
	"github.com/limpetlb/limpet/internal/enumtext"
	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/internal/httpfield"
	"github.com/limpetlb/limpet/ipgroup"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/policy"
)

// A FieldError is one fault of a [Config]: the Path of a field, as in
// "httpRequest[3].match.path.values[0]", its Value, which is nil if it may be
// secret, and Err, the fault. [New] and [VirtualService.Update] join one for
// each fault. All packages of the module have the same type.
type FieldError = fielderr.Error

// Config describes a virtual service. The zero value is valid: it forwards
// nothing, denies nothing and runs no script. [New] and
// [VirtualService.Update] copy the slices and keep the objects in them.
type Config struct {
	// Name is the virtual service's name in logs and for avi.vs.name. Empty
	// means "limpet".
	Name string

	// Pools are the pools that requests can go to. Their names must be
	// distinct. There may be none.
	Pools []*lbpool.Pool
	// DefaultPool names the pool of requests for which neither a rule nor a
	// script chooses another. Empty means the first of Pools.
	DefaultPool string
	// PoolGroups are groups of pools. Rules and scripts name them like pools.
	// Their pools must be in Pools.
	PoolGroups []*lbpool.Group

	// Overrides are what operators say about servers, in place of what the
	// pools are configured to say. [New] and [VirtualService.Update] apply them
	// before any request can use the new configuration.
	Overrides []Override

	// IPGroups are the groups that rules and scripts name. Nil means none.
	IPGroups *ipgroup.Set
	// StringGroups are the string groups that rules and scripts name. Nil
	// means none.
	StringGroups *policy.StringGroups
	// Geo locates addresses, for rules and for avi.utils.get_geo_from_ip. Nil
	// knows no address.
	Geo policy.Geo
	// Reputations serve avi.utils.get_ip_reputation and, if they also implement
	// [policy.Reputations], rules. With nil, a rule with a reputation is
	// refused, and a script that asks for one fails.
	Reputations datascript.Reputations

	// Scripts run in this order, for each event.
	Scripts []Script

	// Tables are the persistence tables behind avi.vs.table_*. Nil means a
	// [persistence.Store] with default options, which lives as long as the
	// virtual service.
	Tables Tables
	// BoundTables are the tables whose values name servers, such as an entry
	// whose value is "10.0.0.1:8080". A drain that waits for bound clients
	// counts the entries there; "" is the default table. Nil means the default
	// table if there are scripts, else none.
	BoundTables []string
	// Persistence binds clients to servers without a script, in each pool and
	// each group that PoolPersistence does not name. It applies if neither a
	// rule nor a script has chosen a server. Nil means no such binding.
	Persistence PersistenceProfile
	// PoolPersistence are the profiles of pools and groups, by name;
	// [NoPersistence] binds nobody. A group that is not named has the profile
	// that its pools have in common. A client has a separate binding in each
	// pool and each group, even if they have the same profile.
	PoolPersistence map[string]PersistenceProfile

	// PersistenceHeader names a header that limpet adds to each response. Its
	// value is the outcome of the client's binding to a server, as far as it is
	// known by then: the text of [Record].Outcome. A response does not get
	// the header if nothing has asked for a binding. Empty means no such
	// header.
	PersistenceHeader string

	// Forwarding chooses the headers that inform servers about clients. The
	// zero value sends all that is known, and nothing that only a client says.
	Forwarding Forwarding

	// Transport sends requests to servers. Nil means one from
	// [lbpool.NewHTTP1], which lives as long as the virtual service. For other
	// settings, such as TLS to servers, change the result of [lbpool.NewBase]
	// and give it to NewHTTP1. A transport of another kind gets the requests to
	// pools of every [lbpool.Protocol]: it can pass them on, with their
	// context, to one from NewHTTP1, which knows the pool's.
	Transport http.RoundTripper

	// Logger gets one record for each request: at level Info, at level Warn if
	// it is significant (see [Record]), and at level Error if a script failed.
	// Its handler runs within the request. If it waits for a disk or a pipe,
	// let it write to a [LogQueue], or it delays requests. Nil discards all
	// records.
	Logger *slog.Logger
	// Logging chooses which records are significant and how many of them the
	// Logger gets.
	Logging Logging
	// HealthScore computes the result of [VirtualService.Health]. It must be
	// safe for concurrent use. Nil means [DefaultHealth].
	HealthScore func(HealthInput) Health
	// OnComplete gets the record of each request at its end, and of each denied
	// connection, in the goroutine that served it. It must not block. Nil is
	// allowed.
	OnComplete func(Record)
	// Tracer follows requests for distributed tracing. Nil traces nothing, and
	// passes on the headers of traces unchanged.
	Tracer Tracer

	// The settings of three subjects. In a composite literal, use the names of
	// the types; everywhere else, their fields are fields of Config.
	Clients
	Policies
	Scripting
}

// Clients are the settings of [Config] about clients: where their addresses
// come from, how many connections they may have, and who they are. With the
// zero value, the client is the peer of the connection and is not
// authenticated.
type Clients struct {
	// TrustedProxies are the networks of proxies in front of this one. The
	// client of a request from such a proxy is taken from the header that
	// ClientHeader names, read from the right up to the first address that is
	// not trusted. The client of any other request is its peer.
	// X-Forwarded-Proto from such a proxy is trusted as well, or Forwarded if
	// that is ClientHeader.
	TrustedProxies []netip.Prefix
	// ClientHeader is "X-Forwarded-For", "Forwarded", or the name of another
	// header with one address or a list of them, such as "True-Client-IP".
	// Empty means X-Forwarded-For.
	ClientHeader string
	// ClientIndex chooses the client by its position in ClientHeader, between
	// -1000 and 1000: 1 is the leftmost address, -1 the rightmost; past the end
	// it is the last one in that direction. Use -n for n proxies in front that
	// each append the address of their peer. 0 chooses by trust, as
	// TrustedProxies says. Other values need TrustedProxies; use 0.0.0.0/0 and
	// ::/0 if only the proxies can connect.
	ClientIndex int `min:"-1000" max:"1000"`
	// ProxyProtocol names the proxies that send the client's address by the
	// PROXY protocol. That address replaces the peer's everywhere,
	// TrustedProxies included.
	ProxyProtocol ProxyProtocol
	// Connections limits the connections of clients.
	Connections ConnectionLimits

	// Authenticator identifies the user of a request, after the HTTP security
	// rules and before the scripts of HTTP_REQ. Nil means no authentication.
	Authenticator Authenticator
}

// Policies are the rules of [Config], in the order in which they apply. The
// zero value has none.
type Policies struct {
	// NetworkSecurity are the rules that decide which connections may
	// proceed. They apply when a connection is accepted from
	// [VirtualService.Listener], or else to each request.
	NetworkSecurity []policy.NetworkRule
	// PoliciesOnError is the action if a rule cannot be evaluated, because its
	// IP group is missing or a service fails or panics. The zero value closes
	// the connection, or answers the request with status 500.
	PoliciesOnError OnError
	// HTTPSecurity are the rules that decide which requests may proceed.
	HTTPSecurity []policy.SecurityRule
	// HTTPRequest are the rules that change requests, redirect them or choose
	// their pool, before the scripts of HTTP_REQ. Scripts cannot replace a pool
	// that they choose.
	HTTPRequest []policy.RequestRule
	// HTTPResponse are the rules that change the responses of servers, after
	// the scripts of HTTP_RESP.
	HTTPResponse []policy.ResponseRule
}

// Scripting are the settings of [Config] for scripts. The zero value has
// default limits, buffers no bodies and knows no rate limiters.
type Scripting struct {
	// Limits bound the resources of scripts. The zero value has defaults.
	Limits datascript.Limits
	// RequestBody and ResponseBody read bodies into memory for scripts that do
	// not ask for that themselves, such as published filters. A script with
	// code for HTTP_REQ_DATA or HTTP_RESP_DATA that can never run is refused:
	// RequestBody or ResponseBody is zero, and no script calls
	// avi.http.set_request_body_buffer_size or
	// avi.http.set_response_body_buffer_size.
	RequestBody, ResponseBody BodyBuffer

	// BodyBytes is how many bytes of bodies may be in memory at a time for
	// scripts that have asked for them, for all requests and responses
	// together. A request that needs more gets 503. 0 means a quarter of the
	// memory of the process, which [datascript.Limits] explains.
	BodyBytes int64 `unit:"bytes" min:"0"`

	// StrictSelect makes avi.pool.select accept only servers, not persistence
	// keys; see [datascript.Env].
	StrictSelect bool

	// Tokens are the key sets for avi.jwt.verify: a [jwtkeys.Verifier], whose
	// Run must be running. Nil means that there are none.
	//
	// [jwtkeys.Verifier]:
	// https://pkg.go.dev/github.com/limpetlb/limpet/datascript/jwtkeys#Verifier
	Tokens datascript.TokenVerifier

	// RateLimiters are the limiters for avi.vs.ratelimit.exceed, by name.
	RateLimiters map[string]*datascript.RateLimiter
	// RateProfile is the profile that avi.vs.rate_limit enforces.
	RateProfile *datascript.RateProfile

	// Instances is how many processes serve the virtual service, for
	// avi.vs.se_count. Zero means 1.
	Instances int `default:"1" min:"1"`
}

// A Script is a DataScript and what to do when it fails.
type Script struct {
	*datascript.Script
	// OnError is what happens to the request if the script fails. The zero
	// value fails closed.
	OnError OnError
}

// OnError says what happens to a request if a script or a policy fails. In any
// case, all changes that the script made are undone, except those in tables.
type OnError uint8

const (
	// FailClosed answers the request with status 500, or 503 if a table was not
	// available: its error has a method Unavailable that returns true.
	FailClosed OnError = iota
	// FailOpen goes on as if the script had not run, or as if no rule of that
	// kind had matched: the rules after the one that fails are skipped, and the
	// changes of the request rules before it are dropped.
	FailOpen
)

var onErrors = []string{FailClosed: "fail closed", FailOpen: "fail open"}

// String returns "fail closed" or "fail open"; "invalid" for other values.
func (o OnError) String() string { return enumtext.String(o, onErrors) }

// MarshalText returns the text of String. It fails for other values.
func (o OnError) MarshalText() ([]byte, error) { return enumtext.Marshal(o, onErrors) }

// UnmarshalText reads the text of String, without regard to case, blanks, "-"
// and "_". The error for another text lists the texts.
func (o *OnError) UnmarshalText(text []byte) error { return enumtext.Unmarshal(o, text, onErrors) }

// A BodyBuffer says how much of a body is read into memory for scripts.
type BodyBuffer struct {
	// Bytes is the size, up to 32 MiB. If it is more than 0, HTTP_REQ_DATA runs
	// for each request with a body, and HTTP_RESP_DATA for each response with
	// one, unless a script asks for another size for its request.
	//
	// A response is buffered until Bytes of it, or all of it, have arrived,
	// which delays streams such as server-sent events; but only if a script has
	// code for HTTP_RESP_DATA.
	Bytes int `unit:"bytes" min:"0" max:"32MiB"`
	// Head shows scripts the beginning of a longer request body, as soon as it
	// has arrived, and sends the whole body to the server. It also applies if a
	// script asks for a size without choosing. If Head is not set, a request
	// with a longer body gets status 413, for filters that must see all that a
	// server gets. Of a longer response, scripts always see the beginning, and
	// the client gets all of it.
	Head bool
}

// Tables are persistence tables; a [persistence.Store] has them in memory. The
// empty table name is the default table. All methods must be safe for
// concurrent use. An error means that the store is not available.
type Tables interface {
	datascript.Tables
	// CompareAndSwap replaces the value of a live entry if it equals old, keeps
	// its lifetime, and reports whether it did.
	CompareAndSwap(ctx context.Context, table, key, old, new string) (bool, error)
}

// A snapshot is a validated Config, ready for use. Requests keep the one they
// began with.
type snapshot struct {
	Config
	pools       *lbpool.Set
	defaultPool *lbpool.Pool
	targets     map[string]*target // pools and groups, by name
	// defaultTarget is the target of defaultPool.
	defaultTarget *target
	strippers     []cookieStripper // the profiles with cookies that servers do not get
	network       *policy.NetworkSecurity
	security      *policy.HTTPSecurity
	request       *policy.HTTPRequest
	response      *policy.HTTPResponse
	engine        *datascript.Engine
	bodyBytes     int64
	handles       [eventCount]bool // whether any script has code for the event
	resolver      *clientaddr.Resolver
	limiters      *connLimiters
	accept        *accept.Rules
	records       *accesslog.Handler // that of Logger, if it has a log for records
	denials       denials
	proxy         http.Handler
}

// clone returns a copy with slices and maps of its own.
func (c *Config) clone() Config {
	own := *c
	own.Pools, own.PoolGroups = slices.Clone(c.Pools), slices.Clone(c.PoolGroups)
	own.Overrides, own.Scripts = slices.Clone(c.Overrides), slices.Clone(c.Scripts)
	own.BoundTables, own.PoolPersistence = slices.Clone(c.BoundTables), maps.Clone(c.PoolPersistence)
	own.Logging.Ignore, own.Logging.IgnoreStatuses = slices.Clone(c.Logging.Ignore), slices.Clone(c.Logging.IgnoreStatuses)
	own.TrustedProxies, own.ProxyProtocol.From = slices.Clone(c.TrustedProxies), slices.Clone(c.ProxyProtocol.From)
	own.NetworkSecurity, own.HTTPSecurity = slices.Clone(c.NetworkSecurity), slices.Clone(c.HTTPSecurity)
	own.HTTPRequest, own.HTTPResponse = slices.Clone(c.HTTPRequest), slices.Clone(c.HTTPResponse)
	own.RateLimiters = maps.Clone(c.RateLimiters)
	return own
}

// eventCount is one more than the last event.
const eventCount = int(datascript.HTTPRespData) + 1

// compile checks cfg and reports all faults.
func (vs *VirtualService) compile(cfg Config) (*snapshot, error) {
	s := &snapshot{Config: cfg.clone(), bodyBytes: cfg.BodyBytes}
	if s.Name == "" {
		s.Name = "limpet"
	}
	if s.Tables == nil {
		s.Tables = vs.tables()
	}
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	s.records = accesslog.Of(s.Logger)

	var faults fielderr.List
	faults.Name("name", s.Name)
	bounds.Check("", s.Config, &faults)
	if s.bodyBytes == 0 {
		s.bodyBytes = bodyBytes()
	}
	s.Logging.check(&faults)
	if s.HealthScore == nil {
		s.HealthScore = DefaultHealth
	}
	if s.PersistenceHeader = http.CanonicalHeaderKey(s.PersistenceHeader); !settable(s.PersistenceHeader) {
		faults.Addf("persistenceHeader", s.PersistenceHeader, "not the name of a header to be set")
	}
	s.compilePools(vs, &faults)
	checkOverrides(s.Overrides, &faults)
	for i, table := range s.BoundTables {
		if slices.Index(s.BoundTables, table) < i {
			faults.Addf(fielderr.Index("boundTables", i), table, "named twice")
		}
	}
	s.compilePolicies(vs.current.Load(), &faults)
	s.compileScripts(vs, &faults)

	s.compileEdge(vs.current.Load(), &faults)
	if err := faults.ErrIn(cfg); err != nil {
		return nil, err
	}

	switch base := s.Transport.(type) {
	case nil:
		s.Transport = vs.transport()
	case *http.Transport:
		s.Transport = vs.switched(base)
	}
	s.accept = vs.acceptRules(s)
	s.proxy = guard{newProxy(s)}
	return s, nil
}

// compileEdge compiles the settings that identify clients and limit their
// connections.
func (s *snapshot) compileEdge(old *snapshot, faults *fielderr.List) {
	resolver := clientaddr.Config{Trusted: s.TrustedProxies}
	if -clientaddr.MaxIndex <= s.ClientIndex && s.ClientIndex <= clientaddr.MaxIndex { // else it has been reported
		resolver.Index = s.ClientIndex
	}
	switch http.CanonicalHeaderKey(s.ClientHeader) {
	case "", "X-Forwarded-For":
	case "Forwarded":
		resolver.Header = clientaddr.Forwarded
	default:
		resolver.Name = s.ClientHeader
	}
	var err error
	if s.resolver, err = clientaddr.New(resolver); err != nil {
		faults.AddUnder("", err)
	} else if s.ClientHeader != "" && len(s.TrustedProxies) == 0 {
		faults.Addf("clientHeader", s.ClientHeader, "without trustedProxies the header is never read")
	}
	s.Forwarding.check(faults)
	for i, p := range s.ProxyProtocol.From {
		if !p.IsValid() {
			faults.Addf(fielderr.Index("proxyProtocol.from", i), nil, "not a network")
		}
	}
	bounds.Check("proxyProtocol", s.ProxyProtocol, faults)
	bounds.SetDefaults(&s.ProxyProtocol)
	var limiters *connLimiters
	if old != nil {
		limiters = old.limiters
	}
	s.limiters = s.Connections.compile(limiters, faults)
}

// settable reports whether a response may get a header of this name, which may
// be empty: a token (RFC 9110, section 5.6.2) that has no other purpose.
func settable(name string) bool {
	switch name {
	case "Content-Encoding", "Content-Type", "Date", "Host", "Location", "Set-Cookie":
		return false
	}
	return name == "" || httpfield.IsToken(name) && !httpfield.IsFraming(name)
}

func (s *snapshot) compilePools(vs *VirtualService, faults *fielderr.List) {
	pools, err := lbpool.NewSet(s.Pools...)
	if err != nil {
		pools = new(lbpool.Set)
	}
	pools, err2 := pools.WithGroups(s.PoolGroups...)
	faults.AddUnder("", err)
	faults.AddUnder("", fielderr.Rename("groups", "poolGroups", err2))
	if err != nil || err2 != nil {
		return
	}
	s.pools = pools
	for i, g := range s.PoolGroups {
		for _, m := range g.Members() {
			if !slices.Contains(s.Pools, m.Pool) {
				faults.Addf(fielderr.Index("poolGroups", i)+".members", nil, "the pool %s is not among the pools", fielderr.Quote(m.Pool.Name()))
			}
		}
	}
	switch {
	case s.DefaultPool != "":
		var ok bool
		if s.defaultPool, ok = s.pools.Pool(s.DefaultPool); !ok {
			err := errors.New("there is no such pool")
			if slices.ContainsFunc(s.PoolGroups, func(g *lbpool.Group) bool { return g != nil && g.Name() == s.DefaultPool }) {
				err = errors.New("a pool group; want a pool")
			}
			faults.Add("defaultPool", s.DefaultPool, err)
		}
	case len(s.Pools) > 0:
		s.defaultPool = s.Pools[0]
	}
	if (s.Persistence != nil || len(s.PoolPersistence) > 0) && len(s.Pools) == 0 {
		faults.Addf("persistence", nil, "there is no pool to bind clients to")
	}
	s.compileTargets(vs, faults)
}

// compilePolicies compiles the rules; those that old has, too, by name, keep
// their counts.
func (s *snapshot) compilePolicies(old *snapshot, faults *fielderr.List) {
	env := policy.Env{StringGroups: s.StringGroups, Geo: s.Geo, FailOpen: s.PoliciesOnError == FailOpen}
	faults.Constant("policiesOnError", s.PoliciesOnError)
	if s.IPGroups != nil {
		env.IPGroups = s.IPGroups
	}
	env.Reputations, _ = s.Reputations.(policy.Reputations)
	if old != nil {
		env.Previous = policy.Previous{
			NetworkSecurity: old.network, HTTPSecurity: old.security, HTTPRequest: old.request, HTTPResponse: old.response,
		}
	}
	var err error
	if s.network, err = policy.NewNetworkSecurity(s.NetworkSecurity, env); err != nil {
		faults.AddUnder("", fielderr.Rename("rules", "networkSecurity", err))
	}
	if s.security, err = policy.NewHTTPSecurity(s.HTTPSecurity, env); err != nil {
		faults.AddUnder("", fielderr.Rename("rules", "httpSecurity", err))
	}
	if s.request, err = policy.NewHTTPRequest(s.HTTPRequest, env); err != nil {
		faults.AddUnder("", fielderr.Rename("rules", "httpRequest", err))
	}
	if s.response, err = policy.NewHTTPResponse(s.HTTPResponse, env); err != nil {
		faults.AddUnder("", fielderr.Rename("rules", "httpResponse", err))
	}
	for i, rule := range s.HTTPRequest {
		m, ok := rule.Action.(policy.Modify)
		if !ok || m.Pool.Name == "" || s.pools == nil {
			continue
		}
		path := fielderr.Index("httpRequest", i) + ".action.pool"
		server := m.Pool.Server
		_, _, ok, err := s.pools.Find(m.Pool.Name, server.Addr().String(), server.Port())
		switch {
		case err != nil:
			faults.Addf(path+".name", m.Pool.Name, "there is no such pool or group")
		case m.Pool.Label != "":
			if g, ok := s.pools.Group(m.Pool.Name); !ok {
				faults.Addf(path+".label", m.Pool.Label, "the pool %s is not a group", fielderr.Quote(m.Pool.Name))
			} else if g.CheckLabel(m.Pool.Label) != nil {
				faults.Addf(path+".label", m.Pool.Label, "the group %s has no such label", fielderr.Quote(m.Pool.Name))
			}
		case server.IsValid() && !ok:
			faults.Addf(path+".server", server, "the pool %s has no such server", fielderr.Quote(m.Pool.Name))
		}
	}
}

func (s *snapshot) compileScripts(vs *VirtualService, faults *fielderr.List) {
	s.checkBodies(faults)
	names := map[string]int{}
	for i, script := range s.Scripts {
		path := fielderr.Index("scripts", i)
		if script.Script == nil {
			faults.Addf(path+".script", nil, "missing")
			continue
		}
		if j, ok := names[script.Name()]; ok {
			faults.Addf(path, nil, "a second script named %s, after scripts[%d]", fielderr.Quote(script.Name()), j)
		}
		names[script.Name()] = i
		faults.Constant(path+".onError", script.OnError)
		for ev := range s.handles {
			s.handles[ev] = s.handles[ev] || script.Handles(datascript.Event(ev))
		}
	}
	env := datascript.Env{
		Name: s.Name, Tables: recordedTables{s.Tables},
		Reputations: s.Reputations, Tokens: s.Tokens,
		RateLimiters: s.RateLimiters, RateProfile: s.RateProfile, Metrics: &vs.metrics,
		Instances: max(s.Instances, 0), // which has been checked

		Limits: s.Limits, StrictSelect: s.StrictSelect,
	}
	if s.IPGroups != nil {
		env.IPGroups = s.IPGroups
	}
	if len(s.Pools) > 0 {
		env.Pools = s.pools
	}
	if len(s.PoolGroups) > 0 {
		env.PoolGroups = poolGroups{s.pools}
	}
	if s.StringGroups != nil {
		env.StringGroups = s.StringGroups
	}
	if s.Geo != nil {
		env.Geo = s.Geo
	}
	var err error
	if s.engine, err = datascript.NewEngine(env); err != nil {
		faults.AddUnder("", err)
	}
}

// checkBodies checks the body buffers, and that each script for an event with a
// body can run.
func (s *snapshot) checkBodies(faults *fielderr.List) {
	for _, b := range []struct {
		path string
		BodyBuffer
	}{{"requestBody", s.RequestBody}, {"responseBody", s.ResponseBody}} {
		bounds.Check(b.path, b.BodyBuffer, faults)
	}
	var scripts []bodyrule.Script
	for _, script := range s.Scripts {
		if script.Script == nil {
			return
		}
		scripts = append(scripts, bodyrule.Script{
			Name: script.Name(), Request: script.Handles(datascript.HTTPReqData), Response: script.Handles(datascript.HTTPRespData),
			AsksRequest: script.BuffersRequest(), AsksResponse: script.BuffersResponse(),
		})
	}
	never := bodyrule.Check(s.RequestBody.Bytes, s.ResponseBody.Bytes, scripts)
	for i := range scripts {
		for _, err := range never[i] {
			faults.Add(fielderr.Index("scripts", i), nil, err)
		}
	}
}

// poolGroups let scripts choose among the pools of a group.
type poolGroups struct{ *lbpool.Set }

func (g poolGroups) Choose(group, label string) (string, error) {
	if _, ok := g.Group(group); !ok { // a pool is none
		return "", fmt.Errorf("pool group %q not found", group)
	}
	p, err := g.Select(group, label, lbpool.Hint{})
	if err != nil {
		return "", err
	}
	return p.Name(), nil
}

// recordedTables reports the outcome of look-ups to the transaction, for its
// record.
type recordedTables struct{ Tables }

func (t recordedTables) Lookup(ctx context.Context, table, key string, extend time.Duration) (string, time.Duration, bool, error) {
	value, remaining, ok, err := t.Tables.Lookup(ctx, table, key, extend)
	if tx, is := transactionOf(ctx); is && err == nil {
		tx.lookedUp(ok, remaining)
	}
	return value, remaining, ok, err
}
