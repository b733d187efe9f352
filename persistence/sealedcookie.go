package persistence

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"time"
)

// The value of a cookie is version, ".", key ID, ".", and the rest in base64.
// Times are seconds since 1970 in 8 bytes. The seal covers the configured name
// and the key ID too.
//
// Version 1 does not name its target: the time it was made, the nonce, the
// sealed text and its tag. The text is the length of the server in a byte, the
// server, and zeros up to a multiple of 48.
//
// Version 2: the nonce, the sealed text and its tag. The text is the target,
// the time the client was bound to the server, the time the cookie was sent,
// the length of the server in a byte, the server, and zeros up to a multiple of
// 16, at least 80 bytes altogether. So fields can be added after the server.
const (
	cookieVersion    = "1"
	targetedVersion  = "2"
	cookieTimeBytes  = 8
	cookiePad        = 48 // an IPv6 address and port and its length fit
	targetedPad      = 16
	targetedHead     = len(targetID{}) + 2*cookieTimeBytes
	minTargetedBytes = 80  // an IPv6 address and port fit
	maxCookieValue   = 512 // of any valid cookie
	cookieClockSkew  = time.Minute
)

var cookieEncoding = base64.RawURLEncoding.Strict()

// randomKeyID is the ID of a key that is not configured.
const randomKeyID = "_"

type cookieKey struct {
	id     string
	aead   cipher.AEAD // generates and reads its nonces
	random []byte      // the secret, if it is not configured, for a Sender; else nil
}

// newCookieKey returns a key for a secret of 32 bytes.
func newCookieKey(id string, secret []byte) (cookieKey, error) {
	block, err := aes.NewCipher(secret)
	if err != nil {
		return cookieKey{}, err // not with 32 bytes
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	return cookieKey{id: strings.Clone(id), aead: aead}, err // nil with AES
}

// A keyring has the keys of a profile. They do not change once they have been
// used.
type keyring struct {
	keys []cookieKey
	used bool
}

// useKeys returns the keys, which do not change afterwards.
func (p *HTTPCookie) useKeys() []cookieKey {
	for {
		ring := p.keys.Load()
		if ring.used || p.keys.CompareAndSwap(ring, &keyring{ring.keys, true}) {
			return ring.keys
		}
	}
}

// looksSealed reports whether a value has the form of version 2, whatever key
// it was sealed with.
func looksSealed(value string) bool {
	rest, ok := strings.CutPrefix(value, targetedVersion+".")
	id, text, found := strings.Cut(rest, ".")
	return ok && found && isKeyID(id) && len(text) >= cookieEncoding.EncodedLen(minTargetedBytes) &&
		strings.Trim(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == ""
}

// A targetID stands for a target in a cookie.
type targetID [8]byte

func targetIDOf(target string) targetID {
	sum := sha256.Sum256([]byte(target))
	return targetID(sum[:8])
}

// An openedCookie is the content of a cookie.
type openedCookie struct {
	value       string // the value that was opened
	server      string
	target      targetID
	targeted    bool // it names its target
	first, last time.Time
	current     bool // sealed with the first key
}

// seal returns the value of a cookie: version 2 if it is targeted, else version
// 1, which has only the time it was last sent.
func (p *HTTPCookie) seal(c openedCookie) string {
	key := &p.useKeys()[0]
	version := cookieVersion
	var sealed, text []byte
	if c.targeted {
		version = targetedVersion
		text = make([]byte, max(minTargetedBytes, padded(targetedHead+1+len(c.server), targetedPad)))
		head := append(text[:0], c.target[:]...)
		head = binary.BigEndian.AppendUint64(head, uint64(c.first.Unix()))
		head = binary.BigEndian.AppendUint64(head, uint64(c.last.Unix()))
		head = append(head, byte(len(c.server)))
		copy(text[len(head):], c.server)
		sealed = make([]byte, 0, key.aead.Overhead()+len(text))
	} else {
		text = make([]byte, padded(1+len(c.server), cookiePad))
		text[0] = byte(len(c.server))
		copy(text[1:], c.server)
		sealed = make([]byte, 0, cookieTimeBytes+key.aead.Overhead()+len(text))
		sealed = binary.BigEndian.AppendUint64(sealed, uint64(c.last.Unix()))
	}
	sealed = key.aead.Seal(sealed, nil, text, p.bound(version, key.id, sealed))

	value := make([]byte, 0, len(version)+len(key.id)+2+cookieEncoding.EncodedLen(len(sealed)))
	value = append(append(value, version...), '.')
	value = append(append(value, key.id...), '.')
	return string(cookieEncoding.AppendEncode(value, sealed))
}

// padded returns n, or the next multiple of pad.
func padded(n, pad int) int { return (n + pad - 1) / pad * pad }

// open returns the content of the value of a cookie, however old it is.
func (p *HTTPCookie) open(value string) (c openedCookie, ok bool) {
	if len(value) > maxCookieValue || strings.ContainsAny(value, "\r\n") { // which the decoder skips
		return c, false
	}
	version, rest, _ := strings.Cut(value, ".")
	id, text, found := strings.Cut(rest, ".")
	if version != cookieVersion && version != targetedVersion || !found {
		return c, false
	}
	keys := p.useKeys()
	for i := range keys {
		key := &keys[i]
		if key.id != id {
			continue
		}
		sealed, err := cookieEncoding.DecodeString(text)
		if err != nil {
			return c, false
		}
		head := 0
		if version == cookieVersion {
			head = cookieTimeBytes
		}
		if len(sealed) < head+key.aead.Overhead() {
			return c, false
		}
		opened, err := key.aead.Open(nil, nil, sealed[head:], p.bound(version, id, sealed[:head]))
		if err != nil {
			return c, false
		}
		c = openedCookie{value: value, current: i == 0}
		if version == targetedVersion {
			if len(opened) < targetedHead {
				return c, false
			}
			c.targeted, c.target = true, targetID(opened)
			c.first, c.last = cookieTime(opened[len(c.target):]), cookieTime(opened[len(c.target)+cookieTimeBytes:])
			opened = opened[targetedHead:]
		} else {
			c.first = cookieTime(sealed)
			c.last = c.first
		}
		if len(opened) == 0 || int(opened[0]) >= len(opened) {
			return c, false
		}
		c.server = string(opened[1 : 1+int(opened[0])])
		return c, true
	}
	return c, false
}

func cookieTime(b []byte) time.Time { return time.Unix(int64(binary.BigEndian.Uint64(b)), 0) }

// bound returns the data besides its key that a cookie is bound to.
func (p *HTTPCookie) bound(version, id string, made []byte) []byte {
	b := make([]byte, 0, 64+len(p.config.Name))
	b = append(append(b, "limpet persistence cookie "...), version...)
	b = appendString(appendString(b, p.config.Name), id)
	return append(b, made...)
}
