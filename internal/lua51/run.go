package lua51

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	lua "github.com/yuin/gopher-lua"
)

// A Run is one run of a program. It is the VM's context, too: the
// VM calls Done once for each instruction, which makes an exact budget of it
// without a timer, and natives find the run they serve through it. Each state
// has one run, used again and again.
type Run struct {
	engine *Engine
	state  *State

	ctx       context.Context // of the caller
	host      any             // likewise
	variables *Variables      // of the transaction
	program   *Program

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

	// The time in which the host is asked; see Outside.
	place   placeInGate
	calls   int
	timed   bool
	left    time.Time
	outTime time.Duration
	outHeld int64

	frame    **vmFrame   // of the VM: the function that runs,
	registry *vmRegistry // and the values that it works on
	mode     mode        // says which instructions are looked at; see weigh.go

	// How errors travel.
	raised  bool     // a function written in Go raised the error on its way; else the VM did
	catcher *catcher // the innermost pcall or xpcall

	// Why the script failed.
	cause     error // behind the error that was raised last
	line      int
	message   string
	traceback string

	tracedIn *lua.FunctionProto // the function and the line traced last
	traced   int

	patternSteps int
	rng          *rand.Rand
}

// Host returns what the caller of [State.Run] has passed on to its own
// functions.
func (r *Run) Host() any { return r.host }

// Context returns the context that the run was started with. Unlike the run
// itself, which is a context as well, it may be used in other goroutines.
func (r *Run) Context() context.Context { return r.ctx }

