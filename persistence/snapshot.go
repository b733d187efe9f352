package persistence

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"math"
	"strings"
	"time"
)

// A snapshot is
//
//	magic, 8 bytes; version, 1 byte
//	the wall clock's time, nanoseconds since 1970, 8 bytes
//	items, each a kind (1 byte) and
//	    table:  name
//	    entry:  key, value, remaining       of the table named last
//	    idle:   key, value, remaining, idle, longest remaining
//	    end:    how many entries there were
//	CRC-32C of all that precedes it, 4 bytes
//
// and nothing after that. Fixed numbers are little-endian, the others uvarints;
// a string is its length and its bytes; durations are nanoseconds from the time
// in the header on.
const (
	snapshotMagic   = "limpetPT"
	snapshotVersion = 1
)

const (
	kindEnd = iota
	kindTable
	kindEntry
	kindIdle
)

// A SnapshotError says that the input of [Store.ReadFrom] or [Store.LoadFile]
// cannot be restored: it is corrupt, it is truncated, it is something other
// than a snapshot of a [Store], or a later version of this package wrote it in
// a form that this version cannot read.
type SnapshotError struct {
	// Offset is how many bytes had been read when the fault was found.
	Offset int64
	// Detail says what was found, for people.
	Detail string

	fault snapshotFault
}

// Error returns the kind of fault, where it was found, and the detail.
func (e *SnapshotError) Error() string {
	return fmt.Sprintf("persistence: snapshot: %s at byte %d: %s", e.fault, e.Offset, e.Detail)
}

// A snapshotFault is a kind of fault, as errors name it.
type snapshotFault string

