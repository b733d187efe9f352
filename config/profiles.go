package config

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/bounds"
	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/persistence"
)

// A sessionProfile makes a [limpet.PersistenceProfile].
type sessionProfile interface {
	// profile makes the profile. It has its clients in sessions, in tables
	// whose names have name in them; if sessions is nil, in its own memory.
	// Some have no clients.
	profile(sessions persistence.Sessions, name string) (limpet.PersistenceProfile, error)
	// ownBounds are the keys of bounds for clients in its own memory that are
	// given.
	ownBounds() []string
}

type (
	clientIP   struct{ persistence.ClientIPConfig }
	appCookie  struct{ persistence.AppCookieConfig }
	httpCookie struct {
		persistence.HTTPCookieConfig
		Keys []cookieKey
	}
	customHeader struct{ persistence.CustomHeaderConfig }
)

// A profileChoice is a profile, or the name of one.
type profileChoice struct {
	name string
	own  sessionProfile
}

// read reads a choice. The name of a type is a profile of it.
func (c *profileChoice) read(d *decoder, n *yaml.Node, path string) {
	types := unions[reflect.TypeFor[sessionProfile]()]
	switch s := d.scalar(n, path); {
	case s.bad:
	case s.node != nil && !slices.Contains(typeNames(types), s.text):
		c.name = s.text
	default:
		d.union(n, reflect.ValueOf(&c.own).Elem(), path, types)
	}
}

// A namedProfile is one of its kinds.
type namedProfile struct {
	// Name is the profile's, for pools and pool groups.
	Name string
	// ClientIP binds clients by their addresses.
	ClientIP *clientIP
	// AppCookie binds clients by a cookie of the servers.
	AppCookie *appCookie
	// HTTPCookie binds clients by a cookie that limpet sets.
	HTTPCookie *httpCookie
	// CustomHeader binds clients by a header.
	CustomHeader *customHeader
}

// noProfile is the name of a pool's profile that binds nobody.
const noProfile = "none"

// kind returns the one kind that is given, and its name.
func (p namedProfile) kind() (only sessionProfile, kind string, err error) {
	n := 0
	add := func(given bool, name string, p sessionProfile) {
		if given {
			only, kind = p, name
			n++
		}
	}
	add(p.ClientIP != nil, "clientIP", p.ClientIP)
	add(p.AppCookie != nil, "appCookie", p.AppCookie)
	add(p.HTTPCookie != nil, "httpCookie", p.HTTPCookie)
	add(p.CustomHeader != nil, "customHeader", p.CustomHeader)
	if n != 1 {
		return nil, "", fmt.Errorf("profile %q: want one of clientIP, appCookie, httpCookie and customHeader", p.Name)
	}
	return only, kind, nil
}

type cookieKey struct {
	// ID is the key's, and stands in cookies.
	ID string
	// Secret is 32 random bytes.
	Secret secret
}

// A secret is written in base64.
type secret []byte

// UnmarshalText decodes base64; no error shows the text.
func (s *secret) UnmarshalText(text []byte) (err error) {
	*s, err = base64.StdEncoding.AppendDecode(nil, text)
	if err == nil && len(*s) != 32 {
		err = fmt.Errorf("%d bytes, not 32", len(*s))
	}
	if err != nil {
		err = fmt.Errorf("%w; head -c 32 /dev/urandom | base64 makes a secret", err)
	}
	return err
}

func (p clientIP) profile(sessions persistence.Sessions, name string) (limpet.PersistenceProfile, error) {
	cfg := p.ClientIPConfig
	cfg.Sessions, cfg.Table = sessions, name
	return persistence.NewClientIP(cfg)
}

func (p appCookie) profile(sessions persistence.Sessions, name string) (limpet.PersistenceProfile, error) {
	cfg := p.AppCookieConfig
	cfg.Sessions, cfg.Table = sessions, name
	return persistence.NewAppCookie(cfg)
}

func (p httpCookie) profile(persistence.Sessions, string) (limpet.PersistenceProfile, error) {
	cfg := p.HTTPCookieConfig
	for _, k := range p.Keys {
		cfg.Keys = append(cfg.Keys, persistence.CookieKey{ID: k.ID, Secret: k.Secret})
	}
	return persistence.NewHTTPCookie(cfg)
}

func (p customHeader) profile(persistence.Sessions, string) (limpet.PersistenceProfile, error) {
	return persistence.NewCustomHeader(p.CustomHeaderConfig)
}

