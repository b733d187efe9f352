package archtest

import (
	"context"
	"encoding"
	"errors"
	"fmt"
	"go/types"
	"maps"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/datascript/jwtkeys"
	"github.com/limpetlb/limpet/internal/bounds"
	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/ipgroup"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
	"github.com/limpetlb/limpet/persistence/redisstore"
	"github.com/limpetlb/limpet/policy"
)

// A configured is a way to hand a configuration to limpet. Each call of make
// returns a pointer to a new one, in which every struct with numbers has a
// place. The paths of its faults begin with under.
type configured struct {
	make  func() any
	check func(any) error
	under string
}

// rulesOf are the argument of a constructor of a policy.
type rulesOf[T any] struct{ Rules []T }

// rate has a burst: without it, no Count is no limit.
var rate = policy.Rate{Count: 1, Burst: 1}

var configurations = []configured{
	{make: func() any {
		return &limpet.Config{
			Overrides: []limpet.Override{{Pool: "web", Server: "a"}},
			Logging:   limpet.Logging{IgnoreStatuses: []policy.Range[int]{{Begin: 400, End: 499}}},
			Clients:   limpet.Clients{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Connections: limpet.ConnectionLimits{RatePerClient: rate, Rate: rate}},
		}
	}, check: func(c any) error { return second(limpet.New(*c.(*limpet.Config))) }},
	{make: func() any { return new(limpet.BearerConfig) }, check: func(c any) error {
		return second(limpet.NewBearerAuthenticator(*c.(*limpet.BearerConfig)))
	}},
	{make: func() any {
		return &jwtkeys.Config{KeySets: map[string]jwtkeys.KeySet{"a": {URL: "https://h", Transport: http.DefaultTransport}}}
	}, check: func(c any) error { return second(jwtkeys.New(*c.(*jwtkeys.Config))) }},
	{make: func() any {
		return &datascript.Env{Metrics: new(datascript.Metrics), RateProfile: &datascript.RateProfile{Action: datascript.RateReply}}
	}, check: func(c any) error { return second(datascript.NewEngine(*c.(*datascript.Env))) }},
	{make: func() any { return &datascript.RateLimit{Count: 1} }, check: func(c any) error {
		return second(datascript.NewRateLimiter(*c.(*datascript.RateLimit)))
	}},
	{make: func() any { return new(ipgroup.Options) }, check: func(c any) error {
		return second(ipgroup.Parse("a", []string{"10.0.0.1"}, *c.(*ipgroup.Options)))
	}},
	{make: func() any {
		ranges := []lbpool.StatusRange{{Begin: 500, End: 599}}
		return &lbpool.Config{
			Name: "web", Servers: []lbpool.ServerConfig{{Address: "10.0.0.1"}}, Reselect: lbpool.Reselect{Codes: ranges},
			HealthMonitors: []lbpool.HealthMonitor{{Checker: &lbpool.HTTPChecker{Accept: ranges}}},
			Discoveries:    []lbpool.Discovery{{Finder: new(lbpool.DNSFinder)}},
		}
	}, check: func(c any) error { return second(lbpool.New(*c.(*lbpool.Config))) }},
	{make: func() any { return &[]lbpool.Override{{Server: "a"}} }, check: func(c any) error {
		p, err := lbpool.New(lbpool.Config{Name: "web", Servers: []lbpool.ServerConfig{{Address: "10.0.0.1"}}})
		if err != nil {
			return err
		}
		return p.Override("a", *c.(*[]lbpool.Override)...)
	}, under: "overrides"},
	{make: func() any {
		return &lbpool.FailAction{Kind: lbpool.FailRedirect, Redirect: lbpool.Redirect{Host: "h"}}
	}, check: newPool(func(p *lbpool.Config, a *lbpool.FailAction) {
		p.FailAction = *a
	}), under: "failAction"},
	{make: func() any { return new(lbpool.ConsistentHashConfig) }, check: newPool(func(p *lbpool.Config, a *lbpool.ConsistentHashConfig) {
		p.Algorithm = lbpool.ConsistentHash(*a)
	}), under: "algorithm"},
	{make: func() any { return &lbpool.GroupConfig{Members: []lbpool.Member{{}}} }, check: func(c any) error {
		return second(lbpool.NewGroup(*c.(*lbpool.GroupConfig)))
	}},
	{make: func() any { return new(persistence.Options) }, check: func(c any) (err error) {
		defer func() {
			if p := recover(); p != nil {
				err = errors.Unwrap(p.(error))
			}
		}()
		persistence.NewStore(*c.(*persistence.Options))
		return nil
	}},
	{make: func() any { return new(persistence.ScanOptions) }, check: func(c any) error {
		_, _, err := persistence.NewStore(persistence.Options{}).Scan(context.Background(), "", *c.(*persistence.ScanOptions))
		return err
	}},
	{make: func() any { return new(persistence.ClientIPConfig) }, check: func(c any) error {
		return second(persistence.NewClientIP(*c.(*persistence.ClientIPConfig)))
	}},
	{make: func() any { return &persistence.AppCookieConfig{Name: "a"} }, check: func(c any) error {
		return second(persistence.NewAppCookie(*c.(*persistence.AppCookieConfig)))
	}},
	{make: func() any { return new(persistence.HTTPCookieConfig) }, check: func(c any) error {
		return second(persistence.NewHTTPCookie(*c.(*persistence.HTTPCookieConfig)))
	}},
	{make: func() any { return &persistence.Saver{} }, check: func(c any) error {
		if c := c.(*persistence.Saver); c.Interval >= 0 {
			return nil // it would save
		}
		return c.(*persistence.Saver).Run(context.Background())
	}},
	{make: func() any { return &redisstore.Config{Addresses: []string{"h:1"}} }, check: func(c any) error {
		s, err := redisstore.New(*c.(*redisstore.Config))
		if err == nil {
			err = s.Close()
		}
		return err
	}},
	{make: func() any {
		return &rulesOf[policy.NetworkRule]{[]policy.NetworkRule{{Name: "a", Action: policy.ActionRateLimit, Limit: &policy.NetworkLimit{MaxRate: 1}}}}
	}, check: func(c any) error {
		return second(policy.NewNetworkSecurity(c.(*rulesOf[policy.NetworkRule]).Rules, policy.Env{}))
	}},
	{make: func() any {
		return &rulesOf[policy.SecurityRule]{[]policy.SecurityRule{
			{Name: "a", Action: policy.Respond{Status: 403}},
			{Name: "c", Action: policy.RedirectToHTTPS{}},
			{Name: "b", Action: policy.RateLimit{Limit: policy.RateLimiterConfig{Rate: rate}}},
		}}
	}, check: func(c any) error {
		return second(policy.NewHTTPSecurity(c.(*rulesOf[policy.SecurityRule]).Rules, policy.Env{}))
	}},
	{make: func() any {
		return &rulesOf[policy.RequestRule]{[]policy.RequestRule{{Name: "a", Action: policy.Redirect{Protocol: policy.HTTPS}}}}
	}, check: func(c any) error {
		return second(policy.NewHTTPRequest(c.(*rulesOf[policy.RequestRule]).Rules, policy.Env{}))
	}},
	{make: func() any {
		return &rulesOf[policy.ResponseRule]{[]policy.ResponseRule{{Name: "a", Match: policy.ResponseMatch{
			Status: &policy.StatusMatch{Op: policy.IsIn, Codes: []int{404}, Ranges: []policy.Range[int]{{Begin: 500, End: 599}}},
		}}}}
	}, check: func(c any) error {
		return second(policy.NewHTTPResponse(c.(*rulesOf[policy.ResponseRule]).Rules, policy.Env{}))
	}},
}

