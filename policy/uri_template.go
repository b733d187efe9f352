package policy

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/limpetlb/limpet/internal/fielderr"
)

// uriTemplate is a host or a path with tokens, as the package documentation
// describes them. Brackets only occur in tokens.
type uriTemplate struct {
	source string
	parts  []uriPart
}

type uriToken uint8

const (
	constantToken uriToken = iota
	hostToken
	pathToken
	regexToken
	regexQueryToken
	groupKeyToken
	groupValueToken
)

type uriPart struct {
	token      uriToken
	text       string // of a constant
	start, end int    // of the other tokens, both included
}

// maxTokenIndex is the greatest index of a token; toTheEnd is the end of a
// range that has none.
const (
	maxTokenIndex = 65534
	toTheEnd      = 65535
)

// parseTemplate reads a template.
func parseTemplate(source string) (*uriTemplate, error) {
	t := &uriTemplate{source: source}
	rest := source
	constant := func(text string) error {
		if strings.ContainsAny(text, "]") {
			return errors.New("a bracket that does not belong to a token")
		}
		if text != "" {
			t.parts = append(t.parts, uriPart{text: text})
		}
		return nil
	}
	for {
		open := strings.IndexByte(rest, '[')
		if open < 0 {
			return t, constant(rest)
		}
		name := open
		for name > 0 && (rest[name-1] == '_' || isAlnum(rest[name-1])) {
			name--
		}
		if err := constant(rest[:name]); err != nil {
			return nil, err
		}
		end := strings.IndexByte(rest[open:], ']')
		if end < 0 {
			return nil, fmt.Errorf("%q has no closing bracket", rest[name:])
		}
		part, err := parseToken(rest[name:open], rest[open+1:open+end])
		if err != nil {
			return nil, err
		}
		t.parts = append(t.parts, part)
		rest = rest[open+end+1:]
	}
}

func parseToken(name, index string) (p uriPart, err error) {
	switch name {
	case "host", "h":
		p.token = hostToken
	case "path", "p":
		p.token = pathToken
	case "regex":
		p.token = regexToken
	case "regex_query":
		p.token = regexQueryToken
	case "string_group":
		switch index {
		case "key":
			p.token = groupKeyToken
		case "value":
			p.token = groupValueToken
		default:
			return p, fmt.Errorf("string_group[%s] is neither [key] nor [value]", index)
		}
		return p, nil
	default:
		return p, fmt.Errorf("%s[%s] is not a token", name, index)
	}
	first, last, isRange := strings.Cut(index, ":")
	if p.start, err = parseIndex(first); err != nil {
		return p, fmt.Errorf("%s[%s]: %w", name, index, err)
	}
	p.end = p.start
	if !isRange {
		return p, nil
	}
	if p.token != hostToken && p.token != pathToken {
		return p, fmt.Errorf("%s[%s]: captures have no ranges", name, index)
	}
	p.end = toTheEnd
	if last != "" {
		if p.end, err = parseIndex(last); err != nil {
			return p, fmt.Errorf("%s[%s]: %w", name, index, err)
		}
	}
	if p.end < p.start {
		return p, fmt.Errorf("%s[%s] begins after its end", name, index)
	}
	return p, nil
}

func parseIndex(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n > maxTokenIndex || s != strconv.FormatUint(n, 10) {
		return 0, fmt.Errorf("%q is not a number from 0 to %d", s, maxTokenIndex)
	}
	return int(n), nil
}

// uses reports whether the template has one of the tokens. A nil template has
// none.
func (t *uriTemplate) uses(tokens ...uriToken) bool {
	if t == nil {
		return false
	}
	return slices.ContainsFunc(t.parts, func(p uriPart) bool { return slices.Contains(tokens, p.token) })
}

// Reasons why the result of an action cannot be made. The rule is then skipped.
var (
	errHostIsIP   = errors.New("the host is an IP address and has no labels")
	errFewTokens  = errors.New("there are fewer tokens than the template names")
	errNoCapture  = errors.New("the regular expression has captured nothing")
	errNoEntry    = errors.New("no entry of a string group fits")
	errBadHost    = errors.New("the host is not valid in a URL")
	errBadPath    = errors.New("the path has a malformed escape")
	errBadAddress = errors.New("the Location is not a URL of http or https")
)

