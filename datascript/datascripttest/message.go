package datascripttest

import (
	"bufio"
	"fmt"
	"maps"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
)

// A message is a request or a response as a case spells it: directives, a start
// line, a header and a body. All parts but the start line may be missing;
// directives may stand alone.
type message struct {
	directives []directive
	line       int    // of the start line, in the section; -1 without one
	start      string // the start line
	head       string // the start line, the header and an empty line, ready for net/http
	body       string // without the last line break
}

// A directive is a line of a case that begins with "# ".
type directive struct {
	line  int
	words []string
}

// messages splits a section. A message begins with a directive or with a line
// that is a start line; its header ends at an empty line, and its body where
// the next message begins.
func (s *section) messages(isStart func(string) bool) ([]message, error) {
	const (
		before = iota // the start line
		header
		body
	)
	var list []message
	var text []string // of the body
	state := body     // so that the first line begins a message
	next := func() {
		list = append(list, message{line: -1})
		state = before
	}
	finish := func() {
		if len(list) > 0 {
			for len(text) > 0 && text[len(text)-1] == "" {
				text = text[:len(text)-1]
			}
			list[len(list)-1].body = strings.Join(text, "\n")
		}
		text = nil
	}
	for n, line := range s.lines() {
		switch {
		case line == "#" || strings.HasPrefix(line, "# "):
			words, err := splitWords(line[1:])
			if err != nil {
				return nil, s.errorf(n, "%v", err)
			}
			if len(words) == 0 {
				return nil, s.errorf(n, "empty directive")
			}
			if state != before {
				finish()
				next()
			}
			m := &list[len(list)-1]
			m.directives = append(m.directives, directive{n, words})
		case isStart(line) && state != header:
			if state != before {
				finish()
				next()
			}
			m := &list[len(list)-1]
			m.line, m.start, m.head = n, line, line+"\r\n"
			state = header
		case line == "" && state != body:
			if state == header {
				state = body
			}
		case state == header:
			name, _, ok := strings.Cut(line, ":")
			if !ok || name == "" || strings.ContainsAny(name, " \t") {
				return nil, s.errorf(n, "%q is not a header line", line)
			}
			list[len(list)-1].head += line + "\r\n"
		case state == body && (len(list) > 0 || line == ""):
			text = append(text, line)
		default:
			return nil, s.errorf(n, "%q begins no message", line)
		}
	}
	finish()
	for i := range list {
		list[i].head += "\r\n"
	}
	return list, nil
}

func isRequestLine(line string) bool {
	return strings.HasSuffix(line, " HTTP/1.1") && strings.Count(line, " ") == 2
}

func isStatusLine(line string) bool { return strings.HasPrefix(line, "HTTP/1.1 ") }

// request makes a request of a message.
func (m *message) request() (*http.Request, error) {
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(m.head)))
	switch {
	case err != nil:
		return nil, err
	case r.Host == "":
		return nil, fmt.Errorf("%s: no Host", m.start)
	case len(r.TransferEncoding) > 0:
		return nil, fmt.Errorf("%s: Transfer-Encoding: the body is what follows the header", m.start)
	}
	if err := m.checkLength(r.Header); err != nil {
		return nil, err
	}
	r.Body, r.ContentLength = newBody([]byte(m.body)), int64(len(m.body))
	return r, nil
}

// response makes a response of a message.
func (m *message) response() (*Response, error) {
	code, _, _ := strings.Cut(strings.TrimPrefix(m.start, "HTTP/1.1 "), " ")
	status, err := strconv.Atoi(code)
	if err != nil || status < 200 || status > 599 {
		return nil, fmt.Errorf("status %q is not between 200 and 599", code)
	}
	_, header, _ := strings.Cut(m.head, "\r\n")
	h, err := textproto.NewReader(bufio.NewReader(strings.NewReader(header))).ReadMIMEHeader()
	if err != nil {
		return nil, err
	}
	if err := m.checkLength(http.Header(h)); err != nil {
		return nil, err
	}
	return &Response{Status: status, Header: http.Header(h), Body: []byte(m.body)}, nil
}

func (m *message) checkLength(h http.Header) error {
	if v := h.Get("Content-Length"); v != "" && v != strconv.Itoa(len(m.body)) {
		return fmt.Errorf("%s: Content-Length is %s, but the body has %d bytes", m.start, v, len(m.body))
	}
	return nil
}

// writeHead writes a start line and a header, sorted by name.
func writeHead(b *strings.Builder, start string, h http.Header) {
	b.WriteString(start + "\n")
	for _, name := range slices.Sorted(maps.Keys(h)) {
		for _, v := range h[name] {
			fmt.Fprintf(b, "%s: %s\n", name, v)
		}
	}
}

func writeBody(b *strings.Builder, body []byte) {
	if len(body) > 0 {
		fmt.Fprintf(b, "\n%s\n", body)
	}
}
