package redisstore

import (
	"bytes"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync/atomic"
)

// Bounds of what is read from the server.
const (
	maxBulkBytes    = MaxValueBytes + maxKeyBytes + 64 // a member of an index
	maxLineBytes    = 16 << 10
	maxElements     = 1 << 16
	maxDepth        = 8
	maxMessageBytes = 32 << 20
)

// A guard checks the bytes that the client reads from a connection, and closes
// it before the client gets an answer that no server sends: a length that is
// huge or negative, an answer without a command, anything other than RESP3. The
// client library would allocate such a length, and takes the rest for a fault
// of its own, for which it ends the program.
type guard struct {
	net.Conn
	asked    scanner // of the goroutine that writes
	answered scanner // of the goroutine that reads
	sent     atomic.Uint64
}

func newGuard(c net.Conn) *guard {
	return &guard{Conn: c, answered: scanner{answers: true}}
}

// Write counts the commands in p.
func (g *guard) Write(p []byte) (int, error) {
	if err := g.asked.scan(p); err != nil {
		return 0, err
	}
	g.sent.Store(g.asked.messages)
	return g.Conn.Write(p)
}

// Read checks the bytes that it returns.
func (g *guard) Read(p []byte) (int, error) {
	n, err := g.Conn.Read(p)
	fault := g.answered.scan(p[:n])
	if fault == nil && g.answered.messages > g.sent.Load() {
		fault = errMismatch
	}
	if fault != nil {
		g.Close()
		return 0, fault
	}
	return n, err
}

// A scanner finds the messages in a stream of RESP3 without storing them.
type scanner struct {
	answers  bool   // whether bounds apply and pushes are messages apart
	messages uint64 // begun, without pushes

	line  []byte // of what is not complete
	bulk  int    // bytes of a string that are to come, with their end of line
	open  []int  // elements that are to come, of each aggregate
	bytes int    // of the current message
	kind  bool   // whether the next string is the kind of a push
}

// scan reads on. After an error the scanner is unusable.
func (s *scanner) scan(p []byte) error {
	for len(p) > 0 {
		if s.bulk > 0 && !s.kind {
			n := min(s.bulk, len(p))
			s.bulk -= n
			p = p[n:]
			if s.bulk == 0 {
				s.end()
			}
			continue
		}
		n := bytes.IndexByte(p, '\n') + 1
		part := p[:n]
		if n == 0 {
			part = p
		}
		if len(s.line)+len(part) > maxLineBytes {
			return fmt.Errorf("the server sends a line of more than %d bytes", maxLineBytes)
		}
		s.line = append(s.line, part...)
		p = p[len(part):]
		if n == 0 {
			return nil
		}
		if err := s.element(s.line); err != nil {
			return err
		}
		s.line = s.line[:0]
	}
	return nil
}

// element reads a line, with its end.
func (s *scanner) element(line []byte) error {
	text, ok := bytes.CutSuffix(line, []byte("\r\n"))
	if !ok || len(text) == 0 {
		return fmt.Errorf("the server sends %.20q, which is not RESP3", line)
	}
	if s.kind {
		return s.pushKind(text)
	}
	top := len(s.open) == 0
	if top {
		s.bytes = 0
		if text[0] != '>' {
			s.messages++
		}
	}
	if s.bytes += len(line); s.answers && s.bytes > maxMessageBytes {
		return fmt.Errorf("the server sends a message of more than %d bytes", maxMessageBytes)
	}
	switch text[0] {
	case '+', '-', ',', '(':
		s.end()
	case '#':
		if len(text) != 2 {
			return fmt.Errorf("the server sends %.20q, which is not a boolean", text)
		}
		s.end()
	case '_':
		if len(text) != 1 {
			return fmt.Errorf("the server sends %.20q, which is not null", text)
		}
		s.end()
	case ':':
		if _, err := strconv.ParseInt(string(text[1:]), 10, 64); err != nil {
			return fmt.Errorf("the server sends %.40q, which is not an integer", text)
		}
		s.end()
	case '$', '!', '=':
		if string(text) == "$-1" {
			s.end()
			break
		}
		n, err := s.length(text, maxBulkBytes)
		if err != nil {
			return err
		}
		s.bulk = n + 2
		s.bytes += n
	case '*', '~', '>', '%':
		if string(text) == "*-1" {
			s.end()
			break
		}
		n, err := s.length(text, maxElements)
		if err != nil {
			return err
		}
		if text[0] == '%' {
			n *= 2
		}
		if text[0] == '>' && (!top || n < 2) || len(s.open) == maxDepth {
			return fmt.Errorf("the server sends a message of an unknown form")
		}
		s.kind = text[0] == '>'
		if n == 0 {
			s.end()
			break
		}
		s.open = append(s.open, n)
	default:
		return fmt.Errorf("the server sends %.20q, which is not RESP3", text)
	}
	return nil
}

// pushKind reads the lines of the first string of a push.
func (s *scanner) pushKind(text []byte) error {
	const invalidate = "invalidate"
	switch {
	case s.bulk == 0 && string(text) == "$"+strconv.Itoa(len(invalidate)):
		s.bulk = len(invalidate) + 2
		return nil
	case s.bulk > 0 && string(text) == invalidate:
		s.kind, s.bulk = false, 0
		s.end()
		return nil
	}
	return fmt.Errorf("the server sends a push message that nobody asked for")
}

// length reads the number after the first byte of text.
func (s *scanner) length(text []byte, most int) (int, error) {
	n, err := strconv.ParseUint(string(text[1:]), 10, 31)
	if err != nil || s.answers && n > uint64(most) {
		return 0, fmt.Errorf("the server sends the length %.40q, which is not one of at most %d", text[1:], most)
	}
	return int(n), nil
}

// end ends an element, and the aggregates that it completes.
func (s *scanner) end() {
	for i := len(s.open) - 1; i >= 0; i-- {
		if s.open[i]--; s.open[i] > 0 {
			return
		}
		s.open = slices.Delete(s.open, i, i+1)
	}
}
