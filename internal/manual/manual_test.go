package manual

import (
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// module is the folder of the module.
const module = "../.."

// documents returns the text of each Markdown file of the module, by its path
// there.
func documents(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	err := filepath.WalkDir(module, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && d.Name() != "." && d.Name() != ".." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata") {
			return fs.SkipDir
		}
		if filepath.Ext(path) != ".md" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(module, path)
		texts[filepath.ToSlash(name)] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(texts) == 0 {
		t.Fatal("no documents")
	}
	return texts
}

var (
	fencedText = regexp.MustCompile("(?ms)^ *```.*?^ *```$")
	codeText   = regexp.MustCompile("`[^`\n]*`")
	heading    = regexp.MustCompile(`(?m)^#+ +(.*)$`)
	linkText   = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	linkMarkup = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
)

// anchors returns the names by which links find the headings of a document.
func anchors(text string) map[string]bool {
	found := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(fencedText.ReplaceAllString(text, ""), -1) {
		var b strings.Builder
		for _, r := range strings.ToLower(linkMarkup.ReplaceAllString(m[1], "$1")) {
			switch {
			case r == ' ':
				b.WriteByte('-')
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				b.WriteRune(r)
			}
		}
		found[b.String()] = true
	}
	return found
}

// TestLinks follows every link within the module, to the file and to its
// heading. Documents move, and their links stayed behind.
func TestLinks(t *testing.T) {
	texts := documents(t)
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		prose := codeText.ReplaceAllString(fencedText.ReplaceAllString(texts[name], ""), "`code`")
		for _, m := range linkText.FindAllStringSubmatch(prose, -1) {
			link := m[1]
			if strings.Contains(link, "://") || strings.HasPrefix(link, "mailto:") {
				continue
			}
			file, anchor, _ := strings.Cut(link, "#")
			to := name
			if file != "" {
				to = filepath.ToSlash(filepath.Join(filepath.Dir(name), file))
			}
			if _, err := os.Stat(filepath.Join(module, to)); err != nil {
				t.Errorf("%s: the link to %s leads nowhere", name, link)
				continue
			}
			if anchor != "" && !anchors(texts[to])[anchor] {
				t.Errorf("%s: the link to %s finds no such heading", name, link)
			}
		}
	}
}

// TestEveryDocumentIsLinked finds each user document on the page that lists
// them, and each document for those who change limpet in CONTRIBUTING.md.
func TestEveryDocumentIsLinked(t *testing.T) {
	texts := documents(t)
	index := texts["docs/README.md"] + strings.ReplaceAll(texts["CONTRIBUTING.md"], "](docs/", "](")
	for name := range texts {
		if path, ok := strings.CutPrefix(name, "docs/"); ok && path != "README.md" && !strings.Contains(index, "]("+path+")") {
			t.Errorf("docs/README.md has no link to %s", path)
		}
	}
}

// TestMap finds each internal package on the map of the architecture page. Some
// were missing as soon as it was written.
func TestMap(t *testing.T) {
	page := documents(t)["docs/architecture.md"]
	packages, err := os.ReadDir(filepath.Join(module, "internal"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range packages {
		if p.IsDir() && !strings.Contains(page, "`internal/"+p.Name()+"`") {
			t.Errorf("docs/architecture.md does not say what internal/%s is for", p.Name())
		}
	}
}

// goBlocks returns the fenced Go code of a document.
func goBlocks(text string) (blocks []string) {
	for _, m := range regexp.MustCompile("(?ms)^```go\n(.*?)^```$").FindAllStringSubmatch(text, -1) {
		blocks = append(blocks, m[1])
	}
	return blocks
}

// plain is code without what depends on the place where it stands.
func plain(code string) string { return strings.Join(strings.Fields(code), " ") }

// TestGoCode finds each piece of Go code of the documents in an example or a
// test, which runs it, and builds each program.
func TestGoCode(t *testing.T) {
	var sources strings.Builder
	for _, pattern := range []string{"example*_test.go", "metrics/example*_test.go", "tracing/example*_test.go", "admin/example*_test.go", "internal/manual/*_test.go"} {
		files, err := filepath.Glob(filepath.Join(module, pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, error %v", pattern, len(files), err)
		}
		for _, file := range files {
			code, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			sources.WriteString(plain(string(code)) + "\n")
		}
	}
	programs := 0
	for name, text := range documents(t) {
		if name != "README.md" && !strings.HasPrefix(name, "docs/") {
			continue
		}
		for _, block := range goBlocks(text) {
			switch {
			case strings.HasPrefix(block, "package main\n"):
				programs++
				build(t, name, block)
			case !strings.Contains(sources.String(), plain(block)):
				t.Errorf("%s: no test runs\n%s", name, block)
			}
		}
	}
	if programs < 2 {
		t.Errorf("%d programs", programs)
	}
}

// build compiles a program as if it were a package of the module. It is not
// linked, which would take longer.
func build(t *testing.T, name, program string) {
	t.Helper()
	dir := t.TempDir()
	here, err := filepath.Abs(module)
	if err != nil {
		t.Fatal(err)
	}
	source, overlay := filepath.Join(dir, "main.go"), filepath.Join(dir, "overlay.json")
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(here, "examples", "document", "main.go"): source}})
	if err != nil {
		t.Fatal(err)
	}
	for file, content := range map[string]string{source: program, overlay: string(replace)} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", "list", "-export", "-f", "", "-overlay", overlay, "./examples/document")
	cmd.Dir = module
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", name, err, out)
	}
}