func newPool[T any](set func(*lbpool.Config, *T)) func(any) error {
	return func(c any) error {
		p := lbpool.Config{Name: "web", Servers: []lbpool.ServerConfig{{Address: "10.0.0.1"}}}
		set(&p, c.(*T))
		return second(lbpool.New(p))
	}
}

// noNumbers are structs whose numbers nobody configures: limpet or its caller
// writes them with each event.
var noNumbers = map[string]bool{
	".Exemplar": true, ".ExplainedMessage": true, ".Health": true, ".HealthInput": true, ".Histogram": true, ".ListenerStats": true, ".Traffic": true, ".Record": true, ".Stats": true,
	"config.Error": true, "config.Tracing": true,
	"datascript.BudgetError": true, "datascript.Chunk": true, "datascript.CompileError": true, "datascript.Metric": true,
	"datascript.Reference": true, "datascript.RuntimeError": true, "datascript.ScriptStats": true, "datascript.TokenCheck": true, "datascript.Warning": true, "datascript/jwtkeys.Event": true, "datascript/jwtkeys.TokenCheck": true,
	"ipgroup.EntryError": true, "ipgroup/geoip.Metadata": true,
	"ipgroup/geoip.Layer": true, // any index will do
	"lbpool.DrainStatus":  true, "lbpool.MonitorStats": true,
	"lbpool.Event": true, "lbpool.ForwardError": true, "lbpool.Outcome": true, "lbpool.PoolStats": true, "lbpool.Route": true, "lbpool.ServerStats": true,
	"persistence.Entry": true, "persistence.Item": true, "persistence.SnapshotError": true, "persistence.Stats": true, "persistence.RemoteStats": true, "persistence.SaverStats": true, "persistence.Histogram": true,
	"policy.Outcome": true, "policy.RuleError": true, "policy.Verdict": true,
}

