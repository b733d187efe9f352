package datascripttest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/bodyrule"
	"github.com/limpetlb/limpet/internal/exactaddr"
)

// A VirtualService takes requests through scripts and pools in the order of a
// real one, without sockets and without chance:
//
//   - HTTP_AUTH, HTTP_POST_AUTH and HTTP_REQ, each for all scripts before the
//     next;
//   - HTTP_REQ_DATA, if the service or a script has had the request's body
//     buffered; a longer body is answered with 413, unless they have said that
//     its beginning is enough;
//   - the choice of a server: the one that a script selected if it is up, else
//     one that is up in the pool selected or, without a selection, in the first
//     pool. If the selection came from a persistence entry and another server
//     is taken, the entry is rewritten and keeps its lifetime. Without pools
//     there is no such step, and no LB_DONE;
//   - LB_DONE; or HTTP_LB_FAILED if no server is up, and then 503;
//   - the server's answer, from Respond;
//   - HTTP_RESP; or RESP_FAILED if there was no answer, and then 502;
//   - HTTP_RESP_DATA, if the service or a script has had the response's body
//     buffered.
//
// A script that answers or closes is the last one to run. One that fails is,
// too, and the client gets a 500. Where a script closes the connection without
// an answer, the client gets nothing, not even the response of a server.
//
// The zero value is a service without scripts and pools. From the first
// [VirtualService.Do] on, only Respond may be set anew; what the other fields
// hold, such as the state of servers, may change between transactions. Calls of
// Do must not overlap.
type VirtualService struct {
	// Name is what avi.vs.name returns.
	Name string
	// Scripts run in this order.
	Scripts []*datascript.Script
	// Pools are the pools that scripts may name. The first one is the default.
	Pools Pools
	// Tables are the persistence tables.
	Tables Tables
	// IPGroups are the groups that scripts may name.
	IPGroups IPGroups
	// PoolGroups are the pool groups that scripts may name.
	PoolGroups PoolGroups
	// StringGroups are the string groups that scripts may name.
	StringGroups StringGroups
	// AddressFacts are the geo and the reputation database.
	AddressFacts AddressFacts
	// Tokens are the tokens that avi.jwt.verify accepts.
	Tokens Tokens
	// RateLimiters are the rate limiters that scripts may name. They go by the
	// real clock.
	RateLimiters map[string]*datascript.RateLimiter
	// RateProfile is what avi.vs.rate_limit enforces. Its limiter goes by the
	// real clock.
	RateProfile *datascript.RateProfile
	// Metrics are what scripts count.
	Metrics datascript.Metrics
	// OpenConns is what avi.vs.get_open_conns returns.
	OpenConns int
	// Instances is what avi.vs.se_count returns; zero means 1.
	Instances int
	// Local is the address that clients connect to. The zero value means
	// 198.51.100.1:80.
	Local netip.AddrPort
	// Respond answers for the servers. server is invalid if there are no pools.
	// An error means that the server gave no valid response. A nil Respond
	// answers 200 with neither headers nor body. The header of a Response is
	// given away.
	Respond func(server netip.AddrPort, r *http.Request) (*Response, error)
	// Limits bound each run of a script. Zero fields have the engine's
	// defaults, but for Time: a busy machine must not fail a test, so it is 10
	// s.
	Limits datascript.Limits
	// StrictSelect is the engine's: it keeps avi.pool.select from accepting the
	// key of a persistence entry.
	StrictSelect bool
	// RequestBody and ResponseBody are how much of bodies is buffered although
	// no script asks for it. A script that has code for HTTP_REQ_DATA or
	// HTTP_RESP_DATA which can never run is an error of [VirtualService.Do].
	RequestBody, ResponseBody BodyBuffer
	// Coverage counts which lines of the scripts have run; nil counts nothing,
	// and costs nothing. Several services may share one.
	Coverage *Coverage

	engine *datascript.Engine
	turn   map[string]int // of each pool, for RoundRobin
}