func (p clientIP) ownBounds() (keys []string) {
	if p.MaxEntries != 0 {
		keys = append(keys, "maxEntries")
	}
	if p.MaxPerOwner != 0 {
		keys = append(keys, "maxPerOwner")
	}
	return keys
}

func (p appCookie) ownBounds() (keys []string) {
	if p.MaxEntries != 0 {
		keys = append(keys, "maxEntries")
	}
	return keys
}

func (httpCookie) ownBounds() []string   { return nil }
func (customHeader) ownBounds() []string { return nil }

// keepsClients reports whether clients that a profile has bound stay bound with
// the one that takes its place.
func keepsClients(old, now sessionProfile) bool {
	if identity(old) != identity(now) {
		return false
	}
	was, ok := reflect.TypeAssert[httpCookie](reflect.Indirect(reflect.ValueOf(old)))
	if !ok || len(was.Keys) == 0 {
		return true // the random key opens cookies, whatever seals them
	}
	is, _ := reflect.TypeAssert[httpCookie](reflect.Indirect(reflect.ValueOf(now)))
	return slices.ContainsFunc(was.Keys, func(k cookieKey) bool {
		return slices.ContainsFunc(is.Keys, func(l cookieKey) bool { return k.ID == l.ID && bytes.Equal(k.Secret, l.Secret) })
	})
}

// identity is what a profile knows its clients by.
func identity(p sessionProfile) any {
	type cookie struct {
		own  bool
		name string
	}
	switch p := reflect.Indirect(reflect.ValueOf(p)).Interface().(type) {
	case clientIP:
		bounds.SetDefaults(&p.ClientIPConfig)
		return [2]int{p.Mask4, p.Mask6}
	case appCookie:
		return cookie{false, p.Name}
	case httpCookie:
		return cookie{true, cmp.Or(p.Name, persistence.DefaultCookieName)}
	case customHeader:
		return p.Name
	}
	return nil
}

// checkProfiles makes the persistence profiles, with their clients in memory,
// and notes which pools and groups want which.
func (b *builder) checkProfiles() {
	b.profiles = map[string]limpet.PersistenceProfile{noProfile: limpet.NoPersistence}
	if b.shared != nil {
		b.profiles = maps.Clone(b.shared.profiles)
	}
	for i, np := range b.config.PersistenceProfiles {
		path := b.at("persistenceProfiles", i)
		if b.shared != nil && np.Name != noProfile {
			if _, shared := b.shared.profiles[np.Name]; shared {
				b.shadows("persistenceProfiles", i, "a persistence profile", np.Name, true)
				continue
			}
		}
		if _, taken := b.profiles[np.Name]; taken || np.Name == "" {
			b.fault(fmt.Errorf("%q is empty, taken, or stands for no profile", np.Name), "%s.name", path)
			continue
		}
		b.fault(badName(np.Name, false), "%s.name", path)
		p, kind, err := np.kind()
		if err != nil {
			b.fault(err, "%s", path)
			b.profiles[np.Name] = nil
			continue
		}
		made, err := p.profile(nil, "")
		b.fault(err, "%s.%s", path, kind)
		if err != nil {
			made = nil // it has no type then
		}
		b.profiles[np.Name] = made
	}
	b.wanted = map[string]string{}
	want := func(target, name, path string) {
		if name == "" {
			return
		}
		if _, ok := b.profiles[name]; !ok {
			b.fault(fmt.Errorf("there is no persistence profile %q", name), "%s.persistence", path)
			return
		}
		b.wanted[target] = name
	}
	for i, p := range b.config.Pools {
		want(p.Name, p.Persistence, b.at("pools", i))
	}
	for i, g := range b.config.PoolGroups {
		want(g.Name, g.Persistence, b.at("poolGroups", i))
	}
	switch c := b.config.Persistence; {
	case c.own != nil:
		_, err := c.own.profile(nil, "")
		b.fault(err, "persistence")
	case c.name != "":
		if _, ok := b.profiles[c.name]; !ok {
			b.fault(fmt.Errorf("there is no persistence profile %q", c.name), "persistence")
		}
	}
}

// bind gives pools and groups their profiles, and clients of these their place,
// when the tables of the service are there. Clients stay bound when profiles
// are made anew, since the virtual service lets them take over from those
// before.
func (b *builder) bind() {
	b.bound = map[boundProfile]limpet.PersistenceProfile{}
	b.cfg.PoolPersistence = map[string]limpet.PersistenceProfile{}
	for target := range b.wanted {
		b.want(target)
	}
	switch c := b.config.Persistence; {
	case c.own != nil:
		p, err := c.own.profile(b.clients, b.table(""))
		if err == nil {
			b.cfg.Persistence = p
		}
	case c.name != "":
		if p := b.profile(c.name, false); p != nil { // else it has a fault
			b.cfg.Persistence = p
		}
	}
}

