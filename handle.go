package limpet

import (
	"context"
	"net/http"
	"net/netip"
)

// A Transaction is one request on its way through a virtual service, and its
// response. [TransactionFrom] returns it. Its methods may be called in the
// goroutine that serves the request, until the handler returns. After that they
// describe the request as it ended, and have no effect on any request.
type Transaction struct{ tx *transaction }

// TransactionFrom returns the transaction of a request, given the context of
// the request that an [Authenticator], a wrapped handler or a transport gets.
// ok is false if the transaction is over. It is safe to keep a transaction.
func TransactionFrom(ctx context.Context) (*Transaction, bool) {
	t, _ := ctx.Value(handleKey{}).(*Transaction)
	return t, t != nil
}

// Context returns the context of the request. It ends with the request.
func (t *Transaction) Context() context.Context { return t.tx.Context }

// Client returns the address of the client: that of the peer, unless the peer
// is a trusted proxy. The port is 0 if a proxy has not sent it.
func (t *Transaction) Client() netip.AddrPort { return t.tx.Client() }

// Source returns the address of the peer: the other end of the connection, or
// the address that the PROXY protocol gives for it; see [ProxyProtocol].
func (t *Transaction) Source() netip.AddrPort { return t.tx.Source() }

// Local returns the address at which the connection was accepted; it is
// invalid if the server is not one of net/http.
func (t *Transaction) Local() netip.AddrPort { return t.tx.Local() }

// Encrypted reports whether the client spoke TLS: to the trusted proxy in front
// that says so (see [Config].TrustedProxies), else to the proxy that says so by
// the PROXY protocol, else to this process.
func (t *Transaction) Encrypted() bool { return t.tx.Encrypted() }

// UserID returns the name of the user: from a script, else from the
// [Authenticator]. It is empty if there is none.
func (t *Transaction) UserID() string { return t.tx.UserID() }

// RequestID returns the id of the request, 32 hexadecimal digits.
func (t *Transaction) RequestID() string { return t.tx.RequestID() }

// Original returns the request as received. The caller must not change it.
func (t *Transaction) Original() *http.Request { return t.tx.Original() }

// Request returns the request as it will be sent. The caller must not change
// it; see [Transaction.EditRequest].
func (t *Transaction) Request() *http.Request { return t.tx.Request() }

// EditRequest returns the request as it will be sent, for the caller to change.
// Its body is that of the original.
func (t *Transaction) EditRequest() *http.Request { return t.tx.EditRequest() }

// Response returns the status and the header of the response, once the server
// or the wrapped handler has given one. The header may be changed until it is
// sent.
func (t *Transaction) Response() (status int, header http.Header, ok bool) { return t.tx.Response() }

// Server returns the pool that the request goes to, the default pool unless
// another was chosen, and the server in use. The pool is empty if there are no
// pools; the address is invalid until a server is chosen.
func (t *Transaction) Server() (pool string, addr netip.AddrPort) { return t.tx.Server() }

// SelectPool chooses the pool, or the pool group, that the request goes to. It
// has no effect once the request is on its way, or if a request rule has chosen
// another pool.
func (t *Transaction) SelectPool(pool string) { t.tx.SelectPool(pool, netip.AddrPort{}) }

// SelectServer chooses a server of a pool. It has no effect once the request is
// on its way, or if a request rule has chosen another pool or a server. If the
// server is not available, the pool chooses another one.
func (t *Transaction) SelectServer(pool string, addr netip.AddrPort) { t.tx.SelectPool(pool, addr) }

// SelectLabel chooses a pool group, and in it the members with the priority
// label. It has no effect once the request is on its way, or if a request rule
// has chosen a pool.
func (t *Transaction) SelectLabel(group, label string) { t.tx.SelectLabel(group, label) }

// Reply answers the request in place of a server or of the wrapped handler. It
// has no effect if the answer has begun. The first reply wins.
func (t *Transaction) Reply(status int, header http.Header, body []byte) {
	t.tx.Reply(status, header, body)
}

// Close closes the client's connection, after the reply if there is one: with
// FIN, or with RST if reset is set. In HTTP/2 it ends the stream.
func (t *Transaction) Close(reset bool) { t.tx.Close(reset) }

// Log adds a line to the record.
func (t *Transaction) Log(line string) { t.tx.Log(line) }
