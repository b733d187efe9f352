package policy

import (
	"fmt"
	"net/netip"
	"runtime/debug"
)

// IPGroups looks up addresses in named groups. Policies call it for each
// evaluation, so groups may change while policies use them. An *ipgroup.Set
// implements it.
type IPGroups interface {
	// Contains reports whether a group contains an address. An unknown group is
	// an error. Policies pass valid, unmapped addresses without a zone. It must
	// be safe for concurrent use and must not block.
	Contains(group string, addr netip.Addr) (bool, error)
}

// Geo finds the locations of addresses.
//
// If it also has a method Knows(attribute string) bool, constructors refuse
// rules with attributes that the data has of no address. The empty attribute is
// the country code.
type Geo interface {
	// Locate returns an attribute of the location of an address, such as its
	// country code, or false if it is not known. Policies pass valid, unmapped
	// addresses without a zone. It must be safe for concurrent use and must not
	// block.
	Locate(addr netip.Addr, attribute string) (value string, ok bool)
}

// geoAttributes is the optional part of Geo.
type geoAttributes interface{ Knows(attribute string) bool }

// Reputations finds the reputations of addresses.
type Reputations interface {
	// HasReputation reports whether an address has a reputation of one kind,
	// such as "BOTNETS"; it may have several. An error means that the data
	// could not be read or that the kind is unknown. Policies pass valid,
	// unmapped addresses without a zone. It must be safe for concurrent use and
	// must not block.
	HasReputation(addr netip.Addr, kind string) (bool, error)
}

// Env has the services that rules use, and what happens if one fails. The zero
// value suits rules that use no service.
type Env struct {
	// IPGroups has the groups that an [IPMatch] names. With nil, constructors
	// refuse rules that name one.
	IPGroups IPGroups

	// StringGroups has the groups that path, query and header matches name.
	// With nil, constructors refuse rules that name one.
	StringGroups *StringGroups

	// Geo is for [GeoMatch]. With nil, constructors refuse rules with one.
	Geo Geo

	// Reputations is for [ReputationMatch]. With nil, constructors refuse rules
	// with one.
	Reputations Reputations

	// FailOpen is what happens if a service fails, by an error or a panic,
	// while a rule is evaluated. False, the default, fails closed: the
	// connection is reset, the request is answered with 500. True lets the
	// connection or request go on as if no rule had matched. Either way the
	// verdict has the error, and the rule counts it.
	FailOpen bool

	// Previous are the policies that the new ones replace. A rule continues the
	// counters, the rate limiter and the age of the rule with the same name, so
	// that an update neither resets counters nor refills the token buckets of
	// clients above their limit.
	Previous Previous
}

// Previous are the policies that new ones replace; each may be nil.
type Previous struct {
	NetworkSecurity *NetworkSecurity // for [NewNetworkSecurity]
	HTTPSecurity    *HTTPSecurity    // for [NewHTTPSecurity]
	HTTPRequest     *HTTPRequest     // for [NewHTTPRequest]
	HTTPResponse    *HTTPResponse    // for [NewHTTPResponse]
}

// recovered makes an error, with the stack, of the panic of a service: a
// service that panics must not decide less strictly than one that fails. It
// must be deferred.
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
