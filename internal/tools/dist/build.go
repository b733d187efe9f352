package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"debug/buildinfo"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
)

// platforms are those that a release is for.
var platforms = []string{"linux/amd64", "linux/arm64", "linux/arm/v7", "darwin/arm64", "windows/amd64"}

type platform struct {
	os, arch string
	arm      string // GOARM, of arm
}

func parsePlatform(text string) (platform, error) {
	parts := strings.Split(text, "/")
	switch {
	case len(parts) == 2:
		return platform{os: parts[0], arch: parts[1]}, nil
	case len(parts) == 3 && parts[1] == "arm":
		return platform{parts[0], parts[1], strings.TrimPrefix(parts[2], "v")}, nil
	}
	return platform{}, fmt.Errorf("platform %q is not one of %s", text, strings.Join(platforms, ", "))
}

// String is the platform in names of files.
func (p platform) String() string {
	if p.arm != "" {
		return p.os + "_" + p.arch + "v" + p.arm
	}
	return p.os + "_" + p.arch
}

// command is the name of the command there.
func (p platform) command() string {
	if p.os == "windows" {
		return "limpet.exe"
	}
	return "limpet"
}

// build builds the command for a platform. -trimpath and no C leave nothing of
// the directory and of the machine in it.
func (r release) build(p platform, binary string) error {
	binary, err := filepath.Abs(binary)
	if err != nil {
		return err
	}
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=true", "-ldflags=-s -w -X main.release="+r.version, "-o", binary, "./cmd/limpet")
	cmd.Dir, cmd.Stderr = r.root, os.Stderr
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK="+filepath.Join(r.root, "go.work"), "GOOS="+p.os, "GOARCH="+p.arch, "GOARM="+p.arm, "GOAMD64=v1", "GOARM64=v8.0")
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build for %s: %w", p, err)
	}
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return err
	}
	return origin(info)
}

// origin fails unless a binary was built of a commit as it is: nobody else
// could build it.
func origin(info *debug.BuildInfo) error {
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	switch {
	case settings["vcs.revision"] == "":
		return errors.New("the go command does not know of which commit it builds: use a clone, not a copy or a linked worktree")
	case settings["vcs.modified"] != "false":
		return errors.New("files differ from the commit: commit or remove the changes first")
	}
	return nil
}

// A member is a file of an archive.
type member struct {
	name string
	mode int64
	data []byte
}

// archive writes an archive of the binary, the documents and an example to out.
func (r release) archive(p platform, binary, out string) error {
	base := fmt.Sprintf("limpet_%s_%s", r.number(), p)
	var members []member
	add := func(name, file string, mode int64) error {
		data, err := os.ReadFile(file)
		members = append(members, member{base + "/" + name, mode, data})
		return err
	}
	for _, f := range []struct {
		name, file string
		mode       int64
	}{
		{p.command(), binary, 0o755},
		{"LICENSE", filepath.Join(r.root, "LICENSE"), 0o644},
		{"CHANGELOG.md", filepath.Join(r.root, "CHANGELOG.md"), 0o644},
		{"limpet.yaml", r.file("limpet.yaml"), 0o644},
	} {
		if err := add(f.name, f.file, f.mode); err != nil {
			return err
		}
	}
	documents, err := r.documents()
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(documents)) {
		dir := ""
		switch {
		case isPage(name):
			dir = "man/"
		case name != "limpet.schema.json":
			dir = "completions/"
		}
		members = append(members, member{base + "/" + dir + name, 0o644, documents[name]})
	}
	write, ext := r.tarball, ".tar.gz"
	if p.os == "windows" {
		write, ext = r.zip, ".zip"
	}
	data, err := write(members)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, base+ext), data, 0o644)
}

func (r release) tarball(members []member) ([]byte, error) {
	var b bytes.Buffer
	t := tar.NewWriter(&b)
	for _, m := range members {
		if err := t.WriteHeader(&tar.Header{Name: m.name, Mode: m.mode, Size: int64(len(m.data)), ModTime: r.time, Uname: "root", Gname: "root"}); err != nil {
			return nil, err
		}
		if _, err := t.Write(m.data); err != nil {
			return nil, err
		}
	}
	if err := t.Close(); err != nil {
		return nil, err
	}
	return compress(b.Bytes())
}

func (r release) zip(members []member) ([]byte, error) {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, m := range members {
		h := &zip.FileHeader{Name: m.name, Method: zip.Deflate, Modified: r.time}
		h.SetMode(os.FileMode(m.mode))
		w, err := z.CreateHeader(h)
		if err != nil {
			return nil, err
		}
		if _, err := w.Write(m.data); err != nil {
			return nil, err
		}
	}
	err := z.Close()
	return b.Bytes(), err
}

// compress compresses as far as gzip can, without the name and the time of a
// file.
func compress(data []byte) ([]byte, error) {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := z.Write(data); err != nil {
		return nil, err
	}
	err = z.Close()
	return b.Bytes(), err
}
