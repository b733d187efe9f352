package main

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// The document names every field, type and pool algorithm of a configuration,
// and its examples are configurations.
func TestDocument(t *testing.T) {
	data, err := os.ReadFile("../../docs/command.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(data), "\n## The configuration\n")
	named := func(name string) {
		if !strings.Contains(text, "`"+name+"`") && !regexp.MustCompile(`[\s{]`+name+`: `).MatchString(text) && !strings.Contains(text, " "+name+":\n") {
			t.Errorf("no word of %s", name)
		}
	}
	seen := map[reflect.Type]bool{}
	var look func(reflect.Type)
	look = func(typ reflect.Type) {
		if seen[typ] || typ.PkgPath() == "net/netip" {
			return
		}
		seen[typ] = true
		for i, name := range typeNames(unions[typ]) {
			if !strings.Contains(text, ": "+name) { // which is enough as well
				named(name)
			}
			look(unions[typ][i])
		}
		switch typ.Kind() {
		case reflect.Pointer, reflect.Slice:
			look(typ.Elem())
		case reflect.Struct:
			for _, f := range fieldsOf(typ) {
				named(fieldName(f.Name))
				look(f.Type)
			}
		}
	}
	look(reflect.TypeFor[config]())

	parts := strings.Split(text, "```yaml\n")[1:]
	if len(parts) != 2 {
		t.Fatalf("%d examples", len(parts))
	}
	for i, want := range []string{"\npool           web\n", "rules[3] \"moved\""} {
		example, _, _ := strings.Cut(parts[i], "```")
		dir := in(t, map[string]string{"limpet.yaml": example, "stick.lua": "-- HTTP_REQ\n", "places.txt": placesTable})
		if status, out, errs := invoke(t, dir, "explain", "DIR/limpet.yaml", "http://a/"); status != ok || !strings.Contains(out, want) {
			t.Errorf("example %d: status %d, %s%s", i, status, out, errs)
		}
	}
}
