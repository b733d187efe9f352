package jwtkeys

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

type fakeTransport func(*http.Request) (*http.Response, error)

func (f fakeTransport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// An idp is an identity provider: an HTTPS server on loopback.
type idp struct {
	*httptest.Server
	answer atomic.Value // http.HandlerFunc
	asked  atomic.Int64
}

func newIDP(t *testing.T) *idp {
	s := &idp{}
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		s.answer.Load().(http.HandlerFunc)(w, r)
	}))
	s.EnableHTTP2 = false
	t.Cleanup(s.Close)
	return s
}

func (s *idp) set(f http.HandlerFunc) { s.answer.Store(f) }

func body(content []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(content) }
}

// TestFetch: an identity provider rotates its keys, and fails in between in all
// the ways that servers fail. Only a good answer changes the keys.
func TestFetch(t *testing.T) {
	k, server := testKeys(), newIDP(t)
	transport := server.Client().Transport.(*http.Transport)
	defer transport.CloseIdleConnections()
	v, err := New(Config{KeySets: map[string]KeySet{"idp": {URL: server.URL + "/jwks", Transport: transport}}})
	if err != nil {
		t.Fatal(err)
	}
	first := token(t, "RS256", k.rsa, `{"alg":"RS256","kid":"1"}`, sub)
	second := token(t, "EdDSA", k.ed, `{"alg":"EdDSA","kid":"2"}`, sub)
	expect := func(t *testing.T, wantFirst, wantSecond string) {
		t.Helper()
		for range 2 { // new and remembered
			if _, reason, _, _ := v.VerifyToken(TokenCheck{Token: first, KeySet: "idp"}); reason != wantFirst {
				t.Errorf("first key: %q, want %q", reason, wantFirst)
			}
			if _, reason, _, _ := v.VerifyToken(TokenCheck{Token: second, KeySet: "idp"}); reason != wantSecond {
				t.Errorf("second key: %q, want %q", reason, wantSecond)
			}
		}
	}
	expect(t, unknownKey, unknownKey)
	one := jwks(t, map[string]crypto.Signer{"1": k.rsa})
	for _, step := range []struct {
		name        string
		answer      http.HandlerFunc
		fault       string // part of it; empty: none
		first, then string
	}{
		{"the first keys", body(one), "", "", unknownKey},
		{"the same keys", body(one), "", "", unknownKey},
		{"status 500", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", 500) }, "status 500", "", unknownKey},
		{"redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/other", http.StatusFound) }, "status 302", "", unknownKey},
		{"not modified", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(304) }, "status 304", "", unknownKey},
		{"page of an error with status 200", body([]byte("<html>")), "neither", "", unknownKey},
		{"nothing", body(nil), "neither", "", unknownKey},
		{"JSON of another kind", body([]byte(`{"error":"x"}`)), "none of 0 keys", "", unknownKey},
		{"no keys", body([]byte(`{"keys":[]}`)), "none of 0 keys", "", unknownKey},
		{"half of it", body(one[:len(one)/2]), "not a JSON Web Key Set", "", unknownKey},
		{"connection lost", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write(one[:10])
			panic(http.ErrAbortHandler)
		}, "EOF", "", unknownKey},
		{"10 MB", func(w http.ResponseWriter, _ *http.Request) {
			for range 10 {
				_, _ = w.Write(bytes.Repeat([]byte(" "), 1<<20))
			}
		}, "more than 1 MiB", "", unknownKey},
		{"10 MB, compressed", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = z.Write(bytes.Repeat([]byte(" "), 10<<20))
			_ = z.Close()
		}, "more than 1 MiB", "", unknownKey},
		{"both keys", body(jwks(t, map[string]crypto.Signer{"1": k.rsa, "2": k.ed})), "", "", ""},
		{"the first is gone", body(jwks(t, map[string]crypto.Signer{"2": k.ed})), "", unknownKey, ""},
		{"another key of that identifier", body(jwks(t, map[string]crypto.Signer{"1": k.rsa2, "2": k.ed})), "", badSignature, ""},
	} {
		t.Run(step.name, func(t *testing.T) {
			server.set(step.answer)
			_, err := v.fetch(t.Context(), v.sets["idp"])
			if (err == nil) != (step.fault == "") || err != nil && !strings.Contains(err.Error(), step.fault) {
				t.Errorf("error %v", err)
			}
			expect(t, step.first, step.then)
		})
	}
	if n := v.cache.count(); n != 1 {
		t.Errorf("%d tokens are remembered; those of keys that are gone are to be forgotten", n)
	}
	server.Close()
	if _, err := v.fetch(t.Context(), v.sets["idp"]); err == nil {
		t.Error("a server that is down gives keys")
	}
	expect(t, badSignature, "")
}

// TestRunFetches runs against the server: keys come, and Run ends although an
// answer never does.
func TestRunFetches(t *testing.T) {
	k, server := testKeys(), newIDP(t)
	transport := server.Client().Transport.(*http.Transport)
	defer transport.CloseIdleConnections()
	server.set(body(jwks(t, map[string]crypto.Signer{"1": k.rsa})))
	events := make(chan Event, 10)
	v, err := New(Config{
		KeySets: map[string]KeySet{"idp": {URL: server.URL, Transport: transport}},
		OnEvent: func(e Event) { events <- e },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = v.Run(ctx) })
	if e := <-events; e.Set != "idp" || e.Keys != 1 || e.Err != nil {
		t.Errorf("%+v", e)
	}
	if err := v.Run(t.Context()); err == nil {
		t.Error("two Runs at a time")
	}
	arrived := make(chan struct{})
	server.set(func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
	})
	if _, reason, _, _ := v.VerifyToken(TokenCheck{Token: token(t, "RS256", k.rsa, `{"alg":"RS256","kid":"9"}`, sub), KeySet: "idp"}); reason != unknownKey {
		t.Errorf("%q", reason)
	}
	<-arrived // the unknown key has made it ask
	stop()
	wg.Wait()
}

