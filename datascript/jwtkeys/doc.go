// Package jwtkeys verifies JSON Web Tokens (RFC 7519) with named sets of keys,
// for avi.jwt.verify in scripts and for authenticators of bearer tokens.
//
// A key set comes from a file, from an identity provider over HTTP, or is one
// shared secret:
//
//	tokens, err := jwtkeys.New(jwtkeys.Config{KeySets: map[string]jwtkeys.KeySet{
//		"login": {File: "jwks.json"},
//		"idp":   {URL: "https://idp.example/jwks", Transport: idp},
//		"hook":  {SecretFile: "/run/secrets/hook"},
//	}})
//	...
//	go tokens.Run(ctx) // watches files, fetches keys
//
// The key decides about the algorithm, never the token alone:
//
//   - Keys of a file or of an identity provider are public. They verify RS256,
//     RS384, RS512, PS256, PS384, PS512 (RSA of 2,048 to 8,192 bits), ES256,
//     ES384, ES512 (P-256, P-384 and P-521 respectively) and EdDSA (Ed25519).
//   - A secret verifies HS256, HS384 and HS512, as long as it has as many bytes
//     as the hash: 32, 48 or 64.
//
// The algorithm "none" does not exist here. A token is refused if its header
// has one of the parameters jku, x5u, jwk, crit and b64: nothing in a token
// says where keys come from or changes how it is verified.
//
// # Cache
//
// A [Verifier] remembers tokens that it has verified, so that a signature is
// verified once: at most 4,096 tokens with claims of at most 8 KiB, by their
// SHA-256. Each use checks the times, the audience and the issuer again. When
// the keys of a set change, none of its tokens is remembered. Tokens that are
// refused are not remembered, so nobody can displace others with forgeries.
package jwtkeys
