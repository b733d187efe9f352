package archtest

import (
	"errors"
	"fmt"
	"go/types"
	"maps"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/admin"
	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/datascript/jwtkeys"
	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/ipgroup"
	"github.com/limpetlb/limpet/ipgroup/geoip"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
	"github.com/limpetlb/limpet/persistence/redisstore"
	"github.com/limpetlb/limpet/policy"
)

// secret stands in configurations where only a secret may be.
const secret = "hunter2 hunter2"

// arguments are those of a constructor, by the beginning of the paths of their
// faults: "" for a configuration itself, the name of the parameter for lists.
type arguments map[string]any

// constructors has several mistakes for each exported function that can refuse
// a configuration. The key is the path of the package in the module, a dot and
// the name of the function.
var constructors = map[string]struct {
	args arguments
	call func(arguments) error
	want []string // paths
	own  error    // a fault with a type of its own, such as that of a line in a list
}{
	".New": {args: arguments{"": badService}, want: badServicePaths, call: func(a arguments) error {
		return second(limpet.New(a[""].(limpet.Config)))
	}},
	".VirtualService.Update": {args: arguments{"": badService}, want: badServicePaths, call: func(a arguments) error {
		vs, err := limpet.New(limpet.Config{})
		if err != nil {
			return err
		}
		return vs.Update(a[""].(limpet.Config))
	}},
	".NewBasicAuthenticator": {
		args: arguments{"": limpet.BasicConfig{Realm: "a\nb"}}, want: []string{"realm", "file"},
		call: func(a arguments) error { return second(limpet.NewBasicAuthenticator(a[""].(limpet.BasicConfig))) },
	},
	".NewBearerAuthenticator": {
		args: arguments{"": limpet.BearerConfig{Realm: "a\nb", Leeway: time.Hour}}, want: []string{"realm", "leeway", "tokens"},
		call: func(a arguments) error { return second(limpet.NewBearerAuthenticator(a[""].(limpet.BearerConfig))) },
	},
	"admin.New": {
		args: arguments{"": admin.Config{Tokens: []admin.Token{{Name: "a"}}, SocketRole: 9, Hosts: []string{"h:1"}}},
		want: []string{"services", "tokens[0].sha256", "tokens[0].role", "socketRole", "hosts[0]"},
		call: func(a arguments) error { return second(admin.New(a[""].(admin.Config))) },
	},
	"datascript/jwtkeys.New": {
		args: arguments{"": jwtkeys.Config{KeySets: map[string]jwtkeys.KeySet{
			"a": {URL: "ftp://h", Interval: 1}, "b": {}, "c": {Secret: []byte(secret)}, "d": {URL: "http://user:" + secret + "@h"},
		}}},
		call: func(a arguments) error { return second(jwtkeys.New(a[""].(jwtkeys.Config))) },
		want: []string{
			`keySets["a"].url`, `keySets["a"].transport`, `keySets["a"].interval`, `keySets["b"]`, `keySets["c"].secret`,
			`keySets["d"].url`, `keySets["d"].transport`,
		},
	},
	"datascript.Compile": {
		args: arguments{}, own: &datascript.CompileError{}, // the place of a fault is its line
		call: func(arguments) error {
			return second(datascript.Compile("a", datascript.Chunk{Event: datascript.HTTPReq, Source: "x ="}))
		},
	},
	"datascript.NewEngine": {
		args: arguments{"": datascript.Env{
			RateLimiters: map[string]*datascript.RateLimiter{"b": nil, "a": nil},
			RateProfile:  &datascript.RateProfile{Action: datascript.RateRedirect, Status: 200, ContentType: "a\nb"},
			Limits:       datascript.Limits{CallDepth: 1 << 30},
		}},
		call: func(a arguments) error { return second(datascript.NewEngine(a[""].(datascript.Env))) },
		want: []string{
			`rateLimiters["a"]`, `rateLimiters["b"]`, "rateProfile.limiter", "rateProfile.status", "rateProfile.location", "rateProfile.contentType",
			"limits.callDepth",
		},
	},
	"datascript.NewRateLimiter": {
		args: arguments{"": datascript.RateLimit{Count: -1, Period: 1, Burst: -1, Keys: -1}},
		call: func(a arguments) error { return second(datascript.NewRateLimiter(a[""].(datascript.RateLimit))) },
		want: []string{"count", "period", "burst", "keys"},
	},
	"ipgroup.Parse": {
		args: arguments{"name": "a\nb", "entries": []string{"10.0.0"}}, own: &ipgroup.EntryError{},
		call: func(a arguments) error {
			return second(ipgroup.Parse(a["name"].(string), a["entries"].([]string), ipgroup.Options{}))
		},
		want: []string{"name"},
	},
	"ipgroup.Read": {
		args: arguments{"name": ""}, own: &ipgroup.EntryError{},
		call: func(a arguments) error {
			return second(ipgroup.Read(a["name"].(string), strings.NewReader("10.0.0"), ipgroup.Options{}))
		},
		want: []string{"name"},
	},
	"ipgroup.ReadFile": {
		args: arguments{"path": "none"}, own: errors.New("the file cannot be read"),
		call: func(a arguments) error { return second(ipgroup.ReadFile("a", a["path"].(string), ipgroup.Options{})) },
	},
	"ipgroup.NewWatcher": {
		args: arguments{"set": (*ipgroup.Set)(nil), "files": []ipgroup.File{{Group: "a"}, {Group: "a"}, {Group: "b\n"}}},
		call: func(a arguments) error {
			return second(ipgroup.NewWatcher(a["set"].(*ipgroup.Set), a["files"].([]ipgroup.File), nil))
		},
		want: []string{"set", "files[1].group", "files[2].group"},
	},
	"ipgroup/geoip.NewLayers": {
		args: arguments{"layers": []geoip.Layer{{}, {Source: new(geoip.Table)}}},
		call: func(a arguments) error { return second(geoip.NewLayers(a["layers"].([]geoip.Layer)...)) },
		want: []string{"layers[0].source", "layers[1].index"},
	},
	"ipgroup/geoip.NewWatcher": {
		args: arguments{"files": []geoip.File{{}, {}}},
		call: func(a arguments) error { return second(geoip.NewWatcher(a["files"].([]geoip.File), nil)) },
		want: []string{"files[0].source", "files[1].source"},
	},
	"lbpool.New": {args: arguments{"": badPool}, want: badPoolPaths, call: func(a arguments) error {
		return second(lbpool.New(a[""].(lbpool.Config)))
	}},
	"lbpool.Pool.Update": {
		args: arguments{"": badPool}, want: badPoolPaths,
		call: func(a arguments) error {
			p, err := lbpool.New(lbpool.Config{Name: "web", Servers: []lbpool.ServerConfig{{Address: "10.0.0.1"}}})
			if err != nil {
				return err
			}
			return p.Update(a[""].(lbpool.Config))
		},
	},
	"lbpool.Pool.Override": {
		args: arguments{"overrides": []lbpool.Override{{State: lbpool.Ejected, KeepBound: true, Deadline: time.Unix(1, 0), Ratio: -1}, {Server: "10.0.0.1"}}},
		call: func(a arguments) error {
			p, err := lbpool.New(lbpool.Config{Name: "web", Servers: []lbpool.ServerConfig{{Address: "10.0.0.1"}}})
			if err != nil {
				return err
			}
			return p.Override("a", a["overrides"].([]lbpool.Override)...)
		},
		want: []string{"overrides[0].server", "overrides[0].state", "overrides[0].keepBound", "overrides[0].deadline", "overrides[0].ratio", "overrides[1].server"},
	},
	"lbpool.NewGroup": {
		args: arguments{"": lbpool.GroupConfig{
			MinServers: -1, FallbackLabel: "none", FailAction: lbpool.FailAction{Kind: lbpool.FailRedirect},
			Members: []lbpool.Member{{Ratio: -1}},
		}},
		call: func(a arguments) error { return second(lbpool.NewGroup(a[""].(lbpool.GroupConfig))) },
		want: []string{"name", "minServers", "failAction.redirect.host", "fallbackLabel", "members[0].pool", "members[0].ratio"},
	},
	"persistence.NewAppCookie": {
		args: arguments{"": persistence.AppCookieConfig{MaxAge: 1, Sessions: struct{ persistence.Sessions }{}}},
		call: func(a arguments) error { return second(persistence.NewAppCookie(a[""].(persistence.AppCookieConfig))) },
		want: []string{"name", "maxAge"},
	},
	"persistence.NewClientIP": {
		args: arguments{"": persistence.ClientIPConfig{Mask4: 33, Mask6: -1, MaxAge: 1, Sessions: struct{ persistence.Sessions }{}}},
		call: func(a arguments) error { return second(persistence.NewClientIP(a[""].(persistence.ClientIPConfig))) },
		want: []string{"mask4", "mask6", "maxAge"},
	},
	"persistence.NewCustomHeader": {
		args: arguments{"": persistence.CustomHeaderConfig{Name: "Host", Servers: map[string]string{"a": ""}}},
		call: func(a arguments) error {
			return second(persistence.NewCustomHeader(a[""].(persistence.CustomHeaderConfig)))
		},
		want: []string{"name", `servers["a"]`},
	},
	"persistence.NewHTTPCookie": {
		args: arguments{"": persistence.HTTPCookieConfig{
			Name: "__Host-Http-a b", Path: "x", Domain: ";",
			Keys: []persistence.CookieKey{{ID: "a", Secret: []byte(secret)}, {ID: "a", Secret: []byte(secret)}, {ID: "?", Secret: []byte(secret)}},
		}},
		call: func(a arguments) error {
			return second(persistence.NewHTTPCookie(a[""].(persistence.HTTPCookieConfig)))
		},
		want: []string{"name", "secure", "httpOnly", "path", "domain", "keys[0].secret", "keys[1].id", "keys[1].secret", "keys[2].id", "keys[2].secret"},
	},
	"persistence/redisstore.New": {
		args: arguments{"": redisstore.Config{
			Addresses: []string{"a", "redis://user:" + secret + "@h", "user:" + secret + "@h:0"}, Password: secret, Database: -1, Prefix: "{}",
			WhenDown: 9, TablesWhenDown: map[string]redisstore.WhenDown{"": 9}, Timeout: -1, MinExtension: -1, NearAge: 2 * time.Hour,
			Options: persistence.Options{MaxEntries: -1, MaxLifetime: -1, MinLifetime: -1, MaxKeyBytes: 1 << 17, MaxValueBytes: 2 << 20, MaxTables: -1, WhenFull: 9},
		}},
		call: func(a arguments) error { return second(redisstore.New(a[""].(redisstore.Config))) },
		want: []string{"database", "addresses[0]", "addresses[1]", "addresses[2]", "prefix", "timeout",
			"options.maxEntries", "options.maxLifetime", "options.minLifetime", "options.whenFull", "options.maxTables", "options.maxKeyBytes",
			"options.maxValueBytes", "minExtension", "nearAge", "whenDown", `tablesWhenDown[""]`},
	},
	"policy.ComposeSets": {
		args: arguments{"sets": []policy.PolicySet{{}, {Name: "a"}, {Name: "a"}}},
		call: func(a arguments) error { return second(policy.ComposeSets(a["sets"].([]policy.PolicySet)...)) },
		want: []string{"sets[0].name", "sets[2].name"},
	},
	"policy.NewHTTPRequest": {
		args: arguments{"rules": badRequestRules},
		call: func(a arguments) error {
			return second(policy.NewHTTPRequest(a["rules"].([]policy.RequestRule), policy.Env{}))
		},
		want: under("rules", badRequestPaths),
	},
	"policy.NewHTTPResponse": {
		args: arguments{"rules": []policy.ResponseRule{{}, {Name: "a", Match: policy.ResponseMatch{Status: &policy.StatusMatch{Codes: []int{1}}}}}},
		call: func(a arguments) error {
			return second(policy.NewHTTPResponse(a["rules"].([]policy.ResponseRule), policy.Env{}))
		},
		want: []string{"rules[0].name", "rules[0]", "rules[1]", "rules[1].match.status.codes[0]"},
	},
	"policy.NewHTTPSecurity": {
		args: arguments{"rules": []policy.SecurityRule{{Action: policy.Respond{Status: 1}}, {Name: "a", Action: policy.RateLimit{PerHeader: " ", Limit: policy.RateLimiterConfig{IPv6Bits: 999}}}}},
		call: func(a arguments) error {
			return second(policy.NewHTTPSecurity(a["rules"].([]policy.SecurityRule), policy.Env{}))
		},
		want: []string{"rules[0].name", "rules[0].action.status", "rules[1].action.limit.count", "rules[1].action.limit.ipv6Bits", "rules[1].action.perHeader"},
	},
	"policy.NewNetworkSecurity": {
		args: arguments{"rules": []policy.NetworkRule{{Action: 99}, {
			Name: "a", Age: -1, Action: policy.ActionRateLimit, Limit: &policy.NetworkLimit{MaxRate: -1, Burst: -1, Exceeded: 99},
			Match: policy.NetworkMatch{ClientIP: &policy.IPMatch{Op: 99, Addrs: []netip.Addr{{}}}},
		}}},
		call: func(a arguments) error {
			return second(policy.NewNetworkSecurity(a["rules"].([]policy.NetworkRule), policy.Env{}))
		},
		want: []string{
			"rules[0].name", "rules[0].action", "rules[1].limit.exceeded", "rules[1].limit.maxRate", "rules[1].limit.burst",
			"rules[1].match.clientIP.op", "rules[1].match.clientIP.addrs[0]", "rules[1].age",
		},
	},
	"policy.NewRateLimiter": {
		args: arguments{"": policy.RateLimiterConfig{Rate: policy.Rate{Period: 1, Burst: -1}, MaxKeys: -1, IPv6Bits: -1}},
		call: func(a arguments) error { return second(policy.NewRateLimiter(a[""].(policy.RateLimiterConfig))) },
		want: []string{"count", "period", "burst", "maxKeys", "ipv6Bits"},
	},
	"policy.NewStringGroup": {
		args: arguments{"": policy.StringGroupConfig{Kind: 9, Entries: []policy.StringEntry{{}}}},
		call: func(a arguments) error { return second(policy.NewStringGroup(a[""].(policy.StringGroupConfig))) },
		want: []string{"name", "kind", "entries[0].key"},
	},
	"policy.NewStringGroupWatcher": {
		args: arguments{"groups": (*policy.StringGroups)(nil), "files": []policy.StringGroupFile{{}, {Group: policy.StringGroupConfig{Entries: []policy.StringEntry{{}}}}}},
		call: func(a arguments) error {
			return second(policy.NewStringGroupWatcher(a["groups"].(*policy.StringGroups), a["files"].([]policy.StringGroupFile), nil))
		},
		want: []string{"groups", "files[1].group.name", "files[1].group.entries"},
	},
}

