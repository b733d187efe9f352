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
	"strings"
	"time"

	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/accept"
	"github.com/limpetlb/limpet/internal/bodyrule"
	"github.com/limpetlb/limpet/internal/clientaddr"
	"github.com/limpetlb/limpet/internal/httpfield"
	"github.com/limpetlb/limpet/ipgroup"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/policy"
)

// Config describes a virtual service. The zero value is valid: it forwards
// nothing, denies nothing and runs no script. [New] and
// [VirtualService.Update] copy the slices and keep the objects in them.
type Config struct {
	// Name is the virtual service's name in logs and for avi.vs.name. Empty
	// means "limpet".
	Name string

	// Pools are the pools that requests can go to, 0 or more, with distinct
	// names.
	Pools []*lbpool.Pool
	// DefaultPool names the pool that requests go to unless a script chooses
	// another. Empty means the first of Pools.
	DefaultPool string
	// PoolGroups are groups of pools, which rules and scripts may name as they
	// name pools. Their pools must be among Pools.
	PoolGroups []*lbpool.Group

	// IPGroups are the groups that rules and scripts name. Nil means none.
	IPGroups *ipgroup.Set
	// StringGroups are the string groups that rules and scripts name. Nil
	// means none.
	StringGroups *policy.StringGroups
	// Geo says where addresses are, for rules, and for scripts behind
	// avi.utils.get_geo_from_ip. Nil knows nothing.
	Geo policy.Geo
	// Reputations are behind avi.utils.get_ip_reputation. If they are
	// [policy.Reputations] as well, rules ask them, too. Nil knows nothing: a
	// rule with a reputation is refused, and a script that asks for one fails.
	Reputations datascript.Reputations

	// Scripts run for each event in this order.
	Scripts []Script

	// Tables are the persistence tables behind avi.vs.table_*. Nil means a
	// [persistence.Store] with default options, which lives as long as the
	// virtual service.
	Tables Tables
	// Persistence binds clients to servers without a script, in each pool and
	// each group that PoolPersistence does not name. It is asked if neither a
	// rule nor a script has chosen a server. Nil means no such binding.
	Persistence PersistenceProfile
	// PoolPersistence are the profiles of pools and groups, by name;
	// [NoPersistence] binds nobody. A group that is not named has the profile
	// that its pools have in common. A client has a binding of its own in each
	// of them, also where they have the same profile.
	PoolPersistence map[string]PersistenceProfile

	// PersistenceHeader names a header that limpet adds to each response. Its
	// value is the outcome of the client's binding to a server, as far as it is
	// known then: the text of [Record].Persistence. A response does not get it
	// if nobody has asked for a binding. Empty means no such header.
	PersistenceHeader string

	// Forwarding says what servers are told about clients. The zero value
	// tells them all that is known, and nothing that only a client says.
	Forwarding Forwarding

	// Transport sends requests to servers. Nil means one made by
	// [lbpool.NewHTTP1], which lives as long as the virtual service. One
	// with other settings, for TLS to servers for instance, is made by
	// NewHTTP1 from a changed [lbpool.NewBase], which alone is the standard
	// library's transport and can speak HTTP/2 to servers.
	Transport http.RoundTripper

	// Logger gets one record for each request, at level Info; at level Warn
	// if it is significant, see [Record], and at level Error if a script
	// failed. Nil discards.
	Logger *slog.Logger
	// Logging says which records are significant, and how many the Logger
	// gets.
	Logging Logging
	// HealthScore computes what [VirtualService.Health] returns. It must be
	// safe for concurrent use. Nil means [DefaultHealth].
	HealthScore func(HealthInput) Health
	// OnComplete is called at the end of each request, and of each
	// connection that was denied, in the goroutine that served it. It must
	// not block. Nil is allowed.
	OnComplete func(Record)

	// The settings of three subjects. In a composite literal they are named
	// after their types; everywhere else their fields are fields of Config.
	Clients
	Policies
	Scripting
}

