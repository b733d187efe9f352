// Package exactaddr spells the values of persistence entries that name one of
// several servers at the same address.
//
// Scripts know a server by its bare address. Where a pool has several servers
// at an address, limpet stores the port as well: "ip:port" and a zero byte.
// A script that looks the entry up sees the bare address that it has stored.
// Without the zero byte nobody could tell such a value from a text that a
// script has made of address and port, and wants back.
//
// A script may be given any text by a client, also one that has this form. It
// is stored with one more zero byte, so that the client cannot name a server,
// and the script reads what it has stored.
package exactaddr

import (
	"net/netip"
	"strings"
)

const mark = "\x00"

// Value returns the value of an entry that names the server at addr.
func Value(addr netip.AddrPort) string {
	return netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()).String() + mark
}

// Parse returns the server that the value of an entry names. ok is false for
// any other value, an address with a port and no zero byte among them.
func Parse(value string) (addr netip.AddrPort, ok bool) {
	if !strings.HasSuffix(value, mark) {
		return netip.AddrPort{}, false // as nearly always
	}
	addr, err := netip.ParseAddrPort(value[:len(value)-len(mark)])
	return addr, err == nil
}

// Shown returns the value as operators see it, in listings and counts: the
// server as "ip:port". Other values stay as they are.
func Shown(value string) string {
	if _, ok := Parse(value); ok {
		return value[:len(value)-len(mark)]
	}
	return value
}

// Marked returns the other value that is shown as this text: for a server's
// "ip:port", the value that names it exactly. It returns any other text as it
// is.
func Marked(shown string) string {
	if isServer(shown) {
		return shown + mark
	}
	return shown
}

// FromScript returns what is stored for a text that a script stores.
func FromScript(text string) string {
	if isMarked(text) {
		return text + mark
	}
	return text
}

// ToScript returns the text that a script sees of a value, unless [Parse]
// accepts it.
func ToScript(value string) string {
	if isMarked(value) {
		return value[:len(value)-len(mark)]
	}
	return value
}

// isMarked reports whether s is an address with a port and at least one zero
// byte behind.
func isMarked(s string) bool {
	return strings.HasSuffix(s, mark) && isServer(strings.TrimRight(s, mark))
}

func isServer(s string) bool {
	_, err := netip.ParseAddrPort(s)
	return err == nil
}