const (
	snapshotCorrupt   snapshotFault = "corrupt"
	snapshotTruncated snapshotFault = "truncated"
	snapshotForeign   snapshotFault = "foreign"
	snapshotNewer     snapshotFault = "version"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// WriteTo writes a snapshot of all live entries to w, with their remaining
// lifetimes and the time of the wall clock, and returns the number of bytes
// written. The only errors are those of w.
//
// The store stays in use: WriteTo locks a shard only to copy its list of
// entries. Each entry is written as it was at some moment during the call. The
// snapshot contains keys and values in clear text.
func (s *Store) WriteTo(w io.Writer) (int64, error) {
	sum := crc32.New(castagnoli)
	counted := &countingWriter{w: w}
	b := bufio.NewWriterSize(io.MultiWriter(counted, sum), bufferBytes)
	start := time.Now()

	line := append([]byte(snapshotMagic), snapshotVersion)
	line = binary.LittleEndian.AppendUint64(line, uint64(start.UnixNano()))
	if _, err := b.Write(line); err != nil {
		return counted.n, err
	}
	entries := uint64(0)
	for _, name := range s.names() {
		t := s.table(name)
		line = appendString(append(line[:0], kindTable), name)
		if _, err := b.Write(line); err != nil {
			return counted.n, err
		}
		begun := start.Sub(t.epoch) // on the table's clock
		for r, left := range t.liveEntries(func() time.Duration { return begun }) {
			kind := byte(kindEntry)
			if r.idleRule != nil {
				kind = kindIdle
			}
			line = appendString(appendString(append(line[:0], kind), r.key), r.value)
			line = binary.AppendUvarint(line, uint64(left))
			if r.idleRule != nil {
				line = binary.AppendUvarint(line, uint64(r.idleRule.idle))
				line = binary.AppendUvarint(line, uint64(r.idleRule.latest-begun))
			}
			if _, err := b.Write(line); err != nil {
				return counted.n, err
			}
			entries++
		}
	}
	b.Write(binary.AppendUvarint([]byte{kindEnd}, entries)) // Flush repeats the error
	if err := b.Flush(); err != nil {
		return counted.n, err
	}
	_, err := counted.Write(binary.LittleEndian.AppendUint32(nil, sum.Sum32()))
	return counted.n, err
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// A countingWriter counts the bytes that w has accepted.
type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// ReadFrom restores the snapshot in r, to its end, and returns the number of
// bytes read. It changes the store only after it has read the whole snapshot
// and verified its checksum. The error is a [*SnapshotError], or one of r;
// after an error the store is unchanged.
//
// The time since the snapshot was written counts, by the wall clock: entries
// that have expired since are not restored. If the snapshot was written in the
// future, no time has passed. Lifetimes are cut to [Options.MaxLifetime].
//
// Entries that the store already has are newer and stay as they are. ReadFrom
// evicts none: entries beyond the store's bounds are not restored.
// [Stats.Restored] counts restored entries. ReadFrom needs the memory of the
// restored entries and about 64 bytes more for each. It makes tables without
// entries as large as needed at once, each shard under its lock.
func (s *Store) ReadFrom(r io.Reader) (int64, error) {
	d := &snapshotReader{b: bufio.NewReaderSize(r, bufferBytes), sum: crc32.New(castagnoli)}
	tables, err := s.read(d)
	if err != nil {
		return d.n, err
	}
	for _, staged := range tables {
		s.restore(staged)
	}
	return d.n, nil
}

// A stagedTable has entries of a table that have been read and not yet
// restored. Its durations start at the moment of reading.
type stagedTable struct {
	name      string
	entries   int
	chunks    [][]stagedEntry  // of chunkEntries each, so that growth copies nothing
	idleRules map[int]idleRule // by index among all entries
	bytes     int
	read      time.Time
}

const chunkEntries = 4096

type stagedEntry struct {
	key, value string
	left       time.Duration
}

func (t *stagedTable) add(e stagedEntry) {
	if t.entries%chunkEntries == 0 {
		t.chunks = append(t.chunks, nil)
	}
	last := &t.chunks[len(t.chunks)-1]
	*last = append(*last, e)
	t.entries++
}

// read reads a whole snapshot. It stores no more of it than fits in the store.
func (s *Store) read(d *snapshotReader) ([]*stagedTable, error) {
	written, err := d.header()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	elapsed := max(0, now.Round(0).Sub(written)) // Round: by the wall clock
	var tables []*stagedTable
	var current *stagedTable // nil while entries are left out
	inTable, counted := false, len(tables)
	for entries := uint64(0); ; entries++ {
		switch kind, err := d.byte(); {
		case err != nil:
			return nil, err
		case kind == kindTable:
			text, kept, err := d.appendString(nil, s.options.MaxKeyBytes)
			if err != nil {
				return nil, err
			}
			ofProfile := bytes.HasPrefix(text, []byte(profileTables)) // which may not be reserved yet
			if current = nil; kept && (ofProfile || counted <= s.options.MaxTables) {
				current = &stagedTable{name: string(text), read: now}
				tables = append(tables, current)
				if !ofProfile {
					counted++
				}
			}
			inTable = true
			entries-- // is none
		case (kind == kindEntry || kind == kindIdle) && inTable:
			if err := s.readEntry(d, current, kind, elapsed); err != nil {
				return nil, err
			}
		case kind == kindEnd:
			return tables, d.end(entries)
		default:
			return nil, d.fault(snapshotCorrupt, "record of kind %d", kind)
		}
	}
}

// readEntry reads an entry and adds it to its staged table, unless that is nil,
// the entry has expired, or it exceeds a bound.
func (s *Store) readEntry(d *snapshotReader, t *stagedTable, kind byte, elapsed time.Duration) error {
	o := &s.options
	both, keptKey, err := d.appendString(d.text[:0], o.MaxKeyBytes)
	if err != nil {
		return err
	}
	inKey := len(both)
	both, keptValue, err := d.appendString(both, o.MaxValueBytes)
	if err != nil {
		return err
	}
	d.text = both
	left, err := d.duration()
	if err != nil {
		return err
	}
	var i idleRule
	if kind == kindIdle {
		if i.idle, err = d.duration(); err != nil {
			return err
		}
		if i.latest, err = d.duration(); err != nil {
			return err
		}
		left = min(left, i.latest)
		i = idleRule{min(i.idle, o.MaxLifetime), min(i.latest-elapsed, o.MaxLifetime)}
	}
	cost := allocated(len(both)) + entryBytes
	switch left = min(left-elapsed, o.MaxLifetime); {
	case t == nil, !keptKey, !keptValue, left <= 0,
		t.entries >= o.MaxEntries, t.bytes > o.MaxTableBytes-cost:
		return nil
	}
	if kind == kindIdle {
		if t.idleRules == nil {
			t.idleRules = make(map[int]idleRule)
		}
		t.idleRules[t.entries] = i
	}
	text := string(both) // one allocation for both
	t.add(stagedEntry{text[:inKey], text[inKey:], left})
	t.bytes += cost
	return nil
}

// restore stores the entries of a staged table that fit without evicting
// others.
func (s *Store) restore(staged *stagedTable) {
	if strings.HasPrefix(staged.name, profileTables) {
		s.Reserve(staged.name)
	}
	n := 0
	for i, chunk := range staged.chunks {
		for _, e := range chunk {
			t := s.tableFor(staged.name, e.key, e.value, e.left)
			if t == nil {
				return // too many tables, for all entries of this one
			}
			if n == 0 {
				t.reserve(staged.entries)
			}
			t.restore(staged.read, e.key, e.value, e.left, staged.idleRules[n])
			n++
		}
		staged.chunks[i] = nil // which the entries no longer need
	}
}

// restore stores a value whose remaining lifetime was left at a time, if there
// is room and key is not live. i.latest counts from that time.
func (t *Table[K, V]) restore(at time.Time, key K, value V, left time.Duration, i idleRule) {
	h := t.locateOwned(key)
	t.lock(h.shard)
	defer t.unlock(h.shard)
	now, begun := t.now(), at.Sub(t.epoch)
	until := expiry{deadline: begun + left}
	if i.idle > 0 {
		until.idleRule = &idleRule{i.idle, begun + i.latest}
	}
	live := h.acquireLocked(h.tag, key, now)
	h.releaseLocked(live)
	if until.deadline <= now || live.entry != nil || !h.hasRoomLocked(h.costOf(key, value)) ||
		h.ownerIsFullLocked(h.owner) {
		return
	}
	if t.storeLocked(h, now, live, key, value, until) != nil {
		h.writes.restored++
	}
}

// A snapshotReader reads the parts of a snapshot. Its memory is bounded by the
// bytes it has read, not by the lengths it reads.
type snapshotReader struct {
	b    *bufio.Reader
	sum  hash.Hash32
	n    int64
	text []byte // of an entry, used again
}

const (
	bufferBytes = 64 << 10
	pieceBytes  = 32 << 10 // of a string read at a time
)

func (d *snapshotReader) fault(f snapshotFault, format string, args ...any) error {
	return &SnapshotError{fault: f, Offset: d.n, Detail: fmt.Sprintf(format, args...)}
}

func (d *snapshotReader) byte() (byte, error) {
	p, err := d.take(1)
	if err != nil {
		return 0, err
	}
	return p[0], nil
}

// header reads the header and returns the time in it.
func (d *snapshotReader) header() (time.Time, error) {
	for i := range len(snapshotMagic) {
		switch c, err := d.byte(); {
		case err != nil:
			return time.Time{}, err
		case c != snapshotMagic[i]:
			return time.Time{}, d.fault(snapshotForeign, "it does not begin with %q", snapshotMagic)
		}
	}
	switch version, err := d.byte(); {
	case err != nil:
		return time.Time{}, err
	case version != snapshotVersion:
		return time.Time{}, d.fault(snapshotNewer, "version %d, this package knows %d", version, snapshotVersion)
	}
	nanoseconds, err := d.take(8)
	if err != nil {
		return time.Time{}, err
	}
	return time.Unix(0, int64(binary.LittleEndian.Uint64(nanoseconds))), nil
}

// end reads what follows the last entry.
func (d *snapshotReader) end(entries uint64) error {
	n, err := d.uvarint()
	if err != nil {
		return err
	}
	if n != entries {
		return d.fault(snapshotCorrupt, "%d entries, %d were written", entries, n)
	}
	want := d.sum.Sum32()
	sum, err := d.take(4)
	if err != nil {
		return err
	}
	if got := binary.LittleEndian.Uint32(sum); got != want {
		return d.fault(snapshotCorrupt, "checksum %08x, it should be %08x", got, want)
	}
	switch _, err := d.b.ReadByte(); {
	case err == nil:
		d.n++
		return d.fault(snapshotCorrupt, "more follows the end")
	case !errors.Is(err, io.EOF):
		return err
	}
	return nil
}

func (d *snapshotReader) uvarint() (uint64, error) {
	ahead, err := d.b.Peek(binary.MaxVarintLen64) // fewer before the end
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	n, size := binary.Uvarint(ahead)
	switch {
	case size < 0:
		return 0, d.fault(snapshotCorrupt, "number of more than 64 bits")
	case size == 0:
		size = len(ahead) + 1 // take reports the fault
	}
	_, err = d.take(size)
	return n, err
}

// take returns the next n bytes, which are valid until more is read. n is at
// most pieceBytes.
func (d *snapshotReader) take(n int) ([]byte, error) {
	p, err := d.b.Peek(n)
	d.sum.Write(p)
	d.n += int64(len(p))
	d.b.Discard(len(p)) // they are there
	if errors.Is(err, io.EOF) {
		err = d.fault(snapshotTruncated, "more was expected")
	}
	return p, err
}

// duration reads a duration, cut to the longest lifetime of any store.
func (d *snapshotReader) duration() (time.Duration, error) {
	n, err := d.uvarint()
	return time.Duration(min(n, uint64(lifetimeCeiling))), err
}

// appendString reads a string and appends it to b. If it is longer than limit,
// appendString skips it and returns false.
func (d *snapshotReader) appendString(b []byte, limit int) (text []byte, kept bool, err error) {
	n, err := d.uvarint()
	if err != nil {
		return nil, false, err
	}
	if n > math.MaxInt32 {
		return nil, false, d.fault(snapshotCorrupt, "string of %d bytes", n)
	}
	kept = n <= uint64(limit)
	for n > 0 {
		piece, err := d.take(int(min(n, pieceBytes)))
		if err != nil {
			return nil, false, err
		}
		if kept {
			b = append(b, piece...)
		}
		n -= uint64(len(piece))
	}
	return b, kept, nil
}
