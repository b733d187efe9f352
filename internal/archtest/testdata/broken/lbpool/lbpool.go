package lbpool

// word word word word word word word word word word word word word word word wo
// word word word word word word word word word word word word word word word wor
type pool struct {
	// word word word word word word word word word word word word word word wor
	// word word word word word word word word word word word word word word word
	servers int // word word word word word word word word word word word word word word word word word wo
}

// https://example.com/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa

//	code code code code code code code code code code code code code code code code code code code code code code code code code code code code code code x

//   - item item item item item item item item item item item item item item item item item item item item item item item item item item item item item item x

// Output:
// word word word word word word word word word word word word word word word word word word word word word word word word word word word word word word x

// Raw strings are code.
const text = `
// word word word word word word word word word word word word word word word word word word word word word word word word word word word word word word x
`

// Letters count, not bytes: é é é é é é é é é é é é é é é é é é é é é é é é é é
var _ = text
