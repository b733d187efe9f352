package geoip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/internal/filewatch"
)

// ErrMissing is wrapped by the error of [Open], [OpenBytes] and the reloads of
// a [DB] for a database without a required attribute, such as an ASN database
// where countries are required. The error names the attribute and the type of
// the database.
var ErrMissing = errors.New("attribute is missing")

// MaxSize is the size of the largest database that is accepted, in bytes: 1
// GiB, several times the size of the largest published databases.
const MaxSize = 1 << 30

// A DB is a database in memory. It is safe for concurrent use: look-ups may run
// while the database is reloaded or closed, and each uses one database from
// start to end. A DB keeps no file open.
//
// The zero DB is closed, and accepts only databases with countries.
type DB struct {
	needs   []string
	current atomic.Pointer[database] // nil after Close
}

// Metadata describe a database.
type Metadata struct {
	Type      string    // the name that its publisher gives it, for example "GeoLite2-Country"
	Built     time.Time // when it was made, in UTC
	IPVersion int       // 4: it knows IPv4 addresses only; 6: both families
	Nodes     int       // size of the search tree
	Countries int       // distinct country codes
}

// Open reads and verifies the database at path. It refuses anything but a
// regular file. It closes the file before it returns, so the file may be
// replaced or removed.
//
// The database must have the given attributes, now and after every reload.
// Without attributes it must have [CountryCode]. The error joins a
// [*FieldError] for each name that is not an attribute.
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

// OpenBytes is Open for a database in memory. The DB keeps b, which must not
// change afterwards.
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
	var faults fielderr.List
	for i, name := range attributes {
		if _, ok := attributeOf(name); !ok {
			faults.Addf(fielderr.Index("attributes", i), name, "not an attribute")
		}
	}
	if faults.Len() > 0 {
		return nil, faults.Err()
	}
	return &DB{needs: slices.Clone(attributes)}, nil
}

// Reload reads and verifies the database at path, and uses it from then on.
// After an error the DB keeps the database it has. Reload opens a closed DB
// again.
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

// ReloadBytes is Reload for a database in memory. The DB keeps b, which must
// not change afterwards.
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

// Locate returns an attribute of addr, such as [CityName]; an empty name means
// [CountryCode]. It returns false if the database does not have the attribute
// for this address, for an IPv6 address in a database of IPv4 addresses, for
// the zero Addr, and after Close. An IPv4-mapped IPv6 address is the IPv4
// address, and a zone is ignored. Locate does not allocate.
func (db *DB) Locate(addr netip.Addr, attribute string) (value string, ok bool) {
	a, ok := attributeOf(attribute)
	if !ok {
		return "", false
	}
	return db.value(addr, a)
}

// Country returns the ISO 3166-1 alpha-2 code of the country of addr, in upper
// case; see [DB.Locate].
func (db *DB) Country(addr netip.Addr) (code string, ok bool) { return db.value(addr, countryCode) }

// ASN returns the number of the autonomous system that announces addr; see
// [DB.Locate].
func (db *DB) ASN(addr netip.Addr) (number uint32, ok bool) {
	return parseASN(db.value(addr, asNumber))
}

// Knows reports whether the database has an attribute for any address.
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

// Metadata describes the current database. After Close it returns the zero
// Metadata.
func (db *DB) Metadata() Metadata {
	if data := db.current.Load(); data != nil {
		return data.metadata
	}
	return Metadata{}
}

// Close releases the database. Look-ups that have begun finish, later ones find
// nothing. The error is always nil.
func (db *DB) Close() error {
	db.current.Store(nil)
	return nil
}

// A database is one verified database. It is immutable and does not refer to
// the file.
type database struct {
	rows     rows
	tree     [][2]uint32 // by node and bit: the next node, len(tree) for unknown networks, or len(tree) + 1 + index of the row
	ipv4     uint32      // where the IPv4 addresses begin: a node, or an end like those in tree
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
