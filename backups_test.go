package limpet

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/lbpool"
)

// Run checks the backups of pools and groups, and theirs, although they are
// none of the pools of the configuration: also those of an update, and those of
// pools that others have as backups no more are left alone.
func TestRunBackups(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	pool := func(name string, backup *lbpool.Pool) *lbpool.Pool {
		t.Helper()
		cfg := lbpool.Config{
			Name: name, Servers: []lbpool.ServerConfig{{Address: ln.Addr().String()}},
			HealthMonitors: []lbpool.HealthMonitor{{Checker: &lbpool.TCPChecker{}, Interval: 20 * time.Millisecond, Timeout: 10 * time.Millisecond, Successes: 1}},
		}
		if backup != nil {
			cfg.FailAction = lbpool.FailAction{Kind: lbpool.FailBackup, Backup: backup}
		}
		p, err := lbpool.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	last := pool("last", nil)
	second, ofGroup, later := pool("second", last), pool("of group", nil), pool("later", nil)
	first := pool("first", second)
	group, err := lbpool.NewGroup(lbpool.GroupConfig{
		Name: "group", Members: []lbpool.Member{{Pool: first, Ratio: 1}}, FailAction: lbpool.FailAction{Kind: lbpool.FailBackup, Backup: ofGroup},
	})
	if err != nil {
		t.Fatal(err)
	}
	vs, err := New(Config{Pools: []*lbpool.Pool{first}, PoolGroups: []*lbpool.Group{group}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = vs.Run(ctx) })
	defer running.Wait()
	defer stop()
	checked := func(p *lbpool.Pool) {
		t.Helper()
		testwait.Until(t, "a check of "+p.Name(), func() bool { return p.Servers()[0].State() == lbpool.Up })
	}
	for _, p := range []*lbpool.Pool{first, second, last, ofGroup} {
		checked(p)
	}
	if later.Servers()[0].State() == lbpool.Up {
		t.Error("a pool that nobody has is checked")
	}
	if err := vs.Update(Config{Pools: []*lbpool.Pool{pool("first", later)}}); err != nil {
		t.Fatal(err)
	}
	checked(later)
}
