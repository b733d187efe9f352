package policy

import (
	"net/http"
	"net/textproto"

	"github.com/limpetlb/limpet/internal/httpfield"
)

// RateLimit limits the rate of requests. Requests within the rate go on to the
// next rule.
//
// What is set divides requests: with PerClient and PerPath, each pair of a
// client and a path has its own token bucket. With nothing set, all requests
// that the rule matches share one. A rule in dry run takes tokens too, so that
// it reports exactly what it would do.
type RateLimit struct {
	Limit RateLimiterConfig // MaxKeys and IPv6Bits have no effect if all requests share one bucket

	// PerClient divides requests by the address of Transaction.Client; of IPv6
	// addresses, by the first Limit.IPv6Bits bits.
	PerClient bool
	// PerPath divides requests by the path, without the query, decoded. Case,
	// empty segments, parameters, backslashes and dot segments are ignored.
	PerPath bool
	// PerHeader divides requests by the values of the header with this name, if
	// it is not empty. Requests without the header share a bucket.
	PerHeader string
	// PerCookie divides requests by the values of the cookie with this name, if
	// it is not empty. Requests without the cookie share a bucket.
	PerCookie string

	// CountFailures takes tokens only for requests that fail: see
	// [HTTPSecurity.Failed]. If Limit.Count of them fail (or Limit.Burst, if
	// that is more), all requests of the same client, path and so on exceed the
	// rate for a whole Limit.Period.
	CountFailures bool

	// Exceeded is what happens to requests above the rate. Nil means
	// Respond{Status: 429}.
	Exceeded RateLimitAction
}

// RateLimitAction is what an HTTP security rule does with requests above a
// rate: one of [Report], [Close], [Respond] and [Redirect], by value. Other
// packages cannot add to them.
type RateLimitAction interface {
	rateLimitAction()
}

// Report passes requests above a rate to the next rule and only reports them,
// in [Verdict].Monitored and in the counters of the rule.
type Report struct{}

func (RateLimit) securityAction() {}

func (Report) rateLimitAction()   {}
func (Close) rateLimitAction()    {}
func (Respond) rateLimitAction()  {}
func (Redirect) rateLimitAction() {}

// compiledLimit is the compiled form of a RateLimit. It is an action like
// those that it is compiled from.
type compiledLimit struct {
	RateLimit
	limiter        *RateLimiter
	header, cookie fieldCondition // of PerHeader and PerCookie
	exceeded       any            // compiled: Report, Close, Respond or *compiledRedirect
}

func (compiledLimit) securityAction() {}

func (a RateLimit) compile(c *compiler, field string) *compiledLimit {
	l := &compiledLimit{RateLimit: a, limiter: newRateLimiter(&c.faults, field+".limit", a.Limit)}
	if a.PerHeader != "" {
		l.header.name = fieldName{name: textproto.CanonicalMIMEHeaderKey(a.PerHeader)}
		l.header.slot = c.slot(l.header.name)
		if !httpfield.IsToken(a.PerHeader) {
			c.faults.Addf(field+".perHeader", a.PerHeader, "not a header name")
		}
	}
	if a.PerCookie != "" {
		l.cookie.name = fieldName{cookie: true, name: a.PerCookie}
		l.cookie.slot = c.slot(l.cookie.name)
		if !httpfield.IsToken(a.PerCookie) {
			c.faults.Addf(field+".perCookie", a.PerCookie, "not a cookie name")
		}
	}
	switch e := a.Exceeded.(type) {
	case nil:
		l.exceeded = builtinPage(http.StatusTooManyRequests)
	case Report, Close:
		l.exceeded = e
	case Respond:
		l.exceeded = e.compile(&c.faults, field+".exceeded")
	case Redirect:
		l.exceeded = e.compile(c, field+".exceeded", nil)
	default:
		c.faults.Addf(field+".exceeded", nil, "%T is not an action; give the struct, not a pointer to it", e)
	}
	return l
}

// takeOver keeps the buckets of the limit that this one replaces, if rate and
// keys are the same.
func (l *compiledLimit) takeOver(old *compiledLimit) {
	a, b := l.RateLimit, old.RateLimit
	a.Exceeded, b.Exceeded = nil, nil
	if a == b {
		l.limiter = old.limiter
	}
}

// allows takes a token for the request. With peek it only reports whether there
// is one.
func (l *compiledLimit) allows(s *subjects, peek bool) (bool, error) {
	hash, err := l.key(s)
	if err != nil {
		return false, err
	}
	if peek || l.CountFailures {
		return l.limiter.table.Peek(hash, l.limiter.now()), nil
	}
	return l.limiter.take(hash, 1, l.limiter.now()), nil
}

// key returns the hash of the parts that divide requests. The length of each
// part follows it, so that no two requests share a key by shifting bytes from
// one part into the next.
func (l *compiledLimit) key(s *subjects) (uint64, error) {
	var parts [2][]text
	if l.PerHeader != "" {
		parts[0] = s.field(l.header.slot, l.header.name)
	}
	if l.PerCookie != "" {
		parts[1] = s.field(l.cookie.slot, l.cookie.name)
	}
	var path []byte
	if l.PerPath {
		var err error
		if path, err = s.plainestPath(); err != nil {
			return 0, err
		}
	}
	start := len(s.arena)
	if l.PerClient {
		s.arena = l.limiter.appendAddr(s.arena, s.client)
	}
	s.appendPart(path)
	for _, texts := range parts {
		for _, t := range texts {
			s.appendPart(t.exact)
		}
		s.arena = append(s.arena, byte(min(len(texts), 255)))
	}
	hash := l.limiter.hash(s.arena[start:])
	s.arena = s.arena[:start]
	return hash, nil
}

func (s *subjects) appendPart(part []byte) {
	s.arena = append(s.arena, part...)
	n := len(part)
	s.arena = append(s.arena, byte(n), byte(n>>8), byte(n>>16), byte(n>>24))
}
