package acceptance_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2/hpack"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/lbpool"
)

// rawServer is a pool of one server that answers connections with a function.
func rawServer(t testing.TB, answer func(c *net.TCPConn, r *bufio.Reader)) *lbpool.Pool {
	t.Helper()
	ln := listen(t, "127.0.1.1:0")
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				answer(c.(*net.TCPConn), bufio.NewReader(c))
			})
		}
	})
	t.Cleanup(wg.Wait)
	t.Cleanup(func() { ln.Close() })
	return poolOf(t, lbpool.ServerConfig{Address: ln.Addr().String()})
}

// transports are the ones that a virtual service may stand on.
func transports(t *testing.T, test func(t *testing.T, transport func() http.RoundTripper)) {
	t.Run("own", func(t *testing.T) { test(t, func() http.RoundTripper { return nil }) })
	t.Run("standard", func(t *testing.T) {
		test(t, func() http.RoundTripper {
			base := lbpool.NewBase()
			t.Cleanup(base.CloseIdleConnections)
			return base
		})
	})
}

// TestUpgradedBytes sends bytes right behind an upgrade request, and ends one
// direction long before the other.
func TestUpgradedBytes(t *testing.T) {
	transports(t, func(t *testing.T, transport func() http.RoundTripper) {
		got := make(chan string, 1)
		pool := rawServer(t, func(c *net.TCPConn, r *bufio.Reader) {
			if _, err := http.ReadRequest(r); err != nil {
				t.Error(err)
				return
			}
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: Echo\r\nX-Own: 1\r\n\r\nhello ")
			all, err := io.ReadAll(r)
			if err != nil {
				t.Error(err)
			}
			got <- string(all)
			io.WriteString(c, "goodbye")
		})
		_, site := serve(t, http1, limpet.Config{Pools: []*lbpool.Pool{pool}, Transport: transport()})
		c := site.dial(t, "")
		r := send(t, c, "GET / HTTP/1.1\nHost: example.com\nConnection: Upgrade\nUpgrade: echo\n\nearly ")
		res, err := http.ReadResponse(r, nil)
		if err != nil || res.StatusCode != 101 || res.Header.Get("Upgrade") != "Echo" || res.Header.Get("X-Own") != "1" {
			t.Fatal(res, err)
		}
		io.WriteString(c, "late")
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if s := testwait.Receive(t, got, "the server"); s != "early late" {
			t.Errorf("the server got %q", s)
		}
		if rest, end := endOf(t, r); rest != "hello goodbye" || end != fin {
			t.Errorf("the client got %q, then %s", rest, end)
		}
	})
}

// TestUpgradeEnds checks that neither side is left alone when the other one is
// gone, or the request is over.
func TestUpgradeEnds(t *testing.T) {
	for _, test := range []struct {
		name   string
		server func(c *net.TCPConn)
		client func(c net.Conn, cancel func())
	}{
		{"the server resets", func(c *net.TCPConn) { c.SetLinger(0); c.Close() }, func(net.Conn, func()) {}},
		{"the client resets", func(*net.TCPConn) {}, func(c net.Conn, _ func()) { c.(*net.TCPConn).SetLinger(0); c.Close() }},
		{"the request is cancelled", func(*net.TCPConn) {}, func(_ net.Conn, cancel func()) { cancel() }},
	} {
		t.Run(test.name, func(t *testing.T) {
			left := make(chan bool, 1)
			pool := rawServer(t, func(c *net.TCPConn, r *bufio.Reader) {
				if _, err := http.ReadRequest(r); err != nil {
					t.Error(err)
				}
				io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n!")
				r.ReadByte()
				test.server(c)
				io.Copy(io.Discard, r)
				left <- true
			})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			vs := newVirtualService(t, limpet.Config{Pools: []*lbpool.Pool{pool}})
			site := startSite(t, http1, listen(t, ""), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				vs.ServeHTTP(w, r.WithContext(ctx))
			}))
			c := site.dial(t, "")
			r := send(t, c, "GET / HTTP/1.1\nHost: example.com\nConnection: Upgrade\nUpgrade: x\n\n")
			if _, err := http.ReadResponse(r, nil); err != nil {
				t.Fatal(err)
			}
			if b, err := r.ReadByte(); b != '!' || err != nil {
				t.Fatal(b, err)
			}
			c.Write([]byte("!"))
			test.client(c, cancel)
			testwait.Receive(t, left, "the server to see the end")
			io.Copy(io.Discard, r) // ends, too
		})
	}
}

