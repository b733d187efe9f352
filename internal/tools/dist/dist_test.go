//go:build linux

package main

import (
	"bytes"
	"debug/elf"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the lists of files in testdata")

// root is the directory of the module.
const root = "../../.."

func TestMain(m *testing.M) {
	if dir := os.Getenv(childVariable); dir != "" {
		os.Exit(child(dir))
	}
	status := m.Run()
	if work != "" {
		_ = os.RemoveAll(work)
	}
	os.Exit(status)
}

// work is a directory for what several tests use.
var work string

// made makes the release v0.1.0 for linux/amd64 twice, of two clones of the
// last commit in different directories.
var made = sync.OnceValues(func() (outs [2]string, err error) {
	if work, err = os.MkdirTemp("", "limpet-dist-test-"); err != nil {
		return outs, err
	}
	for i, dir := range []string{"one", "another/below it"} {
		clone := filepath.Join(work, dir)
		cmd := exec.Command("git", "clone", "--quiet", root, clone)
		cmd.Stderr = os.Stderr
		if err := cmd.Run(); err != nil {
			return outs, err
		}
		r, err := newRelease(clone, "v0.1.0")
		if err != nil {
			return outs, err
		}
		outs[i] = filepath.Join(clone, "dist")
		if err := r.make(outs[i], []string{"linux/amd64"}); err != nil {
			return outs, err
		}
	}
	return outs, nil
})

var commandHere = sync.OnceValues(func() (map[string][]byte, error) {
	dir, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	return commandFilesOf(dir)
})

// here is a release of the files here.
func here(t *testing.T, version string) release {
	t.Helper()
	r, err := newRelease(root, version)
	if err != nil {
		t.Fatal(err)
	}
	r.command = commandHere
	return r
}

// packed makes a package of the files here, with a binary.
func packed(t *testing.T, format, version, binary string) string {
	t.Helper()
	path, err := here(t, version).pack(format, platform{os: "linux", arch: "amd64"}, binary, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// small is a package with a command that does nothing, for tests that do not
// run it.
func small(t *testing.T, format, version string) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "limpet")
	if err := os.WriteFile(binary, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return packed(t, format, version, binary)
}

// binary is the command, as of the last commit.
func binary(t *testing.T) string {
	t.Helper()
	outs, err := made()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(outs[0], "bin/linux/amd64/limpet")
}

// need skips a test without the programs that it runs. internal/tools/check
// installs them on Debian; there they must not be missing.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			if _, debian := os.Stat("/etc/debian_version"); debian == nil && os.Getenv("CI") == "true" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
}

// output runs a program that must succeed, and returns all that it says.
func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// Whoever builds a released version must get the bytes that were released.
func TestReproducible(t *testing.T) {
	outs, err := made()
	if err != nil {
		t.Fatal(err)
	}
	var sums [2]string
	for i, out := range outs {
		text, err := os.ReadFile(filepath.Join(out, "SHA256SUMS"))
		if err != nil {
			t.Fatal(err)
		}
		sums[i] = string(text)
	}
	if strings.Count(sums[0], "\n") != 3 {
		t.Errorf("not an archive and two packages:\n%s", sums[0])
	}
	if diff := cmp.Diff(sums[0], sums[1]); diff != "" {
		t.Errorf("two builds differ:\n%s", diff)
	}
}

func TestBinary(t *testing.T) {
	file := binary(t)
	f, err := elf.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("not static: it has a segment %s", p.Type)
		}
	}
	commit := strings.TrimSpace(output(t, "git", "-C", root, "rev-parse", "HEAD"))
	if got, want := output(t, file, "version"), "limpet v0.1.0, revision "+commit+","; !strings.HasPrefix(got, want) {
		t.Errorf("version says %q, not %q", got, want)
	}
}

// A constant that does not fit into 32 bits kept the command from being built
// for arm, and nobody noticed before the first release.
func TestBuildsFor32Bits(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", filepath.Join(t.TempDir(), "limpet"), "./cmd/limpet")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "GOWORK=auto", "CGO_ENABLED=0", "GOOS=linux", "GOARCH=arm", "GOARM=7")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestPackageFiles(t *testing.T) {
	for _, tc := range []struct{ format, program string }{{"deb", "dpkg-deb"}, {"rpm", "rpm"}} {
		t.Run(tc.format, func(t *testing.T) {
			need(t, tc.program)
			path, again := small(t, tc.format, "v0.1.0"), small(t, tc.format, "v0.1.0")
			a, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if b, err := os.ReadFile(again); err != nil || !bytes.Equal(a, b) {
				t.Errorf("two packages of the same files differ (%v)", err)
			}
			var list string
			if tc.format == "deb" {
				list = regexp.MustCompile(`(?m)^(\S+) (\S+) +\d+ \S+ \S+ \.`).ReplaceAllString(output(t, "dpkg-deb", "-c", path), "$1 $2 ")
			} else {
				list = output(t, "rpm", "-qp", "--qf", `[%{FILEMODES:perms} %{FILEUSERNAME}/%{FILEGROUPNAME} %{FILENAMES} %{FILEFLAGS:fflags}\n]`, path)
				list = strings.ReplaceAll(list, " \n", "\n")
			}
			golden(t, "testdata/"+tc.format+".txt", list)
		})
	}
}

// golden compares with the content of a file, or writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func TestLintian(t *testing.T) {
	need(t, "lintian")
	if out := output(t, "lintian", "--allow-root", "--fail-on", "error,warning", packed(t, "deb", "v0.1.0", binary(t))); out != "" {
		t.Errorf("lintian says:\n%s", out)
	}
}

