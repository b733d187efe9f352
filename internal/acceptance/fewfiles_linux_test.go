package acceptance_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/testchild"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/lbpool"
)

// With few file descriptors and many clients, clients took all of them, no
// server could be connected to, and that was held against the servers. Now
// clients wait for their turn, as far as they come for it again.
func TestFewFiles(t *testing.T) {
	if testchild.Running() {
		serveWithFewFiles(t, os.Getenv("LIMPET_SERVERS"))
		return
	}
	server := startServer(t, "127.0.1.1:0", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "served") }))
	child := testchild.Start(t, testchild.Command(t, "LIMPET_SERVERS="+server))
	url := child.Line()
	var wg sync.WaitGroup
	var served, failed atomic.Int64
	const clients, requests = 300, 10
	for range clients {
		wg.Go(func() {
			tr := new(http.Transport)
			defer tr.CloseIdleConnections()
			client := &http.Client{Transport: tr, Timeout: 2 * testwait.Limit}
			for range requests {
				if status, body := get(t, client, url); status == 200 && body == "served" {
					served.Add(1)
				} else {
					failed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	var failures int
	if _, err := fmt.Sscan(child.End()[0], &failures); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d served, %d not, %d failures of the server", served.Load(), failed.Load(), failures)
	if failed.Load() > 0 || failures > 0 {
		t.Errorf("%d of %d requests failed, with %d failures of the server", failed.Load(), clients*requests, failures)
	}
}

func serveWithFewFiles(t *testing.T, server string) {
	limit := syscall.Rlimit{Cur: 256, Max: 256}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	pool := poolOf(t, lbpool.ServerConfig{Address: server})
	vs := newVirtualService(t, limpet.Config{Pools: []*lbpool.Pool{pool}})
	srv := limpet.NewServer(vs)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- srv.Serve(vs.Listener(ln)) }()
	fmt.Println("http://" + ln.Addr().String())
	testchild.Wait()
	fmt.Println(pool.Servers()[0].Stats().Failures)
	srv.Close()
	<-done
}
