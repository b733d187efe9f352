package transparency

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// writerCases are about what a middleware keeps of the server's response writer
// and of the request.
var writerCases = []testCase{
	{"interfaces", middleware, every, interfaces},
	{"request", middleware, every, requestUnchanged},
	{"deadlines", middleware, both, deadlines},
	{"hijack", middleware, plainTLS, hijack},
	{"files", either, both, files},
	{"panics", middleware, only1, panics},
	{"panics leak nothing", middleware, only1, panicsLeakNothing},
}

// Many programs decide by the writer's type what they can do.
func interfaces(p *probe) {
	abilities := func(w http.ResponseWriter) string {
		var list []string
		if _, ok := w.(http.Flusher); ok {
			list = append(list, "Flusher")
		}
		if _, ok := w.(http.Hijacker); ok {
			list = append(list, "Hijacker")
		}
		if _, ok := w.(io.StringWriter); ok {
			list = append(list, "StringWriter")
		}
		return strings.Join(list, " ")
	}
	var got string
	copies := false
	s := p.start(func(w http.ResponseWriter, r *http.Request) {
		got = abilities(w)
		_, copies = w.(io.ReaderFrom)
		if err := http.NewResponseController(w).Flush(); err != nil {
			p.errorf("flush: %v", err)
		}
	})
	s.get("/")
	var want string
	s.serve(p.protocol, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { want = abilities(w) })).get("/")
	if got != want {
		p.errorf("the writer is a %s; the server's is a %s", got, want)
	}
	if !copies && p.protocol.major() == 1 {
		p.errorf("the writer is no ReaderFrom, so files are copied through memory")
	}
}

// A handler sees the request as the server has read it.
func requestUnchanged(p *probe) {
	describe := func(r *http.Request) string {
		body, err := io.ReadAll(r.Body)
		host, _, _ := strings.Cut(r.RemoteAddr, ":")
		return fmt.Sprintln(r.Method, r.RequestURI, r.URL, r.Proto, r.Host, r.ContentLength, r.TransferEncoding, r.Close,
			host, r.TLS != nil, r.Header, r.Trailer, string(body), err)
	}
	ask := func(s *site) {
		r := s.request("REPORT", "/a%2Fb//c/../d;e?q=%41&;&r", io.MultiReader(strings.NewReader("the body")))
		r.Host = "EXAMPLE.com:81"
		r.Header = http.Header{
			"Accept-Encoding": {"br"}, "X-Empty": {""}, "X-Twice": {"1", "2"}, "X_Underscore": {"1"}, "User-Agent": {""},
			"X-Forwarded-For": {"192.0.2.1"}, "Connection": {"X-Twice"}, "Cookie": {"a=1; b=2"},
		}
		if s.protocol.major() == 2 {
			delete(r.Header, "Connection")
		}
		r.Trailer = http.Header{"X-Sum": {"1"}}
		s.fetch(r)
	}
	var got, want string
	ask(p.start(func(w http.ResponseWriter, r *http.Request) { got = describe(r) }))
	ask(p.serve(p.protocol, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { want = describe(r) })))
	if got != want {
		p.errorf("the handler sees\n%sinstead of\n%s", got, want)
	}
}

func deadlines(p *probe) {
	read := make(chan error, 1)
	s := p.start(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		if err := rc.EnableFullDuplex(); err != nil {
			p.errorf("full duplex: %v", err)
		}
		if err := rc.SetWriteDeadline(time.Now().Add(p.limit)); err != nil {
			p.errorf("write deadline: %v", err)
		}
		p.flush(w)
		if _, err := io.ReadFull(r.Body, make([]byte, 1)); err != nil {
			p.errorf("reading after writing: %v", err)
		}
		if err := rc.SetReadDeadline(time.Now()); err != nil {
			p.errorf("read deadline: %v", err)
			read <- os.ErrDeadlineExceeded // there is nothing to wait for
			return
		}
		_, err := r.Body.Read(make([]byte, 1))
		read <- err
		panic(http.ErrAbortHandler)
	})
	body, upload := p.pipe()
	p.clients.Go(func() { _, _ = upload.Write([]byte("x")) })
	_, _, _ = s.try(s.request("POST", "/", body)) // is aborted
	if err := await(p, read, "the deadline"); !errors.Is(err, os.ErrDeadlineExceeded) {
		p.errorf("reading past the deadline: %v", err)
	}
	body.CloseWithError(io.ErrClosedPipe)
}

