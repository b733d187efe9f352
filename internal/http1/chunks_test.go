package http1

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const chunkedHead = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

// A pieces is a source that gives a text in pieces of size bytes, and calls
// before each with how much it has given.
type pieces struct {
	rest   string
	size   int
	given  string
	before func(given string)
}

func (s *pieces) Read(p []byte) (int, error) {
	s.before(s.given)
	n := copy(p, s.rest[:min(len(s.rest), s.size)])
	s.given += s.rest[:n]
	if s.rest = s.rest[n:]; n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// A decoded body is what a reader has made of a text.
type decoded struct {
	Data    string
	Whole   bool
	Trailer http.Header
	Behind  string // what is left behind a whole body
}

// FuzzChunks compares a chunkReader with net/http's: the same data, the same
// verdict, the same trailer, and as much left over. In addition it must never
// wait for more as long as it has something to give.
func FuzzChunks(f *testing.F) {
	for _, seed := range []string{
		"5\r\nhello\r\n0\r\n\r\n", "50\r\nhello", "1\r\na\r\n1\r\nb\r\n0\r\nX-T: 1\r\n\r\nrest", // usual
		"5\nhello\n0\n\n", "5\rhello\r\n", "5\r\nhello\n0\r\n\r\n", "\r\n", "5\r\r\nhello\r\n", // line breaks
		"5;a=b\r\nhello\r\n0;c\r\n\r\n", "5 \t\r\nhello\r\n0\r\n\r\n", "5 ;a\r\nhello\r\n", " 5\r\nhello\r\n", // around sizes
		"\r\nhello", "g\r\n", "-5\r\n", "0x5\r\n", "FfFf\r\n", "00000000000000005\r\n", // sizes
		"ffffffffffffffff\r\nab", "7fffffffffffffff\r\nab", "4000000000000000\r\nab", "3fffffffffffffff\r\nab", "10000000000000000\r\n",
		"0\r\nX-T: 1\x00\x01\r\n\r\n", "0\r\n a: b\r\n\r\n", "0\r\nX : 1\r\n\r\n", "0\r\nX: 1\n\nY: 2\r\n\r\n", "0\r\n\n", "0\r\nX: 1", // trailers
		strings.Repeat("1;"+strings.Repeat("x", 900)+"\r\na\r\n", 30) + "0\r\n\r\n", // too much besides the data
		"1;" + strings.Repeat("x", 4092) + "\r\na\r\n0\r\n\r\n", "1;" + strings.Repeat("x", 4093) + "\r\na\r\n", strings.Repeat("0", 5000),
		"1\r\na\r\n0;" + strings.Repeat("x", 4093) + "\r\n\r\n", "0\r\nX: " + strings.Repeat("x", 5000) + "\r\n\r\n", "1000\r\n" + strings.Repeat("x", 4096) + "\r\n0\r\n\r\n",
	} {
		f.Add(seed, uint16(1), uint16(3))
		f.Add(seed, uint16(7), uint16(512))
		f.Add(seed, uint16(60000), uint16(60000))
	}
	f.Fuzz(func(t *testing.T, text string, size, room uint16) {
		part, space := max(int(size), len(text)/200, 1), max(int(room), len(text)/200, 1) // lest it take long
		want := decodeChunks(t, text, part, space, false)
		got := decodeChunks(t, text, part, space, true)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("of %q in pieces of %d (-net/http +own):\n%s", text, part, diff)
		}
	})
}

// decodeChunks reads a body in chunks into a buffer with that much room.
func decodeChunks(t *testing.T, text string, size, room int, own bool) (d decoded) {
	var data []byte
	s := &pieces{rest: text, size: size, before: func(string) {}}
	source := &struct{ io.Reader }{strings.NewReader(chunkedHead)}
	br := bufio.NewReaderSize(source, 4096)
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	source.Reader = s
	var body io.Reader = resp.Body
	if own {
		r := &chunkReader{br: br, end: resp.Body}
		body = r
		s.before = func(given string) {
			if here, _ := io.ReadAll(httputil.NewChunkedReader(bufio.NewReader(strings.NewReader(given)))); len(here) > len(data) && bytes.HasPrefix(here, data) {
				t.Errorf("of %q: waits for more behind %q with %q given", text, given, data)
			}
		}
	}
	buffer := make([]byte, room)
	for err == nil {
		var n int
		if own {
			r := body.(*chunkReader)
			asked := s.before
			if r.here() > 0 {
				s.before = func(given string) {
					t.Errorf("of %q: waits behind %q, where it has said that it would not", text, given)
				}
			}
			n, err = r.Read(buffer)
			s.before = asked
		} else {
			n, err = body.Read(buffer)
		}
		if n == 0 && err == nil {
			t.Fatalf("of %q: nothing behind %q", text, data)
		}
		data = append(data, buffer[:n]...)
	}
	d = decoded{Data: string(data), Whole: err == io.EOF}
	if d.Whole {
		d.Trailer = resp.Trailer
		behind, _ := br.Peek(br.Buffered())
		d.Behind = string(behind) + s.rest
	}
	return d
}

// BenchmarkChunks reads bodies in chunks of several sizes.
func BenchmarkChunks(b *testing.B) {
	for _, size := range []int{64, 4 << 10, 32 << 10} {
		text := strings.Repeat(fmt.Sprintf("%x\r\n%s\r\n", size, strings.Repeat("x", size)), 1<<20/size) + "0\r\n\r\n"
		for _, own := range []bool{false, true} {
			b.Run(fmt.Sprintf("%d/own=%t", size, own), func(b *testing.B) {
				buffer := make([]byte, 32<<10)
				b.SetBytes(1 << 20)
				for b.Loop() {
					br := bufio.NewReader(io.MultiReader(strings.NewReader(chunkedHead), strings.NewReader(text)))
					resp, err := http.ReadResponse(br, nil)
					if err != nil {
						b.Fatal(err)
					}
					var body io.Reader = resp.Body
					if own {
						body = &chunkReader{br: br, end: resp.Body}
					}
					for err == nil {
						_, err = body.Read(buffer)
					}
					if err != io.EOF {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
