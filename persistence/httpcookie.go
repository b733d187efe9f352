package persistence

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
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

// String returns the ID, without the secret. No way of printing a key shows its secret, nor does encoding it as JSON.
func (k CookieKey) String() string { return "{ID:" + k.ID + " Secret:REDACTED}" }

// Format writes what String returns, whatever the verb.
func (k CookieKey) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(k.String())) }

// MarshalText returns what String returns.
func (k CookieKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// An HTTPCookieConfig configures an [HTTPCookie]. The zero value is useful.
type HTTPCookieConfig struct {
	// Name is the name of the cookie, at most 128 bytes. The default is [DefaultCookieName].
	// Profiles whose servers differ need different names.
	Name string

	// Keys are the keys that cookies are opened with; the first also seals them. To change keys
	// without losing clients, put the new one first where all instances already know it, and drop
	// the old one after Timeout. Replace a key before it has sealed 2^32 cookies.
	//
	// No keys mean a random one: then cookies are good for this profile alone, until the program
	// ends.
	Keys []CookieKey

	// Timeout is how long a cookie is good for, from when it was first sent to the client; what the
	// client does with it does not matter. Zero and negative mean for ever.
	Timeout time.Duration

	// AlwaysSend sends the cookie with every response, which starts Timeout anew. By default it is
	// sent when the request has none that names the server.
	AlwaysSend bool

	// HTTPOnly hides the cookie from scripts of the page.
	HTTPOnly bool
	// Secure makes the client send the cookie over TLS only.
	Secure bool
	// SameSite says with which requests from other sites the client sends the cookie. Zero leaves
	// it to the client.
	SameSite http.SameSite

	// Persistent makes the client keep the cookie for Timeout. By default, and if there is no
	// Timeout, it keeps it until it is closed.
	Persistent bool
}

// An HTTPCookie is a persistence profile that lets the client remember its server, in a cookie that
// only the profile can read and make. It keeps nothing in memory, and all instances with the same
// configuration understand one another's cookies.
//
// A cookie that is forged, damaged, too old, or made for another name or with an unknown key is no
// cookie. Clocks of instances may differ by a minute. Cookies are sealed with AES-256-GCM and a random
// nonce; their length does not tell which server they name. A client may pass its cookie on to
// others, like any cookie.
//
// The methods may be called concurrently. Make one with [NewHTTPCookie].
type HTTPCookie struct {
	config HTTPCookieConfig
	keys   []cookieKey
}

type cookieKey struct {
	id   string
	aead cipher.AEAD // makes and finds its nonces
}

// A cookie is version, ".", key ID, ".", and in base64 the time it was made (seconds since 1970, 8
// bytes) and the nonce, the sealed text and its tag. The text is the server, padded.
const (
	cookieVersion   = "1"
	cookieTimeBytes = 8
	cookiePad       = 48 // an IPv6 address and port and its length fit
	maxCookieServer = 255
	maxCookieValue  = 512 // of any cookie that is worth opening
	maxCookieTries  = 8   // cookies of the right name that are opened, for a request
	cookieClockSkew = time.Minute
)

var cookieEncoding = base64.RawURLEncoding.Strict()

// NewHTTPCookie returns a profile. The error names every field that cannot be.
func NewHTTPCookie(c HTTPCookieConfig) (*HTTPCookie, error) {
	if c.Name == "" {
		c.Name = DefaultCookieName
	}
	c.Timeout = max(c.Timeout, 0)
	p := &HTTPCookie{config: c}
	faults := checkName(c.Name)
	if !c.Secure && (hasPrefixFold(c.Name, "__Secure-") || hasPrefixFold(c.Name, "__Host-")) {
		faults = append(faults, fmt.Errorf("persistence: Secure: clients refuse a cookie named %q without it", c.Name))
	}
	if len(c.Keys) == 0 {
		c.Keys = []CookieKey{{ID: "0", Secret: make([]byte, 32)}}
		rand.Read(c.Keys[0].Secret) // never fails
	}
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
		p.keys = append(p.keys, cookieKey{strings.Clone(key.ID), aead})
	}
	p.config.Keys = nil // the secrets are the caller's
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return p, nil
}

