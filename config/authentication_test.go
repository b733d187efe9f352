package config

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/bcrypt"

	"github.com/limpetlb/limpet/internal/testfiles"
	"github.com/limpetlb/limpet/internal/testwait"
)

// whoScript answers with who the client is.
const whoScript = `-- HTTP_REQ
avi.http.response(200, {}, "user " .. (avi.http.get_userid() or "none") .. " " .. (who or ""))
-- HTTP_POST_AUTH
who = "after auth"
`

// user is a line of an htpasswd file.
func user(t *testing.T, name, password string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), 4)
	if err != nil {
		t.Fatal(err)
	}
	return name + ":" + string(hash) + "\n"
}

// keys are a pair of keys and the set with the public one.
type keys struct {
	ed25519.PrivateKey
	set string
}

func newKeys(t *testing.T) keys {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return keys{private, fmt.Sprintf(`{"keys":[{"kty":"OKP","crv":"Ed25519","x":%q}]}`, base64.RawURLEncoding.EncodeToString(public))}
}

// tokenOf is the header Authorization with a token of ann.
func tokenOf(alg, audience string, sign func([]byte) []byte) string {
	encode := base64.RawURLEncoding.EncodeToString
	text := encode(fmt.Appendf(nil, `{"alg":%q}`, alg)) + "." +
		encode(fmt.Appendf(nil, `{"sub":"ann","iss":"idp","aud":%q,"exp":%d}`, audience, time.Now().Add(time.Hour).Unix()))
	return "Bearer " + text + "." + encode(sign([]byte(text)))
}

func (k keys) token(audience string) string {
	return tokenOf("EdDSA", audience, func(text []byte) []byte { return ed25519.Sign(k.PrivateKey, text) })
}

func secretToken(secret string) string {
	return tokenOf("HS256", "shop", func(text []byte) []byte {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write(text)
		return mac.Sum(nil)
	})
}

func password(name, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+password))
}

// as returns status, challenge and body of an answer to a request of a client.
func (h *house) as(authorization, host string) string {
	h.Helper()
	r, err := http.NewRequestWithContext(h.Context(), http.MethodGet, "http://"+h.at["listen"]+"/", nil)
	if err != nil {
		h.Fatal(err)
	}
	if r.Host = host; authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
	if err != nil {
		h.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		h.Fatal(err)
	}
	if res.StatusCode == http.StatusUnauthorized {
		return "401 " + res.Header.Get("WWW-Authenticate")
	}
	return fmt.Sprintf("%d %s", res.StatusCode, strings.TrimSpace(string(body)))
}

// put replaces a file of the house.
func (h *house) put(name, text string) {
	h.Helper()
	path := filepath.Join(h.dir, name)
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		h.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		h.Fatal(err)
	}
}

// A file alone makes clients log in, and runs the events of authentication. A
// new file of users is loaded while the runtime runs, and at an update; a bad
// one changes nothing.
func TestBasicAuthentication(t *testing.T) {
	t.Parallel()
	const text = `authentication: {basic: {file: conf/users, realm: shop}}
scripts: [{file: who.lua}]
`
	lines := newCounter()
	h := open(t, map[string]string{
		"limpet.yaml": text, "who.lua": whoScript, "conf/users": user(t, "ann", "one"), "other": user(t, "eve", "six"),
	}, Options{Logger: slog.New(lines)})
	const refused, ann = `401 Basic realm="shop", charset="UTF-8"`, "200 user ann after auth"
	check := func(authorization, want string) {
		t.Helper()
		if got := h.as(authorization, "a"); got != want {
			t.Errorf("%s: %s, not %s", authorization, got, want)
		}
	}
	check("", refused)
	check(password("ann", "one"), ann)
	check(password("ann", "two"), refused)

	h.put("conf/users", user(t, "ann", "one")+user(t, "bob", "two"))
	testwait.Until(t, "a new user", func() bool { return h.as(password("bob", "two"), "a") == "200 user bob after auth" })
	testwait.Until(t, "a line about it", func() bool { return lines.of("INFO users reloaded") == 1 })
	h.put("conf/users", "bob:two\n")
	testwait.Until(t, "a line about a bad file", func() bool { return lines.of("WARN users not reloaded") == 1 })
	check(password("ann", "one"), ann)

	// The bad file is a fault of an update, which changes nothing.
	if _, err := Load(t.Context(), filepath.Join(h.dir, "limpet.yaml")); err == nil || !strings.Contains(err.Error(), "limpet.yaml:1:32: authentication.basic.file: ") || strings.Contains(err.Error(), "two") {
		t.Errorf("a plain password: %v", err)
	}
	changes, err := h.rewrite(strings.Replace(text, "conf/users, realm: shop", "other, realm: desk", 1))
	if diff := cmp.Diff(Changes{Live: []string{"authentication"}}, changes); err != nil || diff != "" {
		t.Errorf("%v, %s", err, diff)
	}
	check(password("ann", "one"), `401 Basic realm="desk", charset="UTF-8"`)
	check(password("eve", "six"), "200 user eve after auth")
	h.put("other", user(t, "ann", "one"))
	testwait.Until(t, "a user of the other file", func() bool { return h.as(password("ann", "one"), "a") == ann })
	if _, err := h.rewrite("scripts: [{file: who.lua}]\n"); err != nil {
		t.Fatal(err)
	}
	check("", "200 user none")
}

