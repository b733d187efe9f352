package acceptance_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/testrace"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/internal/websockettest"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
)

// witness counts the events of a transaction, in the record and for the
// client.
const witness = `-- HTTP_REQ
avi.vs.log("request")
avi.http.add_header("X-Request-Event", "1")

-- HTTP_RESP
avi.vs.log("response ", avi.http.status())
avi.http.add_header("X-Response-Event", "1")
`

// An exchange is one way to have a handler behind a virtual service: wrapped,
// or on a server, and by a protocol.
type exchange struct {
	*testing.T
	*site
	wrapped bool
	client  *http.Client
	recs    *records
}

// transparently runs a test for each way. A handler must not be able to tell
// that it is behind a virtual service, nor its client.
func transparently(t *testing.T, protocols []protocol, handler func(*exchange) http.HandlerFunc, test func(*exchange)) {
	for _, mode := range []string{"wrapped", "proxied"} {
		for _, p := range protocols {
			t.Run(mode+"/"+string(p), func(t *testing.T) {
				e := &exchange{T: t, wrapped: mode == "wrapped", recs: newRecords()}
				cfg := limpet.Config{Scripts: []limpet.Script{compile(t, "witness", witness)}, OnComplete: e.recs.add}
				if e.wrapped {
					vs := newVirtualService(t, cfg)
					e.site = startSite(t, p, listen(t, ""), vs.Wrap(handler(e)))
				} else {
					cfg.Pools = []*lbpool.Pool{poolFor(t, handler(e))}
					_, e.site = serve(t, p, cfg)
				}
				e.client = e.site.client(t)
				test(e)
				e.recs.none(t)
			})
		}
	}
}

var bothVersions = []protocol{http1, http2TLS}

// wantEvents takes a record and checks how its response event went: once,
// with this status, or not at all if status is 0.
func (e *exchange) wantEvents(status int) limpet.Record {
	e.Helper()
	rec := e.recs.next(e)
	want := []string{"request"}
	if status != 0 {
		want = append(want, fmt.Sprint("response ", status))
	}
	var got []string
	for _, line := range rec.Log {
		_, text, _ := strings.Cut(line, " ")
		_, text, _ = strings.Cut(text, " ") // [string "witness"]:2:
		got = append(got, text)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		e.Error(diff)
	}
	if rec.Status != status || len(rec.ScriptErrors) > 0 {
		e.Errorf("status %d, script errors %v", rec.Status, rec.ScriptErrors)
	}
	return rec
}

func (e *exchange) do(method, path string, body io.Reader) (*http.Response, string) {
	e.Helper()
	return fetch(e, e.client, newRequest(e, method, e.URL+path, body))
}

func flush(t testing.TB, w http.ResponseWriter) {
	t.Helper()
	if err := http.NewResponseController(w).Flush(); err != nil {
		t.Errorf("flush: %v", err)
	}
}

// endless is a stream of bytes that differ from place to place.
type endless struct{ at int }

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(e.at >> (e.at % 13))
		e.at++
	}
	return len(p), nil
}

// Large bodies go through unchanged, in memory that does not grow with them.
func TestLargeBodies(t *testing.T) {
	size := int64(64 << 20)
	if testrace.Enabled {
		size = 8 << 20
	}
	if testing.Short() {
		size = 8 << 20
	}
	block := make([]byte, 256<<10)
	(&endless{}).Read(block)
	large := func() io.Reader { return io.LimitReader(&repeated{block: block}, size) }
	sum := func(r io.Reader) [sha256.Size]byte {
		h := sha256.New()
		if n, err := io.CopyBuffer(h, struct{ io.Reader }{r}, make([]byte, 64<<10)); n != size || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
		return [sha256.Size]byte(h.Sum(nil))
	}
	want := sum(large())

	transparently(t, bothVersions, func(e *exchange) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Method == "POST" {
				if sum(r.Body) != want {
					e.Error("the upload has changed")
				}
				return
			}
			w.Header().Set("Content-Length", fmt.Sprint(size))
			if _, err := io.Copy(w, large()); err != nil {
				e.Error(err)
			}
		}
	}, func(e *exchange) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		res, _ := e.do("POST", "/", large())
		if res.StatusCode != 200 {
			e.Error(res.Status)
		}
		e.wantEvents(200)
		res, err := e.client.Do(newRequest(e, "GET", e.URL, nil))
		if err != nil {
			e.Fatal(err)
		}
		defer res.Body.Close()
		if sum(res.Body) != want {
			e.Error("the download has changed")
		}
		if rec := e.wantEvents(200); rec.Bytes != size {
			e.Errorf("%d bytes in the record", rec.Bytes)
		}
		runtime.ReadMemStats(&after)
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 16<<20 && !testrace.Enabled {
			e.Errorf("%d KiB allocated for twice %d", grown>>10, size>>10)
		}
	})
}

