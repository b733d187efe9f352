package policy

import (
	"net/http"
	"net/netip"
	"net/textproto"
	"slices"
	"strings"

	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/internal/httpfield"
)

// An Edit changes a header or a cookie, of the request that is sent to the
// server or of the response that is sent to the client: one of [AddHeader],
// [ReplaceHeader], [RemoveHeader], [AddCookie], [ReplaceCookie] and
// [RemoveCookie], by value. Other packages cannot add to them.
//
// Values may contain variables such as $client_ip: see the package
// documentation. An edit has no effect if one of its variables has no value for
// the transaction, or one that is not valid in a header or a cookie.
//
// Constructors refuse edits of headers that frame messages or belong to one
// connection: Connection, Content-Length, Keep-Alive, Proxy-Connection, TE,
// Trailer, Transfer-Encoding and Upgrade.
type Edit interface {
	edit()
}

// AddHeader adds a header and keeps existing ones of the same name. Host cannot
// be added.
type AddHeader struct {
	Name  string // in any case
	Value string // may contain variables
}

// ReplaceHeader removes all headers of a name and adds one. In a request, Host
// is the host that the server gets.
type ReplaceHeader struct {
	Name  string // in any case
	Value string // may contain variables
}

// RemoveHeader removes all headers of a name. Host cannot be removed.
type RemoveHeader struct {
	Name string // in any case
}

// AddCookie adds a cookie and keeps existing ones of the same name. In a
// response it is a session cookie for all paths.
type AddCookie struct {
	Name  string // case-sensitive
	Value string // may contain variables
}

// ReplaceCookie removes all cookies of a name and adds one. In a response the
// new cookie has the attributes, such as Path and Secure, of the first cookie
// that it replaces; if there is none, it is a session cookie for all paths.
type ReplaceCookie struct {
	Name  string // case-sensitive
	Value string // may contain variables
}

// RemoveCookie removes all cookies of a name; in a response, all Set-Cookie
// headers for it.
type RemoveCookie struct {
	Name string // case-sensitive
}

func (AddHeader) edit()     {}
func (ReplaceHeader) edit() {}
func (RemoveHeader) edit()  {}
func (AddCookie) edit()     {}
func (ReplaceCookie) edit() {}
func (RemoveCookie) edit()  {}

// compiledEdit is the compiled form of an Edit.
type compiledEdit struct {
	cookie bool
	name   string // of a header, in canonical form
	remove bool   // existing ones are removed
	add    bool   // value is added
	value  textValue
}

func (c *compiler) edits(field string, edits []Edit) []compiledEdit {
	var all []compiledEdit
	for i, e := range edits {
		at := fielderr.Index(field+".edits", i)
		var source string
		compiled := compiledEdit{}
		switch e := e.(type) {
		case AddHeader:
			compiled.name, source, compiled.add = e.Name, e.Value, true
		case ReplaceHeader:
			compiled.name, source, compiled.add, compiled.remove = e.Name, e.Value, true, true
		case RemoveHeader:
			compiled.name, compiled.remove = e.Name, true
		case AddCookie:
			compiled.cookie, compiled.name, source, compiled.add = true, e.Name, e.Value, true
		case ReplaceCookie:
			compiled.cookie, compiled.name, source, compiled.add, compiled.remove = true, e.Name, e.Value, true, true
		case RemoveCookie:
			compiled.cookie, compiled.name, compiled.remove = true, e.Name, true
		case nil:
			c.faults.Addf(at, nil, "missing")
			continue
		default:
			c.faults.Addf(at, nil, "%T is not an edit; give the struct, not a pointer to it", e)
			continue
		}
		if !httpfield.IsToken(compiled.name) {
			c.faults.Addf(at+".name", compiled.name, "not a name")
		}
		if !compiled.cookie {
			compiled.name = textproto.CanonicalMIMEHeaderKey(compiled.name)
			if httpfield.IsFraming(compiled.name) || compiled.name == "Host" && !(compiled.add && compiled.remove) {
				c.faults.Addf(at+".name", compiled.name, "cannot be edited so")
			}
		}
		var err error
		if compiled.value, err = parseValue(source); err != nil {
			c.faults.Add(at+".value", nil, err) // the value may be a secret
		}
		for _, p := range compiled.value {
			if !httpfield.IsValue(p.text) || compiled.cookie && !isCookieValue(p.text) {
				c.faults.Addf(at+".value", nil, "has characters that cannot be sent")
			}
		}
		if compiled.add && !compiled.cookie && compiled.name == "Host" && isConstant(compiled.value) && !isHost(source) {
			c.faults.Addf(at+".value", source, "not a host, with or without a port")
		}
		all = append(all, compiled)
	}
	return all
}

