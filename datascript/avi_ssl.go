package datascript

import (
	"crypto/tls"

	lua "github.com/yuin/gopher-lua"
)

// The module avi.ssl: the client's TLS connection, in the words of OpenSSL.
var sslEntries = []entry{
	{name: "cipher", call: sslCipher},
	{name: "client_cert", call: sslClientCert},
	{name: "protocol", call: sslProtocol},
	{name: "server_name", call: sslServerName},
	{name: "check_client_cert_validity", call: sslCheckClientCertValidity},
	{name: "get_tls_fingerprint", call: sslGetTLSFingerprint},
}

func (c call) tls() *tls.ConnectionState { return c.tx.Original().TLS }

// cipher([true]) returns the name of the cipher suite, or, with true, its
// line in the output of "openssl ciphers -v"; nil without TLS.
func sslCipher(c call) int {
	t := c.tls()
	if t == nil {
		return c.ret(lua.LNil)
	}
	s, ok := cipherSuites[t.CipherSuite]
	switch {
	case !ok:
		return c.retString("unknown")
	case lua.LVAsBool(c.arg(1)):
		return c.retString(s.String())
	}
	return c.retString(s.name)
}

// protocol() returns the version of TLS: "TLSv1", "TLSv1.1", "TLSv1.2" or
// "TLSv1.3"; "unknown" without TLS.
func sslProtocol(c call) int {
	version := uint16(0)
	if t := c.tls(); t != nil {
		version = t.Version
	}
	switch version {
	case tls.VersionTLS10:
		return c.retString("TLSv1")
	case tls.VersionTLS11:
		return c.retString("TLSv1.1")
	case tls.VersionTLS12:
		return c.retString("TLSv1.2")
	case tls.VersionTLS13:
		return c.retString("TLSv1.3")
	}
	return c.retString("unknown")
}

// server_name() returns the host that the client asked for in the handshake
// (SNI), or nil.
func sslServerName(c call) int {
	t := c.tls()
	if t == nil || t.ServerName == "" {
		return c.ret(lua.LNil)
	}
	return c.retString(t.ServerName)
}

// check_client_cert_validity() returns 0 if the client presented no
// certificate, 1 if it presented one that the handshake verified, and 2 if
// one that was not verified.
func sslCheckClientCertValidity(c call) int {
	t := c.tls()
	switch {
	case t == nil || len(t.PeerCertificates) == 0:
		return c.retNumber(0)
	case len(t.VerifiedChains) > 0:
		return c.retNumber(1)
	}
	return c.retNumber(2)
}

// client_cert([field, ...]) returns fields of the client's certificate, one
// for each of the constants avi.CLIENT_CERT_*, or the whole certificate in PEM,
// in which all lines but the first begin with a tab. The certificate need not
// have been verified; see check_client_cert_validity. Each result is nil if
// there is no certificate.
//
// Constants are accepted as quoted text, too. In subject and issuer, unlike
// OpenSSL's, a slash within a value is \x2F, so that no value can pass for
// several.
func sslClientCert(c call) int {
	n := max(c.count(), 1)
	if n > len(certificateFields) {
		c.argError(n, "more than all fields")
	}
	results := make([]lua.LValue, n)
	for i := range results {
		field := certificateFields["avi.CLIENT_CERT"]
		if c.arg(i+1) != lua.LNil {
			name := c.str(i + 1)
			if field = certificateFields[name]; field == nil {
				c.argError(i+1, "%q is not a field of a certificate", name)
			}
		}
		results[i] = lua.LNil
		if t := c.tls(); t != nil && len(t.PeerCertificates) > 0 {
			s := field(t.PeerCertificates[0])
			c.allow(len(s))
			results[i] = lua.LString(s)
		}
	}
	for _, v := range results {
		c.L.Push(v)
	}
	return n
}

// get_tls_fingerprint(type) returns the fingerprint of the client's TLS
// implementation, of a type that the host knows; nil if there is none.
func sslGetTLSFingerprint(c call) int {
	kind := c.str(1)
	if f, ok := c.tx.(Fingerprinter); ok && c.tls() != nil {
		if s, ok := f.TLSFingerprint(kind); ok {
			return c.retString(s)
		}
	}
	return c.ret(lua.LNil)
}
