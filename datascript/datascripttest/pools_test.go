package datascripttest

import (
	"net/netip"
	"strings"
	"testing"
)

func testPools() Pools {
	app := Servers("10.0.0.1:80", "10.0.0.1:81", "10.0.0.2:80", "[2001:db8::1]:80")
	app[0].Down = true
	app[2].Name = "web.example.com"
	app[3].Down = true
	return Pools{{Name: "app", Servers: app}, {Name: "empty"}}
}

func TestPoolsFind(t *testing.T) {
	pools := testPools()
	for _, c := range []struct {
		name   string
		server string
		port   uint16
		want   string // empty if there is no such server
		up     bool
		shared bool
	}{
		{"address: the first that is up", "10.0.0.1", 0, "10.0.0.1:81", true, true},
		{"address and port", "10.0.0.1", 80, "10.0.0.1:80", false, false},
		{"both in one", "10.0.0.1:80", 0, "10.0.0.1:80", false, false},
		{"both in one, and the port again", "10.0.0.1:81", 81, "10.0.0.1:81", true, false},
		{"two ports", "10.0.0.1:80", 81, "", false, false},
		{"mapped address", "::ffff:10.0.0.2", 0, "10.0.0.2:80", true, false},
		{"host name in any case", "WEB.example.com", 0, "10.0.0.2:80", true, false},
		{"host name and port", "web.example.com", 80, "10.0.0.2:80", true, false},
		{"host name and another port", "web.example.com", 81, "", false, false},
		{"IPv6", "2001:db8::1", 0, "[2001:db8::1]:80", false, false},
		{"IPv6 and port", "[2001:db8::1]:80", 0, "[2001:db8::1]:80", false, false},
		{"unknown address", "10.0.0.9", 0, "", false, false},
		{"unknown name", "nowhere", 0, "", false, false},
		{"nothing: no server has the empty name", "", 0, "", false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			addr, shared, ok, err := pools.Find("app", c.server, c.port)
			if err != nil || ok != (c.want != "") || shared != c.shared || ok && addr.String() != c.want {
				t.Errorf("Find = %v, %v, %v, %v; want %q, %v", addr, shared, ok, err, c.want, c.shared)
			}
			if up, err := pools.ServerUp("app", c.server, c.port); up != c.up || err != nil {
				t.Errorf("ServerUp = %v, %v; want %v", up, err, c.up)
			}
		})
	}
}

func TestPoolsServers(t *testing.T) {
	pools := testPools()
	if up, total, err := pools.Servers("app"); up != 2 || total != 4 || err != nil {
		t.Errorf("Servers(app) = %v, %v, %v", up, total, err)
	}
	if up, total, err := pools.Servers("empty"); up != 0 || total != 0 || err != nil {
		t.Errorf("Servers(empty) = %v, %v, %v", up, total, err)
	}
}

func TestPoolsUnknown(t *testing.T) {
	for name, pools := range map[string]Pools{"none": nil, "others": testPools()} {
		_, _, errServers := pools.Servers("x")
		_, errUp := pools.ServerUp("x", "10.0.0.1", 80)
		_, _, _, errFind := pools.Find("x", "10.0.0.1", 80)
		for _, err := range []error{errServers, errUp, errFind} {
			if err == nil || err.Error() != `pool "x" not found` {
				t.Errorf("%s: error %v", name, err)
			}
		}
	}
}

func TestServersPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("an address without a port was accepted")
		}
	}()
	Servers("10.0.0.1")
}

func TestAlgorithmString(t *testing.T) {
	if got := FirstUp.String() + " " + RoundRobin.String() + " " + Algorithm(9).String(); got != "first-up round-robin invalid" {
		t.Error(got)
	}
}

func TestIPGroups(t *testing.T) {
	groups := IPGroups{"office": {netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")}, "empty": nil}
	for _, c := range []struct {
		group string
		addr  netip.Addr
		want  bool
	}{
		{"office", netip.MustParseAddr("10.9.9.9"), true},
		{"office", netip.MustParseAddr("2001:db8::1"), true},
		{"office", netip.MustParseAddr("11.0.0.1"), false},
		{"office", netip.Addr{}, false},
		{"empty", netip.MustParseAddr("10.9.9.9"), false},
	} {
		if got, err := groups.Contains(c.group, c.addr); got != c.want || err != nil {
			t.Errorf("Contains(%q, %v) = %v, %v; want %v", c.group, c.addr, got, err, c.want)
		}
	}
	if _, err := groups.Contains("x", netip.Addr{}); err == nil || !strings.Contains(err.Error(), `unknown ip group "x"`) {
		t.Errorf("unknown group: error %v", err)
	}
	if _, err := IPGroups(nil).Contains("x", netip.Addr{}); err == nil {
		t.Error("a nil map has a group")
	}
}
