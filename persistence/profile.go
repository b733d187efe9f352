package persistence

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/limpetlb/limpet/internal/bindingsource"
)

// The persistence profiles have in common:
//
// A binding belongs to a target, the pool or pool group that a request goes to; a profile used by
// several targets keeps a binding for each. The names of targets must come from the configuration.
// The server is opaque text of at most 255 bytes that begins and ends as the caller gave it, such as
// 10.0.0.1:80.
//
//   - Find(r, client, target) returns the server that the request is bound to, "" if it is bound to
//     none, and starts its timeout anew. remaining is what is left of the binding: 0 unknown, less
//     than 0 expired so long ago, math.MaxInt64 without an end. err is [ErrNoKey],
//     [ErrInvalidCookie], or that of the [Sessions].
//   - Claim(r, client, target, server, instead) binds the key that the request carries to server when
//     that is chosen, unless it is bound already to another than instead, and returns the server
//     that it is then bound to. A caller that cannot use this server claims again, with it as
//     instead. Claim returns server if there is no key, if the key cannot be kept, and with an error, as
//     for a server of more than 255 bytes.
//   - Bind(h, r, client, target, server) is called once, before the header h of the answer is sent by
//     server. It remembers keys that the answer issues. A key of the request it only binds if that
//     is not bound: another server for it is up to Claim. It returns an error if the server has more
//     than 255 bytes.
//   - Keep(r, client, target) starts the timeout anew, as for a connection that is still open.
//   - Count(ctx, target, servers) counts the clients bound to any of the servers.
//   - Targets(defaultTarget, all, has) tells a profile before its use which targets there are, which
//     of them is the default or the only one, and how to find out whether a target has a server
//     (has may be nil: it may have any). It may be called again, also while the profile is used, and
//     leaves what it knows of other targets, as several services may use one profile. An error changes
//     nothing.
//   - Adopt(old, targets...) makes a profile take over what an old one of the same kind and identity
//     keeps for targets, or for all if none is named, and reports whether they agree in these.
//   - Source() returns where bindings are found, "" if a store tells it by [NoteSource].
//   - StripRequest(h) takes the profile's own cookies out of the header of a request to a server.

// Errors of the profiles. No request should fail because of them.
var (
	// ErrNoKey says that the request does not carry the key of the profile: no session, no header, no
	// address. Nothing was looked up.
	ErrNoKey = errors.New("persistence: the request has no key")
	// ErrInvalidCookie says that the request has a cookie of the profile's name and that none could be
	// opened: it is forged or damaged, or sealed with a key that is not known.
	ErrInvalidCookie = errors.New("persistence: the cookie cannot be opened")
	// ErrRefused says that the [Sessions] have no room for the binding: a table is full and refuses
	// new keys, or would be one too many. The client does not stick then.
	ErrRefused = errors.New("persistence: the store has refused the binding")
)

// maxServerBytes is how long the text of a server may be.
const maxServerBytes = 255

// checkServer returns why a server cannot be remembered.
func checkServer(server string) error {
	if len(server) > maxServerBytes {
		return fmt.Errorf("persistence: the server %.40q… has %d bytes, at most %d can be remembered: the name of its pool is too long",
			server, len(server), maxServerBytes)
	}
	return nil
}

// endless is what is left of a binding without an end.
const endless time.Duration = math.MaxInt64

// A Source is where a binding was found.
type Source string

// The sources of bindings.
const (
	// FromMemory is a table in the memory of this process.
	FromMemory Source = "memory"
	// FromNear is the memory in which this process keeps what it has seen in a shared store.
	FromNear Source = "near"
	// FromStore is a shared store, which was asked.
	FromStore Source = "store"
	// FromLocal is what this process keeps while a shared store is away.
	FromLocal Source = "local"
	// FromCookie is a sealed cookie.
	FromCookie Source = "cookie"
	// FromMap is the configuration, as with [CustomHeader].
	FromMap Source = "map"
	// FromScript is what a script has looked up.
	FromScript Source = "script"
)

// NoteSource reports where a binding was found to the virtual service that handles the request of
// ctx; the last call for a request applies. Stores that serve as [Sessions] call it. It does nothing
// if ctx belongs to no such request, and allocates nothing.
func NoteSource(ctx context.Context, s Source) {
	if r, ok := ctx.Value(bindingsource.Key{}).(bindingsource.Recorder); ok {
		r.NoteSource(string(s))
	}
}
