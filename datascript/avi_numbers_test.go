package datascript

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// numbersInText are calls in which a number stands at %s.
var numbersInText = []struct {
	event  Event
	call   string
	number int
}{
	{HTTPReq, `avi.vs.table_insert("new", "value", %s)`, 80},
	{HTTPReq, `avi.vs.table_insert("t", "new", "value", %s)`, 80},
	{HTTPReq, `avi.vs.table_lookup("t", "key", %s)`, 80},
	{HTTPReq, `avi.vs.table_refresh("t", "key", %s)`, 80},
	{HTTPReq, `avi.pool.select("my_pool", "10.1.1.1", %s)`, 80},
	{HTTPReq, `avi.pool.get_server_status("my_pool", "10.1.1.1", %s)`, 80},
	{HTTPReq, `avi.vs.ratelimit.exceed("l", "k", %s)`, 80},
	{HTTPReq, `avi.vs.analytics.counter("c", avi.vs.analytics.INCR, %s)`, 80},
	{HTTPReq, `avi.vs.analytics.gauge("g", avi.vs.analytics.SET, %s)`, 80},
	{HTTPReq, `avi.http.response(%s)`, 418},
	{HTTPReq, `avi.http.redirect("/", %s)`, 308},
	{HTTPReq, `avi.http.set_server_timeout(%s)`, 80},
	{HTTPReq, `avi.http.set_request_body_buffer_size(%s)`, 80},
	{HTTPResp, `avi.http.set_response_body_buffer_size(%s)`, 80},
	{HTTPReqData, `avi.http.get_req_body(%s)`, 80},
	{HTTPRespData, `avi.http.get_response_body(%s)`, 80},
	{HTTPRespData, `avi.http.get_response_body(80, %s)`, 80},
	{HTTPReq, `avi.http.get_path_tokens(%s)`, 2},
	{HTTPReq, `avi.http.get_path_tokens(1, %s)`, 2},
	{HTTPReq, `avi.http.get_host_tokens(%s)`, 2},
	{HTTPReq, `avi.http.get_host_tokens(1, %s)`, 2},
	{HTTPResp, `avi.http.add_cookie("a", "b", nil, nil, %s)`, 80},
	{HTTPResp, `avi.http.add_cookie("a", "b", nil, nil, nil, %s)`, 80},
	{HTTPResp, `avi.http.replace_cookie{a = "b", max_age = %s}`, 80},
	{HTTPResp, `avi.http.update_cookie("set", "max-age", %s)`, 80},
	{HTTPReq, `#avi.utils.rand_bytes(%s)`, 80},
	{HTTPReq, `avi.utils.ip_in_subnet("10.1.0.1", "10.0.0.0", %s)`, 8},
	{HTTPReq, `avi.utils.ip.netaddr("10.1.0.1", %s)`, 8},
}

// TestNumbersInText gives each function that takes a number the number, and
// texts that tonumber accepts: all must mean the same. Lifetimes in one
// spelling were once lifetimes and in another values, and then the client's key
// became the name of a table. Text that is no number is never taken for one,
// nor for something else.
func TestNumbersInText(t *testing.T) {
	outcome := func(t *testing.T, event Event, call, argument string) string {
		t.Helper()
		limiter := newLimiter(t, RateLimit{Count: 100})
		tables := newTables()
		tables.m["t/key"] = "value"
		e := newEngine(t, Env{Tables: tables, RateLimiters: map[string]*RateLimiter{"l": limiter}})
		x := &ableExchange{exchange: newExchange()}
		x.respond(200, "10.1.1.1:80")
		x.header.Set("Set-Cookie", "set=1")
		err := runAt(t, e, event, x, "avi.vs.log("+fmt.Sprintf(call, argument)+")")
		if err != nil {
			return "failed"
		}
		var b strings.Builder
		fmt.Fprintln(&b, x.logged(), tables.calls, x.notes, x.selected, x.selAddr, x.header, x.reply, e.Metrics(), limiter.Exceed("k", 21))
		return b.String()
	}
	for _, tt := range numbersInText {
		t.Run(fmt.Sprintf(tt.call, "N"), func(t *testing.T) {
			want := outcome(t, tt.event, tt.call, fmt.Sprint(tt.number))
			if want == "failed" {
				t.Fatal("the number was refused")
			}
			n := tt.number
			for _, text := range []string{
				fmt.Sprint(n), fmt.Sprintf(" %d ", n), fmt.Sprintf("\t%d\n", n), fmt.Sprintf("+%d", n),
				fmt.Sprintf("%d.0", n), fmt.Sprintf("%.1fe1", float64(n)/10), fmt.Sprintf("0x%x", n),
			} {
				if got := outcome(t, tt.event, tt.call, fmt.Sprintf("%q", text)); got != want {
					t.Errorf("%q: %s", text, cmp.Diff(want, got))
				}
			}
			for _, text := range []string{"5m", "", " ", "1h", "0x", "8 0", "eighty", "nan", "inf"} {
				got := outcome(t, tt.event, tt.call, fmt.Sprintf("%q", text))
				if got == want {
					t.Errorf("%q was taken for %d", text, tt.number)
				}
			}
		})
	}
}

// TestLifetimes inserts with each spelling of a lifetime. A refused one stores
// nothing, under no key and in no table.
func TestLifetimes(t *testing.T) {
	const refused = ""
	for _, tt := range []struct{ lifetime, want string }{
		{`300`, `"" "k" "v" 5m0s`},
		{`300.9`, `"" "k" "v" 5m0s`},
		{`"300"`, `"" "k" "v" 5m0s`},
		{`"300.9"`, `"" "k" "v" 5m0s`},
		{`" 300 "`, `"" "k" "v" 5m0s`},
		{`"1e3"`, `"" "k" "v" 16m40s`},
		{`"0x10"`, `"" "k" "v" 16s`},
		{`"1e99"`, `"" "k" "v" 2562047h47m16.854775807s`},
		{`"-1"`, refused},
		{`-1`, refused},
		{`"0"`, refused},
		{`"0.9"`, refused},
		{`" -0x10 "`, refused},
		{`0/0`, refused},
		{`"5m"`, `"k" "v" "5m" 5m0s`}, // the value, as documented; Warnings tells
		{`""`, `"k" "v" "" 5m0s`},
		{`"nan"`, `"k" "v" "nan" 5m0s`},
	} {
		t.Run(tt.lifetime, func(t *testing.T) {
			tables := newTables()
			x, err := runRequest(t, newEngine(t, Env{Tables: tables}), `avi.vs.log(avi.vs.table_insert("k", "v", `+tt.lifetime+`))`)
			if err != nil {
				t.Fatal(err)
			}
			got := strings.TrimPrefix(strings.Join(tables.calls, "\n"), "insert ")
			if answer := x.logged()[0]; got != tt.want || answer != fmt.Sprint(tt.want != refused) {
				t.Errorf("inserted %s, and returned %s; want %s", got, answer, tt.want)
			}
		})
	}
	// With all four arguments, text that is no number is refused.
	for _, lifetime := range []string{`"5m"`, `""`, `"-1"`, `{}`, `true`} {
		tables := newTables()
		x, err := runRequest(t, newEngine(t, Env{Tables: tables}), `avi.vs.log(avi.vs.table_insert("t", "k", "v", `+lifetime+`))`)
		if err != nil || x.logged()[0] != "false" || len(tables.calls) > 0 {
			t.Errorf("%s: %v, %v, %v", lifetime, x.logged(), tables.calls, err)
		}
	}
}
