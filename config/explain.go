package config

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/limpetlb/limpet"
)

// An Explanation is what would become of a request at a listener. Its JSON has
// the names of the tags.
type Explanation struct {
	Listener string `json:"listener"` // its name
	// NetworkSecurity is what the rules of the listener try, as text for
	// people. It is empty if the listener has no rules of its own.
	NetworkSecurity string `json:"network_security,omitempty"`
	NetworkRule     string `json:"network_rule,omitempty"` // that decides
	Closed          bool   `json:"closed,omitempty"`       // the connection, by that rule
	// Service is the name of the one that gets the request; empty if the
	// listener has none for its host, or none for clients without a
	// certificate. Then Request has the answer of the listener.
	Service string `json:"service,omitempty"`
	// Request is what the service would do; nil if the connection is closed.
	Request *limpet.Explanation `json:"request,omitempty"`

	lone bool // the service judges connections itself, and there is no other
}

// Explain finds out what would become of a request at a listener, as
// [limpet.VirtualService.ExplainRequest] does for a service: which rules of the
// listener decide, which service has the host, and what that does.
func (rt *Runtime) Explain(l Listener, r *http.Request, scripts bool) (*Explanation, error) {
	at := l.of.of
	e := &Explanation{Listener: l.Name, lone: at.unknown == nil}
	vs := at.gate
	if !e.lone {
		gate, err := at.gate.ExplainRequest(r, true) // it has no scripts
		if err != nil {
			return nil, err
		}
		e.NetworkSecurity, e.NetworkRule, e.Closed = gate.NetworkSecurity, gate.Run.NetworkRule, gate.Run.Closed
		if e.Closed {
			return e, nil
		}
		vs, _ = at.service(r)
	}
	e.Service = rt.nameOf(vs)
	var err error
	e.Request, err = vs.ExplainRequest(r, scripts)
	return e, err
}

// nameOf is the name of a service of the file; empty for others.
func (rt *Runtime) nameOf(vs *limpet.VirtualService) string {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	for _, s := range rt.services {
		if s.VirtualService == vs {
			return s.name
		}
	}
	return ""
}

// String returns the explanation as text for people. It names the listener and
// the service unless there is only one service, which judges connections
// itself.
func (e *Explanation) String() string {
	var b strings.Builder
	if !e.lone {
		fmt.Fprintf(&b, "listener %s\n", e.Listener)
	}
	if e.NetworkSecurity != "" {
		b.WriteString("network security:\n")
		for line := range strings.Lines(e.NetworkSecurity) {
			b.WriteString("    " + line)
		}
	}
	switch {
	case e.Closed:
		fmt.Fprintf(&b, "\nnetwork rule   %s\nclosed         the client's connection\n", e.NetworkRule)
		return b.String()
	case e.Service == "":
		b.WriteString("service: none of the listener has this host for this client\n")
	case !e.lone:
		fmt.Fprintf(&b, "service %s\n", e.Service)
	}
	b.WriteString(e.Request.String())
	return b.String()
}
