package archtest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// modulePath is the library's module.
const modulePath = "github.com/limpetlb/limpet"

// nested are the directories of the other modules of the workspace: those that
// the rules are written for as well.
var nested = []string{"cmd/limpet", "metrics", "tracing"}

// inWorkspace reports whether the rules are written for a module.
func inWorkspace(path string) bool {
	dir, ok := strings.CutPrefix(path, modulePath+"/")
	return path == modulePath || ok && slices.Contains(nested, dir)
}

// Finding is one violation of a rule.
type Finding struct {
	Pos  token.Position // Filename is relative to the module's directory; it may be all there is
	Text string         // what is wrong and, where the rule has one, the reason for it
}

// String returns the finding as a compiler would print it.
func (f Finding) String() string { return fmt.Sprintf("%v: %s", f.Pos, f.Text) }

// Module is a module's source, parsed and type-checked.
type Module struct {
	Dir      string     // absolute
	Packages []*Package // all packages of the workspace, sorted by path; those of other nested modules are not among them

	fset    *token.FileSet
	imports types.Importer    // of the packages in exports
	exports map[string]string // import path -> file with the compiled declarations, "" if it does not compile
	owners  map[string]string // import path -> path of the module that holds it; nothing for the standard library
}

// Package is one package of a [Module]. A directory that holds nothing but
// tests is a package without Files.
type Package struct {
	Path  string  // relative to the module: "" for the root package, "internal/archtest" for this one
	Name  string  // as in the package clause
	Files []*File // as compiled for this system
	Tests []*File // of the package itself and of the external test package

	Types     *types.Package // of Files, never nil
	TypeError error          // the first one; Types is incomplete then
}

// File is one source file.
type File struct {
	Name string // relative to the module's directory
	*ast.File
}

// IsPublic reports whether p is meant for other modules to import: examples
// without a command are not.
func (p *Package) IsPublic() bool {
	parts := strings.Split(p.Path, "/")
	return p.Name != "main" && !slices.Contains(parts, "internal") && parts[0] != "examples"
}

// IsImportable reports whether tests of the library can use the package: those
// of the nested modules need what the library must not require.
func (p *Package) IsImportable() bool {
	return p.IsPublic() && !slices.ContainsFunc(nested, func(dir string) bool { return p.Path == dir || strings.HasPrefix(p.Path, dir+"/") })
}

// listed is what the go command says of a package.
type listed struct {
	Dir, ImportPath, Name, Export      string
	Standard                           bool
	Module                             *struct{ Path string }
	GoFiles, TestGoFiles, XTestGoFiles []string
	Error                              *struct{ Err string }
}

// Load loads the module in dir, and the command, which is a module of its own
// in the same workspace. A package that does not compile is loaded as far as it
// goes and has a TypeError.
func Load(dir string) (*Module, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := touch(dir); err != nil {
		return nil, err
	}
	all, err := goList(dir)
	if err != nil {
		return nil, err
	}

	m := &Module{Dir: dir, fset: token.NewFileSet(), exports: make(map[string]string), owners: make(map[string]string)}
	for _, l := range all {
		m.exports[l.ImportPath] = l.Export
		if l.Module != nil {
			m.owners[l.ImportPath] = l.Module.Path
		}
	}
	m.imports = importer.ForCompiler(m.fset, "gc", func(path string) (io.ReadCloser, error) {
		if m.exports[path] == "" {
			return nil, fmt.Errorf("%s does not compile", path)
		}
		return os.Open(m.exports[path])
	})
	for _, l := range all {
		if l.Module == nil || !inWorkspace(l.Module.Path) {
			continue
		}
		p, err := m.load(l)
		if err != nil {
			return nil, err
		}
		m.Packages = append(m.Packages, p)
	}
	if len(m.Packages) == 0 {
		return nil, fmt.Errorf("no package of %s in %s", modulePath, dir)
	}
	slices.SortFunc(m.Packages, func(a, b *Package) int { return cmp.Compare(a.Path, b.Path) })
	return m, nil
}

// touch reads the names in all source directories. The go command reuses the
// result of a test as long as the files and directories are the same that the
// test itself opened, and what "go list" opens does not count.
func touch(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() || path == dir {
			return err
		}
		if name := d.Name(); strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata" {
			return filepath.SkipDir
		}
		return nil
	})
}

// goList lists the packages of the module in dir, those of the nested modules
// and all they import, and compiles them. Whoever tests the library without the
// workspace tests the rules of all.
func goList(dir string) ([]listed, error) {
	args := []string{"list", "-e", "-export", "-deps", "-json=Dir,ImportPath,Name,Export,Standard,Module,GoFiles,TestGoFiles,XTestGoFiles,Error", "./..."}
	for _, path := range nested {
		if _, err := os.Stat(filepath.Join(dir, path)); err == nil {
			args = append(args, "./"+path+"/...")
		}
	}
	list := exec.Command("go", args...)
	list.Dir, list.Env = dir, append(os.Environ(), "GOWORK=auto")
	var stderr bytes.Buffer
	list.Stderr = &stderr
	out, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("go list in %s: %w\n%s", dir, err, stderr.Bytes())
	}
	var all []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var l listed
		switch err := dec.Decode(&l); {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, fmt.Errorf("go list in %s: %w", dir, err)
		}
		all = append(all, l)
	}
}

// load parses and type-checks one package of the module.
func (m *Module) load(l listed) (*Package, error) {
	path := strings.TrimPrefix(strings.TrimPrefix(l.ImportPath, modulePath), "/")
	p := &Package{Path: path, Name: l.Name}
	var err error
	if p.Files, err = m.parse(l.Dir, l.GoFiles); err != nil {
		return nil, err
	}
	if p.Tests, err = m.parse(l.Dir, append(l.TestGoFiles, l.XTestGoFiles...)); err != nil {
		return nil, err
	}

	if l.Error != nil {
		p.TypeError = errors.New(l.Error.Err)
	}
	conf := types.Config{Importer: m.imports, Error: func(err error) {
		if p.TypeError == nil {
			p.TypeError = err
		}
	}}
	files := make([]*ast.File, len(p.Files))
	for i, f := range p.Files {
		files[i] = f.File
	}
	p.Types, _ = conf.Check(l.ImportPath, m.fset, files, nil) // the error is the first one that conf.Error saw
	return p, nil
}

// parse parses the named files of a directory.
func (m *Module) parse(dir string, names []string) ([]*File, error) {
	var files []*File
	for _, name := range names {
		rel, err := filepath.Rel(m.Dir, filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		rel = filepath.ToSlash(rel)
		src, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		parsed, err := parser.ParseFile(m.fset, rel, src, parser.ParseComments|parser.SkipObjectResolution)
		if parsed == nil {
			return nil, err
		}
		files = append(files, &File{Name: rel, File: parsed}) // what is missing shows as a TypeError
	}
	return files, nil
}

// finding returns a finding at pos.
func (m *Module) finding(pos token.Pos, format string, args ...any) Finding {
	return Finding{m.fset.Position(pos), fmt.Sprintf(format, args...)}
}

// packageFinding returns a finding about p as a whole.
func packageFinding(p *Package, format string, args ...any) Finding {
	return Finding{token.Position{Filename: cmp.Or(p.Path, "root package")}, fmt.Sprintf(format, args...)}
}
