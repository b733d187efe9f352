package http1

import (
	"bufio"
	"bytes"
	"net/http"
	"net/textproto"
	"strings"
)

// http.ReadResponse takes the field Connection away when it lists "close", and with it the names of the fields that are
// for the next on the way only (RFC 9110, section 7.6.1). So the header is looked through for that field as it comes in,
// line by line and only at where lines begin; what the field says is left to the standard library's parser.

// A connectionField finds the lines of the field Connection in the header of a response, which may come in any pieces.
type connectionField struct {
	state   fieldState
	matched int      // bytes of the name, in fieldName
	ours    bool     // the line before was of the field; one that begins with a blank continues it
	text    []byte   // the lines that were found, as they came
	room    [40]byte // for text; enough for what most servers say
}

type fieldState uint8

const (
	fieldNone      fieldState = iota // not within a header
	fieldSkip                        // in a line that is of no interest
	fieldLine                        // where a line begins
	fieldLineAfter                   // behind a carriage return where a line begins
	fieldName                        // in what may be the name
	fieldText                        // in a line of the field
)

const fieldPrefix = "connection:"

// begin prepares for the header of the next response, which begins with what r has already.
func (f *connectionField) begin(r *bufio.Reader) {
	f.state, f.ours, f.text = fieldSkip, false, f.room[:0] // the status line is skipped
	here, _ := r.Peek(r.Buffered())
	f.feed(here)
}

// end is for when the header has been parsed.
func (f *connectionField) end() { f.state = fieldNone }

// feed looks through what comes next. Behind the header's end it does nothing.
func (f *connectionField) feed(p []byte) {
	for len(p) > 0 {
		switch f.state {
		case fieldNone:
			return
		case fieldSkip:
			i := bytes.IndexByte(p, '\n')
			if i < 0 {
				return
			}
			p, f.state = p[i+1:], fieldLine
		case fieldLine:
			switch p[0] {
			case 'c', 'C':
				f.state, f.matched = fieldName, 1
				p = p[1:]
			case ' ', '\t':
				f.state = fieldSkip
				if f.ours {
					f.state = fieldText
				}
			case '\n':
				f.state = fieldNone
			case '\r':
				f.state = fieldLineAfter
				p = p[1:]
			default:
				f.state, f.ours = fieldSkip, false
			}
		case fieldLineAfter:
			f.state, f.ours = fieldSkip, false
			if p[0] == '\n' {
				f.state = fieldNone
			}
		case fieldName:
			if b := p[0]; b != fieldPrefix[f.matched] && (b < 'A' || b > 'Z' || b+'a'-'A' != fieldPrefix[f.matched]) {
				f.state, f.ours = fieldSkip, false
				continue
			}
			p = p[1:]
			if f.matched++; f.matched == len(fieldPrefix) {
				f.state, f.ours = fieldText, true
				f.text = append(f.text, fieldPrefix...)
			}
		case fieldText:
			i := bytes.IndexByte(p, '\n') + 1
			if i == 0 {
				f.text = append(f.text, p...)
				return
			}
			f.text = append(f.text, p[:i]...)
			p, f.state = p[i:], fieldLine
		}
	}
}

// values are those of the field, as http.ReadResponse would have them if it left them there. They are nil if there are
// none, or nothing but one "close".
func (f *connectionField) values() []string {
	if len(f.text) == 0 || bytes.EqualFold(bytes.TrimSpace(f.text[len(fieldPrefix):]), []byte("close")) {
		return nil
	}
	lines := textproto.NewReader(bufio.NewReader(strings.NewReader(string(f.text) + "\r\n")))
	header, _ := lines.ReadMIMEHeader() // it was read without a fault before
	return header["Connection"]
}

// readResponse is http.ReadResponse without the loss of what Connection lists besides "close". Who switches protocols and
// wants to close says nothing that can be done: there it stays as http.ReadResponse has it, which is no upgrade.
func (c *conn) readResponse(req *http.Request) (*http.Response, error) {
	c.field.begin(c.br)
	resp, err := http.ReadResponse(c.br, req)
	c.field.end()
	if err != nil {
		return nil, err
	}
	if _, ok := resp.Header["Connection"]; !ok && resp.StatusCode != http.StatusSwitchingProtocols {
		if values := c.field.values(); values != nil {
			resp.Header["Connection"] = values
		}
	}
	return resp, nil
}
