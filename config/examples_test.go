package config

import (
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/limpetlb/limpet/internal/fielderr"
)

// fencedYAML is a configuration in a document.
var fencedYAML = regexp.MustCompile("(?ms)^( *)```yaml\n(.*?)^ *```$")

// documentedConfigurations are the configurations in the documents, the one
// with something of everything, and one with what is missing in these.
func documentedConfigurations(t *testing.T) []string {
	t.Helper()
	names := []string{"../docs/reference/configuration.md", "testdata/shop/shop.yaml", "../README.md"}
	err := filepath.WalkDir("../docs", func(name string, _ fs.DirEntry, err error) error {
		if filepath.Ext(name) == ".md" && !slices.Contains(names, filepath.ToSlash(name)) {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	names = append(names, "testdata/examples.yaml")
	var all []string
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Ext(name) == ".yaml" {
			all = append(all, string(data))
			continue
		}
		for _, m := range fencedYAML.FindAllStringSubmatch(string(data), -1) {
			all = append(all, strings.ReplaceAll("\n"+m[2], "\n"+m[1], "\n"))
		}
	}
	return all
}

// fieldExamples are the first value of each field in the configurations of the
// documents that fits a line, by mapping and key as the schema has them.
func fieldExamples(t *testing.T) map[string]any {
	t.Helper()
	e := examples{}
	for _, text := range documentedConfigurations(t) {
		var n yaml.Node
		if err := yaml.Unmarshal([]byte(text), &n); err != nil {
			t.Fatal(err)
		}
		e.value(n.Content[0], reflect.TypeFor[document]())
	}
	return e
}

type examples map[string]any

// value collects those in a node of a type.
func (e examples) value(n *yaml.Node, t reflect.Type) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch n.Kind {
	case yaml.SequenceNode:
		if t.Kind() == reflect.Slice {
			for _, item := range n.Content {
				e.value(item, t.Elem())
			}
		}
	case yaml.MappingNode:
		if c, ok := reflect.TypeAssert[choice](reflect.New(t)); ok {
			_, own := c.parts()
			t = reflect.TypeOf(own()).Elem()
		} else if t == reflect.TypeFor[profileChoice]() {
			t = reflect.TypeFor[sessionProfile]()
		}
		for i := 0; i < len(n.Content); i += 2 {
			key, value := n.Content[i].Value, n.Content[i+1]
			types := map[string]reflect.Type{}
			if members := unions[t]; members != nil {
				for i, name := range typeNames(members) {
					types[name] = members[i]
				}
			} else if t.Kind() == reflect.Struct {
				for _, f := range fieldsOf(t).list {
					types[fielderr.Name(f.Name)] = f.Type
				}
			}
			if types[key] != nil {
				id := typeName(t) + "." + key
				if shown, size := oneLine(value); e[id] == nil && shown != nil && size <= 60 {
					e[id] = shown
				}
				e.value(value, types[key])
			}
		}
	}
}

// oneLine is a node as JSON, and about how long it is in a line; nil if it is
// nothing, or more than a document would have in a line.
func oneLine(n *yaml.Node) (value any, size int) {
	switch n.Kind {
	case yaml.ScalarNode:
		size = len(n.Value)
		switch n.Tag {
		case "!!null":
			return nil, 0
		case "!!bool":
			return n.Value == "true", size
		case "!!int", "!!float":
			if f, err := strconv.ParseFloat(n.Value, 64); err == nil {
				return f, size
			}
		}
		return n.Value, size
	case yaml.SequenceNode:
		list := []any{}
		for _, item := range n.Content {
			v, s := oneLine(item)
			if v == nil {
				return nil, 0
			}
			list, size = append(list, v), size+s+2
		}
		return list, size
	case yaml.MappingNode:
		mapping := object{}
		for i := 0; i < len(n.Content); i += 2 {
			v, s := oneLine(n.Content[i+1])
			if v == nil {
				return nil, 0
			}
			mapping[n.Content[i].Value], size = v, size+len(n.Content[i].Value)+s+4
		}
		return mapping, size
	}
	return nil, 0
}
