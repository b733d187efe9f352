package testchild

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestChild(t *testing.T) {
	if Running() {
		fmt.Println("ready", os.Getenv("LIMPET_EXTRA"))
		Wait()
		fmt.Println("report")
		return
	}
	t.Run("below", func(t *testing.T) {
		c := Start(t, Command(t, "LIMPET_EXTRA=more"))
		if got := c.Line(); got != "ready more" {
			t.Errorf("%q", got)
		}
		if got := c.End(); !slices.Equal(got, []string{"report", "PASS"}) {
			t.Errorf("%q", got)
		}
	})
}

func TestFailure(t *testing.T) {
	if Running() {
		t.Fatal("a fault")
	}
	out, err := Command(t).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "a fault") {
		t.Errorf("%v: %s", err, out)
	}
}
