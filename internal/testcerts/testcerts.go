// Package testcerts makes certificates for tests.
package testcerts

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// An Authority signs certificates.
type Authority struct {
	Cert *x509.Certificate // signed by itself, or by another authority
	key  crypto.Signer
}

// A Cert is a certificate and its key.
type Cert struct {
	Leaf *x509.Certificate // without those of its issuers
	Key  crypto.Signer     // ECDSA or RSA
}

// serials distinguish certificates.
var serials atomic.Int64

// rsaKey is the key of all certificates with one: to make it takes a while.
var rsaKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// NewAuthority makes an authority of a name.
func NewAuthority(t testing.TB, name string) *Authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, SerialNumber: big.NewInt(serials.Add(1)), IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	return &Authority{Cert: sign(t, template, template, key.Public(), key), key: key}
}

// AuthorityOf returns the authority whose certificate another one has issued.
func AuthorityOf(c *Cert) *Authority { return &Authority{Cert: c.Leaf, key: c.Key} }

// Issue makes a certificate with an ECDSA key, for servers and clients, with
// these names, valid for 90 days since an hour ago. change may change it; nil
// changes nothing.
func (a *Authority) Issue(t testing.TB, change func(c *x509.Certificate), names ...string) *Cert {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return a.IssueFor(t, key, change, names...)
}

// IssueRSA makes the same with an RSA key.
func (a *Authority) IssueRSA(t testing.TB, change func(c *x509.Certificate), names ...string) *Cert {
	t.Helper()
	key, err := rsaKey()
	must(t, err)
	return a.IssueFor(t, key, change, names...)
}

// IssueFor makes the same with a key that the test has.
func (a *Authority) IssueFor(t testing.TB, key crypto.Signer, change func(c *x509.Certificate), names ...string) *Cert {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serials.Add(1)), DNSNames: names, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 0, 90),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(template)
	}
	return &Cert{Leaf: sign(t, template, a.Cert, key.Public(), a.key), Key: key}
}

// PEM returns the certificate of the authority.
func (a *Authority) PEM() string { return block("CERTIFICATE", a.Cert.Raw) }

// Pool returns a pool with the authority.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.Cert)
	return pool
}

// Revoke returns a revocation list in PEM, of now, that is good until then.
// change may change it; nil changes nothing.
func (a *Authority) Revoke(t testing.TB, next time.Time, change func(l *x509.RevocationList), revoked ...*Cert) string {
	t.Helper()
	template := &x509.RevocationList{Number: big.NewInt(serials.Add(1)), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: next}
	for _, c := range revoked {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.Leaf.SerialNumber, RevocationTime: time.Now()})
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, a.Cert, a.key)
	must(t, err)
	return block("X509 CRL", der)
}

// PEM returns the certificate.
func (c *Cert) PEM() string { return block("CERTIFICATE", c.Leaf.Raw) }

// KeyPEM returns the key.
func (c *Cert) KeyPEM(t testing.TB) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.Key)
	must(t, err)
	return block("PRIVATE KEY", der)
}

// TLS returns both for package tls.
func (c *Cert) TLS() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{c.Leaf.Raw}, PrivateKey: c.Key, Leaf: c.Leaf}
}

func sign(t testing.TB, template, parent *x509.Certificate, public any, key crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return cert
}

func block(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
