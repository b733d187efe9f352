package config

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Included files add to lists, in the order of their names; names of files are
// relative to where they stand, and so are the places of faults.
func TestInclude(t *testing.T) {
	f, errs := loaded(t, map[string]string{
		"limpet.yaml":      "include: [conf/*.yaml, conf/a.yaml, last.yaml]\nname: shop\npools: [{name: first, servers: [{address: 10.0.0.1:80}]}]\n",
		"conf/b.yaml":      "pools:\n- {name: third, servers: [{address: 10.0.0.3:80}]}\nscripts: [{file: b.lua}]\n",
		"conf/a.yaml":      "pools: [{name: second, servers: [{address: 10.0.0.2:80}]}]\nlogging: {slowResponse: 1s}\n",
		"conf/b.lua":       "-- HTTP_REQ\nx = 1\n",
		"conf/empty.yaml":  "# nothing yet\n",
		"conf/ignored.txt": "nonsense",
		"last.yaml":        "pools:\nhttpSecurity: [{name: a, action: close}]\n",
	}, "limpet.yaml")
	if errs != "" {
		t.Fatal(errs)
	}
	var names []string
	for _, p := range f.doc.Pools {
		names = append(names, p.Name)
	}
	if diff := cmp.Diff([]string{"first", "second", "third"}, names); diff != "" {
		t.Error(diff)
	}
	if len(f.doc.HTTPSecurity) != 1 || len(f.Paths()) != 6 {
		t.Errorf("%v, read %v", f.doc.HTTPSecurity, f.Paths())
	}
}

func TestIncludeFaults(t *testing.T) {
	t.Parallel()
	many := map[string]string{"limpet.yaml": "include: ['many/*']\nhttpSecurity: [{name: a, action: close}]\n"}
	for i := range maxIncluded + 1 {
		many[fmt.Sprintf("many/%d", i)] = ""
	}
	large := map[string]string{"limpet.yaml": "include: ['large/*']\n"}
	for i := range 5 {
		large[fmt.Sprintf("large/%d", i)] = "# " + strings.Repeat("x", maxFile-2)
	}
	const first = "httpSecurity: [{name: a, action: close}]\nname: shop\ninclude: [b.yaml]\n"
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"a fault in it":           {map[string]string{"limpet.yaml": first, "b.yaml": "pools:\n  - {name: web, servers: [{addrss: 10.0.0.1}]}\n"}, `DIR/b.yaml:2:28: pools[0].servers[0]: unknown field "addrss"; did you mean "address"?`},
		"an item of both":         {map[string]string{"limpet.yaml": first, "b.yaml": "httpSecurity: [{name: a, action: close}]\n"}, `DIR/b.yaml:1:23: httpSecurity[1].name: "a": already the name of a rule before it`},
		"no YAML":                 {map[string]string{"limpet.yaml": first, "b.yaml": "{"}, "DIR/b.yaml:2:1: while parsing a flow node: did not find expected node content"},
		"no mapping":              {map[string]string{"limpet.yaml": first, "b.yaml": "- a"}, "DIR/b.yaml:1:1: want a mapping, not a list"},
		"in two files":            {map[string]string{"limpet.yaml": first, "b.yaml": "name: other"}, "DIR/b.yaml:1:1: name: stands in two files, the other is DIR/limpet.yaml:2:1"},
		"no list":                 {map[string]string{"limpet.yaml": first, "b.yaml": "httpSecurity: {name: b}"}, "DIR/b.yaml:1:15: httpSecurity: want a list, not a mapping"},
		"nested":                  {map[string]string{"limpet.yaml": first, "b.yaml": "include: [limpet.yaml]"}, "DIR/b.yaml:1:1: include: an included file cannot include files"},
		"an anchor of another":    {map[string]string{"limpet.yaml": first + "instances: &a 1", "b.yaml": "persistenceHeader: *a"}, "DIR/b.yaml:1:20: unknown anchor 'a' referenced"},
		"not there":               {map[string]string{"limpet.yaml": first}, "DIR/limpet.yaml:3:11: include[0]: there is no file DIR/b.yaml"},
		"no pattern":              {map[string]string{"limpet.yaml": "include: ['[']"}, `DIR/limpet.yaml:1:11: include[0]: "[" is not a pattern of file names`},
		"too many":                {many, "DIR/limpet.yaml:1:11: include[0]: more than 256 files"},
		"too large":               {large, "DIR/limpet.yaml:1:11: include[0]: more than 33554432 bytes in all files"},
		"a directory":             {map[string]string{"limpet.yaml": "include: [d]", "d/a": ""}, "DIR/limpet.yaml:1:11: include[0]: open DIR/d: not a regular file"},
		"too large, the first":    {map[string]string{"limpet.yaml": strings.Repeat("#", maxFile+1)}, "DIR/limpet.yaml: longer than 8388608 bytes"},
		"a directory, the first":  {map[string]string{"limpet.yaml/a": ""}, "read DIR/limpet.yaml: is a directory"},
		"not there, the first":    {map[string]string{}, "open DIR/limpet.yaml: no such file or directory"},
		"itself, which is nested": {map[string]string{"limpet.yaml": "include: ['*.yaml']\nname: a\n"}, ""},
	} {
		if name == "too large" && testing.Short() {
			continue // to read it takes seconds; one file that is too large takes none
		}
		t.Run(name, func(t *testing.T) {
			if _, errs := loaded(t, c.files, "limpet.yaml"); !strings.HasPrefix(errs, c.want) || c.want == "" && errs != "" {
				t.Errorf("%.500s\nnot %s", errs, c.want)
			}
		})
	}
}
