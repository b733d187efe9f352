package limpet

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"sync"
)

// With tls.RequestClientCert, a server asks for a certificate but does not
// verify it: scripts decide what happens to a client with a bad one. So that
// they can tell a good one, it is verified here, as the handshake of a stricter
// server would do.

// errNotVerified means that a server has no authorities to verify certificates
// with.
var errNotVerified = errors.New("the client's certificate was not verified")

// VerifyCertificate returns nil if the client has presented a good certificate:
// the handshake has verified it, or, where ClientAuth is
// [tls.RequestClientCert], an authority in ClientCAs of [http.Server].TLSConfig
// has signed it for client authentication. Otherwise it returns the reason,
// such as an error of crypto/x509. The result is kept for the connection, if
// our listener has accepted it.
func (tx *transaction) VerifyCertificate() error {
	t := tx.r.TLS
	if t == nil || len(t.PeerCertificates) == 0 {
		return errNotVerified
	}
	if len(t.VerifiedChains) > 0 {
		return nil
	}
	srv, _ := tx.r.Context().Value(http.ServerContextKey).(*http.Server)
	find := func() error { return verify(srv, t.PeerCertificates) }
	if tx.conn != nil {
		return tx.conn.Once(find)
	}
	v := &tx.certificate
	v.once.Do(func() { v.err = find() })
	return v.err
}

// verified is the result of verifying a certificate, once.
type verified struct {
	once sync.Once
	err  error
}

func verify(srv *http.Server, chain []*x509.Certificate) error {
	if srv == nil || srv.TLSConfig == nil || srv.TLSConfig.ClientCAs == nil || srv.TLSConfig.ClientAuth != tls.RequestClientCert {
		return errNotVerified
	}
	o := x509.VerifyOptions{
		Roots: srv.TLSConfig.ClientCAs, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if now := srv.TLSConfig.Time; now != nil {
		o.CurrentTime = now()
	}
	for _, c := range chain[1:] {
		o.Intermediates.AddCert(c)
	}
	_, err := chain[0].Verify(o)
	return err
}
