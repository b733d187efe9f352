package limpet

import (
	"errors"
	"io"
	"net/http"
	"sync/atomic"

	"github.com/limpetlb/limpet/internal/bodyrule"
	"github.com/limpetlb/limpet/internal/procmem"
)

// bodyBudget bounds the bytes of all bodies that are buffered for scripts at a
// time.
type bodyBudget struct{ used atomic.Int64 }

// take takes n bytes, or none and reports false if there are fewer.
func (b *bodyBudget) take(n, most int64) bool {
	if b.used.Add(n) > most {
		b.used.Add(-n)
		return false
	}
	return true
}

// errNoMemory means that there is no memory for a body that a script has asked
// for; the request gets 503.
var errNoMemory = errors.New("no memory is left for bodies: see bodyBytes")

// bodyBytes is the default of Config.BodyBytes.
func bodyBytes() int64 { return procmem.Bytes() / 4 }

// firstBody is how much memory a body gets at first, since clients may announce
// any length.
const firstBody = 32 << 10

// heldBody is a body, or the beginning of one, in memory that is counted. It
// belongs to one transaction.
type heldBody struct {
	tx    *transaction
	bytes []byte
}

// grow makes space for n more bytes. most is the largest length of the body. It
// reports false if there is no memory.
func (b *heldBody) grow(n, most int) bool {
	need := len(b.bytes) + n
	if need <= cap(b.bytes) {
		return true
	}
	size := max(min(max(2*cap(b.bytes), firstBody), most), need)
	if !b.tx.takeBody(int64(size)) {
		return false
	}
	bytes := append(make([]byte, 0, size), b.bytes...)
	b.tx.giveBody(int64(cap(b.bytes)))
	b.bytes = bytes
	return true
}

// errTooLong means that a body is longer than a script has asked for.
var errTooLong = errors.New("the body is too long")

// read reads a body of up to most bytes. announced is its length, or negative
// if that is not known.
func (b *heldBody) read(r io.Reader, most int, announced int64) error {
	if announced > int64(most) {
		return errTooLong
	}
	size := most
	if announced >= 0 {
		size = int(announced)
	}
	for len(b.bytes) < size {
		if !b.grow(1, size) {
			return errNoMemory
		}
		n, err := r.Read(b.bytes[len(b.bytes):min(cap(b.bytes), size)])
		if b.bytes = b.bytes[:len(b.bytes)+n]; err != nil {
			return notEOF(err)
		}
	}
	// That should be all.
	n, err := io.ReadFull(r, make([]byte, 1))
	if n > 0 {
		return errTooLong
	}
	return notEOF(err)
}

// readRequest reads the part of a request's body that scripts see, and reports
// whether that is the whole body.
func (b *heldBody) readRequest(r io.Reader, rule bodyrule.Request, announced int64) (whole bool, err error) {
	if r == nil {
		return true, nil
	}
	if !rule.Head || announced >= 0 && announced <= int64(rule.Bytes) {
		return true, b.read(r, rule.Bytes, announced)
	}
	for len(b.bytes) < rule.Bytes {
		if !b.grow(1, rule.Bytes) {
			return false, errNoMemory
		}
		n, err := r.Read(b.bytes[len(b.bytes):min(cap(b.bytes), rule.Bytes)])
		if b.bytes = b.bytes[:len(b.bytes)+n]; err != nil {
			return len(b.bytes) < rule.Bytes, notEOF(err)
		}
	}
	return false, nil
}

func notEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// takeBody counts bytes as used by the transaction until it ends.
func (tx *transaction) takeBody(n int64) bool {
	if !tx.vs.bodies.take(n, tx.s.bodyBytes) {
		return false
	}
	tx.bodies += n
	return true
}

func (tx *transaction) giveBody(n int64) {
	tx.bodies -= n
	tx.vs.bodies.used.Add(-n)
}

// noMemory answers a request if there is no memory for its body.
func (tx *transaction) noMemory() {
	tx.record.Error = errNoMemory
	tx.replyText(http.StatusServiceUnavailable)
	tx.reply.header.Set("Retry-After", "1")
}
