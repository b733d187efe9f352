package testleak

import (
	"os"
	"testing"
)

// A file that is open is one more, where the system shows them at all.
func TestDescriptors(t *testing.T) {
	before, err := Descriptors()
	if err != nil {
		if _, missing := os.Stat("/proc/self/fd"); missing == nil {
			t.Fatal(err)
		}
		return
	}
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if after, err := Descriptors(); after != before+1 || err != nil {
		t.Errorf("%d, then %d, %v", before, after, err)
	}
}
