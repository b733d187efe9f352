package config

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/certs"
	"github.com/limpetlb/limpet/internal/enumtext"
	"github.com/limpetlb/limpet/internal/fielderr"
)

// An Issuer gets the certificates that authorities issue by ACME (RFC 8555),
// and renews them. Its methods may be called concurrently. The command has one;
// a program that needs none leaves Options.Issuer nil.
type Issuer interface {
	// Manage takes the place of what there was to manage before. It connects to
	// nobody. Names whose certificates are in the storage have these in force
	// when it returns. A name that goes to another authority keeps its
	// certificate until it has one from there. The issuer logs to log.
	Manage(authorities []ACME, log *slog.Logger)
	// Run gets and renews certificates until ctx ends, and then returns nil.
	// The Runtime calls it once. A failure is not an error: Run logs it, and
	// tries again later.
	Run(ctx context.Context) error
	// Certificate returns the certificate of a name from the authority of a
	// name; nil if there is none yet. It is called for each handshake.
	Certificate(authority, name string) *tls.Certificate
	// TLSChallenge returns the certificate that answers the challenge
	// TLS-ALPN-01 (RFC 8737) for the name that an authority has sent; nil if
	// there is no such challenge.
	TLSChallenge(name string) *tls.Certificate
	// HTTPChallenge answers a request of the challenge HTTP-01. It returns
	// false, and has written nothing, if the request is none. It is called for
	// each request at a listener without TLS.
	HTTPChallenge(w http.ResponseWriter, r *http.Request) bool
}

// An ACME is an authority, and the names that need certificates from there.
// Names are not empty.
type ACME struct {
	// Name is that of the entry of `acme` in the file.
	Name string
	// Directory is the URL of the directory of the authority (RFC 8555, 7.1.1).
	Directory string
	// CA has the certificates, in PEM, of authorities that vouch for the server
	// of Directory. Nil means those of the system.
	CA []byte
	// Email is the address of the account; empty for none.
	Email string
	// EABID is the identifier of the external account binding (RFC 8555,
	// 7.3.4); empty for none.
	EABID string
	// EABKey is the secret of that.
	EABKey []byte
	// Storage is a directory for accounts, keys and certificates. Empty means
	// one that the Issuer chooses.
	Storage string
	// KeyType is the type of the keys of certificates: p256, p384, rsa2048 or
	// rsa4096.
	KeyType string
	// Challenges are those that the listeners can answer: tls-alpn-01, http-01
	// or both.
	Challenges []string
	// Names are hosts in lower case, and IP addresses, sorted. Each has a
	// certificate of its own.
	Names []string
}

// An acmeConfig is an authority, and an account there.
type acmeConfig struct {
	// Name is the entry's, for the certificates of listeners.
	Name string
	// Directory is the URL of the directory of the authority. That of Let's
	// Encrypt unless given.
	Directory string
	// CA is a file in PEM with the certificates of authorities that vouch for
	// the server of the directory; those of the system unless given.
	CA string
	// Email is the address to which the authority may write.
	Email string
	// Agree says that you agree to the terms of service of the authority. It
	// must be true.
	Agree bool
	// EAB binds the account to one that you have with the authority by other
	// means. Some authorities demand it.
	EAB *externalAccount
	// Storage is a directory for accounts, keys and certificates, which several
	// processes may share. For the command it is acme in $STATE_DIRECTORY, or
	// /var/lib/limpet/acme, unless given.
	Storage string
	// KeyType is the type of the keys of certificates. p256 unless given.
	KeyType keyType
	// Challenges are those by which the authority may check names. Unless
	// given, tls-alpn-01, and http-01 if there is a listener without tls.
	Challenges []challenge
}

// An externalAccount is an account that an authority knows by other means than
// ACME.
type externalAccount struct {
	// ID is the identifier of the key, from the authority.
	ID string
	// Key is the secret, in base64, from the authority.
	Key keySecret
}

// keyType is the type of the keys of certificates.
type keyType uint8

var keyTypes = []string{"p256", "p384", "rsa2048", "rsa4096"}

// MarshalText implements [encoding.TextMarshaler].
func (k keyType) MarshalText() ([]byte, error) { return enumtext.Marshal(k, keyTypes) }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (k *keyType) UnmarshalText(text []byte) error { return enumtext.Unmarshal(k, text, keyTypes) }

// challenge is how an authority checks a name.
type challenge uint8

const (
	tlsALPN01 challenge = iota
	http01
)

var challenges = []string{tlsALPN01: "tls-alpn-01", http01: "http-01"}

// MarshalText implements [encoding.TextMarshaler].
func (c challenge) MarshalText() ([]byte, error) { return enumtext.Marshal(c, challenges) }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (c *challenge) UnmarshalText(text []byte) error { return enumtext.Unmarshal(c, text, challenges) }

