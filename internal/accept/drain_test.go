package accept

import (
	"context"
	"errors"
	"net"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// Connections that were in the queue of a listener when its server ended were
// reset, though their clients were connected.
func TestQueueAtTheEnd(t *testing.T) {
	const queued = 20
	for _, network := range []string{"tcp", "unix"} {
		for name, stopped := range map[string]bool{"stopped": true, "closed": false} {
			t.Run(network+"/"+name, func(t *testing.T) {
				address := "127.0.0.1:0"
				if network == "unix" {
					address = t.TempDir() + "/socket"
				}
				raw, err := net.Listen(network, address)
				if err != nil {
					t.Fatal(err)
				}
				g := fixed(&Rules{})
				ln := g.Listener(raw)
				dial := func() {
					c, err := net.Dial(network, raw.Addr().String())
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { c.Close() })
				}
				dial()
				first, err := ln.Accept()
				if err != nil {
					t.Fatal(err)
				}
				defer first.Close()
				for range queued {
					dial()
				}
				all := make(chan int)
				accept := func() {
					got := 0
					for {
						c, err := ln.Accept()
						if err != nil {
							if !errors.Is(err, net.ErrClosed) {
								t.Errorf("Accept: %v", err)
							}
							break
						}
						got++
						c.Close()
					}
					all <- got
				}
				if stopped {
					go accept()
					g.Stop(t.Context())
					g.Stop(t.Context())
					select {
					case <-all:
						t.Error("Accept returns before its listener is closed")
					default:
					}
				}
				if err := ln.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
				if !stopped {
					go accept()
				}
				if got, want := <-all, map[bool]int{true: queued}[stopped]; got != want {
					t.Errorf("%d connections of the queue, want %d", got, want)
				}
				if c, err := net.Dial(network, raw.Addr().String()); err == nil {
					c.Close()
					t.Error("somebody listens still")
				}
				if len(g.listeners) > 0 {
					t.Errorf("%d listeners", len(g.listeners))
				}
			})
		}
	}
}

// Nobody accepts, or deadlines are unknown, or there is no room: Stop ends such
// listeners, too.
func TestStopEndsAllListeners(t *testing.T) {
	raw := func() net.Listener {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return ln
	}
	for name, c := range map[string]struct {
		ln     net.Listener
		accept int // how often, at first
		files  int
		again  bool // accept goes on
	}{
		"never accepted":             {raw(), 0, 0, false},
		"accepted no more":           {raw(), 1, 0, false},
		"no deadlines":               {struct{ net.Listener }{raw()}, 1, 0, true},
		"no room":                    {raw(), 1, 1, true},
		"connections without an end": {raw(), 1, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			g := fixed(&Rules{})
			g.files = c.files
			ln := g.Listener(c.ln)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			dial := func() bool {
				conn, err := net.Dial("tcp", c.ln.Addr().String())
				if err == nil {
					t.Cleanup(func() { conn.Close() })
				}
				return err == nil
			}
			for range c.accept {
				dial()
				conn, err := ln.Accept()
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
			}
			ended := make(chan error, 1)
			if c.again {
				go func() {
					for {
						conn, err := ln.Accept()
						if err != nil {
							ended <- err
							return
						}
						conn.Close()
					}
				}()
			}
			if name == "connections without an end" {
				go func() {
					for ctx.Err() == nil && dial() {
					}
				}()
			}
			g.Stop(ctx)
			if dial() {
				t.Error("somebody listens still")
			}
			if err := ln.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
			if !c.again {
				_, err := ln.Accept()
				ended <- err
			}
			if err := <-ended; !errors.Is(err, net.ErrClosed) {
				t.Errorf("Accept: %v", err)
			}
		})
	}
}

// Whoever waits for the end of a listener may dial: it is closed by then.
func TestEndedIsClosed(t *testing.T) {
	g := fixed(&Rules{})
	l := &slowToClose{Listener: newFakeListener()}
	ln := g.Listener(l)
	go g.Stop(t.Context())
	<-ln.(*listener).ended
	if !l.closed.Load() {
		t.Error("the listener ended before it was closed")
	}
	ln.Close()
}

type slowToClose struct {
	net.Listener
	closed atomic.Bool
}

func (l *slowToClose) Close() error {
	for range 1000 {
		runtime.Gosched()
	}
	l.closed.Store(true)
	return l.Listener.Close()
}

// AwaitNone waits for all connections, and no longer than its context.
func TestAwaitNone(t *testing.T) {
	g := fixed(&Rules{})
	l := newFakeListener()
	ln := g.Listener(l)
	accept := func() net.Conn {
		go func() { l.conns <- from("1") }()
		c, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	g.AwaitNone(t.Context())
	first, second := accept(), accept()
	short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	g.AwaitNone(short)
	done := make(chan struct{})
	go func() {
		g.AwaitNone(context.Background())
		close(done)
	}()
	first.Close()
	first.Close()
	if isOver(done) {
		t.Fatal("one is open still")
	}
	second.Close()
	<-done
}
