package clientaddr

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/internal/httpfield"
)

// Limits of what one resolution reads, counted from the right end of the
// header.
const (
	// MaxHops is the number of trusted hops that are followed.
	MaxHops = 16
	// MaxBytes is the number of bytes that are looked at, over all lines
	// together.
	MaxBytes = 2048
	// MaxIndex is the greatest index of an address, in either direction.
	MaxIndex = 1000
	// MaxIndexedBytes is MaxBytes for an address that is chosen by its index,
	// from the end that the index counts from. Of Forwarded, which takes longer
	// to read, it is MaxBytes in any case.
	MaxIndexedBytes = 8 << 10
)

// Config says whom a [Resolver] believes. The zero value believes nobody: the
// peer is the client.
type Config struct {
	// Trusted lists the networks of the proxies whose header is believed. Host
	// bits are ignored, so that 10.1.2.3/8 is 10.0.0.0/8. A network that
	// contains clients as well lets those clients choose their address.
	Trusted []netip.Prefix

	// Header is the header that the trusted proxies write. The zero value is
	// [XForwardedFor].
	Header Header
	// Name is the name of another header, whose values are written as those of
	// X-Forwarded-For. Empty means that Header says which.
	Name string

	// Index chooses the address by its place in the header: 1 is the leftmost,
	// -1 the rightmost; past the end of the list it is the last one in that
	// direction. It is between -MaxIndex and MaxIndex. 0 chooses by trust: the
	// first address from the right that is not trusted. The peer must be
	// trusted in any case.
	Index int
}

// Header is a header in which proxies report the client's address.
type Header uint8

const (
	// XForwardedFor is X-Forwarded-For: a list of addresses, each with an
	// optional port.
	XForwardedFor Header = iota
	// Forwarded is the Forwarded header of RFC 7239.
	Forwarded
)

// String returns the header's canonical name.
func (h Header) String() string {
	switch h {
	case XForwardedFor:
		return "X-Forwarded-For"
	case Forwarded:
		return "Forwarded"
	}
	return fmt.Sprintf("Header(%d)", uint8(h))
}

// Resolver resolves client addresses. It is immutable and may be used by
// several goroutines at once. The zero Resolver trusts nobody.
type Resolver struct {
	trusted ranges
	header  Header
	name    string // of the header
	source  Source
	index   int
}

// New returns a resolver for cfg, of which it keeps nothing. The error joins
// all faults, each with the path of the field that a virtual service's
// configuration has for it.
func New(cfg Config) (*Resolver, error) {
	var faults fielderr.List
	for i, prefix := range cfg.Trusted {
		if !prefix.IsValid() {
			faults.Addf(fielderr.Index("trustedProxies", i), nil, "not a network")
		}
	}
	if cfg.Header > Forwarded {
		faults.Addf("clientHeader", cfg.Header, "not a header")
	}
	r := &Resolver{header: cfg.Header, name: cfg.Header.String(), index: cfg.Index}
	r.source = SourceXForwardedFor
	if cfg.Header == Forwarded {
		r.source = SourceForwarded
	}
	if cfg.Name != "" {
		r.header = XForwardedFor
		r.name, r.source = http.CanonicalHeaderKey(cfg.Name), SourceHeader
		switch {
		case !httpfield.IsToken(cfg.Name):
			faults.Addf("clientHeader", cfg.Name, "not the name of a header")
		case r.name == "Host", httpfield.IsFraming(r.name):
			faults.Addf("clientHeader", cfg.Name, "never has an address")
		}
	}
	if cfg.Index < -MaxIndex || cfg.Index > MaxIndex {
		faults.Addf("clientIndex", cfg.Index, "not between -%d and %d", MaxIndex, MaxIndex)
	}
	if cfg.Index != 0 && len(cfg.Trusted) == 0 {
		faults.Addf("clientIndex", cfg.Index, "without effect, since nobody is trusted")
	}
	if faults.Len() > 0 {
		return nil, faults.Err()
	}
	r.trusted = newRanges(cfg.Trusted)
	return r, nil
}

// Trusts reports whether addr belongs to a trusted proxy. The invalid address
// does not.
func (r *Resolver) Trusts(addr netip.Addr) bool { return r.trusted.contain(Normalize(addr)) }

// Result is the outcome of one resolution.
type Result struct {
	// Addr is the client's address, normalised. It is invalid only when the
	// peer's is ([NoPeer]).
	Addr netip.Addr
	// Port is the client's port: the peer's when Source is [SourcePeer], else
	// the one beside the address in the header, or 0, since most proxies do not
	// report it.
	Port uint16
	// Source says where Addr comes from.
	Source Source
	// Reason says why the resolution ended at Addr.
	Reason Reason
	// Hops is the place of Addr in the header, counted from the right from 1; 0
	// if it was not taken from there or was counted from the left.
	Hops int
}

