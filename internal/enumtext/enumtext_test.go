package enumtext_test

import (
	"strings"
	"testing"

	"github.com/limpetlb/limpet/internal/enumtext"
)

type color int8

var colors = []string{1: "red", 2: "dark-blue", 4: "HTTP/1.1"}

func TestRoundTrip(t *testing.T) {
	for _, want := range []color{1, 2, 4} {
		text, err := enumtext.Marshal(want, colors)
		if err != nil {
			t.Errorf("Marshal(%d): %v", want, err)
		}
		if s := enumtext.String(want, colors); s != string(text) {
			t.Errorf("String(%d) = %q, Marshal %q", want, s, text)
		}
		var got color
		if err := enumtext.Unmarshal(&got, text, colors); err != nil || got != want {
			t.Errorf("Unmarshal(%q) = %d, %v, want %d", text, got, err, want)
		}
	}
}

func TestNotAConstant(t *testing.T) {
	for _, v := range []color{-1, 0, 3, 5} {
		if s := enumtext.String(v, colors); s != "invalid" {
			t.Errorf("String(%d) = %q", v, s)
		}
		if text, err := enumtext.Marshal(v, colors); err == nil {
			t.Errorf("Marshal(%d) = %q, want an error", v, text)
		}
	}
}

func TestUnmarshal(t *testing.T) {
	for _, tt := range []struct {
		text  string
		want  color
		fault string
	}{
		{text: "red", want: 1},
		{text: "RED", want: 1},
		{text: " red\t", want: 1},
		{text: "darkblue", want: 2},
		{text: "Dark_Blue", want: 2},
		{text: "dark blue", want: 2},
		{text: "http11", want: 4},
		{text: "", want: 9, fault: `"" is not one of red, dark-blue, HTTP/1.1`},
		{text: "re", want: 9, fault: `"re" is not one of red, dark-blue, HTTP/1.1; did you mean "red"?`},
		{text: "red!", want: 9, fault: `"red!" is not one of red, dark-blue, HTTP/1.1; did you mean "red"?`},
		{text: "Drak Bleu", want: 9, fault: `"Drak Bleu" is not one of red, dark-blue, HTTP/1.1; did you mean "dark-blue"?`},
		{text: strings.Repeat("x", 99), want: 9, fault: `"` + strings.Repeat("x", 64) + `" is not one of red, dark-blue, HTTP/1.1`},
		{text: "1", want: 9, fault: `"1" is not one of red, dark-blue, HTTP/1.1`},
		{text: "invalid", want: 9, fault: `"invalid" is not one of red, dark-blue, HTTP/1.1`},
	} {
		got := color(9)
		var fault string
		if err := enumtext.Unmarshal(&got, []byte(tt.text), colors); err != nil {
			fault = err.Error()
		}
		if got != tt.want || fault != tt.fault {
			t.Errorf("Unmarshal(%q) = %d, %q, want %d, %q", tt.text, got, fault, tt.want, tt.fault)
		}
	}
}
