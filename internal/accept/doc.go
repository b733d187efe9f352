// Package accept decides who may connect to a server, and from where, before anything of a connection reaches the server.
//
// A [Gate] wraps the listener of a server. To each connection it applies [Rules]: whoever is above the number of open
// connections is reset; a proxy that is trusted to send a PROXY header is asked for it, and the connection then has the
// addresses of the header; a function judges the addresses; limits and rates per client and in all apply last. A connection
// that passes is a [Conn], which a server's handler finds again by its request.
//
// The package knows neither policies nor virtual services: who decides, who counts rates and who hears about denied
// connections are functions in the rules.
package accept
