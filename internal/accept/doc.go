// Package accept decides which connections a server gets, before anything of
// them is read.
//
// A [Gate] wraps the server's listener and applies [Rules] to each connection,
// in this order: the number of open connections; the PROXY header, if the
// connection comes from a proxy that must send one, and the connection then has
// the addresses of the header; the function that judges the addresses; the
// limits and rates per client and in all. A connection that passes is a [Conn].
// The handler of a request finds it with [Gate.At].
//
// The package knows neither policies nor virtual services: functions in the
// rules judge connections, count rates and receive the reports of denied
// connections.
package accept
