package archtest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// brokenModule is a module in which rules are broken.
var brokenModule = sync.OnceValues(func() (*Module, error) { return Load("testdata/broken") })

// TestBroken runs each check on a module in which its rules are broken. What is
// not listed must not be found: the files hold as many cases that only look
// like violations.
func TestBroken(t *testing.T) {
	m, err := brokenModule()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{ // file:line, and a part of the text
		"imports": {
			"cmd/limpet/main.go:3: internal/upward",
			"examples/hidden/main.go:6: internal/upward",
			"internal/upward/upward.go:4: limpet/policy",
			"persistence/persistence.go:7: limpet/lbpool",
			"persistence/persistence.go:8: x/net",
			"util: no row",
		},
		"doc comments": {
			"persistence/persistence.go:13: Bare has",
			"persistence/persistence.go:22: Variable has",
			"persistence/persistence.go:22: Another has",
			"persistence/persistence.go:26: Table.Field has",
			"persistence/persistence.go:29: Table.Inner has",
			"persistence/persistence.go:30: Table.Inner.Deep has",
			"persistence/persistence.go:40: Store.Insert has",
		},
		"sleep": {
			"policy/policy_test.go:10: time.Sleep",
			"policy/policy_test.go:15: time.Sleep",
		},
		"openers": {
			"persistence/open.go:6: os.ReadFile",
		},
		"width": {
			"lbpool/lbpool.go:4: 81 columns",
			"lbpool/lbpool.go:7: 81 columns",
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
	m, err := brokenModule()
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

// TestImportRules checks that no row of the map makes one of the five packages
// depend on another, or on the root.
func TestImportRules(t *testing.T) {
	five := []string{"persistence", "lbpool", "ipgroup", "policy", "datascript"}
	for _, from := range five {
		rule, ok := ruleFor(from)
		if !ok {
			t.Fatalf("no rule for %s", from)
		}
		for _, to := range append(five, "", "persistence/redisstore", "ipgroup/geoip", "datascript/datascripttest") {
			if rule.allows(strings.TrimSuffix(modulePath+"/"+to, "/")) {
				t.Errorf("%s may import %q", from, to)
			}
		}
	}
}
