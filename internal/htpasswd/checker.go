package htpasswd

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"hash/maphash"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/crypto/bcrypt"
)

const (
	maxRemembered = 4096
	maxWaiting    = 128 // for their turn to compute
	maxWait       = 10 * time.Second
)

// ErrBusy says that too many passwords are being checked. It has a method
// Unavailable that returns true.
var ErrBusy error = busyError{}

type busyError struct{}

func (busyError) Error() string     { return "too many passwords are being checked" }
func (busyError) Unavailable() bool { return true }

// seed is the same for all files, so that times do not change.
var seed = maphash.MakeSeed()

// A Checker checks names and passwords. It may be used concurrently.
type Checker struct {
	users  atomic.Pointer[users]
	memory atomic.Pointer[memory]
}

// A memory is what checkers that follow one another have in common.
type memory struct {
	secret  [sha256.Size]byte
	turns   chan struct{}
	waiting atomic.Int64
	compare func(hash, password []byte) error // bcrypt's

	mu         sync.Mutex
	remembered *simplelru.LRU[credentials, string] // the hash that they have fitted
	running    map[task]*comparison
}

// credentials are a hash of a name and a password with the secret of a memory.
type credentials [sha256.Size]byte

// A task is what a comparison compares.
type task struct {
	id   credentials
	hash string
}

// A comparison is under way.
type comparison struct {
	done chan struct{}
	ok   bool
	err  error
}

// New returns a checker, which knows no users until [Checker.Load].
func New() *Checker {
	m := &memory{
		turns:   make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)),
		compare: bcrypt.CompareHashAndPassword,
		running: map[task]*comparison{},
	}
	_, _ = rand.Read(m.secret[:]) // never fails
	m.remembered, _ = simplelru.NewLRU[credentials, string](maxRemembered, nil)
	c := &Checker{}
	c.memory.Store(m)
	return c
}

// Adopt lets the checker remember what an old one does: a password is correct
// as long as its user has the same hash. Both count together in what is
// computed at a time.
func (c *Checker) Adopt(old *Checker) { c.memory.Store(old.memory.Load()) }

// Load takes the users of a file. If it is not valid, the old ones stay.
func (c *Checker) Load(content []byte) error {
	u, err := parse(content)
	if err != nil {
		return err
	}
	c.users.Store(u)
	return nil
}

// Check reports whether a user has a password. The error is [ErrBusy], or that
// of ctx.
func (c *Checker) Check(ctx context.Context, name, password string) (ok bool, err error) {
	users := c.users.Load()
	if users == nil || name == "" || len(name) > maxUser || len(password) > MaxPassword || !isText(name) || !isText(password) {
		return false, nil
	}
	m := c.memory.Load()
	id := m.identify(name, password)
	hash, known := users.find(name)
	for {
		m.mu.Lock()
		if fitted, ok := m.remembered.Get(id); ok {
			if known && fitted == hash {
				m.mu.Unlock()
				return true, nil
			}
			m.remembered.Remove(id)
		}
		other, ok := m.running[task{id, hash}]
		if !ok {
			break // with the lock
		}
		m.mu.Unlock()
		select {
		case <-other.done:
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
		if other.err == nil || other.err == ErrBusy { //nolint:errorlint // it is nobody's but ours
			return other.ok, other.err
		}
		// The client that the other one was for has gone.
	}
	mine := &comparison{done: make(chan struct{})}
	m.running[task{id, hash}] = mine
	m.mu.Unlock()

	mine.ok, mine.err = m.fits(ctx, hash, password)
	mine.ok = mine.ok && known
	m.mu.Lock()
	delete(m.running, task{id, hash})
	if mine.ok {
		m.remembered.Add(id, hash)
	}
	m.mu.Unlock()
	close(mine.done)
	return mine.ok, mine.err
}

// fits compares a password with a hash when it is its turn.
func (m *memory) fits(ctx context.Context, hash, password string) (bool, error) {
	if m.waiting.Add(1) > maxWaiting {
		m.waiting.Add(-1)
		return false, ErrBusy
	}
	timer := time.NewTimer(maxWait)
	defer timer.Stop()
	select {
	case m.turns <- struct{}{}:
		m.waiting.Add(-1)
	case <-ctx.Done():
		m.waiting.Add(-1)
		return false, context.Cause(ctx)
	case <-timer.C:
		m.waiting.Add(-1)
		return false, ErrBusy
	}
	defer func() { <-m.turns }()
	return m.compare([]byte(hash), []byte(password[:min(len(password), bcryptBytes)])) == nil, nil
}

// identify hashes a name and a password, together with a secret, so that nobody
// can choose two that collide, or look a hash up in a list of known passwords.
func (m *memory) identify(name, password string) credentials {
	var buffer [sha256.Size + 1 + maxUser + MaxPassword]byte
	b := append(buffer[:0], m.secret[:]...)
	b = append(b, byte(len(name)))
	b = append(b, name...)
	b = append(b, password...)
	return sha256.Sum256(b)
}
