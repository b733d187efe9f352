package admin

import (
	"os"
	"strings"
	"testing"
)

// TestReference: the reference names each route with its role, and each code.
func TestReference(t *testing.T) {
	data, err := os.ReadFile("../docs/reference/admin.md")
	must(t, err)
	text := string(data)
	rows := 0
	for line := range strings.Lines(text) {
		if cells := strings.Split(line, " | "); len(cells) == 3 && strings.Contains(cells[0], " `") {
			rows++
		}
	}
	for _, rt := range routes {
		path := rt.pattern
		if rest, ok := strings.CutPrefix(path, service); ok {
			path = "S" + rest
		}
		if row := "| " + rt.method + " `" + path + "` | " + rt.role.String() + " |"; !strings.Contains(text, row) {
			t.Errorf("no row %q", row)
		}
	}
	if rows < len(routes) {
		t.Errorf("%d rows for %d routes", rows, len(routes))
	}
	for _, code := range readDocument(t).Components.Schemas["Problem"].Properties["code"].Enum {
		if !strings.Contains(text, "`"+code+"`") {
			t.Errorf("no code %s", code)
		}
	}
}
