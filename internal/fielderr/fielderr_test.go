package fielderr_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/limpetlb/limpet/internal/fielderr"
)

func TestErrorText(t *testing.T) {
	long := strings.Repeat("a", fielderr.MaxQuoted-1)
	for name, c := range map[string]struct {
		err  fielderr.Error
		want string
	}{
		"path and fault":         {fielderr.Error{Path: "name", Err: io.EOF}, "name: EOF"},
		"value":                  {fielderr.Error{Path: "interval", Value: 2 * time.Hour, Err: io.EOF}, "interval: 2h0m0s: EOF"},
		"text is quoted":         {fielderr.Error{Path: "name", Value: "a\nb", Err: io.EOF}, `name: "a\nb": EOF`},
		"bytes are quoted":       {fielderr.Error{Path: "name", Value: []byte("\xff"), Err: io.EOF}, `name: "\xff": EOF`},
		"no constant":            {fielderr.Error{Path: "event", Value: color(7), Err: io.EOF}, "event: 7: EOF"},
		"constant":               {fielderr.Error{Path: "event", Value: color(1), Err: io.EOF}, `event: "dark blue": EOF`},
		"no path":                {fielderr.Error{Value: 7, Err: io.EOF}, "7: EOF"},
		"long text is cut":       {fielderr.Error{Path: "name", Value: long + "bc", Err: io.EOF}, `name: "` + long + `b"...: EOF`},
		"a rune is not cut":      {fielderr.Error{Path: "name", Value: long + "é", Err: io.EOF}, `name: "` + long + `"...: EOF`},
		"long list is cut":       {fielderr.Error{Path: "x", Value: strings.Split(strings.Repeat("a,", 99), ","), Err: io.EOF}, "x: [" + strings.Repeat("a ", 31) + "a...: EOF"},
		"bytes that are no rune": {fielderr.Error{Path: "x", Value: strings.Repeat("\x80", 99), Err: io.EOF}, `x: "` + strings.Repeat(`\x80`, 60) + `"...: EOF`},
		"no fault":               {fielderr.Error{Path: "name", Value: "a"}, `name: "a": not valid`},
		"nothing":                {fielderr.Error{}, "not valid"},
		// A value with a line feed began a line of its own in a log.
		"named text":                {fielderr.Error{Path: "x", Value: label("a\nb"), Err: io.EOF}, `x: "a\nb": EOF`},
		"list with a line feed":     {fielderr.Error{Path: "x", Value: []string{"a\nb", "c"}, Err: io.EOF}, `x: [a\nb c]: EOF`},
		"mapping with a line feed":  {fielderr.Error{Path: "x", Value: map[string]string{"a\r": "\x1b[2J"}, Err: io.EOF}, `x: map[a\r:\x1b[2J]: EOF`},
		"error with a line feed":    {fielderr.Error{Path: "x", Value: errors.New("a\nb"), Err: io.EOF}, `x: a\nb: EOF`},
		"long list of line feeds":   {fielderr.Error{Path: "x", Value: []string{strings.Repeat("\n", 99)}, Err: io.EOF}, "x: [" + strings.Repeat(`\n`, 63) + "...: EOF"},
		"direction of text changed": {fielderr.Error{Path: "x", Value: []string{"a\u202eb"}, Err: io.EOF}, `x: [a\u202eb]: EOF`},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.err.Error(); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

type label string

type color int

func (c color) MarshalText() ([]byte, error) {
	if c != 1 {
		return nil, io.EOF
	}
	return []byte("dark blue"), nil
}

func TestUnder(t *testing.T) {
	var inner fielderr.List
	inner.Addf("servers[1].ratio", 21, "more than %d", 20)
	inner.Addf("", nil, "no server")
	wrapped := fmt.Errorf("reading: %w", &fielderr.Error{Path: "x", Err: io.EOF})
	var l fielderr.List
	l.AddUnder("pools[0]", errors.Join(inner.Err(), wrapped))
	l.AddUnder("pools[1]", nil)
	want := "pools[0].servers[1].ratio: 21: more than 20\npools[0]: no server\npools[0]: reading: x: EOF"
	if got := l.Err().Error(); got != want || l.Len() != 3 {
		t.Errorf("%d faults:\n%s\nwant:\n%s", l.Len(), got, want)
	}
	if !errors.Is(l.Err(), io.EOF) {
		t.Error("the cause is lost")
	}
	if err := new(fielderr.List).Err(); err != nil {
		t.Errorf("an empty list: %v", err)
	}
	if err := fielderr.Under("x", nil); err != nil {
		t.Errorf("Under nil: %v", err)
	}
}

func TestRename(t *testing.T) {
	var l fielderr.List
	for _, path := range []string{"rules", "rules[1].name", "rules.a", "rulesets", "name"} {
		l.Add(path, nil, io.EOF)
	}
	want := "httpRequest: EOF\nhttpRequest[1].name: EOF\nhttpRequest.a: EOF\nrulesets: EOF\nname: EOF\nEOF"
	if got := fielderr.Rename("rules", "httpRequest", errors.Join(l.Err(), io.EOF)); got.Error() != want {
		t.Errorf("%v\nwant:\n%s", got, want)
	}
	want = "rules: EOF\nrules[1].name: EOF\na: EOF"
	if got := fielderr.Rename("b.c", "", errors.Join(
		&fielderr.Error{Path: "rules", Err: io.EOF}, &fielderr.Error{Path: "rules[1].name", Err: io.EOF}, &fielderr.Error{Path: "b.c.a", Err: io.EOF},
	)); got.Error() != want {
		t.Errorf("%v\nwant:\n%s", got, want)
	}
	if err := fielderr.Rename("rules", "httpRequest", nil); err != nil {
		t.Errorf("Rename nil: %v", err)
	}
}

func TestPaths(t *testing.T) {
	for _, c := range [][3]string{
		{"pools[0]", "servers[1]", "pools[0].servers[1]"}, {"rules", "[3].name", "rules[3].name"}, {"", "a", "a"}, {"a", "", "a"},
	} {
		if got := fielderr.Join(c[0], c[1]); got != c[2] {
			t.Errorf("Join(%q, %q) = %q, want %q", c[0], c[1], got, c[2])
		}
	}
	for field, want := range map[string]string{
		"HealthMonitors": "healthMonitors", "ClientIP": "clientIP", "VSPort": "vsPort", "IPv6Bits": "ipv6Bits", "RedirectToHTTPS": "redirectToHTTPS", "clientIP": "clientIP", "TTL": "ttl", "XForwardedFor": "xForwardedFor", "IPGroups": "ipGroups", "Name": "name", "A": "a", "IPv4Prefix": "ipv4Prefix", "HTTPRequest": "httpRequest", "HTTP2": "http2", "H2C": "h2c",
	} {
		if got := fielderr.Name(field); got != want {
			t.Errorf("Name(%q) = %q, want %q", field, got, want)
		}
	}
	if got := fielderr.Index("rules", 3); got != "rules[3]" {
		t.Errorf("Index = %q", got)
	}
	if got := fielderr.Key("servers", "a\n"); got != `servers["a\n"]` {
		t.Errorf("Key = %q", got)
	}
}
