package acceptance_test

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/bcrypt"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/datascript/jwtkeys"
	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/lbpool"
)

// Lines that htpasswd of Apache 2.4 has written, with -B and a cost of 4: the
// passwords are canary-1 and canary-2.
const (
	annLine = "ann:$2y$04$xqeLw8BGEwYfUIvA4Pezj.RNSRAOBvhfHtghmz7H/sGBP1v00.Biy"
	bobLine = "bob:$2y$04$9VjAesBSCtbQWprlT6zGbOk.wHPAZL7g1RjwUI/Mz4QXXvx0iKmpC"
)

func writeFile(t *testing.T, path, content string) string {
	t.Helper()
	if path == "" {
		path = filepath.Join(t.TempDir(), "file")
	}
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	return path
}

// askAs sends a request with these lines of Authorization.
func askAs(t *testing.T, s *site, authorization ...string) (status int, user string, header http.Header) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(authorization) > 0 {
		r.Header["Authorization"] = authorization
	}
	res, err := s.client(t).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	return res.StatusCode, res.Header.Get("X-User"), res.Header
}

func basicHeader(name, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+password))
}

// userListing shows what scripts see of the user, before and after.
const userListing = `
-- HTTP_AUTH
avi.vs.log("auth ", avi.http.get_header("authorization") and "with" or "without")
-- HTTP_POST_AUTH
avi.vs.log("post auth ", avi.http.get_userid())
local roles = avi.http.oauth_get_claim(0, "roles")
avi.http.replace_header("X-Roles", roles and table.concat(roles, "+") or "")
-- HTTP_RESP
avi.http.add_header("X-User", avi.http.get_userid())
`

// TestBasicAuthenticator: users of an htpasswd file over a real virtual
// service, the file exchanged while it runs, and no password anywhere but at
// the server.
func TestBasicAuthenticator(t *testing.T) {
	t.Parallel()
	l := newLeak("canary-1", "canary-2", "canary-wrong")
	path := writeFile(t, "", annLine+"\n")
	reloads := make(chan error, 10)
	auth, err := limpet.NewBasicAuthenticator(limpet.BasicConfig{File: path, Realm: "shop", OnReload: func(err error) { reloads <- err }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { _ = auth.Run(ctx) })
	recs := newRecords()
	passed := make(chan string, 10)
	_, site := serve(t, http1, limpet.Config{
		Clients: limpet.Clients{Authenticator: auth},
		Scripts: []limpet.Script{compile(t, "Users", userListing)},
		Pools: []*lbpool.Pool{poolFor(t, func(_ http.ResponseWriter, r *http.Request) {
			passed <- r.Header.Get("Authorization")
		})},
		Logger:     slog.New(slog.NewJSONHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug})),
		OnComplete: recs.add,
	})
	try := func(name string, want int, wantUser, wantError string, authorization ...string) {
		t.Helper()
		status, user, header := askAs(t, site, authorization...)
		if status != want || user != wantUser {
			t.Errorf("%s: %d, user %q", name, status, user)
		}
		if challenge := header.Get("WWW-Authenticate"); (challenge == `Basic realm="shop", charset="UTF-8"`) != (want == 401) {
			t.Errorf("%s: challenge %q", name, challenge)
		}
		record := recs.next(t)
		if got := fmt.Sprint(record.Error); got != wantError {
			t.Errorf("%s: error %s", name, got)
		}
		l.print(name, record)
	}
	good := basicHeader("ann", "canary-1")
	try("none", 401, "", "not authenticated: no credentials of this kind")
	try("good", 200, "ann", "<nil>", good)
	try("again", 200, "ann", "<nil>", good)
	try("small letters", 200, "ann", "<nil>", strings.Replace(good, "Basic", "basic", 1))
	try("wrong", 401, "", "not authenticated: wrong user name or password", basicHeader("ann", "canary-wrong"))
	try("unknown", 401, "", "not authenticated: wrong user name or password", basicHeader("bob", "canary-2"))
	try("bearer", 401, "", "not authenticated: no credentials of this kind", "Bearer x")
	try("not base64", 401, "", "not authenticated: no credentials of this kind", "Basic canary-1")
	try("two", 401, "", "not authenticated: two credentials", good, basicHeader("admin", "x"))
	try("twice the same", 401, "", "not authenticated: two credentials", good, good)
	if n := len(passed); n != 3 || <-passed != good {
		t.Errorf("servers got %d requests", n)
	}

	writeFile(t, path, "ann:canary-1\n")
	if err := testwait.Receive(t, reloads, "the bad file"); err == nil || !strings.Contains(err.Error(), `user "ann": a plain password`) {
		t.Error(err)
	} else {
		l.print("reload", err)
	}
	try("with a bad file", 200, "ann", "<nil>", good)
	writeFile(t, path, bobLine+"\n")
	if err := testwait.Receive(t, reloads, "the new file"); err != nil {
		t.Error(err)
	}
	try("who is gone", 401, "", "not authenticated: wrong user name or password", good)
	try("who is new", 200, "bob", "<nil>", basicHeader("bob", "canary-2"))
	l.print("authenticator", auth)
	l.report(t)
}

