package persistence

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/limpetlb/limpet/internal/bounds"
	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/internal/httpfield"
)

// DefaultCookieName is the default of [HTTPCookieConfig.Name].
const DefaultCookieName = "LIMPET_COOKIE"

// maxCookieName is the greatest length of the name of a cookie or a header.
const maxCookieName = 128

// A CookieKey is a key for sealing cookies.
type CookieKey struct {
	// ID names the key, in clear text, in the cookies sealed with it: 1 to 16
	// letters, digits, "_" and "-". Each key needs a different one.
	ID string
	// Secret is 32 random bytes.
	Secret []byte
}

// String returns the ID without the secret. Packages fmt, log/slog and
// encoding/json do not print the secret, except that fmt prints it if the key
// is in an unexported field, where it cannot call this method.
func (k CookieKey) String() string { return "{ID:" + k.ID + " Secret:REDACTED}" }

// Format writes the result of String, whatever the verb.
func (k CookieKey) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(k.String())) }

// MarshalText returns the result of String.
func (k CookieKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// An HTTPCookieConfig configures an [HTTPCookie]. The zero value is useful.
type HTTPCookieConfig struct {
	// Name is the name of the cookie, at most 128 bytes. The default is
	// [DefaultCookieName]. The cookie names of other targets begin with it; see
	// [HTTPCookie]. Profiles with different servers need different names.
	Name string

	// Keys are the keys that open cookies; the first also seals them, so to
	// change keys without losing clients, add the new key last, then move it
	// first, then remove the old one. Do each step at all instances before the
	// next. Remove the old key after Timeout or, if there is none, when no
	// client has a cookie sealed with it. Replace a key before it has sealed
	// 2^32 cookies.
	//
	// Without keys the profile makes a random one. Its cookies are then valid
	// only for this profile and the profiles that adopt it, until the program
	// ends.
	Keys []CookieKey

	// Timeout is how long a cookie is valid after it was last sent. The profile
	// sends it again with the first response after a quarter of Timeout, so a
	// client that pauses for three quarters of Timeout keeps its server. A
	// connection that stays open renews no cookie. Zero means no limit.
	Timeout time.Duration `min:"0s"`

	// MaxAge is the longest time that a client keeps its server, however often
	// it returns. Zero means no limit.
	MaxAge time.Duration `min:"0s"`

	// AlwaysSend sends the cookie with every response. By default it is sent if
	// the request has no cookie that names the server, after a quarter of
	// Timeout, and if the cookie is not sealed with the first key.
	AlwaysSend bool

	// CacheableToo also sends the cookie with responses that caches may give to
	// other clients: those with public or s-maxage in Cache-Control. By default
	// these never have one.
	CacheableToo bool

	// PassToServers leaves the cookies in the requests to servers; see
	// [HTTPCookie.StripRequest].
	PassToServers bool

	// HTTPOnly hides the cookie from scripts in the page.
	HTTPOnly bool
	// Secure makes clients send the cookie over TLS only. SameSite=None
	// requires it.
	Secure bool
	// SameSite says with which requests from other sites clients send the
	// cookie. Zero leaves that to the client.
	SameSite http.SameSite

	// Path is the path at and below which clients send the cookie. The default
	// is "/".
	Path string
	// Domain is the domain to whose hosts clients send the cookie. By default
	// it is the host that set it.
	Domain string

	// Persistent makes clients keep the cookie for Timeout or MaxAge, whichever
	// is shorter. By default, and if there is neither, they keep it until the
	// browser closes.
	Persistent bool
}

// An HTTPCookie is a persistence profile that stores the server in a sealed
// cookie at the client. It stores nothing in memory, and all instances with the
// same configuration understand each other's cookies.
//
// Each target has a cookie of its own, so that responses that arrive at the
// same time do not overwrite each other's cookies. The default target, or the
// only one, uses Name, others Name.TARGET, with bytes that a name cannot have
// written as %XX; if that is longer than 128 bytes, it is "Name." and 16
// hexadecimal digits. The cookie also contains its target, sealed, and that
// decides; the name only finds the cookie. If several cookies are valid, the
// one sent last applies, because the others may be left over from another Path.
// When another target becomes the default, the old cookie moves to its new
// name.
//
// A cookie is ignored if it is forged, damaged, too old, made for another Name,
// or sealed with an unknown key. With Timeout or MaxAge, the clocks of
// instances may differ by up to a minute. Cookies are sealed with AES-256-GCM
// and a random nonce; their length does not reveal the server, as long as its
// text has at most 47 bytes. A client can give its cookie to others, like any
// cookie.
//
// Earlier versions had one cookie, without a target. If there is only one
// target, and no MaxAge, this version writes the same, so that old and new
// instances agree during an upgrade. If there are several, such a cookie is
// valid for each target that has its server and no cookie of its own, or for
// the default target if no target has its server. The next response replaces
// it.
//
// The methods may be called concurrently. Create one with [NewHTTPCookie].
type HTTPCookie struct {
	config HTTPCookieConfig
	keys   atomic.Pointer[keyring]
	random bool // no keys are configured

	mu      sync.Mutex                    // guards changes of targets
	targets atomic.Pointer[cookieTargets] // never changed, only swapped
}

const (
	maxCookieTries   = 8  // cookies of each name that are opened per request
	maxCookieTargets = 64 // each of which adds a cookie to every request
)

// NewHTTPCookie returns a profile. The error joins a [*FieldError] for each
// fault.
func NewHTTPCookie(c HTTPCookieConfig) (*HTTPCookie, error) {
	c.Name, c.Path, c.Domain = strings.Clone(c.Name), strings.Clone(c.Path), strings.Clone(c.Domain)
	if c.Name == "" {
		c.Name = DefaultCookieName
	}
	if c.Path == "" {
		c.Path = "/"
	}
	p := &HTTPCookie{config: c, random: len(c.Keys) == 0}
	p.targets.Store(&cookieTargets{})
	var faults fielderr.List
	bounds.Check("", c, &faults)
	checkName(c.Name, &faults)
	checkAttributes(c, &faults)
	if p.random {
		c.Keys = []CookieKey{{ID: randomKeyID, Secret: make([]byte, 32)}}
		rand.Read(c.Keys[0].Secret) // never fails
	}
	ring := &keyring{}
	seen := make(map[string]bool)
	for i, key := range c.Keys {
		path := fielderr.Index("keys", i)
		// The id is not shown: it may be the secret, exchanged.
		if !isKeyID(key.ID) {
			faults.Addf(path+".id", nil, "not 1 to 16 letters, digits, _ and -")
		}
		if seen[key.ID] {
			faults.Addf(path+".id", nil, "there is a second key with this id")
		}
		seen[key.ID] = true
		if len(key.Secret) != 32 {
			faults.Addf(path+".secret", nil, "%d bytes, not 32", len(key.Secret))
			continue
		}
		made, err := newCookieKey(key.ID, key.Secret)
		if err != nil {
			return nil, err
		}
		if p.random {
			made.random = key.Secret
		}
		ring.keys = append(ring.keys, made)
	}
	p.keys.Store(ring)
	p.config.Keys = nil // the caller owns the secrets
	if err := faults.ErrIn(c); err != nil {
		return nil, err
	}
	return p, nil
}

// checkAttributes adds the reasons why browsers would reject the cookie.
func checkAttributes(c HTTPCookieConfig, faults *fielderr.List) {
	host, http1 := hasPrefixFold(c.Name, "__Host-"), hasPrefixFold(c.Name, "__Http-") || hasPrefixFold(c.Name, "__Host-Http-")
	switch {
	case c.Secure:
	case host, http1, hasPrefixFold(c.Name, "__Secure-"):
		faults.Addf("secure", false, "clients refuse a cookie named %q without it", c.Name)
	case c.SameSite == http.SameSiteNoneMode:
		faults.Addf("secure", false, "clients refuse a cookie with SameSite=None without it")
	}
	if http1 && !c.HTTPOnly {
		faults.Addf("httpOnly", false, "clients refuse a cookie named %q without it", c.Name)
	}
	switch {
	case !strings.HasPrefix(c.Path, "/"):
		faults.Addf("path", c.Path, "does not begin with /")
	case (&http.Cookie{Name: "n", Path: c.Path}).Valid() != nil:
		faults.Addf("path", c.Path, "has a character that cannot be in a cookie")
	case host && c.Path != "/":
		faults.Addf("path", c.Path, "clients refuse a cookie named %q with another one than /", c.Name)
	}
	switch {
	case c.Domain == "":
	case (&http.Cookie{Name: "n", Domain: c.Domain}).Valid() != nil:
		faults.Addf("domain", c.Domain, "not a domain")
	case host:
		faults.Addf("domain", c.Domain, "clients refuse a cookie named %q with it", c.Name)
	}
}

// A cookieTarget is the state of a target.
type cookieTarget struct {
	name       string
	id         targetID
	own, other string // the name its cookie is written under, and another it may be found under
	only       bool   // there is no other target
	has        func(target, server string) bool
}

// cookieTargets are the targets, and the names of all their cookies.
type cookieTargets struct {
	byName  map[string]*cookieTarget
	cookies map[string]bool
}

// with returns a copy of t in which more replace the targets of the same names.
func (t *cookieTargets) with(more ...*cookieTarget) *cookieTargets {
	next := &cookieTargets{make(map[string]*cookieTarget), make(map[string]bool)}
	maps.Copy(next.byName, t.byName)
	for _, target := range more {
		next.byName[target.name] = target
	}
	for _, target := range next.byName {
		next.cookies[target.own], next.cookies[target.other] = true, true
	}
	return next
}

// Targets sets the targets that use the profile and the default one among them.
// has reports whether a target has a server; it may be nil and is called
// concurrently. Targets may be called again at any time, also with the targets
// of another service; other targets stay. It returns an error, and changes
// nothing, if there are more than 64 targets, each of which has a cookie in
// every request. The cookie of a target that was not named is Name.TARGET, and
// that of the target "" is Name.
func (p *HTTPCookie) Targets(defaultTarget string, all []string, has func(target, server string) bool) error {
	if len(all) > maxCookieTargets {
		return fmt.Errorf("%d targets have cookies of the name %s, at most %d are allowed: use a profile that keeps a table, or several with different paths",
			len(all), p.config.Name, maxCookieTargets)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var more []*cookieTarget
	for _, name := range all {
		t := p.newTarget(name, name == defaultTarget || len(all) == 1)
		t.only, t.has = len(all) == 1, has
		more = append(more, t)
	}
	p.targets.Store(p.targets.Load().with(more...))
	return nil
}

// newTarget returns a target, which uses the configured name if it is the
// default one.
func (p *HTTPCookie) newTarget(name string, isDefault bool) *cookieTarget {
	t := &cookieTarget{name: strings.Clone(name), id: targetIDOf(name), own: targetCookieName(p.config.Name, name), other: p.config.Name}
	if isDefault {
		t.own, t.other = t.other, t.own
	}
	return t
}

// target returns the target of that name.
func (p *HTTPCookie) target(name string) *cookieTarget {
	if t := p.targets.Load().byName[name]; t != nil {
		return t
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := p.targets.Load().byName[name]; t != nil {
		return t
	}
	t := p.newTarget(name, name == "")
	t.only = name == ""
	p.targets.Store(p.targets.Load().with(t))
	return t
}

// targetCookieName returns the cookie name of a target that is not the default
// one.
func targetCookieName(name, target string) string {
	const digits = "0123456789ABCDEF"
	b := append(make([]byte, 0, maxCookieName), name...)
	b = append(b, '.')
	for i := range len(target) {
		if c := target[i]; httpfield.IsTokenByte(c) && c != '%' {
			b = append(b, c)
		} else {
			b = append(b, '%', digits[c>>4], digits[c&15])
		}
	}
	if len(b) > maxCookieName {
		sum := sha256.Sum256([]byte(target))
		b = hex.AppendEncode(append(b[:0], name+"."...), sum[:8])
	}
	return string(b)
}

// Source returns [FromCookie].
func (p *HTTPCookie) Source() Source { return FromCookie }

// Name returns the name of the default target's cookie, with which the other
// names begin.
func (p *HTTPCookie) Name() string { return p.config.Name }

// CookieNames returns the names of the cookies of all targets, sorted; see
// [HTTPCookie.Targets]. Without targets it is Name alone.
func (p *HTTPCookie) CookieNames() []string {
	names := []string{p.config.Name}
	for _, t := range p.targets.Load().byName {
		names = append(names, t.own)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// HasRandomKey reports whether no key is configured, so that cookies are valid
// until the program ends.
func (p *HTTPCookie) HasRandomKey() bool { return p.random }

// Find returns the server in the request's cookie for the target, and the
// cookie's remaining time. A negative remaining is the time since the cookie
// expired. The error is [ErrInvalidCookie] if there are cookies of the name and
// none can be opened.
func (p *HTTPCookie) Find(r *http.Request, _ netip.Addr, target string) (server string, remaining time.Duration, err error) {
	now := time.Now()
	l := p.look(r, p.target(target), now)
	switch {
	case l.found:
		return l.cookie.server, p.left(l.cookie, now), nil
	case l.invalid && !l.opened:
		return "", 0, ErrInvalidCookie
	}
	return "", l.expired, nil
}

// isAhead reports whether a cookie was made in the future, if times matter.
func (p *HTTPCookie) isAhead(c openedCookie, now time.Time) bool {
	return p.config.Timeout > 0 && now.Sub(c.last) < -cookieClockSkew || p.config.MaxAge > 0 && now.Sub(c.first) < -cookieClockSkew
}

// left returns the remaining time of a cookie, at most 0 if it has expired.
func (p *HTTPCookie) left(c openedCookie, now time.Time) time.Duration {
	left := endless
	if p.config.Timeout > 0 {
		left = p.config.Timeout - now.Sub(c.last)
	}
	if p.config.MaxAge > 0 {
		left = min(left, p.config.MaxAge-now.Sub(c.first))
	}
	return left
}

// A cookieLook is the result of a look at the cookies of a request for a
// target.
type cookieLook struct {
	cookie  openedCookie // the one that applies
	found   bool
	own     bool          // it has the name under which it is written
	invalid bool          // some cannot be opened
	opened  bool          // some can be opened, whatever is in them
	sealed  bool          // one names this target
	expired time.Duration // time since one of them expired, negative

	foreign openedCookie // a cookie of the configured name that is not, or not only, for this target
}

// look looks at the cookies of a request for a target.
func (p *HTTPCookie) look(r *http.Request, t *cookieTarget, now time.Time) (l cookieLook) {
	var tries [2]int
	legacy := cookieLook{} // a cookie that does not name its target, if there are several
	for name, value := range cookiePairs(r) {
		which := 0
		if name == t.other {
			which = 1
		} else if name != t.own {
			continue
		}
		if tries[which]++; tries[which] > maxCookieTries {
			continue
		}
		c, ok := p.open(value)
		if !ok || p.isAhead(c, now) {
			l.invalid = true
			continue
		}
		l.opened = true
		mine := c.targeted && c.target == t.id
		l.sealed = l.sealed || mine
		left := p.left(c, now)
		switch {
		case c.targeted && !mine, !c.targeted && !t.only:
			if left <= 0 || name != p.config.Name {
				continue
			}
			if l.foreign.value == "" || c.last.After(l.foreign.last) {
				l.foreign = c
			}
			if !c.targeted && p.isFor(t, c.server) && (!legacy.found || c.last.After(legacy.cookie.last)) {
				legacy.cookie, legacy.found, legacy.own = c, true, which == 0
			}
		case left <= 0:
			if l.expired == 0 || left > l.expired {
				l.expired = min(left, -1)
			}
		case !l.found, c.last.After(l.cookie.last), which == 0 && !l.own && !c.last.Before(l.cookie.last):
			l.cookie, l.found, l.own = c, true, which == 0
		}
	}
	if !l.found && legacy.found {
		l.cookie, l.found, l.own = legacy.cookie, true, legacy.own
	}
	return l
}

// isFor reports whether a cookie that does not name its target is for this one:
// the target has the server, or it is the default one and no other has the
// server.
func (p *HTTPCookie) isFor(t *cookieTarget, server string) bool {
	if t.has == nil || t.has(t.name, server) {
		return true
	}
	if t.own != p.config.Name {
		return false
	}
	for _, other := range p.targets.Load().byName {
		if other.has != nil && other.has(other.name, server) {
			return false
		}
	}
	return true
}

// Bind adds a cookie that names server to the response header h, if one is
// needed and caches may not share the response. It returns an error if server
// is longer than 255 bytes.
func (p *HTTPCookie) Bind(h http.Header, r *http.Request, _ netip.Addr, target, server string) error {
	if err := checkServer(server); err != nil || !p.config.CacheableToo && isPublic(h) {
		return err
	}
	now, t := time.Now(), p.target(target)
	l := p.look(r, t, now)
	c := openedCookie{server: server, target: t.id, first: now, last: now}
	c.targeted = !t.only || l.sealed || p.config.MaxAge > 0
	if l.found && l.cookie.server == server {
		if p.isCurrent(l.cookie, c.targeted, now) {
			return nil
		}
		c.first = l.cookie.first
	} else if l.found && p.config.Timeout+p.config.MaxAge == 0 && l.cookie.last.After(now) {
		c.last = l.cookie.last.Add(time.Second) // the clock was set back; the one sent last applies
	}
	if t.own == p.config.Name {
		p.moveForeign(h, r, t, l.foreign, now)
	}
	p.set(h, t.own, p.seal(c), c, now)
	return nil
}

// isCurrent reports whether a cookie need not be sent again.
func (p *HTTPCookie) isCurrent(c openedCookie, targeted bool, now time.Time) bool {
	return !p.config.AlwaysSend && c.current && (c.targeted || !targeted) &&
		(p.config.Timeout == 0 || now.Sub(c.last) < p.config.Timeout/4)
}

// moveForeign copies a cookie that is about to be overwritten to the names of
// other targets that need it, unless they have cookies of their own.
func (p *HTTPCookie) moveForeign(h http.Header, r *http.Request, t *cookieTarget, c openedCookie, now time.Time) {
	if c.value == "" {
		return
	}
	needy := make(map[string]*cookieTarget) // by the name of its own cookie
	for _, other := range p.targets.Load().byName {
		switch {
		case other == t, other.own == p.config.Name,
			c.targeted && c.target != other.id,
			!c.targeted && (other.has == nil || !other.has(other.name, c.server)):
		default:
			needy[other.own] = other
		}
	}
	if len(needy) > 0 {
		p.dropOwners(needy, r, c, now)
	}
	for _, other := range needy {
		value := c.value
		if !c.targeted || !c.current {
			c := c
			c.target, c.targeted = other.id, true
			value = p.seal(c)
		}
		p.set(h, other.own, value, c, now)
	}
}

// dropOwners removes from targets those that have a valid cookie of their own
// in the request, unless c is for them alone and younger. It looks at the
// cookies once.
func (p *HTTPCookie) dropOwners(targets map[string]*cookieTarget, r *http.Request, c openedCookie, now time.Time) {
	tries := make(map[string]int, len(targets))
	for name, value := range cookiePairs(r) {
		t := targets[name]
		if t == nil || tries[name] == maxCookieTries {
			continue
		}
		tries[name]++
		own, ok := p.open(value)
		if ok && !p.isAhead(own, now) && own.targeted && own.target == t.id && p.left(own, now) > 0 && !(c.targeted && c.last.After(own.last)) {
			delete(targets, name)
		}
	}
}

// set adds a cookie to a response header.
func (p *HTTPCookie) set(h http.Header, name, value string, c openedCookie, now time.Time) {
	cookie := http.Cookie{
		Name:     name,
		Value:    value,
		Path:     p.config.Path,
		Domain:   p.config.Domain,
		HttpOnly: p.config.HTTPOnly,
		Secure:   p.config.Secure,
		SameSite: p.config.SameSite,
	}
	if p.config.Persistent && p.config.Timeout+p.config.MaxAge != 0 {
		cookie.MaxAge = max(1, int(min(p.left(c, now)/time.Second, 1<<31-1)))
	}
	h.Add("Set-Cookie", cookie.String())
}

// isPublic reports whether caches may give a response with this header to other
// clients.
func isPublic(h http.Header) bool {
	for directive := range httpfield.Elements(h["Cache-Control"]) {
		name, _, _ := strings.Cut(directive, "=")
		if name = strings.Trim(name, cookieBlanks); equalFold(name, "public") || equalFold(name, "s-maxage") {
			return true
		}
	}
	return false
}

// StripRequest removes the profile's cookies, of all targets, from the header
// of a request to a server. The other cookies stay as they are, byte for byte.
// It does nothing with [HTTPCookieConfig.PassToServers]. It changes h, but not
// the slice of its Cookie lines.
func (p *HTTPCookie) StripRequest(h http.Header) {
	if p.config.PassToServers {
		return
	}
	lines := h["Cookie"]
	var kept []string // nil as long as nothing has been taken out
	for i, line := range lines {
		rest := p.strip(line)
		if kept == nil && len(rest) == len(line) {
			continue
		}
		if kept == nil {
			kept = append(make([]string, 0, len(lines)), lines[:i]...)
		}
		if rest != "" || line == "" {
			kept = append(kept, rest)
		}
	}
	switch {
	case kept == nil:
	case len(kept) == 0:
		delete(h, "Cookie")
	default:
		h["Cookie"] = kept
	}
}

// strip returns a Cookie line without the profile's cookies.
func (p *HTTPCookie) strip(line string) string {
	if !strings.Contains(line, p.config.Name) {
		return line
	}
	var b strings.Builder
	stripped, first := false, true
	for rest, more := line, true; more; {
		var pair string
		pair, rest, more = strings.Cut(rest, ";")
		if c := httpfield.ParseCookie(pair); p.isOurs(c.Name, c.Unquoted()) {
			stripped = true
			continue
		}
		switch {
		case !first:
			b.WriteByte(';')
		case stripped:
			pair = strings.TrimLeft(pair, cookieBlanks)
		}
		b.WriteString(pair)
		first = false
	}
	if !stripped {
		return line
	}
	return b.String()
}

// isOurs reports whether a cookie belongs to the profile: by its name or, if
// the target in the name is unknown, by the form of its value.
func (p *HTTPCookie) isOurs(name, value string) bool {
	target, ok := strings.CutPrefix(name, p.config.Name)
	switch {
	case !ok || target != "" && target[0] != '.':
		return false
	case target == "" || looksSealed(value):
		return true
	}
	return p.targets.Load().cookies[name]
}

// Adopt takes over the random key of old, an *HTTPCookie with the same Name, so
// that its cookies stay valid. If p has configured keys, the random key only
// opens cookies, which are sealed with the first key at the next response;
// unless a key has the ID "_", which is that of the random key. A profile that
// has sealed or opened a cookie takes over no key. Adopt reports whether
// cookies of old are valid for p, as far as it can know. A key is for all
// targets, so these are ignored.
func (p *HTTPCookie) Adopt(old any, _ ...string) bool {
	o, ok := old.(*HTTPCookie)
	if !ok || o == nil || o.config.Name != p.config.Name || p.random && !o.random {
		return false
	}
	return p.adoptKeys(o.keys.Load().keys)
}

// adoptKeys takes over the keys of a profile that has the same kind of keys, or
// its random key.
func (p *HTTPCookie) adoptKeys(theirs []cookieKey) bool {
	for {
		ring := p.keys.Load()
		keys := ring.keys
		if p.random {
			keys = theirs
		} else {
			for i := range theirs {
				key := theirs[i]
				if key.random != nil && !slices.ContainsFunc(keys, func(k cookieKey) bool { return k.id == key.id }) {
					keys = append(slices.Clip(keys), key)
				}
			}
		}
		switch {
		case &keys[0] == &ring.keys[0] && len(keys) == len(ring.keys): // already there
			return true
		case ring.used:
			return false
		case p.keys.CompareAndSwap(ring, &keyring{keys: keys}):
			return true
		}
	}
}

func isKeyID(id string) bool {
	return len(id) >= 1 && len(id) <= 16 && strings.Trim(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == ""
}

// checkName adds the fault in the name of a cookie or a header.
func checkName(name string, faults *fielderr.List) {
	switch {
	case name == "":
		faults.Addf("name", nil, "missing")
	case len(name) > maxCookieName:
		faults.Addf("name", name, "longer than %d bytes", maxCookieName)
	case (&http.Cookie{Name: name}).Valid() != nil:
		faults.Addf("name", name, "not a token")
	}
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}
