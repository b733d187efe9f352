package main

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/limpetlb/limpet/internal/testfiles"
)

// The users of these lines have the password "correct horse".
const (
	ann = "ann:$2y$04$CItJxticodpt1rWdLi.fMu4DFPtlLjZE9juDJiZS7ltlq2Z3Z/lWO\n"
	bob = "bob:$2y$04$CItJxticodpt1rWdLi.fMu4DFPtlLjZE9juDJiZS7ltlq2Z3Z/lWO\n"
)

// The command makes clients log in as the file says, and scripts see who they
// are; users and keys follow their files, without a signal.
func TestServeAuthenticates(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s", r.Header.Get("X-Before"), r.Header.Get("X-User"))
	}))
	defer server.Close()
	var sets [2]string
	var private [2]ed25519.PrivateKey
	for i := range sets {
		public, key, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		set, err := json.Marshal(map[string]any{"keys": []any{map[string]string{"kty": "OKP", "crv": "Ed25519", "x": base64.RawURLEncoding.EncodeToString(public)}}})
		if err != nil {
			t.Fatal(err)
		}
		sets[i], private[i] = string(set), key
	}
	token := func(i int, audience string) string {
		encode := base64.RawURLEncoding.EncodeToString
		text := encode([]byte(`{"alg":"EdDSA"}`)) + "." + encode(fmt.Appendf(nil, `{"sub":"eve","aud":%q,"exp":%d}`, audience, time.Now().Add(time.Hour).Unix()))
		return "Bearer " + text + "." + encode(ed25519.Sign(private[i], []byte(text)))
	}
	text := fmt.Sprintf(`listeners: [{name: http, address: "127.0.0.1:0"}]
keySets: [{name: login, file: login.json}]
pools: [{name: web, servers: [{address: %s}]}]
scripts: [{name: who, file: who.lua}]
services:
  - {name: shop, hosts: [shop.example.com], pools: [web], scripts: [who], authentication: {basic: {file: users, realm: shop}}}
  - {name: api, hosts: [api.example.com], pools: [web], scripts: [who], authentication: {bearer: {keySet: login, audience: shop}}}
`, server.Listener.Addr())
	dir := testfiles.Write(t, map[string]string{
		"limpet.yaml": text, "users": ann, "login.json": sets[0],
		"who.lua": `-- HTTP_AUTH
avi.http.replace_header("X-Before", avi.http.get_userid() or "nobody")
-- HTTP_POST_AUTH
avi.http.replace_header("X-User", avi.http.get_userid())
`})
	put := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	p := start(t, filepath.Join(dir, "limpet.yaml"))
	client := &http.Client{Timeout: hangLimit, Transport: &http.Transport{DisableKeepAlives: true}}
	ask := func(host, authorization string) string {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if r.Host = host; authorization != "" {
			r.Header.Set("Authorization", authorization)
		}
		res, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		if res.StatusCode != http.StatusOK {
			return fmt.Sprint(res.StatusCode, " ", res.Header.Get("WWW-Authenticate"))
		}
		return string(body)
	}
	check := func(host, authorization, want string) {
		t.Helper()
		if got := ask(host, authorization); got != want {
			t.Errorf("%s: %s, not %s", host, got, want)
		}
	}
	basic := func(name, password string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+password))
	}
	const shop, api = "shop.example.com", "api.example.com"
	const noPassword, noToken = `401 Basic realm="shop", charset="UTF-8"`, `401 Bearer realm="limpet"`
	check(shop, "", noPassword)
	check(shop, basic("ann", "correct horse"), "ann ann")
	check(shop, basic("ann", "wrong"), noPassword)
	check(shop, token(0, "shop"), noPassword)
	check(api, token(0, "shop"), "nobody eve")
	check(api, token(0, "desk"), noToken)
	check(api, token(1, "shop"), noToken)
	check(api, basic("ann", "correct horse"), noToken)

	put("users", ann+bob)
	p.await("users reloaded")
	check(shop, basic("bob", "correct horse"), "bob bob")
	put("login.json", sets[1])
	p.await("key set changed")
	check(api, token(0, "shop"), noToken)
	check(api, token(1, "shop"), "nobody eve")

	// A bad file changes nothing, watched or at a reload.
	put("users", "ann:plain\n")
	p.await("users not reloaded")
	check(shop, basic("bob", "correct horse"), "bob bob")
	p.signal(syscall.SIGHUP)
	if line := p.await("configuration not changed"); !strings.Contains(line, "authentication.basic.file") {
		t.Error(line)
	}
	check(shop, basic("bob", "correct horse"), "bob bob")
	put("users", bob)
	put("limpet.yaml", strings.Replace(text, "realm: shop", "realm: desk", 1))
	p.signal(syscall.SIGHUP)
	p.await("configuration changed")
	check(shop, basic("ann", "correct horse"), strings.Replace(noPassword, "shop", "desk", 1))
	check(shop, basic("bob", "correct horse"), "bob bob")
	check(api, token(1, "shop"), "nobody eve")
	p.end()
}