// A BodyBuffer says how much of bodies scripts see.
type BodyBuffer struct {
	Bytes int  // of each body; 0 to 32 MiB
	Head  bool // scripts see the beginning of a longer body of a request, which a service refuses otherwise
}

// A Result is what came of a transaction.
type Result struct {
	// Response is what the client gets; nil if its connection was closed
	// without an answer.
	Response *Response
	// Closed is how the client's connection was closed, after the response if
	// there is one.
	Closed Closing
	// Sent is the request that went to the server; nil if none did. Its Body
	// can be read.
	Sent *http.Request
	// Pool is the pool in which a server was looked for; empty without pools,
	// or if the transaction ended before that.
	Pool string
	// Server is the server chosen; invalid if none was.
	Server netip.AddrPort
	// Log is what scripts logged.
	Log []string
	// Err is the failure of a script; nil if none failed.
	Err *datascript.RuntimeError
	// User is the name that a script gave the user.
	User string
	// ServerTimeout is how long a script would wait for the server; zero if
	// none said so.
	ServerTimeout time.Duration
	// HashKey is the key that a script gave for algorithms that hash one.
	HashKey string
	// Tunneled says that a script made the connection a tunnel.
	Tunneled bool
}

// A connection is what a case knows of a client beyond its request.
type connection struct {
	id           string
	noTunnel     bool
	fingerprints map[string]string
	attributes   string
	claims       []Claim
	failure      int // why there will be no response; zero for the default
}

// Do takes one request through the service. The client is r.RemoteAddr; the
// context of scripts is the request's. The request is not changed, but for its
// body, which is read to its end. An error means that the service is set up
// wrongly, or that the body could not be read; the failure of a script is a
// Result.
func (vs *VirtualService) Do(r *http.Request) (*Result, error) { return vs.do(r, connection{}) }

func (vs *VirtualService) do(r *http.Request, c connection) (*Result, error) {
	if err := vs.start(); err != nil {
		return nil, err
	}
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, fmt.Errorf("datascripttest: request body: %w", err)
		}
		r.Body = newBody(body)
	}
	e := &exchange{
		vs: vs, ctx: r.Context(), body: body, result: &Result{},
		tx: Transaction{
			Conns: vs.OpenConns,
			In:    r, LocalAddr: vs.Local,
			ID: c.id, NoTunnel: c.noTunnel || len(vs.Pools) == 0, Fingerprints: c.fingerprints, Failure: c.failure,
			Attributes: c.attributes, Claims: c.claims,
		},
	}
	e.tx.request = bodyrule.Request{Bytes: vs.RequestBody.Bytes, Head: vs.RequestBody.Head}
	e.tx.response.Bytes = vs.ResponseBody.Bytes
	defer e.tx.vars.Reset()
	if len(vs.Pools) > 0 {
		e.tx.Pool = vs.Pools[0].Name
	}
	e.do()
	e.result.Log = e.tx.Lines
	e.result.User, e.result.ServerTimeout = e.tx.User, e.tx.ServerTimeout
	e.result.HashKey, e.result.Tunneled = e.tx.HashKey, e.tx.Tunneled
	return e.result, nil
}

// start makes the engine, once.
func (vs *VirtualService) start() error {
	if vs.engine != nil {
		return nil
	}
	for i, s := range vs.Scripts {
		if s == nil {
			return fmt.Errorf("datascripttest: script %d is nil", i+1)
		}
	}
	if err := vs.checkBodies(); err != nil {
		return err
	}
	limits := vs.Limits
	limits.Time = cmp.Or(limits.Time, 10*time.Second)
	env := datascript.Env{
		Name: vs.Name, Tables: &vs.Tables, Limits: limits, StrictSelect: vs.StrictSelect,
		RateLimiters: vs.RateLimiters, RateProfile: vs.RateProfile, Metrics: &vs.Metrics, Instances: vs.Instances,
	}
	if vs.Coverage != nil {
		env.Trace = vs.Coverage.Trace
		for _, s := range vs.Scripts {
			vs.Coverage.Add(s, "")
		}
	}
	if len(vs.Pools) > 0 {
		env.Pools = vs.Pools
	}
	if len(vs.Tokens) > 0 {
		env.Tokens = vs.Tokens
	}
	if len(vs.IPGroups) > 0 {
		env.IPGroups = vs.IPGroups
	}
	if len(vs.PoolGroups) > 0 {
		env.PoolGroups = vs.PoolGroups
	}
	if len(vs.StringGroups) > 0 {
		env.StringGroups = vs.StringGroups
	}
	if len(vs.AddressFacts) > 0 {
		env.Geo, env.Reputations = vs.AddressFacts, vs.AddressFacts
	}
	var err error
	vs.engine, err = datascript.NewEngine(env)
	return err
}