// Variables returns the variables of the transaction.
func (r *Run) Variables() *Variables { return r.variables }

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
func (r *Run) watch(size int) {
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
func (r *Run) Done() <-chan struct{} {
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
func (r *Run) pause() <-chan struct{} {
	r.tick--
	r.skip = 0
	if !r.mayGoOn() {
		return closed
	}
	if r.engine.trace != nil {
		r.traceLine()
	}
	return nil
}

// traceLine reports the line of the instruction to come.
func (r *Run) traceLine() {
	dbg, fn := frame(r.state.L, 0)
	if fn == nil || fn.IsG {
		return
	}
	o, line := originOf(fn.Proto), place(dbg.CurrentLine).line()
	if o.program == nil || fn.Proto == r.tracedIn && line == r.traced {
		return
	}
	r.tracedIn, r.traced = fn.Proto, line
	if o.hasCode(line) {
		r.engine.trace(o.program.tag, line)
	}
}

// Err implements context.Context: why Done said stop. The VM raises its text.
func (r *Run) Err() error {
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
func (r *Run) Deadline() (time.Time, bool) { return r.ctx.Deadline() }

// Value implements context.Context.
func (r *Run) Value(key any) any { return r.ctx.Value(key) }

// mayGoOn looks at everything that can stop a script.
func (r *Run) mayGoOn() bool {
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
func (r *Run) look(now time.Time) {
	if r.looked.IsZero() {
		return
	}
	gap := min(now.Sub(r.looked), maxGap)
	r.looked = now
	r.ran += gap
	r.turn += gap
}

// halt ends the script for good: no pcall can go on after it.
func (r *Run) halt(err error) {
	if r.stop == nil {
		r.stop = err
	}
	r.steps, r.tick, r.skip = 0, 0, 0 // not even an error handler runs another instruction
}

// A step of work within a function of the API is one for which a script pays
// like for so many instructions: it takes up to 150 nanoseconds, a plain
// instruction of the VM 20 to 30.
const stepInstructions = 5

// Spend counts n steps of work within a function of the API.
func (c Call) Spend(n int) {
	if c.tick -= stepInstructions * n; c.tick <= 0 {
		c.check()
	}
}

// Work is Spend for steps that are as quick as instructions.
func (c Call) Work(n int) {
	if c.tick -= n; c.tick <= 0 {
		c.check()
	}
}

// check raises the error that stops the script, if it must stop.
func (c Call) check() {
	if !c.mayGoOn() {
		c.Fail("%s", publicText(c.stop))
	}
}

// TooLarge stops the script for building too large a string.
func (c Call) TooLarge() {
	c.halt(&BudgetError{"string bytes", int64(c.engine.limits.StringBytes)})
	c.check()
}

// untimedCalls is how many calls of services are not timed if the script has
// not read the clock yet. Most scripts make fewer.
const untimedCalls = 4

// hostInstructions is what a call of a service costs a script.
const hostInstructions = 500

// Outside begins a call of a service of the host: meanwhile the script's clock
// stands still, and another script may run in its place. The caller calls what
// Outside returns afterwards.
func (c Call) Outside() func() {
	r := c.Run
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
		r.halt(r.engine.busy)
		c.check()
	}
	r.place = placeOutside
	return r.state.resume
}

// back ends what Outside began. If the script may not go on, it does not
// execute another instruction.
func (r *Run) back() {
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
func (r *Run) leave() {
	switch g := r.engine.gate; r.place {
	case placeInside:
		g.leave()
	case placeOutside:
		g.giveUp(r.outHeld)
	}
}

// Hold counts bytes that the script makes. It does not know what becomes of
// them.
func (r *Run) Hold(bytes int) {
	if r.made += bytes; r.made > r.engine.limits.AllocBytes {
		r.halt(&BudgetError{"bytes in all", int64(r.engine.limits.AllocBytes)})
	}
}

// holds returns about how many bytes the script holds, with all that the
// transaction has in variables, but no less.
func (r *Run) holds() int64 {
	base := max(int64(r.measured), r.variables.held)
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

// End ends the script here, without an error: it has nothing more to say.
func (c Call) End() {
	c.halt(errEnded)
	c.check()
}

// errEnded stops a script that has ended by End. It is not a failure.
var errEnded = errors.New("the script has ended")

// A Failure says why a run has failed.
type Failure struct {
	Line      int    // where, counted from 1; 0 if unknown
	Message   string // such as `[string "x"]:2: attempt to call global 'f' (a nil value)`
	Traceback string // the calls that led there, innermost first
	// Cause is what lies behind the error: a [*BudgetError], a [*PanicError],
	// an error given to [Call.FailWith], the context's error; or nil if the
	// script itself is at fault.
	Cause error
}

// Error returns the message.
func (f *Failure) Error() string { return f.Message }

// Unwrap returns Cause.
func (f *Failure) Unwrap() error { return f.Cause }

// An Outcome is how a run has ended.
type Outcome struct {
	Failure *Failure // nil if it has succeeded
	Healthy bool     // the state may be used again
	Dropped bool     // the variables took too much memory, and are gone
}

// Run runs one program for a transaction with some variables. The caller must
// have passed the engine's gate, and calls [State.Leave] afterwards. Functions
// find the value of host by [Run.Host].
func (st *State) Run(ctx context.Context, p *Program, v *Variables, host any) (out Outcome) {
	r := &st.run
	engine, frame, registry := r.engine, r.frame, r.registry
	*r = Run{} // in place, which a literal with values of r would not be
	r.engine, r.state, r.frame, r.registry = engine, st, frame, registry
	r.ctx, r.host, r.program, r.variables = ctx, host, p, v
	r.tick, r.mode = 1<<20, max(p.script.mode, v.mode)
	defer func() {
		// Nothing that PCall should have caught comes here, but a VM that
		// runs out of registers panics within its own recovery.
		switch v := recover().(type) {
		case nil:
		case *lua.ApiError:
			out = Outcome{Failure: r.failed(v)}
		default:
			out = Outcome{Failure: r.fail(&PanicError{Value: v, Stack: debug.Stack()})}
		}
		if out.Failure != nil && !out.Dropped {
			out.Dropped = !r.keep()
		}
		r.ctx, r.host, r.program, r.variables = nil, nil, nil, nil
	}()

	main := st.main(p)
	globals := v.globals(st, p.script)
	r.steps, r.patternSteps = r.engine.limits.Instructions, maxPatternSteps
	r.interval = r.engine.interval
	r.tick = min(r.steps, r.interval)
	r.steps -= r.tick
	if err := ctx.Err(); err != nil {
		return Outcome{Failure: r.fail(context.Cause(ctx)), Healthy: true}
	}
	st.L.Push(main)
	st.L.Push(globals)
	e := st.L.PCall(1, 0, st.onError)
	if errors.Is(r.stop, errEnded) {
		// The state is as good as before: noteError has cut the script's
		// closures off. To throw it away, as after a failure, would be slow
		// just when there are too many requests.
		return Outcome{Healthy: true}
	}
	if e != nil {
		return Outcome{Failure: r.failed(e)}
	}
	if r.stop != nil {
		return Outcome{Failure: r.fail(r.stop)}
	}
	if !r.keep() {
		return Outcome{Failure: r.fail(r.engine.busy), Healthy: true, Dropped: true}
	}
	return Outcome{Healthy: true}
}

// keep counts what the transaction holds when the event has ended. It reports
// false if that is too much for the engine.
func (r *Run) keep() bool {
	v := r.variables
	v.mode = r.mode
	if r.made == 0 || int64(r.made)+v.held <= smallBytes {
		return true
	}
	held, _ := r.measure()
	if v.keep(r.engine.gate, int64(held)) {
		return true
	}
	v.Reset() // the transaction is told to end, and must not hold on to it
	return false
}

// failed makes the failure of a script that ended with an error.
func (r *Run) failed(e error) *Failure {
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

// NewFailure describes the failure of a script that is no error of its code.
func NewFailure(script string, cause error) *Failure {
	return &Failure{Message: ChunkName(script) + ": " + publicText(cause), Cause: cause}
}

// fail describes the failure of the script.
func (r *Run) fail(cause error) *Failure {
	if r.message == "" {
		r.message = NewFailure(r.program.script.name, cause).Message
	}
	return &Failure{Line: r.line, Message: r.message, Traceback: r.traceback, Cause: cause}
}

// noteError is the error handler of the whole script: it runs where the error
// was raised, with the calls that led there still on the stack.
func noteError(L *lua.LState) int {
	r := L.Context().(*Run)
	limit := r.engine.limits.ErrorBytes
	r.message = Cut(errorText(r.explain(L)), limit)
	r.traceback, r.line = traceback(L, limit)
	release(allCaptured(L))
	return 1
}

// errorText describes an error value without running any of the script's
// metamethods.
func errorText(v lua.LValue) string {
	if s, ok := Text(v); ok {
		return s
	}
	return fmt.Sprintf("(error object is a %s value)", v.Type())
}
