package fielderr_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/limpetlb/limpet/internal/fielderr"
)

type inner struct{ A, B int }

type kept struct{ cfg inner }

type outer struct {
	inner
	Name  string
	List  []inner
	Named map[string]inner
	Any   any
	Far   *inner
	Other int
}

func TestOrder(t *testing.T) {
	v := outer{List: make([]inner, 12), Named: map[string]inner{"a.b]": {}, "b": {}}, Any: &kept{inner{}}}
	want := []string{
		"", "a", "b", "name", "list", "list[2].a", "list[2].b", "list[10]", "list[10].a", "list[99]", `named["a.b]"].a`, `named["a.b]"].b`,
		`named["b"].a`, `named["none"]`, "any", "any.a", "any.b", "far.a", "far.b", "other",
	}
	var l fielderr.List
	for i := range want {
		l.Add(want[len(want)-1-i], nil, io.EOF)
	}
	l.Add("other", 2, io.EOF) // stays after the first
	var got []string
	for _, err := range fielderr.Leaves(l.ErrIn(v)) {
		var fault *fielderr.Error
		if !errors.As(err, &fault) {
			t.Fatal(err)
		}
		got = append(got, fault.Path)
	}
	if text := strings.Join(got, "\n"); text != strings.Join(append(want, "other"), "\n") {
		t.Error(text)
	}
}

// TestOrderOfUnknownPaths has paths that lead nowhere, and values without
// fields.
func TestOrderOfUnknownPaths(t *testing.T) {
	for _, v := range []any{nil, 1, outer{}, []int{1}, map[int]int{1: 1}, (*outer)(nil)} {
		var l fielderr.List
		for _, path := range []string{"none.a", "[", "[]", "[x]", "list[-1].a", "list[", `named["`, "name.x", "far[1]", "..", "any.a", "[9223372036854775808]"} {
			l.Add(path, nil, io.EOF)
		}
		if n := len(fielderr.Leaves(l.ErrIn(v))); n != l.Len() {
			t.Errorf("%T: %d faults", v, n)
		}
	}
}

func TestConstant(t *testing.T) {
	var l fielderr.List
	l.Constant("a", color(1))
	l.Constant("b", color(7))
	l.Constant("c", color(0))
	if err := l.Err(); err == nil || err.Error() != "b: 7: EOF\nc: missing: EOF" {
		t.Error(err)
	}
}
