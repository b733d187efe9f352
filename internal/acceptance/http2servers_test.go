package acceptance_test

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/http2test"
	"github.com/limpetlb/limpet/lbpool"
)

// serveRawHTTP2 is a server of HTTP/2 that answers each request with these
// fields, valid or not, and a body.
func serveRawHTTP2(t *testing.T, body string, fields ...string) string {
	t.Helper()
	return framedH2(t, func(f *http2.Framer, stream uint32) {
		http2test.Header(f, stream, fields...)
		if fields[1][0] == '1' { // informational; another header follows
			http2test.Header(f, stream, ":status", "200")
		}
		_ = f.WriteData(stream, true, []byte(body))
	})
}

// A server of HTTP/2 frames its answers without the help of fields, so that
// nobody minds what they say. A client of HTTP/1 does: it got both of two
// lengths, was told to switch protocols in the middle of HTTP, and lost its
// connection over a body of a response that has none.
func TestAnswersOverHTTP2(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		body   string
		fields []string
		status int
		length []string
	}{
		{"a length", "hello", []string{":status", "200", "content-length", "5"}, 200, []string{"5"}},
		{"no length", "hello", []string{":status", "200"}, 200, nil},
		{"twice the same length", "hello", []string{":status", "200", "content-length", "5", "content-length", "5"}, 200, []string{"5"}},
		{"two lengths", "hello", []string{":status", "200", "content-length", "5", "content-length", "10"}, 502, nil},
		{"no number", "hello", []string{":status", "200", "content-length", "abc"}, 502, nil},
		{"a sign", "hello", []string{":status", "200", "content-length", "+5"}, 502, nil},
		{"a list", "hello", []string{":status", "200", "content-length", "5, 5"}, 502, nil},
		{"switching protocols", "hello", []string{":status", "101"}, 502, nil},
		{"hints", "hello", []string{":status", "103", "link", "</x>"}, 200, nil},
		{"no content, and a body", "hello", []string{":status", "204"}, 204, nil},
		{"no content, with a length", "hello", []string{":status", "204", "content-length", "5"}, 204, nil},
		{"not modified, and a body", "hello", []string{":status", "304"}, 304, nil},
	} {
		for name, transport := range map[string]func(*http.Transport) http.RoundTripper{
			"NewHTTP1": lbpool.NewHTTP1, "NewBase": func(base *http.Transport) http.RoundTripper { return base },
			"Protocol, NewHTTP1": lbpool.NewHTTP1, "Protocol, NewBase": func(base *http.Transport) http.RoundTripper { return base },
		} {
			t.Run(test.name+"/"+name, func(t *testing.T) {
				base := lbpool.NewBase()
				cfg := lbpool.Config{Name: "my_pool", Servers: []lbpool.ServerConfig{{Address: serveRawHTTP2(t, test.body, test.fields...)}}}
				if strings.HasPrefix(name, "Protocol") {
					cfg.Protocol = lbpool.ProtocolH2C
				} else {
					base.Protocols = new(http.Protocols)
					base.Protocols.SetUnencryptedHTTP2(true)
				}
				pool := newPool(t, cfg)
				_, site := serve(t, http1, limpet.Config{Pools: []*lbpool.Pool{pool}, Transport: transport(base)})
				r := send(t, site.dial(t, ""), "GET / HTTP/1.1\nHost: a\n\nGET / HTTP/1.1\nHost: a\nConnection: close\n\n")
				for range 2 {
					res, err := readAnswer(r)
					if err != nil {
						t.Fatal(err)
					}
					body, err := io.ReadAll(res.Body)
					if err != nil || res.StatusCode != test.status || res.StatusCode == 200 && string(body) != test.body {
						t.Errorf("%s %q, %v, want %d", res.Status, body, err, test.status)
					}
					if got := res.Header["Content-Length"]; res.StatusCode == 200 && len(got) != len(test.length) {
						t.Errorf("lengths %q, want %q", got, test.length)
					}
				}
			})
		}
	}
}

// readAnswer reads the next response that is not informational.
func readAnswer(r *bufio.Reader) (*http.Response, error) {
	for {
		res, err := http.ReadResponse(r, nil)
		if err != nil || res.StatusCode >= 200 || res.StatusCode == http.StatusSwitchingProtocols {
			return res, err
		}
	}
}