// TestNumbers gives each number of each configuration a negative value, and
// values beyond the bounds that its tags say: a negative value meant the
// default in one package, no limit in the next and was a fault in a third, and
// a bound that a comment named was not always one.
func TestNumbers(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range configurations {
		numbers := 0
		eachNumber(reflect.ValueOf(c.make()), "", "", "", func(number) { numbers++ })
		if numbers == 0 {
			t.Errorf("%T: no numbers", c.make())
		}
		for n := range numbers {
			c.testNumber(t, n, seen)
		}
	}
	m, err := thisModule()
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, p := range m.Packages {
		if !p.IsImportable() || strings.HasSuffix(p.Name, "test") {
			continue
		}
		for _, name := range p.Types.Scope().Names() {
			object := p.Types.Scope().Lookup(name)
			s, ok := object.Type().Underlying().(*types.Struct)
			if _, isType := object.(*types.TypeName); !isType || !ok || !object.Exported() || noNumbers[p.Path+"."+name] {
				continue
			}
			for f := range s.Fields() {
				if f.Exported() && (isNumber(f.Type()) || f.Type().String() == "time.Duration") {
					want = append(want, p.Path+"."+name+"."+f.Name())
				}
			}
		}
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(seen))); diff != "" {
		t.Errorf("numbers in the table (-exported +there):\n%s", diff)
	}
}

func isNumber(t types.Type) bool {
	b, ok := t.(*types.Basic)
	return ok && b.Info()&(types.IsInteger|types.IsFloat) != 0 && b.Info()&types.IsUnsigned == 0
}

// A number is a field or an item that can be negative.
type number struct {
	v     reflect.Value
	path  string
	field string // its struct, a dot and its name; empty for items
	tag   reflect.StructTag
}

// eachNumber calls visit for the numbers in v, which may change them. The value
// itself has this path, name and tag.
func eachNumber(v reflect.Value, path, field string, tag reflect.StructTag, visit func(number)) {
	if !v.IsValid() {
		return
	}
	// Values of interfaces and mappings cannot be changed in place.
	change := func(old reflect.Value, path string) reflect.Value {
		made := reflect.New(old.Type()).Elem()
		made.Set(old)
		eachNumber(made, path, "", "", visit)
		return made
	}
	switch v.Kind() {
	case reflect.Pointer:
		eachNumber(v.Elem(), path, field, tag, visit)
	case reflect.Interface:
		if v.CanSet() && !v.IsNil() {
			v.Set(change(v.Elem(), path))
		}
	case reflect.Slice:
		for i := range v.Len() {
			eachNumber(v.Index(i), fielderr.Index(path, i), "", "", visit)
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			v.SetMapIndex(key, change(v.MapIndex(key), fielderr.Key(path, key.String())))
		}
	case reflect.Struct:
		if !strings.HasPrefix(v.Type().PkgPath(), modulePath) {
			return
		}
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if !f.IsExported() {
				continue
			}
			inner := fielderr.Join(path, fielderr.Name(f.Name))
			if f.Anonymous {
				inner = path
			}
			owner := strings.TrimPrefix(strings.TrimPrefix(v.Type().PkgPath(), modulePath), "/") + "." + v.Type().Name()
			eachNumber(v.Field(i), inner, owner+"."+f.Name, f.Tag, visit)
		}
	default:
		if _, constant := reflect.TypeAssert[encoding.TextMarshaler](v); constant || !v.CanSet() || !v.CanInt() && !v.CanFloat() {
			return
		}
		if p := v.Type().PkgPath(); p != "" && p != "time" {
			return // http.SameSite
		}
		visit(number{v, path, field, tag})
	}
}

