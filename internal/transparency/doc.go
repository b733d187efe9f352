// Package transparency tests that an HTTP middleware or a proxy cannot be
// noticed: neither by the handler behind it, nor by the client in front of it.
//
// [Run] takes a [Target], which says how what is tested is put in front of a
// handler, and runs every case in a subtest of its own, over real connections:
// a client, a server with the target, and for a proxy a second server behind
// it.
//
//	func TestTransparency(t *testing.T) {
//		transparency.Run(t, transparency.Target{
//			Middleware: func(_ testing.TB, next http.Handler) http.Handler { return compress(next) },
//		})
//	}
//
// # What the cases ask for
//
//   - What is written arrives, in order and unchanged, when it is flushed, and
//     in memory that does not grow with it.
//   - What is cut off is cut off for the other side: a short body never looks
//     like a complete one.
//   - Trailers, informational responses, upgrades, half-closed connections and
//     bodies of both directions at once pass.
//   - Who leaves is noticed on the other side at once, and everything that
//     served the exchange ends.
//   - A middleware keeps what the server's http.ResponseWriter can do, and
//     passes panics on.
//   - A proxy answers for a server that misbehaves, within a bounded time, and
//     forwards no hop-by-hop header.
//
// A case that a target is known to fail can be named in [Target.Known]. It must
// fail then: when it passes, the entry has to go. The package's own tests break
// middlewares and proxies on purpose to show that the cases can fail.
package transparency
