package limpet_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/datascript/jwtkeys"
)

// Users with passwords, in a file of the tool htpasswd.
func ExampleNewBasicAuthenticator() {
	dir, err := os.MkdirTemp("", "limpet")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "users")
	// htpasswd -cB -C 4 users ann; the password is "correct horse".
	const users = "ann:$2y$04$CItJxticodpt1rWdLi.fMu4DFPtlLjZE9juDJiZS7ltlq2Z3Z/lWO\n"
	if err := os.WriteFile(file, []byte(users), 0o600); err != nil {
		log.Fatal(err)
	}

	auth, err := limpet.NewBasicAuthenticator(limpet.BasicConfig{File: file, Realm: "shop"})
	if err != nil {
		log.Fatal(err)
	}
	vs, err := limpet.New(limpet.Config{Clients: limpet.Clients{Authenticator: auth}})
	if err != nil {
		log.Fatal(err)
	}
	h := vs.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tx, _ := limpet.TransactionFrom(r.Context())
		fmt.Fprintf(w, "hello %s", tx.UserID())
	}))

	for _, password := range []string{"correct horse", "wrong"} {
		r := httptest.NewRequest("GET", "/", nil)
		r.SetBasicAuth("ann", password)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		fmt.Println(w.Code, strings.TrimSpace(w.Body.String()))
		fmt.Println("challenge:", w.Header().Get("WWW-Authenticate") != "")
	}
	// Output:
	// 200 hello ann
	// challenge: false
	// 401 Unauthorized
	// challenge: true
}

// Tokens that a key set verifies.
func ExampleNewBearerAuthenticator() {
	secret := []byte("a secret of at least 32 bytes...")
	tokens, err := jwtkeys.New(jwtkeys.Config{KeySets: map[string]jwtkeys.KeySet{
		"hook": {Secret: secret}, // or File, URL: see package jwtkeys
	}})
	if err != nil {
		log.Fatal(err)
	}
	auth, err := limpet.NewBearerAuthenticator(limpet.BearerConfig{Tokens: tokens, KeySet: "hook", Audience: "shop"})
	if err != nil {
		log.Fatal(err)
	}
	vs, err := limpet.New(limpet.Config{Clients: limpet.Clients{Authenticator: auth}})
	if err != nil {
		log.Fatal(err)
	}
	h := vs.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tx, _ := limpet.TransactionFrom(r.Context())
		fmt.Fprintf(w, "hello %s", tx.UserID())
	}))

	encode := base64.RawURLEncoding.EncodeToString
	for _, audience := range []string{"shop", "desk"} {
		token := encode([]byte(`{"alg":"HS256"}`)) + "." +
			encode(fmt.Appendf(nil, `{"sub":"ann","aud":%q,"exp":%d}`, audience, time.Now().Add(time.Minute).Unix()))
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(token))

		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Authorization", "Bearer "+token+"."+encode(mac.Sum(nil)))
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		fmt.Println(w.Code, strings.TrimSpace(w.Body.String()))
	}
	// Output:
	// 200 hello ann
	// 401 Unauthorized
}
