package persistence

import (
	"errors"
	"iter"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// DefaultAppCookieTimeout is the default of [AppCookieConfig.Timeout]: twenty minutes, as many
// application servers keep sessions.
const DefaultAppCookieTimeout = 20 * time.Minute

// An AppCookieConfig configures an [AppCookie].
type AppCookieConfig struct {
	// Name is the name of the application's cookie, such as JSESSIONID, at most 128 bytes. It must
	// be set.
	Name string

	// Timeout is how long a session without requests is remembered. Zero and negative mean
	// [DefaultAppCookieTimeout]; the longest is [DefaultMaxLifetime].
	Timeout time.Duration

	// MaxEntries is how many sessions are remembered. The default is [DefaultMaxEntries]. When there
	// are more, those that did not come back go first. Their memory is bounded besides, by
	// [DefaultMaxTableBytes].
	MaxEntries int

	// Sessions, if not nil, keeps the servers instead of the profile's own memory, so that they
	// survive a restart or are shared; see [Sessions]. MaxEntries is then ignored.
	Sessions Sessions

	// Table is the name of the table of Sessions. No two profiles should share one.
	Table string
}

// An AppCookie is a persistence profile that knows clients by a cookie of the application itself, or
// by a query parameter of the same name if the request does not have the cookie. It learns which
// server a session is on when a response sets the cookie, or when a request brings one that is not
// known yet, and forgets it when a response deletes the cookie. It keeps the servers in memory, unless
// it is told to keep them elsewhere.
//
// Values longer than [DefaultMaxKeyBytes] are ignored. The methods may be called concurrently. Make
// one with [NewAppCookie].
type AppCookie struct {
	name     string
	sessions sessions[string]
}

// NewAppCookie returns a profile without sessions. The error names every field that cannot be.
func NewAppCookie(c AppCookieConfig) (*AppCookie, error) {
	if c.Name == "" {
		return nil, errors.New("persistence: Name: is missing")
	}
	if faults := checkName(c.Name); len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return &AppCookie{
		name: strings.Clone(c.Name),
		sessions: sessions[string]{
			Table:   newStringTable(Options{MaxEntries: c.MaxEntries, Sliding: true}.withDefaults()),
			timeout: positive(c.Timeout, DefaultAppCookieTimeout),
			shared:  c.Sessions,
			table:   strings.Clone(c.Table),
			text:    func(session string) string { return session },
		},
	}, nil
}

// Find returns the server of the session that the request names and starts its timeout anew.
func (p *AppCookie) Find(r *http.Request, _ netip.Addr) (server string, ok bool) {
	session := p.session(r)
	if session == "" {
		return "", false
	}
	return p.sessions.find(r, session)
}

// Bind remembers server for the session that the response header h begins, or else for the one that
// the request names.
func (p *AppCookie) Bind(h http.Header, r *http.Request, _ netip.Addr, server string) {
	set := false
	for _, line := range h["Set-Cookie"] {
		if !strings.HasPrefix(strings.TrimLeft(line, " \t"), p.name) {
			continue
		}
		c, err := http.ParseSetCookie(line)
		if err != nil || c.Name != p.name {
			continue
		}
		set = true
		if c.Value == "" || c.MaxAge < 0 || !c.Expires.IsZero() && c.MaxAge == 0 && c.Expires.Before(time.Now()) {
			p.sessions.forget(r, p.session(r))
		} else {
			p.bind(r, c.Value, server)
		}
	}
	if !set {
		p.bind(r, p.session(r), server)
	}
}

// CountByServer returns how many sessions are remembered in memory for each server, like
// [CountByValue].
func (p *AppCookie) CountByServer() map[string]int { return CountByValue(p.sessions.Table) }

// Stats returns the counters of the profile's table in memory.
func (p *AppCookie) Stats() Stats { return p.sessions.Stats() }

func (p *AppCookie) bind(r *http.Request, session, server string) {
	if session == "" || len(session) > DefaultMaxKeyBytes || len(server) > DefaultMaxValueBytes {
		return
	}
	if bound, _, ok := p.sessions.Peek(session); !ok || bound != server {
		session, server = detach(session, server)
	}
	p.sessions.bind(r, session, server)
}

// session returns the session that a request names, or "".
func (p *AppCookie) session(r *http.Request) string {
	for value := range cookieValues(r, p.name) {
		if value != "" {
			return value
		}
	}
	if r.URL == nil {
		return ""
	}
	for query := r.URL.RawQuery; query != ""; {
		var parameter string
		parameter, query, _ = strings.Cut(query, "&")
		name, value, _ := strings.Cut(parameter, "=")
		if name != p.name || value == "" {
			continue
		}
		if value, err := url.QueryUnescape(value); err == nil {
			return value
		}
	}
	return ""
}

// cookieValues returns an iterator over the values of the request's cookies of that name, without
// the quotes some of them have (RFC 6265, section 4.1.1). It allocates nothing.
func cookieValues(r *http.Request, name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, line := range r.Header["Cookie"] {
			for line != "" {
				var pair string
				pair, line, _ = strings.Cut(line, ";")
				key, value, _ := strings.Cut(pair, "=")
				if strings.Trim(key, " \t") != name {
					continue
				}
				value = strings.Trim(value, " \t")
				if n := len(value); n > 1 && value[0] == '"' && value[n-1] == '"' {
					value = value[1 : n-1]
				}
				if !yield(value) {
					return
				}
			}
		}
	}
}
