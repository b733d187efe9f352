package config

import (
	"bytes"
	"cmp"
	"errors"
	"runtime"
	"slices"
	"sync"

	"github.com/limpetlb/limpet/persistence"
)

// A relay takes entries to the tables in memory that take the place of others:
// first all of them, then what requests under way store in the old ones, until
// no request has these any more.
type relay struct {
	sender    persistence.Sender // of the old tables
	successor *successor
	ended     chan struct{}
	end       func() // closes ended

	mu sync.Mutex   // guards to
	to []*successor // also those that have taken the place of the first, or are about to
}

// A successor has what has taken the place of other tables. What requests store
// there themselves applies, whatever a relay has for the same key.
type successor struct {
	store    *persistence.Store
	mu       sync.Mutex // one message at a time
	receiver *persistence.Receiver
	copies   bool     // the entries of the tables before are being copied
	late     [][]byte // messages of other relays that came meanwhile
	settled  bool     // it notes no more what requests store
}

// relayed is what a relay calls the tables.
const relayed = "tables"

func newSuccessor(store *persistence.Store) *successor {
	h := &successor{store: store, receiver: persistence.NewReceiver(), copies: true}
	h.receiver.Add(relayed, store, "")
	return h
}

// apply takes a message, which is newer than what is being copied.
func (h *successor) apply(message []byte) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.copies {
		h.late = append(h.late, bytes.Clone(message))
		return nil
	}
	return h.receiver.Apply(message)
}

// settle ends noting what requests store, so that something else can: tables
// have one that notes changes.
func (h *successor) settle() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.settled {
		h.receiver.Close()
		h.settled = true
	}
}

// inherit gives a successor the entries of a store, which requests use
// meanwhile.
func inherit(h *successor, old *persistence.Store) (*relay, error) {
	r := &relay{ended: make(chan struct{}), successor: h, to: []*successor{h}}
	r.end = sync.OnceFunc(func() { close(r.ended) })
	r.sender.Add(relayed, old, "")
	_, err := r.sender.Send(h.receiver.Apply)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.copies = false
	for _, message := range h.late {
		err = cmp.Or(err, h.receiver.Apply(message))
	}
	h.late = nil
	if err != nil {
		r.sender.Close()
		return nil, err
	}
	return r, nil
}

// send takes over what has changed.
func (r *relay) send() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, err := r.sender.Send(func(message []byte) error {
		for _, h := range r.to {
			if err := h.apply(message); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

// leadsTo reports whether a relay leads to tables.
func (r *relay) leadsTo(store *persistence.Store) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.to, func(h *successor) bool { return h.store == store })
}

// run takes over changes until the end. Requests that change the old tables
// wait for that, since their clients may meet the new ones next.
func (r *relay) run() error {
	defer r.sender.Close()
	for {
		select {
		case <-r.sender.Changed():
			if err := r.send(); err != nil {
				return err
			}
		case <-r.ended:
			return r.send()
		}
	}
}

// branch lets relays that lead to a store lead to a successor as well. The
// caller has locked mu.
func (rt *Runtime) branch(store *persistence.Store, h *successor) {
	for r := range rt.relays {
		if r.leadsTo(store) {
			r.mu.Lock()
			r.to = append(r.to, h)
			r.mu.Unlock()
		}
	}
}

// cut lets relays lead no more to a store. The caller has locked mu.
func (rt *Runtime) cut(store *persistence.Store) {
	for r := range rt.relays {
		r.mu.Lock()
		r.to = slices.DeleteFunc(r.to, func(h *successor) bool { return h.store == store })
		r.mu.Unlock()
	}
}

// inherit gives the tables that take the place of others in memory the entries
// of these. After an error nothing has changed.
func (rt *Runtime) inherit(all map[string]*tables, fault func(t *tables, err error)) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	for _, t := range all {
		if !t.inherits() {
			continue
		}
		if rt.taking != nil {
			fault(t, errors.New("tables cannot change while the process before is still draining"))
			continue
		}
		h := newSuccessor(t.memory)
		rt.settle(t.before.memory)
		rt.branch(t.before.memory, h)
		r, err := inherit(h, t.before.memory)
		if err != nil {
			rt.cut(t.memory)
			fault(t, err)
			continue
		}
		t.relay = r
	}
}

// settle lets something else than a successor note the changes of tables: of
// these, or of all if none are named. The caller has locked mu.
func (rt *Runtime) settle(of ...*persistence.Store) {
	for r := range rt.relays {
		for _, h := range r.to {
			if len(of) == 0 || slices.Contains(of, h.store) {
				h.settle()
			}
		}
	}
}

// relay runs the relays of tables. Those that have led to the tables before
// lead to the new ones from now on.
func (rt *Runtime) relay(all map[string]*tables) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	for _, t := range all {
		r := t.relay
		if r == nil {
			continue
		}
		rt.cut(t.before.memory)
		r.sender.Wait(changeWait)
		_ = r.send() // what has changed since it was copied; run returns the same error
		rt.relays[r] = true
		rt.relaying.Go(func() {
			if err := r.run(); err != nil {
				rt.Logger().Error("persistence entries lost while tables changed", "error", err)
			}
			rt.mu.Lock()
			defer rt.mu.Unlock()
			delete(rt.relays, r)
			for other := range rt.relays {
				if other.leadsTo(r.successor.store) {
					return
				}
			}
			r.successor.settle()
		})
		// Requests under way have this handle.
		runtime.AddCleanup(t.before.Tables.(*persistence.Store), func(r *relay) { r.end() }, r)
		t.relay = nil
	}
}

// endRelays ends all relays, when no request uses tables any more.
func (rt *Runtime) endRelays() {
	rt.mu.Lock()
	for r := range rt.relays {
		r.end()
	}
	rt.mu.Unlock()
	rt.relaying.Wait()
}
