package http1

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// A head is the part of a request before the body, as it is sent.
type head struct {
	bytes  []byte
	length int64 // of the body that follows; chunked means that it is sent in chunks
}

const chunked = -1

var heads = sync.Pool{New: func() any { return new(head) }}

// build writes the head of req. It reports false if there is something about the request that an http.Transport has to
// decide about, or refuse.
func (h *head) build(req *http.Request, closing bool) bool {
	ok := h.frame(req)
	if !ok {
		return false
	}
	method, host := req.Method, req.Host
	if method == "" {
		method = http.MethodGet
	}
	if host == "" {
		host = req.URL.Host
	}
	target := req.URL.RequestURI()
	if strings.ContainsFunc(target, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return false
	}
	if cap(h.bytes) > 64<<10 { // do not keep what one request needed
		h.bytes = nil
	}
	b := append(h.bytes[:0], method...)
	b = append(b, ' ')
	b = append(b, target...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, host...)
	b = append(b, "\r\n"...)
	if agent, ok := req.Header["User-Agent"]; !ok {
		b = append(b, "User-Agent: Go-http-client/1.1\r\n"...)
	} else if len(agent) > 0 && agent[0] != "" {
		if b, ok = appendField(b, "User-Agent", agent[:1]); !ok {
			return false
		}
	}
	connection := req.Header["Connection"]
	switch {
	case hasToken(connection, "close"):
	case req.Close, closing && !(hasToken(connection, "Upgrade") && req.Header.Get("Upgrade") != ""):
		b = append(b, "Connection: close\r\n"...)
	}
	switch {
	case h.length == chunked:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
		if b, ok = appendTrailerNames(b, req.Trailer); !ok {
			return false
		}
	case h.length > 0 || method == http.MethodPost || method == http.MethodPut || method == http.MethodPatch:
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, h.length, 10)
		b = append(b, "\r\n"...)
	}
	for name, values := range req.Header {
		switch name {
		case "Host", "User-Agent", "Content-Length", "Transfer-Encoding", "Trailer":
			continue
		}
		if b, ok = appendField(b, name, values); !ok {
			return false
		}
	}
	h.bytes = append(b, "\r\n"...)
	return true
}

// frame finds out how the body is to be sent. It reports false if the request contradicts itself, or if it would have
// to be found out by reading whether there is a body.
func (h *head) frame(req *http.Request) bool {
	h.length = 0
	if requestBody(req) == nil {
		return req.ContentLength == 0 || req.Body != nil
	}
	switch {
	case len(req.TransferEncoding) == 1 && req.TransferEncoding[0] == "chunked":
		h.length = chunked
	case len(req.TransferEncoding) > 0:
		return false
	case req.ContentLength > 0:
		h.length = req.ContentLength
	default:
		h.length = chunked
		switch req.Method {
		case "", http.MethodGet, http.MethodHead, http.MethodDelete, http.MethodOptions, "PROPFIND", "SEARCH":
			return false // the body may well be empty, which is for base to find out
		}
	}
	return true
}

// appendTrailerNames announces a trailer.
func appendTrailerNames(b []byte, trailer http.Header) ([]byte, bool) {
	if len(trailer) == 0 {
		return b, true
	}
	names := make([]string, 0, len(trailer))
	for name, values := range trailer {
		canonical := http.CanonicalHeaderKey(name)
		switch canonical {
		case "Transfer-Encoding", "Trailer", "Content-Length":
			return b, false
		}
		if !isToken(name) || slices.ContainsFunc(values, func(v string) bool { return !isFieldValue(v) }) {
			return b, false
		}
		names = append(names, canonical)
	}
	slices.Sort(names)
	b = append(b, "Trailer: "...)
	for i, name := range names {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, name...)
	}
	return append(b, "\r\n"...), true
}

// appendField appends the lines of a field. It reports false if they would not be valid.
func appendField(b []byte, name string, values []string) ([]byte, bool) {
	if !isToken(name) {
		return b, false
	}
	for _, value := range values {
		if !isFieldValue(value) {
			return b, false
		}
		b = append(b, name...)
		b = append(b, ": "...)
		b = append(b, strings.Trim(value, " \t")...)
		b = append(b, "\r\n"...)
	}
	return b, true
}

// isToken reports whether s is a token, as methods and field names are (RFC 9110, section 5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		if classes[s[i]]&inToken == 0 {
			return false
		}
	}
	return s != ""
}

// isFieldValue reports whether s can be the value of a field (RFC 9110, section 5.5): no control characters but tabs.
func isFieldValue(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' && s[i] != '\t' || s[i] == 0x7f {
			return false
		}
	}
	return true
}

// isHost reports whether s is a host with or without a port, in ASCII and without a zone.
func isHost(s string) bool {
	for i := range len(s) {
		if classes[s[i]]&inHost == 0 {
			return false
		}
	}
	return s != ""
}

const (
	inToken = 1 << iota
	inHost
)

var classes = func() (c [256]byte) {
	const alphanumeric = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	for _, b := range []byte(alphanumeric + "!#$%&'*+-.^_`|~") {
		c[b] |= inToken
	}
	for _, b := range []byte(alphanumeric + "-._~!$&'()*+,;=:[]") {
		c[b] |= inHost
	}
	return c
}()
