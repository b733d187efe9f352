// Package geoip tells where an IP address is: its country, continent, region, city and network, from a MaxMind DB file (.mmdb),
// and from tables of one's own.
//
// A [DB] takes databases in the layout of MaxMind (GeoLite2-Country, GeoLite2-City, GeoLite2-ASN, their GeoIP2 counterparts and
// what other publishers make like them) and those of ip-location-db, whose records have a country_code. It satisfies the finders
// of package ipgroup, so that a group can name countries:
//
//	db, err := geoip.Open("/var/lib/GeoIP/GeoLite2-Country.mmdb")
//	if err != nil {
//		return err
//	}
//	group, err := ipgroup.Parse("Alpine", []string{"AT, CH"}, ipgroup.Options{Countries: db})
//
// A [Table] holds networks of one's own, [Layers] put it before a database, and one database before another. A [Watcher] reloads
// databases and tables when their files change.
//
// # Which country
//
// The answer is country.iso_code of the record: where the address is used. If the record has no such
// code, the answer is registered_country.iso_code: where its operator registered the network. That happens for
// satellite and anycast networks. The country a military base represents is not looked at.
//
// # Safety of the file
//
// The file is read into memory, not mapped: a mapped file that somebody cuts or rewrites in place kills the
// process. Before a database is accepted, all of it is verified, and every record is decoded: what stands under a name that
// this package knows must be of the type that the name stands for. A file that does not pass is refused as a whole, and
// the [DB] then keeps the database it has. So it does if the new one lacks an attribute that was asked for when it was opened: a
// database of autonomous systems never takes the place of one of countries. The format has no checksum: damage that leaves a
// well-formed file, such as one letter of a country
// code turned into another, cannot be seen. These checks are against damage. A file that somebody crafted
// to be expensive may still take long to verify, so load databases from a publisher you trust.
package geoip
