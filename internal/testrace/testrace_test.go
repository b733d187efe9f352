package testrace

import (
	"runtime/debug"
	"testing"
)

// What the files say is what the binary was built with.
func TestEnabled(t *testing.T) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		t.Fatal("the binary does not say how it was built")
	}
	built := false
	for _, s := range info.Settings {
		built = built || s.Key == "-race" && s.Value == "true"
	}
	if Enabled != built {
		t.Errorf("Enabled is %t, but the binary was built with the race detector: %t", Enabled, built)
	}
}
