package lbpool

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type checkFunc func(ctx context.Context, server netip.AddrPort) error

func (f checkFunc) Check(ctx context.Context, server netip.AddrPort) error { return f(ctx, server) }

var healthy = checkFunc(func(context.Context, netip.AddrPort) error { return nil })

func TestNewFaults(t *testing.T) {
	tests := []struct {
		name string
		cfg  Config
		want string // lines without the pool's prefix
	}{
		{"no name", Config{Servers: servers(1)}, `name: missing`},
		{"no servers", Config{Name: "web"}, `servers: missing`},
		{"too many servers", Config{Name: "web", Servers: make([]ServerConfig, MaxServers+1)}, `servers: 5001 servers, more than 5000`},
		{"address is a name", one(ServerConfig{Address: "example.com"}), `servers[0].address: "example.com": not an IP address with or without a port`},
		{"short address", one(ServerConfig{Address: "10.0.0"}), `servers[0].address: "10.0.0": not an IP address with or without a port`},
		{"half a bracket", one(ServerConfig{Address: "[::1"}), `servers[0].address: "[::1": not an IP address with or without a port`},
		{"port 0", one(ServerConfig{Address: "10.0.0.1:0"}), `servers[0].address: "10.0.0.1:0": the port is 0`},
		{"unspecified", one(ServerConfig{Address: "0.0.0.0:80"}), `servers[0].address: "0.0.0.0:80": not the address of one server`},
		{"multicast", one(ServerConfig{Address: "ff02::1"}), `servers[0].address: "ff02::1": not the address of one server`},
		{"ratio low", one(ServerConfig{Address: "10.0.0.1", Ratio: -1}), `servers[0].ratio: -1: less than 1`},
		{"ratio high", one(ServerConfig{Address: "10.0.0.1", Ratio: 21}), `servers[0].ratio: 21: more than 20`},
		{"limit", one(ServerConfig{Address: "10.0.0.1", MaxConnections: -1}), `servers[0].maxConnections: -1: negative`},
		{"name is an address", one(ServerConfig{Address: "10.0.0.1", Name: "10.0.0.2"}), `servers[0].name: "10.0.0.2": reads as an IP address`},
		{"host name with a line break", one(ServerConfig{Address: "10.0.0.1", Hostname: "a\r\nX-Evil: 1"}), `servers[0].hostname: "a\r\nX-Evil: 1": not a host name: want letters, digits, "-", "_" and dots`},
		{"host name with a space", one(ServerConfig{Address: "10.0.0.1", Hostname: "a b"}), `servers[0].hostname: "a b": not a host name: want letters, digits, "-", "_" and dots`},
		{"host name is an address", one(ServerConfig{Address: "10.0.0.1", Hostname: "[::1]:80"}), `servers[0].hostname: "[::1]:80": reads as an IP address`},
		{
			"same address twice",
			Config{Name: "web", Servers: []ServerConfig{{Address: "10.0.0.1"}, {Address: "10.0.0.1:80"}, {Address: "::ffff:10.0.0.1"}}},
			"servers[1].address: \"10.0.0.1:80\": 10.0.0.1:80 is already the address of another server\n" +
				"servers[2].address: \"::ffff:10.0.0.1\": 10.0.0.1:80 is already the address of another server",
		},
		{
			"same name twice",
			Config{Name: "web", Servers: []ServerConfig{{Address: "10.0.0.1", Name: "A"}, {Address: "10.0.0.2", Name: "a"}}},
			`servers[1].name: "a": already the name of servers[0]`,
		},
		{"scheme", Config{Name: "web", Servers: servers(1), Scheme: "ftp"}, `scheme: "ftp": neither http nor https`},
		{"repick", Config{Name: "web", Servers: servers(1), Repick: 9}, `repick: 9: not one of immediately, never, after failures`},
		{
			"passive",
			Config{Name: "web", Servers: servers(1), Passive: Passive{Failures: -1, Time: -1, MaxTime: -2, MaxShare: 101}},
			"passive.failures: -1: less than 1\npassive.time: -1ns: negative\n" +
				"passive.maxTime: -2ns: negative\npassive.maxShare: 101: more than 100",
		},
		{"nil checker", monitors(HealthMonitor{}), `healthMonitors[0].checker: missing`},
		{"typed nil checker", monitors(HealthMonitor{Checker: (*HTTPChecker)(nil)}), `healthMonitors[0].checker: missing`},
		{"too many monitors", monitors(make([]HealthMonitor, 51)...), `healthMonitors: 51 monitors, more than 50`},
		{
			"timeout not less than interval", monitors(HealthMonitor{Checker: healthy, Interval: 4 * time.Second, Timeout: 4 * time.Second}),
			`healthMonitors[0].timeout: 4s: not less than the interval, 4s`,
		},
		{
			"interval", monitors(HealthMonitor{Checker: healthy, Interval: 2 * time.Hour}),
			`healthMonitors[0].interval: 2h0m0s: more than 1h0m0s`,
		},
		{
			"in a row", monitors(HealthMonitor{Checker: healthy, Successes: 51, Failures: -1}),
			"healthMonitors[0].successes: 51: more than 50\nhealthMonitors[0].failures: -1: less than 1",
		},
		{
			"monitor names", monitors(HealthMonitor{Name: "a", Checker: healthy}, HealthMonitor{Name: "a", Checker: healthy}),
			`healthMonitors[1].name: "a": already the name of healthMonitors[0]`,
		},
		{
			"http checker", monitors(HealthMonitor{Checker: &HTTPChecker{
				Method: "G T", Path: "x", Host: "a b", Accept: []StatusRange{{200, 299}, {300, 200}}, Keyword: strings.Repeat("k", 513),
			}}),
			"healthMonitors[0].checker.method: \"G T\": not a method\nhealthMonitors[0].checker.path: \"x\": not an absolute path\n" +
				"healthMonitors[0].checker.host: \"a b\": not a host, with or without a port\nhealthMonitors[0].checker.accept[1]: 300 to 200 is not a range from 100 to 999\nhealthMonitors[0].checker.keyword: 513 bytes, more than 512",
		},
		{
			"tcp checker", monitors(HealthMonitor{Checker: &TCPChecker{Send: strings.Repeat("s", 1025), Expect: strings.Repeat("e", 513)}}),
			"healthMonitors[0].checker.send: 1025 bytes, more than 1024\nhealthMonitors[0].checker.expect: 513 bytes, more than 512",
		},
		{
			"all at once", Config{Servers: []ServerConfig{{Address: "x"}, {Address: "10.0.0.1", Ratio: 30}}, Scheme: "x"},
			"name: missing\nservers[0].address: \"x\": not an IP address with or without a port\n" +
				"servers[1].ratio: 30: more than 20\nscheme: \"x\": neither http nor https",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p, err := New(test.cfg)
			if err == nil || p != nil {
				t.Fatalf("New = %v, %v, want an error", p, err)
			}
			got := strings.TrimPrefix(err.Error(), `pool "`+test.cfg.Name+`": `)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
		})
	}
}

