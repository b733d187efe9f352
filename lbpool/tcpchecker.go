package lbpool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/limpetlb/limpet/internal/fielderr"
)

const (
	maxCheckSend   = 1024
	maxCheckExpect = 512
)

// TCPChecker connects to the server. With Send it then sends that text, and
// with Expect it waits for that text; with neither, the connection alone is
// success. The zero value is ready to use.
type TCPChecker struct {
	// Send is sent after connecting; at most 1024 bytes. Empty sends nothing.
	Send string
	// Expect must occur in the first 2 KiB that the server sends; at most 512
	// bytes. Empty expects nothing.
	Expect string
	// Maintenance, if it occurs there before Expect, means that the server is
	// under maintenance: it gets no requests from then on, without a failure,
	// until a check succeeds. At most 512 bytes. It needs an Expect, which ends
	// the wait. Empty means none.
	Maintenance string
}

// Check implements Checker. Its errors are of type *CheckError.
func (c *TCPChecker) Check(ctx context.Context, server netip.AddrPort) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", server.String())
	if err != nil {
		return networkCheckError(err)
	}
	defer conn.Close()
	// A deadline in the past unblocks reads and writes whichever way ctx ends.
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := io.WriteString(conn, c.Send); err != nil {
		return networkCheckError(err)
	}
	return c.await(conn)
}

func (c *TCPChecker) await(conn net.Conn) error {
	buf := make([]byte, keywordWindow)
	n := 0
	for {
		if c.Maintenance != "" && bytes.Contains(buf[:n], []byte(c.Maintenance)) {
			return &CheckError{Reason: CheckMaintenance, Detail: fmt.Sprintf("%q found", c.Maintenance)}
		}
		if bytes.Contains(buf[:n], []byte(c.Expect)) {
			return nil
		}
		if n == len(buf) {
			return c.mismatch()
		}
		m, err := conn.Read(buf[n:])
		n += m
		switch {
		case m > 0:
		case errors.Is(err, io.EOF) && n > 0:
			return c.mismatch()
		case err != nil:
			return networkCheckError(err)
		}
	}
}

func (c *TCPChecker) mismatch() error {
	return &CheckError{Reason: checkPayloadMismatch, Detail: fmt.Sprintf("%q not found", c.Expect)}
}

func (c *TCPChecker) validate() error {
	var faults fielderr.List
	if len(c.Send) > maxCheckSend {
		faults.Addf("send", nil, "%d bytes, more than %d", len(c.Send), maxCheckSend)
	}
	if len(c.Expect) > maxCheckExpect {
		faults.Addf("expect", nil, "%d bytes, more than %d", len(c.Expect), maxCheckExpect)
	}
	if len(c.Maintenance) > maxCheckExpect {
		faults.Addf("maintenance", nil, "%d bytes, more than %d", len(c.Maintenance), maxCheckExpect)
	}
	if c.Maintenance != "" && c.Expect == "" {
		faults.Addf("maintenance", c.Maintenance, "expect is missing")
	}
	return faults.Err()
}
