package limpet

import (
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/limpetlb/limpet/internal/exactaddr"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
)

// A binding has the facts about the server that the client is bound to in a
// target. A key that the request carries is bound when a server is chosen, so
// that parallel requests of a new client meet on one server; a key that a
// server issues is bound when the server answers.
type binding struct {
	target *target
	// profiled means that the target's profile was asked; found is its answer.
	profiled bool
	found    Outcome
	// text is the server that the client is bound to, as the profile keeps it;
	// "" if it is not bound.
	text string
	// first is the result of the look-up.
	first string
	// server is the server that text names; nil if it is gone, or if text is
	// empty.
	server *lbpool.Server
	// claims means that the request carries the key.
	claims bool
	// elsewhere means that a backup pool has taken over.
	elsewhere bool
	// joined means that another request bound the client first.
	joined bool
	source persistence.Source // where text was found
	kept   kept
}

// boundServer returns the server that the request should go to because a rule,
// a script or the target's profile says so. Where the binding names a member
// of a group as well, that is member, if it can be used.
func (tx *transaction) boundServer(t *target) (server netip.AddrPort, member *lbpool.Pool) {
	switch {
	case tx.selected.addr.IsValid():
		return tx.selected.addr, nil
	case tx.selected.gone:
		return serverAddr(tx.selected.entry.Value), nil
	case tx.selected.entry.Key != "" || t.profile == nil:
		return netip.AddrPort{}, nil
	}
	return tx.findBinding(t)
}

// findBinding asks the profile of a target for the client's server.
func (tx *transaction) findBinding(t *target) (server netip.AddrPort, member *lbpool.Pool) {
	b := &tx.binding
	r := tx.r
	if b.source = t.source; b.source == "" { // who knows needs a way to say so
		r = r.WithContext(tx.shared)
	}
	text, remaining, err := t.profile.Find(r, tx.client.Addr(), t.name)
	b.profiled, b.claims, b.text, b.first = true, t.claimer != nil, text, text
	switch {
	case errors.Is(err, persistence.ErrNoKey):
		b.claims = false
		b.found = OutcomeNoKey
		return server, nil
	case errors.Is(err, persistence.ErrInvalidCookie):
		b.found = OutcomeInvalid
		return server, nil
	case err != nil:
		tx.record.Error = err // and the client is as one that is not known
	}
	if b.found = foundBy(text != "", remaining); text == "" {
		return server, nil
	}
	if b.server, member = t.lookup(text); b.server == nil {
		tx.selected.gone = true
		return serverAddr(text), nil
	}
	if member != nil && !(member.Up() && t.inUse(member)) {
		member = nil
	}
	return b.server.Addr(), member
}

// A sourceRecorder is for a transaction whose binding is looked up in a store.
type sourceRecorder shared

// NoteSource implements [bindingsource.Recorder].
func (s *sourceRecorder) NoteSource(source string) {
	if !s.rw.users.enter() {
		return
	}
	if tx := s.tx.Load(); tx != nil {
		tx.binding.source = persistence.Source(source)
	}
	s.rw.leave()
}

// startBinding lets the profile bind the client when a server is chosen, and
// keeps the binding alive for as long as the exchange lasts.
func (tx *transaction) startBinding() {
	b := &tx.binding
	if !b.profiled {
		return
	}
	tx.route.Claim = tx.shared.claim
	tx.keepBinding()
}

// keepBinding has a binding renewed until the transaction ends.
func (tx *transaction) keepBinding() {
	b := &tx.binding
	if b.target.kept == nil {
		return
	}
	b.kept.request, b.kept.client, b.kept.target = tx.r, tx.client.Addr(), b.target
	if b.claims || b.text != "" {
		b.target.kept.add(&b.kept)
	}
}

// claim calls the transaction's claim unless the transaction is over: a wrapped
// handler may send its request later.
func (sh *shared) claim(chosen, failed *lbpool.Server) *lbpool.Server {
	if !sh.rw.users.enter() {
		return chosen
	}
	if tx := sh.tx.Load(); tx != nil {
		chosen = tx.claim(chosen, failed)
	}
	sh.rw.leave()
	return chosen
}

