package certs

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/limpetlb/limpet/internal/fielderr"
)

// Clients says which certificates clients need.
type Clients struct {
	CA  []string // files of the authorities that sign certificates of clients, in PEM
	CRL []string // files of revocation lists, in PEM or DER
	// Optional lets clients without a certificate in. A bad certificate is
	// refused all the same.
	Optional bool
}

// files are the names of all files.
func (c *Clients) files() (names []string) {
	if c != nil {
		names = append(append(names, c.CA...), c.CRL...)
	}
	return names
}

// clients verify the certificates of clients.
type clients struct {
	roots *x509.CertPool
	lists map[string]*revocations // by issuer; see issuerKey
	sum   [sha256.Size]byte       // of what was read
	read  time.Time
}

// revocations are a list of revoked certificates.
type revocations struct {
	field, file string
	issuer      string // for messages
	from, next  time.Time
	serials     map[string]bool
}

// loadClients reads the files of authorities and revocation lists.
func loadClients(c Clients, files Files) (*clients, error) {
	made := &clients{roots: x509.NewCertPool(), lists: map[string]*revocations{}, read: time.Now()}
	sum := sha256.New()
	var faults fielderr.List
	if len(c.CA) == 0 {
		faults.Addf("ca", nil, "want a file")
	}
	var all []*x509.Certificate
	each := func(key string, names []string, max int64, take func(text []byte, field, file string) error) {
		for i, file := range names {
			field := fielderr.Index(key, i)
			text, err := files.Read(fielderr.Join("clientCertificates", field), file, max)
			fmt.Fprintf(sum, "%d\n%s", len(text), text)
			if err == nil {
				err = take(withoutMark(text), field, file)
			}
			faults.AddUnder(field, err)
		}
	}
	each("ca", c.CA, MaxBytes, func(text []byte, _, file string) error {
		authorities, err := parseAuthorities(text)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		for _, a := range authorities {
			made.roots.AddCert(a)
		}
		all = append(all, authorities...)
		return nil
	})
	trusted := faults.Len() == 0
	each("crl", c.CRL, maxListBytes, func(text []byte, field, file string) error {
		lists, err := parseLists(text)
		if err != nil || !trusted { // else every list would have a second fault
			return prefixed(file, err)
		}
		for _, l := range lists {
			if err := made.add(l, all, fielderr.Join("clientCertificates", field), file); err != nil {
				return prefixed(file, err)
			}
		}
		return nil
	})
	sum.Sum(made.sum[:0])
	if faults.Len() > 0 {
		return nil, faults.Err()
	}
	return made, nil
}

func prefixed(file string, err error) error {
	if err != nil {
		err = fmt.Errorf("%s: %w", file, err)
	}
	return err
}

// parseAuthorities returns the certificates of a file in PEM.
func parseAuthorities(text []byte) (all []*x509.Certificate, err error) {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("want certificates in PEM, not %q", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	if all == nil {
		return nil, errors.New("no certificate in PEM")
	}
	return all, nil
}

// parseLists returns the revocation lists of a file in PEM, or the one of a
// file in DER.
func parseLists(text []byte) (all []*x509.RevocationList, err error) {
	add := func(der []byte) error {
		l, err := x509.ParseRevocationList(der)
		if err == nil {
			err = usable(l)
		}
		if err == nil {
			all = append(all, l)
		}
		return err
	}
	if !bytes.Contains(text, []byte("-----BEGIN")) {
		err := add(text)
		return all, err
	}
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "X509 CRL" {
			return nil, fmt.Errorf("want revocation lists in PEM, not %q", block.Type)
		}
		if err := add(block.Bytes); err != nil {
			return nil, err
		}
	}
	if all == nil {
		return nil, errors.New("no revocation list in PEM")
	}
	return all, nil
}

// usable refuses lists that do not say all about the certificates of their
// issuer: RFC 5280, section 5.2, forbids to use a list with a critical
// extension that is not understood. Lists of differences and those of several
// issuers have one.
func usable(l *x509.RevocationList) error {
	for _, x := range l.Extensions {
		if x.Critical {
			return fmt.Errorf("the critical extension %v of a revocation list is not supported", x.Id)
		}
	}
	for _, e := range l.RevokedCertificateEntries {
		for _, x := range e.Extensions {
			if x.Critical {
				return fmt.Errorf("the critical extension %v of a revoked certificate is not supported", x.Id)
			}
		}
	}
	if l.NextUpdate.IsZero() {
		return errors.New("a revocation list without nextUpdate, so nobody knows how long it is good")
	}
	return nil
}

// add takes a list that one of the authorities has signed. Of several lists of
// an authority, the newest is used.
func (c *clients) add(l *x509.RevocationList, authorities []*x509.Certificate, field, file string) error {
	signed := false
	for _, a := range authorities {
		if !bytes.Equal(a.RawSubject, l.RawIssuer) || l.CheckSignatureFrom(a) != nil {
			continue
		}
		signed = true
		key := issuerKey(a)
		if old := c.lists[key]; old != nil && old.from.After(l.ThisUpdate) {
			continue
		}
		made := &revocations{field: field, file: file, issuer: l.Issuer.String(), from: l.ThisUpdate, next: l.NextUpdate, serials: map[string]bool{}}
		for _, e := range l.RevokedCertificateEntries {
			made.serials[string(e.SerialNumber.Bytes())] = true
		}
		c.lists[key] = made
	}
	if !signed {
		return fmt.Errorf("no certificate in ca has signed the revocation list of %s", fielderr.Quote(l.Issuer.String()))
	}
	return nil
}

// issuerKey distinguishes authorities: by name and key, since several
// certificates may have both.
func issuerKey(c *x509.Certificate) string {
	return string(c.RawSubject) + string(c.RawSubjectPublicKeyInfo)
}

// verify implements [tls.Config].VerifyConnection. The handshake has verified a
// certificate that is presented; that of a resumed session was verified by the
// authorities of its time, so here it is verified again. For both, the lists
// may have changed.
func (c *clients) verify(cs tls.ConnectionState) error {
	if len(cs.PeerCertificates) == 0 {
		return nil
	}
	now := time.Now()
	chains := cs.VerifiedChains
	if cs.DidResume {
		o := x509.VerifyOptions{Roots: c.roots, Intermediates: x509.NewCertPool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
		for _, i := range cs.PeerCertificates[1:] {
			o.Intermediates.AddCert(i)
		}
		var err error
		if chains, err = cs.PeerCertificates[0].Verify(o); err != nil {
			return err
		}
	}
	err := errors.New("the client's certificate was not verified")
	for _, chain := range chains {
		if err = c.revoked(chain, now); err == nil {
			return nil
		}
	}
	return err
}

// revoked returns an error if the lists forbid a chain.
func (c *clients) revoked(chain []*x509.Certificate, now time.Time) error {
	for i, issuer := range chain[min(1, len(chain)):] {
		l := c.lists[issuerKey(issuer)]
		switch {
		case l == nil:
		case now.After(l.next):
			return fmt.Errorf("the revocation list of %q has expired", l.issuer)
		case l.serials[string(chain[i].SerialNumber.Bytes())]:
			return errors.New("the client's certificate has been revoked")
		}
	}
	return nil
}