// TestOvertaking gets a response that begins, or is over, before the end of
// its request.
func TestOvertaking(t *testing.T) {
	t.Parallel()
	transports(t, func(t *testing.T, transport func() http.RoundTripper) {
		pool := poolFor(t, func(w http.ResponseWriter, r *http.Request) {
			if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
				t.Error(err)
			}
			if r.URL.Path == "/refused" {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			flush(t, w)
			buffer := make([]byte, 100)
			for {
				n, err := r.Body.Read(buffer)
				w.Write(buffer[:n])
				_ = http.NewResponseController(w).Flush()
				if err != nil {
					return
				}
			}
		})
		_, site := serve(t, http1, limpet.Config{Pools: []*lbpool.Pool{pool}, Transport: transport()})
		c := site.client(t)
		body, upload := io.Pipe()
		res, err := c.Do(newRequest(t, "POST", site.URL, body))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		for i := range 5 {
			message := fmt.Sprint("message ", i)
			io.WriteString(upload, message)
			echo := make([]byte, len(message))
			if _, err := io.ReadFull(res.Body, echo); string(echo) != message || err != nil {
				t.Fatalf("%q, %v", echo, err)
			}
		}
		upload.Close()
		if rest, err := io.ReadAll(res.Body); len(rest) > 0 || err != nil {
			t.Errorf("%q, %v", rest, err)
		}

		conn := site.dial(t, "")
		r := send(t, conn, "POST /refused HTTP/1.1\nHost: example.com\nContent-Length: 1000000\n\nbegin")
		res, err = http.ReadResponse(r, nil)
		if err != nil || res.StatusCode != http.StatusForbidden || !res.Close {
			t.Fatal(res, err)
		}
		if status, _ := get(t, c, site.URL); status != 200 {
			t.Error(status)
		}
	})
}

// TestTrickle gets what there is of a response, however it tells its length,
// while the server waits for the client.
func TestTrickle(t *testing.T) {
	transports(t, func(t *testing.T, transport func() http.RoundTripper) {
		for _, framing := range []string{"Content-Length: 2\r\n\r\n%s", "Transfer-Encoding: chunked\r\n\r\n1\r\n%s\r\n"} {
			proceed := make(chan bool)
			pool := rawServer(t, func(c *net.TCPConn, r *bufio.Reader) {
				if _, err := http.ReadRequest(r); err != nil {
					t.Error(err)
				}
				fmt.Fprintf(c, "HTTP/1.1 200 OK\r\n"+framing, "o")
				<-proceed
				if strings.HasPrefix(framing, "Content") {
					io.WriteString(c, "k")
				} else {
					io.WriteString(c, "1\r\nk\r\n0\r\n\r\n")
				}
			})
			_, site := serve(t, http1, limpet.Config{Pools: []*lbpool.Pool{pool}, Transport: transport()})
			res, err := site.client(t).Do(newRequest(t, "GET", site.URL, nil))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(res.Body, make([]byte, 1)); err != nil {
				t.Error(err)
			}
			close(proceed)
			if rest, err := io.ReadAll(res.Body); string(rest) != "k" || err != nil {
				t.Errorf("%q, %v", rest, err)
			}
			res.Body.Close()
		}
	})
}

// TestHintsLeaveHeader checks that informational responses take nothing away
// from what a handler around the virtual service has put into the header.
func TestHintsLeaveHeader(t *testing.T) {
	vs := newVirtualService(t, limpet.Config{Pools: []*lbpool.Pool{poolFor(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</a>")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
	})}})
	site := startSite(t, http1, listen(t, ""), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Around", "1")
		vs.ServeHTTP(w, r)
	}))
	var hints []string
	r := newRequest(t, "GET", site.URL, nil)
	r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			hints = append(hints, fmt.Sprint(code, h["Link"]))
			return nil
		},
	}))
	res, _ := fetch(t, site.client(t), r)
	if diff := cmp.Diff([]string{"103 [</a>]"}, hints); diff != "" {
		t.Error(diff)
	}
	if res.Header.Get("X-Around") != "1" || res.Header["Link"] != nil {
		t.Errorf("header: %v", res.Header)
	}
}

// TestConnectionHeader checks both ways what a Connection header can take away,
// and what it cannot.
func TestConnectionHeader(t *testing.T) {
	got := make(chan http.Header, 1)
	pool := rawServer(t, func(c *net.TCPConn, r *bufio.Reader) {
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			got <- req.Header
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: x-own, keep-alive\r\nX-Own: 1\r\nX-Kept: 1\r\n"+
				"Keep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nUpgrade: h2c\r\n\r\n")
		}
	})
	_, site := serve(t, http1, limpet.Config{Pools: []*lbpool.Pool{pool}, Scripts: []limpet.Script{
		compile(t, "sets", "-- HTTP_REQ\navi.http.add_header(\"X-Script\", \"1\")\n-- HTTP_RESP\navi.http.add_header(\"X-Script\", \"2\")\n"),
	}})
	r := newRequest(t, "GET", site.URL, nil)
	r.Header = http.Header{
		"Connection": {"X-Own, x-script", "X-Forwarded-For,,Keep-Alive"}, "X-Own": {"1"}, "X-Script": {"0"}, "X-Kept": {"1"},
		"Keep-Alive": {"timeout=5"}, "Proxy-Authorization": {"Basic x"}, "Proxy-Connection": {"close"}, "Te": {"gzip, Trailers"},
		"Upgrade": {"h2c"}, "User-Agent": {""},
	}
	res, _ := fetch(t, site.client(t), r)
	host := strings.TrimPrefix(site.URL, "http://")
	if diff := cmp.Diff(http.Header{
		"X-Kept": {"1"}, "X-Script": {"1"}, "Te": {"trailers"},
		"X-Forwarded-For": {"127.0.0.1"}, "X-Forwarded-Host": {host}, "X-Forwarded-Proto": {"http"},
	}, testwait.Receive(t, got, "the request")); diff != "" {
		t.Error(diff)
	}
	res.Header.Del("Date")
	if diff := cmp.Diff(http.Header{"X-Kept": {"1"}, "X-Script": {"2"}, "Content-Length": {"0"}}, res.Header); diff != "" {
		t.Error(diff)
	}
}

