package datascript

import (
	"hash/maphash"
	"time"

	"github.com/limpetlb/limpet/internal/bounds"
	"github.com/limpetlb/limpet/internal/enumtext"
	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/internal/httpfield"
	"github.com/limpetlb/limpet/internal/tokenbucket"
)

// A FieldError is one fault of a configuration: the Path of a field, as in
// "rateProfile.status", its Value, and Err, the fault. [NewEngine] and
// [NewRateLimiter] join one for each fault.
type FieldError = fielderr.Error

// RateLimit says how many tokens a key may spend.
type RateLimit struct {
	// Count is how many tokens each key gets per Period: 1 to 1,000,000,000.
	Count int `min:"1" max:"1_000_000_000"`
	// Period is at least a microsecond. Zero means one second.
	Period time.Duration `default:"1s" min:"1us"`
	// Burst is how many tokens a key can save up. Less than Count means
	// Count. At most 1,000,000,000.
	Burst int `min:"0" max:"1_000_000_000"`
	// Keys is about how many keys have separate buckets at a time: it is
	// rounded up to a power of two, at least 8. Zero means 65,536, and the
	// maximum is 16,777,216. Each takes 16 bytes, which are not allocated at
	// first.
	Keys int `default:"65_536" min:"1" max:"16_777_216"`
}

// A RateLimiter is a token bucket for each of any number of keys. Its methods
// may be called concurrently. Several engines may share it, so that buckets
// outlive an engine.
//
// The memory is bounded. When there are more active keys than buckets, keys
// share buckets. A key never gets more than its rate, but it may get less if
// another key in its bucket takes tokens. Full buckets are replaced first.
// Attackers cannot choose keys that share a bucket, since each limiter hashes
// with its own seed.
//
// The interval between two tokens is rounded up to whole nanoseconds, so that
// rates above a million a second lose more than a thousandth.
type RateLimiter struct {
	table *tokenbucket.Table
	seed  maphash.Seed
	start time.Time
	limit RateLimit
}

// NewRateLimiter returns a limiter in which all buckets are full. It starts
// nothing. The error joins a [*FieldError] for each fault.
func NewRateLimiter(limit RateLimit) (*RateLimiter, error) {
	var faults fielderr.List
	bounds.Check("", limit, &faults)
	bounds.SetDefaults(&limit)
	if err := faults.ErrIn(limit); err != nil {
		return nil, err
	}
	size, err := tokenbucket.NewSize(limit.Count, limit.Period, limit.Burst)
	if err != nil {
		return nil, &FieldError{Path: "burst", Err: err}
	}
	return &RateLimiter{table: tokenbucket.NewTable(size, limit.Keys), seed: maphash.MakeSeed(), start: time.Now(), limit: limit}, nil
}

// Limit returns the limit that the limiter was made with, with its defaults.
func (l *RateLimiter) Limit() RateLimit { return l.limit }

// Exceed takes n tokens from the bucket of a key. It reports true, and takes
// none, if there are fewer. A negative n takes none.
func (l *RateLimiter) Exceed(key string, n int) bool {
	return l.exceed(key, n, time.Since(l.start))
}

func (l *RateLimiter) exceed(key string, n int, now time.Duration) bool {
	return n > 0 && !l.table.Take(maphash.String(l.seed, key), n, int64(now))
}

// A RateProfile says how avi.vs.rate_limit limits requests.
type RateProfile struct {
	// Limiter counts the requests of each string. It must be set.
	Limiter *RateLimiter
	// Action is the action for a request above the limit.
	Action RateAction
	// Status is the status of the reply. Zero means 429 for RateReply, and 302
	// for RateRedirect.
	Status int
	// ContentType and Body are for RateReply. An empty ContentType means
	// text/plain.
	ContentType, Body string
	// Location is the target of a RateRedirect.
	Location string
}

// RateAction is the action for a request above a limit.
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

// rateActionNames are the names of the actions in scripts.
var rateActionNames = []string{
	"RL_ACTION_NONE", "RL_ACTION_CLOSE_CONN", "RL_ACTION_RESET_CONN", "RL_ACTION_LOCAL_RSP", "RL_ACTION_REDIRECT",
}

// String returns the name that scripts see, such as "RL_ACTION_CLOSE_CONN";
// "invalid" for other values.
func (a RateAction) String() string { return enumtext.String(a, rateActionNames) }

// MarshalText returns the name. It fails for a value without a name.
func (a RateAction) MarshalText() ([]byte, error) { return enumtext.Marshal(a, rateActionNames) }

// UnmarshalText reads a name, without regard to case, blanks, "-" and "_". The
// error for another text lists the names.
func (a *RateAction) UnmarshalText(text []byte) error {
	return enumtext.Unmarshal(a, text, rateActionNames)
}

// validate adds the faults of a profile, which may be nil.
func (p *RateProfile) validate(faults *fielderr.List) {
	if p == nil {
		return
	}
	if p.Limiter == nil {
		faults.Addf("rateProfile.limiter", nil, "missing")
	}
	switch {
	case p.Action >= numRateActions:
		faults.Constant("rateProfile.action", p.Action)
	case p.Action == RateReply && p.Status != 0 && (p.Status < 200 || p.Status > 599):
		faults.Addf("rateProfile.status", p.Status, "not between 200 and 599")
	case p.Action == RateRedirect && p.Status != 0 && !isRedirect(p.Status):
		faults.Addf("rateProfile.status", p.Status, "not the status of a redirect")
	}
	if p.Action == RateRedirect && p.Location == "" {
		faults.Addf("rateProfile.location", nil, "missing")
	}
	if !httpfield.IsValue(p.ContentType) {
		faults.Addf("rateProfile.contentType", p.ContentType, "has a control character")
	}
}
