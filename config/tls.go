package config

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/certs"
	"github.com/limpetlb/limpet/internal/enumtext"
	"github.com/limpetlb/limpet/internal/fielderr"
)

// tlsConfig says how a listener speaks TLS. Certificate and Key are one of its
// Certificates, the first.
type tlsConfig struct {
	listenerCertificate
	// Certificates are chosen by the names that clients ask for.
	Certificates []listenerCertificate
	// Directory has more certificates: each X.pem with its key in the same
	// file, each X.crt with X.key.
	Directory string
	// Default is the name whose certificate other clients get. Empty means that
	// of the first certificate.
	Default string
	// StrictSNI refuses clients that ask for no name, or for one that no
	// certificate has.
	StrictSNI bool
	// MinVersion is the oldest version. 1.2 unless given.
	MinVersion tlsVersion
	// MaxVersion is the newest version. The newest there is unless given.
	MaxVersion tlsVersion
	// CipherSuites are those of TLS 1.2. Unless given, Go chooses them.
	CipherSuites []cipherSuite
	// Curves are the key exchanges. Unless given, Go chooses them.
	Curves []curve
	// ClientCertificates asks clients for certificates.
	ClientCertificates *clientCertificates
	// HTTP2 offers HTTP/2 to clients, which is so unless it is false.
	HTTP2 *bool
}

// A listenerCertificate has files, or comes from an authority.
type listenerCertificate struct {
	tlsFiles
	// ACME is the name of the entry of acme that gets the certificates of
	// Names.
	ACME string
	// Names are hosts and IP addresses, each with a certificate of its own.
	// They are the hosts of the services at the listener unless given.
	Names []string
}

// tlsFiles are the files of a certificate.
type tlsFiles struct {
	// Certificate is a file in PEM: a certificate, and those of its issuers.
	Certificate string
	// Key is a file in PEM. A listener also takes the key from the file of the
	// certificate.
	Key string
}

// clientCertificates says which certificates clients need.
type clientCertificates struct {
	// CA are files in PEM, with the certificates of authorities.
	CA []string
	// Mode says whether clients must have a certificate: they must unless it is
	// optional. A bad one is refused in any case.
	Mode clientMode
	// CRL are files with revocation lists of these authorities, in PEM or DER.
	CRL []string
}

// clientMode says whether clients must have a certificate.
type clientMode uint8

const (
	clientRequire clientMode = iota
	clientOptional
)

var clientModes = []string{clientRequire: "require", clientOptional: "optional"}

// MarshalText implements [encoding.TextMarshaler].
func (m clientMode) MarshalText() ([]byte, error) { return enumtext.Marshal(m, clientModes) }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (m *clientMode) UnmarshalText(text []byte) error {
	return enumtext.Unmarshal(m, text, clientModes)
}

// certificateNeed says whether the clients of a service must have a
// certificate.
type certificateNeed uint8

const (
	needOfListener certificateNeed = iota
	needRequired
)

var certificateNeeds = []string{needOfListener: "as listener", needRequired: "required"}

// MarshalText implements [encoding.TextMarshaler].
func (n certificateNeed) MarshalText() ([]byte, error) { return enumtext.Marshal(n, certificateNeeds) }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (n *certificateNeed) UnmarshalText(text []byte) error {
	return enumtext.Unmarshal(n, text, certificateNeeds)
}

// tlsVersion is a version of TLS; 0 if none is given.
type tlsVersion uint8

var (
	tlsVersions       = []string{1: "1.2", 2: "1.3"}
	tlsVersionNumbers = []uint16{1: tls.VersionTLS12, 2: tls.VersionTLS13}
)

// MarshalText implements [encoding.TextMarshaler].
func (v tlsVersion) MarshalText() ([]byte, error) { return enumtext.Marshal(v, tlsVersions) }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (v *tlsVersion) UnmarshalText(text []byte) error {
	return enumtext.Unmarshal(v, text, tlsVersions)
}

// cipherSuite is a suite of TLS 1.2 that package tls says is secure, by its
// position among them.
type cipherSuite uint8

var tls12Suites = slices.DeleteFunc(tls.CipherSuites(), func(s *tls.CipherSuite) bool { return !slices.Contains(s.SupportedVersions, tls.VersionTLS12) })

var suiteWords = namesOf(tls12Suites, func(s *tls.CipherSuite) string { return s.Name })

// MarshalText implements [encoding.TextMarshaler].
func (s cipherSuite) MarshalText() ([]byte, error) { return enumtext.Marshal(s, suiteWords) }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (s *cipherSuite) UnmarshalText(text []byte) error {
	named := func(other *tls.CipherSuite) bool { return enumtext.Equal(other.Name, string(text)) }
	switch {
	case slices.ContainsFunc(tls.InsecureCipherSuites(), named):
		return fmt.Errorf("%q is not secure", text)
	case !slices.ContainsFunc(tls12Suites, named) && slices.ContainsFunc(tls.CipherSuites(), named):
		return fmt.Errorf("%q is one of TLS 1.3, whose suites cannot be chosen", text)
	}
	return enumtext.Unmarshal(s, text, suiteWords)
}

