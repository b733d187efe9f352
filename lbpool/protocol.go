package lbpool

import (
	"context"

	"github.com/limpetlb/limpet/internal/enumtext"
	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/internal/http1"
)

// Protocol is the version of HTTP that servers of a pool are asked in. Its text
// is "http1", "h2" or "h2c".
type Protocol uint8

const (
	// ProtocolHTTP1 is HTTP/1.1, or what the Base of a Transport speaks by its
	// own settings.
	ProtocolHTTP1 Protocol = iota
	// ProtocolH2 is HTTP/2 over TLS. A server that does not agree to it in the
	// handshake (ALPN "h2") cannot be connected to.
	ProtocolH2
	// ProtocolH2C is HTTP/2 in cleartext by prior knowledge. A server that
	// answers in another protocol cannot be connected to.
	ProtocolH2C
)

var protocolWords = []string{ProtocolHTTP1: "http1", ProtocolH2: "h2", ProtocolH2C: "h2c"}

// String returns the protocol's text.
func (p Protocol) String() string { return enumtext.String(p, protocolWords) }

// MarshalText implements encoding.TextMarshaler.
func (p Protocol) MarshalText() ([]byte, error) { return enumtext.Marshal(p, protocolWords) }

// UnmarshalText implements encoding.TextUnmarshaler. Case, blanks and "-", "_",
// "." and "/" do not matter.
func (p *Protocol) UnmarshalText(text []byte) error {
	return enumtext.Unmarshal(p, text, protocolWords)
}

func (p Protocol) validate(scheme string, faults *fielderr.List) {
	switch {
	case p > ProtocolH2C:
		faults.Constant("protocol", p)
	case p == ProtocolH2 && scheme == "http":
		faults.Addf("protocol", p, "needs the scheme https; without TLS it is h2c")
	case p == ProtocolH2C && scheme == "https":
		faults.Addf("protocol", p, "needs the scheme http; with TLS it is h2")
	}
}

// request returns a context for requests in the protocol.
func (p Protocol) request(ctx context.Context) context.Context {
	if p == ProtocolHTTP1 {
		return ctx
	}
	return http1.WithHTTP2(ctx)
}
