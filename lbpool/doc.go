// Package lbpool chooses servers from pools, tracks their health, and forwards
// HTTP requests to them.
//
// # Pools and leases
//
// A [Pool] is a list of servers and an [Algorithm]. [Pool.Acquire] chooses a
// server for one request. The server counts it as in use until the [Lease] is
// released with the [Outcome]:
//
//	pool, err := lbpool.New(lbpool.Config{
//		Name:    "web",
//		Servers: []lbpool.ServerConfig{{Address: "10.0.0.1"}, {Address: "10.0.0.2:8080", Ratio: 2}},
//	})
//	if err != nil {
//		return err
//	}
//	lease, err := pool.Acquire(lbpool.Hint{})
//	if err != nil {
//		return err // no server is up
//	}
//	err = use(lease.Server.Addr())
//	lease.Release(lbpool.Outcome{Err: err})
//
// A [Hint] may name the server that an earlier request of the same client used.
// If that server is not available, the pool's [Repick] decides whether another
// one replaces it.
//
// [Pool.Update] changes a pool in use, and [Pool.Adopt] replaces one pool by
// another. A [Discovery] finds servers, for example in the DNS. [Server.Drain]
// takes a server out of service without interrupting requests. A [Queue] lets
// requests wait for servers at their limits. A [Group] chooses among pools.
//
// # Health
//
// Two mechanisms take servers out of service. Health monitors check the servers
// regularly while [Pool.Run] is running; a server is used until its first check
// fails. [Passive] marking uses the outcomes of real requests. It is on by
// default and does not need Run.
//
// # Forwarding
//
// A [Transport] does all of this for HTTP requests. It is an
// [http.RoundTripper], for example for a [net/http/httputil.ReverseProxy]; a
// [Route] in a request's context gives it the pool and the hint.
package lbpool
