package datascript

import (
	"net"
	"net/url"
	"slices"
	"strings"

	lua "github.com/yuin/gopher-lua"

	"github.com/limpetlb/limpet/internal/http1"
	"github.com/limpetlb/limpet/internal/lua51"
	"github.com/limpetlb/limpet/internal/luastr"
)

// The readers in this file read the request as the client sent it, also after
// set_path and the like. A leading argument "MODIFIED" asks for the request as
// it will be sent; "ORIGINAL" is the default.

// uriSource is a URI to read, with the index of the first argument after the
// selector.
type uriSource struct {
	host, path, query string // path is raw; query without "?"
	hasQuery          bool
	next              int
}

func (c call) uri() uriSource {
	r := c.tx.Original()
	next := 1
	if s, ok := c.Arg(1).(lua.LString); ok {
		switch s {
		case "MODIFIED":
			r, next = c.tx.Request(), 2
		case "ORIGINAL":
			next = 2
		}
	}
	c.Read(4 * (len(r.Host) + len(r.URL.Path) + len(r.URL.RawQuery)))
	return uriSource{
		host: r.Host, path: rawPath(r.URL), query: r.URL.RawQuery,
		hasQuery: r.URL.RawQuery != "" || r.URL.ForceQuery, next: next,
	}
}

// rawPath returns the path as it was sent, and as it goes to the server; "/"
// for a target without a path, such as "*".
func rawPath(u *url.URL) string {
	if p := http1.Path(u); strings.HasPrefix(p, "/") {
		return p
	}
	return "/"
}

// hostname() returns the host that the client asked for, in lower case and
// without the port, or nil. An IPv6 address keeps its brackets, as in the host
// of a URI (RFC 3986, section 3.2.2), so that scripts can build redirects from
// it.
func httpHostname(c call) int {
	c.Read(4 * len(c.tx.Original().Host))
	host := hostOnly(c.tx.Original().Host)
	if host == "" {
		return c.Ret(lua.LNil)
	}
	return c.RetString(host)
}

func hostOnly(hostport string) string {
	host := hostport
	if _, port, err := net.SplitHostPort(hostport); err == nil {
		host = hostport[:len(hostport)-len(port)-1]
	}
	if host == "[]" {
		return ""
	}
	return luastr.Lower(host)
}

// get_host_tokens([start [, end]]) returns the labels of the host, counted from
// 1: an array of all, or the ones from start to end joined by dots; nil if
// start is beyond the last. An IPv6 address is one label.
func httpGetHostTokens(c call) int {
	src := c.uri()
	var labels []string
	switch host := hostOnly(src.host); {
	case host == "":
	case host[0] == '[':
		labels = []string{host}
	default:
		c.Spend(strings.Count(host, "."))
		labels = strings.Split(host, ".")
	}
	return c.tokens(labels, ".", src.next)
}

// get_path([false]) returns the path, percent-decoded unless false is given.
// Invalid escapes stay as they are.
func httpGetPath(c call) int {
	src := c.uri()
	if c.Arg(src.next) == lua.LFalse {
		return c.RetString(src.path)
	}
	return c.RetString(percentDecode(src.path, false))
}

// get_path_tokens([start [, end]]) returns the decoded segments of the path,
// counted from 1: an array of all, or the ones from start to end joined by
// slashes; nil if start is beyond the last.
func httpGetPathTokens(c call) int {
	src := c.uri()
	var segments []string
	if p := strings.TrimSuffix(strings.TrimPrefix(src.path, "/"), "/"); p != "" {
		c.Spend(strings.Count(p, "/"))
		segments = strings.Split(p, "/")
	}
	for i, s := range segments {
		segments[i] = percentDecode(s, false)
	}
	return c.tokens(segments, "/", src.next)
}

func (c call) tokens(list []string, sep string, next int) int {
	if c.Arg(next) == lua.LNil {
		t := c.L.CreateTable(len(list), 0)
		for _, s := range list {
			t.Append(lua.LString(s))
		}
		return c.Ret(t)
	}
	start := c.Integer(next)
	end := min(c.OptInt(next+1, len(list)), len(list))
	if start < 1 || start > end {
		return c.Ret(lua.LNil)
	}
	return c.RetString(strings.Join(list[start-1:end], sep))
}

