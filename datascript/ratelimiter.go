package datascript

import (
	"errors"
	"fmt"
	"hash/maphash"
	"time"

	"github.com/limpetlb/limpet/internal/httpfield"
	"github.com/limpetlb/limpet/internal/tokenbucket"
)

// RateLimit says how many tokens a key may spend.
type RateLimit struct {
	// Count is the number of tokens that each key gets per Period: 1 to
	// 1,000,000,000.
	Count int
	// Period is at least a microsecond. Zero means one second.
	Period time.Duration
	// Burst is how many tokens a key can save up. Less than Count means
	// Count. At most 1,000,000,000.
	Burst int
	// Keys is about how many keys are told apart at a time: it is rounded up
	// to a power of two, at least 8. Zero means 65,536, and the most is
	// 16,777,216. Each takes 16 bytes, of which at first none are allocated.
	Keys int
}

// A RateLimiter is a token bucket for each of any number of keys. Its methods
// may be called concurrently. It may be part of several engines at a time, so
// that buckets outlive an engine.
//
// The memory is bounded. When there are more active keys than room, keys share
// buckets, in such a way that none ever gets more than its rate; what a key may
// get less of is what others with which it shares have taken. Buckets that have
// filled up again make room first. Hostile keys cannot be chosen to meet: each
// limiter hashes by a seed of its own.
//
// The interval between two tokens is rounded up to whole nanoseconds, so that
// rates above a million a second lose more than a thousandth.
type RateLimiter struct {
	table *tokenbucket.Table
	seed  maphash.Seed
	start time.Time
}

const (
	defaultKeys = 1 << 16
	maxKeys     = 1 << 24
	maxTokens   = 1_000_000_000
)

// NewRateLimiter returns a limiter in which all buckets are full. It starts
// nothing. The error joins all faults of the limit.
func NewRateLimiter(limit RateLimit) (*RateLimiter, error) {
	if limit.Period == 0 {
		limit.Period = time.Second
	}
	if limit.Keys == 0 {
		limit.Keys = defaultKeys
	}
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("rate limit: "+format, args...))
	}
	if limit.Count < 1 || limit.Count > maxTokens {
		fault("count: %d is not between 1 and %d", limit.Count, maxTokens)
	}
	if limit.Period < time.Microsecond {
		fault("period: %v is less than a microsecond", limit.Period)
	}
	if limit.Burst < 0 || limit.Burst > maxTokens {
		fault("burst: %d is not between 0 and %d", limit.Burst, maxTokens)
	}
	if limit.Keys < 1 || limit.Keys > maxKeys {
		fault("keys: %d is not between 1 and %d", limit.Keys, maxKeys)
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	size, err := tokenbucket.NewSize(limit.Count, limit.Period, limit.Burst)
	if err != nil {
		return nil, fmt.Errorf("rate limit: burst: %w", err)
	}
	return &RateLimiter{table: tokenbucket.NewTable(size, limit.Keys), seed: maphash.MakeSeed(), start: time.Now()}, nil
}

// Exceed takes n tokens from the bucket of a key. It reports true, and takes
// none, if there are fewer. It never takes a negative number.
func (l *RateLimiter) Exceed(key string, n int) bool {
	return l.exceed(key, n, time.Since(l.start))
}

func (l *RateLimiter) exceed(key string, n int, now time.Duration) bool {
	return n > 0 && !l.table.Take(maphash.String(l.seed, key), n, int64(now))
}

// A RateProfile is what avi.vs.rate_limit enforces.
type RateProfile struct {
	// Limiter counts the requests of each string. It must be set.
	Limiter *RateLimiter
	// Action is what happens to a request that is over the limit.
	Action RateAction
	// Status is that of the reply: zero means 429 for RateReply, and 302
	// for RateRedirect.
	Status int
	// ContentType and Body are those of a RateReply. No type means
	// text/plain.
	ContentType, Body string
	// Location is where a RateRedirect leads.
	Location string
}

// RateAction says what happens to a request that is over a limit.
type RateAction uint8

// The actions.
const (
	RateNone     RateAction = iota // it is logged, and goes on
	RateClose                      // the connection is closed by FIN
	RateReset                      // the connection is closed by RST
	RateReply                      // it gets an answer
	RateRedirect                   // it is redirected
	numRateActions
)

// rateActionNames are what scripts call the actions.
var rateActionNames = [numRateActions]string{
	"RL_ACTION_NONE", "RL_ACTION_CLOSE_CONN", "RL_ACTION_RESET_CONN", "RL_ACTION_LOCAL_RSP", "RL_ACTION_REDIRECT",
}

// String returns the name that scripts see, such as "RL_ACTION_CLOSE_CONN".
func (a RateAction) String() string {
	if a < numRateActions {
		return rateActionNames[a]
	}
	return fmt.Sprintf("RateAction(%d)", uint8(a))
}

// validate reports the faults of a profile, which may be nil.
func (p *RateProfile) validate() error {
	if p == nil {
		return nil
	}
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("rateProfile."+format, args...))
	}
	if p.Limiter == nil {
		fault("limiter: missing")
	}
	switch {
	case p.Action >= numRateActions:
		fault("action: %d is no action", uint8(p.Action))
	case p.Action == RateReply && p.Status != 0 && (p.Status < 200 || p.Status > 599):
		fault("status: %d is not between 200 and 599", p.Status)
	case p.Action == RateRedirect && p.Status != 0 && !isRedirect(p.Status):
		fault("status: %d is not the status of a redirect", p.Status)
	}
	if p.Action == RateRedirect && p.Location == "" {
		fault("location: missing")
	}
	if !httpfield.IsValue(p.ContentType) {
		fault("contentType: %q holds a control character", p.ContentType)
	}
	return errors.Join(faults...)
}
