package policy

import (
	"fmt"
	"net/netip"
	"runtime/debug"
)

// IPGroups finds named groups of addresses. It is consulted at run time, so a
// group may change while policies use it. An *ipgroup.Set fits.
type IPGroups interface {
	// Contains reports whether a group contains an address; a group that is
	// unknown is an error. Policies pass valid, unmapped addresses without a
	// zone. It must be safe for concurrent use and must not block.
	Contains(group string, addr netip.Addr) (bool, error)
}

// Geo knows where addresses are.
type Geo interface {
	// Locate returns an attribute of the place of an address, such as the
	// code of its country; ok is false if it is not known. Policies pass
	// valid, unmapped addresses without a zone. It must be safe for
	// concurrent use and must not block.
	Locate(addr netip.Addr, attribute string) (value string, ok bool)
}

// geoAttributes is the optional part of Geo.
type geoAttributes interface{ Knows(attribute string) bool }

// Reputations knows what addresses are known for.
type Reputations interface {
	// HasReputation reports whether an address is known for one kind of
	// behaviour, such as "BOTNETS"; an address may be known for several. An
	// error means that the data could not be read, or that there is no such
	// kind. Policies pass valid, unmapped addresses without a zone. It must be
	// safe for concurrent use and must not block.
	HasReputation(addr netip.Addr, kind string) (bool, error)
}

// Env holds the services that matches use and what happens when one fails.
// The zero value suits rules that name no group.
type Env struct {
	// IPGroups finds the groups named in an [IPMatch]. With nil, a rule that
	// names a group is refused at construction.
	IPGroups IPGroups

	// StringGroups finds the groups named in path, query and header matches.
	// With nil, a rule that names one is refused at construction.
	StringGroups *StringGroups

	// Geo answers [GeoMatch]. With nil, a rule with one is refused at
	// construction.
	Geo Geo

	// Reputations answers [ReputationMatch]. With nil, a rule with one is
	// refused at construction.
	Reputations Reputations

	// FailOpen says what happens when a service fails, by error or by panic,
	// while a rule is evaluated. False, the default, fails closed: the
	// connection is denied, the request is answered with 500. True accepts
	// the connection or the request as if no rule had matched. Either way the
	// verdict carries the error and the rule's Errors counter grows.
	FailOpen bool

	// Previous are the policies that the new ones replace. A rule takes over
	// the counters, the rate limiter and the age of the rule with the same
	// name, so that a change of the configuration neither forgets counts nor
	// fills the buckets of clients that are over their limit.
	Previous Previous
}

// Previous are the policies that new ones replace; each may be nil.
type Previous struct {
	NetworkSecurity *NetworkSecurity // for [NewNetworkSecurity]
	HTTPSecurity    *HTTPSecurity    // for [NewHTTPSecurity]
	HTTPRequest     *HTTPRequest     // for [NewHTTPRequest]
	HTTPResponse    *HTTPResponse    // for [NewHTTPResponse]
}

// recovered makes an error of the panic of a service, with its stack: a
// broken service must not decide less strictly than one that reports its
// fault. It must be deferred.
func recovered(err *error) {
	if v := recover(); v != nil {
		*err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
	}
}

func (e *Env) inGroup(group string, addr netip.Addr) (ok bool, err error) {
	defer recovered(&err)
	return e.IPGroups.Contains(group, addr)
}

func (e *Env) locate(addr netip.Addr, attribute string) (value string, ok bool, err error) {
	defer recovered(&err)
	value, ok = e.Geo.Locate(addr, attribute)
	return value, ok, nil
}

func (e *Env) hasReputation(addr netip.Addr, kind string) (ok bool, err error) {
	defer recovered(&err)
	return e.Reputations.HasReputation(addr, kind)
}
