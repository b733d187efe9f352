package redisstore

import (
	"io"
	"net"
	"sync"
	"testing"
)

// relay forwards connections to a server until the test ends, and returns where
// it listens. What the server sends to a connection goes through answers, which
// returns when either side has ended.
func relay(t *testing.T, upstream string, answers func(down io.Writer, up io.Reader)) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
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
				answers(down, up)
			})
		}
	})
	return ln.Addr().String()
}

// relayReads is a relay that asks forward about what each read of the server's
// connection brings.
func relayReads(t *testing.T, upstream string, forward func(read []byte) bool) (addr string) {
	t.Helper()
	return relay(t, upstream, func(down io.Writer, up io.Reader) {
		buf := make([]byte, 64<<10)
		for {
			n, err := up.Read(buf)
			if err != nil {
				return
			}
			if !forward(buf[:n]) {
				continue
			}
			if _, err := down.Write(buf[:n]); err != nil {
				return
			}
		}
	})
}
