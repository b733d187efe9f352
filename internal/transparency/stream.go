package transparency

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
)

// streamCases are about bodies.
var streamCases = []testCase{
	{"streaming", either, every, func(p *probe) { streaming(p, "application/octet-stream") }},
	{"server-sent events", either, every, func(p *probe) { streaming(p, "text/event-stream") }},
	{"bodies", either, every, bodies},
	{"trailers", either, every, trailers},
	{"without body", either, both, withoutBody},
	{"compressed", either, both, compressed},
	{"full duplex", either, both, fullDuplex},
	{"early answer", either, both, earlyAnswer},
	{"keep-alive", either, both, keepAlive},
	{"large download", either, both, largeDownload},
	{"large upload", either, both, largeUpload},
}

// What is flushed arrives, while the handler goes on.
func streaming(p *probe, contentType string) {
	read := make(chan int)
	s := p.start(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", contentType)
		p.flush(w) // the header alone
		for i := range 3 {
			select {
			case got := <-read:
				if got != i {
					p.errorf("the client is at %d, want %d", got, i)
				}
			case <-r.Context().Done():
				return
			}
			fmt.Fprintf(w, "data: %d\n\n", i)
			p.flush(w)
		}
	})
	r := s.request("GET", "/", nil)
	responses := make(chan *http.Response, 1)
	p.clients.Go(func() {
		res, err := s.client.Do(r)
		if err != nil {
			p.errorf("%v", err)
			return
		}
		responses <- res
	})
	res := await(p, responses, "the header")
	defer res.Body.Close()
	body := bufio.NewReader(res.Body)
	for i := range 3 {
		lines := make(chan string, 1)
		select {
		case read <- i:
		case <-s.ctx.Done():
			p.fatalf("the handler is gone")
		}
		p.clients.Go(func() {
			line, err := body.ReadString('\n')
			if err != nil {
				line += err.Error()
			}
			_, _ = body.Discard(1)
			lines <- line
		})
		if got, want := await(p, lines, "what was flushed"), fmt.Sprintf("data: %d\n", i); got != want {
			p.fatalf("%q, want %q", got, want)
		}
	}
	if rest, err := io.ReadAll(body); len(rest) > 0 || err != nil {
		p.errorf("then %q, %v", rest, err)
	}
}

// Bodies of any length go both ways unchanged, with their length if that was
// known.
func bodies(p *probe) {
	s := p.start(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			p.errorf("reading %d: %v", r.ContentLength, err)
		}
		w.Header().Set("X-Length", fmt.Sprint(r.ContentLength))
		if r.ContentLength >= 0 {
			w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		} else {
			p.flush(w)
		}
		_, _ = w.Write(body)
	})
	for _, n := range []int{0, 1, 511, 512, 513, 4095, 4097, 32<<10 - 1, 32<<10 + 1, 1 << 20} {
		content := new(endless).take(n)
		for _, known := range []bool{true, false} {
			var body io.Reader = bytes.NewReader(content)
			length := int64(n)
			if !known {
				body, length = io.MultiReader(body), -1
			}
			res, got := s.fetch(s.request("POST", "/", body))
			empty := n == 0 && res.ContentLength == 0 // HTTP/2 may tell so with the header
			if got != string(content) || res.ContentLength != length && !empty || res.Header.Get("X-Length") != fmt.Sprint(length) {
				p.errorf("%d bytes, length %d: %d bytes came back, length %d, sent on as %s", n, length, len(got), res.ContentLength,
					res.Header.Get("X-Length"))
			}
		}
	}
}

func trailers(p *probe) {
	s := p.start(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if string(body) != "body" || err != nil || r.Trailer.Get("X-Sum") != "of the body" {
			p.errorf("body %q, %v, trailer %v", body, err, r.Trailer)
		}
		w.Header().Set("Trailer", "X-Announced")
		w.Header().Set("X-Header", "1")
		if r.URL.Path == "/body" {
			_, _ = io.WriteString(w, "answer")
		}
		w.Header().Set("X-Announced", "2")
		if r.URL.Path == "/body" {
			w.Header().Set(http.TrailerPrefix+"X-Late", "3")
		}
	})
	for _, path := range []string{"/body", "/no-body"} {
		r := s.request("POST", path, io.MultiReader(strings.NewReader("body"))) // of unknown length
		r.Trailer = http.Header{"X-Sum": {"of the body"}}
		res, body := s.fetch(r)
		if res.Header.Get("X-Header") != "1" || (body == "answer") != (path == "/body") {
			p.errorf("%s: %q %v", path, body, res.Header)
		}
		want := map[string]string{"X-Announced": "2"}
		if path == "/body" {
			want["X-Late"] = "3"
		}
		for name, value := range want {
			if got := res.Trailer.Get(name); got != value {
				p.errorf("%s: trailer %s is %q, want %q", path, name, got, value)
			}
		}
	}
}

