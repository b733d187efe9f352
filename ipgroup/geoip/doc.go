// Package geoip finds the country, continent, region, city and network of an IP
// address, in a MaxMind DB file (.mmdb) or in a table of your own.
//
// A [DB] reads databases in the layout of MaxMind (GeoLite2-Country,
// GeoLite2-City, GeoLite2-ASN, their GeoIP2 counterparts and similar databases
// of other publishers) and those of ip-location-db, whose records have a
// country_code. It implements the finders of package ipgroup, so that a group
// can name countries:
//
//	db, err := geoip.Open("/var/lib/GeoIP/GeoLite2-Country.mmdb")
//	if err != nil {
//		return err
//	}
//	group, err := ipgroup.Parse("Alpine", []string{"AT, CH"}, ipgroup.Options{Countries: db})
//
// A [Table] has networks of your own. [Layers] give it precedence over a
// database, or one database precedence over another. A [Watcher] reloads
// databases and tables when their files change.
//
// # Which country
//
// The country is country.iso_code of the record: where the address is used. If
// the record has no such code, as for satellite and anycast networks, it is
// registered_country.iso_code: where the operator registered the network. The
// country that a military base represents is ignored.
//
// # Safety of the file
//
// The file is read into memory, not mapped: truncating or rewriting a mapped
// file in place would crash the process. A database is accepted only after all
// of it has been verified and every record decoded: each field that this
// package knows must have the right type. A file that fails is refused as a
// whole, and the [DB] keeps the database it has. It also keeps it if the new
// one lacks an attribute that was required at Open: a database of autonomous
// systems never replaces one of countries. The format has no checksum, so
// damage that leaves a well-formed file, such as a wrong letter in a country
// code, is not detected. These checks are against damage. A crafted file may
// still take long to verify, so load databases from a publisher you trust.
package geoip
