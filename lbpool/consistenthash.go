package lbpool

import (
	"encoding/binary"
	"math"
	"math/bits"
	"net/http"
	"net/netip"
	"net/textproto"
	"strings"
	"sync/atomic"

	"github.com/limpetlb/limpet/internal/bounds"
	"github.com/limpetlb/limpet/internal/enumtext"
	"github.com/limpetlb/limpet/internal/fielderr"
)

// Consistent hashing here is rendezvous hashing: each server has a score for
// each key, a hash of both, and the highest score wins. If a server is removed
// only its own keys move; a new one gets its share and nothing else moves.
// There is no table to build, and no state, so that several load balancers, or
// one before and after a restart, agree.
//
// Ratios: if u is the highest of n independent scores between 0 and 1, then by
// -ln(u)/ratio, the least of which wins, a server's chance is in proportion to
// its ratio. The logarithm keeps order, so within servers of the same ratio the
// highest hash wins, and logarithms are needed only to compare the winners of
// the ratios that occur.

// HashKey is the part of a request that ConsistentHash hashes.
type HashKey uint8

const (
	// HashClient is the client's address.
	HashClient HashKey = iota
	// HashClientPort is the client's address and port.
	HashClientPort
	// HashURI is the request's host and path.
	HashURI
	// HashHeader is the value of the header that ConsistentHashConfig names.
	HashHeader
	// HashCustom is Hint.Key, which a script may set.
	HashCustom
)

var hashKeys = []string{"client", "client and port", "uri", "header", "custom"}

// String returns the name: "client", "client and port", "uri", "header" or
// "custom"; "invalid" for other values.
func (k HashKey) String() string { return enumtext.String(k, hashKeys) }

// MarshalText returns the name. It fails for a value without a name.
func (k HashKey) MarshalText() ([]byte, error) { return enumtext.Marshal(k, hashKeys) }

// UnmarshalText reads a name, without regard to case, blanks, "-" and "_". The
// error for another text lists the names.
func (k *HashKey) UnmarshalText(text []byte) error { return enumtext.Unmarshal(k, text, hashKeys) }

// hashFloor is how many leases for each unit of ratio a server may have
// whatever the load factor: if all have little to do, one client with a few
// connections is no overload.
const hashFloor = 16

// ConsistentHashConfig configures a ConsistentHash. The zero value hashes the
// client's address.
type ConsistentHashConfig struct {
	// Key is what is hashed. If a request does not have it, for example the
	// header, the client's address is hashed.
	Key HashKey
	// Header is the name of the header for HashHeader, ignoring case.
	Header string
	// LoadFactor is how many times its fair share of the leases in use a server
	// may have, at least 1; beyond it, keys go to their next server. 16 leases,
	// times the ratio, are always allowed. 0 means 2; negative means only the
	// limits of the servers.
	LoadFactor float64 `default:"2" min:"1" negative:"only the limits of the servers"`
	// IgnorePort leaves the port of servers out of the hash, so that keys stay
	// when only a server's port changes. Servers at one address then have the
	// same keys, and the first free one in the list gets them.
	IgnorePort bool
}

// ConsistentHash returns an algorithm that sends requests with the same key to
// the same server, without a table. When a server is added or removed, only its
// own keys move. While a server is out of service, at a limit or above the load
// factor, its keys go to other servers, each to one of its own, and return
// later. Slow start does not apply.
//
// It looks at every server: about a nanosecond for each, and one more under
// load.
func ConsistentHash(cfg ConsistentHashConfig) Algorithm { return &consistentHash{cfg: cfg} }

type consistentHash struct {
	cfg    ConsistentHashConfig
	latest atomic.Pointer[arena]
}

func (a *consistentHash) validate() error {
	var faults fielderr.List
	faults.Constant("key", a.cfg.Key)
	if header := a.cfg.Header; a.cfg.Key == HashHeader && (header == "" || strings.ContainsAny(header, " \t\r\n:")) {
		faults.Addf("header", header, "not the name of a header")
	}
	bounds.Check("", a.cfg, &faults)
	return faults.Err()
}

// HashHeader returns the name of the request header that the pool's algorithm
// hashes, in canonical form, to be set in Hint.Header; "" if there is none.
func (p *Pool) HashHeader() string {
	if a, ok := p.live().current.Load().algorithm.(*consistentHash); ok && a.cfg.Key == HashHeader {
		return textproto.CanonicalMIMEHeaderKey(a.cfg.Header)
	}
	return ""
}

// HintFor returns a hint for r: the client's address and port, host, path, and
// the header that the pool's algorithm hashes. The caller may add Key and
// Server.
func (p *Pool) HintFor(r *http.Request, client netip.AddrPort) Hint {
	h := Hint{Client: client.Addr(), ClientPort: client.Port(), Host: r.Host}
	if r.URL != nil {
		h.Path = r.URL.Path
	}
	if name := p.HashHeader(); name != "" {
		if values := r.Header[name]; len(values) > 0 {
			h.Header = values[0]
		}
	}
	return h
}

// arena is a list of servers, prepared for look-ups.
type arena struct {
	up      []*Server
	classes []class // by ratio
}

// class is the servers with one ratio.
type class struct {
	ratio float64
	ids   []uint64
	at    []uint16 // indices into up
}