func withoutBody(p *probe) {
	s := p.start(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Kept", "1")
		switch r.URL.Path {
		case "/204":
			w.WriteHeader(204)
		case "/304":
			w.Header().Set("Etag", `"1"`)
			w.WriteHeader(304)
		case "/empty":
			w.Header().Set("Content-Length", "0")
			w.WriteHeader(200)
		default:
			w.Header().Set("Content-Length", "1234")
			if r.Method != "HEAD" {
				p.errorf("method %s", r.Method)
			}
		}
	})
	for _, test := range []struct {
		method, path string
		status       int
		length       int64
	}{
		{"HEAD", "/", 200, 1234},
		{"GET", "/empty", 200, 0},
		{"GET", "/204", 204, 0},
		{"GET", "/304", 304, 0},
		{"HEAD", "/304", 304, 0},
		{"DELETE", "/204", 204, 0},
	} {
		res, body := s.fetch(s.request(test.method, test.path, nil))
		length := max(res.ContentLength, 0) // HTTP/2 tells none for 304 to HEAD
		if res.StatusCode != test.status || length != test.length || body != "" || res.Header.Get("X-Kept") != "1" {
			p.errorf("%s %s: %s, length %d, %q, %v", test.method, test.path, res.Status, res.ContentLength, body, res.Header)
		}
	}
}

// Compressed bodies pass as they are, small ones that would be huge among them,
// and nobody asks for compression whom the client has not asked.
func compressed(p *probe) {
	var small bytes.Buffer
	z := gzip.NewWriter(&small)
	_, _ = io.Copy(z, io.LimitReader(&repeated{block: make([]byte, 64<<10)}, 8<<20))
	_ = z.Close()
	s := p.start(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["X-Accepted"] = r.Header["Accept-Encoding"]
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(small.Bytes())
	})
	for _, accept := range []string{"", "gzip", "br, gzip;q=0.5"} {
		r := s.request("GET", "/", nil)
		if accept != "" {
			r.Header.Set("Accept-Encoding", accept)
		}
		res, body := s.fetch(r)
		if body != small.String() || res.Header.Get("Content-Encoding") != "gzip" {
			p.errorf("%d bytes, want %d; %v", len(body), small.Len(), res.Header)
		}
		if got := res.Header.Get("X-Accepted"); got != accept {
			p.errorf("the client accepts %q, and the handler is told %q", accept, got)
		}
	}
}

// Client and handler speak by turns in one exchange.
func fullDuplex(p *probe) {
	s := p.start(func(w http.ResponseWriter, r *http.Request) {
		if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
			p.errorf("full duplex: %v", err)
		}
		p.flush(w)
		lines := bufio.NewReader(r.Body)
		for {
			line, err := lines.ReadString('\n')
			if err == io.EOF {
				return
			}
			if err != nil {
				p.errorf("reading while writing: %v", err)
				return
			}
			if _, err := io.WriteString(w, "echo "+line); err != nil {
				p.errorf("writing while reading: %v", err)
				return
			}
			p.flush(w)
		}
	})
	body, upload := p.pipe()
	replies := make(chan string, 10)
	p.clients.Go(func() {
		defer close(replies)
		res, err := s.client.Do(s.request("POST", "/", body))
		if err != nil {
			replies <- err.Error()
			return
		}
		defer res.Body.Close()
		for lines := bufio.NewReader(res.Body); ; {
			line, err := lines.ReadString('\n')
			if err == io.EOF {
				return
			}
			if err != nil {
				line = err.Error()
			}
			if replies <- line; err != nil {
				return
			}
		}
	})
	for i := range 5 {
		if _, err := fmt.Fprintln(upload, i); err != nil {
			p.fatalf("%v", err)
		}
		if got, want := await(p, replies, "an echo"), fmt.Sprintf("echo %d\n", i); got != want {
			p.fatalf("%q, want %q", got, want)
		}
	}
	upload.Close()
	if rest := await(p, replies, "the end"); rest != "" {
		p.errorf("then %q", rest)
	}
}