// repeated is a block over and over again.
type repeated struct {
	block []byte
	at    int
}

func (r *repeated) Read(p []byte) (int, error) {
	n := copy(p, r.block[r.at:])
	r.at = (r.at + n) % len(r.block)
	return n, nil
}

func TestClientLeavesDownload(t *testing.T) {
	var seen chan error
	transparently(t, bothVersions, func(e *exchange) http.HandlerFunc {
		seen = make(chan error, 1)
		return func(w http.ResponseWriter, r *http.Request) {
			defer func() { seen <- r.Context().Err() }()
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 16<<10)); err != nil {
					<-r.Context().Done()
					return
				}
				_ = http.NewResponseController(w).Flush()
			}
		}
	}, func(e *exchange) {
		ctx, cancel := context.WithCancel(e.Context())
		defer cancel()
		res, err := e.client.Do(newRequest(e, "GET", e.URL, nil).WithContext(ctx))
		if err != nil {
			e.Fatal(err)
		}
		defer res.Body.Close()
		if _, err := io.ReadFull(res.Body, make([]byte, 1000)); err != nil {
			e.Fatal(err)
		}
		cancel()
		if err := testwait.Receive(e, seen, "the handler to see its client leave"); err != context.Canceled {
			e.Error(err)
		}
		if rec := e.wantEvents(200); !e.wrapped && !slices.Equal(rec.Significant, []limpet.Significance{limpet.ClientGone}) {
			e.Errorf("significant: %v", rec.Significant)
		}
	})
}

func TestClientLeavesUpload(t *testing.T) {
	var started chan bool
	var seen chan error
	transparently(t, bothVersions, func(e *exchange) http.HandlerFunc {
		started, seen = make(chan bool, 1), make(chan error, 1)
		return func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.ReadFull(r.Body, make([]byte, 10)); err != nil {
				e.Error(err)
			}
			started <- true
			_, err := io.Copy(io.Discard, r.Body)
			seen <- err
		}
	}, func(e *exchange) {
		body, upload := io.Pipe()
		defer upload.Close()
		ctx, cancel := context.WithCancel(e.Context())
		defer cancel()
		done := make(chan error, 1)
		go func() {
			_, _, err := try(e.client, newRequest(e, "POST", e.URL, body).WithContext(ctx))
			done <- err
		}()
		if _, err := upload.Write(make([]byte, 100)); err != nil {
			e.Fatal(err)
		}
		testwait.Receive(e, started, "the handler")
		cancel()
		if err := testwait.Receive(e, seen, "the handler to see its client leave"); err == nil {
			e.Error("the handler saw the end of a body that had none")
		}
		upload.CloseWithError(context.Canceled)
		if err := testwait.Receive(e, done, "the client"); !errors.Is(err, context.Canceled) {
			e.Error(err)
		}
		rec := e.recs.next(e)
		if !e.wrapped && !slices.Equal(rec.Significant, []limpet.Significance{limpet.ClientGone}) {
			e.Errorf("record: status %d, significant: %v, %v", rec.Status, rec.Significant, rec.Error)
		}
	})
}

