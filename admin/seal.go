package admin

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"
)

// A sealer hides the keys of entries, which may be session ids, under keys that
// end with the process.
type sealer struct {
	mac  [32]byte
	aead cipher.AEAD
}

func newSealer() *sealer {
	s := new(sealer)
	_, _ = rand.Read(s.mac[:]) // never fails
	var key [32]byte
	_, _ = rand.Read(key[:])
	block, err := aes.NewCipher(key[:])
	if err == nil {
		s.aead, err = cipher.NewGCMWithRandomNonce(block)
	}
	if err != nil {
		panic(err) // the length of the key is right
	}
	return s
}

// hash returns a short text that is the same for the same key of a table.
func (s *sealer) hash(table, text string) string {
	h := hmac.New(sha256.New, s.mac[:])
	h.Write([]byte(table + "\x00" + text))
	return hex.EncodeToString(h.Sum(nil)[:6])
}

// seal returns a text from which only open gets the key.
func (s *sealer) seal(table, key string) string {
	return base64.RawURLEncoding.EncodeToString(s.aead.Seal(nil, nil, []byte(key), []byte(table)))
}

// open returns the key that was sealed for a table.
func (s *sealer) open(table, id string) (key string, ok bool) {
	sealed, err := base64.RawURLEncoding.DecodeString(id)
	if err != nil || strings.ContainsAny(id, "\r\n") {
		return "", false
	}
	plain, err := s.aead.Open(nil, nil, sealed, []byte(table))
	return string(plain), err == nil
}
