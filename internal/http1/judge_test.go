package http1

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/limpetlb/limpet/internal/httpfield"
)

// A verdict is what a response is, by the letter of RFC 9112 and as far as it
// goes.
type verdict struct {
	kind   kind
	why    string // of one that is broken
	code   int
	header http.Header // of the response, but not what frames it
	body   string
	open   bool // the head has no end
	cut    bool // the head is whole, and the body is not
	keeps  bool // the connection can be used again
	odd    bool // it is doubtful where it ends
	hints  int
	behind bool // something follows that nobody has asked for
}

type kind string

const (
	whole    kind = "whole"
	untilEnd kind = "until the end" // its body ends with the connection
	cut      kind = "cut"           // more has to come
	broken   kind = "broken"
)

// stricter are the reasons for which a Transport refuses what an http.Transport
// takes, and why.
var stricter = map[string]string{
	"field name":        "a blank before the colon hides a field, such as the length, from the standard library's parser",
	"continued line":    "RFC 9112, section 5.2: a proxy answers 502",
	"carriage return":   "RFC 9112, section 2.2: what it stands for is for each to guess",
	"status below 100":  "RFC 9110, section 15: there are none, and net/http's servers panic",
	"version":           "RFC 9110, section 2.5: the syntax of another major version is another",
	"status text":       "control characters do not belong there",
	"coding in 1.0":     "RFC 9112, section 6.1: the framing is faulty; the chunks would become the body",
	"trailer name":      "as a field name",
	"announced trailer": "as a field name",
}

func isBroken(why string) verdict { return verdict{kind: broken, why: why} }

// judge reads a response with its informational ones, slowly and by itself: the
// twin of a Transport with a strict parser.
func judge(method, text string) (v verdict) {
	odd := false
	for hints := 0; ; hints++ {
		rest := text
		v = judgeHead(method, &text)
		v.open = !strings.Contains(rest, "\n\r\n") && !strings.Contains(rest, "\n\n")
		if v.hints = hints; v.kind != whole || v.code < 100 || v.code > 199 || v.code == http.StatusSwitchingProtocols {
			break
		}
		odd = odd || v.odd
	}
	v.behind = v.kind == whole && text != ""
	v.keeps = v.keeps && !odd && v.kind == whole && text == "" && v.code > 199
	return v
}

// judgeLine cuts the next line off.
func judgeLine(text *string) (line string, v verdict) {
	line, rest, ok := strings.Cut(*text, "\n")
	if !ok {
		return "", verdict{kind: cut}
	}
	*text = rest
	line = strings.TrimSuffix(line, "\r")
	if strings.Contains(line, "\r") {
		return "", isBroken("carriage return")
	}
	return line, verdict{kind: whole}
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}

