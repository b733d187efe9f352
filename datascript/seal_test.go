package datascript

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/limpetlb/limpet/internal/testrace"
)

// What a client keeps, and changes, is refused: whatever bit it flips,
// wherever it cuts, and if it belongs to another name, version or key. All of
// it with one text, which gives nothing away.
func TestSealForgeries(t *testing.T) {
	e := newEngine(t, Env{})
	const key, other = "0123456789abcdef0123456789abcdef", "0123456789abcdef0123456789abcdeF"
	x := newExchange()
	opens := mustCompile(t, Chunk{Event: HTTPReq, Source: `
		local get = avi.http.get_reqvar
		avi.vs.log(avi.crypto.open(get("sealed"), get("key"), get("context")))`})
	try := func(sealed, key, context string) (string, error) {
		set := fmt.Sprintf("avi.http.set_reqvar('sealed', %s) avi.http.set_reqvar('key', %s) avi.http.set_reqvar('context', %s)", quoteLua(sealed), quoteLua(key), quoteLua(context))
		if err := runAt(t, e, HTTPReq, x, set); err != nil {
			t.Fatal(err)
		}
		x.logs = nil
		if err := e.Run(t.Context(), opens, HTTPReq, x); err != nil {
			return "", err
		}
		return x.logged()[0], nil
	}
	seal := func(text string) string {
		x := newExchange()
		if err := runAt(t, e, HTTPReq, x, fmt.Sprintf(`avi.vs.log(avi.utils.base64_encode(avi.crypto.seal(%q, %q, "session v1")))`, text, key)); err != nil {
			t.Fatal(err)
		}
		sealed, err := base64.StdEncoding.DecodeString(x.logged()[0])
		if err != nil {
			t.Fatal(err)
		}
		return string(sealed)
	}
	a, b := seal("user=1"), seal("user=2")
	if text, err := try(a, key, "session v1"); err != nil || text != "user=1" {
		t.Fatalf("the sealed text opens as %q, %v", text, err)
	}

	refused, texts := 0, map[string]bool{}
	refuse := func(what, sealed, key, context string) {
		t.Helper()
		refused++
		text, err := try(sealed, key, context)
		if err == nil {
			t.Errorf("%s: opens as %q", what, text)
			return
		}
		texts[err.Error()] = true
	}
	for i := range len(a) * 8 {
		flipped := []byte(a)
		flipped[i/8] ^= 1 << (i % 8)
		refuse(fmt.Sprint("bit ", i), string(flipped), key, "session v1")
	}
	for n := range a {
		refuse(fmt.Sprint("cut to ", n), a[:n], key, "session v1")
		refuse(fmt.Sprint("without its first ", n+1), a[n+1:], key, "session v1")
	}
	const nonce = 12
	refuse("two swapped: nonce", b[:nonce]+a[nonce:], key, "session v1")
	refuse("two swapped: tag", a[:len(a)-16]+b[len(b)-16:], key, "session v1")
	refuse("twice", a+a, key, "session v1")
	refuse("longer", a+"\x00", key, "session v1")
	refuse("another name", a, key, "cart v1")
	refuse("another version", a, key, "session v2")
	refuse("no name", a, key, "")
	refuse("another key", a, other, "session v1")
	refuse("a shorter key", a, key[:16], "session v1")
	if len(texts) != 1 {
		t.Errorf("%d forgeries were refused in %d ways: %v", refused, len(texts), texts)
	}
	for text := range texts {
		if !strings.HasSuffix(text, "cannot be decrypted with this key)") {
			t.Errorf("refused with %q", text)
		}
	}
	t.Logf("%d forgeries", refused)
}

// Nonces do not come again, so what one key seals stays secret. The full
// length takes some five seconds.
func TestSealNonces(t *testing.T) {
	seals := 1 << 16
	switch {
	case *full:
		seals = 1 << 20
	case testrace.Enabled:
		seals = 1 << 10
	case testing.Short():
		seals = 1 << 10
	}
	e := newEngine(t, Env{Limits: Limits{Instructions: -1, Time: -1, StringBytes: -1}})
	_, err := runRequest(t, e, fmt.Sprintf(`
		local seal, seen = avi.crypto.seal, {}
		for i = 1, %d do
			local nonce = seal("", "0123456789abcdef"):sub(1, 12)
			assert(not seen[nonce], "a nonce came again")
			seen[nonce] = true
		end`, seals))
	if err != nil {
		t.Error(err)
	}
}
