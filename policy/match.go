package policy

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/limpetlb/limpet/internal/enumtext"
	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/internal/httpfield"
)

// Match selects requests. Every part that is set must match; nil parts are
// ignored, and the zero value selects every request. A part matches if any of
// its values does.
type Match struct {
	ClientIP *IPMatch       // the address of Transaction.Client
	SourceIP *IPMatch       // the address of Transaction.Source
	VSPort   *PortMatch     // the port of Transaction.Local
	Protocol *ProtocolMatch // http or https
	Method   *MethodMatch   // the request method
	Version  *VersionMatch  // the version of HTTP
	Path     *PathMatch     // the decoded path
	Query    *QueryMatch    // the decoded query

	// Host is compared with the Host header or with the authority of an
	// absolute request target, which takes precedence (RFC 9112, section
	// 3.2.2). It takes text operators. The port and a final dot are removed
	// before comparing. A value with a colon, apart from IPv6 in brackets, is
	// compared with the host as received; a regular expression with a colon is
	// tried on both.
	Host    *TextMatch
	Headers []HeaderMatch // all of them must match
	Cookie  *CookieMatch  // one cookie by name

	Geo        *GeoMatch        // the location of Transaction.Client
	Reputation *ReputationMatch // the reputation of Transaction.Client
}

// Protocol is the protocol of a URL. The zero value is not a known value, and
// the constructors refuse it.
type Protocol uint8

// The protocols.
const (
	HTTP  Protocol = iota + 1 // without TLS
	HTTPS                     // over TLS: see Transaction.Encrypted
)

var protocolWords = []string{HTTP: "http", HTTPS: "https"}

// String returns the protocol, as in a URL; "invalid" for the zero value and
// others that are not a known value.
func (p Protocol) String() string { return enumtext.String(p, protocolWords) }

// MarshalText returns the protocol, as in a URL. It fails if p is not a
// protocol.
func (p Protocol) MarshalText() ([]byte, error) { return enumtext.Marshal(p, protocolWords) }

// UnmarshalText sets p to "http" or "https", in any case.
func (p *Protocol) UnmarshalText(text []byte) error {
	return enumtext.Unmarshal(p, text, protocolWords)
}

// ProtocolMatch compares the protocol that the client used. It ignores the
// scheme of the request's URL, which clients may choose.
type ProtocolMatch struct {
	Op       Op       // IsIn, or IsNotIn for the other protocol
	Protocol Protocol // required
}

// MethodMatch compares the request method. Methods are case-sensitive (RFC
// 9110, section 9.1). A standard method that is not in upper case is refused.
type MethodMatch struct {
	Op      Op       // IsIn or IsNotIn
	Methods []string // at least one
}

// VersionMatch compares the version of HTTP that the client used. A minor
// version above 1.1 is treated as 1.1 (RFC 9110, section 2.5).
type VersionMatch struct {
	Op Op // IsIn or IsNotIn
	// Versions are at least one of "HTTP/1.0", "HTTP/1.1", "HTTP/2" and
	// "HTTP/3". net/http does not serve HTTP/3, but a server outside it may.
	Versions []string
}

// version is a version of HTTP; 0 is any that is not listed here.
type version uint8

const (
	http10 version = iota + 1
	http11
	http2
	http3
)

var versionWords = []string{http10: "HTTP/1.0", http11: "HTTP/1.1", http2: "HTTP/2", http3: "HTTP/3"}

func (v version) String() string { return enumtext.String(v, versionWords) }

// A condition is one compiled match. It fails only for the reasons of a
// [RuleError].
type condition struct {
	about string // the question, such as `path begins with "/admin"`
	holds func(*subjects) (bool, error)
	shown func(*subjects) string // the subject, for an explanation
}

