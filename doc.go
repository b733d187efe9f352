// Package limpet sticks a client to a server for as long as you want, by any
// key that you can script. It is a load balancer to embed: an [http.Handler]
// that forwards to pools of servers, and a middleware for the handlers of a
// program.
//
// A [VirtualService] combines the packages below, each of which can be used
// alone:
//
//   - persistence: tables whose entries have lifetimes of their own;
//     persistence/redisstore shares them between instances
//   - datascript: Lua scripts that see the events of a transaction through
//     avi.*, as on Avi Vantage; datascript/datascripttest tests them
//   - lbpool: pools of servers, selection, health, forwarding
//   - ipgroup: groups of addresses and countries; ipgroup/geoip finds countries
//   - policy: rules for connections, requests and responses
//
// # A program
//
// Clients stick to the server that they were first sent to, for as long as
// their table entry lives:
//
//	pool, err := lbpool.New(lbpool.Config{
//		Name:    "my_pool",
//		Servers: []lbpool.ServerConfig{{Address: "10.0.0.1"}, {Address: "10.0.0.2"}},
//	})
//	if err != nil {
//		return err
//	}
//	script, err := datascript.Compile("Custom Persistence", datascript.Chunk{Source: listing})
//	if err != nil {
//		return err
//	}
//	vs, err := limpet.New(limpet.Config{
//		Pools:   []*lbpool.Pool{pool},
//		Scripts: []limpet.Script{{Script: script}},
//	})
//	if err != nil {
//		return err
//	}
//	return http.ListenAndServe(":8080", vs)
//
// # The way of a request
//
//	accept ─ Listener: network security, on the peer's address
//	 └ network security, if the connection came another way
//	    HTTP security
//	    scripts: HTTP_AUTH, the authenticator, scripts: HTTP_POST_AUTH
//	    HTTP request policy
//	    scripts: HTTP_REQ, and HTTP_REQ_DATA if one asks for the body
//	    pool and server: policy, script, persistence profile, default pool
//	      └ a stage that replies or closes skips to the end
//	    the server (scripts: LB_DONE before, or HTTP_LB_FAILED or
//	    RESP_FAILED), or the wrapped handler
//	    scripts: HTTP_RESP, once, when the response begins
//	    HTTP response policy
//	    scripts: HTTP_RESP_DATA if one asks for the body
//	    one Record
//
// The response begins with the first call of WriteHeader, Write or Flush, or
// when the handler returns. Informational responses, trailers, streams,
// upgraded connections and HTTP/2 pass through. When a proxied connection is
// upgraded, scripts see the 101; when a wrapped handler hijacks a connection,
// they see nothing and the record says so.
//
// # What goes wrong
//
// If a script fails, its changes of the request are undone, but not those of
// tables. The client gets 500, or 503 if a table was not available, unless
// OnError lets the request go on. If no server is available, the client gets
// 503; if a server gives no answer, 502 or 504. [Config.OnComplete] and the log
// have the reasons, in one [Record] for each request.
//
// # Serving
//
// The program owns its server: limits on headers, idle connections and slow
// clients are fields of [http.Server] and off by default. A server that faces
// the internet should set at least ReadHeaderTimeout, IdleTimeout and
// MaxHeaderBytes; [NewServer] does.
//
// Background work runs in a blocking Run that the program starts:
// [VirtualService.Run] has the health monitors, and the watchers of files and
// savers of tables have a Run, too. To stop, call [VirtualService.Shutdown]
// first, which stops the server and waits for all requests, upgraded
// connections and tunnels; then end the context of everything that runs, and
// wait for it; then close stores. docs/guides/embedding.md has a complete
// program.
package limpet
