package datascript

import (
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"time"
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
	// Keys is about how many keys are remembered: zero means 65,536, and
	// the most is 16,777,216. Each takes 24 bytes, from its first use on.
	Keys int
}

// A RateLimiter is a token bucket for each of any number of keys. Its methods
// may be called concurrently. It may be part of several engines at a time, so
// that buckets outlive an engine.
//
// The memory is bounded. When it is full, a new key takes the place of one of
// a few others, and of these it is the one with the fullest bucket: a key that
// spends too much is not forgotten because others come in great numbers.
// Hostile keys cannot be chosen to meet: each limiter hashes by a seed of its
// own.
type RateLimiter struct {
	rate     float64 // tokens per nanosecond
	capacity float64
	seed     maphash.Seed
	start    time.Time
	shards   [limiterShards]limiterShard
	sets     uint64 // of each shard
}

const (
	limiterShards = 64
	limiterWays   = 8 // buckets that a key can be in
	defaultKeys   = 1 << 16
	maxKeys       = 1 << 24
	maxTokens     = 1_000_000_000
)

type limiterShard struct {
	mu   sync.Mutex
	sets []bucketSet // made when the first key comes
}

type bucketSet [limiterWays]bucket

// A bucket is that of one key. The zero bucket is nobody's.
type bucket struct {
	key    uint64 // the key's hash; 0 if there is no key
	tokens float64
	at     time.Duration // when tokens was right, since the limiter's start
}

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
	const perShard = limiterShards * limiterWays
	return &RateLimiter{
		rate:     float64(limit.Count) / float64(limit.Period),
		capacity: float64(max(limit.Count, limit.Burst)),
		seed:     maphash.MakeSeed(),
		start:    time.Now(),
		sets:     uint64((limit.Keys + perShard - 1) / perShard),
	}, nil
}

// Exceed takes n tokens from the bucket of a key. It reports true, and takes
// none, if there are fewer. It never takes a negative number.
func (l *RateLimiter) Exceed(key string, n int) bool {
	return l.exceed(key, n, time.Since(l.start))
}

func (l *RateLimiter) exceed(key string, n int, now time.Duration) bool {
	h := max(maphash.String(l.seed, key), 1)
	shard := &l.shards[h%limiterShards]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if shard.sets == nil {
		shard.sets = make([]bucketSet, l.sets)
	}
	b := l.find(&shard.sets[h/limiterShards%l.sets], h, now)
	l.refill(b, now)
	want := float64(max(n, 0))
	if b.tokens < want {
		return true
	}
	b.tokens -= want
	return false
}

// find returns the bucket of a key, or else one that the key may have.
func (l *RateLimiter) find(set *bucketSet, h uint64, now time.Duration) *bucket {
	fullest, most := &set[0], -1.0
	for i := range set {
		b := &set[i]
		if b.key == h {
			return b
		}
		tokens := l.capacity + 1 // nobody's
		if b.key != 0 {
			tokens = l.tokens(b, now)
		}
		if tokens > most {
			fullest, most = b, tokens
		}
	}
	*fullest = bucket{key: h, tokens: l.capacity, at: now}
	return fullest
}

func (l *RateLimiter) refill(b *bucket, now time.Duration) {
	b.tokens = l.tokens(b, now)
	b.at = max(b.at, now)
}

// tokens is what a bucket holds by now.
func (l *RateLimiter) tokens(b *bucket, now time.Duration) float64 {
	return min(l.capacity, b.tokens+float64(max(now-b.at, 0))*l.rate)
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
	if containsControl(p.ContentType) {
		fault("contentType: %q holds a control character", p.ContentType)
	}
	return errors.Join(faults...)
}