// uriTokens has the values of the tokens of a template.
type uriTokens struct {
	host       string   // without port
	path       string   // percent-encoded, with its leading slash
	regex      [][]byte // captures, decoded; nil: none
	regexQuery [][]byte
	group      StringEntry
	hasGroup   bool
	labels     []string // of host; split when the first token needs them
	segments   []string // of path
	split      bool
	noLabels   error // why the host has no labels; nil if it has some
}

// requestTokens returns the tokens of the request as received, with those of
// the match that the templates use.
func (m *compiledMatch) requestTokens(s *subjects, templates ...*uriTemplate) *uriTokens {
	t := &uriTokens{host: strings.TrimSuffix(hostWithoutPort(s.http.Host), "."), path: "/"}
	if s.http.URL != nil && strings.HasPrefix(s.http.URL.Path, "/") {
		t.path = s.http.URL.EscapedPath()
	}
	uses := func(tokens ...uriToken) bool {
		for _, template := range templates {
			if template.uses(tokens...) {
				return true
			}
		}
		return false
	}
	wantGroup := uses(groupKeyToken, groupValueToken)
	if m.path != nil && (wantGroup || uses(regexToken)) {
		if subject, ok := m.path.matching(s); ok {
			t.regex = m.path.set.captures(subject)
			if e, ok, err := m.path.set.entry(subject); ok && err == nil {
				t.group, t.hasGroup = e, true
			}
		}
	}
	if m.query != nil && (wantGroup && !t.hasGroup || uses(regexQueryToken)) {
		if subject, ok := m.query.matching(s); ok {
			t.regexQuery = m.query.set.captures(subject)
			if e, ok, err := m.query.set.entry(subject); ok && err == nil && !t.hasGroup {
				t.group, t.hasGroup = e, true
			}
		}
	}
	return t
}

// expandHost returns the host that the template makes, in a form that is valid
// in a URL.
func (t *uriTemplate) expandHost(tokens *uriTokens) (string, error) {
	b, err := t.expand(nil, tokens, func(dst []byte, text string) []byte { return append(dst, text...) })
	if err != nil {
		return "", err
	}
	host := string(b)
	if name := hostWithoutPort(host); !redirectable(name, host[len(name):]) {
		return "", errBadHost
	}
	return host, nil
}

// expandPath returns the path that the template makes, percent-encoded and
// with a leading slash.
func (t *uriTemplate) expandPath(tokens *uriTokens) (string, error) {
	b, err := t.expand([]byte{'/'}, tokens, appendPathSafe)
	if err != nil {
		return "", err
	}
	path := string(b)
	if len(path) > 1 && path[1] == '/' {
		path = path[1:]
	}
	if _, err := url.PathUnescape(path); err != nil {
		return "", errBadPath
	}
	return path, nil
}

func (t *uriTemplate) expand(dst []byte, tokens *uriTokens, safe func([]byte, string) []byte) ([]byte, error) {
	for _, p := range t.parts {
		switch p.token {
		case constantToken:
			dst = safe(dst, p.text)
		case hostToken, pathToken:
			list, separator, err := tokens.list(p.token)
			if err != nil {
				return nil, err
			}
			end := p.end
			if end == toTheEnd {
				end = len(list) - 1
			}
			if p.start >= len(list) || end >= len(list) {
				return nil, errFewTokens
			}
			for i := p.start; i <= end; i++ {
				if i > p.start {
					dst = append(dst, separator)
				}
				dst = safe(dst, list[i])
			}
		case regexToken, regexQueryToken:
			captures := tokens.regex
			if p.token == regexQueryToken {
				captures = tokens.regexQuery
			}
			if p.start >= len(captures) || captures[p.start] == nil {
				return nil, errNoCapture
			}
			// Captures are decoded.
			dst = safe(dst, strings.ReplaceAll(string(captures[p.start]), "%", "%25"))
		default:
			if !tokens.hasGroup {
				return nil, errNoEntry
			}
			if p.token == groupKeyToken {
				dst = safe(dst, tokens.group.Key)
			} else {
				dst = safe(dst, tokens.group.Value)
			}
		}
	}
	return dst, nil
}