// A response that the handler cuts off is cut off for the client, too.
func TestCutOff(t *testing.T) {
	transparently(t, bothVersions, func(e *exchange) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "some of it")
			flush(e, w)
			panic(http.ErrAbortHandler)
		}
	}, func(e *exchange) {
		res, body, err := try(e.client, newRequest(e, "GET", e.URL, nil))
		if err == nil || res != nil && body != "some of it" {
			e.Errorf("%v %q, %v", res, body, err)
		}
		if rec := e.wantEvents(200); !slices.Contains(rec.Significant, limpet.ServerFailed) {
			e.Errorf("significant: %v", rec.Significant)
		}
	})
}

// An upgrade that the client has not asked for is a server's failure, not an
// empty success.
func TestUnwantedUpgrade(t *testing.T) {
	ln := listen(t, "127.0.1.1:0")
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
				io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n")
			}
			c.Close()
		}
	}()
	recs := newRecords()
	_, site := serve(t, http1, limpet.Config{
		Pools:      []*lbpool.Pool{poolOf(t, lbpool.ServerConfig{Address: ln.Addr().String()})},
		OnComplete: recs.add,
	})
	if status, _ := get(t, site.client(t), site.URL); status != http.StatusBadGateway {
		t.Errorf("status %d", status)
	}
	if rec := recs.next(t); rec.Status != http.StatusBadGateway || rec.Error == nil || !slices.Contains(rec.Significant, limpet.ServerFailed) {
		t.Errorf("record: %+v", rec)
	}
}

func TestWebSocket(t *testing.T) {
	transparently(t, []protocol{http1, http1TLS}, func(e *exchange) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			err := websockettest.Accept(w, r, func(ws *websockettest.Conn) {
				if err := ws.Echo(); err != nil {
					e.Error(err)
				}
			})
			if err != nil {
				e.Error(err)
			}
		}
	}, func(e *exchange) {
		ctx, cancel := context.WithTimeout(e.Context(), testwait.Limit)
		defer cancel()
		ws, res, err := websockettest.Dial(ctx, e.client, e.URL, "other", websockettest.Subprotocol)
		if err != nil {
			e.Fatal(err)
		}
		defer ws.Close()
		if ws.Subprotocol() != websockettest.Subprotocol {
			e.Errorf("subprotocol %q", ws.Subprotocol())
		}
		for _, m := range []websockettest.Message{
			websockettest.Text("hello"), websockettest.Text(""), websockettest.Text(strings.Repeat("long ", 6000)),
			websockettest.Binary([]byte{0, 0xff, '\n'}),
		} {
			if err := ws.Send(m); err != nil {
				e.Fatal(err)
			}
			if got, err := ws.Receive(); got.Kind != m.Kind || !bytes.Equal(got.Data, m.Data) || err != nil {
				e.Fatalf("%d bytes of kind %d, %v; want %d of %d", len(got.Data), got.Kind, err, len(m.Data), m.Kind)
			}
		}
		if err := ws.Finish(); err != nil {
			e.Error(err)
		}
		if res.Header.Get("X-Response-Event") != "1" {
			e.Errorf("header: %v", res.Header)
		}
		if rec := e.wantEvents(101); !rec.Hijacked || len(rec.Significant) > 0 || rec.Closed {
			e.Errorf("record: %+v", rec)
		}
	})
}

