//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// A bare root directory has what the scripts of the package run, and nothing
// else.
type bare string

func newBare(t *testing.T) bare {
	t.Helper()
	b := bare(t.TempDir())
	for _, dir := range []string{"usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "dev", "etc", "tmp", "run", "var/lib/dpkg/info", "var/lib/dpkg/updates"} {
		if err := os.MkdirAll(b.path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"bin", "sbin", "lib", "lib64"} {
		if err := os.Symlink("usr/"+dir, b.path(dir)); err != nil {
			t.Fatal(err)
		}
	}
	for _, program := range []string{"sh", "rm", "rmdir", "chgrp", "systemd-sysusers"} {
		b.copyProgram(t, program)
	}
	if err := unix.Mknod(b.path("dev/null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
		t.Fatal(err)
	}
	b.write(t, "var/lib/dpkg/status", "", 0o644)
	b.write(t, "etc/passwd", "root:x:0:0:root:/root:/bin/sh\n", 0o644)
	b.write(t, "etc/group", "root:x:0:\n", 0o644)
	return b
}

func (b bare) path(name string) string { return filepath.Join(string(b), name) }

func (b bare) write(t *testing.T, name, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(b.path(name)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(b.path(name), []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// copyProgram copies a program of this machine, with its libraries.
func (b bare) copyProgram(t *testing.T, name string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatal(err)
	}
	libraries := regexp.MustCompile(`/\S+`).FindAllString(output(t, "ldd", path), -1)
	for _, file := range append(libraries, path) {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		to := file
		if file == path {
			to = "/usr/bin/" + name
		}
		b.write(t, to, string(data), 0o755)
	}
}

// record puts a program in the place of one, that notes its arguments in the
// file log.
func (b bare) record(t *testing.T, name string) {
	t.Helper()
	b.write(t, "usr/bin/"+name, "#!/bin/sh\necho \""+name+" $*\" >>/log\n", 0o755)
}

// recorded returns what was noted, and forgets it.
func (b bare) recorded(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(b.path("log"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(b.path("log")); err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

// tree lists what is there, without the notes of dpkg and the list of users.
func (b bare) tree(t *testing.T) (names []string) {
	t.Helper()
	err := filepath.WalkDir(string(b), func(path string, d fs.DirEntry, err error) error {
		name, _ := filepath.Rel(string(b), path)
		if name == "var/lib/dpkg" {
			return fs.SkipDir
		}
		if !regexp.MustCompile(`^etc/(\.pwd\.lock|g?shadow-?|passwd-?|group-?)$`).MatchString(name) {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func (b bare) dpkg(t *testing.T, args ...string) string {
	t.Helper()
	return output(t, "dpkg", append([]string{"--root=" + string(b)}, args...)...)
}

// ids returns the numbers of the user limpet and of its group.
func (b bare) ids(t *testing.T) (uid, gid uint32) {
	t.Helper()
	passwd, err := os.ReadFile(b.path("etc/passwd"))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^limpet:[^:]*:(\d+):(\d+):`).FindStringSubmatch(string(passwd))
	if m == nil {
		t.Fatalf("no user limpet in\n%s", passwd)
	}
	u, _ := strconv.ParseUint(m[1], 10, 32)
	g, _ := strconv.ParseUint(m[2], 10, 32)
	return uint32(u), uint32(g)
}

func (b bare) group(t *testing.T, name string) uint32 {
	t.Helper()
	info, err := os.Stat(b.path(name))
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Gid
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root may install a package and change the root directory; the release workflow installs it with systemd")
	}
}

// From the package to the first sticky request it takes two commands,
// installation and start, and no change of a file.
func TestInstall(t *testing.T) {
	needRoot(t)
	need(t, "dpkg", "systemd-sysusers", "ldd")
	b := newBare(t)
	before := b.tree(t)
	b.dpkg(t, "-i", packed(t, "deb", "v0.1.0", binary(t)))

	unit, err := os.ReadFile(b.path("usr/lib/systemd/system/limpet.service"))
	if err != nil {
		t.Fatal(err)
	}
	start := regexp.MustCompile(`(?m)^ExecStart=(.*)$`).FindStringSubmatch(string(unit))
	if start == nil {
		t.Fatalf("the unit starts nothing:\n%s", unit)
	}
	uid, gid := b.ids(t)
	serveIn(t, string(b), uid, gid, false, strings.Fields(start[1]))

	b.dpkg(t, "--purge", "limpet")
	if diff := cmp.Diff(before, b.tree(t)); diff != "" {
		t.Errorf("the package leaves something, or takes something with it:\n%s", diff)
	}
}

// systemctlFake is a program in the place of systemctl. It notes its arguments,
// and answers as if the main process was the one in /main. On SIGUSR2 that
// becomes what /next has, if there is one.
const systemctlFake = `#!/bin/sh
case "$*" in
*"show --property MainPID"*) read main </main; echo "$main" ;;
*"show --property StatusText"*) read status </status; echo "$status" ;;
*) echo "systemctl $*" >>/log
	case "$*" in *"--signal=USR2"*) if [ -e /next ]; then read main </next; echo "$main" >/main; fi ;; esac ;;
esac
`

// An upgrade lets the new version take over, or restarts the service if the old
// one cannot do that, unless the new version does not accept the configuration:
// then the old process goes on.
func TestUpgrade(t *testing.T) {
	needRoot(t)
	need(t, "dpkg", "systemd-sysusers", "ldd")
	b := newBare(t)
	if err := os.MkdirAll(b.path("run/systemd/system"), 0o755); err != nil {
		t.Fatal(err)
	}
	b.write(t, "usr/bin/systemctl", systemctlFake, 0o755)
	b.write(t, "usr/bin/sleep", "#!/bin/sh\n", 0o755)
	b.record(t, "deb-systemd-invoke")
	const failed, ignores, policy = "serving, and the last upgrade has failed", "serving", "usr/sbin/policy-rc.d"
	const (
		reload  = "systemctl --system daemon-reload"
		upgrade = "systemctl --system kill --kill-who=main --signal=USR2 limpet.service"
		restart = "deb-systemd-invoke try-restart limpet.service"
		stop    = "deb-systemd-invoke stop limpet.socket limpet.service"
	)
	own := "listen: 127.0.0.1:8080\npools: [{name: own, servers: [{address: 127.0.0.1:1}]}]\n"
	for _, step := range []struct {
		name   string
		config string // written before, if not ""
		main   string // the process before; 0 if empty
		next   string // that which takes over; none if empty
		status string // what the old process says then
		policy bool   // a local policy
		args   []string
		want   []string
		says   string
	}{
		{name: "installation", args: []string{"-i", packed(t, "deb", "v0.1.0", binary(t))}, want: []string{reload}},
		{name: "upgrade", config: own, main: "11", next: "12", args: []string{"-i", packed(t, "deb", "v0.1.1", binary(t))}, want: []string{reload, reload, upgrade}},
		{name: "upgrade that fails", main: "12", status: failed, args: []string{"-i", packed(t, "deb", "v0.1.0", binary(t))}, want: []string{reload, reload, upgrade, restart}},
		{name: "upgrade of what ignores it", main: "12", status: ignores, args: []string{"-i", packed(t, "deb", "v0.1.1", binary(t))}, want: []string{reload, reload, upgrade, restart}},
		{name: "upgrade that does not end", main: "12", status: "upgrading", args: []string{"-i", packed(t, "deb", "v0.1.0", binary(t))}, want: []string{reload, reload, upgrade, restart}},
		{name: "upgrade under a policy", main: "12", next: "13", policy: true, args: []string{"-i", packed(t, "deb", "v0.1.1", binary(t))}, want: []string{reload, reload, restart}},
		{name: "upgrade of what does not run", args: []string{"-i", packed(t, "deb", "v0.1.0", binary(t))}, want: []string{reload, reload}},
		{name: "upgrade with a fault", config: "listem: x\n", args: []string{"-i", packed(t, "deb", "v0.1.2", binary(t))}, want: []string{reload, reload}, main: "12", says: "neither upgraded nor restarted"},
		{name: "removal", config: own, args: []string{"--remove", "limpet"}, want: []string{stop, reload}},
		{name: "installation again", args: []string{"-i", packed(t, "deb", "v0.1.2", binary(t))}, want: []string{reload}},
		{name: "purge", args: []string{"--purge", "limpet"}, want: []string{stop, reload, reload}},
	} {
		if step.config != "" {
			if err := os.WriteFile(b.path("etc/limpet/limpet.yaml"), []byte(step.config), 0o640); err != nil {
				t.Fatal(err)
			}
		}
		main := step.main
		if main == "" {
			main = "0"
		}
		b.write(t, "main", main+"\n", 0o644)
		b.write(t, "status", step.status+"\n", 0o644)
		for name, want := range map[string]string{"next": step.next, policy: map[bool]string{true: "#!/bin/sh"}[step.policy]} {
			if err := os.Remove(b.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
			if want != "" {
				b.write(t, name, want+"\n", 0o755)
			}
		}
		out := b.dpkg(t, step.args...)
		if diff := cmp.Diff(step.want, b.recorded(t)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
		if !strings.Contains(out, step.says) {
			t.Errorf("%s says:\n%s", step.name, out)
		}
		if step.name == "purge" {
			continue
		}
		config, err := os.ReadFile(b.path("etc/limpet/limpet.yaml"))
		if err != nil || step.config != "" && string(config) != step.config {
			t.Errorf("%s: the configuration is %q (%v)", step.name, config, err)
		}
		if _, gid := b.ids(t); b.group(t, "etc/limpet/limpet.yaml") != gid {
			t.Errorf("%s: the service cannot read its configuration", step.name)
		}
	}
}

// The image has the files that the Dockerfile copies. No image can be fetched
// or run in a test: its root directory is made by hand, and its command runs in
// it as its user, who may write nothing.
func TestImage(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	_, last, found := strings.Cut(string(text), "\nFROM scratch\n")
	if !found {
		t.Fatal("the image does not begin with nothing")
	}
	for _, line := range []string{"USER 65532:65532", "EXPOSE 8080 8443", `ENTRYPOINT ["/limpet"]`, `CMD ["serve", "/etc/limpet/limpet.yaml"]`} {
		if !slices.Contains(strings.Split(last, "\n"), line) {
			t.Errorf("no %s", line)
		}
	}
	var files []string
	for _, m := range regexp.MustCompile(`(?m)^COPY .*\s(\S+)$`).FindAllStringSubmatch(last, -1) {
		files = append(files, m[1])
	}
	if diff := cmp.Diff([]string{"/limpet", "/etc/passwd", "/etc/ssl/certs/ca-certificates.crt"}, files); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	needRoot(t)

	b := bare(t.TempDir())
	command, err := os.ReadFile(binary(t))
	if err != nil {
		t.Fatal(err)
	}
	b.write(t, "limpet", string(command), 0o755)
	b.write(t, "etc/passwd", "limpet:x:65532:65532::/:/sbin/nologin\n", 0o644)
	example, err := os.ReadFile("files/limpet.yaml")
	if err != nil {
		t.Fatal(err)
	}
	b.write(t, "etc/limpet/limpet.yaml", string(example), 0o644) // which users mount
	if err := os.Chmod(string(b), 0o755); err != nil {
		t.Fatal(err)
	}
	serveIn(t, string(b), 65532, 65532, true, []string{"/limpet", "serve", "/etc/limpet/limpet.yaml"})
}

// childVariable names the root directory in the environment of a child.
const childVariable = "LIMPET_DIST_ROOT"

// serveIn runs the command in a root directory, in a network of its own with
// the servers of the example behind it, and checks that a client sticks, that
// SIGHUP reloads and that SIGTERM ends it.
func serveIn(t *testing.T, dir string, uid, gid uint32, readOnly bool, args []string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = []string{childVariable + "=" + dir, fmt.Sprintf("IDS=%d %d %t", uid, gid, readOnly)}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// child is the process of serveIn.
func child(dir string) int {
	if err := inChild(dir, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func inChild(dir string, args []string) error {
	var uid, gid uint32
	var readOnly bool
	if _, err := fmt.Sscan(os.Getenv("IDS"), &uid, &gid, &readOnly); err != nil {
		return err
	}
	if err := loopbackUp(); err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	if readOnly {
		if err := mountReadOnly(dir); err != nil {
			return fmt.Errorf("read-only directory: %w", err)
		}
	}
	for _, port := range []string{"9001", "9002"} {
		ln, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err != nil {
			return err
		}
		defer ln.Close()
		go func() {
			_ = http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, port) }))
		}()
	}

	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.Env = "/", []string{}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: dir, Credential: &syscall.Credential{Uid: uid, Gid: gid}}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	log := bufio.NewScanner(stderr)
	until := func(message string) error {
		var lines []string
		for log.Scan() {
			lines = append(lines, log.Text())
			if strings.Contains(log.Text(), "level=WARN") || strings.Contains(log.Text(), "level=ERROR") {
				break
			}
			if strings.Contains(log.Text(), message) {
				return nil
			}
		}
		_ = cmd.Process.Kill()
		return fmt.Errorf("the log does not say %s:\n%s", message, strings.Join(lines, "\n"))
	}
	if err := until("msg=serving"); err != nil {
		return err
	}
	first := ""
	for range 10 {
		// Each over a connection of its own: what makes them go to one server
		// is not the connection.
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		res, err := client.Get("http://127.0.0.1:8080/")
		if err != nil {
			return err
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil || res.StatusCode != http.StatusOK {
			return fmt.Errorf("status %d, %q, %w", res.StatusCode, body, err)
		}
		if first == "" {
			first = string(body)
		}
		if string(body) != first {
			return fmt.Errorf("the client moved from %s to %s", first, body)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		return err
	}
	if err := until(`msg="configuration unchanged"`); err != nil {
		return err
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	if err := until("msg=stopped"); err != nil {
		return err
	}
	return cmd.Wait()
}

// loopbackUp turns on the loopback interface of a new network.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
}

// mountReadOnly makes a directory read-only in this process and those that it
// starts.
func mountReadOnly(dir string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	return unix.Mount("", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
}
