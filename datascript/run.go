package datascript

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
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

	ctx    context.Context // of the request
	tx     Transaction
	script *Script
	event  Event

	// The budget. Work is counted down; the clock is read now and then, and
	// for the first time after some instructions, so that short scripts do
	// not read it at all.
	steps   int
	started time.Time
	paused  time.Duration // spent in services of the host
	stop    error         // set once the script must not go on

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

	patternSteps int
	rng          *rand.Rand

	logLines, logBytes int
}

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
	pool       string
	addr       netip.AddrPort
	key, entry string
}

// clockInterval is how many instructions pass between looks at the clock and
// at the request's context.
const clockInterval = 128

// closed is what Done returns to stop the VM.
var closed = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// Done implements context.Context: it counts an instruction.
func (r *run) Done() <-chan struct{} {
	r.steps--
	if r.steps > 0 && r.steps%clockInterval != 0 {
		return nil
	}
	if !r.mayGoOn() {
		return closed
	}
	return nil
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
	if p, ok := err.(*PanicError); ok {
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
	switch {
	case r.steps <= 0:
		r.halt(&BudgetError{"instructions", int64(limits.Instructions)})
	case r.ctx.Err() != nil:
		r.halt(context.Cause(r.ctx))
	case r.started.IsZero():
		r.started = time.Now()
	case time.Since(r.started)-r.paused > limits.Time:
		r.halt(&BudgetError{"time", int64(limits.Time)})
	}
	return r.stop == nil
}

// halt ends the script for good: no pcall can go on after it.
func (r *run) halt(err error) {
	if r.stop == nil {
		r.stop = err
	}
}

// spend counts n steps of work within a function of the API.
func (c call) spend(n int) {
	before := c.steps
	c.steps -= n
	if c.steps > 0 && c.steps/clockInterval == before/clockInterval {
		return
	}
	c.check()
}

// check raises the error that stops the script, if it must stop.
func (c call) check() {
	if !c.mayGoOn() {
		c.L.RaiseError("%s", publicText(c.stop))
	}
}

// tooLarge stops the script for building too large a string.
func (c call) tooLarge() {
	c.halt(&BudgetError{"string bytes", int64(c.engine.limits.StringBytes)})
	c.check()
}

// outside stops the script's clock while a service of the host is asked;
// call what it returns afterwards.
func (r *run) outside() func() {
	if r.started.IsZero() {
		return func() {}
	}
	start := time.Now()
	return func() { r.paused += time.Since(start) }
}

// rollback takes back what the script changed.
func (r *run) rollback() {
	for i := len(r.undo) - 1; i >= 0; i-- {
		r.undo[i]()
	}
	clear(r.undo)
	r.undo = r.undo[:0]
}

func (r *run) vars() *Vars { return r.tx.Vars() }

// exec runs one program. It reports the failure of the script, and whether
// the state may be used again.
func (st *state) exec(ctx context.Context, s *Script, p *program, ev Event, tx Transaction) (err error, healthy bool) {
	r := &st.run
	*r = run{engine: r.engine, state: st, undo: r.undo[:0], ctx: ctx, tx: tx, script: s, event: ev, steps: 1 << 20}
	defer func() {
		// Nothing that PCall should have caught comes here, but a VM that
		// runs out of registers panics within its own recovery.
		if v := recover(); v != nil {
			err, healthy = r.fail(&PanicError{Value: v}), false
		}
		r.ctx, r.tx, r.script, r.reply = nil, nil, nil, nil
		clear(r.undo)
	}()

	main := st.main(p)
	globals := tx.Vars().globals(st, s)
	r.steps, r.patternSteps = r.engine.limits.Instructions, maxPatternSteps
	if !r.mayGoOn() {
		return r.fail(r.stop), true
	}
	st.L.Push(main)
	st.L.Push(globals)
	if e := st.L.PCall(1, 0, st.onError); e != nil {
		return r.failed(e), false
	}
	if r.stop != nil {
		return r.fail(r.stop), false
	}
	r.commit()
	return nil, true
}

// commit hands the script's decisions to the transaction.
func (r *run) commit() {
	if r.selection.pool != "" {
		s := &r.selection
		r.tx.SelectPool(s.pool, s.addr, s.key, s.entry)
	}
	if r.reply != nil {
		r.tx.Reply(r.reply.status, r.reply.header, r.reply.body)
	}
	if r.closing != open {
		r.tx.Close(r.closing == closeRST)
	}
}

// failed makes the error of a script that ended with one.
func (r *run) failed(e error) error {
	if r.message == "" {
		// The VM could not call onError.
		r.message = e.Error()
		var ae *lua.ApiError
		if errors.As(e, &ae) && ae.Object != nil {
			r.message, _ = text(ae.Object)
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

// noteError is the VM's error handler: it runs where the error was raised,
// with the calls that led there still on the stack.
func noteError(L *lua.LState) int {
	r := L.Context().(*run)
	limit := r.engine.limits.ErrorBytes
	r.message = cut(errorText(L.Get(1)), limit)
	r.traceback, r.line = traceback(L, limit)
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

// maxTraceback is how many calls a traceback shows.
const maxTraceback = 20

// traceback lists the calls on the stack, innermost first, and returns the
// line of the innermost call of Lua code.
func traceback(L *lua.LState, limit int) (text string, line int) {
	var b strings.Builder
	b.WriteString("stack traceback:\ncoroutine 0:")
	shown := 0
	for level := 1; b.Len() < limit; level++ { // 0 is the handler
		dbg, ok := L.GetStack(level)
		if !ok {
			break
		}
		fn, err := L.GetInfo("fSl", dbg, lua.LNil)
		if err != nil {
			break
		}
		f, _ := fn.(*lua.LFunction)
		if shown++; shown > maxTraceback {
			b.WriteString("\n  ...")
			break
		}
		if f == nil || f.IsG {
			fmt.Fprintf(&b, "\n  [C]: in function '%s'", nativeName(L, f))
			continue
		}
		if line == 0 {
			line = dbg.CurrentLine
		}
		fmt.Fprintf(&b, "\n  %s:%d: in function <%s:%d>", dbg.Source, dbg.CurrentLine, dbg.Source, dbg.LineDefined)
	}
	return cut(b.String(), limit), line
}

// nativeName finds what a function of the API is called.
func nativeName(L *lua.LState, f *lua.LFunction) string {
	for s, v := range L.Context().(*run).state.values {
		if v == lua.LValue(f) {
			return s.name
		}
	}
	return "?"
}

func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return s[:max(limit-3, 0)] + "..."
}
