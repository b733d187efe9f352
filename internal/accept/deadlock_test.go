package accept

import (
	"net"
	"sync"
	"testing"

	"github.com/limpetlb/limpet/internal/testwait"
)

// Listeners that wait for room under one budget end, in whatever order they
// learn of it.
func TestEndOfCrowdedListeners(t *testing.T) {
	rounds := 100
	if testing.Short() {
		rounds = 20
	}
	for range rounds {
		budget := NewBudget(1, 0)
		var raws []fakeListener
		var lns []net.Listener
		var accepting sync.WaitGroup
		opened := make(chan net.Conn, 1)
		for range 64 {
			raw := newFakeListener()
			ln := fixed(&Rules{}).Listener(budget.Listener(raw))
			raws, lns = append(raws, raw), append(lns, ln)
			accepting.Go(func() {
				for {
					c, err := ln.Accept()
					if err != nil {
						return
					}
					opened <- c
				}
			})
		}
		raws[0].conns <- from("1")
		c := testwait.Receive(t, opened, "connection")
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for i, ln := range lns {
				if i%2 == 0 {
					Yield(ln)
				} else {
					_ = ln.Close()
				}
			}
			_ = c.Close()
			for _, ln := range lns {
				_ = ln.Close() // Accept returns then
			}
			accepting.Wait()
		}()
		testwait.Receive(t, ended, "end of all listeners")
	}
}
