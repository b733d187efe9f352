package country

import (
	"slices"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestCodes(t *testing.T) {
	if len(Codes) != 250 || !slices.IsSorted(Codes) {
		t.Errorf("%d codes, sorted %v", len(Codes), slices.IsSorted(Codes))
	}
	for _, s := range []string{"DE", "GB", "KP", "XK"} {
		if !IsCode(s) {
			t.Errorf("%q is none", s)
		}
	}
	for _, s := range []string{"", "UK", "EU", "AP", "de", " KP", "KP ", "Germany", "DEU", "XX", "A1"} {
		if IsCode(s) {
			t.Errorf("%q is one", s)
		}
	}
	for wrong, code := range instead {
		if IsCode(wrong) || !IsCode(code) {
			t.Errorf("%s instead of %s", code, wrong)
		}
	}
}
