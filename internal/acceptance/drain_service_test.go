package acceptance_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/policy"
)

// Once a virtual service drains, each answer tells the client to go elsewhere
// with its next request, whoever has made it, and a request that began before
// gets its answer, too.
func TestDrainTellsClients(t *testing.T) {
	t.Parallel()
	for _, p := range []protocol{http1, http1TLS, http2TLS, h2c} {
		t.Run(string(p), func(t *testing.T) {
			arrived, release := make(chan struct{}), make(chan struct{})
			server := func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/slow" {
					close(arrived)
					<-release
				}
				w.Header().Set("Connection", "keep-alive, X-Hop")
				io.WriteString(w, "server")
			}
			vs := newVirtualService(t, limpet.Config{
				Pools: []*lbpool.Pool{poolFor(t, server)},
				Policies: limpet.Policies{HTTPSecurity: []policy.SecurityRule{{
					Name: "no", Match: policy.Match{Path: &policy.PathMatch{Op: policy.BeginsWith, Values: []string{"/no"}}}, Action: policy.Respond{Status: 403},
				}}},
			})
			wrapped := vs.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/empty" {
					return
				}
				io.WriteString(w, "wrapped")
			}))
			mux := http.NewServeMux()
			mux.Handle("/wrapped", wrapped)
			mux.Handle("/empty", wrapped)
			mux.Handle("/", vs)
			s := startSite(t, p, vs.Listener(listen(t, "")), mux)

			slow := make(chan *http.Response, 1)
			waiting := s.client(t)
			go func() {
				res, _, err := try(waiting, newRequest(t, "GET", s.URL+"/slow", nil))
				if err != nil {
					t.Error(err)
				}
				slow <- res
			}()
			testwait.Receive(t, arrived, "the request")
			c := s.client(t)
			// ask reports whether the connection of a request was used before,
			// and ends with it.
			ask := func(path string) (reused, closes bool) {
				t.Helper()
				r := newRequest(t, "GET", s.URL+path, nil)
				r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { reused = i.Reused }}))
				res, _, err := try(c, r)
				if err != nil {
					t.Fatal(err)
				}
				return reused, res.Close
			}
			for i := range 2 {
				if reused, closes := ask("/"); closes || reused != (i > 0) {
					t.Errorf("before it drains: request %d: close %t, connection used before: %t", i, closes, reused)
				}
			}
			vs.Drain()
			vs.Drain()
			close(release)
			if res := testwait.Receive(t, slow, "the answer"); res.StatusCode != 200 || p.major() == 1 && !res.Close {
				t.Errorf("the request that began before: %s, close %t", res.Status, res.Close)
			}
			for i, path := range []string{"/", "/no", "/wrapped", "/empty"} {
				reused, closes := ask(path)
				if p.major() == 1 && (!closes || reused != (i == 0)) {
					t.Errorf("%s: close %t, connection used before: %t", path, closes, reused)
				}
				for n := 0; p.major() == 2 && i > 0 && reused; n++ { // until the client has seen GOAWAY
					if n == 1000 {
						t.Fatalf("%s: the connection stays", path)
					}
					reused, _ = ask(path)
				}
			}
		})
	}
}

