package datascripttest_test

import (
	"testing"

	"github.com/limpetlb/limpet/datascript/datascripttest"
)

// The cases show what the functions of the API do, and that a case can show it.
func TestScripts(t *testing.T) {
	datascripttest.RunFiles(t, "testdata/script/*.txtar", datascripttest.Options{})
}
