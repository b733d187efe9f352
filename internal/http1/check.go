package http1

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/limpetlb/limpet/internal/httpfield"
)

// ErrRequest is matched by an error about a request that is to blame itself:
// its method, target, host, header, trailer or length is such that it cannot be
// sent, to this server or another. The server has nothing to do with it. But
// for a wrong trailer or length, which show up at the end of a body, nothing
// was sent.
var ErrRequest = errors.New("request cannot be sent")

// Prepare is for those who give a request to another transport than a
// Transport, which does the same by itself; see [Transport.ChecksRequests]. It
// returns the error, matching ErrRequest, that a Transport would have about the
// request, before anything is sent. Otherwise it returns the request to send:
// req, or a copy of it from which net/http makes the target that a Transport
// would send. The body is left alone in either case.
func Prepare(req *http.Request) (*http.Request, error) {
	h := heads.Get().(*head)
	defer heads.Put(h)
	if err := h.build(req, false); err != nil {
		return nil, err
	}
	return forStandard(req), nil
}

// CheckResponse is for those who get a response from another transport than a
// Transport. It returns an error if the head of the response is one that a
// Transport would have refused, as far as net/http's parser lets that be seen:
// with a status below 100, which net/http's servers panic at, a version of HTTP
// that there is not, a field whose name is none, which may have been meant to
// be the length, or a length that is none or not the only one. HTTP/2 does not
// need the length, but who gets the response over HTTP/1 does. Lengths that are
// the same become one, and the body of a response that has none becomes
// [http.NoBody].
func CheckResponse(resp *http.Response) error {
	if resp.StatusCode < 100 || !httpfield.IsValue(resp.Status) {
		return errStatus
	}
	if resp.Proto != "" && (resp.ProtoMajor < 1 || resp.ProtoMajor > 3) { // 2 and 3 may be what they say
		return errVersion
	}
	for name := range resp.Header {
		if !httpfield.IsToken(name) {
			return errFieldName
		}
	}
	if err := checkTrailerNames(resp.Trailer); err != nil {
		return err
	}
	if err := settleLength(resp.Header); err != nil {
		return err
	}
	if bodyless := resp.StatusCode == http.StatusNoContent || resp.StatusCode == http.StatusNotModified; bodyless && resp.Body != nil && resp.Body != http.NoBody {
		_ = resp.Body.Close()
		resp.Body = http.NoBody
	}
	return nil
}

func settleLength(h http.Header) error {
	lengths := h["Content-Length"]
	for _, length := range lengths {
		if _, err := strconv.ParseUint(length, 10, 63); err != nil || length != lengths[0] {
			return errLength
		}
	}
	if len(lengths) > 1 {
		h["Content-Length"] = lengths[:1]
	}
	return nil
}

var errHost = fmt.Errorf("%w: invalid host", ErrRequest)

// checkHost returns an error if host is not that of a URI, with or without a
// port. It reports whether the standard library has to change it: a name beyond
// ASCII, or a zone.
func checkHost(host string) (change bool, err error) {
	name, port, literal := host, "", false
	if i := strings.IndexByte(host, ']'); i > 0 && host[0] == '[' {
		name, port, literal = host[1:i], host[i+1:], true
	} else if i := strings.IndexByte(host, ':'); i >= 0 {
		name, port = host[:i], host[i:]
	}
	if name == "" || port != "" && port[0] != ':' {
		return false, errHost
	}
	for i := 1; i < len(port); i++ {
		if port[i] < '0' || port[i] > '9' {
			return false, errHost
		}
	}
	for i := range len(name) {
		switch c := name[i]; {
		case c == '%', c >= 0x80:
			change = true
		case classes[c]&inHost == 0, c == '[', c == ']', c == ':' && !literal:
			return false, errHost
		}
	}
	if change {
		probe := http.Request{Host: host, URL: &url.URL{Scheme: "http", Host: "host.invalid"}, Header: http.Header{}}
		if !utf8.ValidString(host) || probe.Write(io.Discard) != nil {
			return false, errHost
		}
	}
	return change, nil
}
