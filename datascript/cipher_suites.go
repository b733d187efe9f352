package datascript

import (
	"crypto/tls"
	"fmt"
)

// A cipherSuite is a cipher suite as OpenSSL describes it.
type cipherSuite struct {
	name                      string
	version                   string // the first that has it
	exchange, auth, enc, hash string
}

// String returns the suite's line in the output of "openssl ciphers -v".
func (s cipherSuite) String() string {
	return fmt.Sprintf("%-30s %-7s Kx=%-8s Au=%-5s Enc=%-22s Mac=%s", s.name, s.version, s.exchange, s.auth, s.enc, s.hash)
}

// cipherSuites are all suites of crypto/tls.
var cipherSuites = map[uint16]cipherSuite{
	tls.TLS_AES_128_GCM_SHA256:       {"TLS_AES_128_GCM_SHA256", "TLSv1.3", "any", "any", "AESGCM(128)", "AEAD"},
	tls.TLS_AES_256_GCM_SHA384:       {"TLS_AES_256_GCM_SHA384", "TLSv1.3", "any", "any", "AESGCM(256)", "AEAD"},
	tls.TLS_CHACHA20_POLY1305_SHA256: {"TLS_CHACHA20_POLY1305_SHA256", "TLSv1.3", "any", "any", "CHACHA20/POLY1305(256)", "AEAD"},

	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256:       {"ECDHE-ECDSA-AES128-GCM-SHA256", "TLSv1.2", "ECDH", "ECDSA", "AESGCM(128)", "AEAD"},
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384:       {"ECDHE-ECDSA-AES256-GCM-SHA384", "TLSv1.2", "ECDH", "ECDSA", "AESGCM(256)", "AEAD"},
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256: {"ECDHE-ECDSA-CHACHA20-POLY1305", "TLSv1.2", "ECDH", "ECDSA", "CHACHA20/POLY1305(256)", "AEAD"},
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256:       {"ECDHE-ECDSA-AES128-SHA256", "TLSv1.2", "ECDH", "ECDSA", "AES(128)", "SHA256"},
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA:          {"ECDHE-ECDSA-AES128-SHA", "TLSv1", "ECDH", "ECDSA", "AES(128)", "SHA1"},
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA:          {"ECDHE-ECDSA-AES256-SHA", "TLSv1", "ECDH", "ECDSA", "AES(256)", "SHA1"},
	tls.TLS_ECDHE_ECDSA_WITH_RC4_128_SHA:              {"ECDHE-ECDSA-RC4-SHA", "TLSv1", "ECDH", "ECDSA", "RC4(128)", "SHA1"},

	tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256:       {"ECDHE-RSA-AES128-GCM-SHA256", "TLSv1.2", "ECDH", "RSA", "AESGCM(128)", "AEAD"},
	tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384:       {"ECDHE-RSA-AES256-GCM-SHA384", "TLSv1.2", "ECDH", "RSA", "AESGCM(256)", "AEAD"},
	tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256: {"ECDHE-RSA-CHACHA20-POLY1305", "TLSv1.2", "ECDH", "RSA", "CHACHA20/POLY1305(256)", "AEAD"},
	tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256:       {"ECDHE-RSA-AES128-SHA256", "TLSv1.2", "ECDH", "RSA", "AES(128)", "SHA256"},
	tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA:          {"ECDHE-RSA-AES128-SHA", "TLSv1", "ECDH", "RSA", "AES(128)", "SHA1"},
	tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA:          {"ECDHE-RSA-AES256-SHA", "TLSv1", "ECDH", "RSA", "AES(256)", "SHA1"},
	tls.TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA:         {"ECDHE-RSA-DES-CBC3-SHA", "TLSv1", "ECDH", "RSA", "3DES(168)", "SHA1"},
	tls.TLS_ECDHE_RSA_WITH_RC4_128_SHA:              {"ECDHE-RSA-RC4-SHA", "TLSv1", "ECDH", "RSA", "RC4(128)", "SHA1"},

	tls.TLS_RSA_WITH_AES_128_GCM_SHA256: {"AES128-GCM-SHA256", "TLSv1.2", "RSA", "RSA", "AESGCM(128)", "AEAD"},
	tls.TLS_RSA_WITH_AES_256_GCM_SHA384: {"AES256-GCM-SHA384", "TLSv1.2", "RSA", "RSA", "AESGCM(256)", "AEAD"},
	tls.TLS_RSA_WITH_AES_128_CBC_SHA256: {"AES128-SHA256", "TLSv1.2", "RSA", "RSA", "AES(128)", "SHA256"},
	tls.TLS_RSA_WITH_AES_128_CBC_SHA:    {"AES128-SHA", "SSLv3", "RSA", "RSA", "AES(128)", "SHA1"},
	tls.TLS_RSA_WITH_AES_256_CBC_SHA:    {"AES256-SHA", "SSLv3", "RSA", "RSA", "AES(256)", "SHA1"},
	tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA:   {"DES-CBC3-SHA", "SSLv3", "RSA", "RSA", "3DES(168)", "SHA1"},
	tls.TLS_RSA_WITH_RC4_128_SHA:        {"RC4-SHA", "SSLv3", "RSA", "RSA", "RC4(128)", "SHA1"},
}