// TestFetchTimes: when the provider is asked, in virtual time.
func TestFetchTimes(t *testing.T) {
	k := testKeys()
	good := jwks(t, map[string]crypto.Signer{"1": k.rsa})
	unknown := token(t, "RS256", k.rsa, `{"alg":"RS256","kid":"9"}`, sub)
	forged := token(t, "RS256", k.rsa2, `{"alg":"RS256","kid":"1"}`, sub)
	response := func(content []byte) *http.Response {
		return &http.Response{StatusCode: 200, Body: io.NopCloser(bytes.NewReader(content))}
	}
	start := func(t *testing.T, answer fakeTransport) (v *Verifier, times func() []time.Duration, events *[]string) {
		begin := time.Now()
		var mu sync.Mutex
		var asked []time.Duration
		events = new([]string)
		v, err := New(Config{
			KeySets: map[string]KeySet{"idp": {URL: "http://idp/jwks", Interval: time.Minute, Transport: fakeTransport(func(r *http.Request) (*http.Response, error) {
				mu.Lock()
				asked = append(asked, time.Since(begin))
				mu.Unlock()
				return answer(r)
			})}},
			OnEvent: func(e Event) { *events = append(*events, fmt.Sprint(time.Since(begin), e.Keys, e.Err)) },
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = v.Run(ctx) }()
		t.Cleanup(func() { stop(); <-done })
		return v, func() []time.Duration { mu.Lock(); defer mu.Unlock(); return asked }, events
	}
	const second = time.Second

	t.Run("interval", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, times, events := start(t, func(*http.Request) (*http.Response, error) { return response(good), nil })
			time.Sleep(125 * second)
			synctest.Wait()
			if got := fmt.Sprint(times()); got != "[0s 1m0s 2m0s]" {
				t.Error(got)
			}
			if got := fmt.Sprint(*events); got != "[0s 1 <nil>]" {
				t.Error(got)
			}
		})
	})
	t.Run("unknown keys", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			v, times, _ := start(t, func(*http.Request) (*http.Response, error) { return response(good), nil })
			for range 80 * 10 { // a flood of tokens
				v.VerifyToken(TokenCheck{Token: unknown, KeySet: "idp"})
				v.VerifyToken(TokenCheck{Token: forged, KeySet: "idp"})
				time.Sleep(second / 10)
			}
			synctest.Wait()
			got := times()
			if len(got) < 3 || len(got) > 5 {
				t.Errorf("asked at %v", got)
			}
			for i := 2; i < len(got); i++ {
				if got[i]-got[i-1] < 30*second-second/10 {
					t.Errorf("asked at %v", got)
				}
			}
		})
	})
	t.Run("down", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var up atomic.Bool
			_, times, events := start(t, func(*http.Request) (*http.Response, error) {
				if !up.Load() {
					return nil, errors.New("refused")
				}
				return response(good), nil
			})
			time.Sleep(70 * second)
			synctest.Wait()
			up.Store(true)
			time.Sleep(30 * second)
			synctest.Wait()
			if got := fmt.Sprint(times()); got != "[0s 1s 3s 7s 15s 31s 1m1s 1m31s]" {
				t.Error(got)
			}
			if got := fmt.Sprint(*events); got != "[0s 0 refused 1m31s 1 <nil>]" {
				t.Error(got)
			}
		})
	})
	t.Run("slow", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			calls := 0
			v, _, events := start(t, func(r *http.Request) (*http.Response, error) {
				if calls++; calls == 1 {
					return response(good), nil
				}
				pr, pw := io.Pipe() // a byte a second
				go func() {
					for range 100 {
						if _, err := pw.Write([]byte(" ")); err != nil {
							return
						}
						select {
						case <-time.After(second):
						case <-r.Context().Done():
						}
					}
				}()
				context.AfterFunc(r.Context(), func() { pw.CloseWithError(r.Context().Err()) })
				return &http.Response{StatusCode: 200, Body: pr}, nil
			})
			time.Sleep(75 * second)
			synctest.Wait()
			if got := fmt.Sprint(*events); got != "[0s 1 <nil> 1m10s 0 context deadline exceeded]" {
				t.Error(got)
			}
			if _, reason, _, _ := v.VerifyToken(TokenCheck{Token: token(t, "RS256", k.rsa, `{"alg":"RS256","kid":"1"}`, sub), KeySet: "idp"}); reason != "" {
				t.Errorf("the old key: %q", reason)
			}
		})
	})
}

// TestAdopt: a new configuration has the keys of the old one at once.
func TestAdopt(t *testing.T) {
	k := testKeys()
	good := token(t, "EdDSA", k.ed, "", sub)
	make := func(url string) *Verifier {
		v, err := New(Config{KeySets: map[string]KeySet{"idp": {URL: url, Transport: fakeTransport(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Body: io.NopCloser(bytes.NewReader(publicPEM(t, k.ed)))}, nil
		})}}})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	old := make("http://idp/a")
	if _, err := old.fetch(t.Context(), old.sets["idp"]); err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string]string{"http://idp/a": "", "http://idp/b": unknownKey} {
		v := make(url)
		v.Adopt(old)
		if _, reason, _, _ := v.VerifyToken(TokenCheck{Token: good, KeySet: "idp"}); reason != want {
			t.Errorf("%s: %q", url, reason)
		}
	}
}
