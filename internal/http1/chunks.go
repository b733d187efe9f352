package http1

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"

	"github.com/limpetlb/limpet/internal/httpfield"
)

var (
	errChunk   = errors.New("malformed chunked encoding")
	errTrailer = errors.New("malformed HTTP trailer: invalid field name")

	errChunkLine = errors.New("malformed chunked encoding: line too long")
	errChunkRest = errors.New("malformed chunked encoding: too much besides the data")
)

// The limits of net/http's reader: bytes of a line with the size of a chunk,
// and bytes that are no data, beyond 16 for each chunk and twice the data. A
// server may send each byte in a chunk of its own, but not an endless
// extension.
const (
	maxChunkLine  = 4096
	maxChunkExtra = 16 << 10
	extraPerChunk = 16
)

// A chunkReader reads a body in chunks. It refuses what net/http's reader
// refuses. Unlike that, which fills the caller's buffer as long as a chunk goes
// on, it returns what has come, and waits only if that is nothing.
type chunkReader struct {
	br     *bufio.Reader
	end    io.Reader // net/http's reader of the same body, for the last chunk and the trailer
	left   uint64    // bytes of data to come in this chunk
	behind bool      // its data have been read, but not the line break behind them
	last   bool      // the next line is that of the last chunk
	extra  int64     // bytes that were no data, beyond what is allowed for
	err    error     // what the body has ended with
}

// Read implements io.Reader.
func (r *chunkReader) Read(p []byte) (n int, err error) {
	for r.next(n == 0) && r.err == nil {
		if r.last {
			_, r.err = r.end.Read(p[n:]) // which has no data
			break
		}
		if n == len(p) {
			break
		}
		m, fault := r.br.Read(p[n:][:min(uint64(len(p)-n), r.left)])
		n, r.left = n+m, r.left-uint64(m)
		r.behind = r.left == 0
		r.fail(fault)
	}
	return n, r.err
}

// here returns how many bytes are here already, with those that are no data, or
// 0 if a Read would have to wait for more.
func (r *chunkReader) here() int {
	if !r.next(false) {
		return 0
	}
	return r.br.Buffered()
}

// next goes on to where data are next, or the last chunk, or a fault. It
// reports false if more than what is here is needed to go on from there; with
// wait it waits for that, and reports true.
func (r *chunkReader) next(wait bool) bool {
	for r.err == nil && r.left == 0 && !r.last {
		if r.behind {
			if !wait && r.br.Buffered() < 2 {
				return false
			}
			b, err := r.br.Peek(2)
			if err == nil && string(b) != "\r\n" {
				err = errChunk
			}
			if r.fail(err) {
				break
			}
			_, _ = r.br.Discard(2)
			r.behind = false
		}
		line := r.line(wait)
		switch {
		case line != nil:
			r.begin(line)
		case r.err == nil:
			return false
		}
	}
	return wait || r.err != nil || r.last && r.endHere() || !r.last && r.br.Buffered() > 0
}

// line returns the next line without taking it. It is nil if there was a fault,
// or, without wait, if it is not here.
func (r *chunkReader) line(wait bool) []byte {
	for seen := 0; ; {
		b, _ := r.br.Peek(r.br.Buffered())
		if i := bytes.IndexByte(b[seen:], '\n'); i >= 0 {
			return b[:seen+i+1]
		}
		seen = len(b)
		if !wait && seen < r.br.Size() {
			return nil
		}
		_, err := r.br.Peek(seen + 1)
		if errors.Is(err, bufio.ErrBufferFull) {
			err = errChunkLine
		}
		if r.fail(err) {
			return nil
		}
	}
}

// begin begins a chunk with the line that is next, which it takes unless the
// chunk is the last one.
func (r *chunkReader) begin(line []byte) {
	size, ok := chunkSize(line)
	switch {
	case !ok:
		r.err = errChunk
		return
	case len(line)-2 >= maxChunkLine:
		r.err = errChunkLine
		return
	case size == 0:
		r.last = true
		return
	}
	r.extra = max(r.extra+int64(len(line))-extraPerChunk-2*int64(size), 0) //nolint:gosec // as net/http has it for sizes of 2^62 and more: refused
	if r.extra > maxChunkExtra {
		r.err = errChunkRest
		return
	}
	r.left = size
	_, _ = r.br.Discard(len(line))
}

// endHere reports whether all of the last chunk and of the trailer is here.
func (r *chunkReader) endHere() bool {
	b, _ := r.br.Peek(r.br.Buffered())
	trailer := b[bytes.IndexByte(b, '\n')+1:]
	return bytes.HasPrefix(trailer, []byte("\r\n")) || bytes.Contains(trailer, []byte("\r\n\r\n"))
}

// fail notes an error, and reports whether there is one. The connection must
// not end here.
func (r *chunkReader) fail(err error) bool {
	if err == nil {
		return false
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	r.err = err
	return true
}

// checkChunks looks through the beginning of a body in chunks, as far as it is
// here. The fault of a body that was looked at before anything of the response
// was sent on can still become an error of the whole.
func checkChunks(b []byte) error {
	for {
		end := bytes.IndexByte(b, '\n')
		if end < 0 {
			return nil
		}
		size, ok := chunkSize(b[:end+1])
		if !ok {
			return errChunk
		}
		b = b[end+1:]
		if size == 0 {
			return checkTrailer(b)
		}
		if uint64(len(b)) <= size {
			return nil
		}
		if b = b[size:]; b[0] != '\r' || len(b) > 1 && b[1] != '\n' {
			return errChunk
		}
		if len(b) < 2 {
			return nil
		}
		b = b[2:]
	}
}

// chunkSize reads the size that a chunk begins with from its line, which ends
// in a line feed.
func chunkSize(line []byte) (size uint64, ok bool) {
	end := len(line) - 2
	if end < 0 || bytes.IndexByte(line, '\r') != end {
		return 0, false
	}
	for end > 0 && (line[end-1] == ' ' || line[end-1] == '\t') {
		end--
	}
	line = line[:end]
	if i := bytes.IndexByte(line, ';'); i >= 0 {
		line = line[:i]
	}
	return parseHex(line)
}

// parseHex reads the size of a chunk.
func parseHex(digits []byte) (size uint64, ok bool) {
	if len(digits) == 0 || len(digits) > 16 {
		return 0, false
	}
	for _, c := range digits {
		if classes[c]&isHex == 0 {
			return 0, false
		}
		size = size<<4 | uint64(unhex(c))
	}
	return size, true
}

// checkTrailer looks at the names in a trailer, as far as they are here. Lines
// that continue others are for the standard library to join.
func checkTrailer(b []byte) error {
	for {
		line, rest, whole := bytes.Cut(b, []byte("\n"))
		if line = bytes.TrimSuffix(line, []byte("\r")); !whole || len(line) == 0 {
			return nil
		}
		if name, _, ok := bytes.Cut(line, []byte(":")); line[0] != ' ' && line[0] != '\t' && (!ok || !httpfield.IsToken(string(name))) {
			return errTrailer
		}
		b = rest
	}
}

// checkTrailerNames returns an error if a trailer that was read has names that
// are not valid. The standard library's parser lets blanks pass.
func checkTrailerNames(trailer http.Header) error {
	for name := range trailer {
		if !httpfield.IsToken(name) {
			return errTrailer
		}
	}
	return nil
}