// wants returns the name of the profile that a pool or a group names.
func (b *builder) wants(target string) string {
	if name, ok := b.wanted[target]; ok || b.shared == nil {
		return name
	}
	return b.shared.wanted[target]
}

// want gives a pool or a group, of the service or a shared one, its profile.
func (b *builder) want(target string) {
	name, own := b.wants(target), b.owns(target)
	if name == "" && own && b.confuses(b.config.Persistence.name) {
		name = b.config.Persistence.name
	}
	if name == "" {
		return
	}
	if p := b.profile(name, own); p != nil {
		b.cfg.PoolPersistence[target] = p
	}
}

// owns reports whether a target is a private pool of the service, or a private
// group that has the service's profile or names one: a group of pools that name
// profiles has the one that they have in common.
func (b *builder) owns(target string) bool {
	for _, p := range b.config.Pools {
		if p.Name == target {
			return true
		}
	}
	for _, g := range b.config.PoolGroups {
		if g.Name == target {
			return b.wanted[target] != "" || !slices.ContainsFunc(g.Members, func(m memberConfig) bool { return b.wants(m.Pool) != "" })
		}
	}
	return false
}

// confuses reports whether a profile is a shared one that goes by the names of
// targets alone, so that private pools and groups need one of their own.
func (b *builder) confuses(name string) bool {
	if b.shared == nil || b.shared.profiles[name] == nil {
		return false
	}
	made, _, _ := b.shared.definition(name)
	return hasClients(made)
}

// hasClients reports whether a profile stores its clients.
func hasClients(p sessionProfile) bool {
	switch p.(type) {
	case *clientIP, *appCookie:
		return true
	}
	return false
}

// table returns the name of the tables of a profile of the service; its own
// one has no name. Escapes keep different names apart where services share the
// tables.
func (b *builder) table(name string) string {
	if b.scope == "" {
		return name
	}
	return tableNames.Replace(b.scope) + "/" + tableNames.Replace(name)
}

var tableNames = strings.NewReplacer("%", "%25", "/", "%2F")

// profile returns the profile of a name for private pools and groups, or for
// all others; nil if it has a fault. It is the same for all of these of a
// service.
func (b *builder) profile(name string, own bool) limpet.PersistenceProfile {
	key := boundProfile{name, own && b.confuses(name)}
	if p, ok := b.bound[key]; ok {
		return p
	}
	p := b.profiles[name]
	made, _, table := b.definition(name)
	if key.own {
		table = b.table(name)
	}
	if p != nil && hasClients(made) && (key.own || b.clients != nil) {
		if moved, err := made.profile(b.clients, table); err == nil {
			p = moved
		}
	}
	b.bound[key] = p
	return p
}

// A boundProfile is a profile, or the one that private pools and groups have
// instead.
type boundProfile struct {
	name string
	own  bool
}

// definition is what the file says of a profile and where, and the name of its
// tables; nil if there is none.
func (b *builder) definition(name string) (p sessionProfile, path, table string) {
	for i, np := range b.config.PersistenceProfiles {
		if np.Name != name {
			continue
		}
		p, kind, err := np.kind()
		if err != nil {
			return nil, "", ""
		}
		table = name
		switch {
		case b.shared != nil:
			table = b.table(name)
		case len(b.file.doc.Services) > 0: // which may share the tables
			table = tableNames.Replace(name)
		}
		return p, fielderr.Join(b.prefix, b.at("persistenceProfiles", i)) + "." + kind, table
	}
	if b.shared != nil {
		return b.shared.definition(name)
	}
	return nil, "", ""
}

// warnOfBounds warns of bounds that profiles do not have in the tables of the
// service. seen are the paths that it has warned of.
func (b *builder) warnOfBounds(seen map[string]bool) {
	if b.clients == nil {
		return
	}
	look := func(p sessionProfile, path string) {
		if p == nil {
			return
		}
		for _, key := range p.ownBounds() {
			if at := path + "." + key; !seen[at] {
				seen[at] = true
				b.warnAt(at, fmt.Errorf("without effect: the clients are in the tables of the service, which have bounds of their own"))
			}
		}
	}
	for key := range b.bound {
		p, path, _ := b.definition(key.name)
		look(p, path)
	}
	if own := b.config.Persistence.own; own != nil {
		look(own, fielderr.Join(b.prefix, "persistence"))
	}
}
