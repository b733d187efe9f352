package lua51

import (
	"slices"
	"strconv"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

var errorTextsRepair = repair{
	file:    "repair_errortexts.go",
	fault:   "Errors do not name the value that is at fault, and are worded in another way.",
	program: "local t = {} t.x.y = 1",
	wrong:   "error: attempt to index a non-table object(nil) with key 'y'",
	right:   "error: attempt to index field 'x' (a nil value)",
}

// The VM words its errors in its own way and shows positions where lines
// should be. All of them come here, through the handlers of protected calls,
// before scripts or logs see them. Errors of functions of the API are right
// already: they are raised by raise.

// raise ends the function with an error as it is.
func (r *Run) raise(L *lua.LState, v lua.LValue) {
	r.raised = true
	L.Error(v, 0)
}

// explain returns an error value as scripts may see it. The handler that asks
// must have been called where the error was raised, with the value as its
// argument.
func (r *Run) explain(L *lua.LState) lua.LValue {
	v := L.Get(1)
	if r.raised {
		r.raised = false
		return v
	}
	raw, _ := v.(lua.LString)
	return lua.LString(r.reword(L, 1, string(raw)))
}

// reword puts an error of the VM in Lua's words. The level is that of the
// function that failed; it is negative if the stack is gone.
func (r *Run) reword(L *lua.LState, level int, raw string) string {
	source, p, text, ok := cutPosition(raw)
	if r.stop != nil {
		text = publicText(r.stop)
	} else if !ok {
		// The VM itself panicked, and this is the text of it.
		r.halt(&PanicError{Value: raw})
		text = publicText(r.stop)
	}
	var op failedOp
	if level >= 0 {
		var inScript bool
		if op, inScript = failedAt(L, level); !inScript {
			source = "" // functions that are not Lua's have no lines
		}
	}
	if r.stop == nil {
		text = op.reword(text)
	}
	if source == "" {
		return text
	}
	return source + ":" + strconv.Itoa(p.line()) + ": " + text
}

// cutPosition takes the position off a message of the VM, such as
// [string "name"]:123: text.
func cutPosition(raw string) (source string, p position, text string, ok bool) {
	const end = `"]:`
	for i := 0; ; {
		j := strings.Index(raw[i:], end)
		if j < 0 {
			return "", 0, raw, false
		}
		i += j + len(end)
		number, rest, found := strings.Cut(raw[i:], ": ")
		if n, err := strconv.Atoi(number); found && err == nil {
			return raw[:i-1], position(n), rest, true
		}
	}
}

// A failedOp is an operation of a script while its operands are still there.
type failedOp struct {
	site
	L     *lua.LState
	dbg   *lua.Debug // nil if unknown
	proto *lua.FunctionProto
}

// failedAt returns the operation that a function on the stack is at. ok is
// false if it is not a function of a script.
func failedAt(L *lua.LState, level int) (op failedOp, ok bool) {
	dbg, fn := frame(L, level)
	if fn == nil || fn.IsG {
		return failedOp{}, false
	}
	return failedOp{originOf(fn.Proto).sites.at(position(dbg.CurrentLine)), L, dbg, fn.Proto}, true
}

// reword turns the text of an error of the VM into Lua's.
func (o failedOp) reword(text string) string {
	if rest, ok := strings.CutPrefix(text, "attempt to index a non-table object("); ok {
		object, _, _ := strings.Cut(rest, ")")
		return "attempt to index " + o.indexed(object)
	}
	if rest, ok := strings.CutPrefix(text, "cannot perform "); ok {
		_, types, _ := strings.Cut(rest, " operation between ")
		left, right, _ := strings.Cut(types, " and ")
		if left != "number" {
			return "attempt to perform arithmetic on " + o.operand(0).describe(left)
		}
		return "attempt to perform arithmetic on " + o.operand(1).describe(right)
	}
	if rest, ok := strings.CutPrefix(text, "attempt to compare "); ok {
		if left, right, _ := strings.Cut(rest, " with "); left == right {
			return "attempt to compare two " + left + " values"
		}
		return text
	}
	switch text {
	case "attempt to call a non-function object":
		return "attempt to call " + o.called()
	case "__unm undefined":
		return "attempt to perform arithmetic on " + o.operand(0).describe(o.typeOf(argB, lua.OP_UNM))
	case "for statement init must be a number":
		return "'for' initial value must be a number"
	case "for statement limit must be a number":
		return "'for' limit must be a number"
	case "for statement step must be a number":
		if o.op == boundsOp && o.typeOf(forLimit, lua.OP_FORPREP) != "number" {
			return "'for' limit must be a number" // which Lua looks at first
		}
		return "'for' step must be a number"
	case "registry overflow":
		return "stack overflow"
	case "too many recursions in gettable":
		return "loop in gettable"
	case "too many recursions in settable":
		return "loop in settable"
	}
	return text
}

// called describes the value that was called and is not a function.
func (o failedOp) called() string {
	if o.op == forOp {
		return operand{}.describe(o.typeOf(argA, lua.OP_TFORLOOP))
	}
	return o.operand(0).describe(o.typeOf(argA, lua.OP_CALL, lua.OP_TAILCALL))
}

// indexed describes the value that was indexed and is not a table. If the
// operand is not of that type, the culprit is an __index or __newindex, and has
// no name.
func (o failedOp) indexed(culprit string) string {
	switch o.op {
	case callOp:
		if o.typeOf(argB, lua.OP_SELF) == culprit {
			return o.operand(1).describe(culprit)
		}
	case indexOp:
		if o.typeOf(argB, lua.OP_GETTABLE, lua.OP_GETTABLEKS) == culprit || o.typeOf(argA, lua.OP_SETTABLE, lua.OP_SETTABLEKS) == culprit {
			return o.operand(0).describe(culprit)
		}
	}
	return operand{}.describe(culprit)
}

// The VM's instructions: six bits of operation code, eight of A, nine each
// of C and B.
func argA(inst uint32) int { return int(inst>>18) & 0xff }
func argB(inst uint32) int { return int(inst) & 0x1ff }
func argC(inst uint32) int { return int(inst>>9) & 0x1ff }

// forLimit is where OP_FORPREP has the limit.
func forLimit(inst uint32) int { return argA(inst) + 1 }

// typeOf returns the type of the value in a register that one of some
// instructions has as its argument. A site has one of them at most.
func (o failedOp) typeOf(arg func(uint32) int, ops ...int) string {
	if o.dbg == nil {
		return "nil"
	}
	for pc, p := range o.proto.DbgSourcePositions {
		if inst := o.proto.Code[pc]; p == o.dbg.CurrentLine && slices.Contains(ops, int(inst>>26)) {
			if name, v := o.L.GetLocal(o.dbg, arg(inst)+1); name != "" && v != nil {
				return v.Type().String()
			}
		}
	}
	return "nil"
}
