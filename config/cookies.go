package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/persistence"
)

// A cookieUse is a profile in a service that identifies clients by cookies.
//
// If clients send the cookies of one use to another as well, the second one
// takes them for its own, or overwrites them. Cookies are not kept apart by
// port, so services at different listeners meet if they have a host in common.
type cookieUse struct {
	*member
	profile limpet.PersistenceProfile
	path    string   // of the profile
	sets    bool     // it writes cookies, and does not only read them
	names   []string // of the cookies
	domain  string   // of the cookies; empty: their host
}

// cookieUses are those of a service.
func (m *member) cookieUses(cfg *limpet.Config) (uses []*cookieUse) {
	all := profilesOf(cfg)
	for _, target := range slices.Sorted(maps.Keys(all)) {
		u := &cookieUse{member: m, profile: all[target]}
		switch p := u.profile.(type) {
		case *persistence.HTTPCookie:
			u.names, u.sets = p.CookieNames(), true
		case *persistence.AppCookie:
			u.names = []string{p.Name()}
		default:
			continue
		}
		if slices.ContainsFunc(uses, func(other *cookieUse) bool { return other.profile == u.profile }) {
			continue
		}
		made, path := m.madeFor(target)
		if c, ok := made.(*httpCookie); ok {
			u.domain = strings.ToLower(strings.Trim(c.Domain, "."))
		}
		u.path = path
		uses = append(uses, u)
	}
	return uses
}

// madeFor is what the file says of the profile of a target, and where.
func (m *member) madeFor(target string) (sessionProfile, string) {
	choice, name := m.builder.config.Persistence, m.wants(target)
	if name == "" {
		name = choice.name
	}
	if name != "" {
		made, path, _ := m.definition(name)
		return made, path
	}
	if c, ok := choice.own.(httpCookie); ok {
		return &c, fielderr.Join(m.prefix, "persistence")
	}
	return choice.own, fielderr.Join(m.prefix, "persistence")
}

// scopes are the hosts to which clients send the cookies, as services name
// them; one that is empty stands for any.
func (u *cookieUse) scopes() []string {
	switch {
	case u.domain != "":
		return []string{u.domain, "*." + u.domain}
	case len(u.hosts) == 0:
		return []string{""}
	}
	return u.hosts
}

// wider are the scopes with all hosts of a scope, itself first.
func wider(scope string) []string {
	all := []string{scope}
	rest, _ := strings.CutPrefix(scope, "*.")
	for _, after, ok := strings.Cut(rest, "."); ok; _, after, ok = strings.Cut(after, ".") {
		all = append(all, "*."+after)
	}
	if scope != "" {
		all = append(all, "")
	}
	return all
}

// meets reports whether clients send the cookies of u to other as well, whose
// scope is the same or a wider one. At one listener, the service with the
// narrower host has the requests.
func (u *cookieUse) meets(other *cookieUse, same bool, listeners []*door) bool {
	switch {
	case u == other || !u.sets && !other.sets:
		return false
	case u.member == other.member || same || u.domain != "" || other.domain != "":
		return true
	}
	return slices.ContainsFunc(listeners, func(d *door) bool { return other.servedAt(d.name) && !u.servedAt(d.name) })
}

// warnOfSharedCookies warns of cookies that clients send to two uses.
func warnOfSharedCookies(uses []*cookieUse, listeners []*door) {
	type cookie struct{ name, scope string }
	known := map[cookie][]*cookieUse{}
	for _, u := range uses {
		for _, name := range u.names {
			for _, scope := range u.scopes() {
				known[cookie{name, scope}] = append(known[cookie{name, scope}], u)
			}
		}
	}
	warned := map[*cookieUse]bool{}
	for _, u := range uses {
		for _, name := range u.names {
			for _, scope := range u.scopes() {
				for _, w := range wider(scope) {
					all := known[cookie{name, w}]
					if w == scope {
						all = all[:slices.Index(all, u)] // the later one has the warning
					}
					i := slices.IndexFunc(all, func(other *cookieUse) bool { return !warned[other] && u.meets(other, w == scope, listeners) })
					if i >= 0 && !warned[u] {
						warned[u] = true
						u.warnOfCookie(name, all[i])
					}
				}
			}
		}
	}
}

// warnOfCookie warns of a cookie that is that of another use, too.
func (u *cookieUse) warnOfCookie(name string, other *cookieUse) {
	text := fmt.Sprintf("the cookie %s is also that of %s", fielderr.Quote(name), other.path)
	at, _ := u.file.nearest(other.path)
	if at.source != nil {
		text += fmt.Sprintf(" (%s:%d:%d)", at.source.name, at.line, at.column)
	}
	path := u.path
	if u.member != other.member {
		text += fmt.Sprintf(" in service %s, for the same host", fielderr.Quote(other.name))
		if u.path == other.path {
			path = u.prefix
		}
	}
	u.warnAt(path, fmt.Errorf("%s: clients lose their servers", text))
}
