package http1

import (
	"bufio"
	"bytes"
	"errors"
	"net/http"
	"net/textproto"
	"strings"

	"github.com/limpetlb/limpet/internal/httpfield"
)

// http.ReadResponse lets pass what a strict parser must not, since what it
// makes of it is not what others do: a blank before the colon of a field, which
// it takes for part of the name, so that a length is not seen; lines that
// continue others; carriage returns in odd places. And it takes the field
// Connection away when it lists "close", and with it the names of the fields
// that are for the next on the way only (RFC 9110, section 7.6.1). So the head
// of a response is looked through as it comes in, line by line; what the lines
// say is left to the standard library's parser.

// A headScan looks through the head of a response, which may come in any
// pieces.
type headScan struct {
	state  scanState
	fault  error // what is wrong with the head
	named  int   // bytes of the line's name
	name   [len("transfer-encoding")]byte
	length bool     // there is a Content-Length
	coding bool     // there is a Transfer-Encoding
	ours   bool     // the line is of the field Connection
	text   []byte   // the lines of that field, as they came
	room   [40]byte // for text; enough for what most servers say
}

type scanState uint8

const (
	scanNone    scanState = iota // not within a head
	scanBegin                    // where a line begins
	scanBeginCR                  // behind a carriage return where a line begins
	scanName                     // in the name of a field
	scanValue                    // in its value, or in the status line
	scanValueCR                  // behind a carriage return there
)

var (
	errFolded    = errors.New("malformed HTTP header: a line continues another")
	errCR        = errors.New("malformed HTTP header: a carriage return without a line feed")
	errFieldName = errors.New("malformed HTTP header: invalid field name")
	errStatus    = errors.New("malformed HTTP status")
	errVersion   = errors.New("malformed HTTP response: another version of HTTP")
	errLength    = errors.New("malformed HTTP response: a length that is none, or another one")
	errCoding    = errors.New("malformed HTTP response: a transfer coding in HTTP/1.0")
)

const connectionPrefix = "connection:"

// begin prepares for the head of the next response, which begins with what r
// has already.
func (f *headScan) begin(r *bufio.Reader) {
	f.state, f.fault = scanValue, nil // of the status line
	f.length, f.coding, f.ours, f.text = false, false, false, f.room[:0]
	here, _ := r.Peek(r.Buffered())
	f.feed(here)
}

// end is for when the head has been parsed.
func (f *headScan) end() { f.state = scanNone }

// feed looks through what comes next. Behind the head's end, or the first
// fault, it does nothing.
func (f *headScan) feed(p []byte) {
	for len(p) > 0 {
		switch f.state {
		case scanNone:
			return
		case scanBegin:
			switch p[0] {
			case '\n':
				f.state = scanNone
			case '\r':
				f.state = scanBeginCR
				p = p[1:]
			case ' ', '\t':
				f.fail(errFolded)
			default:
				f.state, f.named, f.ours = scanName, 0, false
			}
		case scanBeginCR:
			if p[0] != '\n' {
				f.fail(errCR)
			}
			f.state = scanNone
		case scanName:
			p = f.feedName(p)
		case scanValue:
			end := bytes.IndexByte(p, '\n') + 1
			line := p[:end]
			if end == 0 {
				line = p
			}
			if i := bytes.IndexByte(line, '\r'); i >= 0 && i+2 != end {
				if i+1 < len(line) {
					f.fail(errCR)
					return
				}
				f.state = scanValueCR
			}
			if f.ours {
				f.text = append(f.text, line...)
			}
			if p = p[len(line):]; end > 0 {
				f.state = scanBegin
			}
		case scanValueCR:
			if p[0] != '\n' {
				f.fail(errCR)
				return
			}
			f.state = scanValue
		}
	}
}

func (f *headScan) fail(err error) { f.state, f.fault = scanNone, err }

// feedName takes in the name of a field, or a part of it, and returns what is
// behind it.
func (f *headScan) feedName(p []byte) []byte {
	for i, c := range p {
		if !httpfield.IsTokenByte(c) {
			if c != ':' || f.named == 0 {
				f.fail(errFieldName)
				return nil
			}
			f.state = scanValue
			switch f.named {
			case len("connection"):
				if f.ours = string(f.name[:f.named]) == "connection"; f.ours {
					f.text = append(f.text, connectionPrefix...)
				}
			case len("content-length"):
				f.length = f.length || string(f.name[:f.named]) == "content-length"
			case len("transfer-encoding"):
				f.coding = f.coding || string(f.name[:f.named]) == "transfer-encoding"
			}
			return p[i+1:]
		}
		if f.named < len(f.name) {
			f.name[f.named] = c | 0x20 // in lower case
		}
		f.named++
	}
	return nil
}

// connection are the values of the field Connection, as http.ReadResponse would
// have them if it left them there. They are nil if there are none, or nothing
// but one "close".
func (f *headScan) connection() []string {
	if len(f.text) == 0 || bytes.EqualFold(bytes.TrimSpace(f.text[len(connectionPrefix):]), []byte("close")) {
		return nil
	}
	lines := textproto.NewReader(bufio.NewReader(strings.NewReader(string(f.text) + "\r\n")))
	header, _ := lines.ReadMIMEHeader() // it was read without a fault before
	return header["Connection"]
}

// readResponse is http.ReadResponse with a strict parser, and without the loss
// of what Connection lists besides "close". Who switches protocols and wants to
// close says nothing that can be done: there it stays as http.ReadResponse has
// it, which is no upgrade.
//
// A response whose length is told in a way that others may read otherwise is
// the last one on its connection.
func (c *conn) readResponse(req *http.Request) (*http.Response, error) {
	c.head.begin(c.br)
	if c.head.fault != nil {
		return nil, c.head.fault
	}
	resp, err := http.ReadResponse(c.br, req)
	c.head.end()
	switch {
	case c.head.fault != nil:
		return nil, c.head.fault
	case err != nil:
		return nil, err
	case resp.ProtoMajor != 1: // a later minor version is to be read as 1.1 (RFC 9110, section 2.5)
		return nil, errVersion
	case resp.StatusCode < 100, !httpfield.IsValue(resp.Status):
		return nil, errStatus
	case c.head.coding && !resp.ProtoAtLeast(1, 1):
		return nil, errCoding
	}
	if _, ok := resp.Header["Connection"]; !ok && resp.StatusCode != http.StatusSwitchingProtocols {
		if values := c.head.connection(); values != nil {
			resp.Header["Connection"] = values
		}
	}
	resp.Close = resp.Close || c.head.ambiguous(resp)
	return resp, nil
}

// ambiguous reports whether it is doubtful where a response ends: it has a
// length and is chunked, too (RFC 9112, section 6.3), or is one of those that
// have no body and says that it has one (section 6.1, and RFC 9110, section
// 8.6).
func (f *headScan) ambiguous(resp *http.Response) bool {
	switch {
	case f.coding && f.length:
		return true
	case resp.StatusCode < 200, resp.StatusCode == http.StatusNoContent:
		return f.coding || f.length && resp.Header.Get("Content-Length") != "0"
	}
	return false
}
