package datascript

import (
	"strings"
	"unicode"
	"unicode/utf8"

	lua "github.com/yuin/gopher-lua"
)

// local_uri(uri) returns uri if a redirect to it cannot lead to another host:
// if it is a path, with or without a query and a fragment, that neither a
// browser nor a server behind it can take for more than that. Otherwise, and
// for nil, it returns nil, so that
//
//	avi.http.redirect(avi.utils.local_uri(avi.http.get_query("next")) or "/")
//
// is safe whatever the client sends. It is an extension of this
// implementation.
func utilsLocalURI(c call) int {
	if c.Arg(1) == lua.LNil {
		return c.Ret(lua.LNil)
	}
	uri := c.Str(1)
	c.Spend(len(uri) >> 4)
	if !isLocalURI(uri) {
		return c.Ret(lua.LNil)
	}
	return c.RetString(uri)
}

// maxEncodings is how often a path may be percent-encoded over and over.
const maxEncodings = 3

// isLocalURI reports whether a reference (RFC 3986, section 4.1) stays on its
// host for every program that resolves it. Browsers drop tabs and line breaks,
// and take \ for / and //host for another host; servers decode escapes, more
// than once if there are several in a row, and clean paths. So the path must
// not have any of this in any layer, nor dot segments, which could uncover it.
func isLocalURI(uri string) bool {
	for i := range len(uri) {
		if uri[i] <= ' ' || uri[i] >= 0x7f || uri[i] == '\\' {
			return false
		}
	}
	path := uri
	if i := strings.IndexAny(uri, "?#"); i >= 0 {
		path = uri[:i]
	}
	for range maxEncodings {
		if !isPlainPath(path) {
			return false
		}
		decoded := percentDecode(path, false)
		if decoded == path {
			return true
		}
		path = decoded
	}
	return false
}

// isPlainPath reports whether a path means the same to all programs.
func isPlainPath(path string) bool {
	rest, absolute := strings.CutPrefix(path, "/")
	if !absolute || strings.Contains(path, "//") || strings.Contains(path, `\`) || !utf8.ValidString(path) {
		return false
	}
	if strings.ContainsFunc(path, unicode.IsControl) {
		return false
	}
	// Unicode characters that look like a slash or a dot become one where hosts
	// are normalised.
	if strings.IndexAny(rest, "／＼⁄∕⧵．。｡․") == 0 {
		return false
	}
	for segment := range strings.SplitSeq(rest, "/") {
		// A parameter may be dropped from its segment.
		switch name, _, parameter := strings.Cut(segment, ";"); {
		case name == "." || name == "..", name == "" && parameter:
			return false
		}
	}
	return true
}
