package http1

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/limpetlb/limpet/internal/httpfield"
)

// A head is the part of a request before the body, as it is sent.
type head struct {
	bytes    []byte
	length   int64 // of the body that follows; chunked means that it is sent in chunks
	left     bool  // there is something about the request that an http.Transport has to decide about
	switches bool  // it asks for another protocol
}

const chunked = -1

var heads = sync.Pool{New: func() any { return new(head) }}

// build writes the head of req. An error, which matches ErrRequest, means that
// no transport should send it.
func (h *head) build(req *http.Request, closing bool) error {
	if err := h.frame(req); err != nil {
		return err
	}
	method, host := req.Method, req.Host
	if method == "" {
		method = http.MethodGet
	}
	if host == "" {
		host = req.URL.Host
	}
	change, err := checkHost(host)
	if err != nil {
		return err
	}
	h.left = h.left || change
	if cap(h.bytes) > 64<<10 { // do not keep what one request needed
		h.bytes = nil
	}
	b := append(h.bytes[:0], method...)
	b = append(b, ' ')
	if method == http.MethodConnect && req.URL.Path == "" && req.URL.Opaque == "" {
		b = append(b, host...)
	} else if b, err = appendTarget(b, req.URL, method == http.MethodConnect); err != nil {
		return err
	}
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, host...)
	b = append(b, "\r\n"...)
	if agent, ok := req.Header["User-Agent"]; !ok {
		b = append(b, "User-Agent: Go-http-client/1.1\r\n"...)
	} else if len(agent) > 0 && agent[0] != "" {
		if b, err = appendField(b, "User-Agent", agent[:1]); err != nil {
			return err
		}
	}
	connection := req.Header["Connection"]
	h.switches = len(connection) > 0 && httpfield.HasToken(connection, "Upgrade") && req.Header.Get("Upgrade") != ""
	switch {
	case httpfield.HasToken(connection, "close"):
	case req.Close, closing && !h.switches:
		b = append(b, "Connection: close\r\n"...)
	}
	switch {
	case h.length == chunked:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
		if b, err = appendTrailerNames(b, req.Trailer); err != nil {
			return err
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
		if frames(name) {
			return fmt.Errorf("%w: header field %q frames it", ErrRequest, name)
		}
		if b, err = appendField(b, name, values); err != nil {
			return err
		}
	}
	h.bytes = append(b, "\r\n"...)
	return nil
}

// frames reports whether a field, in whatever spelling, says where the request
// goes or ends. The header of an http.Request has it in no other spelling than
// the canonical, in which it is ignored.
func frames(name string) bool {
	switch len(name) {
	case len("Host"):
		return strings.EqualFold(name, "Host")
	case len("Content-Length"):
		return strings.EqualFold(name, "Content-Length")
	case len("Transfer-Encoding"):
		return strings.EqualFold(name, "Transfer-Encoding")
	}
	return false
}

// frame finds out how the body is to be sent. It leaves to an http.Transport
// what would have to be found out by reading: whether there is a body.
func (h *head) frame(req *http.Request) error {
	h.length, h.left = 0, false
	switch {
	case req.URL == nil:
		return fmt.Errorf("%w: it has no URL", ErrRequest)
	case req.URL.Host == "":
		return fmt.Errorf("%w: its URL has no host", ErrRequest)
	case req.Header == nil:
		return fmt.Errorf("%w: it has no header", ErrRequest)
	case req.Method != "" && !httpfield.IsToken(req.Method):
		return fmt.Errorf("%w: invalid method", ErrRequest)
	case requestBody(req) == nil && req.Body == nil && req.ContentLength != 0:
		return fmt.Errorf("%w: it has a length of %d, and no body", ErrRequest, req.ContentLength)
	case requestBody(req) == nil:
		return nil
	}
	switch {
	case len(req.TransferEncoding) == 1 && req.TransferEncoding[0] == "chunked":
		h.length = chunked
	case len(req.TransferEncoding) > 0:
		h.left = true
	case req.ContentLength > 0:
		h.length = req.ContentLength
	default:
		h.length = chunked
		switch req.Method {
		case "", http.MethodGet, http.MethodHead, http.MethodDelete, http.MethodOptions, "PROPFIND", "SEARCH":
			h.left = true // the body may well be empty
		}
	}
	return nil
}

