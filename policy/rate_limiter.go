package policy

import (
	"hash/maphash"
	"math/bits"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
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
	DefaultRateKeys = 1 << 16 // RateLimiterConfig.MaxKeys if that is 0
	MaxRateKeys     = 1 << 24 // the greatest RateLimiterConfig.MaxKeys

	maxRateCount  = 1e9
	maxRatePeriod = 1e9 * time.Second
	// maxRefill is the longest time in which a bucket may fill.
	maxRefill = 1 << 61
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
	bucketSize
	seed             maphash.Seed
	epoch            time.Time // when it was constructed
	ipv6Bits         int
	setMask          uint64 // sets are chosen by these bits of the hash
	shards           [rateShards]rateShard
	allowed, limited atomic.Uint64
}

// A shard is a part of the sets under one lock. A key hashes to one set, and
// can only be in one of its slots.
//
// A new key takes the slot of the key that has the most tokens, and with it
// that key's bucket as it is. This is the Space-Saving sketch, turned from
// counters to buckets. A key that is not in its set has at least as many
// tokens as the fullest bucket of the set: that was so when it was pushed out,
// and since then its bucket could only fill, while the fullest bucket cannot
// become fuller than time fills it. So by taking that bucket it never gets
// more than its due. A bucket that is full is as good as none: taking it is
// forgetting nothing.
const (
	rateShards = 64
	rateWays   = 8 // slots of a set
)

type rateShard struct {
	mu   sync.Mutex
	sets [][rateWays]rateSlot // nil until used
	_    [32]byte             // shards do not share cache lines
}

type rateSlot struct {
	key  uint64 // hash of the key
	full int64  // when the bucket will be full
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
	l.bucketSize = newBucketSize(f, at, cfg.Rate)
	if cfg.MaxKeys < 0 || cfg.MaxKeys > MaxRateKeys {
		f.addf(at+"maxKeys", "%d is not between 0 and %d", cfg.MaxKeys, MaxRateKeys)
	}
	if cfg.IPv6Bits < 0 || cfg.IPv6Bits > 128 {
		f.addf(at+"ipv6Bits", "%d is not between 0 and 128", cfg.IPv6Bits)
	}
	if cfg.IPv6Bits == 0 {
		l.ipv6Bits = 64
	}
	keys := max(cfg.MaxKeys, rateWays)
	if cfg.MaxKeys == 0 {
		keys = DefaultRateKeys
	}
	sets := 1 << bits.Len(uint((keys+rateWays-1)/rateWays-1))
	l.setMask = uint64(sets - 1)
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

// RateLimiterStats are the counters of a [RateLimiter].
type RateLimiterStats struct {
	Allowed uint64 // events within the limit
	Limited uint64 // events above it
}

// Stats returns the counters since the limiter was constructed.
func (l *RateLimiter) Stats() RateLimiterStats {
	return RateLimiterStats{Allowed: l.allowed.Load(), Limited: l.limited.Load()}
}

func (l *RateLimiter) now() int64 { return int64(time.Since(l.epoch)) }

// take is AllowN for the hash of a key, at a time since the epoch.
func (l *RateLimiter) take(hash uint64, n int, now int64) bool {
	shard, i := l.place(hash)
	shard.mu.Lock()
	if shard.sets == nil {
		shard.sets = make([][rateWays]rateSlot, l.setMask/rateShards+1)
	}
	slot := choose(&shard.sets[i], hash)
	full, ok := l.bucketSize.take(slot.full, n, now)
	if ok && n > 0 {
		*slot = rateSlot{hash, full}
	}
	shard.mu.Unlock()
	switch {
	case n < 1: // only asked
	case ok:
		l.allowed.Add(1)
	default:
		l.limited.Add(1)
	}
	return ok
}

// fail takes a token, and if it is the last one it sees to it that there is
// none for a whole period.
func (l *RateLimiter) fail(hash uint64, now int64) {
	shard, i := l.place(hash)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if shard.sets == nil {
		shard.sets = make([][rateWays]rateSlot, l.setMask/rateShards+1)
	}
	slot := choose(&shard.sets[i], hash)
	full, ok := l.bucketSize.take(slot.full, 1, now)
	if !ok {
		return
	}
	if _, more := l.bucketSize.take(full, 1, now); !more {
		full = now + l.period + l.refill - l.interval // so there is one token then
	}
	*slot = rateSlot{hash, full}
}

// peek reports what take would, and leaves everything as it is.
func (l *RateLimiter) peek(hash uint64, now int64) bool {
	shard, i := l.place(hash)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if shard.sets == nil {
		return true
	}
	_, ok := l.bucketSize.take(choose(&shard.sets[i], hash).full, 1, now)
	return ok
}

// place returns where the set of a key is. The low bits choose the shard.
func (l *RateLimiter) place(hash uint64) (*rateShard, uint64) {
	set := hash & l.setMask
	return &l.shards[set%rateShards], set / rateShards
}

// choose returns the slot of a key, or else the one that has the most tokens.
func choose(set *[rateWays]rateSlot, hash uint64) *rateSlot {
	best := &set[0]
	for i := range set {
		slot := &set[i]
		if slot.key == hash {
			return slot
		}
		if slot.full < best.full {
			best = slot
		}
	}
	return best
}

// bucketSize says how buckets fill. A bucket is one number: the time at which
// it will be full, if nothing is taken until then. Taking a token moves that
// time by the interval at which tokens come (the generic cell rate algorithm).
type bucketSize struct {
	interval int64 // nanoseconds between two tokens
	refill   int64 // nanoseconds in which an empty bucket fills
	period   int64 // nanoseconds in which Rate.Count tokens come
}

func newBucketSize(f *faults, at string, r Rate) bucketSize {
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
		return bucketSize{}
	}
	interval := (int64(r.Period) + int64(r.Count) - 1) / int64(r.Count)
	capacity := int64(max(r.Count, r.Burst))
	if interval > maxRefill/capacity {
		f.addf(at+"burst", "%d tokens at %d in %v take more than 73 years to come", capacity, r.Count, r.Period)
		return bucketSize{}
	}
	return bucketSize{interval, interval * capacity, int64(r.Period)}
}

// take takes n tokens at once, or none, from a bucket that will be full at a
// time. n below 1 only asks for one.
func (b bucketSize) take(full int64, n int, now int64) (int64, bool) {
	// Compared before it is multiplied, because scripts choose n.
	if int64(n) > b.refill/b.interval {
		return full, false
	}
	full = max(full, now)
	later := full + int64(max(n, 1))*b.interval
	return later, later-now <= b.refill
}

// bucket is one token bucket without a key.
type bucket struct {
	size  bucketSize
	epoch time.Time // what full counts from
	full  atomic.Int64
}

func (b *bucket) take() bool {
	now := int64(time.Since(b.epoch))
	for {
		old := b.full.Load()
		later, ok := b.size.take(old, 1, now)
		if !ok || b.full.CompareAndSwap(old, later) {
			return ok
		}
	}
}

func (b *bucket) peek() bool {
	_, ok := b.size.take(b.full.Load(), 1, int64(time.Since(b.epoch)))
	return ok
}
