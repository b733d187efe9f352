package transparency

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// faultCases are about servers that misbehave. A proxy answers for them, with
// 502 or 504, or cuts its own answer off.
var faultCases = []testCase{
	{"server hangs", waiting, both, func(p *probe) { hangs(p, "") }},
	{"server hangs in the header", waiting, both, func(p *probe) { hangs(p, "HTTP/1.1 200 OK\r\nX-Begun: ") }},
	{"server gives hints without end", waiting, only1, hintsWithoutEnd},
	{"server hangs in the body", proxy, both, hangsInBody},
	{"server trickles", proxy, both, func(p *probe) {
		trickles(p, "Transfer-Encoding: chunked", "1\r\n%d\r\n", "0\r\n\r\n")
	}},
	{"server trickles a body of known length", proxy, both, func(p *probe) { trickles(p, "Content-Length: 10", "%d", "") }},
	{"server closes", proxy, both, serverCloses},
	{"server resets", proxy, both, serverResets},
	{"server cannot be reached", proxy, both, unreachable},
	{"server sends junk", proxy, both, junk},
	{"server sends a huge header", proxy, both, hugeHeader},
	{"server sends many headers", proxy, both, manyHeaders},
	{"server's body is cut off", proxy, both, bodyCutOff},
	{"server sends too much", proxy, both, tooMuch},
}

// readRequest reads a request without a body.
func readRequest(c net.Conn) bool {
	r, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return false
	}
	_, _ = io.Copy(io.Discard, r.Body)
	return true
}

// drain reads until the other end closes.
func drain(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// fails checks that a request is answered with 502 or 504.
func (s *site) fails(what string) {
	res, _, err := s.try(s.request("GET", "/", nil))
	switch {
	case err != nil:
		s.errorf("%s: %v", what, err)
	case res.StatusCode != http.StatusBadGateway && res.StatusCode != http.StatusGatewayTimeout:
		s.errorf("%s: %s", what, res.Status)
	}
}

// hangs has a server begin its answer like this, and no more.
func hangs(p *probe, begun string) {
	s := p.startRaw(func(c net.Conn) {
		if readRequest(c) {
			_, _ = io.WriteString(c, begun)
			drain(c)
		}
	})
	start := time.Now()
	s.fails("an unfinished answer")
	if took := time.Since(start); took < p.target.HeaderTimeout || took > p.target.HeaderTimeout+5*time.Second {
		p.errorf("it took %v to give up, want %v", took, p.target.HeaderTimeout)
	}
}

func hintsWithoutEnd(p *probe) {
	s := p.startRaw(func(c net.Conn) {
		if !readRequest(c) {
			return
		}
		for hint := []byte("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"); ; {
			if _, err := c.Write(hint); err != nil {
				return
			}
		}
	})
	c := s.dial()
	c.send("GET / HTTP/1.1\nHost: example.com\n\n")
	for {
		res, err := http.ReadResponse(c.Reader, nil)
		if err != nil {
			return // the connection was cut off, which says as much
		}
		if res.StatusCode >= 200 {
			if res.StatusCode != http.StatusBadGateway && res.StatusCode != http.StatusGatewayTimeout {
				p.errorf("%s", res.Status)
			}
			return
		}
	}
}

// When the client leaves a body that does not go on, the server's connection is
// closed.
func hangsInBody(p *probe) {
	closed := make(chan bool, 1)
	s := p.startRaw(func(c net.Conn) {
		if readRequest(c) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n")
			drain(c)
			if p.ctx.Err() == nil { // else the case has ended, and its connections with it
				closed <- true
			}
		}
	})
	ctx, cancel := context.WithCancel(p.ctx)
	defer cancel()
	res := s.open(s.request("GET", "/", nil).WithContext(ctx))
	begun := make([]byte, len("begun"))
	if _, err := io.ReadFull(res.Body, begun); err != nil || string(begun) != "begun" {
		p.errorf("%q, %v", begun, err)
	}
	cancel()
	await(p, closed, "the server to see the client leave")
}

