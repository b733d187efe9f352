package persistence

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/limpetlb/limpet/internal/bounds"
	"github.com/limpetlb/limpet/internal/fielderr"
)

// An AppCookieConfig configures an [AppCookie].
type AppCookieConfig struct {
	// Name is the name of the application's cookie, such as JSESSIONID, at most
	// 128 bytes. It is required.
	Name string

	// Timeout is how long the profile remembers a session without requests.
	// Zero means twenty minutes, as long as many application servers keep
	// sessions; the longest is [DefaultMaxLifetime]. With Sessions, a session
	// may end up to a tenth earlier: a request renews its binding only when a
	// tenth of Timeout has passed.
	Timeout time.Duration `default:"20m" min:"0s" max:"168h"`

	// MaxAge is the longest time that a session keeps its server, however often
	// it is used. Zero means no limit. More than [DefaultMaxLifetime], or than
	// the MaxLifetime of the store in Sessions, means that.
	MaxAge time.Duration `min:"0s"`

	// MaxEntries is how many sessions the profile remembers for each target.
	// The default is [DefaultMaxEntries], the largest 1<<30. A full table
	// evicts sessions that were not used again first. [DefaultMaxTableBytes]
	// also bounds the memory of each target.
	MaxEntries int `default:"1_048_576" min:"1" max:"1_073_741_824"`

	// Sessions, if not nil, stores the bindings in place of the profile's own
	// memory, so that they survive a restart or are shared by several
	// instances; see [Sessions]. MaxEntries is then ignored.
	Sessions Sessions

	// Table names the tables in Sessions. Two profiles must not have the same.
	// The default is "appcookie/" and Name.
	Table string
}

// maxSessionTries is how many sessions of one request are looked up.
const maxSessionTries = 8

// An AppCookie is a persistence profile that identifies clients by the session
// of the application. A request names its session in a cookie, in a path
// parameter (/cart;jsessionid=1234, in any letter case) or in a query
// parameter, each with the name of the cookie. If a request names several
// sessions, the first bound one applies, in the order of this list; if none is
// bound, the first one is bound. At most eight are looked at.
//
// The profile learns the server of a session when a response sets the cookie,
// or when a request names a session that is not bound. It forgets a session
// when a response deletes the cookie. It stores bindings in memory, or in the
// Sessions of its configuration. It parses cookies like browsers, which accept
// more than servers may send: quotes, blanks and JSON in values.
//
// Values longer than [DefaultMaxKeyBytes] are ignored. The methods may be
// called concurrently. Create one with [NewAppCookie].
type AppCookie struct {
	name     string
	sessions sessions[string]
}

// NewAppCookie returns a profile without sessions. The error joins a
// [*FieldError] for each fault.
func NewAppCookie(c AppCookieConfig) (*AppCookie, error) {
	var faults fielderr.List
	checkName(c.Name, &faults)
	p := &AppCookie{name: strings.Clone(c.Name)}
	bounds.Check("", c, &faults)
	bounds.SetDefaults(&c)
	p.sessions.maxEntries = c.MaxEntries
	p.sessions.make = func() *Table[string, string] {
		return newStringTable(Options{MaxEntries: p.sessions.maxEntries, Sliding: true}.withDefaults())
	}
	p.sessions.text = func(session string) string { return session }
	p.sessions.parse = func(text string) (string, error) { return strings.Clone(text), nil }
	p.sessions.init(c.Timeout, c.MaxAge, c.Sessions, c.Table, "appcookie/"+p.name, &faults)
	if err := faults.ErrIn(c); err != nil {
		return nil, err
	}
	return p, nil
}

// Targets creates the tables of the targets that use the profile, like
// [ClientIP.Targets]. The error is always nil.
func (p *AppCookie) Targets(_ string, all []string, has func(target, server string) bool) error {
	p.sessions.setTargets(all, has)
	return nil
}

// Find returns the server that the request's session is bound to in the target,
// renews the binding, and returns its remaining time. A negative remaining is
// the time since the binding expired. The error is [ErrNoKey] if the request
// names no session, or an error of the Sessions.
func (p *AppCookie) Find(r *http.Request, _ netip.Addr, target string) (server string, remaining time.Duration, err error) {
	_, server, remaining, err = p.find(r, target)
	p.sessions.noteFound(r, server)
	return server, remaining, err
}