// TestOddUpgrade is a request for a protocol whose name is none.
func TestOddUpgrade(t *testing.T) {
	asked := errors.New("the server was asked")
	recs := newRecords()
	_, site := serve(t, http1, limpet.Config{OnComplete: recs.add, Pools: []*lbpool.Pool{poolFor(t, func(http.ResponseWriter, *http.Request) {
		t.Error(asked)
	})}})
	r := newRequest(t, "GET", site.URL, nil)
	r.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"\xff"}}
	if res, _ := fetch(t, site.client(t), r); res.StatusCode != http.StatusBadRequest {
		t.Error(res.Status)
	}
	if rec := recs.next(t); rec.Error == nil || slices.Contains(rec.Significant, limpet.ServerFailed) {
		t.Errorf("%v, %v", rec.Significant, rec.Error)
	}
}

// TestUpgradeConnection has a server name a header that a script sets: what
// the server sends by that name ends here, what the script sends does not.
func TestUpgradeConnection(t *testing.T) {
	pool := rawServer(t, func(c *net.TCPConn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err == nil {
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade, X-Own\r\nUpgrade: echo\r\nX-Own: server\r\n\r\n")
		}
	})
	_, site := serve(t, http1, limpet.Config{
		Pools:   []*lbpool.Pool{pool},
		Scripts: []limpet.Script{onResponse(t, "s", `avi.http.add_header("X-Own", "script")`)},
	})
	c := site.dial(t, "")
	r := send(t, c, "GET / HTTP/1.1\nHost: a\nConnection: Upgrade\nUpgrade: echo\n\n")
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := http.Header{"Connection": {"Upgrade"}, "Upgrade": {"echo"}, "X-Own": {"script"}}
	if diff := cmp.Diff(want, res.Header); diff != "" || res.StatusCode != http.StatusSwitchingProtocols {
		t.Errorf("%s, - want + got:\n%s", res.Status, diff)
	}
}

// TestConnectionFromHTTP2 has a server send over HTTP/2 what is not valid
// there: headers about the connection. None reaches the client.
func TestConnectionFromHTTP2(t *testing.T) {
	var answer bytes.Buffer
	encoder := hpack.NewEncoder(&answer)
	for _, field := range [][2]string{
		{":status", "200"}, {"connection", "close, x-own"}, {"x-own", "1"}, {"keep-alive", "timeout=5"},
		{"proxy-connection", "close"}, {"upgrade", "h2c"}, {"x-kept", "1"}, {"content-length", "0"},
	} {
		if err := encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}); err != nil {
			t.Fatal(err)
		}
	}
	pool := rawServer(t, func(c *net.TCPConn, r *bufio.Reader) {
		const headers, settings, endStream, endHeaders = 1, 4, 1, 4 // RFC 9113, section 6
		frame := func(kind, flags byte, stream, payload []byte) {
			n := len(payload)
			c.Write(slices.Concat([]byte{byte(n >> 16), byte(n >> 8), byte(n), kind, flags}, stream, payload))
		}
		if _, err := r.Discard(len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")); err != nil {
			return
		}
		frame(settings, 0, make([]byte, 4), nil)
		for {
			var head [9]byte
			if _, err := io.ReadFull(r, head[:]); err != nil {
				return
			}
			if _, err := r.Discard(int(head[0])<<16 | int(head[1])<<8 | int(head[2])); err != nil {
				return
			}
			if head[3] == headers {
				frame(headers, endStream|endHeaders, head[5:], answer.Bytes())
			}
		}
	})
	for _, p := range bothVersions {
		t.Run(string(p), func(t *testing.T) {
			base := lbpool.NewBase()
			base.Protocols = new(http.Protocols)
			base.Protocols.SetUnencryptedHTTP2(true)
			_, site := serve(t, p, limpet.Config{
				Pools: []*lbpool.Pool{pool}, Transport: lbpool.NewHTTP1(base),
			})
			res, _ := fetch(t, site.client(t), newRequest(t, "GET", site.URL, nil))
			res.Header.Del("Date")
			want := http.Header{"X-Kept": {"1"}, "Content-Length": {"0"}}
			if diff := cmp.Diff(want, res.Header); diff != "" || res.StatusCode != 200 {
				t.Errorf("%s, - want + got:\n%s", res.Status, diff)
			}
		})
	}
}