// An update loads the files, also if nothing runs.
func TestAuthenticationUpdate(t *testing.T) {
	k, next := newKeys(t), newKeys(t)
	dir := testfiles.Write(t, map[string]string{
		"users": user(t, "ann", "one"), "keys.json": k.set, "who.lua": whoScript, "limpet.yaml": `keySets: [{name: login, file: keys.json}]
scripts: [{name: who, file: who.lua}]
services:
  - {name: a, hosts: [a], authentication: {basic: {file: users}}, scripts: [who]}
  - {name: b, hosts: [b], authentication: {bearer: {keySet: login, audience: shop}}, scripts: [who]}
`})
	path := filepath.Join(dir, "limpet.yaml")
	f, err := Load(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	rt, err := f.Build(Options{})
	if err != nil {
		t.Fatal(err)
	}
	status := func(service, authorization string) int {
		vs, _ := rt.Service(service)
		w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Authorization", authorization)
		vs.ServeHTTP(w, r)
		return w.Code
	}
	if a, b := status("a", password("ann", "one")), status("b", k.token("shop")); a != 200 || b != 200 {
		t.Errorf("%d, %d", a, b)
	}
	for name, text := range map[string]string{"users": user(t, "ann", "two"), "keys.json": next.set} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if f, err = Load(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	changes, err := rt.Update(f)
	if diff := cmp.Diff(Changes{Live: []string{"keySets[0].file", "services[0].authentication.file"}}, changes); err != nil || diff != "" {
		t.Errorf("%v, %s", err, diff)
	}
	for authorization, want := range map[string]int{password("ann", "one"): 401, password("ann", "two"): 200} {
		if got := status("a", authorization); got != want {
			t.Errorf("%s: %d", authorization, got)
		}
	}
	for authorization, want := range map[string]int{k.token("shop"): 401, next.token("shop"): 200, next.token("desk"): 401} {
		if got := status("b", authorization); got != want {
			t.Errorf("%s: %d, not %d", authorization, got, want)
		}
	}
}

// Tokens are verified with the keys of a file, which may change, of a secret
// from elsewhere, and of a set that one service has for itself. Scripts have
// the same sets.
func TestBearerAuthentication(t *testing.T) {
	t.Parallel()
	const secret = "a secret of at least 32 bytes..."
	first, second, private := newKeys(t), newKeys(t), newKeys(t)
	lines := newCounter()
	h := open(t, map[string]string{
		"who.lua": whoScript, "login.json": first.set, "own.json": private.set, "hook.secret": secret,
		"sets.lua": `-- HTTP_REQ
local token, all = (avi.http.get_header("Authorization") or ""):sub(8), ""
for _, set in ipairs({"login", "hook", "file", "own"}) do
   local ok, claims, why = pcall(avi.jwt.verify, token, set)
   all = all .. set .. ":" .. (not ok and "unknown" or claims and claims.sub or why) .. " "
end
avi.http.response(200, {}, all)
`,
		"limpet.yaml": `keySets:
  - {name: login, file: login.json}
  - {name: hook, secret: {file: hook.secret}}
  - {name: file, secretFile: hook.secret}
scripts: [{name: who, file: who.lua}, {name: sets, file: sets.lua}]
services:
  - {name: a, hosts: [a], scripts: [who], authentication: {bearer: {keySet: login, issuer: idp, audience: shop, algorithms: [EdDSA], leeway: 30s, realm: shop}}}
  - {name: b, hosts: [b], scripts: [who], authentication: {bearer: {keySet: hook, userClaim: iss}}}
  - {name: c, hosts: [c], scripts: [who], keySets: [login, {name: own, file: own.json}], authentication: {bearer: {keySet: own}}}
  - {name: d, hosts: [d], scripts: [sets]}
  - {name: e, hosts: [e], scripts: [sets], keySets: [{name: own, file: own.json}]}
`}, Options{Logger: slog.New(lines)})
	const refused = `401 Bearer realm="limpet"`
	for _, c := range []struct{ host, authorization, want string }{
		{"a", "", `401 Bearer realm="shop"`},
		{"a", first.token("shop"), "200 user ann after auth"},
		{"a", first.token("desk"), `401 Bearer realm="shop"`},
		{"a", private.token("shop"), `401 Bearer realm="shop"`},
		{"b", secretToken(secret), "200 user idp after auth"},
		{"b", secretToken("another secret of 32 bytes......"), refused},
		{"b", first.token("shop"), refused},
		{"c", private.token("x"), "200 user ann after auth"},
		{"c", first.token("shop"), refused},
		{"d", first.token("x"), "200 login:ann hook:algorithm file:algorithm own:unknown"},
		{"d", secretToken(secret), "200 login:algorithm hook:ann file:ann own:unknown"},
		{"e", private.token("x"), "200 login:signature hook:algorithm file:algorithm own:ann"},
	} {
		if got := h.as(c.authorization, c.host); got != c.want {
			t.Errorf("%s: %s, not %s", c.host, got, c.want)
		}
	}
	h.put("login.json", second.set)
	testwait.Until(t, "the new keys", func() bool { return h.as(second.token("shop"), "a") == "200 user ann after auth" })
	if got := h.as(first.token("shop"), "a"); got != `401 Bearer realm="shop"` {
		t.Errorf("old keys: %s", got)
	}
	testwait.Until(t, "a line about it", func() bool { return lines.of("INFO key set changed") == 1 })
	h.put("login.json", "{}")
	testwait.Until(t, "a line about bad keys", func() bool { return lines.of("WARN key set not changed") == 1 })
	if got := h.as(second.token("shop"), "a"); got != "200 user ann after auth" {
		t.Errorf("after a bad file: %s", got)
	}
}

// Keys are fetched from the servers of a pool, which no service need have, over
// TLS. An update keeps them: no token is refused until they are fetched again.
func TestFetchedKeys(t *testing.T) {
	t.Parallel()
	k := newKeys(t)
	var down atomic.Bool
	var asked sync.Map
	idp := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Store(r.Host+r.RequestURI, true)
		if down.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, k.set)
	}))
	defer idp.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: idp.Certificate().Raw})
	text := fmt.Sprintf(`keySets: [{name: login, url: "https://idp.example/keys?v=1", pool: idp, interval: 10s, tls: {ca: ca.pem, serverName: example.com}}]
pools: [{name: idp, scheme: https, servers: [{address: "%s"}], healthMonitors: [{checker: tcp, interval: 1s}], startDown: true}]
scripts: [{name: who, file: who.lua}]
services: [{name: a, scripts: [who], authentication: {bearer: {keySet: login, audience: shop}}}]
`, idp.Listener.Addr())
	lines := newCounter()
	h := open(t, map[string]string{"who.lua": whoScript, "ca.pem": string(ca), "limpet.yaml": text}, Options{Logger: slog.New(lines)})
	good := k.token("shop")
	testwait.Until(t, "the keys", func() bool { return h.as(good, "a") == "200 user ann after auth" })
	if _, ok := asked.Load("idp.example/keys?v=1"); !ok {
		asked.Range(func(url, _ any) bool { t.Errorf("asked for %s", url); return true })
	}
	down.Store(true)
	if _, err := h.rewrite(strings.Replace(text, "audience: shop", "audience: shop, realm: x", 1)); err != nil {
		t.Fatal(err)
	}
	if got := h.as(good, "a"); got != "200 user ann after auth" {
		t.Errorf("after an update: %s", got)
	}
	testwait.Until(t, "a line about the provider", func() bool { return lines.of("WARN key set not changed") > 0 })

	// The same as objects of the service.
	down.Store(false)
	shared, services, _ := strings.Cut(text, "scripts: [{")
	own := strings.ReplaceAll(strings.TrimSpace(shared), "\n", ", ")
	services = "scripts: [{" + strings.Replace(services, "name: a, scripts", "name: a, "+own+", scripts", 1)
	if _, err := h.rewrite(services); err != nil {
		t.Fatal(err)
	}
	testwait.Until(t, "the keys of the service", func() bool { return h.as(good, "a") == "200 user ann after auth" })
	if _, err := h.rewrite(services + "# again\n"); err != nil {
		t.Fatal(err)
	}
	if got := h.as(good, "a"); got != "200 user ann after auth" {
		t.Errorf("after another update: %s", got)
	}
}

