package jwtkeys

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	fetchTimeout = 10 * time.Second
	firstRetry   = time.Second
	lastRetry    = 30 * time.Second
	// askInterval is the shortest time between two requests because of tokens.
	askInterval = 30 * time.Second
)

// askForKeys makes the fetcher fetch soon, since a token names a key that the
// set does not have. It does not wait.
func (s *keySet) askForKeys() {
	select {
	case s.ask <- struct{}{}:
	default:
	}
}

// follow fetches the keys of a set until ctx ends.
func (v *Verifier) follow(ctx context.Context, s *keySet) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	retry, failure := firstRetry, ""
	var asked time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-s.ask:
			now := time.Now()
			if !asked.IsZero() && now.Sub(asked) < askInterval {
				continue
			}
			asked = now
		}
		changed, err := v.fetch(ctx, s)
		if ctx.Err() != nil {
			return
		}
		next := s.Interval
		switch {
		case err != nil:
			if text := err.Error(); text != failure {
				failure = text
				v.report(s, err)
			}
			next = min(retry, next)
			retry = min(2*retry, lastRetry)
		default:
			if changed || failure != "" {
				v.report(s, nil)
			}
			retry, failure = firstRetry, ""
		}
		timer.Reset(next)
	}
}

// fetch asks for the keys once. It reports whether they have changed.
func (v *Verifier) fetch(ctx context.Context, s *keySet) (changed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL, nil)
	if err != nil {
		return false, err
	}
	r.Header.Set("Accept", "application/jwk-set+json, application/json;q=0.9, application/x-pem-file;q=0.8")
	r.Header.Set("User-Agent", "limpet")
	res, err := s.Transport.RoundTrip(r)
	if err != nil {
		return false, err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return false, fmt.Errorf("status %d", res.StatusCode)
	}
	content, err := io.ReadAll(io.LimitReader(res.Body, maxSetBytes+1))
	if err != nil {
		return false, err
	}
	if len(content) > maxSetBytes {
		return false, errors.New("more than 1 MiB")
	}
	if bytes.Equal(content, s.keys.Load().source) {
		return false, nil
	}
	return true, v.take(s, content, parseKeys)
}
