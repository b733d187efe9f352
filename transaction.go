package limpet

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/accept"
	"github.com/limpetlb/limpet/internal/bindingsource"
	"github.com/limpetlb/limpet/internal/bodyrule"
	"github.com/limpetlb/limpet/internal/clientaddr"
	"github.com/limpetlb/limpet/internal/httpfield"
	"github.com/limpetlb/limpet/lbpool"
)

// A transaction is one request on its way through a virtual service, and its
// response. It is used again for another request, unless others still use it;
// see users.
type transaction struct {
	// Context is that of the request. It does not change, since timers of
	// contexts beneath it read it.
	context.Context

	vs *VirtualService
	s  *snapshot

	messages
	ends
	choice
	wishes
	bodyBuffers
	outcome
	traced

	vars   datascript.Vars
	record Record
	handle Transaction

	// These are parts of shared.
	rw     *responseWriter
	route  *lbpool.Route
	shared *shared

	noRoute lbpool.Route // stands for route where there are no pools
}

// messages are the request and the response.
type messages struct {
	w http.ResponseWriter
	r *http.Request // as received
	// out is the request as it will be sent: r until it is edited.
	out *http.Request
	// unedited and claims are headers of out before it was edited, and edits
	// what was done to the forwarding headers; see forwarding.go.
	unedited [len(forwarding)][]string
	claims   http.Header
	edits    [len(forwarding)]edit
}

// ends are the two ends of the client's connection, and the client.
type ends struct {
	conn        *accept.Conn   // nil if no listener of limpet has accepted it
	source      netip.AddrPort // the peer
	client      netip.AddrPort // who the request comes from, behind trusted proxies
	found       clientaddr.Result
	local       netip.AddrPort
	certificate verified // where there is no conn
	user        string
	session     Session
	id          string
}

// choice is where the request goes, and why.
type choice struct {
	proxied  bool // the request is for a server, and not for a wrapped handler
	selected selection
	pinned   bool // a request policy has selected the pool, and scripts cannot
	// pinnedServer means that it has selected the server as well.
	pinnedServer bool
	looked       Outcome // how the best look-up ended
	binding      binding
	hashKey      string
	serverTLS    bool            // the server in use speaks TLS
	settled      *settledRequest // by LB_DONE; nil until it is over
}

// wishes are the requests of rules and scripts about the exchange.
type wishes struct {
	reply         *reply
	closing       closing
	denied        bool // by a security policy
	serverTimeout time.Duration
	tunneled      bool // the connection becomes a tunnel
}

// bodyBuffers are the bodies that scripts see.
type bodyBuffers struct {
	bodyRule        bodyrule.Request
	requestBody     []byte // read so far
	requestBuffered bool
	requestWhole    bool // requestBody is all of it
	responseRule    bodyrule.Response
	bodies          int64 // bytes that are buffered for scripts
}

// outcome is the result of the exchange.
type outcome struct {
	answered bool               // by a server
	failure  int                // why there is no response
	cancel   context.CancelFunc // of the server's timeout
	spare    func() bool        // keeps Shutdown from closing the hijacked connection
}

// shared is the part of a transaction that handlers, transports, loggers and
// tables see. They may keep a context or a writer for longer than they should,
// so each request has its own, while transactions are used again and again.
type shared struct {
	context.Context
	conn *accept.Conn                // for services behind this one; see connOf
	tx   atomic.Pointer[transaction] // nil when it is over
	sent sentContext
	rw   responseWriter
}

// users counts the users of a transaction outside this package, such as
// goroutines that a handler leaves behind. If there are any when the
// transaction ends, or if others have its handle, it is not used again, and
// later users are turned away.
type users struct{ n atomic.Int32 }

const (
	usersKeep = 1 << 30  // is set if others have the handle
	usersOver = -1 << 31 // is set when it is over
)

