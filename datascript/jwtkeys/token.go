package jwtkeys

import (
	"encoding/base64"
	"errors"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
)

const (
	maxToken  = 8 << 10
	maxHeader = 2 << 10 // as sent, in base64
)

// Why a token is refused.
const (
	malformed     = "malformed"
	tooLong       = "too long"
	wrongAlg      = "algorithm"
	unknownKey    = "unknown key"
	badSignature  = "signature"
	expired       = "expired"
	notYetValid   = "not yet valid"
	wrongAudience = "audience"
	wrongIssuer   = "issuer"
)

// A header is what matters in the header of a token.
type header struct {
	alg jose.SignatureAlgorithm
	kid string
}

// parseHeader takes a token apart as far as that is possible without a key. The
// base64 must be that of RFC 7515, section 2, to the last bit: of each token
// there is one spelling.
func parseHeader(token string) (h header, reason string) {
	if len(token) > maxToken {
		return h, tooLong
	}
	first, rest, _ := strings.Cut(token, ".")
	payload, signature, ok := strings.Cut(rest, ".")
	if !ok || strings.ContainsAny(token, "\r\n") || strings.Contains(signature, ".") {
		return h, malformed // RFC 4648 has no line breaks, package base64 skips them
	}
	if len(first) > maxHeader {
		return h, tooLong
	}
	raw, err := strict.DecodeString(first)
	if err != nil || !isBase64(payload) || !isBase64(signature) {
		return h, malformed
	}
	var fields struct {
		Alg  string          `json:"alg"`
		Kid  string          `json:"kid"`
		JKU  json.RawMessage `json:"jku"`
		X5U  json.RawMessage `json:"x5u"`
		JWK  json.RawMessage `json:"jwk"`
		Crit json.RawMessage `json:"crit"`
		B64  json.RawMessage `json:"b64"`
	}
	if !utf8.Valid(raw) || !isObject(raw) || json.Unmarshal(raw, &fields) != nil {
		return h, malformed
	}
	for _, refused := range []json.RawMessage{fields.JKU, fields.X5U, fields.JWK, fields.Crit, fields.B64} {
		if refused != nil {
			return h, malformed
		}
	}
	if fields.Alg == "" || len(fields.Kid) > maxKid {
		return h, malformed
	}
	return header{jose.SignatureAlgorithm(fields.Alg), fields.Kid}, ""
}

var strict = base64.RawURLEncoding.Strict()

func isBase64(text string) bool {
	var buffer [maxToken]byte
	_, err := strict.Decode(buffer[:], []byte(text))
	return err == nil
}

// isObject reports whether a JSON text can only be an object: null is accepted
// for a struct as well.
func isObject(text []byte) bool {
	for _, c := range text {
		switch c {
		case ' ', '\t', '\r', '\n':
			continue
		}
		return c == '{'
	}
	return false
}

// A verified is a token whose signature is good.
type verified struct {
	alg    jose.SignatureAlgorithm
	claims string // JSON

	// The claims that are checked at each use: times in seconds, infinite if
	// there are none.
	expires, begins, issued float64
	issuer                  string
	audience                []string
}

// parseClaims reads the claims of a token whose signature is good.
func parseClaims(alg jose.SignatureAlgorithm, payload []byte) (*verified, bool) {
	fields := struct {
		Exp date     `json:"exp"`
		Nbf date     `json:"nbf"`
		Iat date     `json:"iat"`
		Iss *string  `json:"iss"`
		Aud audience `json:"aud"`
	}{date(math.Inf(1)), date(math.Inf(-1)), date(math.Inf(-1)), new(string), nil}
	if !utf8.Valid(payload) || !isObject(payload) || json.Unmarshal(payload, &fields) != nil || fields.Iss == nil {
		return nil, false
	}
	return &verified{
		alg: alg, claims: string(payload),
		expires: float64(fields.Exp), begins: float64(fields.Nbf), issued: float64(fields.Iat),
		issuer: *fields.Iss, audience: fields.Aud,
	}, true
}

// refuse returns why a token whose signature is good is refused; empty if it is
// not.
func (t *verified) refuse(now time.Time, c TokenCheck) string {
	seconds, leeway := float64(now.UnixNano())/1e9, c.Leeway.Seconds()
	switch {
	case len(c.Algorithms) > 0 && !slices.Contains(c.Algorithms, string(t.alg)):
		return wrongAlg
	case seconds >= t.expires+leeway:
		return expired
	case seconds < t.begins-leeway || seconds < t.issued-leeway:
		return notYetValid
	case c.Audience != "" && !slices.Contains(t.audience, c.Audience):
		return wrongAudience
	case c.Issuer != "" && t.issuer != c.Issuer:
		return wrongIssuer
	}
	return ""
}

var errType = errors.New("wrong type")

// A date is a NumericDate of RFC 7519: seconds since 1970.
type date float64

func (d *date) UnmarshalJSON(text []byte) error {
	if len(text) == 0 || text[0] != '-' && (text[0] < '0' || text[0] > '9') {
		return errType
	}
	return json.Unmarshal(text, (*float64)(d))
}

// An audience is a string or a list of them.
type audience []string

func (a *audience) UnmarshalJSON(text []byte) error {
	if len(text) > 0 && text[0] == '"' {
		*a = []string{""}
		return json.Unmarshal(text, &(*a)[0])
	}
	var list []*string
	if err := json.Unmarshal(text, &list); err != nil || list == nil {
		return errType
	}
	for _, s := range list {
		if s == nil {
			return errType
		}
		*a = append(*a, *s)
	}
	return nil
}
