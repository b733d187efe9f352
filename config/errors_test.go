package config

import (
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/limpetlb/limpet"
)

// What errors say in a text, programs find in fields.
func TestErrorFields(t *testing.T) {
	_, err := Parse(t.Context(), "limpet.yaml", []byte(`pools:
  - {name: web, servers: [{address: 10.0.0.1:80, ratio: 99}], algorithm: roundRobbin}
defaultPool: wep
`), nil)
	all, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatal(err)
	}
	var got []Error
	for _, err := range all.Unwrap() {
		var e *Error
		if !errors.As(err, &e) {
			t.Fatalf("%T", err)
		}
		got = append(got, *e)
	}
	want := []Error{
		{File: "limpet.yaml", Line: 2, Column: 57, Path: "pools[0].servers[0].ratio", Value: 99},
		{File: "limpet.yaml", Line: 2, Column: 74, Path: "pools[0].algorithm", Value: "roundRobbin", Suggestion: "roundRobin"},
		{File: "limpet.yaml", Line: 3, Column: 14, Path: "defaultPool", Value: "wep", Suggestion: "web"},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Error{}, "Err")); diff != "" {
		t.Errorf("errors (-want +got):\n%s", diff)
	}
}

func TestErrorText(t *testing.T) {
	fault := errors.New("too much")
	for want, e := range map[string]Error{
		"a.yaml:1:2: pools[0].name: \"x\": too much; did you mean \"y\"?": {File: "a.yaml", Line: 1, Column: 2, Path: "pools[0].name", Value: "x", Err: fault, Suggestion: "y"},
		"a.lua:3: too much":  {File: "a.lua", Line: 3, Err: fault},
		"a.yaml: too much":   {File: "a.yaml", Err: fault},
		"name: 7: too much":  {Path: "name", Value: 7, Err: fault},
		"too much":           {Err: fault},
		"name: \"x\" is bad": {Path: "name", Value: "x", Err: errors.New(`"x" is bad`)},
		"name: 7 is bad":     {Path: "name", Value: 7, Err: errors.New("7 is bad")},
		"name: \"" + strings.Repeat("x", 64) + "\"...: too much": {Path: "name", Value: strings.Repeat("x", 100), Err: fault},
	} {
		if got := e.Error(); got != want {
			t.Errorf("%s\nnot %s", got, want)
		}
	}
	e := &Error{File: "a.yaml", Path: "name", Value: 7, Err: io.EOF}
	if !errors.Is(e, io.EOF) {
		t.Error("the cause is lost")
	}
	var field *limpet.FieldError
	if !errors.As(error(e), &field) || field.Path != "name" || field.Value != 7 || !errors.Is(field, io.EOF) {
		t.Errorf("no FieldError: %+v", field)
	}
	if errors.As(error(e), new(*strconv.NumError)) {
		t.Error("an error of another type")
	}
}
