package jwtkeys

import (
	"net/http/httptest"
	"testing"

	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/datascript/datascripttest"
)

// BenchmarkScript: a script that verifies a token which is remembered, beside
// one that only looks at the header.
func BenchmarkScript(b *testing.B) {
	v, k := newVerifier(b), testKeys()
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Authorization", token(b, "RS256", k.rsa, `{"alg":"RS256","kid":"rsa","typ":"JWT"}`, benchClaims))
	engine, err := datascript.NewEngine(datascript.Env{Tokens: v})
	if err != nil {
		b.Fatal(err)
	}
	for _, bench := range []struct{ name, source string }{
		{"header", `local t = avi.http.get_header("Authorization")`},
		{"verify", `local c = avi.jwt.verify(avi.http.get_header("Authorization"), "all")`},
	} {
		s, err := datascript.Compile("bench", datascript.Chunk{Event: datascript.HTTPReq, Source: bench.source})
		if err != nil {
			b.Fatal(err)
		}
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				tx := &datascripttest.Transaction{In: r}
				if err := engine.Run(b.Context(), s, datascript.HTTPReq, tx); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
