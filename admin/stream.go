package admin

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// The times of streams.
const (
	streamComment = 15 * time.Second // between signs of life
	streamWrite   = 10 * time.Second // for each write
	livePeriod    = 2 * time.Second
)

// stream sends the messages of a hub as server-sent events, until the client
// is gone, a write takes too long, or Run ends.
func (c *call) stream(h *hub, wants func(message) bool, show func(message) any) (any, error) {
	after, resume, err := c.lastEvent()
	if err != nil {
		return nil, err
	}
	leave, err := c.enterStream()
	if err != nil {
		return nil, err
	}
	defer leave()
	s, missed, stop := h.subscribe(after, resume, wants)
	defer stop()
	out := c.beginStream("text/event-stream")
	out.show = show
	for _, m := range missed {
		if out.event(m) != nil {
			return streamed{}, nil
		}
	}
	tick := time.NewTicker(streamComment)
	defer tick.Stop()
	ended := c.Admin.live.ended()
	for err == nil {
		select {
		case <-c.r.Context().Done():
			return streamed{}, nil
		case <-ended:
			return streamed{}, nil
		case <-tick.C:
			err = out.text(": alive\n\n")
		case m := <-s.queue:
			if n := s.dropped.Swap(0); n > 0 {
				err = out.event(message{event: "dropped", data: droppedView{n}})
			}
			if err == nil {
				err = out.event(m)
			}
		}
	}
	return streamed{}, nil
}

// droppedView says that a subscriber was too slow.
type droppedView struct {
	Dropped uint64 `json:"dropped"` // events
}

// lastEvent reads the header with which clients connect again.
func (c *call) lastEvent() (after uint64, resume bool, err error) {
	text := c.r.Header.Get("Last-Event-Id")
	if text == "" {
		return 0, false, nil
	}
	after, err = strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, false, badRequest("Last-Event-ID", "not an id of this stream")
	}
	return after, true, nil
}

// enterStream takes one of the places for streams.
func (c *call) enterStream() (leave func(), err error) {
	if c.Admin.live.ended() == nil {
		return nil, unavailable("the program does not run Admin.Run")
	}
	select {
	case c.streams <- struct{}{}:
		return func() { <-c.streams }, nil
	default:
		return nil, retry(fail(http.StatusTooManyRequests, codeTooMany, "there are %d streams already", maxStreams), unavailableRetry)
	}
}

// A streamWriter writes an answer piece by piece.
type streamWriter struct {
	w    http.ResponseWriter
	ctrl *http.ResponseController
	show func(message) any // what the caller may see of a message; nil: all
}

// beginStream writes the header of a stream.
func (c *call) beginStream(kind string) *streamWriter {
	s := &streamWriter{w: c.w, ctrl: http.NewResponseController(c.w)}
	_ = s.ctrl.SetReadDeadline(time.Time{})
	c.w.Header().Set("Content-Type", kind)
	if c.r.ProtoMajor == 1 {
		c.w.Header().Set("Connection", "close") // which has the deadline of the last write
	}
	c.w.WriteHeader(http.StatusOK)
	_ = s.text("")
	return s
}

// text writes a piece, and sends it.
func (s *streamWriter) text(piece string) error {
	_ = s.ctrl.SetWriteDeadline(time.Now().Add(streamWrite))
	if _, err := s.w.Write([]byte(piece)); err != nil {
		return err
	}
	return s.ctrl.Flush()
}

// event writes a message as an event.
func (s *streamWriter) event(m message) error {
	var b bytes.Buffer
	if m.id != 0 {
		fmt.Fprintf(&b, "id: %d\n", m.id)
	}
	data := m.data
	if _, own := data.(droppedView); s.show != nil && !own {
		data = s.show(m)
	}
	fmt.Fprintf(&b, "event: %s\ndata: %s\n", m.event, encode(data)) // which ends with a line feed
	return s.text(b.String())
}

func streamEvents(c *call) (any, error) {
	return c.stream(c.events, func(message) bool { return true }, nil)
}

// streamLive sends the status every two seconds.
func streamLive(c *call) (any, error) {
	leave, err := c.enterStream()
	if err != nil {
		return nil, err
	}
	defer leave()
	out := c.beginStream("text/event-stream")
	tick := time.NewTicker(livePeriod)
	defer tick.Stop()
	ended := c.Admin.live.ended()
	for {
		if out.event(message{event: "status", data: c.status()}) != nil {
			return streamed{}, nil
		}
		select {
		case <-c.r.Context().Done():
			return streamed{}, nil
		case <-ended:
			return streamed{}, nil
		case <-tick.C:
		}
	}
}
