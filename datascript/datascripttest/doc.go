// Package datascripttest tests DataScripts in Go unit tests, without sockets.
//
// A [VirtualService] takes requests through scripts as a real one would, with
// server pools, persistence tables and IP groups that are made of literals, and
// reports the result of each. This is a whole test:
//
//	func TestCanary(t *testing.T) {
//		canary := datascripttest.Compile(t, "Canary", datascript.Chunk{Event: datascript.HTTPReq, Source: `
//			if avi.http.cookie_exists("beta") then avi.pool.select("canary") end`})
//		vs := &datascripttest.VirtualService{
//			Scripts: []*datascript.Script{canary},
//			Pools: datascripttest.Pools{
//				{Name: "stable", Servers: datascripttest.Servers("10.0.0.1:80")},
//				{Name: "canary", Servers: datascripttest.Servers("10.0.0.2:80")},
//			},
//		}
//		r := httptest.NewRequest("GET", "/", nil)
//		r.Header.Set("Cookie", "beta=1")
//		if got := datascripttest.Run(t, vs, r)[0]; got.Pool != "canary" {
//			t.Errorf("pool %q", got.Pool)
//		}
//	}
//
// Between requests a test may move the clock of the tables ([Tables.Advance])
// and take servers down ([Server].Down). The fakes [Transaction], [Tables],
// [Pools] and [IPGroups] can also be used alone, with an engine of the test's
// own.
//
// # Cases in files
//
// More often than in Go, a case is best written as what goes in and what comes
// out. [RunFiles] runs such files:
//
//	func TestScripts(t *testing.T) {
//		datascripttest.RunFiles(t, "testdata/script/*.txtar", datascripttest.Options{})
//	}
//
// A file is a txtar archive: a comment that says what the case shows, and then
// sections.
//
//	Clients with the cookie go to the canary pool.
//
//	-- http_req.lua --
//	if avi.http.cookie_exists("beta") then avi.pool.select("canary") end
//	-- pools --
//	pool stable
//	server 10.0.0.1:80
//	pool canary
//	server 10.0.0.2:80
//	-- request --
//	GET / HTTP/1.1
//	Host: www.example.com
//	Cookie: beta=1
//	-- want/request --
//	# 1 canary 10.0.0.2:80
//	GET / HTTP/1.1
//	Host: www.example.com
//	Cookie: beta=1
//
// Sections consist of lines. In those that are not messages or scripts, words
// are separated by blanks and may be quoted as strings in Go are, and lines
// that begin with # are comments.
//
//   - http_req.lua, http_resp.lua and so on: the script for an event. Or
//     listing.lua: a listing with event headings. The script's name is that of
//     the case's file without ".txtar". If there are several scripts, each has
//     a directory that gives its place and its name, such as "1-Stop
//     Bots/http_req.lua".
//   - script: FILE: the deployed script, in place of a copy: a file relative to
//     the case's, which has event headings. The section has no content, and the
//     script is called like the file without ".lua". For a file without
//     headings, whose name is not that of an event either, the event follows:
//     "script: ../stick.lua HTTP_REQ". Several such sections are several
//     scripts, in their order. Expectations by comments are for scripts in the
//     case only.
//   - pools: lines "pool NAME [first-up|round-robin]", each followed by lines
//     "server ADDRESS:PORT [NAME] [down]". The first pool is the default. Pool
//     groups are lines "group NAME [POOL LABEL …]", each perhaps followed by
//     "implicit-labels" and "fallback-label LABEL"; see [PoolGroup].
//   - tables: persistence entries, "[TABLE] KEY VALUE LIFETIME", the lifetime
//     as in Go: 300s.
//   - ipgroups: lines "group NAME [ADDRESS or PREFIX …]".
//   - stringgroups: lines "list NAME [STRING …]" and "map NAME [KEY VALUE …]".
//   - virtualservice: lines "name NAME", "local ADDRESS:PORT", "strict-select",
//     "request-body BYTES [head|refuse]", "response-body BYTES" (such as
//     128KiB), "open-conns NUMBER" and "instances NUMBER"; "address PREFIX
//     ATTRIBUTE VALUE", where the attribute "" is the country and "reputation"
//     the reputation; "token SET TOKEN CLAIMS" and "refused-token SET TOKEN
//     REASON" for avi.jwt.verify, see [Token]; "rate-limiter NAME COUNT PERIOD
//     [BURST]"; and "rate-profile COUNT PERIOD ACTION [ARGUMENT]", with an
//     action such as RL_ACTION_LOCAL_RSP and a body, or RL_ACTION_REDIRECT and
//     where it leads. See [VirtualService]. Limits go by the real clock, so
//     their periods should be long.
//   - client-cert: the certificate of clients, in PEM.
//   - request: HTTP/1.1 requests. What follows the empty line below a header is
//     the body, up to the next request and without the empty lines at its end;
//     its length need not be given. Before a request may stand "# client
//     ADDRESS:PORT", which holds for those that follow too; "# after DURATION",
//     which moves the clock; "# tls [version 1.3] [cipher NAME] [server-name
//     HOST] [client-cert verified|unverified]", for a request that came
//     encrypted; "# request-id ID", "# no-tunnel", "# fingerprint KIND VALUE",
//     "# saml ATTRIBUTES" and "# claim PROVIDER NAME VALUE…", see
//     [Transaction]; and "# down POOL SERVER" or "# up POOL SERVER".
//   - response: what the servers answer: one response for all requests, or one
//     for each. "# fails [STATUS]" stands for a server that gives no valid
//     response, for a reason that the status names. Without this section the
//     answer is a bare 200.
//
// What is expected are the sections want/request, what servers got;
// want/response, what clients got; want/transaction, the user's name, the
// server time-out, the hash key and whether there is a tunnel, of requests that
// have one of these; want/tables, the entries at the end; want/metrics, what
// scripts counted; want/log, what scripts logged; and want/error, how scripts
// failed. Requests are numbered by lines such as "# 1", and headers are sorted
// by name. In want/tables, order and the notation of lifetimes do not matter.
//
// A section that is missing is not compared, and an empty one says that there
// must be nothing; but an error that no one expects fails the case in any
// event. A script's error, in compiling or running, can also be expected by a
// comment on the line that fails, with a part of the message:
//
//	avi.pool.select("nope") --> pool "nope" not found
//
// With the environment variable DATASCRIPTTEST_UPDATE=1, or [Options].Update,
// the expectations are written instead.
//
// # Coverage
//
// A [Coverage] lists the lines of a script that no test has run: that of a
// [VirtualService], or of all cases of [RunFiles]. With the environment
// variable DATASCRIPTTEST_COVER=1, go test -v shows a line for each script and
// event of the case files:
//
//	 83.3%  canary HTTP_REQ: not run: testdata/script/canary.txtar:7
//	100.0%  canary HTTP_RESP
//	 90.0%  of 10 lines
//
// [Coverage.WriteLCOV] writes the same for lcov, genhtml and editors.
package datascripttest
