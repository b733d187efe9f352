package lbpool

import (
	"net/http"
	"time"

	"github.com/limpetlb/limpet/internal/bounds"
	"github.com/limpetlb/limpet/internal/fielderr"
)

// defaultRetries is what Retries 0 means.
const defaultRetries = 2

// Reselect says when a Transport tries another server, and how often. The name
// is that of Avi. Further
// tries go to other servers; only a dead idle connection is replaced by a new
// one to the same server.
//
// If a server cannot be connected to, another one is always tried, whatever the
// request, as long as nothing of its body was read: nothing was sent then.
// Codes and Broken add further cases for requests whose method is idempotent
// (RFC 9110, section 9.2.2), since the first server may have performed the
// request; if the body was read, MaxBody must have kept it. These further tries
// may be at most a fifth of a pool's requests in progress, or three, so that
// they do not overload servers in trouble.
//
// If all tries fail, the last response is passed on, or if there was none, the
// error of the last try.
type Reselect struct {
	// Retries is how many further servers are tried. 0 means 2; negative means
	// none.
	Retries int `default:"2" negative:"none"`
	// Codes are status codes, from 400 to 599, of responses after which another
	// server is tried. Nil means none.
	Codes []StatusRange
	// NonIdempotent applies Codes to all methods. Use it if servers respond
	// with these codes when they have done nothing. A request that is not
	// idempotent is still never sent again after a connection broke.
	NonIdempotent bool
	// Broken tries another server also if the server was connected to and gave
	// no response, because the connection broke or TryTimeout passed.
	Broken bool
	// MaxBody is how many bytes of a request body are kept to send them again,
	// at most 64 MiB. With 0 a request is not sent again once any of its body
	// was read, unless an HTTP/2 server has not processed it.
	MaxBody int `unit:"bytes" min:"0" max:"64MiB"`
	// TryTimeout limits the time from the start of a try to the header of the
	// response. 0 means only the limits of Base.
	TryTimeout time.Duration `min:"0s"`
	// Timeout is the time since the start of the first try after which no other
	// begins. 0 means no limit.
	Timeout time.Duration `min:"0s"`
}

func (r *Reselect) validate(faults *fielderr.List) {
	validRanges(r.Codes, "reselect.codes", 400, 599, faults)
	bounds.Check("reselect", *r, faults)
}

func (r *Reselect) retries() int {
	if r.Retries == 0 {
		return defaultRetries
	}
	return max(r.Retries, 0)
}

// repeatsAnswer reports whether another server should be tried because of a
// response.
func (r *Reselect) repeatsAnswer(method string, status int) bool {
	return within(r.Codes, status) && (r.NonIdempotent || idempotent(method))
}

// repeatsFault reports whether another server should be tried because of a
// failure after the connection was made.
func (r *Reselect) repeatsFault(method string) bool { return r.Broken && idempotent(method) }

func idempotent(method string) bool {
	switch method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}

// spareRetries and retryShare are the retry budget.
const (
	spareRetries = 3
	retryShare   = 20 // percent
)

// startRetry takes a slot of the retry budget, if one is free. endRetry gives
// it back.
func (p *Pool) startRetry() bool {
	for {
		n := p.retrying.Load()
		if n >= spareRetries && (n+1)*100 > int64(p.current.Load().open())*retryShare {
			p.counters.reselectsSpent.Add(1)
			return false
		}
		if p.retrying.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (p *Pool) endRetry() { p.retrying.Add(-1) }
