package limpet

import (
	"errors"
	"net/http"
	"net/netip"

	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/policy"
)

// The order of processing is the order of these two lists. A request stage
// that replies or closes ends the request's side; the response's side is for
// what a server, or the wrapped handler, has answered.
var (
	requestStages = [...]func(*Transaction){
		networkSecurity,
		httpSecurity,
		requestScripts,
		selectPool,
	}
	responseStages = [...]func(*Transaction){
		bindServer,
		responseScripts,
	}
)

// serve takes a request from its arrival to its log record. next answers it:
// a reverse proxy, or the handler that was wrapped.
func (vs *VirtualService) serve(s *snapshot, w http.ResponseWriter, r *http.Request, next http.Handler) {
	tx := newTransaction(vs, s, w, r)
	defer tx.finish()
	for _, stage := range requestStages {
		if stage(tx); tx.ended() {
			return
		}
	}
	next.ServeHTTP(tx.writer(), tx.forwarded())
}

// networkSecurity judges the connection, unless that was done when it was
// accepted.
func networkSecurity(tx *Transaction) {
	if len(tx.s.NetworkSecurity) == 0 || tx.vs.judged.has(connEnds{tx.source, tx.local}) {
		return
	}
	v := tx.s.network.Evaluate(policy.Conn{Client: tx.source, Local: tx.local})
	tx.record.NetworkRule = v.Rule
	tx.record.logRule = tx.record.logRule || v.Log
	if v.Err != nil {
		tx.record.Error = v.Err
	}
	if v.Denied() {
		tx.record.significant(PolicyDrop)
		tx.Close(true)
	}
}

func httpSecurity(tx *Transaction) {
	if len(tx.s.HTTPSecurity) == 0 {
		return
	}
	v := tx.s.security.Evaluate(tx)
	tx.record.SecurityRule = v.Rule
	tx.record.logRule = tx.record.logRule || v.Log
	if v.Err != nil {
		tx.record.Error = v.Err
	}
	if v.Dropped {
		tx.record.significant(PolicyDrop)
	}
}

func requestScripts(tx *Transaction) { tx.runScripts(datascript.HTTPReq) }

func responseScripts(tx *Transaction) { tx.runScripts(datascript.HTTPResp) }

// runScripts runs what the scripts have for an event, in order, until one of
// them replies or closes.
func (tx *Transaction) runScripts(ev datascript.Event) {
	if !tx.s.handles[ev] {
		return
	}
	for _, script := range tx.s.Scripts {
		if tx.ended() {
			return
		}
		err := tx.s.engine.Run(tx, script.Script, ev, tx)
		if err == nil {
			continue
		}
		tx.vs.counters.scriptFailures.Add(1)
		tx.record.scriptFailed(err)
		if script.OnError == FailClosed {
			tx.replyText(http.StatusInternalServerError)
		}
	}
}

// selectPool settles where the request goes: to what a script has selected,
// else to the server that the persistence profile names, else to any server
// of the default pool.
func selectPool(tx *Transaction) {
	if len(tx.s.Pools) == 0 {
		return
	}
	pool := tx.s.defaultPool
	if tx.selected.pool != "" {
		// Scripts can only select pools that exist.
		pool, _ = tx.s.pools.Pool(tx.selected.pool)
	}
	tx.route = lbpool.Route{Pool: pool, Hint: lbpool.Hint{Client: tx.client.Addr()}}
	switch {
	case tx.selected.addr.IsValid():
		tx.route.Hint.Server = tx.selected.addr
	case tx.selected.key == "" && tx.s.Persistence != nil:
		name, ok := tx.s.Persistence.Find(tx.r, tx.client.Addr())
		tx.lookedUp(ok, 0)
		if server, found := pool.Lookup(name, 0); ok && found {
			tx.route.Hint.Server = server.Addr()
		} else if ok {
			tx.selected.gone = true
		}
	}
}

// bindServer remembers which server has answered.
func bindServer(tx *Transaction) {
	server := tx.route.Server
	if server == nil {
		return
	}
	if sel := &tx.selected; sel.key != "" && tx.repinned() {
		// The entry named a server that could not be had. Of requests that
		// find this out at the same time the first one wins.
		_, err := tx.s.Tables.CompareAndSwap(tx, "", sel.key, sel.entry, serverValue(server, sel.entry))
		if err != nil {
			tx.record.Error = err
		}
	}
	if p := tx.s.Persistence; p != nil {
		p.Bind(tx.header(), tx.r, tx.client.Addr(), server.Addr().String())
	}
}

// serverValue names a server the way an entry named the one before: with its
// port or without.
func serverValue(s *lbpool.Server, like string) string {
	if _, err := netip.ParseAddrPort(like); err == nil {
		return s.Addr().String()
	}
	return s.Addr().Addr().String()
}

// serverFailed answers a request to which no server has: none could be had,
// or the one that was tried gave no answer.
func serverFailed(w http.ResponseWriter, r *http.Request, err error) {
	tx, ok := TransactionFrom(r.Context())
	if !ok {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	if errors.Is(err, errAnswered) {
		return
	}
	tx.record.Error = err
	status := http.StatusBadGateway
	switch {
	case errors.Is(err, lbpool.ErrNoServer), errors.Is(err, lbpool.ErrNoRoute):
		status = http.StatusServiceUnavailable
		tx.record.significant(NoServer)
	case errors.Is(err, lbpool.ErrAborted), r.Context().Err() != nil:
		status = statusClientGone
		tx.record.significant(ClientGone)
	case errors.Is(err, lbpool.ErrTimeout):
		status = http.StatusGatewayTimeout
		tx.record.significant(ServerFailed)
	default:
		tx.record.significant(ServerFailed)
	}
	tx.replyText(status)
}

// statusClientGone is what records show when the client did not wait for its
// answer. No standard has it, but many logs do.
const statusClientGone = 499
