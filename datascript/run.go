package datascript

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	lua "github.com/yuin/gopher-lua"
)

// A run is one script running for one event. It is the VM's context, too: the
// VM calls Done once for each instruction, which makes an exact budget of it
// without a timer, and natives find the run they serve through it. Each state
// has one run, used again and again.
type run struct {
	engine *Engine
	state  *state

	ctx       context.Context // of the request
	tx        Transaction
	variables *Vars // of the transaction
	script    *Script
	event     Event

	// The budget. Work is counted down; the clock is read now and then, and
	// for the first time after some instructions, so that short scripts do
	// not read it at all.
	steps    int           // left, besides those of this interval
	tick     int           // left of this interval
	skip     int           // instructions that are paid for, and need not be looked at
	interval int           // see clockInterval
	looked   time.Time     // when the clock was read last; zero if it was not
	ran      time.Duration // until then
	turn     time.Duration // likewise, since it let others run
	stop     error         // set once the script must not go on

	// What the script makes, in bytes. What it holds of that is looked at
	// when it matters, and not again before it has made much more.
	made     int
	measured int // what it held when that was looked at,
	since    int // and what it had made then

	// The time in which the host is asked; see outside.
	place   placeInGate
	calls   int
	timed   bool
	left    time.Time
	outTime time.Duration
	outHeld int64

	frame    **vmFrame   // of the VM: the function that runs,
	registry *vmRegistry // and the values that it works on
	mode     mode        // says which instructions are looked at; see weigh.go

	// The last entry that a look-up has found.
	found found

	// How errors travel.
	raised  bool     // a function of the API raised the error on its way; else the VM did
	catcher *catcher // the innermost pcall or xpcall

	// Why the script failed.
	cause     error // behind the error that was raised last
	line      int
	message   string
	traceback string

	// What the script decided. It is staged here until the script ends.
	reply     *reply
	closing   closing
	selection selection
	undo      []func() // what takes back the changes made in place, in order
	decisions []func() // further ones, for abilities of the transaction; see decide
	user      *string  // what set_userid was given
	headers   int      // bytes written to headers
	stored    int      // bytes written to persistence tables

	tracedIn *lua.FunctionProto // the function and the line traced last
	traced   int

	patternSteps int
	rng          *rand.Rand

	logLines, logBytes int
}

// A found is what the last successful look-up of an event has found. The entry
// may expire before the script selects by its key.
type found struct {
	table, key string
	value      string // as stored
	text       string // as the script sees it
	left       lua.LNumber
	ok         bool
	removed    bool // by the script, since then
}

// isLive reports whether the entry can be selected by its key: it is in the
// default table, and the script has not removed it.
func (f *found) isLive() bool { return f.ok && f.table == "" && !f.removed }

type reply struct {
	status int
	header http.Header
	body   []byte
}

type closing uint8

const (
	open closing = iota
	closeFIN
	closeRST
)

type selection struct {
	pool  string
	addr  netip.AddrPort
	entry Entry // that led to the server; without a key there is none
}

// clockInterval is how many instructions pass between looks at the clock and
// at the request's context. Looking less often saves a hundredth or two, but a
// script can make each instruction slow: it may compare its longest strings.
// The VM takes a millisecond for one of a MiB, and nothing can charge for that;
// so the interval shrinks with the longest string that the script has got
// hold of, from longString bytes on.
const (
	clockInterval = 512
	longString    = 64 << 10
)

// yieldInterval is how long a script runs before it lets other goroutines run.
// The scheduler would take ten times as long, during which nobody else is
// served if there are as many such scripts as processors. Most scripts have
// ended by then.
const yieldInterval = time.Millisecond

// watch looks at the clock more often: there is a string of size bytes.
func (r *run) watch(size int) {
	if size <= longString {
		return
	}
	if interval := max(clockInterval*longString/size, 16); interval < r.interval {
		r.interval = interval
		if r.tick > interval {
			r.steps += r.tick - interval
			r.tick = interval
		}
	}
}

