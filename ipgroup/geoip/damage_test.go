package geoip

import (
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet/internal/testrace"
)

// probes are addresses in, at the ends of and outside the networks of the
// databases sample24, sample28 and sample32.
var probes = func() (probes []netip.Addr) {
	for _, prefix := range []string{
		"81.2.69.0/24", "89.160.20.0/22", "5.44.16.0/20", "198.51.100.0/24", "203.0.113.0/24", "192.0.2.0/25", "100.64.0.1/32", "2001:db8::/32", "2001:db8:1::/48",
	} {
		p := netip.MustParsePrefix(prefix)
		probes = append(probes, p.Addr(), p.Addr().Next(), p.Addr().Prev())
	}
	return append(probes, netip.IPv4Unspecified(), netip.IPv6Unspecified(), netip.MustParseAddr("255.255.255.255"))
}()

// answer is the text of an attribute of an address.
type answer struct{ addr, attribute string }

// answers are all texts that a database has for the probes; damage to a number
// cannot be seen.
func answers(db *DB) map[answer]string {
	texts := make(map[answer]string)
	for _, addr := range probes {
		for _, name := range attributeNames {
			if text, ok := db.Locate(addr, name); ok && name != ASNumber {
				texts[answer{addr.String(), name}] = text
			}
		}
	}
	return texts
}

// A damaged database is refused or answers as before. Damage to the bits that
// are left once the format, the structure and the letters have been checked
// cannot be seen: it turns a network or a code into another valid one. So the
// test counts the flips of single bits that change an answer, and demands that
// no inverted byte changes a country, nor puts another text in the place of
// any. It may lose one, by damage to the name of a field that few records have.
func TestEveryByteDamaged(t *testing.T) {
	sizes := []int{24, 28, 32}
	if testrace.Enabled {
		sizes = sizes[:1] // the damage is the same, and takes ten times as long
	}
	if testing.Short() {
		sizes = sizes[:1]
	}
	for _, size := range sizes {
		good := file(t, fmt.Sprint("sample", size))
		want := answers(open(t, slices.Clone(good)))
		refused, changed, tried := 0, 0, 0
		for i := range good {
			flips := []byte{0xff}
			if size == 28 { // single bits as well, for one size, because of the time it takes
				flips = []byte{0xff, 0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80}
			}
			for _, flip := range flips {
				b := slices.Clone(good)
				b[i] ^= flip
				tried++
				db, err := OpenBytes(b)
				if err != nil {
					refused++
					continue
				}
				got := answers(db)
				if maps.Equal(got, want) {
					continue
				}
				changed++
				for of, text := range want {
					if flip == 0xff && got[of] != text && (got[of] != "" || of.attribute == CountryCode) {
						t.Errorf("record size %d: byte %d of %d inverted: %v: %q, want %q", size, i, len(good), of, got[of], text)
					}
				}
				for of, text := range got {
					if flip == 0xff && want[of] == "" {
						t.Errorf("record size %d: byte %d of %d inverted: %v: %q, want none", size, i, len(good), of, text)
					}
				}
				for _, addr := range probes {
					code, ok := db.Country(addr)
					if _, err := upperCode(code); ok && err != nil {
						t.Errorf("record size %d: byte %d ^ %#x: %v", size, i, flip, err)
					}
				}
			}
		}
		t.Logf("record size %d: %d bytes, %d flips: %d refused, %d changed an answer", size, len(good), tried, refused, changed)
	}
}

func TestEveryTruncation(t *testing.T) {
	good := file(t, "sample28")
	want := answers(open(t, good))
	for n := range good {
		db, err := OpenBytes(slices.Clone(good[:n]))
		if err != nil {
			continue
		}
		if diff := cmp.Diff(want, answers(db)); diff != "" {
			t.Errorf("first %d of %d bytes: %s", n, len(good), diff)
		}
	}
}

// setRecord overwrites one record of the search tree of a database with 32-bit
// records.
func setRecord(b []byte, node, side, value uint32) {
	binary.BigEndian.PutUint32(b[node*8+side*4:], value)
}

func TestDamagedTree(t *testing.T) {
	good := file(t, "tree")
	nodes := uint32(open(t, slices.Clone(good)).Metadata().Nodes)
	tests := []struct {
		name   string
		damage func(b []byte)
	}{
		{"cycle to the root", func(b []byte) { setRecord(b, 1, 1, 0) }},
		{"node that leads to itself", func(b []byte) { setRecord(b, 1, 1, 1) }},
		{"node reached twice", func(b []byte) { setRecord(b, 1, 1, 3) }},
		{"node lost", func(b []byte) { setRecord(b, 0, 0, nodes) }},
		{"pointer to itself", func(b []byte) { copy(b[nodes*8+16:], "\x20\x00") }},
		{"pointer back to the map it is in", func(b []byte) { copy(b[nodes*8+16:], "\xe1\x47country\x20\x00") }},
		{"into the separator", func(b []byte) { setRecord(b, 0, 1, nodes+3) }},
		{"behind the data", func(b []byte) { setRecord(b, 0, 1, 1<<31) }},
		{"inside a record", func(b []byte) { setRecord(b, 0, 1, nodes+16+1) }},
		// Two ways from each node to the next make 2^32 paths.
		{"exponential", func(b []byte) {
			for node := range nodes - 1 {
				setRecord(b, node, 0, node+1)
				setRecord(b, node, 1, node+1)
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := slices.Clone(good)
			tt.damage(b)
			if _, err := OpenBytes(b); err == nil {
				t.Error("accepted")
			} else {
				t.Log(err)
			}
		})
	}
}

func FuzzOpenBytes(f *testing.F) {
	f.Add([]byte{})                                                  // too short for anything
	f.Add([]byte("\xab\xcd\xefMaxMind.com"))                         // marker without metadata
	names, err := filepath.Glob(filepath.Join("testdata", "*.mmdb")) // good, of all layouts
	if err != nil || len(names) == 0 {
		f.Fatalf("%d databases, %v", len(names), err)
	}
	for _, name := range names {
		f.Add(file(f, strings.TrimSuffix(filepath.Base(name), ".mmdb")))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		db, err := OpenBytes(b)
		if err != nil {
			return
		}
		if db.Metadata().Countries == 0 {
			t.Error("accepted without countries")
		}
		for of, code := range answers(db) {
			if _, err := upperCode(code); of.attribute == CountryCode && err != nil {
				t.Errorf("Country(%s): %v", of.addr, err)
			}
		}
	})
}