// expand returns the new value; false if there is none.
func (e *compiledEdit) expand(tx Transaction) (string, bool) {
	if !e.add {
		return "", true
	}
	value, ok := e.value.expand(tx)
	return value, ok && (!e.cookie || isCookieValue(value))
}

// editRequest applies the edit to the request that is sent.
func (e *compiledEdit) editRequest(tx Transaction, out *http.Request) {
	value, ok := e.expand(tx)
	switch {
	case !ok:
	case e.cookie:
		editCookies(out.Header, e, value)
	case e.name == "Host":
		if isHost(value) {
			out.Host = value
		}
	default:
		editHeader(out.Header, e, value)
	}
}

// isConstant reports whether a value has no variables.
func isConstant(v textValue) bool {
	return !slices.ContainsFunc(v, func(p valuePart) bool { return p.variable != nil })
}

// isHost reports whether a request may have this host.
func isHost(host string) bool {
	name := hostWithoutPort(host)
	return redirectable(name, host[len(name):])
}

// editResponse applies the edit to the response.
func (e *compiledEdit) editResponse(tx Transaction, h http.Header) {
	value, ok := e.expand(tx)
	switch {
	case !ok:
	case e.cookie:
		editSetCookies(h, e, value)
	default:
		editHeader(h, e, value)
	}
}

// editHeader makes a new list of values instead of changing the old one, which
// others may use.
func editHeader(h http.Header, e *compiledEdit, value string) {
	var values []string
	if !e.remove {
		values = slices.Clone(h[e.name])
	}
	if e.add {
		values = append(values, value)
	}
	setHeader(h, e.name, values)
}

func setHeader(h http.Header, name string, values []string) {
	if len(values) == 0 {
		delete(h, name)
		return
	}
	h[name] = values
}

// editCookies edits the cookies of a request. Other cookies stay byte for byte
// as they are. All end up in one header (RFC 6265, section 5.4).
func editCookies(h http.Header, e *compiledEdit, value string) {
	var kept []string
	for _, line := range h["Cookie"] {
		for pair, c := range httpfield.Cookies(line) {
			pair = textproto.TrimString(pair)
			if pair != "" && !(e.remove && c.Name == e.name) {
				kept = append(kept, pair)
			}
		}
	}
	if e.add {
		kept = append(kept, e.name+"="+value)
	}
	if len(kept) == 0 {
		delete(h, "Cookie")
		return
	}
	h["Cookie"] = []string{strings.Join(kept, "; ")}
}

// editSetCookies edits the cookies that a response sets.
func editSetCookies(h http.Header, e *compiledEdit, value string) {
	var kept []string
	attributes, found := "; Path=/", false
	for _, line := range h["Set-Cookie"] {
		c, rest := httpfield.ParseSetCookie(line)
		if !e.remove || c.Name != e.name {
			kept = append(kept, line)
			continue
		}
		if !found {
			found, attributes = true, ""
			if rest != "" {
				attributes = ";" + rest
			}
		}
	}
	if e.add {
		kept = append(kept, e.name+"="+value+attributes)
	}
	setHeader(h, "Set-Cookie", kept)
}

// isCookieValue reports whether s can be the value of a cookie: it has no
// character that ends one (RFC 6265, section 4.1.1; blanks and commas are
// allowed, since servers accept them).
func isCookieValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == ';' || c == '"' || c == '\\' {
			return false
		}
	}
	return strings.TrimSpace(s) == s
}

// addrText formats an address for variables; empty if it is invalid.
func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return normalize(a).String()
}

// String describes the edit in words.
func (e *compiledEdit) String() string {
	kind, verb := "header ", "remove "
	if e.cookie {
		kind = "cookie "
	}
	switch {
	case e.add && e.remove:
		verb = "replace "
	case e.add:
		verb = "add "
	}
	return verb + kind + e.name
}
