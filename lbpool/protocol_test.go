package lbpool

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestProtocolText(t *testing.T) {
	for _, test := range []struct {
		text string
		want Protocol
		ok   bool
	}{
		{"http1", ProtocolHTTP1, true},
		{"HTTP/1", ProtocolHTTP1, true},
		{"h2", ProtocolH2, true},
		{"H2C", ProtocolH2C, true},
		{"h3", 0, false},
		{"", 0, false},
	} {
		t.Run(test.text, func(t *testing.T) {
			var got Protocol
			err := json.Unmarshal(fmt.Appendf(nil, "%q", test.text), &got)
			if got != test.want || (err == nil) != test.ok {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
	if got := Protocol(9).String(); got != "invalid" {
		t.Error(got)
	}
}

func TestProtocolFaults(t *testing.T) {
	for _, test := range []struct {
		scheme   string
		protocol Protocol
		ok       bool
	}{
		{"", ProtocolHTTP1, true},
		{"https", ProtocolHTTP1, true},
		{"", ProtocolH2C, true},
		{"http", ProtocolH2C, true},
		{"https", ProtocolH2C, false},
		{"https", ProtocolH2, true},
		{"", ProtocolH2, false},
		{"http", ProtocolH2, false},
		{"http", 3, false},
	} {
		t.Run(fmt.Sprint(test.scheme, " ", test.protocol), func(t *testing.T) {
			_, err := New(Config{Name: "p", Scheme: test.scheme, Protocol: test.protocol, Servers: []ServerConfig{{Address: "10.0.0.1:80"}}})
			if test.ok {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if fault, ok := errors.AsType[*FieldError](err); !ok || fault.Path != "protocol" {
				t.Errorf("%v", err)
			}
		})
	}
}

// What is kept of a body for another server is dropped when there will be no
// other attempt, wherever the one under way stands: a stream may go on for
// hours.
func TestKeptBodyIsDropped(t *testing.T) {
	for _, again := range []bool{false, true} {
		t.Run(fmt.Sprint("sent again ", again), func(t *testing.T) {
			g := newGuardedBody(io.NopCloser(iotest.OneByteReader(strings.NewReader("abcdef"))))
			g.keep(0, 4)
			view := g.open()
			buf := make([]byte, 2)
			for range 3 {
				if _, err := view.Read(buf); err != nil {
					t.Fatal(err)
				}
			}
			if g.replayable() || !g.restorable() {
				t.Errorf("replayable %v, restorable %v", g.replayable(), g.restorable())
			}
			want := "def"
			if again {
				view, want = g.open(), "abcdef"
			}
			g.settle()
			if got, err := io.ReadAll(view); string(got) != want || err != nil {
				t.Errorf("%q, %v", got, err)
			}
			if g.kept != nil {
				t.Errorf("%d bytes are kept", len(g.kept))
			}
			view.Close()
		})
	}
}
