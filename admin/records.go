package admin

import (
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/datascript"
)

// The bounds of what is kept of each virtual service.
const (
	recordRing      = 512
	recordRingBytes = 1 << 20
	errorRing       = 64
	maxText         = 1 << 10 // of each text of a record
)

// A recordView is the record of one request, or of one denied connection. What
// is not known is missing.
type recordView struct {
	ID                uint64       `json:"id,omitempty"`               // of significant records, ascending
	VS                string       `json:"vs"`                         // the virtual service
	Start             time.Time    `json:"start"`                      // when it arrived
	DurationSeconds   float64      `json:"duration_seconds"`           // until the last byte was handed to the connection
	FirstByteSeconds  float64      `json:"first_byte_seconds"`         // until the server began to answer; 0 if it did not
	Connection        bool         `json:"connection,omitempty"`       // it is of a connection, not of a request
	Client            string       `json:"client"`                     // address and port, behind trusted proxies
	Source            string       `json:"source,omitempty"`           // the peer, if it is another
	Location          string       `json:"location,omitempty"`         // label of the client
	RequestID         string       `json:"request_id,omitempty"`       // the transaction's
	User              string       `json:"user,omitempty"`             // name
	Method            string       `json:"method,omitempty"`           // as received
	Host              string       `json:"host,omitempty"`             // as received
	Path              string       `json:"path,omitempty"`             // as received, without the query
	Proto             string       `json:"proto,omitempty"`            // such as "HTTP/1.1"
	SentPath          string       `json:"sent_path,omitempty"`        // for the server, if it is another
	Status            int          `json:"status"`                     // of the response; 0 if none was sent
	ServerStatus      int          `json:"server_status,omitempty"`    // that the server gave
	Bytes             int64        `json:"bytes"`                      // of the response's body
	Hijacked          bool         `json:"hijacked,omitempty"`         // the connection was taken over
	Closed            bool         `json:"closed,omitempty"`           // by a policy or a script
	Pool              string       `json:"pool,omitempty"`             // that was chosen
	Server            string       `json:"server,omitempty"`           // address and port
	ServerName        string       `json:"server_name,omitempty"`      // its name
	Tried             int          `json:"tried"`                      // servers
	Outcome           string       `json:"outcome,omitempty"`          // of the client's binding, such as "hit" or "repin:down"
	BindingSource     string       `json:"binding_source,omitempty"`   // where the binding was found
	Bound             string       `json:"bound,omitempty"`            // server that the client was bound to before
	GivenUp           string       `json:"given_up,omitempty"`         // why another server was tried
	NetworkRule       string       `json:"network_rule,omitempty"`     // that matched
	ConnectionLimit   string       `json:"connection_limit,omitempty"` // that was exceeded
	SecurityRule      string       `json:"security_rule,omitempty"`    // that matched
	RequestRule       string       `json:"request_rule,omitempty"`     // that replied, or changed something first
	ResponseRule      string       `json:"response_rule,omitempty"`    // that changed something first
	Significant       []string     `json:"significant,omitempty"`      // why it deserves a look
	Error             string       `json:"error,omitempty"`            // any other fault
	Scripts           []string     `json:"scripts,omitempty"`          // that failed
	Log               []string     `json:"log,omitempty"`              // lines of scripts; role Reveal
	RequestHeader     []headerView `json:"request_header,omitempty"`   // that a rule wants logged; role Reveal
	client            netip.Addr
	significantRecord bool
}

// A headerView is one line of a header.
type headerView struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// A recorder keeps the significant records of a virtual service.
type recorder struct {
	vs   *limpet.VirtualService
	hub  *hub
	stop func()

	mu     sync.Mutex
	errors []scriptErrorView // the oldest first
	all    func()            // stops the watcher for all records
	wanted int               // streams of all records
}

// record begins to keep the records of a virtual service.
func record(vs *limpet.VirtualService) *recorder {
	r := &recorder{vs: vs, hub: newHub(recordRing, recordRingBytes)}
	r.stop = vs.Watch(true, func(rec *limpet.Record) {
		for _, e := range rec.ScriptErrors {
			r.scriptFailed(rec, e)
		}
		v := viewRecord(rec)
		r.hub.publish("record", v, v.size(), true)
	})
	return r
}

// watchAll passes on records that are not significant until stop is called.
func (r *recorder) watchAll() (stop func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.wanted++; r.wanted == 1 {
		r.all = r.vs.Watch(false, func(rec *limpet.Record) {
			if len(rec.Significant) == 0 {
				r.hub.publish("record", viewRecord(rec), 0, false)
			}
		})
	}
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.wanted--; r.wanted == 0 {
			r.all()
		}
	}
}

