package clientaddr

import "fmt"

// Source is the place in a request that a client address was taken from.
type Source uint8

const (
	// SourcePeer is the other end of the TCP connection.
	SourcePeer Source = iota
	// SourceXForwardedFor is the X-Forwarded-For header.
	SourceXForwardedFor
	// SourceForwarded is the Forwarded header.
	SourceForwarded
	// SourceHeader is the header that [Config].Name names.
	SourceHeader
)

// String returns the source's name as logs show it: peer, x-forwarded-for,
// forwarded or header.
func (s Source) String() string {
	switch s {
	case SourcePeer:
		return "peer"
	case SourceXForwardedFor:
		return "x-forwarded-for"
	case SourceForwarded:
		return "forwarded"
	case SourceHeader:
		return "header"
	}
	return fmt.Sprintf("Source(%d)", uint8(s))
}

// Reason is the reason why a resolution ended at the address it returned.
type Reason uint8

const (
	// PeerUntrusted: the peer is not a trusted proxy, so it is the client and
	// headers were not read.
	PeerUntrusted Reason = iota + 1
	// HopUntrusted: the address is the first one in the header, from the right,
	// that is not trusted.
	HopUntrusted
	// AllTrusted: the header ended, and every hop of it is trusted. The address
	// is the leftmost.
	AllTrusted
	// NoHeader: the peer is a trusted proxy that sent no header. The address is
	// the peer's.
	NoHeader
	// HopHidden: a trusted hop withheld the address it was called from. The
	// address is that hop's own.
	HopHidden
	// HopMalformed: a trusted hop wrote something that is not an address. The
	// address is that hop's own; the peer's if the hop was chosen by its index.
	HopMalformed
	// TooLong: [MaxHops], [MaxBytes] or [MaxIndexedBytes] was reached. The
	// address is the last trusted hop before it.
	TooLong
	// NoPeer: the peer has no IP address, and neither has the result.
	NoPeer
	// AtIndex: the address stands where [Config].Index says.
	AtIndex
	// PastEnd: the header has fewer addresses than [Config].Index says. The
	// address is the last in that direction.
	PastEnd
)

// String returns the reason's name as logs show it, such as hop-untrusted.
func (r Reason) String() string {
	switch r {
	case PeerUntrusted:
		return "peer-untrusted"
	case HopUntrusted:
		return "hop-untrusted"
	case AllTrusted:
		return "all-trusted"
	case NoHeader:
		return "no-header"
	case HopHidden:
		return "hop-hidden"
	case HopMalformed:
		return "hop-malformed"
	case TooLong:
		return "too-long"
	case NoPeer:
		return "no-peer"
	case AtIndex:
		return "at-index"
	case PastEnd:
		return "past-end"
	}
	return fmt.Sprintf("Reason(%d)", uint8(r))
}
