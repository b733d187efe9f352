package datascript

import (
	"crypto/md5"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"math"
	"net/netip"
	"strings"

	lua "github.com/yuin/gopher-lua"

	"github.com/limpetlb/limpet/internal/lua51"
	"github.com/limpetlb/limpet/internal/luastr"
)

// The module avi.utils.
var utilsEntries = []entry{
	{name: "base64_encode", call: utilsBase64Encode},
	{name: "base64_decode", call: utilsBase64Decode},
	{name: "uri_decode", call: utilsURIDecode},
	{name: "local_uri", call: utilsLocalURI},
	{name: "sha1_hash", call: utilsSHA1Hash},
	{name: "md5_hash", call: utilsMD5Hash},
	{name: "murmur_hash", call: utilsMurmurHash},
	{name: "rand_bytes", call: utilsRandBytes},
	{name: "get_geo_from_ip", call: utilsGetGeoFromIP},
	{name: "get_ip_reputation", call: utilsGetIPReputation},
	{name: "ip.netaddr", call: utilsNetaddr},
	{name: "ip_in_subnet", call: utilsIPInSubnet},
}

// base64_encode(s) returns s in base 64, with padding and without line
// breaks (RFC 4648, section 4).
func utilsBase64Encode(c call) int {
	s := c.Str(1)
	c.Allow(base64.StdEncoding.EncodedLen(len(s)))
	return c.RetString(base64.StdEncoding.EncodeToString([]byte(s)))
}

// base64_decode(s) returns the bytes that s encodes, or nil if s is not base
// 64. It accepts both alphabets, missing padding and white space.
func utilsBase64Decode(c call) int {
	s := c.Str(1)
	c.Allow(len(s))
	s = strings.TrimRight(base64Input.Replace(s), "=")
	b, err := base64.RawStdEncoding.DecodeString(s)
	if err != nil {
		return c.Ret(lua.LNil)
	}
	return c.RetString(string(b))
}

// base64Input turns the alphabet for URLs into the standard one, and drops
// white space.
var base64Input = strings.NewReplacer("-", "+", "_", "/", " ", "", "\t", "", "\r", "", "\n", "", "\v", "", "\f", "")

// uri_decode(s) returns s with its percent escapes decoded; invalid escapes and
// "+" stay as they are. It returns nil for nil.
func utilsURIDecode(c call) int {
	if c.Any(1) == lua.LNil {
		return c.Ret(lua.LNil)
	}
	s := c.Str(1)
	c.Allow(len(s))
	return c.RetString(percentDecode(s, false))
}

// sha1_hash(s) returns the SHA-1 hash of s in lower-case hexadecimal.
func utilsSHA1Hash(c call) int {
	s := c.Str(1)
	c.Allow(len(s))
	sum := sha1.Sum([]byte(s))
	return c.RetString(hex.EncodeToString(sum[:]))
}

// md5_hash(s) returns the MD5 hash of s in lower-case hexadecimal.
func utilsMD5Hash(c call) int {
	s := c.Str(1)
	c.Allow(len(s))
	sum := md5.Sum([]byte(s))
	return c.RetString(hex.EncodeToString(sum[:]))
}

// murmur_hash(s) returns the 32-bit MurmurHash2 of s, with seed 0, as a
// number.
func utilsMurmurHash(c call) int {
	s := c.Str(1)
	c.Allow(len(s))
	return c.RetNumber(float64(murmur2(s, 0)))
}

// rand_bytes(n) returns n unpredictable random bytes, 1 to 1,024.
func utilsRandBytes(c call) int {
	n := c.Num(1)
	if !(n >= 1 && n <= 1024) {
		c.ArgError(1, "%s is not between 1 and 1024", luastr.FormatNumber(n))
	}
	b := make([]byte, int(n))
	_, _ = rand.Read(b) // which never fails
	return c.RetString(string(b))
}

