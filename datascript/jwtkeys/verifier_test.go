package jwtkeys

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/internal/testrace"
)

var _ datascript.TokenVerifier = (*Verifier)(nil)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// write makes a file and returns its path.
func write(t testing.TB, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// newVerifier has a set of each kind: all public keys by identifiers ("all"),
// RSA in PEM ("pem"), and a secret ("secret").
func newVerifier(t testing.TB) *Verifier {
	t.Helper()
	k := testKeys()
	v, err := New(Config{KeySets: map[string]KeySet{
		"all": {File: write(t, jwks(t, map[string]crypto.Signer{
			"rsa": k.rsa, "p256": k.p256, "p384": k.p384, "p521": k.p521, "ed": k.ed,
		}))},
		"pem":    {File: write(t, append([]byte("\ufeff# of the partner\n"), publicPEM(t, k.rsa)...))}, // as editors save it
		"secret": {Secret: k.secret},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

const sub = `{"sub":"ann"}`

func TestAlgorithms(t *testing.T) {
	v, k := newVerifier(t), testKeys()
	for _, c := range []struct {
		alg, set string
		key      any
	}{
		{"RS256", "all", k.rsa}, {"RS384", "all", k.rsa}, {"RS512", "all", k.rsa},
		{"PS256", "all", k.rsa}, {"PS384", "all", k.rsa}, {"PS512", "all", k.rsa},
		{"ES256", "all", k.p256}, {"ES384", "all", k.p384}, {"ES512", "all", k.p521},
		{"EdDSA", "all", k.ed}, {"RS256", "pem", k.rsa},
		{"HS256", "secret", k.secret}, {"HS384", "secret", k.secret}, {"HS512", "secret", k.secret},
	} {
		t.Run(c.alg+" "+c.set, func(t *testing.T) {
			good := token(t, c.alg, c.key, "", sub)
			for _, signatures := range []bool{true, false} { // the second time it is remembered
				claims, reason, n, err := v.VerifyToken(TokenCheck{Token: good, KeySet: c.set})
				if claims != sub || reason != "" || (n > 0) != signatures || err != nil {
					t.Fatalf("%q, %q, %d, %v", claims, reason, n, err)
				}
			}
			if _, reason, _, _ := v.VerifyToken(TokenCheck{Token: good, KeySet: c.set, Algorithms: []string{c.alg}}); reason != "" {
				t.Errorf("named: %q", reason)
			}
			if _, reason, _, _ := v.VerifyToken(TokenCheck{Token: good, KeySet: c.set, Algorithms: []string{"HS256", "EdDSA", "ES512"}}); (reason == "") != strings.Contains("HS256 EdDSA ES512", c.alg) {
				t.Errorf("another one named: %q", reason)
			}
			// Each byte but the dots matters, and so does each bit of a byte.
			step := 1
			if testrace.Enabled || c.alg == "ES384" || c.alg == "ES512" {
				step = 13 // these are slow
			}
			for i := len(good) - 1; i >= 0; i -= step {
				b := []byte(good)
				if b[i] == '.' {
					continue
				}
				b[i] = flip(b[i], i)
				if _, reason, _, _ := v.VerifyToken(TokenCheck{Token: string(b), KeySet: c.set}); reason == "" {
					t.Fatalf("byte %d changed: accepted", i)
				} else if strings.HasPrefix(good[:i], good[:strings.LastIndexByte(good, '.')]) && reason != badSignature && reason != malformed {
					t.Fatalf("byte %d of the signature changed: %q", i, reason)
				}
			}
		})
	}
}

// flip returns another character of base64.
func flip(b byte, i int) byte {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	at := strings.IndexByte(alphabet, b)
	return alphabet[at^(1<<(i%6))]
}

// TestRefused is what an attacker may send instead of a good token.
func TestRefused(t *testing.T) {
	v, k := newVerifier(t), testKeys()
	publicKey := publicPEM(t, k.rsa)
	der := strings.Join(strings.Split(strings.TrimSpace(string(publicKey)), "\n"), "\n")
	good := token(t, "RS256", k.rsa, "", sub)
	parts := strings.Split(good, ".")
	embedded := fmt.Sprintf(`{"alg":"RS256","jwk":{"kty":"RSA","n":%q,"e":"AQAB"}}`, b64(k.rsa2.N.Bytes()))
	for name, c := range map[string]struct{ set, token, reason string }{
		"nothing":                       {"all", "", malformed},
		"one part":                      {"all", "x", malformed},
		"two parts":                     {"all", parts[0] + "." + parts[1], malformed},
		"four parts":                    {"all", good + ".x", malformed},
		"five parts, as if encrypted":   {"all", good + ".x.x", malformed},
		"JSON serialization":            {"all", fmt.Sprintf(`{"payload":%q,"protected":%q,"signature":%q}`, parts[1], parts[0], parts[2]), malformed},
		"padding":                       {"all", good + "=", malformed},
		"line break":                    {"all", good + "\n", malformed},
		"line break inside":             {"all", good[:9] + "\r\n" + good[9:], malformed},
		"blank in front":                {"all", " " + good, malformed},
		"standard alphabet":             {"all", parts[0] + "." + parts[1] + "+/." + parts[2], malformed},
		"header is no JSON":             {"all", b64([]byte("alg")) + "." + parts[1] + "." + parts[2], malformed},
		"header is null":                {"all", token(t, "RS256", k.rsa, "null", sub), malformed},
		"header is a list":              {"all", token(t, "RS256", k.rsa, `[{"alg":"RS256"}]`, sub), malformed},
		"header is not UTF-8":           {"all", token(t, "RS256", k.rsa, "{\"alg\":\"RS256\",\"typ\":\"\xff\"}", sub), malformed},
		"more behind the header":        {"all", token(t, "RS256", k.rsa, `{"alg":"RS256"}{}`, sub), malformed},
		"no alg":                        {"all", token(t, "RS256", k.rsa, `{"typ":"JWT"}`, sub), malformed},
		"alg in capitals":               {"all", token(t, "RS256", k.rsa, `{"ALG":"RS256"}`, sub), malformed},
		"alg twice":                     {"all", token(t, "RS256", k.rsa, `{"alg":"none","alg":"RS256"}`, sub), malformed},
		"alg is a number":               {"all", token(t, "RS256", k.rsa, `{"alg":256}`, sub), malformed},
		"alg is null":                   {"all", token(t, "RS256", k.rsa, `{"alg":null}`, sub), malformed},
		"kid is a number":               {"all", token(t, "RS256", k.rsa, `{"alg":"RS256","kid":1}`, sub), malformed},
		"long kid":                      {"all", token(t, "RS256", k.rsa, fmt.Sprintf(`{"alg":"RS256","kid":%q}`, strings.Repeat("k", 257)), sub), malformed},
		"long header":                   {"all", token(t, "RS256", k.rsa, fmt.Sprintf(`{"alg":"RS256","x":%q}`, strings.Repeat("x", 2<<10)), sub), tooLong},
		"long token":                    {"all", token(t, "RS256", k.rsa, "", fmt.Sprintf(`{"sub":%q}`, strings.Repeat("x", 8<<10))), tooLong},
		"huge":                          {"all", strings.Repeat("x", 1<<20), tooLong},
		"none":                          {"all", token(t, "RS256", k.rsa, `{"alg":"none"}`, sub), wrongAlg},
		"none without a signature":      {"all", b64([]byte(`{"alg":"none"}`)) + "." + parts[1] + ".", wrongAlg},
		"nOnE":                          {"all", b64([]byte(`{"alg":"nOnE"}`)) + "." + parts[1] + ".", wrongAlg},
		"none for a secret":             {"secret", b64([]byte(`{"alg":"none"}`)) + "." + parts[1] + ".", wrongAlg},
		"empty signature":               {"all", parts[0] + "." + parts[1] + ".", badSignature},
		"encryption algorithm":          {"all", token(t, "RS256", k.rsa, `{"alg":"RSA-OAEP","enc":"A128GCM"}`, sub), wrongAlg},
		"public key in PEM as a secret": {"pem", token(t, "HS256", publicKey, "", sub), wrongAlg},
		"without its last line feed":    {"pem", token(t, "HS256", []byte(der), "", sub), wrongAlg},
		"public key as a secret":        {"all", token(t, "HS256", publicKey, `{"alg":"HS256","kid":"rsa"}`, sub), wrongAlg},
		"modulus as a secret":           {"all", token(t, "HS256", k.rsa.N.Bytes(), `{"alg":"HS256","kid":"rsa"}`, sub), wrongAlg},
		"public algorithm for a secret": {"secret", good, wrongAlg},
		"kid of a key of another kind":  {"all", token(t, "RS256", k.rsa, `{"alg":"RS256","kid":"p256"}`, sub), wrongAlg},
		"other curve":                   {"all", token(t, "ES256", k.p384, `{"alg":"ES256","kid":"p384"}`, sub), wrongAlg},
		"unknown kid":                   {"all", token(t, "RS256", k.rsa, `{"alg":"RS256","kid":"rsa9"}`, sub), unknownKey},
		"kid that is a path":            {"all", token(t, "RS256", k.rsa, `{"alg":"RS256","kid":"../../dev/null"}`, sub), unknownKey},
		"key of somebody else":          {"all", token(t, "RS256", k.rsa2, `{"alg":"RS256","kid":"rsa"}`, sub), badSignature},
		"PKCS #1 for PSS":               {"all", strings.Replace(good, parts[0], b64([]byte(`{"alg":"PS256"}`)), 1), badSignature},
		"embedded key":                  {"all", token(t, "RS256", k.rsa2, embedded, sub), malformed},
		"embedded null":                 {"all", token(t, "RS256", k.rsa, `{"alg":"RS256","jwk":null}`, sub), malformed},
		"address of keys":               {"all", token(t, "RS256", k.rsa2, `{"alg":"RS256","jku":"https://evil.example/jwks"}`, sub), malformed},
		"address of a certificate":      {"all", token(t, "RS256", k.rsa2, `{"alg":"RS256","x5u":"https://evil.example/crt"}`, sub), malformed},
		"critical extension":            {"all", token(t, "RS256", k.rsa, `{"alg":"RS256","crit":["exp"],"exp":1}`, sub), malformed},
		"empty list of extensions":      {"all", token(t, "RS256", k.rsa, `{"alg":"RS256","crit":[]}`, sub), malformed},
		"payload that is not encoded":   {"all", token(t, "RS256", k.rsa, `{"alg":"RS256","b64":false}`, sub), malformed},
		"claims are a text":             {"all", token(t, "RS256", k.rsa, "", `"sub"`), malformed},
		"claims are null":               {"all", token(t, "RS256", k.rsa, "", `null`), malformed},
		"claims are not UTF-8":          {"all", token(t, "RS256", k.rsa, "", "{\"sub\":\"\xff\"}"), malformed},
		"claims are nothing":            {"all", token(t, "RS256", k.rsa, "", ""), malformed},
		"another token inside":          {"all", token(t, "RS256", k.rsa, "", good), malformed},
		"exp twice":                     {"all", token(t, "RS256", k.rsa, "", `{"exp":1,"exp":99999999999}`), malformed},
		"sub twice":                     {"all", token(t, "RS256", k.rsa, "", `{"sub":"a","sub":"b"}`), malformed},
		"exp is a text":                 {"all", token(t, "RS256", k.rsa, "", `{"exp":"99999999999"}`), malformed},
		"exp is null":                   {"all", token(t, "RS256", k.rsa, "", `{"exp":null}`), malformed},
		"exp is infinite":               {"all", token(t, "RS256", k.rsa, "", `{"exp":1e999}`), malformed},
		"nbf is a list":                 {"all", token(t, "RS256", k.rsa, "", `{"nbf":[1]}`), malformed},
		"iss is a number":               {"all", token(t, "RS256", k.rsa, "", `{"iss":1}`), malformed},
		"iss is null":                   {"all", token(t, "RS256", k.rsa, "", `{"iss":null}`), malformed},
		"aud is a number":               {"all", token(t, "RS256", k.rsa, "", `{"aud":1}`), malformed},
		"aud is null":                   {"all", token(t, "RS256", k.rsa, "", `{"aud":null}`), malformed},
		"aud has null":                  {"all", token(t, "RS256", k.rsa, "", `{"aud":["a",null]}`), malformed},
		"expired":                       {"all", token(t, "RS256", k.rsa, "", `{"exp":1}`), expired},
	} {
		t.Run(name, func(t *testing.T) {
			claims, reason, _, err := v.VerifyToken(TokenCheck{Token: c.token, KeySet: c.set})
			if claims != "" || reason != c.reason || err != nil {
				t.Errorf("%q, %q, %v; want %q", claims, reason, err, c.reason)
			}
		})
	}
	if n := v.cache.count(); n != 0 {
		t.Errorf("%d refused tokens are remembered", n)
	}
}

// TestTimes: a token that has been verified is refused all the same once its
// time is over, and to the second.
func TestTimes(t *testing.T) {
	v, k := newVerifier(t), testKeys()
	at := func(seconds float64) time.Time { return time.UnixMilli(int64(seconds * 1000)) }
	for _, c := range []struct {
		claims  string
		leeway  time.Duration
		now     float64
		reason  string
		nowGood float64 // when it is good, so that it is remembered
	}{
		{`{"exp":1000}`, 0, 999.999, "", 1},
		{`{"exp":1000}`, 0, 1000, expired, 1},
		{`{"exp":1000.5}`, 0, 1000.4, "", 1},
		{`{"exp":1000.5}`, 0, 1000.5, expired, 1},
		{`{"exp":1000}`, time.Minute, 1059, "", 1},
		{`{"exp":1000}`, time.Minute, 1060, expired, 1},
		{`{"exp":-1}`, 0, 1, expired, -5},
		{`{"exp":1e3}`, 0, 1001, expired, 1},
		{`{"exp":1e300}`, 0, 1e9, "", 1},
		{`{"nbf":1000}`, 0, 999, notYetValid, 1001},
		{`{"nbf":1000}`, 0, 1000, "", 1001},
		{`{"nbf":1000}`, 10 * time.Second, 990, "", 1001},
		{`{"nbf":1000}`, 10 * time.Second, 989, notYetValid, 1001},
		{`{"iat":1000}`, 0, 999, notYetValid, 1001},
		{`{"iat":1000}`, time.Second, 999, "", 1001},
		{`{"nbf":1000,"exp":900}`, 0, 950, expired, 0},
	} {
		for _, cached := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s at %v leeway %v, cached: %v", c.claims, c.now, c.leeway, cached), func(t *testing.T) {
				x := token(t, "EdDSA", k.ed, fmt.Sprintf(`{"alg":"EdDSA","x":"%v %v %v"}`, c.now, c.leeway, cached), c.claims)
				if cached && c.nowGood != 0 {
					if _, reason, _, _ := v.verify(TokenCheck{Token: x, KeySet: "all"}, at(c.nowGood)); reason != "" {
						t.Fatalf("at %v: %q", c.nowGood, reason)
					}
				}
				_, reason, n, err := v.verify(TokenCheck{Token: x, KeySet: "all", Leeway: c.leeway}, at(c.now))
				if reason != c.reason || err != nil {
					t.Errorf("%q, %v", reason, err)
				}
				if cached && c.nowGood != 0 && n != 0 {
					t.Error("it was not remembered")
				}
			})
		}
	}
}

func TestWanted(t *testing.T) {
	v, k := newVerifier(t), testKeys()
	one := token(t, "EdDSA", k.ed, "", `{"iss":"https://idp.example","aud":"shop"}`)
	many := token(t, "EdDSA", k.ed, "", `{"iss":"https://idp.example","aud":["desk","shop"]}`)
	none := token(t, "EdDSA", k.ed, "", `{"sub":"ann"}`)
	for _, c := range []struct {
		token, issuer, audience, reason string
	}{
		{one, "", "", ""},
		{one, "https://idp.example", "shop", ""},
		{one, "https://idp.example/", "shop", wrongIssuer},
		{one, "", "Shop", wrongAudience},
		{one, "", "sho", wrongAudience},
		{many, "", "shop", ""},
		{many, "", "desk", ""},
		{many, "", "desk,shop", wrongAudience},
		{none, "", "shop", wrongAudience},
		{none, "https://idp.example", "", wrongIssuer},
	} {
		for range 2 { // new and remembered
			if _, reason, _, err := v.VerifyToken(TokenCheck{Token: c.token, KeySet: "all", Issuer: c.issuer, Audience: c.audience}); reason != c.reason || err != nil {
				t.Errorf("%q, %q: %q, %v; want %q", c.issuer, c.audience, reason, err, c.reason)
			}
		}
	}
}

func TestVerifyFaults(t *testing.T) {
	v, k := newVerifier(t), testKeys()
	x := token(t, "EdDSA", k.ed, "", sub)
	for name, c := range map[string]struct {
		set    string
		algs   []string
		leeway time.Duration
		want   string
	}{
		"unknown set":       {"x", nil, 0, `key set "x" not found`},
		"none as algorithm": {"all", []string{"RS256", "none"}, 0, `algorithms[1]: "none": not one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA, HS256, HS384, HS512`},
		"misspelt":          {"all", []string{"rs265"}, 0, `algorithms[0]: "rs265": not one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA, HS256, HS384, HS512; did you mean "RS256"?`},
		"long leeway":       {"all", nil, time.Minute + 1, "leeway: 1m0.000000001s: not between 0s and 1m0s"},
		"negative leeway":   {"all", nil, -1, "leeway: -1ns: not between 0s and 1m0s"},
	} {
		t.Run(name, func(t *testing.T) {
			claims, reason, n, err := v.VerifyToken(TokenCheck{Token: x, KeySet: c.set, Algorithms: c.algs, Leeway: c.leeway})
			if claims != "" || reason != "" || n != 0 || err == nil || err.Error() != c.want {
				t.Errorf("%q, %q, %d, %v", claims, reason, n, err)
			}
		})
	}
}

// TestIdentifiers: which key a token may be signed with.
func TestIdentifiers(t *testing.T) {
	k := testKeys()
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	jwk := func(id string, key *rsa.PrivateKey, more string) string {
		if id != "" {
			id = fmt.Sprintf(`"kid":%q,`, id)
		}
		return fmt.Sprintf(`{"kty":"RSA",%s%s"n":%q,"e":"AQAB"}`, id, more, b64(key.N.Bytes()))
	}
	for name, c := range map[string]struct {
		keys []string
		alg  string
		kid  string
		want string
	}{
		"by its identifier":               {[]string{jwk("a", k.rsa2, ""), jwk("b", k.rsa, "")}, "RS256", "b", ""},
		"identifier of another key":       {[]string{jwk("a", k.rsa2, ""), jwk("b", k.rsa, "")}, "RS256", "a", badSignature},
		"no identifier: all are tried":    {[]string{jwk("a", k.rsa2, ""), jwk("b", k.rsa, "")}, "RS256", "", ""},
		"two keys of one identifier":      {[]string{jwk("a", k.rsa2, ""), jwk("a", k.rsa, "")}, "RS256", "a", ""},
		"key without an identifier":       {[]string{jwk("", k.rsa, "")}, "RS256", "a", ""},
		"the named one before it":         {[]string{jwk("", k.rsa, ""), jwk("a", k.rsa2, "")}, "RS256", "a", badSignature},
		"five fit and none is named":      {[]string{jwk("a", k.rsa, ""), jwk("b", k.rsa, ""), jwk("c", k.rsa, ""), jwk("d", k.rsa, ""), jwk("e", k.rsa, "")}, "RS256", "", unknownKey},
		"of five keys one is for it":      {[]string{jwk("a", k.rsa, `"alg":"RS512",`), jwk("b", k.rsa, `"alg":"RS512",`), jwk("c", k.rsa, `"alg":"PS256",`), jwk("d", k.rsa, `"alg":"RS384",`), jwk("e", k.rsa, `"alg":"RS256",`)}, "RS256", "", ""},
		"key for another algorithm":       {[]string{jwk("a", k.rsa, `"alg":"RS512",`)}, "RS256", "a", wrongAlg},
		"key for this algorithm":          {[]string{jwk("a", k.rsa, `"alg":"RS256",`)}, "RS256", "a", ""},
		"key for encryption":              {[]string{jwk("a", k.rsa, `"use":"enc",`), jwk("b", k.rsa2, "")}, "RS256", "a", unknownKey},
		"key of an unknown kind":          {[]string{`{"kty":"QUANTUM","kid":"a"}`, jwk("b", k.rsa, "")}, "RS256", "b", ""},
		"key that is too small":           {[]string{jwk("a", small, ""), jwk("b", k.rsa, "")}, "RS256", "a", unknownKey},
		"key of a curve without a number": {[]string{`{"kty":"OKP","crv":"X25519","kid":"a","x":"AAAA"}`, jwk("b", k.rsa, "")}, "RS256", "b", ""},
	} {
		t.Run(name, func(t *testing.T) {
			v, err := New(Config{KeySets: map[string]KeySet{"x": {File: write(t, []byte(`{"keys":[`+strings.Join(c.keys, ",")+`]}`))}}})
			if err != nil {
				t.Fatal(err)
			}
			header := fmt.Sprintf(`{"alg":%q,"kid":%q}`, c.alg, c.kid)
			if c.kid == "" {
				header = ""
			}
			if _, reason, _, err := v.VerifyToken(TokenCheck{Token: token(t, c.alg, k.rsa, header, sub), KeySet: "x"}); reason != c.want || err != nil {
				t.Errorf("%q, %v; want %q", reason, err, c.want)
			}
		})
	}
}

// TestConfigFaults: all faults at once, each with its place, and no secret in
// any.
func TestConfigFaults(t *testing.T) {
	k := testKeys()
	many := map[string]crypto.Signer{}
	for i := range 65 {
		many[fmt.Sprint(i)] = k.ed
	}
	unnamed := strings.TrimSuffix(strings.Repeat(string(jwks(t, map[string]crypto.Signer{"": k.ed}))[9:], 1), "]}")
	unnamed = `{"keys":[` + strings.TrimSuffix(strings.Repeat(unnamed+",", 5), ",") + "]}"
	missing := filepath.Join(t.TempDir(), "missing")
	secret := "s3cret"
	c := Config{KeySets: map[string]KeySet{
		"a nothing":        {},
		"b two":            {File: missing, Secret: k.secret},
		"c missing":        {File: missing},
		"d directory":      {File: t.TempDir()},
		"e garbage":        {File: write(t, []byte("garbage"))},
		"f empty":          {File: write(t, nil)},
		"g no keys":        {File: write(t, []byte(`{"keys":[]}`))},
		"h bad JSON":       {File: write(t, []byte(`{"keys":[`))},
		"i short secret":   {Secret: []byte(secret)},
		"j bad base64":     {SecretFile: write(t, []byte("base64:"+secret+"!"))},
		"k interval alone": {File: write(t, publicPEM(t, k.ed)), Interval: time.Minute},
		"l transport":      {URL: "http://idp/jwks"},
		"m user":           {URL: "http://u:" + secret + "@idp/jwks", Transport: fakeTransport(nil), Interval: time.Second},
		"n scheme":         {URL: "file:///jwks", Transport: fakeTransport(nil)},
		"o secret key":     {File: write(t, []byte(`{"keys":[{"kty":"oct","k":"`+secret+`"}]}`))},
		"p private key":    {File: write(t, []byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","d":"`+secret+`","x":"AAAA"}]}`))},
		"q private PEM":    {File: write(t, []byte("-----BEGIN PRIVATE KEY-----\nczNjcmV0\n-----END PRIVATE KEY-----\n"))},
		"r too many":       {File: write(t, jwks(t, many))},
		"s too large":      {File: write(t, make([]byte, 1<<20+1))},
		"t behind PEM":     {File: write(t, append(publicPEM(t, k.ed), "x"...))},
		"u unnamed":        {File: write(t, []byte(unnamed))},
	}}
	_, err := New(c)
	var got []string
	for _, e := range err.(interface{ Unwrap() []error }).Unwrap() {
		var fault *fielderr.Error
		if !errors.As(e, &fault) {
			t.Errorf("%T: %v", e, e)
			continue
		}
		text := fault.Path + ": " + fault.Err.Error()
		text, _, _ = strings.Cut(strings.ReplaceAll(text, missing, "MISSING"), "/tmp")
		got = append(got, text)
		if strings.Contains(e.Error(), secret) {
			t.Errorf("the error shows a secret: %v", e)
		}
	}
	want := []string{
		`keySets["a nothing"]: exactly one of file, url, secretFile and secret must be set, not 0`,
		`keySets["b two"]: exactly one of file, url, secretFile and secret must be set, not 2`,
		`keySets["c missing"].file: stat MISSING: no such file or directory`,
		`keySets["d directory"].file: read `,
		`keySets["e garbage"].file: neither a JSON Web Key Set nor PEM`,
		`keySets["f empty"].file: neither a JSON Web Key Set nor PEM`,
		`keySets["g no keys"].file: none of 0 keys can be used`,
		`keySets["h bad JSON"].file: not a JSON Web Key Set: unexpected end of JSON input`,
		`keySets["i short secret"].secret: a secret of 6 bytes is not between 32 and 65536`,
		`keySets["j bad base64"].secretFile: not valid base64`,
		`keySets["k interval alone"].url: missing; interval and transport belong to it`,
		`keySets["l transport"].transport: missing`,
		`keySets["m user"].url: a URL with a user name`,
		`keySets["m user"].interval: less than 10s`,
		`keySets["n scheme"].url: not an absolute URL of http or https`,
		`keySets["o secret key"].file: keys[0]: a secret key; a key set has public keys only`,
		`keySets["p private key"].file: keys[0]: a secret key; a key set has public keys only`,
		`keySets["q private PEM"].file: PEM block 0 is not a public key or a certificate`,
		`keySets["r too many"].file: 65 keys, more than 64`,
		`keySets["s too large"].file: read `,
		`keySets["t behind PEM"].file: after PEM block 0: not PEM`,
		`keySets["u unnamed"].file: more than 4 keys with the identifier ""`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// One key that a provider had written oddly, or a kind of key from a later
// standard, refused all the others of its set: nobody could log in.
func TestBadKeysAreSkipped(t *testing.T) {
	k := testKeys()
	good := string(jwks(t, map[string]crypto.Signer{"good": k.ed}))
	good = strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(good), `{"keys":[`), "]}")
	with := func(member string) string {
		return strings.Replace(strings.Replace(good, "{", "{"+member+",", 1), `"good"`, `"bad"`, 1)
	}
	for name, bad := range map[string]string{
		"null":                   `null`,
		"no object":              `7`,
		"no members":             `{}`,
		"kid is a number":        strings.Replace(good, `"good"`, `7`, 1),
		"kid is too long":        strings.Replace(good, `"good"`, `"`+strings.Repeat("x", maxKid+1)+`"`, 1),
		"kty is missing":         `{"kid":"bad","crv":"Ed25519","x":"AAAA"}`,
		"kty is a number":        `{"kid":"bad","kty":7}`,
		"kty is unknown":         `{"kid":"bad","kty":"AKP","pub":"AAAA"}`,
		"use is there twice":     with(`"use":"sig"`),
		"x5c does not parse":     with(`"x5c":["AAAA"]`),
		"x5t is in hexadecimal":  with(`"x5t":"a1b2c3d4e5f60718293a4b5c6d7e8f9012345678"`),
		"coordinate is too long": `{"kid":"bad","kty":"OKP","crv":"Ed25519","x":"` + strings.Repeat("AAAA", 20) + `"}`,
		"curve is unknown":       `{"kid":"bad","kty":"EC","crv":"P-1","x":"AAAA","y":"AAAA"}`,
	} {
		t.Run(name, func(t *testing.T) {
			for _, set := range []string{bad + "," + good, good + "," + bad} {
				r, err := parseKeys([]byte(`{"keys":[` + set + `]}`))
				if err != nil {
					t.Fatal(err)
				}
				if len(r.keys) != 1 || r.keys[0].id != "good" || r.skipped != 1 {
					t.Errorf("%d keys, %d skipped", len(r.keys), r.skipped)
				}
			}
			if _, err := parseKeys([]byte(`{"keys":[` + bad + `]}`)); err == nil || !strings.HasPrefix(err.Error(), "none of 1 keys can be used") {
				t.Errorf("alone: %v", err)
			}
		})
	}
	for _, private := range []string{
		`{"kid":7,"kty":"oct","k":"AAAA"}`, `{"kid":7,"kty":"RSA","d":"AAAA"}`, `{"kty":7,"d":7}`, `{"x5c":["AAAA"],"d":"AAAA"}`, `{"d":"AAAA"}`,
	} {
		const want = "keys[1]: a secret key; a key set has public keys only"
		if _, err := parseKeys([]byte(`{"keys":[` + good + `,` + private + `]}`)); fmt.Sprint(err) != want {
			t.Errorf("%s: %v", private, err)
		}
	}
}

// TestRFC7515 verifies the examples of RFC 7515, appendix A.1 to A.3, before
// they expire.
func TestRFC7515(t *testing.T) {
	const hsKey = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"
	secret, err := base64.RawURLEncoding.DecodeString(hsKey)
	if err != nil {
		t.Fatal(err)
	}
	const rsaKey = `{"keys":[{"kty":"RSA","e":"AQAB","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"}]}`
	const ecKey = `{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}`
	const payload = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
	v, err := New(Config{KeySets: map[string]KeySet{
		"A.1": {Secret: secret}, "A.2": {File: write(t, []byte(rsaKey))}, "A.3": {File: write(t, []byte(ecKey))},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for set, x := range map[string]string{
		"A.1": "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9." + payload + ".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
		"A.2": "eyJhbGciOiJSUzI1NiJ9." + payload + ".cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
		"A.3": "eyJhbGciOiJFUzI1NiJ9." + payload + ".DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
	} {
		t.Run(set, func(t *testing.T) {
			claims, reason, _, err := v.verify(TokenCheck{Token: x, KeySet: set, Issuer: "joe"}, time.Unix(1300819379, 0))
			if !strings.Contains(claims, "is_root") || reason != "" || err != nil {
				t.Errorf("%q, %q, %v", claims, reason, err)
			}
			if _, reason, _, _ := v.verify(TokenCheck{Token: x, KeySet: set}, time.Unix(1300819380, 0)); reason != expired {
				t.Errorf("a second later: %q", reason)
			}
		})
	}
}
