package lbpool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/limpetlb/limpet/internal/http1"
	"github.com/limpetlb/limpet/internal/idletimer"
	"github.com/limpetlb/limpet/internal/splice"
)

// StreamIdleTimeout returns Config.StreamIdleTimeout, for callers that pass on
// connections themselves. 0 means no limit.
func (p *Pool) StreamIdleTimeout() time.Duration { return p.live().current.Load().streamIdle }

// bindLease makes the end of the response body release the lease. It reports
// false if there is no body to wait for.
func bindLease(ctx context.Context, resp *http.Response, lease Lease, outcome Outcome, try *try, request *guardedBody) bool {
	if resp.Body == nil || resp.Body == http.NoBody {
		return false
	}
	request.answered()
	settings := lease.Server.pool.current.Load()
	if conn, ok := resp.Body.(io.ReadWriteCloser); ok && resp.StatusCode == http.StatusSwitchingProtocols {
		resp.Body = &leasedConn{splice.LimitIdle(conn, settings.streamIdle), lease, outcome, try}
		return true
	}
	b := &leasedBody{ReadCloser: resp.Body, ctx: ctx, lease: lease, outcome: outcome, try: try, limit: settings.bodyIdle, request: request}
	if resp.ContentLength < 0 || request.unfinished() {
		b.limit = settings.streamIdle
	}
	if resp.ContentLength > 0 && settings.weighs {
		b.work.Store(resp.ContentLength)
		lease.Server.work.Add(resp.ContentLength)
	}
	resp.Body = b
	return true
}

// leasedBody is a response body whose lease lasts until it ends, fails, is
// closed, or makes its reader wait for too long.
type leasedBody struct {
	io.ReadCloser
	ctx     context.Context // of the request
	lease   Lease
	outcome Outcome
	try     *try
	work    atomic.Int64 // bytes to come, as counted in Server.work

	limit time.Duration // how long a read may wait; 0: no limit
	idle  atomic.Pointer[idletimer.Timer]
	over  atomic.Bool // the reader has stopped

	request *guardedBody // the body of the request; may be nil
	away    clientWait   // for the reader
}

func (b *leasedBody) Read(p []byte) (int, error) {
	b.away.end()
	b.wait()
	n, err := b.ReadCloser.Read(p)
	idle := b.idle.Load()
	idle.End()
	if err != nil && !errors.Is(err, io.EOF) && idle.Expired() && b.ctx.Err() == nil {
		err = fmt.Errorf("server sent nothing of the body for %s: %w", b.limit, ErrTimeout)
	}
	b.done(int64(n))
	if err != nil {
		if !errors.Is(err, io.EOF) {
			err = http1.WithoutQuote(err)
		}
		b.release(err)
	} else if b.away.beginAfter(n, maxBuffered) {
		b.request.answered()
	}
	return n, err
}

// wait starts the time limit of a read. Most bodies have arrived and need no
// timer.
func (b *leasedBody) wait() {
	if idle := b.idle.Load(); idle != nil {
		idle.Begin()
		return
	}
	if b.limit <= 0 || b.over.Load() {
		return
	}
	if n, known := b.Buffered(); known && n > 0 {
		return
	}
	idle := idletimer.New(b.limit, func() { _ = b.ReadCloser.Close() })
	b.idle.Store(idle)
	if b.over.Load() { // it was closed meanwhile
		idle.Stop()
	}
}

// Buffered returns how many bytes have arrived, if the transport of the
// response knows.
func (b *leasedBody) Buffered() (n int, known bool) {
	body, ok := b.ReadCloser.(interface{ Buffered() (int, bool) })
	if !ok {
		return 0, false
	}
	return body.Buffered()
}

func (b *leasedBody) Close() error {
	// Closing early is no failure of the server. The lease is released first,
	// so that a read that the closing interrupts is not counted as one.
	b.release(io.EOF)
	return b.ReadCloser.Close()
}

// done reduces the bytes still to come by n.
func (b *leasedBody) done(n int64) {
	for {
		left := b.work.Load()
		if left == 0 {
			return
		}
		if n = min(n, left); b.work.CompareAndSwap(left, left-n) {
			b.lease.Server.work.Add(-n)
			return
		}
	}
}

func (b *leasedBody) release(err error) {
	b.over.Store(true)
	b.idle.Load().Stop()
	b.done(math.MaxInt64)
	b.try.end()
	o := b.outcome
	switch {
	case errors.Is(err, io.EOF):
	case b.ctx.Err() != nil, b.request.slow(), b.away.slow() && !isTimeout(err):
		o.Err = ErrAborted
	default:
		o.Err = err
	}
	b.lease.Release(o)
}

// leasedConn is an upgraded connection whose lease lasts until it is closed.
// Either direction may end earlier.
type leasedConn struct {
	*splice.Conn
	lease   Lease
	outcome Outcome
	try     *try
}

func (c *leasedConn) Close() error {
	err := c.Conn.Close()
	c.try.end()
	c.lease.Release(c.outcome)
	return err
}
