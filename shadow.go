package limpet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"reflect"
	"sync"
	"time"

	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
)

// shadow returns a virtual service with the configuration of s, whose requests
// change nothing outside of it. It describes them in e.Run.
func (s *snapshot) shadow(e *Explanation) (*VirtualService, error) {
	real, ok := s.Tables.(peekTables)
	if !ok {
		return nil, fmt.Errorf("limpet: tables cannot be read without a change: %w", errors.ErrUnsupported)
	}
	cfg := s.Config.clone()
	cfg.Pools, cfg.PoolGroups = lbpool.Shadow(s.Pools, s.PoolGroups)
	cfg.Overrides = nil // they have had their effects
	cfg.Tables = &shadowTables{real: real, entries: map[[2]string]shadowEntry{}}
	shadows := shadowProfiles{}
	cfg.Persistence = shadows.of(cfg.Persistence)
	for name, p := range cfg.PoolPersistence {
		cfg.PoolPersistence[name] = shadows.of(p)
	}
	limiters, err := shadowLimiters(cfg.RateLimiters)
	if err != nil {
		return nil, err
	}
	cfg.RateLimiters = limiters
	if p := cfg.RateProfile; p != nil {
		own := *p
		if own.Limiter, err = datascript.NewRateLimiter(p.Limiter.Limit()); err != nil {
			return nil, err
		}
		cfg.RateProfile = &own
	}
	cfg.Logger, cfg.Transport = nil, explainTransport{e}
	cfg.OnComplete = func(r Record) { e.Run.describe(&r) }
	return New(cfg)
}

// An explainTransport takes the place of servers.
type explainTransport struct{ e *Explanation }

// RoundTrip implements [http.RoundTripper].
func (t explainTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	return t.e.Run.answer(r), nil
}

func shadowLimiters(limiters map[string]*datascript.RateLimiter) (map[string]*datascript.RateLimiter, error) {
	own := maps.Clone(limiters)
	for name, l := range own {
		fresh, err := datascript.NewRateLimiter(l.Limit())
		if err != nil {
			return nil, err
		}
		own[name] = fresh
	}
	return own, nil
}

// peekTables are tables that can be read without a change.
type peekTables interface {
	Peek(ctx context.Context, table, key string) (value string, remaining time.Duration, ok bool, err error)
}

// shadowTables are tables whose changes do not reach the real ones. An entry is
// copied from there when it is used first.
type shadowTables struct {
	real    peekTables
	mu      sync.Mutex
	entries map[[2]string]shadowEntry // by table and key
}

// A shadowEntry that is not there has been removed.
type shadowEntry struct {
	value string
	until time.Time
}

// entry returns the live entry.
func (t *shadowTables) entry(ctx context.Context, table, key string) (e shadowEntry, ok bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, known := t.entries[[2]string{table, key}]
	if !known {
		value, left, found, err := t.real.Peek(ctx, table, key)
		if err != nil || !found {
			return e, false, err
		}
		e = shadowEntry{value, time.Now().Add(left)}
	}
	return e, time.Now().Before(e.until), nil
}

func (t *shadowTables) put(table, key string, e shadowEntry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.entries[[2]string{table, key}] = e
}

// Insert implements [datascript.Tables].
func (t *shadowTables) Insert(ctx context.Context, table, key, value string, lifetime time.Duration) (bool, error) {
	e, live, err := t.entry(ctx, table, key)
	if err != nil || lifetime <= 0 {
		return false, err
	}
	if !live {
		e.value = value
	}
	e.until = time.Now().Add(lifetime)
	t.put(table, key, e)
	return true, nil
}

// Lookup implements [datascript.Tables].
func (t *shadowTables) Lookup(ctx context.Context, table, key string, extend time.Duration) (string, time.Duration, bool, error) {
	e, live, err := t.entry(ctx, table, key)
	if err != nil || !live {
		return "", 0, false, err
	}
	if extend > 0 {
		e.until = e.until.Add(extend)
		t.put(table, key, e)
	}
	return e.value, time.Until(e.until), true, nil
}

// Refresh implements [datascript.Tables].
func (t *shadowTables) Refresh(ctx context.Context, table, key string, extend time.Duration) (bool, error) {
	_, _, live, err := t.Lookup(ctx, table, key, extend)
	return live, err
}

// Remove implements [datascript.Tables].
func (t *shadowTables) Remove(_ context.Context, table, key string) error {
	t.put(table, key, shadowEntry{})
	return nil
}

// CompareAndSwap implements [Tables].
func (t *shadowTables) CompareAndSwap(ctx context.Context, table, key, old, replacement string) (bool, error) {
	e, live, err := t.entry(ctx, table, key)
	if err != nil || !live || e.value != old {
		return false, err
	}
	e.value = replacement
	t.put(table, key, e)
	return true, nil
}

// shadowProfiles are the shadows of profiles that have been made: two targets
// that share a profile must share its shadow.
type shadowProfiles map[PersistenceProfile]*shadowProfile

func (of shadowProfiles) of(p PersistenceProfile) PersistenceProfile {
	switch {
	case p == nil || sameProfile(p, NoPersistence):
		return p
	case !reflect.ValueOf(p).Comparable():
		return &shadowProfile{p}
	case of[p] == nil:
		of[p] = &shadowProfile{p}
	}
	return of[p]
}

// A shadowProfile finds bindings as its profile does, but neither renews them
// nor binds anybody on this side.
type shadowProfile struct{ real PersistenceProfile }

// Find implements [PersistenceProfile].
func (p *shadowProfile) Find(r *http.Request, client netip.Addr, target string) (server string, remaining time.Duration, err error) {
	switch real := p.real.(type) {
	case *persistence.HTTPCookie, *persistence.CustomHeader: // which store nothing
		return p.real.Find(r, client, target)
	case interface {
		Peek(r *http.Request, client netip.Addr, target string) (server string, remaining time.Duration, err error)
	}:
		return real.Peek(r, client, target)
	}
	return "", 0, nil
}

// Bind implements [PersistenceProfile].
func (p *shadowProfile) Bind(h http.Header, r *http.Request, client netip.Addr, target, server string) error {
	if cookie, ok := p.real.(*persistence.HTTPCookie); ok {
		return cookie.Bind(h, r, client, target, server)
	}
	return nil
}

// StripRequest removes the profile's own cookies from the header of a request.
func (p *shadowProfile) StripRequest(h http.Header) {
	if s, ok := p.real.(cookieStripper); ok {
		s.StripRequest(h)
	}
}

// Source returns where the profile finds bindings.
func (p *shadowProfile) Source() persistence.Source {
	if s, ok := p.real.(interface{ Source() persistence.Source }); ok {
		return s.Source()
	}
	return ""
}
