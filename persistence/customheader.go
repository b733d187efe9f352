package persistence

import (
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/internal/httpfield"
)

// A CustomHeaderConfig configures a [CustomHeader].
type CustomHeaderConfig struct {
	// Name is the name of the header, in any letter case, at most 128 bytes. It
	// is required.
	Name string

	// Servers maps values of the header to servers, as address and port. Values
	// are compared byte for byte. At least one is required.
	Servers map[string]string
}

// A CustomHeader is a persistence profile whose clients select their server:
// each server has a configured value of a header. The profile remembers
// nothing. The methods may be called concurrently. Create one with
// [NewCustomHeader].
type CustomHeader struct {
	name    string
	servers map[string]string
}

// NewCustomHeader returns a profile. The error joins a [*FieldError] for each
// fault.
func NewCustomHeader(c CustomHeaderConfig) (*CustomHeader, error) {
	var faults fielderr.List
	if key := http.CanonicalHeaderKey(c.Name); key == "Host" || httpfield.IsFraming(key) {
		faults.Addf("name", c.Name, "not among the headers of a request")
	} else {
		checkName(c.Name, &faults)
	}
	if len(c.Servers) == 0 {
		faults.Addf("servers", nil, "missing")
	}
	for _, value := range slices.Sorted(maps.Keys(c.Servers)) {
		path := fielderr.Key("servers", value)
		if value == "" {
			faults.Addf(path, c.Servers[value], "a header that is empty names no server")
		} else if !httpfield.IsValue(value) || strings.Trim(value, " \t") != value {
			faults.Addf(path, c.Servers[value], "no header has this value: it has blanks at an end, or control characters")
		}
		if c.Servers[value] == "" {
			faults.Addf(path, nil, "missing")
		}
	}
	if err := faults.ErrIn(c); err != nil {
		return nil, err
	}
	return &CustomHeader{http.CanonicalHeaderKey(c.Name), maps.Clone(c.Servers)}, nil
}

// Find returns the server that the request's header selects, whatever the
// target. If the header occurs several times, the first applies. The error is
// [ErrNoKey] if the request does not have the header.
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

// Bind does nothing, because clients select their server. The error is always
// nil.
func (p *CustomHeader) Bind(_ http.Header, _ *http.Request, _ netip.Addr, _, _ string) error {
	return nil
}