// claim binds the client to the server that is about to get its request, and
// returns the server that it is bound to then: another one if another request
// was faster. Transports call it before each attempt.
func (tx *transaction) claim(chosen, _ *lbpool.Server) *lbpool.Server {
	b := &tx.binding
	if pool := tx.route.Pool; !b.target.has(pool) {
		// A backup pool has taken over, which is a target of its own.
		if !tx.changeTarget(pool) {
			return chosen
		}
		if b.server != nil && b.server != chosen {
			return b.server
		}
	}
	if b.server == chosen {
		return chosen
	}
	if !b.claims {
		return chosen
	}
	text := b.target.text(tx.route.Pool, chosen)
	const rounds = 3
	for range rounds {
		bound, err := b.target.claimer.Claim(tx.r, tx.client.Addr(), b.target.name, text, b.text)
		if err != nil {
			tx.record.Error = err
			return chosen
		}
		if bound == text || bound == "" {
			b.text, b.server, b.joined = text, chosen, false
			return chosen
		}
		b.text, b.joined = bound, true
		if b.server, _ = b.target.lookup(bound); b.server != nil {
			return b.server
		}
	}
	return chosen
}

// changeTarget makes pool, which does not belong to the transaction's target,
// the target. It reports whether a profile binds clients there.
func (tx *transaction) changeTarget(pool *lbpool.Pool) bool {
	t := tx.s.targets[pool.Name()]
	if t == nil || !t.pool.Is(pool) {
		t = &target{name: pool.Name(), pool: pool, outcomes: tx.binding.target.outcomes}
	}
	tx.endBinding()
	tx.binding = binding{target: t, elsewhere: true}
	if t.profile == nil {
		return false
	}
	tx.findBinding(t)
	tx.keepBinding()
	return true
}

// endBinding stops renewing the binding.
func (tx *transaction) endBinding() {
	if !tx.binding.kept.isKept() {
		return // and need not look at the clock
	}
	if err := tx.binding.kept.end(time.Since(tx.record.Start)); err != nil {
		tx.record.Error = err
	}
}

// bindServer remembers which server has answered.
func bindServer(tx *transaction) {
	tx.answered = tx.route.Answered
	tx.addOutcome(tx.header())
	server := tx.route.Server
	if !tx.answered {
		return // the handler that was wrapped answers instead of a server
	}
	if sel := &tx.selected.entry; sel.Key != "" && (tx.repinned() || tx.route.Shared) {
		// The entry named a server that was not available, or one of several.
		// Of requests that find this out at the same time the first one wins.
		_, err := tx.s.Tables.CompareAndSwap(tx.Context, sel.Table, sel.Key, sel.Value, tx.serverValue(server, sel.Value))
		if err != nil {
			tx.record.Error = err
		}
	}
	b := &tx.binding
	if !b.profiled || !b.target.has(tx.route.Pool) || tx.restoresBinding() {
		return
	}
	text := b.text
	if member := b.target.group != nil && !b.target.isMember(tx.route.Pool, text); member || b.server != server || !b.target.names(text) {
		text = b.target.text(tx.route.Pool, server)
		if member && b.claims && b.server == server { // it has moved to another member
			if _, err := b.target.claimer.Claim(tx.r, tx.client.Addr(), b.target.name, text, b.text); err != nil {
				tx.record.Error = err
			}
		}
	}
	if err := b.target.profile.Bind(tx.header(), tx.r, tx.client.Addr(), b.target.name, text); err != nil {
		tx.record.Error = err
	}
	if b.target.kept != nil {
		b.target.kept.answer(&b.kept, tx.header()["Set-Cookie"])
	}
}

// restoresBinding reports whether the client stays bound to the server that the
// look-up has found, although others were tried: no server has answered, or
// only with answers for which Reselect tries other servers. If the binding was
// moved, restoresBinding moves it back.
func (tx *transaction) restoresBinding() bool {
	b := &tx.binding
	if b.first == "" || tx.answered && (!tx.route.Unwanted || tx.route.Tried < 2 || tx.route.GivenUp != nil) {
		return false
	}
	if b.claims && !b.joined && b.text != b.first {
		if _, err := b.target.claimer.Claim(tx.r, tx.client.Addr(), b.target.name, b.first, b.text); err != nil {
			tx.record.Error = err
		}
		b.text = b.first
	}
	return true
}

// serverAddr reads the name of a server that is gone, so that its pool
// decides whether another one takes its place.
func serverAddr(name string) netip.AddrPort {
	if a, ok := exactaddr.Parse(name); ok {
		return a
	}
	name = name[strings.LastIndexByte(name, '/')+1:]
	if a, err := netip.ParseAddr(name); err == nil {
		return netip.AddrPortFrom(a, 0)
	}
	a, _ := netip.ParseAddrPort(name)
	return a
}