// A body that comes byte by byte goes on byte by byte.
func trickles(p *probe, header, format, end string) {
	next := make(chan bool)
	s := p.startRaw(func(c net.Conn) {
		if !readRequest(c) {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n"+header+"\r\n\r\n")
		for i := range 10 {
			select {
			case <-next:
				fmt.Fprintf(c, format, i)
			case <-p.ctx.Done():
				return
			}
		}
		_, _ = io.WriteString(c, end)
	})
	came := make(chan string)
	p.clients.Go(func() {
		defer close(came)
		res, err := s.client.Do(s.request("GET", "/", nil))
		for err == nil {
			b := make([]byte, 1)
			if _, err = io.ReadFull(res.Body, b); err == nil {
				select {
				case came <- string(b):
				case <-p.ctx.Done():
					err = p.ctx.Err()
				}
			}
		}
		if err != io.EOF {
			p.errorf("%v", err)
		}
		if res != nil {
			res.Body.Close()
		}
	})
	for i := range 10 {
		select {
		case next <- true:
		case <-p.ctx.Done():
			p.fatalf("the server is gone")
		}
		if got, want := await(p, came, "a byte"), fmt.Sprint(i); got != want {
			p.fatalf("%q, want %q", got, want)
		}
	}
	if rest, ok := <-came; ok {
		p.errorf("then %q", rest)
	}
}

func serverCloses(p *probe) {
	for _, begun := range []string{"", "HTTP/1.1 200 OK", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"} {
		s := p.startRaw(func(c net.Conn) {
			if readRequest(c) {
				_, _ = io.WriteString(c, begun)
			}
		})
		s.fails(fmt.Sprintf("closed after %q", begun))
	}
}

func serverResets(p *probe) {
	for _, begun := range []string{"", "HTTP/1.1 200 OK\r\n"} {
		s := p.startRaw(func(c net.Conn) {
			if readRequest(c) {
				_, _ = io.WriteString(c, begun)
				_ = c.(*net.TCPConn).SetLinger(0)
			}
		})
		s.fails(fmt.Sprintf("reset after %q", begun))
	}
}

func unreachable(p *probe) {
	ln := p.listen()
	ln.Close()
	p.front("http://" + ln.Addr().String()).fails("a server that is not there")
}

func junk(p *probe) {
	for _, answer := range []string{
		"\x00\x01\x02\x03\r\n\r\n",
		"junk\r\n\r\n",
		"HTTP/1.1\r\n\r\n",
		"HTTP/1.1 2 OK\r\n\r\n",
		"HTTP/1.1 abc OK\r\n\r\n",
		"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
		"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\na",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: what\r\n\r\n",
		"SSH-2.0-OpenSSH_9\r\n",
		strings.Repeat("x", 100_000),
	} {
		s := p.startRaw(func(c net.Conn) {
			if readRequest(c) {
				_, _ = io.WriteString(c, answer)
			}
		})
		s.fails(fmt.Sprintf("%.60q", answer))
	}
}

func hugeHeader(p *probe) {
	s := p.startRaw(func(c net.Conn) {
		if !readRequest(c) {
			return
		}
		_, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nX-Huge: ")
		for part := []byte(strings.Repeat("x", 1<<16)); err == nil; {
			_, err = c.Write(part)
		}
	})
	before := liveHeap()
	s.fails("a header without end")
	if grown := liveHeap() - before; grown > 16<<20 {
		p.errorf("the heap has grown by %d KiB", grown>>10)
	}
}

// Many headers pass all, or the response fails.
func manyHeaders(p *probe) {
	const n = 10_000
	var header strings.Builder
	for i := range n {
		fmt.Fprintf(&header, "X-%d: %d\n", i, i)
	}
	s := p.startRaw(answering(header.String() + "Content-Length: 2\n\nok"))
	res, _, err := s.try(s.request("GET", "/", nil))
	switch {
	case err != nil: // the client has its limits, too
	case res.StatusCode == http.StatusBadGateway:
	case res.StatusCode != 200 || res.Header.Get("X-0") != "0" || res.Header.Get(fmt.Sprint("X-", n-1)) != fmt.Sprint(n-1):
		p.errorf("%s, %d headers", res.Status, len(res.Header))
	}
}

// A body that is cut off, or goes on with junk, never looks like a complete
// one.
func bodyCutOff(p *probe) {
	for _, answer := range []string{
		"Content-Length: 100\n\nsome of it",
		"Content-Length: 100\n\n",
		"Transfer-Encoding: chunked\n\n",
		"Transfer-Encoding: chunked\n\na\nsome of it\n",
		"Transfer-Encoding: chunked\n\na\nsome of",
		"Transfer-Encoding: chunked\n\na\nsome of it\n0\n",
		"Transfer-Encoding: chunked\n\na\nsome of it\nzz\n",
		"Transfer-Encoding: chunked\n\na\nsome of itand more\n0\n\n",
		"Transfer-Encoding: chunked\n\nffffffffffffffffff\nsome of it",
		"Transfer-Encoding: chunked\nTrailer: X-Sum\n\na\nsome of it\n0\nX-Sum",
	} {
		s := p.startRaw(answering(answer))
		res, body, err := s.try(s.request("GET", "/", nil))
		if err == nil && res.StatusCode < 500 {
			p.errorf("%q: the client got %s with %q, and no error", answer, res.Status, body)
		}
	}
}

// What a server sends behind its answer is no answer to the next request.
func tooMuch(p *probe) {
	var served atomic.Int64
	s := p.startRaw(func(c net.Conn) {
		for r := bufio.NewReader(c); ; {
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			answer := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nanswer %03d", served.Add(1))
			_, _ = io.WriteString(c, answer+"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
		}
	})
	for range 5 {
		if res, body := s.get("/"); body != fmt.Sprintf("answer %03d", served.Load()) {
			p.errorf("%s %q", res.Status, body)
		}
	}
}