// An update with a new authenticator remembers the passwords that the old one
// does: all clients at once would wait for bcrypt otherwise. What is remembered
// needs no turn, so a request that has ended already shows it.
func TestUpdateRemembersPasswords(t *testing.T) {
	const users = 20
	var lines strings.Builder
	for i := range users {
		hash, err := bcrypt.GenerateFromPassword([]byte(fmt.Sprint("pass", i)), 4)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&lines, "user%d:%s\n", i, hash)
	}
	path := writeFile(t, "", lines.String())
	made := func() *limpet.BasicAuthenticator {
		a, err := limpet.NewBasicAuthenticator(limpet.BasicConfig{File: path})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	ended, end := context.WithCancel(t.Context())
	end()
	remembered := func(ctx context.Context, a *limpet.BasicAuthenticator) (n int) {
		for i := range users {
			r := httptest.NewRequest(http.MethodGet, "/", nil).WithContext(ctx)
			r.SetBasicAuth(fmt.Sprint("user", i), fmt.Sprint("pass", i))
			if _, err := a.Authenticate(r); err == nil {
				n++
			}
		}
		return n
	}
	first, second := made(), made()
	if n := remembered(t.Context(), first); n != users {
		t.Fatalf("%d of %d users", n, users)
	}
	vs, err := limpet.New(limpet.Config{Clients: limpet.Clients{Authenticator: first}})
	if err != nil {
		t.Fatal(err)
	}
	if err := vs.Update(limpet.Config{Clients: limpet.Clients{Authenticator: second}}); err != nil {
		t.Fatal(err)
	}
	if n := remembered(ended, second); n != users {
		t.Errorf("%d of %d users are remembered", n, users)
	}
}

