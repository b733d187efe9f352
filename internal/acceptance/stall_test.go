package acceptance_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/lbpool"
)

// TestServerStalls has a server that stops in the middle of a body. The client
// must see that the body is not whole, in each version of HTTP.
func TestServerStalls(t *testing.T) {
	t.Parallel()
	const limit = 300 * time.Millisecond
	for _, p := range []protocol{http1, http1TLS, http2TLS, h2c} {
		for _, body := range []string{"known length", "stream"} {
			t.Run(string(p)+"/"+body, func(t *testing.T) {
				t.Parallel()
				recs := newRecords()
				gone := make(chan error, 1)
				server := startServer(t, "127.0.1.1:0", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if body == "known length" {
						w.Header().Set("Content-Length", "10")
					}
					io.WriteString(w, "01234")
					flush(t, w)
					<-r.Context().Done()
					gone <- r.Context().Err()
				}))
				pool := newPool(t, lbpool.Config{
					Name: "my_pool", Servers: []lbpool.ServerConfig{{Address: server}}, BodyIdleTimeout: limit, StreamIdleTimeout: limit,
				})
				_, site := serve(t, p, limpet.Config{Pools: []*lbpool.Pool{pool}, OnComplete: recs.add})
				start := time.Now()
				res, got, err := try(site.client(t), newRequest(t, "GET", site.URL, nil))
				if res == nil || err == nil || got != "01234" {
					t.Fatalf("%v, %q, %v", res, got, err)
				}
				took := time.Since(start)
				testwait.Receive(t, gone, "the server's connection to end")
				rec := recs.next(t)
				t.Logf("aborted after %v, with %v", took, err)
				if took < limit {
					t.Errorf("aborted after %v", took)
				}
				if !errors.Is(rec.Error, lbpool.ErrTimeout) || !slices.Contains(rec.Significant, limpet.ServerTimeout) || rec.Status != 200 {
					t.Errorf("record: %+v", rec)
				}
				if s := pool.Servers()[0]; s.Open() != 0 || s.Stats().Failures != 1 {
					t.Errorf("%d leases, %d failures", s.Open(), s.Stats().Failures)
				}
			})
		}
	}
}

// An upgraded connection, and a tunnel, ends on both sides when nothing has
// passed for a while, and not before.
func TestIdleTunnels(t *testing.T) {
	t.Parallel()
	const limit = 300 * time.Millisecond
	for _, kind := range []string{"upgrade", "tunnel"} {
		t.Run(kind, func(t *testing.T) {
			recs := newRecords()
			ended := make(chan error, 1)
			var server lbpool.ServerConfig
			if kind == "tunnel" {
				server = lineServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) }))
				ended <- nil // its end is not told
			} else {
				server.Address = startServer(t, "127.0.1.1:0", upgrading(t, func(conn io.ReadWriter) {
					r := bufio.NewReader(conn)
					for {
						line, err := r.ReadString('\n')
						if err != nil {
							ended <- err
							return
						}
						fmt.Fprintf(conn, "echo %s", line)
					}
				}))
			}
			pool := newPool(t, lbpool.Config{Name: "my_pool", Servers: []lbpool.ServerConfig{server}, StreamIdleTimeout: limit})
			_, site := serve(t, http1, limpet.Config{
				Pools: []*lbpool.Pool{pool}, OnComplete: recs.add, Scripts: []limpet.Script{compile(t, "disables", disables)},
			})
			header := "X-Disable: 1"
			if kind == "upgrade" {
				header = "Connection: Upgrade\nUpgrade: lines"
			}
			start := time.Now()
			r := send(t, site.dial(t, ""), "GET / HTTP/1.1\nHost: a\n"+header+"\n\n")
			if res, err := http.ReadResponse(r, nil); err != nil || res.StatusCode/100 > 2 {
				t.Fatal(res, err)
			}
			if rest, err := io.ReadAll(r); err != nil || strings.TrimPrefix(string(rest), "bye\n") != "" {
				t.Errorf("%q, %v", rest, err)
			}
			if took := time.Since(start); took < limit {
				t.Errorf("ended after %v", took)
			}
			testwait.Receive(t, ended, "the server's side to end")
			if rec := recs.next(t); !rec.Hijacked {
				t.Errorf("record: %+v", rec)
			}
			if n := pool.Servers()[0].Open(); n != 0 {
				t.Errorf("%d leases", n)
			}
		})
	}
}

// upgrading is a handler that switches protocols and lets f talk.
func upgrading(t testing.TB, f func(io.ReadWriter)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+r.Header.Get("Upgrade")+"\r\n\r\n")
		f(struct {
			io.Reader
			io.Writer
		}{buffered, conn})
	})
}