// Peek is Find without renewing the binding, and counts nothing. The error
// wraps [errors.ErrUnsupported] if the Sessions have no method Peek.
func (p *AppCookie) Peek(r *http.Request, _ netip.Addr, target string) (server string, remaining time.Duration, err error) {
	tries := 0
	for s := range p.named(r) {
		if server, remaining, err = p.sessions.peek(r, target, s); server != "" || err != nil {
			return server, remaining, err
		}
		if tries++; tries == maxSessionTries {
			break
		}
	}
	if tries == 0 {
		return "", 0, ErrNoKey
	}
	return "", 0, nil
}

// find returns the first session that is bound and its server, else the first
// session.
func (p *AppCookie) find(r *http.Request, target string) (session, server string, remaining time.Duration, err error) {
	tries := 0
	for s := range p.named(r) {
		var left time.Duration
		server, left, err = p.sessions.find(r, target, s)
		if tries++; tries == 1 || server != "" {
			session = s
		}
		if server != "" || err != nil {
			return session, server, left, err
		}
		if remaining == 0 {
			remaining = left
		}
		if tries == maxSessionTries {
			break
		}
	}
	if tries == 0 {
		err = ErrNoKey
	}
	return session, "", remaining, err
}

// Claim binds the request's session to server, unless it is bound to a server
// other than instead, and returns the server that it is bound to afterwards. If
// the request names no session, Claim binds nothing and returns server. The
// error is an error of the Sessions, or says that server is longer than 255
// bytes.
func (p *AppCookie) Claim(r *http.Request, _ netip.Addr, target, server, instead string) (bound string, err error) {
	if err := checkServer(server); err != nil {
		return server, err
	}
	session, several := "", false
	for s := range p.named(r) {
		if session != "" {
			several = true
			break
		}
		session = s
	}
	if several { // one of them may be bound
		if session, bound, _, err = p.find(r, target); err != nil || bound != "" && bound != instead {
			return cmp.Or(bound, server), err
		}
	}
	if session == "" {
		return server, nil
	}
	return p.sessions.claim(r, target, strings.Clone(session), server, instead)
}

// Bind binds each session that the response header h creates to server,
// whatever it was bound to. If the request already named that session, Bind
// only renews its binding, and binds it to server if it is not bound; to move a
// session, use [AppCookie.Claim]. A late response therefore cannot undo a
// claim. If h does not set the cookie, Bind treats the session of the request
// in the same way.
//
// If h deletes the cookie, Bind removes the binding of a session: the one that
// h names, else the one in the request's cookie, else the one in its URL. If
// the cookie occurs with several values, Bind removes none, because any of them
// may be the deleted one. The error is an error of the Sessions, or says that
// server is longer than 255 bytes.
func (p *AppCookie) Bind(h http.Header, r *http.Request, _ netip.Addr, target, server string) (err error) {
	if err := checkServer(server); err != nil {
		return err
	}
	set, deleted := false, ""
	for c := range p.answered(h) {
		set = true
		switch {
		case c.deletes && p.brings(r, c.value):
			deleted = c.value
		case c.deletes && deleted == "":
			deleted = p.only(r)
		case c.deletes || !isSession(c.value):
		case p.brings(r, c.value):
			err = cmp.Or(err, p.sessions.renew(r, target, strings.Clone(c.value), server))
		default:
			err = cmp.Or(err, p.sessions.put(r, target, strings.Clone(c.value), server))
		}
	}
	if deleted != "" && !p.sets(h, deleted) {
		err = cmp.Or(err, p.sessions.forget(r, target, deleted))
	}
	if set {
		return err
	}
	session, bound, _, err := p.find(r, target)
	if bound != "" || err != nil {
		if errors.Is(err, ErrNoKey) {
			err = nil
		}
		return err
	}
	_, err = p.sessions.claim(r, target, strings.Clone(session), server, "")
	return err
}

// answered returns an iterator over the cookies of the profile's name that a
// response header sets. One without a value deletes the cookie.
func (p *AppCookie) answered(h http.Header) iter.Seq[setCookie] {
	return func(yield func(setCookie) bool) {
		for _, line := range h["Set-Cookie"] {
			if !strings.HasPrefix(strings.TrimLeft(line, cookieBlanks), p.name) {
				continue
			}
			c, ok := parseSetCookie(line, time.Now())
			if !ok || c.name != p.name {
				continue
			}
			c.deletes = c.deletes || c.value == ""
			if !yield(c) {
				return
			}
		}
	}
}

