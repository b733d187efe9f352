package assurance

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// A Tree is the sources of a module, nested modules included, and its list of
// expected skips.
type Tree struct {
	dir      string
	skips    []skip
	packages map[string]map[string]*testFunc // by directory, by name; read when asked for
}

// A testFunc is a test function and the names that its subtests may have.
type testFunc struct {
	skipped  bool            // without any condition
	literals map[string]bool // strings of its file, and files of its test data
}

// skip is a line of the list of skips: RUN PACKAGE TEST REASON.
type skip struct {
	run, pkg string
	test     *regexp.Regexp
}

// NewTree returns the tree of a directory. The list of skips is that of the
// directory's internal/tools/skips; without that file nothing is skipped.
func NewTree(dir string) (*Tree, error) {
	t := &Tree{dir: dir, packages: map[string]map[string]*testFunc{}}
	name := filepath.Join(dir, "internal", "tools", "skips")
	text, err := os.ReadFile(name)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return t, err
	}
	for i, line := range strings.Split(string(text), "\n") {
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if len(fields) < 4 {
			return nil, fmt.Errorf("%s:%d: want RUN PACKAGE TEST REASON", name, i+1)
		}
		test, err := regexp.Compile("^(?:" + fields[2] + ")$")
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, i+1, err)
		}
		t.skips = append(t.skips, skip{fields[0], fields[1], test})
	}
	return t, nil
}

// Check looks for each test that a document names. The error joins what is
// wrong, each with the line of its row.
func (t *Tree) Check(d *Document) error {
	var faults []error
	for _, g := range d.Groups {
		for _, r := range g.Rows {
			for _, test := range r.Tests {
				if err := t.find(test); err != nil {
					faults = append(faults, fmt.Errorf("%s:%d: %s: %w", d.Name, r.Line, r.ID, err))
				}
			}
		}
	}
	return errors.Join(faults...)
}

// find looks for a test that can run.
func (t *Tree) find(test Test) error {
	funcs, err := t.read(test.Package)
	if err != nil {
		return err
	}
	f := funcs[test.Name]
	if f == nil {
		return fmt.Errorf("there is no test %v", test)
	}
	if f.skipped {
		return fmt.Errorf("the test %v always skips itself", test)
	}
	if test.Subtest != "" {
		for part := range strings.SplitSeq(test.Subtest, "/") {
			if !f.literals[part] {
				return fmt.Errorf("%v: no subtest %q: neither a string in its file nor a file of its test data", test, part)
			}
		}
	}
	runs := map[string]bool{"race": true, "plain": true}
	for _, s := range t.skips {
		if s.covers(test) {
			delete(runs, s.run)
			if s.run == "*" {
				clear(runs)
			}
		}
	}
	if len(runs) == 0 {
		return fmt.Errorf("%v may be skipped in every run: internal/tools/skips", test)
	}
	return nil
}

// covers reports whether the line lets a test be skipped, or the function that
// it is a subtest of.
func (s skip) covers(t Test) bool {
	path := "/" + rootPackage + "/" + t.Package
	if parent, below := strings.CutSuffix(s.pkg, "/..."); below {
		if !strings.Contains(path+"/", "/"+parent+"/") {
			return false
		}
	} else if s.pkg != "*" && !strings.HasSuffix(strings.TrimSuffix(path, "/"), "/"+s.pkg) {
		return false
	}
	name := t.Name
	if s.test.MatchString(name) {
		return true
	}
	for part := range strings.SplitSeq(t.Subtest, "/") {
		if name += "/" + part; s.test.MatchString(name) {
			return true
		}
	}
	return false
}

// read returns the test functions of a package by name.
func (t *Tree) read(pkg string) (map[string]*testFunc, error) {
	if funcs, ok := t.packages[pkg]; ok {
		return funcs, nil
	}
	dir := filepath.Join(t.dir, filepath.FromSlash(pkg))
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("the directory %q has no tests", pkg)
	}
	data, err := testData(filepath.Join(dir, "testdata"))
	if err != nil {
		return nil, err
	}
	funcs := map[string]*testFunc{}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		literals := map[string]bool{}
		for name := range data {
			literals[name] = true
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if s, err := strconv.Unquote(lit.Value); err == nil {
					literals[subtestName(s)] = true
				}
			}
			return true
		})
		for _, decl := range file.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Body != nil {
				funcs[fn.Name.Name] = &testFunc{alwaysSkips(fn), literals}
			}
		}
	}
	t.packages[pkg] = funcs
	return funcs, nil
}

// testData returns the names of the files below a directory, without their
// extensions: tests that run one file each name their subtests so.
func testData(dir string) (map[string]bool, error) {
	names := map[string]bool{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path == dir {
			return fs.SkipAll
		}
		if err == nil {
			names[subtestName(strings.TrimSuffix(d.Name(), filepath.Ext(path)))] = true
		}
		return err
	})
	return names, err
}

// subtestName is the name that go test makes of the one that a test gives.
func subtestName(s string) string { return strings.ReplaceAll(s, " ", "_") }

// alwaysSkips reports whether a call of t.Skip stands in the function itself,
// where no condition guards it.
func alwaysSkips(fn *ast.FuncDecl) bool {
	for _, stmt := range fn.Body.List {
		expr, ok := stmt.(*ast.ExprStmt)
		if !ok {
			continue
		}
		call, ok := expr.X.(*ast.CallExpr)
		if !ok {
			continue
		}
		if sel, ok := call.Fun.(*ast.SelectorExpr); ok {
			switch sel.Sel.Name {
			case "Skip", "Skipf", "SkipNow":
				return true
			}
		}
	}
	return false
}