// An answer does not wait for the end of the upload.
func earlyAnswer(p *probe) {
	s := p.start(func(w http.ResponseWriter, r *http.Request) {
		// Without this a server of net/http reads on before it answers.
		_ = http.NewResponseController(w).EnableFullDuplex()
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		_, _ = io.WriteString(w, "too large")
		// The client leaves when it has the answer, of which a flush over
		// HTTP/2 may learn.
		_ = http.NewResponseController(w).Flush()
		_, _ = io.Copy(io.Discard, r.Body)
	})
	for _, length := range []int64{-1, 1000, 10 << 20} {
		body, upload := p.pipe()
		r := s.request("POST", "/", body)
		r.ContentLength = length
		answers := make(chan string, 1)
		p.clients.Go(func() {
			res, err := s.client.Do(r)
			if err != nil {
				answers <- err.Error()
				return
			}
			defer res.Body.Close()
			text := make([]byte, len("too large"))
			_, err = io.ReadFull(res.Body, text)
			answers <- fmt.Sprint(res.StatusCode, " ", string(text), " ", err)
		})
		p.clients.Go(func() { _, _ = upload.Write(make([]byte, 100)) })
		if got, want := await(p, answers, "the answer"), "413 too large <nil>"; got != want {
			p.errorf("upload of length %d: %s, want %s", length, got, want)
		}
		upload.CloseWithError(io.ErrClosedPipe)
	}
	if res, _ := s.fetch(s.request("POST", "/", nil)); res.StatusCode != http.StatusRequestEntityTooLarge {
		p.errorf("the next request: %s", res.Status)
	}
}

// Connections are used again, after bodies of all kinds.
func keepAlive(p *probe) {
	var mu sync.Mutex
	remotes := map[string]bool{}
	s := p.start(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		remotes[r.RemoteAddr] = true
		mu.Unlock()
		_, _ = io.Copy(io.Discard, r.Body)
		switch r.URL.Path {
		case "/0":
		case "/1":
			_, _ = io.WriteString(w, "short")
		case "/2":
			if r.Method == http.MethodHead {
				// The header is the end of the response, after which a flush
				// over HTTP/2 may find the stream closed.
				_ = http.NewResponseController(w).Flush()
			} else {
				p.flush(w)
			}
			_, _ = w.Write(make([]byte, 100_000))
		case "/3":
			w.WriteHeader(http.StatusNotModified)
		case "/4":
			w.WriteHeader(http.StatusNotFound)
			w.Header().Set(http.TrailerPrefix+"X-Late", "1")
		}
	})
	for i := range 50 {
		method := []string{"GET", "POST", "HEAD"}[i%3]
		var body io.Reader
		if method == "POST" {
			body = bytes.NewReader(make([]byte, i*1000))
		}
		s.fetch(s.request(method, fmt.Sprint("/", i%5), body))
	}
	if len(remotes) > 2 { // a body's end may be seen a moment too late
		p.errorf("%d connections for 50 requests, one after the other", len(remotes))
	}
}

// largeSize is how long a large body is. In HTTP/2 it is shorter, since most of
// the time goes to the client's TLS.
func (p *probe) largeSize() int64 {
	if p.protocol.major() == 1 {
		return p.large
	}
	return p.large / 8
}

// maxHeap is by how much the heap may grow while a large body passes, for all
// that is involved. In HTTP/2 the client alone lets 4 MiB of a stream come
// before it reads them.
func (p *probe) maxHeap() int64 { return int64(p.protocol.major()) * 4 << 20 }

// flat reads r to its end, compares it with what block gives, and watches how
// the heap grows from what it was before.
func (p *probe) flat(r io.Reader, block []byte, size, before int64) {
	want := &repeated{block: block}
	buf := make([]byte, 64<<10)
	for i := range 5 {
		part := size / 5
		if i == 4 {
			part = size
		}
		if _, err := io.CopyBuffer(want, struct{ io.Reader }{io.LimitReader(r, part)}, buf); err != nil {
			p.errorf("%v", err)
			return
		}
		if grown := liveHeap() - before; grown > p.maxHeap() {
			p.errorf("the heap has grown by %d KiB after %d of %d MiB", grown>>10, want.n>>20, size>>20)
			return
		}
	}
	if want.n != size {
		p.errorf("%d bytes of %d", want.n, size)
	}
}

func largeDownload(p *probe) {
	block, size := new(endless).take(256<<10), p.largeSize()
	s := p.start(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(size))
		_, _ = io.Copy(w, io.LimitReader(&repeated{block: block}, size))
	})
	before := liveHeap()
	p.flat(s.open(s.request("GET", "/", nil)).Body, block, size, before)
}

func largeUpload(p *probe) {
	block, size := new(endless).take(256<<10), p.largeSize()
	before := liveHeap()
	s := p.start(func(w http.ResponseWriter, r *http.Request) { p.flat(r.Body, block, size, before) })
	r := s.request("POST", "/", io.LimitReader(&repeated{block: block}, size))
	r.ContentLength = size
	if res, _ := s.fetch(r); res.StatusCode != 200 {
		p.errorf("%s", res.Status)
	}
}
