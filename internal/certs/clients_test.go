package certs

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/limpetlb/limpet/internal/testcerts"
	"github.com/limpetlb/limpet/internal/testfiles"
)

// A gate is a store whose listener asks clients for certificates.
type gate struct {
	*testing.T
	dir   string
	store *Store
	cfg   Config
	roots *x509.CertPool
}

// newGate makes a gate that trusts the authorities in the file ca.
func newGate(t *testing.T, files map[string]string, optional bool) *gate {
	t.Helper()
	a := testcerts.NewAuthority(t, "of servers")
	files = maps.Clone(files)
	put(t, files, "a", a.Issue(t, nil, "a.example.com"))
	g := &gate{T: t, dir: testfiles.Write(t, files), roots: a.Pool()}
	g.cfg = config(g.dir, "a")
	g.cfg.Clients = &Clients{CA: []string{filepath.Join(g.dir, "ca")}, Optional: optional}
	if _, ok := files["crl"]; ok {
		g.cfg.Clients.CRL = []string{filepath.Join(g.dir, "crl")}
	}
	g.store = NewStore(loaded(t, g.cfg))
	return g
}

// rewrite puts other files in force.
func (g *gate) rewrite(files map[string]string) {
	g.Helper()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(g.dir, name), []byte(text), 0o600); err != nil {
			g.Fatal(err)
		}
		if name == "crl" {
			g.cfg.Clients.CRL = []string{filepath.Join(g.dir, "crl")}
		}
	}
	g.store.Use(loaded(g.T, g.cfg))
}

// client is a client with a certificate; nil for none.
func (g *gate) client(version uint16, c *testcerts.Cert) *tls.Config {
	made := &tls.Config{ServerName: "a.example.com", RootCAs: g.roots, MaxVersion: version, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	if c != nil {
		cert := c.TLS()
		made.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	}
	return made
}

// enter says how a handshake ends.
func (g *gate) enter(server, client *tls.Config) string {
	g.Helper()
	state, err, serverErr := shake(g.T, server, client)
	switch {
	case err == nil && state.DidResume:
		return "resumed"
	case err == nil:
		return "in"
	}
	return fmt.Sprint(serverErr)
}

var versions = map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}

// A certificate of a client is good if an authority has signed it for clients,
// and has not revoked it.
func TestClientCertificates(t *testing.T) {
	ours, other := testcerts.NewAuthority(t, "ours"), testcerts.NewAuthority(t, "other")
	good, revoked, foreign := ours.Issue(t, nil), ours.Issue(t, nil), other.Issue(t, nil)
	late := ours.Issue(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	ofServer := ours.Issue(t, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	later := time.Now().Add(time.Hour)
	base := map[string]string{"ca": ours.PEM()}
	with := func(crl string) map[string]string {
		return map[string]string{"ca": ours.PEM() + other.PEM(), "crl": crl}
	}
	const unknown, usage, none = "tls: failed to verify certificate: x509: certificate signed by unknown authority", "tls: failed to verify certificate: x509: certificate specifies an incompatible key usage", "tls: client didn't provide a certificate"
	for _, c := range []struct {
		name     string
		files    map[string]string
		optional bool
		strict   bool
		client   *testcerts.Cert
		want     string // a prefix
	}{
		{"good", base, false, false, good, "in"},
		{"none", base, false, false, nil, none},
		{"foreign", base, false, false, foreign, unknown},
		{"expired", base, false, false, late, "tls: failed to verify certificate: x509: certificate has expired"},
		{"of a server", base, false, false, ofServer, usage},
		{"optional", base, true, false, good, "in"},
		{"optional, none", base, true, false, nil, "in"},
		{"optional, foreign", base, true, false, foreign, unknown},
		{"optional, the service needs one", base, true, true, nil, none},
		{"optional, the service needs one, good", base, true, true, good, "in"},
		{"not revoked", with(ours.Revoke(t, later, nil, revoked)), false, false, good, "in"},
		{"revoked", with(ours.Revoke(t, later, nil, revoked)), false, false, revoked, "the client's certificate has been revoked"},
		{"the list has expired", with(ours.Revoke(t, time.Now().Add(-time.Minute), nil)), false, false, good, `the revocation list of "CN=ours" has expired`},
		{"the list of another has expired", with(other.Revoke(t, time.Now().Add(-time.Minute), nil)), false, false, good, "in"},
		{"two lists, the newer one has it", with(ours.Revoke(t, later, nil, revoked) + ours.Revoke(t, later, earlier)), false, false, revoked, "the client's certificate has been revoked"},
		{"two lists, the newer one has expired", with(ours.Revoke(t, later, earlier) + ours.Revoke(t, time.Now().Add(-time.Minute), nil)), false, false, good, `the revocation list of "CN=ours" has expired`},
	} {
		for version, number := range versions {
			t.Run(c.name+"/"+version, func(t *testing.T) {
				g := newGate(t, c.files, c.optional)
				server := g.store.Server(func(name string) bool { return c.strict && name == "a.example.com" })
				if got := g.enter(server, g.client(number, c.client)); !strings.HasPrefix(got, c.want) {
					t.Errorf("%s, not %s", got, c.want)
				}
			})
		}
	}
}

func earlier(l *x509.RevocationList) { l.ThisUpdate = l.ThisUpdate.Add(-time.Hour) }

// The certificate of an intermediate authority can be revoked, and its own list
// applies if it is one of the authorities.
func TestIntermediateAuthority(t *testing.T) {
	root := testcerts.NewAuthority(t, "root")
	between := root.Issue(t, func(c *x509.Certificate) {
		c.Subject = pkix.Name{CommonName: "between"}
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	})
	middle := testcerts.AuthorityOf(between)
	leaf := middle.Issue(t, nil)
	later := time.Now().Add(time.Hour)
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"good":                     {map[string]string{"ca": root.PEM(), "crl": root.Revoke(t, later, nil)}, "in"},
		"the authority is revoked": {map[string]string{"ca": root.PEM(), "crl": root.Revoke(t, later, nil, between)}, "the client's certificate has been revoked"},
		"its list is good":         {map[string]string{"ca": root.PEM() + between.PEM(), "crl": middle.Revoke(t, later, nil)}, "in"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate(t, c.files, false)
			client := g.client(0, nil)
			chain := leaf.TLS()
			chain.Certificate = append(chain.Certificate, between.Leaf.Raw)
			client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &chain, nil }
			if got := g.enter(g.store.Server(never), client); got != c.want {
				t.Errorf("%s, not %s", got, c.want)
			}
		})
	}
}