// Clients that speak WebSocket stick, too: the listing has an entry for them
// when their connection stands.
func TestWebSocketSticks(t *testing.T) {
	store := persistence.NewStore(persistence.Options{})
	servers := startServersWith(t, 2, func(int) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := websockettest.Accept(w, r, func(ws *websockettest.Conn) { ws.Receive() }); err != nil { // until the client leaves
				t.Error(err)
			}
		})
	})
	recs := newRecords()
	_, site := serve(t, http1, limpet.Config{
		Pools: []*lbpool.Pool{poolOf(t, servers...)}, Tables: store, OnComplete: recs.add,
		Scripts: []limpet.Script{compile(t, "Custom Persistence", customPersistence)},
	})
	c := newLoyalClient(t, site, 7, true)
	var first limpet.Record
	for i := range 4 {
		ws, _, err := websockettest.Dial(t.Context(), c.Client, site.URL)
		if err != nil {
			t.Fatal(err)
		}
		ws.Close()
		rec := recs.next(t)
		want := limpet.OutcomeHit
		if i == 0 {
			first, want = rec, limpet.OutcomeMiss
		}
		if rec.Outcome != want || rec.Server != first.Server || rec.Client != c.addr || rec.Status != 101 {
			t.Errorf("record: %+v", rec)
		}
	}
}