// sets reports whether a response header sets a session, such as for another
// path.
func (p *AppCookie) sets(h http.Header, session string) bool {
	for c := range p.answered(h) {
		if !c.deletes && c.value == session {
			return true
		}
	}
	return false
}

// brings reports whether a request names a session.
func (p *AppCookie) brings(r *http.Request, session string) bool {
	for named := range p.named(r) {
		if named == session {
			return true
		}
	}
	return false
}

// only returns the session that the cookies of a request name, else that of its
// URL, "" if there are several.
func (p *AppCookie) only(r *http.Request) (session string) {
	if r == nil {
		return ""
	}
	for value := range cookieValues(r, p.name) {
		switch {
		case !isSession(value) || value == session:
		case session != "":
			return ""
		default:
			session = value
		}
	}
	if session != "" {
		return session
	}
	for value := range p.named(r) {
		if session != "" && value != session {
			return ""
		}
		session = value
	}
	return session
}

// Keep renews the binding of the request's session, if there is one. Call it
// while a connection stays open.
func (p *AppCookie) Keep(r *http.Request, _ netip.Addr, target string) error {
	_, _, _, err := p.find(r, target)
	if errors.Is(err, ErrNoKey) {
		return nil
	}
	return err
}

// Source returns where the profile finds bindings: [FromMemory], or "" if its
// Sessions are a shared store, which reports the source of each look-up with
// [NoteSource].
func (p *AppCookie) Source() Source { return p.sessions.source() }

// Timeout returns how long the profile remembers a session without requests.
func (p *AppCookie) Timeout() time.Duration { return p.sessions.timeout }

// Count returns how many sessions are bound to the given servers in the target,
// or to any server if none is given. The error is an error of the Sessions, or
// wraps [errors.ErrUnsupported] if they cannot count.
func (p *AppCookie) Count(ctx context.Context, target string, servers ...string) (n int, err error) {
	return p.sessions.count(ctx, target, servers)
}

// Adopt takes over the sessions of targets, or of all targets if none is named,
// that old has in memory. It reports whether old is an *AppCookie with the same
// Name. It works like [ClientIP.Adopt].
func (p *AppCookie) Adopt(old any, targets ...string) bool {
	o, ok := old.(*AppCookie)
	return ok && o != nil && o.name == p.name && p.sessions.adopt(&o.sessions, targets)
}

// Stats returns the sum of the counters of the profile's tables in memory.
func (p *AppCookie) Stats() Stats { return p.sessions.stats() }

// named returns an iterator over the sessions that a request names: by its
// cookies, by its path, by its query.
func (p *AppCookie) named(r *http.Request) iter.Seq[string] {
	return func(yield func(string) bool) {
		if r == nil {
			return
		}
		for value := range cookieValues(r, p.name) {
			if isSession(value) && !yield(value) {
				return
			}
		}
		if r.URL == nil {
			return
		}
		for value := range pathParameters(r.URL, p.name) {
			if isSession(value) && !yield(value) {
				return
			}
		}
		for query := r.URL.RawQuery; query != ""; {
			var parameter string
			parameter, query, _ = strings.Cut(query, "&")
			name, value, _ := strings.Cut(parameter, "=")
			if name != p.name {
				continue
			}
			if value, err := url.QueryUnescape(value); err == nil && isSession(value) && !yield(value) {
				return
			}
		}
	}
}

func isSession(value string) bool { return value != "" && len(value) <= DefaultMaxKeyBytes }

// pathParameters returns an iterator over the values of the parameters of that
// name, in any letter case, in all segments of a path.
func pathParameters(u *url.URL, name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		path, escaped := u.Path, u.RawPath != ""
		if escaped {
			path = u.RawPath
		}
		for {
			_, rest, ok := strings.Cut(path, ";")
			if !ok {
				return
			}
			end := strings.IndexAny(rest, ";/")
			if end < 0 {
				end = len(rest)
			}
			path = rest[end:]
			key, value, _ := strings.Cut(rest[:end], "=")
			if !equalFold(key, name) {
				continue
			}
			if escaped {
				var err error
				if value, err = url.PathUnescape(value); err != nil {
					continue
				}
			}
			if !yield(value) {
				return
			}
		}
	}
}
