package jwtkeys

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"strings"
	"testing"
	"time"
)

// naive verifies a token with the standard library alone: it reports true if a
// key has signed it, in which case everybody must be able to read it as JSON.
func naive(token string, keys ...any) bool {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return false
	}
	var raw [3][]byte
	for i, p := range parts {
		var err error
		if raw[i], err = base64.RawURLEncoding.DecodeString(p); err != nil {
			return false
		}
	}
	var header struct{ Alg string }
	if json.Unmarshal(raw[0], &header) != nil || len(header.Alg) != 5 {
		return false
	}
	h, ok := hashes[header.Alg[2:]]
	input, signature := []byte(parts[0]+"."+parts[1]), raw[2]
	for _, k := range keys {
		if k, isEd := k.(ed25519.PublicKey); isEd && header.Alg == "EdDSA" && ed25519.Verify(k, input, signature) {
			return true
		}
		if !ok {
			continue
		}
		w := h.New()
		w.Write(input)
		sum := w.Sum(nil)
		switch k := k.(type) {
		case *rsa.PublicKey:
			if header.Alg[:2] == "RS" && rsa.VerifyPKCS1v15(k, h, sum, signature) == nil ||
				header.Alg[:2] == "PS" && rsa.VerifyPSS(k, h, sum, signature, nil) == nil {
				return true
			}
		case *ecdsa.PublicKey:
			n := len(signature) / 2
			if header.Alg[:2] == "ES" && ecdsa.Verify(k, sum, new(big.Int).SetBytes(signature[:n]), new(big.Int).SetBytes(signature[n:])) {
				return true
			}
		case []byte:
			m := hmac.New(hmacHash(header.Alg), k)
			m.Write(input)
			if header.Alg[:2] == "HS" && bytes.Equal(m.Sum(nil), signature) {
				return true
			}
		}
	}
	return false
}

// FuzzToken: a token is accepted only if one of the keys has signed it,
// whatever it is, and the next time as the first.
func FuzzToken(f *testing.F) {
	k := testKeys()
	v := newVerifier(f)
	public := []any{k.rsa.Public(), k.p256.Public(), k.p384.Public(), k.p521.Public(), k.ed.Public()}
	good := token(f, "RS256", k.rsa, "", sub)
	f.Add("all", good) // accepted
	f.Add("all", token(f, "EdDSA", k.ed, `{"alg":"EdDSA","kid":"ed"}`, `{"exp":99999999999,"aud":["a"]}`))
	f.Add("all", token(f, "ES512", k.p521, "", sub))
	f.Add("secret", token(f, "HS256", k.secret, "", sub))
	f.Add("secret", good)                                                      // of another kind
	f.Add("pem", token(f, "HS256", publicPEM(f, k.rsa), "", sub))              // confusion
	f.Add("all", b64([]byte(`{"alg":"none"}`))+"."+b64([]byte(sub))+".")       // no signature
	f.Add("all", token(f, "RS256", k.rsa, `{"alg":"RS256","b64":false}`, "x")) // not encoded
	f.Add("all", "...")
	f.Add("all", good[:len(good)-1]+"_") // the last bits of base64
	f.Fuzz(func(t *testing.T, set, token string) {
		now := time.Unix(1<<30, 0)
		claims, reason, _, err := v.verify(TokenCheck{Token: token, KeySet: set}, now)
		if again, r, _, e := v.verify(TokenCheck{Token: token, KeySet: set}, now); again != claims || r != reason || (e == nil) != (err == nil) {
			t.Fatalf("%q, %q, %v and then %q, %q, %v", claims, reason, err, again, r, e)
		}
		if err != nil || reason != "" {
			if claims != "" || err != nil && reason != "" {
				t.Fatalf("%q, %q, %v", claims, reason, err)
			}
			return
		}
		keys := map[string][]any{"all": public, "pem": {k.rsa.Public()}, "secret": {k.secret}}[set]
		if !naive(token, keys...) {
			t.Fatalf("accepted, and no key of the set has signed it: %s", token)
		}
		if !json.Valid([]byte(claims)) {
			t.Fatalf("claims %q", claims)
		}
	})
}

// FuzzKeys: no set of keys breaks the parser, and what it accepts has keys that
// verify.
func FuzzKeys(f *testing.F) {
	k := testKeys()
	f.Add(jwks(f, map[string]crypto.Signer{"1": k.rsa, "2": k.p256, "3": k.ed})) // good
	f.Add(publicPEM(f, k.p384))
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"","e":""}]}`))                                            // no number
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","x":"AAAA","y":"AAAA"}]}`))                       // not on the curve
	f.Add([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AA"}]}`))                                 // too short
	f.Add([]byte(`{"keys":[null,1,"",[],{}]}`))                                                        // no keys
	f.Add([]byte("-----BEGIN PUBLIC KEY-----\nMAA=\n-----END PUBLIC KEY-----\n-----BEGIN PUBLIC KEY")) // cut
	f.Fuzz(func(t *testing.T, content []byte) {
		r, err := parseKeys(content)
		if (r == nil) == (err == nil) {
			t.Fatalf("%v, %v", r, err)
		}
		if r == nil {
			return
		}
		if len(r.keys) == 0 || len(r.keys) > maxKeys {
			t.Fatalf("%d keys", len(r.keys))
		}
		s := &keySet{}
		for _, alg := range publicAlgs {
			x := b64([]byte(`{"alg":"`+string(alg)+`"}`)) + "." + b64([]byte(sub)) + "." + b64(make([]byte, 64))
			if _, _, reason := s.open(TokenCheck{Token: x}, r); reason == "" {
				t.Fatalf("%s: a signature of zeros is good", alg)
			}
		}
	})
}