var badRequestRules = []policy.RequestRule{
	{Name: "a\n", Match: policy.Match{
		Path: &policy.PathMatch{Op: policy.MatchesRegexp, Values: []string{"("}}, Headers: []policy.HeaderMatch{{Name: " ", Op: 99}},
		Method: &policy.MethodMatch{Op: policy.IsIn, Methods: []string{"get"}},
	}, Action: policy.Redirect{Status: 1, Host: "h:1"}},
	{Name: "b", Action: policy.Modify{
		Edits: []policy.Edit{policy.AddHeader{Name: "Authorization", Value: secret + "\n"}, policy.RemoveCookie{}},
		Pool:  policy.SwitchPool{Label: "l"}, Rewrite: policy.RewriteURL{Path: "/[", AddQuery: "?"},
	}},
}

var badRequestPaths = []string{
	"[0].name", "[0].match.method.methods[0]", "[0].match.path.values[0]", "[0].match.headers[0].name", "[0].match.headers[0].op",
	"[0].action.protocol", "[0].action.status", "[0].action.host",
	"[1].action.pool.name", "[1].action.rewrite.addQuery", "[1].action.edits[0].value", "[1].action.edits[1].name", "[1].action.rewrite.path",
}

var badService = limpet.Config{
	Name: "\n", DefaultPool: "none", PersistenceHeader: "Date", PoolPersistence: map[string]limpet.PersistenceProfile{"none": limpet.NoPersistence},
	Pools: []*lbpool.Pool{nil}, PoolGroups: []*lbpool.Group{nil},
	Forwarding: limpet.Forwarding{Proto: 9}, Scripts: []limpet.Script{{}},
	Logging: limpet.Logging{SlowResponse: -1, Ignore: []limpet.Significance{0}, IgnoreStatuses: []policy.Range[int]{{}}},
	Clients: limpet.Clients{
		TrustedProxies: []netip.Prefix{{}}, ClientHeader: " ", ClientIndex: 9999,
		ProxyProtocol: limpet.ProxyProtocol{From: []netip.Prefix{{}, {}}, HeaderTimeout: -1},
		Connections:   limpet.ConnectionLimits{Max: 1 << 40, MaxPerClient: -1, Rate: policy.Rate{Burst: 1}, Exceeded: 99, IPv4Bits: 33, IPv6Bits: 129},
	},
	Policies: limpet.Policies{
		PoliciesOnError: 9, NetworkSecurity: []policy.NetworkRule{{}}, HTTPSecurity: []policy.SecurityRule{{}},
		HTTPRequest: badRequestRules, HTTPResponse: []policy.ResponseRule{{}},
	},
	Scripting: limpet.Scripting{
		Limits: datascript.Limits{CallDepth: 1 << 30}, RequestBody: limpet.BodyBuffer{Bytes: -1}, ResponseBody: limpet.BodyBuffer{Bytes: -1},
		BodyBytes: -1, RateLimiters: map[string]*datascript.RateLimiter{"a": nil}, RateProfile: &datascript.RateProfile{Action: 99},
	},
}

