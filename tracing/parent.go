package tracing

import "github.com/limpetlb/limpet/internal/enumtext"

// Parent says whose traces requests continue.
type Parent uint8

// A request that continues no trace begins one, with a link to the span that
// its client names. The client has then no say in whether it is sampled.
const (
	ParentTrusted Parent = iota // those of limpet.Clients.TrustedProxies
	ParentAlways                // those of all clients
	ParentNever                 // none
)

var parents = []string{ParentTrusted: "trusted", ParentAlways: "always", ParentNever: "never"}

// String returns "trusted", "always" or "never"; "invalid" for other values.
func (p Parent) String() string { return enumtext.String(p, parents) }

// MarshalText returns the text of String. It fails for other values.
func (p Parent) MarshalText() ([]byte, error) { return enumtext.Marshal(p, parents) }

// UnmarshalText reads the text of String, without regard to case, blanks, "-"
// and "_". The error for another text lists the texts.
func (p *Parent) UnmarshalText(text []byte) error { return enumtext.Unmarshal(p, text, parents) }
