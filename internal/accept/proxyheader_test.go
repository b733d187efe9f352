package accept

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/pires/go-proxyproto"
)

// FuzzProxyHeader reads anything, whole and in single bytes.
func FuzzProxyHeader(f *testing.F) {
	sig := string(proxyproto.SIGV2)
	for _, seed := range []string{
		"",                       // closed at once
		"GET / HTTP/1.1\r\n\r\n", // no header
		"PROXY TCP4 203.0.113.9 198.51.100.1 4711 443\r\nGET /", // version 1 and what follows
		"PROXY TCP6 2001:db8::9 ::1 4711 443\r\n",               // of IPv6
		"PROXY UNKNOWN\r\n\x00",                                 // without addresses
		"PROXY \n",                                              // the shortest line
		"PROXY UNKNOWN " + string(make([]byte, 200)),            // without an end
		sig,                              // a signature and nothing else
		sig + "\x20\x00\x00\x00rest",     // LOCAL
		sig + "\x21\x00\x00\x00rest",     // UNSPEC
		sig + "\x21\x00\x00\x04abcdrest", // and what the receiver skips
		sig + "\x21\x11\x00\x0c\xcb\x00\x71\x09\xc6\x33\x64\x01\x12\x67\x01\xbbrest",                             // version 2
		sig + "\x21\x11\x00\x14\xcb\x00\x71\x09\xc6\x33\x64\x01\x12\x67\x01\xbb\x20\x00\x05\x01\x00\x00\x00\x00", // and SSL
		sig + "\x21\x31\x00\xd8" + string(make([]byte, 216)),                                                     // of UNIX
		sig + "\x21\x12\x00\x0c" + string(make([]byte, 12)),                                                      // of UDP
		sig + "\x21\x11\xff\xff" + string(make([]byte, 8<<10)),                                                   // too long
		sig + "\x21\x11\x0f\xf0" + string(make([]byte, 4<<10)),                                                   // as long as may be
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		source := bytes.NewReader(data)
		h, rest, err := readProxyHeader(source)
		slow, slowRest, slowErr := readProxyHeader(iotest.OneByteReader(bytes.NewReader(data)))
		if (err == nil) != (slowErr == nil) || err == nil && !h.EqualsTo(slow) {
			t.Fatalf("%q: %v, %v whole; %v, %v in bytes", data, h, err, slow, slowErr)
		}
		if read := len(data) - source.Len(); read > maxProxyHeader+256 {
			t.Fatalf("%d bytes were read", read)
		}
		if err != nil {
			return
		}
		if len(slowRest) > 0 {
			t.Fatalf("%q: bytes beyond the header were read: %q", data, slowRest)
		}
		unread, _ := io.ReadAll(source)
		if !bytes.HasSuffix(data, append(rest, unread...)) {
			t.Fatalf("%q: %q and %q do not follow the header", data, rest, unread)
		}
		c := &proxiedConn{Conn: &Conn{}}
		if c.apply(h) == nil && c.remote != nil && (!c.ends.peer.IsValid() || !c.ends.local.IsValid()) {
			t.Fatalf("%q: ends %+v", data, c.ends)
		}
	})
}

// The header may take as long as its own deadline, and no longer, whatever the
// server wants of later reads; then the server's deadline counts.
func TestProxyHeaderDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rules := &Rules{}
		g := New(func() *Rules { return rules })
		begin := func(deadline time.Duration) (*proxiedConn, net.Conn) {
			ours, theirs := net.Pipe()
			c := &proxiedConn{Conn: newConn(g, nil, rules, ours), deadline: time.Now().Add(5 * time.Second)}
			g.open.enter(nil)
			if deadline > 0 {
				if err := c.SetDeadline(time.Now().Add(deadline)); err != nil {
					t.Fatal(err)
				}
			}
			return c, theirs
		}
		for _, test := range []struct {
			name             string
			deadline, header time.Duration // header: when it comes; 0: never
			want             time.Duration // when the read fails
		}{
			{"no header", 0, 0, 5 * time.Second},
			{"no header, later deadline", time.Minute, 0, 5 * time.Second},
			{"no header, earlier deadline", 3 * time.Second, 0, 3 * time.Second},
			{"header, later deadline", time.Minute, time.Second, time.Minute},
			{"header, earlier deadline", 3 * time.Second, time.Second, 3 * time.Second},
		} {
			start := time.Now()
			c, theirs := begin(test.deadline)
			if test.header > 0 {
				go func() {
					time.Sleep(test.header)
					io.WriteString(theirs, "PROXY UNKNOWN\r\n")
				}()
			}
			_, err := c.Read(make([]byte, 1))
			var timeout net.Error
			if took := time.Since(start); took != test.want || !errors.As(err, &timeout) || !timeout.Timeout() {
				t.Errorf("%s: %v after %v, want a time-out after %v", test.name, err, took, test.want)
			}
			c.Close()
			theirs.Close()
		}

		// A server that is closed does not complain about headers.
		c, theirs := begin(0)
		go func() {
			time.Sleep(time.Second)
			c.Close()
		}()
		if _, err := c.Write([]byte("x")); err == nil {
			t.Error("written to a closed connection")
		}
		if _, err := c.ReadFrom(bytes.NewReader([]byte("x"))); err == nil {
			t.Error("copied to a closed connection")
		}
		theirs.Close()
		if st := g.Stats(); st.BadHeaders != 3 || st.Open != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// A client that takes nothing loses its connection; one that takes a little in
// time does not, and who sets deadlines of his own has his way.
func TestWriteTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := func(timeout time.Duration) (*Conn, net.Conn) {
			rules := &Rules{WriteTimeout: timeout}
			g := New(func() *Rules { return rules })
			ours, theirs := net.Pipe()
			g.open.enter(nil)
			c := newConn(g, nil, rules, ours)
			t.Cleanup(func() { c.Close(); theirs.Close() })
			return c, theirs
		}
		fails := func(c *Conn, least, most time.Duration) {
			t.Helper()
			start := time.Now()
			_, err := c.Write(make([]byte, 3*writeChunk))
			var timeout net.Error
			if took := time.Since(start); took < least || took > most || !errors.As(err, &timeout) || !timeout.Timeout() {
				t.Errorf("%v after %v, want a time-out after %v to %v", err, took, least, most)
			}
		}
		c, _ := begin(60 * time.Second)
		fails(c, 60*time.Second, 60*time.Second)
		if _, err := c.Write([]byte("x")); err == nil {
			t.Error("a broken connection is written to")
		}
		c, _ = begin(8 * time.Second)
		_ = c.SetWriteDeadline(time.Now().Add(time.Hour))
		fails(c, time.Hour, time.Hour)
		_ = c.SetWriteDeadline(time.Time{})
		fails(c, 8*time.Second, 8*time.Second)
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		fails(c, time.Minute, time.Minute)

		c, theirs := begin(8 * time.Second)
		go func() {
			buf := make([]byte, writeChunk)
			for range 10 { // 64 KiB in 6 s is slow enough
				time.Sleep(6 * time.Second)
				if _, err := io.ReadFull(theirs, buf); err != nil {
					t.Error(err)
					return
				}
			}
		}()
		if n, err := c.Write(make([]byte, 10*writeChunk)); n != 10*writeChunk || err != nil {
			t.Errorf("%d, %v", n, err)
		}

		c, theirs = begin(-1)
		go func() {
			time.Sleep(24 * time.Hour)
			io.ReadFull(theirs, make([]byte, 1))
		}()
		if n, err := c.Write([]byte("x")); n != 1 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	})
}