// Clients are the settings of [Config] about clients: where their addresses come
// from, how many connections they may have, and who they are. The zero value
// takes the peer of the connection for the client, and asks nobody for a name.
type Clients struct {
	// TrustedProxies are the networks of proxies in front of this one. The
	// client of a request from such a proxy is taken from the header that
	// ClientHeader names, read from the right up to the first address that
	// is not trusted. The client of any other request is its peer. What such
	// a proxy says in X-Forwarded-Proto, or in Forwarded if that is
	// ClientHeader, is believed as well.
	TrustedProxies []netip.Prefix
	// ClientHeader is "X-Forwarded-For", "Forwarded", or the name of another
	// header with one address or a list of them, such as "True-Client-IP".
	// Empty means X-Forwarded-For.
	ClientHeader string
	// ClientIndex chooses the client by its place in ClientHeader, between
	// -1000 and 1000: 1 is the leftmost address, -1 the rightmost; past the
	// end it is the last one in that direction. With n proxies in front, of
	// which each appends the address of whom it was called by, it is -n. 0
	// chooses by trust, as TrustedProxies says. Anything but 0 needs
	// TrustedProxies; that is 0.0.0.0/0 and ::/0 if nobody but the
	// proxies can connect.
	ClientIndex int
	// ProxyProtocol says who tells the client's address by the PROXY
	// protocol. That address takes the place of the peer's everywhere,
	// TrustedProxies included.
	ProxyProtocol ProxyProtocol
	// Connections bounds connections.
	Connections ConnectionLimits

	// Authenticator finds out who sends a request, between the HTTP security
	// rules and the scripts of HTTP_REQ. Nil asks nobody.
	Authenticator Authenticator
}

// Policies are the rules of [Config], in the order in which they apply. The zero
// value has none.
type Policies struct {
	// NetworkSecurity are the rules that decide which connections may
	// proceed. They apply when a connection is accepted from
	// [VirtualService.Listener], or else to each request.
	NetworkSecurity []policy.NetworkRule
	// PoliciesOnError says what happens when a rule cannot be evaluated,
	// because its IP group is missing or a service fails or panics. The zero
	// value closes the connection, or answers the request with status 500.
	PoliciesOnError OnError
	// HTTPSecurity are the rules that decide which requests may proceed.
	HTTPSecurity []policy.SecurityRule
	// HTTPRequest are the rules that change requests, redirect them or choose
	// their pool, before the scripts of HTTP_REQ. A pool that they choose
	// stands against scripts.
	HTTPRequest []policy.RequestRule
	// HTTPResponse are the rules that change the responses of servers, after
	// the scripts of HTTP_RESP.
	HTTPResponse []policy.ResponseRule
}

// Scripting are the settings of [Config] for scripts. The zero value has default
// limits, buffers no bodies and knows no rate limiters.
type Scripting struct {
	// Limits bound what a script may use; the zero value has defaults.
	Limits datascript.Limits
	// RequestBody and ResponseBody have bodies read into memory for scripts
	// that do not ask for that themselves, as published filters do not. A
	// script that has code for HTTP_REQ_DATA or HTTP_RESP_DATA which can never
	// run is refused: RequestBody or ResponseBody is zero, and no script calls
	// avi.http.set_request_body_buffer_size or
	// avi.http.set_response_body_buffer_size.
	RequestBody, ResponseBody BodyBuffer

	// BodyBytes is how many bytes of bodies may be held in memory at a time
	// for scripts that have asked for them, of all requests and responses
	// together. A request that needs more is answered with 503. 0 means a
	// quarter of the memory of the process, as [datascript.Limits] explains it.
	BodyBytes int64

	// StrictSelect makes avi.pool.select accept servers only, and no
	// persistence keys; see [datascript.Env].
	StrictSelect bool

	// RateLimiters are behind avi.vs.ratelimit.exceed, by name.
	RateLimiters map[string]*datascript.RateLimiter
	// RateProfile is what avi.vs.rate_limit enforces.
	RateProfile *datascript.RateProfile

	// Instances is how many processes serve the virtual service, for
	// avi.vs.se_count. Less than 1 means 1.
	Instances int
}

