package policy

import (
	"testing"
	"testing/synctest"
	"time"
)

// A client whose requests fail too often is limited for a whole period, with
// all of its requests; others are not, and requests that do not fail are free.
func TestRateLimitCountsFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := mustHTTPSecurity(t, Env{},
			SecurityRule{Name: "off", Disabled: true, Action: Allow{}},
			SecurityRule{Name: "free", Match: pathIs("/free"), Action: Allow{}},
			SecurityRule{Name: "limit", Action: RateLimit{
				Limit: RateLimiterConfig{Rate: Rate{Count: 3, Period: time.Minute}}, PerClient: true, CountFailures: true,
			}},
			SecurityRule{Name: "end", Match: pathIs("/closed"), Action: Close{}})
		passes := func(tx *fakeTx) bool { return !p.Evaluate(tx).Ended }
		bad, good := newTx("GET", "/"), newTx("GET", "/", client("192.0.2.9"))
		for i := range 100 {
			if !passes(bad) || !passes(good) {
				t.Fatalf("request %d is limited, though none has failed", i)
			}
		}
		for range 2 {
			p.Failed(bad)
			p.Failed(newTx("GET", "/free"))
			time.Sleep(time.Second)
		}
		if !passes(bad) {
			t.Fatal("limited after two failures")
		}
		p.Failed(bad) // the third
		begin := time.Now()
		for range 5 {
			v := p.Evaluate(bad)
			if !v.Ended || v.Status != 429 || !v.Limited || v.Rule != "limit" {
				t.Fatalf("%v after the third failure: %+v", time.Since(begin), v)
			}
			p.Failed(bad) // one that was under way changes nothing
			time.Sleep(11 * time.Second)
		}
		if !passes(good) || !passes(newTx("GET", "/free")) {
			t.Error("others are limited, too")
		}
		time.Sleep(time.Minute - time.Since(begin) - 1)
		if passes(bad) {
			t.Error("let go before the period has ended")
		}
		time.Sleep(time.Nanosecond)
		if !passes(bad) {
			t.Error("limited for longer than a period")
		}
		p.Failed(bad) // there was one token
		if passes(bad) {
			t.Error("a failure right after the period is forgiven")
		}
		if s := p.Stats()[2]; s.Limited == 0 || s.Allowed == 0 || s.Hits != s.Limited {
			t.Errorf("%+v", s)
		}
	})
}

// A rule that cannot be evaluated ends what Failed does, as it ended Evaluate,
// and a policy without such rules, or none at all, does nothing.
func TestFailedWithoutEffect(t *testing.T) {
	var none *HTTPSecurity
	none.Failed(newTx("GET", "/"))
	mustHTTPSecurity(t, Env{}, SecurityRule{Name: "limit", Action: RateLimit{Limit: RateLimiterConfig{Rate: Rate{Count: 1}}}}).Failed(newTx("GET", "/"))

	in := func(group string) Match { return Match{ClientIP: &IPMatch{Groups: []string{group}}} }
	p := mustHTTPSecurity(t, Env{IPGroups: brokenGroups{}},
		SecurityRule{Name: "broken", Match: in("any"), Action: Allow{}},
		SecurityRule{Name: "limit", Action: RateLimit{Limit: RateLimiterConfig{Rate: Rate{Count: 1, Period: time.Hour}}, CountFailures: true}})
	p.Failed(newTx("GET", "/", client("192.0.2.66")))
	if p.Evaluate(newTx("GET", "/")).Ended {
		t.Error("a failure was counted behind a rule that failed")
	}
	p.Failed(newTx("GET", "/"))
	if !p.Evaluate(newTx("GET", "/")).Ended {
		t.Error("a failure was not counted")
	}
}
