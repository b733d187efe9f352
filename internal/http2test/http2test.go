// Package http2test is a server of HTTP/2 for tests that answers frame by
// frame, valid or not, as no server of net/http does.
package http2test

import (
	"bytes"
	"io"
	"net"
	"sync"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Settings begins a connection without any setting.
func Settings(f *http2.Framer) { _ = f.WriteSettings() }

// Serve serves on ln until the test ends. It calls begin at the start of each
// connection, and answer for each header of a request, with the number of its
// connection, from 1; a nil answer gives none. It acknowledges settings and
// pings, and takes no notice of bodies.
func Serve(t testing.TB, ln net.Listener, begin func(*http2.Framer), answer func(conn int, f *http2.Framer, stream uint32)) {
	var wg sync.WaitGroup
	stopped := make(chan struct{})
	wg.Go(func() {
		for n := 1; ; n++ {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				<-stopped
				c.Close()
			})
			wg.Go(func() {
				defer c.Close()
				serve(c, begin, func(f *http2.Framer, stream uint32) {
					if answer != nil {
						answer(n, f, stream)
					}
				})
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		close(stopped)
		wg.Wait()
	})
}

func serve(c net.Conn, begin func(*http2.Framer), answer func(f *http2.Framer, stream uint32)) {
	if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	f := http2.NewFramer(c, c)
	begin(f)
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return
		}
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				_ = f.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !frame.IsAck() {
				_ = f.WritePing(true, frame.Data)
			}
		case *http2.HeadersFrame:
			answer(f, frame.StreamID)
		}
	}
}

// frameBytes is the most that a frame has unless the client allows more.
const frameBytes = 16 << 10

// Header sends a header with these names and values, in turns, and further ones
// if the block is too long for one frame. The stream stays open.
func Header(f *http2.Framer, stream uint32, fields ...string) {
	var b bytes.Buffer
	enc := hpack.NewEncoder(&b)
	for i := 0; i < len(fields); i += 2 {
		_ = enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	block := b.Next(frameBytes)
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block, EndHeaders: b.Len() == 0})
	for b.Len() > 0 {
		block = b.Next(frameBytes)
		_ = f.WriteContinuation(stream, b.Len() == 0, block)
	}
}

// Respond sends an answer with status 200 and a body, and ends the stream.
func Respond(f *http2.Framer, stream uint32, body string) {
	Header(f, stream, ":status", "200")
	_ = f.WriteData(stream, true, []byte(body))
}
