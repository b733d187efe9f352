package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/build/constraint"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// A testPackage is what go list says of a package.
type testPackage struct {
	ImportPath, Dir                                    string
	GoFiles, TestGoFiles, XTestGoFiles, IgnoredGoFiles []string
}

// unraced returns the packages, of those that go list finds for patterns, with
// tests that differ under the race detector, and an expression for -run that
// matches the names of these tests. All others do the same under it, so that a
// run with the race detector says all about them.
func unraced(patterns ...string) (packages []string, run string, err error) {
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Dir,GoFiles,TestGoFiles,XTestGoFiles,IgnoredGoFiles"}, patterns...)...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return nil, "", fmt.Errorf("go list: %w\n%s", err, &said)
	}
	names := make(map[string]bool)
	for list := json.NewDecoder(bytes.NewReader(out)); ; {
		var p testPackage
		if err := list.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, "", err
		}
		tests, err := p.unraced()
		if err != nil {
			return nil, "", err
		}
		if len(tests) > 0 {
			packages = append(packages, p.ImportPath)
		}
		for _, name := range tests {
			names[regexp.QuoteMeta(name)] = true
		}
	}
	if len(packages) == 0 {
		return nil, "", errors.New("no test differs under the race detector")
	}
	return packages, "^(" + strings.Join(slices.Sorted(maps.Keys(names)), "|") + ")$", nil
}

// unraced returns the tests of a package that differ under the race detector:
// those that use a name of a file that is built with it only, or without it
// only, be it in a function or variable that they use.
func (p testPackage) unraced() ([]string, error) {
	uses := make(map[string]map[string]bool) // by declared name
	differs := map[string]bool{"testrace.Enabled": true}
	for _, name := range slices.Concat(p.GoFiles, p.TestGoFiles, p.XTestGoFiles, p.IgnoredGoFiles) {
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		isRace := dependsOnRace(file)
		if !isRace && slices.Contains(p.IgnoredGoFiles, name) {
			continue // of another system
		}
		for _, decl := range file.Decls {
			declared, used := namesOf(decl)
			for _, name := range declared {
				differs[name] = differs[name] || isRace
				if uses[name] == nil {
					uses[name] = make(map[string]bool)
				}
				maps.Copy(uses[name], used)
			}
		}
	}
	for changed := true; changed; {
		changed = false
		for name, used := range uses {
			if !differs[name] && slices.ContainsFunc(slices.Collect(maps.Keys(used)), func(n string) bool { return differs[n] }) {
				differs[name], changed = true, true
			}
		}
	}
	var tests []string
	for name := range uses {
		if differs[name] && strings.HasPrefix(name, "Test") && name != "TestMain" {
			tests = append(tests, name)
		}
	}
	slices.Sort(tests)
	return tests, nil
}

// dependsOnRace reports whether a file is built only with the race detector, or
// only without it.
func dependsOnRace(file *ast.File) bool {
	for _, group := range file.Comments {
		for _, line := range group.List {
			if line.Pos() > file.Package || !constraint.IsGoBuild(line.Text) {
				continue
			}
			if expr, err := constraint.Parse(line.Text); err == nil && strings.Contains(expr.String(), "race") {
				return true
			}
		}
	}
	return false
}

// namesOf returns the names that are declared at the top level, and those that
// are used for it. An init function declares what it assigns to.
func namesOf(decl ast.Decl) (declared []string, used map[string]bool) {
	used = make(map[string]bool)
	ast.Inspect(decl, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Ident:
			used[n.Name] = true
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok {
				used[x.Name+"."+n.Sel.Name] = true
			}
		case *ast.AssignStmt:
			if f, ok := decl.(*ast.FuncDecl); ok && f.Name.Name == "init" {
				for _, left := range n.Lhs {
					if x, ok := left.(*ast.Ident); ok {
						declared = append(declared, x.Name)
					}
				}
			}
		}
		return true
	})
	switch d := decl.(type) {
	case *ast.FuncDecl:
		if d.Name.Name != "init" {
			declared = append(declared, d.Name.Name)
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.ValueSpec:
				for _, n := range s.Names {
					declared = append(declared, n.Name)
				}
			case *ast.TypeSpec:
				declared = append(declared, s.Name.Name)
			}
		}
	}
	for _, name := range declared {
		delete(used, name)
	}
	return declared, used
}
