package acme

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
)

// challenges are those that authorities ask now, of this process or another one
// with the same storage. The zero value has none.
type challenges struct {
	mu    sync.Mutex
	own   map[asked]acme.Challenge
	names map[string][]*authority // who may ask, by the name that they send
}

// asked is a challenge of a kind for a name, as the authority sends it.
type asked struct{ kind, name string }

// sentName is what an authority sends for a name: TLS-ALPN-01 has another form
// for addresses (RFC 8738).
func sentName(kind, name string) string {
	ip, err := netip.ParseAddr(name)
	if err != nil || kind != acme.ChallengeTypeTLSALPN01 {
		return name
	}
	const digits = "0123456789abcdef"
	bytes, zone := ip.AsSlice(), "in-addr.arpa"
	var labels []string
	for _, b := range slices.Backward(bytes) {
		if ip.Is4() {
			labels = append(labels, strconv.Itoa(int(b)))
		} else {
			labels, zone = append(labels, digits[b&15:b&15+1], digits[b>>4:b>>4+1]), "ip6.arpa"
		}
	}
	return strings.Join(append(labels, zone), ".")
}

// of says which names there are.
func (c *challenges) of(all map[key]*name) {
	names := map[string][]*authority{}
	for k, n := range all {
		for _, kind := range n.of.Challenges {
			sent := kind + " " + sentName(kind, k.name)
			names[sent] = append(names[sent], n.of)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.names = names
}

// find returns the challenge of a kind for a name; false if nobody asks.
func (c *challenges) find(ctx context.Context, kind, sent string) (acme.Challenge, bool) {
	c.mu.Lock()
	challenge, ok := c.own[asked{kind, sent}]
	others := c.names[kind+" "+sent]
	c.mu.Unlock()
	if ok {
		return challenge, true
	}
	for _, a := range others { // another process may have ordered
		text, err := a.storage.Load(ctx, a.challengeKey(kind, sent))
		if err == nil && json.Unmarshal(text, &challenge) == nil {
			return challenge, true
		}
	}
	return challenge, false
}

// challengeKey is the name of a challenge in the storage.
func (a *authority) challengeKey(kind, sent string) string {
	return path.Join("acme", a.id, "challenges", certmagic.StorageKeys.Safe(kind+" "+sent)+".json")
}

// A solver prepares the answers to the challenges of an authority.
type solver struct{ of *authority }

// Present implements [acmez.Solver].
func (s *solver) Present(ctx context.Context, challenge acme.Challenge) error {
	sent, c := sentName(challenge.Type, challenge.Identifier.Value), s.of.challenges
	c.mu.Lock()
	if c.own == nil {
		c.own = map[asked]acme.Challenge{}
	}
	c.own[asked{challenge.Type, sent}] = challenge
	c.mu.Unlock()
	text, err := json.Marshal(challenge)
	if err != nil {
		return err
	}
	return s.of.storage.Store(ctx, s.of.challengeKey(challenge.Type, sent), text)
}

// CleanUp implements [acmez.Solver].
func (s *solver) CleanUp(ctx context.Context, challenge acme.Challenge) error {
	sent, c := sentName(challenge.Type, challenge.Identifier.Value), s.of.challenges
	c.mu.Lock()
	delete(c.own, asked{challenge.Type, sent})
	c.mu.Unlock()
	return s.of.storage.Delete(context.WithoutCancel(ctx), s.of.challengeKey(challenge.Type, sent))
}

// TLSChallenge implements [config.Issuer].
func (i *Issuer) TLSChallenge(name string) *tls.Certificate {
	challenge, ok := i.challenges.find(context.Background(), acme.ChallengeTypeTLSALPN01, name)
	if !ok {
		return nil
	}
	cert, err := acmez.TLSALPN01ChallengeCert(challenge)
	if err != nil {
		return nil // the authority will say that it has got none
	}
	return cert
}

// challengePath begins the paths of HTTP-01 (RFC 8555, 8.3).
const challengePath = "/.well-known/acme-challenge/"

// HTTPChallenge implements [config.Issuer].
func (i *Issuer) HTTPChallenge(w http.ResponseWriter, r *http.Request) bool {
	if r.Method != http.MethodGet || !strings.HasPrefix(r.URL.Path, challengePath) {
		return false
	}
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	challenge, ok := i.challenges.find(r.Context(), acme.ChallengeTypeHTTP01, host)
	if !ok || r.URL.Path != challenge.HTTP01ResourcePath() {
		return false
	}
	w.Header().Set("Content-Type", "text/plain")
	_, _ = io.WriteString(w, challenge.KeyAuthorization) // the authority says what it has not got
	return true
}
