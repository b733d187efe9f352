package policy

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// Match selects requests. Every match that is set must hold; nil matches are
// not looked at, and the zero value selects every request. Inside one match
// any configured value suffices.
type Match struct {
	ClientIP *IPMatch       // compares Transaction.Client
	SourceIP *IPMatch       // compares Transaction.Source
	VSPort   *PortMatch     // compares the port of Transaction.Local
	Protocol *ProtocolMatch // http or https
	Method   *MethodMatch   // the request method
	Version  *VersionMatch  // the version of HTTP
	Path     *PathMatch     // the decoded path
	Query    *QueryMatch    // the decoded query
	Host     *HostMatch     // the host, with or without port
	Headers  []HeaderMatch  // every one of them must hold
	Cookie   *CookieMatch   // one cookie by name
}

// Protocol is the protocol a request came in.
type Protocol uint8

// The protocols. The zero value is none and is refused in a match.
const (
	HTTP  Protocol = iota + 1 // without TLS
	HTTPS                     // over TLS: Request.TLS is set
)

// String returns the protocol in words; "invalid" for a value that is none.
func (p Protocol) String() string {
	switch p {
	case HTTP:
		return "http"
	case HTTPS:
		return "https"
	}
	return "invalid"
}

// ProtocolMatch compares the protocol of the connection that carried the
// request. The scheme in a request's URL is the client's word and not used.
type ProtocolMatch struct {
	Op       Membership // IsNotIn: any other protocol
	Protocol Protocol   // required
}

// MethodMatch compares the request method. Methods are case-sensitive (RFC
// 9110, section 9.1); a standard method not written in upper case is refused.
type MethodMatch struct {
	Op      Membership // IsIn is the zero value
	Methods []string   // at least one
}

// Version is a version of HTTP.
type Version uint8

// The versions. The zero value is none and is refused in a match. A minor
// version above 1.1 counts as 1.1 (RFC 9110, section 2.5).
const (
	HTTP10 Version = iota + 1 // HTTP/1.0
	HTTP11                    // HTTP/1.1
	HTTP2                     // HTTP/2
	HTTP3                     // HTTP/3, if a server outside net/http delivers it
)

// String returns the version in words; "invalid" for a value that is none.
func (v Version) String() string {
	switch v {
	case HTTP10:
		return "HTTP/1.0"
	case HTTP11:
		return "HTTP/1.1"
	case HTTP2:
		return "HTTP/2"
	case HTTP3:
		return "HTTP/3"
	}
	return "invalid"
}

// VersionMatch compares the version of HTTP the client used.
type VersionMatch struct {
	Op       Membership // IsIn is the zero value
	Versions []Version  // at least one
}

// A condition is one compiled match. It fails only for a [RuleError]'s reasons.
type condition func(*subjects) (bool, error)

// compiler collects what the matches of one policy share.
type compiler struct {
	faults
	env      *Env
	fields   []fieldName // headers and cookies that rules look at
	patterns int         // regular expressions so far
}

// compile returns the conditions of m, the cheap ones first and those that
// may ask a service last: a failing service then hurts only requests for
// which its answer matters. With every, a subject with several readings must
// match in all of them, else in one.
func (m *Match) compile(c *compiler, field string, every bool) []condition {
	var all []condition
	add := func(cond condition) { all = append(all, cond) }
	if m.Protocol != nil {
		add(m.Protocol.compile(c, field+".protocol"))
	}
	if m.Version != nil {
		add(m.Version.compile(c, field+".version"))
	}
	if m.Method != nil {
		add(m.Method.compile(c, field+".method"))
	}
	if m.VSPort != nil {
		ports := m.VSPort.compile(&c.faults, field+".vsPort")
		add(func(s *subjects) (bool, error) { return ports.contains(s.port), nil })
	}
	if m.Host != nil {
		add(m.Host.compile(c, field+".host"))
	}
	if m.Path != nil {
		add(m.Path.compile(c, field+".path", every))
	}
	if m.Query != nil {
		add(m.Query.compile(c, field+".query", every))
	}
	for i := range m.Headers {
		add(m.Headers[i].compile(c, indexed(field, "headers", i)))
	}
	if m.Cookie != nil {
		add(m.Cookie.compile(c, field+".cookie"))
	}
	if m.SourceIP != nil {
		ips := m.SourceIP.compile(&c.faults, field+".sourceIP", c.env)
		add(func(s *subjects) (bool, error) { return ips.contains(s.source) })
	}
	if m.ClientIP != nil {
		ips := m.ClientIP.compile(&c.faults, field+".clientIP", c.env)
		add(func(s *subjects) (bool, error) { return ips.contains(s.client) })
	}
	return all
}

func (m *ProtocolMatch) compile(c *compiler, field string) condition {
	checkMembership(&c.faults, field, m.Op)
	if m.Protocol != HTTP && m.Protocol != HTTPS {
		c.addf(field+".protocol", "%d is not a protocol", m.Protocol)
	}
	tls := (m.Protocol == HTTPS) == (m.Op == IsIn)
	return func(s *subjects) (bool, error) { return (s.http.TLS != nil) == tls, nil }
}

func (m *VersionMatch) compile(c *compiler, field string) condition {
	checkMembership(&c.faults, field, m.Op)
	if len(m.Versions) == 0 {
		c.addf(field, "no versions")
	}
	var set [HTTP3 + 1]bool
	for i, v := range m.Versions {
		if v < HTTP10 || v > HTTP3 {
			c.addf(indexed(field, "versions", i), "%d is not a version", v)
			continue
		}
		set[v] = true
	}
	negate := m.Op == IsNotIn
	return func(s *subjects) (bool, error) { return set[versionOf(s.http)] != negate, nil }
}

func versionOf(r *http.Request) Version {
	switch {
	case r.ProtoMajor == 1 && r.ProtoMinor == 0:
		return HTTP10
	case r.ProtoMajor == 1:
		return HTTP11
	case r.ProtoMajor == 2:
		return HTTP2
	case r.ProtoMajor == 3:
		return HTTP3
	}
	return 0
}

var standardMethods = []string{
	"GET", "HEAD", "PUT", "DELETE", "POST", "OPTIONS", "TRACE", "CONNECT", "PATCH",
	"PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK",
}

func (m *MethodMatch) compile(c *compiler, field string) condition {
	checkMembership(&c.faults, field, m.Op)
	if len(m.Methods) == 0 {
		c.addf(field, "no methods")
	}
	for i, method := range m.Methods {
		upper := strings.ToUpper(method)
		switch {
		case !isToken(method):
			c.addf(indexed(field, "methods", i), "%q is not a method", method)
		case method != upper && slices.Contains(standardMethods, upper):
			c.addf(indexed(field, "methods", i), "%q must be written %q", method, upper)
		}
	}
	methods := slices.Clone(m.Methods)
	negate := m.Op == IsNotIn
	return func(s *subjects) (bool, error) { return slices.Contains(methods, s.http.Method) != negate, nil }
}

func checkMembership(f *faults, field string, op Membership) {
	if op > IsNotIn {
		f.addf(field+".op", "%d is not an operator", op)
	}
}

func indexed(field, list string, i int) string {
	return field + "." + list + "[" + strconv.Itoa(i) + "]"
}
