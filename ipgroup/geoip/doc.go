// Package geoip tells the country of an IP address from a MaxMind DB file (.mmdb) that holds country
// records: GeoLite2-Country, GeoLite2-City, their GeoIP2 counterparts, or any database with the same record
// layout.
//
// A [DB] satisfies the CountryFinder of package ipgroup, so that a group can name countries:
//
//	db, err := geoip.Open("/var/lib/GeoIP/GeoLite2-Country.mmdb")
//	if err != nil {
//		return err
//	}
//	group, err := ipgroup.Parse("Alpine", []string{"AT, CH"}, ipgroup.Options{Countries: db})
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
// process. Before a database is accepted, all of it is verified, and the country of every record is
// decoded. A file that does not pass is refused as a whole, and [DB.Reload] then keeps the database
// it has. The format has no checksum: damage that leaves a well-formed file, such as one letter of a country
// code turned into another, cannot be seen. These checks are against damage. A file that somebody crafted
// to be expensive may still take long to verify, so load databases from a publisher you trust.
package geoip