// Find returns the server that the request's cookie names.
func (p *HTTPCookie) Find(r *http.Request, _ netip.Addr) (server string, ok bool) {
	c, ok := p.find(r)
	return c.server, ok
}

// Bind adds a cookie that names server to the header h, if one is needed. It adds none for a server
// whose name is longer than 255 bytes.
func (p *HTTPCookie) Bind(h http.Header, r *http.Request, _ netip.Addr, server string) {
	if len(server) > maxCookieServer {
		return
	}
	now := time.Now()
	made := now
	if !p.config.AlwaysSend {
		if c, ok := p.find(r); ok && c.server == server {
			if c.current {
				return
			}
			made = c.made // sealed again with the new key, but no younger
		}
	}
	cookie := http.Cookie{
		Name:     p.config.Name,
		Value:    p.seal(server, made),
		Path:     "/",
		HttpOnly: p.config.HTTPOnly,
		Secure:   p.config.Secure,
		SameSite: p.config.SameSite,
	}
	if p.config.Persistent && p.config.Timeout > 0 {
		left := made.Add(p.config.Timeout).Sub(now)
		cookie.MaxAge = max(1, int(min(left/time.Second, 1<<31-1)))
	}
	h.Add("Set-Cookie", cookie.String())
}

// openedCookie is what a cookie says.
type openedCookie struct {
	server  string
	made    time.Time
	current bool // sealed with the first key
}

// find returns what the first good cookie of the request says.
func (p *HTTPCookie) find(r *http.Request) (openedCookie, bool) {
	tries := 0
	for value := range cookieValues(r, p.config.Name) {
		if c, ok := p.open(value, time.Now()); ok {
			return c, true
		}
		if tries++; tries == maxCookieTries {
			break
		}
	}
	return openedCookie{}, false
}

// seal returns the value of a cookie.
func (p *HTTPCookie) seal(server string, made time.Time) string {
	key := &p.keys[0]
	text := make([]byte, (1+len(server)+cookiePad-1)/cookiePad*cookiePad)
	text[0] = byte(len(server))
	copy(text[1:], server)
	sealed := binary.BigEndian.AppendUint64(make([]byte, 0, cookieTimeBytes+key.aead.Overhead()+len(text)), uint64(made.Unix()))
	sealed = key.aead.Seal(sealed, nil, text, p.bound(key.id, sealed))

	value := make([]byte, 0, len(cookieVersion)+len(key.id)+2+cookieEncoding.EncodedLen(len(sealed)))
	value = append(value, cookieVersion+"."...)
	value = append(append(value, key.id...), '.')
	return string(cookieEncoding.AppendEncode(value, sealed))
}

// open returns what the value of a cookie says at a time.
func (p *HTTPCookie) open(value string, now time.Time) (c openedCookie, ok bool) {
	if len(value) > maxCookieValue || strings.ContainsAny(value, "\r\n") { // which the decoder skips
		return c, false
	}
	version, rest, _ := strings.Cut(value, ".")
	id, text, found := strings.Cut(rest, ".")
	if version != cookieVersion || !found {
		return c, false
	}
	for i := range p.keys {
		key := &p.keys[i]
		if key.id != id {
			continue
		}
		sealed, err := cookieEncoding.DecodeString(text)
		if err != nil || len(sealed) < cookieTimeBytes+key.aead.Overhead() {
			return c, false
		}
		made := sealed[:cookieTimeBytes]
		opened, err := key.aead.Open(nil, nil, sealed[cookieTimeBytes:], p.bound(id, made))
		if err != nil || len(opened) == 0 || int(opened[0]) >= len(opened) {
			return c, false
		}
		c = openedCookie{
			server:  string(opened[1 : 1+int(opened[0])]),
			made:    time.Unix(int64(binary.BigEndian.Uint64(made)), 0),
			current: i == 0,
		}
		age := now.Sub(c.made)
		return c, age >= -cookieClockSkew && (p.config.Timeout == 0 || age < p.config.Timeout)
	}
	return c, false
}

// bound returns the data that a cookie is bound to, beside its key.
func (p *HTTPCookie) bound(id string, made []byte) []byte {
	b := make([]byte, 0, 64+len(p.config.Name))
	b = append(b, "limpet persistence cookie "+cookieVersion...)
	b = appendString(appendString(b, p.config.Name), id)
	return append(b, made...)
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