// What is wrong with key sets and authenticators is reported where it stands,
// with what may have been meant, and without secrets.
func TestAuthenticationFaults(t *testing.T) {
	const hush = "hush-hush"
	files := map[string]string{"login.json": newKeys(t).set, "short.secret": hush, "private.json": `{"keys":[{"kty":"oct","k":"aHVzaC1odXNo"}]}`, "users": "ann:" + hush + "\n"}
	for _, c := range []struct {
		name, text string
		want       []string // lines
	}{
		{"no such key set", "keySets: [{name: login, file: login.json}]\nauthentication: {bearer: {keySet: logni}}", []string{
			`2:35: authentication.bearer.keySet: key set "logni" not found; did you mean "login"?`,
		}},
		{"no key sets", "authentication: {bearer: {keySet: login}}", []string{`1:35: authentication.bearer.keySet: key set "login" not found`}},
		{"no name of a set", "authentication: bearer", []string{"1:17: authentication.bearer.keySet: missing"}},
		{"options of bearer", "keySets: [{name: login, file: login.json}]\nauthentication: {bearer: {keySet: login, leeway: -1s, algorithms: [EdDSA, RS265], realm: 'a\"b'}}", []string{
			`2:50: authentication.bearer.leeway: -1s: negative`,
			`2:75: authentication.bearer.algorithms[1]: "RS265": not one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA, HS256, HS384, HS512; did you mean "RS256"?`,
			`2:90: authentication.bearer.realm: "a\"b": not printable ASCII without quotation marks and backslashes, of at most 256 bytes`,
		}},
		{"no file", "authentication: basic", []string{"1:17: authentication.basic.file: missing"}},
		{"no such file", "authentication: {basic: {file: none}}", []string{`1:32: authentication.basic.file: stat DIR/none: no such file or directory`}},
		{"file and realm", "authentication: {basic: {file: none, realm: 'ü'}}", []string{
			`1:32: authentication.basic.file: stat DIR/none: no such file or directory`,
			`1:45: authentication.basic.realm: "ü": not printable ASCII without quotation marks and backslashes, of at most 256 bytes`,
		}},
		{"plain passwords", "authentication: {basic: {file: users}}", []string{
			`1:32: authentication.basic.file: "users": line 1: user "ann": a plain password or a DES hash is not supported; make a bcrypt hash, with htpasswd -B`,
		}},
		{"kind", "authentication: {digest: {file: users}}", []string{`1:18: authentication: "digest" is not one of basic, bearer`}},
		{"two kinds", "authentication: {basic: {file: users}, bearer: {}}", []string{"1:17: authentication: want one of basic, bearer, not a mapping"}},
		{"names", "keySets: [{file: login.json}, {name: a, file: login.json}, {name: a, file: login.json}]", []string{
			`1:11: keySets[0].name: "" is empty or taken`, `1:67: keySets[2].name: "a" is empty or taken`,
		}},
		{"sources", "keySets: [{name: a}, {name: b, file: login.json, secretFile: short.secret}, {name: c, file: none}, {name: d, secretFile: short.secret}]\nauthentication: {bearer: {keySet: a}}", []string{
			"1:11: keySets[0]: exactly one of file, url, secretFile and secret must be set, not 0",
			"1:22: keySets[1]: exactly one of file, url, secretFile and secret must be set, not 2",
			`1:93: keySets[2].file: stat DIR/none: no such file or directory`,
			`1:122: keySets[3].secretFile: "short.secret": a secret of 9 bytes is not between 32 and 65536`,
		}},
		{"secret keys", "keySets: [{name: a, file: private.json}]", []string{`1:27: keySets[0].file: "private.json": keys[0]: a secret key; a key set has public keys only`}},
		{"short secret", "keySets: [{name: a, secret: " + hush + "}]", []string{"1:29: keySets[0].secret: a secret of 9 bytes is not between 32 and 65536"}},
		{"secret that is no text", "keySets: [{name: a, secret: [" + hush + "]}]", []string{"1:29: keySets[0].secret: want a text, not what is there"}},
		{"secret as a file", "keySets: [{name: a, secretFile: \"" + hush + "\\n\"}]", []string{"1:33: keySets[0].secretFile: the name of a file has no line breaks"}},
		{"fetched", "keySets: [{name: a, pool: x}, {name: b, url: 'http://idp/k'}, {name: c, url: 'http://u:hush@idp', pool: wep}, {name: d, url: 'ftp://idp', pool: web, interval: 1s}]\npools: [{name: web, servers: [{address: 10.0.0.1}]}]", []string{
			"1:11: keySets[0].url: missing; pool, tls and interval belong to it", "1:31: keySets[1].pool: missing; its servers are asked for url",
			`1:105: keySets[2].pool: pool "wep" not found; did you mean "web"?`,
			`1:126: keySets[3].url: "ftp://idp": not an absolute URL of http or https`, "1:160: keySets[3].interval: 1s: less than 10s",
		}},
		{"beside several services", "services: [{name: a}]\nauthentication: {basic: {file: users}}", []string{"2:1: authentication: in a file with services, write it in one of them"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !strings.Contains(c.text, "pools:") {
				c.text += "\npools: [{name: web, servers: [{address: 10.0.0.1}]}]"
			}
			all := map[string]string{"a.yaml": c.text}
			maps.Copy(all, files)
			_, errs := loaded(t, all, "a.yaml")
			want := "DIR/a.yaml:" + strings.Join(c.want, "\nDIR/a.yaml:")
			if diff := cmp.Diff(want, errs); diff != "" || strings.Contains(errs, "hush-") {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A configuration that is no file of the system names files that are watched by
// their absolute names.
func TestAuthenticationParsed(t *testing.T) {
	k := newKeys(t)
	dir := testfiles.Write(t, map[string]string{"users": user(t, "ann", "one"), "keys.json": k.set})
	text := "authentication: {basic: {file: users}}\nkeySets: [{name: a, file: keys.json}]\nhttpSecurity: [{name: a, action: {respond: {status: 200}}}]\n"
	fsys := fstest.MapFS{"users": {Data: []byte(user(t, "ann", "one"))}, "keys.json": {Data: []byte(k.set)}}
	_, err := Parse(t.Context(), "text", []byte(text), fsys)
	want := "text:1:32: authentication.basic.file: \"users\": not an absolute name, which a configuration that is no file needs\n" +
		"text:2:27: keySets[0].file: \"keys.json\": not an absolute name, which a configuration that is no file needs"
	if fmt.Sprint(err) != want {
		t.Errorf("%v", err)
	}
	text = strings.NewReplacer("file: users", "file: "+dir+"/users", "file: keys", "file: "+dir+"/keys").Replace(text)
	f, err := Parse(t.Context(), "text", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Build(Options{}); err != nil {
		t.Fatal(err)
	}
}

// Nothing that the runtime logs has a secret in it.
func TestAuthenticationLog(t *testing.T) {
	t.Parallel()
	const secret = "canary-secret-canary-secret-0123"
	var log bytes.Buffer
	var mu sync.Mutex
	k := newKeys(t)
	h := open(t, map[string]string{
		"who.lua": whoScript, "keys.json": k.set, "users": user(t, "ann", "canary-password"),
		"limpet.yaml": `keySets: [{name: a, file: keys.json}, {name: hook, secret: ` + secret + `}]
scripts: [{name: who, file: who.lua}]
services:
  - {name: a, hosts: [a], scripts: [who], authentication: {basic: {file: users}}, logging: {otherRate: 1000}}
  - {name: b, hosts: [b], scripts: [who], authentication: {bearer: {keySet: hook}}, logging: {otherRate: 1000}}
`}, Options{Logger: slog.New(slog.NewTextHandler(lockedWriter{&mu, &log}, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	good := secretToken(secret)
	for authorization, host := range map[string]string{password("ann", "canary-password"): "a", password("ann", "canary-wrong"): "a", good: "b", good + "x": "b"} {
		h.as(authorization, host)
	}
	h.put("keys.json", `{"keys":[{"kty":"oct","k":"canary"}]}`)
	h.put("users", "ann:canary\n")
	text := func() string {
		mu.Lock()
		defer mu.Unlock()
		return log.String()
	}
	testwait.Until(t, "lines about bad files", func() bool {
		return strings.Contains(text(), "key set not changed") && strings.Contains(text(), "users not reloaded")
	})
	for _, canary := range []string{"canary", strings.TrimPrefix(good, "Bearer "), base64.StdEncoding.EncodeToString([]byte("ann:canary-password"))} {
		if strings.Contains(text(), canary) {
			t.Errorf("the log has %q:\n%s", canary, text())
		}
	}
}

// A lockedWriter writes for one at a time.
type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}
