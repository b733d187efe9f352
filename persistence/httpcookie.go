package persistence

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// DefaultCookieName is the default of [HTTPCookieConfig.Name].
const DefaultCookieName = "LIMPET_COOKIE"

// maxCookieName is how long the name of a cookie, or of a header, may be.
const maxCookieName = 128

// A CookieKey is a key that cookies are sealed with.
type CookieKey struct {
	// ID names the key in the cookies that it has sealed, which all can read: 1 to 16 letters,
	// digits, "_" and "-". It must differ from those of the other keys.
	ID string
	// Secret is 32 random bytes.
	Secret []byte
}

// String returns the ID, without the secret. Printing a key with package fmt or log/slog, or encoding it as
// JSON, does not show the secret. Package fmt does show it if the key is in a field that is not exported:
// there it cannot call this method.
func (k CookieKey) String() string { return "{ID:" + k.ID + " Secret:REDACTED}" }

// Format writes what String returns, whatever the verb.
func (k CookieKey) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(k.String())) }

// MarshalText returns what String returns.
func (k CookieKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// An HTTPCookieConfig configures an [HTTPCookie]. The zero value is useful.
type HTTPCookieConfig struct {
	// Name is the name of the cookie, at most 128 bytes. The default is [DefaultCookieName]. It is
	// also how the names of the cookies of other targets begin, see [HTTPCookie]. Profiles whose
	// servers differ need different names.
	Name string

	// Keys are the keys that cookies are opened with; the first also seals them. To change keys
	// without losing clients, first add the new key at the end, at all instances. Then put it first.
	// Drop the old key after Timeout, or if there is none, when no client has a cookie of it any more.
	// Replace a key before it has sealed 2^32 cookies.
	//
	// No keys mean a random one: then cookies are good for this profile alone, and those that adopt
	// it, until the program ends.
	Keys []CookieKey

	// Timeout is how long a cookie is good for, from when it was last sent to the client. It is sent
	// again with the first answer after a quarter of Timeout is over. So a client that pauses for
	// three quarters of Timeout keeps its server. A connection that stays open renews no cookie.
	// Zero and negative mean for ever.
	Timeout time.Duration

	// MaxAge is how long a client keeps its server at most, whatever it does. Zero and negative mean
	// no such end.
	MaxAge time.Duration

	// AlwaysSend sends the cookie with every response. By default it is sent when the request has
	// none that names the server, when a quarter of Timeout is over, and when it is not sealed with
	// the first key.
	AlwaysSend bool

	// CacheableToo also sends the cookie with responses that caches may give to other clients, those
	// with the Cache-Control public or s-maxage. By default these never have one.
	CacheableToo bool

	// PassToServers leaves the cookies in the requests that servers get; see
	// [HTTPCookie.StripRequest].
	PassToServers bool

	// HTTPOnly hides the cookie from scripts of the page.
	HTTPOnly bool
	// Secure makes the client send the cookie over TLS only. SameSite=None requires it.
	Secure bool
	// SameSite says with which requests from other sites the client sends the cookie. Zero leaves
	// it to the client.
	SameSite http.SameSite

	// Path is the path at and below which the client sends the cookie. The default is "/".
	Path string
	// Domain is the domain with whose hosts the client uses the cookie. By default it is the host
	// that sent it.
	Domain string

	// Persistent makes the client keep the cookie for Timeout, or MaxAge if that is over sooner. By
	// default, and if there is neither, it keeps it until it is closed.
	Persistent bool
}

// An HTTPCookie is a persistence profile that lets the client remember its server, in a cookie that
// only the profile can read and make. It keeps nothing in memory, and all instances with the same
// configuration understand one another's cookies.
//
// Each target has a cookie of its own, so that answers which arrive at the same time do not overwrite
// one another. The default target, or the only one, uses Name, others Name.TARGET, where bytes that
// cannot be in a name are written as %XX; if that is longer than 128 bytes it is "Name." and 16
// hexadecimal digits. The target is also sealed inside, and decides: the name only finds the cookie.
// Of several that are good the one that was sent last applies, as one of them may be left over from
// another Path. When another target becomes the default one, the old cookie moves to its new name.
//
// A cookie that is forged, damaged, too old, or made for another Name or with an unknown key is no
// cookie. With Timeout or MaxAge the clocks of instances may differ by a minute. Cookies are sealed with AES-256-GCM and a random
// nonce; their length does not tell which server they name, as long as that has at most 47 bytes.
// A client may pass its cookie on to others, like any cookie.
//
// Earlier versions had one cookie, without a target. Where there is only one target, and no MaxAge, this
// version writes the same, so that old and new instances agree during an upgrade. Where there are
// several, such a cookie is good for each target that has its server and no cookie of its own, or for
// the default target if no target has its server. It is replaced at the next answer.
//
// The methods may be called concurrently. Make one with [NewHTTPCookie].
type HTTPCookie struct {
	config HTTPCookieConfig
	keys   atomic.Pointer[keyring]
	random bool // no keys are configured

	mu      sync.Mutex                    // held to change targets
	targets atomic.Pointer[cookieTargets] // never changed, only swapped
}

const (
	maxCookieTries   = 8  // cookies of each name that are opened, for a request
	maxCookieTargets = 64 // for each of which a client may have a cookie
)

// NewHTTPCookie returns a profile. The error names every field that cannot be.
func NewHTTPCookie(c HTTPCookieConfig) (*HTTPCookie, error) {
	c.Name, c.Path, c.Domain = strings.Clone(c.Name), strings.Clone(c.Path), strings.Clone(c.Domain)
	if c.Name == "" {
		c.Name = DefaultCookieName
	}
	if c.Path == "" {
		c.Path = "/"
	}
	c.Timeout, c.MaxAge = max(c.Timeout, 0), max(c.MaxAge, 0)
	p := &HTTPCookie{config: c, random: len(c.Keys) == 0}
	p.targets.Store(&cookieTargets{})
	faults := append(checkName(c.Name), checkAttributes(c)...)
	if p.random {
		c.Keys = []CookieKey{{ID: randomKeyID, Secret: make([]byte, 32)}}
		rand.Read(c.Keys[0].Secret) // never fails
	}
	ring := &keyring{}
	seen := make(map[string]bool)
	for i, key := range c.Keys {
		if !isKeyID(key.ID) {
			faults = append(faults, fmt.Errorf("persistence: Keys[%d].ID: %q is not 1 to 16 letters, digits, _ and -", i, key.ID))
		}
		if seen[key.ID] {
			faults = append(faults, fmt.Errorf("persistence: Keys[%d].ID: %q is there twice", i, key.ID))
		}
		seen[key.ID] = true
		if len(key.Secret) != 32 {
			faults = append(faults, fmt.Errorf("persistence: Keys[%d].Secret: %d bytes, not 32", i, len(key.Secret)))
			continue
		}
		block, err := aes.NewCipher(key.Secret)
		if err != nil {
			return nil, err // not with 32 bytes
		}
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return nil, err // not with AES
		}
		ring.keys = append(ring.keys, cookieKey{id: strings.Clone(key.ID), aead: aead, random: p.random})
	}
	p.keys.Store(ring)
	p.config.Keys = nil // the secrets are the caller's
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return p, nil
}

