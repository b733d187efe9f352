package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb" // registers the format
	"github.com/goreleaser/nfpm/v2/files"
	_ "github.com/goreleaser/nfpm/v2/rpm" // registers the format
)

const maintainer = "The limpet authors <limpet@users.noreply.github.com>"

// file is the path of one of the files that only packages have.
func (r release) file(name string) string {
	return filepath.Join(r.root, "internal", "tools", "dist", "files", name)
}

// pack writes a package of the binary to out, and returns its path. The format
// is deb or rpm.
func (r release) pack(format string, p platform, binary, out string) (string, error) {
	dir, err := os.MkdirTemp("", "limpet-dist-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	generated, err := r.generate(dir)
	if err != nil {
		return "", err
	}
	info := &nfpm.Info{
		Name:       "limpet",
		Arch:       p.arch + p.arm, // nfpm translates it
		Platform:   p.os,
		Version:    r.number(),
		Section:    "net",
		Priority:   "optional",
		Maintainer: maintainer,
		Vendor:     "limpet",
		Homepage:   "https://github.com/limpetlb/limpet",
		License:    "Apache-2.0",
		Description: "load balancer that sticks clients to servers\n" +
			"limpet serves a virtual service of pools, policies and DataScripts from a\n" +
			"YAML file. Clients come back to the same server by address, cookie, header,\n" +
			"or any key that a Lua script computes.",
		MTime: r.time,
	}
	add := func(source, destination, kind string, mode os.FileMode) {
		info.Contents = append(info.Contents, &files.Content{
			Source: source, Destination: destination, Type: kind,
			FileInfo: &files.ContentFileInfo{Owner: "root", Group: "root", Mode: mode, MTime: r.time},
		})
	}
	add(binary, "/usr/bin/limpet", files.TypeFile, 0o755)
	add(r.file("limpet.yaml"), "/etc/limpet/limpet.yaml", files.TypeConfigNoReplace, 0o640)
	add(r.file("logrotate.conf"), "/etc/logrotate.d/limpet", files.TypeConfigNoReplace, 0o644)
	add(r.file("limpet.service"), "/usr/lib/systemd/system/limpet.service", files.TypeFile, 0o644)
	add(r.file("limpet.socket"), "/usr/lib/systemd/system/limpet.socket", files.TypeFile, 0o644)
	add(r.file("upgrade"), "/usr/lib/limpet/upgrade", files.TypeFile, 0o755)
	add(r.file("sysusers.conf"), "/usr/lib/sysusers.d/limpet.conf", files.TypeFile, 0o644)
	for _, name := range slices.Sorted(maps.Keys(generated)) {
		if isPage(name) {
			add(generated[name], "/usr/share/man/man"+name[len(name)-1:]+"/"+name+".gz", files.TypeFile, 0o644)
		}
	}
	zsh := "/usr/share/zsh/site-functions/_limpet"
	if format == "deb" {
		zsh = "/usr/share/zsh/vendor-completions/_limpet"
	}
	add(generated["limpet.bash"], "/usr/share/bash-completion/completions/limpet", files.TypeFile, 0o644)
	add(generated["limpet.fish"], "/usr/share/fish/vendor_completions.d/limpet.fish", files.TypeFile, 0o644)
	add(generated["_limpet"], zsh, files.TypeFile, 0o644)
	add(generated["limpet.schema.json"], "/usr/share/limpet/limpet.schema.json", files.TypeFile, 0o644)
	info.Recommends = []string{"ca-certificates"} // for servers with TLS
	switch format {
	case "deb":
		// The unit sends signals with kill of procps.
		info.Recommends = append(info.Recommends, "procps")
		add(r.file("copyright"), "/usr/share/doc/limpet/copyright", files.TypeFile, 0o644)
		add(generated["changelog"], "/usr/share/doc/limpet/changelog.gz", files.TypeFile, 0o644)
		add(generated["CHANGELOG.md"], "/usr/share/doc/limpet/CHANGELOG.md.gz", files.TypeFile, 0o644)
		add(r.file("lintian-overrides"), "/usr/share/lintian/overrides/limpet", files.TypeFile, 0o644)
		info.Scripts = nfpm.Scripts{PostInstall: r.file("deb.postinst"), PreRemove: r.file("deb.prerm"), PostRemove: r.file("deb.postrm")}
	case "rpm":
		info.Release = "1"
		info.Contents[1].FileInfo.Group = "limpet" // the script before the installation has made it
		info.RPM.BuildHost, info.RPM.Summary = "localhost", "Load balancer that sticks clients to servers"
		_, info.Description, _ = strings.Cut(info.Description, "\n")
		info.Depends = []string{"/usr/sbin/useradd", "/usr/sbin/groupadd", "/usr/bin/getent"}
		add(filepath.Join(r.root, "LICENSE"), "/usr/share/licenses/limpet/LICENSE", files.TypeRPMLicense, 0o644)
		add(filepath.Join(r.root, "CHANGELOG.md"), "/usr/share/doc/limpet/CHANGELOG.md", files.TypeRPMDoc, 0o644)
		info.Scripts = nfpm.Scripts{PreInstall: r.file("rpm.pre"), PostInstall: r.file("rpm.post"), PreRemove: r.file("rpm.preun"), PostRemove: r.file("rpm.postun")}
	}
	nfpm.WithDefaults(info)
	if err := nfpm.PrepareForPackager(info, format); err != nil {
		return "", err
	}
	packager, err := nfpm.Get(format)
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	if err := packager.Package(info, &b); err != nil {
		return "", err
	}
	path := filepath.Join(out, packager.ConventionalFileName(info))
	return path, os.WriteFile(path, b.Bytes(), 0o644)
}

// generate writes to dir the files of packages that are made from others, and
// returns their paths. Manual pages and lists of changes are compressed.
func (r release) generate(dir string) (map[string]string, error) {
	changelog, err := os.ReadFile(filepath.Join(r.root, "CHANGELOG.md"))
	if err != nil {
		return nil, err
	}
	texts := map[string][]byte{
		"CHANGELOG.md": changelog,
		"changelog": fmt.Appendf(nil, "limpet (%s) unstable; urgency=medium\n\n  * Release %s; CHANGELOG.md says what has changed.\n\n -- %s  %s\n",
			strings.Replace(r.number(), "-", "~", 1), r.version, maintainer, r.time.Format(time.RFC1123Z)),
	}
	documents, err := r.documents()
	if err != nil {
		return nil, err
	}
	paths := make(map[string]string, len(texts)+len(documents))
	for name, text := range documents {
		if isPage(name) {
			texts[name] = text
			continue
		}
		paths[name] = filepath.Join(dir, name)
		if err := os.WriteFile(paths[name], text, 0o644); err != nil {
			return nil, err
		}
	}
	for name, text := range texts {
		data, err := compress(text)
		if err != nil {
			return nil, err
		}
		paths[name] = filepath.Join(dir, name+".gz")
		if err := os.WriteFile(paths[name], data, 0o644); err != nil {
			return nil, err
		}
	}
	return paths, nil
}
