package acme

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"

	"github.com/limpetlb/limpet/config"
)

// An authority issues certificates to an account.
type authority struct {
	config.ACME        // without names
	id          string // in the storage
	storage     certmagic.Storage
	http        *http.Client
	challenges  *challenges

	mu      sync.Mutex // of the account
	account *acme.Account
}

// requestTime bounds a request to an authority.
const requestTime = 30 * time.Second

func (i *Issuer) newAuthority(a config.ACME) *authority {
	a.Names = nil
	if a.Storage == "" {
		a.Storage = i.storage
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, DisableKeepAlives: true}
	if a.CA != nil {
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(a.CA)
		transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	}
	return &authority{
		ACME: a, id: directoryID(a.Directory), storage: &certmagic.FileStorage{Path: a.Storage},
		http: &http.Client{Transport: transport, Timeout: requestTime}, challenges: &i.challenges,
	}
}

// directoryID is the name of an authority in the storage, as certmagic makes
// it of the URL of its directory.
func directoryID(directory string) string {
	at, err := url.Parse(directory)
	if err != nil {
		return directory
	}
	if rest := strings.Trim(strings.NewReplacer("/", "-", `\`, "-").Replace(at.Path), "-"); rest != "" {
		return at.Host + "-" + rest
	}
	return at.Host
}

// client returns a client for one transaction.
func (a *authority) client() *acmez.Client {
	solvers := map[string]acmez.Solver{}
	for _, kind := range a.Challenges {
		solvers[kind] = &solver{a}
	}
	return &acmez.Client{
		Client:           &acme.Client{Directory: a.Directory, HTTPClient: a.http, UserAgent: "limpet", PollTimeout: attemptTime},
		ChallengeSolvers: solvers,
	}
}

// A certificate is one that the storage has.
type certificate struct {
	cert    *tls.Certificate
	renewal acme.RenewalInfo // empty if the authority says nothing
	data    acme.Certificate
	ask     time.Time // when the authority is to be asked for renewal
	foreign bool      // of another authority
}

// lifetime is how long the certificate is valid.
func (c *certificate) lifetime() time.Duration {
	return c.cert.Leaf.NotAfter.Sub(c.cert.Leaf.NotBefore)
}

// due is when the certificate is to be renewed: when the authority wants that
// (RFC 9773), but early enough for some failures; or when a third of the
// lifetime is left. Without a certificate, it is due.
func (c *certificate) due() time.Time {
	switch {
	case c == nil, c.foreign:
		return time.Time{}
	case c.renewal.SelectedTime.IsZero():
		return c.cert.Leaf.NotAfter.Add(-c.lifetime() / 3)
	}
	latest := c.cert.Leaf.NotAfter.Add(-c.lifetime() / 6)
	if c.renewal.SelectedTime.Before(latest) {
		return c.renewal.SelectedTime
	}
	return latest
}

// askAgain is how long after an answer an authority is asked for the time of
// the renewal, unless it says that itself.
const askAgain = 6 * time.Hour

// plan sets when the authority is asked for the time of the renewal.
func (c *certificate) plan() {
	if c.ask = time.Now().Add(askAgain); c.renewal.RetryAfter != nil {
		c.ask = *c.renewal.RetryAfter
	}
}

// load returns the certificate of a name that the storage has; nil if it has
// none, with an error if what it has is no good.
func (a *authority) load(ctx context.Context, text string) (*certificate, error) {
	chain, err := a.storage.Load(ctx, certmagic.StorageKeys.SiteCert(a.id, text))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	secret, err := a.storage.Load(ctx, certmagic.StorageKeys.SitePrivateKey(a.id, text))
	if err != nil {
		return nil, err
	}
	var about certmagic.CertificateResource
	c := &certificate{}
	if meta, err := a.storage.Load(ctx, certmagic.StorageKeys.SiteMeta(a.id, text)); err == nil &&
		json.Unmarshal(meta, &about) == nil && json.Unmarshal(about.IssuerData, &c.data) == nil && c.data.RenewalInfo != nil {
		c.renewal = *c.data.RenewalInfo
	} // else it is renewed by its dates
	c.plan()
	if c.cert, err = pair(chain, secret, text); err != nil {
		return nil, err
	}
	return c, nil
}

// pair makes a certificate for a name.
func pair(chain, secret []byte, text string) (*tls.Certificate, error) {
	cert, err := tls.X509KeyPair(chain, secret)
	if err != nil {
		return nil, err
	}
	return &cert, cert.Leaf.VerifyHostname(text)
}

// obtain gets a certificate: a new one, or one that another process has got
// meanwhile. If there is one and an error as well, it could not be stored.
func (a *authority) obtain(ctx context.Context, text string) (c *certificate, ordered bool, err error) {
	lock := "issue_cert_" + text
	if err := a.storage.Lock(ctx, lock); err != nil {
		return nil, false, err
	}
	defer func() { _ = a.storage.Unlock(context.WithoutCancel(ctx), lock) }() // it becomes stale otherwise
	// What is no good in the storage is replaced.
	if c, _ := a.load(ctx, text); c != nil && time.Now().Before(c.due()) {
		return c, false, nil
	}
	c, err = a.order(ctx, text)
	return c, true, err
}

// order orders a certificate, and stores it. If there is one and an error as
// well, it could not be stored. The caller has the lock.
func (a *authority) order(ctx context.Context, text string) (*certificate, error) {
	secret, err := (certmagic.StandardKeyGenerator{KeyType: certmagic.KeyType(a.KeyType)}).GenerateKey()
	if err != nil {
		return nil, err
	}
	signer, ok := secret.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a key of type %s cannot sign", a.KeyType)
	}
	csr, err := acmez.NewCSR(signer, []string{text})
	if err != nil {
		return nil, err
	}
	client := a.client()
	var chains []acme.Certificate
	for again := true; ; again = false {
		account, err := a.open(ctx, client.Client)
		if err != nil {
			return nil, err
		}
		params, err := acmez.OrderParametersFromCSR(account, csr)
		if err != nil {
			return nil, err
		}
		if old, _ := a.load(ctx, text); old != nil && old.renewal.HasWindow() {
			params.Replaces = old.cert.Leaf
		}
		chains, err = client.ObtainCertificate(ctx, params)
		if problem, is := errors.AsType[acme.Problem](err); is && problem.Type == acme.ProblemTypeAccountDoesNotExist && again {
			if err := a.forget(ctx); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		break
	}
	if len(chains) == 0 {
		return nil, errors.New("the authority has sent no certificate")
	}
	c := &certificate{data: chains[0]}
	keyPEM, err := certmagic.PEMEncodePrivateKey(secret)
	if err != nil {
		return nil, err
	}
	if c.cert, err = pair(c.data.ChainPEM, keyPEM, text); err != nil {
		return nil, err
	}
	if c.data.RenewalInfo != nil {
		c.renewal = *c.data.RenewalInfo
	}
	c.plan()
	return c, errors.Join(
		a.storage.Store(ctx, certmagic.StorageKeys.SitePrivateKey(a.id, text), keyPEM),
		a.storage.Store(ctx, certmagic.StorageKeys.SiteCert(a.id, text), c.data.ChainPEM),
		a.describe(ctx, text, c),
	)
}

// describe stores what is known of a certificate.
func (a *authority) describe(ctx context.Context, text string, c *certificate) error {
	data, err := json.Marshal(c.data)
	if err != nil {
		return err
	}
	about, err := json.MarshalIndent(certmagic.CertificateResource{SANs: []string{text}, IssuerData: data}, "", "\t")
	if err != nil {
		return err
	}
	return a.storage.Store(ctx, certmagic.StorageKeys.SiteMeta(a.id, text), about)
}

// refresh asks the authority when the certificate of a name is to be renewed.
// Without an answer, it is asked later.
func (a *authority) refresh(ctx context.Context, n *name) {
	next := *n.cert.Load()
	next.ask = time.Now().Add(askAgain)
	limited, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	if renewal, err := a.client().GetRenewalInfo(limited, next.cert.Leaf); err == nil {
		if renewal.SameWindow(next.renewal) {
			renewal.SelectedTime = next.renewal.SelectedTime
		}
		next.renewal, next.data.RenewalInfo = renewal, &renewal
		next.plan()
		_ = a.describe(ctx, n.text, &next) // it is asked again after a restart
	}
	n.cert.Store(&next)
}

// accountKey is the name of a file of the account in the storage.
func (a *authority) accountKey(file string) string {
	user := a.Email
	if user == "" {
		user = "default"
	}
	if a.EABID != "" {
		user += "+" + a.EABID
	}
	return path.Join("acme", a.id, "users", certmagic.StorageKeys.Safe(user), file)
}

const (
	accountFile    = "account.json"
	accountKeyFile = "account.key"
)

// open returns the account, which it opens if there is none yet.
func (a *authority) open(ctx context.Context, client *acme.Client) (acme.Account, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.account != nil {
		return *a.account, nil
	}
	lock := "register_acme_account_" + a.accountKey("")
	if err := a.storage.Lock(ctx, lock); err != nil {
		return acme.Account{}, err
	}
	defer func() { _ = a.storage.Unlock(context.WithoutCancel(ctx), lock) }() // it becomes stale otherwise
	account, err := a.stored(ctx)
	if err != nil {
		account, err = a.register(ctx, client)
	}
	if err != nil {
		return account, fmt.Errorf("account: %w", err)
	}
	a.account = &account
	return account, nil
}

// stored returns the account that the storage has.
func (a *authority) stored(ctx context.Context) (account acme.Account, err error) {
	about, err := a.storage.Load(ctx, a.accountKey(accountFile))
	if err != nil {
		return account, err
	}
	secret, err := a.storage.Load(ctx, a.accountKey(accountKeyFile))
	if err != nil {
		return account, err
	}
	if err := json.Unmarshal(about, &account); err != nil {
		return account, err
	}
	account.PrivateKey, err = certmagic.PEMDecodePrivateKey(secret)
	return account, err
}

// register opens an account.
func (a *authority) register(ctx context.Context, client *acme.Client) (account acme.Account, err error) {
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return account, err
	}
	account = acme.Account{TermsOfServiceAgreed: true, PrivateKey: secret}
	if a.Email != "" {
		account.Contact = []string{"mailto:" + a.Email}
	}
	if a.EABID != "" {
		eab := acme.EAB{KeyID: a.EABID, MACKey: base64.RawURLEncoding.EncodeToString(a.EABKey)}
		if err := account.SetExternalAccountBinding(ctx, client, eab); err != nil {
			return account, err
		}
	}
	if account, err = client.NewAccount(ctx, account); err != nil {
		return account, err
	}
	about, err := json.MarshalIndent(account, "", "\t")
	if err != nil {
		return account, err
	}
	keyPEM, err := certmagic.PEMEncodePrivateKey(secret)
	if err != nil {
		return account, err
	}
	return account, errors.Join(
		a.storage.Store(ctx, a.accountKey(accountKeyFile), keyPEM),
		a.storage.Store(ctx, a.accountKey(accountFile), about),
	)
}

// forget forgets an account that the authority does not know any more.
func (a *authority) forget(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.account = nil
	return a.storage.Delete(ctx, a.accountKey(accountFile))
}
