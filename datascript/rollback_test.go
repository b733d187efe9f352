package datascript

import (
	"fmt"
	"testing"
	"time"

	"github.com/limpetlb/limpet/internal/testrace"
)

// shape is all that a server, or the client, would see of what a script did.
func (x *exchange) shape() string {
	return fmt.Sprint(x.out.Method, x.out.Host, x.out.URL, x.out.Header, x.reply, x.closed, x.selected, x.selAddr, x.header)
}

// Wherever a script stops, what goes on is the message as it came or the
// message that the whole script has made: it is stopped after its first
// instruction, after its second, and so on to its last.
func TestStoppedAnywhere(t *testing.T) {
	const runs = 10_000
	sources := map[Event]string{
		HTTPReq: `
			for i = 1, 25 do
				avi.http.add_header("X-A", "a" .. i) avi.http.replace_header("X-B", i) avi.http.set_path("/p" .. i)
				avi.http.remove_header("X-A") avi.http.set_query({a = i}) avi.http.replace_header("Host", "h" .. i)
				avi.http.add_cookie("c" .. i, "v") avi.http.remove_cookie("c" .. i) avi.http.replace_header("Cookie", "x=" .. i)
				avi.pool.select("my_pool", "10.1.1.1") avi.http.add_header("X-C" .. i, ("c"):rep(i))
				pcall(error, "caught") pcall(avi.http.set_path, {})
			end
			avi.http.response(403, {x_d = "1"}, "no") avi.http.close_conn(true)`,
		HTTPResp: `
			for i = 1, 25 do
				avi.http.add_header("X-A", i) avi.http.replace_header("Content-Type", "t/" .. i) avi.http.remove_header("X-A")
				avi.http.add_cookie("c", "v" .. i, "/") avi.http.add_header("X-B" .. i, "b")
			end
			avi.http.response(500, {}, "no")`,
	}
	done, stopped := 0, 0
	e := newEngine(t, Env{Limits: Limits{Time: time.Minute}})
	for ev, source := range sources {
		s := mustCompile(t, Chunk{Event: ev, Source: source})
		fresh := func() *exchange {
			x := newExchange()
			x.original.Header["X-B"] = []string{"kept"}
			if ev == HTTPResp {
				x.respond(200, "10.1.1.1:80")
			}
			return x
		}
		e.lua.Limits().Instructions = defaultInstructions
		before, x := fresh().shape(), fresh()
		if err := e.Run(t.Context(), s, ev, x); err != nil {
			t.Fatal(err)
		}
		after := x.shape()
		for i := range runs / 2 {
			n := i + 1
			if testrace.Enabled && i%10 > 0 {
				continue
			}
			if testing.Short() && i%10 > 0 {
				continue
			}
			e.lua.Limits().Instructions = n
			x := fresh()
			err := e.Run(t.Context(), s, ev, x)
			want := after
			if err != nil {
				want = before
				stopped++
			} else {
				done++
			}
			if got := x.shape(); got != want {
				t.Fatalf("%v stopped after %d instructions (error %v):\n%s\nwant\n%s", ev, n, err, got, want)
			}
			x.vars.Reset()
		}
	}
	t.Logf("%d runs ended, %d were stopped", done, stopped)
	if done == 0 || stopped == 0 {
		t.Error("the budgets are all too large, or all too small")
	}
}