var badServicePaths = slices.Concat(
	[]string{
		"name", "clientIndex", "bodyBytes", "logging.slowResponse", "logging.ignore[0]", "logging.ignoreStatuses[0]", "persistenceHeader",
		"pools[0]", "poolGroups[0]", "policiesOnError", "networkSecurity[0].name", "networkSecurity[0].action", "httpSecurity[0].name", "httpSecurity[0].action",
	},
	under("httpRequest", badRequestPaths),
	[]string{
		"httpResponse[0].name", "httpResponse[0]", "requestBody.bytes", "responseBody.bytes", "scripts[0].script",
		`rateLimiters["a"]`, "rateProfile.limiter", "rateProfile.action", "limits.callDepth",
		"trustedProxies[0]", "clientHeader", "forwarding.proto", "proxyProtocol.from[0]", "proxyProtocol.from[1]",
		"proxyProtocol.headerTimeout", "connections.max", "connections.maxPerClient", "connections.ipv4Bits", "connections.ipv6Bits",
		"connections.exceeded", "connections.rate.count",
	},
)

var badPool = lbpool.Config{
	Scheme: "ftp", Algorithm: lbpool.ConsistentHash(lbpool.ConsistentHashConfig{Key: 99, LoadFactor: 0.5}), Repick: 99, RepickFailures: -1,
	Passive:   lbpool.Passive{Failures: -1, Time: -1, MaxTime: -2, MaxShare: -1, ErrorShare: 101, Window: -1, MinRequests: -1},
	Reselect:  lbpool.Reselect{Codes: []lbpool.StatusRange{{Begin: 1, End: 2}}, MaxBody: -1, TryTimeout: -1, Timeout: -1},
	SlowStart: -1, Queue: lbpool.Queue{Length: -1, Timeout: -1, Order: 99}, FailAction: lbpool.FailAction{Kind: lbpool.FailBackup},
	HealthMonitors: []lbpool.HealthMonitor{
		{Checker: &lbpool.HTTPChecker{Path: "x", Method: " ", Accept: []lbpool.StatusRange{{}}}, Interval: 2 * time.Hour, Timeout: 3 * time.Hour, Successes: -1, Failures: -1},
		{Checker: &lbpool.TCPChecker{Maintenance: "m"}, Name: "monitor[0]"},
	},
	Discoveries:   []lbpool.Discovery{{Finder: &lbpool.DNSFinder{Network: "x", Server: lbpool.ServerConfig{Name: "a", Ratio: -1}}, Interval: -1, Timeout: -1}},
	MinMonitorsUp: 9, MinServersUp: -1,
	Servers: []lbpool.ServerConfig{{Address: "10.0.0", Ratio: 99, MaxConnections: -1, MaxRate: -1}, {Address: "10.0.0.1", Name: "10.0.0.1", Hostname: "10.0.0.1"}},
}

