package acceptance_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/lbpool"
)

// lineServer answers the request it begins a connection with, if it is one
// for this path, and else echoes lines: a protocol that is not HTTP.
func lineServer(t *testing.T, h http.Handler) lbpool.ServerConfig {
	t.Helper()
	inner := listen(t, "127.0.1.1:0")
	outer := listen(t, "127.0.1.2:0")
	startSite(t, http1, inner, h)
	t.Cleanup(func() { outer.Close() })
	go func() {
		for {
			c, err := outer.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r := bufio.NewReader(c)
				if first, _ := r.Peek(5); string(first) == "GET /" || string(first) == "HEAD " || string(first) == "POST " {
					to, err := net.Dial("tcp", inner.Addr().String())
					if err != nil {
						return
					}
					defer to.Close()
					go func() { io.Copy(c, to); c.Close() }()
					io.Copy(to, r)
					return
				}
				for {
					line, err := r.ReadString('\n')
					if err != nil {
						io.WriteString(c, "bye\n")
						return
					}
					io.WriteString(c, "echo "+line)
				}
			}()
		}
	}()
	return lbpool.ServerConfig{Address: outer.Addr().String()}
}

const disables = `-- HTTP_REQ
avi.vs.log("request")
-- HTTP_RESP
if avi.http.get_header("X-Disable", avi.HTTP_REQUEST) then avi.http.disable() end
`

// After avi.http.disable bytes pass as they are, over TLS as well, and the
// script sees nothing of them. The end of either side reaches the other.
func TestTunnel(t *testing.T) {
	for _, p := range []protocol{http1, http1TLS} {
		for _, c := range []struct{ name, method, path, answer string }{
			{"length", "GET", "/length", "\r\n\r\nhello"},
			{"chunked", "GET", "/chunked", "\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"},
			{"no content", "GET", "/none", "\r\n\r\n"},
			{"head", "HEAD", "/length", "\r\n\r\n"},
		} {
			t.Run(string(p)+" "+c.name, func(t *testing.T) {
				recs := newRecords()
				server := lineServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					w.Header()["Date"] = nil
					switch r.URL.Path {
					case "/length":
						w.Header().Set("Content-Length", "5")
					case "/none":
						w.WriteHeader(http.StatusNoContent)
						return
					case "/chunked":
						w.(http.Flusher).Flush()
					}
					io.WriteString(w, "hello")
				}))
				pool := poolOf(t, server)
				_, site := serve(t, p, limpet.Config{Pools: []*lbpool.Pool{pool}, Scripts: []limpet.Script{compile(t, "disables", disables)}, OnComplete: recs.add})
				conn := site.dial(t, "")
				if p.tls() {
					conn = site.secure(t, conn)
				}
				// What is sent along with the request belongs to the tunnel.
				r := send(t, conn, c.method+" "+c.path+" HTTP/1.1\nHost: a\nX-Disable: 1\n\n")
				if _, err := io.WriteString(conn, "first line\n"); err != nil {
					t.Fatal(err)
				}
				var got strings.Builder
				for !strings.HasSuffix(got.String(), "echo first line\n") {
					b, err := r.ReadByte()
					if err != nil {
						t.Fatalf("%v after %q", err, got.String())
					}
					got.WriteByte(b)
				}
				if !strings.HasSuffix(got.String(), c.answer+"echo first line\n") {
					t.Errorf("the answer: %q", got.String())
				}
				for i := range 3 {
					fmt.Fprintf(conn, "GET /%d is no request\n", i)
					if line, err := r.ReadString('\n'); err != nil || line != fmt.Sprintf("echo GET /%d is no request\n", i) {
						t.Errorf("%q %v", line, err)
					}
				}
				if n := pool.Servers()[0].Open(); n != 1 {
					t.Errorf("%d leases", n)
				}
				if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
					t.Fatal(err)
				}
				if rest, err := io.ReadAll(r); string(rest) != "bye\n" || err != nil {
					t.Errorf("at the end: %q %v", rest, err)
				}
				rec := recs.next(t)
				if !rec.Hijacked || rec.Error != nil || len(rec.ScriptErrors) > 0 || len(rec.Log) != 1 || len(rec.Significant) > 0 {
					t.Errorf("record: %+v", rec)
				}
				recs.none(t)
			})
		}
	}
}

// Where there can be no tunnel, the script fails and says so.
func TestNoTunnel(t *testing.T) {
	hello := func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") }
	for _, c := range []struct {
		name string
		protocol
		method string
		wrap   bool
	}{{"HTTP/2", http2TLS, "GET", false}, {"a body", http1, "POST", false}, {"no server", http1, "GET", true}} {
		t.Run(c.name, func(t *testing.T) {
			recs := newRecords()
			vs := newVirtualService(t, limpet.Config{
				Pools: []*lbpool.Pool{poolFor(t, hello)}, Scripts: []limpet.Script{compile(t, "disables", disables)}, OnComplete: recs.add,
			})
			var h http.Handler = vs
			if c.wrap {
				h = vs.Wrap(http.HandlerFunc(hello))
			}
			site := startSite(t, c.protocol, listen(t, ""), h)
			r := newRequest(t, c.method, site.URL, strings.NewReader("body"))
			if c.method == "GET" {
				r = newRequest(t, c.method, site.URL, nil)
			}
			r.Header.Set("X-Disable", "1")
			res, _ := fetch(t, site.client(t), r)
			rec := recs.next(t)
			if res.StatusCode != 500 || len(rec.ScriptErrors) != 1 ||
				!strings.HasSuffix(rec.ScriptErrors[0].Message, "avi.http.disable: not possible on this connection") {
				t.Errorf("status %d, script errors %v", res.StatusCode, rec.ScriptErrors)
			}
		})
	}
}

// A server that has answered, and takes no further connection, ends the
// client's connection behind the response.
func TestTunnelWithoutServer(t *testing.T) {
	recs := newRecords()
	ln := listen(t, "127.0.1.1:0")
	inner := startSite(t, http1, ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ln.Close()
		io.WriteString(w, "hello")
	}))
	_, site := serve(t, http1, limpet.Config{
		Pools:   []*lbpool.Pool{poolOf(t, lbpool.ServerConfig{Address: inner.Addr})},
		Scripts: []limpet.Script{compile(t, "disables", disables)}, OnComplete: recs.add,
	})
	r := send(t, site.dial(t, ""), "GET / HTTP/1.1\nHost: a\nX-Disable: 1\n\n")
	if answer, end := endOf(t, r); !strings.HasSuffix(answer, "\r\n\r\nhello") || end != fin {
		t.Errorf("%q and %s", answer, end)
	}
	if rec := recs.next(t); rec.Status != 200 || !rec.Hijacked || rec.Error == nil || !strings.Contains(rec.Error.Error(), "connection refused") {
		t.Errorf("record: %+v", rec)
	}
}
