package acceptance_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limpetlb/limpet"
)

// pipes is a listener of connections within the process.
type pipes chan net.Conn

// A pipe is such a connection, which looks like one of TCP.
type pipe struct{ net.Conn }

func (pipe) LocalAddr() net.Addr  { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80} }
func (pipe) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1000} }

func (l pipes) Accept() (net.Conn, error) {
	c, ok := <-l
	if !ok {
		return nil, net.ErrClosed
	}
	return pipe{c}, nil
}

func (l pipes) Close() error   { return nil }
func (l pipes) Addr() net.Addr { return &net.TCPAddr{} }

// servePipes serves connections within the process, until end is called.
func servePipes(vs *limpet.VirtualService, server *http.Server) (ln pipes, end func()) {
	ln = make(pipes, 2)
	served := make(chan error, 1)
	go func() { served <- server.Serve(vs.Listener(ln)) }()
	return ln, func() {
		close(ln)
		server.Close()
		<-served
	}
}

// net/http answers a request with an unknown expectation without a handler, and
// then read its body for ever: 70 such connections were all that a service with
// 128 file descriptors could take.
func TestUnansweredByHandlers(t *testing.T) {
	const body = "POST / HTTP/1.1\r\nHost: a\r\nExpect: x\r\nContent-Length: 9\r\n\r\n"
	for _, tt := range []struct {
		name, request string
		answers       int
	}{
		{"body that is waited for", "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n", 1},
		{"unknown expectation", body, 1},
		{"unknown expectation behind a request", "GET / HTTP/1.1\r\nHost: a\r\n\r\n" + body, 2},
		{"no request", "", 0},
		{"idle", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				vs, err := limpet.New(limpet.Config{})
				if err != nil {
					t.Fatal(err)
				}
				ln, end := servePipes(vs, limpet.NewServer(vs))
				defer end()
				client, conn := net.Pipe()
				ln <- conn
				start := time.Now()
				go func() { _, _ = io.WriteString(client, tt.request) }()
				_ = client.SetReadDeadline(start.Add(10 * time.Minute))
				r := bufio.NewReader(client)
				for range tt.answers {
					res, err := http.ReadResponse(r, nil)
					if err != nil {
						t.Fatal(err)
					}
					_, _ = io.Copy(io.Discard, res.Body)
				}
				var rest error
				for rest == nil {
					_, rest = r.ReadByte()
				}
				if open := time.Since(start); open > 2*time.Minute {
					t.Errorf("open after %v: %v", open, rest)
				}
				client.Close()
			})
		})
	}
}

// A handler that takes its time, and a connection that was taken over, are not
// closed.
func TestSlowHandlersStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		vs, err := limpet.New(limpet.Config{})
		if err != nil {
			t.Fatal(err)
		}
		gone := make(chan error, 1)
		server := limpet.NewServer(vs.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/hijacked" {
				c, _, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				go func() {
					time.Sleep(time.Hour)
					_, err := io.WriteString(c, "late")
					c.Close()
					gone <- err
				}()
				return
			}
			select {
			case <-r.Context().Done():
				t.Error("the request was ended")
			case <-time.After(time.Hour):
			}
			_, _ = io.WriteString(w, "late")
		})))
		ln, end := servePipes(vs, server)
		defer end()
		for _, path := range []string{"/", "/hijacked"} {
			client, conn := net.Pipe()
			ln <- conn
			go func() { _, _ = io.WriteString(client, "GET "+path+" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n") }()
			got, err := io.ReadAll(client)
			if err != nil || len(got) < 4 || string(got[len(got)-4:]) != "late" {
				t.Errorf("%s: %q, %v", path, got, err)
			}
			client.Close()
		}
		if err := <-gone; err != nil {
			t.Error(err)
		}
	})
}

// A program that had put its own handler into the place of the server's, or
// around it, would have lost its connections after a minute: nobody said when
// such a handler was at work.
func TestSlowHandlersOfOthersStay(t *testing.T) {
	slow := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
			t.Error("the request was ended")
		case <-time.After(time.Hour):
		}
		_, _ = io.WriteString(w, "late")
	})
	for name, handler := range map[string]func(http.Handler) http.Handler{
		"in its place": func(http.Handler) http.Handler { return limpet.LimitBodies(slow) },
		"around it": func(own http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				own.ServeHTTP(w, r)
				slow(w, r)
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				vs, err := limpet.New(limpet.Config{})
				if err != nil {
					t.Fatal(err)
				}
				server := limpet.NewServer(vs.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
				server.Handler = handler(server.Handler)
				ln, end := servePipes(vs, server)
				defer end()
				client, conn := net.Pipe()
				ln <- conn
				go func() { _, _ = io.WriteString(client, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n") }()
				got, err := io.ReadAll(client)
				if err != nil || len(got) < 4 || string(got[len(got)-4:]) != "late" {
					t.Errorf("%q, %v", got, err)
				}
				client.Close()
			})
		})
	}
}
