package bodyrule

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestRead(t *testing.T) {
	for _, tt := range []struct {
		name   string
		head   bool
		body   string
		length int64
		want   string // what is seen; "refused"
		whole  bool
		read   int // bytes of the body, at most
	}{
		{"shorter", false, "abc", -1, "abc", true, 3},
		{"fits", false, "abcd", -1, "abcd", true, 4},
		{"longer", false, "abcdefgh", -1, "refused", false, 5},
		{"declared longer", false, "abcdefgh", 8, "refused", false, 0},
		{"head, shorter", true, "abc", -1, "abc", true, 3},
		{"head, fits as declared", true, "abcd", 4, "abcd", true, 4},
		{"head, fits and nobody knows", true, "abcd", -1, "abcd", false, 4},
		{"head, longer", true, "abcdefgh", -1, "abcd", false, 4},
		{"head, declared longer", true, "abcdefgh", 8, "abcd", false, 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			body := strings.NewReader(tt.body)
			seen, err := Request{Bytes: 4, Head: tt.head}.Read(body, tt.length)
			if err != nil || seen.Refused != (tt.want == "refused") || !seen.Refused && (string(seen.Body) != tt.want || seen.Whole != tt.whole) {
				t.Errorf("%+v, %v", seen, err)
			}
			if n := len(tt.body) - body.Len(); n > tt.read {
				t.Errorf("read %d bytes, want %d at most", n, tt.read)
			}
		})
	}
	broken := errors.New("broken")
	for _, head := range []bool{false, true} {
		if seen, err := (Request{Bytes: 4, Head: head}).Read(io.MultiReader(strings.NewReader("a"), iotest.ErrReader(broken)), -1); !errors.Is(err, broken) {
			t.Errorf("%+v, %v", seen, err)
		}
	}
}

func TestParseBytes(t *testing.T) {
	for text, want := range map[string]int{"0": 0, "1024": 1024, "128KiB": 128 << 10, "32MiB": MaxBytes, "33MiB": -1, "-1": -1, "1kb": -1, "": -1, "KiB": -1} {
		got, err := ParseBytes(text)
		if (err != nil) != (want < 0) || err == nil && got != want {
			t.Errorf("ParseBytes(%q) = %d, %v", text, got, err)
		}
	}
}
