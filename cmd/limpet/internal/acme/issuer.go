// Package acme gets certificates by ACME (RFC 8555) for the listeners of a
// configuration, and renews them.
//
// The protocol is that of acmez, and the storage that of certmagic: processes
// that share a directory, limpet or others, share accounts and certificates,
// and one of them at a time orders a certificate. The rest of certmagic is not
// used, since it opens sockets of its own to answer challenges; here the
// listeners of the configuration do.
package acme

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mholt/acmez/v3/acme"

	"github.com/limpetlb/limpet/config"
)

// atOnce is how many certificates are ordered at a time.
const atOnce = 4

// attemptTime bounds an attempt to get a certificate.
const attemptTime = 5 * time.Minute

// longNap bounds how long an Issuer waits until it looks at the clock again,
// which may have been set, or gone on while the machine slept.
const longNap = time.Hour

// An Issuer implements [config.Issuer].
type Issuer struct {
	storage string        // of authorities that name none
	second  time.Duration // how long one is in the pauses between orders; tests make it short
	nap     time.Duration // longNap but in tests

	slots      chan struct{}
	names      atomic.Pointer[map[key]*name]
	challenges challenges

	mu          sync.Mutex
	log         *slog.Logger
	authorities map[string]*authority
	running     context.Context // of Run; nil while it does not run
	work        sync.WaitGroup
}

var _ config.Issuer = (*Issuer)(nil)

// key finds a name that is managed.
type key struct{ authority, name string }

// A name has a certificate, or is to get one.
type name struct {
	text   string
	of     *authority
	cert   atomic.Pointer[certificate]
	cancel context.CancelFunc // nil while nothing runs
}

// New returns an Issuer whose authorities have their storage in a directory,
// unless they name another one.
func New(storage string) *Issuer {
	i := &Issuer{storage: storage, second: time.Second, nap: longNap, slots: make(chan struct{}, atOnce), log: slog.New(slog.DiscardHandler)}
	i.names.Store(&map[key]*name{})
	return i
}

// Manage implements [config.Issuer].
func (i *Issuer) Manage(all []config.ACME, log *slog.Logger) {
	var damaged []error
	defer func() {
		for _, err := range damaged {
			log.Warn("stored certificate cannot be used, a new one is ordered", "error", err)
		}
	}()
	i.mu.Lock()
	defer i.mu.Unlock()
	i.log = log
	before, old := *i.names.Load(), i.authorities
	next := map[key]*name{}
	i.authorities = map[string]*authority{}
	for _, a := range all {
		own := i.newAuthority(a)
		if kept := old[a.Name]; kept != nil && reflect.DeepEqual(kept.ACME, own.ACME) {
			own = kept
		}
		i.authorities[a.Name] = own
		for _, text := range a.Names {
			k := key{a.Name, text}
			if n := before[k]; n != nil && n.of == own {
				next[k] = n
				continue
			}
			n := &name{text: text, of: own}
			c, err := own.load(context.Background(), text)
			if err != nil {
				damaged = append(damaged, fmt.Errorf("%s from %s: %w", text, a.Name, err))
			}
			if c == nil {
				c = inherited(before, text)
			}
			n.cert.Store(c)
			next[k] = n
		}
	}
	i.names.Store(&next)
	i.challenges.of(next)
	for k, n := range before {
		if next[k] != n && n.cancel != nil {
			n.cancel()
		}
	}
	if i.running != nil {
		i.start()
	}
}

// inherited is the certificate that a name has from another authority, to serve
// until it has one from its own.
func inherited(before map[key]*name, text string) *certificate {
	for k, n := range before {
		if c := n.cert.Load(); k.name == text && c != nil {
			foreign := *c
			foreign.foreign = true
			return &foreign
		}
	}
	return nil
}

// Run implements [config.Issuer].
func (i *Issuer) Run(ctx context.Context) error {
	i.mu.Lock()
	i.running = ctx
	i.start()
	i.mu.Unlock()
	<-ctx.Done()
	i.mu.Lock()
	i.running = nil
	i.mu.Unlock()
	i.work.Wait()
	return nil
}

