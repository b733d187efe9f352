package acceptance_test

import (
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/lbpool"
)

// A client that sent one byte more than its request and left was not missed:
// the request went on for as long as the server took, up to an hour in a
// stream.
func TestClientSendsMoreAndLeaves(t *testing.T) {
	t.Parallel()
	const get, post = "GET / HTTP/1.1\nHost: a\n\n", "POST / HTTP/1.1\nHost: a\nContent-Length: 2\n\nxy"
	for _, test := range []struct {
		name, request, more string
		stream              bool
		leave               func(*net.TCPConn) error
	}{
		{"nothing", get, "", false, (*net.TCPConn).Close},
		{"a byte", get, "G", false, (*net.TCPConn).Close},
		{"a byte, half", get, "G", false, (*net.TCPConn).CloseWrite},
		{"a byte, with RST", get, "G", false, func(c *net.TCPConn) error { _ = c.SetLinger(0); return c.Close() }},
		{"much", get, strings.Repeat("GET /", 4096), false, (*net.TCPConn).Close},
		{"a byte in a stream", get, "G", true, (*net.TCPConn).Close},
		{"a byte behind a body", post, "G", false, (*net.TCPConn).Close},
	} {
		for _, wrap := range []bool{false, true} {
			name := test.name
			if wrap {
				name += ", wrapped handler"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				begun, ended := make(chan bool, 1), make(chan error, 1)
				handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					io.Copy(io.Discard, r.Body)
					if test.stream {
						io.WriteString(w, "data")
						flush(t, w)
					}
					begun <- true
					<-r.Context().Done()
					ended <- r.Context().Err()
				})
				recs := newRecords()
				cfg := limpet.Config{OnComplete: recs.add}
				if !wrap {
					cfg.Pools = []*lbpool.Pool{poolFor(t, handler)}
				}
				vs := newVirtualService(t, cfg)
				h := http.Handler(vs)
				if wrap {
					if test.request == post {
						return // the handler reads the body past us
					}
					h = vs.Wrap(handler)
				}
				site := startSite(t, http1, vs.Listener(listen(t, "")), h)
				c := site.dial(t, "").(*net.TCPConn)
				r := send(t, c, test.request)
				testwait.Receive(t, begun, "the request")
				if test.stream {
					if _, err := r.Peek(1); err != nil {
						t.Fatal(err)
					}
				}
				io.WriteString(c, test.more)
				if err := test.leave(c); err != nil {
					t.Fatal(err)
				}
				testwait.Receive(t, ended, "the request to end")
				if rec := recs.next(t); !wrap && !slices.Contains(rec.Significant, limpet.ClientGone) {
					t.Errorf("record: %+v", rec)
				}
			})
		}
	}
}

// Requests that come while another one is served are served afterwards, however
// they are cut.
func TestPipelinedWhileServed(t *testing.T) {
	t.Parallel()
	begun, goOn := make(chan bool, 1), make(chan bool)
	pool := poolFor(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/0" {
			begun <- true
			<-goOn
		}
		body, _ := io.ReadAll(r.Body)
		io.WriteString(w, r.URL.Path+string(body))
	})
	vs := newVirtualService(t, limpet.Config{Pools: []*lbpool.Pool{pool}})
	site := startSite(t, http1, vs.Listener(listen(t, "")), vs)
	c := site.dial(t, "")
	r := send(t, c, "GET /0 HTTP/1.1\nHost: a\n\n")
	testwait.Receive(t, begun, "the first request")
	long := strings.Repeat("x", 10_000)
	for _, part := range []string{"P", "OST /1 HTTP/1.1\nHost: a\nContent-Length: 2\n\nx", "yGET /2 HTTP/1.1\nHost: a\nX-Long: " + long + "\n\n"} {
		send(t, c, part)
	}
	close(goOn)
	for _, want := range []string{"/0", "/1xy", "/2"} {
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(res.Body); err != nil || string(got) != want {
			t.Fatalf("%q, %v, want %q", got, err, want)
		}
	}
}

// A handler that takes the connection over can read it byte by byte.
func TestHijackedReadsBytes(t *testing.T) {
	t.Parallel()
	vs := newVirtualService(t, limpet.Config{})
	site := startSite(t, http1, vs.Listener(listen(t, "")), vs.Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		io.WriteString(c, "go on")
		b := make([]byte, 1)
		for range 3 {
			if _, err := io.ReadFull(c, b); err != nil {
				t.Error(err)
			}
			c.Write(b)
		}
	})))
	c := site.dial(t, "")
	r := send(t, c, "GET / HTTP/1.1\nHost: a\n\n")
	for _, want := range []string{"go on", "x", "y", "z"} {
		got := make([]byte, len(want))
		if _, err := io.ReadFull(r, got); err != nil || string(got) != want {
			t.Fatalf("%q, %v, want %q", got, err, want)
		}
		if want == "go on" {
			send(t, c, "xyz")
		}
	}
}
