package certs

import (
	"crypto/tls"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A Store has the policy of a listener that is in force. Its methods may be
// called concurrently.
type Store struct {
	serving atomic.Pointer[serving]
	tickets tickets

	mu    sync.Mutex // of changes
	watch watch
}

// serving is a policy, and what handshakes use of it: with the keys of the
// store, since stores may share a policy.
type serving struct {
	*Policy
	server, strict *tls.Config
}

// NewStore returns a store with a policy.
func NewStore(p *Policy) *Store {
	s := &Store{watch: watch{told: map[string]time.Time{}}}
	s.Use(p)
	return s
}

// Server returns a configuration for a listener. Each handshake uses the policy
// that is in force when it begins; a connection is not touched later, and
// sessions can be resumed under another policy. strict says whether clients
// that ask for a name must have a certificate where it is optional.
func (s *Store) Server(strict func(name string) bool) *tls.Config {
	return &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		p := s.current()
		if answer := p.challenge(hello); answer != nil {
			return answer, nil
		}
		if p.clients != nil && strict(hello.ServerName) {
			return p.strict, nil
		}
		return p.server, nil
	}}
}

// current returns what a handshake uses that begins now.
func (s *Store) current() *serving {
	if now := time.Now(); now.UnixNano() >= s.tickets.due.Load() {
		s.tickets.mu.Lock()
		defer s.tickets.mu.Unlock()
		if s.tickets.renewLocked(now) {
			s.tickets.setLocked(s.serving.Load())
		}
	}
	return s.serving.Load()
}

// Policy returns the policy that is in force.
func (s *Store) Policy() *Policy {
	if p := s.serving.Load(); p != nil {
		return p.Policy
	}
	return nil
}

// put puts a policy in force.
func (s *Store) put(p *Policy) {
	next := &serving{p, p.server.Clone(), p.strict.Clone()}
	s.tickets.mu.Lock()
	defer s.tickets.mu.Unlock()
	s.tickets.setLocked(next)
	s.serving.Store(next)
}

// Use puts a policy in force. What the store has read from the same files since
// the policy was made stays in force.
func (s *Store) Use(p *Policy) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.Policy(); old != nil && p.config.Watch {
		p = p.renewed(old)
	}
	s.put(p)
	s.watch = newWatch(p, s.watch.told)
}

// renewed returns the policy with what an older one has read later.
func (p *Policy) renewed(old *Policy) *Policy {
	later := map[Pair]*entry{}
	for _, e := range old.entries {
		later[Pair{Certificate: e.Certificate, Key: e.Key}] = e
	}
	next := p.clone()
	changed := false
	for i, e := range next.entries {
		if o := later[Pair{Certificate: e.Certificate, Key: e.Key}]; o != nil && o.read.After(e.read) && o.sum != e.sum {
			renewed := *o
			renewed.Field = e.Field
			next.entries[i], changed = &renewed, true
		}
	}
	if p.clients != nil && old.clients != nil && old.clients.read.After(p.clients.read) &&
		slices.Equal(p.config.Clients.CA, old.config.Clients.CA) && slices.Equal(p.config.Clients.CRL, old.config.Clients.CRL) {
		next.clients, changed = old.clients, true
	}
	if !changed {
		return p
	}
	next.build()
	return next
}

// clone returns a policy to change; build makes it complete.
func (p *Policy) clone() *Policy {
	return &Policy{config: p.config, entries: slices.Clone(p.entries), clients: p.clients, issuer: p.issuer}
}
