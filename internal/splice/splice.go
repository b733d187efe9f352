// Package splice joins two connections, so that what comes on either goes to
// the other. The end of what one side sends is passed on, and the other
// direction goes on.
package splice

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
)

// Join copies between two connections until both directions have ended, or one
// has failed, or ctx ends, and closes both.
//
// If early is not nil, it has read from the client before: what is in its
// buffer is the first that the server gets. No more is read from it, because
// for a server of net/http the end of what a client sends is the end of the
// request.
func Join(ctx context.Context, client io.ReadWriteCloser, early *bufio.Reader, server io.ReadWriteCloser) {
	closeBoth := func() {
		_ = client.Close()
		_ = server.Close()
	}
	defer closeBoth()
	defer context.AfterFunc(ctx, closeBoth)()
	if sendEarly(server, early) != nil {
		return
	}
	direction := func(to, from io.ReadWriteCloser) {
		if !relay(to, from) {
			closeBoth()
		}
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { direction(server, client) })
	direction(client, server)
}

func sendEarly(server io.Writer, early *bufio.Reader) error {
	if early == nil || early.Buffered() == 0 {
		return nil
	}
	p, _ := early.Peek(early.Buffered())
	_, err := server.Write(p)
	return err
}

// relay copies until the end of from, and ends to's sending direction. It
// reports false if something failed.
func relay(to io.Writer, from io.Reader) bool {
	_, err := Copy(to, from)
	return err == nil && CloseWrite(to) == nil
}

// CloseWrite ends the sending direction of a connection. If the connection
// cannot do that, the error is [http.ErrNotSupported].
func CloseWrite(conn any) error {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return fmt.Errorf("ending one direction: %w", http.ErrNotSupported)
}
