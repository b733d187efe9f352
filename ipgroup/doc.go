// Package ipgroup holds named groups of IP addresses, ranges and prefixes, or of countries and autonomous systems, for questions
// such as "is this client on the blacklist?" and "what is the name of the place it comes from?".
//
// A [Group] is immutable and answers without allocating, in a time that hardly grows with the number of
// entries. A [Set] holds groups by name, so that one group can be replaced while requests go on:
//
//	blacklist, err := ipgroup.ReadFile("Blacklist", "/etc/limpet/blacklist.csv", ipgroup.Options{})
//	if err != nil {
//		return err // names every bad line
//	}
//	groups, err := ipgroup.NewSet(blacklist)
//	if err != nil {
//		return err
//	}
//	denied, err := groups.Contains("Blacklist", client)
//
// # Entries
//
// A list is made of entries, separated by commas and line feeds:
//
//	10.0.0.1                    an address
//	10.0.0.10-10.0.0.20         a range with both its ends; an en dash and blanks around it are accepted
//	10.1.0.0/16                 a prefix; bits beyond its length are ignored
//	2001:db8::/32               all of these in IPv6 as well
//	US                          a country, by its ISO 3166-1 alpha-2 code in any letter case, or XK (Kosovo)
//	AS64500                     an autonomous system, by its number
//
// Text from # to the end of a line is a comment; blank entries mean nothing. A group holds either addresses,
// or countries and autonomous systems, never both; a rule can name two groups.
//
// A list is accepted whole or not at all. A program that reloads lists therefore keeps the group it has
// when the new list is bad: every fault is in the error, with its place. A list without entries is a fault
// too, unless [Options.AllowEmpty] says that it is meant.
//
// # Lists in files
//
// A [Watcher] keeps groups of a set as their files have them: it notices within two seconds when the content of a file has changed,
// however that was done, and replaces the group whole. While a list is bad or missing, the group remains as it is, and the
// watcher says why.
//
// # Labels
//
// [Set.Label] names the place of an address for logs: the most specific group it is in, "Internal" for private addresses, or its
// country.
//
// # One form of each address
//
// In entries and in questions alike, an IPv4-mapped IPv6 address (::ffff:10.0.0.1) is the IPv4 address, and
// so is a mapped prefix (::ffff:10.0.0.0/104 is 10.0.0.0/8). A prefix of IPv6 that happens to cover the mapped
// addresses, such as ::/0, covers IPv6 only. The zone of a client's address is ignored; an entry with a zone is an error.
// Other ways to write an IPv4 address inside an IPv6 address (NAT64, 6to4) are IPv6 addresses like any
// other: to match the clients of a NAT64 gateway, list its prefix, 64:ff9b::/96.
package ipgroup
