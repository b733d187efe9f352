package accesslog

import (
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// An Object appends a JSON object, key by key, to B. Keys must need no escapes.
// Values that say nothing are left out: empty texts and lists, and addresses
// that are not valid.
type Object struct {
	B []byte // what was appended so far
}

// TimeFormat is how lines show a time, which is in UTC.
const TimeFormat = "2006-01-02T15:04:05.000000Z"

// Begin begins the object.
func (o *Object) Begin() { o.B = append(o.B, '{') }

// End ends the object and the line.
func (o *Object) End() { o.B = append(o.B, "}\n"...) }

// Key begins a member, whose value must follow.
func (o *Object) Key(key string) {
	if o.B[len(o.B)-1] != '{' {
		o.B = append(o.B, ',')
	}
	o.B = append(append(append(o.B, '"'), key...), `":`...)
}

// Text adds a text.
func (o *Object) Text(key, value string) {
	if value != "" {
		o.Key(key)
		o.B = AppendString(o.B, value)
	}
}

// Texts adds a list of texts.
func (o *Object) Texts(key string, list []string) {
	for i, text := range list {
		o.Item(key, i, text)
	}
	o.EndItems(len(list))
}

// Item adds the text with a number, from 0, to a list. EndItems must follow the
// last one.
func (o *Object) Item(key string, i int, text string) {
	if i == 0 {
		o.Key(key)
	}
	o.B = AppendString(append(o.B, "[,"[min(i, 1)]), text)
}

// EndItems ends a list of n texts, which is left out if n is 0.
func (o *Object) EndItems(n int) {
	if n > 0 {
		o.B = append(o.B, ']')
	}
}

// Number adds a number.
func (o *Object) Number(key string, n int64) {
	o.Key(key)
	o.B = strconv.AppendInt(o.B, n, 10)
}

// Micros adds a duration in whole microseconds, under the key with _us at its
// end.
func (o *Object) Micros(key string, d time.Duration) {
	o.Key(key)
	o.B = append(o.B[:len(o.B)-len(`":`)], `_us":`...)
	o.B = strconv.AppendInt(o.B, d.Microseconds(), 10)
}

// Truth adds a truth.
func (o *Object) Truth(key string, truth bool) {
	o.Key(key)
	o.B = strconv.AppendBool(o.B, truth)
}

// Time adds a time.
func (o *Object) Time(key string, t time.Time) {
	o.Key(key)
	o.B = append(t.UTC().AppendFormat(append(o.B, '"'), TimeFormat), '"')
}

// Addr adds an address.
func (o *Object) Addr(key string, a netip.Addr) {
	if a.IsValid() {
		o.Key(key)
		o.B = append(a.AppendTo(append(o.B, '"')), '"') // a zone is not of limpet's addresses
	}
}

// AddrPort adds an address with its port.
func (o *Object) AddrPort(key string, a netip.AddrPort) {
	if a.IsValid() {
		o.Key(key)
		o.B = append(a.AppendTo(append(o.B, '"')), '"')
	}
}

const hexDigits = "0123456789abcdef"

// AppendString appends a text as a string of JSON. What is no UTF-8 becomes
// U+FFFD.
func AppendString(b []byte, text string) []byte {
	b = append(b, '"')
	from := 0
	for i := 0; i < len(text); {
		c := text[i]
		if c >= ' ' && c != '"' && c != '\\' && c < 0x7f {
			i++
			continue
		}
		if c < utf8.RuneSelf {
			b = append(b, text[from:i]...)
			switch c {
			case '"', '\\':
				b = append(b, '\\', c)
			case '\n':
				b = append(b, `\n`...)
			case '\r':
				b = append(b, `\r`...)
			case '\t':
				b = append(b, `\t`...)
			default:
				b = append(b, `\u00`...)
				b = append(b, hexDigits[c>>4], hexDigits[c&15])
			}
			i++
			from = i
			continue
		}
		r, n := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			b = append(append(b, text[from:i]...), `\ufffd`...)
			from = i + n
		case r == '\u2028' || r == '\u2029': // which end a line in JavaScript
			b = append(append(b, text[from:i]...), `\u202`...)
			b = append(b, hexDigits[r&15])
			from = i + n
		}
		i += n
	}
	b = append(b, text[from:]...)
	return append(b, '"')
}

// AppendEscaped appends a text for a line like Apache's: quotes, backslashes,
// control characters and bytes from 0x7f on are \xHH, and so is what is in
// also. An empty text is "-".
func AppendEscaped(b []byte, text, also string) []byte {
	if text == "" {
		return append(b, '-')
	}
	for i := range len(text) {
		c := text[i]
		if c >= ' ' && c != '"' && c != '\\' && c < 0x7f && strings.IndexByte(also, c) < 0 {
			b = append(b, c)
		} else {
			b = append(b, '\\', 'x', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return b
}
