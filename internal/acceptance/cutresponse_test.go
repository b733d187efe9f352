package acceptance_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/lbpool"
)

// halfServer is a server that reads the head of each request and leaves the
// rest to answer.
func halfServer(t testing.TB, answer func(c net.Conn)) lbpool.ServerConfig {
	t.Helper()
	pool := rawServer(t, func(c *net.TCPConn, r *bufio.Reader) {
		for {
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			answer(c)
		}
	})
	return lbpool.ServerConfig{Address: pool.Servers()[0].Addr().String()}
}

// gone waits until the other side has closed c.
func gone(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

const chunkedHead = "HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n"

// A server that went silent within a chunk held its client without an end: no
// timeout applied, and the client got neither the header nor what had come of
// the body.
func TestServerStallsWithinChunk(t *testing.T) {
	t.Parallel()
	const limit = 300 * time.Millisecond
	for _, test := range []struct{ name, sent, want string }{
		{"within the data", "50\r\nhello", "hello"},
		{"behind the data", "5\r\nhello", "hello"},
		{"within a line break", "5\r\nhello\r", "hello"},
		{"behind a chunk", "5\r\nhello\r\n", "hello"},
		{"within a size", "5\r\nhello\r\n5", "hello"},
		{"behind a size", "2\r\nhe\r\n3\r\nllo\r\n5\r\n", "hello"},
		{"behind the last chunk", "5\r\nhello\r\n0\r\n", "hello"},
		{"within a trailer", "5\r\nhello\r\n0\r\nX-T: 1\r\n", "hello"},
		{"within the first size", "5", ""},
		{"behind the first size", "5\r\n", ""},
		{"within an empty body", "0\r\n", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			recs := newRecords()
			server := halfServer(t, func(c net.Conn) {
				io.WriteString(c, chunkedHead+test.sent)
				gone(c)
			})
			pool := newPool(t, lbpool.Config{Name: "my_pool", Servers: []lbpool.ServerConfig{server}, StreamIdleTimeout: limit})
			_, site := serve(t, http1, limpet.Config{Pools: []*lbpool.Pool{pool}, OnComplete: recs.add})
			start := time.Now()
			res, got, err := try(site.client(t), newRequest(t, "GET", site.URL, nil))
			if res == nil || res.StatusCode != 200 || err == nil || got != test.want {
				t.Fatalf("%v, %q, %v", res, got, err)
			}
			if took := time.Since(start); took < limit {
				t.Errorf("aborted after %v", took)
			}
			rec := recs.next(t)
			if !errors.Is(rec.Error, lbpool.ErrTimeout) || !slices.Contains(rec.Significant, limpet.ServerTimeout) || rec.Status != 200 {
				t.Errorf("record: %+v", rec)
			}
			if n := pool.Servers()[0].Open(); n != 0 {
				t.Errorf("%d leases", n)
			}
		})
	}
}

// The first part of a chunk that came slowly reached the client only with its
// last.
func TestChunkComesSlowly(t *testing.T) {
	t.Parallel()
	arrived := make(chan bool)
	server := halfServer(t, func(c net.Conn) {
		io.WriteString(c, chunkedHead+"b\r\nhello")
		for _, more := range []string{" wor", "ld", "\r\n3\r\n!", "!!\r", "\n0\r\nX-T: 1\r\n\r\n"} {
			<-arrived
			io.WriteString(c, more)
		}
	})
	_, site := serve(t, http1, limpet.Config{Pools: []*lbpool.Pool{poolOf(t, server)}})
	res, err := site.client(t).Do(newRequest(t, "GET", site.URL, nil))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	for _, want := range []string{"hello", " wor", "ld", "!", "!!"} {
		got := make([]byte, len(want))
		if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != want {
			t.Fatalf("%q, %v, want %q", got, err, want)
		}
		arrived <- true
	}
	if rest, err := io.ReadAll(res.Body); err != nil || len(rest) > 0 || res.Trailer.Get("X-T") != "1" {
		t.Errorf("%q, %v, trailer %v", rest, err, res.Trailer)
	}
}