// Resolve returns the client of a request that came from peer with the headers
// h, which it only reads; h may be nil. It does not allocate unless a hop of
// the header is malformed.
func (r *Resolver) Resolve(peer netip.AddrPort, h http.Header) Result {
	res := Result{Addr: Normalize(peer.Addr()), Port: peer.Port()}
	if !res.Addr.IsValid() {
		return Result{Reason: NoPeer}
	}
	if !r.trusted.contain(res.Addr) {
		res.Reason = PeerUntrusted
		return res
	}

	lines := h[r.name]
	if len(lines) == 0 {
		res.Reason = NoHeader
		return res
	}
	if r.index != 0 {
		return r.resolveIndex(res, lines)
	}

	// res is always the last address accepted: a trusted one until the loop
	// ends.
	list := list{lines: lines, quoted: r.header == Forwarded, budget: MaxBytes}
	for range MaxHops {
		element, end := list.last()
		element = trim(element)
		if end != 0 {
			res.Reason = end
			return res
		}
		hop, fault := r.parse(element)
		if fault != 0 {
			res.Reason = fault
			return res
		}
		res.Addr, res.Port, res.Source = hop.Addr(), hop.Port(), r.source
		res.Hops++
		if !r.trusted.contain(res.Addr) {
			res.Reason = HopUntrusted
			return res
		}
	}
	if list.done() {
		res.Reason = AllTrusted
	} else {
		res.Reason = TooLong
	}
	return res
}

// resolveIndex completes res, the peer, by the address at the index.
func (r *Resolver) resolveIndex(res Result, lines []string) Result {
	list := list{lines: lines, budget: MaxIndexedBytes}
	if r.header == Forwarded {
		list.quoted, list.budget = true, MaxBytes
	}
	element, taken, end := list.at(r.index)
	if end != 0 {
		res.Reason = end
		return res
	}
	hop, fault := r.parse(element)
	if fault != 0 {
		res.Reason = fault
		return res
	}
	res.Addr, res.Port, res.Source, res.Reason = hop.Addr(), hop.Port(), r.source, AtIndex
	if taken < max(r.index, -r.index) {
		res.Reason = PastEnd
	}
	if r.index < 0 {
		res.Hops = taken
	}
	return res
}

func (r *Resolver) parse(element string) (netip.AddrPort, Reason) {
	if r.header == Forwarded {
		return parseForwarded(element)
	}
	return parseXForwardedFor(element)
}

// Encrypted reports whether the client of a request spoke TLS, as the trusted
// proxy that it spoke to says. res is what Resolve has returned for the
// request's headers h. told is false if nobody who is trusted has said
// anything.
//
// In Forwarded it is the proto parameter of the element that names the client.
// With other headers it is X-Forwarded-Proto, in the place from the right at
// which the client stands in its header, or the leftmost value if there are
// fewer: most proxies send one for the whole way.
func (r *Resolver) Encrypted(res Result, h http.Header) (encrypted, told bool) {
	if res.Reason == PeerUntrusted || res.Reason == NoPeer {
		return false, false
	}
	index := -max(res.Hops, 1)
	lines := h["X-Forwarded-Proto"]
	if r.index > 0 {
		index = 1
	}
	if r.header == Forwarded {
		lines = h["Forwarded"]
		if r.index > 0 {
			index = r.index
		}
	}
	list := list{lines: lines, quoted: r.header == Forwarded, budget: MaxBytes}
	value, _, end := list.at(index)
	if end != 0 {
		return false, false
	}
	if r.header == Forwarded {
		value = protoOf(value)
	}
	switch {
	case strings.EqualFold(value, "https"), strings.EqualFold(value, "wss"):
		return true, true
	case strings.EqualFold(value, "http"), strings.EqualFold(value, "ws"):
		return false, true
	}
	return false, false
}

// Normalize returns addr in the form in which all addresses are compared: an
// IPv4-mapped IPv6 address becomes IPv4, and the zone is dropped.
func Normalize(addr netip.Addr) netip.Addr { return addr.Unmap().WithZone("") }

// OfTCP returns the normalized address and the port of a TCP connection's end,
// and the zero value for other ends.
func OfTCP(end net.Addr) netip.AddrPort {
	tcp, ok := end.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	addr := tcp.AddrPort()
	return netip.AddrPortFrom(Normalize(addr.Addr()), addr.Port())
}

// ParsePeer parses the RemoteAddr of an [http.Request]. It returns the invalid
// AddrPort, which [Resolver.Resolve] answers with [NoPeer], for anything but an
// IP address with a port, such as the name of a Unix socket.
func ParsePeer(remoteAddr string) netip.AddrPort {
	// The zone is cut out first, because to keep one costs an allocation.
	if zone := strings.IndexByte(remoteAddr, '%'); zone >= 0 {
		end := strings.LastIndexByte(remoteAddr, ']')
		if end < zone {
			return netip.AddrPort{}
		}
		remoteAddr = remoteAddr[:zone] + remoteAddr[end:]
	}
	peer, err := netip.ParseAddrPort(remoteAddr)
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(Normalize(peer.Addr()), peer.Port())
}
