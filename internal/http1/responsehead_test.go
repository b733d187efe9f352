package http1

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/limpetlb/limpet/internal/httpfield"
)

// TestConnectionField compares what is found of the field Connection with what
// the standard library's parser makes of the whole header, which is the naive
// twin. Responses follow each other, informational ones among them, and behind
// the last there is a body that looks like a header. They come in any pieces,
// partly before anybody looks, and through buffers that may be smaller than a
// line.
func TestConnectionField(t *testing.T) {
	blank := rapid.SampledFrom([]string{"", " ", "\t", "  \t"})
	list := rapid.SampledFrom([]string{
		"", "close", "Close", "keep-alive", "close, X-Secret", "x-a,close ,x-b", ",, close ,", "connection: x", "clo",
		"upgrade", "close" + strings.Repeat(" ", 30), strings.Repeat("x-long,", 40),
	})
	name := rapid.SampledFrom([]string{
		"Connection", "connection", "CONNECTION", "cOnNeCtIoN", "Connection", "Connectio", "Connections", "C",
		"Content-Length-Not", "Cookie", "c-Connection", "Proxy-Connection", "X", "Konnection", "Connection-",
	})
	found, lost := 0, 0
	check := func(t *rapid.T) {
		var sent strings.Builder
		line := func(text string) {
			sent.WriteString(text + rapid.SampledFrom([]string{"\r\n", "\n"}).Draw(t, "line end"))
		}
		var want [][]string
		for responses := rapid.IntRange(1, 3).Draw(t, "responses"); responses > 0; responses-- {
			line(rapid.SampledFrom([]string{
				"HTTP/1.1 200 OK", "HTTP/1.1 103 Early Hints", "HTTP/1.1 200 Connection: x", "HTTP/1.1 200 OK" + strings.Repeat("!", 40),
			}).Draw(t, "status"))
			begin := sent.Len()
			for range rapid.IntRange(0, 6).Draw(t, "fields") {
				line(name.Draw(t, "name") + ":" + blank.Draw(t, "before") + list.Draw(t, "value") + blank.Draw(t, "after"))
			}
			line("")
			twin, err := textproto.NewReader(bufio.NewReader(strings.NewReader(sent.String()[begin:]))).ReadMIMEHeader()
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, twin["Connection"])
		}
		sent.WriteString("Connection: of-the-body\r\n\r\n")

		c := &conn{t: &Transport{maxHeader: unlimited}, limit: unlimited}
		c.rw = &piecemeal{rest: sent.String(), size: func() int { return rapid.IntRange(1, 60).Draw(t, "piece") }}
		c.br = bufio.NewReaderSize(c, rapid.SampledFrom([]int{16, 64, 4096}).Draw(t, "buffer"))
		for i, want := range want {
			if rapid.Bool().Draw(t, "peeked") {
				_, _ = c.br.Peek(1)
			}
			resp, err := c.readResponse(&http.Request{Method: http.MethodHead})
			if err != nil {
				t.Fatal(err)
			}
			header := http.Header{"Connection": want}
			got := resp.Header["Connection"]
			switch {
			case !httpfield.HasToken(want, "close"):
			case len(want) == 1 && strings.EqualFold(strings.TrimSpace(want[0]), "close"):
				header["Connection"] = nil
				lost++
			default:
				found++
			}
			if diff := cmp.Diff(header["Connection"], got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("response %d of %q: - want + got:\n%s", i, sent.String(), diff)
			}
			if resp.Close != httpfield.HasToken(want, "close") {
				t.Errorf("response %d of %q: close is %v", i, sent.String(), resp.Close)
			}
		}
		if rest, err := io.ReadAll(c.br); string(rest) != "Connection: of-the-body\r\n\r\n" || err != nil {
			t.Errorf("behind it: %q, %v", rest, err)
		}
		if c.head.state != scanNone {
			t.Error("the body is looked through")
		}
	}
	for range 20 { // a hundred times each, with -short a fifth of that
		rapid.Check(t, check)
	}
	enough := 1000
	if testing.Short() {
		enough /= 10
	}
	if found < enough || lost < enough/10 {
		t.Errorf("only %d lists with close and others, %d with close alone", found, lost)
	}
}

// piecemeal is a connection that delivers a text in pieces.
type piecemeal struct {
	net.Conn
	rest string
	size func() int
}

func (c *piecemeal) Read(p []byte) (int, error) {
	if c.rest == "" {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), c.size())], c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// TestConnectionKept says what callers get to see of the field Connection, over
