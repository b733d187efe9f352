package datascript

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLines(t *testing.T) {
	const source = `-- a comment
local function f(x)
  if x then

    return 1
  else
    return 2
  end
end
for i = 1, 3 do
  n = f(i)
  if n == 2 then
    avi.vs.log("never")
  end
end
later = function()
  n = 5
end
`
	s := mustCompile(t, Chunk{Event: HTTPReq, Source: source, Line: 101}, Chunk{Event: HTTPResp, Source: "later()\n\nif n == 4 then\n  n = 6\nend"})
	if diff := cmp.Diff([]int{102, 103, 105, 107, 110, 111, 112, 113, 116, 117}, s.Lines(HTTPReq)); diff != "" {
		t.Errorf("lines of HTTP_REQ (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]int{1, 3, 4}, s.Lines(HTTPResp)); diff != "" {
		t.Errorf("lines of HTTP_RESP (-want +got):\n%s", diff)
	}
	if got := s.Lines(LBDone); got != nil {
		t.Errorf("lines of LB_DONE: %v", got)
	}

	var traced []string
	e := newEngine(t, Env{Trace: func(s *Script, ev Event, line int) {
		traced = append(traced, fmt.Sprintf("%s %v %d", s.Name(), ev, line))
		if !slices.Contains(s.Lines(ev), line) {
			t.Errorf("line %d of %v holds no code", line, ev)
		}
	}})
	x := newExchange()
	if err := e.Run(t.Context(), s, HTTPReq, x); err != nil {
		t.Fatal(err)
	}
	ran := slices.Compact(slices.Sorted(slices.Values(traced)))
	var want []string
	for _, line := range []int{102, 103, 105, 110, 111, 112, 116} {
		want = append(want, fmt.Sprintf("My Script HTTP_REQ %d", line))
	}
	if diff := cmp.Diff(want, ran); diff != "" {
		t.Errorf("traced (-want +got):\n%s", diff)
	}
	traced = nil
	x.respond(200, "10.1.1.1:80")
	if err := e.Run(t.Context(), s, HTTPResp, x); err != nil {
		t.Fatal(err)
	}
	// The function was written for the request event.
	if diff := cmp.Diff([]string{"My Script HTTP_RESP 1", "My Script HTTP_REQ 117", "My Script HTTP_RESP 3"}, traced); diff != "" {
		t.Errorf("traced (-want +got):\n%s", diff)
	}
}

// A traced script has the same budget of instructions.
func TestTraceBudget(t *testing.T) {
	count := 0
	limits := Limits{Instructions: 1000}
	e := newEngine(t, Env{Limits: limits, Trace: func(*Script, Event, int) { count++ }})
	_, err := runRequest(t, e, "local n = 0\nwhile true do\nn = n + 1\nend")
	_, plain := runRequest(t, newEngine(t, Env{Limits: limits}), "local n = 0\nwhile true do\nn = n + 1\nend")
	if err == nil || plain == nil || err.Error() != plain.Error() || count < 100 {
		t.Errorf("traced %d lines: %v, not traced: %v", count, err, plain)
	}
}
