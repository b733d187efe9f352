package limpet

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/netip"
	"slices"

	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/policy"
)

// The order of processing is the order of these two lists. A request stage that
// replies or closes ends the request stages. The response stages are for
// answers of a server or of the wrapped handler.
var (
	requestStages = [...]func(*transaction){
		networkSecurity,
		admit,
		httpSecurity,
		authenticate,
		httpRequest,
		requestScripts,
		requestData,
		selectPool,
	}
	responseStages = [...]func(*transaction){
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
	tx.startTrace()
	for _, stage := range requestStages {
		if stage(tx); tx.ended() {
			return
		}
	}
	next.ServeHTTP(tx.writer(), tx.forwarded())
}

// networkSecurity judges the connection, unless the listener has done so by the
// same rules.
func networkSecurity(tx *transaction) {
	if tx.conn != nil {
		if v, judged := tx.conn.Verdict(); judged {
			tx.record.NetworkRule, tx.record.Error = v.Rule, v.Err
			if tx.conn.TakeLog(tx.vs.gate) { // one record is enough
				tx.record.Filtered = true
			}
			if tx.conn.Of(tx.vs.gate) {
				return
			}
		}
	}
	if len(tx.s.NetworkSecurity) == 0 {
		return
	}
	v := tx.s.network.Evaluate(tx.source, tx.local)
	tx.record.NetworkRule = cmp.Or(v.Rule, tx.record.NetworkRule)
	tx.record.Filtered = tx.record.Filtered || v.Log
	if v.Err != nil {
		tx.record.Error = v.Err
	}
	if v.Ended {
		tx.denied = true
		tx.record.dropped(v.Limited)
		tx.Close(v.Action == policy.ActionReset)
	}
}

func httpSecurity(tx *transaction) {
	if len(tx.s.HTTPSecurity) == 0 {
		return
	}
	v := tx.s.security.Evaluate(tx)
	tx.record.SecurityRule = v.Rule
	tx.denied = v.Ended
	tx.noteVerdict(v)
}

func httpRequest(tx *transaction) {
	if len(tx.s.HTTPRequest) == 0 {
		return
	}
	v := tx.s.request.Evaluate(tx)
	tx.record.RequestRule = v.Rule
	tx.noteVerdict(v)
	tx.pinned, tx.pinnedServer = tx.selected.pool != "", tx.selected.addr.IsValid()
}

func httpResponse(tx *transaction) {
	if len(tx.s.HTTPResponse) == 0 {
		return
	}
	v := tx.s.response.Evaluate(tx)
	tx.record.ResponseRule = v.Rule
	tx.noteVerdict(v)
}

// noteVerdict records the parts of a verdict that all HTTP policies have in
// common.
func (tx *transaction) noteVerdict(v policy.Verdict) {
	tx.record.Filtered = tx.record.Filtered || v.Log
	tx.record.Monitored = append(tx.record.Monitored, v.Monitored...)
	if v.Err != nil {
		tx.record.Error = v.Err
		if tx.reply != nil && tx.reply.status == http.StatusBadRequest {
			tx.rw.closeAfter() // as for other malformed requests
		}
	}
	if v.LogHeaders {
		tx.record.RequestHeader = loggedHeader(tx.r.Header)
	}
	if v.Dropped {
		tx.record.dropped(v.Limited)
	}
}

func requestScripts(tx *transaction) { tx.runScripts(datascript.HTTPReq) }

func responseScripts(tx *transaction) { tx.runScripts(datascript.HTTPResp) }

// runScripts runs the scripts for an event, in order, until one of them replies
// or closes.
func (tx *transaction) runScripts(ev datascript.Event) {
	if !tx.s.handles[ev] {
		return
	}
	for _, script := range tx.s.Scripts {
		if tx.ended() {
			return
		}
		err := tx.r.Context().Err()
		if !errors.Is(err, context.Canceled) {
			err = tx.runScript(script.Script, ev)
		}
		if errors.Is(tx.r.Context().Err(), context.Canceled) && errors.Is(err, context.Canceled) {
			// The script was stopped, or would be at once, and has done nothing
			// wrong.
			tx.clientGone()
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

// isUnavailable reports whether a script failed because a service that it
// needs, such as a table on another machine, is not available now.
func isUnavailable(err error) bool {
	var e interface{ Unavailable() bool }
	return errors.As(err, &e) && e.Unavailable()
}

// selectPool decides where the request goes: to the pool or the group that a
// rule or a script has selected, else to the default pool, and there to the
// server that a rule or a script has selected, else to the one that the client
// is bound to, else to any.
func selectPool(tx *transaction) {
	if len(tx.s.Pools) == 0 {
		return
	}
	t := tx.s.target(tx.selected.pool)
	if label := tx.selected.label; label != "" && t.group != nil {
		// As for a script, clients are bound in the pool that is chosen.
		*tx.route = lbpool.Route{Label: label, Wait: tx.r.Method == http.MethodGet, Observer: (*trafficObserver)(tx.shared)}
		if !tx.choosePool(t.group, tx.selected.addr) {
			return
		}
		chosen := tx.s.targets[tx.route.Pool.Name()]
		if chosen == nil || chosen.pool != tx.route.Pool { // a backup pool that is not one of ours
			tx.binding.target = t
			tx.route.Hint = tx.hint(tx.route.Pool)
			return
		}
		t = chosen
	}
	tx.binding.target = t
	*tx.route = lbpool.Route{Pool: t.pool, Wait: tx.r.Method == http.MethodGet, Observer: (*trafficObserver)(tx.shared)}
	server, member := tx.boundServer(t)
	switch {
	case member != nil:
		tx.route.Pool, tx.route.Group = member, t.group
	case t.group != nil && !tx.choosePool(t.group, server):
		return
	}
	tx.route.Hint = tx.hint(tx.route.Pool)
	tx.route.Hint.Key, tx.route.Hint.Server, tx.route.Hint.Tie = tx.hashKey, server, tx.selected.entry.Key
	tx.startBinding()
}

// hint describes the request to a pool. All clients without a known address are
// one client, or each of their failures would be that of another client.
func (tx *transaction) hint(pool *lbpool.Pool) lbpool.Hint {
	h := pool.HintFor(tx.out, tx.client)
	if !h.Client.IsValid() {
		h.Client = netip.IPv6Unspecified()
	}
	return h
}

// choosePool lets a group choose one of its pools. It reports whether one can
// serve, or a backup pool.
func (tx *transaction) choosePool(group *lbpool.Group, server netip.AddrPort) bool {
	pool, err := group.Select(tx.route.Label, lbpool.Hint{Client: tx.client.Addr(), Server: server})
	fail := group.FailAction()
	switch {
	case err == nil:
		tx.route.Pool, tx.route.Group = pool, group
	case errors.Is(err, lbpool.ErrFull) && tx.route.Wait && tx.route.Label == "":
		// It may wait in the queue of one of them, which is for the transport
		// to find.
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
