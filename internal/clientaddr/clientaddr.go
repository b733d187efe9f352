package clientaddr

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
)

// Limits of what one resolution reads, counted from the right end of the header.
const (
	// MaxHops is the number of trusted hops that are followed.
	MaxHops = 16
	// MaxBytes is the number of bytes that are looked at, over all lines together.
	MaxBytes = 2048
)

// Config says whom a [Resolver] believes. The zero value believes nobody: the peer is the client.
type Config struct {
	// Trusted lists the networks of the proxies whose header is believed. Host bits are ignored, so that 10.1.2.3/8 is
	// 10.0.0.0/8. A network that holds clients as well lets those clients choose their address.
	Trusted []netip.Prefix

	// Header is the header that the trusted proxies write. The zero value is [XForwardedFor].
	Header Header
}

// Header is a header in which proxies report the client's address.
type Header uint8

const (
	// XForwardedFor is X-Forwarded-For: a list of addresses, each with an optional port.
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

// Resolver resolves client addresses. It is immutable and may be used by several goroutines at once.
// The zero Resolver trusts nobody.
type Resolver struct {
	trusted ranges
	header  Header
}

// New returns a resolver for cfg, of which it keeps nothing. The error joins all faults, each with its field's path.
func New(cfg Config) (*Resolver, error) {
	var faults []error
	for i, prefix := range cfg.Trusted {
		if !prefix.IsValid() {
			faults = append(faults, fmt.Errorf("trusted[%d]: %v is not a network", i, prefix))
		}
	}
	if cfg.Header > Forwarded {
		faults = append(faults, fmt.Errorf("header: %v is not a header", cfg.Header))
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return &Resolver{trusted: newRanges(cfg.Trusted), header: cfg.Header}, nil
}

// Trusts reports whether addr belongs to a trusted proxy. The invalid address does not.
func (r *Resolver) Trusts(addr netip.Addr) bool { return r.trusted.contain(Normalize(addr)) }

// Result is the outcome of one resolution.
type Result struct {
	// Addr is the client's address, normalised. It is invalid only when the peer's is ([NoPeer]).
	Addr netip.Addr
	// Port is the client's port: the peer's when Source is [SourcePeer], else the one beside the address in the header,
	// or 0, since most proxies do not report it.
	Port uint16
	// Source says where Addr comes from.
	Source Source
	// Reason says why the resolution ended at Addr.
	Reason Reason
}

// Resolve returns the client of a request that came from peer with the headers h, which it only reads; h may be nil.
// It does not allocate unless a hop of the header is malformed.
func (r *Resolver) Resolve(peer netip.AddrPort, h http.Header) Result {
	res := Result{Addr: Normalize(peer.Addr()), Port: peer.Port()}
	if !res.Addr.IsValid() {
		return Result{Reason: NoPeer}
	}
	if !r.trusted.contain(res.Addr) {
		res.Reason = PeerUntrusted
		return res
	}

	lines, parse, source := h["X-Forwarded-For"], parseXForwardedFor, SourceXForwardedFor
	if r.header == Forwarded {
		lines, parse, source = h["Forwarded"], parseForwarded, SourceForwarded
	}
	if len(lines) == 0 {
		res.Reason = NoHeader
		return res
	}

	// res is always the last address accepted: a trusted one until the loop ends.
	list := list{lines: lines, quoted: r.header == Forwarded, budget: MaxBytes}
	for range MaxHops {
		element, end := list.last()
		if end != 0 {
			res.Reason = end
			return res
		}
		hop, fault := parse(element)
		if fault != 0 {
			res.Reason = fault
			return res
		}
		res.Addr, res.Port, res.Source = hop.Addr(), hop.Port(), source
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

// Normalize returns addr in the form in which all addresses are compared: an IPv4-mapped IPv6 address becomes IPv4,
// and the zone is dropped.
func Normalize(addr netip.Addr) netip.Addr { return addr.Unmap().WithZone("") }

// ParsePeer parses the RemoteAddr of an [http.Request]. It returns the invalid AddrPort, which [Resolver.Resolve]
// answers with [NoPeer], for anything but an IP address with a port, such as the name of a Unix socket.
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
