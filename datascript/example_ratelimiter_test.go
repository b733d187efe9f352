package datascript_test

import (
	"fmt"
	"net/http/httptest"
	"time"

	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/datascript/datascripttest"
)

// Scripts limit rates by limiters that the program names, and count what they
// do in metrics that it can read.
func ExampleNewRateLimiter() {
	limiter, err := datascript.NewRateLimiter(datascript.RateLimit{Count: 2, Period: time.Hour})
	if err != nil {
		fmt.Println(err)
		return
	}
	script, err := datascript.Compile("Slow Down", datascript.Chunk{Event: datascript.HTTPReq, Source: `
		if avi.vs.ratelimit.exceed("per client", avi.vs.client_ip()) then
			avi.vs.analytics.counter("refused")
			avi.http.response(429, {retry_after = 3600}, "slow down")
		end`})
	if err != nil {
		fmt.Println(err)
		return
	}
	engine, err := datascript.NewEngine(datascript.Env{
		RateLimiters: map[string]*datascript.RateLimiter{"per client": limiter},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for range 3 {
		tx := &datascripttest.Transaction{In: httptest.NewRequest("GET", "/", nil)}
		if err := engine.Run(tx.In.Context(), script, datascript.HTTPReq, tx); err != nil {
			fmt.Println(err)
		}
		fmt.Println(tx.Answer != nil)
	}
	fmt.Println(engine.Metrics())
	// Output:
	// false
	// false
	// true
	// [{refused false 1}]
}
