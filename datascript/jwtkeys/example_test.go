package jwtkeys_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"log"

	"github.com/limpetlb/limpet/datascript/jwtkeys"
)

func Example() {
	secret := []byte("a secret of at least 32 bytes...")
	tokens, err := jwtkeys.New(jwtkeys.Config{KeySets: map[string]jwtkeys.KeySet{
		"hook": {Secret: secret}, // or SecretFile; File or URL for public keys
	}})
	if err != nil {
		log.Fatal(err)
	}

	encode := base64.RawURLEncoding.EncodeToString
	token := encode([]byte(`{"alg":"HS256"}`)) + "." + encode([]byte(`{"sub":"ann","aud":"shop"}`))
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(token))
	token += "." + encode(mac.Sum(nil))

	claims, reason, _, err := tokens.VerifyToken(jwtkeys.TokenCheck{Token: token, KeySet: "hook", Algorithms: []string{"HS256"}, Audience: "shop"})
	fmt.Println(claims, reason, err)

	_, reason, _, err = tokens.VerifyToken(jwtkeys.TokenCheck{Token: token, KeySet: "hook", Algorithms: []string{"HS256"}, Audience: "desk"})
	fmt.Println(reason, err)
	// Output:
	// {"sub":"ann","aud":"shop"}  <nil>
	// audience <nil>
}
