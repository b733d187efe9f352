package policy

import (
	"hash/maphash"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/limpetlb/limpet/internal/tokenbucket"
)

// Rate is how often something may happen: Count times per Period on average,
// and Burst times, if that is more than Count, at once after a pause.
type Rate struct {
	// Count is between 1 and 1e9; there is no default.
	Count int
	// Period is between 1 s and 1e9 s; 0 means 1 s.
	Period time.Duration
	// Burst is between 0 and 1e9. Below Count it has no effect.
	Burst int
}

// RateLimiterConfig is the configuration of a [RateLimiter].
type RateLimiterConfig struct {
	Rate
	// MaxKeys is about how many keys can be told apart at a time: it is
	// rounded up to a power of two, at least 8. 0 means 65,536, the most is
	// 1<<24. Each takes 16 bytes, of which at first none are allocated.
	MaxKeys int
	// IPv6Bits is the length of the prefix that AllowAddr takes for one IPv6
	// client, because each subscriber has at least 2^64 addresses to choose
	// from. 0 means 64, the most is 128.
	IPv6Bits int
}

// Defaults and limits of rate limiters.
const (
	defaultRateKeys = 1 << 16
	maxRateKeys     = 1 << 24
	maxRateCount    = 1e9
	maxRatePeriod   = 1e9 * time.Second
)

// RateLimiter counts events by key in token buckets: each key has a bucket of
// its own, which starts full.
//
// Memory is bounded however many keys clients invent. When there are more
// active keys than room, keys share buckets, in such a way that none ever gets
// more than its rate; what a key may get less of is what others with which it
// shares have taken. Buckets that have filled up again make room first.
//
// Time is that of the monotonic clock. The interval between two tokens is
// rounded up to whole nanoseconds, so that rates are not exceeded; rates
// above a million a second lose more than a thousandth by that.
//
// It is safe for concurrent use and does not allocate per event.
type RateLimiter struct {
	table            *tokenbucket.Table
	seed             maphash.Seed
	epoch            time.Time // when it was constructed
	ipv6Bits         int
	allowed, limited atomic.Uint64
}

// NewRateLimiter returns a limiter. It reports all faults, as joined
// [FieldError] values.
func NewRateLimiter(cfg RateLimiterConfig) (*RateLimiter, error) {
	var f faults
	l := newRateLimiter(&f, "", cfg)
	if err := f.join(); err != nil {
		return nil, err
	}
	return l, nil
}

// newRateLimiter adds its faults to f, below the field at, which is empty or
// ends with a dot.
func newRateLimiter(f *faults, at string, cfg RateLimiterConfig) *RateLimiter {
	l := &RateLimiter{seed: maphash.MakeSeed(), epoch: time.Now(), ipv6Bits: cfg.IPv6Bits}
	size := newBucketSize(f, at, cfg.Rate)
	if cfg.MaxKeys < 0 || cfg.MaxKeys > maxRateKeys {
		f.addf(at+"maxKeys", "%d is not between 0 and %d", cfg.MaxKeys, maxRateKeys)
	}
	if cfg.IPv6Bits < 0 || cfg.IPv6Bits > 128 {
		f.addf(at+"ipv6Bits", "%d is not between 0 and 128", cfg.IPv6Bits)
	}
	if cfg.IPv6Bits == 0 {
		l.ipv6Bits = 64
	}
	keys := cfg.MaxKeys
	if keys == 0 {
		keys = defaultRateKeys
	}
	l.table = tokenbucket.NewTable(size, keys)
	return l
}

// Allow takes a token from the bucket of a key, and reports false if there is
// none.
func (l *RateLimiter) Allow(key string) bool { return l.AllowN(key, 1) }

// AllowN takes n tokens from the bucket of a key, or none, and reports false,
// if there are fewer. n below 1 asks only whether there is one token.
func (l *RateLimiter) AllowN(key string, n int) bool {
	return l.take(maphash.String(l.seed, key), n, l.now())
}

// AllowAddr takes a token from the bucket of an address. IPv4-mapped IPv6
// addresses count as IPv4; of other IPv6 addresses only the prefix counts, see
// [RateLimiterConfig].IPv6Bits. Invalid addresses share one bucket. These
// buckets are not those of Allow.
func (l *RateLimiter) AllowAddr(addr netip.Addr) bool {
	var key [17]byte
	return l.take(l.hash(l.appendAddr(key[:0], addr)), 1, l.now())
}

func (l *RateLimiter) hash(key []byte) uint64 { return maphash.Bytes(l.seed, key) }

// appendAddr appends the form of an address in which clients are told apart.
func (l *RateLimiter) appendAddr(key []byte, addr netip.Addr) []byte {
	addr = normalize(addr)
	if addr.Is6() {
		p, _ := addr.Prefix(l.ipv6Bits)
		addr = p.Addr()
	}
	b := addr.As16()
	return append(append(key, byte(addr.BitLen())), b[:]...)
}

// Stats returns how many events were within the limit and above it since the
// limiter was constructed.
func (l *RateLimiter) Stats() (allowed, limited uint64) {
	return l.allowed.Load(), l.limited.Load()
}

func (l *RateLimiter) now() int64 { return int64(time.Since(l.epoch)) }

// take is AllowN for the hash of a key, at a time since the epoch.
func (l *RateLimiter) take(hash uint64, n int, now int64) bool {
	ok := l.table.Take(hash, n, now)
	switch {
	case n < 1: // only asked
	case ok:
		l.allowed.Add(1)
	default:
		l.limited.Add(1)
	}
	return ok
}

// newBucketSize reports faults of a rate below the field at.
func newBucketSize(f *faults, at string, r Rate) tokenbucket.Size {
	before := len(f.errs)
	if r.Count < 1 || r.Count > maxRateCount {
		f.addf(at+"count", "%d is not between 1 and 1e9", r.Count)
	}
	if r.Period == 0 {
		r.Period = time.Second
	}
	if r.Period < time.Second || r.Period > maxRatePeriod {
		f.addf(at+"period", "%v is not between 1 s and 1e9 s", r.Period)
	}
	if r.Burst < 0 || r.Burst > maxRateCount {
		f.addf(at+"burst", "%d is not between 0 and 1e9", r.Burst)
	}
	if len(f.errs) > before {
		return tokenbucket.Size{}
	}
	size, err := tokenbucket.NewSize(r.Count, r.Period, r.Burst)
	if err != nil {
		f.addf(at+"burst", "%v", err)
	}
	return size
}
