package datascript

import (
	"context"
	"net/http"
	"net/netip"
	"time"

	"github.com/limpetlb/limpet/internal/tokencheck"
)

// A Transaction is one HTTP exchange as scripts see it. The engine calls it
// from the goroutine that called [Engine.Run] and keeps no reference to it
// afterwards. The decisions of a script (a reply, a close, a pool) reach the
// Transaction only when the script has ended without an error. The engine makes
// changes of headers in place, and undoes them if the script fails.
//
// A Transaction may have further abilities: see [Identifier],
// [EncryptionReporter], [ForwardController], [BodyBufferer], [OutcomeReporter],
// [EntrySelector], [Fingerprinter], [CertificateVerifier] and [SessionReader].
type Transaction interface {
	// Client is the address of the client, resolved and unmapped.
	Client() netip.AddrPort
	// Local is the address of the virtual service to which the client
	// connected.
	Local() netip.AddrPort

	// Original is the request as received. The engine does not change it.
	Original() *http.Request
	// Request is the request as it will be sent; it may be Original.
	Request() *http.Request
	// EditRequest returns Request for the engine to change: never Original, and
	// with a separate header map.
	EditRequest() *http.Request

	// Response is the status and the header of the server's response; the
	// header may be changed in place. ok is false before there is one.
	Response() (status int, header http.Header, ok bool)

	// Server returns the pool that the request goes to, which may be the
	// default pool until one is chosen, and the server in use. pool is empty if
	// there are no pools; addr is invalid until a server is chosen.
	Server() (pool string, addr netip.AddrPort)

	// SelectPool chooses the pool, and the server if addr is valid. Port 0
	// means any server at the address: several share it, and the script does
	// not say which one. See also [EntrySelector].
	SelectPool(pool string, addr netip.AddrPort)
	// Reply answers the client in place of a server. The callee owns header and
	// body.
	Reply(status int, header http.Header, body []byte)
	// Close closes the client's connection, after the reply if there is
	// one: by FIN, or by RST if reset is set.
	Close(reset bool)

	// Log takes one line of script output, which is never longer than
	// [Limits].LogBytes.
	Log(line string)

	// Vars returns the variables that scripts keep from event to event.
	Vars() *Vars
}

// Tables are the persistence tables of a virtual service. The empty table name
// is the default table. An error means that the store is not available; it
// fails the script.
type Tables interface {
	// Insert stores a new entry, or renews the lifetime of a live one and
	// keeps its value. It reports false if the entry was refused.
	Insert(ctx context.Context, table, key, value string, lifetime time.Duration) (bool, error)
	// Lookup returns a live entry and, if extend is positive, prolongs it.
	// remaining is the remaining lifetime after that. If there is no live
	// entry, remaining may be negative: how long ago it expired.
	Lookup(ctx context.Context, table, key string, extend time.Duration) (value string, remaining time.Duration, ok bool, err error)
	// Refresh prolongs a live entry and reports whether there was one.
	Refresh(ctx context.Context, table, key string, extend time.Duration) (bool, error)
	// Remove removes an entry if there is one.
	Remove(ctx context.Context, table, key string) error
}

// Pools are the server pools that scripts may name. An error means that
// there is no pool of that name.
type Pools interface {
	// Servers counts the servers that are up, and all of them.
	Servers(pool string) (up, total int, err error)
	// ServerUp reports whether a server is up; an unknown server is not.
	ServerUp(pool, server string, port uint16) (bool, error)
	// Find resolves a server given by address, address and port, host name or
	// name. Port 0 means that none was given. shared reports that several
	// servers of the pool match; addr is then one of them.
	Find(pool, server string, port uint16) (addr netip.AddrPort, shared, ok bool, err error)
}

// IPGroups are the IP groups that scripts may name. An error means that
// there is no group of that name.
type IPGroups interface {
	// Contains reports whether the group has the address, which is unmapped
	// and without a zone, or invalid.
	Contains(group string, addr netip.Addr) (bool, error)
}

// PoolGroups are the pool groups that scripts may name.
type PoolGroups interface {
	// Choose returns the pool that a request to a group goes to: one of those
	// with the priority label, if the label is not empty. An error means that
	// there is no such group, or no such label in it.
	Choose(group, label string) (pool string, err error)
}

// StringGroups are the string groups that scripts may name.
type StringGroups interface {
	// Match looks for an entry of a group that a string equals, begins with,
	// contains or ends with, as operator says: "equals", "beginswith",
	// "contains" or "endswith". Letter case matters if exactCase is set. Of
	// several entries the group chooses one; by default the shortest, and of
	// these the first.
	//
	// The result is the value of the entry, or the entry itself in a group
	// that is a plain list. An error means that there is no such group.
	Match(group, operator, s string, exactCase bool) (result string, ok bool, err error)
}

// Geo locates addresses.
type Geo interface {
	// Locate returns an attribute of the location of an address, which is
	// unmapped and without a zone. An empty attribute asks for the country
	// code. ok is false if it is not known.
	Locate(addr netip.Addr, attribute string) (value string, ok bool)
}

// A TokenVerifier verifies JSON Web Tokens, for avi.jwt.verify. It must not
// block, and must be safe for concurrent use. [jwtkeys.Verifier] is one.
//
// [jwtkeys.Verifier]:
// https://pkg.go.dev/github.com/limpetlb/limpet/datascript/jwtkeys#Verifier
type TokenVerifier interface {
	// VerifyToken verifies a token with the keys of a set.
	//
	// If reason is empty, claims is a JSON object. Otherwise the token is
	// refused. signatures is how many signatures were verified; the script is
	// charged for them. An error means that there is no such set, or that what
	// is demanded is not valid; it does not show the token.
	VerifyToken(c TokenCheck) (claims, reason string, signatures int, err error)
}

// A TokenCheck is a token and what is demanded of it, for a [TokenVerifier]. It
// is the type of the same name in package jwtkeys.
type TokenCheck = tokencheck.Check

// Reputations rate addresses.
type Reputations interface {
	// Reputation returns the reputation of an address, which is unmapped and
	// without a zone. ok is false if it has none.
	Reputation(addr netip.Addr) (reputation string, ok bool)
}
