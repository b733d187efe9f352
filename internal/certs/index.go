package certs

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/limpetlb/limpet/internal/suggest"
)

// An index finds certificates by the names of their subjects.
type index struct {
	exact    map[string][]*tls.Certificate
	below    map[string][]*tls.Certificate // of "*.example.com" by ".example.com"
	fallback []*tls.Certificate            // for other names; nil refuses these

	managed map[string]source // by name; nil without managed names
	other   source            // in place of fallback; nil if that applies
}

// newIndex makes an index. Of several certificates with a name, those with
// ECDSA keys come first, then those with Ed25519, then those with RSA; with the
// same kind of key, they stay in order.
func newIndex(entries []*entry, other string, strict bool) *index {
	x := &index{exact: make(map[string][]*tls.Certificate, len(entries)), below: map[string][]*tls.Certificate{}}
	for _, e := range entries {
		for _, name := range e.cert.Leaf.DNSNames {
			m, key := x.place(name)
			if !slices.Contains(m[key], e.cert) {
				m[key] = append(m[key], e.cert)
			}
		}
	}
	for _, m := range []map[string][]*tls.Certificate{x.exact, x.below} {
		for _, certs := range m {
			slices.SortStableFunc(certs, func(a, b *tls.Certificate) int { return rank(a) - rank(b) })
		}
	}
	if strict || len(entries) == 0 {
		return x
	}
	first := entries[0].cert
	x.fallback = []*tls.Certificate{first}
	if names := first.Leaf.DNSNames; len(names) > 0 {
		m, key := x.place(names[0])
		x.fallback = m[key]
	}
	if found := x.named(other); found != nil {
		x.fallback = found
	}
	return x
}

// place is where the certificates of a name of a certificate are.
func (x *index) place(name string) (m map[string][]*tls.Certificate, key string) {
	name = strings.TrimSuffix(strings.ToLower(name), ".")
	if strings.HasPrefix(name, "*.") {
		return x.below, name[1:]
	}
	return x.exact, name
}

// named returns the certificates for a name, which may be one with "*.".
func (x *index) named(name string) []*tls.Certificate {
	m, key := x.place(name)
	if found := m[key]; found != nil {
		return found
	}
	return x.below[parent(key)]
}

func (x *index) has(name string) bool {
	_, managed := x.managed[strings.ToLower(name)]
	return managed || x.named(name) != nil
}

// meant is the end of a fault about a name that no certificate has: one that
// may have been meant.
func (x *index) meant(name string) string {
	names := slices.AppendSeq(slices.Collect(maps.Keys(x.exact)), maps.Keys(x.managed))
	if near := suggest.Nearest(name, slices.Values(names)); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	return ""
}

// parent is the rest of a name from its first dot.
func parent(name string) string { return name[max(0, strings.IndexByte(name, '.')):] }

// rank orders certificates by their keys.
func rank(c *tls.Certificate) int {
	switch c.Leaf.PublicKeyAlgorithm {
	case x509.ECDSA:
		return 0
	case x509.Ed25519:
		return 1
	}
	return 2
}

// candidates returns the certificates for a name that a client asks for: those
// with that name, and those with a "*" in place of its first label. If there
// are none, it returns those of the default.
func (x *index) candidates(name string) (exact, below []*tls.Certificate) {
	if name = strings.ToLower(name); name != "" { // which allocates only for names that no honest client sends
		exact, below = x.exact[name], x.below[parent(name)]
	}
	if len(exact) == 0 && len(below) == 0 {
		exact = x.fallback
	}
	return exact, below
}

// find returns the certificate for a client: the first of the candidates that
// the client supports and that is valid now.
func (x *index) find(hello *tls.ClientHelloInfo) *tls.Certificate {
	if x.managed != nil {
		if c, ok := x.issued(hello); ok {
			return c
		}
	}
	exact, below := x.candidates(hello.ServerName)
	switch {
	case len(exact)+len(below) == 0:
		return nil
	case len(exact) == 1 && len(below) == 0:
		return exact[0]
	case len(exact) == 0 && len(below) == 1:
		return below[0]
	}
	return choose(hello, exact, below)
}

// choose returns the first of several certificates that a client supports and
// that is valid now, else one that it supports, else the first.
func choose(hello *tls.ClientHelloInfo, lists ...[]*tls.Certificate) *tls.Certificate {
	// The name has been compared, and to compare it again takes longer than
	// everything else here.
	nameless := *hello
	nameless.ServerName = ""
	now := time.Now()
	var first, supported *tls.Certificate
	for _, certs := range lists {
		for _, c := range certs {
			first = cmp.Or(first, c)
			if nameless.SupportsCertificate(c) != nil {
				continue
			}
			supported = cmp.Or(supported, c)
			if !now.Before(c.Leaf.NotBefore) && !now.After(c.Leaf.NotAfter) {
				return c
			}
		}
	}
	return cmp.Or(supported, first)
}
