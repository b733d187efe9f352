package http1

import (
	"bytes"
	"errors"
	"net/http"

	"github.com/limpetlb/limpet/internal/httpfield"
)

var (
	errChunk   = errors.New("malformed chunked encoding")
	errTrailer = errors.New("malformed HTTP trailer: invalid field name")
)

// checkChunks looks through the beginning of a body in chunks, as far as it is here. The fault of a body that was looked
// at before anything of the response was sent on can still become an error of the whole.
func checkChunks(b []byte) error {
	for {
		end := bytes.IndexByte(b, '\n')
		if end < 0 {
			return nil
		}
		if bytes.IndexByte(b[:end], '\r') != end-1 || end == 0 {
			return errChunk
		}
		digits, _, _ := bytes.Cut(bytes.TrimRight(b[:end-1], " \t"), []byte(";"))
		size, ok := parseHex(digits)
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

// checkTrailer looks at the names in a trailer, as far as they are here. Lines that continue others are for the standard
// library to join.
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

// checkTrailerNames returns an error if a trailer that was read has names that are not valid. The standard library's
// parser lets blanks pass.
func checkTrailerNames(trailer http.Header) error {
	for name := range trailer {
		if !httpfield.IsToken(name) {
			return errTrailer
		}
	}
	return nil
}
