package acceptance_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"testing"
	"time"

	"github.com/limpetlb/limpet"
)

// An authority issues certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// issue makes a certificate; without an authority it is self-signed.
func (a *authority) issue(t *testing.T, name string, change func(*x509.Certificate)) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-2 * time.Hour), NotAfter: now.Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true, DNSNames: []string{"localhost"},
	}
	change(template)
	parent := &authority{template, key}
	if a != nil {
		parent = a
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent.cert, &key.PublicKey, parent.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key}
}

func (a *authority) certificate() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{a.cert.Raw}, PrivateKey: a.key}
}

func asAuthority(c *x509.Certificate) {
	c.IsCA, c.KeyUsage, c.ExtKeyUsage = true, x509.KeyUsageCertSign, nil
}

// With tls.RequestClientCert, which lets every client in, a good certificate
// could not be distinguished from a bad one: both had validity 2, and a script
// that passes the reason on failed.
func TestClientCertificate(t *testing.T) {
	same := func(*x509.Certificate) {}
	root := (*authority)(nil).issue(t, "root", asAuthority)
	other := (*authority)(nil).issue(t, "root", asAuthority) // of the same name
	stranger := (*authority)(nil).issue(t, "stranger", asAuthority)
	roots := x509.NewCertPool()
	roots.AddCert(root.cert)

	script := `local v = avi.ssl.check_client_cert_validity()
avi.http.response(200, {}, v .. " " .. avi.ssl.check_err_in_client_cert(v) .. " " .. tostring(avi.http.get_userid()))`
	vs, err := limpet.New(limpet.Config{Logger: slog.New(slog.DiscardHandler), Scripts: []limpet.Script{onRequest(t, "cert", script)}})
	if err != nil {
		t.Fatal(err)
	}
	serve := func(t *testing.T, auth tls.ClientAuthType, cas *x509.CertPool, ours bool) string {
		ln := listen(t, "127.0.0.1:0")
		if ours {
			ln = vs.Listener(ln)
		}
		srv := &http.Server{Handler: vs, ErrorLog: serverLog(t), TLSConfig: &tls.Config{
			Certificates: []tls.Certificate{root.issue(t, "localhost", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }).certificate()},
			ClientCAs:    cas, ClientAuth: auth,
		}}
		done := make(chan struct{})
		go func() { defer close(done); _ = srv.ServeTLS(ln, "", "") }()
		t.Cleanup(func() { srv.Close(); <-done })
		return ln.Addr().String()
	}
	addrs := map[string]string{
		"request":                       serve(t, tls.RequestClientCert, roots, false),
		"request, our listener":         serve(t, tls.RequestClientCert, roots, true),
		"request, no authority":         serve(t, tls.RequestClientCert, nil, false),
		"verified by the handshake":     serve(t, tls.VerifyClientCertIfGiven, roots, false),
		"any is taken, and none judged": serve(t, tls.RequireAnyClientCert, roots, false),
	}
	good := root.issue(t, "ann", same)
	expired := root.issue(t, "ann", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) })
	for _, tt := range []struct {
		name, server string
		cert         *authority
		want         string
	}{
		{"none", "request", nil, "0 no certificate nil"},
		{"good", "request", good, "1 ok ann"},
		{"good", "request, our listener", good, "1 ok ann"},
		{"expired", "request", expired, "2 certificate has expired nil"},
		{"expired", "request, our listener", expired, "2 certificate has expired nil"},
		{"not yet valid", "request", root.issue(t, "ann", func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }), "2 certificate is not yet valid nil"},
		{"self-signed", "request", (*authority)(nil).issue(t, "ann", same), "2 self-signed certificate nil"},
		{"of a stranger", "request", stranger.issue(t, "ann", same), "2 unable to get local issuer certificate nil"},
		{"forged", "request", other.issue(t, "ann", same), "2 certificate signature failure nil"},
		{"for servers", "request", root.issue(t, "ann", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), "2 unsuitable certificate purpose nil"},
		{"good", "request, no authority", good, "2 certificate verify failed nil"},
		{"expired", "request, no authority", expired, "2 certificate has expired nil"},
		{"good", "verified by the handshake", good, "1 ok ann"},
		{"good", "any is taken, and none judged", good, "2 certificate verify failed nil"},
	} {
		t.Run(tt.server+"/"+tt.name, func(t *testing.T) {
			cfg := &tls.Config{RootCAs: roots, ServerName: "localhost"}
			if tt.cert != nil {
				cert := tt.cert.certificate()
				cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
			}
			client := &http.Client{Transport: &http.Transport{TLSClientConfig: cfg}}
			defer client.CloseIdleConnections()
			for range 2 { // the second one on the same connection
				res, err := client.Get("https://" + addrs[tt.server])
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(res.Body)
				res.Body.Close()
				if err != nil || string(got) != tt.want {
					t.Errorf("got %q, %v, want %q", got, err, tt.want)
				}
			}
		})
	}
}