// checkAttributes returns why browsers would not keep the cookie.
func checkAttributes(c HTTPCookieConfig) (faults []error) {
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("persistence: "+format, args...))
	}
	host, http1 := hasPrefixFold(c.Name, "__Host-"), hasPrefixFold(c.Name, "__Http-") || hasPrefixFold(c.Name, "__Host-Http-")
	switch {
	case c.Secure:
	case host, http1, hasPrefixFold(c.Name, "__Secure-"):
		fault("Secure: clients refuse a cookie named %q without it", c.Name)
	case c.SameSite == http.SameSiteNoneMode:
		fault("Secure: clients refuse a cookie with SameSite=None without it")
	}
	if http1 && !c.HTTPOnly {
		fault("HTTPOnly: clients refuse a cookie named %q without it", c.Name)
	}
	switch {
	case !strings.HasPrefix(c.Path, "/"):
		fault("Path: %q does not begin with /", c.Path)
	case (&http.Cookie{Name: "n", Path: c.Path}).Valid() != nil:
		fault("Path: %q has a character that cannot be in a cookie", c.Path)
	case host && c.Path != "/":
		fault("Path: clients refuse a cookie named %q with another one than /", c.Name)
	}
	switch {
	case c.Domain == "":
	case (&http.Cookie{Name: "n", Domain: c.Domain}).Valid() != nil:
		fault("Domain: %q is not a domain", c.Domain)
	case host:
		fault("Domain: clients refuse a cookie named %q with it", c.Name)
	}
	return faults
}

