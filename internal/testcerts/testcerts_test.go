package testcerts_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"testing"
	"time"

	"github.com/limpetlb/limpet/internal/testcerts"
)

// What is made is what packages tls and x509 take.
func TestCertificates(t *testing.T) {
	a := testcerts.NewAuthority(t, "test")
	ec, rsa := a.Issue(t, nil, "a.example.com"), a.IssueRSA(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(time.Minute) }, "a.example.com")
	for _, c := range []*testcerts.Cert{ec, rsa} {
		pair, err := tls.X509KeyPair([]byte(c.PEM()), []byte(c.KeyPEM(t)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: a.Pool(), DNSName: "a.example.com"}); err != nil {
			t.Error(err)
		}
		if got := c.TLS(); !got.Leaf.Equal(pair.Leaf) {
			t.Error("another certificate")
		}
	}
	if ec.Leaf.PublicKeyAlgorithm != x509.ECDSA || rsa.Leaf.PublicKeyAlgorithm != x509.RSA || time.Until(rsa.Leaf.NotAfter) > time.Minute {
		t.Error("not as it was asked for")
	}
	b, _ := pem.Decode([]byte(a.Revoke(t, time.Now().Add(time.Hour), nil, rsa)))
	list, err := x509.ParseRevocationList(b.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if err := list.CheckSignatureFrom(a.Cert); err != nil || len(list.RevokedCertificateEntries) != 1 {
		t.Errorf("%v, %d revoked", err, len(list.RevokedCertificateEntries))
	}
}
