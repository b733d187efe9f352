package websockettest

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestWebSocket(t *testing.T) {
	for _, tt := range []struct {
		name    string
		offered []string
		want    string
	}{
		{"no subprotocol", nil, ""},
		{"unknown subprotocol", []string{"other"}, ""},
		{"subprotocols", []string{"other", "echo"}, "echo"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if err := Accept(w, r, func(c *Conn) {
					if err := c.Echo(); err != nil {
						t.Error(err)
					}
				}); err != nil {
					t.Error(err)
				}
			}))
			defer srv.Close()
			c, res, err := Dial(t.Context(), srv.Client(), srv.URL, tt.offered...)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if got := c.Subprotocol(); got != tt.want || res.Header.Get("Sec-Websocket-Protocol") != tt.want {
				t.Errorf("subprotocol %q, %v; want %q", got, res.Header, tt.want)
			}
			for _, m := range []Message{Text(""), Text("hello"), Binary([]byte{0, 0xff}), Binary(make([]byte, 1<<20))} {
				if err := c.Send(m); err != nil {
					t.Fatal(err)
				}
				got, err := c.Receive()
				if err != nil {
					t.Fatal(err)
				}
				if got.Kind != m.Kind || !bytes.Equal(got.Data, m.Data) {
					t.Errorf("%d bytes of kind %d came back of %d of kind %d", len(got.Data), got.Kind, len(m.Data), m.Kind)
				}
			}
			if err := c.Finish(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A connection that ends without a goodbye, or with something else, is not
// taken for the end of a WebSocket.
func TestFaults(t *testing.T) {
	for _, tt := range []struct {
		name  string
		serve func(*Conn)
		want  string
	}{
		{"no goodbye", func(c *Conn) { _, _ = c.Receive() }, `the last bytes are ""`},
		{"a message", func(c *Conn) { _ = c.Send(Text("more")); _ = c.Echo() }, "4 bytes of kind 1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if err := Accept(w, r, tt.serve); err != nil {
					t.Error(err)
				}
			}))
			defer srv.Close()
			c, _, err := Dial(t.Context(), srv.Client(), srv.URL)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if err := c.Finish(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/no" {
			if err := Accept(w, r, func(*Conn) { t.Error("served") }); err == nil {
				t.Error("accepted")
			}
			return
		}
		http.Error(w, "no", http.StatusForbidden)
	}))
	defer srv.Close()
	_, res, err := Dial(t.Context(), srv.Client(), srv.URL+"/no")
	if err == nil || res == nil || res.StatusCode != http.StatusForbidden {
		t.Errorf("%v, %v", res, err)
	}
	plain, err := srv.Client().Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Body.Close()
	if plain.StatusCode != http.StatusBadRequest {
		t.Errorf("a request without an upgrade: %s", plain.Status)
	}
}