// get_uri([false]) returns path and query: the path percent-decoded, unless
// false is given, and the query as sent.
func httpGetURI(c call) int {
	src := c.uri()
	uri := src.path
	if c.Arg(src.next) != lua.LFalse {
		uri = percentDecode(uri, false)
	}
	if src.hasQuery {
		uri += "?" + src.query
	}
	return c.RetString(uri)
}

// get_query([name or avi.QUERY_TABLE] [, decode]) returns the whole query
// without "?", or nil if there is none. With a name, it returns the value of
// the first argument of that name, decoded unless decode is false, or nil. With
// avi.QUERY_TABLE, it returns a table of all arguments, decoded, with arrays
// for repeated ones. The value of an argument without "=" is "true" by name,
// and the boolean true in the table.
func httpGetQuery(c call) int {
	src := c.uri()
	what := c.Arg(src.next)
	decode, given := c.queryDecode(src.next + 1)
	switch {
	case what == lua.LNil, what == lua.LValue(library.Lookup("avi.QUERY_STRING").Object):
		switch {
		case !src.hasQuery:
			return c.Ret(lua.LNil)
		case given && decode:
			return c.RetString(percentDecode(src.query, true))
		}
		return c.RetString(src.query)
	case what == lua.LValue(library.Lookup("avi.QUERY_TABLE").Object):
		return c.Ret(c.queryTable(src.query))
	}
	name := c.Str(src.next)
	c.Parse(len(src.query))
	for n, v := range queryArguments(src.query) {
		if percentDecode(n, true) != name {
			continue
		}
		switch {
		case v == nil:
			return c.RetString("true")
		case decode:
			return c.RetString(percentDecode(*v, true))
		}
		return c.RetString(*v)
	}
	return c.Ret(lua.LNil)
}

func (c call) queryDecode(n int) (decode, given bool) {
	if n > c.Count() {
		return true, false
	}
	v := c.Arg(n)
	return v != lua.LFalse && v != lua.LNil && v != lua.LString("false"), true
}

func (c call) queryTable(query string) *lua.LTable {
	arguments := strings.Count(query, "&") + 1
	c.Spend(2 * arguments)
	t := c.L.CreateTable(0, arguments)
	for n, v := range queryArguments(query) {
		var value lua.LValue = lua.LTrue
		if v != nil {
			value = lua.LString(percentDecode(*v, true))
		}
		name := percentDecode(n, true)
		switch old := t.RawGetString(name).(type) {
		case *lua.LNilType:
			t.RawSetString(name, value)
		case *lua.LTable:
			old.Append(value)
		default:
			array := c.L.CreateTable(2, 0)
			array.Append(old)
			array.Append(value)
			t.RawSetString(name, array)
		}
	}
	return t
}

// queryArguments iterates over name=value pairs; the value is nil if there is
// no "=".
func queryArguments(query string) func(yield func(string, *string) bool) {
	return func(yield func(string, *string) bool) {
		for query != "" {
			var pair string
			pair, query, _ = strings.Cut(query, "&")
			if pair == "" {
				continue
			}
			name, value, ok := strings.Cut(pair, "=")
			v := &value
			if !ok {
				v = nil
			}
			if !yield(name, v) {
				return
			}
		}
	}
}

// percentDecode decodes the valid escapes in s, and "+" as a blank if plus is
// set.
func percentDecode(s string, plus bool) string {
	if !strings.Contains(s, "%") && !(plus && strings.Contains(s, "+")) {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]):
			b = append(b, unhex(s[i+1])<<4|unhex(s[i+2]))
			i += 2
		case c == '+' && plus:
			b = append(b, ' ')
		default:
			b = append(b, c)
		}
	}
	return string(b)
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func unhex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	}
	return c - 'a' + 10
}

// set_path(path) changes the path that the server sees. Bytes that are not
// allowed in a path are percent-encoded; valid escapes stay.
func httpSetPath(c call) int {
	u := c.editURL()
	c.setPath(u, c.Str(1))
	return 0
}

// set_query(query) changes the query that the server sees: to a string, to a
// number, or to the pairs of a table, in the order of their names. An empty
// query removes it.
func httpSetQuery(c call) int {
	var query string
	if t, ok := c.Arg(1).(*lua.LTable); ok {
		query = c.encodeQuery(t)
	} else {
		query = strings.TrimPrefix(c.Str(1), "?")
	}
	u := c.editURL()
	u.RawQuery, u.ForceQuery = c.escape(query, inQuery), false
	return 0
}

