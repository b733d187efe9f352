package redisstore

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/limpetlb/limpet/internal/redistest"
)

// A thief forwards connections and steals the next answer when it is told to.
type thief struct {
	addr  string
	armed atomic.Bool
	stole chan struct{}
}

func newThief(t *testing.T, upstream string) *thief {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &thief{addr: ln.Addr().String(), stole: make(chan struct{}, 1)}
	var wg sync.WaitGroup
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			down, err := ln.Accept()
			if err != nil {
				return
			}
			up, err := net.Dial("tcp", upstream)
			if err != nil {
				down.Close()
				continue
			}
			wg.Go(func() {
				io.Copy(up, down)
				up.Close()
			})
			wg.Go(func() {
				defer down.Close()
				buf := make([]byte, 64<<10)
				for {
					n, err := up.Read(buf)
					if err != nil {
						return
					}
					// An answer of the script, which nothing else looks like.
					if bytes.HasPrefix(buf[:n], []byte("*6\r\n")) && p.armed.CompareAndSwap(true, false) {
						p.stole <- struct{}{}
						continue
					}
					if _, err := down.Write(buf[:n]); err != nil {
						return
					}
				}
			})
		}
	})
	return p
}

// TestAnswerOfAnotherCall loses an answer, so that the next one reaches the call before it. Neither may believe it.
func TestAnswerOfAnotherCall(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	p := newThief(t, server.Addr)
	ctx := t.Context()
	s := open(t, server, Config{Addresses: []string{p.addr}, WhenDown: FailClosed, NearEntries: -1})
	for _, key := range []string{"a", "b"} {
		if ok, err := s.Put(ctx, "", key, "value of "+key, time.Hour); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	p.armed.Store(true)
	var first error
	var value string
	var wg sync.WaitGroup
	wg.Go(func() { value, _, _, first = s.Lookup(ctx, "", "a", 0) })
	<-p.stole
	other, _, _, second := s.Lookup(ctx, "", "b", 0)
	wg.Wait()
	if !errors.Is(first, errMismatch) || !errors.Is(first, ErrUnavailable) || value != "" {
		t.Errorf("the call whose answer was lost: %q, %v", value, first)
	}
	if !errors.Is(second, ErrUnavailable) || other != "" {
		t.Errorf("the call whose answer went elsewhere: %q, %v", other, second)
	}
	until(t, patient, "recovery", func() bool { return s.Stats().Up })
	for _, key := range []string{"a", "b"} {
		if value, _, ok, err := s.Lookup(ctx, "", key, 0); value != "value of "+key || !ok || err != nil {
			t.Errorf("%q has %q, %t, %v", key, value, ok, err)
		}
	}
}