func one(s ServerConfig) Config { return Config{Name: "web", Servers: []ServerConfig{s}} }

func monitors(list ...HealthMonitor) Config {
	return Config{Name: "web", Servers: servers(1), HealthMonitors: list}
}

func TestNewDefaults(t *testing.T) {
	tests := []struct {
		name    string
		cfg     Config
		address string
		want    string
	}{
		{"plain address", Config{}, "10.0.0.1", "10.0.0.1:80"},
		{"own port", Config{DefaultPort: 81}, "10.0.0.1:8080", "10.0.0.1:8080"},
		{"default port", Config{DefaultPort: 81}, "10.0.0.1", "10.0.0.1:81"},
		{"https", Config{Scheme: "https"}, "10.0.0.1", "10.0.0.1:443"},
		{"https with default port", Config{Scheme: "https", DefaultPort: 8443}, "10.0.0.1", "10.0.0.1:8443"},
		{"IPv6", Config{}, "2001:DB8::1", "[2001:db8::1]:80"},
		{"IPv6 in brackets", Config{}, "[2001:db8::1]", "[2001:db8::1]:80"},
		{"IPv6 with port", Config{}, "[2001:db8::1]:81", "[2001:db8::1]:81"},
		{"mapped", Config{}, "[::ffff:10.0.0.1]:81", "10.0.0.1:81"},
		{"zone", Config{}, "fe80::1%eth0", "[fe80::1%eth0]:80"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.cfg.Servers = []ServerConfig{{Address: test.address}}
			s := mustPool(t, test.cfg).Servers()[0]
			if got := s.Addr().String(); got != test.want {
				t.Errorf("Addr = %s, want %s", got, test.want)
			}
			if s.Name() != test.want || s.Hostname() != "" || s.Ratio() != 1 {
				t.Errorf("Name, Hostname, Ratio = %q, %q, %d, want %q, \"\", 1", s.Name(), s.Hostname(), s.Ratio(), test.want)
			}
		})
	}
}