func hijack(p *probe) {
	s := p.start(func(w http.ResponseWriter, r *http.Request) {
		h, ok := w.(http.Hijacker)
		if !ok {
			p.errorf("the writer is no Hijacker")
			return
		}
		c, rw, err := h.Hijack()
		if err != nil {
			p.errorf("%v", err)
			return
		}
		defer c.Close()
		line, err := rw.ReadString('\n')
		if err != nil {
			p.errorf("%v", err)
		}
		_, _ = io.WriteString(c, "echo "+line)
		if _, err := w.Write([]byte("too late")); !errors.Is(err, http.ErrHijacked) {
			p.errorf("write after the connection was taken: %v", err)
		}
	})
	c := s.dial()
	c.send("GET / HTTP/1.1\nHost: example.com\n\n", []byte("hello\n")...)
	if got := c.end(); got != "echo hello\n" {
		p.errorf("the connection carried %q", got)
	}
}

// Files are served whole and in ranges.
func files(p *probe) {
	name := filepath.Join(p.t.TempDir(), "file")
	content := new(endless).take(300_000)
	if err := os.WriteFile(name, content, 0o600); err != nil {
		p.fatalf("%v", err)
	}
	s := p.start(func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, name) })
	if res, body := s.get("/"); body != string(content) || res.ContentLength != int64(len(content)) {
		p.errorf("%d bytes of %d, or changed", len(body), len(content))
	}
	r := s.request("GET", "/", nil)
	r.Header.Set("Range", "bytes=1000-1999")
	if res, body := s.fetch(r); res.StatusCode != 206 || body != string(content[1000:2000]) {
		p.errorf("%s, %d bytes", res.Status, len(body))
	}
}

// What a handler panics with goes on to whoever is around the middleware.
func panics(p *probe) {
	type own struct{ s string }
	for _, value := range []any{http.ErrAbortHandler, &own{"value"}, "text", errors.New("error")} {
		for _, written := range []bool{false, true} {
			h := p.target.Middleware(p.t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if written {
					w.WriteHeader(202)
				}
				panic(value)
			}))
			if got := panicOf(h, httptest.NewRecorder()); got != value {
				p.errorf("panic with %v (%T), want %v", got, got, value)
			}
		}
	}
}

// panicOf returns what h panics with when it serves a request.
func panicOf(h http.Handler, w http.ResponseWriter) (value any) {
	defer func() { value = recover() }()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	return nil
}

// A panic frees what the middleware uses for the request.
func panicsLeakNothing(p *probe) {
	n := 10 * p.many
	h := p.target.Middleware(p.t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	w := httptest.NewRecorder()
	round := func(n int) (heap int64, goroutines int) {
		for range n {
			if got := panicOf(h, w); got != http.ErrAbortHandler {
				p.fatalf("panic with %v", got)
			}
		}
		return liveHeap(), runtime.NumGoroutine()
	}
	heap, goroutines := round(n / 10)
	heapAfter, goroutinesAfter := round(n)
	runtime.KeepAlive(h)
	if grown := heapAfter - heap; grown > int64(n)*4+256<<10 { // the rest of the process is not still
		p.errorf("%d bytes are left of %d requests", grown, n)
	}
	if grown := goroutinesAfter - goroutines; grown > n/100 {
		p.errorf("%d goroutines are left of %d requests", grown, n)
	}
}

// liveHeap is how many bytes are in use.
func liveHeap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// endless is a stream of bytes that differ from place to place.
type endless struct{ at int }

// Read never fails.
func (e *endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(e.at >> (e.at % 13))
		e.at++
	}
	return len(b), nil
}

func (e *endless) take(n int) []byte {
	b := make([]byte, n)
	_, _ = e.Read(b)
	return b
}

// repeated is a block over and over again, to be read and to be compared with
// what is written.
type repeated struct {
	block []byte
	at    int
	n     int64
}

// Read never fails.
func (r *repeated) Read(b []byte) (int, error) {
	n := copy(b, r.block[r.at:])
	r.advance(n)
	return n, nil
}

// Write fails if b is not what comes next.
func (r *repeated) Write(b []byte) (int, error) {
	for done := 0; done < len(b); {
		n := min(len(b)-done, len(r.block)-r.at)
		if !bytes.Equal(b[done:done+n], r.block[r.at:r.at+n]) {
			return done, fmt.Errorf("changed between byte %d and %d", r.n, r.n+int64(n))
		}
		r.advance(n)
		done += n
	}
	return len(b), nil
}

func (r *repeated) advance(n int) {
	r.at = (r.at + n) % len(r.block)
	r.n += int64(n)
}
