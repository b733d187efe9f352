package recipes

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/tools/txtar"

	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/datascript/datascripttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRecipes(t *testing.T) {
	datascripttest.RunFiles(t, "*.txtar", datascripttest.Options{})
}

// The document shows the script of each case, and no other.
func TestDocumentShowsScripts(t *testing.T) {
	_, recipes, ok := strings.Cut(read(t, guide), "\n## Recipes\n")
	if !ok {
		t.Fatal("no heading Recipes")
	}
	link := regexp.MustCompile(`\(\.\./\.\./examples/recipes/([\w-]+\.txtar)\)`)
	shown := map[string]bool{}
	for _, recipe := range strings.Split(recipes, "\n### ")[1:] {
		title, text, _ := strings.Cut(recipe, "\n")
		blocks := luaBlocks(text)
		files := link.FindAllStringSubmatch(text, -1)
		if len(blocks) != 1 || len(files) == 0 {
			t.Errorf("%s: %d scripts and %d files; want one script, and files", title, len(blocks), len(files))
			continue
		}
		for _, file := range files {
			shown[file[1]] = true
			if diff := cmp.Diff(scriptOf(t, file[1]), blocks[0]); diff != "" {
				t.Errorf("%s: the script of %s differs (-file +document):\n%s", title, file[1], diff)
			}
		}
	}
	files, err := filepath.Glob("*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d cases, error %v", len(files), err)
	}
	for _, file := range files {
		if !shown[file] {
			t.Errorf("%s is in no recipe", file)
		}
	}
}

// The scripts to copy give no reason to warn.
func TestRecipesAreSound(t *testing.T) {
	_, recipes, _ := strings.Cut(read(t, guide), "\n## Recipes\n")
	for _, source := range luaBlocks(recipes) {
		chunk := datascript.Chunk{Source: source}
		if !strings.Contains(source, "-- HTTP_") {
			chunk.Event = datascript.HTTPReq
			if strings.Contains(source, "update_cookie") {
				chunk.Event = datascript.HTTPResp
			}
		}
		script, err := datascript.Compile("recipe", chunk)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, w := range script.Warnings() {
			t.Errorf("%v in\n%s", w, source)
		}
	}
}

// What stands outside of recipes compiles, too, in all documents.
func TestDocumentCompiles(t *testing.T) {
	blocks := 0
	for _, name := range documents(t) {
		rest, _, _ := strings.Cut(read(t, name), "\n## Recipes\n")
		for _, source := range luaBlocks(rest) {
			blocks++
			if _, err := datascript.Compile("document", datascript.Chunk{Source: source}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if blocks < 4 {
		t.Fatalf("%d scripts", blocks)
	}
}

// The documents about scripts.
const (
	reference = "../../docs/reference/datascript.md"
	guide     = "../../docs/guides/scripts.md"
	faults    = "../../docs/lua.md" // of gopher-lua, whose programs internal/lua51 runs
)

// documents returns the names of all user documents.
func documents(t *testing.T) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir("../../docs", func(name string, _ fs.DirEntry, err error) error {
		if filepath.Ext(name) == ".md" && name != faults {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// luaBlocks returns the fenced blocks of Lua.
func luaBlocks(text string) (blocks []string) {
	for {
		var block string
		var ok bool
		if _, text, ok = strings.Cut(text, "\n```lua\n"); !ok {
			return blocks
		}
		block, text, _ = strings.Cut(text, "```\n")
		blocks = append(blocks, block)
	}
}

func scriptOf(t *testing.T, file string) string {
	t.Helper()
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Error(err)
		return ""
	}
	for _, f := range archive.Files {
		if strings.HasSuffix(f.Name, ".lua") {
			return string(f.Data)
		}
	}
	t.Errorf("%s has no script", file)
	return ""
}
