package datascript_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"time"

	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/datascript/datascripttest"
)

// A listing holds the scripts of several events below headings.
func ExampleCompile_listing() {
	script, err := datascript.Compile("Maintenance", datascript.Chunk{Source: `
-- HTTP Request Event --
if avi.http.get_path():beginswith("/admin") then
   avi.http.response(503, {retry_after = 600}, "back soon")
end

-- HTTP Response Event --
avi.http.remove_header("Server")
`})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(script.Name(), script.Handles(datascript.HTTPReq), script.Handles(datascript.HTTPResp), script.Handles(datascript.LBDone))
	// Output: Maintenance true true false
}

// A fault of the source is reported with script, event, line and token.
func ExampleCompile_fault() {
	_, err := datascript.Compile("Stop Bots", datascript.Chunk{
		Event:  datascript.HTTPReq,
		Source: "local agent = avi.http.get_header('User-Agent')\nif agent == nil\n  avi.http.close_conn()\nend\n",
	})
	fmt.Println(err)
	if fault, ok := errors.AsType[*datascript.CompileError](err); ok {
		fmt.Println(fault.Event, fault.Line, fault.Token)
	}
	// Output:
	// Failed to compile the datascript "Stop_Bots_on_http_req.ds": luac: Stop_Bots_on_http_req.ds:3: 'then' expected near 'avi'
	// HTTP_REQ 3 avi
}

// Limits end a script that runs away, whatever it does.
func ExampleEngine_Run_limits() {
	script, err := datascript.Compile("Runaway", datascript.Chunk{
		Event:  datascript.HTTPReq,
		Source: "while true do pcall(error) end",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	engine, err := datascript.NewEngine(datascript.Env{Limits: datascript.Limits{Instructions: 10_000, Time: time.Minute}})
	if err != nil {
		fmt.Println(err)
		return
	}
	tx := &datascripttest.Transaction{In: httptest.NewRequest("GET", "/", nil)}
	err = engine.Run(context.Background(), script, datascript.HTTPReq, tx)
	fmt.Println(err, errors.Is(err, datascript.ErrBudget))
	// Output: [string "Runaway"]:1: script budget exceeded: more than 10000 instructions true
}
