package testfiles_test

import (
	"maps"
	"path/filepath"
	"testing"

	"github.com/limpetlb/limpet/internal/testfiles"
)

func TestWrite(t *testing.T) {
	dir := testfiles.Write(t, map[string]string{"a": "1", "deep/er/b": "2", "deep/er/c": ""})
	for pattern, want := range map[string]map[string]string{"[a]": {"a": "1"}, "deep/er/*": {"b": "2", "c": ""}} {
		if got := testfiles.MustRead(filepath.Join(dir, pattern)); !maps.Equal(got, want) {
			t.Errorf("%s: %q, want %q", pattern, got, want)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("files that are missing are no fault")
		}
	}()
	testfiles.MustRead(filepath.Join(dir, "none*"))
}
