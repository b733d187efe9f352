package datascript

import (
	"fmt"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/limpetlb/limpet/internal/testrace"
)

// No value shows where it is in memory, or what it is made of, however it
// becomes text.
func TestValuesRevealNothing(t *testing.T) {
	values := []string{"{}", "avi", "avi.vs", "string", "print", "avi.vs.log", "function() end", "avi.QUERY_TABLE", "avi.HTTP_REQUEST", "getmetatable('')", "('x'):gmatch('.')", "avi.vs.reqvar", "setmetatable({}, {})", "nil", "true", "1e300"}
	uses := []string{"tostring(V)", "print(V)", "error(V)", "error(tostring(V), 0)", "assert(false, V)", "V .. ''", "1 + V", "V < {}", "#V", "(V).x.y", "(V)()", "-(V)", "table.concat({V})",
		"avi.http.get_header(V)", "('x'):rep(V)", "setmetatable(V, {})", "next(V)", "avi.http.add_header('X', V)", "avi.vs.table_insert(V, 1, 1)", "xpcall(V, error)", "select(V)", "tonumber(V, 16)"}
	// All the verbs that Go or Lua know, with flags of both.
	uses = append(uses, `(function(v) for verb = 1, 255 do for _, flags in ipairs{"", "#", "+", "%", "5.2"} do
		avi.vs.log(pcall(string.format, "%" .. flags .. string.char(verb), v)) end end end)(V)`)
	e := newEngine(t, Env{Limits: Limits{LogLines: -1, LogBytes: -1}})
	calls := 0
	for _, use := range uses {
		for i, v := range values {
			if testrace.Enabled && i%8 > 0 {
				continue
			}
			calls++
			source := strings.ReplaceAll(use, "V", v)
			x, err := runRequest(t, e, "avi.vs.log(pcall(function() return "+source+" end))\nreturn "+source)
			seen := strings.Join(x.logs, "\n") + fmt.Sprint(err)
			if found := revealing.FindString(seen); found != "" {
				t.Errorf("%s: reveals %q in %s", source, found, seen)
			}
		}
	}
	t.Logf("%d calls", calls)
}

// Patterns that want to recurse do so within the matcher's bounds, not on the
// stack: this one would take the process with it.
func TestPatternStack(t *testing.T) {
	if testrace.Enabled {
		return // whose frames are larger
	}
	const stack = 1 << 20
	defer debug.SetMaxStack(debug.SetMaxStack(stack))
	e := newEngine(t, Env{Limits: Limits{Time: defaultTime}})
	done := make(chan struct{})
	go func() { // whose stack begins small
		defer close(done)
		for name, source := range hostileScripts(t) {
			if strings.HasPrefix(name, "pattern-") {
				misbehave(t, e, name, source)
			}
		}
		misbehave(t, e, "long subject", "local s = ('a'):rep(2^20) return s:find('.-b'), s:match('(.-)%1b'), s:gsub('a-b', '')")
		misbehave(t, e, "nested captures", "return ('x'):rep(2^16):find(('('):rep(30) .. '.-' .. (')'):rep(30) .. 'y')")
	}()
	<-done
}
