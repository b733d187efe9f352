package lua51

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	lua "github.com/yuin/gopher-lua"
)

// A script could fill memory with keys that cost it nothing: fractions, and
// numbers beyond all integers, were taken for elements of the array that are
// there already.
func TestKeysBesideTheArray(t *testing.T) {
	for _, tt := range []struct{ name, source string }{
		{"fractions", "local t = {1, 2, 3} for i = 1, 20000 do t[1 + i / 65536] = i end"},
		{"beyond integers", "local t = {1, 2, 3} for i = 1, 20000 do t[i * 1e300] = i end"},
		{"below one", "local t = {1, 2, 3} for i = 1, 20000 do t[-i] = i end"},
		{"a constant", "for i = 1, 20000 do local t = {1, 2, 3} t[1.5] = i end"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := newHost(Limits{AllocBytes: 1 << 20}).run(t, tt.source)
			var budget *BudgetError
			if !errors.As(err, &budget) || budget.Budget != "bytes in all" {
				t.Errorf("got %v, want an error: too many bytes", err)
			}
		})
	}
}

const loops = `
	local t, n = {}, 0
	for i = 1, 2000 do t[i % 50 + 1] = i; n = n + i * 2 - 1 end
	for k, v in pairs(t) do if v > 10 then n = n - v end end
	local function fib(n) if n < 2 then return n end return fib(n - 1) + fib(n - 2) end
	return fib(12) + n`

// unplanned has each instruction of a function looked at.
func unplanned(p *lua.FunctionProto) {
	words := p.Code[:cap(p.Code)][len(p.Code):]
	for i := range words {
		words[i] &^= maxAhead<<usualMode | maxAhead<<metaMode | maxAhead<<longMode
	}
	for _, inner := range p.FunctionPrototypes {
		unplanned(inner)
	}
}

// charged runs a program, and returns the instructions and bytes that it was
// charged for.
func charged(t *testing.T, source string, planned bool) string {
	t.Helper()
	e := newHost(Limits{Instructions: 50_000})
	s, err := e.compile(source)
	if err != nil {
		return err.Error() // as some random programs have it
	}
	if !planned {
		unplanned(s.programs[0].proto)
	}
	st := e.NewState()
	x := &record{}
	out := st.Run(t.Context(), s.programs[0], &x.vars, x)
	err = nil
	if out.Failure != nil {
		err = out.Failure
	}
	r := &st.run
	r.settle()
	return fmt.Sprintf("%d instructions, %d bytes, %v", e.limits.Instructions-r.Left(), r.made, err)
}

// Scripts are charged alike whether all instructions are looked at, or only
// those that have to be.
func TestPlannedCode(t *testing.T) {
	for _, tt := range []struct{ name, source string }{
		{"loops", loops},
		{"while", "local i = 0 while true do i = i + 1 if i > 500 then break end end local t = {i}"},
		{"repeat", "local t = {} local i = 0 repeat i = i + 1 t[i] = i until i > 50 or t[60]"},
		{"and, or", "local t = {} for i = 1, 50 do local x = i > 9 and {} or i < 5 and 'a' t[i] = not x or x == 'a' end"},
		{"moves", "local function f(a, b, c, d) return {a, b, c, d} end for i = 1, 20 do local a, b, c, d = i, i, i, i f(a, b, c, d) end"},
		{"closures", "local a, b = 1, 2 local fs = {} for i = 1, 20 do local c = i fs[i] = function() a = b + c return {a} end end for i = 1, 20 do fs[i]() end"},
		{"lists", "local t = {unpack({1, 2, 3})} local function f(...) return {...}, select('#', ...) end for i = 1, 20 do f(unpack(t)) f(f(i)) end"},
		{"tail calls", "local function f(n) if n == 0 then return {} end return f(n - 1) end f(50)"},
		{"pairs", "local t = {} for i = 1, 50 do t[i] = i end for k, v in pairs(t) do local x = {k, v} end"},
		{"iterators", "local function next(s, i) if i < 20 then local t = {i} return i + 1 end end for i in next, nil, 0 do local x = {} end"},
		{"methods", "local C = {} C.__index = C function C.add(o, n) o.x = {n} return o end local o = setmetatable({}, C) for i = 1, 20 do o:add(i) end"},
		{"metamethods", `
			local mt = {}
			local function made() return setmetatable({}, mt) end
			for _, name in ipairs {"__add", "__sub", "__mul", "__div", "__mod", "__pow", "__unm", "__concat", "__index"} do mt[name] = made end
			mt.__call = made mt.__newindex = made mt.__lt = function() local t = {} return true end mt.__le, mt.__eq = mt.__lt, mt.__lt
			local a, b = made(), made()
			for i = 1, 20 do
				local x = a + 1; x = a - b; x = a * 2; x = a / 3; x = a % 4; x = a ^ 5; x = -a; x = a .. 'x'; x = a.x; x = a[i]; x = a()
				a.x = 1; a[i] = 2; x = a < b; x = a <= b; x = a == b; x = a:m(); x = "5" + a
			end`},
		{"metamethods that come later", "local mt = {} local t = setmetatable({}, mt) local s = 0 for i = 1, 20 do local a, b = i, i if i == 10 then mt.__add = function() return #{i, i} end end if i > 10 then s = t + a s = t + b end end"},
		{"metatables of copies", "function lib.g() end local mt = getmetatable(lib) if type(mt) == 'table' then mt.__add = function() local t = {} return 1 end for i = 1, 9 do local x = lib + 1 end end"},
		{"errors", "for i = 1, 20 do pcall(function() local a, b, c = 1, 2, 3 local x = nil + a b = c c = b a = b b = c end) local t = {} end"},
		{"error handlers", "for i = 1, 20 do xpcall(function() local x = nil + 1 local a = 1 local b = 2 local c = 3 end, function(e) return {e} end) local t = {} end"},
		{"errors in error handlers", "for i = 1, 9 do xpcall(function() local x = nil + 1 local a = 1 local b = 2 end, function(e) local x = e.x.y local t = {} end) local t = {} end"},
		{"overflow", "local function f() return 1 + f() end for i = 1, 9 do pcall(f) local t = {} end"},
		{"an error", "local t = {} local a, b = 1, 2 local x = nil + a a = b b = a a = b"},
		{"callbacks", "local t = {3, 1, 2} table.sort(t, function(a, b) local x = {} return a < b end) ('abc'):gsub('.', function(c) return c .. #{c} end) table.foreach(t, function(k, v) local x = {} end)"},
		{"globals", "a, b = {}, 1 for i = 1, 20 do a = i b = {a} b[1] = a c = b[1] end local function f() d = {} e = 1 c = 2 end f() f(e)"},
		{"long strings", "local s, t = ('x'):rep(5000), {} for i = 1, 20 do local k = s .. i t[k] = i local x = t[k] == t[s] and k < s end"},
		{"endless", "local t = {} while true do local a = 1 end"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, want := charged(t, tt.source, true), charged(t, tt.source, false); got != want {
				t.Errorf("charged for %s, want %s", got, want)
			}
		})
	}
	for seed := range uint64(300) {
		g := &generator{Rand: rand.New(rand.NewPCG(seed, 5))}
		source := g.program()
		if got, want := charged(t, source, true), charged(t, source, false); got != want {
			t.Fatalf("seed %d: charged for %s, want %s\n%s", seed, got, want, source)
		}
	}
}
