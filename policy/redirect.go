package policy

import (
	"net/http"
	"strconv"
	"strings"
)

// Redirect answers with a redirect to a URL made from that of the request as
// received. If the URL cannot be made, the rule is skipped and the next one is
// tried: if the request's host is not valid in a URL, if it is an IP address
// and a template names its labels, or if host or path have fewer parts than a
// template names.
//
// Host and Path are templates, text with tokens such as host[0] and path[1:]:
// see the package documentation. If they are empty, those of the request
// remain.
type Redirect struct {
	Protocol Protocol // required
	Host     string   // template, without port
	Path     string   // template; a leading slash is added if there is none
	Port     uint16   // 0: the default port of Protocol, which is left out of the Location
	// DropQuery removes the query of the request.
	DropQuery bool
	// AddQuery is added to the query with "&", or becomes the query if there is
	// none. Characters that are not valid in a URL are percent-encoded.
	AddQuery string
	// Status is 301, 302, 307 or 308; 0 means 302.
	Status int
}

// compiledRedirect is the compiled form of a Redirect.
type compiledRedirect struct {
	Redirect
	host, path *uriTemplate
	match      *compiledMatch
	page       Respond
}

func (a Redirect) compile(c *compiler, field string, m *compiledMatch) *compiledRedirect {
	c.faults.Constant(field+".protocol", a.Protocol)
	if a.Status == 0 {
		a.Status = http.StatusFound
	}
	if !isRedirectStatus(a.Status) {
		c.faults.Addf(field+".status", a.Status, "not 301, 302, 307 or 308")
	}
	if m == nil {
		m = new(compiledMatch)
	}
	r := &compiledRedirect{Redirect: a, match: m, page: builtinPage(a.Status)}
	c.checkQuery(field+".addQuery", a.AddQuery)
	if strings.Contains(a.Host, ":") && !strings.Contains(a.Host, "[") {
		c.faults.Addf(field+".host", a.Host, "has a port; give it in port")
		return r
	}
	r.host = c.template(field+".host", a.Host, true, m)
	r.path = c.template(field+".path", a.Path, false, m)
	return r
}

func (c *compiler) checkQuery(field, query string) {
	if strings.HasPrefix(query, "?") || strings.HasPrefix(query, "&") {
		c.faults.Addf(field, query, "begins with %q, which is not part of the query", query[:1])
	}
}

// location returns the URL to redirect to. It is printable ASCII whatever the
// client sent.
func (a *compiledRedirect) location(s *subjects) (string, error) {
	tokens := a.match.requestTokens(s, a.host, a.path)
	host, path, err := tokens.address(a.host, a.path)
	if err != nil {
		return "", err
	}
	query := ""
	if u := s.http.URL; u != nil && !a.DropQuery {
		query = u.RawQuery
	}
	return string(appendURL(nil, a.Protocol, host, a.Port, path, addedQuery(query, a.AddQuery))), nil
}

// address expands the templates, nil ones to what the tokens come from.
func (t *uriTokens) address(hostTemplate, pathTemplate *uriTemplate) (host, path string, err error) {
	host, path = t.host, t.path
	if hostTemplate != nil {
		host, err = hostTemplate.expandHost(t)
	} else if !redirectable(host, "") {
		err = errBadHost
	}
	if pathTemplate != nil && err == nil {
		path, err = pathTemplate.expandPath(t)
	}
	return host, path, err
}

func appendURL(dst []byte, p Protocol, host string, port uint16, path, query string) []byte {
	dst = append(dst, p.String()...)
	dst = append(dst, "://"...)
	dst = append(dst, host...)
	if port != 0 && port != p.port() {
		dst = append(dst, ':')
		dst = strconv.AppendUint(dst, uint64(port), 10)
	}
	dst = appendURLSafe(dst, path)
	if query != "" {
		dst = append(dst, '?')
		dst = appendURLSafe(dst, query)
	}
	return dst
}

// addedQuery joins two queries.
func addedQuery(query, add string) string {
	if query == "" || add == "" {
		return query + add
	}
	return query + "&" + add
}

// port returns the default port.
func (p Protocol) port() uint16 {
	if p == HTTPS {
		return 443
	}
	return 80
}
