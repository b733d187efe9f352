package admin

import (
	"context"

	"github.com/limpetlb/limpet/internal/enumtext"
)

// A Role says what a caller may do. Each includes the ones before it. The zero
// value may do nothing.
type Role uint8

// The roles.
const (
	// Read may read everything but the keys and the values of persistence
	// entries, what scripts log and the messages of their errors, which may
	// name keys and values, and the text of the configuration.
	Read Role = iota + 1
	// Operate may also make changes.
	Operate
	// Reveal may also read what Read may not.
	Reveal
)

var roles = []string{"none", Read: "read", Operate: "operate", Reveal: "reveal"}

// String returns "none", "read", "operate" or "reveal"; "invalid" for other
// values.
func (r Role) String() string { return enumtext.String(r, roles) }

// MarshalText returns the text of String. It fails for other values.
func (r Role) MarshalText() ([]byte, error) { return enumtext.Marshal(r, roles) }

// UnmarshalText reads the text of String, without regard to case, blanks, "-"
// and "_". The error for another text lists the texts.
func (r *Role) UnmarshalText(text []byte) error { return enumtext.Unmarshal(r, text, roles) }

// A caller is who sent a request, and what it may do.
type caller struct {
	role   Role
	who    string // for the audit log
	remote string // where the request came from
}

type roleKey struct{}

// WithRole returns a context for requests to an [Admin] whose sender the
// program has identified itself: who is its name in the audit log. Such a
// request needs no token, and may have any Host; its Origin is checked as
// always. Put it around an Admin that is mounted behind a login.
func WithRole(ctx context.Context, role Role, who string) context.Context {
	return context.WithValue(ctx, roleKey{}, caller{role: role, who: who})
}