// A Script is a DataScript and what to do when it fails.
type Script struct {
	*datascript.Script
	// OnError says what happens to the request. The zero value fails
	// closed.
	OnError OnError
}

// OnError says what happens to a request when a script fails, or a policy. In
// any case all changes that the script made are taken back, those in tables
// excepted.
type OnError uint8

const (
	// FailClosed answers the request with status 500, or 503 if a table could
	// not be asked: its error has a method Unavailable that returns true.
	FailClosed OnError = iota
	// FailOpen goes on as if the script had not run, or as if no rule of that
	// kind had matched: rules behind one that fails are not looked at, and the
	// changes of request rules before it are dropped.
	FailOpen
)

// String returns "fail closed" or "fail open".
func (o OnError) String() string {
	switch o {
	case FailClosed:
		return "fail closed"
	case FailOpen:
		return "fail open"
	}
	return fmt.Sprintf("OnError(%d)", uint8(o))
}

// A BodyBuffer says how much of bodies is read into memory, and shown to
// scripts.
type BodyBuffer struct {
	// Bytes is how much, up to 32 MiB. With more than 0, HTTP_REQ_DATA runs
	// for each request with a body, and HTTP_RESP_DATA for each response with
	// one, unless a script asks for something else for its request.
	//
	// A response is held back until so much of it is there, or all: streams
	// such as server-sent events come late. It is held back only if a script
	// has code for HTTP_RESP_DATA.
	Bytes int
	// Head shows scripts the beginning of a request's body that is longer, as
	// soon as it is there, and all of the body goes to the server; here and
	// where a script asks for a size without saying so. If it is not set, such
	// a request is answered with status 413, for filters that must see all that
	// a server gets. Of a longer response scripts always see the beginning, and
	// all of it is sent.
	Head bool
}

// Tables are persistence tables; a [persistence.Store] has them in memory.
// The empty table name is the default table. All methods must be safe for
// concurrent use; an error means that the store could not be asked.
type Tables interface {
	datascript.Tables
	// CompareAndSwap replaces the value of a live entry if it is old, keeps
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
	// defaultTarget is that of defaultPool.
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
	denials       denials
	proxy         http.Handler
}

// eventCount is one more than the last event.
const eventCount = int(datascript.HTTPRespData) + 1

// compile checks the whole of cfg and reports all that is wrong with it.
func (vs *VirtualService) compile(cfg Config) (*snapshot, error) {
	s := &snapshot{Config: cfg, bodyBytes: cfg.BodyBytes}
	s.Pools = slices.Clone(cfg.Pools)
	s.Scripts = slices.Clone(cfg.Scripts)
	s.PoolPersistence = maps.Clone(cfg.PoolPersistence)
	if s.Name == "" {
		s.Name = "limpet"
	}
	if s.Tables == nil {
		s.Tables = vs.tables()
	}
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}

	var faults []error
	fault := func(path string, err error) {
		for _, e := range split(err) {
			faults = append(faults, fmt.Errorf("%s%w", path, e))
		}
	}
	if strings.ContainsFunc(s.Name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		fault("name: ", fmt.Errorf("%q holds a control character", s.Name))
	}
	switch {
	case s.bodyBytes < 0:
		fault("bodyBytes: ", fmt.Errorf("%d is negative", s.bodyBytes))
	case s.bodyBytes == 0:
		s.bodyBytes = bodyBytes()
	}
	s.Logging.check(fault)
	if s.HealthScore == nil {
		s.HealthScore = DefaultHealth
	}
	if s.PersistenceHeader = http.CanonicalHeaderKey(s.PersistenceHeader); !settable(s.PersistenceHeader) {
		fault("persistenceHeader: ", fmt.Errorf("%q is not the name of a header to be set", s.PersistenceHeader))
	}
	s.compilePools(vs, fault)
	s.compilePolicies(vs.current.Load(), fault)
	s.compileScripts(vs, fault)

	s.compileEdge(vs.current.Load(), fault)
	if len(faults) > 0 {
		return nil, fmt.Errorf("limpet: invalid configuration: %w", errors.Join(faults...))
	}

	if s.Transport == nil {
		s.Transport = vs.transport()
	}
	s.accept = vs.acceptRules(s)
	s.proxy = guard{newProxy(s)}
	return s, nil
}

