// Command dist makes what a release ships: static binaries, archives of them
// with manual pages, completions and the schema of configurations, and packages
// for Debian and Fedora. The same commit gives the same bytes, wherever it is
// checked out.
//
//	dist -version v1.2.3 [-out DIR] [-platforms linux/amd64,...]    make everything, with SHA256SUMS
//	dist -version v1.2.3 -notes                                     print the release notes, from CHANGELOG.md
package main

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

func main() {
	root := flag.String("root", ".", "directory of the module")
	version := flag.String("version", "", "version of the release, such as v1.2.3")
	out := flag.String("out", "dist", "directory for the results; those of an earlier run are removed")
	only := flag.String("platforms", strings.Join(platforms, ","), "what to build for")
	notes := flag.Bool("notes", false, "print the release notes instead")
	flag.Parse()
	if err := run(*root, *version, *out, strings.Split(*only, ","), *notes); err != nil {
		fmt.Fprintf(os.Stderr, "dist: %v\n", err)
		os.Exit(1)
	}
}

func run(root, version, out string, platforms []string, notes bool) error {
	r, err := newRelease(root, version)
	if err != nil {
		return err
	}
	if notes {
		text, err := r.notes()
		if err != nil {
			return err
		}
		_, err = fmt.Print(text)
		return err
	}
	return r.make(out, platforms)
}

// A release is one version of limpet.
type release struct {
	root    string                            // of the module
	version string                            // such as v1.2.3
	time    time.Time                         // of the commit, which all files have
	command func() (map[string][]byte, error) // commandFilesOf the root, made once
}

// The form of versions; what follows the hyphen is a release before the
// release.
var versionForm = regexp.MustCompile(`^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.]+)?$`)

func newRelease(root, version string) (release, error) {
	if !versionForm.MatchString(version) {
		return release{}, fmt.Errorf("version %q is not like v1.2.3 or v1.2.3-rc.1", version)
	}
	root, err := filepath.Abs(root)
	if err != nil {
		return release{}, err
	}
	cmd := exec.Command("git", "log", "-1", "--format=%ct")
	cmd.Dir, cmd.Stderr = root, os.Stderr
	seconds, err := cmd.Output()
	if err != nil {
		return release{}, fmt.Errorf("time of the commit: %w", err)
	}
	at, err := strconv.ParseInt(strings.TrimSpace(string(seconds)), 10, 64)
	if err != nil {
		return release{}, fmt.Errorf("time of the commit: %w", err)
	}
	return release{root, version, time.Unix(at, 0).UTC(), sync.OnceValues(func() (map[string][]byte, error) { return commandFilesOf(root) })}, nil
}

// number is the version without its v.
func (r release) number() string { return strings.TrimPrefix(r.version, "v") }

// committed fails if files differ from the commit, and names them, before
// anything is compiled; see origin, which decides.
func (r release) committed() error {
	cmd := exec.Command("git", "status", "--porcelain")
	cmd.Dir, cmd.Stderr = r.root, os.Stderr
	text, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("changes since the commit: %w", err)
	}
	const shown = 10
	files := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	switch more := len(files) - shown; {
	case len(text) == 0:
		return nil
	case more > 0:
		files = append(files[:shown], fmt.Sprintf("and %d more", more))
	}
	return fmt.Errorf("files differ from the commit: commit or remove these changes first:\n%s", strings.Join(files, "\n"))
}

// make builds for each platform, and writes archives, packages and their
// checksums to the directory out.
func (r release) make(out string, platforms []string) error {
	if err := r.committed(); err != nil {
		return err
	}
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	for _, p := range platforms {
		platform, err := parsePlatform(p)
		if err != nil {
			return err
		}
		binary := filepath.Join(out, "bin", p, platform.command())
		if err := r.build(platform, binary); err != nil {
			return err
		}
		if err := r.archive(platform, binary, out); err != nil {
			return err
		}
		if platform.os != "linux" {
			continue
		}
		for _, format := range []string{"deb", "rpm"} {
			if _, err := r.pack(format, platform, binary, out); err != nil {
				return fmt.Errorf("%s for %s: %w", format, p, err)
			}
		}
	}
	return sums(out)
}

// sums writes the checksums of the files in a directory to SHA256SUMS in it.
func sums(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var lines []string
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		sum, err := sum(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		lines = append(lines, fmt.Sprintf("%s  %s\n", sum, e.Name()))
	}
	slices.Sort(lines)
	return os.WriteFile(filepath.Join(dir, "SHA256SUMS"), []byte(strings.Join(lines, "")), 0o644)
}

func sum(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}

// notes returns the section of CHANGELOG.md about the version.
func (r release) notes() (string, error) {
	text, err := os.ReadFile(filepath.Join(r.root, "CHANGELOG.md"))
	if err != nil {
		return "", err
	}
	return section(string(text), r.number())
}

// section returns the text below the heading "## VERSION" or "## VERSION,
// DATE", up to the next one.
func section(changelog, version string) (string, error) {
	var lines []string
	found := false
	for line := range strings.Lines(changelog) {
		if heading, ok := strings.CutPrefix(line, "## "); ok {
			if found {
				break
			}
			name, _, _ := strings.Cut(strings.TrimSpace(heading), ",")
			found = strings.TrimPrefix(name, "v") == version
			continue
		}
		if found {
			lines = append(lines, line)
		}
	}
	text := strings.TrimSpace(strings.Join(lines, ""))
	if text == "" {
		return "", fmt.Errorf("CHANGELOG.md says nothing about %s", version)
	}
	return text + "\n", nil
}
