//go:build unix

package accept

import (
	"io"
	"net"
	"syscall"
	"testing"
)

func TestIsExhausted(t *testing.T) {
	for _, test := range []struct {
		err  error
		want bool
	}{{syscall.EMFILE, true}, {&net.OpError{Op: "dial", Err: syscall.EADDRNOTAVAIL}, true}, {syscall.ECONNREFUSED, false}, {io.EOF, false}} {
		if IsExhausted(test.err) != test.want {
			t.Errorf("%v: %t", test.err, !test.want)
		}
	}
}
