package limpet

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"strings"

	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/internal/filewatch"
	"github.com/limpetlb/limpet/internal/htpasswd"
)

// BasicConfig describes a [BasicAuthenticator].
type BasicConfig struct {
	// File is the path of an htpasswd file, of at most 16 MiB and 100,000
	// users. The hashes must be bcrypt, with a cost of 4 to 14, as "htpasswd
	// -B" makes them. A file with another hash, a password in plain text or a
	// user that occurs twice is refused.
	File string
	// Realm names what the password is for, in the client's dialog: printable
	// ASCII without quotation marks and backslashes. Empty means "limpet".
	Realm string
	// [BasicAuthenticator.Run] calls OnReload when the file has changed: with
	// nil after loading the new users, or with the fault, once, if it keeps the
	// old ones. Nil is allowed.
	OnReload func(error)
}

// A BasicAuthenticator is an [Authenticator] for HTTP Basic authentication (RFC
// 7617) with the users of an htpasswd file. Use it over TLS only: clients send
// their passwords with every request.
//
// Bcrypt is slow on purpose. So the authenticator remembers up to 4,096 correct
// passwords, as hashes with a secret of the process, until the file has another
// hash for the user. At most half of the processors compute hashes at a time,
// and at most 128 other requests wait for their turn, each for up to 10
// seconds; further ones, and those whose wait ends, get 503 with Retry-After.
// Wrong passwords are not remembered: limit their rate with a policy.RateLimit
// that counts failures. An unknown user takes as much time as a wrong password.
//
// A user name may have 255 bytes, a password 1,024, of which bcrypt uses the
// first 72. The Authorization header goes on to the server.
type BasicAuthenticator struct {
	challenge string
	users     *htpasswd.Checker
	file      *filewatch.Watcher
}

// NewBasicAuthenticator reads the file. The error joins a FieldError for each
// fault. It starts nothing; see [BasicAuthenticator.Run].
func NewBasicAuthenticator(c BasicConfig) (*BasicAuthenticator, error) {
	var faults fielderr.List
	a := &BasicAuthenticator{users: htpasswd.New(), challenge: challenge("Basic", c.Realm, &faults) + `, charset="UTF-8"`}
	var first error
	var err error
	a.file, err = filewatch.New([]filewatch.File{{Path: c.File, Limit: htpasswd.MaxBytes, Load: func(content []byte, err error) error {
		if err == nil {
			err = a.users.Load(content)
		}
		first = err
		return err
	}}}, func(_ int, err error) {
		if c.OnReload != nil {
			c.OnReload(err)
		}
	})
	switch _, isPath := errors.AsType[*fs.PathError](first); {
	case c.File == "":
		faults.Addf("file", nil, "missing")
	case isPath:
		faults.Add("file", nil, first)
	case first != nil:
		faults.Add("file", c.File, first)
	case err != nil:
		faults.Add("file", nil, err)
	}
	if err := faults.ErrIn(c); err != nil {
		return nil, err
	}
	return a, nil
}

// Run reloads the file when its content has changed, until ctx ends, and then
// returns nil. New users can log in within two seconds. To change the file,
// write a new one and rename it over the old one. Run returns an error only if
// another call is running.
func (a *BasicAuthenticator) Run(ctx context.Context) error { return a.file.Run(ctx) }

var (
	errNoCredentials  = errors.New("no credentials of this kind")
	errTwoCredentials = errors.New("two credentials")
	errWrongPassword  = errors.New("wrong user name or password")
)

// Authenticate implements [Authenticator]. The session has the user's name.
func (a *BasicAuthenticator) Authenticate(r *http.Request) (Session, error) {
	if len(r.Header["Authorization"]) > 1 {
		return Session{}, errTwoCredentials // the server could believe the other one
	}
	name, password, ok := r.BasicAuth()
	if !ok {
		return Session{}, errNoCredentials
	}
	switch ok, err := a.users.Check(r.Context(), name, password); {
	case err != nil:
		return Session{}, err
	case !ok:
		return Session{}, errWrongPassword
	}
	return Session{User: name}, nil
}

// Challenge implements [Authenticator].
func (a *BasicAuthenticator) Challenge() string { return a.challenge }

// challenge returns a challenge with a realm, and adds its fault.
func challenge(scheme, realm string, faults *fielderr.List) string {
	if realm == "" {
		realm = "limpet"
	}
	if len(realm) > 256 || strings.ContainsFunc(realm, func(c rune) bool { return c < ' ' || c > '~' || c == '"' || c == '\\' }) {
		faults.Addf("realm", realm, "not printable ASCII without quotation marks and backslashes, of at most 256 bytes")
	}
	return scheme + ` realm="` + realm + `"`
}