// testNumber tries values of the number at position n.
func (c *configured) testNumber(t *testing.T, n int, seen map[string]bool) {
	var at number
	with := func(value reflect.Value) error {
		cfg := c.make()
		i := 0
		eachNumber(reflect.ValueOf(cfg), "", "", "", func(found number) {
			if i == n {
				if at = found; value.IsValid() {
					found.v.Set(value.Convert(found.v.Type()))
				}
			}
			i++
		})
		return c.check(cfg)
	}
	_ = with(reflect.Value{})
	if at.field != "" && !strings.Contains(at.field, "Range[") && !strings.HasPrefix(at.field, "internal/") {
		seen[at.field] = true
	}
	path := fielderr.Join(c.under, at.path)
	try := func(value reflect.Value, allowed bool) {
		t.Helper()
		if err := with(value); refuses(err, path) == allowed {
			t.Errorf("%s, %s: %v `%s`: %v", at.field, path, value, at.tag, err)
		}
	}
	low, high := boundsOf(at)
	negative := reflect.ValueOf(-1)
	_, meant := at.tag.Lookup("negative")
	try(negative, meant || low.IsValid() && compareTo(low, -1) <= 0)
	for _, edge := range []struct {
		bound reflect.Value
		step  int
	}{{low, -1}, {high, 1}} {
		if !edge.bound.IsValid() {
			continue
		}
		beyond := reflect.New(at.v.Type()).Elem()
		if at.v.CanFloat() {
			beyond.SetFloat(edge.bound.Float() + float64(edge.step)/2)
		} else {
			beyond.SetInt(edge.bound.Int() + int64(edge.step))
		}
		_, byDefault := at.tag.Lookup("default")
		try(beyond, beyond.IsZero() && byDefault || meant && compareTo(beyond, 0) < 0)
	}
}

// boundsOf returns what the tags of a number say, as the package does that
// reads them.
func boundsOf(n number) (low, high reflect.Value) {
	read := func(tag string) reflect.Value {
		text, ok := n.tag.Lookup(tag)
		if !ok {
			return reflect.Value{}
		}
		field := reflect.StructField{Name: "A", Type: n.v.Type(), Tag: reflect.StructTag(fmt.Sprintf("default:%q", text))}
		v := reflect.New(reflect.StructOf([]reflect.StructField{field}))
		bounds.SetDefaults(v.Interface())
		return v.Elem().Field(0)
	}
	return read("min"), read("max")
}

func compareTo(v reflect.Value, n int) int {
	if v.CanFloat() {
		return int(v.Float()) - n
	}
	return max(-1, min(1, int(v.Int())-n))
}

// refuses reports whether one of the faults is that of a number: the path is
// its own, or that of the list item with it.
func refuses(err error, path string) bool {
	if err == nil {
		return false
	}
	return slices.ContainsFunc(fielderr.Leaves(err), func(err error) bool {
		fault, ok := errors.AsType[*limpet.FieldError](err)
		if !ok {
			return false
		}
		rest, ok := strings.CutPrefix(path, fault.Path)
		return ok && (rest == "" || strings.HasSuffix(fault.Path, "]") && !strings.Contains(rest[1:], "."))
	})
}