// matches reports whether all conditions are true. x, if not nil, explains
// each.
func matches(conditions []condition, s *subjects, x *explainer) (bool, error) {
	for i := range conditions {
		ok, err := conditions[i].holds(s)
		if x != nil {
			x.condition(&conditions[i], s, ok, err)
		}
		if !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

// compiler collects what the matches of one policy share.
type compiler struct {
	faults   fielderr.List
	env      *Env
	fields   []fieldName // headers and cookies that rules compare
	patterns int         // regular expressions so far
}

// compiledMatch is the compiled form of a Match. Templates use the path and the
// query.
type compiledMatch struct {
	conditions []condition
	path       *pathCondition  // may be nil
	query      *queryCondition // may be nil
}

// compile puts the cheap conditions first and those that may ask a service
// last: a failing service then affects only requests whose outcome depends on
// it. With every, all interpretations of a subject must match, otherwise one.
func (m *Match) compile(c *compiler, field string, every bool) (all compiledMatch) {
	add := func(about string, holds func(*subjects) (bool, error), shown func(*subjects) string) {
		all.conditions = append(all.conditions, condition{about, holds, shown})
	}
	if m := m.Protocol; m != nil {
		add(about("protocol", m.Op, m.Protocol.String()), m.compile(c, field+".protocol"), func(s *subjects) string { return s.protocol().String() })
	}
	if m := m.Version; m != nil {
		add(about("version", m.Op, m.Versions...), m.compile(c, field+".version"), func(s *subjects) string { return versionOf(s.http).String() })
	}
	if m := m.Method; m != nil {
		add(about("method", m.Op, m.Methods...), m.compile(c, field+".method"), func(s *subjects) string { return s.http.Method })
	}
	if m := m.VSPort; m != nil {
		ports := m.compile(&c.faults, field+".vsPort")
		add(about("VS port", m.Op, m.texts()...), func(s *subjects) (bool, error) { return ports.contains(s.port), nil },
			func(s *subjects) string { return strconv.Itoa(int(s.port)) })
	}
	if m := m.Host; m != nil {
		add(about("host", m.Op, quoted(m.Values, nil)...), m.compileHost(c, field+".host"), func(s *subjects) string { return strconv.Quote(s.http.Host) })
	}
	if m := m.Path; m != nil {
		all.path = m.compile(c, field+".path", every)
		add(about("path", m.Op, quoted(m.Values, m.StringGroups)...), all.path.holds, all.path.shown)
	}
	if m := m.Query; m != nil {
		all.query = m.compile(c, field+".query", every)
		add(about("query", m.Op, quoted(m.Values, m.StringGroups)...), all.query.holds, all.query.shown)
	}
	for i := range m.Headers {
		h := &m.Headers[i]
		f := h.compile(c, fielderr.Index(field+".headers", i))
		add(about("header "+f.name.name, h.Op, quoted(h.Values, h.StringGroups)...), f.holds, f.shown)
	}
	if m := m.Cookie; m != nil {
		f := m.compile(c, field+".cookie")
		add(about("cookie "+m.Name, m.Op, quoted(m.Values, nil)...), f.holds, f.shown)
	}
	if m := m.SourceIP; m != nil {
		ips := m.compile(&c.faults, field+".sourceIP", c.env)
		add(about("source IP", m.Op, m.texts()...), func(s *subjects) (bool, error) { return ips.contains(s.source) },
			func(s *subjects) string { return s.source.String() })
	}
	client := func(s *subjects) string { return s.client.String() }
	if m := m.ClientIP; m != nil {
		ips := m.compile(&c.faults, field+".clientIP", c.env)
		add(about("client IP", m.Op, m.texts()...), func(s *subjects) (bool, error) { return ips.contains(s.client) }, client)
	}
	if m := m.Geo; m != nil {
		geo := m.compile(&c.faults, field+".geo", c.env)
		add(about("client "+m.Attribute, m.Op, quoted(m.Values, nil)...), func(s *subjects) (bool, error) { return geo.contains(s.client) }, client)
	}
	if m := m.Reputation; m != nil {
		reputation := m.compile(&c.faults, field+".reputation", c.env)
		add(about("client reputation", m.Op, m.Kinds...), func(s *subjects) (bool, error) { return reputation.contains(s.client) }, client)
	}
	return all
}

func (m *ProtocolMatch) compile(c *compiler, field string) func(*subjects) (bool, error) {
	m.Op.checkSet(&c.faults, field)
	c.faults.Constant(field+".protocol", m.Protocol)
	in := m.Op == IsIn
	protocol := m.Protocol
	return func(s *subjects) (bool, error) { return (s.protocol() == protocol) == in, nil }
}

func (m *VersionMatch) compile(c *compiler, field string) func(*subjects) (bool, error) {
	m.Op.checkSet(&c.faults, field)
	if len(m.Versions) == 0 {
		c.faults.Addf(field+".versions", nil, "missing")
	}
	var set [http3 + 1]bool
	for i, text := range m.Versions {
		var v version
		if err := enumtext.Unmarshal(&v, []byte(text), versionWords); err != nil {
			c.faults.Add(fielderr.Index(field+".versions", i), text, enumtext.Unknown(text, versionWords))
			continue
		}
		set[v] = true
	}
	negate := m.Op == IsNotIn
	return func(s *subjects) (bool, error) { return set[versionOf(s.http)] != negate, nil }
}

func versionOf(r *http.Request) version {
	switch {
	case r.ProtoMajor == 1 && r.ProtoMinor == 0:
		return http10
	case r.ProtoMajor == 1:
		return http11
	case r.ProtoMajor == 2:
		return http2
	case r.ProtoMajor == 3:
		return http3
	}
	return 0
}

var standardMethods = []string{
	"GET", "HEAD", "PUT", "DELETE", "POST", "OPTIONS", "TRACE", "CONNECT", "PATCH",
	"PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK",
}

func (m *MethodMatch) compile(c *compiler, field string) func(*subjects) (bool, error) {
	m.Op.checkSet(&c.faults, field)
	if len(m.Methods) == 0 {
		c.faults.Addf(field+".methods", nil, "missing")
	}
	for i, method := range m.Methods {
		upper := strings.ToUpper(method)
		switch {
		case !httpfield.IsToken(method):
			c.faults.Addf(fielderr.Index(field+".methods", i), method, "not a method")
		case method != upper && slices.Contains(standardMethods, upper):
			c.faults.Addf(fielderr.Index(field+".methods", i), method, "must be written %q", upper)
		}
	}
	methods := slices.Clone(m.Methods)
	negate := m.Op == IsNotIn
	return func(s *subjects) (bool, error) { return slices.Contains(methods, s.http.Method) != negate, nil }
}
