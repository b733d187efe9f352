package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A full disk loses lines, and nothing else. They are counted, and reported
// when there is space.
func TestLogDiskFull(t *testing.T) {
	link := filepath.Join(t.TempDir(), "a.log")
	if err := os.Symlink("/dev/full", link); err != nil {
		t.Fatal(err)
	}
	h := open(t, map[string]string{"limpet.yaml": teapot + "logs: {output: " + link + "}\n"}, Options{})
	const requests = 1000
	for range requests {
		h.visit("limpet", "/lost")
	}
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	if err := h.Reopen(); err != nil {
		t.Fatal(err)
	}
	h.visit("limpet", "/later")
	h.finish()
	text, err := os.ReadFile(link)
	if err != nil {
		t.Fatal(err)
	}
	if lost := strings.Count(string(text), "path=/lost"); lost+toldDropped(string(text)) != requests || lost == requests || strings.Count(string(text), "path=/later") != 1 {
		t.Errorf("%d lines and %d that were dropped, of %d", lost, toldDropped(string(text)), requests)
	}
}
