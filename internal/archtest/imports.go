package archtest

import (
	"slices"
	"strconv"
	"strings"
)

// importRule says what the packages matched by a pattern may import beside the
// standard library. Tests may import more.
//
// A pattern is a path relative to the module, ending in "/..." where it stands
// for everything below as well; "." is the root package. Entries of may are
// such patterns with "./" in front, or the import paths of packages of other
// modules.
type importRule struct {
	packages string
	may      []string
	reason   string
}

// importRules is the map of the module: every package matches a row, the first
// that fits counts.
var importRules = []importRule{
	{".", []string{"./persistence/...", "./lbpool", "./ipgroup/...", "./policy", "./datascript", "./internal/..."},
		"the root alone composes the five packages; what it composes is in seams.go"},

	{"persistence", []string{"./internal/..."},
		"a table is useful without a load balancer; golang-lru's simplelru is what its tests compare eviction with"},
	{"persistence/redisstore", []string{"./persistence", "./internal/...", "github.com/redis/rueidis"},
		"who does not keep entries in Redis must not inherit its client"},
	{"persistence/persistencetest", []string{"./persistence"},
		"it tests stores that know nothing of limpet but its options and items of a scan, and must bring nothing with it"},
	{"lbpool", []string{"./internal/...", "golang.org/x/time/rate"},
		"a pool is useful without scripts and tables"},
	{"ipgroup", []string{"./internal/...", "github.com/gaissmai/bart", "go4.org/netipx"},
		"a group knows addresses only; countries come through its CountryFinder"},
	{"ipgroup/geoip", []string{"./internal/...", "github.com/oschwald/maxminddb-golang/v2", "github.com/gaissmai/bart"},
		"who needs no countries must not inherit the database reader"},
	{"policy", []string{"./internal/...", "github.com/gaissmai/bart", "go4.org/netipx"},
		"rules see groups, pools and transactions through interfaces of their own, so that each is tested with a small fake"},
	{"datascript", []string{"./internal/...", "github.com/yuin/gopher-lua/..."},
		"scripts see tables, pools and groups through interfaces of their own; how Lua runs is the business of internal/lua51"},
	{"datascript/jwtkeys", []string{"./internal/...", "github.com/go-jose/go-jose/v4/...", "github.com/hashicorp/golang-lru/v2/simplelru"},
		"who verifies no tokens must not inherit the library for them; scripts and authenticators see it through TokenVerifier"},
	{"datascript/datascripttest", []string{"./datascript", "./internal/...", "golang.org/x/tools/txtar"},
		"it tests scripts for their authors as well, without pools, tables or sockets"},

	{"config", []string{".", "./persistence/...", "./lbpool", "./ipgroup/...", "./policy", "./datascript", "./datascript/jwtkeys", "./internal/...", "go.yaml.in/yaml/v4"},
		"it makes everything of a file, so it knows everything; only programs import it, and who builds a service in Go must not inherit YAML"},

	{"admin", []string{".", "./persistence", "./lbpool", "./ipgroup", "./policy", "./datascript", "./internal/..."},
		"who operates a service needs no library for that: it is HTTP and JSON; nothing but programs imports it"},

	{"cmd/limpet/internal/systemd", []string{"github.com/coreos/go-systemd/v22/activation", "github.com/coreos/go-systemd/v22/daemon"},
		"it knows the service manager, and nothing of services; nothing else speaks to it"},
	{"cmd/limpet/internal/handover", nil,
		"it knows processes, sockets and messages, and nothing of what these say"},
	{"cmd/limpet/internal/acme", []string{"./config", "github.com/caddyserver/certmagic", "github.com/mholt/acmez/v3/..."},
		"programs that use the library must not inherit a client of ACME; config sees it through its Issuer"},
	{"cmd/limpet/internal/testacme", []string{"./internal/testcerts", "github.com/letsencrypt/pebble/v2/...", "github.com/miekg/dns"},
		"it is an authority, and knows nothing of its clients; it is for tests"},
	{"cmd/limpet/internal/otlp", []string{".", "./config", "./tracing", "go.opentelemetry.io/otel/..."},
		"programs that use the library must not inherit an exporter; config sees it through its TraceExporter"},
	{"cmd/limpet", []string{".", "./config", "./datascript/...", "./internal/configkeys", "./internal/fielderr", "./internal/filewatch", "./internal/interrupt", "./internal/scriptfile", "./internal/suggest", "./cmd/limpet/internal/...",
		"github.com/spf13/cobra", "github.com/spf13/pflag"},
		"the command does nothing the library cannot do: a file is config's, and it adds processes and signals"},
	{"metrics", []string{".", "./persistence/...", "./lbpool", "./policy", "./datascript", "./internal/bounds", "./internal/enumtext", "./internal/fielderr", "./internal/histogram", "github.com/prometheus/client_golang/prometheus/...", "github.com/prometheus/client_model/go", "github.com/prometheus/common/model", "google.golang.org/protobuf/..."},
		"it reads what the packages count; who does not use Prometheus must not inherit its client"},
	{"tracing", []string{".", "./lbpool", "./datascript", "./internal/enumtext", "./internal/fielderr", "go.opentelemetry.io/otel/..."},
		"it makes spans of what services report; who does not trace must not inherit OpenTelemetry"},
	{"examples/...", []string{".", "./config", "./persistence/...", "./lbpool", "./ipgroup/...", "./policy", "./datascript/..."},
		"an example that needs internal packages or other modules shows something its reader cannot do"},

	{"internal/scriptfile", []string{"./datascript"},
		"the command and configurations compile the same files in the same way; nothing else does"},
	{"internal/lua51", []string{"./internal/...", "github.com/yuin/gopher-lua/..."},
		"the interpreter knows nothing of the API, and is the only internal package that knows gopher-lua"},
	{"internal/accept", []string{"./internal/...", "github.com/pires/go-proxyproto"},
		"it judges connections through functions, without policies and virtual services; nothing else reads PROXY headers"},
	{"internal/htpasswd", []string{"golang.org/x/crypto/bcrypt", "github.com/hashicorp/golang-lru/v2/simplelru"},
		"it knows files and passwords, and no requests; nothing else computes hashes of passwords"},
	{"internal/httpfield", []string{"golang.org/x/net/http/httpguts"},
		"names and values of fields are those of net/http, which refuses others where it sends them"},
	{"internal/transparency", []string{"./internal/testleak", "./internal/testrace", "./internal/websockettest"},
		"it tests any middleware and proxy, so it knows none"},
	{"internal/websockettest", []string{"golang.org/x/net/websocket"},
		"nothing else speaks WebSocket; it is for tests"},
	{"internal/http2test", []string{"golang.org/x/net/http2/..."},
		"it is for tests of clients, and is none"},
	{"internal/...", []string{"./internal/..."},
		"an internal package is one idea that the public ones build on, never the other way round"},
}

