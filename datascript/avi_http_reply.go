package datascript

import (
	"math"
	"net/http"
	"net/textproto"
	"strings"

	lua "github.com/yuin/gopher-lua"

	"github.com/limpetlb/limpet/internal/httpfield"
	"github.com/limpetlb/limpet/internal/lua51"
)

// response(status [, headers [, body]]) answers the client in place of the
// server, or, in a response event, replaces the server's response. Status is a
// number or a string, 200 to 599. Headers is a table of names and values;
// underscores in names stand for hyphens, and a value may be an array. The
// default content type is text/plain. The script goes on; the first response or
// redirect wins.
func httpResponse(c call) int {
	status := c.status(1, 200, 599)
	header := http.Header{}
	if c.Arg(2) != lua.LNil {
		c.Table(2).ForEach(func(k, v lua.LValue) { c.addReplyHeader(header, k, v) })
	}
	body := c.OptStr(3, "")
	if _, ok := header["Content-Type"]; !ok {
		header["Content-Type"] = []string{"text/plain"}
	}
	c.answer(&reply{status: status, header: header, body: []byte(body)})
	return 0
}

func (c call) addReplyHeader(header http.Header, k, v lua.LValue) {
	name, ok := lua51.Text(k)
	if !ok {
		c.ArgError(2, "header name expected, got %s", k.Type())
	}
	if len(name) > maxName {
		c.ArgError(2, "name of %d bytes", len(name))
	}
	c.Spend(4)
	c.Read(4 * len(name))
	name = strings.ReplaceAll(strings.Trim(name, " \t"), "_", "-")
	key := textproto.CanonicalMIMEHeaderKey(name)
	switch {
	case !httpfield.IsToken(name):
		c.ArgError(2, "%q is not a header name", name)
	case key == "Content-Length":
		return // it is always right already
	case httpfield.IsFraming(key):
		c.ArgError(2, "header %q is set by the proxy alone", name)
	}
	if array, ok := v.(*lua.LTable); ok {
		for i := 1; i <= array.Len(); i++ {
			header[key] = append(header[key], c.replyField(name, array.RawGetInt(i)))
		}
		return
	}
	header[key] = append(header[key], c.replyField(name, v))
}

func (c call) replyField(name string, v lua.LValue) string {
	s, ok := c.entryValue(v)
	if !ok {
		c.ArgError(2, "value of header %q: string expected, got %s", name, v.Type())
	}
	c.writeHeader(len(name) + len(s))
	c.Read(len(s))
	s = unfold(s)
	if !httpfield.IsValue(s) {
		c.ArgError(2, "value %q of header %q has a control character", s, name)
	}
	return s
}

// redirect(uri [, status]) answers with a redirect to uri. It percent-encodes
// control characters, blanks and bytes outside ASCII in uri, and nothing else.
// Status is 302, or 301, 303, 307 or 308.
func httpRedirect(c call) int {
	uri := c.Str(1)
	status := http.StatusFound
	if c.Arg(2) != lua.LNil {
		status = c.status(2, 301, 308)
		if !isRedirect(status) {
			c.ArgError(2, "%d is not the status of a redirect", status)
		}
	}
	size := len(uri) + 2*countUnsafe(uri, inLocation)
	c.Allow(size)
	c.writeHeader(size)
	location := escapeLocation(uri)
	c.answer(&reply{status: status, header: http.Header{"Location": {location}}})
	return 0
}

func isRedirect(status int) bool {
	switch status {
	case 301, 302, 303, 307, 308:
		return true
	}
	return false
}

// inLocation are the bytes that are allowed in a header, without blanks.
var inLocation = func() *[256]bool {
	var safe [256]bool
	for c := range safe {
		safe[c] = ' ' < c && c < 0x7f
	}
	return &safe
}()

// escapeLocation percent-encodes the bytes that are not allowed in a header.
func escapeLocation(uri string) string {
	b := make([]byte, 0, len(uri)+2*countUnsafe(uri, inLocation))
	for i := range len(uri) {
		if c := uri[i]; inLocation[c] {
			b = append(b, c)
		} else {
			b = appendEscape(b, c)
		}
	}
	return string(b)
}

// answer stages a reply. After an earlier reply or close it does nothing.
func (c call) answer(r *reply) {
	if c.reply == nil && c.closing == open {
		c.run.reply = r
	}
}

// close_conn([reset]) closes the client's connection, after the reply if
// there is one: by FIN, or by RST if reset is true. The script goes on.
func httpCloseConn(c call) int {
	if c.closing == open {
		c.closing = closeFIN
	}
	if lua.LVAsBool(c.Arg(1)) {
		c.closing = closeRST
	}
	return 0
}

// status reads a status code, a number or a numeral.
func (c call) status(n, low, high int) int {
	s, ok := lua51.Text(c.Arg(n))
	if !ok {
		c.TypeError(n, "number")
	}
	f, ok := c.Number(c.Arg(n))
	if !ok || f != math.Trunc(f) || f < float64(low) || f > float64(high) {
		c.ArgError(n, "status %q is not between %d and %d", s, low, high)
	}
	return int(f)
}
