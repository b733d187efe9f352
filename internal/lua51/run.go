package lua51

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
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
	unused   int           // of the budget, when stop was set

	// The bytes that the script makes. How many of them it still holds is
	// measured when it matters, and not again before it has made many more.
	made     int
	measured int // held when that was measured,
	since    int // and made until then

	// The time in which the host is asked; see Outside.
	slot    slotState
	calls   int
	timed   bool
	left    time.Time
	outTime time.Duration
	outHeld int64

	frame    **vmFrame   // of the VM: the function that runs,
	registry *vmRegistry // and the values that it works on
	spare    int         // the level of calls that is for operators; see overflow
	mode     mode        // says which instructions are looked at; see weigh.go

	// How errors travel.
	raised  bool     // a function written in Go raised the error on its way; else the VM did
	catcher *catcher // the innermost pcall or xpcall
	// overflowed says that the error which was caught last found the stack
	// full.
	overflowed bool

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
// The scheduler would take ten times as long, during which no other request is
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
// executes it. The functions that it calls check that the goroutine's stack has
// room; to check that here, too, would make loops a fiftieth slower.
//
//go:nosplit
func (r *Run) Done() <-chan struct{} {
	if r.skip--; r.skip >= 0 {
		return nil
	}
	// An instruction that is looked at. Those that are not, up to the next one
	// that is, are charged for now.
	f := *r.frame
	if f.Idx >= r.spare {
		r.overflow() // the function has just been called
	}
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

// overflow fails the call of the function that runs, as the VM does when its
// stack is full. The VM has room for one level more than scripts may use, so
// that the functions which stand for operators need no level of their own: in
// Lua, they are no calls.
func (r *Run) overflow() {
	*r.frame = (*r.frame).Parent
	L := r.state.L
	r.raise(L, lua.LString(where(L, 0)+"stack overflow"))
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
	o, line := originOf(fn.Proto), position(dbg.CurrentLine).line()
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

// publicText is the text of an error that scripts and records may read. The
// value of a panic in a function of the host is for its developers alone.
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
// Work that lasts longer is charged for by instructions; so another program, or
// another goroutine, ran meanwhile.
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
		r.stop, r.unused = err, r.steps+r.tick+r.skip
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
