package policy

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
)

// ReadStringCSV reads the entries of a string group from comma-separated values
// (RFC 4180). The first column is the key; in a map, the other columns that are
// not empty, joined with commas, are the value. A list ignores them. Blanks
// around a key, a byte order mark and empty lines are ignored.
//
// With strict, a value in a list, a key of a map without one, and a key that
// came before, in any letter case, are errors too.
//
// Errors name the line. Without strict, reading stops at the first error; with
// strict, all bad lines are reported, the first 1,000 of them one by one.
func ReadStringCSV(r io.Reader, kind StringGroupKind, strict bool) ([]StringEntry, error) {
	b := bufio.NewReader(r)
	if mark, _ := b.Peek(3); string(mark) == "\ufeff" {
		_, _ = b.Discard(3)
	}
	in := csv.NewReader(b)
	in.FieldsPerRecord = -1
	in.ReuseRecord = true
	var entries []StringEntry
	var faults []error
	bad := 0
	fault := func(line int, format string, args ...any) {
		if bad++; bad <= maxLineFaults {
			faults = append(faults, fmt.Errorf("line %d: "+format, append([]any{line}, args...)...))
		}
	}
	lines := make(map[string]int) // of keys, if strict
	for size := 0; ; {
		record, err := in.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil { // where the next line begins is not known
			faults = append(faults, err)
			break
		}
		line, _ := in.FieldPos(0)
		e := StringEntry{Key: strings.TrimSpace(record[0])}
		if size += len(e.Key); size > maxStringGroupBytes {
			faults = append(faults, fmt.Errorf("line %d: keys of more than %d bytes", line, maxStringGroupBytes))
			break
		}
		values := make([]string, 0, len(record)-1)
		for _, v := range record[1:] {
			if v != "" {
				values = append(values, v)
			}
		}
		if kind == StringMap {
			e.Value = strings.Join(values, ",")
		}
		if e.Key == "" {
			fault(line, "the key is empty")
		} else if strict {
			folded := string(fold(e.Key))
			switch first, again := lines[folded]; {
			case again:
				fault(line, "%q is already in line %d", e.Key, first)
			case kind == StringList && len(values) > 0:
				fault(line, "%q has the value %q, in a list", e.Key, strings.Join(values, ","))
			case kind == StringMap && len(values) == 0:
				fault(line, "%q has no value, in a map", e.Key)
			}
			lines[folded] = line
		}
		if bad > 0 && !strict {
			break
		}
		entries = append(entries, e)
	}
	if bad > maxLineFaults {
		faults = append(faults, fmt.Errorf("%d more bad lines", bad-maxLineFaults))
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return entries, nil
}

// maxLineFaults limits how many bad lines are described one by one.
const maxLineFaults = 1000
