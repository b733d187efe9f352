package policy

import (
	"net/http"
	"net/textproto"
	"slices"
	"strconv"

	"github.com/limpetlb/limpet/internal/httpfield"
)

// HeaderMatch compares the values of one header of a request or response. If
// the header occurs more than once, a positive operator matches if any
// occurrence does. An occurrence is one subject, even if it contains commas.
//
// In requests, "Host" and "Transfer-Encoding" are found although net/http takes
// them out of the header. "Trailer" is refused, since net/http removes it from
// chunked requests.
type HeaderMatch struct {
	Name          string   // in any case
	Op            Op       // a text operator, Exists or DoesNotExist; required
	Values        []string // none with Exists and DoesNotExist, otherwise at least one unless there are StringGroups; "" only with Equals and DoesNotEqual
	StringGroups  []string // names of groups in [Env].StringGroups, whose keys are values as well
	CaseSensitive bool     // false: case is ignored in values
}

// CookieMatch compares the values of one request cookie, without the blanks
// and the double quotes that may surround them. If the cookie occurs more than
// once, a positive operator matches if any occurrence does. Cookies that
// net/http would skip for their characters are compared too, because a server
// may accept them.
type CookieMatch struct {
	Name          string   // case-sensitive (RFC 6265, section 5.4)
	Op            Op       // a text operator, Exists or DoesNotExist; required
	Values        []string // none with Exists and DoesNotExist, otherwise at least one; "" only with Equals and DoesNotEqual
	CaseSensitive bool     // false: case is ignored in values
}

// fieldName names a header, in canonical form, or a cookie.
type fieldName struct {
	cookie   bool
	response bool // a header of the response
	name     string
}

// each calls yield with each value the request has under the name, trimmed.
func (f fieldName) each(r *http.Request, yield func(value string)) {
	switch {
	case f.cookie:
		for _, line := range r.Header["Cookie"] {
			eachCookie(line, f.name, yield)
		}
	case f.name == "Host":
		if r.Host != "" {
			yield(r.Host)
		}
	case f.name == "Transfer-Encoding":
		for _, v := range r.TransferEncoding {
			yield(v)
		}
	default:
		for _, v := range r.Header[f.name] {
			yield(textproto.TrimString(v))
		}
	}
}

// eachCookie calls yield with the value of each cookie of that name in one
// Cookie header.
func eachCookie(line, name string, yield func(value string)) {
	for _, c := range httpfield.Cookies(line) {
		if c.Name == name {
			yield(c.Unquoted())
		}
	}
}

func (m *HeaderMatch) compile(c *compiler, field string) fieldCondition {
	name := textproto.CanonicalMIMEHeaderKey(m.Name)
	switch {
	case !httpfield.IsToken(m.Name):
		c.faults.Addf(field+".name", m.Name, "not a header name")
	case name == "Trailer":
		c.faults.Addf(field+".name", m.Name, "net/http does not deliver this header with every request")
	}
	return compileField(c, field, fieldName{name: name}, m.Op, m.Values, m.StringGroups, m.CaseSensitive, errFieldTooLong)
}

// compileResponse compiles a match on a header of the response.
func (m *HeaderMatch) compileResponse(c *compiler, field string) fieldCondition {
	if !httpfield.IsToken(m.Name) {
		c.faults.Addf(field+".name", m.Name, "not a header name")
	}
	name := fieldName{response: true, name: textproto.CanonicalMIMEHeaderKey(m.Name)}
	return compileField(c, field, name, m.Op, m.Values, m.StringGroups, m.CaseSensitive, errResponseTooLong)
}

func (m *CookieMatch) compile(c *compiler, field string) fieldCondition {
	if !httpfield.IsToken(m.Name) {
		c.faults.Addf(field+".name", m.Name, "not a cookie name")
	}
	return compileField(c, field, fieldName{cookie: true, name: m.Name}, m.Op, m.Values, nil, m.CaseSensitive, errFieldTooLong)
}

// fieldCondition is the compiled form of a match on a header or a cookie.
type fieldCondition struct {
	name   fieldName
	slot   int
	set    *stringSet // nil for Exists and DoesNotExist
	exists bool       // for these two
	negate bool
}

func compileField(c *compiler, at string, name fieldName, op Op, values, groups []string, caseSensitive bool, tooLong error) fieldCondition {
	f := fieldCondition{name: name, slot: c.slot(name)}
	if op.isPresence() {
		f.exists = c.presence(at, op, values, groups)
		return f
	}
	f.negate = op.negative()
	f.set = newStringSet(op.positive(), caseSensitive, c.values(at, op, values, groups, caseSensitive), tooLong)
	c.useGroups(at, f.set, groups, false)
	return f
}

func (f fieldCondition) holds(s *subjects) (bool, error) {
	texts := s.field(f.slot, f.name)
	if f.set == nil {
		return (len(texts) > 0) == f.exists, nil
	}
	for _, t := range texts {
		if in, err := f.set.contains(t); in || err != nil {
			return !f.negate, err
		}
	}
	return f.negate, nil
}

// shown is the field for an explanation.
func (f fieldCondition) shown(s *subjects) string {
	texts := s.field(f.slot, f.name)
	if len(texts) == 0 {
		return "absent"
	}
	var b []byte
	for i, t := range texts {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = strconv.AppendQuote(b, string(t.exact))
	}
	return string(b)
}

// slot returns the index of a field's values in the scratch, shared by all
// matches on the field.
func (c *compiler) slot(f fieldName) int {
	if i := slices.Index(c.fields, f); i >= 0 {
		return i
	}
	c.fields = append(c.fields, f)
	return len(c.fields) - 1
}