// start looks after the names that nobody looks after. The caller has locked
// mu.
func (i *Issuer) start() {
	for n := range maps.Values(*i.names.Load()) {
		if n.cancel != nil {
			continue
		}
		ctx, cancel := context.WithCancel(i.running)
		n.cancel = cancel
		i.work.Go(func() {
			defer cancel()
			i.keep(ctx, n)
		})
	}
}

// Certificate implements [config.Issuer].
func (i *Issuer) Certificate(authority, text string) *tls.Certificate {
	n := (*i.names.Load())[key{authority, text}]
	if n == nil {
		return nil
	}
	if c := n.cert.Load(); c != nil {
		return c.cert
	}
	return nil
}

// keep gets the certificate of a name, and renews it, until ctx ends.
func (i *Issuer) keep(ctx context.Context, n *name) {
	var earliest time.Time // of the next attempt
	for failures := 0; ctx.Err() == nil; {
		now, c := time.Now(), n.cert.Load()
		due := c.due()
		if earliest.After(due) {
			due = earliest
		}
		switch {
		case !now.Before(due):
			select {
			case i.slots <- struct{}{}:
			case <-ctx.Done():
				return
			}
			err := i.get(ctx, n)
			<-i.slots
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				failures++
				pause := i.pause(err, failures)
				earliest = time.Now().Add(pause)
				i.failed(n, err, pause)
				continue
			}
			// An authority whose certificates are due at once gets an order an
			// hour.
			failures, earliest = 0, time.Now().Add(3600*i.second)
		case c != nil && !c.foreign && !now.Before(c.ask):
			n.of.refresh(ctx, n)
		default:
			left := min(due.Sub(now), i.nap)
			if c != nil && !c.foreign {
				left = min(left, c.ask.Sub(now))
			}
			timer := time.NewTimer(left)
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
			}
		}
	}
}

// get gets a new certificate for a name.
func (i *Issuer) get(ctx context.Context, n *name) error {
	limited, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	before := n.cert.Load()
	c, ordered, err := n.of.obtain(limited, n.text)
	if c == nil {
		return err
	}
	if err != nil {
		i.logger().Error("certificate not stored, it is ordered again after a restart", "name", n.text, "authority", n.of.Name, "error", err)
	}
	n.cert.Store(c)
	message := "certificate issued"
	switch {
	case !ordered:
		message = "certificate of another process in use"
	case before != nil:
		message = "certificate renewed"
	}
	i.logger().Info(message, "name", n.text, "authority", n.of.Name, "expires", c.cert.Leaf.NotAfter) //nolint:sloglint // one of the constants above
	return nil
}

// failed reports a failure. It is an error if clients cannot connect now or
// soon.
func (i *Issuer) failed(n *name, err error, pause time.Duration) {
	level, message, c := slog.LevelError, "certificate not issued, handshakes fail", n.cert.Load()
	attrs := []slog.Attr{
		slog.String("name", n.text), slog.String("authority", n.of.Name), slog.String("error", err.Error()),
		slog.Duration("retry", pause.Round(time.Second)),
	}
	if c != nil {
		left := time.Until(c.cert.Leaf.NotAfter)
		if message = "certificate not renewed"; left > c.lifetime()/8 {
			level = slog.LevelWarn
		}
		attrs = append(attrs, slog.Time("expires", c.cert.Leaf.NotAfter))
	}
	i.logger().LogAttrs(context.Background(), level, message, attrs...) //nolint:sloglint // one of the constants above
}

func (i *Issuer) logger() *slog.Logger {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.log
}

// pause is how long to wait after a number of failures: not long if nobody has
// answered, but longer if the authority has refused, since it counts that.
func (i *Issuer) pause(err error, failures int) time.Duration {
	first, most := 5*i.second, 600*i.second
	if _, refused := errors.AsType[acme.Problem](err); refused {
		first, most = 60*i.second, 6*3600*i.second
	}
	pause := most
	if shift := failures - 1; shift < 16 {
		pause = min(first<<shift, most)
	}
	return pause - rand.N(pause/8+1)
}
