package geoip

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/gaissmai/bart"

	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/internal/filewatch"
)

// MaxTableSize is the size of the largest table that is accepted, in bytes.
const MaxTableSize = 64 << 20

// A Table is a list of networks with their attributes, written by hand or by a
// program: for your own networks, and for facts that no database has. It is
// text with one line per network and values separated by semicolons:
//
//	prefix; country code; city; custom 1
//	10.1.0.0/16; US; Los Angeles; office
//	10.1.2.0/24; US; Los Angeles; printers
//	2001:db8::/32; ; ; lab
//
// The first line names the columns. The first column has the network, a prefix
// or an address, whatever its name is. The others are attributes; their names
// may be written in any letter case, with blanks for underscores and without
// "_NAME" at the end. An empty value is unknown. Empty lines and lines that
// begin with # are skipped. If several networks contain an address, only the
// smallest applies. IPv4-mapped prefixes are IPv4 prefixes.
//
// A Table is safe for concurrent use: look-ups may run while it is reloaded,
// and each uses one table from start to end. The zero Table is empty.
type Table struct{ current atomic.Pointer[table] }

// table is immutable.
type table struct {
	rows     rows
	networks bart.Table[uint32] // position of the row
}

// OpenTable reads the table at path. It refuses anything but a regular file of
// at most [MaxTableSize].
func OpenTable(path string) (*Table, error) {
	t := new(Table)
	if err := t.Reload(path); err != nil {
		return nil, err
	}
	return t, nil
}

// ParseTable parses a table. Its errors are those of [Table.ReloadBytes].
func ParseTable(text []byte) (*Table, error) {
	t := new(Table)
	if err := t.ReloadBytes(text); err != nil {
		return nil, err
	}
	return t, nil
}

// Reload reads the table at path, and uses it from then on. After an error the
// Table does not change.
func (t *Table) Reload(path string) error {
	b, err := filewatch.ReadFile(path, MaxTableSize)
	if err != nil {
		return err
	}
	return fielderr.Map(t.ReloadBytes(b), func(err error) error { return fmt.Errorf("%s: %w", path, err) })
}

// ReloadBytes is Reload for text in memory, which it does not keep. The error
// joins all invalid lines with their numbers, the first 1,000 of them one by
// one. A table without networks is an error.
func (t *Table) ReloadBytes(text []byte) error {
	data, err := parseTable(text)
	if err != nil {
		return err
	}
	t.current.Store(data)
	return nil
}

// Locate returns an attribute of addr, such as [CityName]; an empty name means
// [CountryCode]. It returns false if the table does not have it, and for the
// zero Addr. An IPv4-mapped IPv6 address is the IPv4 address, and a zone is
// ignored. Locate does not allocate.
func (t *Table) Locate(addr netip.Addr, attribute string) (value string, ok bool) {
	data := t.current.Load()
	a, ok := attributeOf(attribute)
	if data == nil || !ok || !addr.IsValid() {
		return "", false
	}
	i, ok := data.networks.Lookup(addr.Unmap().WithZone(""))
	if !ok {
		return "", false
	}
	return data.rows.value(i, a)
}

// Country returns the ISO 3166-1 alpha-2 code of the country of addr, in upper
// case; see [Table.Locate].
func (t *Table) Country(addr netip.Addr) (code string, ok bool) { return t.Locate(addr, CountryCode) }

// ASN returns the number of the autonomous system of addr; see [Table.Locate].
func (t *Table) ASN(addr netip.Addr) (number uint32, ok bool) {
	return parseASN(t.Locate(addr, ASNumber))
}

// Knows reports whether the table has an attribute for any address.
func (t *Table) Knows(attribute string) bool {
	data := t.current.Load()
	a, ok := attributeOf(attribute)
	return ok && data != nil && data.rows.has[a]
}

// Len returns the number of networks.
func (t *Table) Len() int {
	if data := t.current.Load(); data != nil {
		return data.networks.Size()
	}
	return 0
}

// maxTableFaults limits how many bad lines are described one by one.
const maxTableFaults = 1000

// tableParser collects the lines of one table, and its faults.
type tableParser struct {
	columns []attribute // of the second column and those behind it; nil before the first line
	rows    *rowBuilder
	table   *table
	faults  []error
	bad     int
}

