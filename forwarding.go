package limpet

import (
	"net"
	"net/http"
	"strings"

	"github.com/limpetlb/limpet/internal/enumtext"
	"github.com/limpetlb/limpet/internal/fielderr"
)

// Forwarding chooses the headers that inform servers about clients and the
// proxies in between. The zero value sends X-Forwarded-For, X-Forwarded-Proto
// and X-Forwarded-Host, trusts the values of trusted proxies, and passes on no
// such header of other clients.
//
// Scripts and request rules have the last word on these headers: a header that
// they remove is not sent, and a value that they add or set is sent as it is.
// They read the client's own headers, until they change them.
//
// The header Forwarded is passed on from trusted proxies; limpet never makes
// one.
type Forwarding struct {
	// For, Proto and Host are for X-Forwarded-For, X-Forwarded-Proto and
	// X-Forwarded-Host.
	For, Proto, Host Forward
	// Others passes on other headers of this kind from clients that are not
	// trusted proxies: those whose names begin with X-Forwarded, and X-Real-IP,
	// True-Client-IP, CF-Connecting-IP, X-Client-IP, Client-IP,
	// X-Cluster-Client-IP, Fastly-Client-IP, X-Original-URL, X-Rewrite-URL,
	// X-Original-Host, X-Host, Front-End-Https and the like, and Proxy, which
	// some programs take for a setting. By default limpet removes them, from
	// trailers, too; trusted proxies may send all of them but Proxy.
	//
	// Similar names, with underscores or other signs in place of hyphens, are
	// never passed on: many servers cannot distinguish them.
	Others bool
}

// Forward chooses the value of a header that informs a server about the client.
type Forward uint8

const (
	// ForwardSet sends the value of a trusted proxy, with the peer's address
	// added to X-Forwarded-For, or else limpet's own value.
	ForwardSet Forward = iota
	// ForwardOff never sends the header.
	ForwardOff
	// ForwardPass sends the value of a trusted proxy unchanged, and none of
	// limpet's own.
	ForwardPass
)

var forwards = []string{ForwardSet: "set", ForwardOff: "off", ForwardPass: "pass"}

// String returns "set", "off" or "pass"; "invalid" for other values.
func (f Forward) String() string { return enumtext.String(f, forwards) }

// MarshalText returns the text of String. It fails for other values.
func (f Forward) MarshalText() ([]byte, error) { return enumtext.Marshal(f, forwards) }

// UnmarshalText reads the text of String, without regard to case, blanks, "-"
// and "_". The error for another text lists the texts.
func (f *Forward) UnmarshalText(text []byte) error { return enumtext.Unmarshal(f, text, forwards) }

func (f *Forwarding) check(faults *fielderr.List) {
	for _, field := range [...]struct {
		name string
		mode Forward
	}{{"for", f.For}, {"proto", f.Proto}, {"host", f.Host}} {
		faults.Constant("forwarding."+field.name, field.mode)
	}
}

// forwarding are the headers that inform a server about the client.
var forwarding = [...]string{forwardedAll: "Forwarded", forwardedFor: "X-Forwarded-For", forwardedHost: "X-Forwarded-Host", forwardedProto: "X-Forwarded-Proto"}

const (
	forwardedAll = iota
	forwardedFor
	forwardedHost
	forwardedProto
)

// An edit is a change of a header by policies and scripts.
type edit uint8

const (
	editNone edit = iota
	editRemoved
	editSet
)

// untouched stands in a request for a header that the client has not sent, so
// that it is seen if somebody removes it.
var untouched = []string{}

// watchForwarding begins to track edits of the forwarding headers of a request.
func (tx *transaction) watchForwarding(h http.Header) {
	for name, values := range h {
		if k := claimOf(name); k != noClaim {
			if tx.claims == nil {
				tx.claims = make(http.Header)
			}
			tx.claims[name] = values
		}
	}
	for i, name := range forwarding {
		if _, ok := h[name]; !ok {
			h[name] = untouched
		}
		tx.unedited[i] = h[name]
	}
}

