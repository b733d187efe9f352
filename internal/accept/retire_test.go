package accept

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
)

// Whoever accepts makes progress if it waits, or has waited again since.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		raw := newFakeListener()
		ln := fixed(&Rules{}).Listener(raw)
		expect := func(turns uint64, waits bool) {
			t.Helper()
			synctest.Wait()
			if n, now := Turns(ln); n != turns || now != waits {
				t.Errorf("%d turns, waits %t, not %d, %t", n, now, turns, waits)
			}
		}
		expect(0, false)
		accepted := make(chan net.Conn)
		go func() {
			defer close(accepted)
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				accepted <- c // which hangs until somebody takes it
			}
		}()
		expect(0, true)
		raw.conns <- from("1")
		expect(1, false)
		c := <-accepted
		expect(1, true)
		c.Close()
		ln.Close()
		<-accepted
		expect(2, false)
		if _, waits := Turns(raw); !waits {
			t.Error("a foreign listener hangs")
		}
	})
}

// A listener that yields takes nothing more, and leaves what is in the queue to
// the other one of the socket.
func TestYield(t *testing.T) {
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f, err := raw.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	next, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	ln := fixed(&Rules{}).Listener(raw)
	accepted := make(chan net.Conn)
	go func() {
		defer close(accepted)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	dial := func() {
		t.Helper()
		c, err := net.Dial("tcp", raw.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
	}
	dial()
	first := (<-accepted).(*Conn)
	Yield(ln)
	Yield(raw)
	dial()
	c, err := next.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if !first.Leaving() {
		t.Error("a connection of the listener stays")
	}
	first.Close()
	Retire(t.Context(), ln)
	if err := ln.Close(); err != nil {
		t.Error(err)
	}
	if c, more := <-accepted; more {
		t.Errorf("it has taken %v", c)
	}
}

// A listener that is retired takes nothing from the others of its gate: its own
// connections leave, and are waited for.
func TestRetire(t *testing.T) {
	g := fixed(&Rules{})
	listen := func() (net.Listener, chan *Conn) {
		raw, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ln, accepted := g.Listener(raw), make(chan *Conn, 10)
		go func() {
			defer close(accepted)
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				accepted <- c.(*Conn)
			}
		}()
		return ln, accepted
	}
	dial := func(ln net.Listener) net.Conn {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	old, fromOld := listen()
	stays, fromStays := listen()
	dial(old)
	dial(stays)
	leaving, staying := <-fromOld, <-fromStays
	if leaving.Leaving() || staying.Leaving() {
		t.Error("a connection leaves too early")
	}
	retired := make(chan struct{})
	go func() {
		defer close(retired)
		Retire(t.Context(), old)
	}()
	// It ends when its queue is empty, and then waits for its connection.
	<-old.(*listener).ended
	if !leaving.Leaving() || staying.Leaving() || isOver(retired) {
		t.Errorf("leaving %t, the other one %t; over %t", leaving.Leaving(), staying.Leaving(), isOver(retired))
	}
	if c, err := net.Dial("tcp", old.Addr().String()); err == nil {
		c.Close()
		t.Error("the retired listener listens")
	}
	dial(stays)
	again := <-fromStays
	leaving.Close()
	<-retired
	short, cancel := context.WithCancel(t.Context())
	cancel()
	Retire(short, stays) // which does not wait for its connections
	Retire(t.Context(), struct{ net.Listener }{stays})
	for _, c := range []*Conn{staying, again} {
		c.Close()
	}
	for _, ln := range []net.Listener{old, stays} {
		if err := ln.Close(); err != nil {
			t.Error(err)
		}
	}
	for range fromOld {
	}
	for range fromStays {
	}
}

// A listener that yields may just have taken a connection: whoever retires or
// stops it waits for that, too. Servers were shut down that had not read its
// request, which failed.
func TestYieldWhileTaking(t *testing.T) {
	for name, end := range map[string]func(ctx context.Context, g *Gate, ln net.Listener){
		"retire": func(ctx context.Context, _ *Gate, ln net.Listener) { Retire(ctx, ln) },
		"stop": func(ctx context.Context, g *Gate, _ net.Listener) {
			g.Stop(ctx)
			g.AwaitNone(ctx)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				raw := slowListener{newFakeListener(), make(chan struct{})}
				g := fixed(&Rules{})
				ln := g.Listener(raw)
				accepted := make(chan net.Conn, 1)
				go func() {
					c, _ := ln.Accept()
					accepted <- c
				}()
				raw.conns <- from("1")
				synctest.Wait()
				Yield(ln)
				over := make(chan struct{})
				go func() {
					defer close(over)
					end(t.Context(), g, ln)
				}()
				synctest.Wait()
				if isOver(over) {
					t.Error("it is over while a connection is being accepted")
				}
				close(raw.hand)
				c := <-accepted
				synctest.Wait()
				if isOver(over) {
					t.Error("it is over while a connection is open")
				}
				c.Close()
				<-over
				ln.Close()
			})
		})
	}
}

// A slowListener has a connection in its hands until hand is closed.
type slowListener struct {
	fakeListener
	hand chan struct{}
}

func (l slowListener) Accept() (net.Conn, error) {
	c, err := l.fakeListener.Accept()
	<-l.hand
	return c, err
}