// A script may answer in place of an upgrade, or close the connection.
func TestUpgradeRefused(t *testing.T) {
	asked := make(chan bool, 10)
	pool := poolFor(t, func(w http.ResponseWriter, r *http.Request) {
		err := websockettest.Accept(w, r, func(ws *websockettest.Conn) {
			// What the virtual service refuses, it closes.
			_, err := ws.Receive()
			asked <- err != nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	for _, test := range []struct {
		script string
		status int
	}{
		{`avi.http.response(403, {}, "no")`, 403},
		{`error("oh")`, 500},
		{`avi.http.close_conn()`, 0},
	} {
		recs := newRecords()
		_, site := serve(t, http1, limpet.Config{
			Pools: []*lbpool.Pool{pool}, OnComplete: recs.add, Scripts: []limpet.Script{onResponse(t, "no", test.script)},
		})
		_, res, err := websockettest.Dial(t.Context(), site.client(t), site.URL)
		if err == nil || test.status != 0 && (res == nil || res.StatusCode != test.status) {
			t.Errorf("%s: %v, %v", test.script, res, err)
		}
		if rec := recs.next(t); rec.Status != test.status || rec.Hijacked || rec.Closed != (test.status == 0) || slices.Contains(rec.Significant, limpet.ServerFailed) {
			t.Errorf("%s: record %+v", test.script, rec)
		}
		if !testwait.Receive(t, asked, "the server") {
			t.Error("the server's connection lives on")
		}
	}
}

// wrap serves a handler that is wrapped, with the witness.
func wrap(t *testing.T, p protocol, h http.HandlerFunc) *exchange {
	t.Helper()
	e := &exchange{T: t, wrapped: true, recs: newRecords()}
	vs := newVirtualService(t, limpet.Config{Scripts: []limpet.Script{compile(t, "witness", witness)}, OnComplete: e.recs.add})
	e.site = startSite(t, p, listen(t, ""), vs.Wrap(h))
	e.client = e.site.client(t)
	return e
}

// However a response begins, its event runs once.
func TestResponseBegins(t *testing.T) {
	for _, test := range []struct {
		name   string
		write  func(http.ResponseWriter)
		status int
		body   string
	}{
		{"return", func(w http.ResponseWriter) {}, 200, ""},
		{"WriteHeader", func(w http.ResponseWriter) { w.WriteHeader(404) }, 404, ""},
		{"Write", func(w http.ResponseWriter) { w.Write([]byte("a")) }, 200, "a"},
		{"Write of nothing", func(w http.ResponseWriter) { w.Write(nil) }, 200, ""},
		{"WriteString", func(w http.ResponseWriter) { io.WriteString(w, "a") }, 200, "a"},
		{"ReadFrom", func(w http.ResponseWriter) { w.(io.ReaderFrom).ReadFrom(strings.NewReader("a")) }, 200, "a"},
		{"Copy", func(w http.ResponseWriter) { io.Copy(w, bytes.NewReader([]byte("a"))) }, 200, "a"},
		{"Copy that fails at once", func(w http.ResponseWriter) {
			if _, err := io.Copy(w, iotest.ErrReader(io.ErrUnexpectedEOF)); err != nil {
				w.WriteHeader(503) // there is time for another answer
			}
		}, 503, ""},
		{"Copy of nothing", func(w http.ResponseWriter) {
			io.Copy(w, strings.NewReader(""))
			w.WriteHeader(202)
		}, 202, ""},
		{"Flush", func(w http.ResponseWriter) { w.(http.Flusher).Flush() }, 200, ""},
		{"FlushError", func(w http.ResponseWriter) { http.NewResponseController(w).Flush() }, 200, ""},
		{"all of them", func(w http.ResponseWriter) {
			w.WriteHeader(103)
			w.WriteHeader(201)
			w.Write([]byte("a"))
			io.WriteString(w, "b")
			w.(http.Flusher).Flush()
			io.Copy(w, strings.NewReader("c"))
			http.NewResponseController(w).Flush()
		}, 201, "abc"},
	} {
		for _, p := range bothVersions {
			t.Run(test.name+"/"+string(p), func(t *testing.T) {
				e := wrap(t, p, func(w http.ResponseWriter, r *http.Request) { test.write(w) })
				res, body := e.do("GET", "/", nil)
				if res.StatusCode != test.status || body != test.body || !slices.Equal(res.Header["X-Response-Event"], []string{"1"}) {
					t.Errorf("%s %q %v", res.Status, body, res.Header)
				}
				if rec := e.wantEvents(test.status); rec.Bytes != int64(len(test.body)) {
					t.Errorf("%d bytes", rec.Bytes)
				}
				e.recs.none(t)
			})
		}
	}
}

// A handler goes on writing a response in whose place another was sent.
func TestReplacedHandler(t *testing.T) {
	writes := make(chan error, 10)
	vs := newVirtualService(t, limpet.Config{Scripts: []limpet.Script{onResponse(t, "no", `avi.http.response(403, {}, "no")`)}})
	site := startSite(t, http1, listen(t, ""), vs.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(200)
		w.WriteHeader(200) // is not even superfluous: the first one was not sent
		_, err := w.Write([]byte("a"))
		writes <- err
		_, err = io.WriteString(w, "b")
		writes <- err
		_, err = w.(io.ReaderFrom).ReadFrom(strings.NewReader("c"))
		writes <- err
		writes <- http.NewResponseController(w).Flush()
		_, _, err = http.NewResponseController(w).Hijack()
		writes <- err
	})))
	if status, body := get(t, site.client(t), site.URL); status != 403 || body != "no" {
		t.Errorf("%d %q", status, body)
	}
	for range 5 {
		if err := testwait.Receive(t, writes, "the handler"); err == nil {
			t.Error("the handler may write what nobody sees")
		}
	}
}

func TestHijack(t *testing.T) {
	e := wrap(t, http1, func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		line, err := rw.ReadString('\n')
		if err != nil {
			t.Error(err)
		}
		io.WriteString(conn, "echo "+line)
		if _, err := w.Write([]byte("too late")); !errors.Is(err, http.ErrHijacked) {
			t.Errorf("write after the connection was taken: %v", err)
		}
	})
	c := e.dial(t, "")
	r := send(t, c, "GET / HTTP/1.1\nHost: example.com\n\n")
	io.WriteString(c, "hello\n")
	if rest, end := endOf(t, r); rest != "echo hello\n" || end != fin {
		t.Errorf("%q, then %s", rest, end)
	}
	if rec := e.wantEvents(0); !rec.Hijacked || rec.Closed || len(rec.Significant) > 0 {
		t.Errorf("record: %+v", rec)
	}
}

