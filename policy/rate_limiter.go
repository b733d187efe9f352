package policy

import (
	"hash/maphash"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/limpetlb/limpet/internal/bounds"
	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/internal/tokenbucket"
)

// Rate is how often an event may occur: Count times per Period on average, and
// after a pause Burst times at once, if that is more than Count.
type Rate struct {
	// Count is 1 to 1e9; there is no default.
	Count int `min:"1" max:"1_000_000_000"`
	// Period is 1 s to 1e9 s; 0 means 1 s.
	Period time.Duration `default:"1s" min:"1s" max:"1000000000s"`
	// Burst is 0 to 1e9; below Count it has no effect.
	Burst int `min:"0" max:"1_000_000_000"`
}

// RateLimiterConfig is the configuration of a [RateLimiter].
type RateLimiterConfig struct {
	Rate
	// MaxKeys is about how many keys have buckets of their own at a time. It is
	// rounded up to a power of two, at least 8. 0 means 65,536; the maximum is
	// 1<<24. Each takes 16 bytes, allocated as keys arrive.
	MaxKeys int `default:"65_536" min:"1" max:"16_777_216"`
	// IPv6Bits is the length of the prefix that AllowAddr treats as one IPv6
	// client, because each subscriber can choose among 2^64 addresses or more.
	// 0 means 64; the maximum is 128.
	IPv6Bits int `default:"64" min:"1" max:"128"`
}

// RateLimiter limits events by key with token buckets. Each key has its own
// bucket, which starts full.
//
// Memory is bounded, however many keys clients choose. If more keys than
// MaxKeys are active, some share a bucket: such a key never gets more than its
// rate, but gets less by what the others take. Buckets that are full again are
// replaced first.
//
// Time is that of the monotonic clock. The interval between two tokens is
// rounded up to whole nanoseconds, so that rates are never exceeded; this makes
// rates above a million per second more than 0.1 % lower.
//
// It is safe for concurrent use and does not allocate for events.
type RateLimiter struct {
	table            *tokenbucket.Table
	seed             maphash.Seed
	epoch            time.Time // when it was constructed
	ipv6Bits         int
	allowed, limited atomic.Uint64
}

// NewRateLimiter returns a limiter. The error joins a [*FieldError] for
// each fault.
func NewRateLimiter(cfg RateLimiterConfig) (*RateLimiter, error) {
	var f fielderr.List
	l := newRateLimiter(&f, "", cfg)
	if err := f.ErrIn(cfg); err != nil {
		return nil, err
	}
	return l, nil
}

// newRateLimiter adds its faults to f, with paths that begin with at.
func newRateLimiter(f *fielderr.List, at string, cfg RateLimiterConfig) *RateLimiter {
	before := f.Len()
	bounds.Check(at, cfg, f)
	bounds.SetDefaults(&cfg)
	l := &RateLimiter{seed: maphash.MakeSeed(), epoch: time.Now(), ipv6Bits: cfg.IPv6Bits}
	if f.Len() > before {
		return l
	}
	size, err := tokenbucket.NewSize(cfg.Count, cfg.Period, cfg.Burst)
	if err != nil {
		f.Add(fielderr.Join(at, "burst"), nil, err)
		return l
	}
	l.table = tokenbucket.NewTable(size, cfg.MaxKeys)
	return l
}

// Allow takes a token from the bucket of a key and reports whether there was
// one.
func (l *RateLimiter) Allow(key string) bool { return l.AllowN(key, 1) }

// AllowN takes n tokens from the bucket of a key if it has as many, and reports
// whether it had. If n is below 1, AllowN takes none and reports whether there
// is one.
func (l *RateLimiter) AllowN(key string, n int) bool {
	return l.take(maphash.String(l.seed, key), n, l.now())
}

// AllowAddr takes a token from the bucket of an address and reports whether
// there was one. IPv4-mapped IPv6 addresses are treated as IPv4; other IPv6
// addresses with the same prefix share a bucket, see
// [RateLimiterConfig].IPv6Bits, and so do invalid addresses. Allow and
// AllowAddr never share buckets.
func (l *RateLimiter) AllowAddr(addr netip.Addr) bool {
	var key [17]byte
	return l.take(l.hash(l.appendAddr(key[:0], addr)), 1, l.now())
}

func (l *RateLimiter) hash(key []byte) uint64 { return maphash.Bytes(l.seed, key) }

// appendAddr appends the form of an address that identifies a client.
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
