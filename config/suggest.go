package config

import (
	"maps"
	"strings"

	"github.com/limpetlb/limpet/internal/suggest"
)

// maxWord is more bytes than anybody types by mistake.
const maxWord = 64

// nearest returns the word that text was perhaps meant to be, whatever the case
// of its letters; see [suggest.Nearest].
func nearest(text string, words []string) string {
	if len(text) > maxWord {
		return ""
	}
	lower := make(map[string]string, len(words))
	for _, word := range words {
		if len(word) <= maxWord && word != text {
			lower[strings.ToLower(word)] = word
		}
	}
	return lower[suggest.Nearest(strings.ToLower(text), maps.Keys(lower))]
}
