package config

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/limpetlb/limpet/internal/testfiles"
	"github.com/limpetlb/limpet/lbpool"
)

// What stays in the configuration stays the same object, with what it has
// learnt; what is new or gone is new or gone; and a fault changes nothing.
func TestReload(t *testing.T) {
	files := maps.Clone(shopFiles)
	files["shop.yaml"] = strings.Replace(shop, "    healthMonitors:\n      - {name: up, checker: {http: {path: /health}}, interval: 5s, timeout: 2s}\n      - checker: tcp\n", "", 1)
	dir := testfiles.Write(t, files)
	path := filepath.Join(dir, "shop.yaml")
	var rt *Runtime
	load := func(text string) error {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := Load(t.Context(), path)
		switch {
		case err != nil:
		case rt == nil:
			rt, err = f.Build(Options{})
		default:
			_, err = rt.Update(f)
		}
		return err
	}
	if err := load(files["shop.yaml"]); err != nil {
		t.Fatal(err)
	}
	vs, _ := rt.Service("shop")
	before := rt.kept
	web := before.pools["web"]
	a, _, _ := web.Lookup("a", 0)
	a.Disable()

	edited := strings.NewReplacer(
		"address: 10.0.0.2:8080", "address: 10.0.0.3:8080", // another server
		"  - name: api\n    servers: [{address: 10.0.1.1:80}]\n", "  - name: api-c\n    servers: [{address: 10.0.1.1:80}]\n",
		"members: [{pool: api, priority: 10, label: high}, {pool: api-b}]", "members: [{pool: api-c}, {pool: web}]",
		"count: 100", "count: 200",
		"sliding: true", "sliding: false",
	).Replace(files["shop.yaml"])

	for _, fault := range []string{"name: shop\nnope: 1", "defaultPool: nope", "name: \"\\n\""} {
		if err := load(strings.Replace(edited, "name: shop", fault, 1)); err == nil {
			t.Errorf("%q is no fault", fault)
		}
		if len(web.Servers()) != 2 || web.Servers()[1].Addr().String() != "10.0.0.2:8080" || rt.kept.pools["api"] == nil {
			t.Fatal("a fault has changed the pools")
		}
	}

	if err := load(edited); err != nil {
		t.Fatal(err)
	}
	now := rt.kept
	if rt.services[""].VirtualService != vs || now.pools["web"] != web || now.pools["api-b"] != before.pools["api-b"] {
		t.Error("what stays has been replaced")
	}
	if now.pools["api"] != nil || now.pools["api-c"] == nil {
		t.Error("pools that go and come: ", now.pools)
	}
	if server, _, ok := web.Lookup("a", 0); !ok || server != a || server.State() != lbpool.Disabled {
		t.Error("the server a is not the one that was disabled")
	}
	if _, _, ok := web.Lookup("10.0.0.3", 0); !ok || len(web.Servers()) != 2 {
		t.Error("the new server is not there")
	}
	for config := range now.limiters {
		if config.Count != 200 || before.limiters[config] != nil {
			t.Errorf("limiter %+v", config)
		}
	}

	// Nothing has changed but the profile.
	if err := load(strings.Replace(edited, "timeout: 5m, mask4: 24", "timeout: 6m", 1)); err != nil {
		t.Fatal(err)
	}
	for config, l := range rt.kept.limiters {
		if now.limiters[config] != l {
			t.Error("a limiter has forgotten its tokens")
		}
	}
	if err := load(strings.Replace(edited, "persistence:\n  clientIP: {timeout: 5m, mask4: 24}\n", "", 1)); err != nil {
		t.Errorf("without a profile: %v", err)
	}
}
