package fielderr_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/internal/oneline"
)

func TestName(t *testing.T) {
	for name, want := range map[string]string{
		"a":                         "",
		"Straße 1 / 東京":             "",
		strings.Repeat("a", 255):    "",
		"":                          "name: missing",
		strings.Repeat("é", 128):    "longer than 255 bytes",
		"a\nb":                      `name: "a\nb": not printable text`,
		"\x1b[2J":                   `name: "\x1b[2J": not printable text`,
		"a\tb":                      "not printable text",
		"a\x00":                     "not printable text",
		"a\x7f":                     "not printable text",
		"a\u0085":                   "not printable text",
		"a\u2028b":                  "not printable text",
		"a\u2029b":                  "not printable text",
		"a\u202eb":                  `name: "a\u202eb": not printable text`,
		"a\u2066b":                  "not printable text",
		"a\u200bb":                  "not printable text", // a blank without a width
		"a\u00a0b":                  "not printable text",
		"a\xff":                     "not printable text",
		strings.Repeat("\x00", 256): "longer than 255 bytes",
	} {
		var faults fielderr.List
		faults.Name("name", name)
		if got := fmt.Sprint(faults.Err()); want == "" && faults.Len() > 0 || !strings.Contains(got, want) {
			t.Errorf("%q: %s, want %q", name, got, want)
		}
	}
	var faults fielderr.List
	if faults.OptionalName("name", ""); faults.Len() > 0 {
		t.Error(faults.Err())
	}
}

// What is printable needs no escapes in a line.
func FuzzIsPrintable(f *testing.F) {
	f.Add("a")
	f.Add("\u202e")
	f.Add("a\xff")
	f.Fuzz(func(t *testing.T, s string) {
		if fielderr.IsPrintable(s) && oneline.Escape(s) != s {
			t.Errorf("%q: %q", s, oneline.Escape(s))
		}
	})
}
