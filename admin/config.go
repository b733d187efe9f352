package admin

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/limpetlb/limpet"
)

// A configView shows what is configured: names and numbers, no secrets.
type configView struct {
	Hash     string          `json:"hash"`            // changes whenever what is shown here does
	Loaded   time.Time       `json:"loaded,omitzero"` // of the last reload by this API that succeeded; missing: none
	Services []serviceConfig `json:"services"`        // by name
}

// A serviceConfig is the configuration of a virtual service.
type serviceConfig struct {
	Name           string       `json:"name"`            // of the virtual service
	Pools          []poolConfig `json:"pools"`           // in order
	PoolGroups     []string     `json:"pool_groups"`     // names
	DefaultPool    string       `json:"default_pool"`    // of requests for which nothing chooses another
	Persistence    string       `json:"persistence"`     // kind of the profile; empty: none
	Scripts        []string     `json:"scripts"`         // names, in the order in which they run
	Rules          []ruleConfig `json:"rules"`           // in the order in which they apply
	IPGroups       []string     `json:"ip_groups"`       // names
	StringGroups   []string     `json:"string_groups"`   // names
	TrustedProxies []string     `json:"trusted_proxies"` // networks
	Tables         string       `json:"tables"`          // kind of the store
}

// A poolConfig is what is configured of a pool.
type poolConfig struct {
	Name     string         `json:"name"`     // of the pool
	Protocol string         `json:"protocol"` // that its servers speak
	Servers  []serverConfig `json:"servers"`  // in order, those that were discovered included
}

// A serverConfig is what is configured of a server.
type serverConfig struct {
	Name     string `json:"name"`     // or address and port
	Address  string `json:"address"`  // with port
	Ratio    int    `json:"ratio"`    // its share
	Disabled bool   `json:"disabled"` // it takes no requests
}

// A ruleConfig is what is configured of a rule.
type ruleConfig struct {
	Policy   string   `json:"policy"`   // that it belongs to
	Name     string   `json:"name"`     // of the rule
	Matches  []string `json:"matches"`  // what it looks at
	Action   string   `json:"action"`   // what it does
	Disabled bool     `json:"disabled"` // it has no effect
	DryRun   bool     `json:"dry_run"`  // it only counts
}

func getConfig(c *call) (any, error) {
	v := c.derived()
	c.tagged(`"` + v.Hash + `"`)
	return v, nil
}

// derived returns the derived view of all services.
func (c *call) derived() configView {
	v := configView{Services: []serviceConfig{}}
	for _, vs := range c.services() {
		v.Services = append(v.Services, c.viewConfig(vs))
	}
	slices.SortFunc(v.Services, func(a, b serviceConfig) int { return strings.Compare(a.Name, b.Name) })
	v.Hash = strings.Trim(etag(v.Services), `"`)
	if last := c.lastReload.Load(); last != nil {
		v.Loaded = last.Loaded
	}
	return v
}

func (c *call) viewConfig(vs *limpet.VirtualService) serviceConfig {
	cfg := vs.Config()
	v := serviceConfig{
		Name: cfg.Name, Pools: []poolConfig{}, PoolGroups: []string{}, DefaultPool: cfg.DefaultPool, Persistence: kindOf(cfg.Persistence),
		Scripts: []string{}, Rules: []ruleConfig{}, IPGroups: []string{}, StringGroups: []string{}, TrustedProxies: []string{}, Tables: kindOf(cfg.Tables),
	}
	for _, p := range vs.Pools() {
		row := poolConfig{p.Name(), p.Protocol().String(), []serverConfig{}}
		for _, s := range p.Servers() {
			conf := s.Configured()
			row.Servers = append(row.Servers, serverConfig{s.Name(), s.Addr().String(), max(conf.Ratio, 1), conf.Disabled})
		}
		v.Pools = append(v.Pools, row)
	}
	for _, g := range cfg.PoolGroups {
		v.PoolGroups = append(v.PoolGroups, g.Name())
	}
	for _, s := range cfg.Scripts {
		v.Scripts = append(v.Scripts, s.Name())
	}
	own := *c
	own.vs = vs
	for _, r := range own.rules() {
		v.Rules = append(v.Rules, ruleConfig{r.Policy, r.Name, r.Matches, r.Action, r.Disabled, r.DryRun})
	}
	if cfg.IPGroups != nil {
		v.IPGroups = append(v.IPGroups, cfg.IPGroups.Names()...)
	}
	if cfg.StringGroups != nil {
		v.StringGroups = append(v.StringGroups, cfg.StringGroups.Names()...)
	}
	for _, p := range cfg.TrustedProxies {
		v.TrustedProxies = append(v.TrustedProxies, p.String())
	}
	return v
}

// kindOf returns the name of an object's type; "" for nil.
func kindOf(v any) string {
	if v == nil || v == limpet.NoPersistence {
		return ""
	}
	return strings.TrimPrefix(fmt.Sprintf("%T", v), "*")
}

func getSource(c *call) (any, error) {
	if c.config.Source == nil {
		return nil, notSupported("the program does not show its configuration")
	}
	text, err := c.config.Source()
	if err != nil {
		return nil, unavailable("the configuration cannot be read now: %v", err)
	}
	c.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	return text, nil
}

// A reloadView is how a reload went.
type reloadView struct {
	At       time.Time `json:"at"`               // when it ended
	Who      string    `json:"who"`              // asked for it
	OK       bool      `json:"ok"`               // the configuration is in force
	Warnings []string  `json:"warnings"`         // of a configuration that is in force
	Faults   []fault   `json:"faults,omitempty"` // of one that is not
	Loaded   time.Time `json:"loaded,omitzero"`  // when the last one that is in force was loaded
}

func reload(c *call) (any, error) {
	if c.config.Reload == nil {
		return nil, notSupported("the program cannot reload its configuration")
	}
	if !c.reloading.TryLock() {
		return nil, fail(http.StatusConflict, codeConflict, "a reload is running")
	}
	defer c.reloading.Unlock()
	if err := c.unchanged(`"` + c.derived().Hash + `"`); err != nil {
		return nil, err
	}
	// The reload goes on when the caller leaves: half a reload would be worse.
	warnings, err := c.config.Reload(context.WithoutCancel(c.r.Context()))
	v := &reloadView{At: wallClock(), Who: c.caller.who, OK: err == nil, Warnings: append([]string{}, warnings...), Faults: faultsOf(err)}
	if before := c.lastReload.Load(); before != nil {
		v.Loaded = before.Loaded
	}
	if v.OK {
		v.Loaded = v.At
		c.settle()
	}
	c.lastReload.Store(v)
	c.events.publish("reload", v, 0, true)
	if err != nil {
		p := fail(http.StatusUnprocessableEntity, codeInvalid, "the configuration is not in force: %v", err)
		p.Fields = v.Faults
		return nil, p
	}
	c.tagged(`"` + c.derived().Hash + `"`)
	return v, nil
}
