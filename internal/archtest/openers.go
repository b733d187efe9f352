package archtest

import (
	"go/ast"
	"slices"
	"strings"
)

// openers are the functions that open what may be a named pipe, or read it, and
// then wait for somebody who writes there.
var openers = []string{"Open", "ReadFile", "OpenFile", "Create", "WriteFile"}

// mayOpen are the packages and files that use them, and why.
var mayOpen = map[string]string{
	"internal/filewatch":                 "it opens files for all others, and waits for nobody",
	"internal/logfile":                   "it opens pipes so that nobody has to read them",
	"persistence/file.go":                "it makes files that must not be there yet, and opens their directory",
	"config/outputs_other.go":            "it looks at the kind of the file before",
	"cmd/limpet/test.go":                 "it makes a file that was named to be written, and can be interrupted",
	"datascript/datascripttest/files.go": "it writes a file that it has read, so a regular one",
	"internal/archtest":                  "for tests",
	"internal/assurance":                 "for tests",
	"internal/testfiles":                 "for tests",
	"internal/transparency":              "for tests",
	"cmd/limpet/internal/testacme":       "for tests",
}

// CheckOpeners finds files that are opened in other ways than by package
// filewatch, outside tests: a pipe in the place of a file would hang there.
func CheckOpeners(m *Module) []Finding {
	var found []Finding
	for _, p := range m.Packages {
		path := relative(p.Path)
		if strings.HasPrefix(path, "examples") {
			continue
		}
		for _, f := range p.Files {
			if mayOpen[path] != "" || mayOpen[f.Name] != "" {
				continue
			}
			ast.Inspect(f.File, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if ok && slices.ContainsFunc(openers, func(name string) bool { return isQualified(f, call.Fun, "os", name) }) {
					name := call.Fun.(*ast.SelectorExpr).Sel.Name
					found = append(found, m.finding(call.Pos(), "os.%s may wait for a named pipe; use internal/filewatch", name))
				}
				return true
			})
		}
	}
	return found
}
