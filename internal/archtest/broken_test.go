package archtest

import (
	"fmt"
	"go/ast"
	"go/token"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestBroken runs each check on a module in which its rules are broken. What is not listed must not be found: the files hold
// as many cases that only look like violations.
func TestBroken(t *testing.T) {
	m, err := Load("testdata/broken")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{ // file:line, and a part of the text
		"compiles": {
			"ipgroup: not an int",
		},
		"imports": {
			"cmd/limpet/main.go:7: internal/upward",
			"examples/hidden/main.go:6: internal/upward",
			"internal/upward/upward.go:4: limpet/policy",
			"persistence/persistence.go:7: limpet/lbpool",
			"persistence/persistence.go:8: gopher-lua",
			"util: no row",
		},
		"package comments": {
			"cmd/limpet: no package comment",
			"lbpool: no package comment",
			"persistence/second.go:1: second package comment; the first is in persistence/persistence.go",
		},
		"doc comments": {
			"persistence/persistence.go:13: Bare has",
			"persistence/persistence.go:23: Variable has",
			"persistence/persistence.go:23: Another has",
			"persistence/persistence.go:25: Function has",
			"persistence/persistence.go:27: Table has",
			"persistence/persistence.go:28: Table.Field has",
			"persistence/persistence.go:31: Table.Inner has",
			"persistence/persistence.go:32: Table.Inner.Deep has",
			"persistence/persistence.go:40: Table.Method has",
			"persistence/persistence.go:48: Store.Insert has",
		},
		"examples": {
			"root package: no Example",
			"datascript: no Example",
			"ipgroup: no Example",
			"lbpool: no Example",
			"persistence: no Example",
			"policy: no Example",
			"util: no Example",
		},
		"forbidden uses": {
			"cmd/limpet/main.go:10: ReverseProxy.Director",
			"datascript/datascript.go:24: needs a rule and a reason",
			"datascript/datascript.go:13: LState.SetMx",
			"datascript/datascript.go:14: LState.RaiseError",
			"datascript/datascript.go:17: LState.SetMx",
			"datascript/datascript.go:19: LState.RaiseError",
			"datascript/datascript.go:23: LState.SetMx",
			"datascript/datascript.go:24: LState.SetMx",
			`datascript/datascript.go:23: allows "raiseerror"`,
			"persistence/persistence.go:54: needs a rule and a reason",
			"policy/policy.go:11: ReverseProxy.Director",
			"policy/policy.go:13: http.DefaultTransport",
			"policy/policy.go:14: http.DefaultClient",
			"policy/policy.go:15: ReverseProxy.Director",
			"policy/policy.go:21: time.Duration",
			"policy/policy_test.go:11: time.Sleep",
		},
	}
	for _, check := range checks {
		t.Run(check.name, func(t *testing.T) {
			found := check.run(m)
			for i := range max(len(found), len(want[check.name])) {
				switch {
				case i >= len(found):
					t.Errorf("not found: %s", want[check.name][i])
				case i >= len(want[check.name]):
					t.Errorf("found without cause: %v", found[i])
				default:
					where, text, _ := strings.Cut(want[check.name][i], ": ")
					got := found[i].Pos.Filename
					if found[i].Pos.Line > 0 {
						got = fmt.Sprintf("%s:%d", got, found[i].Pos.Line)
					}
					if got != where || !strings.Contains(found[i].Text, text) {
						t.Errorf("found %v, want %s: …%s…", found[i], where, text)
					}
				}
			}
		})
	}
}

func TestSurfaceLines(t *testing.T) {
	m, err := Load("testdata/broken")
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(m.Packages, func(p *Package) bool { return p.Path == "ipgroup/geoip" })
	if i < 0 {
		t.Fatal("ipgroup/geoip was not loaded")
	}
	want := []string{
		`const First Kind = 2`,
		`const Lifetime time.Duration = 300000000000`,
		`const Name untyped string = "geo\n"`,
		`const Pi untyped float = 157/50`,
		`const Second Kind = 3`,
		`const Small uint8 = 1`,
		`field Table embeds io.Reader`,
		`field Table.Key K`,
		`field Table.Lent int`,
		`func Sum[N Number](numbers ...N) N`,
		`method (*Table) Close() error`,
		`method (*Table) Get(key K) (value V, ok bool)`,
		`method (Finder) Close() error`,
		`method (Finder) Find(name string, more ...int) (*Table[string, int], error)`,
		`method (Finder) unexported`,
		`method (Kind) String() string`,
		`method (Table) Read(p []byte) (n int, err error)`,
		`type Finder interface`,
		`type Func func(w io.Writer) error`,
		`type Header = net/http.Header`,
		`type Kind uint8`,
		`type Number interface`,
		`type Number interface of ~int | ~float64`,
		`type Table[K comparable, V any] struct`,
		`var Err error`,
	}
	if diff := cmp.Diff(want, Surface(m.Packages[i])); diff != "" {
		t.Errorf("surface (-want +got):\n%s", diff)
	}
}

func TestLoadFails(t *testing.T) {
	if _, err := Load(t.TempDir()); err == nil {
		t.Error("a directory without a module was loaded")
	}
	if _, err := Load("testdata/missing"); err == nil {
		t.Error("a directory that does not exist was loaded")
	}
}

// TestRuleRot shows that a rule is reported when the name it forbids is gone.
func TestRuleRot(t *testing.T) {
	m, err := Load("testdata/broken")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		rule useRule
		ok   bool
	}{
		{useRule{pkg: "net/http", name: "DefaultClient"}, true},
		{useRule{pkg: "net/http", name: "DefaultServant"}, false},
		{useRule{pkg: "net/http/httputil", name: "ReverseProxy.Conductor"}, false},
		{useRule{pkg: "example.com/nobody/imports/this", name: "Name"}, true},
	} {
		if _, err := m.object(tc.rule); (err == nil) != tc.ok {
			t.Errorf("%s.%s: error %v", tc.rule.pkg, tc.rule.name, err)
		}
	}
}