var badPoolPaths = []string{
	"slowStart", "repickFailures", "name", "scheme", "algorithm.key", "algorithm.loadFactor", "repick",
	"passive.failures", "passive.time", "passive.errorShare", "passive.window", "passive.minRequests", "passive.maxShare", "passive.maxTime",
	"reselect.codes[0]", "reselect.maxBody", "reselect.tryTimeout", "reselect.timeout", "queue.length", "queue.timeout", "queue.order",
	"failAction.backup", "healthMonitors[0].checker.path", "healthMonitors[0].checker.method", "healthMonitors[0].checker.accept[0]",
	"healthMonitors[0].interval", "healthMonitors[0].successes", "healthMonitors[0].failures", "healthMonitors[0].timeout",
	"healthMonitors[1].name", "healthMonitors[1].checker.maintenance",
	"discoveries[0].finder.name", "discoveries[0].finder.network", "discoveries[0].finder.server.name", "discoveries[0].finder.server.ratio",
	"discoveries[0].interval", "discoveries[0].timeout", "minMonitorsUp", "minServersUp",
	"servers[0].address", "servers[0].ratio", "servers[0].maxConnections", "servers[0].maxRate", "servers[1].name", "servers[1].hostname",
}

func under(path string, paths []string) []string {
	all := make([]string, len(paths))
	for i, p := range paths {
		all[i] = fielderr.Join(path, p)
	}
	return all
}

