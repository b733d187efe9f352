package limpet

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"slices"

	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/exactaddr"
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
		authenticate,
		httpRequest,
		requestScripts,
		requestData,
		selectPool,
	}
	responseStages = [...]func(*Transaction){
		bindServer,
		responseScripts,
		httpResponse,
	}
)

// serve takes a request from its arrival to its log record. next answers it:
// a reverse proxy, or the handler that was wrapped.
func (vs *VirtualService) serve(s *snapshot, w http.ResponseWriter, r *http.Request, next http.Handler) {
	vs.active.enter()
	defer vs.active.leave()
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
	if tx.conn != nil && tx.conn.judged {
		tx.record.NetworkRule, tx.record.Error = tx.conn.rule, tx.conn.err
		if tx.conn.log.Load() && tx.conn.log.Swap(false) { // one record is enough
			tx.record.Filtered = true
		}
		return
	}
	if len(tx.s.NetworkSecurity) == 0 {
		return
	}
	v := tx.s.network.Evaluate(policy.Conn{Client: tx.source, Local: tx.local})
	tx.record.NetworkRule = v.Rule
	tx.record.Filtered = tx.record.Filtered || v.Log
	if v.Err != nil {
		tx.record.Error = v.Err
	}
	if v.Denied() {
		tx.denied = true
		tx.record.dropped(v.Limited)
		tx.Close(v.Action != policy.NetworkDrop)
	}
}

func httpSecurity(tx *Transaction) {
	if len(tx.s.HTTPSecurity) == 0 {
		return
	}
	v := tx.s.security.Evaluate(tx)
	tx.record.SecurityRule = v.Rule
	tx.denied = v.Ended
	tx.noteVerdict(v)
}

func httpRequest(tx *Transaction) {
	if len(tx.s.HTTPRequest) == 0 {
		return
	}
	v := tx.s.request.Evaluate(tx)
	tx.record.RequestRule = v.Rule
	tx.noteVerdict(v)
	tx.pinned = tx.selected.pool != ""
}

func httpResponse(tx *Transaction) {
	if len(tx.s.HTTPResponse) == 0 {
		return
	}
	v := tx.s.response.Evaluate(tx)
	tx.record.ResponseRule = v.Rule
	tx.noteVerdict(v)
}

// noteVerdict notes what all HTTP policies have in common.
func (tx *Transaction) noteVerdict(v policy.Verdict) {
	tx.record.Filtered = tx.record.Filtered || v.Log
	tx.record.Monitored = append(tx.record.Monitored, v.Monitored...)
	if v.Err != nil {
		tx.record.Error = v.Err
	}
	if v.LogHeaders {
		tx.record.RequestHeader = loggedHeader(tx.r.Header)
	}
	if v.Dropped {
		tx.record.dropped(v.Limited)
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
		err := tx.r.Context().Err()
		if !errors.Is(err, context.Canceled) {
			err = tx.s.engine.Run(tx.shared, script.Script, ev, tx)
		}
		if errors.Is(tx.r.Context().Err(), context.Canceled) && errors.Is(err, context.Canceled) {
			// The script was stopped, or would be at once, and has done nothing wrong.
			tx.record.significant(ClientGone)
			tx.replyText(statusClientGone)
			return
		}
		if err == nil {
			if tx.reply != nil && tx.reply.status >= 400 {
				tx.record.significant(ScriptRefused)
			}
			continue
		}
		tx.vs.counters.scriptFailures.Add(1)
		tx.record.scriptFailed(err)
		switch {
		case script.OnError == FailOpen:
		case errors.Is(err, datascript.ErrBusy):
			tx.replyText(http.StatusServiceUnavailable)
			tx.reply.header.Set("Retry-After", "1")
		case isUnavailable(err):
			tx.replyText(http.StatusServiceUnavailable)
		default:
			tx.replyText(http.StatusInternalServerError)
		}
	}
}

// isUnavailable reports whether a script failed because something that it
// needs, such as a table on another machine, says that it cannot be had now.
func isUnavailable(err error) bool {
	var e interface{ Unavailable() bool }
	return errors.As(err, &e) && e.Unavailable()
}

