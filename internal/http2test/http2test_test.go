package http2test_test

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/net/http2"

	"github.com/limpetlb/limpet/internal/http2test"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A client of net/http understands the server, also a header of several frames.
func TestServe(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("v", 40<<10)
	http2test.Serve(t, ln, http2test.Settings, func(conn int, f *http2.Framer, stream uint32) {
		if conn != 1 {
			t.Errorf("connection %d", conn)
		}
		if stream == 1 {
			http2test.Respond(f, stream, "short")
			return
		}
		http2test.Header(f, stream, ":status", "200", "x-long", long)
		_ = f.WriteData(stream, true, []byte("long"))
	})
	client := &http.Transport{Protocols: new(http.Protocols)}
	client.Protocols.SetUnencryptedHTTP2(true)
	defer client.CloseIdleConnections()
	for _, want := range []struct{ body, long string }{{"short", ""}, {"long", long}} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+ln.Addr().String(), http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != 200 || string(body) != want.body || res.Header.Get("X-Long") != want.long {
			t.Errorf("%s %q, %d bytes, %v", res.Status, body, len(res.Header.Get("X-Long")), err)
		}
	}
}
