package geoip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/limpetlb/limpet/internal/filewatch"
)

// ErrMissing is wrapped by the error of [Open], [OpenBytes] and the reloads of a [DB] for a database in which no address has an
// attribute that was asked for: an ASN database where countries are needed. The error names the attribute and the type of the
// database.
var ErrMissing = errors.New("attribute is missing")

// MaxSize is the size of the largest database that is accepted, in bytes: 1 GiB, several times the size of
// the largest databases that are published.
const MaxSize = 1 << 30

// DB is a database in memory. It is safe for concurrent use: lookups run while the database is
// reloaded or closed, and each sees one database from beginning to end. A DB holds no file open.
//
// The zero DB is one that is closed, and takes only databases with countries.
type DB struct {
	needs   []string
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
//
// The database must have the attributes named, here and in every reload. If none is, that is [CountryCode].
func Open(path string, attributes ...string) (*DB, error) {
	db, err := newDB(attributes)
	if err != nil {
		return nil, err
	}
	if err := db.Reload(path); err != nil {
		return nil, err
	}
	return db, nil
}

// OpenBytes is Open for a database that is in memory. The DB keeps b, which must not be changed any more.
func OpenBytes(b []byte, attributes ...string) (*DB, error) {
	db, err := newDB(attributes)
	if err != nil {
		return nil, err
	}
	if err := db.ReloadBytes(b); err != nil {
		return nil, err
	}
	return db, nil
}

func newDB(attributes []string) (*DB, error) {
	for _, name := range attributes {
		if _, ok := attributeOf(name); !ok {
			return nil, fmt.Errorf("%q is not an attribute", name)
		}
	}
	return &DB{needs: slices.Clone(attributes)}, nil
}

// Reload reads and verifies the database at path, and answers from it from then on. On an error the DB goes
// on with the database it has. Reload of a closed DB opens it again.
func (db *DB) Reload(path string) error {
	b, err := filewatch.ReadFile(path, MaxSize)
	if err != nil {
		return err
	}
	if err := db.ReloadBytes(b); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// ReloadBytes is Reload for a database that is in memory. The DB keeps b, which must not be changed any more.
func (db *DB) ReloadBytes(b []byte) error {
	data, err := verified(b)
	if err != nil {
		return err
	}
	needs := db.needs
	if len(needs) == 0 {
		needs = []string{CountryCode}
	}
	for _, name := range needs {
		if a, _ := attributeOf(name); !data.rows.has[a] {
			return fmt.Errorf("%w: no %s in a database of type %q", ErrMissing, attributeNames[a], data.metadata.Type)
		}
	}
	db.current.Store(data)
	return nil
}

// Locate returns an attribute of addr, such as [CityName]; an empty name means [CountryCode]. It is false if the database
// does not know the attribute of this address or of any, for an IPv6 address in a database of IPv4
// addresses, for the zero Addr, and after Close. An IPv4-mapped IPv6 address counts as the IPv4
// address and a zone is ignored. Locate does not allocate.
func (db *DB) Locate(addr netip.Addr, attribute string) (value string, ok bool) {
	a, ok := attributeOf(attribute)
	if !ok {
		return "", false
	}
	return db.value(addr, a)
}

// Country returns the ISO 3166-1 alpha-2 code of the country of addr, in upper case; see [DB.Locate].
func (db *DB) Country(addr netip.Addr) (code string, ok bool) { return db.value(addr, countryCode) }

// ASN returns the number of the autonomous system that announces addr; see [DB.Locate].
func (db *DB) ASN(addr netip.Addr) (number uint32, ok bool) {
	return parseASN(db.value(addr, asNumber))
}

// Knows reports whether the database in use has an attribute of any address.
func (db *DB) Knows(attribute string) bool {
	a, ok := attributeOf(attribute)
	data := db.current.Load()
	return ok && data != nil && data.rows.has[a]
}

func (db *DB) value(addr netip.Addr, a attribute) (value string, ok bool) {
	data := db.current.Load()
	if data == nil || !addr.IsValid() {
		return "", false
	}
	return data.value(addr.Unmap().WithZone(""), a)
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

// database is one verified database. It is immutable, and has nothing of the file any more.
type database struct {
	rows     rows
	tree     [][2]uint32 // by node and bit: the next node, len(tree) where nothing is known, or that + 1 + position of the row
	ipv4     uint32      // where the addresses of IPv4 begin: a node, or what it would lead to
	metadata Metadata
}

// value expects a valid and normalized address.
func (d *database) value(addr netip.Addr, a attribute) (value string, ok bool) {
	var next uint32
	nodes := uint32(len(d.tree))
	if addr.Is4() {
		bytes := addr.As4()
		next = d.ipv4
		address := binary.BigEndian.Uint32(bytes[:])
		for bit := 31; bit >= 0 && next < nodes; bit-- {
			next = d.tree[next][address>>bit&1]
		}
	} else {
		if d.metadata.IPVersion == 4 {
			return "", false
		}
		bytes := addr.As16()
		high, low := binary.BigEndian.Uint64(bytes[:8]), binary.BigEndian.Uint64(bytes[8:])
		for bit := 0; bit < 128 && next < nodes; bit++ {
			next = d.tree[next][high>>63]
			high, low = high<<1|low>>63, low<<1
		}
	}
	if next <= nodes {
		return "", false
	}
	return d.rows.value(next-nodes-1, a)
}
