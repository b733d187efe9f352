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
)

// defaultAppCookieTimeout is the default of [AppCookieConfig.Timeout]: many application servers keep
// sessions that long.
const defaultAppCookieTimeout = 20 * time.Minute

// An AppCookieConfig configures an [AppCookie].
type AppCookieConfig struct {
	// Name is the name of the application's cookie, such as JSESSIONID, at most 128 bytes. It must
	// be set.
	Name string

	// Timeout is how long a session without requests is remembered. With Sessions it may be up to a
	// tenth shorter: a request renews it only if a tenth of it is over. Zero and negative mean
	// twenty minutes; the longest is [DefaultMaxLifetime].
	Timeout time.Duration

	// MaxAge is how long a session keeps its server at most, whatever its client does. The longest is
	// [DefaultMaxLifetime], or with Sessions that of the store. Zero and negative mean no such end.
	MaxAge time.Duration

	// MaxEntries is how many sessions of each target are remembered. The default is
	// [DefaultMaxEntries]. When there are more, those that did not come back go first. Their memory
	// is bounded besides, by [DefaultMaxTableBytes].
	MaxEntries int

	// Sessions, if not nil, keeps the servers instead of the profile's own memory, so that they
	// survive a restart or are shared; see [Sessions]. MaxEntries is then ignored.
	Sessions Sessions

	// Table names the tables of Sessions. No two profiles should have the same. The default is
	// "appcookie/" and Name.
	Table string
}

// maxSessionTries is how many sessions of a request are looked up.
const maxSessionTries = 8

// An AppCookie is a persistence profile that knows clients by the session of the application itself.
// A request names its session by a cookie, by a path parameter (/cart;jsessionid=1234, in any letter
// case) or by a query parameter of the cookie's name. If it names several, the first one that is
// bound applies, in the order of this list, and only if none is bound the first one is bound; more
// than eight are not looked at.
//
// The profile learns which server a session is on when a response sets the cookie, or when a request
// brings one that is not known yet, and forgets it when a response deletes the cookie. It keeps the
// servers in memory, or in the Sessions of its configuration. Cookies are read as browsers read
// them, which accept more than the rules for servers allow: quotes, blanks and JSON in values.
//
// Values longer than [DefaultMaxKeyBytes] are ignored. The methods may be called concurrently. Make
// one with [NewAppCookie].
type AppCookie struct {
	name     string
	sessions sessions[string]
}

// NewAppCookie returns a profile without sessions. The error names every field that cannot be.
func NewAppCookie(c AppCookieConfig) (*AppCookie, error) {
	var faults []error
	if c.Name == "" {
		faults = append(faults, errors.New("persistence: Name: is missing"))
	} else {
		faults = checkName(c.Name)
	}
	p := &AppCookie{name: strings.Clone(c.Name)}
	p.sessions.maxEntries = positive(c.MaxEntries, DefaultMaxEntries)
	p.sessions.make = func() *Table[string, string] {
		return newStringTable(Options{MaxEntries: p.sessions.maxEntries, Sliding: true}.withDefaults())
	}
	p.sessions.text = func(session string) string { return session }
	if err := p.sessions.init(positive(c.Timeout, defaultAppCookieTimeout), c.MaxAge, c.Sessions, c.Table, "appcookie/"+p.name); err != nil {
		faults = append(faults, err)
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return p, nil
}

// Targets makes the tables of the targets that the profile is used for, like [ClientIP.Targets]. The
// error is always nil.
func (p *AppCookie) Targets(_ string, all []string, has func(target, server string) bool) error {
	p.sessions.setTargets(all, has)
	return nil
}

// Find returns the server that the request's session is bound to in the target, renews the binding,
// and returns what is then left of it. A negative remaining says how long ago the binding expired. The
// error is [ErrNoKey] if the request has no session, or that of the Sessions.
func (p *AppCookie) Find(r *http.Request, _ netip.Addr, target string) (server string, remaining time.Duration, err error) {
	_, server, remaining, err = p.find(r, target)
	p.sessions.noteFound(r, server)
	return server, remaining, err
}

// find returns the first session that is bound, and its server, or else the first session.
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

// Claim binds the request's session to server, unless it is bound to another one than instead, and
// returns the server that it is then bound to. A request without a session is not bound. The error is that
// of the Sessions, or says that server is longer than 255 bytes.
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

// Bind remembers server for each session that the response header h begins, whatever it was bound to.
// A session that the request has brought begins no more: Bind starts its timeout anew, and binds it to
// server if it is not bound; to move it use [AppCookie.Claim]. So an answer that comes late does not undo
// that. If h has no such cookie, Bind does the same with the session of the request.
//
// If h deletes the cookie, Bind forgets the session: the one that h names, else that of the request's
// cookie, else that of its URL. If the cookie has several values, any of them may be the one that is
// deleted, and none is forgotten. The error is that of the Sessions, or says that server is longer than
// 255 bytes.
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

// answered returns an iterator over the cookies of the profile's name in the header of an answer. One
// without a value deletes.
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

// sets reports whether an answer sets a session, such as for another path.
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

// only returns the session that the cookies of a request name, or else its URL, "" if these are several.
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

// Keep starts the timeout of the request's session anew, if it is bound. It is for connections that
// stay open.
func (p *AppCookie) Keep(r *http.Request, _ netip.Addr, target string) error {
	_, _, _, err := p.find(r, target)
	if errors.Is(err, ErrNoKey) {
		return nil
	}
	return err
}

// Source returns where the profile finds bindings: [FromMemory], or "" if its Sessions are a shared
// store, which reports the source of each look-up by [NoteSource].
func (p *AppCookie) Source() Source { return p.sessions.source() }

// Timeout returns how long a session without requests is remembered.
func (p *AppCookie) Timeout() time.Duration { return p.sessions.timeout }

// Count returns how many sessions are bound in the target to one of the servers, or to any if none is
// given. The error is that of the Sessions, or one that wraps [errors.ErrUnsupported] if they cannot
// count.
func (p *AppCookie) Count(ctx context.Context, target string, servers ...string) (n int, err error) {
	return p.sessions.count(ctx, target, servers)
}

// Adopt takes over the sessions that old, an *AppCookie with the same Name, has in memory for targets, or
// for all targets if none is named, and reports whether it is one. It is like [ClientIP.Adopt].
func (p *AppCookie) Adopt(old any, targets ...string) bool {
	o, ok := old.(*AppCookie)
	return ok && o != nil && o.name == p.name && p.sessions.adopt(&o.sessions, targets)
}

// Stats returns the sum of the counters of the profile's tables in memory.
func (p *AppCookie) Stats() Stats { return p.sessions.stats() }

// named returns an iterator over the sessions that a request names: by its cookies, by its path, by
// its query.
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

// pathParameters returns an iterator over the values of the parameters of that name, in any letter
// case, in all segments of a path.
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
