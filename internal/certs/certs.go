// Package certs has the certificates of a listener: it reads them from files,
// chooses one for each handshake by the name that the client asks for, verifies
// the certificates of clients, and takes new files while connections come and
// go.
//
// A [Policy] is what a configuration says, with the content of the files that
// it names. It does not change. A [Store] has the policy in force, and one
// [tls.Config] for a listener, which follows. [Store.Look] reads files that
// have changed.
package certs

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/internal/filewatch"
)

// A Config says how a listener speaks TLS. Its paths in faults are those of a
// configuration file, below "tls".
type Config struct {
	// Certificates are those that have files of their own.
	Certificates []Pair
	// Directory has further certificates: each X.pem is one with its key, and
	// so is each X.crt with X.key. Names that begin with a dot are left out.
	// Empty means none.
	Directory string
	// Managed are names whose certificates an Issuer gets.
	Managed []Managed
	// Default is the name whose certificate clients get that ask for no name,
	// or for one that no certificate has. Empty means the name of the first
	// certificate, which is one of Certificates if there are any.
	Default string
	// StrictSNI refuses these clients with the alert unrecognized_name.
	StrictSNI bool

	MinVersion uint16 // 0 means TLS 1.2
	MaxVersion uint16 // 0 means the newest
	// CipherSuites are those of TLS 1.2. Nil means those of package tls.
	CipherSuites []uint16
	// Curves are the key exchanges, as in [tls.Config].CurvePreferences.
	Curves []tls.CurveID
	// Clients says which certificates clients need. Nil means that none are
	// asked for.
	Clients *Clients
	// HTTP1 leaves out HTTP/2.
	HTTP1 bool

	// Watch lets a store read the files again when they change. Their names are
	// those of the operating system then.
	Watch bool
	// NoKeys reads certificates without their keys, for who may not read these:
	// the policy can be looked at, and serves nobody.
	NoKeys bool
}

// A Pair names the files of a certificate, in PEM.
type Pair struct {
	Field       string // the path of its faults
	Certificate string // the certificate, followed by those of its issuers
	Key         string // empty means that the file of the certificate has it
}

// files are the names of the files.
func (p Pair) files() []string {
	if p.Key == "" {
		return []string{p.Certificate}
	}
	return []string{p.Certificate, p.Key}
}

// Managed are names whose certificates come from an authority.
type Managed struct {
	Authority string   // the name of it, for an Issuer
	Names     []string // of hosts in lower case, and IP addresses
}

// An Issuer has the certificates of managed names. Its methods may be called
// concurrently.
type Issuer interface {
	// Certificate returns the certificate of a name from an authority; nil if
	// there is none yet.
	Certificate(authority, name string) *tls.Certificate
	// TLSChallenge returns the certificate that proves to an authority which
	// asks for a name that this is its server; nil if no authority asks.
	TLSChallenge(name string) *tls.Certificate
}

// Files reads what a Config names. field is the path of the field that does so.
type Files interface {
	// Read returns the content of a file of at most max bytes.
	Read(field, name string, max int64) ([]byte, error)
	// List returns the names of the files in a directory, each with the name of
	// the directory.
	List(field, dir string) ([]string, error)
}

// The bounds of what is read.
const (
	MaxCertificates = 10_000  // of a listener
	MaxBytes        = 8 << 20 // of a file of certificates or keys
	maxListBytes    = 64 << 20
)

// A Policy is what a Config says, with the content of its files. It does not
// change.
type Policy struct {
	config  Config
	entries []*entry // those of Certificates, then those of the directory
	clients *clients // nil if no certificates are asked for
	index   *index
	issuer  Issuer // nil without one

	server, strict *tls.Config
}

// With returns the policy with an issuer.
func (p *Policy) With(issuer Issuer) *Policy {
	next := p.clone()
	next.issuer = issuer
	next.build()
	return next
}

// Managed are the names whose certificates an Issuer gets.
func (p *Policy) Managed() []Managed { return p.config.Managed }

// An entry is a certificate that was read.
type entry struct {
	Pair
	cert *tls.Certificate
	sum  [sha256.Size]byte // of what was read
	read time.Time
}

