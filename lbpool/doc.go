// Package lbpool chooses servers from pools, knows which of them are healthy, and forwards HTTP requests to them.
//
// # Pools and leases
//
// A [Pool] is a list of servers and an [Algorithm]. [Pool.Acquire] chooses a server for one request and counts it as in
// use until the [Lease] is released with the [Outcome]:
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
// A [Hint] may name the server that the request should go to because an earlier request of the same client went there.
// When that server cannot be had, the pool's [Repick] decides whether another takes its place.
//
// [Pool.Update] changes a pool in use, and [Pool.Adopt] puts a new pool in its place. A [Discovery] finds servers, in the
// DNS for instance. [Server.Drain] takes a server out of service without cutting anybody off. A [Queue] lets requests wait
// for servers at their limits. A [Group] chooses among pools.
//
// # Health
//
// Two mechanisms take servers out of service. Health monitors, which check the servers from time to time, need
// [Pool.Run]; a server is used until its first check says otherwise. [Passive] marking learns from the outcomes of
// real requests, is on by default and needs nothing to run.
//
// # Forwarding
//
// A [Transport] does all of the above for HTTP requests. It is an [http.RoundTripper], to be put under a
// [net/http/httputil.ReverseProxy] for instance; a [Route] in a request's context tells it the pool and the hint.
package lbpool
