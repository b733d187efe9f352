package main

import (
	"os"
	"reflect"
	"strings"
	"testing"
)

// The document names every field of a configuration, and its example is one.
func TestDocument(t *testing.T) {
	data, err := os.ReadFile("../../docs/command.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(data), "\n## The configuration\n")
	var look func(reflect.Type)
	look = func(typ reflect.Type) {
		switch typ.Kind() {
		case reflect.Pointer, reflect.Slice:
			look(typ.Elem())
		case reflect.Struct:
			for i := range typ.NumField() {
				f := typ.Field(i)
				if name := f.Tag.Get("yaml"); name != "" {
					if !strings.Contains(text, "`"+name+"`") {
						t.Errorf("no word of %s", name)
					}
					look(f.Type)
				}
			}
		}
	}
	look(reflect.TypeFor[config]())
	for name := range algorithms {
		if name != "" && !strings.Contains(text, "`"+name+"`") {
			t.Errorf("no word of the algorithm %s", name)
		}
	}

	_, example, _ := strings.Cut(text, "```yaml\n")
	example, _, _ = strings.Cut(example, "```")
	dir := in(t, map[string]string{"limpet.yaml": example, "stick.lua": "-- HTTP_REQ\n"})
	if status, out, errs := invoke(t, dir, "explain", "DIR/limpet.yaml", "http://a/"); status != ok || !strings.Contains(out, "\npool           web\n") {
		t.Errorf("the example: status %d, %s%s", status, out, errs)
	}
}