// list returns the labels of the host or the segments of the path, and their
// separator.
func (t *uriTokens) list(token uriToken) (list []string, separator byte, err error) {
	if !t.split {
		t.split = true
		switch addr, err := netip.ParseAddr(strings.Trim(t.host, "[]")); {
		case err == nil && addr.IsValid():
			t.noLabels = errHostIsIP
		case t.host == "":
			t.noLabels = errFewTokens
		}
		t.labels = strings.Split(t.host, ".")
		if path := strings.TrimPrefix(t.path, "/"); path != "" {
			t.segments = strings.Split(path, "/")
		}
	}
	if token == hostToken {
		return t.labels, '.', t.noLabels
	}
	return t.segments, '/', nil
}

// appendPathSafe appends text to a path. It is appendURLSafe that encodes
// question marks too.
func appendPathSafe(dst []byte, s string) []byte {
	for i, part := range strings.Split(s, "?") {
		if i > 0 {
			dst = append(dst, "%3F"...)
		}
		dst = appendURLSafe(dst, part)
	}
	return dst
}

func isAlnum(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z' }

// template compiles a template of an action, nil if it is empty, and checks
// that the match has all that its tokens need. A nil match has only host and
// path.
func (c *compiler) template(field, source string, isHost bool, m *compiledMatch) *uriTemplate {
	if source == "" {
		return nil
	}
	if isHost && strings.HasPrefix(source, "[") {
		// The brackets of an IPv6 address are not those of a token.
		if name := hostWithoutPort(source); redirectable(name, source[len(name):]) {
			return &uriTemplate{source, []uriPart{{text: source}}}
		}
	}
	t, err := parseTemplate(source)
	if err != nil {
		c.faults.Add(field, source, err)
		return nil
	}
	c.checkTemplate(field, t, isHost)
	c.checkTokens(field, t, m)
	return t
}

// checkTemplate checks the constant parts, and the result if all parts are
// constant.
func (c *compiler) checkTemplate(field string, t *uriTemplate, isHost bool) {
	if len(t.parts) == 1 && t.parts[0].token == constantToken && isHost {
		if _, err := t.expandHost(nil); err != nil {
			c.faults.Add(field, t.source, err)
		}
		return
	}
	for _, p := range t.parts {
		if p.token != constantToken {
			continue
		}
		if isHost {
			if name, port, _ := strings.Cut(p.text, ":"); strings.Trim(port, "0123456789") != "" || strings.ContainsFunc(name, func(r rune) bool {
				return r >= 0x80 || !isAlnum(byte(r)) && !strings.ContainsRune(".-_", r)
			}) {
				c.faults.Addf(field, t.source, "%q is not part of a host name", p.text)
			}
			continue
		}
		if strings.ContainsAny(p.text, "?#") || !fielderr.IsPrintable(p.text) {
			c.faults.Addf(field, t.source, "%q is not part of a path", p.text)
		} else if _, err := url.PathUnescape(p.text); err != nil {
			c.faults.Add(field, t.source, err)
		}
	}
}

func (c *compiler) checkTokens(field string, t *uriTemplate, m *compiledMatch) {
	if m == nil {
		m = new(compiledMatch)
	}
	isRegex := func(set *stringSet) bool { return set != nil && set.op == MatchesRegexp }
	var path, query *stringSet
	if m.path != nil {
		path = m.path.set
	}
	if m.query != nil {
		query = m.query.set
	}
	switch {
	case t.uses(regexToken) && !isRegex(path):
		c.faults.Addf(field, t.source, "regex needs a match of the path with a regular expression")
	case t.uses(regexQueryToken) && !isRegex(query):
		c.faults.Addf(field, t.source, "regex_query needs a match of the query with a regular expression")
	case t.uses(groupKeyToken, groupValueToken) && (path == nil || path.groups == nil) && (query == nil || query.groups == nil):
		c.faults.Addf(field, t.source, "string_group needs a match of the path or the query with a string group")
	}
}

// isRedirectStatus reports whether a redirect may have a status.
func isRedirectStatus(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}