// A connection that a client uses again and again, and one that is idle and
// asks once more, lost requests when the server ended.
func TestShutdownLosesNoRequest(t *testing.T) {
	t.Parallel()
	const clients = 64
	for _, wrapped := range []bool{false, true} {
		t.Run(fmt.Sprintf("wrapped=%t", wrapped), func(t *testing.T) {
			handler := func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") }
			cfg := limpet.Config{}
			if !wrapped {
				cfg.Pools = []*lbpool.Pool{poolFor(t, handler)}
			}
			vs := newVirtualService(t, cfg)
			var h http.Handler = vs
			if wrapped {
				h = vs.Wrap(http.HandlerFunc(handler))
			}
			srv := limpet.NewServer(h)
			ln := listen(t, "")
			served := make(chan error, 1)
			go func() { served <- srv.Serve(vs.Listener(ln)) }()

			var answered, lost, refused atomic.Int64
			ending := make(chan struct{})
			var warm, all sync.WaitGroup
			warm.Add(clients)
			for i := range clients {
				all.Go(func() {
					first := true
					for {
						c, err := net.Dial("tcp", ln.Addr().String())
						if err != nil {
							refused.Add(1)
							if first {
								t.Error(err)
								warm.Done()
							}
							return
						}
						in := bufio.NewReader(c)
						for n := 0; ; n++ {
							if !first && i%2 == 1 { // idle until the end has begun
								<-ending
							}
							io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
							res, err := http.ReadResponse(in, nil)
							if err != nil && n == 0 && !first {
								break // it connected as the listener was closed
							}
							if err != nil {
								lost.Add(1)
								break
							}
							_, _ = io.Copy(io.Discard, res.Body)
							answered.Add(1)
							if first {
								first = false
								warm.Done()
							}
							if res.Close {
								break
							}
						}
						c.Close()
					}
				})
			}
			warm.Wait()
			ctx, cancel := context.WithTimeout(t.Context(), testwait.Limit)
			defer cancel()
			vs.Drain()
			close(ending)
			if err := vs.Shutdown(ctx, srv); err != nil {
				t.Error(err)
			}
			all.Wait()
			if err := <-served; err != http.ErrServerClosed {
				t.Error(err)
			}
			if lost.Load() > 0 || answered.Load() < clients || refused.Load() != clients {
				t.Errorf("%d answered, %d lost, %d refused", answered.Load(), lost.Load(), refused.Load())
			}
		})
	}
}

// A busyListener accepts nothing before it is told to hurry, as on a machine
// that is busy: connections wait in its queue.
type busyListener struct {
	*net.TCPListener
	once               sync.Once
	accepting, hurried chan struct{}
}

func (l *busyListener) Accept() (net.Conn, error) {
	select {
	case l.accepting <- struct{}{}:
	default:
	}
	<-l.hurried
	return l.TCPListener.Accept()
}

func (l *busyListener) SetDeadline(t time.Time) error {
	l.once.Do(func() { close(l.hurried) })
	return l.TCPListener.SetDeadline(t)
}

func (l *busyListener) Close() error {
	l.once.Do(func() { close(l.hurried) })
	return l.TCPListener.Close()
}

// Requests that wait in the queue of the listener are answered: a server of
// net/http that is being shut down drops what it reads from then on.
//
// It is not parallel: how long the queue is served is bounded by the clock.
func TestShutdownServesTheQueue(t *testing.T) {
	vs := newVirtualService(t, limpet.Config{})
	ln := &busyListener{TCPListener: listen(t, "").(*net.TCPListener), accepting: make(chan struct{}, 1), hurried: make(chan struct{})}
	srv := limpet.NewServer(vs.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	})))
	served := make(chan error, 1)
	go func() { served <- srv.Serve(vs.Listener(ln)) }()
	<-ln.accepting
	conns := make([]net.Conn, 20)
	for i := range conns {
		var err error
		if conns[i], err = net.Dial("tcp", ln.Addr().String()); err != nil {
			t.Fatal(err)
		}
		defer conns[i].Close()
		io.WriteString(conns[i], "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok")
	}
	if err := vs.Shutdown(t.Context(), srv); err != nil {
		t.Error(err)
	}
	if err := <-served; err != http.ErrServerClosed {
		t.Error(err)
	}
	answered := 0
	for _, c := range conns {
		if res, err := http.ReadResponse(bufio.NewReader(c), nil); err == nil {
			if body, err := io.ReadAll(res.Body); err == nil && string(body) == "ok" && res.Close {
				answered++
			}
		}
	}
	if bad := vs.Stats().BadRequests; answered != len(conns) || bad != 0 {
		t.Errorf("%d of %d requests were answered, %d counted as bad", answered, len(conns), bad)
	}
}
