package http1

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"sync"
	"time"

	"github.com/limpetlb/limpet/internal/httpfield"
)

// An upload sends a request body while the response is awaited. A nil *upload
// stands for a request without one.
type upload struct {
	c       *conn
	req     *http.Request // for its trailer
	body    io.ReadCloser
	length  int64
	trace   *httptrace.ClientTrace
	waiting *time.Timer   // for 100 (Continue)
	done    chan struct{} // closed when the sending is over

	mu       sync.Mutex
	begun    bool  // the body is being read, or was
	dropped  bool  // it will not be
	refused  bool  // it was dropped, and closed, since the server did not want it
	answered bool  // the header of the response is here
	err      error // why not all of it was sent
	fault    bool  // err is the body's fault, not the connection's
}

// lateAnswer is how long a response may take to arrive when the server does not
// take the request any more, and how long a request body may take to end when
// the response has.
const lateAnswer = 50 * time.Millisecond

// start sends the body; if the server is expected to say 100 (Continue), when
// it does or the time is up. A body that has begun to arrive does not wait: its
// sender has not, either, and there is nothing to spare.
func (u *upload) start() {
	if u.req.ProtoAtLeast(1, 1) && httpfield.HasToken(u.req.Header["Expect"], "100-continue") && !arrived(u.body) {
		if u.trace != nil && u.trace.Wait100Continue != nil {
			u.trace.Wait100Continue()
		}
		u.mu.Lock()
		defer u.mu.Unlock()
		u.waiting = time.AfterFunc(u.c.t.base.ExpectContinueTimeout, u.send)
		return
	}
	go u.send()
}

// arrived reports whether some of a body is here already, if the body tells: by
// a method Buffered, which says how many bytes can be read without waiting and
// whether that is known, or by Len, as readers of what is in memory have it.
func arrived(body io.Reader) bool {
	switch b := body.(type) {
	case interface{ Buffered() (n int, known bool) }:
		n, known := b.Buffered()
		return known && n > 0
	case interface{ Len() int }:
		return b.Len() > 0
	}
	return false
}

// proceed says that the server has said 100 (Continue).
func (u *upload) proceed() {
	if u == nil || u.waiting == nil {
		return
	}
	if u.trace != nil && u.trace.Got100Continue != nil {
		u.trace.Got100Continue()
	}
	if u.waiting.Stop() {
		go u.send()
	}
}

// drop sees to it that the body is not read from now on. It reports false if it
// is being read already, or was; then it will be closed by the one who does.
func (u *upload) drop() bool {
	if u == nil {
		return true
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.dropped = true
	return !u.begun && !u.refused
}

// answer says that the header of the response is here. A body that has waited
// for 100 (Continue) until now is not sent: whoever has it may be waiting for
// the same.
func (u *upload) answer() {
	if u == nil {
		return
	}
	u.mu.Lock()
	u.answered = true
	if u.waiting != nil && !u.begun && !u.dropped {
		u.waiting.Stop()
		u.dropped, u.refused = true, true
		close(u.done)
	}
	u.mu.Unlock()
	if u.refused {
		_ = u.body.Close()
	}
}

// complete reports whether all of the body was sent, and waits for its end for
// a moment.
func (u *upload) complete() bool {
	if u == nil {
		return true
	}
	select {
	case <-u.done:
	default:
		timer := time.NewTimer(lateAnswer)
		defer timer.Stop()
		select {
		case <-u.done:
		case <-timer.C:
			return false
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.err == nil && !u.dropped
}

// failure returns why not all of the body was sent, if that is known, and
// whether it is the body's fault.
func (u *upload) failure() (err error, fault bool) {
	if u == nil {
		return nil, false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.err, u.fault
}

func (u *upload) send() {
	u.mu.Lock()
	if u.dropped {
		u.mu.Unlock()
		return
	}
	u.begun = true
	u.mu.Unlock()

	defer close(u.done)
	err, fault := u.copy()
	if closeErr := u.body.Close(); err == nil && closeErr != nil {
		err, fault = closeErr, true
	}
	u.mu.Lock()
	u.err, u.fault = err, fault
	switch limit := u.c.t.base.ResponseHeaderTimeout; {
	case fault, u.answered:
	case err != nil:
		_ = u.c.rw.SetReadDeadline(time.Now().Add(lateAnswer))
	case limit > 0:
		_ = u.c.rw.SetReadDeadline(time.Now().Add(limit))
	}
	u.mu.Unlock()
	if fault {
		u.c.abort() // the server must not take this for the whole body
	}
	if u.trace != nil && u.trace.WroteRequest != nil {
		u.trace.WroteRequest(httptrace.WroteRequestInfo{Err: err})
	}
}

const uploadBuffer = 32 << 10

var uploadBuffers = sync.Pool{New: func() any { return new([chunkHead + uploadBuffer + chunkTail]byte) }}

// A chunk has its length in front, in up to four hexadecimal digits, and a line
// break behind each.
const (
	chunkHead = len("8000\r\n")
	chunkTail = len("\r\n")
)

// copy sends the body. An error is the body's fault, or the connection's.
func (u *upload) copy() (err error, fault bool) {
	buffer := uploadBuffers.Get().(*[chunkHead + uploadBuffer + chunkTail]byte)
	defer uploadBuffers.Put(buffer)
	var sent int64
	for {
		n, err := u.body.Read(buffer[chunkHead : chunkHead+uploadBuffer])
		sent += int64(n)
		if u.length != chunked && sent > u.length {
			return u.wrongLength(sent), true
		}
		if n > 0 {
			if err := u.write(buffer[:], n); err != nil {
				return err, false
			}
		}
		switch {
		case err == nil:
		case err != io.EOF:
			return err, true
		case u.length == chunked:
			return u.finish(buffer[:0])
		case sent != u.length:
			return u.wrongLength(sent), true
		default:
			return nil, false
		}
	}
}

func (u *upload) wrongLength(sent int64) error {
	return fmt.Errorf("%w: its length is %d, that of its body %d", ErrRequest, u.length, sent)
}

// write sends n bytes, which stand in the buffer behind room for the head of a
// chunk.
func (u *upload) write(buffer []byte, n int) error {
	from, to := chunkHead, chunkHead+n
	if u.length == chunked {
		var head [chunkHead]byte
		line := append(strconv.AppendInt(head[:0], int64(n), 16), "\r\n"...)
		from -= copy(buffer[chunkHead-len(line):], line)
		to += copy(buffer[to:], "\r\n")
	}
	_, err := u.c.rw.Write(buffer[from:to])
	return err
}

// finish sends the last chunk and the trailer.
func (u *upload) finish(b []byte) (err error, fault bool) {
	b = append(b, "0\r\n"...)
	for name, values := range u.req.Trailer {
		if b, err = appendField(b, name, values); err != nil {
			return err, true
		}
	}
	_, err = u.c.rw.Write(append(b, "\r\n"...))
	return err, false
}
