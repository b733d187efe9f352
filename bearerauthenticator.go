package limpet

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/bounds"
	"github.com/limpetlb/limpet/internal/fielderr"
)

// BearerConfig describes a [BearerAuthenticator].
type BearerConfig struct {
	// Tokens verifies tokens, such as a jwtkeys.Verifier. It must be set.
	Tokens datascript.TokenVerifier
	// KeySet is the name of the key set of Tokens. It must be set.
	KeySet string
	// Issuer, if it is not empty, must be the token's claim iss; Audience must
	// be its claim aud or one of the items of that. Without an Audience, tokens
	// that the issuer has made for other services are accepted, too.
	Issuer, Audience string
	// Algorithms are the only accepted ones. Empty means all that the keys
	// allow.
	Algorithms []string
	// Leeway is how far this clock and the issuer's may differ, at most a
	// minute. Zero means not at all.
	Leeway time.Duration `min:"0s" max:"1m"`
	// UserClaim is the claim with the user's name: a string that is not empty
	// and has no control characters. A token without it, or with a number, is
	// refused. Empty means "sub".
	UserClaim string
	// Realm is the realm of the challenge: printable ASCII without quotation
	// marks and backslashes. Empty means "limpet".
	Realm string
}

// A BearerAuthenticator is an [Authenticator] for bearer tokens (RFC 6750) in
// the header Authorization: JSON Web Tokens that a key set verifies. A token
// must have the claims exp and UserClaim.
//
// The session has the user's name, and the claims as those of provider 0:
// strings, numbers and booleans as text, and arrays of them. The header goes on
// to the server.
type BearerAuthenticator struct {
	config    BearerConfig
	challenge string
}

// NewBearerAuthenticator returns an authenticator with nothing to run: the keys
// change as those of Tokens do. The error joins a FieldError for each fault,
// such as an unknown key set.
func NewBearerAuthenticator(c BearerConfig) (*BearerAuthenticator, error) {
	var faults fielderr.List
	a := &BearerAuthenticator{c, challenge("Bearer", c.Realm, &faults)}
	a.config.Algorithms = slices.Clone(c.Algorithms)
	if c.UserClaim == "" {
		a.config.UserClaim = "sub"
	}
	bounds.Check("", c, &faults)
	switch {
	case c.Tokens == nil:
		faults.Addf("tokens", nil, "missing")
	case c.KeySet == "":
		faults.Addf("keySet", nil, "missing")
	default:
		if _, _, _, err := c.Tokens.VerifyToken(datascript.TokenCheck{KeySet: c.KeySet}); err != nil {
			faults.Add("keySet", nil, err)
			break
		}
		_, _, _, err := c.Tokens.VerifyToken(datascript.TokenCheck{KeySet: c.KeySet, Algorithms: c.Algorithms})
		if _, ok := err.(*fielderr.Error); err != nil && !ok { //nolint:errorlint // a fault of a field has a path of its own
			err = fielderr.Under("algorithms", err)
		}
		faults.AddUnder("", err)
	}
	if err := faults.ErrIn(c); err != nil {
		return nil, err
	}
	return a, nil
}

var errNoExpiry = errors.New("token without the claim exp")

// Authenticate implements [Authenticator].
func (a *BearerAuthenticator) Authenticate(r *http.Request) (Session, error) {
	lines := r.Header["Authorization"]
	if len(lines) > 1 {
		return Session{}, errTwoCredentials
	}
	if len(lines) == 0 {
		return Session{}, errNoCredentials
	}
	scheme, token, _ := strings.Cut(lines[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return Session{}, errNoCredentials
	}
	c := &a.config
	claims, reason, _, err := c.Tokens.VerifyToken(datascript.TokenCheck{
		Token: strings.Trim(token, " "), KeySet: c.KeySet, Algorithms: c.Algorithms, Issuer: c.Issuer, Audience: c.Audience, Leeway: c.Leeway,
	})
	if err != nil {
		return Session{}, err
	}
	if reason != "" {
		return Session{}, tokenError(reason)
	}
	return a.session(claims)
}

// A tokenError says why a token was refused, in a word or two.
type tokenError string

func (e tokenError) Error() string { return "token refused: " + string(e) }

// Challenge implements [Authenticator].
func (a *BearerAuthenticator) Challenge() string { return a.challenge }

func (a *BearerAuthenticator) session(text string) (Session, error) {
	var claims map[string]any
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	d.UseNumber()
	if err := d.Decode(&claims); err != nil {
		return Session{}, tokenError("malformed")
	}
	if _, ok := claims["exp"].(json.Number); !ok {
		return Session{}, errNoExpiry
	}
	values := make(map[string][]string, len(claims))
	for name, v := range claims {
		list, ok := v.([]any)
		if !ok {
			list = []any{v}
		}
		texts := make([]string, 0, len(list))
		for _, item := range list {
			switch item := item.(type) {
			case string:
				texts = append(texts, item)
			case json.Number:
				texts = append(texts, item.String())
			case bool:
				texts = append(texts, strconv.FormatBool(item))
			}
		}
		if len(texts) > 0 || ok {
			values[name] = texts
		}
	}
	user, _ := claims[a.config.UserClaim].(string)
	if user == "" || strings.ContainsFunc(user, unicode.IsControl) {
		return Session{}, tokenError("user")
	}
	return Session{User: user, Claims: []map[string][]string{values}}, nil
}
