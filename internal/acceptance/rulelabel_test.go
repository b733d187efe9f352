package acceptance_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
	"github.com/limpetlb/limpet/policy"
)

// A rule could choose a group, and not the members with a label as a script
// can.
func TestRuleLabel(t *testing.T) {
	says := func(text string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) })
	}
	pool := func(name string) *lbpool.Pool {
		return newPool(t, lbpool.Config{Name: name, Servers: []lbpool.ServerConfig{{Address: startServer(t, "127.0.0.1:0", says(name))}}})
	}
	root, cart, spare := pool("root"), pool("cart"), pool("spare")
	group := func(fail lbpool.FailAction, fallback string) *lbpool.Group {
		g, err := lbpool.NewGroup(lbpool.GroupConfig{Name: "g", ImplicitLabels: true, FallbackLabel: fallback, FailAction: fail, Members: []lbpool.Member{
			{Pool: root, Ratio: 1, Priority: 2, Label: "shop.example/"}, {Pool: cart, Ratio: 1, Priority: 1, Label: "shop.example/cart"},
		}})
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	cartDown := func() { cart.Servers()[0].Disable() }
	for _, tt := range []struct {
		name, label string
		group       *lbpool.Group
		down        bool // the pool cart
		status      int
		body        string
	}{
		{"exact", "shop.example/cart", group(lbpool.FailAction{}, ""), false, 200, "cart"},
		{"implicit", "shop.example/cart/1", group(lbpool.FailAction{}, ""), false, 200, "cart"},
		{"other segment", "shop.example/carts", group(lbpool.FailAction{}, ""), false, 200, "root"},
		{"fallback", "other.example/", group(lbpool.FailAction{}, "shop.example/cart"), false, 200, "cart"},
		{"down", "shop.example/cart", group(lbpool.FailAction{}, ""), true, 503, ""},
		{"down, with a backup", "shop.example/cart", group(lbpool.FailAction{Kind: lbpool.FailBackup, Backup: spare}, ""), true, 200, "spare"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.down {
				cartDown()
				defer cart.Servers()[0].Enable()
			}
			vs, err := limpet.New(limpet.Config{
				Pools: []*lbpool.Pool{root, cart}, PoolGroups: []*lbpool.Group{tt.group},
				Policies: limpet.Policies{HTTPRequest: []policy.RequestRule{{Name: "r", Action: policy.Modify{Pool: policy.SwitchPool{Name: "g", Label: tt.label}}}}},
				Scripts:  []limpet.Script{onRequest(t, "s", "avi.pool.select('root')")}, // which the rule forestalls
			})
			if err != nil {
				t.Fatal(err)
			}
			defer vs.CloseIdleConnections()
			w := httptest.NewRecorder()
			vs.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
			if body := w.Body.String(); w.Code != tt.status || tt.body != "" && body != tt.body {
				t.Errorf("got %d %q, want %d %q", w.Code, body, tt.status, tt.body)
			}
		})
	}
	for name, tt := range map[string]struct {
		pool policy.SwitchPool
		want string
	}{
		"unknown label": {policy.SwitchPool{Name: "g", Label: "other.example"}, `httpRequest[0].action.pool.label: "other.example": the group "g" has no such label`},
		"no group":      {policy.SwitchPool{Name: "root", Label: "shop.example/"}, `httpRequest[0].action.pool.label: "shop.example/": the pool "root" is not a group`},
		"no name":       {policy.SwitchPool{Label: "shop.example/"}, `a label needs a pool group`},
		"and a server":  {policy.SwitchPool{Name: "g", Label: "shop.example/", Server: root.Servers()[0].Addr()}, `a server is chosen without a label`},
	} {
		_, err := limpet.New(limpet.Config{
			Pools: []*lbpool.Pool{root, cart}, PoolGroups: []*lbpool.Group{group(lbpool.FailAction{}, "")},
			Policies: limpet.Policies{HTTPRequest: []policy.RequestRule{{Name: "r", Action: policy.Modify{Pool: tt.pool}}}},
		})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v has no word of %s", name, err, tt.want)
		}
	}
}

// A script that selects a server in the group widened the rule's choice to all
// of its members.
func TestRuleLabelOutlastsScripts(t *testing.T) {
	pool := func(name string, servers ...string) *lbpool.Pool {
		cfg := lbpool.Config{Name: name}
		for _, text := range servers {
			addr := startServer(t, "127.0.0.1:0", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }))
			cfg.Servers = append(cfg.Servers, lbpool.ServerConfig{Address: addr})
		}
		return newPool(t, cfg)
	}
	free, paid := pool("free", "free"), pool("paid", "paid 1", "paid 2")
	group, err := lbpool.NewGroup(lbpool.GroupConfig{Name: "g", Members: []lbpool.Member{
		{Pool: free, Ratio: 1, Priority: 2, Label: "free"}, {Pool: paid, Ratio: 1, Priority: 1, Label: "paid"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		script string
		want   string // what every answer begins with
	}{
		{"a server with the label", "avi.pool.select('g', '" + paid.Servers()[1].Addr().String() + "')", "paid 2"},
		{"a server without", "avi.pool.select('g', '" + free.Servers()[0].Addr().String() + "')", "paid"},
		{"an entry for one without", "avi.vs.table_insert('k', '" + free.Servers()[0].Addr().String() + "') avi.pool.select('g', 'k')", "paid"},
		{"an entry for one that is gone", "avi.vs.table_insert('k', '10.255.0.1:80') avi.pool.select('g', 'k')", "paid"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			vs, err := limpet.New(limpet.Config{
				Pools: []*lbpool.Pool{free, paid}, PoolGroups: []*lbpool.Group{group}, Tables: persistence.NewStore(persistence.Options{}),
				Policies: limpet.Policies{HTTPRequest: []policy.RequestRule{{Name: "r", Action: policy.Modify{Pool: policy.SwitchPool{Name: "g", Label: "paid"}}}}},
				Scripts:  []limpet.Script{onRequest(t, "s", tt.script)},
			})
			if err != nil {
				t.Fatal(err)
			}
			defer vs.CloseIdleConnections()
			for range 4 {
				w := httptest.NewRecorder()
				vs.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
				if body := w.Body.String(); w.Code != 200 || !strings.HasPrefix(body, tt.want) {
					t.Errorf("got %d %q, want %q", w.Code, body, tt.want)
				}
			}
		})
	}
}
