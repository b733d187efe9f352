package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// The document names every field, type and pool algorithm of a configuration,
// and its examples are configurations.
func TestDocument(t *testing.T) {
	data, err := os.ReadFile("../../docs/reference/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
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

// Every YAML file in the documents is a configuration without a fault. Those of
// guides name no more files than the ones here.
func TestDocumentsCheck(t *testing.T) {
	names := []string{"../../README.md"}
	err := filepath.WalkDir("../../docs", func(name string, _ fs.DirEntry, err error) error {
		if filepath.Ext(name) == ".md" {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	files := 0
	fenced := regexp.MustCompile("(?ms)^( *)```yaml\n(.*?)^ *```$")
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range fenced.FindAllStringSubmatch(string(text), -1) {
			files++
			example := strings.ReplaceAll("\n"+m[2], "\n"+m[1], "\n")
			dir := in(t, map[string]string{"limpet.yaml": example, "stick.lua": "-- HTTP_REQ\n", "places.txt": placesTable})
			if status, out, errs := invoke(t, dir, "check", "DIR/limpet.yaml"); status != ok {
				t.Errorf("%s: %s\nstatus %d, %s%s", name, example, status, out, errs)
			}
		}
	}
	if files < 5 {
		t.Errorf("%d files", files)
	}
}
