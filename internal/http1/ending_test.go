package http1

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/limpetlb/limpet/internal/testwait"
)

// TestCloseAtTheEnd closes a body just when another goroutine has read it to
// its end and the connection serves the next request already: that request,
// perhaps another client's, was cut off. The time between the two is made long
// here.
func TestCloseAtTheEnd(t *testing.T) {
	for _, ending := range []struct {
		name string
		end  func(*http.Response)
	}{
		{"read to the end", func(resp *http.Response) { io.Copy(io.Discard, resp.Body) }},
		{"closed by another", func(resp *http.Response) { resp.Body.Close() }},
	} {
		t.Run(ending.name, func(t *testing.T) {
			asked, answer := make(chan bool, 1), make(chan bool)
			s := serve(t, func(c net.Conn, r *bufio.Reader) {
				for n := 0; ; n++ {
					if _, err := readHead(r); err != nil {
						return
					}
					if n > 0 {
						asked <- true
						<-answer
					}
					io.WriteString(c, ok)
				}
			})
			rt := start(t, true, nil)
			idle, goOn := make(chan bool), make(chan bool)
			first, err := rt.RoundTrip(traced(newRequest(t, "GET", s.url, nil), &httptrace.ClientTrace{PutIdleConn: func(error) {
				close(idle)
				<-goOn
			}}))
			if err != nil {
				t.Fatal(err)
			}
			ended, closed := make(chan bool), make(chan bool)
			go func() { ending.end(first); close(ended) }()
			testwait.Receive(t, idle, "the connection to be idle")

			type result struct {
				body string
				err  error
			}
			second := make(chan result, 1)
			go func() {
				_, body, err := fetch(rt, newRequest(t, "POST", s.url, nil))
				second <- result{body, err}
			}()
			testwait.Receive(t, asked, "the second request")
			go func() { first.Body.Close(); close(closed) }()
			select {
			case r := <-second: // it must not end before it is answered
				t.Errorf("the second request: %q, %v", r.body, r.err)
				close(answer)
			case <-closed:
				close(answer)
				if r := testwait.Receive(t, second, "the second answer"); r.body != "ok" || r.err != nil {
					t.Errorf("the second request: %q, %v", r.body, r.err)
				}
			}
			close(goOn)
			testwait.Receive(t, ended, "the end")
			testwait.Receive(t, closed, "the closing")
			if n := s.connections(); n != 1 {
				t.Errorf("%d connections, so that the test has shown nothing", n)
			}
		})
	}
}

// TestCloseAnytime closes bodies at any moment while they are read, and looks
// whether all others arrive whole.
func TestCloseAnytime(t *testing.T) {
	s := serve(t, func(c net.Conn, r *bufio.Reader) {
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			body := strings.Repeat(req.URL.Path, 1000)
			if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: "+strconv.Itoa(len(body))+"\r\n\r\n"+body); err != nil {
				return
			}
		}
	})
	rt := start(t, true, nil)
	var wg sync.WaitGroup
	for client := range 4 {
		wg.Go(func() {
			for round := range 300 {
				path := "/" + strconv.Itoa(client) + "/" + strconv.Itoa(round)
				resp, err := rt.RoundTrip(newRequest(t, "POST", s.url+path, nil))
				if err != nil {
					t.Errorf("%s: %v", path, err)
					return
				}
				closing := round%2 == 0
				var closer sync.WaitGroup
				if closing {
					closer.Go(func() { resp.Body.Close() })
				}
				body, err := io.ReadAll(resp.Body)
				closer.Wait()
				resp.Body.Close()
				whole := strings.Repeat(path, 1000)
				if !closing && (string(body) != whole || err != nil) || err == nil && string(body) != whole {
					t.Errorf("%s: %d bytes, %v", path, len(body), err)
				}
			}
		})
	}
	wg.Wait()
}

