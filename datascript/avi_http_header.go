package datascript

import (
	"net/http"
	"net/textproto"
	"slices"
	"strings"

	lua "github.com/yuin/gopher-lua"

	"github.com/limpetlb/limpet/internal/httpfield"
)

// get_header([name] [, context]) returns the first value of a header, or nil.
// The case of names does not matter; if no name matches, underscores in name
// stand for hyphens. Without a name it returns a table of all headers: the keys
// are in lower case, and the values are strings, or arrays of strings if a
// header occurs more than once. The table is a copy.
func httpGetHeader(c call) int {
	name, side := c.Arg(1), 2
	if isSide(name) {
		name, side = lua.LNil, 1
	}
	h, request := c.side(side)
	if name == lua.LNil {
		return c.Ret(c.headerTable(h, request))
	}
	key := c.Str(1)
	if len(key) > maxName {
		return c.Ret(lua.LNil)
	}
	v, ok := headerValue(h, c.hostFor(request), key)
	if !ok {
		return c.Ret(lua.LNil)
	}
	return c.RetString(v)
}

// hostFor returns the host of the request, which net/http keeps apart from the
// other headers.
func (c call) hostFor(request bool) string {
	if request {
		return c.tx.Request().Host
	}
	return ""
}

func headerValue(h http.Header, host, name string) (string, bool) {
	for {
		key := textproto.CanonicalMIMEHeaderKey(name)
		if key == "Host" && host != "" {
			return host, true
		}
		if v := h[key]; len(v) > 0 {
			return v[0], true
		}
		if !strings.Contains(name, "_") {
			return "", false
		}
		name = strings.ReplaceAll(name, "_", "-")
	}
}

func (c call) headerTable(h http.Header, request bool) *lua.LTable {
	t := c.L.CreateTable(0, len(h)+1)
	if host := c.hostFor(request); host != "" {
		t.RawSetString("host", lua.LString(host))
	}
	for key, values := range h {
		c.Spend(2 + len(values))
		c.Read(len(key))
		for _, v := range values {
			c.Read(len(v))
		}
		switch len(values) {
		case 0:
		case 1:
			t.RawSetString(strings.ToLower(key), lua.LString(values[0]))
		default:
			array := c.L.CreateTable(len(values), 0)
			for _, v := range values {
				array.Append(lua.LString(v))
			}
			t.RawSetString(strings.ToLower(key), array)
		}
	}
	return t
}

// add_header(name, value) appends a header line. Value may also be a number or
// a boolean. In a request event the line goes to the server, in a response
// event to the client.
func httpAddHeader(c call) int {
	key, value := c.headerName(1), c.headerField(2)
	if key == "Host" {
		return c.setHost(value)
	}
	h := c.editHeader(key)
	c.Spend(len(h[key]) >> 4)
	// A new slice: the old one may be shared with the message as received.
	h[key] = append(slices.Clip(h[key]), value)
	return 0
}

// replace_header(name, value) removes all lines of a header and sets one.
// Replacing Host changes the host that the server sees.
func httpReplaceHeader(c call) int {
	key, value := c.headerName(1), c.headerField(2)
	if key == "Host" {
		return c.setHost(value)
	}
	c.editHeader(key)[key] = []string{value}
	return 0
}

// remove_header(name) removes all lines of a header, if there are any.
func httpRemoveHeader(c call) int {
	key := c.headerName(1)
	if key != "Host" {
		delete(c.editHeader(key), key)
	}
	return 0
}

// editHeader returns the header that the event may change, and saves the lines
// of key so that the change can be undone.
func (c call) editHeader(key string) http.Header {
	var h http.Header
	if c.onResponse() {
		if h = c.responseHeader(); h == nil {
			c.Fail("%s: there is no response", c.Sym.Name)
		}
	} else {
		h = c.tx.EditRequest().Header
	}
	old, had := h[key]
	c.undo = append(c.undo, func() {
		if had {
			h[key] = old
		} else {
			delete(h, key)
		}
	})
	return h
}

// writeHeader accounts for n bytes that go into a header. In total, a script
// may write no more than the size of the largest string: the VM shares equal
// values, but on the wire each is sent.
func (c call) writeHeader(n int) {
	if c.run.headers += n; c.run.headers > c.engine.limits.StringBytes {
		c.TooLarge()
	}
}

func (c call) setHost(host string) int {
	if c.onResponse() {
		c.ArgError(1, "Host is not a response header")
	}
	r := c.tx.EditRequest()
	old := r.Host
	c.undo = append(c.undo, func() { r.Host = old })
	r.Host = host
	return 0
}

// headerName reads the name of a header to change. It ignores blanks around the
// name.
func (c call) headerName(n int) string {
	name := strings.Trim(c.name(n), " \t")
	if !httpfield.IsToken(name) {
		c.ArgError(n, "%q is not a header name", name)
	}
	key := textproto.CanonicalMIMEHeaderKey(name)
	if httpfield.IsFraming(key) {
		c.ArgError(n, "header %q is set by the proxy alone", name)
	}
	return key
}

// headerField reads the value of a header to set.
func (c call) headerField(n int) string {
	var s string
	if b, ok := c.Arg(n).(lua.LBool); ok {
		s = b.String()
	} else {
		s = unfold(c.Str(n))
	}
	c.writeHeader(len(s))
	if !httpfield.IsValue(s) {
		c.ArgError(n, "header value %q has a control character", s)
	}
	return s
}

// unfold joins a value that continues on lines which begin with a blank (RFC
// 9112, section 5.2), such as those of avi.ssl.client_cert.
func unfold(s string) string {
	if !strings.Contains(s, "\n") {
		return s
	}
	var b strings.Builder
	for {
		line, rest, more := strings.Cut(s, "\n")
		if !more {
			b.WriteString(line)
			return b.String()
		}
		next := strings.TrimLeft(rest, " \t")
		if next == rest {
			// A line of its own, which is no header value.
			b.WriteString(s)
			return b.String()
		}
		b.WriteString(strings.TrimSuffix(line, "\r"))
		b.WriteByte(' ')
		s = next
	}
}