func TestPackageVersion(t *testing.T) {
	need(t, "dpkg-deb", "dpkg", "rpm")
	deb := strings.TrimSpace(output(t, "dpkg-deb", "-f", small(t, "deb", "v0.2.0-rc.1"), "Version"))
	if deb != "0.2.0~rc.1" {
		t.Errorf("version %q of a deb", deb)
	}
	output(t, "dpkg", "--compare-versions", deb, "lt", "0.2.0")
	if v := output(t, "rpm", "-qp", "--qf", "%{VERSION}-%{RELEASE}", small(t, "rpm", "v0.2.0-rc.1")); v != "0.2.0~rc.1-1" {
		t.Errorf("version %q of an rpm", v)
	}
}

func TestManPages(t *testing.T) {
	need(t, "mandoc", "groff")
	documents, err := here(t, "v0.1.0").documents()
	if err != nil {
		t.Fatal(err)
	}
	pages := 0
	for name, page := range documents {
		if !isPage(name) {
			continue
		}
		pages++
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), name)
			if err := os.WriteFile(file, page, 0o644); err != nil {
				t.Fatal(err)
			}
			if want := `"limpet 0.1.0"`; !strings.Contains(string(page), want) {
				t.Errorf("no %s in\n%s", want, page)
			}
			if out, err := exec.CommandContext(t.Context(), "mandoc", "-T", "lint", file).CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("mandoc: %v\n%s", err, out)
			}
			cmd := exec.CommandContext(t.Context(), "groff", "-k", "-ww", "-man", "-T", "utf8", file)
			var errs bytes.Buffer
			cmd.Stderr = &errs
			text, err := cmd.Output()
			if err != nil || errs.Len() > 0 {
				t.Errorf("groff: %v\n%s", err, &errs)
			}
			plain := regexp.MustCompile("\x1b\\[[0-9;]*m|.\b").ReplaceAllString(string(text), "") // without bold letters
			for _, bad := range []string{"](", "|---", "```"} {
				if strings.Contains(plain, bad) {
					t.Errorf("the page has %q of Markdown", bad)
				}
			}
			if first := regexp.MustCompile(`NAME\n +` + regexp.QuoteMeta(name[:len(name)-2]) + ` +[-‐−–] +\w+`); !first.MatchString(plain) {
				t.Errorf("the page does not say what it is about:\n%s", plain)
			}
		})
	}
	if pages < 10 {
		t.Errorf("%d pages", pages)
	}
}

func TestUnit(t *testing.T) {
	need(t, "systemd-analyze", "dpkg-deb")
	dir := t.TempDir()
	output(t, "dpkg-deb", "-x", small(t, "deb", "v0.1.0"), dir)
	unit := filepath.Join(dir, "usr/lib/systemd/system/limpet.service")
	text, err := os.ReadFile(unit)
	if err != nil {
		t.Fatal(err)
	}
	// The command is not installed here.
	here := strings.ReplaceAll(string(text), "/usr/bin/limpet", filepath.Join(dir, "usr/bin/limpet"))
	if err := os.WriteFile(unit, []byte(here), 0o644); err != nil {
		t.Fatal(err)
	}
	if out := output(t, "systemd-analyze", "verify", "--man=no", unit, strings.Replace(unit, ".service", ".socket", 1)); out != "" {
		t.Errorf("systemd-analyze verify says:\n%s", out)
	}
	output(t, "systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", unit)
}

func TestSection(t *testing.T) {
	const changelog = "# Changelog\n\n## Unreleased\n\nnew\n\n## 0.2.0, 2026-12-24\n\n### Added\n\nsecond\n\n## v0.1.0\n\nfirst\n"
	for version, want := range map[string]string{"0.2.0": "### Added\n\nsecond\n", "0.1.0": "first\n", "0.3.0": "", "Unreleased": "new\n"} {
		got, err := section(changelog, version)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v, not %q", version, got, err, want)
		}
	}
}

// A file that was changed and not committed, or a copy without a repository,
// must not become a release that nobody can build again.
func TestOrigin(t *testing.T) {
	revision := debug.BuildSetting{Key: "vcs.revision", Value: "abc"}
	for _, tc := range []struct {
		name     string
		settings []debug.BuildSetting
		ok       bool
	}{
		{"a commit", []debug.BuildSetting{revision, {Key: "vcs.modified", Value: "false"}}, true},
		{"with changes", []debug.BuildSetting{revision, {Key: "vcs.modified", Value: "true"}}, false},
		{"no repository", nil, false},
	} {
		if err := origin(&debug.BuildInfo{Settings: tc.settings}); (err == nil) != tc.ok {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

func TestVersion(t *testing.T) {
	for _, version := range []string{"", "1.2.3", "v1.2", "v1.2.3-", "v1.2.3 -X main.x=y", "v1.2.3+meta"} {
		if _, err := newRelease(root, version); err == nil {
			t.Errorf("%q is taken for a version", version)
		}
	}
}

// Everything was compiled before anybody heard of a change, which had no name.
func TestChangesAreNamed(t *testing.T) {
	r := release{root: t.TempDir()}
	output(t, "git", "-C", r.root, "init", "-q")
	if err := r.committed(); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(r.root, "a.txt"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := r.committed(); err == nil || !strings.HasSuffix(err.Error(), "\n?? a.txt") {
		t.Errorf("%v", err)
	}
	if err := r.make(t.TempDir(), []string{"no platform"}); err == nil || !strings.Contains(err.Error(), "a.txt") {
		t.Errorf("it goes on: %v", err)
	}
}
