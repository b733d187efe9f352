package geoip

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"github.com/oschwald/maxminddb-golang/v2"
)

// ErrNoCountries is wrapped by the error of [Open], [OpenBytes] and [DB.Reload] for a database that holds
// no country at all, such as an ASN database. The error names the type of the database.
var ErrNoCountries = errors.New("no country records")

// MaxSize is the size of the largest database that is accepted, in bytes: 1 GiB, several times the size of
// the largest databases with countries that are published.
const MaxSize = 1 << 30

// DB is a country database in memory. It is safe for concurrent use: lookups run while the database is
// reloaded or closed, and each sees one database from beginning to end. A DB holds no file open.
type DB struct {
	current atomic.Pointer[database] // nil after Close
}

// Metadata describes a database.
type Metadata struct {
	Type      string    // as its publisher calls it, for example "GeoLite2-Country"
	Built     time.Time // when it was made, in UTC
	IPVersion int       // 4: it knows IPv4 addresses only; 6: both families
	Nodes     int       // size of the search tree
	Countries int       // distinct country codes
}

// Open reads and verifies the database at path. Anything but a regular file is refused. The file is closed
// when Open returns, and may be replaced or removed.
func Open(path string) (*DB, error) {
	db := new(DB)
	if err := db.Reload(path); err != nil {
		return nil, err
	}
	return db, nil
}

// OpenBytes verifies a database that is in memory. The DB keeps b, which must not be changed any more.
func OpenBytes(b []byte) (*DB, error) {
	data, err := verified(b)
	if err != nil {
		return nil, err
	}
	db := new(DB)
	db.current.Store(data)
	return db, nil
}

// Reload reads and verifies the database at path, and answers from it from then on. On an error the DB goes
// on with the database it has. Reload of a closed DB opens it again.
func (db *DB) Reload(path string) error {
	b, err := readFile(path)
	if err != nil {
		return err
	}
	data, err := verified(b)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	db.current.Store(data)
	return nil
}

// Country returns the ISO 3166-1 alpha-2 code of the country of addr, in upper case, as its publisher gives
// it. It is false if the database does not know the country, for an IPv6 address in a database of IPv4
// addresses, for the zero Addr, and after Close. An IPv4-mapped IPv6 address counts as the IPv4
// address and a zone is ignored. Country does not allocate.
func (db *DB) Country(addr netip.Addr) (code string, ok bool) {
	data := db.current.Load()
	if data == nil || !addr.IsValid() {
		return "", false
	}
	return data.country(addr.Unmap().WithZone(""))
}

// Locate is Country for those who may ask for other attributes of a place, too, as policies and scripts may:
// the attributes "" and "country" are the country, and the database knows no others.
func (db *DB) Locate(addr netip.Addr, attribute string) (value string, ok bool) {
	if attribute != "" && attribute != "country" {
		return "", false
	}
	return db.Country(addr)
}

// Metadata describes the database in use. It is the zero Metadata after Close.
func (db *DB) Metadata() Metadata {
	if data := db.current.Load(); data != nil {
		return data.metadata
	}
	return Metadata{}
}

// Close lets go of the database. Lookups that have begun finish, later ones find nothing. The error is
// always nil.
func (db *DB) Close() error {
	db.current.Store(nil)
	return nil
}

// database is one verified database. It is immutable.
type database struct {
	reader    *maxminddb.Reader
	countries map[uintptr]string // by offset of the record; a record without a country is not in it
	metadata  Metadata
}

// country expects a valid and normalized address.
func (d *database) country(addr netip.Addr) (code string, ok bool) {
	if d.metadata.IPVersion == 4 && addr.Is6() {
		return "", false // the reader would make an error of it
	}
	record := d.reader.Lookup(addr)
	if !record.Found() {
		return "", false
	}
	code, ok = d.countries[record.Offset()]
	return code, ok
}

// readFile reads a regular file of at most MaxSize bytes.
func readFile(path string) ([]byte, error) {
	// Opening a named pipe blocks until it has a writer, so the kind is looked at first.
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s: not a regular file", path)
	case info.Size() > MaxSize:
		return nil, fmt.Errorf("%s: larger than %d bytes", path, MaxSize)
	}
	return os.ReadFile(path)
}