// Load reads the files of a configuration. The error has all faults.
func Load(cfg Config, files Files) (*Policy, error) {
	p := &Policy{config: cfg}
	var faults fielderr.List
	pairs := cfg.Certificates
	switch {
	case len(pairs)+len(cfg.Managed) == 0 && cfg.Directory == "":
		faults.Addf("", nil, "want a certificate, certificates or a directory")
	case cfg.Directory != "":
		listed, err := list(cfg.Directory, files)
		if err == nil && len(listed)+len(pairs)+len(cfg.Managed) == 0 {
			err = fmt.Errorf("no certificate in %s: want files *.pem, or *.crt with *.key", cfg.Directory)
		}
		faults.AddUnder("directory", err)
		pairs = slices.Concat(pairs, listed)
	}
	total := len(pairs)
	for _, m := range cfg.Managed {
		total += len(m.Names)
	}
	if total > MaxCertificates {
		faults.Addf("", nil, "%d certificates, want at most %d", total, MaxCertificates)
		pairs = nil
	}
	for _, pair := range pairs {
		e, err := load(pair, files, cfg.NoKeys)
		faults.AddUnder(pair.Field, err)
		if err == nil {
			p.entries = append(p.entries, e)
		}
	}
	if cfg.Clients != nil {
		var err error
		p.clients, err = loadClients(*cfg.Clients, files)
		faults.AddUnder("clientCertificates", err)
	}
	if faults.Len() == 0 {
		p.build()
		if cfg.Default != "" && !p.index.has(cfg.Default) {
			faults.Addf("default", nil, "no certificate has the name %s%s", fielderr.Quote(cfg.Default), p.index.meant(cfg.Default))
		}
	}
	if faults.Len() > 0 {
		return nil, faults.Err()
	}
	return p, nil
}

// list returns the pairs in a directory, by their names.
func list(dir string, files Files) ([]Pair, error) {
	names, err := files.List("directory", dir)
	if err != nil {
		return nil, err
	}
	there := make(map[string]bool, len(names))
	for _, name := range names {
		there[name] = true
	}
	slices.Sort(names)
	var pairs []Pair
	for _, name := range names {
		if strings.HasPrefix(filepath.Base(name), ".") {
			continue
		}
		if strings.HasSuffix(name, ".pem") {
			pairs = append(pairs, Pair{Field: "directory", Certificate: name})
		} else if stem, ok := strings.CutSuffix(name, ".crt"); ok && there[stem+".key"] {
			pairs = append(pairs, Pair{Field: "directory", Certificate: name, Key: stem + ".key"})
		}
	}
	if len(pairs) > MaxCertificates {
		return nil, fmt.Errorf("%d certificates in %s, want at most %d", len(pairs), dir, MaxCertificates)
	}
	return pairs, nil
}

// load reads a certificate and its key.
func load(pair Pair, files Files, noKey bool) (*entry, error) {
	if noKey {
		pair.Key = ""
	}
	e, certificate, key, err := read(pair, files)
	if err != nil {
		return nil, err
	}
	if noKey {
		cert, err := WithoutKey(pair.Certificate, certificate)
		e.cert = &cert
		return e, err
	}
	return e, e.parse(certificate, key)
}

// WithoutKey makes a certificate of PEM, from a file of a name, without its
// key.
func WithoutKey(name string, text []byte) (cert tls.Certificate, err error) {
	for block, rest := pem.Decode(withoutMark(text)); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			cert.Certificate = append(cert.Certificate, block.Bytes)
		}
	}
	if cert.Certificate == nil {
		return cert, fmt.Errorf("certificate %s: no certificate in PEM", name)
	}
	if cert.Leaf, err = x509.ParseCertificate(cert.Certificate[0]); err != nil {
		err = fmt.Errorf("certificate %s: %w", name, err)
	}
	return cert, err
}

// read reads the files of a pair.
func read(pair Pair, files Files) (e *entry, certificate, key []byte, err error) {
	if pair.Certificate == "" {
		return nil, nil, nil, errors.New("want a certificate")
	}
	e = &entry{Pair: pair, read: time.Now()}
	certificate, err = files.Read(fielderr.Join(pair.Field, "certificate"), pair.Certificate, MaxBytes)
	if key = certificate; err == nil && pair.Key != "" {
		key, err = files.Read(fielderr.Join(pair.Field, "key"), pair.Key, MaxBytes)
	}
	if err != nil {
		return nil, nil, nil, err
	}
	sum := sha256.New()
	fmt.Fprintf(sum, "%d\n%s%s", len(certificate), certificate, key)
	sum.Sum(e.sum[:0])
	return e, certificate, key, nil
}