// closed is what Done returns to stop the VM.
var closed = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// Done implements context.Context: it counts an instruction, before the VM
// executes it. What it calls looks whether there is room on the stack; to do
// so here, too, would take loops a fiftieth longer.
//
//go:nosplit
func (r *run) Done() <-chan struct{} {
	if r.skip--; r.skip >= 0 {
		return nil
	}
	// An instruction that is looked at. Those that are not, up to the next one
	// that is, are charged for now.
	f := *r.frame
	code := f.Fn.Proto.Code
	planned := code[:cap(code)][len(code)+f.Pc-1] >> (r.mode & 31)
	if planned&lookAt != 0 {
		if inst := code[f.Pc-1]; !r.replaces(f, inst) {
			r.weigh(f, inst)
		}
	}
	left := r.tick - 1
	if left <= 0 {
		return r.pause()
	}
	n := min(int(planned&maxAhead), left-1)
	r.skip, r.tick = n, left-n
	return nil
}

// pause is Done at the end of an interval.
func (r *run) pause() <-chan struct{} {
	r.tick--
	r.skip = 0
	if !r.mayGoOn() {
		return closed
	}
	if r.engine.env.Trace != nil {
		r.traceLine()
	}
	return nil
}

// traceLine reports the line of the instruction to come.
func (r *run) traceLine() {
	dbg, fn := frame(r.state.L, 0)
	if fn == nil || fn.IsG {
		return
	}
	o, line := originOf(fn.Proto), place(dbg.CurrentLine).line()
	if o.script == nil || fn.Proto == r.tracedIn && line == r.traced {
		return
	}
	r.tracedIn, r.traced = fn.Proto, line
	if o.hasCode(line) {
		r.engine.env.Trace(o.script, o.event, line)
	}
}

// Err implements context.Context: why Done said stop. The VM raises its text.
func (r *run) Err() error {
	if r.stop == nil {
		return nil
	}
	return errors.New(publicText(r.stop))
}

// publicText is what scripts and records may read of an error. What a host's
// function panicked with is for its developers alone.
func publicText(err error) string {
	if p := (*PanicError)(nil); errors.As(err, &p) {
		return strings.TrimSuffix("internal error in "+p.Function, " in ")
	}
	return err.Error()
}

// Deadline implements context.Context.
func (r *run) Deadline() (time.Time, bool) { return r.ctx.Deadline() }

// Value implements context.Context.
func (r *run) Value(key any) any { return r.ctx.Value(key) }

// mayGoOn looks at everything that can stop a script.
func (r *run) mayGoOn() bool {
	if r.stop != nil {
		return false
	}
	limits := &r.engine.limits
	left := r.steps + r.tick
	r.tick = min(left, r.interval)
	r.steps = left - r.tick
	switch {
	case left <= 0:
		r.halt(&BudgetError{"instructions", int64(limits.Instructions)})
	case r.ctx.Err() != nil:
		r.halt(context.Cause(r.ctx))
	case r.looked.IsZero():
		r.looked = time.Now()
	default:
		r.look(time.Now())
		switch {
		case r.ran > limits.Time:
			r.halt(&BudgetError{"time", int64(limits.Time)})
		case r.turn > yieldInterval:
			runtime.Gosched()
			r.turn = 0
			r.looked = time.Now()
		}
	}
	return r.stop == nil
}

// maxGap is how much of the time between two looks at the clock is counted.
// What lasts longer is charged for by instructions; so it was another program,
// or another goroutine, that ran meanwhile.
const maxGap = 10 * time.Millisecond

// look counts the time since the last look, if there was one.
func (r *run) look(now time.Time) {
	if r.looked.IsZero() {
		return
	}
	gap := min(now.Sub(r.looked), maxGap)
	r.looked = now
	r.ran += gap
	r.turn += gap
}

// halt ends the script for good: no pcall can go on after it.
func (r *run) halt(err error) {
	if r.stop == nil {
		r.stop = err
	}
	r.steps, r.tick, r.skip = 0, 0, 0 // not even an error handler runs another instruction
}

// A step of work within a function of the API is one for which a script pays
// like for so many instructions: it takes up to 150 nanoseconds, a plain
// instruction of the VM 20 to 30.
const stepInstructions = 5

// spend counts n steps of work within a function of the API.
func (c call) spend(n int) {
	if c.tick -= stepInstructions * n; c.tick <= 0 {
		c.check()
	}
}

// work is spend for steps that are as quick as instructions.
func (c call) work(n int) {
	if c.tick -= n; c.tick <= 0 {
		c.check()
	}
}

