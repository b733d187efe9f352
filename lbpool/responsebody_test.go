package lbpool

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A scriptedServer accepts connections in virtual time, and answers the first
// request on each with what it is told to.
type scriptedServer func(c net.Conn, r *bufio.Reader)

func (s scriptedServer) DialContext(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	go func() {
		defer theirs.Close()
		r := bufio.NewReader(theirs)
		for { // the head; the body is left to s
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			if line == "\r\n" {
				break
			}
		}
		s(theirs, r)
		_, _ = io.Copy(io.Discard, theirs) // until the other side closes
	}()
	return ours, nil
}

// TestServerStalls is about servers that stop in the middle of a body, each
// with both transports.
func TestServerStalls(t *testing.T) {
	const head, chunked = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	for _, test := range []struct {
		name   string
		cfg    Config
		answer []string // with a pause of 50 s after each
		slow   time.Duration
		after  time.Duration // from the first read to the error; 0: no error
		body   string
	}{
		{"before the body", Config{}, []string{head}, 0, time.Minute, ""},
		{"in the body", Config{}, []string{head + "01234"}, 0, time.Minute, "01234"},
		{"later in the body", Config{}, []string{head, "0", "1", "2"}, 0, 210 * time.Second, "012"},
		{"slow, but alive", Config{}, append([]string{head}, strings.Split("0123456789", "")...), 0, 0, "0123456789"},
		{"reader is slow", Config{}, []string{head + "01234", "56789"}, time.Hour, 0, "0123456789"},
		{"reader is slow, and the server stalls", Config{}, []string{head + "01234", "56"}, time.Hour, 2*time.Hour + time.Minute, "0123456"},
		{"other limit", Config{BodyIdleTimeout: 100 * time.Second}, []string{head + "01234"}, 0, 100 * time.Second, "01234"},
		{"stream", Config{}, []string{chunked + "1\r\n0\r\n"}, 0, time.Hour, "0"},
		{"stream until the connection ends", Config{}, []string{"HTTP/1.1 200 OK\r\n\r\n0"}, 0, time.Hour, "0"},
		{"stream with another limit", Config{StreamIdleTimeout: 10 * time.Second}, []string{chunked + "1\r\n0\r\n"}, 0, 10 * time.Second, "0"},
	} {
		for name, transport := range map[string]func(*http.Transport) http.RoundTripper{
			"NewHTTP1": NewHTTP1, "NewBase": func(base *http.Transport) http.RoundTripper { return base },
		} {
			t.Run(test.name+"/"+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					base := NewBase()
					base.DialContext = scriptedServer(func(c net.Conn, _ *bufio.Reader) {
						for i, part := range test.answer {
							if i > 0 {
								time.Sleep(50 * time.Second)
							}
							if _, err := io.WriteString(c, part); err != nil {
								return
							}
						}
					}).DialContext
					defer base.CloseIdleConnections()
					cfg := test.cfg
					cfg.Name, cfg.Servers = "p", []ServerConfig{{Address: "10.0.0.1"}}
					pool := mustPool(t, cfg)
					sender := &Transport{Pool: pool, Base: transport(base)}
					defer sender.CloseIdleConnections()
					resp, err := sender.RoundTrip(request(t.Context(), "GET", nil, &Route{Pool: pool}))
					if err != nil {
						t.Fatal(err)
					}
					start := time.Now()
					var got []byte
					for buffer := make([]byte, 100); err == nil; {
						var n int
						n, err = resp.Body.Read(buffer)
						got = append(got, buffer[:n]...)
						if n > 0 {
							time.Sleep(test.slow)
						}
					}
					took := time.Since(start)
					if string(got) != test.body {
						t.Errorf("body %q, want %q", got, test.body)
					}
					switch {
					case test.after == 0:
						if !errors.Is(err, io.EOF) {
							t.Errorf("error %v after %v", err, took)
						}
					case !errors.Is(err, ErrTimeout) || took != test.after:
						t.Errorf("error %v after %v, want ErrTimeout after %v", err, took, test.after)
					default:
						if _, again := resp.Body.Read(make([]byte, 1)); again == nil || errors.Is(again, io.EOF) {
							t.Errorf("read again: %v", again)
						}
						wantFailures(t, pool, 1)
					}
					wantOpen(t, pool, 0)
					resp.Body.Close()
				})
			})
		}
	}
}

