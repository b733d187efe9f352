package policy

import (
	"net/url"
	"strings"
)

// RewriteLocation changes the Location header of a response. Responses without
// one stay as they are.
//
// Host and Path are templates, text with tokens such as host[0] and path[1:]:
// see the package documentation. Their tokens are those of the Location. If the
// Location is relative, it has no host: an empty Host then means the host of
// the request as received. If a template names labels of a host that is missing
// or is an IP address, the rule is skipped.
type RewriteLocation struct {
	Protocol Protocol // required
	Host     string   // template, without port; empty: as it is
	Path     string   // template; a leading slash is added if there is none; empty: as it is
	Port     uint16   // 0: the default port of Protocol, which is left out
	// DropQuery removes the query of the Location.
	DropQuery bool
}

// locationRewrite is the compiled form of a RewriteLocation.
type locationRewrite struct {
	RewriteLocation
	host, path *uriTemplate
}

func (a RewriteLocation) compile(c *compiler, field string) *locationRewrite {
	c.faults.Constant(field+".protocol", a.Protocol)
	r := &locationRewrite{RewriteLocation: a}
	if strings.Contains(a.Host, ":") && !strings.Contains(a.Host, "[") {
		c.faults.Addf(field+".host", a.Host, "has a port; give it in port")
		return r
	}
	r.host = c.template(field+".host", a.Host, true, nil)
	r.path = c.template(field+".path", a.Path, false, nil)
	return r
}

// rewrite returns the new Location; empty if there is none to rewrite.
func (a *locationRewrite) rewrite(s *subjects) (string, error) {
	values := s.response["Location"]
	if len(values) == 0 || values[0] == "" {
		return "", nil
	}
	u, err := url.Parse(values[0])
	if err != nil || u.Opaque != "" || u.Scheme != "" && u.Scheme != "http" && u.Scheme != "https" {
		return "", errBadAddress
	}
	relative := u.Host == ""
	if relative {
		base := &url.URL{Path: "/"}
		if r := s.http; r.URL != nil && strings.HasPrefix(r.URL.Path, "/") {
			base.Path, base.RawPath = r.URL.Path, r.URL.RawPath
		}
		u = base.ResolveReference(u)
	}
	tokens := &uriTokens{host: strings.TrimSuffix(hostWithoutPort(u.Host), "."), path: u.EscapedPath()}
	if !strings.HasPrefix(tokens.path, "/") {
		tokens.path = "/" + tokens.path
	}
	if relative && a.host == nil {
		tokens.host = strings.TrimSuffix(hostWithoutPort(s.http.Host), ".")
	}
	host, path, err := tokens.address(a.host, a.path)
	if err != nil {
		return "", err
	}
	query := u.RawQuery
	if a.DropQuery {
		query = ""
	}
	location := appendURL(nil, a.Protocol, host, a.Port, path, query)
	if u.Fragment != "" {
		location = append(location, '#')
		location = appendURLSafe(location, u.EscapedFragment())
	}
	return string(location), nil
}
