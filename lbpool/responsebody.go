package lbpool

import (
	"context"
	"errors"
	"io"
	"math"
	"net/http"
	"sync/atomic"
)

// bindLease makes the end of the response body release the lease. It reports false if there is no body to wait for.
func bindLease(ctx context.Context, resp *http.Response, lease Lease, outcome Outcome, try *try) bool {
	if resp.Body == nil || resp.Body == http.NoBody {
		return false
	}
	if conn, ok := resp.Body.(io.ReadWriteCloser); ok && resp.StatusCode == http.StatusSwitchingProtocols {
		resp.Body = &leasedConn{ReadWriteCloser: conn, lease: lease, outcome: outcome, try: try}
	} else {
		b := &leasedBody{ReadCloser: resp.Body, ctx: ctx, lease: lease, outcome: outcome, try: try}
		if resp.ContentLength > 0 && lease.Server.pool.current.Load().weighs {
			b.work.Store(resp.ContentLength)
			lease.Server.work.Add(resp.ContentLength)
		}
		resp.Body = b
	}
	return true
}

// leasedBody is a response body that holds a lease until it ends, fails or is closed.
type leasedBody struct {
	io.ReadCloser
	ctx     context.Context // of the request
	lease   Lease
	outcome Outcome
	try     *try
	work    atomic.Int64 // bytes to come, as counted in Server.work
}

func (b *leasedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.done(int64(n))
	if err != nil {
		b.release(err)
	}
	return n, err
}

// Buffered returns how many bytes are here already, if the transport that gave the answer knows.
func (b *leasedBody) Buffered() (n int, known bool) {
	body, ok := b.ReadCloser.(interface{ Buffered() (int, bool) })
	if !ok {
		return 0, false
	}
	return body.Buffered()
}

func (b *leasedBody) Close() error {
	// Closing early is the reader's choice and nobody's failure. The lease goes first, so that a read that is cut off by
	// the closing cannot count it as one.
	b.release(io.EOF)
	return b.ReadCloser.Close()
}

// done says that n bytes fewer are to come, if that many were.
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
	b.done(math.MaxInt64)
	b.try.end()
	o := b.outcome
	switch {
	case errors.Is(err, io.EOF):
	case b.ctx.Err() != nil:
		o.Err = ErrAborted
	default:
		o.Err = err
	}
	b.lease.Release(o)
}

// leasedConn is an upgraded connection that holds a lease until it is closed. Either direction may end before that.
type leasedConn struct {
	io.ReadWriteCloser
	lease   Lease
	outcome Outcome
	try     *try
}

// CloseWrite ends the sending direction if the connection can.
func (c *leasedConn) CloseWrite() error {
	if cw, ok := c.ReadWriteCloser.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return http.ErrNotSupported
}

func (c *leasedConn) Close() error {
	err := c.ReadWriteCloser.Close()
	c.try.end()
	c.lease.Release(c.outcome)
	return err
}