// compileEdge compiles what tells clients and bounds their connections.
func (s *snapshot) compileEdge(old *snapshot, fault func(string, error)) {
	resolver := clientaddr.Config{Trusted: s.TrustedProxies, Index: s.ClientIndex}
	switch http.CanonicalHeaderKey(s.ClientHeader) {
	case "", "X-Forwarded-For":
	case "Forwarded":
		resolver.Header = clientaddr.Forwarded
	default:
		resolver.Name = s.ClientHeader
	}
	var err error
	if s.resolver, err = clientaddr.New(resolver); err != nil {
		fault("", err)
	} else if s.ClientHeader != "" && len(s.TrustedProxies) == 0 {
		fault("clientHeader: ", errors.New("without trustedProxies the header is never read"))
	}
	s.Forwarding.check(fault)
	for i, p := range s.ProxyProtocol.From {
		if !p.IsValid() {
			fault(fmt.Sprintf("proxyProtocol.from[%d]: ", i), fmt.Errorf("%v is not a network", p))
			return
		}
	}
	if d := s.ProxyProtocol.HeaderTimeout; d < 0 || d > maxHeaderTimeout {
		fault("proxyProtocol.headerTimeout: ", fmt.Errorf("%v is not between 0 and %v", d, maxHeaderTimeout))
	}
	var limiters *connLimiters
	if old != nil {
		limiters = old.limiters
	}
	s.limiters = s.Connections.compile(limiters, fault)
}

// settable reports whether a response may get a header of this name, which may
// be empty: a token (RFC 9110, section 5.6.2) that nothing else depends on.
func settable(name string) bool {
	switch name {
	case "Connection", "Content-Length", "Content-Encoding", "Content-Type", "Date", "Location", "Set-Cookie", "Te", "Trailer",
		"Transfer-Encoding", "Upgrade":
		return false
	}
	return name == "" || httpfield.IsToken(name)
}

// split takes apart an error that joins several.
func split(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

func (s *snapshot) compilePools(vs *VirtualService, fault func(string, error)) {
	var err error
	if s.pools, err = lbpool.NewSet(s.Pools...); err != nil {
		fault("", err)
		return
	}
	if s.pools, err = s.pools.WithGroups(s.PoolGroups...); err != nil {
		fault("", err)
		return
	}
	for i, g := range s.PoolGroups {
		for _, m := range g.Members() {
			if !slices.Contains(s.Pools, m.Pool) {
				fault(fmt.Sprintf("poolGroups[%d]: ", i), fmt.Errorf("pool %q of group %q is not among the pools", m.Pool.Name(), g.Name()))
			}
		}
	}
	switch {
	case s.DefaultPool != "":
		var ok bool
		if s.defaultPool, ok = s.pools.Pool(s.DefaultPool); !ok {
			fault("defaultPool: ", fmt.Errorf("pool %q not found", s.DefaultPool))
		}
	case len(s.Pools) > 0:
		s.defaultPool = s.Pools[0]
	}
	if (s.Persistence != nil || len(s.PoolPersistence) > 0) && len(s.Pools) == 0 {
		fault("persistence: ", errors.New("there is no pool to bind clients to"))
	}
	s.compileTargets(vs, fault)
}

// compilePolicies compiles the rules; those that old has, too, by name, keep
// their counts.
func (s *snapshot) compilePolicies(old *snapshot, fault func(string, error)) {
	env := policy.Env{StringGroups: s.StringGroups, Geo: s.Geo, FailOpen: s.PoliciesOnError == FailOpen}
	if s.PoliciesOnError > FailOpen {
		fault("policiesOnError: ", fmt.Errorf("%v is not a value", s.PoliciesOnError))
	}
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
		fault("networkSecurity.", err)
	}
	if s.security, err = policy.NewHTTPSecurity(s.HTTPSecurity, env); err != nil {
		fault("httpSecurity.", err)
	}
	if s.request, err = policy.NewHTTPRequest(s.HTTPRequest, env); err != nil {
		fault("httpRequest.", err)
	}
	if s.response, err = policy.NewHTTPResponse(s.HTTPResponse, env); err != nil {
		fault("httpResponse.", err)
	}
	for i, rule := range s.HTTPRequest {
		m, ok := rule.Action.(policy.Modify)
		if !ok || m.Pool.Name == "" || s.pools == nil {
			continue
		}
		path := fmt.Sprintf("httpRequest.rules[%d].action.pool", i)
		server := m.Pool.Server
		_, _, ok, err := s.pools.Find(m.Pool.Name, server.Addr().String(), server.Port())
		switch {
		case err != nil:
			fault(path+".name: ", err)
		case m.Pool.Label != "":
			if g, ok := s.pools.Group(m.Pool.Name); !ok {
				fault(path+".label: ", fmt.Errorf("pool %q is not a group", m.Pool.Name))
			} else if err := g.CheckLabel(m.Pool.Label); err != nil {
				fault(path+".label: ", err)
			}
		case server.IsValid() && !ok:
			fault(path+".server: ", fmt.Errorf("server %v not found in pool %q", server, m.Pool.Name))
		}
	}
}

