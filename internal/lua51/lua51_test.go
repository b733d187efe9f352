package lua51

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Programs that differed from Lua 5.1, and not in a way that a list has.
func TestLikeLua51(t *testing.T) {
	for _, tt := range []struct{ name, source, want string }{
		{"string and object", "local o = setmetatable({}, {__add = function(a, b) return type(a) .. type(b) end}) log('5' + o, o + '5', 'x' + o)", "stringtabletablestringstringtable"},
		{"modulo of fractions", "log(2 % 0.4, ' ', 5 % math.huge, ' ', -5 % 3, ' ', 5 % -3, ' ', 5.5 % 2, ' ', '7' % 4, ' ', 1 % 0)", "0 nan 1 -1 1.5 3 nan"},
		{"modulo of objects", "local mt = {__mod = function(a, b) return 'm' end} local o = setmetatable({}, mt) log(o % 1, 1 % o, '1' % o, o % 'x')", "mmmm"},
		{"modulo of nil", "local ok, e = pcall(function() local a return a % 2 end) log(e)", `[string "My Script"]:1: attempt to perform arithmetic on local 'a' (a nil value)`},
		{"minus a string", "log(-'3', ' ', -'0x10')", "-3 -16"},
		{"goto", "local goto = 1 log(goto) goto = {goto = 2} function goto:goto() return self end log(goto.goto == goto:goto().goto, goto['goto'] ~= nil, 'goto', [[goto]]) -- goto", "1|truetruegotogoto"},
		{"a global goto", "goto = 3 log(goto) local ok, e = pcall(function() goto() end) log(e)", `3|[string "My Script"]:1: attempt to call global 'goto' (a number value)`},
		{"hexadecimal exponent", "log(0x1p4, ' ', 0x10, ' ', 1e+2 + 0xe+1, ' 0x1p4')", "16 16 115 0x1p4"},
		{"long strings", "log([==[goto ]] 0x1p4]==], \"a\\\"goto\", 'it\\'s goto' --[[ goto\n]])", "goto ]] 0x1p4a\"gotoit's goto"},
		{"year of a week", "log(os.date('!%g %G', 1104537600))", "04 2004"},
		{"foreach", "local n = 0 log(table.foreach({1, 2, x = 3}, function(k, v) n = n + v end), n, table.foreach({5}, function(k, v) return k + v end))", "nil66"},
		{"foreachi", "log(table.foreachi({4, 5, 6}, function(i, v) if v == 5 then return i end end))", "2"},
		{"setn", "local ok, e = pcall(table.setn, {}, 1) log(e)", "'setn' is obsolete"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x, err := newHost(Limits{}).run(t, tt.source)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			for i, line := range x.logged() {
				if i > 0 {
					got += "|"
				}
				got += line
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("log (-want +got):\n%s", diff)
			}
		})
	}
}