func parseTable(text []byte) (*table, error) {
	if len(text) > MaxTableSize {
		return nil, fmt.Errorf("%w: more than %d bytes", filewatch.ErrTooLarge, MaxTableSize)
	}
	p := &tableParser{rows: newRowBuilder(), table: new(table)}
	number := 0
	for line := range bytes.SplitSeq(bytes.TrimPrefix(text, []byte("\ufeff")), []byte("\n")) {
		number++
		line := strings.TrimSpace(string(line))
		if line == "" || line[0] == '#' {
			continue
		}
		if err := p.line(line); err != nil {
			if p.bad++; p.bad <= maxTableFaults {
				p.faults = append(p.faults, fmt.Errorf("line %d: %w", number, err))
			}
			if p.columns == nil {
				break // the other lines mean nothing
			}
		}
	}
	if p.bad > maxTableFaults {
		p.faults = append(p.faults, fmt.Errorf("%d more bad lines", p.bad-maxTableFaults))
	}
	if len(p.faults) == 0 && p.table.networks.Size() == 0 {
		p.faults = append(p.faults, errors.New("no networks"))
	}
	if len(p.faults) > 0 {
		return nil, errors.Join(p.faults...)
	}
	p.table.rows = p.rows.rows
	return p.table, nil
}

// line parses a line that is not blank.
func (p *tableParser) line(line string) error {
	values := strings.Split(line, ";")
	for i := range values {
		values[i] = strings.TrimSpace(values[i])
	}
	if p.columns == nil {
		return p.header(values)
	}
	if len(values) > len(p.columns)+1 {
		return fmt.Errorf("%d values in %d columns", len(values), len(p.columns)+1)
	}
	prefix, err := parsePrefix(values[0])
	if err != nil {
		return err
	}
	if _, second := p.table.networks.Get(prefix); second {
		return fmt.Errorf("a second line for %s", prefix)
	}
	var r row
	for i, value := range values[1:] {
		a := p.columns[i]
		if value == "" {
			continue
		}
		switch a {
		case countryCode:
			value, err = upperCode(value)
		case asNumber:
			value, err = asnText(value)
		}
		if err != nil {
			return err
		}
		p.rows.set(&r, a, value)
	}
	p.table.networks.Insert(prefix, p.rows.add(r))
	return nil
}

// header parses the names of the columns.
func (p *tableParser) header(names []string) error {
	columns := []attribute{}
	for _, name := range names[1:] {
		a, ok := attributeOf(strings.ReplaceAll(strings.ToUpper(name), " ", "_"))
		if !ok {
			a, ok = attributeOf(strings.ReplaceAll(strings.ToUpper(name), " ", "_") + "_NAME")
		}
		switch {
		case name == "" || !ok:
			return fmt.Errorf("column %q is not an attribute", name)
		case slices.Contains(columns, a):
			return fmt.Errorf("a second column %q", name)
		}
		columns = append(columns, a)
	}
	if len(columns) == 0 {
		return errors.New("no columns but the first")
	}
	p.columns = columns
	return nil
}

// parsePrefix parses a prefix or an address, and returns the form in which it
// is looked up.
func parsePrefix(text string) (netip.Prefix, error) {
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		addr, err := netip.ParseAddr(text)
		if err != nil || addr.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("%q is not a prefix or an address", text)
		}
		prefix = netip.PrefixFrom(addr, addr.BitLen())
	}
	if prefix.Addr().Is4In6() {
		if prefix.Bits() < 96 {
			return netip.Prefix{}, fmt.Errorf("%q is an IPv4-mapped prefix shorter than /96", text)
		}
		prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-96)
	}
	return prefix.Masked(), nil
}

// asnText parses the number of an autonomous system, with or without "AS"
// before it, and returns its digits.
func asnText(text string) (string, error) {
	digits := text
	if len(text) > 2 && strings.EqualFold(text[:2], "AS") {
		digits = text[2:]
	}
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil || n == 0 {
		return "", fmt.Errorf("%q is not the number of an autonomous system", text)
	}
	return strconv.FormatUint(n, 10), nil
}
