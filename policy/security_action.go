package policy

import (
	"bytes"
	"cmp"
	"fmt"
	"mime"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"github.com/limpetlb/limpet/internal/bounds"
	"github.com/limpetlb/limpet/internal/fielderr"
)

// SecurityAction is what an HTTP security rule does: one of [Allow], [Close],
// [Respond], [RedirectToHTTPS] and [RateLimit], by value. Other packages
// cannot add to them.
type SecurityAction interface {
	securityAction()
}

// Allow accepts the request: the remaining rules of the policy are not tried.
// Later stages still apply.
type Allow struct{}

// Close closes the connection of the request, without an answer.
type Close struct {
	Reset bool // true: with RST; false: with FIN
}

// Respond answers the request.
type Respond struct {
	// Status is between 200 and 599; there is no default.
	Status int `min:"200" max:"599"`
	// ContentType is the media type of Body; empty means
	// "text/html; charset=utf-8". It must be empty when Body is nil.
	ContentType string
	// Body is sent as it is. Nil means a plain text with the status. For an
	// answer without content use an empty slice that is not nil. The statuses
	// 204, 205 and 304 must not have a body. net/http removes the body from
	// answers to HEAD.
	Body []byte
}

// RedirectToHTTPS redirects to the same host, path and query under
// https. The rule is skipped, and the next one is tried, if the client used TLS
// already ([Transaction].Encrypted), or if the request's host is missing or not
// valid in a URL. It must be a host name or an IPv4 address of ASCII letters,
// digits and ".-_", or an IPv6 address in brackets, each with or without a
// port.
type RedirectToHTTPS struct {
	Port uint16 // 0 means 443, which is left out of the Location
	// Status is 301, 302, 307 or 308; 0 means 302. With 307 and 308, clients
	// send the method and the body of the request again.
	Status int
}

func (Allow) securityAction()           {}
func (Close) securityAction()           {}
func (Respond) securityAction()         {}
func (RedirectToHTTPS) securityAction() {}

// compileSecurityAction checks an action and completes its defaults.
func compileSecurityAction(c *compiler, field string, action SecurityAction) SecurityAction {
	switch a := action.(type) {
	case Allow, Close:
		return a
	case RedirectToHTTPS:
		if a.Status = cmp.Or(a.Status, http.StatusFound); !isRedirectStatus(a.Status) {
			c.faults.Addf(field+".status", a.Status, "not 301, 302, 307 or 308")
		}
		return a
	case Respond:
		return a.compile(&c.faults, field)
	case RateLimit:
		return a.compile(c, field)
	case nil:
		c.faults.Addf(field, nil, "a rule needs an action")
	default:
		c.faults.Addf(field, nil, "%T is not an action; give the struct, not a pointer to it", a)
	}
	return nil
}

func (a Respond) compile(f *fielderr.List, field string) Respond {
	before := f.Len()
	if bounds.Check(field, a, f); f.Len() > before {
		return a
	}
	if a.ContentType != "" {
		if _, _, err := mime.ParseMediaType(a.ContentType); err != nil || !fielderr.IsPrintable(a.ContentType) {
			f.Addf(field+".contentType", a.ContentType, "not a media type")
		}
		if a.Body == nil {
			f.Addf(field+".contentType", a.ContentType, "given without a body")
		}
	}
	switch {
	case !hasContent(a.Status):
		if len(a.Body) > 0 {
			f.Addf(field+".body", nil, "a response with status %d has no content", a.Status)
		}
		a.ContentType = ""
	case a.Body == nil:
		return builtinPage(a.Status)
	case a.ContentType == "":
		a.ContentType = "text/html; charset=utf-8"
	}
	a.Body = bytes.Clone(a.Body)
	return a
}

// hasContent reports whether a final response may have content (RFC 9110,
// section 15).
func hasContent(status int) bool {
	return status != http.StatusNoContent && status != http.StatusResetContent && status != http.StatusNotModified
}

func builtinPage(status int) Respond {
	page := strings.TrimSpace(fmt.Sprintf("%d %s", status, http.StatusText(status))) + "\n"
	return Respond{Status: status, ContentType: "text/plain; charset=utf-8", Body: []byte(page)}
}

// redirectPages are the pages of redirects to HTTPS, by status.
var redirectPages = map[int]Respond{
	http.StatusMovedPermanently:  builtinPage(http.StatusMovedPermanently),
	http.StatusFound:             builtinPage(http.StatusFound),
	http.StatusTemporaryRedirect: builtinPage(http.StatusTemporaryRedirect),
	http.StatusPermanentRedirect: builtinPage(http.StatusPermanentRedirect),
}

// location returns the URL to redirect r to, or false if its host is not valid
// in a URL. The result is printable ASCII whatever the client sent.
func (a RedirectToHTTPS) location(r *http.Request) (string, bool) {
	host := hostWithoutPort(r.Host)
	if !redirectable(host, r.Host[len(host):]) {
		return "", false
	}
	b := append(make([]byte, 0, 256), "https://"...)
	b = append(b, host...)
	if a.Port != 0 && a.Port != 443 {
		b = append(b, ':')
		b = strconv.AppendUint(b, uint64(a.Port), 10)
	}
	if r.URL == nil {
		return string(append(b, '/')), true
	}
	path := r.URL.EscapedPath()
	if path == "*" { // OPTIONS for the server as a whole
		path = ""
	}
	if !strings.HasPrefix(path, "/") {
		b = append(b, '/')
	}
	b = appendURLSafe(b, path)
	if r.URL.RawQuery != "" || r.URL.ForceQuery {
		b = append(b, '?')
		b = appendURLSafe(b, r.URL.RawQuery)
	}
	return string(b), true
}

// redirectable reports whether a host, and the client's text behind it, is
// valid in a URL.
func redirectable(host, port string) bool {
	if port != "" && strings.Trim(port[1:], "0123456789") != "" {
		return false
	}
	if v6, ok := strings.CutPrefix(host, "["); ok {
		addr, err := netip.ParseAddr(strings.TrimSuffix(v6, "]"))
		return err == nil && strings.HasSuffix(v6, "]") && addr.Is6() && addr.Zone() == "" && (port == "" || port[0] == ':')
	}
	for i := range len(host) {
		c := host[i]
		alnum := '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z'
		if !alnum && c != '.' && c != '-' && c != '_' {
			return false
		}
	}
	return strings.Trim(host, ".") != ""
}

// appendURLSafe percent-encodes characters that are not valid in a URL, such as
// control characters and bytes beyond ASCII. It keeps existing escapes.
func appendURLSafe(dst []byte, s string) []byte {
	const hex = "0123456789ABCDEF"
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte("\"#<>\\^`{|}", c) >= 0 {
			dst = append(dst, '%', hex[c>>4], hex[c&15])
			continue
		}
		dst = append(dst, c)
	}
	return dst
}