// selectPool settles where the request goes: to what a script has selected,
// else to the server that the persistence profile names, else to any server
// of the default pool.
func selectPool(tx *Transaction) {
	if len(tx.s.Pools) == 0 {
		return
	}
	*tx.route = lbpool.Route{Pool: tx.s.defaultPool, Wait: tx.r.Method == http.MethodGet}
	group, grouped := tx.s.pools.Group(tx.selected.pool)
	lookup := group.Lookup
	if !grouped {
		if p, ok := tx.s.pools.Pool(tx.selected.pool); ok {
			tx.route.Pool = p
		}
		lookup = tx.route.Pool.Lookup
	}
	server := tx.boundServer(lookup)
	if grouped && !tx.choosePool(group, server) {
		return
	}
	tx.route.Hint = tx.route.Pool.HintFor(tx.out, tx.client)
	tx.route.Hint.Key, tx.route.Hint.Server = tx.hashKey, server
}

// boundServer returns the server that the request should go to because a
// script or the persistence profile says so.
func (tx *Transaction) boundServer(lookup func(server string, port uint16) (*lbpool.Server, bool, bool)) netip.AddrPort {
	switch {
	case tx.selected.addr.IsValid():
		return tx.selected.addr
	case tx.selected.gone:
		return serverAddr(tx.selected.entry)
	case tx.selected.key != "" || tx.s.Persistence == nil:
		return netip.AddrPort{}
	}
	name, ok := tx.s.Persistence.Find(tx.r, tx.client.Addr())
	tx.lookedUp(ok, 0)
	if !ok {
		return netip.AddrPort{}
	}
	if server, _, found := lookup(name, 0); found {
		return server.Addr()
	}
	tx.selected.gone = true
	return serverAddr(name)
}

// choosePool lets a group choose among its pools. It reports whether there is
// one that can serve, or a backup pool.
func (tx *Transaction) choosePool(group *lbpool.Group, server netip.AddrPort) bool {
	pool, err := group.Select("", lbpool.Hint{Client: tx.client.Addr(), Server: server})
	fail := group.FailAction()
	switch {
	case err == nil:
		tx.route.Pool, tx.route.Group = pool, group
	case errors.Is(err, lbpool.ErrFull) && tx.route.Wait:
		// It may wait in the queue of one of them, which is for the transport to find.
		members, unused := group.Members(), group.OutOfUse()
		open := slices.IndexFunc(members, func(m lbpool.Member) bool {
			return m.Ratio > 0 && m.Pool.Up() && !slices.Contains(unused, m.Pool)
		})
		tx.route.Pool, tx.route.Group = members[max(open, 0)].Pool, group
	case fail.Kind == lbpool.FailBackup:
		tx.route.Pool = fail.Backup
	default:
		tx.route.Pool, tx.route.Group = nil, group
		tx.fail(err)
		return false
	}
	return true
}

// serverAddr reads the name of a server that is gone, so that its pool
// decides whether another one takes its place.
func serverAddr(name string) netip.AddrPort {
	if a, ok := exactaddr.Parse(name); ok {
		return a
	}
	if a, err := netip.ParseAddr(name); err == nil {
		return netip.AddrPortFrom(a, 0)
	}
	a, _ := netip.ParseAddrPort(name)
	return a
}

// bindServer remembers which server has answered.
func bindServer(tx *Transaction) {
	tx.tellPersistence(tx.header())
	server := tx.route.Server
	if server == nil {
		return
	}
	if sel := &tx.selected; sel.key != "" && tx.repinned() {
		// The entry named a server that could not be had. Of requests that
		// find this out at the same time the first one wins.
		_, err := tx.s.Tables.CompareAndSwap(tx.Context, "", sel.key, sel.entry, tx.serverValue(server, sel.entry))
		if err != nil {
			tx.record.Error = err
		}
	}
	if p := tx.s.Persistence; p != nil {
		p.Bind(tx.header(), tx.r, tx.client.Addr(), server.Addr().String())
	}
}

// serverValue names a server the way an entry named the one before: with its
// port or without. Without one, the port is kept all the same where servers of
// the pool share the address, and scripts do not see it.
func (tx *Transaction) serverValue(s *lbpool.Server, like string) string {
	if _, err := netip.ParseAddrPort(like); err == nil {
		return s.Addr().String()
	}
	bare := s.Addr().Addr().String()
	if _, shared, _, _ := tx.s.pools.Find(tx.route.Pool.Name(), bare, 0); shared {
		return exactaddr.Value(s.Addr())
	}
	return bare
}
