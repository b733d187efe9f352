package http1

import (
	"fmt"
	"net/http"
	"net/url"
)

// The target of a request is sent as the client has written it, since servers,
// signatures and caches may tell apart what means the same. url.URL.RequestURI
// does not do that: one byte that should have been encoded makes it decode the
// path and encode all of it anew, so that "/a%2Fb|c" becomes "/a/b%7Cc",
// another path. Here each byte is looked at by itself:
//
//   - In a path, a byte that does not belong there (RFC 3986, section 3.3) is
//     percent-encoded.
//   - In a query, that is done to blanks, which would end the target, and to
//     "#", which for many servers ends the query. Other bytes stay: servers
//     take them, and encoding them would change what is compared as text.
//   - A path that was changed without its RawPath is encoded anew. It has no
//     other form.
//   - Control characters in a query, and those and blanks in URL.Opaque, are an
//     error.

// appendTarget appends the request target of u: in origin form, in asterisk
// form, or as u.Opaque has it, which is a path, or a host and a path, or if
// authority is set anything. Errors match ErrRequest.
func appendTarget(b []byte, u *url.URL, authority bool) ([]byte, error) {
	start := len(b)
	switch {
	case u.Opaque != "":
		if u.Opaque[0] != '/' && !authority {
			return b, fmt.Errorf("%w: its target is no path", ErrRequest)
		}
		if len(u.Opaque) > 1 && u.Opaque[1] == '/' { // with a host
			b = append(append(b, u.Scheme...), ':')
		}
		for i := range len(u.Opaque) {
			if c := u.Opaque[i]; c <= ' ' || c == 0x7f {
				return b, errTargetByte
			}
		}
		b = append(b, u.Opaque...)
	case u.Path == "":
		b = append(b, '/')
	case u.Path == "*":
		b = append(b, '*')
	case u.Path[0] != '/':
		return b, fmt.Errorf("%w: its path does not begin with a slash", ErrRequest)
	case u.RawPath != "" && decodesTo(u.RawPath, u.Path):
		b = appendEncoded(b, u.RawPath, inPath)
	default:
		b = appendEncoded(b, u.Path, inDecodedPath)
	}
	if u.RawQuery == "" && !u.ForceQuery {
		return b, nil
	}
	if b[start] == '*' {
		return b, fmt.Errorf("%w: its target is an asterisk and a query", ErrRequest)
	}
	for i := range len(u.RawQuery) {
		if c := u.RawQuery[i]; c < ' ' || c == 0x7f {
			return b, errTargetByte
		}
	}
	return appendEncoded(append(b, '?'), u.RawQuery, inQuery), nil
}

var errTargetByte = fmt.Errorf("%w: its target has a byte that cannot be sent", ErrRequest)

// appendEncoded appends s, with the bytes that are not of a class
// percent-encoded.
func appendEncoded(b []byte, s string, class uint8) []byte {
	for {
		i := foreign(s, class)
		if i < 0 {
			return append(b, s...)
		}
		const digits = "0123456789ABCDEF"
		b = append(append(b, s[:i]...), '%', digits[s[i]>>4], digits[s[i]&0xf])
		s = s[i+1:]
	}
}

// foreign is where the first byte that is not of a class is, -1 if there is
// none.
func foreign(s string, class uint8) int {
	for i := range len(s) {
		if classes[s[i]]&class == 0 {
			return i
		}
	}
	return -1
}

// decodesTo reports whether a path stands for another one, the decoded form of
// a path.
func decodesTo(encoded, decoded string) bool {
	j := 0
	for i := 0; i < len(encoded); i, j = i+1, j+1 {
		c := encoded[i]
		if c == '%' {
			if i+2 >= len(encoded) || classes[encoded[i+1]]&classes[encoded[i+2]]&isHex == 0 {
				return false
			}
			c = unhex(encoded[i+1])<<4 | unhex(encoded[i+2])
			i += 2
		}
		if j >= len(decoded) || decoded[j] != c {
			return false
		}
	}
	return j == len(decoded)
}

// unhex is the value of a hexadecimal digit.
func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c&^0x20 - 'A' + 10
}

// forStandard returns req for an http.Transport: itself, or a copy if the
// http.Transport would send another target than appendTarget has it.
func forStandard(req *http.Request) *http.Request {
	u := req.URL
	raw := u.Opaque == "" && u.RawPath != "" && foreign(u.RawPath, inPath) >= 0 && decodesTo(u.RawPath, u.Path)
	query := foreign(u.RawQuery, inQuery) >= 0
	if !raw && !query {
		return req
	}
	out, target := *req, *u
	if raw {
		target.RawPath = string(appendEncoded(nil, u.RawPath, inPath))
	}
	if query {
		target.RawQuery = string(appendEncoded(nil, u.RawQuery, inQuery))
	}
	out.URL = &target
	return &out
}
