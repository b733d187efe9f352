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

// Env holds the services that matches use and what happens when one fails.
// The zero value suits rules that name no group.
type Env struct {
	// IPGroups finds the groups named in an [IPMatch]. With nil, a rule that
	// names a group is refused at construction.
	IPGroups IPGroups

	// FailOpen says what happens when a service fails, by error or by panic,
	// while a rule is evaluated. False, the default, fails closed: the
	// connection is denied, the request is answered with 500. True accepts
	// the connection or the request as if no rule had matched. Either way the
	// verdict carries the error and the rule's Errors counter grows.
	FailOpen bool
}

// inGroup asks for one group. A panic of the service is returned as an error
// with its stack: a broken service must not decide less strictly than one
// that reports its fault.
func (e *Env) inGroup(group string, addr netip.Addr) (ok bool, err error) {
	defer func() {
		if v := recover(); v != nil {
			ok, err = false, fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	return e.IPGroups.Contains(group, addr)
}
