package datascripttest_test

import (
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"time"

	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/datascript/datascripttest"
)

// printer is a Reporter for programs that are not tests.
type printer struct{}

func (printer) Helper()                           {}
func (printer) Errorf(format string, args ...any) { fmt.Printf("error: "+format+"\n", args...) }
func (printer) Fatalf(format string, args ...any) { log.Fatalf(format, args...) }
func (printer) Logf(format string, args ...any)   { fmt.Printf(format+"\n", args...) }

// Clients with a cookie go to another pool. In a test, t would be the
// *testing.T.
func Example() {
	var t printer
	canary := datascripttest.Compile(t, "Canary", datascript.Chunk{Event: datascript.HTTPReq, Source: `
		if avi.http.cookie_exists("beta") then avi.pool.select("canary") end`})
	vs := &datascripttest.VirtualService{
		Scripts: []*datascript.Script{canary},
		Pools: datascripttest.Pools{
			{Name: "stable", Servers: datascripttest.Servers("10.0.0.1:80")},
			{Name: "canary", Servers: datascripttest.Servers("10.0.0.2:80")},
		},
	}
	plain := httptest.NewRequest("GET", "/", nil)
	beta := httptest.NewRequest("GET", "/", nil)
	beta.Header.Set("Cookie", "beta=1")
	for _, got := range datascripttest.Run(t, vs, plain, beta) {
		fmt.Println(got.Response.Status, got.Pool, got.Server)
	}
	// Output:
	// 200 stable 10.0.0.1:80
	// 200 canary 10.0.0.2:80
}

// A listing with event headings makes clients stick. Between requests the
// server of a client goes down, and time passes.
func ExampleVirtualService() {
	var t printer
	sticky := datascripttest.Compile(t, "Sticky", datascript.Chunk{Source: `
-- HTTP Request Event --
client = avi.vs.client_ip()
avi.pool.select("app", avi.vs.table_lookup(client, 0))

-- HTTP Response Event --
avi.vs.table_insert(client, avi.pool.server_ip(), 300)
`})
	vs := &datascripttest.VirtualService{
		Scripts: []*datascript.Script{sticky},
		Pools: datascripttest.Pools{
			{Name: "app", Algorithm: datascripttest.RoundRobin, Servers: datascripttest.Servers("10.0.0.1:80", "10.0.0.2:80")},
		},
	}
	ask := func(what string) {
		got := datascripttest.Run(t, vs, httptest.NewRequest("GET", "/", nil))[0]
		fmt.Println(what, got.Server, vs.Tables.Entries())
	}
	ask("first:")
	vs.Tables.Advance(100 * time.Second)
	ask("again:")
	vs.Pools[0].Servers[0].Down = true
	ask("down: ")
	vs.Tables.Advance(time.Hour)
	fmt.Println("later:", vs.Tables.Entries())
	// Output:
	// first: 10.0.0.1:80 [{ 192.0.2.1 10.0.0.1 5m0s}]
	// again: 10.0.0.1:80 [{ 192.0.2.1 10.0.0.1 5m0s}]
	// down:  10.0.0.2:80 [{ 192.0.2.1 10.0.0.2 5m0s}]
	// later: []
}

// Do is for tests that expect a script to fail, or that want to answer for the
// servers.
func ExampleVirtualService_Do() {
	broken := datascripttest.Compile(printer{}, "Broken", datascript.Chunk{Event: datascript.HTTPResp, Source: `
		if avi.http.status() == "404" then avi.pool.select("other") end`})
	vs := &datascripttest.VirtualService{
		Scripts: []*datascript.Script{broken},
		Respond: func(_ netip.AddrPort, r *http.Request) (*datascripttest.Response, error) {
			if r.URL.Path == "/down" {
				return nil, errors.New("connection reset")
			}
			return &datascripttest.Response{Status: 404}, nil
		},
	}
	for _, uri := range []string{"/down", "/page"} {
		got, err := vs.Do(httptest.NewRequest("GET", uri, nil))
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(got.Response.Status)
		if got.Err != nil {
			fmt.Println(got.Err)
		}
	}
	// Output:
	// 502
	// 500
	// [string "Broken"]:2: avi.pool.select: not allowed in event HTTP_RESP
}

// A counter is a Reporter that counts errors.
type counter struct {
	printer
	errors int
}

func (c *counter) Errorf(format string, args ...any) {
	c.errors++
	c.printer.Errorf(format, args...)
}

// Cases in files. In a test, t would be the *testing.T, and each file a
// subtest.
func ExampleRunFiles() {
	var t counter
	datascripttest.RunFiles(&t, "testdata/script/custom-persistence*.txtar", datascripttest.Options{})
	fmt.Println(t.errors, "errors")
	// Output: 0 errors
}

// A Transaction alone, with an engine of one's own, shows what one script does
// for one event.
func ExampleTransaction() {
	script := datascripttest.Compile(printer{}, "Gate", datascript.Chunk{Event: datascript.HTTPReq, Source: `
		avi.vs.log("asked for ", avi.http.get_path())
		avi.http.response(403, {}, "closed")
		avi.http.close_conn()`})
	engine, err := datascript.NewEngine(datascript.Env{})
	if err != nil {
		log.Fatal(err)
	}
	r := httptest.NewRequest("GET", "/gate", nil)
	tx := &datascripttest.Transaction{In: r}
	if err := engine.Run(r.Context(), script, datascript.HTTPReq, tx); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d %s %v %q\n", tx.Answer.Status, tx.Answer.Body, tx.Closed, tx.Lines)
	// Output: 403 closed FIN ["[string \"Gate\"]:2: asked for /gate"]
}

// Tables alone: a renewed key keeps its value, and a look-up adds to the
// lifetime.
func ExampleTables() {
	var tables datascripttest.Tables
	tables.Set(datascripttest.Entry{Key: "alice", Value: "10.0.0.1", Lifetime: 300 * time.Second})
	tables.Advance(100 * time.Second)
	engine, err := datascript.NewEngine(datascript.Env{Tables: &tables})
	if err != nil {
		log.Fatal(err)
	}
	script := datascripttest.Compile(printer{}, "Look", datascript.Chunk{Event: datascript.HTTPReq, Source: `
		avi.vs.log(avi.vs.table_insert("alice", "10.0.0.2", 60))
		local server, left = avi.vs.table_lookup("alice", 30)
		avi.vs.log(server, " for ", left)`})
	var tx datascripttest.Transaction
	if err := engine.Run(tx.Original().Context(), script, datascript.HTTPReq, &tx); err != nil {
		log.Fatal(err)
	}
	for _, line := range tx.Lines {
		fmt.Println(line)
	}
	fmt.Println(tables.Entries())
	// Output:
	// [string "Look"]:2: true
	// [string "Look"]:4: 10.0.0.1 for 90
	// [{ alice 10.0.0.1 1m30s}]
}

// What a test has not run of a script is reported by line.
func ExampleCoverage() {
	var t printer
	var coverage datascripttest.Coverage
	vs := &datascripttest.VirtualService{
		Scripts: []*datascript.Script{datascripttest.Compile(t, "Admin", datascript.Chunk{Source: `-- HTTP_REQ
if avi.http.get_path():beginswith("/admin") then
   avi.http.response(403)
end
-- HTTP_RESP
avi.http.remove_header("Server")
`})},
		Coverage: &coverage,
	}
	datascripttest.Run(t, vs, httptest.NewRequest("GET", "/", nil))
	fmt.Print(coverage.String())
	// Output:
	//  50.0%  Admin HTTP_REQ: not run: line:3
	// 100.0%  Admin HTTP_RESP
	//  66.7%  of 3 lines
}
