package lua51

import (
	"strings"
	"testing"

	lua "github.com/yuin/gopher-lua"

	"github.com/limpetlb/limpet/internal/oneline"
)

// concatExpression makes an expression of the operator .. among others: each
// byte of shape chooses an operand, or how operands are put together.
func concatExpression(shape []byte, text string) string {
	operands := []string{quoteLua(text), "'a'", "''", "1", "-2", "0.5", "x", "t", "u", "f()", "g(1, 2)", "s:upper()", "#s", "(s)", "nil", "true", "z.y"}
	stack := []string{"s"}
	pop := func() string {
		e := stack[len(stack)-1]
		if stack = stack[:len(stack)-1]; len(stack) == 0 {
			stack = []string{"x"}
		}
		return e
	}
	for _, b := range shape[:min(len(shape), 60)] {
		if len(stack[len(stack)-1]) > 2000 {
			break // some forms double what they take
		}
		switch {
		case int(b) < len(operands):
			stack = append(stack, operands[b])
		case b < 160:
			right, left := pop(), pop()
			stack = append(stack, left+" .. "+right)
		case b < 180:
			stack = append(stack, "("+pop()+")")
		case b < 200:
			right, left := pop(), pop()
			stack = append(stack, "("+left+" == "+right+" and "+left+" .. "+right+" or 'ne')")
		case b < 220:
			stack = append(stack, "f("+pop()+", "+pop()+")")
		case b < 240:
			stack = append(stack, "({"+pop()+"})[1]")
		default:
			right, left := pop(), pop()
			stack = append(stack, "(function(...) return "+left+" .. (...) end)("+right+")")
		}
	}
	return strings.Join(stack, " .. ")
}

// concatPrelude has values that note in which order the operator's
// metamethods see them.
const concatPrelude = `
local s, x, z = "s", "x", {y = "zy"}
local mt = {__concat = function(a, b)
	local function name(v) if type(v) == "table" then return v.name end return tostring(v) end
	return "<" .. name(a) .. "|" .. name(b) .. ">"
end}
local t, u = setmetatable({name = "t"}, mt), setmetatable({name = "u"}, mt)
local function f(a, b) if a ~= nil then return a, b end return "f" end
local function g(a, b) return a .. b, b end
local function concat() return `

// A script whose operators .. have become calls gives what the VM gives for
// the script as written.
func FuzzConcatRewrite(f *testing.F) {
	f.Add([]byte{1, 2, 3, 100, 100, 100}, "x")              // a chain, from the right
	f.Add([]byte{7, 1, 8, 100, 100}, "")                    // metamethods on both sides
	f.Add([]byte{3, 5, 100, 7, 100, 4, 100}, "1")           // numbers among them
	f.Add([]byte{14, 1, 100}, "")                           // nil, which fails
	f.Add([]byte{1, 3, 250, 7, 220, 8, 250}, "\x00\xff")    // in a function, and bytes that are no text
	f.Add([]byte{0, 0, 190, 0, 210, 230, 165, 11, 100}, "") // under other operators
	e := newHost(Limits{})
	f.Fuzz(func(t *testing.T, shape []byte, text string) {
		if len(text) > 100 {
			return
		}
		source := concatPrelude + concatExpression(shape, text) + "\nend\nlocal r = concat() "
		s, err := e.compile(source + "log(type(r) == 'table' and r.name or tostring(r))")
		if err != nil {
			return // too many registers, say
		}
		L := lua.NewState()
		defer L.Close()
		plain := L.DoString(source + "result = type(r) == 'table' and r.name or tostring(r)")
		x := &record{}
		got := e.exec(t.Context(), s.Programs()[0], x)
		if (got != nil) != (plain != nil) {
			t.Fatalf("%s\nerror %v, in the plain VM %v", source, got, plain)
		}
		if got != nil {
			return
		}
		if have, want := x.logged()[0], oneline.Escape(L.GetGlobal("result").String()); have != want {
			t.Fatalf("%s\ngives %q, in the plain VM %q", source, have, want)
		}
	})
}
