package certs

import (
	"crypto/tls"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// A source returns the certificate of a managed name; nil if there is none yet.
type source func() *tls.Certificate

// manage adds managed names to an index.
func (x *index) manage(all []Managed, issuer Issuer, cfg Config) {
	if len(all) == 0 {
		return
	}
	x.managed = map[string]source{}
	for _, m := range all {
		for _, name := range m.Names {
			x.managed[name] = func() *tls.Certificate {
				if issuer == nil {
					return nil
				}
				return issuer.Certificate(m.Authority, name)
			}
		}
	}
	switch {
	case cfg.StrictSNI:
	case cfg.Default != "":
		x.other = x.managed[strings.ToLower(cfg.Default)]
	case x.fallback == nil:
		x.other = x.managed[all[0].Names[0]]
	}
}

// issued returns the certificate for a client that asks for a managed name, or
// gets that of one by default; false if files have the certificates. Until a
// name has its certificate, clients that ask for it get one from files that has
// the name as well, or nil.
func (x *index) issued(hello *tls.ClientHelloInfo) (*tls.Certificate, bool) {
	name := strings.ToLower(hello.ServerName)
	exact, below := x.exact[name], x.below[parent(name)]
	get := x.managed[asked(hello, name)]
	if get == nil {
		if x.other == nil || len(exact)+len(below) > 0 {
			return nil, false
		}
		c := x.other()
		return c, c != nil
	}
	c := get()
	switch {
	case len(exact)+len(below) == 0:
		return c, true
	case c == nil:
		return choose(hello, exact, below), true
	}
	return choose(hello, []*tls.Certificate{c}, exact, below), true
}

// asked is the name that a client asks for. Clients do not send the address to
// which they connect (RFC 6066), so no name means that of the connection.
func asked(hello *tls.ClientHelloInfo, name string) string {
	if name != "" || hello.Conn == nil {
		return name
	}
	if at, ok := hello.Conn.LocalAddr().(*net.TCPAddr); ok {
		if ip, ok := netip.AddrFromSlice(at.IP); ok {
			return ip.Unmap().String()
		}
	}
	return ""
}

// challengeProtocol is what authorities speak to see whether a server is that
// of a name (RFC 8737).
const challengeProtocol = "acme-tls/1"

// challenge returns the configuration for an authority that asks who serves a
// name; nil for other clients. Such a connection carries no requests, so it
// needs no certificate of the client.
func (p *Policy) challenge(hello *tls.ClientHelloInfo) *tls.Config {
	if p.issuer == nil || !slices.Equal(hello.SupportedProtos, []string{challengeProtocol}) {
		return nil
	}
	c := p.issuer.TLSChallenge(strings.ToLower(hello.ServerName))
	if c == nil {
		return nil
	}
	return &tls.Config{
		Certificates: []tls.Certificate{*c}, NextProtos: []string{challengeProtocol},
		MinVersion: tls.VersionTLS12, SessionTicketsDisabled: true,
	}
}

// IsChallenge reports whether a connection is that of an authority, which may
// make no requests.
func IsChallenge(about *tls.ConnectionState) bool {
	return about != nil && about.NegotiatedProtocol == challengeProtocol
}