// TestDeclinedUpgrade asks for another protocol, and the server declines.
// Programs for Node take such a connection away from the server of HTTP and may
// leave it open: the next request on it, perhaps another client's, had no
// answer.
func TestDeclinedUpgrade(t *testing.T) {
	for name, answer := range map[string]string{
		"with a body":    "HTTP/1.1 426 Upgrade Required\r\nUpgrade: x\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\nok",
		"without a body": "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
		"in chunks":      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		"with a hint":    "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, func(c net.Conn, r *bufio.Reader) {
				for {
					lines, err := readHead(r)
					switch {
					case err != nil:
						return
					case slices.Contains(lines, "Upgrade: websocket"):
						io.WriteString(c, answer)
						io.Copy(io.Discard, r) // and no word any more
						return
					}
					io.WriteString(c, ok)
				}
			})
			rt := start(t, true, nil)
			for range 3 {
				wantOK(t, rt, newRequest(t, "GET", s.url, nil))
				r := newRequest(t, "GET", s.url, nil)
				r.Header.Set("Connection", "keep-alive, upgrade")
				r.Header.Set("Upgrade", "websocket")
				if _, _, err := fetch(rt, r); err != nil {
					t.Fatal(err)
				}
			}
			wantOK(t, rt, newRequest(t, "GET", s.url, nil))
			if n := s.connections(); n != 4 {
				t.Errorf("%d connections, want one more than there were upgrades", n)
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestEarlyAnswerAndReset gets the answer of a server that does not read the
// request to its end. Its system resets the connection then. An answer that
// only the end of the connection ends was taken for one that is cut off; and
// one that was here before the request was not looked at.
func TestEarlyAnswerAndReset(t *testing.T) {
	for name, answer := range map[string]string{
		"until the end":   "HTTP/1.1 413 Too Large\r\nConnection: close\r\n\r\nno",
		"HTTP/1.0":        "HTTP/1.0 413 Too Large\r\n\r\nno",
		"with its length": "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno",
		"in chunks":       "HTTP/1.1 413 Too Large\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
	} {
		for _, unasked := range []bool{false, true} {
			t.Run(name+", unasked "+strconv.FormatBool(unasked), func(t *testing.T) {
				connected, gone := make(chan bool), make(chan bool, 1)
				s := serve(t, func(c net.Conn, r *bufio.Reader) {
					if unasked {
						<-connected
					} else if _, err := readHead(r); err != nil {
						return
					}
					io.WriteString(c, answer)
					c.(*net.TCPConn).SetLinger(0)
					c.Close()
					gone <- true
				})
				base := settings()
				if unasked {
					base.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
						c, err := new(net.Dialer).DialContext(ctx, network, addr)
						connected <- true
						testwait.Receive(t, gone, "the end of the connection")
						return c, err
					}
				}
				rt := start(t, true, base)
				for range 20 {
					r := newRequest(t, "POST", s.url, io.LimitReader(zeros{}, 1<<20))
					r.ContentLength = 1 << 20
					resp, body, err := fetch(rt, r)
					if err != nil || resp.StatusCode != 413 || body != "no" {
						t.Fatalf("%v, %q, %v", resp, body, err)
					}
					if !unasked {
						<-gone
					}
				}
			})
		}
	}
	t.Run("a response that was not whole", func(t *testing.T) {
		for _, answer := range []string{"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nno", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n"} {
			s := serve(t, func(c net.Conn, r *bufio.Reader) {
				if _, err := readHead(r); err == nil {
					io.WriteString(c, answer)
					c.(*net.TCPConn).SetLinger(0)
				}
			})
			r := newRequest(t, "POST", s.url, io.LimitReader(zeros{}, 1<<20))
			if _, body, err := fetch(start(t, true, nil), r); err == nil {
				t.Errorf("%q: %q without an error", answer, body)
			}
		}
	})
	t.Run("a request without a body", func(t *testing.T) {
		reset := make(chan bool)
		s := serve(t, func(c net.Conn, r *bufio.Reader) {
			if _, err := readHead(r); err == nil {
				io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\nno")
				<-reset
				c.(*net.TCPConn).SetLinger(0)
			}
		})
		resp, err := start(t, true, nil).RoundTrip(newRequest(t, "GET", s.url, nil))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := io.ReadFull(resp.Body, make([]byte, 2)); err != nil {
			t.Fatal(err)
		}
		close(reset)
		if _, err := io.ReadAll(resp.Body); err == nil {
			t.Error("a response that was cut off, without an error")
		}
	})
}
