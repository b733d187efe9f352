package persistence

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What the tags of [Options] say.
const (
	defaultMaxEntries    = 1 << 20
	defaultMaxTables     = 64
	defaultMaxValueBytes = 16 << 10
	defaultMaxTableBytes = 256 << 20
)

// The tags of the fields, which files and editors read, say what the constants
// say.
func TestOptionsDefaults(t *testing.T) {
	want := Options{
		MaxEntries: defaultMaxEntries, MaxLifetime: DefaultMaxLifetime, MaxTables: defaultMaxTables,
		MaxKeyBytes: defaultMaxKeyBytes, MaxValueBytes: defaultMaxValueBytes, MaxTableBytes: defaultMaxTableBytes,
	}
	if diff := cmp.Diff(fmt.Sprintf("%+v", want), fmt.Sprintf("%+v", Options{}.withDefaults())); diff != "" {
		t.Error(diff)
	}
}

// TestOptionsFaults: a negative number meant the default, and one above a bound
// the bound, so that nobody noticed the mistake.
func TestOptionsFaults(t *testing.T) {
	bad := Options{MaxEntries: -1, MaxLifetime: lifetimeCeiling + 1, MinLifetime: -time.Second, MaxKeyBytes: 1 << 30, WhenFull: 9}
	want := `maxEntries: -1: less than 1
maxLifetime: 87600h0m0.000000001s: more than 87600h0m0s
minLifetime: -1s: negative
whenFull: 9: not one of evict unused, refuse new
maxKeyBytes: 1073741824: more than 256MiB`
	for name, make := range map[string]func(){
		"NewStore":        func() { NewStore(bad) },
		"NewTable":        func() { NewTable[string, string](bad) },
		"NewTableByOwner": func() { NewTableByOwner[int, int](bad, func(int) string { return "" }) },
	} {
		func() {
			defer func() {
				err, ok := recover().(error)
				if !ok || errors.Unwrap(err).Error() != want {
					t.Errorf("%s: %v, want\n%s", name, err, want)
				}
			}()
			make()
		}()
	}
}