func (s *snapshot) compileScripts(vs *VirtualService, fault func(string, error)) {
	s.checkBodies(fault)
	names := map[string]int{}
	for i, script := range s.Scripts {
		path := fmt.Sprintf("scripts[%d]", i)
		if script.Script == nil {
			fault(path+".script: ", errors.New("nil"))
			continue
		}
		if j, ok := names[script.Name()]; ok {
			fault(path+": ", fmt.Errorf("a second script named %q, after scripts[%d]", script.Name(), j))
		}
		names[script.Name()] = i
		if script.OnError > FailOpen {
			fault(path+".onError: ", fmt.Errorf("%v is not a value", script.OnError))
		}
		for ev := range s.handles {
			s.handles[ev] = s.handles[ev] || script.Handles(datascript.Event(ev))
		}
	}
	env := datascript.Env{
		Name: s.Name, Tables: recordedTables{s.Tables},
		Reputations:  s.Reputations,
		RateLimiters: s.RateLimiters, RateProfile: s.RateProfile, Metrics: &vs.metrics,
		OpenConns: vs.countConns, Instances: s.Instances,
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
		fault("", err)
	}
}

// checkBodies checks what is buffered of bodies, and that no script waits for
// that in vain.
func (s *snapshot) checkBodies(fault func(string, error)) {
	for _, b := range []struct {
		path string
		BodyBuffer
	}{{"requestBody", s.RequestBody}, {"responseBody", s.ResponseBody}} {
		if b.Bytes < 0 || b.Bytes > bodyrule.MaxBytes {
			fault(b.path+".bytes: ", fmt.Errorf("%d is not between 0 and %d", b.Bytes, bodyrule.MaxBytes))
		}
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
	faults := bodyrule.Check(s.RequestBody.Bytes, s.ResponseBody.Bytes, scripts)
	for i := range scripts {
		for _, err := range faults[i] {
			fault(fmt.Sprintf("scripts[%d]: ", i), err)
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

// recordedTables tells the transaction, for its record, how look-ups ended.
type recordedTables struct{ Tables }

func (t recordedTables) Lookup(ctx context.Context, table, key string, extend time.Duration) (string, time.Duration, bool, error) {
	value, remaining, ok, err := t.Tables.Lookup(ctx, table, key, extend)
	if tx, is := transactionOf(ctx); is && err == nil {
		tx.lookedUp(ok, remaining)
	}
	return value, remaining, ok, err
}
