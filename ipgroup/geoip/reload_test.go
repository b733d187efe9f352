package geoip

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// save writes b to a file in a new directory.
func save(t testing.TB, b []byte) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "countries.mmdb")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func wantCountry(t *testing.T, db *DB, addr, want string) {
	t.Helper()
	if got, ok := db.Country(netip.MustParseAddr(addr)); got != want || ok != (want != "") {
		t.Errorf("Country(%s) = %q, %v; want %q", addr, got, ok, want)
	}
}

func TestOpenAndReload(t *testing.T) {
	path := save(t, file(t, "gb"))
	db, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	wantCountry(t, db, "81.2.69.1", "GB")

	if err := db.Reload(save(t, file(t, "fr"))); err != nil {
		t.Fatal(err)
	}
	wantCountry(t, db, "81.2.69.1", "FR")

	bad := file(t, "gb")
	for name, path := range map[string]string{
		"cut":      save(t, bad[:len(bad)-40]),
		"empty":    save(t, nil),
		"missing":  filepath.Join(t.TempDir(), "none.mmdb"),
		"asn only": save(t, file(t, "unknown")),
	} {
		if err := db.Reload(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: Reload = %v, want an error that names the file", name, err)
		}
		wantCountry(t, db, "81.2.69.1", "FR")
	}
}

// The file may be cut, overwritten and removed under a DB that uses it.
func TestFileChangesInPlace(t *testing.T) {
	path := save(t, file(t, "gb"))
	db, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range []func() error{
		func() error { return os.Truncate(path, 0) },
		func() error { return os.WriteFile(path, []byte(strings.Repeat("x", 4096)), 0o600) },
		func() error { return os.Remove(path) },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		wantCountry(t, db, "81.2.69.1", "GB")
	}
}

func TestOpenRefusesWhatIsNotAFile(t *testing.T) {
	dir := t.TempDir()
	big := filepath.Join(dir, "big.mmdb")
	if err := os.WriteFile(big, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(big, MaxSize+1); err != nil { // sparse, takes no room
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		dir:           "not a regular file",
		os.DevNull:    "not a regular file",
		big:           "too large",
		dir + "/none": "no such file",
	} {
		if db, err := Open(path); db != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Open(%s) = %v, %v; want an error with %q", path, db, err, want)
		}
	}
	if _, err := Open(dir + "/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v is not ErrNotExist", err)
	}
}

func TestClose(t *testing.T) {
	db := open(t, file(t, "gb"))
	for range 2 {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
		wantCountry(t, db, "81.2.69.1", "")
		if got := db.Metadata(); got != (Metadata{}) {
			t.Errorf("Metadata() = %+v after Close", got)
		}
	}
	if err := db.Reload(save(t, file(t, "fr"))); err != nil {
		t.Fatal(err)
	}
	wantCountry(t, db, "81.2.69.1", "FR")
}

// Both addresses of one database have one country, so a lookup that saw parts
// of two databases would return a code of the other one; the race detector sees
// the rest.
func TestLookupsWhileReloading(t *testing.T) {
	paths := []string{save(t, file(t, "gb")), save(t, file(t, "fr"))}
	db, err := Open(paths[0])
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddr("81.2.69.1")
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 64 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				code, ok := db.Country(addr)
				if ok && code != "GB" && code != "FR" || !ok && code != "" {
					t.Errorf("Country = %q, %v", code, ok)
					return
				}
				if m := db.Metadata(); m.Type != "" && m.Countries != 1 {
					t.Errorf("Metadata = %+v", m)
					return
				}
			}
		})
	}
	for i := range 60 {
		if i%10 == 9 {
			db.Close()
		}
		if err := db.Reload(paths[i%2]); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	readers.Wait()
	wantCountry(t, db, "81.2.69.1", "FR")
}
