package accesslog

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/limpetlb/limpet/internal/logqueue"
)

// Constants there and back as text.
func TestConstants(t *testing.T) {
	for want, c := range map[string]Format{"text": Text, "json": JSON, "combined": Combined, "vcombined": VCombined, "avi": Avi, "off": Off} {
		var got Format
		if err := got.UnmarshalText([]byte(strings.ToUpper(want))); err != nil || got != c || c.String() != want {
			t.Errorf("%q is %v, %v", want, got, err)
		}
	}
	set := FieldsOf([]Field{Query, TLS})
	for want, c := range map[string]Field{"userAgent": UserAgent, "referer": Referer, "query": Query, "tls": TLS, "requestBytes": RequestBytes} {
		var got Field
		if err := got.UnmarshalText([]byte(want)); err != nil || got != c || c.String() != want {
			t.Errorf("%q is %v, %v", want, got, err)
		}
		if set.Has(c) != (c == Query || c == TLS) {
			t.Errorf("%v is in the set: %t", c, set.Has(c))
		}
	}
	for _, text := range []string{"", "jsn"} {
		if err := new(Format).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is a format", text)
		}
	}
	if _, err := Format(0).MarshalText(); err == nil || Field(0).String() != "invalid" {
		t.Error("zero has a text")
	}
}

func TestTakes(t *testing.T) {
	for _, c := range []struct {
		log  Log
		info bool
		warn bool
	}{
		{Log{Format: JSON, Least: slog.LevelDebug}, true, true},
		{Log{Format: JSON, Least: slog.LevelWarn}, false, true},
		{Log{Format: Off}, false, false},
	} {
		if c.log.Takes(slog.LevelInfo) != c.info || c.log.Takes(slog.LevelWarn) != c.warn {
			t.Errorf("%+v", c.log)
		}
	}
}

// A handler passes on lines, also with attributes and groups, and says where
// records go.
func TestHandler(t *testing.T) {
	var lines, records bytes.Buffer
	h := NewHandler(slog.NewTextHandler(&lines, nil))
	log := slog.New(h).With("a", 1).WithGroup("g")
	if Of(log).Log() != nil || Of(slog.Default()) != nil {
		t.Error("records have a place")
	}
	q := logqueue.New(&records)
	to := NewLog(Log{Format: Text, Queue: q})
	h.Use(to)
	if Of(log).Log() != to {
		t.Error("what was derived from the handler does not know where records go")
	}
	log.Info("line", "b", 2)
	r := slog.NewRecord(time.Now(), slog.LevelDebug, "record", 0)
	if err := to.Text().Handle(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if err := q.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(lines.String(), "msg=line a=1 g.b=2\n") || !strings.HasSuffix(records.String(), "msg=record\n") {
		t.Errorf("%s%s", lines.String(), records.String())
	}
	if !Enabled(t.Context(), nil, log, slog.LevelInfo) || Enabled(t.Context(), nil, log, slog.LevelDebug) || !Enabled(t.Context(), to, log, slog.LevelInfo) {
		t.Error("levels")
	}
}

func TestObject(t *testing.T) {
	o := &Object{}
	o.Begin()
	o.Text("empty", "")
	o.Text("text", "a")
	o.Texts("none", nil)
	o.Texts("list", []string{"a", "", "b"})
	o.Number("least", math.MinInt64)
	o.Micros("d", 1999*time.Nanosecond)
	o.Truth("truth", true)
	o.Time("time", time.Date(2026, 1, 2, 3, 4, 5, 6999, time.FixedZone("", 3600)))
	o.Addr("nowhere", netip.Addr{})
	o.Addr("addr", netip.MustParseAddr("2001:db8::1"))
	o.AddrPort("never", netip.AddrPort{})
	o.AddrPort("port", netip.MustParseAddrPort("[2001:db8::1]:80"))
	o.End()
	want := `{"text":"a","list":["a","","b"],"least":-9223372036854775808,"d_us":1,"truth":true,"time":"2026-01-02T02:04:05.000006Z","addr":"2001:db8::1","port":"[2001:db8::1]:80"}` + "\n"
	if string(o.B) != want {
		t.Errorf("%s, want %s", o.B, want)
	}
}

// A string of JSON is what encoding/json makes of it, but for characters that
// only HTML needs escaped.
func FuzzString(f *testing.F) {
	for _, seed := range []string{"", "a", "\"\\\b\f\n\r\t\x00\x1f\x7f", "é€𝄞", "\xff\xfe\xed\xa0\x80", "\u2028\u2029\u202e", "<&>"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		made := AppendString(nil, text)
		var got string
		if err := json.Unmarshal(made, &got); err != nil || got != string([]rune(text)) {
			t.Errorf("%q became %s, %q, %v", text, made, got, err)
		}
		if !utf8.Valid(made) || bytes.ContainsAny(made, "\n\r\u2028\u2029") {
			t.Errorf("%q became %q", text, made)
		}
	})
}

// No text ends the line, or the quotes that it stands in, and it can be read
// back.
func FuzzEscaped(f *testing.F) {
	for _, seed := range []string{"", "a b", "\"\\\n\x00\x1f\x7f\x80\xff", `\x22`, "é"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		made := AppendEscaped(nil, text, " ")
		var back []byte
		for i := 0; i < len(made); i++ {
			c := made[i]
			if c <= ' ' || c >= 0x7f || c == '"' {
				t.Fatalf("%q became %q", text, made)
			}
			if c != '\\' {
				back = append(back, c)
				continue
			}
			back = append(back, unhex(made[i+2])<<4|unhex(made[i+3]))
			i += 3
		}
		if string(back) != text && text != "" || text == "" && string(made) != "-" {
			t.Errorf("%q became %q, and then %q", text, made, back)
		}
	})
}

func unhex(c byte) byte { return byte(strings.IndexByte(hexDigits, c)) }