// A response that was cut off came to the client as no response at all, or
// without what had come of it, and the record told of status 200 nevertheless.
func TestCutResponse(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, sent string
		status     int
		want       string
	}{
		{"within the first chunk", chunkedHead + "50\r\nhello", 200, "hello"},
		{"behind the header", chunkedHead, 200, ""},
		{"before the end", chunkedHead + "5\r\nhello\r\n", 200, "hello"},
		{"known length", "HTTP/1.1 200 X\r\nContent-Length: 10\r\n\r\nhello", 200, "hello"},
		{"broken trailer", chunkedHead + "5\r\nhello\r\n0\r\nX-T: 1\x00\x01\r\n\r\n", 502, ""},
		{"broken second chunk", chunkedHead + "5\r\nhello\r\nx\r\n", 502, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			recs := newRecords()
			server := halfServer(t, func(c net.Conn) {
				io.WriteString(c, test.sent)
				c.Close()
			})
			_, site := serve(t, http1, limpet.Config{Pools: []*lbpool.Pool{poolOf(t, server)}, OnComplete: recs.add})
			res, got, err := try(site.client(t), newRequest(t, "GET", site.URL, nil))
			if res == nil || res.StatusCode != test.status || test.status == 200 && (err == nil || got != test.want) {
				t.Fatalf("%v, %q, %v", res, got, err)
			}
			if rec := recs.next(t); rec.Status != test.status || rec.Error == nil || !slices.Contains(rec.Significant, limpet.ServerFailed) {
				t.Errorf("record: %+v", rec)
			}
		})
	}
}

// A response that was buffered for a script and then cut off came to the client
// as no response at all.
func TestCutResponseOfScript(t *testing.T) {
	t.Parallel()
	recs := newRecords()
	server := halfServer(t, func(c net.Conn) {
		io.WriteString(c, chunkedHead+"50\r\nhello")
		c.Close()
	})
	_, site := serve(t, http1, limpet.Config{
		Pools: []*lbpool.Pool{poolOf(t, server)}, OnComplete: recs.add,
		Scripts: []limpet.Script{compile(t, "holds", buffersResponse)},
	})
	res, _, err := try(site.client(t), newRequest(t, "GET", site.URL, nil))
	if err != nil || res.StatusCode != 502 {
		t.Fatal(res, err)
	}
	if rec := recs.next(t); rec.Status != 502 || rec.Error == nil {
		t.Errorf("record: %+v", rec)
	}
}

// A client of HTTP/1.0 took a response that was cut off for a whole one:
// nothing but the end of the connection tells it where a response without a
// length ends, so that must be a reset.
func TestCutResponseOfOldClient(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, sent string
		want       ending
	}{
		{"in chunks, cut", chunkedHead + "50\r\nhello", reset},
		{"in chunks, whole", chunkedHead + "5\r\nhello\r\n0\r\n\r\n", fin},
		{"known length, cut", "HTTP/1.1 200 X\r\nContent-Length: 10\r\n\r\nhello", fin}, // which the length tells
		{"to the end of the connection", "HTTP/1.1 200 X\r\n\r\nhello", fin},
	} {
		for _, wrapped := range []bool{false, true} {
			name := test.name
			if wrapped {
				name += ", listener"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				server := halfServer(t, func(c net.Conn) {
					io.WriteString(c, test.sent)
					c.Close()
				})
				vs := newVirtualService(t, limpet.Config{Pools: []*lbpool.Pool{poolOf(t, server)}})
				ln := listen(t, "")
				if wrapped {
					ln = vs.Listener(ln)
				}
				site := startSite(t, http1, ln, vs)
				rest, end := endOf(t, send(t, site.dial(t, ""), "GET / HTTP/1.0\nHost: a\n\n"))
				if end != test.want || !strings.HasSuffix(rest, "\r\n\r\nhello") {
					t.Errorf("%s after %q, want %s", end, rest, test.want)
				}
			})
		}
	}
}

// The same, of a handler that gives up, over TLS, too.
func TestCutHandlerOfOldClient(t *testing.T) {
	t.Parallel()
	vs := newVirtualService(t, limpet.Config{})
	site := startSite(t, http1TLS, vs.Listener(listen(t, "")), vs.Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "hello")
		flush(t, w)
		panic(http.ErrAbortHandler)
	})))
	r := send(t, site.secure(t, site.dial(t, "")), "GET / HTTP/1.0\nHost: a\n\n")
	if rest, end := endOf(t, r); end != reset || !strings.HasSuffix(rest, "\r\n\r\nhello") {
		t.Errorf("%s after %q", end, rest)
	}
}

// The answers of servers that speak another major version were taken for ones
// of HTTP/1.1.
func TestVersionOfResponse(t *testing.T) {
	for version, want := range map[string]int{
		"HTTP/1.0": 200, "HTTP/1.1": 200, "HTTP/1.2": 200, "HTTP/1.9": 200,
		"HTTP/0.9": 502, "HTTP/2.0": 502, "HTTP/3.0": 502, "HTTP/9.9": 502, "HTTP/1": 502, "HTTP/2": 502,
	} {
		t.Run(version, func(t *testing.T) {
			server := halfServer(t, func(c net.Conn) { io.WriteString(c, version+" 200 OK\r\nContent-Length: 2\r\n\r\nok") })
			_, site := serve(t, http1, limpet.Config{Pools: []*lbpool.Pool{poolOf(t, server)}})
			if status, _ := get(t, site.client(t), site.URL); status != want {
				t.Errorf("status %d, want %d", status, want)
			}
		})
	}
}