const letsEncrypt = "https://acme-v02.api.letsencrypt.org/directory"

// acme makes the authorities, without names.
func (b *builder) acme(a *assembly) {
	doc := b.file.doc
	if len(doc.ACME) > 0 && b.options.Issuer == nil && !b.checking && !b.options.Offline {
		b.fault(errors.New("this program gets no certificates by ACME: it has no Issuer in its Options"), "acme")
	}
	names := map[string]bool{}
	for i, c := range doc.ACME {
		path := fielderr.Index("acme", i)
		if err := badName(c.Name, names[c.Name]); err != nil {
			b.fault(err, "%s.name", path)
			continue
		}
		names[c.Name] = true
		made, err := fromFile(b, path, func() (*ACME, error) { return b.authority(c, path) })
		b.fault(err, "%s", path)
		if err != nil {
			made = &ACME{Name: c.Name}
		}
		a.acme = append(a.acme, *made)
	}
}

// authority is what c says, which stands at a path.
func (b *builder) authority(c acmeConfig, path string) (*ACME, error) {
	var faults fielderr.List
	made := &ACME{Name: c.Name, Directory: letsEncrypt, Email: c.Email, KeyType: keyTypes[c.KeyType]}
	if c.Directory != "" {
		made.Directory = c.Directory
		if at, err := url.Parse(c.Directory); err != nil || at.Scheme != "https" || at.Host == "" || at.User != nil {
			faults.Addf("directory", c.Directory, "not a URL that begins with https://")
		}
	}
	if c.CA != "" {
		text, err := b.read(path+".ca", c.CA, maxCertificates)
		if err == nil && !x509.NewCertPool().AppendCertsFromPEM(text) {
			err = fmt.Errorf("%s: no certificate in PEM", c.CA)
		}
		if made.CA = text; err != nil {
			faults.Add("ca", inFile{}, err)
		}
	}
	if at := strings.IndexByte(c.Email, '@'); c.Email != "" && (at <= 0 || at == len(c.Email)-1 || strings.ContainsAny(c.Email, " \t\r\n,;:<>?")) {
		faults.Addf("email", c.Email, "not the address of a mailbox, such as admin@example.com")
	}
	if !c.Agree {
		faults.Addf("agree", nil, "must be true, which says that you agree to the terms of service of the authority")
	}
	if c.EAB != nil {
		made.EABID = c.EAB.ID
		if made.EABID == "" {
			faults.Addf("eab.id", nil, "want the identifier of the key")
		}
		// Authorities write it in either alphabet, with or without padding.
		plain := strings.NewReplacer("+", "-", "/", "_").Replace(strings.TrimRight(string(c.EAB.Key), "="))
		key, err := base64.RawURLEncoding.DecodeString(plain)
		if err != nil || len(key) == 0 {
			faults.Addf("eab.key", nil, "want a key in base64")
		}
		made.EABKey = key
	}
	if c.Storage != "" {
		if !isName(c.Storage) {
			faults.Add("storage", inFile{}, errNotAName)
		}
		made.Storage = b.file.files.where(b.file.dir(path), c.Storage)
	}
	plain := b.file.doc.plain()
	for i, way := range c.Challenges {
		if way == http01 && !plain {
			faults.Addf(fielderr.Index("challenges", i), inFile{}, "needs a listener without tls, which the authority reaches at port 80")
		}
		if slices.Contains(c.Challenges[:i], way) {
			faults.Addf(fielderr.Index("challenges", i), inFile{}, "given twice")
		}
		made.Challenges = append(made.Challenges, challenges[way])
	}
	if len(c.Challenges) == 0 {
		if made.Challenges = []string{challenges[tlsALPN01]}; plain {
			made.Challenges = append(made.Challenges, challenges[http01])
		}
	}
	return made, faults.Err()
}

// plain reports whether there is a listener without TLS.
func (doc *document) plain() bool {
	if len(doc.Listeners) == 0 {
		return doc.TLS == nil
	}
	return slices.ContainsFunc(doc.Listeners, func(l listenerConfig) bool { return l.TLS == nil })
}