func TestTooManyModules(t *testing.T) {
	file := &File{Name: "persistence/table.go", File: &ast.File{}}
	m := &Module{fset: token.NewFileSet(), owners: make(map[string]string),
		Packages: []*Package{{Path: "persistence", Name: "persistence", Files: []*File{file}}}}
	for i := range maxModules + 1 {
		path := fmt.Sprintf("example.com/module%d", i)
		m.owners[path] = path
		file.Imports = append(file.Imports, &ast.ImportSpec{Path: &ast.BasicLit{Value: fmt.Sprintf("%q", path)}})
		tooMany := slices.ContainsFunc(CheckImports(m), func(f Finding) bool { return strings.HasPrefix(f.Text, "the library depends on") })
		if want := i >= maxModules; tooMany != want {
			t.Errorf("%d modules: too many is %t", i+1, tooMany)
		}
	}
}

// TestImportRules checks what the table of the map says, beside what the present packages happen to do.
func TestImportRules(t *testing.T) {
	five := []string{"persistence", "lbpool", "ipgroup", "policy", "datascript"}
	for _, from := range five {
		rule, ok := ruleFor(from)
		if !ok {
			t.Fatalf("no rule for %s", from)
		}
		for _, to := range append(five, "persistence/redisstore", "ipgroup/geoip", "datascript/datascripttest") {
			if rule.allows(modulePath + "/" + to) {
				t.Errorf("%s may import %s", from, to)
			}
		}
		if rule.allows(modulePath) {
			t.Errorf("%s may import the root", from)
		}
	}

	for _, tc := range []struct {
		from, to string
		want     bool
	}{
		{"", modulePath + "/persistence", true},
		{"", modulePath + "/persistence/redisstore", true},
		{"", modulePath + "/policy", true},
		{"", modulePath + "/internal/clientaddr", true},
		{"", modulePath + "/datascript/datascripttest", false},
		{"", "github.com/yuin/gopher-lua", false},
		{"persistence", "github.com/hashicorp/golang-lru/v2/simplelru", false},
		{"persistence", "github.com/hashicorp/golang-lru/v2", false},
		{"persistence", "github.com/redis/rueidis", false},
		{"persistence/redisstore", modulePath + "/persistence", true},
		{"persistence/redisstore", "github.com/redis/rueidis", true},
		{"ipgroup", "github.com/oschwald/maxminddb-golang/v2", false},
		{"ipgroup/geoip", "github.com/oschwald/maxminddb-golang/v2", true},
		{"ipgroup/geoip", modulePath + "/ipgroup", false},
		{"datascript", "github.com/yuin/gopher-lua/parse", true},
		{"datascript", "github.com/yuin/gopher-luar", false},
		{"datascript/datascripttest", modulePath + "/datascript", true},
		{"datascript/datascripttest", modulePath + "/lbpool", false},
		{"internal/archtest", modulePath + "/internal/clientaddr", true},
		{"internal/archtest", modulePath, false},
		{"internal/archtest", "github.com/yuin/gopher-lua", false},
		{"cmd/limpet", modulePath, true},
		{"cmd/limpet", modulePath + "/internal/clientaddr", false},
		{"examples/custompersistence", modulePath, true},
		{"examples/custompersistence", "github.com/goccy/go-yaml", false},
	} {
		rule, ok := ruleFor(tc.from)
		if !ok {
			t.Errorf("no rule for %q", tc.from)
		} else if got := rule.allows(tc.to); got != tc.want {
			t.Errorf("%q may import %q: %t, want %t", tc.from, tc.to, got, tc.want)
		}
	}
	for _, from := range []string{"util", "persistence/cache", "cmd/other", "internals"} {
		if _, ok := ruleFor(from); ok {
			t.Errorf("%q is on the map", from)
		}
	}
	for _, rule := range importRules {
		if rule.reason == "" {
			t.Errorf("the rule for %s has no reason", rule.packages)
		}
	}
}