// enter reports whether the transaction may be used, until leave is called.
func (u *users) enter() bool {
	for {
		n := u.n.Load()
		if n < 0 {
			return false
		}
		if u.n.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// leave reports whether the transaction is over and this was its last user, who
// has to release what scripts use.
func (u *users) leave() bool { return u.n.Add(-1)&^usersKeep == usersOver }

// keep keeps the transaction from being used again. It reports false if the
// transaction is over.
func (u *users) keep() bool { return u.n.Or(usersKeep) >= 0 }

// end turns later users away. It reports whether the transaction has no users
// now, and whether nobody has its handle either.
func (u *users) end() (unused, free bool) {
	n := u.n.Or(usersOver)
	return n&^usersKeep == 0, n == 0
}

// sharedWithPools is shared with the parts that only pools need.
type sharedWithPools struct {
	shared
	route lbpool.Route
}

// Value implements context.Context.
func (sh *shared) Value(key any) any {
	switch key {
	case transactionKey{}:
		return sh.tx.Load()
	case handleKey{}:
		if !sh.rw.users.keep() {
			return nil
		}
		if tx := sh.tx.Load(); tx != nil {
			return &tx.handle
		}
		return nil
	case connKey{}:
		return sh.conn
	case bindingsource.Key{}:
		return (*sourceRecorder)(sh)
	}
	return sh.Context.Value(key)
}

// transactions are those that are not in use.
var transactions = sync.Pool{New: func() any { return new(transaction) }}

// A selection is the choice of the scripts.
type selection struct {
	pool  string
	addr  netip.AddrPort
	entry datascript.Entry // that led to the server; without a key there is none
	label string           // of the members of a pool group
	gone  bool             // the entry names a server that is not in the pool
}

// A reply is an answer by limpet itself.
type reply struct {
	status int
	header http.Header
	body   []byte
}

type closing uint8

const (
	staysOpen closing = iota
	closeFIN
	closeRST
)

// transactionKey and handleKey lead from a context to a *transaction and to a
// *Transaction.
type (
	transactionKey struct{}
	handleKey      struct{}
)

// transactionOf is [TransactionFrom] for code that does not keep the
// transaction.
func transactionOf(ctx context.Context) (*transaction, bool) {
	tx, _ := ctx.Value(transactionKey{}).(*transaction)
	return tx, tx != nil
}

func newTransaction(vs *VirtualService, s *snapshot, w http.ResponseWriter, r *http.Request) *transaction {
	r = countBody(r)
	tx := transactions.Get().(*transaction)
	if len(s.Pools) > 0 {
		more := new(sharedWithPools)
		tx.shared, tx.route = &more.shared, &more.route
		tx.shared.Context = lbpool.WithRoute(r.Context(), tx.route)
	} else {
		tx.shared, tx.route = new(shared), &tx.noRoute
		tx.shared.Context = r.Context()
	}
	tx.shared.tx.Store(tx)
	tx.handle.tx = tx
	tx.Context, tx.rw = tx.shared, &tx.shared.rw
	tx.rw.ResponseWriter, tx.rw.tx = w, tx
	tx.vs, tx.s, tx.w, tx.r, tx.out = vs, s, w, r, r
	tx.bodyRule = bodyrule.Request{Bytes: s.RequestBody.Bytes, Head: s.RequestBody.Head}
	tx.responseRule.Bytes = s.ResponseBody.Bytes
	tx.record.Start = time.Now()

	peer := clientaddr.ParsePeer(r.RemoteAddr)
	tx.source = netip.AddrPortFrom(clientaddr.Normalize(peer.Addr()), peer.Port())
	tx.found = s.resolver.Resolve(tx.source, r.Header)
	tx.client = netip.AddrPortFrom(tx.found.Addr, tx.found.Port)
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr) // where the server accepted the connection
	tx.conn, tx.local = vs.connOf(r, local), clientaddr.OfTCP(local)
	tx.shared.conn = tx.conn
	if r.Body == nil || r.Body == http.NoBody {
		watch(tx.conn)
	}
	if len(w.Header()) > 0 {
		tx.rw.initial = w.Header().Clone()
	}
	return tx
}

// connKey leads from a context to the connection of its request.
type connKey struct{}

// connOf returns the connection of a request that was accepted at the address:
// by a listener of vs, or of a service before vs, which has handed the request
// over. It is nil if no listener of limpet has accepted it. vs may be nil.
func (vs *VirtualService) connOf(r *http.Request, local net.Addr) *accept.Conn {
	if vs != nil {
		if c := vs.gate.At(local); c != nil {
			return c
		}
	}
	c, _ := r.Context().Value(connKey{}).(*accept.Conn)
	return c
}

// watch notes that the whole request has been read, so that limpet notices if
// the client leaves. unwatch notes that others are going to read the
// connection.
func watch(c *accept.Conn) {
	if c != nil {
		c.Watched.Store(true)
	}
}

func unwatch(c *accept.Conn) {
	if c != nil {
		c.Watched.Store(false)
	}
}

// free gives the transaction to the next request.
func (tx *transaction) free() {
	vars := tx.vars
	*tx = transaction{} // in place, which a literal with vars would not be
	tx.vars = vars
	transactions.Put(tx)
}

// Client returns the address of the client: that of the peer, unless the peer
// is a trusted proxy. The port is 0 if a proxy has not sent it.
func (tx *transaction) Client() netip.AddrPort { return tx.client }

// Source returns the address of the peer: the other end of the connection, or
// the address that the PROXY protocol gives for it; see [ProxyProtocol].
func (tx *transaction) Source() netip.AddrPort { return tx.source }

// Local returns the address at which the connection was accepted; it is
// invalid if the server is not one of net/http.
func (tx *transaction) Local() netip.AddrPort { return tx.local }

// Encrypted reports whether the client spoke TLS: to the trusted proxy in front
// that says so (see [Config].TrustedProxies), else to the proxy that says so by
// the PROXY protocol, else to us.
func (tx *transaction) Encrypted() bool {
	if encrypted, told := tx.s.resolver.Encrypted(tx.found, tx.r.Header); told {
		return encrypted
	}
	if tx.conn != nil {
		if encrypted, known := tx.conn.Encrypted(); known {
			return encrypted || tx.r.TLS != nil
		}
	}
	return tx.r.TLS != nil
}

// Original returns the request as received. It must not be changed.
func (tx *transaction) Original() *http.Request { return tx.r }

// Request returns the request as it will be sent. It must not be changed; see
// EditRequest.
func (tx *transaction) Request() *http.Request { return tx.out }

// EditRequest returns the request as it will be sent, for the caller to change.
// Its body is that of the original.
func (tx *transaction) EditRequest() *http.Request {
	if tx.out == tx.r { // else it is a copy already
		out := *tx.r
		if out.Header = tx.r.Header.Clone(); out.Header == nil {
			out.Header = make(http.Header)
		}
		settleConnection(out.Header)
		tx.watchForwarding(out.Header)
		tx.out = &out
	}
	return tx.out
}

// settleConnection removes the headers that the Connection header of a client,
// or of a server that switches protocols, names (RFC 9110, section 7.6.1). This
// must be done before headers are added, or those could be removed, too.
func settleConnection(h http.Header) {
	lines, ok := h["Connection"]
	if !ok {
		return
	}
	upgrade := false
	for name := range httpfield.Elements(lines) {
		if name = http.CanonicalHeaderKey(name); name == "Upgrade" {
			upgrade = true
		} else {
			delete(h, name)
		}
	}
	delete(h, "Connection")
	if upgrade {
		h["Connection"] = []string{"Upgrade"}
	}
}

// Response returns the status and the header of the response, once the server
// or the wrapped handler has given one. The header may be changed until it is
// sent.
func (tx *transaction) Response() (status int, header http.Header, ok bool) {
	return int(tx.rw.status), tx.header(), tx.rw.status != 0
}

// header is the header of the response: that of the writer, or, for an
// upgrade, that of the server's answer.
func (tx *transaction) header() http.Header {
	if tx.rw.upgrade != nil {
		return tx.rw.upgrade.Header
	}
	return tx.w.Header()
}

// Server returns the pool that the request goes to, the default pool unless
// another was chosen, and the server in use. The pool is empty if there are no
// pools; the address is invalid until a server is chosen.
func (tx *transaction) Server() (pool string, addr netip.AddrPort) {
	switch {
	case tx.route.Pool != nil:
		pool = tx.route.Pool.Name()
	case tx.selected.pool != "":
		pool = tx.selected.pool
	case tx.s.defaultPool != nil:
		pool = tx.s.defaultPool.Name()
	}
	if tx.route.Server != nil {
		addr = tx.route.Server.Addr()
	}
	return pool, addr
}

// SelectPool chooses the pool, and the server if addr is valid. It has no
// effect once the request is on its way. Where a request policy has chosen the
// pool, a script can still choose a server there, unless the policy has chosen
// that, too. A label that the policy has chosen still applies.
func (tx *transaction) SelectPool(pool string, addr netip.AddrPort) {
	tx.SelectEntry(pool, addr, datascript.Entry{})
}

// SelectEntry is SelectPool for a server that a persistence entry names.
func (tx *transaction) SelectEntry(pool string, addr netip.AddrPort, entry datascript.Entry) {
	if tx.pinned && (tx.pinnedServer || pool != tx.selected.pool || !addr.IsValid() && entry.Key == "") {
		return
	}
	label := ""
	if tx.pinned { // the policy's applies to the script's server, too
		label = tx.selected.label
	}
	tx.selected = selection{pool: pool, addr: addr, entry: entry, label: label, gone: entry.Key != "" && !addr.IsValid()}
}

// SelectLabel chooses a pool group, and in it the members with the priority
// label, as SelectPool chooses a pool.
func (tx *transaction) SelectLabel(group, label string) {
	if !tx.pinned {
		tx.selected = selection{pool: group, label: label}
	}
}

// Reply answers the request in place of a server or of the wrapped handler. It
// has no effect if the answer has begun. The first reply wins.
func (tx *transaction) Reply(status int, header http.Header, body []byte) {
	if tx.reply == nil && tx.closing == staysOpen {
		tx.reply = &reply{status, header, body}
	}
}

// replyText replies with the text of a status.
func (tx *transaction) replyText(status int) {
	tx.reply = nil // the reply that a failed script has staged is dropped
	tx.Reply(status, http.Header{"Content-Type": {"text/plain; charset=utf-8"}}, []byte(http.StatusText(status)+"\n"))
}

// Close closes the client's connection, after the reply if there is one: with
// FIN, or with RST if reset is set. In HTTP/2 it ends the stream.
func (tx *transaction) Close(reset bool) {
	tx.closing = max(tx.closing, closeFIN)
	if reset {
		tx.closing = closeRST
	}
}

// ended reports whether the answer is settled.
func (tx *transaction) ended() bool { return tx.reply != nil || tx.closing != staysOpen }

// Log adds a line to the record.
func (tx *transaction) Log(line string) {
	tx.record.Log = append(tx.record.Log, line)
	tx.record.Filtered = true
}

// Vars has the scripts' variables.
func (tx *transaction) Vars() *datascript.Vars { return &tx.vars }

// writer returns the writer for the next handler.
func (tx *transaction) writer() http.ResponseWriter {
	for w := tx.w; ; {
		switch t := w.(type) {
		case http.Hijacker:
			return hijackableWriter{tx.rw}
		case interface{ Unwrap() http.ResponseWriter }:
			w = t.Unwrap()
		default:
			return tx.rw
		}
	}
}

// forwarded returns the request for the next handler.
func (tx *transaction) forwarded() *http.Request {
	tx.rw.expected = true
	if tx.out != tx.r {
		tx.settleForwarding(tx.out.Header)
	}
	sent := &tx.shared.sent
	sent.Context = tx.Context
	if tx.serverTimeout > 0 {
		sent.Context, tx.cancel = context.WithTimeout(tx.Context, tx.serverTimeout)
	}
	return tx.out.WithContext(sent)
}

// A sentContext is the context of the request for the next handler: that of the
// transaction, with values for the server alone.
type sentContext struct{ context.Context }

// finish ends a transaction: it sends the rest of the response and writes the
// record.
func (tx *transaction) finish() {
	p := recover()
	unwatch(tx.conn)
	switch {
	case p != nil, tx.rw.begun():
	case tx.ended():
		tx.rw.deliver()
	case tx.rw.expected:
		// The handler has written nothing, which means an empty response with
		// status 200.
		if tx.rw.begin(http.StatusOK) {
			tx.rw.farewell(http.StatusOK)
		}
	}
	if p == nil && tx.rw.holding {
		_ = tx.rw.release() // the response is complete
	}
	if p == nil && tx.tunneled && !tx.rw.replaced && !tx.rw.hijacked {
		tx.tunnel()
	}
	if isAbort(p) && tx.rw.replaced {
		p = nil // the server's answer was cut off because ours has taken its place
	}
	if tx.rw.abort && p == nil {
		p = http.ErrAbortHandler
	}
	if p != nil {
		tx.rw.cut()
	}
	if tx.cancel != nil {
		tx.cancel()
	}
	if tx.spare != nil {
		tx.spare()
		tx.vs.counters.upgraded.Add(-1)
	}
	tx.complete(p)
	tx.shared.tx.Store(nil)
	unused, free := tx.rw.users.end()
	if unused { // else a script may be running, and the last user does it
		tx.release()
	}
	if p != nil {
		panic(p) // and others may still have the transaction
	}
	if free {
		tx.free()
	}
}

// release gives back what scripts use. No script of the transaction may run
// then: the tables of its variables go to other requests.
func (tx *transaction) release() {
	tx.vars.Reset()
	tx.giveBody(tx.bodies)
}

// hijack notes that the client's connection was taken over. Shutdown closes it
// as long as the transaction is under way.
func (tx *transaction) hijack(client net.Conn) {
	unwatch(tx.conn)
	tx.rw.hijacked, tx.record.Hijacked = true, true
	tx.spare = tx.vs.cutOff(client)
	tx.vs.counters.upgraded.Add(1)
	tx.endTraceEarly()
}

// isAbort reports whether a handler panicked to abort its response.
func isAbort(p any) bool {
	err, ok := p.(error)
	return ok && errors.Is(err, http.ErrAbortHandler)
}

// addrText returns an address as records show it.
func addrText(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return net.JoinHostPort(a.Addr().String(), strconv.Itoa(int(a.Port())))
}