// parse makes the certificate of what was read.
func (e *entry) parse(certificate, key []byte) error {
	if e.Key == "" && !bytes.Contains(key, []byte(" PRIVATE KEY-----")) {
		return fmt.Errorf("%s: no private key in it, and no key in another file", e.Certificate)
	}
	cert, err := tls.X509KeyPair(withoutMark(certificate), withoutMark(key))
	switch {
	case err != nil && e.Key == "":
		return fmt.Errorf("%s: %w", e.Certificate, err)
	case err != nil:
		return fmt.Errorf("certificate %s and key %s: %w", e.Certificate, e.Key, err)
	}
	e.cert = &cert
	return nil
}

// withoutMark returns a text without the byte order mark that some editors put
// before it.
func withoutMark(text []byte) []byte { return bytes.TrimPrefix(text, []byte("\ufeff")) }

// build makes what handshakes use.
func (p *Policy) build() {
	p.index = newIndex(p.entries, p.config.Default, p.config.StrictSNI)
	p.index.manage(p.config.Managed, p.issuer, p.config)
	p.server, p.strict = p.tls(false), p.tls(true)
}

// tls makes the configuration for a handshake. With strict, clients that are
// asked for a certificate must have one.
func (p *Policy) tls(strict bool) *tls.Config {
	c := &tls.Config{
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return p.index.find(hello), nil // nil makes package tls send unrecognized_name
		},
		MinVersion: max(p.config.MinVersion, tls.VersionTLS12), MaxVersion: p.config.MaxVersion,
		CipherSuites: p.config.CipherSuites, CurvePreferences: p.config.Curves,
		NextProtos: []string{"h2", "http/1.1"},
	}
	if p.config.HTTP1 {
		c.NextProtos = []string{"http/1.1"}
	}
	if p.clients != nil {
		c.ClientCAs, c.VerifyConnection = p.clients.roots, p.clients.verify
		c.ClientAuth = tls.RequireAndVerifyClientCert
		if p.config.Clients.Optional && !strict {
			c.ClientAuth = tls.VerifyClientCertIfGiven
		}
	}
	return c
}

// RequiresClients reports whether every client must have a certificate.
func (p *Policy) RequiresClients() bool { return p.clients != nil && !p.config.Clients.Optional }

// Warnings returns what is no fault, but makes clients refuse certificates: the
// dates, or a demand that is not met.
func (p *Policy) Warnings() (all []*fielderr.Error) {
	now := time.Now()
	add := func(path, file, text string) {
		all = append(all, &fielderr.Error{Path: path, Err: fmt.Errorf("%s: %s", file, text)})
	}
	for _, e := range p.entries {
		if d := e.date(now); d.message != "" && d.message != expiresSoon {
			add(e.Field, e.Certificate, d.message+" ("+d.when.UTC().Format(time.DateTime)+" UTC)")
		}
		if e.mustStaple() {
			add(e.Field, e.Certificate, "the certificate demands OCSP stapling, which limpet does not do")
		}
	}
	if p.clients != nil {
		for _, l := range p.clients.lists {
			if d := l.date(now); d.message == listExpired {
				add(l.field, l.file, d.message+" ("+d.when.UTC().Format(time.DateTime)+" UTC)")
			}
		}
	}
	return all
}

// mustStaple reports whether the certificate has the extension of RFC 7633.
func (e *entry) mustStaple() bool {
	for _, x := range e.cert.Leaf.Extensions {
		if x.Id.String() == "1.3.6.1.5.5.7.1.24" {
			return true
		}
	}
	return false
}

// osFiles are those of the operating system.
type osFiles struct{}

func (osFiles) Read(_, name string, max int64) ([]byte, error) { return filewatch.ReadFile(name, max) }

func (osFiles) List(_, dir string) ([]string, error) { return ListDir(dir) }

// ListDir returns the names of what a directory of the operating system has,
// each with the name of the directory.
func ListDir(dir string) ([]string, error) {
	f, err := filewatch.OpenDir(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	for i, name := range names {
		names[i] = filepath.Join(dir, name)
	}
	return names, err
}