// real connections. The http.Transport loses what a server that closes says in
// it, which is the difference.
func TestConnectionKept(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       []string
		lost       bool     // by an http.Transport
		informed   []string // of an informational response; always lost by an http.Transport
	}{
		{name: "none", text: ok},
		{name: "close", text: "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"},
		{name: "another", text: "HTTP/1.1 200 OK\r\nConnection: X-Secret\r\nContent-Length: 2\r\n\r\nok", want: []string{"X-Secret"}},
		{name: "close and another", text: "HTTP/1.1 200 OK\r\nConnection: close, X-Secret\r\nContent-Length: 2\r\n\r\nok",
			want: []string{"close, X-Secret"}, lost: true},
		{name: "two lines", text: "HTTP/1.1 200 OK\r\nconnection: X-Secret\r\nA: b\r\nCONNECTION: Close\r\nContent-Length: 2\r\n\r\nok",
			want: []string{"X-Secret", "Close"}, lost: true},
		{name: "behind more than a buffer", text: "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("x", 4086) + "\r\nConnection: close, X-Secret\r\nContent-Length: 2\r\n\r\nok",
			want: []string{"close, X-Secret"}, lost: true},
		{name: "HTTP/1.0", text: "HTTP/1.0 200 OK\r\nConnection: close, X-Secret\r\nContent-Length: 2\r\n\r\nok",
			want: []string{"close, X-Secret"}},
		{name: "until the end", text: "HTTP/1.1 200 OK\r\nConnection: close, X-Secret\r\n\r\nok", want: []string{"close, X-Secret"}, lost: true},
		{name: "in the body", text: "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nConnection: X-Secret\r\n\r\n"},
		{name: "hints", text: "HTTP/1.1 103 Early Hints\r\nConnection: close, X-Secret\r\n\r\n" + ok,
			informed: []string{"close, X-Secret"}},
		{name: "switch", text: "HTTP/1.1 101 Switching Protocols\r\nConnection: close, upgrade\r\nUpgrade: echo\r\n\r\n"},
	} {
		both(t, func(t *testing.T, own bool, start func(*http.Transport) roundTripper) {
			t.Run(test.name, func(t *testing.T) {
				s := serve(t, func(c net.Conn, r *bufio.Reader) {
					if _, err := readHead(r); err == nil {
						io.WriteString(c, test.text)
					}
				})
				var informed []string
				resp, _, err := fetch(start(nil), traced(newRequest(t, "GET", s.url, nil), &httptrace.ClientTrace{
					Got1xxResponse: func(_ int, header textproto.MIMEHeader) error { informed = header["Connection"]; return nil },
				}))
				if err != nil {
					t.Fatal(err)
				}
				want, wantInformed := test.want, test.informed
				if !own {
					wantInformed = nil
				}
				if !own && test.lost {
					want = nil
				}
				if got := resp.Header["Connection"]; !slices.Equal(got, want) {
					t.Errorf("Connection is %q, want %q", got, want)
				}
				if !slices.Equal(informed, wantInformed) {
					t.Errorf("Connection of the hints is %q, want %q", informed, wantInformed)
				}
			})
		})
	}
}

// TestHeadScanAllocations looks through headers that have nothing to be kept.
func TestHeadScanAllocations(t *testing.T) {
	for _, line := range []string{"", "Connection: close\r\n", "Connection: keep-alive\r\n"} {
		var f headScan
		r := bufio.NewReader(strings.NewReader(usualHeader + line + "\r\n"))
		_, _ = r.Peek(1)
		if n := testing.AllocsPerRun(100, func() {
			f.begin(r)
			if !strings.Contains(line, "keep-alive") && f.connection() != nil { // that alone is not taken away
				t.Fatal("there are values")
			}
		}); n > 0 {
			t.Errorf("%q: %.0f allocations", line, n)
		}
	}
}

const usualHeader = "HTTP/1.1 200 OK\r\nServer: nginx/1.27.1\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n" +
	"Content-Type: text/html; charset=utf-8\r\nContent-Length: 1234\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n" +
	"ETag: \"5f3-61a\"\r\nCache-Control: max-age=3600\r\nVary: Accept-Encoding\r\nAccept-Ranges: bytes\r\n"

func BenchmarkHeadScan(b *testing.B) {
	var f headScan
	r := bufio.NewReader(strings.NewReader(usualHeader + "\r\n"))
	_, _ = r.Peek(1)
	b.ReportAllocs()
	for b.Loop() {
		f.begin(r)
	}
}
