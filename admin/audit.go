package admin

import (
	"cmp"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"
)

// auditRing is how many changes are kept.
const auditRing = 256

// A changeView is one change, or one that was refused.
type changeView struct {
	Time      time.Time `json:"time"`             // when it was asked for
	Who       string    `json:"who"`              // who asked, such as "uid 0 pid 4711" or "token ci"
	Remote    string    `json:"remote"`           // where from: address and port, or "unix"
	Action    string    `json:"action"`           // method and pattern of the route, or what limpet did itself
	VS        string    `json:"vs,omitempty"`     // the virtual service
	Target    string    `json:"target,omitempty"` // what was changed; keys of entries are hashed
	From      string    `json:"from,omitempty"`   // what it was before
	To        string    `json:"to,omitempty"`     // what it was to be
	Result    string    `json:"result"`           // "done", or the code of the problem
	RequestID string    `json:"request_id"`       // the header X-Request-Id of the answer
}

// An auditLog has the latest changes.
type auditLog struct {
	mu   sync.Mutex
	ring []changeView // the oldest first
}

func (l *auditLog) add(v changeView) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.ring) == auditRing {
		l.ring = slices.Delete(l.ring, 0, 1)
	}
	l.ring = append(l.ring, v)
}

// latest returns the changes, the latest first.
func (l *auditLog) latest() []changeView {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := slices.Clone(l.ring)
	slices.Reverse(all)
	return all
}

// audit notes a change and its result; p is nil if it was done. Refusals to
// callers that are not known are noted only as often as wrong tokens are
// allowed, as anybody can cause them.
func (c *call) audit(p *problem) {
	if !c.changes() {
		return
	}
	if p != nil && c.caller.role == 0 && (p.Status == http.StatusTooManyRequests || !c.audited.Take(c.source(), 1, c.now())) {
		return
	}
	v := c.change
	v.Action = c.r.Method
	if c.route != nil {
		v.Action += " " + c.route.pattern
	}
	v.Who, v.Remote, v.RequestID = cmp.Or(c.caller.who, "unknown"), c.caller.remote, c.id
	v.Result = "done"
	if p != nil {
		v.Result = p.Code
	}
	c.Admin.noteChange(v)
}

// changes reports whether the request is for a change, or looks like one
// although there is no such route.
func (c *call) changes() bool {
	if c.route != nil {
		return c.route.change
	}
	return !slices.Contains([]string{http.MethodGet, http.MethodHead, http.MethodOptions}, c.r.Method)
}

// noteChange logs a change, keeps it, and sends it to those who watch.
func (a *Admin) noteChange(v changeView) {
	v.Time = time.Now().UTC()
	a.changes.add(v)
	a.log.Warn("admin change", slog.String("who", v.Who), slog.String("remote", v.Remote), slog.String("action", v.Action),
		slog.String("vs", v.VS), slog.String("target", v.Target), slog.String("from", v.From), slog.String("to", v.To),
		slog.String("result", v.Result), slog.String("request_id", v.RequestID))
	a.events.publish("change", v, 0, true)
}

// noteOwn notes a change that nobody asked for.
func (a *Admin) noteOwn(action, vs, target, from, to string) {
	a.noteChange(changeView{Who: "limpet", Action: action, VS: vs, Target: target, From: from, To: to, Result: "done"})
}

func listAudit(c *call) (any, error) { return listOf(c.Admin.changes.latest()), nil }
