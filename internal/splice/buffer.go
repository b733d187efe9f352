package splice

import (
	"io"
	"sync"
)

// A Buffer is what bytes are copied through. It comes from a pool.
type Buffer [32 << 10]byte

var buffers = sync.Pool{New: func() any { return new(Buffer) }}

// NewBuffer returns a buffer, which may contain old bytes. Call Free when it is
// no longer needed.
func NewBuffer() *Buffer { return buffers.Get().(*Buffer) }

// Free gives the buffer back. It must not be used any more.
func (b *Buffer) Free() { buffers.Put(b) }

// Copy is [io.Copy] through a Buffer: it uses only the methods Read and Write.
func Copy(to io.Writer, from io.Reader) (int64, error) {
	b := NewBuffer()
	defer b.Free()
	return io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, b[:])
}