// curve is a key exchange, by its position in curves.
type curve uint8

var (
	curves     = []tls.CurveID{tls.X25519MLKEM768, tls.SecP256r1MLKEM768, tls.SecP384r1MLKEM1024, tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521}
	curveWords = []string{"X25519MLKEM768", "SecP256r1MLKEM768", "SecP384r1MLKEM1024", "X25519", "P-256", "P-384", "P-521"}
)

// MarshalText implements [encoding.TextMarshaler].
func (c curve) MarshalText() ([]byte, error) { return enumtext.Marshal(c, curveWords) }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (c *curve) UnmarshalText(text []byte) error { return enumtext.Unmarshal(c, text, curveWords) }

// listenerTLS makes the policy of a listener, at a path; nil for plain HTTP.
func (b *builder) listenerTLS(a *assembly, listener string, c *tlsConfig, path string) *certs.Policy {
	if c == nil {
		return nil
	}
	policy, err := fromFile(b, path, func() (*certs.Policy, error) {
		var faults fielderr.List
		c.check(&faults)
		made := b.certsConfig(c, path)
		before := faults.Len()
		b.manage(a, listener, c, &made, &faults)
		if faults.Len() > before {
			return nil, faults.Err() // there may be too few certificates for that
		}
		policy, err := certs.Load(made, &tlsReader{b, path})
		faults.AddUnder("", err)
		return policy, faults.Err()
	})
	b.fault(err, "%s", path)
	if policy != nil && b.options.Issuer != nil {
		policy = policy.With(b.options.Issuer)
	}
	return policy
}

// check notes settings that contradict each other.
func (c *tlsConfig) check(faults *fielderr.List) {
	if c.MaxVersion != 0 && c.MaxVersion < c.MinVersion {
		faults.Addf("maxVersion", inFile{}, "older than minVersion")
	}
	if c.StrictSNI && c.Default != "" {
		faults.Addf("default", inFile{}, "without effect beside strictSNI")
	}
	if len(c.CipherSuites) == 0 {
		return
	}
	if tlsVersionNumbers[c.MinVersion] == tls.VersionTLS13 {
		faults.Addf("cipherSuites", nil, "without effect: they are those of TLS 1.2, which minVersion excludes")
	}
	if c.http2() && !slices.ContainsFunc(c.CipherSuites, cipherSuite.fitsHTTP2) {
		faults.Addf("cipherSuites", nil, "HTTP/2 needs one with GCM or CHACHA20; or set http2 to false")
	}
}

func (c *tlsConfig) http2() bool { return c.HTTP2 == nil || *c.HTTP2 }

// fitsHTTP2 reports whether RFC 9113, appendix A, allows the suite: those with
// CBC, which older versions have as well, are not.
func (s cipherSuite) fitsHTTP2() bool { return len(tls12Suites[s].SupportedVersions) == 1 }

// certsConfig is what c says, with the names by which the files are known
// everywhere.
func (b *builder) certsConfig(c *tlsConfig, path string) certs.Config {
	dir := b.file.dir(path)
	where := func(name string) string {
		if name == "" || !isName(name) {
			return name
		}
		return b.file.files.where(dir, name)
	}
	all := func(names []string) (named []string) {
		for _, name := range names {
			named = append(named, where(name))
		}
		return named
	}
	_, watch := b.file.files.(*osFiles)
	made := certs.Config{
		Directory: where(c.Directory), Default: c.Default, StrictSNI: c.StrictSNI, HTTP1: !c.http2(), Watch: watch, NoKeys: b.file.noKeys,
		MinVersion: tlsVersionNumbers[c.MinVersion], MaxVersion: tlsVersionNumbers[c.MaxVersion],
	}
	listed, paths := c.all()
	for i, f := range listed {
		if b.file.noKeys && f.Key != "" {
			b.file.files.touch(where(f.Key))
		}
		if f.ACME == "" {
			made.Certificates = append(made.Certificates, certs.Pair{Field: paths[i], Certificate: where(f.Certificate), Key: where(f.Key)})
		}
	}
	for _, s := range c.CipherSuites {
		made.CipherSuites = append(made.CipherSuites, tls12Suites[s].ID)
	}
	for _, id := range c.Curves {
		made.Curves = append(made.Curves, curves[id])
	}
	if cc := c.ClientCertificates; cc != nil {
		made.Clients = &certs.Clients{CA: all(cc.CA), CRL: all(cc.CRL), Optional: cc.Mode == clientOptional}
	}
	return made
}

