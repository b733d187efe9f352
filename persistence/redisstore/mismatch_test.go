package redisstore

import (
	"bytes"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/limpetlb/limpet/internal/redistest"
	"github.com/limpetlb/limpet/internal/testwait"
)

// A dropper forwards connections and drops the next answer on demand.
type dropper struct {
	addr    string
	armed   atomic.Bool
	dropped chan struct{}
}

func newDropper(t *testing.T, upstream string) *dropper {
	t.Helper()
	p := &dropper{dropped: make(chan struct{}, 1)}
	p.addr = relayReads(t, upstream, func(read []byte) bool {
		// An answer of the script, which nothing else looks like.
		if bytes.HasPrefix(read, []byte("*6\r\n")) && p.armed.CompareAndSwap(true, false) {
			p.dropped <- struct{}{}
			return false
		}
		return true
	})
	return p
}

// TestAnswerOfAnotherCall loses an answer, so that the next one reaches the
// call before it. Neither may believe it.
func TestAnswerOfAnotherCall(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	p := newDropper(t, server.Addr)
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
	<-p.dropped
	other, _, _, second := s.Lookup(ctx, "", "b", 0)
	wg.Wait()
	if !errors.Is(first, errMismatch) || !errors.Is(first, ErrUnavailable) || value != "" {
		t.Errorf("the call whose answer was lost: %q, %v", value, first)
	}
	if !errors.Is(second, ErrUnavailable) || other != "" {
		t.Errorf("the call whose answer went elsewhere: %q, %v", other, second)
	}
	testwait.Until(t, "recovery", func() bool { return s.Stats().Up })
	for _, key := range []string{"a", "b"} {
		if value, _, ok, err := s.Lookup(ctx, "", key, 0); value != "value of "+key || !ok || err != nil {
			t.Errorf("%q has %q, %t, %v", key, value, ok, err)
		}
	}
}