// settleForwarding notes the edits.
func (tx *transaction) settleForwarding(h http.Header) {
	for i, name := range forwarding {
		switch values, ok := h[name]; {
		case !ok:
			tx.edits[i] = editRemoved
		case len(values) == 0:
			delete(h, name)
		case !sameSlice(values, tx.unedited[i]):
			tx.edits[i] = editSet
		}
	}
}

// addForwarding sets the forwarding headers.
func (tx *transaction) addForwarding(h http.Header, r *http.Request, trusted bool) {
	made := &[2]string{1: tx.r.Host} // in one allocation
	for i, name := range forwarding {
		own := r.Header[name]
		switch tx.edits[i] {
		case editRemoved:
			continue
		case editSet:
			h[name] = own
			continue
		}
		mode := ForwardPass
		switch i {
		case forwardedFor:
			mode = tx.s.Forwarding.For
		case forwardedHost:
			mode = tx.s.Forwarding.Host
		case forwardedProto:
			mode = tx.s.Forwarding.Proto
		}
		believed := trusted && len(own) > 0
		switch {
		case mode == ForwardOff:
		case believed && (i != forwardedFor || mode == ForwardPass):
			h[name] = own
		case mode == ForwardPass:
		case i == forwardedFor:
			peer, _, err := net.SplitHostPort(r.RemoteAddr)
			if err != nil {
				continue
			}
			if believed {
				peer = strings.Join(own, ", ") + ", " + peer
			}
			made[0] = peer
			h[name] = made[:1:1]
		case i == forwardedHost:
			h[name] = made[1:]
		case tx.Encrypted(): // perhaps to a proxy, and not to us
			h[name] = schemeHTTPS
		default:
			h[name] = schemeHTTP
		}
	}
}

// A claim is a statement about the client in a header that limpet does not send
// itself.
type claim uint8

const (
	noClaim     claim = iota
	ofProxies         // a trusted proxy may say so
	ofNobody          // no client may send it, unless Others is set
	lookedAlike       // some servers take the name for another one
)

// claimOf returns the kind of a header, given its canonical name.
func claimOf(name string) claim {
	if name == "" || strings.IndexByte("XCFTP", name[0]&^0x20) < 0 {
		return noClaim
	}
	for i := range len(name) {
		if c := name[i]; c != '-' && (c < '0' || '9' < c && c < 'A' || 'Z' < c && c < 'a' || 'z' < c) {
			plain := strings.Map(func(r rune) rune {
				if '0' <= r && r <= '9' || 'a' <= r|0x20 && r|0x20 <= 'z' {
					return r
				}
				return '-'
			}, name)
			if plain = http.CanonicalHeaderKey(plain); isForwarding(plain) || claimOf(plain) != noClaim {
				return lookedAlike
			}
			return noClaim
		}
	}
	switch name {
	case "Proxy":
		return ofNobody
	case "X-Real-Ip", "True-Client-Ip", "Cf-Connecting-Ip", "Cf-Connecting-Ipv6", "Cf-Pseudo-Ipv4", "Cf-Visitor", "X-Client-Ip", "Client-Ip",
		"X-Cluster-Client-Ip", "Fastly-Client-Ip", "Fastly-Ssl", "X-Originating-Ip", "X-Remote-Ip", "X-Remote-Addr", "X-Proxyuser-Ip", "X-Azure-Clientip",
		"X-Envoy-External-Address", "X-Original-Url", "X-Original-Uri", "X-Original-Host", "X-Original-Forwarded-For", "X-Rewrite-Url", "X-Host",
		"X-Http-Host-Override", "X-Scheme", "X-Url-Scheme", "Front-End-Https", "Forwarded-For", "Forwarded-Host", "Forwarded-Proto":
		return ofProxies
	}
	if strings.HasPrefix(name, "X-Forwarded") && !isForwarding(name) {
		return ofProxies
	}
	return noClaim
}

func isForwarding(name string) bool {
	switch name {
	case "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto":
		return true
	}
	return false
}

// passes reports whether a claim goes on to the server.
func (f *Forwarding) passes(c claim, trusted bool) bool {
	switch c {
	case ofProxies:
		return trusted || f.Others
	case ofNobody:
		return f.Others
	case lookedAlike:
		return false
	}
	return true
}

func sameSlice(a, b []string) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}