// get_geo_from_ip(ip [, attribute]) returns the country code of an address, or
// another attribute that the host knows; nil if it is not known. It fails if
// the virtual service has no geo database.
func utilsGetGeoFromIP(c call) int {
	geo := c.engine.env.Geo
	if geo == nil {
		c.Fail("%s: the virtual service has no geo database", c.Sym.Name)
	}
	attribute := ""
	if v := c.Arg(2); v != lua.LNil {
		attribute = c.ToString(v)
	}
	addr, ok := c.addr(1)
	if !ok {
		return c.Ret(lua.LNil)
	}
	resume := c.Outside()
	value, ok := geo.Locate(addr, attribute)
	resume()
	if !ok {
		return c.Ret(lua.LNil)
	}
	return c.RetString(value)
}

// get_ip_reputation(ip) returns the reputation of an address, or nil if it has
// none. It fails if the virtual service has no reputation database: a script
// that blocks bad addresses would take nil for a good one.
func utilsGetIPReputation(c call) int {
	reputations := c.engine.env.Reputations
	if reputations == nil {
		c.Fail("%s: the virtual service has no reputation database", c.Sym.Name)
	}
	addr, ok := c.addr(1)
	if !ok {
		return c.Ret(lua.LNil)
	}
	resume := c.Outside()
	value, ok := reputations.Reputation(addr)
	resume()
	if !ok {
		return c.Ret(lua.LNil)
	}
	return c.RetString(value)
}

// addr reads an address. An invalid one is not an error.
func (c call) addr(n int) (netip.Addr, bool) {
	addr, err := netip.ParseAddr(c.Str(n))
	return addr.Unmap().WithZone(""), err == nil
}

// ip.netaddr(ip, mask) returns the address of the network that contains an
// address; mask is a mask such as "255.255.0.0", or the length of a prefix. It
// returns nil for an invalid address.
func utilsNetaddr(c call) int {
	addr, ok := c.addr(1)
	mask := c.mask(2)
	if !ok {
		return c.Ret(lua.LNil)
	}
	network, err := addr.Prefix(c.maskLength(2, mask, addr))
	if err != nil {
		c.ArgError(2, "%q does not fit the address", mask)
	}
	return c.RetString(network.Addr().String())
}

// ip_in_subnet(ip, network [, mask]) reports whether an address is in a
// network, such as ("10.1.2.3", "10.0.0.0/8") or ("10.1.2.3", "10.0.0.0",
// "255.0.0.0"). An invalid address is in no network.
func utilsIPInSubnet(c call) int {
	addr, ok := c.addr(1)
	s := c.Str(2)
	var network netip.Prefix
	var err error
	if c.Arg(3) == lua.LNil {
		network, err = netip.ParsePrefix(s)
	} else {
		var base netip.Addr
		if base, err = netip.ParseAddr(s); err == nil {
			base = base.Unmap().WithZone("")
			network, err = base.Prefix(c.maskLength(3, c.mask(3), base))
		}
	}
	if err != nil {
		c.ArgError(2, "%q is not a network", s)
	}
	return c.RetBool(ok && unmapPrefix(network).Contains(addr))
}

// unmapPrefix turns an IPv4 network that is written as IPv6 into an IPv4
// network.
func unmapPrefix(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p
}

func (c call) mask(n int) string { return strings.TrimPrefix(strings.TrimSpace(c.Str(n)), "/") }

// maskLength returns the prefix length that a mask means for an address.
func (c call) maskLength(n int, mask string, addr netip.Addr) int {
	if f, ok := lua51.Number(lua.LString(mask)); ok {
		if !(f >= 0 && f <= float64(addr.BitLen())) || f != math.Trunc(f) {
			c.ArgError(n, "prefix length %s is not between 0 and %d", mask, addr.BitLen())
		}
		return int(f)
	}
	m, err := netip.ParseAddr(mask)
	if err != nil || m.BitLen() != addr.BitLen() {
		c.ArgError(n, "%q is not a mask for %v", mask, addr)
	}
	bits := 0
	ended := false
	for _, b := range m.AsSlice() {
		for i := 7; i >= 0; i-- {
			switch one := b>>i&1 == 1; {
			case one && ended:
				c.ArgError(n, "mask %q has a gap", mask)
			case one:
				bits++
			default:
				ended = true
			}
		}
	}
	return bits
}
