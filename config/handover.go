package config

import (
	"encoding/json"
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
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
)

// The kinds of messages of a handover, which begin with them: the states of
// servers, as JSON by the names of pools; and entries, as a persistence.Sender
// sends them.
const (
	messageStates = iota + 1
	messageEntries
)

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

// A Handover hands a runtime over to that of another process: its sockets, the
// entries of tables and the bindings of profiles in memory, and the states of
// servers. Tables on a server need none. Counters begin anew. Its methods must
// not be called concurrently.
//
// The order is: pass Sockets to the other process, whose [Options].HandedOver
// returns them, and call Send; once the other process is ready, Yield and Send;
// then it accepts. If it fails before that, Resume accepts here again.
// Otherwise call Send whenever Changed has a token, while Shutdown waits for
// requests to end. Close ends all.
type Handover struct {
	rt      *Runtime
	sender  persistence.Sender
	sockets []Socket
	of      []*endpoint // of each of the sockets
	began   bool        // Send was called
}

// A Socket is one of a listener, to be passed to another process.
type Socket struct {
	// Network and Address are those of the [Listener].
	Network, Address string
	// File is a handle of the socket. Close of the [Handover] closes it, unless
	// it was closed before, as it should be when the other process accepts.
	File *os.File
}

// HandOver begins to hand the runtime over to another process, and to note what
// changes. It needs Listen and Serve; the error says what is missing, or is
// [http.ErrServerClosed] after Shutdown. Until Close, Update and Reload wait.
func (rt *Runtime) HandOver() (*Handover, error) {
	rt.updating.Lock()
	h := &Handover{rt: rt}
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

// Timeout is how long requests may go on after another process has taken over:
// process.upgradeTimeout of the file.
func (h *Handover) Timeout() time.Duration {
	h.rt.mu.Lock()
	defer h.rt.mu.Unlock()
	process := h.rt.file.doc.Process
	bounds.SetDefaults(&process)
	return process.UpgradeTimeout
}

// Changed returns a channel that gets a token when there is something to send.
func (h *Handover) Changed() <-chan struct{} { return h.sender.Changed() }

// Send calls send with messages for [Runtime.TakeOver] of the other process, of
// less than a megabyte each if no entry is larger: the first time with all
// there is, then with what has changed. When it returns, all has been sent that
// was there when it was called. After Yield, send should return when the other
// process has applied the message. Messages have keys, values and secrets in
// clear text, and their bytes are used again. The error is that of send, or
// says that entries change faster than they can be sent; the handover has
// failed then.
func (h *Handover) Send(send func(message []byte) error) error {
	if !h.began {
		h.began = true
		states := map[string]json.RawMessage{}
		for name, p := range h.rt.kept.allPools() { // updates wait
			state, err := p.MarshalState()
			if err != nil {
				return err
			}
			states[name] = state
		}
		message, err := json.Marshal(states)
		if err != nil {
			return err
		}
		if err := send(append([]byte{messageStates}, message...)); err != nil {
			return err
		}
	}
	entries := []byte{messageEntries}
	for range maxRounds {
		n, err := h.sender.Send(func(message []byte) error {
			entries = append(entries[:1], message...)
			return send(entries)
		})
		if err != nil || n <= fewChanges {
			return err
		}
	}
	return nil
}

// Yield stops accepting, at once. The sockets stay open: clients that connect
// wait for the other process. Before, it saves tables that have a file, which
// the other process does from then on.
//
// Requests under way that store or remove an entry wait until that was sent,
// for 100 ms at most: their clients may ask the other process next.
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
	h.sender.Wait(0)
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

// Close ends the handover and closes the handles of the sockets. The runtime
// goes on as it is.
func (h *Handover) Close() {
	h.sender.Close()
	for _, s := range h.sockets {
		_ = s.File.Close()
	}
	h.rt.updating.Unlock()
}

// TakeOver does what a message of a [Handover] says; nil says that there are no
// more. What this process stores or removes itself applies, whatever the other
// one sends later. Names that the file does not have are left out. It is for a
// runtime with [Options].HandedOver; call it first before Run. The error says
// that a message is damaged, and the runtime should not serve.
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
	case len(message) > 0 && message[0] == messageStates:
		var states map[string]json.RawMessage
		if err := json.Unmarshal(message[1:], &states); err != nil {
			return fmt.Errorf("states of servers: %w", err)
		}
		var faults []error
		for name, p := range rt.kept.allPools() {
			if state, ok := states[name]; ok {
				faults = append(faults, p.RestoreState(state))
			}
		}
		return errors.Join(faults...)
	case len(message) > 0 && message[0] == messageEntries:
		return rt.taking.Apply(message[1:])
	}
	return errors.New("unknown message")
}
