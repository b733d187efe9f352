package acceptance_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/lbpool"
)

// smugglingForms are requests about whose end, or whose target, two programs
// might disagree. "@" stands for a path that is the form's own; a bare line
// break is one of CR and LF. Behind each form, on the same connection, comes a
// harmless request.
//
// forwarded are the requests that go on to the server, the harmless one not
// counted. Behind "!" the connection ends: what is sent behind the form is no
// request, because the form's body has no end. Nil means that the form is
// refused, and so is all that comes behind it.
var smugglingForms = []struct {
	name, form string
	forwarded  []string
}{
	{"plain", "GET @ HTTP/1.1\nHost: a\n\n", []string{"GET @ a"}},
	{"pipelined", "GET @/1 HTTP/1.1\nHost: a\n\nGET @/2 HTTP/1.1\nHost: a\n\n", []string{"GET @/1 a", "GET @/2 a"}},
	{"body", "POST @ HTTP/1.1\nHost: a\nContent-Length: 5\n\nGET /", []string{"POST @ a"}},
	{"chunked", "POST @ HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n5\nGET /\n0\n\n", []string{"POST @ a"}},
	{"body of a GET", "GET @ HTTP/1.1\nHost: a\nContent-Length: 5\n\nGET /", []string{"GET @ a"}},

	// Length and chunks together: the chunks count (RFC 9112, section 6.1), and
	// the server gets no length.
	{"length 0 and chunks", "POST @ HTTP/1.1\nHost: a\nContent-Length: 0\nTransfer-Encoding: chunked\n\n5\nGET /\n0\n\n", []string{"POST @ a"}},
	{"length and chunks", "POST @ HTTP/1.1\nHost: a\nContent-Length: 4\nTransfer-Encoding: chunked\n\n0\n\n", []string{"POST @ a"}},
	{"chunks and length", "POST @ HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\nContent-Length: 6\n\n0\n\n", []string{"POST @ a"}},
	{"length that hides a request, and chunks", "POST @ HTTP/1.1\nHost: a\nContent-Length: 40\nTransfer-Encoding: chunked\n\n0\n\nGET @/2 HTTP/1.1\nHost: a\n\n",
		[]string{"POST @ a", "GET @/2 a"}},
	{"lengths that differ, and chunks", "POST @ HTTP/1.1\nHost: a\nContent-Length: 4\nContent-Length: 5\nTransfer-Encoding: chunked\n\n0\n\n", nil},

	{"two lengths", "POST @ HTTP/1.1\nHost: a\nContent-Length: 4\nContent-Length: 5\n\nabcde", nil},
	{"two lengths that agree", "POST @ HTTP/1.1\nHost: a\nContent-Length: 4\nContent-Length: 4\n\nabcd", []string{"POST @ a"}},
	{"list of lengths", "POST @ HTTP/1.1\nHost: a\nContent-Length: 4, 4\n\nabcd", nil},
	{"length +5", "POST @ HTTP/1.1\nHost: a\nContent-Length: +5\n\nabcde", nil},
	{"length -5", "POST @ HTTP/1.1\nHost: a\nContent-Length: -5\n\nabcde", nil},
	{"length 0x5", "POST @ HTTP/1.1\nHost: a\nContent-Length: 0x5\n\nabcde", nil},
	{"length 5_0", "POST @ HTTP/1.1\nHost: a\nContent-Length: 5_0\n\nabcde", nil},
	{"length 5.0", "POST @ HTTP/1.1\nHost: a\nContent-Length: 5.0\n\nabcde", nil},
	{"length 5e0", "POST @ HTTP/1.1\nHost: a\nContent-Length: 5e0\n\nabcde", nil},
	{"length of two words", "POST @ HTTP/1.1\nHost: a\nContent-Length: 5 5\n\nabcde", nil},
	{"empty length", "POST @ HTTP/1.1\nHost: a\nContent-Length:\n\n", nil},
	{"length 007", "POST @ HTTP/1.1\nHost: a\nContent-Length: 007\n\nabcdefg", []string{"POST @ a"}},
	{"huge length", "POST @ HTTP/1.1\nHost: a\nContent-Length: 18446744073709551621\n\nabcde", nil},
	{"length with vertical tab", "POST @ HTTP/1.1\nHost: a\nContent-Length: \x0b5\n\nabcde", nil},
	{"length with NUL", "POST @ HTTP/1.1\nHost: a\nContent-Length: 5\x00\n\nabcde", nil},
	{"length with a blank before the colon", "POST @ HTTP/1.1\nHost: a\nContent-Length : 5\n\nabcde", nil},
	{"length with a tab before the colon", "POST @ HTTP/1.1\nHost: a\nContent-Length\t: 5\n\nabcde", nil},
	{"length with an underscore", "POST @ HTTP/1.1\nHost: a\nContent_Length: 5\n\n", []string{"POST @ a"}},
	{"length in a folded line", "POST @ HTTP/1.1\nHost: a\nX-A: b\n Content-Length: 5\n\n", []string{"POST @ a"}},
	{"folded length", "POST @ HTTP/1.1\nHost: a\nContent-Length:\n 5\n\nabcde", []string{"POST @ a"}},
	{"first header folded", "POST @ HTTP/1.1\n Host: a\nContent-Length: 5\n\nabcde", nil},

	{"unknown coding", "POST @ HTTP/1.1\nHost: a\nTransfer-Encoding: gzip\n\nabc", nil},
	{"identity", "POST @ HTTP/1.1\nHost: a\nTransfer-Encoding: identity\nContent-Length: 3\n\nabc", nil},
	{"xchunked", "POST @ HTTP/1.1\nHost: a\nTransfer-Encoding: xchunked\n\n0\n\n", nil},
	{"two codings", "POST @ HTTP/1.1\nHost: a\nTransfer-Encoding: gzip, chunked\n\n0\n\n", nil},
	{"chunked twice", "POST @ HTTP/1.1\nHost: a\nTransfer-Encoding: chunked, chunked\n\n0\n\n", nil},
	{"chunked, identity", "POST @ HTTP/1.1\nHost: a\nTransfer-Encoding: chunked, identity\n\n0\n\n", nil},
	{"two lines of codings", "POST @ HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\nTransfer-Encoding: identity\n\n0\n\n", nil},
	{"two lines of chunked", "POST @ HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\nTransfer-Encoding: chunked\n\n0\n\n", nil},
	{"CHUNKED", "POST @ HTTP/1.1\nHost: a\nTransfer-Encoding: CHUNKED\n\n0\n\n", []string{"POST @ a"}},
	{"chunked with a tab", "POST @ HTTP/1.1\nHost: a\nTransfer-Encoding:\tchunked\n\n0\n\n", []string{"POST @ a"}},
	{"chunked with a vertical tab", "POST @ HTTP/1.1\nHost: a\nTransfer-Encoding: \x0bchunked\n\n0\n\n", nil},
	{"chunked in quotes", "POST @ HTTP/1.1\nHost: a\nTransfer-Encoding: \"chunked\"\n\n0\n\n", nil},
	{"coding with a blank before the colon", "POST @ HTTP/1.1\nHost: a\nTransfer-Encoding : chunked\n\n0\n\n", nil},
	{"coding with an underscore", "POST @ HTTP/1.1\nHost: a\nTransfer_Encoding: chunked\nContent-Length: 5\n\n0\n\n", []string{"POST @ a"}},
	{"coding in a folded line", "POST @ HTTP/1.1\nHost: a\nX-A: b\n Transfer-Encoding: chunked\nContent-Length: 5\n\n0\n\n", []string{"POST @ a"}},
	{"folded coding", "POST @ HTTP/1.1\nHost: a\nTransfer-Encoding:\n chunked\n\n0\n\n", []string{"POST @ a"}},
	{"empty coding", "POST @ HTTP/1.1\nHost: a\nTransfer-Encoding:\nContent-Length: 3\n\nabc", nil},
	// HTTP/1.0 knows no chunks: there is no body, and what follows is no
	// request.
	{"chunks of HTTP/1.0", "POST @ HTTP/1.0\nHost: a\nConnection: keep-alive\nTransfer-Encoding: chunked\n\n0\n\n", []string{"POST @ a", "!"}},

	{"chunk extension", "POST @ HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n5;a=b\nGET /\n0;c\n\n", []string{"POST @ a"}},
	{"chunk extension with a line break", "POST @ HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n2;\x0axx\n0\n\n", []string{"POST @ a"}},
	{"chunk of size +5", "POST @ HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n+5\nGET /\n0\n\n", []string{"POST @ a", "!"}},
	{"chunk of size 0x5", "POST @ HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n0x5\nGET /\n0\n\n", []string{"POST @ a", "!"}},
	{"chunk longer than it says", "POST @ HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n4\nGET /\n0\n\n", []string{"POST @ a", "!"}},
	{"chunk too large to count", "POST @ HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n10000000000000005\nGET /\n0\n\n", []string{"POST @ a", "!"}},
	{"trailer with a length", "POST @ HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n0\nContent-Length: 5\n\n", []string{"POST @ a"}},
	{"chunk size in upper case", "POST @ HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\nA\n0123456789\n0\n\n", []string{"POST @ a"}},
	{"chunk size with zeros in front", "POST @ HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n0005\nGET /\n000\n\n", []string{"POST @ a"}},

	{"bare LF", "GET @ HTTP/1.1\x0aHost: a\x0a\x0a", []string{"GET @ a"}},
	{"bare LF before a header", "POST @ HTTP/1.1\nHost: a\x0aContent-Length: 5\n\nGET /", []string{"POST @ a"}},
	{"bare LF before a coding", "POST @ HTTP/1.1\nHost: a\nX-A: b\x0aTransfer-Encoding: chunked\n\n0\n\n", []string{"POST @ a"}},
	{"bare LF at the end of the header", "GET @ HTTP/1.1\nHost: a\n\x0a", []string{"GET @ a"}},
	{"bare CR in a value", "GET @ HTTP/1.1\nHost: a\nX-A: b\rX-B: c\n\n", nil},
	{"bare CR before a length", "POST @ HTTP/1.1\nHost: a\nX-A: b\rContent-Length: 5\n\nabcde", nil},
	{"NUL in a value", "GET @ HTTP/1.1\nHost: a\nX-A: b\x00c\n\n", nil},
	{"NUL in a name", "GET @ HTTP/1.1\nHost: a\nX\x00A: b\n\n", nil},
	{"line break in front", "\nGET @ HTTP/1.1\nHost: a\n\n", nil},
	{"no name", "GET @ HTTP/1.1\nHost: a\n: b\n\n", nil},
	{"no colon", "GET @ HTTP/1.1\nHost: a\nContent-Length\n\n", nil},

	{"two Hosts", "GET @ HTTP/1.1\nHost: a\nHost: b\n\n", nil},
	{"two Hosts that agree", "GET @ HTTP/1.1\nHost: a\nHost: a\n\n", nil},
	{"no Host", "GET @ HTTP/1.1\nX-A: b\n\n", nil},
	{"Host with a blank", "GET @ HTTP/1.1\nHost: a b\n\n", nil},
	{"Host with a path", "GET @ HTTP/1.1\nHost: a/b\n\n", nil},
	{"Host before the colon", "GET @ HTTP/1.1\nHost : a\n\n", nil},
	{"Host in a folded line", "GET @ HTTP/1.1\nHost: a\n b\n\n", nil},
	// The target's host counts, and the header Host does not (RFC 9112, section
	// 3.2.2).
	{"absolute form", "GET http://b@ HTTP/1.1\nHost: a\n\n", []string{"GET @ b"}},
	{"absolute form of another scheme", "GET https://b@ HTTP/1.1\nHost: a\n\n", []string{"GET @ b"}},
	{"absolute form and two Hosts", "GET http://b@ HTTP/1.1\nHost: a\nHost: b\n\n", nil},
	{"absolute form with a user", "GET http://u:p@b@ HTTP/1.1\nHost: a\n\n", nil},

	{"three words and more", "GET @ HTTP/1.1 HTTP/1.1\nHost: a\n\n", nil},
	{"two words", "GET @\nHost: a\n\n", nil},
	{"HTTP/1.2", "GET @ HTTP/1.2\nHost: a\n\n", []string{"GET @ a"}},
	{"HTTP/2.0", "GET @ HTTP/2.0\nHost: a\n\n", nil},
	{"HTTP/01.1", "GET @ HTTP/01.1\nHost: a\n\n", nil},
	{"http/1.1", "GET @ http/1.1\nHost: a\n\n", nil},
	{"method with a colon", "GE:T @ HTTP/1.1\nHost: a\n\n", nil},
	{"tab in place of a blank", "GET\t@ HTTP/1.1\nHost: a\n\n", nil},
	{"two blanks", "GET  @ HTTP/1.1\nHost: a\n\n", nil},
	{"control character in the target", "GET @\x01 HTTP/1.1\nHost: a\n\n", nil},
	{"target without a slash", "GET a@ HTTP/1.1\nHost: a\n\n", nil},
	{"CONNECT", "CONNECT b:443 HTTP/1.1\nHost: b:443\nConnection: close\n\n", nil},
}

