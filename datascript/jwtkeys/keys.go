package jwtkeys

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
)

const (
	maxSetBytes = 1 << 20 // of a file or an answer with keys
	maxKeys     = 64
	maxKid      = 256
	// maxTries is how many keys a token can be tried with: as many may have the
	// same identifier, or none.
	maxTries = 4

	minRSABits = 2048
	maxRSABits = 8192

	minSecret = 32
	maxSecret = 64 << 10
)

// A key verifies the signatures of some algorithms.
type key struct {
	id     string // empty: it has none
	value  any    // what go-jose verifies with
	algs   []jose.SignatureAlgorithm
	effort int // in verifications of the usual kind; see [Verifier.VerifyToken]
}

// A ring has the keys of a set at one time. It does not change.
type ring struct {
	keys    []key
	algs    []jose.SignatureAlgorithm // of all keys of this kind, whether there are any now or not
	skipped int                       // keys that cannot be used
	fault   string                    // of the first key that is not valid
	source  []byte                    // what it was made of
}

var (
	rsaAlgs    = []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512}
	publicAlgs = append(slices.Clone(rsaAlgs), jose.ES256, jose.ES384, jose.ES512, jose.EdDSA)
	secretAlgs = []jose.SignatureAlgorithm{jose.HS256, jose.HS384, jose.HS512}
)

// noKeys is the ring of a set whose keys have not been fetched yet.
var noKeys = &ring{algs: publicAlgs}

// find returns the keys that a token may be signed with, at most maxTries:
// those that have its identifier; if there are none, those that have no
// identifier; for a token without an identifier, all. If there are none of
// these, reason says whether there are none at all or none for the algorithm.
// missing reports that no key has the identifier.
func (r *ring) find(id string, alg jose.SignatureAlgorithm) (found []key, reason string, missing bool) {
	missing = id != "" && !slices.ContainsFunc(r.keys, func(k key) bool { return k.id == id })
	reason = unknownKey
	for _, k := range r.keys {
		if missing && k.id != "" || !missing && id != "" && k.id != id {
			continue
		}
		if slices.Contains(k.algs, alg) {
			found = append(found, k)
		} else {
			reason = wrongAlg
		}
	}
	switch {
	case len(found) > maxTries:
		return nil, unknownKey, missing
	case len(found) > 0:
		return found, "", missing
	}
	return nil, reason, missing
}

// parseKeys reads a set of public keys: a JSON object as in RFC 7517, section
// 5, or PEM.
func parseKeys(content []byte) (*ring, error) {
	r := &ring{algs: publicAlgs, source: content}
	var err error
	if text := bytes.TrimSpace(bytes.TrimPrefix(content, []byte("\ufeff"))); len(text) > 0 && text[0] == '{' {
		err = r.addJSON(text)
	} else {
		err = r.addPEM(text)
	}
	if err != nil {
		return nil, err
	}
	if len(r.keys) == 0 {
		if r.fault != "" {
			return nil, fmt.Errorf("none of %d keys can be used: %s", r.skipped, r.fault)
		}
		return nil, fmt.Errorf("none of %d keys can be used", r.skipped)
	}
	same := map[string]int{}
	for _, k := range r.keys {
		if same[k.id]++; same[k.id] > maxTries {
			return nil, fmt.Errorf("more than %d keys with the identifier %q", maxTries, k.id)
		}
	}
	return r, nil
}

func (r *ring) addJSON(content []byte) error {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(content, &set); err != nil {
		return errors.New("not a JSON Web Key Set: " + jsonFault(err))
	}
	if len(set.Keys) > maxKeys {
		return fmt.Errorf("%d keys, more than %d", len(set.Keys), maxKeys)
	}
	for i, raw := range set.Keys {
		// A key that is not valid may be a secret one all the same.
		var k struct {
			Type    any `json:"kty"`
			Private any `json:"d"`
		}
		err := json.Unmarshal(raw, &k)
		if k.Type == "oct" || k.Private != nil {
			return fmt.Errorf("keys[%d]: a secret key; a key set has public keys only", i)
		}
		used := false
		if err == nil {
			used, err = r.addKey(raw)
		}
		if err != nil && r.fault == "" {
			r.fault = fmt.Sprintf("keys[%d]: %s", i, jsonFault(err))
		}
		if !used {
			r.skipped++
		}
	}
	return nil
}

