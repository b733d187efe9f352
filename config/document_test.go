package config

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/limpetlb/limpet/internal/fielderr"
)

// The document names every field, type and pool algorithm of a configuration,
// and its examples are configurations.
func TestDocument(t *testing.T) {
	data, err := os.ReadFile("../docs/reference/configuration.md")
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
			for _, f := range fieldsOf(typ).list {
				named(fielderr.Name(f.Name))
				look(f.Type)
			}
		}
	}
	look(reflect.TypeFor[document]())

	parts := strings.Split(text, "```yaml\n")[1:]
	if len(parts) != 3 {
		t.Fatalf("%d examples", len(parts))
	}
	for i, want := range []string{"", "", "rules[3] \"moved\""} {
		example, _, _ := strings.Cut(parts[i], "```")
		f, errs := loaded(t, exampleFiles(example), "limpet.yaml")
		if errs != "" {
			t.Fatalf("example %d: %s", i, errs)
		}
		rt, err := f.Build(Options{Offline: true})
		if err != nil {
			t.Fatal(err)
		}
		vs, _ := rt.Service(f.Services()[0])
		if got := vs.Explain(httptest.NewRequest(http.MethodGet, "http://a/", nil)); !strings.Contains(got, want) {
			t.Errorf("example %d: no %q in %s", i, want, got)
		}
	}
}

// exampleFiles are an example, and what those in the documents name.
func exampleFiles(example string) map[string]string {
	return map[string]string{"limpet.yaml": example, "stick.lua": "-- HTTP_REQ\n", "places.txt": placesTable}
}

// Every YAML file in the documents is a configuration without a fault. Those of
// guides name no more files than the ones here.
func TestDocumentsCheck(t *testing.T) {
	names := []string{"../README.md"}
	err := filepath.WalkDir("../docs", func(name string, _ fs.DirEntry, err error) error {
		if filepath.Ext(name) == ".md" {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	files := 0
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range fencedYAML.FindAllStringSubmatch(string(text), -1) {
			files++
			example := strings.ReplaceAll("\n"+m[2], "\n"+m[1], "\n")
			if _, errs := loaded(t, exampleFiles(example), "limpet.yaml"); errs != "" {
				t.Errorf("%s: %s\n%s", name, example, errs)
			}
		}
	}
	if files < 5 {
		t.Errorf("%d files", files)
	}
}