// checkBodies reports what is wrong with the buffers, and scripts whose events
// never run.
func (vs *VirtualService) checkBodies() error {
	for _, b := range []BodyBuffer{vs.RequestBody, vs.ResponseBody} {
		if b.Bytes < 0 || b.Bytes > bodyrule.MaxBytes {
			return fmt.Errorf("datascripttest: a buffer of %d bytes is not between 0 and %d", b.Bytes, bodyrule.MaxBytes)
		}
	}
	scripts := make([]bodyrule.Script, len(vs.Scripts))
	for i, s := range vs.Scripts {
		scripts[i] = bodyrule.Script{
			Name: s.Name(), Request: s.Handles(datascript.HTTPReqData), Response: s.Handles(datascript.HTTPRespData),
			AsksRequest: s.BuffersRequest(), AsksResponse: s.BuffersResponse(),
		}
	}
	faults := bodyrule.Check(vs.RequestBody.Bytes, vs.ResponseBody.Bytes, scripts)
	var all []error
	for i := range scripts {
		all = append(all, faults[i]...)
	}
	return errors.Join(all...)
}

// An exchange is one transaction under way.
type exchange struct {
	vs     *VirtualService
	ctx    context.Context
	tx     Transaction
	body   []byte
	result *Result
}

func (e *exchange) do() {
	if slices.ContainsFunc([]datascript.Event{datascript.HTTPAuth, datascript.HTTPPostAuth, datascript.HTTPReq}, e.run) {
		return
	}
	if e.tx.request.Applies(len(e.body) > 0) {
		seen, _ := e.tx.request.Read(bytes.NewReader(e.body), int64(len(e.body))) // from memory
		if seen.Refused {
			e.result.Response = plain(http.StatusRequestEntityTooLarge)
			return
		}
		e.tx.BufferedRequest, e.tx.BufferedInPart = append([]byte{}, seen.Body...), !seen.Whole
		if e.run(datascript.HTTPReqData) {
			return
		}
	}
	if len(e.vs.Pools) > 0 {
		if !e.balance() {
			e.tx.Failure = http.StatusServiceUnavailable
			e.fail(datascript.HTTPLBFailed, http.StatusServiceUnavailable)
			return
		}
		if e.run(datascript.LBDone) {
			return
		}
	}
	resp := e.send()
	if resp == nil {
		e.fail(datascript.RespFailed, e.tx.FailureStatus())
		return
	}
	e.tx.Status, e.tx.Header = resp.Status, resp.Header
	if e.run(datascript.HTTPResp) {
		return
	}
	handled := slices.ContainsFunc(e.vs.Scripts, func(s *datascript.Script) bool { return s.Handles(datascript.HTTPRespData) })
	if rule := e.tx.response; rule.Buffers(e.tx.Original().Method, e.tx.Status, handled) {
		e.tx.BufferedResponse = append([]byte{}, resp.Body[:min(rule.Bytes, len(resp.Body))]...)
		if rule.Applies(len(e.tx.BufferedResponse)) && e.run(datascript.HTTPRespData) {
			return
		}
	}
	e.result.Response = &Response{Status: e.tx.Status, Header: e.tx.Header, Body: resp.Body}
}

