//go:build unix

package lbpool

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/limpetlb/limpet/internal/testchild"
)

// TestStoppedProcess stops a process that checks servers, for longer than many
// intervals, and lets it go on. All its timers are overdue then, and checks
// that were under way have taken too long; yet no server may go down, and none
// may fail more than one check. A busy machine may be the reason why one does,
// but not each time.
func TestStoppedProcess(t *testing.T) {
	if testchild.Running() {
		checkUntilEOF(os.Getenv("LIMPET_SERVERS"))
		return
	}
	t.Parallel()
	var most, changes int
	for range 5 {
		if most, changes = stopProcess(t); most <= 1 && changes == 0 {
			return
		}
	}
	t.Errorf("up to %d checks of a server failed, want 1 at most; %d changes of state, want none", most, changes)
}

// stopProcess returns how many checks of one server failed at most, and how
// many servers changed their state.
func stopProcess(t *testing.T) (most, changes int) {
	t.Helper()
	const n = 10
	var checks [n]atomic.Int64
	var addrs []string
	for i := range n {
		addrs = append(addrs, newServerOn(t, func(http.ResponseWriter, *http.Request) { checks[i].Add(1) }).String())
	}
	child := testchild.Start(t, testchild.Command(t, "LIMPET_SERVERS="+strings.Join(addrs, ",")))
	defer func() { _ = child.Process.Kill() }()
	if got := child.Line(); got != "ready" {
		t.Fatalf("the process says %q", got)
	}
	if err := child.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	<-time.After(2 * time.Second) // the stop itself: seven intervals
	var before [n]int64
	for i := range n {
		before[i] = checks[i].Load()
	}
	if err := child.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		for range 6000 { // a minute
			if checks[i].Load() >= before[i]+5 {
				break
			}
			<-time.After(10 * time.Millisecond)
		}
	}
	rest := child.End()
	if len(rest) == 0 || !strings.HasPrefix(rest[0], "failed ") {
		t.Fatalf("the process says %q", rest)
	}
	if _, err := fmt.Sscanf(rest[0], "failed %d changed %d", &most, &changes); err != nil {
		t.Fatal(err)
	}
	return most, changes
}

// checkUntilEOF is the process that is stopped.
func checkUntilEOF(list string) {
	var mu sync.Mutex
	failed := map[netip.AddrPort]int{}
	cfg := Config{Name: "web"}
	for a := range strings.SplitSeq(list, ",") {
		cfg.Servers = append(cfg.Servers, ServerConfig{Address: a})
	}
	up := make(chan struct{}, len(cfg.Servers))
	var changes atomic.Int64
	cfg.OnEvent = func(e Event) {
		if e.Change.State == Up && e.From == Unchecked {
			up <- struct{}{}
		} else {
			changes.Add(1)
		}
	}
	checker := &HTTPChecker{}
	cfg.HealthMonitors = []HealthMonitor{{Interval: 300 * time.Millisecond, Timeout: 280 * time.Millisecond, Checker: CheckerFunc(
		func(ctx context.Context, server netip.AddrPort) error {
			err := checker.Check(ctx, server)
			if err != nil || ctx.Err() != nil {
				mu.Lock()
				failed[server]++
				mu.Unlock()
			}
			return err
		})}}
	p, err := New(cfg)
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() { _ = p.Run(ctx) })
	for range cfg.Servers {
		<-up
	}
	mu.Lock()
	clear(failed)
	mu.Unlock()
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	mu.Lock()
	most := 0
	for _, n := range failed {
		most = max(most, n)
	}
	mu.Unlock()
	fmt.Println("failed", most, "changed", changes.Load())
	cancel()
	group.Wait()
}