// set_uri(uri) changes the path and the query that the server sees. Other parts
// of an absolute URI are ignored.
func httpSetURI(c call) int {
	uri := c.Str(1)
	if i := strings.Index(uri, "://"); i > 0 && !strings.ContainsAny(uri[:i], "/?") {
		uri = uri[i+3:]
		if j := strings.IndexAny(uri, "/?"); j >= 0 {
			uri = uri[j:]
		} else {
			uri = "/"
		}
	}
	path, query, _ := strings.Cut(uri, "?")
	u := c.editURL()
	c.setPath(u, path)
	u.RawQuery, u.ForceQuery = c.escape(query, inQuery), false
	return 0
}

func (c call) editURL() *url.URL {
	r := c.tx.EditRequest()
	old := r.URL
	edited := *old
	r.URL = &edited
	c.undo = append(c.undo, func() { r.URL = old })
	return r.URL
}

func (c call) setPath(u *url.URL, path string) {
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	raw := c.escape(path, inPath)
	decoded, err := url.PathUnescape(raw)
	if err != nil {
		c.ArgError(1, "%q is not a path", path)
	}
	u.Path, u.RawPath, u.Opaque = decoded, raw, ""
}

// The characters allowed in parts of a URI besides letters and digits (RFC
// 3986, section 3). A percent sign is allowed before the digits of an escape.
var (
	inPath     = safeBytes("/:@!$&'()*+,;=-._~%")
	inQuery    = safeBytes("?&=/:@!$'()*+,;-._~%[]")
	unreserved = safeBytes("-._~")
)

func safeBytes(others string) *[256]bool {
	var safe [256]bool
	for c := range safe {
		safe[c] = '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || strings.IndexByte(others, byte(c)) >= 0
	}
	return &safe
}

// escape is escapeURL, but stops the script if the result would be too large.
func (c call) escape(s string, safe *[256]bool) string {
	c.Allow(len(s) + 2*countUnsafe(s, safe))
	return escapeURL(s, safe)
}

func countUnsafe(s string, safe *[256]bool) (n int) {
	for i := range len(s) {
		if !isSafe(s, i, safe) {
			n++
		}
	}
	return n
}

func isSafe(s string, i int, safe *[256]bool) bool {
	return safe[s[i]] && (s[i] != '%' || i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]))
}

// escapeURL percent-encodes every byte that is not safe.
func escapeURL(s string, safe *[256]bool) string {
	n := countUnsafe(s, safe)
	if n == 0 {
		return s
	}
	b := make([]byte, 0, len(s)+2*n)
	for i := range len(s) {
		if isSafe(s, i, safe) {
			b = append(b, s[i])
		} else {
			b = appendEscape(b, s[i])
		}
	}
	return string(b)
}

func appendEscape(b []byte, c byte) []byte {
	const digits = "0123456789ABCDEF"
	return append(b, '%', digits[c>>4], digits[c&15])
}

func (c call) encodeQuery(t *lua.LTable) string {
	var pairs []string
	size := 0
	add := func(name string, v lua.LValue) {
		value, ok := lua51.Text(v)
		c.Spend(8)
		c.Read(4 * (len(name) + len(value)))
		pair := escapeURL(name, unreserved)
		switch {
		case ok:
			pair += "=" + escapeURL(value, unreserved)
		case v == lua.LFalse:
			return
		case v != lua.LTrue:
			c.ArgError(1, "value of argument %q: string expected, got %s", pair, v.Type())
		}
		if size += len(pair) + 1; size > c.engine.limits.StringBytes {
			c.TooLarge()
		}
		pairs = append(pairs, pair)
	}
	names := map[string]lua.LValue{}
	t.ForEach(func(k, v lua.LValue) {
		name, ok := lua51.Text(k)
		if !ok {
			c.ArgError(1, "argument name expected, got %s", k.Type())
		}
		c.Spend(4)
		names[name] = v
	})
	sorted := make([]string, 0, len(names))
	for name := range names {
		sorted = append(sorted, name)
	}
	slices.Sort(sorted)
	for _, name := range sorted {
		if array, ok := names[name].(*lua.LTable); ok {
			for i := 1; i <= array.Len(); i++ {
				add(name, array.RawGetInt(i))
			}
			continue
		}
		add(name, names[name])
	}
	return strings.Join(pairs, "&")
}
