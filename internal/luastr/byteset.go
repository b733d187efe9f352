package luastr

// byteSet is a set of byte values. Every single-character item of a pattern is
// resolved to one, so that the inner loops of the matcher have a single kind of
// test.
type byteSet [4]uint64

func (b *byteSet) has(c byte) bool { return b[c>>6]&(1<<(c&63)) != 0 }
func (b *byteSet) add(c byte)      { b[c>>6] |= 1 << (c & 63) }

func (b *byteSet) addRange(lo, hi byte) {
	for i := range b {
		first, last := max(int(lo), 64*i), min(int(hi), 64*i+63)
		if first <= last {
			b[i] |= ^uint64(0) >> (63 - (last - first)) << (first & 63)
		}
	}
}

func (b *byteSet) addSet(o *byteSet) {
	for i := range b {
		b[i] |= o[i]
	}
}

func (b *byteSet) invert() {
	for i := range b {
		b[i] = ^b[i]
	}
}

var (
	anyByte  = byteSet{^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)}
	literals [256]byteSet // literals[c] has c alone
	escapes  [256]byteSet // escapes[c] is what %c stands for: a class, or c itself
	specials = setOf("^$*+?.([%-")
)

func setOf(s string) (b byteSet) {
	for i := range len(s) {
		b.add(s[i])
	}
	return b
}

// The classes are those of the C locale, whatever the locale of the process is.
func init() {
	for c := range 256 {
		literals[c].add(byte(c))
	}
	escapes = literals
	classes := []struct {
		letter byte
		ranges string // pairs of first and last byte
	}{
		{'a', "AZaz"},
		{'c', "\x00\x1f\x7f\x7f"},
		{'d', "09"},
		{'l', "az"},
		{'p', "!/:@[`{~"},
		{'s', "\t\r  "},
		{'u', "AZ"},
		{'w', "09AZaz"},
		{'x', "09AFaf"},
		{'z', "\x00\x00"},
	}
	for _, class := range classes {
		var set byteSet
		for i := 0; i < len(class.ranges); i += 2 {
			set.addRange(class.ranges[i], class.ranges[i+1])
		}
		escapes[class.letter] = set
		set.invert()
		escapes[class.letter-'a'+'A'] = set
	}
}
