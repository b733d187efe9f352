package geoip

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestWatcher(t *testing.T) {
	dir := t.TempDir()
	mmdb, networks := filepath.Join(dir, "countries.mmdb"), filepath.Join(dir, "networks")
	put := func(path string, content []byte) {
		if err := errors.Join(os.WriteFile(path+"~", content, 0o600), os.Rename(path+"~", path)); err != nil {
			t.Fatal(err)
		}
	}
	gb, fr := file(t, "gb"), file(t, "fr")
	us, de := []byte("prefix;country code\n10.0.0.0/8;US"), []byte("prefix;country code\n10.0.0.0/8;DE")
	steps := []struct {
		name    string
		change  func()
		mmdb    string // country of the address in the database
		network string // and of that in the table
		path    string // of the one event, if there is one
		failure string // of the event
	}{
		{"nothing", func() {}, "GB", "US", "", ""},
		{"other database", func() { put(mmdb, fr) }, "FR", "US", mmdb, ""},
		{"equal database", func() { put(mmdb, fr) }, "FR", "US", "", ""},
		{"database cut in place", func() { _ = os.Truncate(mmdb, int64(len(fr)/2)) }, "FR", "US", mmdb, "not a MaxMind database"},
		{"damaged database", func() { put(mmdb, append(gb[:len(gb)/3:len(gb)/3], gb[len(gb)/2:]...)) }, "FR", "US", mmdb, "database"},
		{"good again", func() { put(mmdb, gb) }, "GB", "US", mmdb, ""},
		{"text", func() { put(mmdb, us) }, "GB", "US", mmdb, "not a MaxMind database"},
		{"missing", func() { _ = os.Remove(mmdb) }, "GB", "US", mmdb, "no such file"},
		{"still missing", func() {}, "GB", "US", "", ""},
		{"directory", func() { _ = os.Mkdir(mmdb, 0o700) }, "GB", "US", mmdb, "not a regular file"},
		{"other table", func() { put(networks, de) }, "GB", "DE", networks, ""},
		{"empty table", func() { put(networks, nil) }, "GB", "DE", networks, "no networks"},
		{"bad table", func() { put(networks, []byte("prefix;city\n10.0.0.0/33;x")) }, "GB", "DE", networks, "line 2"},
		{"good table", func() { put(networks, us) }, "GB", "US", networks, ""},
	}
	put(mmdb, gb)
	put(networks, us)
	synctest.Test(t, func(t *testing.T) {
		db, table := new(DB), new(Table)
		events := make(chan FileEvent, 10)
		w, err := NewWatcher([]File{{mmdb, db}, {networks, table}}, func(e FileEvent) { events <- e })
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go w.Run(ctx)
		for _, step := range steps {
			step.change()
			time.Sleep(2 * time.Second)
			synctest.Wait()
			wantCountry(t, db, "81.2.69.1", step.mmdb)
			if code, _ := table.Country(netip.MustParseAddr("10.0.0.1")); code != step.network {
				t.Errorf("%s: the table says %q, want %q", step.name, code, step.network)
			}
			if got, want := len(events), min(1, len(step.path)); got != want {
				t.Errorf("%s: %d events, want %d", step.name, got, want)
				continue
			}
			if step.path == "" {
				continue
			}
			e := <-events
			if e.Path != step.path || (e.Err == nil) != (step.failure == "") || e.Err != nil && !strings.Contains(e.Err.Error(), step.failure) {
				t.Errorf("%s: event %+v", step.name, e)
			}
			if e.Err != nil && !strings.Contains(e.Err.Error(), e.Path) {
				t.Errorf("%s: %v does not name the file", step.name, e.Err)
			}
		}
	})
}

func TestNewWatcherFaults(t *testing.T) {
	dir := t.TempDir()
	w, err := NewWatcher([]File{{dir + "/a", nil}, {dir + "/b", nil}}, nil)
	if w != nil || err == nil || err.Error() != "files[0].source: missing\nfiles[1].source: missing" {
		t.Errorf("without sources: %v", err)
	}
	w, err = NewWatcher([]File{{save(t, []byte("x")), new(DB)}, {dir + "/none", new(Table)}}, nil)
	if w != nil || err == nil || !strings.Contains(err.Error(), "files[0]: ") || !strings.Contains(err.Error(), "files[1]: ") || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without good files: %v", err)
	}
	path := save(t, file(t, "gb"))
	w, err = NewWatcher([]File{{path, new(DB)}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) { // nothing needs to be reported
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := w.Run(ctx); err != nil {
			t.Error(err)
		}
	})
}