// A tap keeps what is sent to a listener's connections.
type tap struct {
	net.Listener
	mu   sync.Mutex
	sent []*bytes.Buffer
}

func (w *tap) Accept() (net.Conn, error) {
	c, err := w.Listener.Accept()
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	b := new(bytes.Buffer)
	w.sent = append(w.sent, b)
	return &tappedConn{c, w, b}, nil
}

type tappedConn struct {
	net.Conn
	tap  *tap
	sent *bytes.Buffer
}

func (c *tappedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.tap.mu.Lock()
	defer c.tap.mu.Unlock()
	c.sent.Write(b[:n])
	return n, err
}

// requests reads what has been sent, strictly: by the letter of RFC 9112 there
// is one way to read it. A body that is cut off with its connection is no
// fault.
func (w *tap) requests(t *testing.T) (seen []string) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, sent := range w.sent {
		for r := bufio.NewReader(sent); ; {
			if _, err := r.Peek(1); err != nil {
				break
			}
			var header []string
			for line := "-"; line != ""; {
				text, err := r.ReadString('\n')
				line = strings.TrimSuffix(text, "\r\n")
				if err != nil || !strings.HasSuffix(text, "\r\n") || strings.ContainsAny(line, "\r\n\x00") || strings.HasPrefix(line, " ") {
					t.Fatalf("the server was sent the line %q (%v)", text, err)
				}
				header = append(header, line)
			}
			field := func(name string) (values []string) {
				for _, line := range header[1:] {
					if n, value, ok := strings.Cut(line, ": "); ok && strings.EqualFold(n, name) {
						values = append(values, value)
					}
				}
				return values
			}
			words, host := strings.Split(header[0], " "), field("Host")
			length, coding := field("Content-Length"), field("Transfer-Encoding")
			if len(words) != 3 || words[2] != "HTTP/1.1" || len(host) != 1 || len(length)+len(coding) > 1 || len(coding) == 1 && coding[0] != "chunked" {
				t.Fatalf("the server was sent the header %q", header)
			}
			seen = append(seen, words[0]+" "+words[1]+" "+host[0])
			var body io.Reader = http.NoBody
			if len(coding) == 1 {
				body = httputil.NewChunkedReader(r)
			} else if len(length) == 1 {
				n, err := strconv.ParseUint(length[0], 10, 32)
				if err != nil {
					t.Fatal(err)
				}
				body = io.LimitReader(r, int64(n))
			}
			if _, err := io.Copy(io.Discard, body); err != nil {
				break
			}
			for line := "-"; len(coding) == 1 && line != "\r\n" && line != ""; { // the trailer
				line, _ = r.ReadString('\n')
			}
		}
	}
	return seen
}

