package lua51

import (
	"fmt"
	"testing"

	lua "github.com/yuin/gopher-lua"
)

// The package lowered the VM's limit of arrays for the whole process, and with
// it for programs that use the VM for themselves.
func TestVMUntouched(t *testing.T) {
	if lua.MaxArrayIndex != 67108864 {
		t.Errorf("lua.MaxArrayIndex is %d", lua.MaxArrayIndex)
	}
	newHost(Limits{})
	if !lua.CompatVarArg || lua.MaxTableGetLoop != 100 || lua.RegistrySize != 256*20 {
		t.Error("settings of the VM were changed")
	}
}

// The fields by which the package knows metatables of its own mean nothing in
// one that a script has made: if a script stored a token under "(spread)", it
// failed with an internal error.
func TestHiddenFields(t *testing.T) {
	h := newHost(Limits{})
	h.library.Declare("lib", []Entry{{Name: "TOKEN", Kind: Token}})
	for _, name := range []string{spreadName, behindName} {
		for _, value := range []string{"1", "{}", "lib.TOKEN", "print"} {
			source := fmt.Sprintf(`
				local m = {['%s'] = %s, __index = {7, x = 8}, __newindex = print}
				local t = setmetatable({}, m)
				assert(getmetatable(t) == m and t.x == 8 and next(t) == nil and rawget(t, 1) == nil)
				rawset(t, 1, 2) rawset(t, 20000, 3) table.insert(t, 1)
				assert(t[1] == 2 and t[2] == 1 and t[20000] == 3 and t.x == 8)
				assert(setmetatable(t, nil) == t and getmetatable(t) == nil and t.x == nil and t[20000] == 3)`, name, value)
			if _, err := h.run(t, source); err != nil {
				t.Errorf("%s = %s: %v", name, value, err)
			}
		}
	}
}

// Tables with far indexes behave like others.
func TestFarIndexes(t *testing.T) {
	for _, tt := range []struct{ name, source string }{
		{"set, read and remove", "local t = {} t[1e6] = 'a' assert(t[1e6] == 'a' and t[1e6 - 1] == nil and #t == 0) t[1e6] = nil assert(next(t) == nil)"},
		{"array behind", "local t = {1, 2} t[20000] = 3 for i = 3, 19999 do t[i] = i end assert(#t == 20000 and t[20000] == 3) t[20001] = 4 assert(#t == 20001)"},
		{"metatables are the script's", `
			local mt = {__index = function(t, k) return k * 2 end}
			local t = setmetatable({}, mt) t[50000] = 1
			assert(getmetatable(t) == mt and t[50000] == 1 and t[50001] == 100002)
			assert(getmetatable(setmetatable(t, nil)) == nil and t[50001] == nil and t[50000] == 1)
			setmetatable(t, {__index = {[7] = 'x'}, __metatable = 'no'})
			assert(t[7] == 'x' and getmetatable(t) == 'no' and not pcall(setmetatable, t, {}))`},
		{"__newindex", `
			local log = {}
			local t = setmetatable({}, {__newindex = function(t, k, v) rawset(t, k, v + 1) end})
			t[50000] = 1 assert(t[50000] == 2) t[50000] = 5 assert(t[50000] == 5)
			local u = setmetatable({}, {__newindex = log}) u[60000] = 1 assert(rawget(u, 60000) == nil and log[60000] == 1)
			rawset(u, 70000, 1) u[80000] = 2 u[70000] = 3 assert(rawget(u, 70000) == 3 and rawget(u, 80000) == nil and log[80000] == 2)`},
		{"traversal", `
			local t = {'a', x = 'b'} t[30000] = 'c' t[40000] = 'd'
			local seen, n = {}, 0
			for k, v in pairs(t) do seen[k] = v n = n + 1 t[k] = nil end
			assert(n == 4 and seen[1] == 'a' and seen.x == 'b' and seen[30000] == 'c' and seen[40000] == 'd' and next(t) == nil)`},
		{"library", `
			local t = {} t[30000] = 'c' table.insert(t, 'a') table.insert(t, 10001, 'z')
			assert(t[1] == 'a' and t[10001] == 'z' and table.maxn(t) == 30000)
			assert(table.concat(t, '', 30000, 30000) == 'c' and select('#', unpack(t, 29999, 30001)) == 3 and select(2, unpack(t, 29999, 30001)) == 'c')
			for i = 1, 9000 do t[i] = 9001 - i end table.sort(t) assert(t[1] == 1 and #t == 9000 and table.remove(t) == 9000)`},
		{"operators", `
			local mt = {__add = function() return 'sum' end, __eq = function() return true end, __tostring = function() return 'text' end}
			local t, u = setmetatable({}, mt), setmetatable({}, mt) t[30000] = 1 u[30000] = 1
			assert(t + 1 == 'sum' and t == u and tostring(t) == 'text')`},
		{"fractions and strings", "local t = {} t[30000] = 1 t[0.5] = 2 t['30000'] = 3 t[-1] = 4 assert(t[30000] == 1 and t[0.5] == 2 and t['30000'] == 3 and t[-1] == 4)"},
		{"nil and NaN", "local t = {} t[30000] = 1 assert(not pcall(function() t[nil] = 1 end) and not pcall(function() t[0/0] = 1 end))"},
		{"libraries", "assert(not pcall(function() lib[30000] = 1 end) and not pcall(rawset, lib, 30000, 1))"},
		{"all of a long array", "local t = {} for i = 1, 30000 do t[i] = i end assert(#t == 30000 and t[30000] == 30000) for i, v in ipairs(t) do assert(i == v) end"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := newHost(Limits{}).run(t, tt.source); err != nil {
				t.Error(err)
			}
		})
	}
}