// run runs all scripts for an event, and reports whether the transaction is
// over.
func (e *exchange) run(ev datascript.Event) bool {
	for _, s := range e.vs.Scripts {
		if err := e.vs.engine.Run(e.ctx, s, ev, &e.tx); err != nil {
			errors.As(err, &e.result.Err) // it is always one
			e.result.Response = plain(http.StatusInternalServerError)
			return true
		}
		if e.tx.decided() {
			e.result.Response, e.result.Closed = e.tx.Answer, e.tx.Closed
			return true
		}
	}
	return false
}

// fail ends a transaction that came to no response.
func (e *exchange) fail(ev datascript.Event, status int) {
	if !e.run(ev) {
		e.result.Response = plain(status)
	}
}

func plain(status int) *Response {
	return &Response{Status: status, Header: http.Header{"Content-Type": {"text/plain; charset=utf-8"}}, Body: []byte(http.StatusText(status))}
}

// balance chooses the server, and reports whether there is one.
func (e *exchange) balance() bool {
	sel := Selection{Pool: e.vs.Pools[0].Name}
	if e.tx.Selected != nil {
		sel = *e.tx.Selected
	}
	e.tx.Pool, e.result.Pool = sel.Pool, sel.Pool
	addr := sel.Addr
	if addr.IsValid() && addr.Port() == 0 { // several servers share it; a real service takes one by a hash
		addr, _, _, _ = e.vs.Pools.Find(sel.Pool, addr.Addr().String(), 0)
	}
	if !e.vs.isUp(sel.Pool, addr) {
		if addr = e.vs.pick(sel.Pool); !addr.IsValid() {
			return false
		}
		if sel.Entry.Key != "" {
			e.vs.rebind(sel, addr)
		}
	}
	e.tx.Addr, e.result.Server = addr, addr
	return true
}

func (vs *VirtualService) isUp(pool string, addr netip.AddrPort) bool {
	up, err := vs.Pools.ServerUp(pool, addr.String(), addr.Port())
	return addr.IsValid() && up && err == nil
}

// pick returns a server that is up, or an invalid address.
func (vs *VirtualService) pick(pool string) netip.AddrPort {
	p, _ := vs.Pools.named(pool) // scripts can only select pools that exist
	var up []netip.AddrPort
	for _, s := range p.Servers {
		if !s.Down {
			up = append(up, s.Addr)
		}
	}
	if len(up) == 0 {
		return netip.AddrPort{}
	}
	if p.Algorithm == FirstUp {
		return up[0]
	}
	if vs.turn == nil {
		vs.turn = map[string]int{}
	}
	turn := vs.turn[pool]
	vs.turn[pool]++
	return up[turn%len(up)]
}

// rebind makes the entry of a selection name another server, in the form in
// which it named the old one, if it still does.
func (vs *VirtualService) rebind(sel Selection, addr netip.AddrPort) {
	value := addr.Addr().String()
	_, shared, _, _ := vs.Pools.Find(sel.Pool, value, 0)
	if _, err := netip.ParseAddrPort(sel.Entry.Value); err == nil {
		value = addr.String()
	} else if shared {
		value = exactaddr.Value(addr)
	}
	t := &vs.Tables
	t.mu.Lock()
	defer t.mu.Unlock()
	k := tableKey{sel.Entry.Table, sel.Entry.Key}
	if e, left := t.findLocked(k); left > 0 && e.value == sel.Entry.Value {
		t.putLocked(k, value, left)
	}
}

// send returns the server's response, or nil if it has none.
func (e *exchange) send() *Response {
	out := e.tx.Request().Clone(e.ctx)
	out.Body = newBody(e.body)
	e.result.Sent = out
	if e.vs.Respond == nil {
		return &Response{Status: http.StatusOK, Header: http.Header{}}
	}
	resp, err := e.vs.Respond(e.tx.Addr, out)
	out.Body = newBody(e.body) // Respond may have read it
	if err != nil || resp == nil || resp.Status == 0 {
		return nil
	}
	if resp.Header == nil {
		resp.Header = http.Header{}
	}
	return resp
}

func newBody(b []byte) io.ReadCloser {
	if len(b) == 0 {
		return http.NoBody
	}
	return io.NopCloser(bytes.NewReader(b))
}