// all returns the certificates that have fields of their own, and the paths of
// these below that of c.
func (c *tlsConfig) all() (all []listenerCertificate, paths []string) {
	if own := c.listenerCertificate; own.tlsFiles != (tlsFiles{}) || own.ACME != "" || own.Names != nil {
		all, paths = append(all, own), append(paths, "")
	}
	for i, f := range c.Certificates {
		all, paths = append(all, f), append(paths, fielderr.Index("certificates", i))
	}
	return all, paths
}

// A tlsReader reads the files of a listener, and notes their content.
type tlsReader struct {
	b    *builder
	path string
}

// Read implements [certs.Files]. Those who watch the files of a configuration
// need not watch these: the runtime does.
func (r *tlsReader) Read(field, name string, max int64) ([]byte, error) {
	text, err := r.b.file.files.content(name, max)
	if strings.HasPrefix(field, "directory.") {
		field = "directory"
	}
	if err == nil {
		r.b.noteContent(fielderr.Join(r.path, field), text)
	}
	return text, err
}

// List implements [certs.Files].
func (r *tlsReader) List(_, dir string) ([]string, error) { return r.b.file.files.list(dir) }

// needsCertificates checks that the listeners of the services whose clients
// must have certificates ask for them.
func (b *builder) needsCertificates(a *assembly) {
	if len(b.file.doc.Listeners) == 0 {
		for _, m := range a.services {
			m.needs("listen", nil)
		}
		return
	}
	for _, c := range b.file.doc.Listeners {
		for _, m := range a.services {
			m.needs(c.Name, c.TLS)
		}
	}
}

func (m *member) needs(listener string, c *tlsConfig) {
	if m.strict() && m.servedAt(listener) && (c == nil || c.ClientCertificates == nil) {
		m.fault(fmt.Errorf("listener %q asks for none: it needs tls with clientCertificates", listener), "clientCertificates")
	}
}

// strict reports whether the clients of a service must have a certificate.
func (m *member) strict() bool {
	return m.config != nil && m.config.ClientCertificates == needRequired
}

// needsCertificate reports whether clients that ask for a name at the listener
// reach a service whose clients must have a certificate.
func (l *listening) needsCertificate(name string) bool {
	r := l.routes.Load()
	return len(r.strict) > 0 && r.strict[r.find(name)]
}

// admits reports whether a service may answer a request from this connection,
// by what the listener and the service demand now: the handshake may have been
// under another demand. If clients of the service must have a certificate, the
// name that the client asked for in the handshake must be one for which that is
// so. last reports that the connection can have no other answer.
func (l *listening) admits(r *routes, vs *limpet.VirtualService, about *tls.ConnectionState) (ok, last bool) {
	store := l.certs.Load() // nil without TLS, which this connection may have had before
	all := store != nil && store.Policy().RequiresClients()
	switch {
	case !all && !r.strict[vs]:
		return true, false
	case about == nil || len(about.VerifiedChains) == 0:
		return false, all
	}
	return all || r.strict[r.find(about.ServerName)], false
}

// A lone service is the only one of a listener, which has no routes.
type lone struct{ at *listening }

// VirtualService returns the service, for [limpet.NewServer].
func (l lone) VirtualService() *limpet.VirtualService { return l.at.gate }

// ServeHTTP lets the service answer if the connection has the certificate that
// the listener demands.
func (l lone) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if ok, _ := l.at.admits(l.at.routes.Load(), nil, r.TLS); !ok {
		w.Header().Set("Connection", "close")
		http.Error(w, "the listener demands a client certificate", http.StatusMisdirectedRequest)
		return
	}
	l.at.gate.ServeHTTP(w, r)
}

// warnOfCertificates adds what is no fault about the certificates of listeners.
func (f *File) warnOfCertificates(a *assembly, d *decoder) {
	for i, l := range a.listeners {
		if l.tls == nil {
			continue
		}
		path := "tls"
		if len(f.doc.Listeners) > 0 {
			path = fielderr.Index("listeners", i) + ".tls"
		}
		for _, w := range l.tls.Warnings() {
			path := fielderr.Join(path, w.Path)
			at, _ := f.nearest(path)
			warning := &fault{place: at.place, path: path, err: w.Err}
			f.warnings = append(f.warnings, warning.error(d.hidden))
		}
	}
}

// watchCertificates takes new certificates from their files until ctx ends.
func (rt *Runtime) watchCertificates(ctx context.Context) {
	certs.Watch(ctx, rt.Logger(), func() map[string]*certs.Store {
		stores := map[string]*certs.Store{}
		rt.mu.Lock()
		defer rt.mu.Unlock()
		for _, l := range rt.listeners {
			if store := l.certs.Load(); store != nil {
				stores[l.name] = store
			}
		}
		return stores
	})
}

// errNoPair is the fault of a certificate of a client, or the key of one,
// alone.
var errNoPair = errors.New("want both certificate and key")