// A cookieTarget is what a profile knows of a target.
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

// with returns targets of which more replace those of the same names.
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

// Targets tells the profile which targets there are, which of them is the default one, and by has
// whether one of them has a server; has may be nil and is called concurrently. It may be called
// again at any time, and with the targets of another service: it leaves what is known of others.
// The error says that there are more than 64 targets, each of which has a cookie in every request; it
// changes nothing. Until a target is named here its cookie is Name.TARGET, and that of the target ""
// is Name.
func (p *HTTPCookie) Targets(defaultTarget string, all []string, has func(target, server string) bool) error {
	if len(all) > maxCookieTargets {
		return fmt.Errorf("persistence: %d targets have cookies of the name %s, at most %d are allowed: use a profile that keeps a table, or several with different paths",
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

// newTarget returns a target that uses the name of the configuration if it is the default one.
func (p *HTTPCookie) newTarget(name string, isDefault bool) *cookieTarget {
	t := &cookieTarget{name: strings.Clone(name), id: targetIDOf(name), own: targetCookieName(p.config.Name, name), other: p.config.Name}
	if isDefault {
		t.own, t.other = t.other, t.own
	}
	return t
}

// target returns what is known of a target.
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

// targetCookieName returns the name of the cookie of a target that is not the default one.
func targetCookieName(name, target string) string {
	const digits = "0123456789ABCDEF"
	b := append(make([]byte, 0, maxCookieName), name...)
	b = append(b, '.')
	for i := range len(target) {
		if c := target[i]; isTokenByte(c) && c != '%' {
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

func isTokenByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || isDigit(c) || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// Source returns [FromCookie].
func (p *HTTPCookie) Source() Source { return FromCookie }

// Name returns the name of the cookie of the default target, with which those of the others begin.
func (p *HTTPCookie) Name() string { return p.config.Name }

// HasRandomKey reports whether no key is configured, so that cookies are good until the program ends.
func (p *HTTPCookie) HasRandomKey() bool { return p.random }

// Find returns the server that the request's cookie for the target names, and what is left of its time.
// A negative remaining says how long ago its time was over. The error is [ErrInvalidCookie] if there are cookies of
// its name and none can be opened.
func (p *HTTPCookie) Find(r *http.Request, _ netip.Addr, target string) (server string, remaining time.Duration, err error) {
	now := time.Now()
	l := p.look(r, p.target(target), now)
	switch {
	case l.found:
		return l.cookie.server, p.left(l.cookie, now), nil
	case l.invalid && !l.opened:
		return "", 0, ErrInvalidCookie
	}
	return "", l.lapsed, nil
}

// isAhead reports whether a cookie was made at a time that is not yet, if times matter.
func (p *HTTPCookie) isAhead(c openedCookie, now time.Time) bool {
	return p.config.Timeout > 0 && now.Sub(c.last) < -cookieClockSkew || p.config.MaxAge > 0 && now.Sub(c.first) < -cookieClockSkew
}

// left returns what is left of the time of a cookie, at most 0 if it is over.
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

// A cookieLook is what was found among the cookies of a request that a target may have.
type cookieLook struct {
	cookie  openedCookie // the one that applies
	found   bool
	own     bool          // it has the name that it is written under
	invalid bool          // there are some that cannot be opened
	opened  bool          // there are some that can, whatever is in them
	sealed  bool          // one of them says that it is for this target
	lapsed  time.Duration // since the time of one of them was over, negative

	foreign openedCookie // what has the name of the configuration and is not, or not only, for this target
}

// look looks at the cookies of a request for a target.
func (p *HTTPCookie) look(r *http.Request, t *cookieTarget, now time.Time) (l cookieLook) {
	var tries [2]int
	legacy := cookieLook{} // what does not say for which target it is, among several
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
			if l.lapsed == 0 || left > l.lapsed {
				l.lapsed = min(left, -1)
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

// isFor reports whether a cookie that does not say for which target it was made is for this one: it has
// the server, or it is the default one and no other has it.
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

// Bind adds a cookie that names server to the header h, if one is needed and h is not that of an
// answer for caches. The error says that server is longer than 255 bytes, which no cookie can have.
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

// moveAlien saves a cookie that is about to be overwritten and that other targets than t need, unless they
// have cookies of their own.
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

// dropOwners takes out of targets those that have a good cookie of their own in the request, if c is not
// for them alone and younger. It looks at the cookies once.
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

// set adds a cookie to the header of an answer.
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

// isPublic reports whether caches may give an answer with this header to other clients.
func isPublic(h http.Header) bool {
	for _, line := range h["Cache-Control"] {
		for line != "" {
			var directive string
			directive, line, _ = strings.Cut(line, ",")
			name, _, _ := strings.Cut(directive, "=")
			if name = strings.Trim(name, cookieBlanks); equalFold(name, "public") || equalFold(name, "s-maxage") {
				return true
			}
		}
	}
	return false
}

// StripRequest takes the profile's cookies out of the header of a request that goes to a server, of
// all targets, and leaves the rest of it as it is, byte for byte. It does nothing with
// [HTTPCookieConfig.PassToServers]. It changes h, but not the slice of its lines Cookie.
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

// strip returns a line Cookie without the profile's cookies.
func (p *HTTPCookie) strip(line string) string {
	if !strings.Contains(line, p.config.Name) {
		return line
	}
	var b strings.Builder
	stripped, first := false, true
	for rest, more := line, true; more; {
		var pair string
		pair, rest, more = strings.Cut(rest, ";")
		if name, value, _ := cutPair(pair); p.isOurs(name, unquote(value)) {
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

// isOurs reports whether a cookie is one of the profile's: by its name, or if the target in its name
// is not known any more, by the looks of its value.
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

// Adopt takes over the random key of old, an *HTTPCookie of the same Name, so that its cookies stay
// good. If keys are configured for p, the random key opens cookies only, and they are sealed with the
// first key at the next answer; unless a key has the ID "_", which is that of the random key. A profile
// that has sealed or opened a cookie already takes over no key. Adopt reports whether the cookies of old
// are good for p, as far as that can be known. A key is for all targets, so these are ignored.
func (p *HTTPCookie) Adopt(old any, _ ...string) bool {
	o, ok := old.(*HTTPCookie)
	if !ok || o == nil || o.config.Name != p.config.Name || p.random && !o.random {
		return false
	}
	theirs := o.keys.Load().keys
	for {
		ring := p.keys.Load()
		keys := ring.keys
		if p.random {
			keys = theirs
		} else {
			for i := range theirs {
				key := theirs[i]
				if key.random && !slices.ContainsFunc(keys, func(k cookieKey) bool { return k.id == key.id }) {
					keys = append(slices.Clip(keys), key)
				}
			}
		}
		switch {
		case &keys[0] == &ring.keys[0] && len(keys) == len(ring.keys): // they are there
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

// checkName returns what is wrong with the name of a cookie or a header.
func checkName(name string) []error {
	if len(name) > maxCookieName {
		return []error{fmt.Errorf("persistence: Name: %d bytes, at most %d are allowed", len(name), maxCookieName)}
	}
	if (&http.Cookie{Name: name}).Valid() != nil {
		return []error{fmt.Errorf("persistence: Name: %q is not a token", name)}
	}
	return nil
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}
