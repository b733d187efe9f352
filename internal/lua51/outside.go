package lua51

import "time"

// untimedCalls is how many calls of services are not timed if the script has
// not read the clock yet. Most scripts make fewer.
const untimedCalls = 4

// hostInstructions is what a call of a service costs a script.
const hostInstructions = 500

// Outside begins a call of a service of the host: meanwhile the script's clock
// stands still, and another script may run in its slot, unless there are
// slots enough. The caller calls what Outside returns afterwards.
func (c Call) Outside() func() {
	r := c.Run
	r.calls++
	r.steps -= hostInstructions // and not of this interval: the clock need not be read for it
	if r.timed = r.calls > untimedCalls || !r.looked.IsZero(); r.timed {
		r.left = time.Now()
		r.look(r.left)
	}
	if r.engine.gate.isQuiet() {
		return r.state.resume
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
	r.slot = slotLent
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
	if r.slot == slotLent {
		r.slot = slotTaken
		if err := r.engine.gate.comeBack(r.ctx, r.outHeld); err != nil {
			r.slot = slotLost
			r.halt(err)
		}
	}
	if !r.looked.IsZero() {
		r.looked = time.Now()
	}
}

// A slotState is what a run has to give back when it ends.
type slotState uint8

const (
	slotTaken slotState = iota // a slot among those that run
	slotLent                   // the host was asked, and has panicked
	slotLost                   // it waited for a slot until the timeout
)

// leave gives back the slot.
func (r *Run) leave() {
	switch g := r.engine.gate; r.slot {
	case slotTaken:
		g.leave()
	case slotLent:
		g.giveUp(r.outHeld)
	}
}
