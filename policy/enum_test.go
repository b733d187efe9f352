package policy

import (
	"encoding"
	"fmt"
	"strings"
	"testing"
)

// Files and JSON hold the constants of all enumerations as text: each must come
// back from its text, however that is spelled, and a wrong word must be refused
// with the words that are allowed.
func TestConstantsAsText(t *testing.T) {
	t.Run("Op", func(t *testing.T) {
		testConstants[Op](t, IsIn, "is in", "is not in", "begins with", "does not begin with", "contains", "does not contain",
			"ends with", "does not end with", "equals", "does not equal", "matches regexp", "does not match regexp", "exists", "does not exist")
	})
	t.Run("Action", func(t *testing.T) {
		testConstants[Action](t, ActionNone, "none", "allow", "close", "reset", "respond", "redirect", "fail", "modify", "report", "rate limit")
	})
	t.Run("Protocol", func(t *testing.T) { testConstants[Protocol](t, HTTP, "http", "https") })
	t.Run("StringGroupKind", func(t *testing.T) { testConstants[StringGroupKind](t, StringList, "list", "map") })
}

// testConstants: the constants from first on have the words.
func testConstants[T interface {
	~uint8
	fmt.Stringer
	encoding.TextMarshaler
}, P interface {
	*T
	encoding.TextUnmarshaler
}](t *testing.T, first T, words ...string) {
	t.Helper()
	for i, word := range words {
		want := first + T(i)
		text, err := want.MarshalText()
		if string(text) != word || err != nil || want.String() != word {
			t.Errorf("%d: MarshalText is %q, %v; String is %q, want %q", want, text, err, want, word)
		}
		for _, spelling := range []string{word, strings.ToUpper(word), strings.ReplaceAll(word, " ", ""), strings.ReplaceAll(word, " ", "-"), " " + strings.ReplaceAll(word, " ", "_") + " "} {
			var got T
			if err := P(&got).UnmarshalText([]byte(spelling)); err != nil || got != want {
				t.Errorf("%q is %d, %v, want %d", spelling, got, err, want)
			}
		}
	}
	for _, bad := range []T{first - 1, first + T(len(words)), 99} {
		if text, err := bad.MarshalText(); err == nil || bad.String() != "invalid" {
			t.Errorf("%d: MarshalText is %q, want an error; String is %q", bad, text, bad)
		}
	}
	var got T
	err := P(&got).UnmarshalText([]byte("nonsense"))
	if want := `"nonsense" is not one of ` + strings.Join(words, ", "); err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

// Files written for earlier versions call a reset "deny" and a close "drop".
func TestActionEarlierWords(t *testing.T) {
	for word, want := range map[string]Action{"deny": ActionReset, "Deny": ActionReset, "drop": ActionClose, " DROP": ActionClose} {
		var got Action
		if err := got.UnmarshalText([]byte(word)); err != nil || got != want {
			t.Errorf("%q is %v, %v, want %v", word, got, err, want)
		}
	}
}
