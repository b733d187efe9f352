// Package clientaddr resolves the address of the client that sent a request.
//
// The peer, the other end of the TCP connection, is the only address that a
// client cannot choose freely. Behind other proxies the peer is the nearest
// proxy, and the client's address travels in a header to which each proxy
// appends the address it was called from. Everything in that header to the left
// of the first honest proxy was written by the client and may say anything.
//
// # The rule
//
// The peer is the client, unless the peer is trusted. Then the header is read
// from the right, one hop at a time, and the first address that is not trusted
// is the client. Since a trusted proxy reports truly who called it, nothing
// that stands to the left of that address can change the answer.
//
//   - When all hops are trusted, the leftmost one is the client.
//   - A hop that does not name an address ends the reading: the client is the
//     last address accepted before it, that is, the trusted hop that wrote the
//     unusable entry, or the peer. The entry is never skipped, because the one
//     to its left is the word of somebody nobody vouches for. Such an entry is
//     "unknown", an obfuscated identifier ("_gateway"), an element without a
//     "for" parameter, an empty element, or garbage. (RFC 9110 section 5.6.1.2
//     lets a recipient ignore empty elements. Here that would let a proxy
//     that fills in an empty value vouch for whatever the client sent.)
//   - Reading ends in the same way after [MaxHops] hops or [MaxBytes] bytes.
//     Real chains are far shorter, and the header's size is the client's
//     choice.
//
// [Result.Reason] says which of these it was, so that a caller who wants to
// treat, for example, a malformed header as an error can do so.
//
// Exactly one header is read, the one that [Config.Header] chooses. The other
// one is ignored even when the chosen one is absent: a proxy that writes only
// X-Forwarded-For passes on the Forwarded header as the client sent it.
//
// Several lines of the header are one list, in the order received. The headers
// given must be those of the request as it arrived. If connection headers were
// removed first, a client could delete the list by sending
// "Connection: X-Forwarded-For".
//
// # Addresses
//
// All addresses are normalised as [Normalize] does, those of the trusted
// prefixes included: ::ffff:10.1.2.3 is 10.1.2.3, and zones are dropped. An
// IPv6 prefix therefore never matches an IPv4 client; ::/0 trusts all of IPv6
// and nothing else. NAT64 addresses (64:ff9b::/96) stay IPv6.
//
// A program that stands behind proxies of the network 10.0.0.0/8:
//
//	resolver, err := clientaddr.New(clientaddr.Config{
//		Trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
//	})
//	if err != nil {
//		log.Fatal(err)
//	}
//	handler := func(w http.ResponseWriter, r *http.Request) {
//		client := resolver.Resolve(clientaddr.ParsePeer(r.RemoteAddr), r.Header)
//		fmt.Fprintf(w, "you are %v (%v)\n", client.Addr, client.Reason)
//	}
package clientaddr