func TestNewLeavesConfigAlone(t *testing.T) {
	cfg := Config{Name: "web", Servers: servers(2), HealthMonitors: []HealthMonitor{{Checker: healthy}}}
	p := mustPool(t, cfg)
	if m := cfg.HealthMonitors[0]; m.Name != "" || m.Interval != 0 || m.Timeout != 0 || m.Successes != 0 {
		t.Errorf("New changed the caller's monitor: %+v", m)
	}
	list := p.Servers()
	list[0] = nil
	if p.Servers()[0] == nil {
		t.Error("Servers hands out the pool's own slice")
	}
}

func TestLookup(t *testing.T) {
	p := mustPool(t, Config{Servers: []ServerConfig{
		{Address: "10.0.0.1:8080", Name: "Alpha", Hostname: "app.example"},
		{Address: "10.0.0.1:8081", Name: "beta", Hostname: "APP.example"},
		{Address: "10.0.0.2:8080", Name: "gamma", Hostname: "beta"},
		{Address: "2001:db8::1", Hostname: "app.example"},
	}})
	list := p.Servers()
	list[0].Disable()
	tests := []struct {
		server string
		port   uint16
		want   int // index, -1 for none
	}{
		{"10.0.0.1:8080", 0, 0},
		{"10.0.0.1:8080", 8080, 0},
		{"10.0.0.1:8080", 8081, -1},
		{"10.0.0.1", 8080, 0},
		{"10.0.0.1", 0, 1}, // the first is disabled
		{"::ffff:10.0.0.1", 0, 1},
		{"::ffff:10.0.0.1", 8080, 0},
		{"10.0.0.1", 9, -1},
		{"10.0.0.9", 0, -1},
		{"2001:db8::1", 0, 3},
		{"[2001:db8::1]", 0, 3},
		{"[2001:db8::1]:80", 0, 3},
		{"2001:DB8:0:0::1", 80, 3},
		{"[2001:db8::1", 0, -1},
		{"alpha", 0, 0},
		{"ALPHA", 8080, 0},
		{"ALPHA", 8081, -1},
		{"beta", 0, 1}, // the name before the host name
		{"beta", 8080, 2},
		{"app.EXAMPLE", 0, 1},
		{"app.example", 8080, 0},
		{"app.example", 80, 3},
		{"", 0, -1},
		{"[]", 0, -1},
		{"nobody", 0, -1},
		{"10.0.0.1:", 0, -1},
		{"10.0.0.1:99999", 0, -1},
	}
	for _, test := range tests {
		s, _, ok := p.Lookup(test.server, test.port)
		if ok != (test.want >= 0) || ok && s != list[test.want] {
			t.Errorf("Lookup(%q, %d) = %v, %v, want server %d", test.server, test.port, s, ok, test.want)
		}
	}
	for _, s := range list {
		s.Disable()
	}
	if s, _, ok := p.Lookup("10.0.0.1", 0); !ok || s != list[0] {
		t.Errorf("with none up Lookup = %v, %v, want the first", s, ok)
	}
}

