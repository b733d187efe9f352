package persistence

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"time"
)

// A CustomHeaderConfig configures a [CustomHeader].
type CustomHeaderConfig struct {
	// Name is the name of the header, in any case, at most 128 bytes. It must be set.
	Name string

	// Servers are the servers, address and port, by the value of the header that asks for them.
	// Values are compared byte for byte. There must be at least one.
	Servers map[string]string
}

// A CustomHeader is a persistence profile in which clients name their server, by a value of a
// header that is configured for each server. It remembers nothing. Its methods may be called
// concurrently. Make one with [NewCustomHeader].
type CustomHeader struct {
	name    string
	servers map[string]string
}

// NewCustomHeader returns a profile. The error names every field that cannot be.
func NewCustomHeader(c CustomHeaderConfig) (*CustomHeader, error) {
	var faults []error
	switch {
	case c.Name == "":
		faults = append(faults, errors.New("persistence: Name: is missing"))
	case http.CanonicalHeaderKey(c.Name) == "Host":
		faults = append(faults, errors.New("persistence: Name: Host is not among the headers of a request"))
	default:
		faults = checkName(c.Name)
	}
	if len(c.Servers) == 0 {
		faults = append(faults, errors.New("persistence: Servers: are missing"))
	}
	for _, value := range slices.Sorted(maps.Keys(c.Servers)) {
		if value == "" {
			faults = append(faults, errors.New(`persistence: Servers[""]: a header that is empty names no server`))
		}
		if c.Servers[value] == "" {
			faults = append(faults, fmt.Errorf("persistence: Servers[%q]: is empty", value))
		}
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return &CustomHeader{http.CanonicalHeaderKey(c.Name), maps.Clone(c.Servers)}, nil
}

// Find returns the server that the request's header asks for, whatever the target. Only the first of
// several lines applies. The error is [ErrNoKey] if the request does not have the header.
func (p *CustomHeader) Find(r *http.Request, _ netip.Addr, _ string) (server string, remaining time.Duration, err error) {
	lines := r.Header[p.name]
	if len(lines) == 0 {
		return "", 0, ErrNoKey
	}
	server, ok := p.servers[lines[0]]
	if !ok {
		return "", 0, nil
	}
	return server, endless, nil
}

// Source returns [FromMap].
func (p *CustomHeader) Source() Source { return FromMap }

// Bind does nothing: which client belongs to which server is up to the clients. The error is always
// nil.
func (p *CustomHeader) Bind(_ http.Header, _ *http.Request, _ netip.Addr, _, _ string) error {
	return nil
}
