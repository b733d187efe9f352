package accept

import (
	"net"
	"testing"
	"testing/synctest"
)

// The listeners of a budget accept no more while its connections are open,
// whichever gate they are of, and each may exceed it by one.
func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		budget := NewBudget(2, 0)
		type end struct {
			raw      fakeListener
			ln       net.Listener
			accepted chan net.Conn
		}
		var ends [2]end
		for i := range ends {
			g := fixed(&Rules{})
			g.files = 1 // which does not apply
			raw := newFakeListener()
			e := end{raw, g.Listener(budget.Listener(raw)), make(chan net.Conn)}
			ends[i] = e
			go func() {
				defer close(e.accepted)
				for {
					c, err := e.ln.Accept()
					if err != nil {
						return
					}
					e.accepted <- c
				}
			}()
		}
		var open []net.Conn
		for i := range 3 {
			e := ends[i%2]
			e.raw.conns <- from("1")
			open = append(open, <-e.accepted)
			synctest.Wait()
		}
		if budget.Open() != 3 || budget.Max() != 2 {
			t.Fatalf("%d open of %d", budget.Open(), budget.Max())
		}
		for _, c := range open {
			if !c.(*Conn).Crowded() {
				t.Error("not crowded, although others may be waiting")
			}
		}
		for _, c := range open[:2] {
			c.Close()
			c.Close()
		}
		synctest.Wait()
		if budget.Open() != 1 || open[2].(*Conn).Crowded() {
			t.Errorf("%d open, crowded %t", budget.Open(), open[2].(*Conn).Crowded())
		}
		ends[1].raw.conns <- from("2")
		second := <-ends[1].accepted
		synctest.Wait()
		for _, e := range ends {
			e.ln.Close()
			if _, more := <-e.accepted; more {
				t.Error("a connection after the end")
			}
		}
		open[2].Close()
		second.Close()
		if budget.Open() != 0 {
			t.Errorf("%d open at the end", budget.Open())
		}
	})
}

// Without a number, a budget leaves as many file descriptors for servers as for
// clients, and some for what else a process needs.
func TestBudgetOfFiles(t *testing.T) {
	files := fileLimit()
	if files == 0 {
		t.Skip("the system does not tell")
	}
	few, none := NewBudget(0, 100), NewBudget(0, 1<<30)
	if got := NewBudget(0, 0).Max(); got != int(files-2*spareFiles)/2 || few.Max() != got-50 || none.Max() != leastConnections {
		t.Errorf("%d files: %d connections, with 100 others %d, with many %d", files, got, few.Max(), none.Max())
	}
}