// judgeFields reads lines up to an empty one.
func judgeFields(text *string, folds bool) (http.Header, verdict) {
	header := http.Header{}
	last := ""
	for {
		line, v := judgeLine(text)
		switch {
		case v.kind != whole:
			return nil, v
		case line == "":
			return header, v
		case line[0] == ' ' || line[0] == '\t':
			if !folds || last == "" {
				return nil, isBroken("continued line")
			}
			values := header[last]
			values[len(values)-1] += " " + strings.Trim(line, " \t")
			if hasControl(line) {
				return nil, isBroken("value")
			}
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		value = strings.Trim(value, " \t")
		switch {
		case !ok:
			return nil, isBroken("no colon")
		case !httpfield.IsToken(name):
			return nil, isBroken("field name")
		case hasControl(value):
			return nil, isBroken("value")
		}
		last = http.CanonicalHeaderKey(name)
		header[last] = append(header[last], value)
	}
}

func judgeHead(method string, text *string) verdict {
	line, v := judgeLine(text)
	if v.kind != whole {
		return v
	}
	proto, status, ok := strings.Cut(line, " ")
	status = strings.TrimLeft(status, " ")
	digits, _, _ := strings.Cut(status, " ")
	code, err := strconv.Atoi(digits)
	major, minor, known := http.ParseHTTPVersion(proto)
	switch {
	case !ok || len(digits) != 3 || err != nil || code < 0 || !known:
		return isBroken("status line")
	case major != 1:
		return isBroken("version")
	case code < 100:
		return isBroken("status below 100")
	case hasControl(status):
		return isBroken("status text")
	}
	header, v := judgeFields(text, false)
	if v.kind != whole {
		return v
	}
	v = verdict{kind: whole, code: code, header: header}
	atLeast11 := minor >= 1
	v.keeps = atLeast11 && !httpfield.HasToken(header["Connection"], "close") ||
		minor == 0 && httpfield.HasToken(header["Connection"], "keep-alive") && !httpfield.HasToken(header["Connection"], "close")
	lengths, codings := header["Content-Length"], header["Transfer-Encoding"]
	delete(header, "Transfer-Encoding")
	length := int64(-1)
	for _, l := range lengths {
		n, err := strconv.ParseUint(l, 10, 63)
		if err != nil || l != lengths[0] {
			return isBroken("length")
		}
		length = int64(n)
	}
	if codings != nil && !atLeast11 {
		return isBroken("coding in 1.0")
	}
	if len(codings) > 1 || len(codings) == 1 && !strings.EqualFold(codings[0], "chunked") {
		return isBroken("coding")
	}
	if codings != nil && lengths != nil {
		v.keeps, v.odd = false, true
	}
	if codings != nil {
		for _, list := range header["Trailer"] {
			for name := range strings.SplitSeq(list, ",") {
				switch name = strings.Trim(name, " \t"); {
				case strings.EqualFold(name, "Content-Length"), strings.EqualFold(name, "Transfer-Encoding"), strings.EqualFold(name, "Trailer"):
					return isBroken("framing in the trailer")
				case name != "" && !httpfield.IsToken(name) && method != "HEAD" && code != 204 && code != 304 && code > 199:
					return isBroken("announced trailer")
				}
			}
		}
	}
	switch {
	case code < 200, code == 204:
		if codings != nil || length > 0 || lengths != nil && lengths[0] != "0" {
			v.keeps, v.odd = false, true
		}
		return v
	case code == 304, method == "HEAD":
		return v
	case codings != nil:
		return judgeChunks(v, text)
	case length >= 0:
		if int64(len(*text)) < length {
			v.kind, v.cut = cut, true
			return v
		}
		v.body, *text = (*text)[:length], (*text)[length:]
		return v
	}
	v.kind, v.keeps = untilEnd, false
	v.body, *text = *text, ""
	return v
}

func judgeChunks(v verdict, text *string) verdict {
	fail := func(why string) verdict { return verdict{kind: broken, why: why, code: v.code, cut: true} }
	short := verdict{kind: cut, code: v.code, cut: true}
	for {
		line, rest, ok := strings.Cut(*text, "\n")
		if !ok {
			return short
		}
		line, ok = strings.CutSuffix(line, "\r")
		if !ok || strings.Contains(line, "\r") {
			return fail("chunk")
		}
		digits, _, _ := strings.Cut(strings.TrimRight(line, " \t"), ";")
		size, err := strconv.ParseUint(digits, 16, 64)
		if err != nil || len(digits) > 16 || strings.ContainsAny(digits, "+_") {
			return fail("chunk")
		}
		if *text = rest; size == 0 {
			break
		}
		switch {
		case uint64(len(rest)) > size && rest[size] != '\r', uint64(len(rest)) > size+1 && rest[size+1] != '\n':
			return fail("chunk")
		case uint64(len(rest)) < size || uint64(len(rest))-size < 2:
			return short
		}
		v.body += rest[:size]
		*text = rest[size+2:]
	}
	if strings.HasPrefix(*text, "\r\n") {
		*text = (*text)[2:]
		return v
	}
	if !strings.Contains(*text, "\r\n\r\n") {
		return short // or one that is too long
	}
	trailer, t := judgeFields(text, true)
	_ = trailer
	if t.kind == broken {
		if t.why == "field name" {
			t.why = "trailer name"
		}
		return fail(t.why)
	}
	return v
}