// serverValue names a server as the entry named the previous one: with or
// without its port. If servers of the pool share the address, the port is
// always kept, but scripts do not see it.
func (tx *transaction) serverValue(s *lbpool.Server, like string) string {
	if _, err := netip.ParseAddrPort(like); err == nil {
		return s.Addr().String()
	}
	bare := s.Addr().Addr().String()
	if _, shared, _, _ := tx.s.pools.Find(tx.binding.target.name, bare, 0); shared {
		return exactaddr.Value(s.Addr())
	}
	return bare
}

// lookedUp notes how a script's look-up of a persistence entry ended.
func (tx *transaction) lookedUp(found bool, remaining time.Duration) {
	if tx.binding.target == nil { // else the server is settled
		tx.looked = max(tx.looked, foundBy(found, remaining)) // a transaction may look up several keys
	}
}

// foundBy says how a look-up ended.
func foundBy(found bool, remaining time.Duration) Outcome {
	switch {
	case found:
		return OutcomeHit
	case remaining < 0:
		return OutcomeExpired
	}
	return OutcomeMiss
}

// repinned reports whether another server took the place of the one that an
// entry named.
func (tx *transaction) repinned() bool {
	return tx.selected.gone || tx.route.Unmet != lbpool.ReasonNone
}

// persistence returns the outcome of the client's binding, as far as it is
// known.
func (tx *transaction) persistence() Outcome {
	found := tx.lookup()
	switch {
	case tx.selected.gone:
		return RepinGone
	case tx.route.Unmet != lbpool.ReasonNone && !(tx.binding.elsewhere && tx.route.Unmet == lbpool.ReasonGone):
		return repins[tx.route.Unmet]
	case tx.route.Shared:
		return OutcomeAmbiguous
	case tx.binding.joined && found < OutcomeHit:
		return OutcomeJoined
	}
	return found
}

// lookup returns the outcome of the look-up that decided about the server: that
// of the profile, or those of scripts. Look-ups of a script may have nothing to
// do with servers, so a hit is one only if the script has selected a server.
func (tx *transaction) lookup() Outcome {
	b := &tx.binding
	switch {
	case b.profiled:
		return b.found
	case b.target == nil:
		return tx.looked
	case tx.pinnedServer, tx.looked == OutcomeHit && !tx.selected.addr.IsValid() && tx.selected.entry.Key == "":
		return OutcomeNone
	}
	return tx.looked
}

var repins = map[lbpool.Reason]Outcome{
	lbpool.ReasonDown: RepinDown, lbpool.ReasonDisabled: RepinDisabled, lbpool.ReasonDraining: RepinDraining,
	lbpool.ReasonGone: RepinGone, lbpool.ReasonFull: RepinFull, lbpool.ReasonMaintenance: RepinMaintenance,
}

// concludeBinding records the final outcome of the binding.
func (tx *transaction) concludeBinding() {
	tx.endBinding()
	if !tx.answered {
		tx.restoresBinding()
	}
	r, b := &tx.record, &tx.binding
	r.Outcome, r.Joined = tx.persistence(), b.joined
	switch {
	case tx.lookup() != OutcomeHit:
	case b.profiled:
		r.BindingSource = b.source
	default:
		r.BindingSource = persistence.FromScript
	}
	if bound := tx.route.Hint.Server; tx.lookup() == OutcomeHit && (tx.route.Server == nil || tx.route.Server.Addr() != bound) && bound.Port() != 0 {
		r.Bound = bound
	}
	r.GivenUp = tx.route.GivenUp
	if r.Outcome == OutcomeHit && !tx.answered {
		r.Outcome = OutcomeNone
	}
	switch r.Outcome {
	case OutcomeAmbiguous:
		if b.target.mayReportAmbiguous(r.Start) {
			r.significant(ServerAmbiguous)
		}
	case OutcomeInvalid:
		r.significant(BindingInvalid)
	}
	if b.target != nil {
		b.target.outcomes.add(r.Outcome, r.BindingSource)
	}
}

// addOutcome sets the configured header to the outcome of the client's
// binding, in place of any other value.
func (tx *transaction) addOutcome(h http.Header) {
	name := tx.s.PersistenceHeader
	if name == "" {
		return
	}
	if text := tx.outcomeSoFar().String(); text != "" {
		h.Set(name, text)
	} else {
		h.Del(name)
	}
}

// outcomeSoFar is the outcome of the client's binding, as far as it is known.
func (tx *transaction) outcomeSoFar() Outcome {
	p := tx.persistence()
	if p == OutcomeHit && !tx.answered {
		return OutcomeNone // it has not answered
	}
	return p
}

// PersistenceResult returns the outcome of the client's binding so far, as in
// [Record].Outcome: "hit" or "repin:down" for instance, or empty.
func (tx *transaction) PersistenceResult() string { return tx.persistence().String() }