func second[T any](_ T, err error) error { return err }

// goName is a name of a package or of a field as a program writes it.
var goName = regexp.MustCompile(`^(limpet|policy|lbpool|ipgroup|geoip|persistence|redisstore|datascript): |\b[A-Z]\w*\.[A-Z]`)

// TestFaults has the reports of constructors: some told only the first mistake,
// and each package spelled the names of fields in its own way, so that a
// program could not find the field of a fault, and a user not the line.
func TestFaults(t *testing.T) {
	for name, c := range constructors {
		t.Run(name, func(t *testing.T) {
			err := c.call(c.args)
			var got []string
			own := false
			for _, leaf := range fielderr.Leaves(err) {
				fault, ok := leaf.(*limpet.FieldError)
				if !ok {
					own = true
					if want := reflect.TypeOf(c.own); c.own == nil || want.Elem().Name() != "errorString" && reflect.TypeOf(leaf) != want {
						t.Errorf("%T: %v", leaf, leaf)
					}
					continue
				}
				got = append(got, fault.Path)
				if err := c.args.find(fault.Path); err != nil {
					t.Errorf("%v: %v", fault, err)
				}
				if text := fault.Error() + fmt.Sprintf("%+v %#v %x", fault.Value, fault.Value, fault.Value); strings.Contains(text, secret) || strings.Contains(text, fmt.Sprintf("%x", secret)) {
					t.Errorf("the fault shows a secret: %s", text)
				}
				if strings.Contains(fault.Path, "_") || goName.MatchString(fault.Err.Error()) {
					t.Errorf("a name of Go, or one with underscores: %v", fault)
				}
			}
			if diff := cmp.Diff(c.args.ordered(got), got); diff != "" {
				t.Errorf("the order of the fields (-want +got):\n%s", diff)
			}
			slices.Sort(got)
			if diff := cmp.Diff(slices.Sorted(slices.Values(c.want)), got); diff != "" || own != (c.own != nil) {
				t.Errorf("faults of their own: %v, paths (-want +got):\n%s", own, diff)
			}
		})
	}
}

