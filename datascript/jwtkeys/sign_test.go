package jwtkeys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"hash"
	"math/big"
	"strings"
	"sync"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// Tokens of these tests are made and verified with the standard library alone:
// an opinion that is independent of go-jose.

var hashes = map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}

// testKeys are keys of all kinds; to make them takes a while.
var testKeys = sync.OnceValue(func() (k struct {
	rsa, rsa2        *rsa.PrivateKey
	p256, p384, p521 *ecdsa.PrivateKey
	ed               ed25519.PrivateKey
	secret           []byte
}) {
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	var err error
	k.rsa, err = rsa.GenerateKey(rand.Reader, 2048)
	must(err)
	k.rsa2, err = rsa.GenerateKey(rand.Reader, 2048)
	must(err)
	k.p256, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	k.p384, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(err)
	k.p521, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	must(err)
	_, k.ed, err = ed25519.GenerateKey(rand.Reader)
	must(err)
	k.secret = []byte(strings.Repeat("0123456789abcdef", 4))
	return k
})

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// token signs claims. header may name alg in another way than alg itself does.
func token(t testing.TB, alg string, key any, header, claims string) string {
	t.Helper()
	if header == "" {
		header = fmt.Sprintf(`{"alg":%q}`, alg)
	}
	input := b64([]byte(header)) + "." + b64([]byte(claims))
	return input + "." + b64(signature(t, alg, key, input))
}

func signature(t testing.TB, alg string, key any, input string) []byte {
	t.Helper()
	h := hashes[alg[max(0, len(alg)-3):]]
	sum := func() []byte {
		w := h.New()
		w.Write([]byte(input))
		return w.Sum(nil)
	}
	var out []byte
	var err error
	switch k := key.(type) {
	case *rsa.PrivateKey:
		if strings.HasPrefix(alg, "PS") {
			out, err = rsa.SignPSS(rand.Reader, k, h, sum(), &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		} else {
			out, err = rsa.SignPKCS1v15(nil, k, h, sum())
		}
	case *ecdsa.PrivateKey:
		var r, s *big.Int
		if r, s, err = ecdsa.Sign(rand.Reader, k, sum()); err == nil {
			size := (k.Params().BitSize + 7) / 8
			out = append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
		}
	case ed25519.PrivateKey:
		out = ed25519.Sign(k, []byte(input))
	case []byte:
		w := hmac.New(hmacHash(alg), k)
		w.Write([]byte(input))
		out = w.Sum(nil)
	default:
		t.Fatalf("a key of type %T", key)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func hmacHash(alg string) func() hash.Hash {
	switch alg {
	case "HS384":
		return sha512.New384
	case "HS512":
		return sha512.New
	}
	return sha256.New
}

// jwks is a set of the public keys of these pairs, by their identifiers.
func jwks(t testing.TB, keys map[string]crypto.Signer) []byte {
	t.Helper()
	var set jose.JSONWebKeySet
	for id, k := range keys {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: k.Public(), KeyID: id, Use: "sig"})
	}
	text, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func publicPEM(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}
