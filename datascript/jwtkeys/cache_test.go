package jwtkeys

import (
	"context"
	"crypto"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limpetlb/limpet/internal/testrace"
)

// TestCacheBound: more tokens than there is room for, and tokens that are too
// long for the cache.
func TestCacheBound(t *testing.T) {
	v, k := newVerifier(t), testKeys()
	for i := range 6000 {
		x := token(t, "HS256", k.secret, "", fmt.Sprintf(`{"sub":"%d"}`, i))
		if _, reason, n, _ := v.VerifyToken(TokenCheck{Token: x, KeySet: "secret"}); reason != "" || n != 1 {
			t.Fatalf("%q, %d", reason, n)
		}
	}
	if n := v.cache.count(); n < 3500 || n > 4096 {
		t.Errorf("%d tokens", n)
	}
}

// TestForgeries: whatever somebody invents, nothing is kept of it, and it does
// not displace what is good.
func TestForgeries(t *testing.T) {
	v, k := newVerifier(t), testKeys()
	good := token(t, "HS256", k.secret, "", sub)
	head := b64([]byte(`{"alg":"HS256"}`)) + "."
	verify := func(x string) (string, int) {
		_, reason, n, err := v.VerifyToken(TokenCheck{Token: x, KeySet: "secret"})
		if err != nil {
			t.Fatal(err)
		}
		return reason, n
	}
	if reason, _ := verify(good); reason != "" {
		t.Fatal(reason)
	}
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	n := 100_000
	if testrace.Enabled || testing.Short() {
		n = 5_000
	}
	for i := range n {
		x := head + b64(fmt.Appendf(nil, `{"sub":"%d"}`, i)) + "." + strings.Repeat("A", 43)
		if reason, n := verify(x); reason != badSignature || n != 1 {
			t.Fatalf("%q, %d", reason, n)
		}
	}
	if after := heap(); after > before+1<<20 {
		t.Errorf("%d bytes more", after-before)
	}
	if reason, n := verify(good); reason != "" || n != 0 || v.cache.count() != 1 {
		t.Errorf("%q, %d verifications, %d tokens", reason, n, v.cache.count())
	}
}

// TestFiles: the keys of a file are exchanged while the verifier runs; tokens
// of the key that is gone are refused although they were remembered, and a bad
// file changes nothing.
func TestFiles(t *testing.T) {
	k := testKeys()
	first, second := token(t, "RS256", k.rsa, "", sub), token(t, "RS256", k.rsa2, "", sub)
	path := filepath.Join(t.TempDir(), "keys.json")
	put := func(content []byte) {
		t.Helper()
		if err := os.WriteFile(path+".new", content, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	put(jwks(t, map[string]crypto.Signer{"1": k.rsa}))
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var events []string
		v, err := New(Config{KeySets: map[string]KeySet{"login": {File: path}}, OnEvent: func(e Event) {
			mu.Lock()
			defer mu.Unlock()
			events = append(events, fmt.Sprint(e.Set, e.Keys, e.Skipped, e.Err))
		}})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		ctx, stop := context.WithCancel(t.Context())
		defer func() { stop(); <-done }()
		go func() { defer close(done); _ = v.Run(ctx) }()
		expect := func(wantFirst, wantSecond string, tokens int) {
			t.Helper()
			for range 2 {
				_, a, _, _ := v.VerifyToken(TokenCheck{Token: first, KeySet: "login"})
				_, b, _, _ := v.VerifyToken(TokenCheck{Token: second, KeySet: "login"})
				if a != wantFirst || b != wantSecond {
					t.Errorf("%q, %q; want %q, %q", a, b, wantFirst, wantSecond)
				}
			}
			if n := v.cache.count(); n != tokens {
				t.Errorf("%d tokens, want %d", n, tokens)
			}
		}
		expect("", badSignature, 1)
		put([]byte("garbage"))
		time.Sleep(2 * time.Second)
		expect("", badSignature, 1)
		put(jwks(t, map[string]crypto.Signer{"1": k.rsa2}))
		time.Sleep(2 * time.Second)
		if n := v.cache.count(); n != 0 {
			t.Errorf("%d tokens of a key that is gone", n)
		}
		expect(badSignature, "", 1)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		expect(badSignature, "", 1)
		mu.Lock()
		defer mu.Unlock()
		if got := strings.ReplaceAll(fmt.Sprint(events), path, "FILE"); got !=
			"[login0 0 neither a JSON Web Key Set nor PEM login1 0 <nil> login0 0 stat FILE: no such file or directory]" {
			t.Error(got)
		}
	})
}

// TestConcurrent: requests verify while keys are exchanged. Run it under the
// race detector.
func TestConcurrent(t *testing.T) {
	v, k := newVerifier(t), testKeys()
	good := token(t, "EdDSA", k.ed, "", sub)
	content := publicPEM(t, k.ed)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 500 {
				if claims, reason, _, err := v.VerifyToken(TokenCheck{Token: good, KeySet: "all"}); claims != sub || reason != "" || err != nil {
					t.Errorf("%q, %q, %v", claims, reason, err)
					return
				}
			}
		})
	}
	wg.Go(func() {
		for range 100 {
			if err := v.take(v.sets["all"], content, parseKeys); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
}

// TestAllocs: to use a token again allocates one copy of it, which is hashed.
func TestAllocs(t *testing.T) {
	v, k := newVerifier(t), testKeys()
	good := token(t, "RS256", k.rsa, `{"alg":"RS256","kid":"rsa","typ":"JWT"}`, benchClaims)
	algs := []string{"RS256"}
	if n := testing.AllocsPerRun(1000, func() {
		if _, reason, _, _ := v.VerifyToken(TokenCheck{Token: good, KeySet: "all", Algorithms: algs, Issuer: "https://idp.example", Audience: "shop", Leeway: time.Second}); reason != "" {
			t.Fatal(reason)
		}
	}); n > 1 {
		t.Errorf("%v allocations", n)
	}
}

const benchClaims = `{"iss":"https://idp.example","sub":"248289761001","aud":"shop","exp":99999999999,"iat":1311280970,"auth_time":1311280969,"roles":["reader","writer"]}`

// BenchmarkVerify: a token that is remembered, and for the record one that is
// not, for each algorithm.
func BenchmarkVerify(b *testing.B) {
	v, k := newVerifier(b), testKeys()
	for _, c := range []struct {
		alg, kid, set string
		key           any
	}{
		{"RS256", "rsa", "all", k.rsa}, {"PS256", "rsa", "all", k.rsa}, {"ES256", "p256", "all", k.p256}, {"ES384", "p384", "all", k.p384},
		{"ES512", "p521", "all", k.p521}, {"EdDSA", "ed", "all", k.ed}, {"HS256", "", "secret", k.secret},
	} {
		x := token(b, c.alg, c.key, fmt.Sprintf(`{"alg":%q,"kid":%q,"typ":"JWT"}`, c.alg, c.kid), benchClaims)
		b.Run(c.alg, func(b *testing.B) {
			b.ReportAllocs()
			s := v.sets[c.set]
			for b.Loop() {
				if _, _, reason := s.open(TokenCheck{Token: x}, s.keys.Load()); reason != "" {
					b.Fatal(reason)
				}
			}
		})
		if c.alg != "RS256" {
			continue
		}
		b.Run("remembered", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, reason, _, _ := v.VerifyToken(TokenCheck{Token: x, KeySet: c.set, Issuer: "https://idp.example", Audience: "shop"}); reason != "" {
					b.Fatal(reason)
				}
			}
		})
	}
}
