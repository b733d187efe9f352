package httpfield

import (
	"net/http"
	"net/textproto"
	"strings"
)

// IsGRPC reports whether a request with this header is a call of gRPC: its
// media type is application/grpc, with a suffix or without.
func IsGRPC(h http.Header) bool {
	mediaType, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	mediaType = textproto.TrimString(mediaType)
	const name = "application/grpc"
	return len(mediaType) >= len(name) && strings.EqualFold(mediaType[:len(name)], name) &&
		(len(mediaType) == len(name) || mediaType[len(name)] == '+')
}