func FuzzLookup(f *testing.F) {
	f.Add("10.0.0.1", uint16(0))         // an address of two servers
	f.Add("[2001:db8::1]:80", uint16(0)) // brackets
	f.Add("[[::1]]", uint16(1))          // too many of them
	f.Add("::ffff:10.0.0.1", uint16(80)) // mapped
	f.Add("fe80::1%\x00", uint16(0))     // an odd zone
	f.Add("App.Example", uint16(80))     // a host name
	f.Add("\xff\xfe", uint16(0))         // not UTF-8
	p := mustPool(f, Config{Servers: []ServerConfig{
		{Address: "10.0.0.1:80", Name: "a", Hostname: "app.example"}, {Address: "10.0.0.1:81"}, {Address: "2001:db8::1"},
	}})
	f.Fuzz(func(t *testing.T, server string, port uint16) {
		s, _, ok := p.Lookup(server, port)
		if ok != (s != nil) {
			t.Fatalf("Lookup(%q, %d) = %v, %v", server, port, s, ok)
		}
		if ok && port != 0 && s.Addr().Port() != port {
			t.Fatalf("Lookup(%q, %d) found a server with port %d", server, port, s.Addr().Port())
		}
		if addr, err := parseServer(server, 80); err == nil && ok && addr.Addr() != s.Addr().Addr() {
			t.Fatalf("Lookup(%q) found %s", server, s.Addr())
		}
	})
}

func TestSet(t *testing.T) {
	web := mustPool(t, Config{Name: "web", Servers: []ServerConfig{{Address: "10.0.0.1", Name: "a"}, {Address: "10.0.0.2"}, {Address: "10.0.0.3", Disabled: true}}})
	api := mustPool(t, Config{Name: "api", Servers: servers(1)})
	set, err := NewSet(web, api)
	if err != nil {
		t.Fatal(err)
	}
	if p, ok := set.Pool("web"); !ok || p != web || p.Name() != "web" {
		t.Errorf("Pool(web) = %v, %v", p, ok)
	}
	if p, ok := set.Pool("Web"); ok {
		t.Errorf("Pool(Web) = %v, pool names are case-sensitive", p)
	}
	if up, total, err := set.Servers("web"); up != 2 || total != 3 || err != nil {
		t.Errorf("Servers(web) = %d, %d, %v, want 2, 3", up, total, err)
	}
	for _, test := range []struct {
		server string
		port   uint16
		want   bool
	}{{"a", 80, true}, {"10.0.0.1", 80, true}, {"10.0.0.1", 81, false}, {"10.0.0.3", 80, false}, {"10.0.0.9", 80, false}} {
		if up, err := set.ServerUp("web", test.server, test.port); up != test.want || err != nil {
			t.Errorf("ServerUp(%s, %d) = %v, %v, want %v", test.server, test.port, up, err, test.want)
		}
	}
	_, _, err = set.Servers("x")
	if err == nil || err.Error() != `pool "x" not found` {
		t.Errorf("Servers(x): %v", err)
	}
	if _, err = set.ServerUp("x", "a", 80); err == nil {
		t.Errorf("ServerUp(x): %v", err)
	}
	if addr, _, ok, err := set.Find("web", "a", 0); addr != addrPort("10.0.0.1:80") || !ok || err != nil {
		t.Errorf("Find(a) = %s, %v, %v", addr, ok, err)
	}
	if addr, _, ok, err := set.Find("web", "nobody", 0); addr.IsValid() || ok || err != nil {
		t.Errorf("Find(nobody) = %s, %v, %v", addr, ok, err)
	}
	if _, _, _, err = set.Find("x", "a", 0); err == nil {
		t.Errorf("Find(x): %v", err)
	}
	_, err = NewSet(web, nil, web)
	want := "pools[1]: missing\npools[2].name: \"web\": already the name of another pool"
	if err == nil || err.Error() != want {
		t.Errorf("NewSet = %v, want %s", err, want)
	}
}
