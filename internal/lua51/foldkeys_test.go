package lua51

import (
	"fmt"
	"strings"
	"testing"
)

// Stores to global variables take one instruction, and jumps around them lead
// to where they did.
func TestFoldKeys(t *testing.T) {
	many := strings.Builder{}
	for i := range 300 {
		fmt.Fprintf(&many, "g%d = %d ", i, i)
	}
	for _, tt := range []struct{ name, source, want string }{
		{"two at a time", "a, b = 1, 'x' a, b = b, a print(a, b)", "x\t1"},
		{"from a call", "a, b, c = (function() return 1, 2 end)() print(a, b, c)", "1\t2\tnil"},
		{"for", "n = 0 for i = 1, 3 do n = n + i end print(n)", "6"},
		{"pairs", "s = 0 for k, v in pairs({1, 2, 3}) do s = s + v last = k end print(s, last)", "6\t3"},
		{"while", "n = 0 while true do n = n + 1 if n > 4 then break end x = n end print(n, x)", "5\t4"},
		{"repeat", "i = 0 repeat i = i + 1 y = i until i == 3 print(y)", "3"},
		{"if", "x = 1 if x == 1 then y = 'one' else y = 'other' end if x ~= 1 then z = 1 elseif x == 1 then z = 2 end print(y, z)", "one\t2"},
		{"and, or", "b = a and 1 or 2 c = not b d = b == 2 e = b ~= 2 and 'no' or 'yes' print(b, c, d, e)", "2\tfalse\ttrue\tyes"},
		{"a function", "f = function() g = 1 return g end h = f() print(h, g)", "1\t1"},
		{"a closure", "local l = 1 f = function() l = l + 1 return l end x = f() y = f() print(x, y, l)", "2\t3\t3"},
		{"tables", "t = {a = 1, 2, 3} t.b = t.a u = t[2] t[u] = u print(t.b, u, t[3])", "1\t3\t3"},
		{"lists", "t = {1, 2, {3}, unpack({4, 5})} n = #t print(n, t[5])", "5\t5"},
		{"no arguments", "a = {...} n = #a print(n)", "0"},
		{"read at once", "local l = 1 a = l b = a l = 2 c = a print(a, b, c)", "1\t1\t1"},
		{"read after a change of its local", "local l = 1 a = l l = 2 b = a print(b)", "1"},
		{"read where ways meet", "for i = 1, 2 do a = print if i == 2 then a = i end b = a end print(b)", "2"},
		{"read in a loop", "a = 1 repeat b = a a = b + 1 until a > 3 print(b)", "3"},
		{"read after a call", "a = tostring(1) c = 1 if a then b = a end print(b)", "1"},
		{"an error", "ok, e = pcall(function() x = 1\ny = nil + x end)\nprint(e)", `[string "My Script"]:2: attempt to perform arithmetic on a nil value`},
		{"more constants than a store can name", many.String() + "print(g0 + g299)", "299"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(Limits{})
			r, err := h.run(t, tt.source)
			if err != nil {
				t.Fatal(err)
			}
			if got := r.logged(); len(got) != 1 || !strings.HasSuffix(r.logs[0], ": "+tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
			main := h.mustCompile(t, tt.source).Programs()[0].proto.FunctionPrototypes[0]
			for _, inst := range main.Code {
				if storesGlobal(inst) && argB(inst)&constantBit == 0 && len(main.Constants) < constantBit {
					t.Errorf("a store takes its index from register %d:\n%s", argB(inst), main)
				}
			}
		})
	}
	// An error names the line of its own, and not that of a load.
	_, err := newHost(Limits{}).run(t, "x = 1\ny = 2\nz = nil + x")
	if err == nil || !strings.HasPrefix(err.Error(), `[string "My Script"]:3: `) {
		t.Errorf("error %v, want one of line 3", err)
	}
}