// TestConstructors finds each exported function that takes a struct of
// configuration and returns an error: its mistakes must be among those of
// TestFaults.
func TestConstructors(t *testing.T) {
	m, err := thisModule()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, p := range m.Packages {
		if !p.IsImportable() || strings.HasSuffix(p.Name, "test") {
			continue
		}
		for name, f := range exportedFuncs(p.Types) {
			if sig := f.Signature(); returnsError(sig) && takesConfig(sig) {
				found[p.Path+"."+name] = true
			}
		}
	}
	want := slices.Sorted(maps.Keys(found))
	got := slices.Sorted(maps.Keys(constructors))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("constructors in the table (-exported +there):\n%s", diff)
	}
}

// noConfiguration are structs that functions take with each request, not to be
// configured, and those that have nothing to get wrong.
var noConfiguration = map[string]bool{
	"lbpool.Hint": true, "lbpool.Lease": true, "persistence.ScanOptions": true, "config.Options": true, "config.CheckOptions": true, "config.Listener": true,
}

func returnsError(sig *types.Signature) bool {
	n := sig.Results().Len()
	return n > 0 && types.Identical(sig.Results().At(n-1).Type(), types.Universe.Lookup("error").Type())
}

// takesConfig reports whether a parameter is a struct of this module with
// exported fields, or a list of such.
func takesConfig(sig *types.Signature) bool {
	for param := range sig.Params().Variables() {
		typ := param.Type()
		for {
			if s, ok := typ.(*types.Slice); ok {
				typ = s.Elem()
			} else if p, ok := typ.(*types.Pointer); ok {
				typ = p.Elem()
			} else {
				break
			}
		}
		named, ok := typ.(*types.Named)
		if !ok || named.Obj().Pkg() == nil || !strings.HasPrefix(named.Obj().Pkg().Path(), modulePath) {
			continue
		}
		s, ok := named.Underlying().(*types.Struct)
		if !ok || noConfiguration[named.Obj().Pkg().Name()+"."+named.Obj().Name()] {
			continue
		}
		for field := range s.Fields() {
			if field.Exported() {
				return true
			}
		}
	}
	return false
}

