// Package ipgroup has named groups of IP addresses, ranges and prefixes, or of
// countries and autonomous systems. It answers questions such as "is this
// client on the blacklist?" and "which group or country does it come from?".
//
// A [Group] is immutable. Look-ups do not allocate, and their time hardly grows
// with the number of entries. A [Set] has groups by name, so that a group can
// be replaced while requests go on:
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
// A list consists of entries, separated by commas and line feeds:
//
//	10.0.0.1                    an address
//	10.0.0.10-10.0.0.20         a range with both its ends; an en dash and blanks around it are accepted
//	10.1.0.0/16                 a prefix; bits beyond its length are ignored
//	2001:db8::/32               all of these in IPv6 as well
//	US                          a country, by its ISO 3166-1 alpha-2 code in any letter case, or XK (Kosovo)
//	AS64500                     an autonomous system, by its number
//
// Text from # to the end of a line is a comment; blank entries are ignored. A
// group has either addresses, or countries and autonomous systems, never both;
// a rule can name two groups.
//
// A list with a fault is refused as a whole, and the error names every fault
// with its position, so a program that reloads lists keeps the group it has. A
// list without entries is a fault too, unless [Options.AllowEmpty] is set.
//
// # Lists in files
//
// A [Watcher] reloads groups of a set from files. It detects within two seconds
// that the content of a file has changed, however that was done, and replaces
// the group. While a list is invalid or missing, the group stays as it is, and
// the watcher reports the reason.
//
// # Labels
//
// [Set.Label] returns a label of an address for logs: the most specific group
// that contains it, "Internal" for private addresses, or its country.
//
// # One form of each address
//
// In entries and in look-ups, an IPv4-mapped IPv6 address (::ffff:10.0.0.1) is
// the IPv4 address, and a mapped prefix is the IPv4 prefix (::ffff:10.0.0.0/104
// is 10.0.0.0/8). An IPv6 prefix that covers the mapped addresses, such as
// ::/0, covers IPv6 only. The zone of a client's address is ignored; an entry
// with a zone is an error. Other IPv6 addresses that contain an IPv4 address
// (NAT64, 6to4) are treated like any IPv6 address: to match the clients of a
// NAT64 gateway, list its prefix, 64:ff9b::/96.
package ipgroup