// The server gets the requests that the virtual service has forwarded, those
// that were expected, and no other, whatever the client has sent. There is one
// way to read them.
func TestSmuggling(t *testing.T) {
	t.Parallel()
	t.Run("Go", func(t *testing.T) {
		sent := &tap{Listener: listen(t, "127.0.1.1:0")}
		var mu sync.Mutex
		var seen []string
		server := startSite(t, http1, sent, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, r.Method+" "+r.RequestURI+" "+r.Host)
		}))
		testSmuggling(t, server.Addr, func() []string {
			if diff := cmp.Diff(slices.Sorted(slices.Values(seen)), slices.Sorted(slices.Values(sent.requests(t)))); diff != "" {
				t.Errorf("on the wire: - as read by the server, + by the letter\n%s", diff)
			}
			return seen
		})
	})
	t.Run("nginx", func(t *testing.T) {
		// A proxy reads the body before it asks, so that it does not answer too
		// early for the connection to go on.
		addr, log := startNginx(t, `location / { proxy_pass http://inner; }`)
		testSmuggling(t, addr, log)
	})
}

func testSmuggling(t *testing.T, server string, seen func() []string) {
	recs := newRecords()
	vs, site := serve(t, http1, limpet.Config{
		Pools: []*lbpool.Pool{poolOf(t, lbpool.ServerConfig{Address: server})}, OnComplete: recs.add,
	})
	var want []string
	for i, form := range smugglingForms {
		own := strings.NewReplacer("@b@", "@b/f"+fmt.Sprint(i), "@", "/f"+fmt.Sprint(i))
		for _, line := range form.forwarded {
			want = append(want, own.Replace(line))
		}
		switch n := len(want) - 1; {
		case form.forwarded == nil:
		case want[n] == "!":
			want = want[:n]
		default:
			want = append(want, own.Replace("GET @/behind z"))
		}
		c := site.dial(t, "")
		r := send(t, c, own.Replace(form.form+"GET @/behind HTTP/1.1\nHost: z\nConnection: close\n\n"))
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Errorf("%s: %v", form.name, err)
			continue
		}
		refused := res.StatusCode == 400 || res.StatusCode == 501 || res.StatusCode == 505
		// A body that turns out malformed is answered so, after its request
		// went on.
		cut := len(form.forwarded) > 0 && form.forwarded[len(form.forwarded)-1] == "!"
		if refused != (form.forwarded == nil) && !(cut && refused) {
			t.Errorf("%s: %s", form.name, res.Status)
		}
		_, _ = io.Copy(io.Discard, r) // a reset, if there was more than was read
		c.Close()
	}
	site.stop()
	vs.CloseIdleConnections()

	var believed []string
	recs.mu.Lock()
	for _, rec := range recs.list {
		if rec.Tried > 0 {
			believed = append(believed, rec.Method+" "+rec.Path+" "+rec.Host)
		}
	}
	recs.mu.Unlock()
	sorted := func(list []string) []string { return slices.Sorted(slices.Values(list)) }
	if diff := cmp.Diff(sorted(want), sorted(believed)); diff != "" {
		t.Errorf("forwarded: - as expected, + by the records\n%s", diff)
	}
	if diff := cmp.Diff(sorted(believed), sorted(seen())); diff != "" {
		t.Errorf("- as forwarded, + as the server saw it\n%s", diff)
	}
}