// addKey adds a JSON Web Key. It reports false if the key cannot be used; the
// error says why if the key is not valid.
func (r *ring) addKey(raw []byte) (bool, error) {
	var k struct {
		Use string `json:"use"`
		ID  string `json:"kid"`
	}
	if err := json.Unmarshal(raw, &k); err != nil {
		return false, err
	}
	switch {
	case len(k.ID) > maxKid:
		return false, fmt.Errorf("a kid of %d bytes, more than %d", len(k.ID), maxKid)
	case k.Use != "" && k.Use != "sig":
		return false, nil
	}
	var web jose.JSONWebKey
	switch err := web.UnmarshalJSON(raw); {
	case errors.Is(err, jose.ErrUnsupportedKeyType):
		return false, nil
	case err != nil:
		return false, err
	}
	return r.add(web.KeyID, web.Key, jose.SignatureAlgorithm(web.Algorithm)), nil
}

func (r *ring) addPEM(content []byte) error {
	n := 0
	for ; ; n++ {
		var block *pem.Block
		if block, content = pem.Decode(content); block == nil {
			break
		}
		if n == maxKeys {
			return fmt.Errorf("more than %d keys", maxKeys)
		}
		var public any
		var err error
		switch block.Type {
		case "PUBLIC KEY":
			public, err = x509.ParsePKIXPublicKey(block.Bytes)
		case "RSA PUBLIC KEY":
			public, err = x509.ParsePKCS1PublicKey(block.Bytes)
		case "CERTIFICATE":
			var c *x509.Certificate
			if c, err = x509.ParseCertificate(block.Bytes); err == nil {
				public = c.PublicKey
			}
		default:
			return fmt.Errorf("PEM block %d is not a public key or a certificate", n)
		}
		if err != nil {
			return fmt.Errorf("PEM block %d: %w", n, err)
		}
		if !r.add("", public, "") {
			r.skipped++
		}
	}
	switch {
	case n == 0:
		return errors.New("neither a JSON Web Key Set nor PEM")
	case len(bytes.TrimSpace(content)) > 0:
		return fmt.Errorf("after PEM block %d: not PEM", n-1)
	}
	return nil
}

// add adds a public key for one algorithm, or for all that it is good for. It
// reports false if the key cannot be used.
func (r *ring) add(id string, public any, only jose.SignatureAlgorithm) bool {
	k := key{id: id, value: public, effort: 1}
	switch p := public.(type) {
	case *rsa.PublicKey:
		if bits := p.N.BitLen(); bits < minRSABits || bits > maxRSABits || p.E < 3 || p.E > 1<<31-1 || p.E%2 == 0 || p.N.Bit(0) == 0 {
			return false
		}
		k.algs = rsaAlgs
		if p.N.BitLen() > 4096 || p.E > 1<<17 {
			k.effort = 4
		}
	case *ecdsa.PublicKey:
		switch p.Curve.Params().BitSize {
		case 256:
			k.algs = []jose.SignatureAlgorithm{jose.ES256}
		case 384:
			k.algs, k.effort = []jose.SignatureAlgorithm{jose.ES384}, 3
		case 521:
			k.algs, k.effort = []jose.SignatureAlgorithm{jose.ES512}, 6
		}
	case ed25519.PublicKey:
		k.algs = []jose.SignatureAlgorithm{jose.EdDSA}
	}
	if only != "" {
		if !slices.Contains(k.algs, only) {
			return false
		}
		k.algs = []jose.SignatureAlgorithm{only}
	}
	if len(k.algs) == 0 {
		return false
	}
	r.keys = append(r.keys, k)
	return true
}

// parseSecret makes a ring of one secret: the bytes as they are, or in base64
// behind "base64:".
func parseSecret(content []byte) (*ring, error) {
	secret := bytes.Clone(content)
	if text, ok := bytes.CutPrefix(content, []byte("base64:")); ok {
		var err error
		if secret, err = base64.StdEncoding.AppendDecode(nil, bytes.TrimSpace(text)); err != nil {
			return nil, errors.New("not valid base64") // the error would show the byte
		}
	}
	if len(secret) < minSecret || len(secret) > maxSecret {
		return nil, fmt.Errorf("a secret of %d bytes is not between %d and %d", len(secret), minSecret, maxSecret)
	}
	k := key{value: secret, effort: 1}
	for i, alg := range secretAlgs {
		if len(secret) >= []int{32, 48, 64}[i] { // RFC 7518, section 3.2
			k.algs = append(k.algs, alg)
		}
	}
	return &ring{keys: []key{k}, algs: k.algs, source: bytes.Clone(content)}, nil
}

// jsonFault is the text of an error of a parser, cut: it may repeat its input.
func jsonFault(err error) string {
	const most = 200
	text := err.Error()
	if len(text) > most {
		text = text[:most] + "..."
	}
	return text
}
