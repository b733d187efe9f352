package http1

import "net/url"

// Path returns the path of u as a Transport sends it: as it was written, but
// for bytes that have to be percent-encoded. It is what the server sees of it,
// and what logs and scripts should show, which url.URL.EscapedPath is not. It
// is empty if u.Path is.
func Path(u *url.URL) string {
	s, class := u.Path, uint8(inDecodedPath)
	switch {
	case s == "" || s == "*":
		return s
	case u.RawPath != "" && decodesTo(u.RawPath, u.Path):
		s, class = u.RawPath, inPath
	}
	if foreign(s, class) < 0 {
		return s
	}
	return string(appendEncoded(nil, s, class))
}
