package lbpool

import (
	"fmt"
	"net/netip"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// servers returns n server configurations: 10.0.0.1, 10.0.0.2 and so on.
func servers(n int) []ServerConfig {
	list := make([]ServerConfig, n)
	for i := range list {
		list[i].Address = fmt.Sprintf("10.0.%d.%d", i/250, i%250+1)
	}
	return list
}

// ratios returns one server configuration for each ratio.
func ratios(ratios ...int) []ServerConfig {
	list := servers(len(ratios))
	for i, r := range ratios {
		list[i].Ratio = r
	}
	return list
}

func mustPool(t testing.TB, cfg Config) *Pool {
	t.Helper()
	if cfg.Name == "" {
		cfg.Name = "web"
	}
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mustAcquire(t testing.TB, p *Pool, h Hint) Lease {
	t.Helper()
	l, err := p.Acquire(h)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// serve acquires and at once releases with o, and returns the server.
func serve(t testing.TB, p *Pool, o Outcome) *Server {
	t.Helper()
	l := mustAcquire(t, p, Hint{})
	l.Release(o)
	return l.Server
}

func states(p *Pool) string {
	text := ""
	for _, s := range p.Servers() {
		text += s.State().String() + " "
	}
	return text[:max(len(text)-1, 0)]
}

func addrPort(text string) netip.AddrPort { return netip.MustParseAddrPort(text) }