// check raises the error that stops the script, if it must stop.
func (c call) check() {
	if !c.mayGoOn() {
		c.fail("%s", publicText(c.stop))
	}
}

// tooLarge stops the script for building too large a string.
func (c call) tooLarge() {
	c.halt(&BudgetError{"string bytes", int64(c.engine.limits.StringBytes)})
	c.check()
}

// untimedCalls is how many calls of services are not timed if the script has
// not read the clock yet. Most scripts make fewer.
const untimedCalls = 4

// hostInstructions is what a call of a service costs a script.
const hostInstructions = 500

// store accounts for so many bytes that go into persistence tables. In all, a
// script may write no more than the largest string.
func (c call) store(bytes int) {
	c.read(bytes)
	if c.stored += bytes; c.stored > c.engine.limits.StringBytes {
		c.tooLarge()
	}
}

// outside begins a call of a service of the host: meanwhile the script's clock
// stands still, and another script may run in its place. The caller calls what
// outside returns afterwards.
func (c call) outside() func() {
	r := c.run
	r.calls++
	r.steps -= hostInstructions // and not of this interval: the clock need not be read for it
	if r.timed = r.calls > untimedCalls || !r.looked.IsZero(); r.timed {
		r.left = time.Now()
		r.look(r.left)
	}
	r.outHeld = 0
	if held := r.variables.held; r.made > smallBytes || held > 0 {
		if r.outHeld = r.holds() - held; r.outHeld <= smallBytes {
			r.outHeld = 0
		}
	}
	if !r.engine.gate.goOut(r.outHeld) {
		r.halt(ErrBusy)
		c.check()
	}
	r.place = placeOutside
	return r.state.resume
}

// back ends what outside began. If the script may not go on, it does not
// execute another instruction.
func (r *run) back() {
	if r.timed {
		if r.outTime += time.Since(r.left); r.outTime > r.engine.limits.HostTime {
			r.halt(&BudgetError{"time of services", int64(r.engine.limits.HostTime)})
		}
	}
	r.place = placeInside
	if err := r.engine.gate.comeBack(r.ctx, r.outHeld); err != nil {
		r.place = placeNone
		r.halt(err)
	}
	if !r.looked.IsZero() {
		r.looked = time.Now()
	}
}

// A placeInGate is what a run has to give back when it ends.
type placeInGate uint8

const (
	placeInside  placeInGate = iota // a place among those that run
	placeOutside                    // the host was asked, and has panicked
	placeNone                       // it waited for a place until the timeout
)

// leave gives back the place.
func (r *run) leave() {
	switch g := &r.engine.gate; r.place {
	case placeInside:
		g.leave()
	case placeOutside:
		g.giveUp(r.outHeld)
	}
}

// hold counts bytes that the script makes. It does not know what becomes of
// them.
func (r *run) hold(bytes int) {
	if r.made += bytes; r.made > r.engine.limits.AllocBytes {
		r.halt(&BudgetError{"bytes in all", int64(r.engine.limits.AllocBytes)})
	}
}

// holds returns about how many bytes the script holds, with all that the
// transaction has in variables, but no less.
func (r *run) holds() int64 {
	base := max(int64(r.measured), r.vars().held)
	grown := int64(r.made - r.since)
	if base+grown <= smallBytes || grown < max(1<<20, base/2) {
		return base + grown
	}
	var objects int
	r.measured, objects = r.measure()
	r.since = r.made
	r.tick -= objects
	return int64(r.measured)
}

// rollback takes back what the script changed.
func (r *run) rollback() {
	for _, undo := range slices.Backward(r.undo) {
		undo()
	}
	clear(r.undo)
	r.undo = r.undo[:0]
}

func (r *run) vars() *Vars { return r.variables }