func (a *consistentHash) arena(up []*Server) *arena {
	if r := a.latest.Load(); r != nil && len(r.up) == len(up) && &r.up[0] == &up[0] {
		return r
	}
	var byRatio [maxRatio + 1]class
	for i, s := range up {
		ratio := s.Ratio()
		id := s.id
		if a.cfg.IgnorePort {
			id = hashText(s.addr.Addr().String())
		}
		c := &byRatio[ratio]
		c.ratio = float64(ratio)
		c.ids, c.at = append(c.ids, id), append(c.at, uint16(i))
	}
	r := &arena{up: up}
	for _, c := range byRatio {
		if len(c.ids) > 0 {
			r.classes = append(r.classes, c)
		}
	}
	a.latest.Store(r)
	return r
}

func (a *consistentHash) Choose(up []*Server, h Hint) *Server {
	key, r := a.key(&h), a.arena(up)
	s := r.winner(key)
	loaded := a.loaded(s, up)
	if !loaded && h.Allows(s) {
		return s
	}
	if !loaded || a.cfg.LoadFactor < 0 {
		return r.next(key, &h, math.Inf(1))
	}
	share := a.share(up)
	if s := r.next(key, &h, share); s != nil {
		return s
	}
	return r.next(key, &h, math.Inf(1))
}

// loaded reports whether s has more leases in use than the load factor allows.
func (a *consistentHash) loaded(s *Server, up []*Server) bool {
	if a.cfg.LoadFactor < 0 || s.open.Load() < hashFloor*int64(s.ratio.Load()) {
		return false
	}
	return s.above(a.share(up))
}

// share is how many leases a server may have for each unit of ratio.
func (a *consistentHash) share(up []*Server) float64 {
	var open, ratio int64
	for _, s := range up {
		open += s.open.Load()
		ratio += int64(s.ratio.Load())
	}
	factor := a.cfg.LoadFactor
	if factor == 0 {
		factor = 2
	}
	return max(factor*float64(open+1)/float64(ratio), hashFloor)
}

// above reports whether one more lease would exceed the share.
func (s *Server) above(share float64) bool {
	return float64(s.open.Load()+1) > math.Ceil(share*float64(s.ratio.Load()))
}

// winner returns the server for a key.
func (r *arena) winner(key uint64) *Server {
	var best *Server
	lead := math.Inf(1)
	for i := range r.classes {
		c := &r.classes[i]
		var high uint64
		var at uint16
		for j, id := range c.ids {
			if score := mix(key ^ id); score > high || j == 0 {
				high, at = score, c.at[j]
			}
		}
		if len(r.classes) == 1 {
			return r.up[at]
		}
		if time := arrival(high, c.ratio); time < lead || best == nil {
			best, lead = r.up[at], time
		}
	}
	return best
}

// next returns the server for a key among those that h allows and that are not
// above a share, nil if there is none.
func (r *arena) next(key uint64, h *Hint, share float64) *Server {
	var best *Server
	lead := math.Inf(1)
	for i := range r.classes {
		c := &r.classes[i]
		var high uint64
		var found *Server
		for j, id := range c.ids {
			if score := mix(key ^ id); score > high || found == nil {
				if s := r.up[c.at[j]]; !s.above(share) && h.Allows(s) {
					high, found = score, s
				}
			}
		}
		if found == nil {
			continue
		}
		if time := arrival(high, c.ratio); time < lead || best == nil {
			best, lead = found, time
		}
	}
	return best
}

// arrival turns a score into -ln(u)/ratio, u being the score as a number
// between 0 and 1.
func arrival(score uint64, ratio float64) float64 {
	return -math.Log((float64(score>>11)+0.5)/(1<<53)) / ratio
}

// key hashes what is configured.
func (a *consistentHash) key(h *Hint) uint64 {
	switch a.cfg.Key {
	case HashClientPort:
		return mix(hashAddr(h.Client) + uint64(h.ClientPort)*hashOdd)
	case HashURI:
		if h.Host != "" || h.Path != "" {
			return hashText(h.Path) ^ bits.RotateLeft64(hashText(h.Host), 32)
		}
	case HashHeader:
		if h.Header != "" {
			return hashText(h.Header)
		}
	case HashCustom:
		if h.Key != "" {
			return hashText(h.Key)
		}
	}
	return hashAddr(h.Client)
}

const hashOdd = 0x9e3779b97f4a7c15 // 2^64 divided by the golden ratio

// mix spreads what is in x over all bits: the finalizer of splitmix64.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// hashText hashes a text, eight bytes at a time. The result is the same
// everywhere and always. It does not withstand those who look for texts that
// collide: they may load one server with it, which is what the load factor is
// for.
func hashText(s string) uint64 {
	h := uint64(len(s)) * hashOdd
	for len(s) >= 8 {
		word := uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
			uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
		high, low := bits.Mul64(h^word, hashOdd)
		h = high ^ low ^ bits.RotateLeft64(h, 23)
		s = s[8:]
	}
	var tail uint64
	for i := range len(s) {
		tail |= uint64(s[i]) << (8 * i)
	}
	return mix(h ^ tail ^ hashOdd)
}

func hashAddr(a netip.Addr) uint64 {
	b := a.As16()
	high, low := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
	return mix(mix(high^hashOdd) + low)
}
