package redisstore

import (
	"strconv"
	"strings"
)

// Kinds of keys on the server.
const (
	entryKind  = 'e' // followed by the entry's key
	indexKind  = 'i'
	countsKind = 'c'
	// The script has a fourth: 'l' is there while the index or the counts may
	// be incomplete.
)

// name returns the name on the server of an entry, or of the index or the
// counts of a table:
//
//	{prefix/length of table:table}kind key
//
// A cluster chooses the slot by what is between the first "{" and the next "}"
// (a table's name may contain the latter), so a table is in one slot. The
// length keeps names apart whatever bytes are in table and key.
func name(prefix, table string, kind byte, key string) string {
	return "{" + prefix + "/" + strconv.Itoa(len(table)) + ":" + table + "}" + string(rune(kind)) + key
}

// parseName returns the table and the key of a name of this kind.
func parseName(prefix string, kind byte, name string) (table, key string, ok bool) {
	rest, ok := strings.CutPrefix(name, "{")
	if !ok {
		return "", "", false
	}
	if rest, ok = strings.CutPrefix(rest, prefix); !ok {
		return "", "", false
	}
	digits, rest, ok := strings.Cut(rest, ":")
	if !ok || digits == "" || digits[0] != '/' {
		return "", "", false
	}
	n, err := strconv.ParseUint(digits[1:], 10, 31)
	if err != nil || uint64(len(rest)) < n+2 || rest[n] != '}' || rest[n+1] != kind {
		return "", "", false
	}
	return rest[:n], rest[n+2:], true
}
