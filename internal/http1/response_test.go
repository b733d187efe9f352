package http1

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/limpetlb/limpet/internal/httpfield"
	"github.com/limpetlb/limpet/internal/testwait"
)

// A reading is what a transport makes of the bytes that a server sends.
type reading struct {
	Status           string
	Proto            string
	Header           http.Header
	Length           int64
	Encoding         []string
	Body             string
	Trailer          http.Header
	Hints            []int // informational responses
	Failed, CutShort bool  // no response; no end of the body
	Reused           bool  // another request went over the same connection
}

// read sends a request of which the answer is text, and another one.
func read(t testing.TB, own bool, method, text string, closing bool) (got reading) {
	s := serve(t, func(c net.Conn, r *bufio.Reader) {
		if _, err := readHead(r); err != nil {
			return
		}
		if _, err := io.WriteString(c, text); err != nil || closing {
			return
		}
		says(ok)(c, r)
	})
	rt := start(t, own, nil)
	r := newRequest(t, method, s.url, nil)
	resp, body, err := fetch(rt, traced(r, &httptrace.ClientTrace{Got1xxResponse: func(code int, _ textproto.MIMEHeader) error {
		got.Hints = append(got.Hints, code)
		return nil
	}}))
	switch {
	case resp == nil:
		got.Failed = true
	default:
		got.Status, got.Proto, got.Header, got.Length = resp.Status, resp.Proto, resp.Header, resp.ContentLength
		got.Encoding, got.Trailer, got.Body = resp.TransferEncoding, resp.Trailer, body
		got.CutShort = err != nil
	}
	if err := r.Context().Err(); err != nil {
		t.Fatal(err) // testwait.Limit has ended
	}
	if !closing {
		if _, _, err := fetch(rt, newRequest(t, "GET", s.url, nil)); err == nil {
			got.Reused = s.connections() == 1
		}
	}
	return got
}

