package policy

import (
	"net/netip"
	"net/url"
	"strings"
)

// RequestAction is what an HTTP request rule does: one of [Modify],
// [Redirect] and [Respond], by value. Other packages cannot add to them.
//
// Redirect and Respond end the request, so nothing can accompany them.
type RequestAction interface {
	requestAction()
}

// Modify changes the request that the server gets, and passes it to the next
// rule. At least one field must be set. If several rules match, all their edits
// apply; the first pool wins, and the last host and path win.
//
// If the host or the path cannot be made, the whole rule is skipped.
type Modify struct {
	Rewrite RewriteURL // applied first
	Edits   []Edit     // applied in this order
	Pool    SwitchPool // the pool of the request
}

// RewriteURL changes the host, the path and the query that the server gets. The
// client does not see the change. The zero value changes nothing.
//
// Host and Path are templates, text with tokens such as host[0] and path[1:]:
// see the package documentation. Tokens are always those of the request as
// received.
type RewriteURL struct {
	Host string // template, perhaps with a port; empty: as it is
	Path string // template; a leading slash is added if there is none; empty: as it is
	// DropQuery removes the query.
	DropQuery bool
	// AddQuery is added to the query with "&", or becomes the query if there is
	// none. Characters that are not valid in a URL are percent-encoded.
	AddQuery string
}

// SwitchPool selects the pool of a request. The zero value selects none.
type SwitchPool struct {
	Name string // policies do not check that the pool exists; limpet.New does
	// Server is a server of the pool. Port 0 means the server's own port, and
	// the zero value any server.
	Server netip.AddrPort
	// Label is a priority label, if the pool is a group: only members with that
	// label are used, even if a script selects a server of the group later.
	// Empty means all. A rule with a label cannot name a server.
	Label string
}

func (Modify) requestAction()   {}
func (Redirect) requestAction() {}
func (Respond) requestAction()  {}

// modification is the compiled form of a Modify.
type modification struct {
	Modify
	host, path *uriTemplate
	edits      []compiledEdit
	match      *compiledMatch
}

func (a Modify) compile(c *compiler, field string, m *compiledMatch) *modification {
	if a.Rewrite == (RewriteURL{}) && len(a.Edits) == 0 && a.Pool == (SwitchPool{}) {
		c.faults.Addf(field, nil, "changes nothing")
	}
	if a.Pool.Name == "" && a.Pool.Server != (netip.AddrPort{}) {
		c.faults.Addf(field+".pool.name", nil, "a server needs a pool")
	}
	if a.Pool.Label != "" && a.Pool.Name == "" {
		c.faults.Addf(field+".pool.name", nil, "a label needs a pool group")
	}
	if a.Pool.Label != "" && a.Pool.Server != (netip.AddrPort{}) {
		c.faults.Addf(field+".pool.label", nil, "a server is chosen without a label")
	}
	if s := a.Pool.Server; s != (netip.AddrPort{}) {
		addr, err := checkAddr(s.Addr())
		if err != nil {
			c.faults.Add(field+".pool.server", s, err)
		}
		a.Pool.Server = netip.AddrPortFrom(addr, s.Port())
	}
	c.checkQuery(field+".rewrite.addQuery", a.Rewrite.AddQuery)
	mod := &modification{Modify: a, match: m, edits: c.edits(field, a.Edits)}
	mod.host = c.template(field+".rewrite.host", a.Rewrite.Host, true, m)
	mod.path = c.template(field+".rewrite.path", a.Rewrite.Path, false, m)
	mod.Edits = nil // the caller's slice is not kept
	return mod
}

// change is what a modification does to one request.
type change struct {
	*modification
	newHost, newPath string // empty: as it is
}

// change makes the parts that may fail.
func (m *modification) change(s *subjects) (change, error) {
	ch := change{modification: m}
	if m.host == nil && m.path == nil {
		return ch, nil
	}
	tokens := m.match.requestTokens(s, m.host, m.path)
	var err error
	if m.host != nil {
		ch.newHost, err = m.host.expandHost(tokens)
	}
	if m.path != nil && err == nil {
		ch.newPath, err = m.path.expandPath(tokens)
	}
	return ch, err
}

// apply changes the request.
func (ch *change) apply(tx Transaction) {
	rewrite := &ch.Rewrite
	if *rewrite == (RewriteURL{}) && len(ch.edits) == 0 {
		return // only the pool
	}
	out := tx.EditRequest()
	if ch.newHost != "" {
		out.Host = ch.newHost
	}
	if ch.newPath != "" || rewrite.DropQuery || rewrite.AddQuery != "" {
		u := new(url.URL)
		if out.URL != nil {
			*u = *out.URL // Original may share it
		}
		if ch.newPath != "" {
			u.Path, _ = url.PathUnescape(ch.newPath) // expandPath has tried it
			u.RawPath, u.Opaque = ch.newPath, ""
		}
		if rewrite.DropQuery {
			u.RawQuery, u.ForceQuery = "", false
		}
		u.RawQuery = addedQuery(u.RawQuery, string(appendURLSafe(nil, rewrite.AddQuery)))
		out.URL = u
	}
	for i := range ch.edits {
		ch.edits[i].editRequest(tx, out)
	}
}

// String describes the change in words.
func (ch *change) String() string {
	var all []string
	say := func(what, value string) {
		if value != "" {
			all = append(all, what+" "+value)
		}
	}
	say("host", ch.newHost)
	say("path", ch.newPath)
	if ch.Rewrite.DropQuery {
		all = append(all, "drop the query")
	}
	say("add the query", ch.Rewrite.AddQuery)
	for i := range ch.edits {
		all = append(all, ch.edits[i].String())
	}
	say("pool", ch.Pool.Name)
	say("label", ch.Pool.Label)
	if ch.Pool.Server.IsValid() {
		say("server", ch.Pool.Server.String())
	}
	return strings.Join(all, ", ")
}
