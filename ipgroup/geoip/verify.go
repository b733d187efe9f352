package geoip

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/oschwald/maxminddb-golang/v2"
)

// verified verifies a database and decodes each of its records.
func verified(b []byte) (*database, error) {
	reader, err := maxminddb.OpenBytes(b)
	if err != nil {
		return nil, fmt.Errorf("not a MaxMind database: %w", err)
	}
	kind := reader.Metadata.DatabaseType
	// The tree comes first: the reader's own check follows every path, and a
	// damaged tree can have more paths than any machine can follow.
	records, err := verifyTree(b, reader.Metadata)
	if err == nil {
		if len(reader.Metadata.Description) == 0 { // some publishers omit it, and the reader's check requires it
			reader.Metadata.Description = map[string]string{"en": kind}
		}
		err = reader.Verify()
	}
	if err != nil {
		return nil, fmt.Errorf("damaged database of type %q: %w", kind, err)
	}

	rows := newRowBuilder()
	positions := make(map[uintptr]uint32) // of the rows, without empty records
	for offset := range records {
		r, err := rows.decode(reader.LookupOffset(offset))
		if err != nil {
			return nil, fmt.Errorf("database of type %q: record at %d: %w", kind, offset, err)
		}
		if r != (row{}) {
			positions[offset] = rows.add(r)
		}
	}
	data := &database{rows: rows.rows}
	data.tree, data.ipv4 = flatten(b, reader.Metadata, positions)
	countries := make(map[uint32]struct{})
	for _, r := range data.rows.rows {
		if code := r[countryCode]; code != 0 {
			countries[code] = struct{}{}
		}
	}
	data.metadata = Metadata{
		Type:      kind,
		Built:     reader.Metadata.BuildTime().UTC(),
		IPVersion: int(reader.Metadata.IPVersion),
		Nodes:     int(reader.Metadata.NodeCount),
		Countries: len(countries),
	}
	return data, nil
}

// flatten returns the search tree with indexes of rows in place of records, and
// the start of IPv4 in it. The tree must have passed verifyTree.
func flatten(b []byte, m maxminddb.Metadata, positions map[uintptr]uint32) (nodes [][2]uint32, ipv4 uint32) {
	tree := searchTree{b: b, size: m.RecordSize}
	nodes = make([][2]uint32, m.NodeCount)
	for node := range nodes {
		for side := range uint(2) {
			next := tree.record(uint(node), side)
			if next > m.NodeCount {
				if position, ok := positions[uintptr(next-m.NodeCount-separator)]; ok {
					next = m.NodeCount + 1 + uint(position)
				} else {
					next = m.NodeCount
				}
			}
			nodes[node][side] = uint32(next)
		}
	}
	if m.IPVersion == 6 {
		for bit := 0; bit < 96 && ipv4 < uint32(len(nodes)); bit++ {
			ipv4 = nodes[ipv4][0]
		}
	}
	return nodes, ipv4
}

// separator is the number of bytes between the tree and the data.
const separator = 16

// verifyTree checks that the search tree is a tree: every node can be reached
// from the root in exactly one way. The one exception is the node at which IPv4
// addresses begin, to which a database of both families has other ways too
// (::ffff:0:0/96, 2002::/16). It returns the offsets of the data records that
// the tree leads to.
func verifyTree(b []byte, m maxminddb.Metadata) (records map[uintptr]struct{}, err error) {
	if m.RecordSize != 24 && m.RecordSize != 28 && m.RecordSize != 32 {
		return nil, fmt.Errorf("record size %d", m.RecordSize)
	}
	if m.NodeCount == 0 {
		return nil, errors.New("search tree without nodes")
	}
	// The reader has checked that b has NodeCount nodes.
	tree := searchTree{b: b, size: m.RecordSize}
	ipv4 := uint(0) // no node has a second way to the root
	if m.IPVersion == 6 {
		ipv4 = tree.ipv4Start(m.NodeCount)
	}

	records = make(map[uintptr]struct{})
	reached := make([]bool, m.NodeCount)
	reached[0] = true
	count := uint(1)
	for open := []uint{0}; len(open) > 0; {
		node := open[len(open)-1]
		open = open[:len(open)-1]
		for side := range uint(2) {
			next := tree.record(node, side)
			switch {
			case next == m.NodeCount: // an unknown network
			case next > m.NodeCount:
				if next < m.NodeCount+separator {
					return nil, errors.New("search tree leads into the separator")
				}
				records[uintptr(next-m.NodeCount-separator)] = struct{}{}
			case !reached[next]:
				reached[next] = true
				count++
				open = append(open, next)
			case next == 0 || next != ipv4:
				return nil, fmt.Errorf("search tree reaches node %d twice", next)
			}
		}
	}
	if count != m.NodeCount {
		return nil, fmt.Errorf("search tree does not reach %d of its %d nodes", m.NodeCount-count, m.NodeCount)
	}
	return records, nil
}

// searchTree is the part of a database that leads from address bits to records:
// nodes of two records each.
type searchTree struct {
	b    []byte
	size uint // bits of a record
}

// record returns the left (0) or right (1) record of a node.
func (t searchTree) record(node, side uint) uint {
	n := t.b[node*t.size/4:]
	switch t.size {
	case 24:
		n = n[side*3:]
		return uint(n[0])<<16 | uint(n[1])<<8 | uint(n[2])
	case 28: // the fourth of the seven bytes has the highest bits of both
		high := uint(n[3] >> 4)
		if side == 1 {
			high = uint(n[3] & 0x0f)
		}
		n = n[side*4:]
		return high<<24 | uint(n[0])<<16 | uint(n[1])<<8 | uint(n[2])
	default:
		return uint(binary.BigEndian.Uint32(n[side*4:]))
	}
}

// ipv4Start returns the node at which the addresses of ::/96 begin, 0 if the
// tree ends before.
func (t searchTree) ipv4Start(nodes uint) uint {
	node := uint(0)
	for range 96 {
		if node = t.record(node, 0); node >= nodes {
			return 0
		}
	}
	return node
}
