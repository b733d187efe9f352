// Package enumtext converts the constants of an integer type to text and back,
// so that configuration files, JSON and logs share one spelling.
//
// Each type has a list of words: words[i] is that of the constant i, and an
// empty word means that i is not a constant. Methods call the functions here:
//
//	var stateWords = []string{Up: "up", Down: "down"}
//
//	func (s State) String() string                 { return enumtext.String(s, stateWords) }
//	func (s State) MarshalText() ([]byte, error)   { return enumtext.Marshal(s, stateWords) }
//	func (s *State) UnmarshalText(b []byte) error  { return enumtext.Unmarshal(s, b, stateWords) }
package enumtext

import (
	"fmt"
	"maps"
	"strings"
	"unicode"

	"github.com/limpetlb/limpet/internal/suggest"
)

// Integer is an integer type whose constants are not negative.
type Integer interface {
	~int | ~int8 | ~int16 | ~int32 | ~int64 | ~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64
}

// String returns the word of v; "invalid" if v is not a constant.
func String[T Integer](v T, words []string) string {
	if word, ok := lookup(v, words); ok {
		return word
	}
	return "invalid"
}

// Marshal returns the word of v. It fails if v is not a constant.
func Marshal[T Integer](v T, words []string) ([]byte, error) {
	if word, ok := lookup(v, words); ok {
		return []byte(word), nil
	}
	return nil, fmt.Errorf("%d is %w", v, fmt.Errorf("not one of %s", list(words)))
}

// Unmarshal sets v to the constant whose word text is, compared as [Equal]
// does. If there is none, v stays as it is and the error lists the words, and
// says which one is perhaps meant.
func Unmarshal[T Integer](v *T, text []byte, words []string) error {
	for i, word := range words {
		if word != "" && Equal(string(text), word) {
			*v = T(i)
			return nil
		}
	}
	return fmt.Errorf("%.64q is %w", text, Unknown(string(text), words))
}

// Unknown returns the fault of a text that is none of the words, without the
// text: "not one of red, blue; did you mean \"red\"?".
func Unknown(text string, words []string) error {
	byPlain := make(map[string]string, len(words))
	for _, word := range words {
		if word != "" {
			byPlain[plain(word)] = word
		}
	}
	if word := byPlain[suggest.Nearest(plain(text), maps.Keys(byPlain))]; word != "" {
		return fmt.Errorf("not one of %s; did you mean %q?", list(words), word)
	}
	return fmt.Errorf("not one of %s", list(words))
}

// Equal reports whether two texts are the same word: case, blanks and "-", "_",
// "." and "/" do not matter, so "does_not_begin_with" is "DoesNotBeginWith" and
// "http11" is "HTTP/1.1".
func Equal(a, b string) bool { return plain(a) == plain(b) }

func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || strings.ContainsRune("-_./", r) {
			return -1
		}
		return unicode.ToLower(r)
	}, text)
}

func lookup[T Integer](v T, words []string) (string, bool) {
	if v < 0 || uint64(v) >= uint64(len(words)) || words[v] == "" {
		return "", false
	}
	return words[v], true
}

func list(words []string) string {
	var all []string
	for _, word := range words {
		if word != "" {
			all = append(all, word)
		}
	}
	return strings.Join(all, ", ")
}