// addrText returns an address; "" if there is none.
func addrText(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// short bounds a text of a client.
func short(text string) string {
	if len(text) > maxText {
		return strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}

func viewRecord(r *limpet.Record) *recordView {
	v := &recordView{
		VS: r.VirtualService, Start: utc(r.Start), DurationSeconds: r.Duration.Seconds(), FirstByteSeconds: r.FirstByte.Seconds(),
		Connection: r.Connection, Client: addrText(r.Client), Location: r.Location, RequestID: short(r.RequestID), User: short(r.UserID),
		Method: short(r.Method), Host: short(r.Host), Path: short(r.Path), Proto: short(r.Proto), SentPath: short(r.SentPath),
		Status: r.Status, ServerStatus: r.ServerStatus, Bytes: r.Bytes, Hijacked: r.Hijacked, Closed: r.Closed,
		Pool: r.Pool, Server: addrText(r.Server), ServerName: r.ServerName, Tried: r.Tried,
		Outcome: r.Outcome.String(), BindingSource: string(r.BindingSource), Bound: addrText(r.Bound),
		NetworkRule: r.NetworkRule, ConnectionLimit: r.ConnectionLimit, SecurityRule: r.SecurityRule, RequestRule: r.RequestRule, ResponseRule: r.ResponseRule,
		client: r.Client.Addr().Unmap(), significantRecord: len(r.Significant) > 0,
	}
	if r.Source != r.Client {
		v.Source = addrText(r.Source)
	}
	for _, s := range r.Significant {
		v.Significant = append(v.Significant, s.String())
	}
	if r.Error != nil {
		v.Error = short(r.Error.Error())
	}
	if r.GivenUp != nil {
		v.GivenUp = short(r.GivenUp.Error())
	}
	for _, e := range r.ScriptErrors {
		v.Scripts = append(v.Scripts, e.Script)
	}
	v.addSecrets(r)
	return v
}

// addSecrets adds what only the role Reveal may see.
func (v *recordView) addSecrets(r *limpet.Record) {
	for _, line := range r.Log[:min(len(r.Log), 16)] {
		v.Log = append(v.Log, short(line))
	}
	for name, values := range r.RequestHeader {
		for _, value := range values {
			v.RequestHeader = append(v.RequestHeader, headerView{short(name), short(value)})
		}
	}
	slices.SortStableFunc(v.RequestHeader, func(a, b headerView) int { return strings.Compare(a.Name, b.Name) })
}

// hide returns the record for callers with a role.
func (v *recordView) hide(role Role) recordView {
	shown := *v
	if role < Reveal {
		shown.Log, shown.RequestHeader = nil, nil
	}
	return shown
}

// size is about how many bytes the record takes.
func (v *recordView) size() int {
	n := 700
	for _, text := range []string{v.RequestID, v.User, v.Method, v.Host, v.Path, v.SentPath, v.Error, v.GivenUp} {
		n += len(text)
	}
	for _, line := range v.Log {
		n += len(line)
	}
	for _, h := range v.RequestHeader {
		n += len(h.Name) + len(h.Value)
	}
	return n
}

// recorder returns what is kept of the service that the path names.
func (c *call) recorder() (*recorder, error) {
	l := c.Admin.live
	l.mu.Lock()
	defer l.mu.Unlock()
	if r := l.services[c.vs]; r != nil {
		return r, nil
	}
	return nil, unavailable("the program does not run Admin.Run, or has only begun")
}

// listRecords answers with the significant records, the latest first.
func listRecords(c *call) (any, error) {
	r, err := c.recorder()
	if err != nil {
		return nil, err
	}
	limit, before, err := c.page()
	if err != nil {
		return nil, err
	}
	out := list[recordView]{Items: []recordView{}}
	for _, m := range r.hub.kept() {
		if before != 0 && m.id >= before {
			continue
		}
		if len(out.Items) == limit {
			out.Next = strconv.FormatUint(out.Items[limit-1].ID, 10)
			break
		}
		v := m.data.(*recordView).hide(c.caller.role)
		v.ID = m.id
		out.Items = append(out.Items, v)
	}
	return out, nil
}

// page reads the parameters of a list that goes back in time.
func (c *call) page() (limit int, before uint64, err error) {
	if text := c.query.Get("cursor"); text != "" {
		if before, err = strconv.ParseUint(text, 10, 64); err != nil || before == 0 {
			return 0, 0, badRequest("cursor", "not a cursor of this list")
		}
	}
	if text := c.query.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n == 0 {
			return 0, 0, badRequest("limit", "%s is not between 1 and %d", quote(text), maxLimit)
		}
		limit = n
	}
	limit, err = limitOf(limit)
	return limit, before, err
}

// logFilters are the parameters of the stream of records. All must fit.
var logFilters = []string{"significant", "status", "outcome", "pool", "server", "rule", "script", "client", "path"}

// streamLogs sends records as they are made.
func streamLogs(c *call) (any, error) {
	r, err := c.recorder()
	if err != nil {
		return nil, err
	}
	wants, significant, err := recordFilter(c.query)
	if err != nil {
		return nil, err
	}
	if !significant {
		stop := r.watchAll()
		defer stop()
	}
	role := c.caller.role
	return c.stream(r.hub, func(m message) bool { return wants(m.data.(*recordView)) }, func(m message) any {
		v := m.data.(*recordView).hide(role)
		v.ID = m.id
		return v
	})
}

// recordFilter makes a filter of the parameters.
func recordFilter(q url.Values) (wants func(*recordView) bool, significant bool, err error) {
	var all []func(*recordView) bool
	add := func(name string, f func(v *recordView, text string) bool) {
		if text := q.Get(name); text != "" {
			all = append(all, func(v *recordView) bool { return f(v, text) })
		}
	}
	switch q.Get("significant") {
	case "", "0", "false":
	case "1", "true":
		significant = true
	default:
		return nil, false, badRequest("significant", "%s is not allowed; allowed: 0, 1", quote(q.Get("significant")))
	}
	if err := checkStatus(q.Get("status")); err != nil {
		return nil, false, err
	}
	add("status", func(v *recordView, text string) bool {
		status := strconv.Itoa(v.Status)
		return status == text || strings.HasSuffix(text, "xx") && len(status) == 3 && status[0] == text[0]
	})
	add("outcome", func(v *recordView, text string) bool {
		return v.Outcome == text || strings.HasPrefix(v.Outcome, text+":")
	})
	add("pool", func(v *recordView, text string) bool { return v.Pool == text })
	add("server", func(v *recordView, text string) bool { return v.Server == text || v.ServerName == text })
	add("rule", func(v *recordView, text string) bool {
		return slices.Contains([]string{v.NetworkRule, v.SecurityRule, v.RequestRule, v.ResponseRule}, text)
	})
	add("script", func(v *recordView, text string) bool { return slices.Contains(v.Scripts, text) })
	add("path", func(v *recordView, text string) bool { return strings.HasPrefix(v.Path, text) })
	if text := q.Get("client"); text != "" {
		clients, err := parsePrefix(text)
		if err != nil {
			return nil, false, badRequest("client", "%s is not an address or a prefix", quote(text))
		}
		all = append(all, func(v *recordView) bool { return clients.Contains(v.client) })
	}
	return func(v *recordView) bool {
		return (!significant || v.significantRecord) && !slices.ContainsFunc(all, func(f func(*recordView) bool) bool { return !f(v) })
	}, significant, nil
}

func checkStatus(text string) error {
	if text == "" || len(text) == 3 && text[0] >= '1' && text[0] <= '5' && text[1:] == "xx" {
		return nil
	}
	if n, err := strconv.Atoi(text); err == nil && n >= 0 && n < 1000 {
		return nil
	}
	return badRequest("status", "%s is not a status or a class of them, such as 404 or 5xx", quote(text))
}

func parsePrefix(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	return netip.ParsePrefix(text)
}

// A scriptErrorView is an error of a script. Equal ones are counted.
type scriptErrorView struct {
	Script    string    `json:"script"`            // its name
	Event     string    `json:"event"`             // such as "HTTP_REQ"
	Line      int       `json:"line"`              // of the script; 0 if not known
	Message   string    `json:"message,omitempty"` // what failed, which may name keys and values; role Reveal
	Traceback string    `json:"traceback"`         // the calls in the script
	First     time.Time `json:"first"`             // when it first happened
	Last      time.Time `json:"last"`              // when it last happened
	Count     uint64    `json:"count"`             // how often
}

// scriptFailed counts an error of a script.
func (r *recorder) scriptFailed(rec *limpet.Record, e *datascript.RuntimeError) {
	v := scriptErrorView{
		Script: e.Script, Event: e.Event.String(), Line: e.Line, Message: short(e.Message), Traceback: short(e.Traceback),
		First: utc(rec.Start), Last: utc(rec.Start), Count: 1,
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.errors, func(o scriptErrorView) bool {
		return o.Script == v.Script && o.Event == v.Event && o.Line == v.Line && o.Message == v.Message && o.Traceback == v.Traceback
	})
	if i >= 0 {
		v.First, v.Count = r.errors[i].First, r.errors[i].Count+1
		r.errors = slices.Delete(r.errors, i, i+1)
	}
	if len(r.errors) == errorRing {
		r.errors = slices.Delete(r.errors, 0, 1)
	}
	r.errors = append(r.errors, v)
}

// listScriptErrors answers with the errors of scripts, the latest first.
func listScriptErrors(c *call) (any, error) {
	r, err := c.recorder()
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	all := slices.Clone(r.errors)
	r.mu.Unlock()
	slices.Reverse(all)
	for i := range all {
		if c.caller.role < Reveal {
			all[i].Message = ""
		}
	}
	return listOf(all), nil
}