// exportedFuncs returns the exported functions and methods of a package by
// name.
func exportedFuncs(pkg *types.Package) map[string]*types.Func {
	all := map[string]*types.Func{}
	for _, name := range pkg.Scope().Names() {
		switch object := pkg.Scope().Lookup(name).(type) {
		case *types.Func:
			if object.Exported() {
				all[name] = object
			}
		case *types.TypeName:
			named, ok := object.Type().(*types.Named)
			if !ok || !object.Exported() || object.IsAlias() || types.IsInterface(named) {
				continue
			}
			for m := range named.Methods() {
				if m.Exported() {
					all[name+"."+m.Name()] = m
				}
			}
		}
	}
	return all
}

// ordered returns paths in the order of the fields of the one argument; as they
// are if there are several.
func (a arguments) ordered(paths []string) []string {
	if len(a) != 1 {
		return paths
	}
	var l fielderr.List
	for _, path := range paths {
		l.Add(path, nil, nil)
	}
	var err error
	for name, v := range a {
		if name != "" {
			field := reflect.StructField{Name: strings.ToUpper(name[:1]) + name[1:], Type: reflect.TypeOf(v)}
			s := reflect.New(reflect.StructOf([]reflect.StructField{field})).Elem()
			s.Field(0).Set(reflect.ValueOf(v))
			v = s.Interface()
		}
		err = l.ErrIn(v)
	}
	var ordered []string
	if err != nil {
		for _, leaf := range fielderr.Leaves(err) {
			ordered = append(ordered, leaf.(*limpet.FieldError).Path)
		}
	}
	return ordered
}

// find returns why there is no field of this path.
func (a arguments) find(path string) error {
	cfg, whole := a[""]
	if whole {
		return find(reflect.ValueOf(cfg), path)
	}
	name := path
	if i := strings.IndexAny(path, ".["); i >= 0 {
		name = path[:i]
	}
	arg, ok := a[name]
	if !ok {
		return fmt.Errorf("no argument %q", name)
	}
	return find(reflect.ValueOf(arg), strings.TrimPrefix(path[len(name):], "."))
}

// find goes along a path within v.
func find(v reflect.Value, path string) error {
	for path != "" {
		for v.Kind() == reflect.Interface || v.Kind() == reflect.Pointer {
			if v.IsNil() && v.Kind() == reflect.Pointer {
				v = reflect.Zero(v.Type().Elem())
			} else {
				v = v.Elem()
			}
		}
		if path[0] == '[' {
			end := strings.IndexByte(path, ']')
			key := path[1:end]
			path = strings.TrimPrefix(path[end+1:], ".")
			if text, err := strconv.Unquote(key); err == nil && v.Kind() == reflect.Map {
				if v = v.MapIndex(reflect.ValueOf(text)); !v.IsValid() {
					return fmt.Errorf("no key %q", text)
				}
				continue
			}
			n, err := strconv.Atoi(key)
			if err != nil || v.Kind() != reflect.Slice || n >= v.Len() {
				return fmt.Errorf("no item %q in %v", key, v.Type())
			}
			v = v.Index(n)
			continue
		}
		name := path
		if i := strings.IndexAny(path, ".["); i >= 0 {
			name = path[:i]
		}
		path = strings.TrimPrefix(path[len(name):], ".")
		field, ok := fieldNamed(v, name)
		if !ok {
			return fmt.Errorf("no field %q in %v", name, v)
		}
		v = field
	}
	return nil
}

// fieldNamed finds a field, also in embedded structs and in the configuration
// that a value of an unexported type has kept.
func fieldNamed(v reflect.Value, name string) (reflect.Value, bool) {
	if v.Kind() != reflect.Struct {
		return v, false
	}
	for _, f := range reflect.VisibleFields(v.Type()) {
		if f.IsExported() && fielderr.Name(f.Name) == name {
			return v.FieldByIndex(f.Index), true
		}
	}
	if kept := v.FieldByName("cfg"); kept.IsValid() {
		return fieldNamed(kept, name)
	}
	return v, false
}