// exec runs one program. It reports the failure of the script, and whether
// the state may be used again.
func (st *state) exec(ctx context.Context, s *Script, p *program, ev Event, tx Transaction) (err error, healthy bool) {
	r := &st.run
	engine, undo, frame, registry := r.engine, r.undo[:0], r.frame, r.registry
	*r = run{} // in place, which a literal with values of r would not be
	r.engine, r.state, r.undo, r.frame, r.registry = engine, st, undo, frame, registry
	r.ctx, r.tx, r.script, r.event, r.variables = ctx, tx, s, ev, tx.Vars()
	r.tick, r.mode = 1<<20, max(s.mode, r.variables.mode)
	defer func() {
		// Nothing that PCall should have caught comes here, but a VM that
		// runs out of registers panics within its own recovery.
		switch v := recover().(type) {
		case nil:
		case *lua.ApiError:
			err, healthy = r.failed(v), false
		default:
			err, healthy = r.fail(&PanicError{Value: v, Stack: debug.Stack()}), false
		}
		if err != nil {
			r.keep()
		}
		r.ctx, r.tx, r.script, r.reply, r.variables = nil, nil, nil, nil, nil
		clear(r.undo)
	}()

	main := st.main(p)
	globals := r.variables.globals(st, s)
	r.steps, r.patternSteps = r.engine.limits.Instructions, maxPatternSteps
	r.interval = r.engine.interval
	r.tick = min(r.steps, r.interval)
	r.steps -= r.tick
	if err := ctx.Err(); err != nil {
		return r.fail(context.Cause(ctx)), true
	}
	st.L.Push(main)
	st.L.Push(globals)
	e := st.L.PCall(1, 0, st.onError)
	if errors.Is(r.stop, errEnded) {
		// The state is as good as before: noteError has cut the script's
		// closures off. To throw it away, as after a failure, would be slow
		// just when there are too many requests.
		r.commit()
		return nil, true
	}
	if e != nil {
		return r.failed(e), false
	}
	if r.stop != nil {
		return r.fail(r.stop), false
	}
	if !r.keep() {
		return r.fail(ErrBusy), true
	}
	r.commit()
	return nil, true
}

// keep counts what the transaction holds when the event has ended. It reports
// false if that is too much for the engine.
func (r *run) keep() bool {
	v := r.vars()
	v.mode = r.mode
	if r.made == 0 || int64(r.made)+v.held <= smallBytes {
		return true
	}
	held, _ := r.measure()
	if v.keep(&r.engine.gate, int64(held)) {
		return true
	}
	v.Reset() // the transaction is told to end, and must not hold on to it
	return false
}

// commit hands the script's decisions to the transaction.
func (r *run) commit() {
	if r.selection.pool != "" {
		s := &r.selection
		if selector, ok := r.tx.(EntrySelector); ok && s.entry.Key != "" {
			selector.SelectEntry(s.pool, s.addr, s.entry)
		} else {
			r.tx.SelectPool(s.pool, s.addr)
		}
		r.tx.Vars().selected = s.pool
	}
	for _, decision := range r.decisions {
		decision()
	}
	r.decisions, r.user = nil, nil
	if r.reply != nil {
		r.tx.Reply(r.reply.status, r.reply.header, r.reply.body)
	}
	if r.closing != open {
		r.tx.Close(r.closing == closeRST)
	}
}

// failed makes the error of a script that ended with one.
func (r *run) failed(e error) error {
	if r.message == "" { // the stack was full, and noteError could not be called
		var ae *lua.ApiError
		if errors.As(e, &ae) && ae.Object != nil {
			r.message = errorText(ae.Object)
			_, p, _, _ := cutPlace(r.message)
			r.message, r.line = r.reword(r.state.L, -1, r.message), p.line()
		}
	}
	if r.stop != nil {
		r.cause = r.stop
	}
	return r.fail(r.cause)
}

// fail takes back what the script did and describes its failure.
func (r *run) fail(cause error) error {
	r.rollback()
	if r.message == "" {
		r.message = chunkName(r.script.name) + ": " + publicText(cause)
	}
	return &RuntimeError{
		Script: r.script.name, Event: r.event, Line: r.line,
		Message: r.message, Traceback: r.traceback, Cause: cause,
	}
}

// noteError is the error handler of the whole script: it runs where the error
// was raised, with the calls that led there still on the stack.
func noteError(L *lua.LState) int {
	r := L.Context().(*run)
	limit := r.engine.limits.ErrorBytes
	r.message = cut(errorText(r.explain(L)), limit)
	r.traceback, r.line = traceback(L, limit)
	release(allCaptured(L))
	return 1
}

// errorText describes an error value without running any of the script's
// metamethods.
func errorText(v lua.LValue) string {
	if s, ok := text(v); ok {
		return s
	}
	return fmt.Sprintf("(error object is a %s value)", v.Type())
}
