package persistence

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/limpetlb/limpet/internal/bindingsource"
)

// The methods of persistence profiles:
//
// A binding belongs to a target, the pool or pool group that a request goes to;
// a profile used by several targets keeps a binding for each. The names of
// targets must come from the configuration. The server is opaque text of at
// most 255 bytes, such as 10.0.0.1:80.
//
//   - Find(r, client, target) returns the server that the request is bound to,
//     "" if it is not bound, and renews the binding. remaining is the remaining
//     time of the binding: 0 if unknown, negative if it expired that long ago,
//     math.MaxInt64 if it has no end. err is [ErrNoKey], [ErrInvalidCookie], or
//     an error of the [Sessions].
//   - Claim(r, client, target, server, instead) is called when a server has
//     been chosen. It binds the key of the request to server, unless it is
//     bound to a server other than instead, and returns the server that it is
//     bound to afterwards. A caller that cannot use this server claims again,
//     with it as instead. Claim returns server if there is no key, if the key
//     cannot be stored, and with an error, as for a server of more than 255
//     bytes.
//   - Bind(h, r, client, target, server) is called once, before the header h of
//     the response of server is sent. It binds keys that the response issues.
//     It binds a key of the request only if that is not bound; Claim moves
//     bound keys. It returns an error if the server has more than 255 bytes.
//   - Keep(r, client, target) renews the binding while a connection is open.
//   - Count(ctx, target, servers) counts the clients bound to any of the
//     servers.
//   - Targets(defaultTarget, all, has) is called before the profile is used,
//     with the names of the targets, the default or only one of them, and a
//     function that reports whether a target has a server (nil: it may have
//     any). It may be called again at any time. It keeps what it knows of other
//     targets, as several services may use one profile. After an error nothing
//     has changed.
//   - Adopt(old, targets...) takes over the bindings of an old profile of the
//     same kind and identity for targets, or for all if none is named, and
//     reports whether it could.
//   - Source() returns where bindings are found, "" if a store reports it with
//     [NoteSource].
//   - StripRequest(h) removes the profile's own cookies from the header of a
//     request to a server.

// Errors of the profiles. A request must not fail because of them.
var (
	// ErrNoKey means that the request does not have the key of the profile: no
	// session, no header, no address. Nothing was looked up.
	ErrNoKey = errors.New("persistence: the request has no key")
	// ErrInvalidCookie means that the request has a cookie of the profile's
	// name and that none could be opened: they are forged, damaged, or sealed
	// with an unknown key.
	ErrInvalidCookie = errors.New("persistence: the cookie cannot be opened")
	// ErrRefused means that the [Sessions] did not store the binding: a table
	// is full and refuses new keys, or there are too many tables. The client
	// then does not stick.
	ErrRefused = errors.New("persistence: the store has refused the binding")
)

// maxServerBytes is the greatest length of the text of a server.
const maxServerBytes = 255

// checkServer returns the reason why a server cannot be stored.
func checkServer(server string) error {
	if len(server) > maxServerBytes {
		return fmt.Errorf("persistence: the server %.40q… has %d bytes, at most %d can be remembered: the name of its pool is too long",
			server, len(server), maxServerBytes)
	}
	return nil
}

// endless is the remaining time of a binding without an end.
const endless time.Duration = math.MaxInt64

// A Source says where a binding was found.
type Source string

// The sources of bindings.
const (
	// FromMemory is a table in the memory of this process.
	FromMemory Source = "memory"
	// FromNear is the near cache of a shared store, in the memory of this
	// process.
	FromNear Source = "near"
	// FromStore is the shared store itself.
	FromStore Source = "store"
	// FromLocal is the memory of this process, used while the shared store is
	// unavailable.
	FromLocal Source = "local"
	// FromCookie is a sealed cookie.
	FromCookie Source = "cookie"
	// FromMap is the configuration, as with [CustomHeader].
	FromMap Source = "map"
	// FromScript is a look-up of a script.
	FromScript Source = "script"
)

// NoteSource reports where a binding was found to the virtual service that
// handles the request of ctx; the last call for a request applies. Stores that
// serve as [Sessions] call it. It does nothing if ctx belongs to no such
// request, and allocates nothing.
func NoteSource(ctx context.Context, s Source) {
	if r, ok := ctx.Value(bindingsource.Key{}).(bindingsource.Recorder); ok {
		r.NoteSource(string(s))
	}
}
