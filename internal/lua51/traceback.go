package lua51

import (
	"strconv"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// frame returns a function on the stack and where it is: level 0 is the one
// that runs. fn is nil if there is no such level, or if the frame was lost to
// a tail call.
func frame(L *lua.LState, level int) (dbg *lua.Debug, fn *lua.LFunction) {
	actual, f := visible(L, level)
	dbg, ok := L.GetStack(actual)
	switch {
	case !ok:
		return nil, nil
	case f == nil:
		return dbg, nil
	}
	v, err := L.GetInfo("fSl", dbg, lua.LNil)
	if err != nil {
		return nil, nil
	}
	fn, _ = v.(*lua.LFunction)
	return dbg, fn
}

// where is the position at which the function of a level stands, as it begins a
// message. It is empty for functions that are not a script's.
func where(L *lua.LState, level int) string {
	dbg, fn := frame(L, level)
	if fn == nil || fn.IsG {
		return ""
	}
	return dbg.Source + ":" + strconv.Itoa(position(dbg.CurrentLine).line()) + ": "
}

// calledAs returns how the function of a level was called; it has no kind if
// that is unknown.
func calledAs(L *lua.LState, level int) operand {
	if _, f := visible(L, level); f == nil || !f.Fn.IsG && f.TailCall > 0 {
		return operand{}
	}
	dbg, fn := frame(L, level+1)
	if fn == nil || fn.IsG {
		return operand{}
	}
	if !isCall(L, level+1) {
		return operand{} // a metamethod
	}
	s := originOf(fn.Proto).sites.at(position(dbg.CurrentLine))
	if s.op != callOp && s.op != forOp {
		return operand{}
	}
	return s.operand(0)
}

// maxTraceback is how many calls a traceback shows.
const maxTraceback = 20

// traceback lists the calls on the stack, innermost first, and returns the
// line of the innermost function of a script. Level 0 is left out: it is the
// error handler.
func traceback(L *lua.LState, limit int) (text string, line int) {
	var b strings.Builder
	b.WriteString("stack traceback:\ncoroutine 0:")
	for level := 1; b.Len() < limit; level++ {
		dbg, fn := frame(L, level)
		switch {
		case dbg == nil:
			return Cut(b.String(), limit), line
		case level > maxTraceback && line != 0:
			b.WriteString("\n  ...")
			return Cut(b.String(), limit), line
		case level > maxTraceback: // go on to find the line
		case fn == nil:
			b.WriteString("\n  (tail call): ?")
		case fn.IsG:
			b.WriteString("\n  [C]: in function '" + nativeName(L, fn) + "'")
		default:
			b.WriteString("\n  " + strings.TrimSuffix(where(L, level), " ") + " in function ")
			if o := calledAs(L, level); o.kind != "" {
				b.WriteString("'" + o.name + "'")
			} else {
				b.WriteString("<" + dbg.Source + ":" + strconv.Itoa(dbg.LineDefined) + ">")
			}
		}
		if line == 0 && fn != nil && !fn.IsG {
			line = position(dbg.CurrentLine).line()
		}
	}
	return Cut(b.String(), limit), line
}

// nativeName finds what a function of the API is called.
func nativeName(L *lua.LState, f *lua.LFunction) string {
	for s, v := range L.Context().(*Run).state.values {
		if v == lua.LValue(f) {
			return s.Name
		}
	}
	return "?"
}

// Cut shortens a text to limit bytes, the last three of which are dots then.
func Cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return s[:max(limit-3, 0)] + "..."
}
