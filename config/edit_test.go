package config

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/testfiles"
	"github.com/limpetlb/limpet/internal/testwait"
)

// reputations are those of a program.
type reputations struct{}

func (reputations) Reputation(netip.Addr) (string, bool)           { return "", false }
func (reputations) HasReputation(netip.Addr, string) (bool, error) { return false, nil }

// What Edit can supply is no fault of a file that is loaded, but of one that is
// built without it, or checked.
func TestEditCompletes(t *testing.T) {
	const (
		rules = "pools: [{name: web, servers: [{address: 10.0.0.1}]}]\n"
	)
	for _, c := range []struct{ name, text, want string }{
		{"reputation", "httpSecurity: [{name: a, match: {reputation: {kinds: [spam]}}, action: close}]\n" + rules, "httpSecurity[0].match.reputation"},
		{"reputation of a listener", "listeners: [{name: a, address: '127.0.0.1:0', networkSecurity: [{name: a, match: {reputation: {kinds: [spam]}}, action: deny}]}]\n" + rules, "listeners[0].networkSecurity[0].match.reputation"},
		{"locations", "httpSecurity: [{name: a, match: {geo: {values: [NL]}}, action: close}]\n" + rules, "httpSecurity[0].match.geo"},
		{"locations of a listener", "listeners: [{name: a, address: '127.0.0.1:0', networkSecurity: [{name: a, match: {geo: {values: [NL]}}, action: deny}]}]\n" + rules, "listeners[0].networkSecurity[0].match.geo"},
		{"everything", "name: a\n", "no service: without pools"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := testfiles.Write(t, map[string]string{"limpet.yaml": c.text})
			f, err := Load(t.Context(), dir+"/limpet.yaml")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.Build(Options{}); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("built without Edit: %v", err)
			}
			if _, err := Check(t.Context(), dir+"/limpet.yaml", CheckOptions{}); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("checked: %v", err)
			}
			edit := func(_ string, cfg *limpet.Config) {
				cfg.Reputations, cfg.Geo = reputations{}, anywhere{}
				if len(cfg.Pools) == 0 {
					other, err := Parse(t.Context(), "other", []byte(rules), nil)
					if err != nil {
						t.Fatal(err)
					}
					rt, err := other.Build(Options{Edit: func(_ string, with *limpet.Config) { cfg.Pools = with.Pools }})
					if err != nil || rt == nil {
						t.Fatal(err)
					}
				}
			}
			rt, err := f.Build(Options{Edit: edit})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := rt.Update(f); err != nil {
				t.Errorf("update: %v", err)
			}
		})
	}
}

// Pools of one service report to the Logger that Edit sets, at the start and
// after an update; pools of several services to the log of the process.
func TestEditLogger(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close() // nobody listens there
	pool := func(name string) string {
		return fmt.Sprintf("{name: %s, servers: [{address: %q}], healthMonitors: [{checker: tcp, interval: 20ms, timeout: 10ms, failures: 1}]}", name, ln.Addr())
	}
	for _, c := range []struct {
		name, text string
		of         map[string]bool // by pool: whether Edit's logger has its lines
	}{
		{"one service", fmt.Sprintf("pools: [%s]\n", pool("web")), map[string]bool{"web": true}},
		{"several", fmt.Sprintf("pools: [%s]\nservices: [{name: a, pools: [web, %s]}]\n", pool("web"), pool("own")), map[string]bool{"web": false, "own": true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			process, service := &logLines{}, &logLines{}
			logger := service.logger()
			dir := testfiles.Write(t, map[string]string{"limpet.yaml": c.text})
			f, err := Load(t.Context(), dir+"/limpet.yaml")
			if err != nil {
				t.Fatal(err)
			}
			rt, err := f.Build(Options{Logger: process.logger(), Edit: func(_ string, cfg *limpet.Config) { cfg.Logger = logger }})
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			var running sync.WaitGroup
			running.Go(func() { _ = rt.Run(ctx) })
			defer running.Wait()
			defer stop()
			lines := func(log *logLines, pool string) bool {
				log.mu.Lock()
				defer log.mu.Unlock()
				return strings.Contains(log.text.String(), "pool="+pool+" ")
			}
			look := func(when, suffix string) {
				t.Helper()
				for pool, edited := range c.of {
					at, other := process, service
					if edited {
						at, other = service, process
					}
					testwait.Until(t, "lines of "+pool+suffix+" "+when, func() bool { return lines(at, pool+suffix) })
					if lines(other, pool+suffix) {
						t.Errorf("%s: lines of %s are in the other log", when, pool+suffix)
					}
				}
			}
			look("at the start", "")
			text := strings.NewReplacer("web", "web2", "own", "own2").Replace(c.text)
			if _, err := rewrite(t, rt, dir, text); err != nil {
				t.Fatal(err)
			}
			look("after an update", "2")
		})
	}
}

// Errors do not show what comes from elsewhere, however short it is.
func TestShortSecrets(t *testing.T) {
	t.Setenv("SHORT", "q7")
	t.Setenv("DIGIT", "7")
	const pools = "pools: [{name: web, servers: [{address: 10.0.0.1}]}]\n"
	for _, c := range []struct{ text, want string }{
		{"defaultPool: {env: SHORT}\n" + pools, "text:1:14: defaultPool: there is no such pool"},
		{"pools: [{name: {env: SHORT}, servers: [{address: 10.0.0.1}]}, {name: {env: SHORT}, servers: [{address: 10.0.0.1}]}]\n", "text:1:"},
		{"pools: [{name: web, servers: [{address: 10.0.0.1}], failAction: {kind: backup, backup: {env: SHORT}}}]\n", "text:1:"},
		{"services: [{name: a, pools: [{env: SHORT}]}]\n" + pools, "text:1:30: services[0].pools[0]: "},
		{"pools: [{name: web, servers: [{address: 10.0.0.1, ratio: {env: SHORT}}]}]\n", `text:1:58: pools[0].servers[0].ratio: the content of the environment variable "SHORT" does not fit here`},
		{"pools: [{name: web, defaultPort: {env: DIGIT}, servers: [{address: '10.0.0.1:{}'}]}]\n", "text:1:"},
		{"httpSecurity: [{name: x, action: {respond: {status: {env: DIGIT}}}}]\n" + pools, "text:1:53: httpSecurity[0].action.respond.status: less than 200"},
	} {
		_, err := Parse(t.Context(), "text", []byte(c.text), nil)
		if err == nil || !strings.HasPrefix(err.Error(), c.want) || strings.Contains(err.Error(), "q7") {
			t.Errorf("%s: %v\nnot %s", c.text, err, c.want)
		}
	}
}
