package lbpool

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"reflect"
	"slices"
)

// A configuration that is built again consists of new values. Only a Finder or
// a Checker itself can say whether it is the same as before; its name or its
// text cannot.

// same reports whether two values are known to be the same: they are comparable
// and equal, or the new one says so.
func same[T any](before, after T) bool {
	if v, ok := any(after).(interface{ Same(other T) bool }); ok && v.Same(before) {
		return true
	}
	a, b := reflect.ValueOf(before), reflect.ValueOf(after)
	return a.IsValid() && b.IsValid() && a.Type() == b.Type() && a.Comparable() && b.Comparable() && a.Equal(b)
}

// Same reports whether other is an *HTTPChecker with the same checks. TLS
// configurations with functions are the same only if they are the same value.
func (c *HTTPChecker) Same(other Checker) bool {
	o, ok := other.(*HTTPChecker)
	if !ok || o == nil {
		return false
	}
	return cmp.Or(c.Method, http.MethodGet) == cmp.Or(o.Method, http.MethodGet) &&
		cmp.Or(c.Path, "/") == cmp.Or(o.Path, "/") && c.Host == o.Host && equalHeader(c.Header, o.Header) &&
		slices.Equal(c.Accept, o.Accept) && c.Keyword == o.Keyword &&
		slices.Equal(c.Maintenance, o.Maintenance) && c.MaintenanceKeyword == o.MaintenanceKeyword &&
		(c.Accept == nil) == (o.Accept == nil) && sameTLS(c.TLS, o.TLS)
}

// Same reports whether other is a *TCPChecker with the same checks.
func (c *TCPChecker) Same(other Checker) bool {
	o, ok := other.(*TCPChecker)
	return ok && o != nil && *c == *o
}

// Same reports whether other is a *DNSFinder with the same look-ups.
func (f *DNSFinder) Same(other Finder) bool {
	o, ok := other.(*DNSFinder)
	if !ok || o == nil {
		return false
	}
	resolvers := f.Resolver == nil && o.Resolver == nil || f.Resolver != nil && o.Resolver != nil && same(f.Resolver, o.Resolver)
	return f.Name == o.Name && f.SRV == o.SRV && cmp.Or(f.Network, "ip") == cmp.Or(o.Network, "ip") && f.Server == o.Server && resolvers
}

func equalHeader(a, b http.Header) bool {
	if len(a) != len(b) {
		return false
	}
	for name, values := range a {
		if others, ok := b[name]; !ok || !slices.Equal(values, others) {
			return false
		}
	}
	return true
}

// sameTLS compares the fields that configurations for health checks usually
// set.
func sameTLS(a, b *tls.Config) bool {
	if a == b || a == nil || b == nil {
		return a == b
	}
	return plainTLS(a) && plainTLS(b) && a.ServerName == b.ServerName && a.InsecureSkipVerify == b.InsecureSkipVerify &&
		a.MinVersion == b.MinVersion && a.MaxVersion == b.MaxVersion && slices.Equal(a.NextProtos, b.NextProtos) &&
		slices.Equal(a.CipherSuites, b.CipherSuites) && slices.Equal(a.CurvePreferences, b.CurvePreferences) &&
		sameRoots(a.RootCAs, b.RootCAs) && slices.EqualFunc(a.Certificates, b.Certificates, sameCertificate)
}

func plainTLS(c *tls.Config) bool {
	return c.Rand == nil && c.Time == nil && c.GetClientCertificate == nil && c.VerifyPeerCertificate == nil &&
		c.VerifyConnection == nil && c.ClientSessionCache == nil && c.KeyLogWriter == nil && c.EncryptedClientHelloConfigList == nil
}

func sameRoots(a, b *x509.CertPool) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Equal(b)
}

func sameCertificate(a, b tls.Certificate) bool {
	return slices.EqualFunc(a.Certificate, b.Certificate, bytes.Equal)
}
