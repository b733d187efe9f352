package config

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/limpetlb/limpet/internal/accept"
	"github.com/limpetlb/limpet/internal/bounds"
	"github.com/limpetlb/limpet/internal/certs"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
)

// The kinds of messages of a handover, which begin with them.
const (
	messageState   = iota + 1 // a text, the name of a pool, and its state
	messageEntries            // as a persistence.Sender sends them
	messageTickets            // a text, the name of a listener, and the keys of its TLS sessions
)

// appendText appends a text so that cutText finds its end.
func appendText(b []byte, text string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

// cutText returns the text that b begins with, and what follows.
func cutText(b []byte) (text string, rest []byte, ok bool) {
	n, size := binary.Uvarint(b)
	if size <= 0 || n > uint64(len(b)-size) {
		return "", nil, false
	}
	b = b[size:]
	return string(b[:n]), b[n:], true
}

const (
	// fewChanges is how many changes may be left when Send returns: they are
	// sent while the other process reads the ones before.
	fewChanges = 128
	// changeWait is how long a request may wait until the other process knows
	// what it has stored.
	changeWait = 100 * time.Millisecond
	// maxRounds bounds how often Send sends what has changed meanwhile.
	maxRounds = 16
)

// A Handover hands a runtime over to another process: its sockets, the entries
// of tables and the bindings of profiles in memory, the states of servers, and
// the keys with which clients resume TLS sessions.
// Tables on a Redis server are shared anyway. Counters and rate limiters begin
// anew. The methods must not be called concurrently.
//
// Call them in this order:
//
//  1. Pass Sockets to the other process, whose [Options].HandedOver returns
//     them, and call Send.
//  2. Once the other process is ready, call Yield, and Send again. Then the
//     other process may accept. If it fails before that, call Resume to accept
//     here again.
//  3. Call Send whenever Changed has a token, while Shutdown waits for requests
//     to end. If the other process ends before that, call Lost.
//  4. Call Close.
type Handover struct {
	rt      *Runtime
	sender  persistence.Sender
	sockets []Socket
	of      []*endpoint       // of each of the sockets
	began   bool              // Send was called
	tickets map[string][]byte // keys that were sent, by listener
}

// A Socket is one of a listener, to be passed to another process.
type Socket struct {
	// Network and Address are those of the [Listener].
	Network, Address string
	// File is a handle of the socket. Close it when the other process accepts;
	// otherwise [Handover.Close] does.
	File *os.File
}

// HandOver begins to hand the runtime over to another process, and to note what
// changes. The runtime must accept clients, after Listen and in Serve, and have
// finished its own [Runtime.TakeOver]; otherwise the error says what is
// missing. After Shutdown the error is [http.ErrServerClosed]. Until
// [Handover.Close], Update and Reload wait. HandOver waits for an update under
// way; if ctx ends before, the error is the cause.
func (rt *Runtime) HandOver(ctx context.Context) (*Handover, error) {
	if err := rt.updating.take(ctx); err != nil {
		return nil, err
	}
	h := &Handover{rt: rt, tickets: map[string][]byte{}}
	if err := h.begin(); err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

func (h *Handover) begin() error {
	rt := h.rt
	rt.mu.Lock()
	defer rt.mu.Unlock()
	if rt.over.Err() != nil {
		return http.ErrServerClosed
	}
	if !rt.accepts {
		return errors.New("the runtime does not serve yet")
	}
	if rt.taking != nil {
		return errors.New("the process before is still draining")
	}
	for _, e := range rt.ends {
		for _, ln := range e.sockets {
			f, err := accept.Duplicate(ln)
			if err != nil {
				return err
			}
			h.sockets = append(h.sockets, Socket{e.network, e.name, f})
			h.of = append(h.of, e)
		}
	}
	rt.settle() // what relays bring from now on is not handed over
	rt.carried(h.sender.Add)
	return nil
}

// carried calls add with all that has entries, by names that it has in the
// file. The caller has locked mu.
func (rt *Runtime) carried(add func(name string, of any, target string)) {
	for scope, k := range rt.kept.all() {
		for key, t := range k.tables {
			add(fmt.Sprintf("tables %q %q", scope, key), t.Tables, "")
		}
	}
	for key, s := range rt.services {
		for target, p := range s.profiles {
			add(fmt.Sprintf("service %q %q", key, target), p, target)
		}
	}
}

// all returns what services share, by "", and the private objects of services.
func (k kept) all() map[string]kept {
	all := map[string]kept{"": k}
	maps.Copy(all, k.services)
	return all
}

// allPools returns all pools, by names that tell those of services apart.
func (k kept) allPools() map[string]*lbpool.Pool {
	all := map[string]*lbpool.Pool{}
	for scope, k := range k.all() {
		for name, p := range k.pools {
			all[fmt.Sprintf("%q %q", scope, name)] = p
		}
	}
	return all
}

// Sockets returns the sockets of all listeners, in their order.
func (h *Handover) Sockets() []Socket { return slices.Clone(h.sockets) }

// Timeout returns how long requests may go on after another process has taken
// over: process.upgradeTimeout of the file.
func (h *Handover) Timeout() time.Duration {
	h.rt.mu.Lock()
	defer h.rt.mu.Unlock()
	process := h.rt.file.doc.Process
	bounds.SetDefaults(&process)
	return process.UpgradeTimeout
}

// Changed returns a channel that gets a token when there is something to send.
func (h *Handover) Changed() <-chan struct{} { return h.sender.Changed() }

// Send calls send with messages for [Runtime.TakeOver] of the other process.
// The first call of Send sends all there is, and later calls what has changed.
// When Send returns, all that was there when it was called has been sent. A
// message has less than a megabyte, unless a single entry or the states of the
// servers of one pool take more.
//
// After Yield, send should return when the other process has applied the
// message. Messages have keys, values and secrets in clear text. The message is
// valid only until send returns. The error of Send is that of send, or says
// that entries change faster than they can be sent; then the handover has
// failed.
func (h *Handover) Send(send func(message []byte) error) error {
	if !h.began {
		h.began = true
		for name, p := range h.rt.kept.allPools() { // updates wait
			state, err := p.MarshalState()
			if err != nil {
				return err
			}
			if err := send(append(appendText([]byte{messageState}, name), state...)); err != nil {
				return err
			}
		}
	}
	if err := h.sendTickets(send); err != nil {
		h.Lost()
		return err
	}
	entries := []byte{messageEntries}
	for range maxRounds {
		n, err := h.sender.Send(func(message []byte) error {
			entries = append(entries[:1], message...)
			return send(entries)
		})
		if err != nil {
			h.Lost()
			return err
		}
		if n <= fewChanges {
			return nil
		}
	}
	return nil
}

// sendTickets sends keys of TLS sessions that are not those that were sent
// before.
func (h *Handover) sendTickets(send func(message []byte) error) error {
	rt := h.rt
	stores := map[string]*certs.Store{}
	rt.mu.Lock()
	for _, l := range rt.listeners {
		if store := l.certs.Load(); store != nil {
			stores[l.name] = store
		}
	}
	rt.mu.Unlock()
	for name, store := range stores {
		keys := store.TicketKeys()
		if bytes.Equal(keys, h.tickets[name]) {
			continue
		}
		if err := send(append(appendText([]byte{messageTickets}, name), keys...)); err != nil {
			return err
		}
		h.tickets[name] = keys
	}
	return nil
}

// Lost says that the other process has ended, or is of no use. Requests do not
// wait for it any more, those under way included. After an error of Send it is
// not needed. It may be called again.
func (h *Handover) Lost() { h.sender.Wait(0) }

// Yield stops accepting clients. The sockets stay open: clients that connect
// wait for the other process. Before that, Yield saves tables that have a file;
// from then on the other process saves them.
//
// From then on, requests that store or remove an entry wait until that has been
// sent, for at most 100 ms, since their clients may ask the other process next.
func (h *Handover) Yield() {
	rt := h.rt
	rt.stopSaving()
	h.sender.Wait(changeWait)
	rt.mu.Lock()
	defer rt.mu.Unlock()
	for _, e := range rt.ends {
		e.unlinkOnClose(false)
		for _, ln := range e.gated {
			accept.Yield(ln)
		}
	}
}

// Resume accepts again, after Yield.
func (h *Handover) Resume() error {
	rt := h.rt
	h.Lost()
	var news notices
	defer func() { news.log(rt.Logger()) }()
	rt.mu.Lock()
	defer rt.mu.Unlock()
	if rt.over.Err() != nil {
		return http.ErrServerClosed
	}
	var faults []error
	for _, e := range rt.ends {
		e.sockets, e.gated, e.turns = nil, nil, nil
		for i, s := range h.sockets {
			if h.of[i] != e {
				continue
			}
			ln, err := net.FileListener(s.File)
			if err != nil {
				faults = append(faults, err)
				select {
				case rt.failed <- fmt.Errorf("listener %s: %w", e.of.name, err):
				default: // one is enough
				}
				continue
			}
			e.sockets = append(e.sockets, ln)
		}
		e.unlinkOnClose(true)
		rt.gate(e)
		rt.accept(e, &news)
	}
	rt.resumeSaving()
	return errors.Join(faults...)
}

// Close ends the handover and closes the handles of the sockets. It does not
// stop the runtime, nor make it accept again.
func (h *Handover) Close() {
	h.sender.Close()
	for _, s := range h.sockets {
		_ = s.File.Close()
	}
	h.rt.updating.pass()
}

// TakeOver applies a message of a [Handover]; a nil message says that there are
// no more. Messages have secrets: they must not be stored. Entries that this
// process stores or removes itself stay so, whatever the other process sends
// later. TakeOver ignores tables, profiles and pools that the file does not
// have. It is for a runtime with [Options].HandedOver; the first call must be
// before Run. An error says that a message is damaged; then the runtime should
// not serve.
func (rt *Runtime) TakeOver(message []byte) error {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	if message == nil {
		if rt.taking != nil {
			rt.taking.Close()
			rt.taking = nil
		}
		return nil
	}
	if rt.taking == nil {
		rt.taking = persistence.NewReceiver()
		rt.carried(rt.taking.Add)
	}
	switch {
	case len(message) > 0 && message[0] == messageState:
		name, state, ok := cutText(message[1:])
		if !ok {
			return errors.New("states of servers: damaged message")
		}
		if p := rt.kept.allPools()[name]; p != nil {
			return p.RestoreState(state)
		}
		return nil
	case len(message) > 0 && message[0] == messageTickets:
		name, keys, ok := cutText(message[1:])
		if !ok {
			return errors.New("keys of TLS sessions: damaged message")
		}
		for _, l := range rt.listeners {
			if store := l.certs.Load(); store != nil && l.name == name {
				return store.AddTicketKeys(keys)
			}
		}
		return nil
	case len(message) > 0 && message[0] == messageEntries:
		return rt.taking.Apply(message[1:])
	}
	return errors.New("unknown message")
}