// manage adds to made the names of c, the tls of a listener, whose certificates
// come from authorities.
func (b *builder) manage(a *assembly, listener string, c *tlsConfig, made *certs.Config, faults *fielderr.List) {
	taken := map[string]string{} // the path that has a name
	all, paths := c.all()
	for i, entry := range all {
		at := paths[i]
		switch {
		case entry.ACME == "" && entry.Names != nil:
			faults.Addf(fielderr.Join(at, "names"), nil, "without effect: they are for acme")
			continue
		case entry.ACME == "":
			continue
		case entry.tlsFiles != (tlsFiles{}):
			faults.Addf(fielderr.Join(at, "acme"), inFile{}, "beside files: write these as another one of certificates")
			continue
		case !slices.ContainsFunc(b.file.doc.ACME, func(known acmeConfig) bool { return known.Name == entry.ACME }):
			faults.Addf(fielderr.Join(at, "acme"), inFile{}, "acme %q not found", entry.ACME)
			continue
		}
		names, of := entry.Names, func(i int) string { return fielderr.Index(fielderr.Join(at, "names"), i) }
		if names == nil {
			of = func(int) string { return fielderr.Join(at, "acme") }
			if names = a.hostsAt(listener); len(names) == 0 {
				faults.Addf(of(0), inFile{}, "want names, since no service at the listener has hosts")
				continue
			}
		} else if len(names) == 0 {
			faults.Addf(fielderr.Join(at, "names"), nil, "an empty list")
			continue
		}
		m := certs.Managed{Authority: entry.ACME}
		for i, name := range names {
			name, err := issuable(name)
			if other, ok := taken[name]; ok && err == nil {
				err = fmt.Errorf("%q has a certificate from %s already", name, other)
			}
			if err != nil {
				faults.Add(of(i), inFile{}, err)
				continue
			}
			taken[name] = fmt.Sprintf("acme %q", entry.ACME)
			m.Names = append(m.Names, name)
		}
		if len(m.Names) == 0 {
			continue
		}
		if made.Managed = append(made.Managed, m); i == 0 && made.Default == "" && !made.StrictSNI {
			made.Default = m.Names[0] // it is the first certificate
		}
	}
}

// hostsAt are the hosts of the services at a listener.
func (a *assembly) hostsAt(listener string) (all []string) {
	for _, m := range a.services {
		if m.config != nil && m.servedAt(listener) {
			all = append(all, m.config.Hosts...)
		}
	}
	return all
}

// issuable returns a name as certificates have it, or why an authority cannot
// issue one.
func issuable(name string) (string, error) {
	name = strings.ToLower(name)
	if ip, err := netip.ParseAddr(name); err == nil {
		if ip.Zone() != "" {
			return "", fmt.Errorf("%q: certificates are for addresses without a zone", name)
		}
		return ip.Unmap().String(), nil
	}
	if strings.HasPrefix(name, "*.") {
		return "", fmt.Errorf("%q: authorities check names with * by the challenge DNS-01 only, which limpet does not answer. List the hosts in names, or get this certificate with certbot or lego", name)
	}
	if err := checkHost(name); err != nil {
		return "", err
	}
	if _, _, ok := hostName(name); !ok || strings.ContainsRune(name, '_') {
		return "", fmt.Errorf("%q: no authority issues a certificate for such a name", name)
	}
	return name, nil
}

// ask gives the authorities the names of all listeners.
func (b *builder) ask(a *assembly) {
	for i := range a.acme {
		for _, l := range a.listeners {
			if l.tls == nil {
				continue
			}
			for _, m := range l.tls.Managed() {
				if m.Authority == a.acme[i].Name {
					a.acme[i].Names = append(a.acme[i].Names, m.Names...)
				}
			}
		}
		slices.Sort(a.acme[i].Names)
		a.acme[i].Names = slices.Compact(a.acme[i].Names)
		if len(a.acme[i].Names) == 0 && b.checking {
			b.warn(fielderr.Index("acme", i), errors.New("no certificate of a listener names this"))
		}
	}
	a.acme = slices.DeleteFunc(a.acme, func(c ACME) bool { return len(c.Names) == 0 })
}

// manage tells the issuer what there is to manage.
func (rt *Runtime) manage(a *assembly) {
	if issuer := rt.options.Issuer; issuer != nil {
		issuer.Manage(a.acme, rt.Logger())
	}
}

// issue runs the issuer until ctx ends. Authorities ask the listeners, so it
// waits until these accept, if the runtime serves by itself.
func (rt *Runtime) issue(ctx context.Context, wait bool) {
	if wait {
		select {
		case <-rt.accepted:
		case <-ctx.Done():
			return
		}
	}
	_ = rt.options.Issuer.Run(ctx) // nobody else runs it
}

// A challengeDoor answers the challenges of authorities before everything else.
type challengeDoor struct {
	issuer Issuer
	gate   *limpet.VirtualService // of the listener
	next   http.Handler
}

// ServeHTTP implements [http.Handler].
func (d *challengeDoor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if certs.IsChallenge(r.TLS) {
		panic(http.ErrAbortHandler) // nothing has asked this client for a certificate
	}
	if r.TLS == nil && d.issuer.HTTPChallenge(w, r) {
		return
	}
	d.next.ServeHTTP(w, r)
}

// Handler says what is behind the door, as [http.ServeMux.Handler] does.
func (d *challengeDoor) Handler(*http.Request) (h http.Handler, pattern string) { return d.next, "" }

// VirtualService is the one that counts; see [limpet.NewServer].
func (d *challengeDoor) VirtualService() *limpet.VirtualService { return d.gate }
