package http1

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// countedDeadlines counts how often the deadline of a connection is set.
type countedDeadlines struct {
	net.Conn
	set *int
}

func (c countedDeadlines) SetDeadline(t time.Time) error {
	*c.set++
	return c.Conn.SetDeadline(t)
}

const headerLimit = 8 * time.Second

// A deadlined transport has one connection, to a server that is a function, and
// counts how often its deadline is set.
type deadlined struct {
	*Transport
	moves, dialed int
}

func newDeadlined(t *testing.T, answer func(c net.Conn, r *bufio.Reader)) *deadlined {
	d := new(deadlined)
	base := settings()
	base.ResponseHeaderTimeout = headerLimit
	base.DialContext = func(context.Context, string, string) (net.Conn, error) {
		d.dialed++
		here, there := net.Pipe()
		go func() {
			answer(there, bufio.NewReader(there))
			there.Close()
		}()
		return countedDeadlines{here, &d.moves}, nil
	}
	d.Transport = New(base)
	t.Cleanup(d.CloseIdleConnections)
	return d
}

func (d *deadlined) get(t *testing.T) (*http.Response, string, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", "http://site.example", nil)
	if err != nil {
		t.Fatal(err)
	}
	return fetch(d, r)
}

func (d *deadlined) want(t *testing.T, body string) {
	t.Helper()
	if _, got, err := d.get(t); got != body || err != nil {
		t.Fatalf("%q, %v", got, err)
	}
}

func (d *deadlined) wantMoves(t *testing.T, want int) {
	t.Helper()
	if d.dialed != 1 || d.moves != want {
		t.Errorf("%d connections, whose deadline was set %d times; want 1, %d times", d.dialed, d.moves, want)
	}
}

// TestDeadlines uses a connection for what takes longer than a header may, and
// counts how often its deadline is moved.
func TestDeadlines(t *testing.T) {
	t.Run("requests one after the other", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := newDeadlined(t, says(ok))
			for range 100 {
				d.want(t, "ok")
				time.Sleep(headerLimit / 1000)
			}
			d.wantMoves(t, 1)
		})
	})
	t.Run("requests after longer than the limit", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := newDeadlined(t, says(ok))
			for range 3 {
				d.want(t, "ok")
				time.Sleep(10 * headerLimit)
			}
			d.wantMoves(t, 3)
		})
	})
	t.Run("a body that takes its time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := newDeadlined(t, func(c net.Conn, r *bufio.Reader) {
				for range 2 {
					if _, err := readHead(r); err != nil {
						return
					}
					io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nsl")
					time.Sleep(10 * headerLimit)
					io.WriteString(c, "ow")
				}
			})
			d.want(t, "slow")
			d.want(t, "slow")
			d.wantMoves(t, 4)
		})
	})
	t.Run("a connection that is upgraded", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := newDeadlined(t, func(c net.Conn, r *bufio.Reader) {
				if _, err := readHead(r); err != nil {
					return
				}
				io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
				time.Sleep(10 * headerLimit)
				io.WriteString(c, "late")
			})
			d.want(t, "late")
			d.wantMoves(t, 2)
		})
	})
	t.Run("no answer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := newDeadlined(t, func(c net.Conn, r *bufio.Reader) {
				if _, err := readHead(r); err != nil {
					return
				}
				io.WriteString(c, ok)
				_, _ = io.Copy(io.Discard, r)
			})
			d.want(t, "ok")
			time.Sleep(headerLimit / 10) // so that the deadline stays
			start := time.Now()
			_, _, err := d.get(t)
			var timeout net.Error
			if took := time.Since(start); !errors.As(err, &timeout) || !timeout.Timeout() || took < headerLimit || took > headerLimit+headerLimit/8 {
				t.Errorf("after %v: %v", took, err)
			}
			d.wantMoves(t, 1)
		})
	})
}
