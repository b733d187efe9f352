package accept

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/limpetlb/limpet/internal/splice"
)

// Everything that may be copied to a client arrives whole, also behind a PROXY
// header.
func TestReadFrom(t *testing.T) {
	text := strings.Repeat("0123456789", 20_000) // several chunks
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	open := func(t *testing.T) *os.File {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	for _, test := range []struct {
		name   string
		source func(t *testing.T) io.Reader
		want   string
	}{
		{"reader", func(*testing.T) io.Reader { return struct{ io.Reader }{strings.NewReader(text)} }, text},
		{"file", func(t *testing.T) io.Reader { return open(t) }, text},
		{"part of a file", func(t *testing.T) io.Reader { return io.LimitReader(open(t), 100_001) }, text[:100_001]},
		{"limit beyond the file", func(t *testing.T) io.Reader { return io.LimitReader(open(t), 1<<30) }, text},
		{"connection", func(t *testing.T) io.Reader {
			return fromServer(t, func(c net.Conn) { _, _ = io.WriteString(c, text) })
		}, text},
	} {
		for _, header := range []string{"", "PROXY UNKNOWN\r\n"} {
			t.Run(test.name+map[bool]string{true: " behind a header"}[header != ""], func(t *testing.T) {
				rules := &Rules{WriteTimeout: time.Minute, HeaderTimeout: time.Minute}
				if header != "" {
					rules.FromProxy = func(netip.Addr) bool { return true }
				}
				addr := gateOn(t, fixed(rules), func(c net.Conn) {
					n, err := c.(io.ReaderFrom).ReadFrom(test.source(t))
					if n != int64(len(test.want)) || err != nil {
						t.Errorf("%d bytes, %v", n, err)
					}
					if err := splice.CloseWrite(c); err != nil {
						t.Error(err)
					}
					if rest, err := io.ReadAll(c); string(rest) != "the rest" || err != nil {
						t.Errorf("then %q, %v", rest, err)
					}
				})
				c, err := net.Dial("tcp", addr)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				if _, err := io.WriteString(c, header); err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(c)
				if string(got) != test.want || err != nil {
					t.Errorf("%d bytes arrive, %v", len(got), err)
				}
				if _, err := io.WriteString(c, "the rest"); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// fromServer is a connection to a server that answers with f.
func fromServer(t *testing.T, f func(net.Conn)) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", gateOn(t, fixed(&Rules{}), f))
	if err != nil {
		t.Error(err)
		return nil
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// Connections that are not of TCP have no addresses to judge, but are accepted,
// counted and found. When a server ended what it sends on one, the whole
// connection was closed, and what the client still sent was lost.
func TestUnixSocket(t *testing.T) {
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "socket"))
	if err != nil {
		t.Fatal(err)
	}
	g := fixed(&Rules{
		Limits:    Limits{MaxPerClient: 1},
		FromProxy: func(peer netip.Addr) bool { return peer.IsValid() },
		Judge: func(client, local netip.AddrPort) Verdict {
			if client.IsValid() || local.IsValid() {
				t.Errorf("judged by %v and %v", client, local)
			}
			return Verdict{}
		},
	})
	guarded := g.Listener(ln)
	defer guarded.Close()
	for i := range 2 {
		client, err := net.Dial("unix", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		c, err := guarded.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if g.At(c.LocalAddr()) != c || c.(*Conn).Client().IsValid() || g.Stats().Open != i+1 {
			t.Errorf("connection %d: %+v", i, g.Stats())
		}
		if err := splice.CloseWrite(c); err != nil {
			t.Error(err)
		}
		if rest, err := io.ReadAll(client); len(rest) > 0 || err != nil {
			t.Errorf("%q, %v", rest, err)
		}
		_, _ = io.WriteString(client, "still sent")
		_ = client.(*net.UnixConn).CloseWrite()
		if rest, err := io.ReadAll(c); string(rest) != "still sent" || err != nil {
			t.Errorf("%q, %v", rest, err)
		}
	}
}

// The server's address is in the header, too, and whoever asks for an address
// waits for it.
func TestLocalAddr(t *testing.T) {
	g := fixed(&Rules{FromProxy: func(netip.Addr) bool { return true }, HeaderTimeout: time.Minute})
	ours, theirs := net.Pipe()
	defer theirs.Close()
	go func() { _, _ = io.WriteString(theirs, "PROXY TCP6 2001:db8::9 2001:db8::1 4711 443\r\n") }()
	c := g.accepted(nil, ours)
	defer c.Close()
	if got := c.LocalAddr().String(); got != "[2001:db8::1]:443" {
		t.Errorf("local address %s", got)
	}
	if got := g.At(c.LocalAddr()); got == nil || got.Client().String() != "[2001:db8::9]:4711" || got != g.Beneath(c) {
		t.Errorf("found %v", got)
	}
	go func() { _, _ = theirs.Write([]byte("hello")) }()
	if p := make([]byte, 5); !readsFull(c, p) || !bytes.Equal(p, []byte("hello")) {
		t.Errorf("read %q", p)
	}
}

func readsFull(r io.Reader, p []byte) bool {
	_, err := io.ReadFull(r, p)
	return err == nil
}

// beneath is a connection that only tells what is beneath it.
type beneath struct{ net.Conn }

func (b beneath) NetConn() net.Conn { return b.Conn }

// A direction can be ended on whatever is beneath; where nothing can do that,
// the connection is closed.
func TestCloseWrite(t *testing.T) {
	for _, test := range []struct {
		name string
		wrap func(net.Conn) net.Conn
		want string
	}{
		{"TCP", func(c net.Conn) net.Conn { return c }, "still sent"},
		{"beneath another", func(c net.Conn) net.Conn { return beneath{c} }, "still sent"},
		{"unknown", func(c net.Conn) net.Conn { return struct{ net.Conn }{c} }, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := fixed(&Rules{})
			got := make(chan string, 1)
			c := fromServer(t, func(raw net.Conn) {
				c := g.accepted(nil, test.wrap(raw.(*Conn).NetConn())).(*Conn)
				if err := c.CloseWrite(); err != nil {
					t.Error(err)
				}
				rest, _ := io.ReadAll(c)
				got <- string(rest)
			})
			_, _ = io.ReadAll(c)
			_, _ = io.WriteString(c, "still sent")
			_ = c.(*net.TCPConn).CloseWrite()
			if rest := <-got; rest != test.want {
				t.Errorf("%q", rest)
			}
		})
	}
}
