// Package datascript compiles and runs DataScripts: Lua programs that see the
// events of HTTP transactions through the functions of the table avi. Scripts
// written for Avi Vantage, now VMware NSX Advanced Load Balancer, run
// unmodified if they are for HTTP and use supported functions only.
//
// A script is compiled once and may then run in any number of engines. An
// [Engine] holds what scripts can reach (persistence tables, pools, groups)
// and runs them for one [Transaction] at a time, each with variables of its
// own:
//
//	script, err := datascript.Compile("Stop Bots", datascript.Chunk{
//		Event:  datascript.HTTPReq,
//		Source: `if avi.http.get_path() == "/trap" then avi.http.close_conn() end`,
//	})
//	if err != nil {
//		return err
//	}
//	engine, err := datascript.NewEngine(datascript.Env{Name: "www"})
//	if err != nil {
//		return err
//	}
//	err = engine.Run(ctx, script, datascript.HTTPReq, transaction)
//
// Most programs do not call Run: the root package runs scripts for every
// request that it serves, and package datascripttest runs them in tests.
//
// # Variables
//
// A global variable belongs to one transaction and one script: what a request
// event sets, the response event of the same transaction reads, and nobody
// else. The table avi.vs.reqvar is shared by all scripts of a transaction.
// What is to outlive the transaction belongs into a persistence table, by
// avi.vs.table_insert.
//
// # The language
//
// Scripts are written in Lua 5.1, on github.com/yuin/gopher-lua. The string
// library works on bytes and is ours, patterns included. Programs behave, and
// fail with the same texts, as under the original interpreter, with which the
// tests compare. What loads code or reaches the process is missing: load,
// loadstring, dofile, require, getfenv, setfenv, _G, coroutine, debug, io,
// package, and of os all but clock, date, difftime and time. print writes to
// the transaction's log. The tables of libraries are read-only, but a script
// may add functions of its own to string, table, math and os, for the length
// of the transaction.
//
// # Decisions and failures
//
// avi.http.response, avi.http.redirect, avi.http.close_conn,
// avi.pool.select and their kin do not end the script: they note a decision,
// which takes effect when the script has ended. (Only avi.vs.rate_limit ends
// it, when it turns a request away.) If the script ends with an error, its
// decisions are void, its changes of headers and URI are taken back, and
// [Engine.Run] returns a [*RuntimeError] with the place and the traceback.
// Changes in tables, rate limiters and metrics and lines of the log stay.
//
// What a script may decide or ask depends on its host, too: a [Transaction]
// may have further abilities, such as to hold bodies ([BodyBufferer]), and
// [Env] may leave services out. Using what is missing is an error that says
// so. Functions of the API that are for other protocols than HTTP are there,
// and fail with "not supported".
//
// # Lines
//
// [Script.Lines] and the hook [Env].Trace tell which lines of scripts there
// are and which run, for reports of coverage.
//
// # Limits
//
// [Limits] bound what a script may do in one event. They are on by default
// and cannot be caught by pcall. So many events at a time may run in an
// engine, and others wait for their turn; see Limits.Concurrent. A script that fails, for whatever reason,
// costs its Lua state, so that nothing of it is left for the next.
package datascript