func TestAuthenticatorFaults(t *testing.T) {
	l := newLeak("canary")
	tokens, err := jwtkeys.New(jwtkeys.Config{KeySets: map[string]jwtkeys.KeySet{"k": {Secret: make([]byte, 32)}}})
	if err != nil {
		t.Fatal(err)
	}
	makeBasic := func(c limpet.BasicConfig) error { _, err := limpet.NewBasicAuthenticator(c); return err }
	makeBearer := func(c limpet.BearerConfig) error { _, err := limpet.NewBearerAuthenticator(c); return err }
	bad := writeFile(t, "", "ann:$apr1$canary$x\n# fine\nbob:canary\n")
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"no file": {makeBasic(limpet.BasicConfig{}), "file: missing"},
		"missing": {makeBasic(limpet.BasicConfig{File: "/nowhere/at-all"}), "file: stat /nowhere/at-all: no such file or directory"},
		"hashes": {makeBasic(limpet.BasicConfig{File: bad, Realm: "a\"b"}),
			`file: FILE: line 1: user "ann": an MD5 hash is not supported; make a bcrypt hash, with htpasswd -B` + "\n" +
				`line 3: user "bob": a plain password or a DES hash is not supported; make a bcrypt hash, with htpasswd -B` + "\n" +
				`realm: "a\"b": not printable ASCII without quotation marks and backslashes, of at most 256 bytes`},
		"no tokens": {makeBearer(limpet.BearerConfig{Realm: "ü", Leeway: time.Hour}),
			"tokens: missing\nleeway: 1h0m0s: more than 1m0s\n" +
				`realm: "ü": not printable ASCII without quotation marks and backslashes, of at most 256 bytes`},
		"unknown keys": {makeBearer(limpet.BearerConfig{Tokens: tokens, KeySet: "x", Leeway: -1}), `keySet: key set "x" not found` + "\nleeway: -1ns: negative"},
		"no keys":      {makeBearer(limpet.BearerConfig{Tokens: tokens}), `keySet: missing`},
		"algorithms":   {makeBearer(limpet.BearerConfig{Tokens: tokens, KeySet: "k", Algorithms: []string{"none"}}), `algorithms[0]: "none": not one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA, HS256, HS384, HS512`},
	} {
		t.Run(name, func(t *testing.T) {
			if c.err == nil {
				t.Fatal("no error")
			}
			if got := strings.ReplaceAll(c.err.Error(), fielderr.Quote(bad), "FILE"); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
			if _, ok := errors.AsType[*fielderr.Error](c.err); !ok {
				t.Errorf("%T", c.err)
			}
			l.print(name, c.err)
		})
	}
	l.report(t)
}

// signJWT signs claims with an RSA, Ed25519 or HMAC key, by the standard
// library.
func signJWT(t *testing.T, key any, kid, claims string) string {
	t.Helper()
	encode := base64.RawURLEncoding.EncodeToString
	alg := "HS256"
	switch key.(type) {
	case *rsa.PrivateKey:
		alg = "RS256"
	case ed25519.PrivateKey:
		alg = "EdDSA"
	}
	text := encode(fmt.Appendf(nil, `{"alg":%q,"kid":%q}`, alg, kid)) + "." + encode([]byte(claims))
	var signature []byte
	switch key := key.(type) {
	case *rsa.PrivateKey:
		sum := sha256.Sum256([]byte(text))
		var err error
		if signature, err = rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:]); err != nil {
			t.Fatal(err)
		}
	case ed25519.PrivateKey:
		signature = ed25519.Sign(key, []byte(text))
	case []byte:
		m := hmac.New(sha256.New, key)
		m.Write([]byte(text))
		signature = m.Sum(nil)
	}
	return text + "." + encode(signature)
}

// jwk is a public key as an identity provider publishes it.
func jwk(t *testing.T, kid string, key any) json.RawMessage {
	t.Helper()
	encode := base64.RawURLEncoding.EncodeToString
	switch key := key.(type) {
	case *rsa.PrivateKey:
		return fmt.Appendf(nil, `{"kty":"RSA","use":"sig","kid":%q,"n":%q,"e":"AQAB"}`, kid, encode(key.N.Bytes()))
	case ed25519.PrivateKey:
		return fmt.Appendf(nil, `{"kty":"OKP","crv":"Ed25519","kid":%q,"x":%q}`, kid, encode(key.Public().(ed25519.PublicKey)))
	}
	t.Fatalf("%T", key)
	return nil
}