// appendTrailerNames announces a trailer.
func appendTrailerNames(b []byte, trailer http.Header) ([]byte, error) {
	if len(trailer) == 0 {
		return b, nil
	}
	names := make([]string, 0, len(trailer))
	for name, values := range trailer {
		canonical := http.CanonicalHeaderKey(name)
		switch canonical {
		case "Transfer-Encoding", "Trailer", "Content-Length":
			return b, fmt.Errorf("%w: trailer field %q frames it", ErrRequest, name)
		}
		if err := checkField(name, values); err != nil {
			return b, err
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
	return append(b, "\r\n"...), nil
}

// appendField appends the lines of a field, if they are valid.
func appendField(b []byte, name string, values []string) ([]byte, error) {
	if err := checkField(name, values); err != nil {
		return b, err
	}
	name = Spelling(name)
	for _, value := range values {
		b = append(b, name...)
		b = append(b, ": "...)
		b = append(b, strings.Trim(value, " \t")...)
		b = append(b, "\r\n"...)
	}
	return b, nil
}

// checkField says what is wrong with a field. It does not show the value, which
// may be a secret.
func checkField(name string, values []string) error {
	if !httpfield.IsToken(name) {
		return fmt.Errorf("%w: invalid field name %q", ErrRequest, name)
	}
	for _, value := range values {
		if !httpfield.IsValue(value) {
			return fmt.Errorf("%w: invalid value of field %q", ErrRequest, name)
		}
	}
	return nil
}

// Spelling returns the name of a field as it is registered, if that differs
// from what http.CanonicalHeaderKey makes of it and there are programs which
// compare it letter by letter. It returns other names as they are.
func Spelling(canonical string) string {
	switch canonical {
	case "Sec-Websocket-Key":
		return "Sec-WebSocket-Key"
	case "Sec-Websocket-Version":
		return "Sec-WebSocket-Version"
	case "Sec-Websocket-Protocol":
		return "Sec-WebSocket-Protocol"
	case "Sec-Websocket-Extensions":
		return "Sec-WebSocket-Extensions"
	case "Sec-Websocket-Accept":
		return "Sec-WebSocket-Accept"
	case "Soapaction":
		return "SOAPAction"
	case "Te":
		return "TE"
	case "Dnt":
		return "DNT"
	case "Etag":
		return "ETag"
	case "Www-Authenticate":
		return "WWW-Authenticate"
	case "Content-Md5":
		return "Content-MD5"
	case "Mime-Version":
		return "MIME-Version"
	case "Dav":
		return "DAV"
	}
	return canonical
}

// isHost reports whether s is a host with or without a port, in ASCII and
// without a zone.
func isHost(s string) bool {
	for i := range len(s) {
		if classes[s[i]]&inHost == 0 {
			return false
		}
	}
	return s != ""
}

// Classes of bytes, as bits.
const (
	inHost        = 1 << iota // with a port
	inPath                    // of an encoded path
	inDecodedPath             // that url.URL leaves as it is when it encodes a path
	inQuery                   // that is sent as it is
	isHex
)

var classes = func() (c [256]uint8) {
	const hex = "0123456789ABCDEFabcdef"
	const alphanumeric = hex + "GHIJKLMNOPQRSTUVWXYZghijklmnopqrstuvwxyz"
	for class, bytes := range map[uint8]string{
		inHost: alphanumeric + "-._~!$&'()*+,;=:[]",
		inPath: alphanumeric + "-._~!$&'()*+,;=:@/%[]", // brackets as url.URL has it
		isHex:  hex,
	} {
		for _, b := range []byte(bytes) {
			c[b] |= class
		}
	}
	for i := range c {
		decoded := url.URL{Path: "/" + string([]byte{byte(i)})}
		if len(decoded.EscapedPath()) == 2 {
			c[i] |= inDecodedPath
		}
		if i != ' ' && i != '#' {
			c[i] |= inQuery
		}
	}
	return c
}()
