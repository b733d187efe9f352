package persistence

import "slices"

// The allocator rounds allocations up to size classes, large ones to pages. No
// step below contains two size classes.
const (
	smallStep = 8
	smallMost = 1 << 10
	largeStep = 128
	largeMost = 32 << 10
	pageBytes = 8 << 10
	tinyBytes = 16 // a block of several small strings, which stays as long as one of them
)

// smallSizes and largeSizes are the sizes of allocations, by the number of
// steps.
var smallSizes, largeSizes = allocationSizes()

func allocationSizes() (small [smallMost/smallStep + 1]uint16, large [largeMost/largeStep + 1]uint16) {
	size := 0
	sizeOf := func(n int) uint16 {
		if n > size {
			size = cap(slices.Grow([]byte(nil), n))
		}
		return uint16(size)
	}
	for i := range small {
		small[i] = sizeOf(max(tinyBytes, i*smallStep))
	}
	for i := smallMost / largeStep; i < len(large); i++ {
		large[i] = sizeOf(i * largeStep)
	}
	return small, large
}

// allocated returns how many bytes of memory a string of n bytes takes.
func allocated(n int) int {
	switch {
	case n <= smallMost:
		return int(smallSizes[(n+smallStep-1)/smallStep])
	case n <= largeMost:
		return int(largeSizes[(n+largeStep-1)/largeStep])
	default:
		return (n + pageBytes - 1) / pageBytes * pageBytes
	}
}
