package datascript

import "encoding/binary"

// murmur2 is MurmurHash2 by Austin Appleby, in its 32-bit form: a fast hash
// that anyone can make collide.
//
// Each word of four bytes is mixed by itself (multiply, fold the upper bits
// down, multiply) and then into the hash; up to three bytes are left for the
// end, and three more steps spread the last ones over all bits.
func murmur2(data string, seed uint32) uint32 {
	const m = 0x5bd1e995
	h := seed ^ uint32(len(data))
	b := []byte(data)
	for ; len(b) >= 4; b = b[4:] {
		k := binary.LittleEndian.Uint32(b) * m
		h = h*m ^ (k^k>>24)*m
	}
	if len(b) > 0 {
		var rest [4]byte
		copy(rest[:], b)
		h = (h ^ binary.LittleEndian.Uint32(rest[:])) * m
	}
	h = (h ^ h>>13) * m
	return h ^ h>>15
}