// A response that comes while the request is still being sent may wait for what
// follows.
func TestStallDuringUpload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := NewBase()
		base.DialContext = scriptedServer(func(c net.Conn, r *bufio.Reader) {
			if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"); err != nil {
				t.Error(err)
			}
			if line, err := r.ReadString('\n'); err != nil || line != "4\r\n" {
				t.Errorf("%q, %v", line, err)
			}
			_, _ = io.CopyN(c, r, 4)
		}).DialContext
		pool := mustPool(t, Config{Name: "p", Servers: []ServerConfig{{Address: "10.0.0.1"}}})
		sender := &Transport{Pool: pool, Base: NewHTTP1(base)}
		defer sender.CloseIdleConnections()
		body, w := io.Pipe()
		go func() {
			time.Sleep(10 * time.Minute)
			_, _ = io.WriteString(w, "echo")
			w.Close()
		}()
		resp, err := sender.RoundTrip(request(t.Context(), "POST", body, &Route{Pool: pool}))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if got, err := io.ReadAll(resp.Body); string(got) != "echo" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	})
}

// TestIdleUpgrade has an upgraded connection on which nothing passes, after
// something has in one direction or the other.
func TestIdleUpgrade(t *testing.T) {
	for _, test := range []struct {
		name  string
		limit time.Duration
		after time.Duration // the last byte; 0: it stays
	}{{"default", 0, time.Hour}, {"set", time.Minute, time.Minute}, {"for ever", -1, 0}} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				base := NewBase()
				base.DialContext = scriptedServer(func(c net.Conn, r *bufio.Reader) {
					_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
					for range 3 {
						time.Sleep(50 * time.Second)
						_, _ = io.WriteString(c, "s")
					}
				}).DialContext
				pool := mustPool(t, Config{Name: "p", Servers: []ServerConfig{{Address: "10.0.0.1"}}, StreamIdleTimeout: test.limit})
				if want := max(test.after, 0); pool.StreamIdleTimeout() != want {
					t.Errorf("the pool's limit is %v, want %v", pool.StreamIdleTimeout(), want)
				}
				sender := &Transport{Pool: pool, Base: NewHTTP1(base)}
				r := request(t.Context(), "GET", nil, &Route{Pool: pool})
				r.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"x"}}
				resp, err := sender.RoundTrip(r)
				if err != nil {
					t.Fatal(err)
				}
				conn := resp.Body.(io.ReadWriteCloser)
				if _, err := io.ReadFull(conn, make([]byte, 3)); err != nil {
					t.Fatal(err)
				}
				for range 3 {
					time.Sleep(50 * time.Second)
					if _, err := io.WriteString(conn, "c"); err != nil {
						t.Fatal(err)
					}
				}
				if test.after == 0 {
					time.Sleep(1000 * time.Hour)
					if _, err := io.WriteString(conn, "c"); err != nil {
						t.Error(err)
					}
					conn.Close()
					return
				}
				start := time.Now()
				if n, err := conn.Read(make([]byte, 1)); err == nil || time.Since(start) != test.after {
					t.Errorf("%d, %v after %v", n, err, time.Since(start))
				}
				conn.Close()
				wantOpen(t, pool, 0)
			})
		})
	}
}

// What a server sends that is no answer is not quoted: it may hold a secret.
func TestMalformedAnswers(t *testing.T) {
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nsecret\r\n\r\n", "HTTP/1.1 200 OK\r\n secret\r\n\r\n",
		"secret\r\n\r\n", "HTTP/1.1 secret\r\n\r\n", "HTTP/secret 200 OK\r\n\r\n",
	} {
		for name, transport := range map[string]func(*http.Transport) http.RoundTripper{
			"NewHTTP1": NewHTTP1, "NewBase": func(base *http.Transport) http.RoundTripper { return base },
		} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					base := NewBase()
					base.DialContext = scriptedServer(func(c net.Conn, _ *bufio.Reader) { _, _ = io.WriteString(c, answer) }).DialContext
					sender := &Transport{Pool: mustPool(t, Config{Name: "p", Servers: []ServerConfig{{Address: "10.0.0.1"}}}), Base: transport(base)}
					defer sender.CloseIdleConnections()
					_, err := sender.RoundTrip(request(t.Context(), "GET", nil, &Route{Pool: sender.Pool}))
					if err == nil || strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), "secret") || strings.Contains(err.Error(), "cret") {
						t.Errorf("%q: %v", answer, err)
					}
				})
			})
		}
	}
}
