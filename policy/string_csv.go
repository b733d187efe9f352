package policy

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
)

// ReadStringCSV reads the entries of a string group from comma-separated
// values (RFC 4180). The first column is the key; in a map, the columns
// behind it that are not empty, joined with commas, are the value. A list
// ignores them. Blanks around a key do not count. A byte order mark and empty
// lines are skipped. An error names the line.
func ReadStringCSV(r io.Reader, kind StringGroupKind) ([]StringEntry, error) {
	b := bufio.NewReader(r)
	if mark, _ := b.Peek(3); string(mark) == "\ufeff" {
		_, _ = b.Discard(3)
	}
	in := csv.NewReader(b)
	in.FieldsPerRecord = -1
	in.ReuseRecord = true
	var entries []StringEntry
	for size := 0; ; {
		record, err := in.Read()
		if errors.Is(err, io.EOF) {
			return entries, nil
		}
		if err != nil {
			return nil, err
		}
		line, _ := in.FieldPos(0)
		e := StringEntry{Key: strings.TrimSpace(record[0])}
		if e.Key == "" {
			return nil, fmt.Errorf("line %d: the key is empty", line)
		}
		if size += len(e.Key); size > MaxStringGroupBytes {
			return nil, fmt.Errorf("line %d: keys of more than %d bytes", line, MaxStringGroupBytes)
		}
		if kind == StringMap {
			var values []string
			for _, v := range record[1:] {
				if v != "" {
					values = append(values, v)
				}
			}
			e.Value = strings.Join(values, ",")
		}
		entries = append(entries, e)
	}
}
