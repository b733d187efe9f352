package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// commandFilesOf makes what the command can say of itself, by name: a manual
// page of each of its commands, such as limpet-serve.1, and its completions for
// each shell, such as limpet.bash. Its tests make them, so that it need not.
func commandFilesOf(root string) (map[string][]byte, error) {
	dir, err := os.MkdirTemp("", "limpet-dist-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	cmd := exec.Command("go", "test", "-vet=off", "-count=1", "./cmd/limpet", "-run", "^(TestManPages|TestCompletionScripts)$", "-args", "-release", dir)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK="+filepath.Join(root, "go.work"), "GOOS=", "GOARCH=", "GOARM=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("manual pages and completions: %w\n%s", err, out)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for _, e := range entries {
		if files[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{"limpet.1", "limpet-serve.1", "limpet.bash", "limpet.fish", "limpet.ps1", "_limpet"} {
		if len(files[name]) == 0 {
			return nil, fmt.Errorf("the command has not made %s", name)
		}
	}
	return files, nil
}

// documents are what comes with the binary and is made of other files, by name:
// manual pages, completions, and the schema.
func (r release) documents() (map[string][]byte, error) {
	made, err := r.command()
	if err != nil {
		return nil, err
	}
	all := make(map[string][]byte, len(made)+2)
	for name, content := range made {
		if strings.HasSuffix(name, ".1") {
			content = r.manPage(name, content)
		}
		all[name] = content
	}
	page, err := r.configurationPage()
	if err != nil {
		return nil, err
	}
	all["limpet.yaml.5"] = r.manPage("limpet.yaml.5", page)
	all["limpet.schema.json"], err = os.ReadFile(filepath.Join(r.root, "config", "limpet.schema.json"))
	return all, err
}

// isPage reports whether a file is a manual page.
func isPage(name string) bool { return strings.HasSuffix(name, ".1") || strings.HasSuffix(name, ".5") }