// Sessions can be resumed under new certificates. Those of clients whose
// certificates are not good any more cannot.
func TestResumption(t *testing.T) {
	ours, other := testcerts.NewAuthority(t, "ours"), testcerts.NewAuthority(t, "other")
	good := ours.Issue(t, nil)
	later := time.Now().Add(time.Hour)
	for version, number := range versions {
		t.Run(version, func(t *testing.T) {
			g := newGate(t, map[string]string{"ca": ours.PEM()}, false)
			server := g.store.Server(never)
			client := g.client(number, good)
			want := func(want string) {
				t.Helper()
				if got := g.enter(server, client); !strings.HasPrefix(got, want) {
					t.Errorf("%s, not %s", got, want)
				}
			}
			want("in")
			want("resumed")
			cas := testcerts.NewAuthority(t, "of servers")
			g.roots.AddCert(cas.Cert)
			for range 3 {
				files := map[string]string{}
				put(t, files, "a", cas.Issue(t, nil, "a.example.com"))
				g.rewrite(files)
				want("resumed")
			}
			g.rewrite(map[string]string{"crl": ours.Revoke(t, later, nil)})
			want("resumed")
			g.rewrite(map[string]string{"crl": ours.Revoke(t, later, nil, good)})
			want("the client's certificate has been revoked")
			g.rewrite(map[string]string{"crl": ours.Revoke(t, later, nil)})
			client = g.client(number, good)
			want("in")
			want("resumed")
			g.rewrite(map[string]string{"crl": ours.Revoke(t, time.Now().Add(-time.Minute), nil)})
			want(`the revocation list of "CN=ours" has expired`)
			g.rewrite(map[string]string{"crl": ours.Revoke(t, later, nil)})
			client = g.client(number, good)
			want("in")
			g.cfg.Clients.CRL = nil
			g.rewrite(map[string]string{"ca": other.PEM()})
			want("tls: failed to verify certificate: x509: certificate signed by unknown authority")
		})
	}
}

// A session of a name whose service needs no certificate does not open one that
// does.
func TestResumptionAcrossNames(t *testing.T) {
	ours := testcerts.NewAuthority(t, "ours")
	for version, number := range versions {
		t.Run(version, func(t *testing.T) {
			g := newGate(t, map[string]string{"ca": ours.PEM()}, true)
			strict := false
			server := g.store.Server(func(string) bool { return strict })
			client := g.client(number, nil)
			for _, want := range []string{"in", "resumed"} {
				if got := g.enter(server, client); got != want {
					t.Errorf("%s, not %s", got, want)
				}
			}
			strict = true
			if got := g.enter(server, client); got != "tls: client didn't provide a certificate" {
				t.Errorf("strict: %s", got)
			}
		})
	}
}

// The lists and authorities of administrators may be anything.
func FuzzClientFiles(f *testing.F) {
	a := testcerts.NewAuthority(f, "a")
	crl := a.Revoke(f, time.Now().Add(time.Hour), nil, a.Issue(f, nil))
	f.Add([]byte(a.PEM()), []byte(crl))        // what they should be
	f.Add([]byte(crl), []byte(a.PEM()))        // the other way round
	f.Add([]byte(a.PEM()+crl), []byte("\x30")) // DER
	f.Add([]byte("-----BEGIN"), []byte("-----BEGIN X509 CRL-----\n-----END X509 CRL-----\n"))
	f.Fuzz(func(t *testing.T, ca, crl []byte) {
		all, err := parseAuthorities(ca)
		if err == nil && len(all) == 0 {
			t.Error("no authority is no fault")
		}
		lists, err := parseLists(crl)
		if err == nil && len(lists) == 0 {
			t.Error("no list is no fault")
		}
		if err != nil {
			return
		}
		c := &clients{lists: map[string]*revocations{}}
		for _, l := range lists {
			_ = c.add(l, append(all, a.Cert), "crl", "file")
		}
		for _, l := range c.lists {
			_ = l.date(time.Now())
		}
	})
}
