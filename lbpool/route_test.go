package lbpool

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
)

// TestTransportGroups is what becomes of a request when the pool that its group
// has chosen cannot take it.
func TestTransportGroups(t *testing.T) {
	type pools struct{ a, b, c, backup *Pool }
	bound := netip.MustParseAddrPort("10.0.0.1:80") // in a
	for _, test := range []struct {
		name   string
		hint   Hint
		label  string
		repick Repick
		setUp  func(p pools)
		pool   string
		unmet  Reason
		err    error
	}{
		{"nothing is wrong", Hint{}, "", 0, func(pools) {}, "a", ReasonNone, nil},
		{"full", Hint{}, "", 0, func(p pools) { fill(t, p.a) }, "b", ReasonNone, nil},
		{"down", Hint{}, "", 0, func(p pools) { p.a.Servers()[0].Disable() }, "b", ReasonNone, nil},
		{"two are full", Hint{}, "", 0, func(p pools) { fill(t, p.a); fill(t, p.b) }, "c", ReasonNone, nil},
		{"all are full", Hint{}, "", 0, func(p pools) { fill(t, p.a); fill(t, p.b); fill(t, p.c) }, "backup", ReasonNone, nil},
		{"all and the backup", Hint{}, "", 0, func(p pools) { fill(t, p.a); fill(t, p.b); fill(t, p.c); fill(t, p.backup) }, "", ReasonNone, ErrFull},
		{"label", Hint{}, "first", 0, func(p pools) { fill(t, p.a) }, "b", ReasonNone, nil},
		{"label, both are full", Hint{}, "first", 0, func(p pools) { fill(t, p.a); fill(t, p.b) }, "backup", ReasonNone, nil},
		{"bound, full", Hint{Server: bound}, "", 0, func(p pools) { fill(t, p.a) }, "b", ReasonFull, nil},
		{"bound, disabled", Hint{Server: bound}, "", 0, func(p pools) { p.a.Servers()[0].Disable() }, "b", ReasonDisabled, nil},
		{"bound, never another", Hint{Server: bound}, "", RepickNever, func(p pools) { fill(t, p.a) }, "backup", ReasonGone, nil},
		{"bound, gone", Hint{Server: netip.MustParseAddrPort("10.9.9.9:80")}, "", 0, func(p pools) { fill(t, p.a) }, "b", ReasonGone, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			pool := func(name string, n int, repick Repick) *Pool {
				return mustPool(t, Config{
					Name: name, Repick: repick, Servers: []ServerConfig{{Address: fmt.Sprintf("10.0.0.%d", n), MaxConnections: 1}},
				})
			}
			p := pools{pool("a", 1, test.repick), pool("b", 2, 0), pool("c", 3, 0), pool("backup", 4, 0)}
			group, err := NewGroup(GroupConfig{
				Name: "group", FailAction: FailAction{Kind: FailBackup, Backup: p.backup},
				Members: []Member{{Pool: p.a, Ratio: 1, Priority: 1, Label: "first"}, {Pool: p.b, Ratio: 1, Priority: 1, Label: "first"}, {Pool: p.c, Ratio: 1}},
			})
			if err != nil {
				t.Fatal(err)
			}
			route := &Route{Pool: p.a, Group: group, Label: test.label, Hint: test.hint} // a was chosen; then things changed
			test.setUp(p)
			resp, err := (&Transport{Base: simulated{newWard()}}).RoundTrip(request(t.Context(), "GET", nil, route))
			if !errors.Is(err, test.err) || (err == nil) != (test.err == nil) {
				t.Fatalf("error %v, want %v", err, test.err)
			}
			if test.err != nil {
				return
			}
			resp.Body.Close()
			if route.Pool.Name() != test.pool || route.Unmet != test.unmet || route.Tried != 1 {
				t.Errorf("went to %s, unmet %q, want %s, %q", route.Pool.Name(), route.Unmet, test.pool, test.unmet)
			}
		})
	}
}

// fill takes what a pool has.
func fill(t *testing.T, p *Pool) {
	t.Helper()
	mustAcquire(t, p, Hint{})
}