// CheckImports finds imports that importRules does not allow, and packages it
// does not know. No linter does that: depguard has lists for groups of files,
// but a package that is on none of its lists may import all.
func CheckImports(m *Module) []Finding {
	var found []Finding
	for _, p := range m.Packages {
		rule, ok := ruleFor(p.Path)
		if !ok {
			found = append(found, packageFinding(p, "no row of the import rules (internal/archtest/imports.go) names this package"))
			continue
		}
		for _, f := range p.Files {
			for _, spec := range f.Imports {
				path, err := strconv.Unquote(spec.Path.Value)
				if err == nil && !m.isStandard(path) && !rule.allows(path) {
					found = append(found, m.finding(spec.Pos(), "may not import %s: %s", path, rule.reason))
				}
			}
		}
	}
	return found
}

// isStandard reports whether path is of the standard library, whose paths have
// no dot in the first element.
func (m *Module) isStandard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return m.owners[path] == "" && !strings.Contains(first, ".")
}

// ruleFor returns the first rule for the package with a relative path.
func ruleFor(path string) (importRule, bool) {
	i := slices.IndexFunc(importRules, func(r importRule) bool { return matches(r.packages, relative(path)) })
	if i < 0 {
		return importRule{}, false
	}
	return importRules[i], true
}

// allows reports whether the rule allows to import path.
func (r importRule) allows(path string) bool {
	if path == modulePath || strings.HasPrefix(path, modulePath+"/") {
		path = "./" + strings.TrimPrefix(strings.TrimPrefix(path, modulePath), "/")
		path = strings.TrimSuffix(path, "/")
	}
	return slices.ContainsFunc(r.may, func(pattern string) bool { return matches(pattern, path) })
}

// relative returns the pattern that matches only the package with a relative
// path.
func relative(path string) string {
	if path == "" {
		return "."
	}
	return path
}

// matches reports whether a path is what the pattern stands for.
func matches(pattern, path string) bool {
	parent, below := strings.CutSuffix(pattern, "/...")
	return path == parent || below && strings.HasPrefix(path, parent+"/")
}
