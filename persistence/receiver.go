package persistence

import (
	"encoding/binary"
	"errors"
	"hash/maphash"
	"slices"
	"sync"
	"time"
)

// maxOwnKeys bounds the keys that a Receiver remembers, which are hashes.
const maxOwnKeys = 1 << 20

// A Receiver stores the entries that a [Sender] has sent. Add what can have
// entries before it is used, and call Close at the end. Add, Apply and Close
// must not be called concurrently. Create one with [NewReceiver].
//
// What this process stores or removes itself applies, whatever the Sender sends
// of the same key later; only if both have the same value, the longer lifetime
// applies. So entries that were removed here do not return. The Receiver
// remembers about a million keys for that; once there are more, it adds and
// removes no entries.
type Receiver struct {
	added map[string]carrier
	all   []carrier // each once
	seed  maphash.Seed

	mu  sync.Mutex
	own map[uint64]struct{} // hashes of keys; nil: too many
}

// NewReceiver returns a Receiver that knows no names.
func NewReceiver() *Receiver {
	return &Receiver{added: make(map[string]carrier), seed: maphash.MakeSeed(), own: make(map[uint64]struct{})}
}

// Add adds something by a name, like [Sender.Add].
func (r *Receiver) Add(name string, of any, target string) {
	c := carrierOf(of, target)
	if c == nil {
		return
	}
	if i := slices.IndexFunc(r.all, c.same); i >= 0 {
		r.added[name] = r.all[i]
		return
	}
	r.added[name] = c
	r.all = append(r.all, c)
	c.watch(func(table, key string, written bool) {
		if written {
			r.note(r.hash(c, table, key))
		}
	})
}

func (r *Receiver) hash(c carrier, table, key string) uint64 {
	return maphash.Comparable(r.seed, struct {
		of         carrier
		table, key string
	}{c, table, key})
}

func (r *Receiver) note(key uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.own) == maxOwnKeys {
		r.own = nil
	}
	if r.own != nil {
		r.own[key] = struct{}{}
	}
}

// isOwn reports whether this process has written the key itself.
func (r *Receiver) isOwn(key uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, own := r.own[key]
	return own || r.own == nil
}

// Apply stores what a message says. Entries under names that were not added, or
// of another kind, are left out, as are those beyond the bounds of a table.
// After an error, which says that the message is damaged, the beginning is
// stored.
func (r *Receiver) Apply(message []byte) error {
	d := &messageReader{bytes: message}
	var of carrier
	table, named := "", false
	for len(d.bytes) > 0 && !d.damaged {
		switch kind := d.byte(); {
		case kind == recordTable:
			of, named = nil, true
			for n := d.number(); n > 0 && !d.damaged; n-- {
				if c := r.added[d.string()]; of == nil {
					of = c
				}
			}
			if kind := d.string(); of != nil && of.kind() != kind {
				of = nil
			}
			table = d.string()
		case kind == recordEntry && named:
			key := d.string()
			e := carried{d.string(), d.duration(), d.duration(), d.duration()}
			r.set(d, of, table, key, e, false)
		case kind == recordMissing && named:
			r.set(d, of, table, d.string(), carried{}, true)
		default:
			d.damaged = true
		}
	}
	if d.damaged {
		return errors.New("persistence: damaged message")
	}
	return nil
}

func (r *Receiver) set(d *messageReader, of carrier, table, key string, e carried, missing bool) {
	if of != nil && !d.damaged {
		of.set(table, key, e, missing, r.isOwn(r.hash(of, table, key)))
	}
}

// Close ends noting what this process writes.
func (r *Receiver) Close() {
	for _, c := range r.all {
		c.watch(nil)
	}
}

// A messageReader reads the parts of a message. Strings are parts of it.
type messageReader struct {
	bytes   []byte
	damaged bool
}

func (d *messageReader) byte() byte {
	if len(d.bytes) == 0 {
		d.damaged = true
		return 0
	}
	b := d.bytes[0]
	d.bytes = d.bytes[1:]
	return b
}

func (d *messageReader) number() uint64 {
	n, size := binary.Uvarint(d.bytes)
	if size <= 0 {
		d.damaged = true
		return 0
	}
	d.bytes = d.bytes[size:]
	return n
}

func (d *messageReader) duration() time.Duration {
	return time.Duration(min(d.number(), uint64(lifetimeCeiling)))
}

func (d *messageReader) string() string {
	n := d.number()
	if n > uint64(len(d.bytes)) {
		d.damaged = true
		return ""
	}
	s := string(d.bytes[:n])
	d.bytes = d.bytes[n:]
	return s
}
