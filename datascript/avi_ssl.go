package datascript

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strconv"
	"strings"
	"time"

	lua "github.com/yuin/gopher-lua"
)

// The module avi.ssl: the client's TLS connection, in the words of OpenSSL.
var sslEntries = []entry{
	{name: "cipher", call: sslCipher},
	{name: "client_cert", call: sslClientCert},
	{name: "protocol", call: sslProtocol},
	{name: "server_name", call: sslServerName},
	{name: "check_client_cert_validity", call: sslCheckClientCertValidity},
	{name: "check_err_in_client_cert", call: sslCheckErrInClientCert},
	{name: "get_tls_fingerprint", call: sslGetTLSFingerprint},
}

func (c call) tls() *tls.ConnectionState { return c.tx.Original().TLS }

// cipher([true]) returns the name of the cipher suite, or, with true, its
// line in the output of "openssl ciphers -v"; nil without TLS.
func sslCipher(c call) int {
	t := c.tls()
	if t == nil {
		return c.Ret(lua.LNil)
	}
	s, ok := cipherSuites[t.CipherSuite]
	switch {
	case !ok:
		return c.RetString("unknown")
	case lua.LVAsBool(c.Arg(1)):
		return c.RetString(s.String())
	}
	return c.RetString(s.name)
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
		return c.RetString("TLSv1")
	case tls.VersionTLS11:
		return c.RetString("TLSv1.1")
	case tls.VersionTLS12:
		return c.RetString("TLSv1.2")
	case tls.VersionTLS13:
		return c.RetString("TLSv1.3")
	}
	return c.RetString("unknown")
}

// server_name() returns the host that the client asked for in the handshake
// (SNI), or nil.
func sslServerName(c call) int {
	t := c.tls()
	if t == nil || t.ServerName == "" {
		return c.Ret(lua.LNil)
	}
	return c.RetString(t.ServerName)
}

// check_client_cert_validity() returns 0 if the client presented no
// certificate, 1 if it presented one that the handshake or the host verified,
// and 2 if one that was not verified.
func sslCheckClientCertValidity(c call) int {
	t := c.tls()
	switch {
	case t == nil || len(t.PeerCertificates) == 0:
		return c.RetNumber(0)
	case c.certificateFault(t) == nil:
		return c.RetNumber(1)
	}
	return c.RetNumber(2)
}

// check_err_in_client_cert(code) returns the text for a result of
// check_client_cert_validity: "no certificate" for 0, "ok" for 1, and for 2 why
// the certificate of this connection was not verified, in OpenSSL's words. For
// other codes it is OpenSSL's text for the verification error of that number,
// up to 30, else "error" and the number.
func sslCheckErrInClientCert(c call) int {
	code := c.Integer(1)
	switch {
	case code == 0:
		return c.RetString("no certificate")
	case code == 1:
		return c.RetString("ok")
	case code == 2:
		t := c.tls()
		if t == nil || len(t.PeerCertificates) == 0 {
			return c.RetString("no certificate")
		}
		return c.RetString(certificateFaultText(t.PeerCertificates[0], c.certificateFault(t)))
	case code > 2 && code < len(certificateFaults):
		return c.RetString(certificateFaults[code])
	}
	return c.RetString("error " + strconv.Itoa(code))
}

// errUnverified means that a certificate was not checked.
var errUnverified = errors.New("certificate not verified")

// certificateFault returns why the client's certificate, which must exist, is
// not verified; nil if it is.
func (c call) certificateFault(t *tls.ConnectionState) error {
	if len(t.VerifiedChains) > 0 {
		return nil
	}
	if v, ok := c.tx.(CertificateVerifier); ok {
		return v.VerifyCertificate()
	}
	return errUnverified
}

// certificateFaults are OpenSSL's texts for the errors of verification.
var certificateFaults = [...]string{
	3:  "unable to get certificate CRL",
	4:  "unable to decrypt certificate's signature",
	5:  "unable to decrypt CRL's signature",
	6:  "unable to decode issuer public key",
	7:  "certificate signature failure",
	8:  "CRL signature failure",
	9:  "certificate is not yet valid",
	10: "certificate has expired",
	11: "CRL is not yet valid",
	12: "CRL has expired",
	13: "format error in certificate's notBefore field",
	14: "format error in certificate's notAfter field",
	15: "format error in CRL's lastUpdate field",
	16: "format error in CRL's nextUpdate field",
	17: "out of memory",
	18: "self-signed certificate",
	19: "self-signed certificate in certificate chain",
	20: "unable to get local issuer certificate",
	21: "unable to verify the first certificate",
	22: "certificate chain too long",
	23: "certificate revoked",
	24: "issuer certificate doesn't have a public key",
	25: "path length constraint exceeded",
	26: "unsuitable certificate purpose",
	27: "certificate not trusted",
	28: "certificate rejected",
	29: "subject issuer mismatch",
	30: "authority and subject key identifier mismatch",
}

// certificateFaultText returns OpenSSL's text for an error of verification. For
// a certificate that was not checked, it uses the facts in the certificate.
func certificateFaultText(cert *x509.Certificate, err error) string {
	if err == nil {
		return "ok"
	}
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	switch now := time.Now(); {
	case errors.As(err, &invalid) && invalid.Reason == x509.TooManyIntermediates:
		return certificateFaults[22]
	case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		return certificateFaults[26]
	case errors.As(err, &invalid) && invalid.Reason != x509.Expired:
		return "certificate verify failed"
	case now.Before(cert.NotBefore):
		return certificateFaults[9]
	case now.After(cert.NotAfter), errors.As(err, &invalid):
		return certificateFaults[10]
	case bytes.Equal(cert.RawSubject, cert.RawIssuer):
		return certificateFaults[18]
	case errors.As(err, &unknown) && strings.Contains(err.Error(), "possibly because of"):
		// There is an authority of that name, but it has not signed this
		// certificate.
		return certificateFaults[7]
	case errors.As(err, &unknown):
		return certificateFaults[20]
	}
	return "certificate verify failed"
}

// client_cert([field, ...]) returns fields of the client's certificate, one
// for each of the constants avi.CLIENT_CERT_*, or the whole certificate in PEM,
// in which all lines but the first begin with a tab. The certificate need not
// have been verified; see check_client_cert_validity. Each result is nil if
// there is no certificate.
//
// Constants are accepted as quoted text, too. Unlike with OpenSSL, a slash
// within a value of subject and issuer is \x2F, so that no value can pass for
// several.
func sslClientCert(c call) int {
	n := max(c.Count(), 1)
	if n > len(certificateFields) {
		c.ArgError(n, "more than all fields")
	}
	results := make([]lua.LValue, n)
	for i := range results {
		field := certificateFields["avi.CLIENT_CERT"]
		if c.Arg(i+1) != lua.LNil {
			name := c.Str(i + 1)
			if field = certificateFields[name]; field == nil {
				c.ArgError(i+1, "%q is not a field of a certificate", name)
			}
		}
		results[i] = lua.LNil
		if t := c.tls(); t != nil && len(t.PeerCertificates) > 0 {
			s := field(t.PeerCertificates[0])
			c.Allow(len(s))
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
	kind := c.Str(1)
	if f, ok := c.tx.(Fingerprinter); ok && c.tls() != nil {
		if s, ok := f.TLSFingerprint(kind); ok {
			return c.RetString(s)
		}
	}
	return c.Ret(lua.LNil)
}
