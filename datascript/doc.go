// Package datascript compiles and runs DataScripts: Lua programs that see the
// events of HTTP transactions through the functions of the table avi. Scripts
// written for Avi Vantage, now VMware NSX Advanced Load Balancer, run
// unmodified if they are for HTTP and use only supported functions.
//
// A script is compiled once and may then run in any number of engines. An
// [Engine] has the services for scripts (persistence tables, pools, groups) and
// runs each script for one [Transaction], with separate variables:
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
// A global variable belongs to one transaction and one script: only the later
// events of the same script and transaction can read it. All scripts of a
// transaction share the table avi.vs.reqvar. To keep a value for longer than
// the transaction, put it into a persistence table with avi.vs.table_insert.
//
// # The language
//
// Scripts are written in Lua 5.1, on github.com/yuin/gopher-lua. The string
// library, including patterns, is an implementation of this module and works on
// bytes. Programs behave, and fail with the same texts, as with the original
// interpreter; the tests compare the two. Functions that load code or reach the
// process are missing: load, loadstring, dofile, require, getfenv, setfenv, _G,
// coroutine, debug, io, package, and of os all but clock, date, difftime and
// time. print writes to the transaction's log. The tables of libraries are
// read-only, but a script may add functions of its own to string, table, math
// and os, for the length of the transaction.
//
// # Decisions and failures
//
// avi.http.response, avi.http.redirect, avi.http.close_conn, avi.pool.select
// and the like do not end the script: they note a decision, which takes effect
// when the script has ended. (Only avi.vs.rate_limit ends it, when it turns a
// request away.) If the script ends with an error, its decisions are dropped,
// its changes of headers and URI are undone, and [Engine.Run] returns a
// [*RuntimeError] with the position and the traceback. Changes of tables, rate
// limiters and metrics, and lines of the log, stay.
//
// The functions that work also depend on the host: a [Transaction] may have
// further abilities, such as to buffer bodies ([BodyBufferer]), and [Env] may
// leave services out. To use a missing one is an error that says so. Functions
// of the API for other protocols than HTTP exist, and fail with "not
// supported".
//
// # Lines
//
// For reports of coverage, [Script.Lines] returns the lines of a script that
// have code, and the hook [Env].Trace gets each line that runs.
//
// # Limits
//
// [Limits] bound the resources of a script in one event. They are on by
// default, and pcall cannot catch their errors. A limited number of events may
// run in an engine at a time, and others wait for their turn; see
// Limits.Concurrent. When a script fails, for whatever reason, its Lua state is
// discarded, so that nothing of it is left for the next script.
package datascript