// responses are what servers may send, good and bad.
var responses = []struct {
	name, method, text string
	closing            bool
	status             string // of the response, empty if there is to be none
	body               string
	reused             bool
}{
	{"length", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nA: b\r\n\r\nok", false, "200 OK", "ok", true},
	{"no body", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false, "200 OK", "", true},
	{"chunks", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n", false, "200 OK", "ok", true},
	{"no chunks", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false, "200 OK", "", true},
	{"trailer", "GET", "HTTP/1.1 200 OK\r\nTrailer: A\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nA: 1\r\nB: 2\r\n\r\n", false, "200 OK", "ok", true},
	{"until the end", "GET", "HTTP/1.1 200 OK\r\n\r\nok", true, "200 OK", "ok", false},
	{"close", "GET", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", false, "200 OK", "ok", false},
	{"close and more", "GET", "HTTP/1.1 200 OK\r\nConnection: close, X-Secret\r\nContent-Length: 2\r\n\r\nok", false, "200 OK", "ok", false},
	{"HTTP/1.0", "GET", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", false, "200 OK", "ok", false},
	{"HTTP/1.0 until the end", "GET", "HTTP/1.0 200 OK\r\n\r\nok", true, "200 OK", "ok", false},
	{"HTTP/1.0 with keep-alive", "GET", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", false, "200 OK", "ok", true},
	{"HEAD", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n", false, "200 OK", "", true},
	{"HEAD of chunks", "HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false, "200 OK", "", true},
	{"204", "GET", "HTTP/1.1 204 No Content\r\n\r\n", false, "204 No Content", "", true},
	{"304", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n", false, "304 Not Modified", "", true},
	{"no reason", "GET", "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", false, "200", "ok", true},
	{"odd status", "GET", "HTTP/1.1 799 Odd\r\nContent-Length: 2\r\n\r\nok", false, "799 Odd", "ok", true},
	{"hints", "GET", "HTTP/1.1 103 Hints\r\nLink: a\r\n\r\nHTTP/1.1 102 Wait\r\n\r\n" + ok, false, "200 OK", "ok", true},
	{"100 unasked", "GET", "HTTP/1.1 100 Continue\r\n\r\n" + ok, false, "200 OK", "ok", true},
	{"101 without upgrade", "GET", "HTTP/1.1 101 Switch\r\n\r\n", false, "101 Switch", "", false},
	{"more than was asked for", "GET", ok + ok, false, "200 OK", "ok", false},
	{"a byte too many", "GET", ok + "x", false, "200 OK", "ok", false},
	{"short", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", true, "200 OK", "", false},
	{"short chunk", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nok", true, "200 OK", "", false},
	{"chunks without end", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", true, "200 OK", "", false},
	{"chunk of a wrong length", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nok\r\n0\r\n\r\n", false, "", "", false},
	{"chunk of an odd length", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+2\r\nok\r\n0\r\n\r\n", false, "", "", false},
	{"trailer of a wrong form", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA B\r\n\r\n", false, "", "", false},
	{"long trailer", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: " + strings.Repeat("x", 5000) + "\r\n\r\n", false, "200 OK", "", false},
	{"length and chunks", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", false, "200 OK", "ok", false},
	{"same lengths", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", false, "200 OK", "ok", true},
	{"length of no response", "GET", "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n", false, "204 No Content", "", false},
	{"chunks of no response", "GET", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", false, "204 No Content", "", false},
	{"length 0 of no response", "GET", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", false, "204 No Content", "", true},
	{"hints with a length", "GET", "HTTP/1.1 103 Hints\r\nContent-Length: 2\r\n\r\n" + ok, false, "200 OK", "ok", false},
	{"status 099", "GET", "HTTP/1.1 099 OK\r\nContent-Length: 2\r\n\r\nok", false, "", "", false},
	{"status 000", "GET", "HTTP/1.1 000 OK\r\nContent-Length: 2\r\n\r\nok", false, "", "", false},
	{"signed status", "GET", "HTTP/1.1 +20 OK\r\nContent-Length: 2\r\n\r\nok", false, "", "", false},
	{"NUL in the status", "GET", "HTTP/1.1 200 O\x00K\r\nContent-Length: 2\r\n\r\nok", false, "", "", false},
	{"carriage return in the status", "GET", "HTTP/1.1 200 O\rK\r\nContent-Length: 2\r\n\r\nok", false, "", "", false},
	{"blank before the colon", "GET", "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok", true, "", "", false},
	{"tab before the colon", "GET", "HTTP/1.1 200 OK\r\nContent-Length\t: 2\r\n\r\nok", false, "", "", false},
	{"blank in a name", "GET", "HTTP/1.1 200 OK\r\nContent Length: 2\r\n\r\nok", true, "", "", false},
	{"blank before a name", "GET", "HTTP/1.1 200 OK\r\n Content-Length: 2\r\n\r\nok", false, "", "", false},
	{"carriage return before a name", "GET", "HTTP/1.1 200 OK\r\n\rContent-Length: 2\r\n\r\nok", false, "", "", false},
	{"no name", "GET", "HTTP/1.1 200 OK\r\n: 2\r\nContent-Length: 2\r\n\r\nok", false, "", "", false},
	{"no colon", "GET", "HTTP/1.1 200 OK\r\nContent-Length\r\n\r\nok", false, "", "", false},
	{"continued line", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nA: b\r\n c\r\n\r\nok", false, "", "", false},
	{"continued length", "GET", "HTTP/1.1 200 OK\r\nContent-Length:\r\n 2\r\n\r\nok", false, "", "", false},
	{"carriage return in a value", "GET", "HTTP/1.1 200 OK\r\nA: b\rContent-Length: 2\r\n\r\nok", false, "", "", false},
	{"carriage return behind a value", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\r\n\r\nok", false, "", "", false},
	{"NUL in a value", "GET", "HTTP/1.1 200 OK\r\nA: b\x00\r\nContent-Length: 2\r\n\r\nok", false, "", "", false},
	{"list of lengths", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok", false, "", "", false},
	{"no length", "GET", "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nok", false, "", "", false},
	{"chunks in HTTP/1.0", "GET", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", true, "", "", false},
	{"two codings", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", false, "", "", false},
	{"chunked twice", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", false, "", "", false},
	{"blank in a trailer's name", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA : b\r\n\r\n", false, "", "", false},
	{"blank in an announced name", "GET", "HTTP/1.1 200 OK\r\nTrailer: A b\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false, "", "", false},
	{"different lengths", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", false, "", "", false},
	{"odd length", "GET", "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok", false, "", "", false},
	{"negative length", "GET", "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok", false, "", "", false},
	{"unknown coding", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok", false, "", "", false},
	{"junk", "GET", "SSH-2.0-OpenSSH\r\n\r\n", false, "", "", false},
	{"nothing", "GET", "", true, "", "", false},
	{"half a line", "GET", "HTTP/1.1 20", true, "", "", false},
	{"half a header", "GET", "HTTP/1.1 200 OK\r\nA: b\r\n", true, "", "", false},
	{"HTTP/0.9", "GET", "HTTP/0.9 200 OK\r\nContent-Length: 2\r\n\r\nok", false, "", "", false},
	{"HTTP/1.2", "GET", "HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\nok", false, "200 OK", "ok", true},
	{"HTTP/2", "GET", "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok", false, "", "", false},
	{"bare line feeds", "GET", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", false, "200 OK", "ok", true},
	{"compressed", "GET", "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b", false, "200 OK", "\x1f\x8b", true},
	{"large header", "GET", "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("x", 100_000) + "\r\nContent-Length: 2\r\n\r\nok", false, "200 OK", "ok", true},
}

// compare compares what both transports make of the same bytes, unless they are
// among those that only ours refuses.
func compare(t *testing.T, method, text string, standard, own reading) {
	t.Helper()
	if v := judge(method, text); v.kind == broken && own.Failed && (stricter[v.why] != "" || v.cut) {
		return
	}
	standard.Reused = standard.Reused && own.Reused // it may take a moment to notice what nobody has asked for
	if httpfield.HasToken(own.Header["Connection"], "close") && standard.Header["Connection"] == nil {
		delete(own.Header, "Connection") // see TestConnectionKept
	}
	if diff := cmp.Diff(standard, own, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("- standard + own:\n%s", diff)
	}
}

// TestResponses compares what both transports make of the same bytes.
func TestResponses(t *testing.T) {
	for _, test := range responses {
		t.Run(test.name, func(t *testing.T) {
			standard, own := read(t, false, test.method, test.text, test.closing), read(t, true, test.method, test.text, test.closing)
			compare(t, test.method, test.text, standard, own)
			if own.Status != test.status || own.Reused != test.reused {
				t.Errorf("%q, reused %v; want %q, %v", own.Status, own.Reused, test.status, test.reused)
			}
			if test.body != "" && own.Body != test.body {
				t.Errorf("body %q, want %q", own.Body, test.body)
			}
		})
	}
}

// FuzzResponse looks for bytes of which the two transports make different
// things. The seeds are the table above: each stands for a branch of the
// framing.
func FuzzResponse(f *testing.F) {
	for _, r := range responses {
		f.Add(r.method == "HEAD", r.text)
	}
	f.Fuzz(func(t *testing.T, head bool, text string) {
		method := "GET"
		if head {
			method = "HEAD"
		}
		compare(t, method, text, read(t, false, method, text, true), read(t, true, method, text, true))
	})
}

func TestHeaderLimit(t *testing.T) {
	for _, test := range []struct {
		name    string
		text    string
		allowed bool
	}{
		{"below", "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("x", 9_000) + "\r\nContent-Length: 2\r\n\r\nok", true},
		{"one field", "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("x", 20_000) + "\r\nContent-Length: 2\r\n\r\nok", false},
		{"many fields", "HTTP/1.1 200 OK\r\n" + strings.Repeat("A: b\r\n", 10_000) + "Content-Length: 2\r\n\r\nok", false},
		{"hints without end", strings.Repeat("HTTP/1.1 103 Hints\r\n\r\n", 10_000) + ok, false},
	} {
		both(t, func(t *testing.T, own bool, start func(*http.Transport) roundTripper) {
			t.Run(test.name, func(t *testing.T) {
				s := serve(t, says(test.text))
				base := settings()
				base.MaxResponseHeaderBytes = 10_000
				_, body, err := fetch(start(base), newRequest(t, "GET", s.url, nil))
				if (err == nil) != test.allowed || test.allowed && body != "ok" {
					t.Errorf("%q, %v", body, err)
				}
				if err != nil && own && !strings.Contains(err.Error(), "10000") {
					t.Errorf("the error does not tell the limit: %v", err)
				}
			})
		})
	}
}

// TestHintsCountTowardsLimit is a decision: an http.Transport reads hints
// without end if somebody takes them.
func TestHintsCountTowardsLimit(t *testing.T) {
	s := serve(t, says(strings.Repeat("HTTP/1.1 103 Hints\r\n\r\n", 10_000)+ok))
	base := settings()
	base.MaxResponseHeaderBytes = 10_000
	n := 0
	r := traced(newRequest(t, "GET", s.url, nil), &httptrace.ClientTrace{Got1xxResponse: func(int, textproto.MIMEHeader) error { n++; return nil }})
	if _, _, err := fetch(start(t, true, base), r); err == nil || n == 0 {
		t.Errorf("%d hints, %v", n, err)
	}
}

func TestHintsRefused(t *testing.T) {
	enough := errors.New("enough")
	both(t, func(t *testing.T, own bool, start func(*http.Transport) roundTripper) {
		s := serve(t, says("HTTP/1.1 103 Hints\r\n\r\n"+ok))
		r := traced(newRequest(t, "GET", s.url, nil), &httptrace.ClientTrace{Got1xxResponse: func(int, textproto.MIMEHeader) error { return enough }})
		if _, _, err := fetch(start(nil), r); !errors.Is(err, enough) {
			t.Error(err)
		}
	})
}

// TestLargeBody goes through many buffers.
func TestLargeBody(t *testing.T) {
	content := strings.Repeat("0123456789abcdef", 1<<16)
	both(t, func(t *testing.T, own bool, start func(*http.Transport) roundTripper) {
		s := serve(t, says(
			"HTTP/1.1 200 OK\r\nContent-Length: "+strconv.Itoa(len(content))+"\r\n\r\n"+content,
			"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"+strconv.FormatInt(int64(len(content)), 16)+"\r\n"+content+"\r\n0\r\n\r\n",
		))
		rt := start(nil)
		for range 2 {
			if _, body, err := fetch(rt, newRequest(t, "GET", s.url, nil)); body != content || err != nil {
				t.Errorf("%d bytes, %v", len(body), err)
			}
		}
		if n := s.connections(); n != 1 {
			t.Errorf("%d connections", n)
		}
	})
}

// TestEarlyClose closes bodies before their end. What is here already is no
// reason to lose the connection.
func TestEarlyClose(t *testing.T) {
	for _, test := range []struct {
		name, text string
		read       int
		reused     bool
	}{
		{"nothing read", ok, 0, true},
		{"half read", ok, 1, true},
		{"end of chunks not seen", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 2, true},
		{"more to come", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", 1, false},
		{"much here and more to come", "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + strings.Repeat("x", 10_000), 1, false},
		{"chunks to come", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", 2, false},
		{"until the end", "HTTP/1.1 200 OK\r\n\r\nok", 1, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := serve(t, says(test.text))
			rt := start(t, true, nil)
			for range 2 {
				resp, err := rt.RoundTrip(newRequest(t, "GET", s.url, nil))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(resp.Body, make([]byte, test.read)); err != nil {
					t.Fatal(err)
				}
				for range 2 {
					if err := resp.Body.Close(); err != nil {
						t.Error(err)
					}
				}
				if n, err := resp.Body.Read(make([]byte, 1)); n != 0 || err == nil {
					t.Errorf("read after close: %d, %v", n, err)
				}
			}
			if n := s.connections(); (n == 1) != test.reused {
				t.Errorf("%d connections", n)
			}
		})
	}
}

// TestCloseDuringRead closes a body that another goroutine waits for.
func TestCloseDuringRead(t *testing.T) {
	both(t, func(t *testing.T, own bool, start func(*http.Transport) roundTripper) {
		s := serve(t, says("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok"))
		resp, err := start(nil).RoundTrip(newRequest(t, "GET", s.url, nil))
		if err != nil {
			t.Fatal(err)
		}
		begun, ended := make(chan bool), make(chan error, 1)
		go func() {
			_, err := io.ReadFull(resp.Body, make([]byte, 2))
			close(begun)
			if err == nil {
				_, err = resp.Body.Read(make([]byte, 1))
			}
			ended <- err
		}()
		<-begun
		resp.Body.Close()
		if err := testwait.Receive(t, ended, "the read"); err == nil {
			t.Error("no error")
		}
	})
}

// TestPipeline checks that responses and requests are not mixed up over many
// uses of few connections.
func TestPipeline(t *testing.T) {
	s := serve(t, func(c net.Conn, r *bufio.Reader) {
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			body, err := io.ReadAll(req.Body)
			if err != nil {
				t.Error(err)
			}
			resp := &http.Response{ProtoMajor: 1, ProtoMinor: 1, StatusCode: 200, ContentLength: -1, Request: req}
			resp.Body = io.NopCloser(strings.NewReader(req.RequestURI + " " + string(body)))
			resp.TransferEncoding = []string{"chunked"}
			resp.Write(c)
		}
	})
	rt := start(t, true, nil)
	done := make(chan []string)
	const clients, rounds = 8, 100
	for i := range clients {
		go func() {
			var bad []string
			for j := range rounds {
				path := "/" + strconv.Itoa(i) + "/" + strconv.Itoa(j)
				r, _ := http.NewRequestWithContext(t.Context(), "POST", s.url+path, strings.NewReader(strings.Repeat("x", j)))
				if _, body, err := fetch(rt, r); err != nil || body != path+" "+strings.Repeat("x", j) {
					bad = append(bad, path)
				}
			}
			done <- bad
		}()
	}
	for range clients {
		if bad := testwait.Receive(t, done, "a client"); !slices.Equal(bad, nil) {
			t.Errorf("wrong answers: %v", bad)
		}
	}
	// A connection may be begun while another becomes free.
	if n := s.connections(); n > 2*clients {
		t.Errorf("%d connections for %d clients", n, clients)
	}
}