// TestBearerAuthenticator: an identity provider over TLS, in a pool, whose keys
// a virtual service fetches and follows; a rule of the authenticator and of a
// script for the same tokens; no token in any record or log.
func TestBearerAuthenticator(t *testing.T) {
	t.Parallel()
	first, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, second, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	keys := []json.RawMessage{jwk(t, "1", first)}
	idp := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.URL.Path != "/jwks" || r.Host != "idp.example" {
			http.NotFound(w, r)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": keys})
	}))
	defer idp.Close()
	base := lbpool.NewBase()
	base.TLSClientConfig = &tls.Config{RootCAs: x509.NewCertPool()}
	base.TLSClientConfig.RootCAs.AddCert(idp.Certificate())
	defer base.CloseIdleConnections()
	pool := newPool(t, lbpool.Config{Name: "idp", Scheme: "https", Servers: []lbpool.ServerConfig{{Address: idp.Listener.Addr().String()}}})

	events := make(chan jwtkeys.Event, 10)
	secret := []byte("canary-secret-canary-secret-0123")
	tokens, err := jwtkeys.New(jwtkeys.Config{
		KeySets: map[string]jwtkeys.KeySet{
			"login": {URL: "http://idp.example/jwks", Transport: &lbpool.Transport{Pool: pool, Base: base}},
			"hook":  {Secret: secret},
		},
		OnEvent: func(e jwtkeys.Event) { events <- e },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { _ = tokens.Run(ctx) })
	if e := testwait.Receive(t, events, "keys"); e.Keys != 1 || e.Err != nil {
		t.Fatalf("%+v", e)
	}

	auth, err := limpet.NewBearerAuthenticator(limpet.BearerConfig{Tokens: tokens, KeySet: "login", Audience: "shop", Issuer: "idp", Realm: "shop"})
	if err != nil {
		t.Fatal(err)
	}
	l := newLeak("canary", string(secret))
	recs := newRecords()
	listing := userListing + `
-- HTTP_REQ
local claims, why = avi.jwt.verify(avi.http.get_header("authorization"):sub(8), "login", {aud = "shop"})
avi.vs.log("req ", claims and claims.sub, " ", why)
local hook, why = avi.jwt.verify(avi.http.get_header("authorization"):sub(8), "hook")
avi.vs.log("hook ", hook, " ", why)
`
	roles := make(chan string, 10)
	_, site := serve(t, http1, limpet.Config{
		Clients:    limpet.Clients{Authenticator: auth},
		Scripting:  limpet.Scripting{Tokens: tokens},
		Scripts:    []limpet.Script{compile(t, "Users", listing)},
		Pools:      []*lbpool.Pool{poolFor(t, func(_ http.ResponseWriter, r *http.Request) { roles <- r.Header.Get("X-Roles") })},
		Logger:     slog.New(slog.NewJSONHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug})),
		OnComplete: recs.add,
	})
	claims := func(more string) string {
		return fmt.Sprintf(`{"iss":"idp","aud":["shop"],"sub":"ann","canary":1,"exp":%d%s}`, time.Now().Add(time.Hour).Unix(), more)
	}
	try := func(name string, want int, wantError string, authorization ...string) (log []string) {
		t.Helper()
		for _, a := range authorization {
			l.mu.Lock()
			if _, token, ok := strings.Cut(a, " "); ok && len(token) > 20 {
				l.canaries = append(l.canaries, token)
			}
			l.mu.Unlock()
		}
		status, user, header := askAs(t, site, authorization...)
		if status != want || (want == 200) != (user == "ann") {
			t.Errorf("%s: %d, user %q", name, status, user)
		}
		if challenge := header.Get("WWW-Authenticate"); (challenge == `Bearer realm="shop"`) != (want == 401) {
			t.Errorf("%s: challenge %q", name, challenge)
		}
		record := recs.next(t)
		if got := fmt.Sprint(record.Error); got != wantError {
			t.Errorf("%s: error %s, want %s", name, got, wantError)
		}
		l.print(name, record)
		return texts(record.Log)
	}
	good := "Bearer " + signJWT(t, first, "1", claims(`,"roles":["reader",7,true,null,{"a":1}]`))
	log := try("good", 200, "<nil>", good)
	if d := cmp.Diff([]string{"auth with", "post auth ann", "req ann nil", "hook nil algorithm"}, log); d != "" {
		t.Error(d)
	}
	if got := <-roles; got != "reader+7+true" {
		t.Errorf("roles %q", got)
	}
	try("again", 200, "<nil>", strings.Replace(good, "Bearer ", "bEARER   ", 1))
	try("none", 401, "not authenticated: no credentials of this kind")
	try("basic", 401, "not authenticated: no credentials of this kind", basicHeader("ann", "canary"))
	try("empty", 401, "not authenticated: token refused: malformed", "Bearer")
	try("two", 401, "not authenticated: two credentials", good, good)
	try("forged", 401, "not authenticated: token refused: signature", good[:len(good)-8]+"AAAAAAAA")
	try("other kind", 401, "not authenticated: token refused: algorithm", "Bearer "+signJWT(t, secret, "1", claims("")))
	try("other audience", 401, "not authenticated: token refused: audience", "Bearer "+signJWT(t, first, "1", `{"iss":"idp","aud":"desk","sub":"ann"}`))
	try("other issuer", 401, "not authenticated: token refused: issuer", "Bearer "+signJWT(t, first, "1", `{"iss":"evil","aud":"shop","sub":"ann"}`))
	try("expired", 401, "not authenticated: token refused: expired", "Bearer "+signJWT(t, first, "1", `{"iss":"idp","aud":"shop","sub":"ann","exp":1}`))
	try("no expiry", 401, "not authenticated: token without the claim exp", "Bearer "+signJWT(t, first, "1", `{"iss":"idp","aud":"shop","sub":"ann"}`))

	// A token without a usable user opened the site for nobody, or for a user
	// who wrote lines of their own into logs.
	for name, sub := range map[string]string{
		"no user": ``, "empty user": `"sub":"",`, "number as user": `"sub":7,`, "list as user": `"sub":["ann"],`, "null as user": `"sub":null,`,
		"user with a line feed": `"sub":"ann\nbob",`, "user with a NUL": `"sub":"ann\u0000",`, "user with a C1 control": `"sub":"ann\u009b",`,
	} {
		token := signJWT(t, first, "1", fmt.Sprintf(`{"iss":"idp","aud":"shop",%s"exp":%d}`, sub, time.Now().Add(time.Hour).Unix()))
		try(name, 401, "not authenticated: token refused: user", "Bearer "+token)
	}

	next := "Bearer " + signJWT(t, second, "2", claims(""))
	mu.Lock()
	keys = []json.RawMessage{jwk(t, "2", second)} // rotated
	mu.Unlock()
	try("new key", 401, "not authenticated: token refused: unknown key", next) // it asks for the keys
	if e := testwait.Receive(t, events, "the new keys"); e.Keys != 1 || e.Err != nil {
		t.Fatalf("%+v", e)
	}
	try("new key, fetched", 200, "<nil>", next)
	try("old key", 401, "not authenticated: token refused: unknown key", good)
	l.print("authenticator", auth)
	l.print("tokens", tokens)
	l.print("set", jwtkeys.Config{KeySets: map[string]jwtkeys.KeySet{"hook": {Secret: secret}}})
	l.report(t)
}

// TestAuthenticatorBusy: what cannot be checked now is not refused for good.
func TestAuthenticatorBusy(t *testing.T) {
	res, _, record := serveOne(t, "-- HTTP_REQ\navi.vs.log('never')", echo, func(c *limpet.Config) { c.Authenticator = busy{} }, httptest.NewRequest("GET", "/", nil))
	if res.StatusCode != 503 || res.Header.Get("Retry-After") != "1" || res.Header.Get("WWW-Authenticate") != "" || len(record.Log) > 0 {
		t.Errorf("%d, %v, %v", res.StatusCode, res.Header, record.Log)
	}
	if record.Error == nil || record.Error.Error() != "not authenticated: busy" {
		t.Error(record.Error)
	}
}

type busy struct{}

func (busy) Challenge() string                                  { return "Busy" }
func (busy) Authenticate(*http.Request) (limpet.Session, error) { return limpet.Session{}, busy{} }
func (busy) Error() string                                      { return "busy" }
func (busy) Unavailable() bool                                  { return true }