func TestResponseController(t *testing.T) {
	for _, p := range bothVersions {
		t.Run(string(p), func(t *testing.T) {
			read := make(chan error, 1)
			e := wrap(t, p, func(w http.ResponseWriter, r *http.Request) {
				rc := http.NewResponseController(w)
				if err := rc.EnableFullDuplex(); err != nil {
					t.Errorf("full duplex: %v", err)
				}
				if err := rc.SetWriteDeadline(time.Now().Add(testwait.Limit)); err != nil {
					t.Errorf("write deadline: %v", err)
				}
				flush(t, w)
				if _, err := io.ReadFull(r.Body, make([]byte, 1)); err != nil {
					t.Errorf("reading after writing: %v", err)
				}
				if err := rc.SetReadDeadline(time.Now()); err != nil {
					t.Errorf("read deadline: %v", err)
				}
				_, err := r.Body.Read(make([]byte, 1))
				read <- err
				panic(http.ErrAbortHandler)
			})
			body, upload := io.Pipe()
			defer upload.Close()
			go upload.Write([]byte("x"))
			_, _, _ = try(e.client, newRequest(t, "POST", e.URL, body))
			if err := testwait.Receive(t, read, "the deadline"); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("reading past the deadline: %v", err)
			}
			body.CloseWithError(io.ErrClosedPipe)
			e.wantEvents(200)
		})
	}
}

// What a handler panics with goes on to whoever is around the virtual
// service.
func TestPanic(t *testing.T) {
	type own struct{ s string }
	for _, value := range []any{http.ErrAbortHandler, &own{"value"}, "text", errors.New("error")} {
		for _, written := range []bool{false, true} {
			recs := newRecords()
			vs := newVirtualService(t, limpet.Config{OnComplete: recs.add})
			var got any
			func() {
				defer func() { got = recover() }()
				vs.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if written {
						w.WriteHeader(202)
					}
					panic(value)
				})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
			}()
			if got != value {
				t.Errorf("panic with %v (%T), want %v", got, got, value)
			}
			rec := recs.next(t)
			if !slices.Equal(rec.Significant, []limpet.Significance{limpet.ServerFailed}) || (rec.Status == 202) != written {
				t.Errorf("%v: status %d, significant %v", value, rec.Status, rec.Significant)
			}
		}
	}
}

// plainWriter can do only what it must.
type plainWriter struct{ http.ResponseWriter }

// unwrappable is a writer that a middleware has put around another one.
type unwrappable struct{ http.ResponseWriter }

func (u unwrappable) Unwrap() http.ResponseWriter { return u.ResponseWriter }

// hijackable is a writer that gives its connection away.
type hijackable struct{ http.ResponseWriter }

func (hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	here, there := net.Pipe()
	there.Close()
	return here, nil, nil
}

// TestInterfaces checks what a handler can learn from its writer's type:
// many programs decide by it.
func TestInterfaces(t *testing.T) {
	recorder := httptest.NewRecorder()
	for _, test := range []struct {
		name   string
		writer http.ResponseWriter
		hijack bool
	}{
		{"recorder", recorder, false},
		{"plain", plainWriter{recorder}, false},
		{"hijackable", hijackable{recorder}, true},
		{"hijackable beneath", unwrappable{hijackable{recorder}}, true},
		{"plain beneath", unwrappable{plainWriter{recorder}}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			recs := newRecords()
			vs := newVirtualService(t, limpet.Config{OnComplete: recs.add, Scripts: []limpet.Script{compile(t, "witness", witness)}})
			vs.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if _, ok := w.(http.Flusher); !ok {
					t.Error("no Flusher")
				}
				if _, ok := w.(io.ReaderFrom); !ok {
					t.Error("no ReaderFrom")
				}
				if _, ok := w.(io.StringWriter); !ok {
					t.Error("no StringWriter")
				}
				if _, ok := w.(http.Hijacker); ok != test.hijack {
					t.Errorf("Hijacker: %v", ok)
				}
				conn, _, err := http.NewResponseController(w).Hijack()
				if (err == nil) != test.hijack {
					t.Errorf("hijack: %v", err)
				}
				if err == nil {
					conn.Close()
				}
			})).ServeHTTP(test.writer, httptest.NewRequest("GET", "/", nil))
			rec := recs.next(t)
			if rec.Hijacked != test.hijack || len(rec.Log) != map[bool]int{true: 1, false: 2}[test.hijack] {
				t.Errorf("hijacked %v, log %q", rec.Hijacked, rec.Log)
			}
		})
	}
}
