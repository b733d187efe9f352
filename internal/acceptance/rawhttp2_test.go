package acceptance_test

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2/hpack"

	"github.com/limpetlb/limpet/internal/testwait"
)

// Kinds and flags of frames (RFC 9113, section 6).
const (
	frameData, frameHeaders, frameReset, frameSettings, framePing, frameGoAway, frameWindow = 0, 1, 3, 4, 6, 7, 8
	flagEndStream, flagAck, flagEndHeaders                                                  = 1, 1, 4
)

// A rawHTTP2 is a client of HTTP/2 that sends whatever it is told to, valid or
// not.
type rawHTTP2 struct {
	net.Conn
	decoder *hpack.Decoder
	fields  []hpack.HeaderField
	next    uint32
	sent    bytes.Buffer // what encode has made
	encoder *hpack.Encoder

	// Of one that reads by itself: how many streams were reset, and how long
	// after the beginning the last one was.
	resets    atomic.Int64
	lastReset atomic.Int64
}

// An h2Answer is what came back on a stream.
type h2Answer struct {
	status string // empty if the stream was reset or the connection ended
	header []hpack.HeaderField
	body   string
	reset  bool
}

// newRawHTTP2 begins a connection.
func newRawHTTP2(t testing.TB, c net.Conn) *rawHTTP2 {
	t.Helper()
	h := wrapRawHTTP2(c)
	if _, err := io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	h.frame(frameSettings, 0, 0, nil)
	return h
}

func wrapRawHTTP2(c net.Conn) *rawHTTP2 {
	h := &rawHTTP2{Conn: c, next: 1}
	h.encoder = hpack.NewEncoder(&h.sent)
	h.decoder = hpack.NewDecoder(4096, func(f hpack.HeaderField) { h.fields = append(h.fields, f) })
	return h
}

// dialHTTP2 connects to a site of HTTP/2.
func (s *site) dialHTTP2(t testing.TB) *rawHTTP2 {
	t.Helper()
	c := s.dial(t, "")
	if s.protocol == http2TLS {
		cfg := s.tls.Clone()
		cfg.ServerName, cfg.NextProtos = "127.0.0.1", []string{"h2"}
		conn := tls.Client(c, cfg)
		if err := conn.HandshakeContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		c = conn
	}
	return newRawHTTP2(t, c)
}

func (h *rawHTTP2) frame(kind, flags byte, stream uint32, payload []byte) {
	n := len(payload)
	head := []byte{byte(n >> 16), byte(n >> 8), byte(n), kind, flags, 0, 0, 0, 0}
	binary.BigEndian.PutUint32(head[5:], stream)
	_, _ = h.Write(slices.Concat(head, payload))
}

// request sends the head of a request, given as pairs of names and values, and
// returns its stream.
func (h *rawHTTP2) request(end bool, fields ...string) uint32 {
	stream := h.next
	h.next += 2
	flags := byte(flagEndHeaders)
	if end {
		flags |= flagEndStream
	}
	h.frame(frameHeaders, flags, stream, h.encode(fields...))
	return stream
}

func (h *rawHTTP2) encode(fields ...string) []byte {
	h.sent.Reset()
	for pair := range slices.Chunk(fields, 2) {
		_ = h.encoder.WriteField(hpack.HeaderField{Name: pair[0], Value: pair[1], Sensitive: true})
	}
	return slices.Clone(h.sent.Bytes())
}

// answer reads up to the end of a stream. Pings and settings are answered,
// other streams are skipped.
func (h *rawHTTP2) answer(stream uint32) (a h2Answer) {
	var body strings.Builder
	for {
		var head [9]byte
		if _, err := io.ReadFull(h, head[:]); err != nil {
			return a
		}
		payload := make([]byte, int(head[0])<<16|int(head[1])<<8|int(head[2]))
		if _, err := io.ReadFull(h, payload); err != nil {
			return a
		}
		kind, flags, id := head[3], head[4], binary.BigEndian.Uint32(head[5:])
		switch {
		case (kind == frameSettings || kind == framePing) && flags&flagAck == 0:
			if kind == frameSettings {
				payload = nil
			}
			h.frame(kind, flagAck, 0, payload)
			continue
		case kind == frameHeaders:
			h.fields = nil
			_, _ = h.decoder.Write(payload)
			if id != stream {
				continue
			}
			for _, f := range h.fields {
				if f.Name == ":status" && f.Value[0] != '1' {
					a.status = f.Value
				}
			}
			a.header = append(a.header, h.fields...)
		case kind == frameData && id == stream:
			body.Write(payload)
		case kind == frameReset && id == stream, kind == frameGoAway:
			a.reset, a.body = true, body.String()
			return a
		default:
			continue
		}
		if flags&flagEndStream != 0 {
			a.body = body.String()
			return a
		}
	}
}

// ask sends a request without a body and reads the answer.
func (h *rawHTTP2) ask(fields ...string) h2Answer {
	_ = h.SetDeadline(time.Now().Add(testwait.Limit))
	return h.answer(h.request(true, fields...))
}

// newRawHTTP2Async is a connection that reads by itself, in virtual time, and
// answers settings and pings.
func newRawHTTP2Async(t testing.TB, c net.Conn) *rawHTTP2 {
	t.Helper()
	out := &asyncConn{Conn: c, queue: make(chan []byte, 10_000)}
	go out.run()
	h := newRawHTTP2(t, out)
	start := time.Now()
	go func() {
		defer close(out.queue)
		for {
			var head [9]byte
			if _, err := io.ReadFull(c, head[:]); err != nil {
				return
			}
			payload := make([]byte, int(head[0])<<16|int(head[1])<<8|int(head[2]))
			if _, err := io.ReadFull(c, payload); err != nil {
				return
			}
			switch kind, flags := head[3], head[4]; {
			case kind == frameReset:
				h.resets.Add(1)
				h.lastReset.Store(int64(time.Since(start)))
			case flags&flagAck != 0:
			case kind == frameSettings:
				h.frame(kind, flagAck, 0, nil)
			case kind == framePing:
				h.frame(kind, flagAck, 0, payload)
			}
		}
	}()
	return h
}

// An asyncConn writes in a goroutine of its own.
type asyncConn struct {
	net.Conn
	queue chan []byte
}

func (c *asyncConn) Write(p []byte) (int, error) {
	c.queue <- slices.Clone(p)
	return len(p), nil
}

func (c *asyncConn) run() {
	for p := range c.queue {
		if _, err := c.Conn.Write(p); err != nil {
			for range c.queue { // until the reader has seen the end, too
			}
			return
		}
	}
}
